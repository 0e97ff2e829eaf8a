"""Pictures of predictions: what stands where, files, the command, training."""

import dataclasses
import functools
import io
import itertools
import subprocess
import sys

import imageio.v2 as imageio
import numpy as np
import pytest

import run
from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError
from dreamer_tf.tools import video
from dreamer_tf.training import logs
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import fakes
from tests.runs import board_events

MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)  # in no picture of ours


def openloop(entries, sequences=2, steps=8, context=3, ended=None, seed=0):
    """Random truth, and a prediction that drifts away from it."""
    rng = np.random.default_rng(seed)
    truth = {
        k: rng.uniform(0, 1, (sequences, steps, *s)).astype("f4")
        for k, s in entries.items()
    }
    over = np.zeros((sequences, steps), bool)
    for sequence, step in (ended or {}).items():
        over[sequence, step:] = True
    model = {k: np.clip(v + 0.1, 0, 1) for k, v in truth.items()}
    for values in model.values():
        values[over] = np.nan
    return video.OpenLoop(truth, model, context, over)


def painted(steps, sequences, context=3, ended=None):
    """Images of one colour: magenta is the truth, green the model."""
    result = openloop({"image": (16, 16, 3)}, sequences, steps, context, ended)
    result.truth["image"][:] = np.array(MAGENTA) / 255
    result.model["image"][~result.ended] = np.array(CYAN) / 255
    return result


def first_frame(result):
    return next(iter(video.animate(result, "")))


def boxes(picture, colour):
    """(left, top, right, bottom) of separate rectangles of a colour, row by row."""
    mask = (picture == colour).all(-1)

    def spans(line):
        edges = np.flatnonzero(np.diff(np.r_[False, line, False]))
        return edges.reshape(-1, 2).tolist()

    return [
        (left, top, right, bottom)
        for top, bottom in spans(mask.any(1))
        for left, right in spans(mask[top:bottom].any(0))
    ]


def borders(picture, colour):
    """The colour just outside of each rectangle, which must be the same all around."""
    found = []
    for left, top, right, bottom in boxes(picture, colour):
        edge = [picture[y, x] for y in (top - 1, bottom) for x in (left, right - 1)]
        edge += [picture[y, x] for y in (top, bottom - 1) for x in (left - 1, right)]
        assert all((e == edge[0]).all() for e in edge)
        found.append(tuple(int(c) for c in edge[0]))
    return found


# --- What is predicted ------------------------------------------------------------


class Reporter:
    """Predicts all but the first row: zeros."""

    def report(self, batch, context):
        self.context = context
        return {
            "image": np.full((*batch["image"][:, 1:].shape,), 1.5, "f4"),
            "vector": np.zeros(batch["vector"][:, 1:].shape, "f4"),
        }


def test_prediction_belongs_to_the_last_rows_and_ends_with_the_episode():
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (2, 7, 4, 4, 3)).astype(np.uint8),
        "vector": rng.normal(size=(2, 7, 2)).astype(np.float32),
        "is_first": np.zeros((2, 7), bool),
    }
    batch["is_first"][:, 0] = True
    batch["is_first"][0, 2] = True  # while the model still sees: no end
    batch["is_first"][1, 5] = True
    agent = Reporter()
    result = video.predict(agent, batch, 3)
    assert agent.context == 3 and result.size == (2, 6)
    assert result.images == ["image"] and result.vectors == ["vector"]
    np.testing.assert_allclose(result.truth["image"], batch["image"][:, 1:] / 255)
    np.testing.assert_array_equal(result.truth["vector"], batch["vector"][:, 1:])
    assert result.ended.tolist() == [[False] * 6, [False] * 4 + [True] * 2]
    assert (result.model["image"][~result.ended] == 1).all()  # and not 1.5
    for values in result.model.values():
        assert np.isnan(values[result.ended]).all()


# --- Images -----------------------------------------------------------------------


def test_frames_show_sequences_side_by_side_with_their_part_as_border():
    result = painted(steps=6, sequences=4)
    frames = list(video.animate(result, "title"))
    assert len(frames) == 6
    assert len({frame.shape for frame in frames}) == 1
    height, width, channels = frames[0].shape
    assert height % 2 == width % 2 == 0 and channels == 3
    for step, frame in enumerate(frames):
        colour = video.SEEN if step < 3 else video.IMAGINED
        assert borders(frame, MAGENTA) == [colour] * 4
        assert borders(frame, CYAN) == [colour] * 4
        truth, model = boxes(frame, MAGENTA), boxes(frame, CYAN)
        assert len({top for _, top, _, _ in truth}) == 1
        assert [b[::2] for b in truth] == [b[::2] for b in model]
        assert truth[0][3] < model[0][1]  # the truth stands above


