"""The published numbers, from the files in results/published.

Where they come from is written in its SOURCES.md.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reproductions import tasks

FOLDER = Path(__file__).parent.parent / "results" / "published"
# Columns of the files in results/published, for benchmarks that have none.
_SCORES = ["method", "benchmark", "task", "budget", "seed", "score", "metric"]
_CURVES = ["method", "benchmark", "task", "frames", "mean", "std", "n"]
_PRINTED = ["paper", "benchmark", "budget", "method", "task", "statistic", "printed"]


def scores(benchmark: str) -> pd.DataFrame:
    """Score per method, benchmark, task, budget and seed, by `budget_scores`' rule.

    Atari's have the mean over the last 10 % of the budget as well, as `smooth`.
    """
    return _read(benchmark, "scores.csv", _SCORES)


def curves(benchmark: str, early: bool = False) -> pd.DataFrame:
    """Mean, std (population) and n over seeds per bin; `frames` is its right edge.

    Args:
      early: the Dreamers' first 300K frames in finer bins instead, if there are any.
    """
    file = "early_curves.csv" if early and _family(benchmark) == "dmc" else "curves.csv"
    return _read(benchmark, file, _CURVES)


def printed(protocol: str, benchmark: str) -> pd.DataFrame:
    """Numbers as printed: method, benchmark, budget, task, statistic, printed.

    Statistics over tasks have "" as task. What is printed as a factor is in percent
    here. If two editions of a paper print the same quantity, the later one counts; the
    Nature edition's numbers belong to the protocol `nature` only.
    """
    table = _read(benchmark, "printed.csv", _PRINTED, keep_default_na=False)
    nature = table.paper.str.startswith("Nature")
    table = table[nature if protocol == "nature" else ~nature]
    table = table.assign(budget=pd.to_numeric(table.budget))
    if "unit" in table:
        factor = table.unit == "factor"
        table = table.assign(printed=table.printed.where(~factor, 100 * table.printed))
    key = ["method", "benchmark", "budget", "task", "statistic"]
    return table.sort_values("paper").drop_duplicates(key, keep="last")


def chance(benchmark: str, task: str, repeat: int) -> float:
    """Score of the uniform random policy on a task; NaN if it is not known.

    Args:
      repeat: frames of an action, on which DMC's scores depend.
    """
    if _family(benchmark) == "atari":
        return float(references().random[task])
    if _family(benchmark) != "dmc":
        return float("nan")
    table = pd.read_csv(FOLDER / "random.csv").set_index(["task", "repeat"])
    return float(table["mean"].get((task, repeat), float("nan")))


def _family(benchmark: str) -> str:
    return tasks.BENCHMARKS[benchmark].family


def _read(
    benchmark: str, name: str, columns: Sequence[str], **options: Any
) -> pd.DataFrame:
    """The benchmark's rows of a file; none if nothing was published."""
    prefix = tasks.BENCHMARKS[benchmark].published
    file = FOLDER / f"{prefix}{name}"
    if prefix is None or not file.exists():
        return pd.DataFrame(columns=columns)
    table = pd.read_csv(file, **options)
    return table[table.benchmark == benchmark]


@functools.cache
def references() -> pd.DataFrame:
    """What Atari scores are normalised by, a row per game.

    Columns: atari57, atari55, atari100k (whether the game is among these), random and
    gamer (V3's paper), random_v2, gamer_v2 and record_v2 (V2's paper).
    """
    return pd.read_csv(FOLDER / "atari_references.csv").set_index("task")
