"""Runs to compare ours with that were made at the same settings.

By default these are runs of the authors' code under the settings of `lite`
(results/reference). Any other set of runs can take their place: our own of another
commit, or logs of other code. They are never mixed with the *published* scores, which
belong to the papers' settings.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from dreamer_tf.errors import UserError
from reproductions import outside, scores, stats, tasks
from reproductions.scores import CELL, OUTSIDE

AUTHORS = Path(__file__).parent.parent / "results" / "reference"
AUTHORS_NAME = "authors' code, same settings"
# results/reference/SOURCES.md, "Which seeds, and when they were chosen"
AUTHORS_NOTE = (
    "Seeds of the authors' V3 that were added after a look at the earlier ones: 4 to 7 "
    "on walker_walk, 3 on reacher_easy."
)
LOGS_NOTE = (
    "Logs of other code do not say of which episodes their scores are: the authors' "
    "are returns of training episodes, TD-MPC2's of evaluations."
)
FLAG = (
    "Runs to compare with: a results folder, run directories, or logs of other code; "
    "default: the authors' code at the settings of lite."
)
TIDY = [*CELL, "seed", "frames", "score", "kind"]  # columns of results/reference

MIN_SEEDS = 3  # on either side; with fewer the spread over seeds is hardly known
# "agrees" needs an interval whose half is at most the larger of these two. 50 points
# are 5 % of a return's range, and about the standard deviation over seeds that the
# authors' code shows at these settings (37 to 99). The share lets tasks with high
# scores have a wider spread: about that of the authors' runs on cartpole_swingup (9 %)
# if each side has three seeds.
WIDTH_POINTS, WIDTH_SHARE = 50.0, 0.15
POWER = 0.8
# What is compared. At the end is the score of the papers' tables, which a few episodes
# make; a whole run has all of them, so its mean return shows smaller differences, among
# them runs that learn more slowly and end as well.
END, WHOLE = "end", "whole run"
COLUMNS = ["budget", "measure", "mean", "std", "n", "reference", "reference_std"]
COLUMNS += ["reference_n", "difference", "low", "high", "detects", "verdict"]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A set of runs to compare with."""

    name: str  # as texts and legends call it
    points: pd.DataFrame  # scores.POINTS
    note: str = ""  # a sentence about it, for below a table


def authors() -> Reference:
    """The authors' code at the settings of `lite`."""
    return Reference(AUTHORS_NAME, scores.combine(_tidy(AUTHORS)), AUTHORS_NOTE)