def test_error_is_grey_where_model_and_truth_agree():
    result = painted(steps=4, sequences=2)
    frame = first_frame(result)
    # (cyan - magenta + 1) / 2 is 0, 1, 0.5.
    assert len(boxes(frame, (0, 255, 128))) == 2
    result.model["image"][:] = result.truth["image"]
    frame = first_frame(result)
    assert len(boxes(frame, MAGENTA)) == 4
    assert len(boxes(frame, (128, 128, 128))) == 2


def test_rows_are_labelled():
    frame = first_frame(painted(steps=4, sequences=3))
    left = boxes(frame, MAGENTA)[0][0]
    for colour in (MAGENTA, CYAN):
        _, top, _, bottom = boxes(frame, colour)[0]
        label = frame[top:bottom, : left - video.BORDER]
        assert (label == video.INK).all(-1).any() and (label[:, -2:] == 255).all()


def test_a_single_sequence_lies_across():
    frame = list(video.animate(painted(steps=4, sequences=1), ""))[3]
    (truth,), model = boxes(frame, MAGENTA), boxes(frame, CYAN)
    assert model[0][1] == truth[1] and model[0][0] > truth[2]
    assert borders(frame, MAGENTA) == [video.IMAGINED]
    label = frame[truth[1] - 24 : truth[1] - video.BORDER]
    assert (label == video.INK).all(-1).any()


def test_time_advances_in_every_frame():
    result = painted(steps=12, sequences=2)
    heads = [frame[:84] for frame in video.animate(result, "a title")]
    for one, other in itertools.pairwise(heads):
        assert (one[:36] != other[:36]).any()  # the number
        assert (one[68:77] != other[68:77]).any()  # the bar
    bar = heads[7][72, video.MARGIN : -video.MARGIN]
    seen = (bar == video.SEEN).all(-1).sum()
    imagined = (bar == video.IMAGINED).all(-1).sum()
    assert 2.5 < seen / (len(bar) / 12) < 3 and 4.5 < imagined / (len(bar) / 12) < 5


def test_strip_shows_chosen_steps_of_two_sequences():
    picture = video.strip(painted(steps=50, sequences=3, context=5), "title")
    colours = [video.SEEN] * 3 + [video.IMAGINED] * 7
    assert borders(picture, MAGENTA) == colours * 2
    # Every column has its caption, in the colour of its part.
    for left, top, right, _ in boxes(picture, MAGENTA)[:10]:
        above = picture[top - video.BORDER - 20 : top - video.BORDER, left:right]
        dark = above.sum(-1) < 600
        assert dark.any()


def test_strip_of_few_steps_shows_each_once():
    picture = video.strip(painted(steps=3, sequences=1, context=1), "")
    assert borders(picture, MAGENTA) == [video.SEEN] + [video.IMAGINED] * 2


def test_after_the_episode_there_is_no_prediction():
    picture = video.strip(painted(steps=10, sequences=1, ended={0: 7}), "")
    assert borders(picture, CYAN)[:10] == [video.SEEN] * 3 + [video.IMAGINED] * 4
    colours = borders(picture, MAGENTA)
    assert colours[-3:] == [video.PAST_END] * 3
    assert len(boxes(picture, (237, 237, 237))) == 6  # model and error


@pytest.mark.parametrize("shape", [(16, 16, 1), (24, 16, 3), (16, 16, 4)])
def test_other_shapes_of_images(shape):
    result = openloop({"image": shape}, sequences=2, steps=4)
    result.truth["image"][:], result.model["image"][:] = 0.25, 0.9
    frame = first_frame(result)
    (left, top, right, bottom), _ = boxes(frame, (64, 64, 64))
    ratio = (bottom - top) / (right - left)
    assert ratio == pytest.approx(shape[0] / shape[1], rel=0.02)


def test_several_images_stand_below_each_other():
    one = openloop({"left": (16, 16, 3)}, steps=4)
    two = openloop({"left": (16, 16, 3), "right": (16, 16, 3)}, steps=4)
    heights = [first_frame(result).shape[0] for result in (one, two)]
    assert heights[1] > heights[0] + 3 * 128


