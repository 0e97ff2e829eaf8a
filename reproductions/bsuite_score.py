"""BSuite's scores from the regret of episodes: 23 experiments, 7 tags.

The rules of bsuite 0.3.6 (`bsuite/experiments/*/analysis.py`), written anew, because
the package's own need its plotting stack, and those of deep_sea fail with pandas 2. An
agent is one seed of a version: `{experiment: {number: regrets}}`, the regrets of a
configuration's episodes in their order, from the first one on (`Env._stats` of
`dreamer_tf/envs/bsuite.py`). Only the first `Experiment.episodes` count.

What was not run has no score and is left out of means; nothing counts as 0 for that.
Runs with fewer episodes are scored by those that they have, as in bsuite.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from dreamer_tf.configs.bsuite import EXPERIMENTS, ONLINE, TAGS

Regrets = Sequence[np.ndarray]  # per configuration, of its episodes
Values = Sequence[float]  # `Experiment.values` of the same configurations
Agent = Mapping[str, Mapping[int, np.ndarray]]

# The episodes after which bsuite writes a line; deep_sea is solved at one of them.
LOGGED = (
    *range(1, 10),
    *(
        first * 10**power
        for power in range(3)
        for first in (10, 12, 14, 17, 20, 25, *range(30, 100, 10))
    ),
    10_000,
)


def scores(agent: Agent) -> pd.DataFrame:
    """The scores of an agent.

    Returns:
      A row per experiment, all 23 in the order of `EXPERIMENTS`: score (in [0, 1], NaN
      if none of its configurations was run), run and count (how many of them were, and
      how many there are), episodes (the fewest that one of them has) and needed.
    """
    rows = []
    for name, known in EXPERIMENTS.items():
        ours = {k: r for k, r in sorted(agent.get(name, {}).items()) if len(r)}
        fewest = min((len(regrets) for regrets in ours.values()), default=0)
        rows.append(
            {
                "experiment": name,
                "score": score(name, ours) if ours else np.nan,
                "run": len(ours),
                "count": known.count,
                "episodes": min(fewest, known.episodes),
                "needed": known.episodes,
            }
        )
    return pd.DataFrame(rows).set_index("experiment")


def score(name: str, regrets: Mapping[int, np.ndarray]) -> float:
    """The score of an experiment whose configurations have these regrets, in [0, 1].

    Args:
      name: of the experiment.
      regrets: of the episodes of at least one configuration, by its number.
    """
    known = EXPERIMENTS[name]
    counted = [np.asarray(r, np.float64)[: known.episodes] for r in regrets.values()]
    values = [known.values[k] if known.values else 0.0 for k in regrets]
    base = name.removesuffix("_noise").removesuffix("_scale")
    rule = _RULES[base]
    if base == name:
        return rule(counted, values)
    levels = []
    for level in sorted(set(values)):
        alike = [r for r, value in zip(counted, values) if value == level]
        levels.append(rule(alike, [level] * len(alike)))
    mean, std = np.mean(levels), np.std(levels)
    return float((np.clip(mean, 0, 1) + np.clip(mean - std, 0, 1)) / 2)


def by_tag(table: pd.Series) -> pd.Series:
    """The mean score of the experiments with each tag, NaN if none has a score.

    Args:
      table: scores by experiment, with NaN for those without one.
    """
    return pd.Series(
        {
            tag: table[[n for n in table.index if tag in EXPERIMENTS[n].tags]].mean()
            for tag in TAGS
        }
    )


def task_mean(table: pd.Series) -> float:
    """The mean over the experiments that have a score."""
    return float(table.mean())


def category_mean(table: pd.Series) -> float:
    """The mean over the tags that have a score."""
    return float(by_tag(table).mean())


def missing(table: pd.DataFrame) -> str:
    """Sentences about what `scores` lacks; "" if everything was run to its end."""
    lacking = [n for n in table.index if not table.run[n] and n not in ONLINE]
    online = [n for n in ONLINE if not table.run[n]]
    some = table[(table.run > 0) & (table.run < table["count"])]
    short = table[(table.run > 0) & (table.episodes < table.needed)]
    parts = []
    if lacking:
        parts.append(f"Not run, and left out of means: {', '.join(lacking)}.")
    if online:
        parts.append(
            f"Not run, and left out of means, as bsuite downloads their data: "
            f"{', '.join(online)}."
        )
    if len(some):
        counts = zip(some.index, some.run, some["count"])
        found = [f"{name} {run} of {count}" for name, run, count in counts]
        parts.append(f"Scored by some of their configurations: {', '.join(found)}.")
    if len(short):
        counts = zip(short.index, short.episodes, short.needed)
        found = [f"{name} {episodes} of {needed}" for name, episodes, needed in counts]
        parts.append(f"Scored by fewer episodes than bsuite's: {', '.join(found)}.")
    return " ".join(parts)


# --- The rules ------------------------------------------------------------------


def _clip(value: float) -> float:
    return float(np.clip(value, 0, 1))


def _mean(regrets: Regrets) -> float:
    """The mean regret of an episode, over configurations."""
    return float(np.mean([r.mean() for r in regrets]))


def _against(most: float) -> Callable[[Regrets, Values], float]:
    """1 without regret, 0 with `most` or more per episode."""
    return lambda regrets, values: _clip(1 - _mean(regrets) / most)


def _cartpole(regrets: Regrets, values: Values) -> float:
    """Half for the regret, half for a best episode with a return above 500."""
    solved = np.mean([r.min() < 1000 - 500 for r in regrets])
    return float((_clip(1 - _mean(regrets) / 1000) + solved) / 2)


def _swingup(regrets: Regrets, values: Values) -> float:
    """The same per height, with a best return above 100."""
    each = [(_clip(1 - r.mean() / 700) + (r.min() < 700 - 100)) / 2 for r in regrets]
    return float(np.mean(each))


def _mnist(regrets: Regrets, values: Values) -> float:
    """Half for the regret, half for the accuracy in the last tenth of the episodes."""
    right = [1 - r[len(r) * 9 // 10 :].mean() / 2 for r in regrets]
    return float((_clip(1 - _mean(regrets) / 1.8) + np.mean(right)) / 2)


def _below(most: float) -> Callable[[Regrets, Values], float]:
    """The share of configurations with a smaller mean regret."""
    return lambda regrets, values: float(np.mean([r.mean() < most for r in regrets]))


def _deep_sea(most: float, first: int) -> Callable[[Regrets, Values], float]:
    """The share of sizes solved sooner than by 2^size random episodes and 100 more.

    Solved is when the share of bad episodes so far is below `most`, looked at when
    bsuite writes a line, from episode `first` on.
    """

    def rule(regrets: Regrets, values: Values) -> float:
        solved = []
        for bad, size in zip(regrets, values):
            soon = 2 ** int(size) + 100
            last = min(len(bad), soon - 1)
            ends = np.array([n for n in LOGGED if first <= n <= last], np.int64)
            solved.append((bad.cumsum()[ends - 1] / ends < most).any())
        return float(np.mean(solved))

    return rule


_RULES: dict[str, Callable[[Regrets, Values], float]] = {
    "bandit": _against(0.5),
    "catch": _against(1.6),
    "cartpole": _cartpole,
    "cartpole_swingup": _swingup,
    "deep_sea": _deep_sea(0.9, 1),
    "deep_sea_stochastic": _deep_sea(0.8, 100),
    "discounting_chain": _against(0.1),
    # The share of wrong episodes, which have a regret of 2, beside that of guessing.
    "memory_len": _below(0.75),
    "memory_size": _below(0.75),
    "mnist": _mnist,
    "mountain_car": _against(1000),
    "umbrella_distract": _below(0.5),
    "umbrella_length": _below(0.5),
}
