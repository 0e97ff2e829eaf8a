"""Gymnasium environments: spaces, names, endings, errors."""

import sys

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


# --- What it gives is compared with its own space -------------------------------


class Fixed(gymnasium.Env):
    """Observes one value, and can be told what its methods do."""

    def __init__(self, space, value=None, action_space=None, **methods):
        self.observation_space, self.value = space, value
        self.action_space = action_space or spaces.Discrete(2)
        for name, method in methods.items():
            setattr(self, name, method)

    def reset(self, *, seed=None, options=None):
        return self.value, {}

    def step(self, action):
        return self.value, 1.0, False, False, {}


def first(space, value, obs="proprio", **arguments):
    return make_env(Fixed(space, value), obs=obs, **arguments).reset(0)


UINT8 = spaces.Box(0, 255, (16, 16, 3), np.uint8)
UNIT = spaces.Box(0, 1, (16, 16, 3))
SMALL = spaces.Box(-1, 1, (2,))
FREE = spaces.Box(-np.inf, np.inf, (2,))
WHOLE = spaces.Box(0, 5, (2,), np.int64)
THREE = spaces.Discrete(3)
ABOVE = spaces.Box(0, np.inf, (2,))


def full(value, dtype=None, shape=(16, 16, 3)):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (SMALL, [0, 1], [0, 1]),  # a list, whole numbers
        (SMALL, np.array([1.0000001, -1.0000001]), [1, -1]),  # rounding
        (SMALL, (True, False), [1, 0]),
        (ABOVE, np.array([0, 1e9]), [0, 1e9]),
        (WHOLE, np.array([0, 5], np.uint8), [0, 5]),
        (spaces.Box(0, 1, (2,), np.uint8), np.array([True, False]), [1, 0]),
        (spaces.Box(-1, 1, (2,), np.float16), np.array([1.0004, 0]), [1.0004, 0]),
        (THREE, 2, [0, 0, 1]),
        (THREE, np.uint8(1), [0, 1, 0]),
        (THREE, np.array(0), [1, 0, 0]),
        (THREE, True, [0, 1, 0]),
        (spaces.Discrete(3, start=-1), -1, [1, 0, 0]),
        (spaces.Dict({"vector": SMALL, "unread": SMALL}), None, [0.5, 0.5]),
    ],
)
def test_vectors_of_their_space(space, value, expected):
    if value is None:
        value = {"vector": [0.5, 0.5], "unread": [0, 0], "undeclared": "x"}
    result = first(space, value)["vector"]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (UINT8, full(7, np.uint8), 7),
        (UINT8, full(255, np.int64), 255),
        (UINT8, full(0, np.uint16).tolist(), 0),
        (UNIT, full(0.5), 128),
        (UNIT, full(0.25, np.float16), 64),
        (UNIT, full(1.0000001), 255),
        (UNIT, full(1, np.uint8), 255),
        (spaces.Box(0, 1, (16, 16, 4), np.float64), full(0.1, shape=(16, 16, 4)), 26),
    ],
)
def test_pictures_of_their_space(space, value, expected):
    picture = first(space, value, "image", size=16)["image"]
    assert picture.dtype == np.uint8 and picture.shape == space.shape
    assert (picture == expected).all()


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (UINT8, full(0.9), "float64, its space uint8"),
        (UINT8, full(3.0, np.float32), "float32, its space uint8"),
        (UINT8, full(np.nan), "float64, its space uint8"),
        (UINT8, full(True), "bool, its space uint8"),
        (UINT8, full(300), "holds 300, which is not within its bounds 0 to 255"),
        (UINT8, full(-1), "holds -1, which"),
        (UINT8, full(0, np.uint8, (16, 8, 3)), r"has shape \(16, 8, 3\), its space"),
        (UINT8, full(0, np.uint8, (32, 32, 3)), r"has shape \(32, 32, 3\), its"),
        (UINT8, full(0, np.uint8, (3, 16, 16)), r"has shape \(3, 16, 16\), its"),
        (UNIT, full(200, np.uint8), "holds 200, which is not within .* 0.0 to 1.0"),
        (UNIT, full(1.1), "holds 1.1"),
        (UNIT, full(np.nan), "diverged in 10 episodes.*a picture is not finite"),
        (SMALL, [0, 1.1], "holds 1.1, which is not within its bounds -1.0 to 1.0"),
        (SMALL, [[0, 1]], r"has shape \(1, 2\), its space \(2,\)"),
        (SMALL, 0.0, r"has shape \(\), its space \(2,\)"),
        (SMALL, np.zeros(2, complex), "not numbers"),
        (SMALL, np.array([0, None]), "not numbers"),
        (ABOVE, [1, -0.1], r"holds -0.1, which .* 0.0 to inf"),
        (WHOLE, [0.0, 1.0], "float64, its space int64"),
        (WHOLE, [0, 6], "holds 6"),
        (THREE, 3, "it is 3, not one of 0 to 2"),
        (THREE, -1, "it is -1, not one of 0 to 2"),
        (THREE, 1.0, "it is 1.0, not one whole number"),
        (THREE, np.array([1]), r"array\(\[1\]\), not one whole number"),
        (THREE, None, "it is None, not one whole number"),
        (spaces.Discrete(3, start=5), 4, "it is 4, not one of 5 to 7"),
        (spaces.Dict(vector=SMALL), [0, 0], r"\[0, 0\] is no dict"),
        (spaces.Dict(vector=spaces.Dict(x=SMALL)), {"vector": 1}, "1 is no dict"),
        (FREE, [0, np.nan], "diverged .*not finite: array.*nan"),
        (FREE, [np.inf, 0], "diverged .*not finite"),
        (FREE, [0, 1e39], "diverged .*not finite"),  # which float32 cannot hold
    ],
)
def test_values_that_are_not_of_their_space(space, value, message):
    obs = "image" if len(space.shape or ()) == 3 else "proprio"
    with pytest.raises(UserError, match=message) as error:
        first(space, value, obs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 255, (8, 84, 84), np.uint8), "at most 4 channels.*newest"),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), "channels last.*newest"),
        (spaces.Box(0, 255, (84, 84, 12), np.uint8), "at most 4 channels"),
        (spaces.Box(0, 255, (4, 64, 64, 3), np.uint8), "stack of frames.*newest"),
        (spaces.Box(0, 1, (4, 64, 64, 3)), "stack of frames.*newest"),
        (spaces.Box(0, 1, (3, 64, 64)), "channels last"),
        (spaces.Box(-1, 1, (64, 64, 3)), "float32 from -1.0 to 1.0.*FlattenObs"),
        (spaces.Box(0, 255, (64, 64, 3)), "float32 from 0.0 to 255.0"),
        (spaces.Box(0, 255, (64, 64, 3), np.int64), "int64 from 0 to 255"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda space: space, lambda s: spaces.Dict(image=s)])
