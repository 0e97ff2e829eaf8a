"""Metrics to Weights & Biases and MLflow: with fakes, and really where installed."""

import functools
import importlib
import importlib.util
import io
import json
import sys
import types

import numpy as np
import pytest

import run as command
from dreamer_tf.errors import Interrupted, UserError
from dreamer_tf.training import track
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train as train_run
from tests import fakes
from tests.runs import everything, metrics, settings


def train(run):
    """Returns what is said."""
    stream = io.StringIO()
    config = fakes.Config(prefill=8, ratio=0.5)
    terminal = Terminal(run.steps, stream)
    train_run(run, config, ["test"], fakes.make_components, terminal=terminal)
    return stream.getvalue()


class Fake:
    """Both services at once: what they were asked to do is in `calls`."""

    def __init__(self, broken=""):
        self.calls, self.broken, self.offline = [], broken, True
        self.rows, self.status = [], None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*values, **named):
            self.calls.append((name, values, named))
            if name == self.broken:
                raise ConnectionError("the network\nis down.")
            return self

        return call

    def log(self, row):
        self.calls.append(("log", (row,), {}))
        if self.broken == "log":
            raise ConnectionError("the network\nis down.")
        self.rows.append(row)

    def log_batch(self, run, metrics=(), params=()):
        self.calls.append(("log_batch", (run, metrics, params), {}))
        if self.broken == "log" and metrics:
            raise ConnectionError("the network\nis down.")
        if metrics:
            (frames,) = {m[3] for m in metrics}
            self.rows.append({"frames": frames} | {m[0]: m[1] for m in metrics})

    def get_experiment_by_name(self, name):
        self.calls.append(("experiment", (name,), {}))
        return None

    def create_experiment(self, name, artifact_location):
        return "7"

    def create_run(self, experiment, run_name):
        self.calls.append(("create_run", (experiment, run_name), {}))
        if self.broken == "init":
            raise ConnectionError("the network\nis down.")
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def names(self):
        return [name for name, *_ in self.calls]


@pytest.fixture(params=["wandb", "mlflow"])
def service(request, monkeypatch):
    """Installs a fake package; returns its name, and what makes the next fake."""
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)

    def install(broken=""):
        fake = Fake(broken)
        module, sub = types.ModuleType(request.param), types.ModuleType("tracking")
        module.init, module.Image, module.Settings = fake.init, lambda x: x, dict
        module.entities = types.SimpleNamespace(
            Metric=lambda *parts: parts, Param=lambda *parts: parts
        )
        module.tracking, sub.MlflowClient = sub, lambda tracking_uri: fake
        monkeypatch.setitem(sys.modules, request.param, module)
        monkeypatch.setitem(sys.modules, f"{request.param}.tracking", sub)
        for name in ("sqlalchemy", "alembic"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        return fake

    return request.param, install


def test_rows_are_those_of_the_file(service, tmp_path):
    name, install = service
    fake, path = install(), tmp_path / "my logs" / "first"
    text = train(settings(path, track=name))
    rows = [
        {k: v for k, v in row.items() if not k.startswith("machine/")}
        for row in fake.rows
    ]
    assert rows == metrics(path)
    tracked = json.loads((path / track.TRACKED).read_text())[name]
    assert tracked["project" if name == "wandb" else "experiment"] == "my_logs"
    assert f"Tracked by {name}: " in text
    if name == "wandb":
        (_, _, init) = fake.calls[0]
        assert (init["project"], init["name"]) == ("my_logs", "first")
        assert init["id"] == tracked["id"] and init["dir"] == str(path)
        assert init["config"]["run"]["envs"] == 2
        assert fake.calls[-1] == ("finish", (), {"exit_code": 0})
    else:
        assert tracked["uri"] == f"sqlite:///{path.parent}/mlflow.db"
        assert ("create_run", ("7", "first"), {}) in fake.calls
        assert fake.calls[-1] == ("set_terminated", ("r1", "FINISHED"), {})
        parameters = [x for n, (*_, p), _ in fake.calls if n == "log_batch" for x in p]
        assert ("envs", "2") in parameters and ("dyn.mults", "2,3") in parameters


def test_a_tracked_run_is_the_same_run(service, tmp_path):
    name, install = service
    install()
    train(settings(tmp_path / "a", track=name))
    train(settings(tmp_path / "b"))
    assert not (tmp_path / "b" / track.TRACKED).exists()
    same, other = everything(tmp_path / "a"), everything(tmp_path / "b")
    assert str(same) == str(other)


def test_continuing_continues_the_tracked_run(service, tmp_path):
    name, install = service
    install()
    train(settings(tmp_path, steps=20, track=name))
    before = (tmp_path / track.TRACKED).read_text()
    fake = install()
    text = train(settings(tmp_path, track=name))
    assert f"Tracked as before by {name}" in text
    assert (tmp_path / track.TRACKED).read_text() == before
    assert min(row["frames"] for row in fake.rows) > 20
    if name == "wandb":
        assert fake.calls[0][2]["resume"] == "allow"
        assert fake.calls[0][2]["id"] == json.loads(before)[name]["id"]
    else:
        assert fake.calls[0] == ("update_run", ("r1",), {"status": "RUNNING"})
        assert "create_run" not in fake.names()


def test_a_run_that_was_not_tracked_may_be_from_now_on(service, tmp_path):
    name, install = service
    train(settings(tmp_path, steps=20))
    fake = install()
    text = train(settings(tmp_path, track=name))
    assert f"Continuing with --track={name}, before it was none." in text
    assert min(row["frames"] for row in fake.rows) > 20


def test_failures_end_nothing_and_are_said_once(service, tmp_path):
    name, install = service
    install("log")
    text = train(settings(tmp_path, track=name))
    sentence = "Tracking failed (the network is down): the run goes on without it."
    assert text.count(sentence) == 1 and text.count("Tracking failed") == 1
    assert "Finished: 40 frames" in text and metrics(tmp_path)[-1]["frames"] == 40


def test_a_failure_at_the_end(service, tmp_path):
    name, install = service
    install({"wandb": "finish", "mlflow": "set_terminated"}[name])
    text = train(settings(tmp_path, track=name))
    assert "Finished: 40 frames" in text and text.count("Tracking failed") == 1


def test_a_beginning_that_fails(service, tmp_path):
    """A new run is refused; one that was tracked before goes on."""
    name, install = service
    install("init")
    sentence = rf"--track={name} cannot begin \(the network is down\): .*, or leave "
    with pytest.raises(UserError, match=sentence):
        train(settings(tmp_path, track=name))
    assert not (tmp_path / "metrics.jsonl").exists()
    install()
    train(settings(tmp_path, steps=20, track=name))
    before = (tmp_path / track.TRACKED).read_text()
    install({"wandb": "init", "mlflow": "update_run"}[name])
    text = train(settings(tmp_path, track=name))
    assert "cannot begin (the network is down): the run goes on without it." in text
    assert "Finished: 40 frames" in text
    assert (tmp_path / track.TRACKED).read_text() == before


def test_an_interrupted_run_is_not_called_finished(service, tmp_path, monkeypatch):
    name, install = service
    fake, stops = install(), iter([0] * 6 + [15] * 99)
    monkeypatch.setattr(Terminal, "stop", lambda self: next(stops))
    with pytest.raises(Interrupted):
        train(settings(tmp_path, track=name))
    _, values, named = fake.calls[-1]
    assert (values, named) in [((), {"exit_code": 1}), (("r1", "KILLED"), {})]


@pytest.mark.parametrize("content", ["{", '{"wandb": 3, "mlflow": [1]}', "[]"])
def test_a_damaged_file(service, tmp_path, content):
    name, install = service
    install()
    train(settings(tmp_path, steps=20, track=name))
    (tmp_path / track.TRACKED).write_text(content)
    with pytest.raises(UserError, match=r"tracked.json is damaged .*: remove it"):
        train(settings(tmp_path, track=name))
    assert (tmp_path / track.TRACKED).read_text() == content
    train(settings(tmp_path))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)  # an import fails
    argv = ["train", "--benchmark=toy", f"--logdir={tmp_path}/x", f"--track={name}"]
    assert command.main(argv) == 2
    error = capsys.readouterr().err
    assert f"--track={name} needs a package that cannot be imported" in error
    package = {"wandb": "wandb", "mlflow": "mlflow-skinny sqlalchemy alembic"}[name]
    assert error.endswith(f": python -m pip install {package}\n")
    assert error.count("\n") == 1 and not (tmp_path / "x").exists()


