"""Scores from files: our runs and the published data.

Everything that is read becomes one table of *points*, one row per episode (or per point
of an outside log, see `outside`):

    benchmark, protocol, version, task, seed, frames, score, kind, changed

`frames` is the environment frame at which the episode ended, action repeat included;
`changed` holds the flags whose values differ from the run's protocol, usually "".
`budget_scores` then applies the rule by which the papers' tables were made.
"""

import gzip
import json
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dreamer_tf import output
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import parse_json
from dreamer_tf.training import score_rows
from reproductions import protocols, rules, stats, tasks
from reproductions.rules import METHODS as METHODS
from reproductions.rules import OUTSIDE as OUTSIDE

COLUMNS = score_rows.COLUMNS
CELL = ["benchmark", "protocol", "version", "task"]
POINTS = [*CELL, "seed", "frames", "score", "kind", "changed"]
RANDOM = "random"  # kind of a training episode of the random policy
FIFTHS = 5  # parts of a budget over which a whole run is averaged
FINISHED = 0.90  # budgets of which runs have reached this share are scored
MOST = 1e15  # frames of any run, at most: beyond, floats are no whole numbers


# --- The scoring rule -------------------------------------------------------


def budget_scores(
    points: pd.DataFrame, budget: int, smooth: bool = False
) -> pd.DataFrame:
    """Score of every run at a budget, by the published rule (see `rules`).

    E is the largest frame <= budget over the seeds of a task. A seed's score is the
    mean of its points in the rule's window before E, or, if there are none, its last
    point if that is late enough. Where published points are means, points are averaged
    likewise first. Tasks whose E is below 80 % of the budget, and runs that ended
    before 90 % of it, have no score.

    Args:
      smooth: the mean over the last 10 % of the budget instead.

    Returns: CELL columns, seed, budget, score, points (how many were averaged).
    """
    rows = []
    reported = reported_points(points)
    reached = points.groupby([*CELL, "seed"]).frames.max()
    for cell, group in reported.groupby(CELL, sort=False):
        rule = rules.rule(*map(str, cell[:3]))
        if rule.bins:
            group = binned(group, rule.width(budget), rule.bins[1])
        limit = budget if smooth else rule.limit(budget)
        group = group[group.frames <= limit]
        if group.empty or group.frames.max() < rule.latest * budget:
            continue
        end = budget if rule.at_budget or smooth else group.frames.max()
        start = end - (rules.SMOOTH * budget if smooth else rule.window(budget))
        for seed, run in group.groupby("seed"):
            if reached[(*cell, seed)] < rule.finished * budget:
                continue
            window = run[run.frames >= start]
            if window.empty and run.frames.max() >= rule.late * budget:
                window = run[run.frames == run.frames.max()]
            if len(window):
                rows.append((*cell, seed, budget, window.score.mean(), len(window)))
    return pd.DataFrame(rows, columns=[*CELL, "seed", "budget", "score", "points"])


