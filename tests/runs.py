"""Runs of the fake agent, and what runs leave, to be compared bit for bit."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.training import checkpoint, logdir, logs


def settings(path, **changes):
    changes = {"steps": 40, "eval_every": 20, "eval_episodes": 3} | changes
    return RunConfig(logdir=str(path), log_every=10, envs=2, **changes)


def metrics(path: Path) -> list[dict[str, Any]]:
    """Rows without what differs between machines."""
    return [
        {k: v for k, v in row.items() if not k.startswith("machine/")}
        for row in logs.read_metrics(path)
    ]


def scores(path: Path) -> list[str]:
    return (path / logs.SCORES).read_text().splitlines()


def stats(path: Path) -> list[str]:
    file = path / logs.STATS
    return file.read_text().splitlines() if file.exists() else []


def state(path: Path) -> dict[str, Any]:
    """All that is in the last checkpoint."""
    saved = checkpoint.latest(path / logdir.CHECKPOINTS)
    entries = ("loop", "schedule", "replay", "envs", "decision")
    found = {entry: checkpoint.read(saved, entry) for entry in entries}
    del found["loop"]["logs"]  # bytes that include the speed
    for file in (saved / checkpoint.PIECES).glob("*.npz"):
        found[f"replay/{file.name}"] = checkpoint.read_arrays(file)
    return found | {"agent": checkpoint.read_arrays(saved / "agent.npz")}


def everything(path: Path) -> dict[str, Any]:
    """Rows, scores, stats and the last checkpoint."""
    rows = {"metrics": metrics(path), "scores": scores(path), "stats": stats(path)}
    return state(path) | rows


def board_events(path):
    """Everything in the one TensorBoard file of a run."""
    (file,) = (path / "tb").iterdir()
    reader = PyRecordReader_New(str(file))
    events = []
    with pytest.raises(Exception, match=r"No more events|EOF|reached"):
        while True:
            reader.GetNext()
            events.append(Event.FromString(reader.record()))
    return events
