"""The tables: our scores beside published ones, per benchmark and protocol.

Every function returns a pandas table of numbers; `report` turns them into text.
Protocols never share a table: a `Group` holds the runs of one.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dreamer_tf.errors import UserError
from reproductions import (
    normalise,
    published,
    reference,
    rules,
    scores,
    stats,
    tasks,
    verdicts,
)
from reproductions.tasks import name_of

# columns of reference.compare -> their names in a cell table
REFERENCE_COLUMNS = {name: name for name in ("reference", "reference_std")}
REFERENCE_COLUMNS |= {
    "reference_n": "reference_n",
    "difference": "from_reference",
    "low": "from_reference_low",
    "high": "from_reference_high",
    "verdict": "agreement",
}
AGGREGATE_COLUMNS = ["version", "aggregate", "tasks", "of", "seeds", "mean", "low"]
AGGREGATE_COLUMNS += ["high", "published", "published_low", "published_high"]
AGGREGATE_COLUMNS += ["printed", "difference", "verdict", "seeds_most"]


# With one task, its mean, median and interquartile mean are the row of the task again.
LEAST_TASKS = 2


@dataclasses.dataclass(frozen=True)
class Group:
    """The runs of one benchmark under one protocol: all that one table may hold."""

    benchmark: str
    protocol: str
    versions: tuple[str, ...]
    tasks: tuple[str, ...]
    budgets: tuple[int, ...]
    points: pd.DataFrame  # scores.POINTS
    scores: pd.DataFrame  # scores.budget_scores, at all budgets
    notes: tuple[str, ...]  # the protocol, then how scores and verdicts came about
    manifests: Mapping[str, dict[str, Any]]  # by version
    reference: reference.Reference  # runs at the same settings, under the same names

    @property
    def key(self) -> str:
        """For names of files and ids of the page."""
        return f"{self.benchmark}_{self.protocol}"

    @property
    def title(self) -> str:
        name = "outside logs" if self.protocol == scores.OUTSIDE else self.protocol
        return f"{tasks.BENCHMARKS[self.benchmark].title}, {name}"


def make_groups(
    points: pd.DataFrame,
    protocols: Mapping[str, Any],
    versions: Sequence[str] = (),
    only_tasks: Sequence[str] = (),
    budgets: Sequence[int] = (),
    manifests: Mapping[tuple, dict] | None = None,
    compared: reference.Reference | None = None,
) -> list[Group]:
    """Splits points by benchmark and protocol and scores them at every budget.

    Args:
      points: columns `scores.POINTS`.
      protocols: name -> object with `footnote(versions, benchmark) -> str`.
      versions, only_tasks, budgets: what to show; empty: all versions that were run,
        all tasks of the benchmark, the budgets that the runs have reached.
      manifests: (benchmark, protocol, version) -> how the runs were made.
      compared: the reference; default: the authors' code at the settings of lite.

    Raises:
      UserError: nothing is left to show, or a protocol is unknown.
    """
    if points.empty:
        raise UserError("The results hold no finished episode.")
    compared = compared or reference.authors()
    groups = []
    for (benchmark, protocol), runs in points.groupby(["benchmark", "protocol"]):
        shown = tuple(versions) or tuple(sorted(runs.version.unique()))
        runs = runs[runs.version.isin(shown)]
        names = tasks.tasks_of(benchmark, protocol)
        # A run on a task that the protocol does not list still gets its row.
        every = tasks.BENCHMARKS[str(benchmark)].every
        names = tuple(t for t in every if t in {*names, *runs.task})
        names = tuple(t for t in names if not only_tasks or t in only_tasks)
        runs = runs[runs.task.isin(names)]
        if runs.empty:
            continue
        at = tuple(sorted(budgets)) or tuple(scores.budgets_of(runs))
        found = [scores.budget_scores(runs, b) for b in at]
        made = {
            v: m
            for (b, p, v), m in (manifests or {}).items()
            if (b, p) == (benchmark, protocol)
        }
        beside = reference.beside(runs, compared.points)
        beside = beside[beside.task.isin(names)]
        group = Group(
            benchmark=benchmark,
            protocol=protocol,
            versions=shown,
            tasks=names,
            budgets=at,
            points=runs,
            scores=pd.concat(found),
            notes=(
                verdicts.protocol_note(protocol, shown, benchmark, protocols),
                *verdicts.rules(runs, protocol, shown),
                *([reference.rule(compared, str(benchmark))] if len(beside) else []),
            ),
            manifests=made,
            reference=dataclasses.replace(compared, points=beside),
        )
        groups.append(group)
    if not groups:
        raise UserError("--versions and --tasks leave none of the runs to report.")
    return groups


# --- Tables -----------------------------------------------------------------


def cell_table(group: Group, budget: int) -> pd.DataFrame:
    """A row per task and version at a budget: ours, published, difference, verdict.

    There is a difference only where ours and the published score can be compared.

    Columns: task, version, mean, std, n, low, high, published, published_std,
    published_n, published_low, published_high, printed, difference, verdict; and from
    `reference.compare`, at the same budget: reference, reference_std, reference_n,
    from_reference (the difference), from_reference_low, from_reference_high, agreement.
    Of Atari also normalised and published_normalised (in percent of a gamer), and,
    where a version's rule asks for it, smooth and published_smooth (see `rules.Rule`).
    """
    grid = pd.MultiIndex.from_product(
        [group.tasks, group.versions], names=["task", "version"]
    ).to_frame(index=False)
    key = ["task", "version"]
    span = tasks.BENCHMARKS[group.benchmark].span
    runs = published_of(group, budget)
    ours = scores.summary(at_budget(group.scores, budget), key, span)
    theirs = scores.summary(runs, key, span)
    names = {c: f"published_{c}" for c in ("std", "n", "low", "high")}
    theirs = theirs.rename(columns={"mean": "published", **names})
    printed = published.printed(group.protocol, group.benchmark)
    printed = printed[(printed.budget == budget) & (printed.statistic == "score")]
    printed = _as_versions(printed, group.versions)[[*key, "printed"]]
    table = grid.merge(ours, "left", key).merge(theirs, "left", key)
    table = table.merge(printed, "left", key)
    same = agreement_table(group, budget)
    same = same[same.measure == reference.END][[*key, *REFERENCE_COLUMNS]]
    table = table.merge(same.rename(columns=REFERENCE_COLUMNS), "left", key)
    for column in ("n", "published_n", "reference_n"):
        table[column] = table[column].fillna(0).astype(int)
    places = list(zip(group.points.task, group.points.version))
    started = set(places)
    changed = {p for p, flags in zip(places, group.points.changed) if flags}
    touch = verdicts.touch(group.benchmark)
    table["verdict"] = [
        verdicts.verdict(group.protocol, row, place in started, place in changed, touch)
        for row in _rows(table)
        for place in [(row["task"], row["version"])]
    ]
    column = table.columns.get_loc("verdict")
    table.insert(column, "difference", _difference(table))
    if any(smoothed(group, version) for version in group.versions):
        table = _with_smooth(table, group, budget, runs)
    if normalise.has_references(group.benchmark):
        for name in ("mean", "published"):
            values = table.set_index("task")[name]
            new = normalise.column(values, table.version, group.benchmark)
            table["normalised" if name == "mean" else "published_normalised"] = new
    return table


def smoothed(group: Group, version: str) -> bool:
    """Whether a version's scores have a smoother one beside them."""
    return rules.rule(group.benchmark, group.protocol, version).smooth


