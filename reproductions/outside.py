"""Scores from other people's logs: files of the Dreamer authors or of TD-MPC2."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dreamer_tf import output
from dreamer_tf.errors import UserError
from reproductions import jsonl, scores, tasks


def read_outside(
    paths: str | Path | Sequence[str | Path], benchmark: str = "", method: str = ""
) -> pd.DataFrame:
    """Reads score files of the Dreamer authors or TD-MPC2, or folders of them.

    *.json, *.json.gz: a list of {task, method, seed, xs, ys}, xs in frames.
    *.csv: columns step (frames), reward, seed; the task is the file's name.
    *.jsonl: a run's own log (see `jsonl`).

    Of a folder, CSV files of tasks that the benchmark lacks are left out, with a
    warning.

    Args:
      benchmark: needed unless the file's name begins with one
        (`dmc_vision-dreamerv3.json.gz`).
      method: its name in tables; empty: as in the JSON file, the name of the folder of
        a CSV file, or the program that writes such a log.

    Raises:
      UserError: a file is missing or malformed, its benchmark is not known, or two
        methods have names that differ in their signs only.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        files += _files(Path(path), benchmark)
    frames = [_read_outside_file(file, benchmark, method) for file in files]
    # Names become ids in the page.
    names: dict[str, tuple[str, Path]] = {}
    for file, points in zip(files, frames):
        points["version"] = points.version.map(str)
        for name in points.version.unique():
            other, where = names.setdefault(_id(name), (name, file))
            if other != name:
                raise UserError(
                    f"The methods {other!r} of {where} and {name!r} of {file} would "
                    "have one name in tables: rename one, or give it by "
                    "--outside_method."
                )
        points["version"] = points.version.map(_id)
    return scores.combine(zip(files, frames))


def _id(name: str) -> str:
    """A method's name as it stands in tables."""
    return re.sub(r"\W+", "_", name)


def _files(path: Path, benchmark: str) -> list[Path]:
    """The logs at a path."""
    if not path.exists():
        raise UserError(f"The outside log {path} does not exist.")
    if not path.is_dir():
        if not re.search(r"\.(csv|json|json\.gz|jsonl)$", path.name):
            raise UserError(
                f"{path} is no log: valid are *.csv, *.json, *.json.gz and *.jsonl, or "
                "a folder of them."
            )
        return [path]
    names = r"\.(csv|json|json\.gz)$"
    files = sorted(p for p in path.glob("**/*") if re.search(names, p.name))
    foreign = [p for p in files if p.suffix == ".csv" and not _knows(benchmark, p)]
    if foreign and len(foreign) < len(files):
        output.warn(
            f"{path}: left out {', '.join(p.name for p in foreign[:5])}"
            f"{' and others' * (len(foreign) > 5)}: no task of {benchmark}."
        )
        files = [p for p in files if p not in foreign]
    files += jsonl.find(path)
    if not files:
        raise UserError(
            f"{path} holds no outside logs (*.csv, *.json, *.json.gz, scores.jsonl, "
            "metrics.jsonl)."
        )
    return files


def _knows(benchmark: str, file: Path) -> bool:
    """Whether the benchmark has the task that the file is named after."""
    if not benchmark:  # then the file's name says it
        return True
    try:
        tasks.check_task(file.stem, str(file), benchmark)
    except UserError:
        return False
    return True


def _read_outside_file(file: Path, benchmark: str, method: str) -> pd.DataFrame:
    # The longest one: atari100k-dreamerv3.json.gz is not of atari.
    begins = [b for b in tasks.BENCHMARKS if file.name.startswith(b)]
    benchmark = benchmark or max(begins, key=len, default="")
    if not benchmark:
        raise UserError(
            f"{file} does not say which benchmark it is of; give --outside_benchmark="
            f"{' or '.join(tasks.BENCHMARKS)}."
        )
    if file.suffix == ".csv":
        table = scores.read_table(file, ["step", "reward", "seed"])
        scores.make_numbers(table, file, ["step", "reward", "seed"])
        points = table.rename(columns={"step": "frames", "reward": "score"})
        points["task"] = tasks.check_task(file.stem, str(file), benchmark)
        points["version"] = method or file.absolute().parent.name
    elif file.suffix == ".jsonl":
        points = jsonl.read(file, benchmark, method)
    else:
        points = _author_points(file, benchmark, method)
    points["benchmark"] = benchmark
    points["protocol"] = scores.OUTSIDE
    points["kind"], points["changed"] = "train", ""  # the only kind they have
    # Evaluations at frame 0 are of the untrained policy.
    points = points.loc[points.frames > 0, scores.POINTS]
    if points.empty or points.frames.max() < 1:
        raise UserError(
            f"{file} has no score at a frame of 1 or more; frames are environment "
            "frames, action repeat included."
        )
    return points.copy()


def _author_points(file: Path, benchmark: str, method: str) -> pd.DataFrame:
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
            seed = run["seed"]
            seed = int(seed) if isinstance(seed, str) else seed
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{where} has entries that are not numbers.") from None
        if np.isinf(points.to_numpy()).any():
            raise UserError(f"{where} has entries that are infinite.")
        if (points.frames < 0).any() or (points.frames > scores.MOST).any():
            raise UserError(
                f"{where} has frames that are not from 0 to {scores.MOST:g}."
            )
        points["seed"] = scores.check_seed(seed, where)
        points["task"] = tasks.check_task(str(run["task"]), where, benchmark)
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
