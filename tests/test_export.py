"""Exported policies: they act as the agent does, and need nothing but TensorFlow."""

import copy
import dataclasses
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import gymnasium as gym
import keras
import numpy as np
import pytest
from gymnasium import spaces

import run as command
from dreamer_tf import engine, load_agent, v1, v2, v3
from dreamer_tf.agent import POLICY, make_agent
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import action_size, make_env
from dreamer_tf.envs import observations as seen_by_agents
from dreamer_tf.errors import UserError
from dreamer_tf.tools import export
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import test_v1, test_v2, test_v3

if keras.backend.backend() != "tensorflow":
    pytest.skip("a SavedModel is made by TensorFlow", allow_module_level=True)

import tensorflow as tf

from dreamer_tf.tools import own as own_module

# The agent's policy is compiled by XLA, the SavedModel is not and merges the rows of
# a batch in its own way: sums are rounded differently, in their last digits.
TOLERANCE = 1e-6

VECTORS = {"x": (3,), "m": (2, 2)}
IMAGE, BOTH = {"image": (64, 64, 3)}, {"x": (3,), "image": (64, 64, 3)}
SETTINGS = dataclasses.replace(
    RunConfig(), task="toy", steps=6, length=5, repeat=2, video_every=0
)


def noisy(agent):
    """Adds noise to the weights: at the start some of them make all outputs zero."""
    rng = np.random.default_rng(1)
    for variable in agent.variables.values():
        if "float" in variable.dtype:
            value = np.asarray(variable)
            variable.assign(value + rng.normal(0, 0.1, value.shape).astype("f4"))
    return agent


def observations(agent, size, steps=6):
    """Random observations; all episodes begin at the first, one begins again later."""
    rng = np.random.default_rng(2)
    for step in range(steps):
        obs = {
            key: rng.integers(0, 256, (size, *shape)).astype(np.uint8)
            if len(shape) == 3
            else rng.normal(size=(size, *shape)).astype(np.float32)
            for key, shape in agent.shapes.items()
        }
        obs["is_first"] = np.full(size, step == 0)
        obs["is_first"][0] |= step == 3
        yield obs


def case(test, shapes, actions, mode, size, slow=True, **changes):
    name = f"{test.__name__[-2:]}-{'-'.join(shapes)}-{mode}"
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(
        test, shapes, actions, mode, size, changes, marks=marks, id=name
    )


MANY, BOX = spaces.Discrete(3), test_v3.BOX
MANY_ROOMS = spaces.Discrete(4, start=1)


@pytest.mark.parametrize(
    ("test", "shapes", "actions", "mode", "size", "changes"),
    [
        case(test_v1, VECTORS, BOX, "eval", 1, slow=False),
        case(test_v1, VECTORS, BOX, "train", 2, expl_decay=1000.0, expl_min=0.1),
        case(test_v1, BOTH, MANY, "eval", 3),
        case(test_v1, IMAGE, MANY, "train", 2, expl="epsilon_greedy"),
        case(test_v2, BOTH, MANY, "eval", 2, slow=False, every_rank=True),
        case(test_v2, VECTORS, BOX, "train", 3, every_rank=True),
        case(test_v2, IMAGE, BOX, "eval", 1, eval_state_mean=True),
        case(test_v3, VECTORS, MANY, "train", 2),
        case(test_v3, BOTH, BOX, "eval", 1),
        case(test_v3, IMAGE, MANY, "eval", 3),
    ],
)
def test_acts_as_the_agent(test, shapes, actions, mode, size, changes, tmp_path):
    agent = noisy(test.tiny(shapes, actions, **changes))
    agent.frames = 2000
    names = export.save_policy(agent, mode, tmp_path)["names"]
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    act_alike(agent, policy, names, mode, size)
    step_alike(agent, policy, names, mode)