def test_what_is_no_picture_is_refused_and_not_rendered(space, message, wrap):
    with pytest.raises(UserError, match=rf'"image" has shape.*{message}'):
        make_env(Anything(wrap(space)), obs="image")


def test_one_hot_takes_memory_for_one_vector_only():
    count = 500_000  # the square of this would be a terabyte
    vector = first(spaces.Discrete(count), count - 1)["vector"]
    assert vector.shape == (count,) and vector[-1] == vector.sum() == 1
    assert check_env(make_env(Anything(action_space=spaces.Discrete(count))), steps=2)
    for many in (10**7, 2**40):
        with pytest.raises(UserError, match=r"at most 1,000,000"):
            make_env(Anything(spaces.Discrete(many)))
        with pytest.raises(UserError, match=r"action space is Discrete.*1,000,000"):
            make_env(Anything(action_space=spaces.Discrete(many)))


@pytest.mark.parametrize(
    ("space", "value", "names"),
    [
        (spaces.Dict({0: SMALL}), {0: [0, 0]}, ["0"]),
        (spaces.Dict({7: SMALL, "b": THREE}), {7: [0, 0], "b": 1}, ["7", "b"]),
        (spaces.Dict(a=spaces.Dict({1: SMALL})), {"a": {1: [0, 0]}}, ["a_1"]),
        (spaces.Dict({(0, 1): SMALL}), {(0, 1): [0, 0]}, ["(0, 1)"]),
    ],
)
def test_keys_that_are_no_texts(space, value, names):
    record = first(space, value)
    assert list(record)[: len(names)] == names
    assert record[names[0]].tolist() == [0, 0]


def test_keys_that_become_one():
    with pytest.raises(UserError, match='called "0"'):
        make_env(Anything(spaces.Dict({0: SMALL, "0": SMALL})))


# --- What it gets lies in its own space -----------------------------------------


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(0, np.inf, (1,)), [0, 1, 2]),
        (spaces.Box(-np.inf, -7, (1,)), [-9, -8, -7]),
        (spaces.Box(-np.inf, np.inf, (1,), np.float64), [-1, 0, 1]),
        (spaces.Box(-1e10, 1e10, (1,)), [-1e10, 0, 1e10]),
        (spaces.Box(0.1, 0.3, (1,), np.float16), [0.1, 0.2, 0.3]),
        (spaces.Box(-4, 0, (), np.float64), [-4, -2, 0]),
        (spaces.Discrete(3, start=5), [5, 6, 7]),
    ],
)
def test_actions_lie_in_the_space(space, expected):
    inner = Anything(action_space=space)
    env = make_env(inner)
    env.reset(0)
    discrete = isinstance(space, spaces.Discrete)
    for action in np.eye(3) if discrete else ([-1], [0], [1], [-9], [9]):
        env.step(np.array(action))
    assert all(space.contains(action) for action in inner.actions)
    np.testing.assert_allclose(np.ravel(inner.actions[:3]), expected, rtol=1e-3)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 3, (1,), np.int64),
        spaces.Box(0, 1, (0,)),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Tuple([spaces.Box(0, 1, (999,))] * 9),
        spaces.MultiBinary(3),
        spaces.Text(5),
    ],
)
def test_action_spaces_that_are_refused(space):
    with pytest.raises(UserError, match="only Discrete and Box of floats") as error:
        make_env(Anything(action_space=space))
    assert len(str(error.value)) < 250


