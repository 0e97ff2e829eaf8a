"""Pictures of open-loop predictions: what stands where, and during training."""

import dataclasses
import functools
import io
import itertools

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import ImageColor

from dreamer_tf import pictures
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.training import logs
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import fakes
from tests.runs import board_events

SEEN, IMAGINED, PAST_END, INK, _, PAPER = map(ImageColor.getrgb, pictures.COLOURS)
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
    return pictures.OpenLoop(truth, model, context, over)


def painted(steps, sequences, context=3, ended=None):
    """Images of one colour: magenta is the truth, green the model."""
    result = openloop({"image": (16, 16, 3)}, sequences, steps, context, ended)
    result.truth["image"][:] = np.array(MAGENTA) / 255
    result.model["image"][~result.ended] = np.array(CYAN) / 255
    return result


def first_frame(result):
    return next(iter(pictures.animate(result, "")))


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
    result = pictures.predict(agent, batch, 3)
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
    frames = list(pictures.animate(result, "title"))
    assert len(frames) == 6
    assert len({frame.shape for frame in frames}) == 1
    height, width, channels = frames[0].shape
    assert height % 2 == width % 2 == 0 and channels == 3
    for step, frame in enumerate(frames):
        colour = SEEN if step < 3 else IMAGINED
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
        label = frame[top:bottom, : left - pictures.BORDER]
        assert (label == INK).all(-1).any() and (label[:, -2:] == 255).all()


def test_a_single_sequence_lies_across():
    frame = list(pictures.animate(painted(steps=4, sequences=1), ""))[3]
    (truth,), model = boxes(frame, MAGENTA), boxes(frame, CYAN)
    assert model[0][1] == truth[1] and model[0][0] > truth[2]
    assert borders(frame, MAGENTA) == [IMAGINED]
    label = frame[truth[1] - 24 : truth[1] - pictures.BORDER]
    assert (label == INK).all(-1).any()


def test_time_advances_in_every_frame():
    result = painted(steps=12, sequences=2)
    heads = [frame[:84] for frame in pictures.animate(result, "a title")]
    for one, other in itertools.pairwise(heads):
        assert (one[:36] != other[:36]).any()  # the number
        assert (one[68:77] != other[68:77]).any()  # the bar
    bar = heads[7][72, pictures.MARGIN : -pictures.MARGIN]
    seen = (bar == SEEN).all(-1).sum()
    imagined = (bar == IMAGINED).all(-1).sum()
    assert 2.5 < seen / (len(bar) / 12) < 3 and 4.5 < imagined / (len(bar) / 12) < 5


def test_strip_shows_chosen_steps_of_two_sequences():
    picture = pictures.strip(painted(steps=50, sequences=3, context=5), "title")
    colours = [SEEN] * 3 + [IMAGINED] * 7
    assert borders(picture, MAGENTA) == colours * 2
    # Every column has its caption, in the colour of its part.
    for left, top, right, _ in boxes(picture, MAGENTA)[:10]:
        above = picture[top - pictures.BORDER - 20 : top - pictures.BORDER, left:right]
        dark = above.sum(-1) < 600
        assert dark.any()


def test_strip_of_few_steps_shows_each_once():
    picture = pictures.strip(painted(steps=3, sequences=1, context=1), "")
    assert borders(picture, MAGENTA) == [SEEN] + [IMAGINED] * 2