# --- Vectors ----------------------------------------------------------------------


def test_curves_are_revealed_up_to_the_present_step():
    result = openloop({"vector": (2,)}, steps=10, context=4)
    frames = list(video.animate(result, ""))
    last = frames[-1]
    orange = [(f[84:] == video.IMAGINED).all(-1).sum() for f in frames]
    assert orange[3] == 0  # nothing is imagined before the context ends
    assert all(b > a for a, b in itertools.pairwise(orange[4:-1]))
    curves = video._Curves(result, 900)
    for top, bottom, left, columns in curves.boxes:
        picture = np.asarray(curves.until(6))[top:bottom]
        x = columns[6]
        np.testing.assert_array_equal(
            picture[:, left:x], curves.whole[top:bottom, left:x]
        )
        blank = curves.blank[top:bottom, x + 2 : columns[-1]]
        np.testing.assert_array_equal(picture[:, x + 2 : columns[-1]], blank)
        assert (blank != curves.whole[top:bottom, x + 2 : columns[-1]]).any()
        # Blue and shaded as long as the model sees, orange after that.
        mask = (curves.whole[top:bottom] == video.IMAGINED).all(-1).any(0)
        assert columns[3] - 2 <= np.flatnonzero(mask[left:])[0] + left
    np.testing.assert_array_equal(np.asarray(curves.until(9)), curves.whole)
    assert last.shape == frames[0].shape


def test_the_components_that_vary_most_of_every_entry():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2, 50, 6)) * [1, 5, 3, 100, 0.1, 0]
    entries = ["a", "a", "a", "b", "c", "c"]
    assert video._spread(entries, truth, 3) == [1, 3, 4]
    assert video._spread(entries, truth, 4) == [1, 2, 3, 4]
    assert video._spread(entries, truth, 9) == [0, 1, 2, 3, 4, 5]


def test_names_of_components():
    result = openloop({"height": (), "one": (1,), "pair": (2,), "grid": (1, 2)})
    entries, names, truth, _ = video._components(result)
    assert names == ["height", "one", "pair[0]", "pair[1]", "grid[0, 0]", "grid[0, 1]"]
    assert entries == ["height", "one", "pair", "pair", "grid", "grid"]
    np.testing.assert_array_equal(truth[..., 3], result.truth["pair"][..., 1])


def test_relative_error():
    truth = np.zeros((1, 4, 2))
    truth[0, :, 0] = [1, -1, 1, -1]  # standard deviation 1; the other one never moves
    model = truth + np.array([0.5, 100])
    np.testing.assert_allclose(video._relative_error(truth, model), 0.5)
    assert not video._relative_error(truth * 0, model).any()


def test_a_failed_prediction_does_not_hide_the_truth():
    truth = np.linspace(0, 1, 10)
    for bad in (1e9, np.inf, np.nan):
        low, high = video._limits(truth, np.full(10, bad))
        assert -1 < low < 0 and 1 < high < 3
    assert video._limits(truth * 0, truth * 0)[0] < 0


def test_images_and_vectors_share_a_frame():
    entries = {"image": (16, 16, 3), "vector": (5,)}
    both = openloop(entries, steps=5)
    names = ({"image"}, {"vector"})
    parts = [
        dataclasses.replace(both, truth={k: both.truth[k] for k in keys})
        for keys in names
    ]
    heights = [len(video.strip(part, "")) for part in (both, *parts)]
    assert heights[0] > heights[1] + 300 and heights[0] > heights[2] + 300
    frames = list(video.animate(both, ""))
    assert len(frames) == 5 and len({frame.shape for frame in frames}) == 1


# --- Files ------------------------------------------------------------------------


def test_files_can_be_read_again(tmp_path):
    frames = list(video.animate(painted(steps=9, sequences=2), "title"))
    with video._mp4(tmp_path / "a.mp4", 10) as writer:
        for frame in frames:
            writer.append_data(frame)
    video._gif(tmp_path / "a.gif", frames, 10)
    for name in ("a.mp4", "a.gif"):
        found = imageio.mimread(tmp_path / name, memtest=False)
        assert len(found) == 9
        for frame, expected in zip(found, frames):
            assert frame[..., :3].shape == expected.shape
            error = np.abs(frame[..., :3].astype(float) - expected).mean()
            assert error < 6
    reader = imageio.get_reader(tmp_path / "a.mp4")
    assert reader.get_meta_data()["fps"] == 10
    assert reader.get_meta_data()["codec"] == "h264"


