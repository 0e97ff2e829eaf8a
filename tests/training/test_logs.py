import json

import imageio.v2 as imageio
import numpy as np
import pytest

from dreamer_tf.training import logs
from dreamer_tf.training.experience import Episode
from dreamer_tf.training.logs import Logs, Means
from tests.runs import board_events


def episode(frames, kind="train", score=1.5):
    return Episode(frames, score, 500, kind, "train", 0, 3, 77)


def rows(path):
    return (path / "scores.csv").read_text().splitlines()


def test_rows(tmp_path):
    log = Logs(tmp_path)
    log.metrics(10, {"loss": 0.1, "bad": float("nan")})
    log.metrics(20, {"loss": 1 / 3})
    log.score(episode(10))
    log.close()
    expected = [{"frames": 10, "loss": 0.1, "bad": None}, {"frames": 20, "loss": 1 / 3}]
    assert list(logs.read_metrics(tmp_path)) == expected
    assert rows(tmp_path) == [
        "frames,score,length,kind,mode,env,episode,seed",
        "10,1.5,500,train,train,0,3,77",
    ]


def test_rows_are_there_at_once(tmp_path):
    log = Logs(tmp_path)
    log.metrics(10, {"loss": 0.1})
    log.score(episode(10))
    assert len(list(logs.read_metrics(tmp_path))) == 1 and len(rows(tmp_path)) == 2


def test_a_cut_last_line_is_left_out(tmp_path):
    log = Logs(tmp_path)
    log.metrics(10, {"loss": 0.1})
    log.close()
    with open(tmp_path / logs.METRICS, "a") as file:
        file.write('{"frames": 20, "lo')
    assert [row["frames"] for row in logs.read_metrics(tmp_path)] == [10]


def test_continuing_cuts_back(tmp_path):
    log = Logs(tmp_path)
    log.metrics(10, {"loss": 1.0})
    log.score(episode(10))
    position = log.state()
    before = [(tmp_path / name).read_bytes() for name in position]
    log.metrics(20, {"loss": 2.0})
    log.score(episode(20))
    log.close()
    with open(tmp_path / logs.METRICS, "a") as file:
        file.write('{"frames": 30, "lo')
    log = Logs(tmp_path, json.loads(json.dumps(position)), 10)
    assert [(tmp_path / name).read_bytes() for name in position] == before
    log.metrics(20, {"loss": 3.0})
    assert [row["loss"] for row in logs.read_metrics(tmp_path)] == [1.0, 3.0]


def test_stats(tmp_path):
    log = Logs(tmp_path)
    assert not (tmp_path / logs.STATS).exists()  # before there are any
    values = {"length": np.int32(9), "reward": 0.1, "bad": float("inf"), "worse": 2**60}
    log.stats(9, values)
    line = '{"frames": 9, "length": 9.0, "reward": 0.1, "bad": null, "worse": %d}\n'
    assert (tmp_path / logs.STATS).read_text() == line % 2**60
    position = json.loads(json.dumps(log.state()))
    log.stats(12, {"length": 3})
    log.close()
    (tmp_path / logs.STATS).open("a").write('{"frames')
    said = []
    log = Logs(tmp_path, position, 10, said.append)
    assert not said and (tmp_path / logs.STATS).read_text() == line % 2**60
    log.stats(11, {"length": 2})
    log.close()
    added = '{"frames": 11, "length": 2}\n'
    assert (tmp_path / logs.STATS).read_text() == line % 2**60 + added


def test_stats_that_no_checkpoint_knows_are_removed(tmp_path):
    log = Logs(tmp_path)
    position = log.state()
    assert set(position) == {logs.METRICS, logs.SCORES}  # as of older checkpoints
    log.stats(5, {"length": 5})
    log.close()
    Logs(tmp_path, position, 1).close()
    assert (tmp_path / logs.STATS).read_text() == ""


def test_stats_that_are_missing_or_changed_are_said(tmp_path):
    log = Logs(tmp_path)
    log.stats(5, {"length": 5})
    position = log.state()
    log.close()
    (tmp_path / logs.STATS).unlink()
    said = []
    Logs(tmp_path, position, 5, said.append).close()
    assert len(said) == 1 and "stats.jsonl is not what this run wrote" in said[0]


