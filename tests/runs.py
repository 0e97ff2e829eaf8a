"""What equal runs leave, to be compared bit for bit."""

from pathlib import Path
from typing import Any

from dreamer_tf.training import checkpoint, logdir, logs


def metrics(path: Path) -> list[dict[str, Any]]:
    """Rows without what differs between machines."""
    return [
        {k: v for k, v in row.items() if not k.startswith("machine/")}
        for row in logs.read_metrics(path)
    ]


def scores(path: Path) -> list[str]:
    return (path / logs.SCORES).read_text().splitlines()


def state(path: Path) -> dict[str, Any]:
    """All that is in the last checkpoint."""
    saved = checkpoint.latest(path / logdir.CHECKPOINTS)
    parts = ("loop", "schedule", "replay", "envs", "decision")
    found = {part: checkpoint.read(saved, part) for part in parts}
    del found["loop"]["logs"]  # bytes that include the speed
    for file in (saved / checkpoint.PIECES).glob("*.npz"):
        found[f"replay/{file.name}"] = checkpoint.read_arrays(file)
    return found | {"agent": checkpoint.read_arrays(saved / "agent.npz")}


def everything(path: Path) -> dict[str, Any]:
    """Rows, scores and the last checkpoint."""
    return state(path) | {"metrics": metrics(path), "scores": scores(path)}