def act_alike(agent, policy, names, mode, size):
    """Compares agent and export step by step, each with its own state."""
    state, found = agent.initial_state(size), policy.initial_state(size)
    for obs in observations(agent, size):
        seed = engine.seed(agent.seed, POLICY, agent.decisions)
        action, state = agent.policy(obs, state, mode)
        seen = {names["obs"][key]: obs[key] for key in agent.shapes}
        now = {"is_first": obs["is_first"], "seed": seed}
        found = dict(policy.act(**seen, **found, **now))
        close(found.pop("action"), action)
        for key, name in names["state"].items():
            close(found[name], state[key])
        assert len(found) == len(state)


def step_alike(agent, policy, names, mode):
    """Compares agent and `step`; here the environment's own is as the agent's."""
    state, found = agent.initial_state(1), policy.initial_state(1)
    for obs in observations(agent, 1):
        if obs["is_first"][0]:
            found = policy.initial_state(1)
        seed = engine.seed(agent.seed, POLICY, agent.decisions)
        action, state = agent.policy(obs, state, mode)
        seen = {names["obs"][key]: obs[key][0] for key in agent.shapes}
        found = dict(policy.step(**seen, **found, seed=seed))
        carried_out = action[0].argmax() if agent.discrete else action[0].clip(-1, 1)
        np.testing.assert_allclose(
            found.pop("action"), carried_out, TOLERANCE, TOLERANCE
        )
        for key, name in names["state"].items():
            close(found[name], state[key])


# --- The environment's own observations and actions --------------------------------


class Rooms(gym.Env):
    """Nested, of many types, with an entry that agents cannot use; pictures."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Dict(
                {"x/y": spaces.Box(-5, 5, (2,), np.float64), "room": MANY_ROOMS}
            ),
            "said": spaces.Text(5),
            "lights": spaces.Box(0, 1, (3,), np.bool_),
            "view": spaces.Box(0, 255, (40, 21, 3), np.uint8),
            "depth": spaces.Box(0, 1, (30, 30, 1), np.float32),
            "map": spaces.Box(0, 255, (9, 7), np.uint8),
        }
    )
    action_space = spaces.Box(
        np.array([[0, -3], [-np.inf, 1]], "f4"), np.array([[1, 8], [np.inf, np.inf]])
    )

    def __init__(self):
        self.observation_space = copy.deepcopy(self.observation_space)

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Lever(gym.Env):
    """One whole number is seen, one is done; neither is counted from 0."""

    observation_space = spaces.Discrete(5, start=-2)
    action_space = spaces.Discrete(3, start=4)
    render_mode, metadata = "rgb_array", {"render_modes": ["rgb_array"]}

    def reset(self, *, seed=None, options=None):
        self.seen = -2
        return self.seen, {}

    def step(self, action):
        self.seen = (self.seen + 3) % 5 - 2
        return self.seen, 0.0, False, False, {}

    def render(self):
        rng = np.random.default_rng(self.seen + 2)
        return rng.integers(0, 256, (50, 70, 3), np.uint8)


def given(env, entry, observation):
    """What the environment gives for an entry, as callers have it."""
    value = env.render() if entry.source == "env.render()" else observation
    for key in entry.keys:
        value = value[key]
    return value


class Watched(gym.Wrapper):
    """Remembers what it observed and what it was given to do."""

    def reset(self, **arguments):
        self.seen, info = super().reset(**arguments)
        return self.seen, info

    def step(self, action):
        self.taken = action
        self.seen, *rest = super().step(action)
        return self.seen, *rest


def cart_pole():
    return gym.make("CartPole-v1")


def pendulum():
    return gym.make("Pendulum-v1")


ALL = [(make, "proprio") for make in (cart_pole, pendulum, Rooms, Lever)]
ALL += [(make, obs) for make in (Rooms, Lever) for obs in ("image", "both")]


@pytest.mark.parametrize(("make", "obs"), ALL)
def test_the_environments_own_interface(make, obs):
    """The same numbers as the adapter's, to the last bit."""
    env = Watched(make())
    adapter = make_env(env, obs=obs)
    own, record = adapter.own(), adapter.reset(seed=3)
    assert [entry.name for entry in own.entries] == list(adapter.obs_space.spaces)
    rng = np.random.default_rng(0)
    for _ in range(6):
        for entry in own.entries:
            value = given(env, entry, env.seen)
            value = tf.convert_to_tensor(value, own_module.spec(entry, "x").dtype)
            found = own_module.observed(entry, value, record[entry.name].shape)
            assert found.dtype == record[entry.name].dtype
            np.testing.assert_array_equal(found, record[entry.name])
        size = action_size(adapter.action_space)
        action = rng.uniform(-1.5, 1.5, size).astype(np.float32)
        record = adapter.step(action)
        found = own_module.carried_out(own.action, tf.constant(action)).numpy()
        assert env.action_space.contains(found)
        np.testing.assert_array_equal(found, env.taken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "test", "obs"),
    [
        pytest.param(cart_pole, test_v3, "proprio", id="v3-CartPole"),
        pytest.param(pendulum, test_v2, "proprio", id="v2-Pendulum"),
        pytest.param(Rooms, test_v3, "both", id="v3-Rooms"),
        pytest.param(Lever, test_v1, "image", id="v1-Lever"),
    ],
)
def test_on_the_raw_environment(make, test, obs, tmp_path):
    """Two environments: one behind the adapter with the agent, one without either."""
    adapter, mine = make_env(Watched(make()), obs=obs), make()
    kind = {test_v1: v1, test_v2: v2, test_v3: v3}[test]
    config = updated(kind.Config(), test.TINY)
    spaces_of = adapter.obs_space, adapter.action_space
    agent = noisy(make_agent(kind.__name__[-2:], *spaces_of, config))
    own = adapter.own()
    names = export.save_policy(agent, "eval", tmp_path, own)["names"]["obs"]
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    state, record = agent.initial_state(1), adapter.reset(seed=3)
    found, (observation, _) = policy.initial_state(1), mine.reset(seed=3)
    for _ in range(8):
        seed = engine.seed(agent.seed, POLICY, agent.decisions).tolist()
        obs = {key: record[key][None] for key in [*agent.shapes, "is_first"]}
        action, state = agent.policy(obs, state, "eval")
        record = adapter.step(action[0])
        seen = {names[e.name]: given(mine, e, observation) for e in own.entries}
        found = dict(policy.step(**seen, **found, seed=seed))
        action = found.pop("action").numpy()
        observation = mine.step(action)[0]
        np.testing.assert_allclose(action, adapter._env.taken, 1e-5, 1e-5)


