"""Atari scores in percent of a human's, and the aggregates of each benchmark.

A score is normalised as 100 (score - random) / (reference - random), where the
reference is a human gamer or the human record. The papers use different values: V3's
Alien has random 227.8 and James Bond 29.0, V2's have 228.8 and 7.0. Seeds are averaged
before a score is clipped or a median is taken, as in table 1 of arXiv:2010.02193v4.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reproductions import published, rules, stats, tasks

# Methods of V2's paper, apart from those that are named after it.
_V2_PAPER = ("rainbow", "iqn", "c51", "dqn")


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """A statistic over tasks: of scores as they are, or of normalised ones."""

    name: str
    statistic: Callable[[stats.Runs], np.ndarray]
    reference: str = ""  # "gamer" or "record"; "": as they are


_DMC = tuple(Aggregate(name, f) for name, f in stats.AGGREGATES.items())
_MEDIAN = Aggregate("gamer median", stats.median, "gamer")
_MEAN = Aggregate("gamer mean", stats.mean, "gamer")
# A single game may move a mean by whole hundreds of percent: medians come first.
_V2 = (
    _MEDIAN,
    Aggregate("clipped record mean", stats.clipped_mean, "record"),
    Aggregate("record mean", stats.mean, "record"),
    _MEAN,
)
_V3 = (_MEDIAN, _MEAN, Aggregate("gamer IQM", stats.iqm, "gamer"))
_ALL = (*_V2, _V3[-1])


def has_references(benchmark: str) -> bool:
    """Whether scores of this benchmark can be normalised."""
    return tasks.BENCHMARKS[benchmark].family == "atari"


def paper_of(method: str, benchmark: str) -> str:
    """Whose reference values a method's scores are normalised by: "v2" or "v3"."""
    method = rules.METHODS.get(method, method)
    of_v2 = method.startswith("dreamerv2") or method in _V2_PAPER
    return "v2" if of_v2 and benchmark == "atari" else "v3"


def games(method: str, benchmark: str) -> tuple[str, ...]:
    """The games over which a method's aggregates are taken in its paper."""
    if paper_of(method, benchmark) == "v2":
        return tasks.tasks_of(benchmark, "paper")
    return tasks.tasks_of(benchmark, "arxiv_v2")


def aggregates(benchmark: str, version: str) -> tuple[Aggregate, ...]:
    """The aggregates of a version's (or method's) scores; () where none make sense."""
    if tasks.BENCHMARKS[benchmark].family == "dmc":
        return _DMC
    if not has_references(benchmark):
        return ()
    return _V2 if paper_of(version, benchmark) == "v2" else _V3


def names(benchmark: str) -> list[str]:
    """The names of all aggregates of a benchmark, in the order of tables."""
    every = _DMC if tasks.BENCHMARKS[benchmark].family == "dmc" else _ALL
    versions = [aggregates(benchmark, version) for version in tasks.VERSIONS]
    known = {a.name for found in versions for a in found}
    return [a.name for a in every if a.name in known]


def percent(task: str, values: Any, reference: str, method: str, benchmark: str) -> Any:
    """Scores of a game (numbers or arrays) in percent of the reference, NaN without."""
    row = published.references().loc[task]
    end = "_v2" if paper_of(method, benchmark) == "v2" else ""
    random = row[f"random{end}"]
    return 100 * (values - random) / (row[f"{reference}{end}"] - random)


def runs(
    sets: Mapping[str, np.ndarray],
    aggregate: Aggregate,
    method: str,
    benchmark: str,
) -> list[np.ndarray]:
    """The scores of which an aggregate is taken, an array of seeds per task."""
    if not aggregate.reference:
        return list(sets.values())
    return [
        percent(task, values, aggregate.reference, method, benchmark)
        for task, values in sets.items()
    ]


def profiled(
    sets: Mapping[str, np.ndarray], method: str, benchmark: str
) -> list[np.ndarray]:
    """The scores of a performance profile: of Atari in percent of a gamer."""
    aggregate = _MEDIAN if has_references(benchmark) else _DMC[0]
    return runs(sets, aggregate, method, benchmark)


def column(scores: pd.Series, of: Sequence[str], benchmark: str) -> list[float]:
    """Scores, by task in the index, in percent of a gamer's.

    Args:
      of: the method or version of each row.
    """
    return [
        float(percent(str(task), value, "gamer", method, benchmark))
        for (task, value), method in zip(scores.items(), of)
    ]


def published_aggregates(benchmark: str, budget: int) -> pd.DataFrame:
    """Every aggregate of the published methods at a budget, in percent.

    Methods that lack a game of their paper have no row.

    Columns: method, aggregate, value.
    """
    table = published.scores(benchmark)
    table = table[table.budget == budget]
    rows = []
    for method, group in table.groupby("method", sort=False):
        name = str(method)
        found = {str(t): g.score.to_numpy(np.float64) for t, g in group.groupby("task")}
        wanted = games(name, benchmark)
        if not set(wanted) <= set(found):
            continue
        sets = {task: found[task] for task in wanted}
        for aggregate in aggregates(benchmark, name):
            value = aggregate.statistic(runs(sets, aggregate, name, benchmark))
            rows.append((name, aggregate.name, float(value)))
    return pd.DataFrame(rows, columns=["method", "aggregate", "value"])
