"""Observation entries: how they are used, chosen by name, and ignored."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf.envs import make_env, make_envs
from dreamer_tf.errors import UserError

GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
PICTURE = spaces.Box(0, 255, (20, 20, 3), np.uint8)
TWO = spaces.Box(-1, 1, (2,))
MIXED = spaces.Dict(
    {
        "arm/angle": TWO,
        "eye": PICTURE,
        "grid": GRID,
        "mission": spaces.Text(9),
        "speed": spaces.Discrete(3),
        "stack": spaces.Box(0, 255, (4, 84, 84, 3), np.uint8),
    }
)


class Anything(gymnasium.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, observation_space):
        self.observation_space = observation_space

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}


def shapes(env):
    record = env.reset(0)
    found = {name: space.shape for name, space in env.obs_space.spaces.items()}
    assert found == {name: record[name].shape for name in found}
    return found


@pytest.mark.parametrize(
    ("arguments", "expected", "ignored"),
    [
        (
            {},
            {"arm_angle": (2,), "grid": (147,), "speed": (3,)},
            {"eye": "--obs=proprio", "mission": "Text", "stack": "Box"},
        ),
        (
            {"obs_keys": "arm_.*|grid"},
            {"arm_angle": (2,), "grid": (147,)},
            {
                "eye": "--obs=proprio",
                "mission": "Text",
                "speed": "not in --obs_keys",
                "stack": "Box",
            },
        ),
        (
            {"obs": "image", "size": 8, "obs_keys": "eye"},
            {"eye": (8, 8, 3)},
            {
                "arm_angle": "--obs=image",
                "grid": "not in --obs_keys",
                "mission": "Text",
                "speed": "--obs=image",
                "stack": "Box",
            },
        ),
        (
            {"obs": "both", "size": 8, "obs_keys": "eye|speed"},
            {"eye": (8, 8, 3), "speed": (3,)},
            {
                "arm_angle": "not in --obs_keys",
                "grid": "not in --obs_keys",
                "mission": "Text",
                "stack": "Box",
            },
        ),
    ],
)
def test_entries_of_gymnasium(arguments, expected, ignored):
    env = make_env(Anything(MIXED), **arguments)
    assert shapes(env) == expected
    assert env.ignored == ignored


def test_a_grid_keeps_its_numbers():
    env = make_env(Anything(spaces.Dict({"image": GRID, "mission": spaces.Text(9)})))
    record = env.reset(0)
    np.testing.assert_array_equal(record["image"], env._observation["image"].ravel())
    assert record["image"].dtype == np.float32


@pytest.mark.parametrize("obs", ["image", "both"])
def test_an_image_beside_a_text(obs):
    space = spaces.Dict({"image": PICTURE, "mission": spaces.Text(9)})
    assert shapes(make_env(Anything(space), obs=obs, size=8)) == {"image": (8, 8, 3)}


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (spaces.Dict({0: TWO}), ["0"]),
        (spaces.Dict({0: TWO, "a": spaces.Dict({1: TWO, "b": TWO})}), None),
        (spaces.Dict({"a/b": TWO, "log/x": TWO}), ["a_b", "log_x"]),
        (spaces.Dict({"order": TWO, "file": TWO, "self": TWO}), None),
    ],
)
def test_names_of_entries(space, names):
    found = shapes(make_env(Anything(space)))
    names = names or {"order", "file", "self"} & found.keys() or {"0", "a_1", "a_b"}
    assert set(found) == set(names)


@pytest.mark.parametrize(
    ("space", "arguments", "sentence"),
    [
        (
            MIXED,
            {"obs_keys": "arm"},
            "obs_keys=arm fits none .* arm_angle, grid, speed",
        ),
        (MIXED, {"obs_keys": ".*"}, "mission.* is Text.*; --obs_keys can leave it out"),
        (MIXED, {"obs": "image"}, "stack.*; --obs_keys can leave it out"),
        (MIXED, {"obs_keys": "("}, "obs_keys is '\\(', which is no regular expression"),
        (MIXED, {"obs_keys": "a{9999999999}"}, "which is no regular expression"),
        (spaces.Dict({"t": spaces.Text(9)}), {}, "t.* is Text.*only Box, Discrete"),
        (spaces.Dict({"reward": TWO}), {}, "records use.*--obs_keys"),
        (spaces.Dict({"a/b": TWO, "a_b": TWO}), {}, 'Two .* called "a_b"'),
    ],
)
def test_choices_that_cannot_be_made(space, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        make_env(Anything(space), **arguments)


def test_a_record_s_own_name_can_be_left_out():
    space = spaces.Dict({"reward": TWO, "x": TWO})
    assert shapes(make_env(Anything(space), obs_keys="x")) == {"x": (2,)}


@pytest.mark.parametrize(
    ("task", "obs_keys", "expected"),
    [
        ("toy", "offset", {"offset": (2,)}),
        ("toy", "", {"position": (2,), "offset": (2,)}),
        ("dmc_cartpole_swingup", "vel.*", {"velocity": (2,)}),
        ("gym_CartPole-v1", "vector", {"vector": (4,)}),
    ],
)
def test_all_tasks_have_the_same_choice(task, obs_keys, expected):
    assert shapes(make_env(task, obs_keys=obs_keys)) == expected
    with pytest.raises(UserError, match="obs_keys=none fits none of the observation"):
        make_env(task, obs_keys="none")


def test_all_environments_of_a_run_say_what_they_ignore():
    with make_envs("toy", 2, obs_keys="position") as envs:
        assert envs.ignored == {"offset": "not in --obs_keys"}
        assert next(iter(envs.reset())) == "position"