def test_colours_with_a_meaning_survive_in_a_gif(tmp_path):
    result = openloop({"image": (16, 16, 3)}, sequences=4, steps=6)
    video._gif(tmp_path / "a.gif", list(video.animate(result, "title")), 10)
    for frame in imageio.mimread(tmp_path / "a.gif", memtest=False):
        for colour in (video.SEEN, video.IMAGINED, video.PAPER):
            assert (frame[:64, :, :3] == colour).all(-1).sum() > 100  # the legend


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.gif"
    path.write_text("old")
    with pytest.raises(KeyError), video._replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    with (
        pytest.raises(UserError, match=r"a.gif cannot be written \(.*full"),
        video._replacing(path) as temporary,
    ):
        raise OSError(28, "The disk is full")
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("count", [1, 4, 5, 9, 17])
def test_few_keeps_evenly_spaced_pictures(count):
    few = video._Few(4)
    for number in range(count):
        few.add(np.array(number))
    assert [int(p) for p in few.kept] == list(range(0, count, few.stride))
    assert len(few.kept) <= 4 and (count <= 4) == (few.stride == 1)


# --- The command ------------------------------------------------------------------


def episode(rows):
    first = np.arange(rows) == 0
    return {"reward": np.arange(rows, dtype="f4"), "is_first": first}


def test_sequences_do_not_overlap_and_span_the_episodes():
    batch = video._batch([episode(100)], 5, 24)
    assert batch["reward"][:, 0].tolist() == [0, 35, 70]
    assert batch["reward"].shape == (3, 30) and batch["is_first"][:, 0].all()
    batch = video._batch([episode(100), episode(20), episode(31)], 5, 24)
    assert batch["reward"][:, 0].tolist() == [0, 70, 0]
    assert len(video._batch([episode(31)] * 8, 5, 24)["reward"]) == video.SEQUENCES