def test_the_first_stats_where_the_directory_was_moved(tmp_path):
    (tmp_path / "a").mkdir()
    log = Logs(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    log.stats(5, {"length": 5})
    assert set(log.state()) == {logs.METRICS, logs.SCORES, logs.STATS}
    log.close()
    assert (tmp_path / "b" / logs.STATS).exists() and not (tmp_path / "a").exists()


def test_starting_anew_leaves_one_header(tmp_path):
    for _ in range(2):
        log = Logs(tmp_path)
        log.score(episode(10))
        log.close()
    assert len(rows(tmp_path)) == 2


def test_evaluations_by_hand_survive_if_their_checkpoint_does(tmp_path):
    log = Logs(tmp_path)
    log.score(episode(10))
    position = log.state()
    log.score(episode(15))
    logs.append_scores(tmp_path, [episode(10, "eval_cmd", 8.0)])
    log.score(episode(20))
    logs.append_scores(tmp_path, [episode(20, "eval_cmd", 9.0)])
    log.close()
    Logs(tmp_path, position, 10).close()
    kept = [line.split(",")[:2] for line in rows(tmp_path)[1:]]
    assert kept == [["10", "1.5"], ["10", "8.0"]]


def test_append_scores_makes_the_file(tmp_path):
    logs.append_scores(tmp_path, [episode(10), episode(20)])
    assert len(rows(tmp_path)) == 3


def test_tensorboard_file(tmp_path):
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    log = Logs(tmp_path, None, 0)
    log.metrics(10, {"loss": 0.5})
    log.image(20, "openloop", picture)
    log.close()
    events = board_events(tmp_path)
    assert events[0].file_version == "brain.Event:2"
    assert events[1].step == 1 and events[1].session_log.status == 1  # START
    (value,) = events[2].summary.value
    assert (events[2].step, value.tag, value.simple_value) == (10, "loss", 0.5)
    (value,) = events[3].summary.value
    assert (events[3].step, value.tag) == (20, "openloop")
    assert (value.image.height, value.image.width, value.image.colorspace) == (4, 6, 3)
    shown = imageio.imread(value.image.encoded_image_string)
    np.testing.assert_array_equal(shown, picture)


def test_means():
    means = Means()
    means.add({"a": 1, "b": 5.0})
    means.add({"a": 2})
    copy = Means()
    copy.sums = json.loads(json.dumps(means.sums))
    assert means.take() == copy.take() == {"a": 1.5, "b": 5.0}
    assert means.take() == {}


@pytest.mark.parametrize(
    "line",
    [
        "1x.5,1,1,eval_cmd,eval,0,0,7",
        ",1.5,1,eval_cmd,eval,0,0,7",
        "5,nan,1,eval_cmd,eval,0,0,7",
        "5,1.5,1,eval_cmd,eval,0,05,1.5,1,eval_cmd,eval,0,0,7",
        "\x00\x00",
    ],
)
def test_damaged_rows_are_set_aside(tmp_path, line):
    said = []
    log = Logs(tmp_path)
    log.score(episode(10))
    position = log.state()
    log.close()
    logs.append_scores(tmp_path, [episode(10, "eval_cmd", 8.0)])
    with open(tmp_path / logs.SCORES, "a") as file:
        file.write(line + "\n")
    Logs(tmp_path, position, 10, said.append).close()
    assert [row.split(",")[1] for row in rows(tmp_path)[1:]] == ["1.5", "8.0"]
    assert (tmp_path / "scores.csv.damaged").read_text() == line + "\n"
    assert len(said) == 1 and "1 line is damaged and kept in" in said[0]


def test_damaged_metrics_are_skipped(tmp_path):
    said = []
    good = '{"frames": 1}\n'
    text = good + "".join(
        f"{line}\n" for line in ("[", "null", '{"frames": null}', '{"frames": "x"}')
    )
    (tmp_path / logs.METRICS).write_text(text + good)
    found = list(logs.read_metrics(tmp_path, said.append))
    assert found == [{"frames": 1}, {"frames": 1}]
    assert len(said) == 1 and "skipped lines 2, 3, 4 and 1 more" in said[0]


def test_state_where_the_directory_was_moved(tmp_path):
    (tmp_path / "a").mkdir()
    log = Logs(tmp_path / "a")
    log.score(episode(10))
    before = log.state()
    (tmp_path / "a").rename(tmp_path / "b")
    assert log.state() == before and before[logs.SCORES]["bytes"] > 50