def test_what_is_described():
    adapter = make_env(Rooms(), obs_keys="place.*")
    names = {"place_x_y": "obs_place_x_y", "place_room": "obs_place_room"}
    shapes = {"place_x_y": (2,), "place_room": (4,)}
    about = own_module.described(adapter.own(), names, shapes)
    assert about == {
        "observations": {
            "obs_place_x_y": {
                "from": "observation['place']['x/y']",
                "shape": [2],
                "dtype": "float64",
                "becomes": "its numbers as float32",
            },
            "obs_place_room": {
                "from": "observation['place']['room']",
                "shape": [],
                "dtype": "int64",
                "becomes": "one-hot",
            },
        },
        "action": {
            "shape": [2, 2],
            "dtype": "float32",
            "low": [[0.0, -3.0], [None, 1.0]],
            "high": [[1.0, 8.0], [None, None]],
        },
    }
    room, place = 'np.zeros((), "int64")', 'np.zeros((2,), "float64")'
    zeros = f"{{'place': {{'room': {room}, 'x/y': {place}}}}}"
    line = export._usage(adapter.own(), names)[3]
    assert line == f"observation = {zeros}  # observation"
    own = make_env(Lever(), obs="image").own()
    about = own_module.described(own, {"image": "i"}, {"image": (64, 64, 3)})
    assert about["observations"]["i"]["from"] == "env.render()"
    assert about["observations"]["i"]["shape"] == [None, None, 3]
    assert about["action"] == {
        "shape": [],
        "dtype": "int64",
        "is": "a whole number from 4",
    }


