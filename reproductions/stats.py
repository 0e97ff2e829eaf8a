"""Statistics over tasks and seeds.

Runs are given as a sequence with one array per task, `[..., seeds]`. Leading axes hold
the resamples of a bootstrap, so that one vectorised expression serves for the runs and
for their resamples. Tasks may have different numbers of seeds; every task weighs the
same in every statistic, however many it has.

The aggregates and the stratified bootstrap follow Agarwal et al. 2021, "Deep
Reinforcement Learning at the Edge of the Statistical Precipice"; the tests compare them
with recorded values of its reference library.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

RESAMPLES = 2000
TOP = 1000.0  # the highest return of a DMC episode: 1000 frames of reward <= 1
SPAN = (0.0, TOP)

Runs = Sequence[np.ndarray]


def mean(runs: Runs) -> np.ndarray:
    """Mean over tasks of the mean over seeds."""
    return np.mean([task.mean(-1) for task in runs], axis=0)


def median(runs: Runs) -> np.ndarray:
    """Median over tasks of the mean over seeds."""
    return np.median([task.mean(-1) for task in runs], axis=0)


def iqm(runs: Runs) -> np.ndarray:
    """Interquartile mean: mean of the middle half of all runs of all tasks.

    A run weighs 1 / (number of seeds of its task). With equal numbers this is the
    trimmed mean of all runs, a quarter of them, rounded down, cut off at both ends.
    """
    pooled = np.concatenate(list(runs), -1)
    count = pooled.shape[-1]
    weights = np.concatenate(
        [np.full(task.shape[-1], 1 / task.shape[-1] / len(runs)) for task in runs]
    )
    order = np.argsort(pooled, -1)
    ends = np.cumsum(weights[order], -1)  # each run has a stretch of [0, 1]
    cut = count // 4 / count
    kept = np.minimum(ends, 1 - cut) - np.maximum(ends - weights[order], cut)
    kept = np.maximum(kept, 0)
    return (kept * np.take_along_axis(pooled, order, -1)).sum(-1) / kept.sum(-1)


def optimality_gap(runs: Runs, target: float = TOP) -> np.ndarray:
    """By how much runs are below `target` on average; scores above it count as it."""
    return target - mean([np.minimum(task, target) for task in runs])


def clipped_mean(runs: Runs, top: float = 100.0) -> np.ndarray:
    """Mean over tasks of the mean over seeds, of which no task counts above `top`."""
    return np.mean([np.minimum(task.mean(-1), top) for task in runs], axis=0)


def probability_of_improvement(ours: Runs, theirs: Runs) -> np.ndarray:
    """P(a run of ours beats one of theirs on the same task), mean over tasks.

    Ties count one half (the Mann-Whitney statistic). Both list the same tasks.
    """
    tasks = []
    for x, y in zip(ours, theirs):
        a, b = x[..., :, None], y[..., None, :]
        tasks.append(((a > b) + 0.5 * (a == b)).mean((-1, -2)))
    return np.mean(tasks, axis=0)


def performance_profile(runs: Runs, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs above each threshold, mean over tasks: `[..., thresholds]`."""
    return np.mean([(task[..., None] > thresholds).mean(-2) for task in runs], axis=0)


AGGREGATES: dict[str, Callable[[Runs], np.ndarray]] = {
    "mean": mean,
    "median": median,
    "IQM": iqm,
    "optimality gap": optimality_gap,
}


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *sets: Runs,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of `statistic(*sets)` under a stratified bootstrap.

    Each resample draws seeds with replacement within every task of every set: the tasks
    stay the same, so the interval is about seeds only. It is NaN if a task has a single
    seed, which says nothing about the spread over seeds.
    """
    rng = np.random.default_rng(seed)
    drawn = [[_resample(task, resamples, rng) for task in runs] for runs in sets]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(statistic(*drawn), [tail, 100 - tail], axis=0)
    if any(len(task) < 2 for runs in sets for task in runs):
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    return low, high


def _resample(task: np.ndarray, resamples: int, rng: np.random.Generator):
    return task[rng.integers(0, len(task), (resamples, len(task)))]


def t_interval(
    values: np.ndarray, bottom: float = 0.0, top: float = TOP
) -> tuple[float, float]:
    """95 % interval of the mean of a few seeds of one task, cut to [bottom, top].

    It is Student's t interval. A bootstrap of three to five values can never be wider
    than their range and covers the mean in far less than 95 % of cases. NaN for fewer
    than two seeds.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    quantile = special.stdtrit(len(values) - 1, 0.975)  # Student's t
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    center = values.mean()
    return max(bottom, float(center - half)), min(top, float(center + half))


def welch_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Welch's 95 % interval of mean(x) - mean(y); NaN if a side has a single value."""
    if min(len(x), len(y)) < 2:
        return float("nan"), float("nan")
    error, freedom = _welch(x, y)
    half = special.stdtrit(freedom, 0.975) * error
    center = x.mean() - y.mean()
    return float(center - half), float(center + half)


def detectable(x: np.ndarray, y: np.ndarray, power: float = 0.8) -> float:
    """The true difference of which Welch's interval excludes 0 with this probability.

    It is (t(0.975) + t(power)) standard errors, which is a little too small for few
    values. NaN if a side has a single value.
    """
    if min(len(x), len(y)) < 2:
        return float("nan")
    error, freedom = _welch(x, y)
    quantiles = special.stdtrit(freedom, 0.975) + special.stdtrit(freedom, power)
    return float(quantiles * error)


def _welch(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Standard error of the difference of means, and its degrees of freedom."""
    a, b = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if a + b == 0:  # all values of each side are equal
        return 0.0, float(len(x) + len(y) - 2)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    return float(np.sqrt(a + b)), float(freedom)
