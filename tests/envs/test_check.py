"""Every mistake an environment can make gets the sentence that says what to change."""

import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf.envs import check_env, check_record, make_env
from dreamer_tf.envs.base import action_box, box, image_box
from dreamer_tf.errors import UserError


class Faulty:
    """The toy task with one record or attribute spoilt."""

    def __init__(self, spoil=None, on=("reset", "step"), **attributes):
        self.env = make_env("toy", obs="both", size=8)
        self.obs_space, self.action_space = self.env.obs_space, self.env.action_space
        self.repeat = 1
        self.spoil, self.on = spoil or (lambda record: None), on
        for name, value in attributes.items():
            setattr(self, name, value)

    def reset(self, seed=None):
        record = self.env.reset(seed)
        return (self.spoil(record) if "reset" in self.on else None) or record

    def step(self, action):
        record = self.env.step(action)
        return (self.spoil(record) if "step" in self.on else None) or record


def change(name, value):
    return lambda record: record.update({name: value})


def drop(name):
    return lambda record: {n: v for n, v in record.items() if n != name}


NAN = np.array([0, np.nan], np.float32)
TRUE, ONE = np.array(True), np.float32(1)


def test_a_good_environment():
    assert "3 finished episodes" in check_env(Faulty(), steps=200)


@pytest.mark.parametrize(
    ("spoil", "on", "message"),
    [
        (change("position", NAN), "step", '"position" is not finite'),
        (change("position", NAN[:1]), "step", r'"position" has shape \(1,\).*\(2,\)'),
        (change("position", np.zeros(2)), "step", "float64.*float32"),
        (change("position", [0, 0]), "step", r'"position" has shape \(2,\)'),
        (
            change("image", np.zeros((8, 8, 3), "f")),
            "step",
            '"image" is float32.*uint8',
        ),
        (change("image", np.zeros((3, 8, 8), "u1")), "step", '"image" has shape'),
        (drop("position"), "step", '"position" is missing'),
        (drop("reward"), "step", '"reward" is missing'),
        (drop("is_first"), "reset", '"is_first" is missing'),
        (change("extra", ONE), "reset", '"extra".*declare'),
        (change("reward", np.ones(1, "f")), "step", r"reward is array.*shape \(\)"),
        (change("reward", 1.0), "step", r"reward is 1.0"),
        (change("reward", np.float32("inf")), "step", "reward is not finite"),
        (change("reward", np.float64(0)), "step", '"reward" is float64'),
        (change("reward", ONE), "reset", "reward after reset.*must be 0"),
        (change("action", np.ones(2, "f")), "reset", "action after reset"),
        (change("action", np.ones(2, "f")), "step", "record it as given"),
        (change("action", np.ones(3, "f")), "step", r'"action" has shape \(3,\)'),
        (change("is_first", ~TRUE), "reset", "is_first is false after reset"),
        (change("is_first", TRUE), "step", "is_first is true after step"),
        (change("is_last", TRUE), "reset", "is_last is true after reset"),
        (change("is_last", 1), "step", '"is_last" is 1: make it a bool'),
        (change("is_terminal", TRUE), "step", "is_terminal is true where is_last"),
        (lambda record: (record, {}), "reset", "reset.. returned a tuple"),
        (lambda record: (record, 0.0, False), "step", "step.. returned a tuple"),
    ],
)
def test_records(spoil, on, message):
    with pytest.raises(UserError, match=message):
        check_env(Faulty(spoil, (on,)), steps=3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("obs_space", spaces.Dict(), "obs_space is Dict"),
        ("obs_space", box((2,)), "make it a gymnasium.spaces.Dict"),
        ("obs_space", spaces.Dict(reward=box(())), "names? that records use|rename"),
        ("obs_space", spaces.Dict(x=spaces.Discrete(2)), "float32 Box, or a uint8"),
        ("obs_space", spaces.Dict(x=spaces.Box(0, 1, (2,), int)), "float32 Box"),
        ("obs_space", spaces.Dict(x=image_box(3, 64, 64)), "channels last"),
        ("action_space", spaces.Box(-2, 2, (1,)), "from -1 to 1"),
        ("action_space", spaces.Box(-1, 1, (1, 2)), "one dimension"),
        ("action_space", spaces.MultiBinary(2), "MultiBinary"),
        ("action_space", spaces.Discrete(2, start=1), "starts at 0"),
        ("repeat", 0, "repeat is 0"),
    ],
)
def test_spaces(name, value, message):
    with pytest.raises(UserError, match=message):
        check_env(Faulty(**{name: value}))


def test_declared_bounds():
    space = spaces.Dict(
        dict(
            make_env("toy", obs="both", size=8).obs_space.spaces, position=action_box(2)
        )
    )
    spoil = change("position", np.full(2, 3, np.float32))
    with pytest.raises(UserError, match=r"leaves the bounds.*3.0 to 3.0"):
        check_env(Faulty(spoil, obs_space=space))


def test_reused_arrays():
    buffer = np.zeros(2, np.float32)
    with pytest.raises(UserError, match="return a copy"):
        check_env(Faulty(change("position", buffer)))


def test_episodes_that_do_not_repeat():
    random = np.random.default_rng()

    def noise(record):
        record["position"] = random.uniform(size=2).astype(np.float32)

    with pytest.raises(UserError, match='another "position" after 0 steps'):
        check_env(Faulty(noise))


def test_something_else_altogether():
    with pytest.raises(UserError, match='"obs_space"'):
        check_env(object())


def test_check_record_accepts_what_environments_return():
    env = make_env("toy", obs="both", size=8)
    check_record(env.reset(0), env.obs_space)
    check_record(env.step(np.zeros(2)), env.obs_space)