def whole_runs(points: pd.DataFrame, budget: int) -> pd.DataFrame:
    """Mean return over the whole budget of every run that has a score at it.

    It is the mean over the FIFTHS of the budget of the mean of the episodes that ended
    in each, so short episodes do not weigh more. A run without an episode in one of
    them has none. Random episodes count: logs of the authors' code have them as well.

    Returns: CELL columns, seed, score.
    """
    scored = budget_scores(points, budget)[[*CELL, "seed"]]
    points = reported_points(points, random=True).merge(scored, on=[*CELL, "seed"])
    width = max(1, budget // FIFTHS)
    points = points[points.frames <= width * FIFTHS]
    rows = []
    for cell, group in points.groupby(CELL, sort=False):
        for seed, parts in binned(group, width, width).groupby("seed"):
            if len(parts) == FIFTHS:
                rows.append((*cell, seed, parts.score.mean()))
    return pd.DataFrame(rows, columns=[*CELL, "seed", "score"])


def binned(points: pd.DataFrame, width: int, first: int) -> pd.DataFrame:
    """Mean scores per seed over bins (x - width, x]; x is first, first + width, ..."""
    edges = np.ceil((points.frames - first) / width) * width + first
    means = points.groupby(["seed", edges.rename("frames")]).score.mean()
    return means.reset_index()


def reported_kinds(points: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """Whether training or evaluation episodes are scored.

    Returns: (benchmark, protocol, version) -> "train" or "eval": the kind that was
      published, if the runs have it, else the other.
    """
    kinds = {}
    for key, group in points.groupby(CELL[:3], sort=False):
        wanted = rules.rule(*map(str, key)).kind
        present = set(group.kind) - {RANDOM} or {wanted}
        kinds[key] = wanted if wanted in present else sorted(present)[0]
    return kinds


def reported_points(points: pd.DataFrame, random: bool = False) -> pd.DataFrame:
    """The points whose kind is the reported one.

    Args:
      random: whether episodes of the random policy are training episodes, too.
    """
    kinds = reported_kinds(points)
    keys = zip(points.benchmark, points.protocol, points.version)
    wanted = np.array([kinds[key] for key in keys], dtype=object)
    kind = points.kind.to_numpy()
    counts = kind == wanted
    if random:
        counts |= (kind == RANDOM) & (wanted == "train")
    return points[counts]


def budgets_of(points: pd.DataFrame) -> list[int]:
    """The budgets at which to score these points, in frames.

    These are the published ones that the runs have reached, or, if there are none, the
    end of the runs.
    """
    benchmarks = [tasks.BENCHMARKS[name] for name in points.benchmark.unique()]
    known = {budget for benchmark in benchmarks for budget in benchmark.budgets}
    near = [b for b in sorted(known) if FINISHED * b <= points.frames.max()]
    return [b for b in near if len(budget_scores(points, b))] or [own_budget(points)]


def own_budget(points: pd.DataFrame) -> int:
    """The last frame, rounded to two digits: 49,852 (an episode's end) gives 50,000."""
    end = int(points.frames.max())
    unit = 10 ** max(0, len(str(end)) - 2)
    return max(1, round(end / unit) * unit)


def summary(
    scores: pd.DataFrame, by: Sequence[str], span: tuple[float, float] = stats.SPAN
) -> pd.DataFrame:
    """Mean, standard deviation (n - 1), n and 95 % interval of runs per group.

    Args:
      span: the lowest and the highest score that there can be.
    """
    rows = []
    for key, group in scores.groupby(list(by), sort=False):
        values = group.score.to_numpy(np.float64)
        low, high = stats.t_interval(values, *span)
        std = values.std(ddof=1) if len(values) > 1 else np.nan
        rows.append((*key, values.mean(), std, len(values), low, high))
    return pd.DataFrame(rows, columns=[*by, "mean", "std", "n", "low", "high"])


# --- Our runs ---------------------------------------------------------------


def read_runs(folder: str | Path) -> tuple[pd.DataFrame, dict[tuple, dict]]:
    """Reads `<protocol>/<version>/<task>.csv` with a manifest.json beside them.

    A version that was run on two benchmarks has one more folder level,
    `<protocol>/<version>/<benchmark>/<task>.csv`. The column seed is the run's (in the
    score file of a run directory it is the episode's).

    Returns: points, and the manifests by (benchmark, protocol, version).

    Raises:
      UserError: anything is missing, malformed or contradictory.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"The results folder {folder} does not exist.")
    files = sorted(folder.glob("**/*.csv"))
    if not files:
        raise UserError(
            f"The results folder {folder} is empty: expected "
            "<protocol>/<version>/<task>.csv with a manifest.json beside it."
        )
    tables, manifests = [], {}
    for file in files:
        places = file.relative_to(folder).parts[:-1]
        if len(places) not in (2, 3):
            raise UserError(
                f"{file} is not where results belong: expected "
                f"{folder}/<protocol>/<version>/<task>.csv."
            )
        manifest_file = file.parent / "manifest.json"
        manifest = read_json(manifest_file)
        where = str(manifest_file)
        named = dict(zip(("protocol", "version", "benchmark"), places))
        for field, place in named.items():
            if str(manifest.get(field, place)) != place:
                raise UserError(
                    f"{where} mixes two {field}s: it says {manifest[field]!r} but "
                    f"lies in the folder of {place!r}."
                )
        benchmark = named.get("benchmark", manifest.get("benchmark"))
        if benchmark is None:
            raise UserError(
                f"{where} does not say which benchmark was run; add "
                f'"benchmark": {" or ".join(json.dumps(b) for b in tasks.BENCHMARKS)}.'
            )
        tasks.check_benchmark(benchmark, where)
        tasks.check_version(named["version"], str(file))
        manifests[benchmark, named["protocol"], named["version"]] = manifest
        points = read_csv(file)
        if points.seed.nunique() > max(20, len(points) / 2):
            raise UserError(
                f"{file} has {points.seed.nunique()} different seeds in {len(points)} "
                "rows: the column seed must be the run's, not the episode's."
            )
        points["benchmark"] = benchmark
        points["protocol"] = named["protocol"]
        points["version"] = named["version"]
        task = points["task"] = tasks.check_task(file.stem, str(file), benchmark)
        runs = check_runs(manifest, where)
        points["changed"] = [
            str(runs.get(f"{task}/{seed}", {}).get("changed", ""))
            for seed in points.seed
        ]
        tables.append((file, points))
    return combine(tables), manifests


def check_runs(manifest: dict, where: str) -> dict[str, dict]:
    """How each run of a manifest was made, by task/seed; UserError if it is no such."""
    runs = manifest.get("runs", {})
    if not isinstance(runs, dict):
        raise UserError(f"{where} must hold an object as 'runs', not a {_type(runs)}.")
    for name, made in runs.items():
        if not isinstance(made, dict):
            raise UserError(
                f"{where} must hold an object as run {name!r}, not a {_type(made)}."
            )
    return runs


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """The run directories among these folders and below them.

    Raises:
      UserError: a folder holds none.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        inside = sorted(p.parent for p in folder.glob("**/config.json"))
        if not inside:
            raise UserError(f"{folder} holds no run: there is no config.json in it.")
        found += inside
    return list(dict.fromkeys(found))


def read_logdirs(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Points of run directories (scores.csv, config.json) or of folders with some.

    Raises:
      UserError: a file is missing, config.json is malformed, or the protocols differ.
    """
    tables = []
    for logdir in find_runs(folders):
        where = str(logdir / "config.json")
        whole = read_json(logdir / "config.json")
        config = whole.get("run", whole)  # also accepted: settings without groups
        if not isinstance(config, dict):
            raise UserError(f"{where} must hold an object as 'run', not {config!r}.")
        missing = [k for k in [*CELL, "seed"] if k not in config]
        if missing:
            raise UserError(f"{where} lacks the setting {missing[0]!r}.")
        check_seed(config["seed"], where)
        points = counted(read_episodes(logdir / "scores.csv"))
        points["seed"] = int(config["seed"])  # the file's are the episodes'
        for name in CELL[:3]:
            points[name] = str(config[name])
        tasks.check_benchmark(str(config["benchmark"]), where)
        tasks.check_version(str(config["version"]), where)
        name = str(config["benchmark"])
        points["task"] = tasks.check_task(str(config["task"]), where, name)
        points["changed"] = protocols.changes(whole)
        tables.append((logdir, points))
    points = combine(tables)
    names = sorted(points.protocol.unique())
    if len(names) > 1:
        raise UserError(
            f"The run directories mix the protocols {' and '.join(names)}, which "
            "never share a table; report them one protocol at a time."
        )
    return points


def check_seed(seed: Any, where: str) -> int:
    """A run's seed; UserError if it is not a whole number that tables can hold."""
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) > 2**53:
        shown = repr(seed) if isinstance(seed, str | float) else f"a {_type(seed)}"
        raise UserError(f"{where} has the seed {shown[:80]}; a whole number is needed.")
    return seed


def _type(value: Any) -> str:
    return type(value).__name__


def read_episodes(file: Path) -> pd.DataFrame:
    """All COLUMNS of a run's own score file, without lines that are damaged.

    A crash or a full disk may cut or join lines. They cost their episodes only: a
    warning names them.

    Raises:
      UserError: the file cannot be read, or has other columns.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{file} is missing.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({reason(error)}).") from None
    header, *lines = text.removesuffix("\n").split("\n")
    if header.strip().split(",") != COLUMNS:
        raise UserError(
            f"{file} must begin with {','.join(COLUMNS)}, but begins with "
            f"{header[:80]!r}."
        )
    rows, bad = [], []
    for number, line in enumerate(lines, start=2):
        row = score_rows.read(line)
        if row is None:
            bad.append(str(number))
        else:
            rows.append(row)
    if bad:
        many = len(bad) > 1
        output.warn(
            f"{file}: left out line{'s' * many} {', '.join(bad[:5])}"
            f"{' and others' * (len(bad) > 5)}, which {'hold' if many else 'holds'} "
            "no whole episode."
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def read_csv(file: str | Path) -> pd.DataFrame:
    """Frames, score, seed and kind of the episodes in a result file that count.

    Raises:
      UserError: the file is missing or malformed.
    """
    table = read_table(Path(file), COLUMNS)
    make_numbers(table, Path(file), ["frames", "score", "seed"])
    unknown = sorted(set(table.kind) - {*score_rows.KINDS}, key=str)
    if unknown:
        raise UserError(
            f"{file} has episodes of the unknown kind {unknown[0]!r}; valid are "
            "train, eval and eval_cmd."
        )
    return counted(table)


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Frames, score, seed and kind of the episodes that count.

    Left out are evaluations made by hand (`run.py evaluate`), which belong to no
    protocol. Episodes of the random policy get the kind RANDOM.
    """
    table = table[table.kind != "eval_cmd"]
    kind = table.kind.mask(table["mode"] == "random", RANDOM)
    return table[["frames", "score", "seed"]].assign(kind=kind)


def combine(tables: Iterable[tuple[str | Path, pd.DataFrame]]) -> pd.DataFrame:
    """One table of points from (where they are, points).

    Raises:
      UserError: two of these have the same run.
    """
    tables = list(tables)
    run = [*CELL, "seed"]
    given = pd.concat(
        points.drop_duplicates(run)[run].assign(where=str(where))
        for where, points in tables
    )
    twice = given[given.duplicated(run, keep=False)].sort_values(run, kind="stable")
    if len(twice):
        one, other = twice.iloc[0], twice.iloc[1]
        raise UserError(
            f"Seed {one.seed} of {one.version} on {one.benchmark} {one.task} "
            f"({one.protocol}) is given twice, in {one['where']} and in "
            f"{other['where']}; keep one of the two."
        )
    return pd.concat([points for _, points in tables], ignore_index=True)[POINTS]


# --- Files ------------------------------------------------------------------


def read_json(file: Path, kind: type = dict) -> Any:
    """Reads a JSON or JSON.gz file whose top level is a dict (or a list).

    Raises:
      UserError: it is missing or malformed, or its top level is something else.
    """
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8") as f:
            data = parse_json(f.read())
    except FileNotFoundError:
        raise UserError(f"{file} is missing.") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is not valid JSON: {reason(error)}.") from None
    if not isinstance(data, kind):
        wanted = "an object" if kind is dict else "a list"
        raise UserError(f"{file} must hold {wanted}, not {type(data).__name__}.")
    return data


def read_table(file: Path, columns: list[str]) -> pd.DataFrame:
    """These columns of a CSV file; UserError if it is missing or malformed."""
    try:
        with warnings.catch_warnings():
            # pandas cuts a first row that is too long, and only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(file, index_col=False)
    except FileNotFoundError:
        raise UserError(f"{file} is missing.") from None
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise UserError(f"{file} is not a valid CSV file: {reason(error)}.") from None
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise UserError(
            f"{file} lacks the column {missing[0]!r}; it needs {','.join(columns)}."
        )
    return table[columns].copy()


def make_numbers(table: pd.DataFrame, file: Path, columns: list[str]) -> None:
    """Makes columns numeric in place.

    Raises:
      UserError: names the line (the header is line 1) of the first wrong value.
    """
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce")
        numbers, wanted = values.to_numpy(np.float64), "a finite number"
        bad = ~np.isfinite(numbers)
        if column in ("frames", "step"):
            bad |= (numbers < 0) | (numbers > MOST)
            wanted = f"a number from 0 to {MOST:g}"
        if column == "seed":
            bad |= (numbers != np.round(numbers)) | (np.abs(numbers) > 2**53)
            wanted = "a whole number"
        if bad.any():
            line = int(bad.argmax())
            raise UserError(
                f"{file} line {line + 2} has {column} {str(table[column].iloc[line])!r}"
                f"; {wanted} is needed."
            )
        table[column] = values
    table["seed"] = table["seed"].astype(int)
