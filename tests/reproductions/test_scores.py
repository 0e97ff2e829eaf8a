import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dreamer_tf.errors import UserError
from reproductions import outside, published, scores
from tests.reproductions.conftest import flat, rows, write_version

DATA = Path(__file__).parent / "data"


def points(*tables, version="v3", task="walker_walk", **more):
    table = pd.concat(tables)
    more = {"benchmark": "dmc_proprio", "protocol": "arxiv_v2", "changed": ""} | more
    return table.assign(version=version, task=task, **more)[scores.POINTS]


def score(*tables, budget=100_000, **kwargs):
    table = scores.budget_scores(points(*tables, **kwargs), budget)
    return dict(zip(table.seed, table.score))


# --- The rule ---------------------------------------------------------------


def test_rule_gives_the_published_scores_from_the_original_file():
    log = outside.read_outside(DATA / "dreamerv3_tdmpc2", "dmc_proprio")
    table = published.scores("dmc_proprio")
    table = table[
        (table.method == "dreamerv3_tdmpc2") & (table.task == "cartpole_swingup")
    ]
    assert set(table.budget) == {100_000, 500_000, 1_000_000, 2_000_000, 4_000_000}
    for budget, expected in table.groupby("budget"):
        found = scores.budget_scores(log, budget).set_index("seed").score
        expected = expected.set_index("seed").score
        pd.testing.assert_series_equal(
            found.sort_index(), expected.sort_index(), rtol=1e-5, check_names=False
        )


def test_window_is_closed_and_ends_at_the_last_point_of_any_seed():
    # E = 99K (seed 1), so the window is [95K, 99K]; seed 0 has one point in it.
    first = rows([94_999, 95_000, 101_000], [0, 10, 500], seed=0)
    second = rows([95_000, 97_000, 99_000], [1, 2, 6], seed=1)
    assert score(first, second) == {0: 10, 1: 3}


def test_a_seed_outside_the_window_takes_its_last_point():
    first = rows([80_000, 90_000, 93_000], [1, 2, 3], seed=0)
    second = rows([99_000], [7], seed=1)
    assert score(first, second) == {0: 3, 1: 7}


@pytest.mark.parametrize(
    ("version", "kind", "budget", "low", "high"),
    [
        ("v1", "eval", 100_000, 5_000, 105_000),
        ("v1", "eval", 250_000, 105_000, 205_000),
        ("v2", "train", 100_000, 60_000, 90_000),
        ("v2", "train", 500_000, 450_000, 480_000),
    ],
)
def test_points_are_binned_as_the_published_ones(version, kind, budget, low, high):
    """Means of (low, high], though an episode ends nearer to the budget."""
    frames = np.arange(5_000, 600_000, 10_000)
    run = rows(frames, frames / 1000, seed=0, kind=kind, mode=kind)
    inside = frames[(frames > low) & (frames <= high)]
    where = {"version": version, "benchmark": "dmc_vision", "protocol": "paper"}
    assert score(run, budget=budget, **where) == {0: inside.mean() / 1000}
    where["benchmark"] = "dmc_proprio"  # nothing was published
    assert score(run, budget=budget, **where)[0] > inside.mean() / 1000


def test_unfinished_runs_have_no_score():
    assert score(flat(5, 100_000, 1), rows([50_000], [9], seed=1)) == {0: 5}
    assert score(rows([89_000], [5], seed=0)) == {}


def test_a_sparse_curve_counts_if_its_run_went_on():
    # Evaluated at 205K and 305K: 250K is read at 205K.
    late = rows([105_000, 205_000, 305_000], [1, 2, 3], seed=0, kind="eval")
    assert score(late, budget=250_000, version="v1") == {0: 2}
    short = rows([105_000, 205_000], [1, 2], seed=0, kind="eval")
    assert score(short, budget=250_000, version="v1") == {}


def test_each_version_reports_the_kind_its_paper_reported():
    both = rows([99_000], [1], 0, "train"), rows([99_500], [2], 0, "eval", "eval")
    assert score(*both, version="v3") == {0: 1}
    assert score(*both, version="v2") == {0: 1}
    assert score(*both, version="v1") == {0: 2}
    assert score(both[0], version="v1") == {0: 1}  # nothing else was logged
    kinds = scores.reported_kinds(points(*both, version="v1"))
    assert kinds == {("dmc_proprio", "arxiv_v2", "v1"): "eval"}


def test_budgets_of_short_runs_are_their_own():
    assert scores.budgets_of(points(flat(1, 100_000))) == [50_000, 100_000]
    assert scores.budgets_of(points(flat(1, 4000, every=500))) == [4000]
    assert scores.budgets_of(points(flat(1, 19_852, every=4963))) == [20_000]