def read(path: str | Path, benchmark: str = "", method: str = "") -> Reference:
    """Any set of runs: whatever the folder or file is.

    A results folder (manifest.json), run directories (config.json), tables with the
    columns of results/reference, or logs of other code (see `outside`).

    Args:
      benchmark, method: of logs of other code, as in `outside.read_outside`.

    Raises:
      UserError: it does not exist, is none of these, or is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"--reference={path} does not exist.")
    name = f"reference {'/'.join(path.parts[-2:]) or path}"
    note = ""
    if any(path.glob("**/config.json")):
        points = scores.read_logdirs([path])
    elif any(path.glob("**/manifest.json")):
        points, _ = scores.read_runs(path)
    elif tables := _tidy(path):
        points = scores.combine(tables)
    else:
        points, note = outside.read_outside(path, benchmark, method), LOGS_NOTE
    return Reference(name, points, note)


def chosen(
    path: str, runs: pd.DataFrame, benchmark: str = "", method: str = ""
) -> Reference:
    """The reference that a flag names: `read`, or the authors' code for "".

    Logs of other code belong to the benchmark of the runs if these have only one.

    Raises:
      UserError: as in `read`, or nothing in it belongs beside the runs.
    """
    if not path:
        return authors()
    names = runs.benchmark.unique()
    found = read(path, benchmark or (names[0] if len(names) == 1 else ""), method)
    if not set(zip(runs.benchmark, runs.task)) & set(
        zip(found.points.benchmark, found.points.task)
    ):
        raise UserError(f"--reference={path} has no run on a task of these runs.")
    return found


def _tidy(path: Path) -> list[tuple[Path, pd.DataFrame]]:
    """Files with the columns of results/reference, and what they hold."""
    files = [path] if path.is_file() else sorted(path.glob("**/*.csv"))
    tables = []
    for file in files:
        if file.suffix != ".csv":
            continue
        with open(file, errors="replace") as f:
            header = f.readline().strip().split(",")
        if not {*CELL} <= {*header}:  # TD-MPC2's, or of something else
            continue
        table = scores.read_table(file, TIDY)
        scores.make_numbers(table, file, ["frames", "score", "seed"])
        for name in table.benchmark.unique():
            tasks.check_benchmark(name, str(file))
        for name in table.version.unique():
            tasks.check_version(name, str(file))
        for benchmark, name in dict.fromkeys(zip(table.benchmark, table.task)):
            tasks.check_task(str(name), str(file), benchmark)
        wrong = sorted(set(table.kind) - {"train", "eval"}, key=str)
        if wrong:
            raise UserError(
                f"{file} has episodes of the unknown kind {wrong[0]!r}; valid are "
                "train and eval."
            )
        tables.append((file, table.assign(changed="")))
    return tables


def beside(runs: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """The reference's points that belong beside these runs, under the runs' names.

    Benchmark, protocol and version must be the same. Logs of other code have no
    protocol: they stand beside the version whose name they have (`v3` or `dreamerv3`),
    or, if they hold a single method of another name, beside every version. Only
    episodes of one kind are compared: the one that `scores` reports of our runs, or,
    if the reference lacks it, the other one, if both have it.
    """
    frames = [reference.iloc[:0]]
    kinds = scores.reported_kinds(runs)
    known = {*scores.METHODS, *scores.METHODS.values()}
    for cell, group in runs.groupby(CELL[:3], sort=False):
        benchmark, protocol, version = map(str, cell)
        every = reference[reference.benchmark == benchmark]
        same = every[(every.protocol == protocol) & (every.version == version)]
        logs = every[every.protocol == OUTSIDE]
        if same.empty:
            names = {version, scores.METHODS.get(version, version)}
            same = logs[logs.version.isin(names)]
            if same.empty and logs.version.nunique() == 1:
                same = logs[~logs.version.isin(known)]
            same = same.assign(kind=kinds[cell])  # they do not say which
        common = (set(same.kind) & set(group.kind)) - {scores.RANDOM}
        kind = kinds[cell] if kinds[cell] in common else next(iter(common), "")
        same = same[same.kind.isin({kind, scores.RANDOM} if kind else ())]
        frames.append(same.assign(protocol=protocol, version=version))
    return pd.concat(frames, ignore_index=True)


def alike(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Our points of the kinds that the reference has, and our random episodes."""
    return ours[ours.kind.isin({*theirs.kind, scores.RANDOM})]


def common_budget(ours: pd.DataFrame, theirs: pd.DataFrame) -> int:
    """The largest budget that both have reached, in frames.

    It is the shorter side's end, or the published budget just above it: runs of 50,000
    frames finish their last episode at 48,000 to 50,000.
    """
    benchmark = str(ours.benchmark.iloc[0])
    side = min((ours, theirs), key=lambda points: points.frames.max())
    end = side.frames.max()
    near = [
        b
        for b in tasks.BENCHMARKS[benchmark].budgets
        if scores.FINISHED * b <= end <= b
    ]
    return max(near, default=scores.own_budget(side))


