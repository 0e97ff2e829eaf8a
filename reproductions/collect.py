"""Copies the results of finished runs into `results/runs`, which `report` reads.

    python -m reproductions.collect --out=results/runs LOGDIR [LOGDIR ...]

A LOGDIR may also be a folder with runs below it. Written are one CSV per task,
`<protocol>/<version>/<benchmark>/<task>.csv`, with a row per episode and the run's seed
in the column `seed`, and a manifest.json that says how each run was made. A run
replaces the rows of its own task and seed; other rows stay.
"""

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from absl import app, flags

from dreamer_tf import output
from dreamer_tf.configs import fields
from dreamer_tf.errors import UserError, reason, sentence
from dreamer_tf.files import write_atomic
from dreamer_tf.training import logs
from dreamer_tf.training.logdir import LOCK
from reproductions import protocols, scores, tasks


def collect(logdirs: Iterable[str | Path], out: str | Path) -> list[Path]:
    """Adds the runs to the results; returns the score files written.

    Raises:
      UserError: a directory holds no run, an unfinished or a damaged one, or the
        results cannot be read or written.
    """
    # All runs are read before anything is written: one that cannot be read leaves the
    # results as they are.
    runs = [(path, *read(path)) for path in scores.find_runs(logdirs)]
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        # Others may collect into the same results at the same time.
        with open(Path(out) / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _add(runs, Path(out))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({reason(error)}).") from error


def _add(runs: Iterable[tuple[Path, dict, dict]], out: Path) -> list[Path]:
    """Adds runs as `read` returns them; returns the score files written."""
    written = []
    for logdir, run, made in runs:
        rows = scores.read_episodes(logdir / "scores.csv").assign(seed=run["seed"])
        where = str(logdir / "config.json")
        task = tasks.check_task(run["task"], where, run["benchmark"])
        places = (run["protocol"], run["version"], run["benchmark"])
        folder = out.joinpath(*places)
        file, manifest = folder / f"{task}.csv", folder / "manifest.json"
        if file.exists():
            scores.read_csv(file)  # raises if it is damaged
            old = pd.read_csv(file)
            rows = pd.concat([old[old.seed != run["seed"]], rows])
        rows = rows.sort_values(["seed", "kind", "frames", "env", "episode"])
        text = rows.round({"score": 3}).to_csv(index=False)
        content = scores.read_json(manifest) if manifest.exists() else {}
        content |= dict(zip(("protocol", "version", "benchmark"), places))
        every = {**scores.check_runs(content, str(manifest))}
        every[f"{task}/{run['seed']}"] = made
        content["runs"] = dict(sorted(every.items()))
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(file, text.encode())
        write_atomic(manifest, (json.dumps(content, indent=1) + "\n").encode())
        written.append(file)
    return written


def read(logdir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a finished run, and how it was made.

    Raises:
      UserError: it is not finished, or reports could not read its files.
    """
    if scores.read_logdirs([logdir]).empty:
        raise UserError(f"{logdir / 'scores.csv'} holds no episode that counts.")
    where = logdir / "config.json"
    config = scores.read_json(where)
    try:
        run = config["run"]
        reached = last_row(logdir / "metrics.jsonl").get("frames", 0)
        if reached < run["steps"]:
            raise UserError(
                f"{logdir} has {reached} of {run['steps']} frames; finish the run "
                "before collecting it."
            )
        made = describe(logdir, config)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{logdir} does not say how its run was made ({reason(error)}): "
            "config.json or metrics.jsonl is damaged."
        ) from error
    if run["protocol"] not in protocols.PROTOCOLS:
        raise UserError(
            f"{where} names the unknown protocol {run['protocol']!r}; valid are "
            f"{', '.join(protocols.PROTOCOLS)}."
        )
    return run, made


def describe(logdir: Path, config: dict) -> dict:
    """How a run was made: command, commit, versions, machine, time."""
    start = config["starts"][-1]
    row = last_row(logdir / "metrics.jsonl")
    command = [a for a in start["command"] if not a.startswith("--logdir=")]
    return {
        "command": " ".join(["python", *command]),
        "frames": row["frames"],
        "updates": row["updates"],
        "changed": protocols.changes(config),
        "hours": round(hours(logdir / "metrics.jsonl"), 3),
        **{k: start[k] for k in ("commit", "time", "backend", "python", "machine")},
        "packages": start["packages"],
    }


def hours(metrics: Path) -> float:
    """Hours that a run took, from the speeds it has logged."""
    total, before = 0.0, 0
    for row in rows_of(metrics):
        speed = row.get("machine/frames_per_second")
        if isinstance(speed, float) and speed > 0:
            total += (row["frames"] - before) / speed / 3600
            before = row["frames"]
    return total


def last_row(metrics: Path) -> dict:
    """The last row of metrics.jsonl with training metrics; {} if there is none."""
    rows = list(rows_of(metrics))
    return next((row for row in reversed(rows) if "updates" in row), {})


def rows_of(metrics: Path) -> Iterator[dict]:
    """The rows of metrics.jsonl; a warning names lines that are damaged.

    Raises:
      UserError: it cannot be read.
    """
    try:
        yield from logs.read_metrics(metrics.parent, output.warn)
    except OSError as error:
        raise UserError(f"{metrics} cannot be read ({reason(error)}).") from error


def main(argv: list[str]) -> None:
    try:
        if len(argv) < 2:
            raise UserError("No run directory is given; name at least one.")
        for file in dict.fromkeys(
            collect(map(os.path.expanduser, argv[1:]), flags.FLAGS.out)
        ):
            output.say(f"Written: {file}")
    except (UserError, OSError) as error:
        output.warn(f"reproductions.collect: {sentence(error)}")
        sys.exit(2)


if __name__ == "__main__":
    fields.define_folder("out", "results/runs", "folder of the results")
    with output.protected():
        app.run(main, flags_parser=fields.parser("reproductions.collect"))