def test_suite_tasks_take_time_steps():
    with make_env("dmc_reacher_easy") as env:
        own = env.own()
    assert {e.name: (e.keys, e.shape, e.dtype) for e in own.entries} == {
        "position": (("position",), (2,), "float64"),
        "to_target": (("to_target",), (2,), "float64"),
        "velocity": (("velocity",), (2,), "float64"),
    }
    assert own.action.dtype == "float64"
    moved = own_module.carried_out(own.action, tf.constant([3.0, -0.25]))
    np.testing.assert_array_equal(moved, [1, -0.25])


@pytest.mark.parametrize("height", [1, 7, 64, 89, 210])
@pytest.mark.parametrize("width", [1, 16, 64, 160])
def test_pictures_are_resized_as_by_the_adapter(height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for rows, columns in ((64, 64), (49, 8), (12, 97)):
        np.testing.assert_array_equal(
            own_module.resize(tf.constant(picture), rows, columns),
            seen_by_agents.resize(picture, rows, columns),
        )
    np.testing.assert_array_equal(
        own_module.scene(tf.constant(picture), 64), seen_by_agents.scene(picture, 64)
    )


def test_an_environment_that_has_changed():
    with make_env("toy") as env:
        agent = SimpleNamespace(obs_space=env.obs_space, action_space=env.action_space)
    for changed, sentence in (
        ({"obs": "both"}, "toy observes .* now, but the agent was trained with"),
        ({"task": "toy_discrete"}, "takes actions .'discrete': 9. now, but the agent"),
    ):
        with pytest.raises(UserError, match=sentence):
            export._own(dataclasses.replace(SETTINGS, **changed), agent)
    assert export._own(SETTINGS, agent).action.shape == (2,)


def close(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, TOLERANCE, TOLERANCE)


@pytest.mark.slow
def test_half_precision(tmp_path):
    """bfloat16 has two or three digits, so only shapes and types are compared."""
    agent = test_v3.tiny(BOTH, precision="bfloat16")
    export.save_policy(agent, "eval", tmp_path)
    policy = tf.saved_model.load(str(tmp_path / "policy"))
    obs = next(observations(agent, 2))
    action, state = agent.policy(obs, agent.initial_state(2), "eval")
    seen = {f"obs_{key}": obs[key] for key in agent.shapes}
    now = {"is_first": obs["is_first"], "seed": np.zeros(2, np.int32)}
    found = policy.act(**seen, **policy.initial_state(2), **now)
    assert np.isfinite(found["action"]).all()
    for name, value in {"action": action, "state_deter": state["deter"]}.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)


def test_names_are_identifiers_and_differ():
    names = export._names("obs", ["a b", "a_b", "a/b", "höhe"])
    assert list(names.values()) == ["obs_a_b", "obs_a_b_", "obs_a_b__", "obs_h_he"]


# --- The command -------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The logdir of a run that has not learned anything yet."""
    path = tmp_path_factory.mktemp("run")
    run = dataclasses.replace(SETTINGS, logdir=str(path))
    config = updated(v3.Config(), test_v3.TINY)
    train(run, config, [], None, Terminal(0, io.StringIO()))
    return path