def compare(ours: pd.DataFrame, theirs: pd.DataFrame, budget: int = 0) -> pd.DataFrame:
    """Two rows, END and WHOLE, per task and version that both sides have.

    Args:
      ours, theirs: points; `theirs` as `beside` gives them.
      budget: frames up to which both are scored; 0: for each task and version the
        largest budget that both have reached.

    Returns: CELL columns and COLUMNS. low, high: Welch's 95 % interval of the
      difference (ours - reference); detects: the true difference that such runs would
      show with a probability of 80 %.
    """
    measures = {END: scores.budget_scores, WHOLE: scores.whole_runs}
    rows = []
    for cell, a in ours.groupby(CELL, sort=False):
        b = theirs[(theirs[CELL] == list(cell)).all(axis=1)]
        a = alike(a, b)
        if a.empty:
            continue
        at = budget or common_budget(a, b)
        flags = [set(points.changed.unique()) for points in (a, b)]
        for measure, scored in measures.items():
            sides = [scored(side, at).score.to_numpy(np.float64) for side in (a, b)]
            if min(map(len, sides)) == 0:
                continue
            row = judged(sides[0], sides[1], str(cell[0]))
            if flags[0] != flags[1]:
                row["verdict"] += ", other settings"
            place = dict(zip(CELL, cell)) | {"budget": at, "measure": measure}
            rows.append(place | row)
    return pd.DataFrame(rows, columns=[*CELL, *COLUMNS])


def judged(
    ours: np.ndarray, theirs: np.ndarray, benchmark: str = "dmc_proprio"
) -> dict:
    """The comparison of two sets of scores, one score per seed.

    Verdicts: *above* or *below* if the 95 % interval of the difference excludes 0;
    *agrees* if it contains 0 and half of it is at most `width`; *undecided* if it is
    wider; *too few seeds* if a side has fewer than MIN_SEEDS.
    """
    row = {"mean": ours.mean(), "std": _std(ours), "n": len(ours)}
    row |= {"reference": theirs.mean(), "reference_std": _std(theirs)}
    row |= {"reference_n": len(theirs), "difference": ours.mean() - theirs.mean()}
    row["low"], row["high"] = stats.welch_interval(ours, theirs)
    row["detects"] = stats.detectable(ours, theirs, POWER)
    if min(len(ours), len(theirs)) < MIN_SEEDS:
        row["verdict"] = "too few seeds"
    elif row["low"] > 0 or row["high"] < 0:
        row["verdict"] = "above" if row["low"] > 0 else "below"
    else:
        half = (row["high"] - row["low"]) / 2
        row["verdict"] = (
            "agrees" if half <= width(row["reference"], benchmark) else "undecided"
        )
    return row


def width(reference: float, benchmark: str = "dmc_proprio") -> float:
    """Half of the widest interval that may still be called agreement, in points."""
    return max(_width_points(benchmark), WIDTH_SHARE * abs(reference))


def _width_points(benchmark: str) -> float:
    """WIDTH_POINTS of DMC's 1000 points, or as much of another range of scores."""
    low, high = tasks.BENCHMARKS[benchmark].span
    share = WIDTH_POINTS / stats.TOP
    return share * (high - low) if np.isfinite(high - low) else 0.0


def rule(chosen: Reference, benchmark: str = "dmc_proprio") -> str:
    """The sentences under a comparison that say how it was made."""
    points = f"{_width_points(benchmark):g} points"
    sentences = (
        f"Reference: {chosen.name}; both sides are scored at the same budget by the "
        "same rule. End: the score by the papers' rule; whole run: the mean return "
        "over all of the budget, random episodes at its beginning included, each of "
        f"its {scores.FIFTHS} windows weighing the same. "
        "Difference: ours - reference, with Welch's 95% interval over seeds. "
        "Verdict: above or below if the interval excludes 0; agrees if it contains 0 "
        f"and half of it is at most {points} or {WIDTH_SHARE:.0%} of the reference's "
        "mean, whichever is more; undecided if it is wider; too few "
        f"seeds below {MIN_SEEDS} on either side. Where nothing differs, one verdict "
        "in twenty is above or below by chance. Detects: the true difference in points "
        f"that these seeds, with this spread, would show as above or below in "
        f"{POWER:.0%} of cases; a smaller one may be there unseen."
    )
    return f"{sentences} {chosen.note}".rstrip()


def describe(table: pd.DataFrame) -> str:
    """How often each verdict of `compare`, as `end: 2 agrees; whole run: 2 agrees`."""
    return "; ".join(
        f"{measure}: " + ", ".join(f"{n} {v}" for v, n in counts.value_counts().items())
        for measure, counts in table.groupby("measure", sort=False).verdict
    )


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
