"""The catch task: what it promises in its docstring."""

import numpy as np
import pytest

from dreamer_tf.envs import check_env, make_env
from dreamer_tf.envs.catch import BALL, COLUMNS, LENGTH, PADDLE, RETURNS, ROWS, optimal
from dreamer_tf.envs.limits import time_limit

LEFT, STAY, RIGHT = np.eye(3)


def play(env, seed, policy):
    """The records of an episode."""
    records = [env.reset(seed)]
    while not records[-1]["is_last"]:
        records.append(env.step(policy(records[-1])))
    return records


def cells(record):
    """Row and column of the ball, and the paddle's left column, counted from 0."""
    last = np.array([ROWS, COLUMNS, COLUMNS]) - 1
    found = (record["position"].astype(float) + 1) / 2 * last - [0, 0, 0.5]
    whole = found.round().astype(int)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    return tuple(whole.tolist())


def test_documented_returns():
    env = make_env("catch")
    random = np.random.default_rng(0)

    def mean(policy):
        return np.mean([play(env, k, policy)[-1]["reward"] for k in range(1000)])

    # Standard error: 0.025.
    uniform = mean(lambda _: np.eye(3)[random.integers(3)])
    assert uniform == pytest.approx(RETURNS["random"], abs=0.1)
    assert mean(optimal) == RETURNS["optimal"]


@pytest.mark.parametrize("action", [LEFT, STAY, RIGHT])
@pytest.mark.parametrize("seed", range(8))
def test_the_ball_falls_and_the_paddle_moves_within_the_board(action, seed):
    records = play(make_env("catch"), seed, lambda _: action)
    assert len(records) == LENGTH + 1
    _, column, _ = cells(records[0])
    move = int(action.argmax()) - 1
    for row, record in enumerate(records):
        paddle = min(max(1 + move * row, 0), COLUMNS - 2)
        assert cells(record) == (row, column, paddle)
        assert abs(record["position"]).max() <= 1
    rewards = [float(record["reward"]) for record in records]
    caught = column in (paddle, paddle + 1)
    assert rewards == [0.0] * LENGTH + [1.0 if caught else -1.0]
    ends = [(bool(r["is_last"]), bool(r["is_terminal"])) for r in records]
    assert ends == [(False, False)] * LENGTH + [(True, True)]


def test_the_ball_begins_in_every_column_alike():
    env = make_env("catch", seed=3)
    columns = [cells(env.reset())[1] for _ in range(1000)]
    assert np.bincount(columns, minlength=COLUMNS) == pytest.approx(200, abs=50)


@pytest.mark.parametrize("obs", ["proprio", "image", "both"])
def test_checks_out(obs):
    with make_env("catch", obs=obs, size=16) as env:
        assert "all as it should be" in check_env(env, steps=60)
        expected = {
            "proprio": ["position"],
            "image": ["image"],
            "both": ["image", "position"],
        }
        assert list(env.obs_space.spaces) == expected[obs]
        assert env.action_space.n == 3


@pytest.mark.parametrize("size", [10, 16, 50, 64])
def test_the_picture_shows_the_board(size):
    env = make_env("catch", obs="both", size=size)
    for record in play(env, 1, lambda _: LEFT)[:-1]:
        (row, column, paddle), picture = cells(record), record["image"]
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
        colours = {(0, 0, 0), BALL, PADDLE}
        assert {tuple(map(int, pixel)) for pixel in picture.reshape(-1, 3)} == colours
        left, right = (ROWS - 1, paddle, PADDLE), (ROWS - 1, paddle + 1, PADDLE)
        for y, x, colour in [(row, column, BALL), left, right]:
            # The pixel in the middle of the cell.
            pixel = int((y + 0.5) * size / ROWS), int((x + 0.5) * size / COLUMNS)
            assert tuple(picture[pixel]) == colour
    assert env.render(100).shape == (100, 100, 3)


def test_the_ball_is_on_top_of_the_paddle():
    last = play(make_env("catch", obs="both"), 0, optimal)[-1]
    row, column, paddle = cells(last)
    assert row == ROWS - 1 and column in (paddle, paddle + 1)
    colours = {tuple(map(int, p)) for p in last["image"][-1]}
    assert colours == {(0, 0, 0), BALL, PADDLE}


@pytest.mark.parametrize(("length", "limit"), [(0, 9), (4, 4), (20, 9)])
def test_episodes_are_cut_by_length(length, limit):
    records = play(make_env("catch", length=length), 0, lambda _: STAY)
    assert len(records) == limit + 1 == time_limit("catch", length) + 1
    assert bool(records[-1]["is_terminal"]) == (limit == LENGTH)


def test_repeat_sums_frames():
    records = play(make_env("catch", repeat=4), 0, lambda _: STAY)
    assert [record.frames for record in records] == [0, 4, 4, 1]


def test_a_seed_repeats_the_episode():
    first, second = make_env("catch", seed=5), make_env("catch", seed=5)
    starts = [cells(first.reset()) for _ in range(20)]
    assert starts == [cells(second.reset()) for _ in range(20)]
    assert cells(first.reset(7)) == cells(second.reset(7))