# --- Rendering -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((40, 60, 3), np.s_[2:13, :]),
        ((60, 40, 4), np.s_[:, 2:13]),
        ((16, 16, 3), np.s_[:, :]),
        ((4, 400, 3), np.s_[7:8, :]),
    ],
)
def test_renders_keep_their_proportions(shape, inside):
    env = make_env(Fixed(SMALL, [0, 0], render=lambda: full(9, np.uint8, shape)))
    picture = env.render(16)
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    assert (picture[inside] == 9).all()
    picture[inside] = 0
    assert not picture.any()


@pytest.mark.parametrize(
    ("render", "message"),
    [
        (None, r"has no render\(\).*--obs=proprio"),
        (lambda: None, "rendered as NoneType.*rgb_array"),
        (lambda: [full(0, np.uint8)], "rendered as list.*rgb_array"),
        (lambda: full(0.5), "float64, not uint8"),
        (lambda: full(300), "int64, not uint8"),
        (lambda: full(0, np.uint8, (16, 16)), r"shape \(16, 16\), not \[H, W, 3\]"),
        (lambda: full(0, np.uint8, (0, 16, 3)), r"shape \(0, 16, 3\)"),
        (lambda: 1 / 0, r"failed in render\(\) with ZeroDivisionError .*gymnasium.py:"),
    ],
)
def test_renders_that_are_none(render, message):
    env = Fixed(SMALL, [0, 0], **({"render": render} if render else {}))
    for call in (make_env(env).render, make_env(env, obs="image").reset):
        with pytest.raises(UserError, match=message):
            call()
    assert make_env(env).reset(0)["vector"].shape == (2,)  # which needs no render()


# --- Code that is not ours -------------------------------------------------------


class OldReset(Anything):
    def reset(self):
        return self.observation_space.sample()


class OldPair(Anything):
    def reset(self, seed=None, options=None):
        return {"a": 1, "b": 2}  # a dict of two entries is no (observation, info)


class OldStep(Anything):
    def step(self, action):
        return self.observation_space.sample(), 1.0, False, {}


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: wrappers(env)])
@pytest.mark.parametrize(
    ("kind", "method"), [(OldReset, "reset"), (OldPair, "reset"), (OldStep, "step")]
)
def test_the_old_gym_api_is_recognised(kind, method, wrap):
    env = make_env(wrap(kind()))
    line = getattr(kind, method).__code__.co_firstlineno
    pattern = (
        rf"has the old gym API at .*test_gymnasium.py:{line}.*its {method}\(\) has"
    )
    with pytest.raises(UserError, match=pattern):
        env.reset(0)
        env.step(np.zeros(2))


def wrappers(env):
    env = gymnasium.wrappers.OrderEnforcing(env)
    return gymnasium.wrappers.TimeLimit(env, 5)


def returning(*result):
    return lambda action: result


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (returning([0, 0], 1, np.array([True, False]), False, {}), "terminated is arr"),
        (returning([0, 0], 1, "no", False, {}), "terminated is 'no': return one bool"),
        (returning([0, 0], 1, False, None, {}), "truncated is None: return one bool"),
        (returning([0, 0], 10**400, False, False, {}), "reward is 100.*float32 can"),
        (returning([0, 0], 10**5000, False, False, {}), "reward is of type int"),
        (returning([0, 0], 1e39, False, False, {}), "reward is too large"),
        (returning([0, 0], "3", False, False, {}), "reward is '3': return one number"),
        (returning([0, 0], 1j, False, False, {}), "reward is 1j: return one number"),
        (returning([0, 0], np.nan, False, False, {}), "reward is not finite: nan"),
        (returning([0, 0], 1), r"step\(\) of Fixed returned \(\[0, 0\], 1\)"),
        (lambda action: None, r"step\(\) of Fixed returned None"),
        (lambda action: sys.exit(3), r"failed in step\(\) with SystemExit \(3\) at"),
        (lambda: None, r"failed in step\(\) with TypeError"),
    ],
)
def test_steps_that_return_something_else(step, message):
    env = make_env(Fixed(SMALL, [0, 0], step=step))
    env.reset(0)
    with pytest.raises(UserError, match=message) as error:
        env.step(np.array([1, 0]))
    assert "\n" not in str(error.value) and "/envs/gymnasium.py" not in str(error.value)