def test_after_the_episode_there_is_no_prediction():
    picture = pictures.strip(painted(steps=10, sequences=1, ended={0: 7}), "")
    assert borders(picture, CYAN)[:10] == [SEEN] * 3 + [IMAGINED] * 4
    colours = borders(picture, MAGENTA)
    assert colours[-3:] == [PAST_END] * 3
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
    curves = pictures._Curves(openloop({"vector": (2,)}, steps=10, context=4))
    frames = list(pictures._draw([curves], range(10)))
    assert len({frame.shape for frame in frames}) == 1
    orange = [(frame == IMAGINED).all(-1).sum() for frame in frames]
    assert orange[3] == 0  # nothing is imagined before the context ends
    assert all(b > a for a, b in itertools.pairwise(orange[4:]))
    for cursor in curves.cursors:
        box = cursor.axes.get_window_extent()
        rows = slice(len(frames[0]) - int(box.y1) + 1, len(frames[0]) - int(box.y0) - 1)
        columns = cursor.axes.transData.transform([(t, 0) for t in range(1, 11)])[:, 0]
        # What the fourth and the seventh step look like, at the pixel.
        left, (fourth, x) = int(box.x0), columns[[3, 6]].round().astype(int)
        present, whole = frames[6][rows], frames[-1][rows]
        before, after = np.s_[:, left : x - 4], np.s_[:, x + 4 : int(box.x1)]
        np.testing.assert_array_equal(present[before], whole[before])
        assert (present[:, x - 1 : x + 1] == PAST_END).all()
        assert not (whole[:, x] == PAST_END).all(-1).all()  # the line is gone
        predicted = (whole == IMAGINED).all(-1)
        assert predicted[after].any() and not (present[after] == IMAGINED).all(-1).any()
        # Blue as long as the model sees, orange after that.
        assert fourth - 3 <= np.flatnonzero(predicted[:, left:].any(0))[0] + left


def test_the_components_that_vary_most_of_every_entry():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2, 50, 6)) * [1, 5, 3, 100, 0.1, 0]
    entries = ["a", "a", "a", "b", "c", "c"]
    assert pictures._spread(entries, truth, 3) == [1, 3, 4]
    assert pictures._spread(entries, truth, 4) == [1, 2, 3, 4]
    assert pictures._spread(entries, truth, 9) == [0, 1, 2, 3, 4, 5]


def test_names_of_components():
    result = openloop({"height": (), "one": (1,), "pair": (2,), "grid": (1, 2)})
    entries, names, truth, _ = pictures._components(result)
    assert names == ["height", "one", "pair[0]", "pair[1]", "grid[0, 0]", "grid[0, 1]"]
    assert entries == ["height", "one", "pair", "pair", "grid", "grid"]
    np.testing.assert_array_equal(truth[..., 3], result.truth["pair"][..., 1])


def test_relative_error():
    truth = np.zeros((1, 4, 2))
    truth[0, :, 0] = [1, -1, 1, -1]  # standard deviation 1; the other one never moves
    model = truth + np.array([0.5, 100])
    np.testing.assert_allclose(pictures._relative_error(truth, model), 0.5)
    assert not pictures._relative_error(truth * 0, model).any()


def test_a_failed_prediction_does_not_hide_the_truth():
    truth = np.linspace(0, 1, 10)
    for bad in (1e9, np.inf, np.nan):
        low, high = pictures._limits(truth, np.full(10, bad))
        assert -1 < low < 0 and 1 < high < 3
    assert pictures._limits(truth * 0, truth * 0)[0] < 0


def test_the_legend_has_room():
    frame = first_frame(openloop({"vector": (2,)}, steps=20, context=15))
    assert (frame[36:60, -pictures.MARGIN :] == 255).all()
    assert (frame[36:60, -100:] != 255).any()


def test_images_and_vectors_share_a_frame():
    entries = {"image": (16, 16, 3), "vector": (5,)}
    both = openloop(entries, steps=5)
    names = ({"image"}, {"vector"})
    parts = [
        dataclasses.replace(both, truth={k: both.truth[k] for k in keys})
        for keys in names
    ]
    heights = [len(pictures.strip(part, "")) for part in (both, *parts)]
    assert heights[0] > heights[1] + 300 and heights[0] > heights[2] + 300
    frames = list(pictures.animate(both, ""))
    assert len(frames) == 5 and len({frame.shape for frame in frames}) == 1


# --- During training --------------------------------------------------------------


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
    assert pictures.training_picture(agent, Replay(), (0,), "") is not None
    assert agent.seen == [1, 3, 4] and agent.context == 3
    Replay.length = 2
    assert pictures.training_picture(agent, Replay(), (0,), "") is None
