"""The toy task: what it promises in its docstring."""

import numpy as np
import pytest

from dreamer_tf.envs import check_env, make_env
from dreamer_tf.envs.base import action_size
from dreamer_tf.envs.toy import DIRECTIONS, LENGTH, RETURNS, TASKS, optimal


def mean_return(env, policy, episodes=300):
    total = 0.0
    for episode in range(episodes):
        record = env.reset(episode)
        while not record["is_last"]:
            record = env.step(policy(record))
            assert -0.42 <= record["reward"] <= 1
            total += float(record["reward"])
    return total / episodes


@pytest.mark.parametrize("task", TASKS)
def test_documented_returns(task):
    env = make_env(task)
    random = np.random.default_rng(0)

    def uniform(_):
        if task == "toy":
            return random.uniform(-1, 1, 2)
        return np.eye(9)[random.integers(9)]

    # Standard errors of 300 episodes: 0.6 (random), 0.1 (optimal).
    assert mean_return(env, uniform) == pytest.approx(RETURNS[task]["random"], abs=1.5)
    best = mean_return(env, lambda record: optimal(record, env.action_space))
    assert best == pytest.approx(RETURNS[task]["optimal"], abs=0.5)


def test_nothing_is_better_than_the_optimal_first_step():
    """Whatever else one does first, the best continuation is worth less."""
    env = make_env("toy_discrete")
    best = np.argmax(optimal(env.reset(3), env.action_space))

    def value(first):
        record = env.step(np.eye(9)[first])
        total = float(record["reward"])
        while not record["is_last"]:
            record = env.step(optimal(record, env.action_space))
            total += float(record["reward"])
        return total

    values = []
    for first in range(len(DIRECTIONS)):
        env.reset(3)
        values.append(value(first))
    assert np.argmax(values) == best


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("obs", ["proprio", "image", "both"])
def test_checks_out(task, obs):
    with make_env(task, obs=obs, size=32) as env:
        assert "all as it should be" in check_env(env, steps=120)
        expected = {"proprio": [], "image": ["image"], "both": ["image"]}[obs]
        expected += [] if obs == "image" else ["position", "offset"]
        assert list(env.obs_space.spaces) == expected
        assert action_size(env.action_space) == (2 if task == "toy" else 9)


def test_episode_length_and_repeat():
    env = make_env("toy", repeat=2)
    record, decisions = env.reset(0), 0
    while not record["is_last"]:
        record = env.step(np.zeros(2))
        decisions += 1
    assert decisions == LENGTH // 2
    assert not record["is_terminal"]


def test_image_shows_the_light_and_its_target():
    env = make_env("toy", obs="both", size=64)
    for seed in range(5):
        record = env.reset(seed)
        target = record["position"] + record["offset"]
        axis = (np.arange(64) + 0.5) * 2.4 / 64 - 1.2
        for channel, place in ((0, target), (1, record["position"])):
            light = record["image"][..., channel]
            row, column = np.argwhere(light == light.max()).mean(0).round().astype(int)
            assert [axis[column], -axis[row]] == pytest.approx(place, abs=0.1)


def test_without_seed_the_stream_goes_on_and_repeats():
    first, second = make_env("toy", seed=5), make_env("toy", seed=5)
    starts = [first.reset()["position"] for _ in range(3)]
    again = [second.reset()["position"] for _ in range(3)]
    np.testing.assert_array_equal(starts, again)
    assert len({tuple(start) for start in starts}) == 3