@pytest.mark.parametrize("flag", [True, np.True_, np.array(True), 1, np.array([True])])
def test_flags(flag):
    env = make_env(Fixed(SMALL, [0, 0], step=returning([0, 0], 1, flag, False, {})))
    env.reset(0)
    record = env.step(np.array([1, 0]))
    assert record["is_last"] and record["is_terminal"]


class NoSpace(gymnasium.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None):
        pass


class Bare(gymnasium.Env):
    """All of its methods are inherited."""

    action_space = spaces.Discrete(2)


class BrokenSpace(NoSpace):
    @property
    def observation_space(self):
        return {}["size"]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (NoSpace(), r"NoSpace at .*test_gymnasium.py:\d+ has no observation_space"),
        (Bare(), r"Bare at .*test_gymnasium.py:\d+ has no observation_space"),
        (BrokenSpace(), r"in observation_space\(\) with KeyError .*gymnasium.py:\d+"),
        (Fixed({"a": SMALL}), "as observation_space: set it to a space"),
        (object(), "must be a gymnasium.Env"),
    ],
)
def test_environments_without_spaces(env, message):
    with pytest.raises(UserError, match=message):
        make_env(env)


def test_the_line_is_the_users_though_a_library_raised_another_error():
    class Library(Anything):
        def step(self, action):
            try:
                return self.observation_space.seed("a")  # gymnasium raises
            except Exception as error:
                exec("raise RuntimeError('wrapped') from error", {"error": error})

    env = make_env(wrappers(Library()))
    env.reset(0)
    first_line = Library.step.__code__.co_firstlineno
    with pytest.raises(
        UserError, match=rf"test_gymnasium.py:{first_line + 4}: correct"
    ):
        env.step(np.zeros(2))


class Unprintable(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize("error", [Unprintable(), ValueError("x" * 10_000)])
def test_errors_that_cannot_be_shown_whole(error):
    def close():
        raise error

    with pytest.raises(UserError, match=r"failed in close\(\)") as caught:
        make_env(Fixed(SMALL, close=close)).close()
    assert len(str(caught.value)) < 600


# --- Arguments of the constructor -------------------------------------------------


class Configured(Anything):
    def __init__(self, width=1, tags=(), render_mode=None):
        super().__init__(spaces.Box(-1, 1, (width,)))
        if tags:
            raise LookupError(f"no such tags: {tags}")


class Unrendered(Anything):
    def __init__(self, width=1):
        super().__init__(spaces.Box(-1, 1, (width,)))


class Bare(gymnasium.Env):  # whose constructor takes nothing at all
    observation_space, action_space = SMALL, spaces.Discrete(2)
    reset, step = Fixed.reset, Fixed.step
    value = (0, 0)


gymnasium.register("Bare-v0", Bare)
gymnasium.register("Configured-v0", Configured)
gymnasium.register("Unrendered-v0", Unrendered)


def test_a_constructor_without_arguments():
    assert make_env("gym_Bare-v0").reset(0)["vector"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["Configured-v0", "Unrendered-v0"])
def test_arguments_reach_the_constructor(name):
    for width in (1, 5):
        env = make_env(f"gym_{name}", env_args={"width": width})
        assert env.reset(0)["vector"].shape == (width,)


@pytest.mark.parametrize(
    ("task", "env_args", "message"),
    [
        ("gym_Configured-v0", {"wdith": 2}, "unexpected keyword argument 'wdith'"),
        ("gym_Unrendered-v0", {"wdith": 2}, "unexpected keyword argument 'wdith'"),
        (
            "gym_Configured-v0",
            {"tags": [1]},
            r"no such tags: \[1\].*LookupError at .*test_gymnasium.py:\d+",
        ),
        ("gym_Bare-v0", {"width": 2}, r"Bare\(\) takes no arguments"),
        ("gym_CartPole-v1", {"id": "x"}, "cannot be made.*'id'"),
        ("toy", {"a": 1}, "env_args are for tasks gym_<id>.* but the task is toy"),
        ("walker_walk", {"a": 1}, "env_args are for tasks gym_<id>"),
    ],
)
def test_arguments_that_do_not_fit(task, env_args, message):
    with pytest.raises(UserError, match=message):
        make_env(task, env_args=env_args)


def test_arguments_of_a_constructed_environment_come_too_late():
    with pytest.raises(UserError, match="constructed already"):
        make_env(Anything(), env_args={"a": 1})