def test_summary_counts_seeds():
    table = scores.budget_scores(points(flat(10, 100_000, 3)), 100_000)
    row = scores.summary(table, scores.CELL).iloc[0]
    assert (row["mean"], row["std"], row["n"]) == (12, 2, 3)
    assert row["low"] == pytest.approx(12 - 4.302653 * 2 / np.sqrt(3))


# --- Reading ----------------------------------------------------------------


def test_runs_are_read_with_protocol_version_and_manifest(results):
    table, manifests = scores.read_runs(results)
    assert list(table.columns) == scores.POINTS
    assert set(manifests) == {
        ("dmc_proprio", "lite", "v3"),
        ("dmc_proprio", "arxiv_v2", "v3"),
        ("dmc_proprio", "arxiv_v2", "v1"),
    }
    assert len(table[table.protocol == "lite"]) == 2 * 3 * 50


def test_a_version_may_have_both_benchmarks(tmp_path):
    for benchmark in ("dmc_proprio", "dmc_vision"):
        folder = tmp_path / "lite" / "v3" / benchmark
        write_version(folder, benchmark, {"walker_walk": flat(1, 5000)})
    table, _ = scores.read_runs(tmp_path)
    assert set(table.benchmark) == {"dmc_proprio", "dmc_vision"}


def test_random_and_manual_episodes_have_no_score(tmp_path):
    table = pd.concat(
        [
            rows([1000], [5], 0, mode="random"),
            rows([2000], [6], 0, kind="eval_cmd", mode="eval"),
            rows([3000], [7], 0),
        ]
    )
    table.to_csv(tmp_path / "a.csv", index=False)
    table = scores.read_csv(tmp_path / "a.csv")
    assert table.score.tolist() == [5, 7] and table.kind.tolist() == ["random", "train"]
    runs = table.assign(benchmark="toy", protocol="lite", task="toy", changed="")
    assert scores.reported_points(runs.assign(version="v2")).score.tolist() == [7]
    assert scores.budget_scores(runs[:1].assign(version="v2"), 1000).empty


def logdir(folder, **changes):
    config = {"benchmark": "dmc_proprio", "protocol": "lite", "version": "v3"}
    config |= {"task": "walker_walk", "seed": 4, **changes}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"run": config, "agent": {}}))
    table = rows([1000, 2000], [1, 2], seed=0)
    table["seed"] = [8123, 9999]  # a run's own file has the seeds of the episodes
    table.to_csv(folder / "scores.csv", index=False)
    return folder


def test_departures_from_the_protocol_are_noted(tmp_path):
    kept = logdir(tmp_path / "kept", seed=0, repeat=4, task="reacher_easy", steps=9)
    left = logdir(tmp_path / "left", seed=1, repeat=8)
    config = json.loads((left / "config.json").read_text())
    config["agent"] = {"train_ratio": 8, "dyn": {"deter": 64, "blocks": 8}}
    (left / "config.json").write_text(json.dumps(config))
    table = scores.read_logdirs([kept, left]).set_index("seed")
    assert set(table.changed[0]) == {""}
    assert set(table.changed[1]) == {"--repeat=8 --dyn.deter=64 --train_ratio=8"}


def test_logdirs_are_found_at_any_depth(tmp_path):
    logdir(tmp_path / "a" / "0", seed=0)
    logdir(tmp_path / "a" / "1", seed=1)
    table = scores.read_logdirs([tmp_path])
    assert table.groupby("seed").score.sum().to_dict() == {0: 3, 1: 3}
    assert set(table.task) == {"walker_walk"}


def author_file(path, *runs):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as f:
        json.dump(list(runs), f)
    return path


def entry(**changes):
    run = {"task": "dmc_cup_catch", "method": "my-code", "seed": "3"}
    return run | {"xs": [0, 1000, 2000], "ys": [1, 2.5, float("nan")], **changes}


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_author_files(tmp_path, suffix):
    path = author_file(tmp_path / f"dmc_vision-mine.{suffix}", entry())
    (row,) = outside.read_outside(path).itertuples()
    assert (row.benchmark, row.protocol, row.version) == (
        "dmc_vision",
        "outside",
        "my_code",  # a name that can be an id
    )
    assert (row.task, row.seed, row.frames, row.score) == (
        "ball_in_cup_catch",
        3,
        1000,
        2.5,
    )


