"""Gymnasium environments: spaces, names, endings, errors."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf.envs import check_env, make_env
from dreamer_tf.errors import UserError


class Anything(gymnasium.Env):
    """Samples any observation space; ends as told."""

    def __init__(self, observation_space=None, action_space=None, end=None, reward=1.0):
        self.observation_space = observation_space or spaces.Box(-1, 1, (3,))
        self.action_space = action_space or spaces.Box(-1, 1, (2,))
        self.render_mode = "rgb_array"
        self.end, self.reward, self.actions, self.seeds = end, reward, [], []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.actions.append(action)
        terminated, truncated = self.end == "terminated", self.end == "truncated"
        sample = self.observation_space.sample()
        return sample, self.reward, terminated, truncated, {}

    def render(self):
        return np.full((40, 60, 3), 7, np.uint8)


IMAGE = spaces.Box(0, 255, (20, 30, 3), np.uint8)
NESTED = spaces.Dict(
    {
        "arm": spaces.Dict(
            {"angle": spaces.Box(-1, 1, (2,)), "grip": spaces.Discrete(3)}
        ),
        "eye": IMAGE,
        "level": spaces.Box(-1, 1, ()),
    }
)


@pytest.mark.parametrize("task", ["gym_CartPole-v1", "gym_Pendulum-v1"])
def test_known_environments(task):
    assert check_env(make_env(task))


def test_a_constructed_environment():
    assert check_env(make_env(Anything(NESTED), obs="both", size=16))


@pytest.mark.parametrize(
    ("obs", "expected"),
    [
        ("proprio", {"arm_angle": (2,), "arm_grip": (3,), "level": ()}),
        ("image", {"eye": (16, 16, 3)}),
        (
            "both",
            {"arm_angle": (2,), "arm_grip": (3,), "eye": (16, 16, 3), "level": ()},
        ),
    ],
)
def test_nested_entries(obs, expected):
    env = make_env(Anything(NESTED), obs=obs, size=16)
    assert {n: s.shape for n, s in env.obs_space.spaces.items()} == expected
    record = env.reset(0)
    for name, shape in expected.items():
        assert record[name].shape == shape
        assert record[name].dtype == (np.uint8 if name == "eye" else np.float32)


def test_discrete_observations_are_one_hot():
    class Counter(Anything):
        def reset(self, *, seed=None, options=None):
            return 6, {}

    env = make_env(Counter(spaces.Discrete(4, start=5)))
    assert env.reset(0)["vector"].tolist() == [0, 1, 0, 0]


def test_images_are_averaged_over_areas():
    class Checkers(Anything):
        def reset(self, *, seed=None, options=None):
            image = np.zeros((8, 8, 3), np.uint8)
            image[::2, ::2] = 200
            return image, {}

    env = make_env(
        Checkers(spaces.Box(0, 255, (8, 8, 3), np.uint8)), obs="image", size=4
    )
    assert (env.reset(0)["image"] == 50).all()


def test_gray_images_get_a_channel():
    env = make_env(Anything(spaces.Box(0, 255, (8, 8), np.uint8)), obs="image", size=8)
    assert env.reset(0)["image"].shape == (8, 8, 1)


def test_environments_without_images_are_rendered():
    env = make_env(Anything(), obs="both", size=16)
    record = env.reset(0)
    assert record["image"].shape == (16, 16, 3)
    # 40 x 60 pixels become 11 x 16; what is left above and below is black.
    assert (record["image"][2:13] == 7).all()
    assert not record["image"][:2].any() and not record["image"][13:].any()
    assert record["vector"].shape == (3,)


@pytest.mark.parametrize(
    ("end", "last", "terminal"),
    [(None, False, False), ("terminated", True, True), ("truncated", True, False)],
)
def test_endings(end, last, terminal):
    env = make_env(Anything(end=end))
    env.reset(0)
    record = env.step(np.zeros(2))
    assert record["is_last"] == last
    assert record["is_terminal"] == terminal


def test_box_actions_are_scaled_and_shaped():
    space = spaces.Box(
        np.array([[0.0, -2.0]]), np.array([[4.0, 2.0]]), dtype=np.float64
    )
    inner = Anything(action_space=space)
    env = make_env(inner)
    env.reset(0)
    env.step(np.array([1, -0.5]))
    assert inner.actions[0].tolist() == [[4, -1]]
    assert inner.actions[0].dtype == np.float64


def test_discrete_actions_start_where_they_say():
    inner = Anything(action_space=spaces.Discrete(3, start=-1))
    env = make_env(inner)
    env.reset(0)
    env.step(np.array([0, 0, 1]))
    assert inner.actions == [1]
    assert env.action_space == spaces.Discrete(3)


def test_seeds_reach_the_environment():
    inner = Anything()
    env = make_env(inner, seed=4)
    for seed in (None, None, 9):
        env.reset(seed)
    assert inner.seeds == [4, None, 9]


def test_pendulum_equals_gymnasium():
    env, theirs = make_env("gym_Pendulum-v1", repeat=2), gymnasium.make("Pendulum-v1")
    env.reset(3)
    theirs.reset(seed=3)
    record = env.step(np.array([0.25]))
    rewards = [theirs.step(np.array([0.5], np.float32))[1] for _ in range(2)]
    assert float(record["reward"]) == pytest.approx(sum(rewards), rel=1e-5)


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        (Anything(spaces.Tuple([IMAGE])), {}, "Tuple.*FlattenObservation"),
        (Anything(spaces.Dict(a=spaces.MultiBinary(3))), {}, '"a" is MultiBinary'),
        (Anything(action_space=spaces.MultiDiscrete([2])), {}, "MultiDiscrete.*wrap"),
        (Anything(action_space=spaces.Box(0, 3, (1,), int)), {}, "Box.*floats"),
        (Anything(spaces.Box(0, 255, (3, 64, 64), np.uint8)), {}, "channels last"),
        (Anything(IMAGE), {"obs": "proprio"}, "--obs=image"),
        (Anything(spaces.Dict(reward=spaces.Discrete(2))), {}, 'entry "reward"'),
        (
            Anything(spaces.Dict({"a": spaces.Dict(b=IMAGE), "a_b": IMAGE})),
            {"obs": "both"},
            'called "a_b"',
        ),
        (
            Anything(spaces.Dict(image=spaces.Discrete(2))),
            {"obs": "both"},
            'called "image"',
        ),
        (Anything(), {"camera": 1}, "camera"),
    ],
)
def test_what_does_not_fit(env, arguments, message):
    with pytest.raises(UserError, match=message):
        make_env(env, **arguments)


def test_reward_must_be_a_number():
    env = make_env(Anything(reward=np.zeros(2)))
    env.reset(0)
    with pytest.raises(UserError, match=r"reward has shape \(2,\)"):
        env.step(np.zeros(2))


def test_an_environment_that_cannot_be_rendered():
    class Blind(Anything):
        def render(self):
            return None

    with pytest.raises(UserError, match="rgb_array"):
        make_env(Blind(), obs="image").reset(0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("gym_Cartpole-v1", "did you mean gym_CartPole-v1"),
        ("gym_no_such_module:X-v0", "no_such_module"),
        ("gym_a b", "Malformed"),
    ],
)
def test_unknown_ids(task, message):
    with pytest.raises(UserError, match=message):
        make_env(task)
