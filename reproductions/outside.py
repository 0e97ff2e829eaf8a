"""Scores from other people's logs: files of the Dreamer authors or of TD-MPC2."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from dreamer_tf.errors import UserError
from reproductions import jsonl, scores, tasks


def read_outside(
    path: str | Path, benchmark: str = "", method: str = ""
) -> pd.DataFrame:
    """Reads a score file of the Dreamer authors or TD-MPC2, or a folder of them.

    *.json, *.json.gz: a list of {task, method, seed, xs, ys}, xs in frames.
    *.csv: columns step (frames), reward, seed; the task is the file's name.
    *.jsonl: a run's own log (see `jsonl`).

    Args:
      benchmark: needed unless the file's name begins with one
        (`dmc_vision-dreamerv3.json.gz`).
      method: its name in tables; empty: as in the JSON file, the name of the folder of
        a CSV file, or the program that writes such a log.

    Raises:
      UserError: a file is missing or malformed, or its benchmark is not known.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"The outside log {path} does not exist.")
    files = [path]
    if path.is_dir():
        files = sorted(
            p for p in path.glob("**/*") if re.search(r"\.(csv|json|json\.gz)$", p.name)
        ) + jsonl.find(path)
    if not files:
        raise UserError(
            f"{path} holds no outside logs (*.csv, *.json, *.json.gz, scores.jsonl, "
            "metrics.jsonl)."
        )
    frames = [_read_outside_file(file, benchmark, method) for file in files]
    return scores.combine(frames)


def _read_outside_file(file: Path, benchmark: str, method: str) -> pd.DataFrame:
    prefix = next((b for b in tasks.BENCHMARKS if file.name.startswith(b)), "")
    if not (benchmark or prefix):
        raise UserError(
            f"{file} does not say which benchmark it is of; give --outside_benchmark="
            f"{' or '.join(tasks.BENCHMARKS)}."
        )
    if file.suffix == ".csv":
        table = scores.read_table(file, ["step", "reward", "seed"])
        scores.make_numbers(table, file, ["step", "reward", "seed"])
        points = table.rename(columns={"step": "frames", "reward": "score"})
        points["task"] = tasks.check_task(file.stem, str(file))
        points["version"] = method or file.absolute().parent.name
    elif file.suffix == ".jsonl":
        points = jsonl.read(file, method)
    else:
        points = _author_points(file, method)
    points["benchmark"] = benchmark or prefix
    points["protocol"] = scores.OUTSIDE
    points["kind"], points["changed"] = "train", ""  # the only kind they have
    # Names become ids in the page.
    points["version"] = points.version.str.replace(r"\W+", "_", regex=True)
    # Evaluations at frame 0 are of the untrained policy.
    return points.loc[points.frames > 0, scores.POINTS]


def _author_points(file: Path, method: str) -> pd.DataFrame:
    runs = scores.read_json(file, kind=list)
    frames = []
    for index, run in enumerate(runs):
        where = f"Entry {index} of {file}"
        fields = ("task", "method", "seed", "xs", "ys")
        missing = [k for k in fields if not isinstance(run, dict) or run.get(k) is None]
        if missing:
            raise UserError(f"{where} lacks {missing[0]!r}; it needs {fields}.")
        if not (isinstance(run["xs"], list) and isinstance(run["ys"], list)):
            raise UserError(f"{where} must have lists as xs and ys.")
        if len(run["xs"]) != len(run["ys"]):
            raise UserError(f"{where} has {len(run['xs'])} xs but {len(run['ys'])} ys.")
        try:
            columns = {"frames": run["xs"], "score": run["ys"]}
            points = pd.DataFrame(columns, dtype=np.float64).astype(np.float64)
            seed = int(run["seed"])
        except (TypeError, ValueError):
            raise UserError(f"{where} has entries that are not numbers.") from None
        if np.isinf(points.to_numpy()).any():
            raise UserError(f"{where} has entries that are infinite.")
        points["seed"] = seed
        points["task"] = tasks.check_task(str(run["task"]), where)
        points["version"] = method or str(run["method"])
        # A few published runs have NaN at frames for which nothing was logged.
        frames.append(points.dropna(subset=["frames", "score"]))
    if not frames:
        raise UserError(f"{file} holds no runs.")
    key = ["version", "task", "seed"]
    twice = pd.concat([f[key].head(1) for f in frames]).duplicated()
    if twice.any():
        raise UserError(f"Entry {int(twice.argmax())} of {file} repeats a run.")
    return pd.concat(frames, ignore_index=True)