def test_horizon_beyond_the_episode():
    with pytest.raises(UserError, match=r"the longest has 19: give --horizon=14 or"):
        video._batch([episode(20), episode(7)], 5, 45)
    with pytest.raises(UserError, match=r"the longest has 3: give --context=1 and a"):
        video._batch([episode(4)], 5, 45)
    assert video._batch([episode(20)], 5, 14)["reward"].shape == (1, 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained DreamerV3 that acted in the toy task, with a checkpoint."""
    from dreamer_tf import v3

    small = {"dyn.deter": 16, "dyn.hidden": 8, "dyn.stoch": 4, "dyn.classes": 4}
    small |= {f"{part}.units": 8 for part in ("enc", "dec", "policy", "value")}
    small |= {"enc.depth": 2, "dec.depth": 2, "train_ratio": 0.0, "jit": False}
    path = tmp_path_factory.mktemp("run")
    settings = RunConfig(
        logdir=str(path), task="toy", obs="both", size=32, length=12, steps=2
    )
    config = configs.updated(v3.Config(), small)
    train(settings, config, [], None, Terminal(2, io.StringIO()))
    with pytest.MonkeyPatch.context() as patch:
        # Compiling once is enough for all that is asked of it below.
        patch.setattr(video, "load_agent", functools.cache(video.load_agent))
        yield path


def test_command(trained, tmp_path, capsys):
    command = ["video", f"--logdir={trained}", f"--out={tmp_path}", "--context=3"]
    assert run.main([*command, "--horizon=8", "--episodes=2", "--fps=5"]) == 0
    printed = capsys.readouterr().out.split()
    names = ["openloop.mp4", "openloop.gif", "openloop.png", "policy.mp4", "policy.gif"]
    assert printed == [str(tmp_path / name) for name in names]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    for name in ("openloop.mp4", "openloop.gif"):
        frames = imageio.mimread(tmp_path / name, memtest=False)
        assert len(frames) == 11 and frames[0].shape[1] == 900
    for name in ("policy.mp4", "policy.gif"):
        frames = imageio.mimread(tmp_path / name, memtest=False)
        assert len(frames) == 2 * 13 and frames[0].shape[:2] == (352, 320)
    assert imageio.imread(tmp_path / "openloop.png").shape[2] == 3


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--horizon=30", "the longest has 12: give --horizon=7 or less."),
        ("--out=FILE/videos", "cannot be written: Not a directory."),
        ("--logdir=NEW", "holds no run: no config.json there."),
        ("--context=0", "--context=0"),
    ],
)
def test_mistakes_are_one_sentence(trained, tmp_path, capsys, argument, sentence):
    (tmp_path / "file").write_text("")
    argument = argument.replace("FILE", str(tmp_path / "file"))
    argument = argument.replace("NEW", str(tmp_path))
    out = f"--out={tmp_path / 'videos'}"
    assert run.main(["video", f"--logdir={trained}", out, argument]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_before_the_first_checkpoint(tmp_path, capsys):
    settings = RunConfig(logdir=str(tmp_path), steps=0)
    train(settings, fakes.Config(), [], fakes.make_components)
    capsys.readouterr()
    assert run.main(["video", f"--logdir={tmp_path}"]) == 2
    assert "There is no checkpoint in" in capsys.readouterr().err


def test_without_pictures_there_is_still_the_prediction(trained, tmp_path, monkeypatch):
    def render(self, size=None):
        raise UserError("No graphics here.")

    from dreamer_tf.envs import toy

    record = toy.Toy.render
    monkeypatch.setattr(
        toy.Toy, "render", lambda self, size=None: (render if size else record)(self)
    )
    said = []
    files = video.film_run(trained, tmp_path, 1, 3, 8, say=said.append)
    assert said == ["There will be no film of the policy: No graphics here."]
    assert [file.name for file in files] == [
        *("openloop.mp4", "openloop.gif", "openloop.png")
    ]
    assert sorted(files) == sorted(tmp_path.iterdir())


@pytest.mark.slow
def test_tensorflow_and_graphics_side_by_side(tmp_path):
    """In one process they crash: training, evaluation and films keep them apart."""
    logdir = f"--logdir={tmp_path}"
    train = "train --version=v3 --benchmark=dmc_vision --protocol=lite --envs=1"
    train += " --task=cartpole_swingup --steps=40 --train_ratio=0 --eval_every=20"
    commands = [f"{train} --eval_episodes=1 --length=120", "evaluate --episodes=1"]
    for command in [*commands, "video --horizon=20"]:
        argv = [sys.executable, "run.py", *command.split(), logdir]
        result = subprocess.run(argv, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
    assert len(list((tmp_path / "videos").iterdir())) == 5


# --- Training -----------------------------------------------------------------------


def fake_run(path, **changes):
    settings = {"steps": 40, "envs": 2, "log_every": 10, "logdir": str(path)} | changes
    run = RunConfig(**settings)
    make = functools.partial(fakes.make_components, limit=5)
    train(run, fakes.Config(), [], make, Terminal(40, io.StringIO()))
    rows = [
        {k: v for k, v in row.items() if not k.startswith("machine/")}
        for row in logs.read_metrics(path)
    ]
    shown = [
        (event.step, value.image)
        for event in board_events(path)
        for value in event.summary.value
        if value.tag == "openloop"
    ]
    return rows, shown


def test_pictures_do_not_change_a_run(tmp_path):
    rows, shown = fake_run(tmp_path / "a", video_every=20)
    assert [step for step, _ in shown] == [20, 40]
    assert imageio.imread(shown[0][1].encoded_image_string).shape[1] == 900
    others, none = fake_run(tmp_path / "b", video_every=0)
    assert rows == others and none == []


def test_a_continued_run_goes_on_with_its_pictures(tmp_path):
    assert [step for step, _ in fake_run(tmp_path, video_every=15, steps=20)[1]] == [16]
    path = next((tmp_path / "tb").iterdir())
    path.unlink()
    assert [step for step, _ in fake_run(tmp_path, video_every=15)[1]] == [30]


def test_whole_sequences_come_first():
    class Replay:
        length = 7

        def peek(self, seed):
            first = np.zeros((5, 7), bool)
            first[:, 0] = True
            first[[0, 2], 4] = True
            image = np.zeros((5, 7, 8, 8, 3), np.uint8)
            image[:] = np.arange(5)[:, None, None, None, None]
            vector = np.ones((5, 7, 1), np.float32)
            return {"image": image, "vector": vector, "is_first": first}

    class Agent(Reporter):
        def report(self, batch, context):
            self.seen = batch["image"][:, 0, 0, 0, 0].tolist()
            return super().report(batch, context)

    agent = Agent()
    assert video.training_picture(agent, Replay(), (0,), "") is not None
    assert agent.seen == [1, 3, 4] and agent.context == 3
    Replay.length = 2
    assert video.training_picture(agent, Replay(), (0,), "") is None
