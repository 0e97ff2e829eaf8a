"""Directories of weights only, and the trained agents of the repository."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import run as command
from dreamer_tf import load_agent
from dreamer_tf.errors import UserError
from dreamer_tf.tools import export
from dreamer_tf.training import evaluate, load, logdir
from dreamer_tf.training.experience import Episode
from tests import fakes, test_v1, test_v2, test_v3

TESTS = {"v1": test_v1, "v2": test_v2, "v3": test_v3}
AGENTS = Path(__file__).parents[2] / "examples" / "agents"
SHAPES = {"x": (3,)}


@pytest.fixture(scope="module", params=TESTS)
def saved(request, tmp_path_factory):
    """An agent, and the directory of its weights only."""
    path = tmp_path_factory.mktemp("weights")
    (path / "run").mkdir()
    (path / "run" / "config.json").write_text("settings")
    agent = TESTS[request.param].tiny(SHAPES)
    rng = np.random.default_rng(0)
    agent.load_state_dict(
        {
            name: np.asarray(value + rng.integers(1, 9, value.shape), value.dtype)
            for name, value in agent.state_dict().items()
        }
    )
    (path / "out").mkdir()
    load.save_weights(agent, 120, path / "run", path / "out")
    return agent, path / "out"


def test_weights_are_what_acting_needs(saved):
    agent, path = saved
    names = {file.name for file in path.iterdir()}
    assert names == {"config.json", "agent.json", "agent.npz"}
    assert (path / "config.json").read_text() == "settings"
    found, frames = load.newest(path)
    assert frames == found.frames == 120
    expected, state = agent.state_dict(), found.state_dict()
    own = {"v1": 3, "v2": 3, "v3": 1}[agent.version]
    optimizers = {name.split("/")[0] for name in state if load._of_optimizer(name)}
    assert len(optimizers) == own
    for name, value in expected.items():
        if load._of_optimizer(name):
            assert not state[name].any(), name
        else:
            np.testing.assert_array_equal(state[name], value)
    with np.load(path / "agent.npz") as arrays:
        assert set(agent.params) < set(arrays)
        assert {"updates", "decisions"} < set(arrays)
        assert not any(load._of_optimizer(name) for name in arrays)


def test_damaged_weights(saved, tmp_path):
    _, path = saved
    for name, change, sentence in (
        ("agent.npz", lambda data: data[:-30], "holds no readable agent"),
        ("agent.json", lambda data: data[:-3], "agent.json is damaged"),
        (
            "agent.json",
            lambda data: data.replace(b": 120", b': "x"'),
            "damaged .invalid literal",
        ),
    ):
        damaged = tmp_path / sentence / name
        shutil.copytree(path, damaged)
        file = damaged / name
        file.write_bytes(change(file.read_bytes()))
        with pytest.raises(UserError, match=sentence):
            load.newest(damaged)


# --- The commands -------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    """A directory as the commands know it, with settings but without an agent."""
    (tmp_path / "agent.json").write_text("{}")
    shutil.copy(AGENTS / "v3_toy" / "config.json", tmp_path)
    return tmp_path


def test_training_does_not_go_on_from_weights(weights, capsys):
    before = sorted(weights.rglob("*"))
    argv = ["train", "--benchmark=toy", "--protocol=lite", f"--logdir={weights}"]
    assert command.main(argv) == 2
    error = capsys.readouterr().err
    assert "holds the weights of a trained agent only" in error
    assert sorted(weights.rglob("*")) in (before, [*before, weights / "lock"])


def test_an_evaluation_of_weights_writes_nothing(weights, monkeypatch, capsys):
    played = [Episode(0, 20.0 + i, 50, "eval", "eval", 0, i, i) for i in range(2)]
    agent = fakes.FakeAgent()
    agent.frames = 1234
    monkeypatch.setattr(evaluate, "newest", lambda path: (agent, 1234))
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: played)
    before = sorted(weights.rglob("*"))
    assert command.main(["evaluate", f"--logdir={weights}", "--episodes=2"]) == 0
    printed = capsys.readouterr().out
    assert "mean 20.5  std 0.5  (2 episodes, mode eval, after 1,234 frames)" in printed
    assert f"{weights} holds weights only: these scores are written nowhere." in printed
    assert sorted(weights.rglob("*")) == before


def test_exported_weights(weights, tmp_path, monkeypatch, capsys):
    agent = fakes.FakeAgent()
    agent.describe = lambda: {"version": "fake"}
    monkeypatch.setattr(export, "newest", lambda path: (agent, 77))
    argv = ["export", "--weights_only", f"--logdir={weights}"]
    for out in (weights / "weights", tmp_path / "a" / "b"):
        for _ in range(2):  # the second replaces the first
            assert command.main([*argv, f"--out={out}"]) == 0
            names = ("config.json", "agent.json", "agent.npz")
            assert capsys.readouterr().out.split() == [str(out / n) for n in names]
        about = json.loads((out / "agent.json").read_text())
        assert about == {"version": "fake", "seed": 0, "frames": 77}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    assert command.main([*argv, f"--out={tmp_path / 'other'}"]) == 2
    assert "holds thesis.tex and is not an earlier export" in capsys.readouterr().err


# --- The agents of the repository --------------------------------------------------


@pytest.mark.parametrize("version", TESTS)
def test_the_trained_agents_are_small_and_whole(version):
    path = AGENTS / f"{version}_toy"
    assert logdir.is_weights_only(path)
    assert sum(file.stat().st_size for file in path.iterdir()) < 2e6
    run = logdir.read(path)
    assert (run.version, run.task, run.protocol) == (version, "toy", "lite")
    assert run.logdir == f"logs/{version}_toy"
    meta = json.loads((path / "agent.json").read_text())
    assert meta["version"] == version and meta["frames"] >= 1000
    with np.load(path / "agent.npz") as arrays:
        assert all(np.isfinite(values).all() for values in arrays.values())
    (*_, start) = json.loads((path / "config.json").read_text())["starts"]
    assert start["commit"] and not start["commit"].endswith("-dirty")


@pytest.mark.slow
@pytest.mark.parametrize("version", TESTS)
def test_the_trained_agents_act_and_leave_git_clean(version, tmp_path):
    path = AGENTS / f"{version}_toy"
    rows = evaluate.evaluate_run(path, 5)
    assert np.mean([row.score for row in rows]) > 25  # random actions: 11
    assert load_agent(path).version == version
    out = f"--out={tmp_path}"
    assert command.main(["video", f"--logdir={path}", out, "--horizon=20"]) == 0
    how = ["git", "status", "--porcelain", "--", str(path)]
    status = subprocess.run(how, cwd=path, capture_output=True, text=True, check=True)
    assert status.stdout == ""
