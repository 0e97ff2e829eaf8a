"""Stands in for run.py: the same lock, checkpoints and files, and no training.

    python standin.py train --version=v3 ... --logdir=L [--pause=0.1] [--crash=2000:1]

A score follows from the one before, so a wrong continuation shows. `--pause` is
slept per 1000 frames; `--crash=F:N` fails at F frames, N times. Every start is noted
in `<logdir>.starts`.
"""

import contextlib
import dataclasses
import io
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from dreamer_tf.configs.run import RunConfig  # noqa: E402
from dreamer_tf.errors import UserError  # noqa: E402
from dreamer_tf.training import checkpoint, logdir, logs  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Config:
    pass


def command(*more: str):
    """For `grid.run`: starts this file with a cell's own arguments and more."""
    return lambda cell, out: [
        sys.executable,
        __file__,
        *cell.command(out)[2:],
        *more,
    ]


def main(argv: list[str]) -> int:
    given = dict(argument[2:].split("=", 1) for argument in argv[1:])
    pause, crash = float(given.pop("pause", 0)), given.pop("crash", "0:0")
    numbers = {name: int(given.pop(name)) for name in ("seed", "steps")}
    run = RunConfig(**given, **numbers, repeat=2)
    path = Path(run.logdir)
    with logdir.locked(path):
        logdir.check(run, Config())
        with contextlib.redirect_stdout(io.StringIO()):
            logdir.write(run, Config(), argv)
        saves = checkpoint.Checkpoints(path / logdir.CHECKPOINTS)
        saved = saves.latest()
        state = {"frames": 0, "value": run.seed, "logs": None}
        if saved:
            state = checkpoint.read(saved[0], "loop")
        with open(path.with_suffix(".starts"), "a") as file:
            file.write(f"{state['frames']} {os.getpid()}\n")
        files = logs.Logs(path, state["logs"], state["frames"])
        while state["frames"] < run.steps:
            time.sleep(pause)
            frames = state["frames"] = state["frames"] + 1000
            state["value"] = (state["value"] * 389 + int(run.version[1])) % 1000
            row = {"updates": frames / 10, "machine/frames_per_second": 500.0}
            files.metrics(frames, row)
            kind = "eval" if run.version == "v1" else "train"
            value = float(state["value"])
            files.score(
                logs.Episode(frames, value, 500, kind, kind, 0, frames // 1000, 0)
            )
            _crash(path.with_suffix(".crashes"), frames, crash)
            if frames % 2000 == 0 or frames >= run.steps:
                state["logs"] = files.state()
                saves.save(frames, {"loop": state})
    return 0


def _crash(file: Path, frames: int, crash: str) -> None:
    at, times = map(int, crash.split(":"))
    before = int(file.read_text()) if file.exists() else 0
    if frames == at and before < times:
        file.write_text(str(before + 1))
        raise RuntimeError(f"told to crash at {at} frames")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"run.py: {error}", file=sys.stderr)
        sys.exit(2)
