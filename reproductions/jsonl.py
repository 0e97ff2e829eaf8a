"""Logs that a run of the authors' programs leaves: scores.jsonl or metrics.jsonl.

A line is an object with `step`, in environment frames (their loggers multiply by the
action repeat), and, where a training episode ended, its return: `episode/score` as
DreamerV3 writes it or `train_return` as DreamerV2 does. Task and seed are those of the
config.yaml beside the file; without one the file must lie in <task>/<seed>/.
"""

import json
import math
import re
from pathlib import Path

import pandas as pd

from dreamer_tf.errors import UserError, reason
from reproductions import tasks

NAMES = ("scores.jsonl", "metrics.jsonl")  # the first that is there is read
# name of the return -> method that logs it so
RETURNS = {"episode/score": "dreamerv3", "train_return": "dreamerv2"}


def find(folder: Path) -> list[Path]:
    """One log per run below a folder."""
    found: dict[Path, Path] = {}
    for name in NAMES:
        for file in sorted(folder.glob(f"**/{name}")):
            found.setdefault(file.parent, file)
    return sorted(found.values())


def read(file: Path, benchmark: str, method: str = "") -> pd.DataFrame:
    """Columns frames, score, seed, task, version: a row per finished episode.

    Args:
      benchmark: to which the task belongs.
      method: its name in tables; empty: that of the program that logs so.

    Raises:
      UserError: a line is malformed, there is no episode, or task or seed are unknown.
    """
    task, seed = _run(file, benchmark)
    rows = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({reason(error)}).") from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number} is not a JSON object.")
        name = next((name for name in RETURNS if name in row), None)
        if name is None:
            continue
        values = row.get("step"), row[name]
        for field, value in zip(("step", name), values):
            if isinstance(value, bool) or not isinstance(value, int | float):
                fine = False
            else:
                fine = abs(value) < 1e15 and math.isfinite(value)
            if not fine or (field == "step" and value < 0):
                raise UserError(
                    f"{file} line {number} has the {field} {value!r}; a number is "
                    "needed."
                )
        rows.append((*values, method or RETURNS[name]))
    if not rows:
        raise UserError(
            f"{file} holds no finished episode: no line has {' or '.join(RETURNS)}."
        )
    points = pd.DataFrame(rows, columns=["frames", "score", "version"])
    return points.assign(task=task, seed=seed)


def _run(file: Path, benchmark: str) -> tuple[str, int]:
    """Task and seed, from config.yaml or from the folders' names."""
    config = file.parent / "config.yaml"
    if config.exists():
        text = config.read_text(encoding="utf-8", errors="replace")
        found = [
            re.search(rf"^{name}: *['\"]?([\w-]+)", text, re.M)
            for name in ("task", "seed")
        ]
        if not found[0]:
            raise UserError(f"{config} does not name the task.")
        # DreamerV2's settings have no seed that counts: the folder's name tells runs
        # apart, if it is a number.
        task, where = found[0][1], str(config)
        number = found[1][1] if found[1] else file.absolute().parent.name
    else:
        task, number = file.absolute().parts[-3:-1]
        where = f"The folder <task>/<seed> of {file} (it has no config.yaml)"
    if not re.fullmatch(r"\d{1,15}", number):
        raise UserError(f"{where} has the seed {number!r}; a whole number is needed.")
    return tasks.check_task(task, where, benchmark), int(number)