def _with_smooth(
    table: pd.DataFrame, group: Group, budget: int, theirs: pd.DataFrame
) -> pd.DataFrame:
    """Adds the means over the last 10 % of the budget, ours and the published ones."""
    key = ["task", "version"]
    ours = scores.budget_scores(group.points, budget, smooth=True)
    means = {"smooth": ours.groupby(key).score.mean()}
    means["published_smooth"] = theirs.groupby(key).smooth.mean()
    for name, values in means.items():
        table = table.merge(values.rename(name).reset_index(), "left", key)
    wanted = [smoothed(group, version) for version in table.version]
    for name in means:
        table[name] = table[name].where(wanted)
    return table


def agreement_table(group: Group, budget: int = 0) -> pd.DataFrame:
    """`reference.compare` of a group; 0: each task at its largest common budget."""
    return reference.compare(group.points, group.reference.points, budget)


def aggregate_table(
    group: Group, budget: int, resamples: int = stats.RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Statistics over tasks (`normalise.aggregates`), with intervals.

    Ours and published are over the same tasks: those that have both, or, if the version
    has no published scores, those with runs of ours. A version with fewer than
    LEAST_TASKS of them has no rows.

    Columns: version, aggregate, tasks, of, seeds (fewest on a task), mean (ours),
    low, high, published, published_low, published_high, printed, difference, verdict,
    seeds_most (on a task).
    """
    ours, theirs = at_budget(group.scores, budget), published_of(group, budget)
    printed = published.printed(group.protocol, group.benchmark)
    printed = _as_versions(printed, group.versions)
    rows = []
    for version in group.versions:
        a, b = sets_of(ours, version), sets_of(theirs, version)
        every = group.tasks
        if normalise.has_references(group.benchmark):  # V2's paper has fewer games
            fewer = normalise.games(version, group.benchmark)
            every = tuple(t for t in group.tasks if t in fewer)
            a = {task: values for task, values in a.items() if task in fewer}
        names = [t for t in a if t in b] or list(a)
        if len(names) < LEAST_TASKS:
            continue
        mine = {t: a[t] for t in names}
        other = {t: b[t] for t in names if t in b}
        for aggregate in normalise.aggregates(group.benchmark, version):
            row: dict[str, Any] = {"version": version, "aggregate": aggregate.name}
            row |= {"tasks": len(names), "of": len(every)}
            row["seeds"] = row["n"] = min(map(len, mine.values()))
            row["published_n"] = min(map(len, other.values()), default=0)
            for prefix, sets in (("", mine), ("published_", other)):
                value = low = high = np.nan
                if sets:
                    runs = normalise.runs(sets, aggregate, version, group.benchmark)
                    value = float(aggregate.statistic(runs))
                    interval = stats.bootstrap(
                        aggregate.statistic, runs, resamples=resamples, seed=seed
                    )
                    low, high = map(float, interval)
                row[prefix.rstrip("_") or "mean"] = value
                row[f"{prefix}low"], row[f"{prefix}high"] = low, high
            match = printed[
                (printed.version == version)
                & (printed.budget == budget)
                & (printed.statistic == aggregate.name)
            ].printed
            whole = len(names) == len(every) and len(match) > 0
            row["printed"] = match.iloc[0] if whole else np.nan
            points = group.points[group.points.version == version]
            changed = (points.task.isin(names) & (points.changed != "")).any()
            row["verdict"] = verdicts.verdict(
                group.protocol, row, len(points) > 0, changed
            )
            row["seeds_most"] = max(map(len, mine.values()))
            rows.append(row)
    columns = [*AGGREGATE_COLUMNS, "n", "published_n"]
    table = pd.DataFrame(rows, columns=columns)
    table["difference"] = _difference(table)
    # Of optimality gaps the smaller one is better.
    gap = table["aggregate"] == "optimality gap"
    swapped = table.verdict.replace({"above": "below", "below": "above"})
    table["verdict"] = table.verdict.mask(gap, swapped)
    return table.drop(columns=["n", "published_n"])


def improvement_table(
    group: Group, budget: int, resamples: int = stats.RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """P(a run of x scores higher than one of y on the same task), per pair (x, y).

    Pairs: any two of our versions, and each version and its published runs, that share
    at least LEAST_TASKS tasks.
    Columns: x, y, tasks, probability, low, high.
    """
    ours, theirs = at_budget(group.scores, budget), published_of(group, budget)
    sides = {v: sets_of(ours, v) for v in group.versions}
    pairs = [(x, y) for i, x in enumerate(group.versions) for y in group.versions[:i]]
    compared = [(name_of(x), name_of(y), sides[x], sides[y]) for x, y in pairs]
    compared += [
        (name_of(v), f"{name_of(v)} published", sides[v], sets_of(theirs, v))
        for v in group.versions
        if verdicts.comparable(group.protocol, v)
    ]
    rows = []
    for x, y, a, b in compared:
        names = [t for t in a if t in b]
        if len(names) >= LEAST_TASKS:
            runs = [a[t] for t in names], [b[t] for t in names]
            value = float(stats.probability_of_improvement(*runs))
            low, high = stats.bootstrap(
                stats.probability_of_improvement, *runs, resamples=resamples, seed=seed
            )
            rows.append((x, y, len(names), value, float(low), float(high)))
    columns = ["x", "y", "tasks", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def curve_table(points: pd.DataFrame, widths: Mapping[str, int]) -> pd.DataFrame:
    """Learning curves: means over seeds in bins (low, high] of frames.

    A bin of a seed is the mean of its episodes in it, random ones included.

    Args:
      widths: version -> frames of a bin.

    Columns: version, task, frames (right edge), mean, std (population), n.
    """
    if points.empty:
        return pd.DataFrame(columns=["version", "task", "frames", "mean", "std", "n"])
    points = scores.reported_points(points, random=True)
    width = points.version.map(widths)
    edges = (np.ceil(points.frames / width) * width).astype(int)
    key = ["version", "task", "frames"]
    runs = points.assign(frames=edges).groupby([*key, "seed"]).score.mean()
    table = runs.groupby(key).agg(mean="mean", std=lambda x: x.std(ddof=0), n="count")
    return table.reset_index()


def published_curve(group: Group) -> tuple[pd.DataFrame, dict[str, int]]:
    """The published curves up to our last frame; each version's bin width in frames.

    The widths are the published ones. If our runs are shorter than five of them, or
    there is no published curve, they are divided into ten bins.
    """
    end = int(group.points.frames.max())
    table = published.curves(group.benchmark, early=end <= 300_000)
    table = _as_versions(table, group.versions)
    table = table[table.task.isin(group.tasks)]
    bins = {}
    for version in group.versions:
        edges = np.sort(table.frames[table.version == version].unique())
        bins[version] = int(np.diff(edges).min()) if len(edges) > 1 else end
    # The bin in which our runs end is included, although its right edge lies later;
    # alone, without an earlier point, it would be no line on our axis.
    first = table.groupby("version").frames.transform("min")
    reached = (table.frames < table.version.map(bins) + end) & (first < end)
    widths = {v: w if w * 5 <= end else max(1, end // 10) for v, w in bins.items()}
    return table[reached], widths


# --- Rows -------------------------------------------------------------------


def at_budget(table: pd.DataFrame, budget: int) -> pd.DataFrame:
    """The rows of a budget."""
    return table[table.budget == budget]


def _difference(table: pd.DataFrame) -> pd.Series:
    """Ours - published, where the verdict compares the two."""
    return (table["mean"] - table.published).where(
        table.verdict.isin(verdicts.COMPARED)
    )


def _as_versions(table: pd.DataFrame, versions: Sequence[str]) -> pd.DataFrame:
    """Rows of published methods under the versions they belong to."""
    names = {scores.METHODS.get(v, v): v for v in versions}
    table = table[table.method.isin(list(names))]
    return table.assign(version=table.method.map(names))


def published_of(group: Group, budget: int) -> pd.DataFrame:
    """The published scores of a group's versions and tasks, per seed."""
    table = published.scores(group.benchmark)
    table = table[(table.budget == budget) & table.task.isin(group.tasks)]
    return _as_versions(table, group.versions)


def sets_of(table: pd.DataFrame, version: str) -> dict[str, np.ndarray]:
    """task -> scores of a version's seeds."""
    runs = table[table.version == version]
    return {str(t): g.score.to_numpy(np.float64) for t, g in runs.groupby("task")}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in r.items()} for r in table.to_dict("records")]
