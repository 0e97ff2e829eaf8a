"""The command line, with fake presets, agent and environment."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

import run
from dreamer_tf.configs import presets
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError
from dreamer_tf.training import build as building
from dreamer_tf.training import checkpoint, logdir, train
from dreamer_tf.training import load as load_module
from tests import fakes

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    def load(version, benchmark, protocol, task, obs):
        if version not in ("v1", "v3"):
            raise UserError(f"--version must be one of v1, v3, got '{version}'.")
        config = fakes.Config(ratio=0.25 if protocol == "lite" else 0.5)
        names = (version, benchmark, protocol or "nature", task or "walker_walk")
        return RunConfig(*names, steps=30), config

    def build(settings, config):
        if settings.task != "walker_walk":
            raise UserError(f"task '{settings.task}' is not known.")
        return fakes.make_components(settings, config)

    def load_agent(path):
        agent = fakes.FakeAgent()
        agent.load_state_dict(checkpoint.read_arrays(path / "agent.npz"))
        return agent

    monkeypatch.setattr(presets, "load", load)
    monkeypatch.setattr(train, "build", build)
    monkeypatch.setattr(load_module, "load_agent", load_agent)
    monkeypatch.setattr(building, "make_env", lambda *_, **__: fakes.FakeEnv())


def stored(path):
    return json.loads((path / "config.json").read_text())


def test_train_then_evaluate(tmp_path, capsys):
    command = ["train", "--version=v3", "--protocol=lite", f"--logdir={tmp_path}"]
    assert run.main([*command, "--steps=2e1", "--dyn.mults=5"]) == 0
    config = stored(tmp_path)
    assert config["run"]["steps"] == 20 and config["agent"]["dyn"]["mults"] == [5]
    assert config["agent"]["ratio"] == 0.25  # from the preset
    assert config["starts"][0]["command"][:3] == ["run.py", *command[:2]]
    assert run.main([*command, "--steps=30", "--dyn.mults=5"]) == 0
    assert "Continuing" in capsys.readouterr().out

    assert run.main(["evaluate", f"--logdir={tmp_path}", "--episodes=4"]) == 0
    (line,) = (tmp_path / logdir.EVALUATIONS).read_text().splitlines()
    how = json.loads(line)
    assert len(how.pop("scores")) == 4 and how.pop("frames") > 0
    assert how == {"mode": "eval", "episodes": 4, "seed": 0, "repeat": 1}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].split() == ["episode", "score", "decisions"]
    table = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.split(",")[3] for line in table[-4:]] == ["eval_cmd"] * 4
    assert [line.split(",")[0] for line in table[-4:]] == ["30"] * 4
    values = [float(line.split(",")[1]) for line in table[-4:]]
    mean = sum(values) / 4
    assert lines[-1].startswith(f"mean {mean:.1f}  std ")
    assert "4 episodes, mode eval, after 30 frames" in lines[-1]


def test_other_seeds_evaluate_other_episodes(tmp_path):
    assert run.main(["train", f"--logdir={tmp_path}", "--steps=5"]) == 0
    for seed in (0, 1, 1):
        command = ["evaluate", f"--logdir={tmp_path}", "--episodes=2"]
        assert run.main([*command, f"--seed={seed}"]) == 0
    table = (tmp_path / "scores.csv").read_text().splitlines()[-6:]
    assert table[:2] != table[2:4] and table[2:4] == table[4:]


def test_without_a_command_there_is_help(capsys):
    for argv in ([], ["--help"]):
        assert run.main(argv) == 0
        assert "python run.py train" in capsys.readouterr().out


def test_help_lists_the_presets_defaults(capsys, tmp_path):
    assert run.main(["train", "--protocol=lite", "--helpfull"]) == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(RunConfig):
        assert f"--{field.name}:" in text or f"--[no]{field.name}:" in text
    assert "--dyn.deter: width of the state" in text
    assert "'0.25'" in text and "DreamerV3" in text
    assert run.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--steps: budget in environment frames" in text
    assert "--dyn.deter" not in text
    assert run.main(["evaluate", "--help"]) == 0
    assert "--episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["trian"], "The command is 'trian', but must be one of train, evaluate"),
        (["train"], "--logdir is needed"),
        (["train", "--logdir=LOG", "--stpes=3"], "'stpes'. Did you mean: steps"),
        (["train", "--logdir=LOG", "--dyn.detr=3"], "Did you mean: dyn.deter"),
        (
            ["train", "--logdir=LOG", "--steps=-1"],
            "--steps must be at least 0, got -1.",
        ),
        (["train", "--logdir=LOG", "--steps=1.5"], "it must be a whole number."),
        (["train", "--logdir=LOG", "--envs=0"], "--envs must be at least 1, got 0."),
        (["train", "--logdir=LOG", "--obs=pixels"], "one of <proprio|image|both>"),
        (["train", "--logdir=LOG", "--version=v4"], "--version must be one of v1, v3"),
        (["train", "--logdir=LOG", "--task=walk"], "task 'walk' is not known."),
        (["train", "--logdir=LOG", "steps=3"], "'steps=3' is not a flag"),
        (["train", "--logdir=LOG", "--steps"], "Missing value for flag --steps"),
        (["evaluate"], "--logdir is needed"),
        (["evaluate", "--logdir=LOG"], "holds no run: no config.json there."),
        (["evaluate", "--logdir=LOG", "--episodes=0"], "it must be at least 1."),
        (["evaluate", "--logdir=LOG", "--mode=best"], "one of <eval|train|random>"),
    ],
)
def test_mistakes_are_one_sentence(argv, sentence, tmp_path, capsys):
    path = tmp_path / "run"
    assert run.main([part.replace("LOG", str(path)) for part in argv]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("run.py: ")
    assert error.count("\n") == 1
    assert not (path / "config.json").exists()


def test_a_logdir_of_another_config(tmp_path, capsys):
    command = ["train", f"--logdir={tmp_path}"]
    assert run.main(command) == 0
    before = stored(tmp_path)
    assert run.main([*command, "--dyn.deter=9"]) == 2
    assert "--dyn.deter was 8 there and is 9 now" in capsys.readouterr().err
    assert stored(tmp_path) == before


def test_evaluating_before_the_first_checkpoint(tmp_path, capsys):
    assert run.main(["train", f"--logdir={tmp_path}", "--steps=0"]) == 0
    assert run.main(["evaluate", f"--logdir={tmp_path}"]) == 2
    assert "There is no checkpoint in" in capsys.readouterr().err


def test_ctrl_c(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "build", interrupted)
    assert run.main(["train", f"--logdir={tmp_path}"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_a_mistake_is_one_line_without_notes_of_tensorflow():
    command = [sys.executable, "run.py", "train", "--version=v4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "run.py: The version is 'v4'; choose from v1, v2, v3.\n"


def test_help_and_mistakes_import_no_backend(tmp_path):
    commands = [[], ["--help"], ["trian"]]
    for name in ("train", "evaluate", "video", "export", "doctor"):
        commands += [[name, "--help"], [name, "--helpfull"], [name, "--logdri=x"]]
        commands += [[name, f"--logdir={tmp_path}", "now"]]
    for version in ("v1", "v2", "v3", "v4"):
        toy = ["train", f"--version={version}", "--benchmark=toy", "--protocol=lite"]
        commands += [[*toy, "--help"], [*toy, "--steps=-1"], [*toy, "--batch_size=0"]]
        commands += [[*toy, "--loss_scales.x=-1"], toy]
    for name in ("evaluate", "video", "export"):
        commands += [[name], [name, f"--logdir={tmp_path}"]]
    code = (
        f"import sys, run\nfor argv in {commands!r}:\n"
        "    asked = not argv or argv[-1].startswith('--help')\n"
        "    unknown = '--version=v4' in argv\n"
        "    assert run.main(argv) == (0 if asked and not unknown else 2), argv\n"
        "print({'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    lines = done.stderr.splitlines()
    assert all(line.startswith("run.py: ") for line in lines), lines