def test_methods_that_would_have_one_name(tmp_path):
    runs = [entry(method=name, seed=seed) for name, seed in [("a b", 1), ("a-b", 2)]]
    names = [tmp_path / f"dmc_vision-{number}.json" for number in range(2)]
    files = [author_file(name, run) for name, run in zip(names, runs)]
    both = author_file(tmp_path / "dmc_vision-both.json", *runs)
    for paths in (files, both):
        with pytest.raises(UserError, match=r"methods 'a b' of .* and 'a-b' of .*json"):
            outside.read_outside(paths)
    named = outside.read_outside(files, method="mine")
    assert set(named.version) == {"mine"} and len(named) == 2
    for folder in ("x+y", "x y"):
        (tmp_path / "csv" / folder).mkdir(parents=True)
        text = "step,reward,seed\n1000,5,0\n"
        (tmp_path / "csv" / folder / "walker_walk.csv").write_text(text)
    with pytest.raises(UserError, match=r"methods 'x y' of .* and 'x\+y' of"):
        outside.read_outside(tmp_path / "csv", "dmc_vision")


# --- Bad input --------------------------------------------------------------

HEADER = ",".join(scores.COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"walker_walk.csv is not a valid CSV file: No columns"),
        ("frames,score\n1,2\n", r"walker_walk.csv lacks the column 'length'"),
        (HEADER + "\n1,2,3\n", r"line 2 has seed 'nan'; a whole number"),
        (
            HEADER + "\n1,5,9,train,train,0,0,0\n2,oops,9,train,train,0,0,0\n",
            r"walker_walk.csv line 3 has score 'oops'; a finite number",
        ),
        (HEADER + "\n1,nan,9,train,train,0,0,0\n", r"line 2 has score 'nan'"),
        (HEADER + "\n-1,1,9,train,train,0,0,0\n", r"line 2 has frames '-1'"),
        (HEADER + "\n1,1,9,tain,train,0,0,0\n", r"unknown kind 'tain'; valid are"),
        (HEADER + '\n1,"1,9,train,train,0,0,0\n', r"is not a valid CSV file"),
    ],
)
def test_malformed_csv(tmp_path, text, message):
    folder = tmp_path / "lite" / "v3"
    write_version(folder, "dmc_proprio", {})
    (folder / "walker_walk.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        scores.read_runs(tmp_path)


def test_binary_is_not_csv(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01" * 20)
    with pytest.raises(UserError, match=r"a.csv is not a valid CSV file"):
        scores.read_csv(tmp_path / "a.csv")


def test_results_folder_must_hold_results(tmp_path):
    with pytest.raises(UserError, match=r"does not exist"):
        scores.read_runs(tmp_path / "none")
    with pytest.raises(UserError, match=r"is empty: expected <protocol>/<version>"):
        scores.read_runs(tmp_path)
    flat(1, 1000).to_csv(tmp_path / "walker_walk.csv", index=False)
    with pytest.raises(UserError, match=r"is not where results belong"):
        scores.read_runs(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "nature"}, r"mixes two protocols: it says 'nature' but lies in"),
        ({"version": "v2"}, r"mixes two versions: it says 'v2'"),
        ({"benchmark": "dmc_image"}, r"unknown benchmark 'dmc_image'"),
        ({"benchmark": None}, r"does not say which benchmark was run"),
    ],
)
def test_manifest_must_agree_with_its_place(tmp_path, change, message):
    folder = tmp_path / "lite" / "v3"
    write_version(folder, "dmc_proprio", {"walker_walk": flat(1, 1000)})
    manifest = {"benchmark": "dmc_proprio", **change}
    manifest = {k: v for k, v in manifest.items() if v is not None}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message):
        scores.read_runs(tmp_path)


def test_manifest_must_be_json(tmp_path):
    folder = tmp_path / "lite" / "v3"
    write_version(folder, "dmc_proprio", {"walker_walk": flat(1, 1000)})
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest.json is not valid JSON"):
        scores.read_runs(tmp_path)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match=r"must hold an object, not list"):
        scores.read_runs(tmp_path)
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest.json is missing"):
        scores.read_runs(tmp_path)


def test_seeds_of_episodes_are_noticed(tmp_path):
    table = flat(1, 50_000, 1)
    table["seed"] = np.arange(len(table)) + 7000
    write_version(tmp_path / "lite" / "v3", "dmc_proprio", {"walker_walk": table})
    with pytest.raises(UserError, match=r"50 different seeds in 50 rows"):
        scores.read_runs(tmp_path)


def test_unknown_task_and_version(tmp_path):
    write_version(tmp_path / "lite" / "v3", "dmc_proprio", {"walker_hop": flat(1, 999)})
    with pytest.raises(UserError, match=r"walker_hop.csv names the unknown task"):
        scores.read_runs(tmp_path)
    shutil.rmtree(tmp_path / "lite")
    write_version(tmp_path / "lite" / "v9", "dmc_proprio", {"walker_run": flat(1, 999)})
    with pytest.raises(UserError, match=r"unknown version 'v9'"):
        scores.read_runs(tmp_path)


