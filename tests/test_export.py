"""Exported policies: they act as the agent does, and need nothing but TensorFlow."""

import dataclasses
import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from gymnasium import spaces

import run as command
from dreamer_tf import engine, load_agent, v3
from dreamer_tf.agent import POLICY
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError
from dreamer_tf.tools import export
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import test_v1, test_v2, test_v3

if keras.backend.backend() != "tensorflow":
    pytest.skip("a SavedModel is made by TensorFlow", allow_module_level=True)

import tensorflow as tf

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
    act_alike(agent, tmp_path, names, mode, size)


def act_alike(agent, out, names, mode, size):
    """Compares agent and export step by step, each with its own state."""
    policy = tf.saved_model.load(str(out / "policy"))
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
print(action.tolist())
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
    assert act["inputs"]["obs_offset"] == {"shape": [None, 2], "dtype": "float32"}
    assert act["outputs"]["action"] == {"shape": [None, 2], "dtype": "float32"}
    agent = load_agent(trained)
    with np.load(out / "weights.npz") as weights:
        assert {name.split("/")[0] for name in weights} == {"enc", "dyn", "pol"}
        for name, value in weights.items():
            np.testing.assert_array_equal(value, agent.variables[name])

    assert len(about["usage"]) == 6
    seed = engine.seed(agent.seed, POLICY, agent.decisions).tolist()
    usage = "\n".join(about["usage"]).replace("[0, 0]", str(seed))
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
    np.testing.assert_allclose([json.loads(printed)], action, TOLERANCE, TOLERANCE)
    act_alike(agent, out, about["names"], "eval", 1)


NAMES = ("policy", "weights.npz", "export.json")


def fake_policy(agent, mode, directory):
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

    def full(agent, mode, directory):
        fake_policy(agent, mode, directory)
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