# Packages that are installed here but may not be where the exported policy acts.
ABSENT = ("dreamer_tf", "keras", "tf_keras", "tensorflow_probability", "tests")
ALONE = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT}))  # None: an import fails
USAGE
assert not any(map(sys.modules.get, {ABSENT}))
print([one.tolist(), action.tolist()])
"""


def test_the_files_need_only_tensorflow(trained, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert command.main(["export", f"--logdir={trained}", f"--out={out}"]) == 0
    files = capsys.readouterr().out.split()
    assert files == [str(out / name) for name in ("policy", *NAMES[1:])]
    assert {file.name for file in out.iterdir()} == set(NAMES)
    assert not [file for file in out.parent.iterdir() if file != out]

    about = json.loads((out / "export.json").read_text())
    assert (about["version"], about["mode"], about["frames"]) == ("v3", "eval", 7)
    assert about["env"]["task"] == "toy" and about["env"]["repeat"] == 2
    assert about["config"]["dyn"]["deter"] == test_v3.TINY["dyn.deter"]
    assert about["obs_space"]["dict"]["offset"] == {"box": [2], "dtype": "float32"}
    act, start = (about["functions"][name] for name in ("act", "initial_state"))
    assert start["inputs"] == {"batch_size": {"shape": [], "dtype": "int32"}}
    assert start["outputs"].keys() == act["outputs"].keys() - {"action"}
    step = about["functions"]["step"]
    assert step["inputs"]["obs_offset"] == {"shape": [2], "dtype": "float32"}
    assert step["outputs"]["action"] == {"shape": [2], "dtype": "float32"}
    assert about["environment"]["action"]["low"] == [-1.0, -1.0]
    assert act["inputs"]["obs_offset"] == {"shape": [None, 2], "dtype": "float32"}
    assert act["outputs"]["action"] == {"shape": [None, 2], "dtype": "float32"}
    agent = load_agent(trained)
    with np.load(out / "weights.npz") as weights:
        assert {name.split("/")[0] for name in weights} == {"enc", "dyn", "pol"}
        for name, value in weights.items():
            np.testing.assert_array_equal(value, agent.variables[name])

    seed = engine.seed(agent.seed, POLICY, agent.decisions).tolist()
    usage = "\n".join([*about["usage_of_act"], "one = action", *about["usage"]])
    usage = usage.replace("[0, 0]", str(seed))
    printed = subprocess.run(
        [sys.executable, "-c", ALONE.replace("USAGE", usage)],
        cwd=out,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    obs = {key: np.zeros((1, *shape), "f4") for key, shape in agent.shapes.items()}
    obs["is_first"] = np.ones(1, bool)
    action, _ = agent.policy(obs, agent.initial_state(1), "eval")
    of_act, of_step = json.loads(printed)
    np.testing.assert_allclose([of_act], action, TOLERANCE, TOLERANCE)
    np.testing.assert_allclose([of_step], action.clip(-1, 1), TOLERANCE, TOLERANCE)
    policy = tf.saved_model.load(str(out / "policy"))
    act_alike(agent, policy, about["names"], "eval", 1)


NAMES = ("policy", "weights.npz", "export.json")


def fake_policy(agent, mode, directory, own):
    """Stands in for `save_policy`, which takes seconds."""
    (directory / "policy").mkdir()
    (directory / "weights.npz").write_text(mode)
    return {}


def test_an_earlier_export_is_replaced(trained, monkeypatch):
    monkeypatch.setattr(export, "save_policy", fake_policy)
    out = trained / "export"
    for mode in ("eval", "train"):
        assert command.main(["export", f"--logdir={trained}", f"--mode={mode}"]) == 0
        assert (out / "weights.npz").read_text() == mode
    (out / "policy" / "mine").write_text("")

    def full(agent, mode, directory, own):
        fake_policy(agent, mode, directory, own)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_policy", full)
    with pytest.raises(UserError, match=r"be written \(No space left on device\)"):
        export.export_run(trained)
    assert (out / "policy" / "mine").exists()
    assert not [file for file in trained.iterdir() if file.name.startswith(".")]


def test_other_files_are_left_alone(trained, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for out, sentence in (
        ("out", "holds thesis.tex and is not an earlier export"),
        ("file", "is a file"),
        ("file/out", "file/out cannot be written (File exists"),
    ):
        argv = ["export", f"--logdir={trained}", f"--out={tmp_path / out}"]
        assert command.main(argv) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
    assert {f.name for f in tmp_path.rglob("*")} == {"out", "thesis.tex", "file"}


def test_mistakes_are_one_sentence(trained, tmp_path, monkeypatch, capsys):
    nothing = tmp_path / "nothing"
    for argv, sentence in (
        ([], "--logdir is needed"),
        ([f"--logdir={nothing}"], "holds no run: no config.json there."),
        ([f"--logdir={trained}", "--mode=random"], "one of <eval|train>"),
    ):
        assert command.main(["export", *argv]) == 2
        assert sentence in capsys.readouterr().err
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    with pytest.raises(UserError, match="There is no checkpoint in"):
        export.export_run(tmp_path)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="run this command with KERAS_BACKEND=tensor"):
        export.export_run(trained, tmp_path / "out")
    assert {f.name for f in tmp_path.rglob("*")} == {"config.json"}