DAMAGED = {
    "text": "1x.5,1,9,train,train,0,0,0",
    "cut": "3000,7.5,9",
    "glued": "3000,7.5,93000,7.5,9,train,train,0,0,0",
    "nan": "3000,nan,9,train,train,0,0,0",
    "huge": "1" * 400 + ",1,9,train,train,0,0,0",
    "kind": "3000,7.5,9,tain,train,0,0,0",
    "binary": "\0\ufffd\u2028,,,,,,,",
    "quote": '3000,"7.5,9,train,train,0,0,0',
    "empty": "",
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
def test_damaged_lines_of_a_run_cost_their_episodes(tmp_path, capsys, line):
    folder = logdir(tmp_path / "a")
    file = folder / "scores.csv"
    whole = scores.read_logdirs([tmp_path])
    header, first, *others = file.read_text().splitlines()
    file.write_text("\n".join([header, first, line, *others]) + "\n")
    pd.testing.assert_frame_equal(scores.read_logdirs([tmp_path]), whole)
    said = capsys.readouterr().err
    assert f"{file}: left out line 3, which hold" in said and said.count("\n") == 1
    with open(file, "a") as f:
        f.write("cut\n" * 9)
    assert len(scores.read_logdirs([tmp_path])) == len(whole)
    assert "left out lines 3, " in capsys.readouterr().err


def test_a_run_may_have_lost_its_scores(tmp_path):
    (logdir(tmp_path / "a") / "scores.csv").write_text("")
    with pytest.raises(UserError, match=r"scores.csv must begin with frames,score"):
        scores.read_logdirs([tmp_path])


def test_bad_logdirs(tmp_path):
    with pytest.raises(UserError, match=r"holds no run: there is no config.json"):
        scores.read_logdirs([tmp_path])
    logdir(tmp_path / "a")
    logdir(tmp_path / "b", protocol="nature")
    with pytest.raises(UserError, match=r"mix the protocols lite and nature, which"):
        scores.read_logdirs([tmp_path])
    shutil.rmtree(tmp_path / "b")
    logdir(tmp_path / "c")
    with pytest.raises(UserError, match=r"Seed 4 of v3 on dmc_proprio walker_walk"):
        scores.read_logdirs([tmp_path])
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "a" / "scores.csv").unlink()
    with pytest.raises(UserError, match=r"scores.csv is missing"):
        scores.read_logdirs([tmp_path])
    (tmp_path / "a" / "config.json").write_text('{"task": "walker_walk"}')
    with pytest.raises(UserError, match=r"config.json lacks the setting 'benchmark'"):
        scores.read_logdirs([tmp_path])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ys": None}, r"Entry 0 of .* lacks 'ys'"),
        ({"ys": [1]}, r"has 3 xs but 1 ys"),
        ({"xs": 5}, r"must have lists as xs and ys"),
        ({"ys": [1, "a", 3]}, r"entries that are not numbers"),
        ({"seed": "x"}, r"entries that are not numbers"),
        ({"seed": float("inf")}, r"has the seed inf; a whole number"),
        ({"seed": 10**50}, r"has the seed a int; a whole number"),
        ({"seed": 10**400}, r"not valid JSON: it has an integer of 401 digits"),
        ({"seed": [3]}, r"has the seed a list"),
        ({"xs": [0, 1000, 1e300]}, r"frames that are not from 0 to 1e\+15"),
        ({"xs": [0, -1, 1000]}, r"frames that are not from 0 to"),
        ({"xs": [0, 0.5, 0.9]}, r"no score at a frame of 1 or more"),
        ({"task": "atari_pong"}, r"unknown task 'atari_pong'; the 20 tasks are"),
    ],
)
def test_bad_author_files(tmp_path, changes, message):
    path = author_file(tmp_path / "dmc_vision-x.json", entry(**changes))
    with pytest.raises(UserError, match=message):
        outside.read_outside(path)


def test_more_bad_outside_logs(tmp_path):
    path = author_file(tmp_path / "mine.json", entry())
    with pytest.raises(UserError, match=r"give --outside_benchmark=dmc_vision or"):
        outside.read_outside(path)
    path = author_file(tmp_path / "dmc_vision-twice.json", entry(), entry())
    with pytest.raises(UserError, match=r"Entry 1 of .* repeats a run"):
        outside.read_outside(path)
    path = author_file(tmp_path / "dmc_vision-none.json")
    with pytest.raises(UserError, match=r"holds no runs"):
        outside.read_outside(path)
    path.write_text("[1, ")
    with pytest.raises(UserError, match=r"is not valid JSON"):
        outside.read_outside(path)
    path = tmp_path / "dmc_vision-x.json.gz"
    path.write_text("not gzip")
    with pytest.raises(UserError, match=r"is not valid JSON"):
        outside.read_outside(path)
    with pytest.raises(UserError, match=r"does not exist"):
        outside.read_outside(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no outside logs"):
        outside.read_outside(tmp_path / "empty")