def test_an_unknown_service(tmp_path, capsys):
    argv = ["train", "--benchmark=toy", f"--logdir={tmp_path}/x", "--track=tensorboard"]
    assert command.main(argv) == 2
    assert "none|wandb|mlflow" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_pictures_and_numbers_that_are_not_finite(service, tmp_path):
    name, install = service
    fake = install()
    tracker = track.start(settings(tmp_path, track=name), fakes.Config(), print)
    tracker.metrics(5, {"a/b": np.float32(1.5), "bad": float("nan"), "x": np.inf})
    assert fake.rows == [{"frames": 5, "a/b": 1.5}]
    picture = np.zeros((4, 4, 3), np.uint8)
    tracker.image(6, "openloop", picture)
    if name == "wandb":
        assert fake.rows[-1]["frames"] == 6 and fake.rows[-1]["openloop"] is picture
    else:
        call = ("log_image", ("r1", picture), {"key": "openloop", "step": 6})
        assert fake.calls[-1] == call


def test_names():
    assert track._allowed("loss/a b:c#é") == "loss/a b_c__"
    for directory, name in (("/a/b c/run", "b_c"), ("/run", "dreamer_tf")):
        assert track.project(track.Path(directory)) == name


# --- The real packages, where they are installed ------------------------------------

missing = functools.partial(pytest.mark.skipif, reason="it is not installed")


@missing(not importlib.util.find_spec("wandb"))
def test_really_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for steps in (20, 40):
        text = train(settings(tmp_path, steps=steps, track="wandb"))
        assert "Tracking failed" not in text
    name = json.loads((tmp_path / track.TRACKED).read_text())["wandb"]["id"]
    written = list((tmp_path / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))
    assert len(written) == 2
    assert all(b"train/return" in file.read_bytes() for file in written)


@missing(not importlib.util.find_spec("mlflow"))
def test_really_mlflow_in_a_file(tmp_path):
    from mlflow.tracking import MlflowClient

    path = tmp_path / "logs" / "first"
    for steps in (20, 40):
        text = train(settings(path, steps=steps, track="mlflow"))
        assert "Tracking failed" not in text
    known = json.loads((path / track.TRACKED).read_text())["mlflow"]
    client = MlflowClient(tracking_uri=known["uri"])
    run = client.get_run(known["run"])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["dyn.deter"] == "8"
    history = client.get_metric_history(known["run"], "train/return")
    expected = [row for row in metrics(path) if "train/return" in row]
    assert [(m.step, m.value) for m in history] == [
        (row["frames"], row["train/return"]) for row in expected
    ]
