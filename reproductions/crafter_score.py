"""Crafter's score: a geometric mean of how often each achievement was reached.

For each seed s_i is the percentage of its training episodes that unlocked achievement i
at least once, over all episodes that ended within the budget, so the early random ones
count too. Then (arXiv:2109.06780, section 3.3; danijar/crafter analysis/common.py)

    score = exp(mean over i of ln(1 + s_i)) - 1

in percent, which pays for a rare achievement more than for a common one. What is
reported is the mean and the population standard deviation over seeds of these scores.
The score of the mean rates is another, larger number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dreamer_tf.errors import UserError

BUDGET = 1_000_000  # frames of a run
REACHED = 0.99  # share of it that a run must reach; an episode has up to 10,000 frames
PREFIX = "achievement_"
ACHIEVEMENTS = (
    *("collect_coal", "collect_diamond", "collect_drink", "collect_iron"),
    *("collect_sapling", "collect_stone", "collect_wood", "defeat_skeleton"),
    *("defeat_zombie", "eat_cow", "eat_plant", "make_iron_pickaxe"),
    *("make_iron_sword", "make_stone_pickaxe", "make_stone_sword"),
    *("make_wood_pickaxe", "make_wood_sword", "place_furnace", "place_plant"),
    *("place_stone", "place_table", "wake_up"),
)


def success_rates(
    episodes: Sequence[Mapping[str, Any]], where: str, budget: int = BUDGET
) -> pd.Series:
    """The success rates of one seed, percent by achievement.

    Args:
      episodes: in their order, with `length` in frames, and `achievement_*`, which say
        how often each was unlocked; as in a run's stats.jsonl.
      where: the run or file, for the error.
      budget: frames; the episode that crosses it does not count, nor do later ones.

    Raises:
      UserError: the episodes do not reach the budget.
    """
    lengths = np.array([episode["length"] for episode in episodes], np.int64)
    ends = lengths.cumsum()
    reached = int(ends[-1]) if len(ends) else 0
    if reached < REACHED * budget:
        raise UserError(
            f"{where} has finished episodes of {reached:,} frames, but Crafter's score "
            f"needs {int(REACHED * budget):,} of the budget of {budget:,}: train it to "
            "its end."
        )
    table = pd.DataFrame([*episodes])[ends <= budget]
    unlocked = table[[PREFIX + name for name in ACHIEVEMENTS]] >= 1
    return 100 * unlocked.mean().set_axis([*ACHIEVEMENTS])


def score(rates: pd.Series | np.ndarray) -> float:
    """Crafter's score, in percent, of the success rates of one seed, in percent."""
    return float(np.exp(np.log1p(np.asarray(rates, np.float64)).mean()) - 1)


def over_seeds(rates: Sequence[pd.Series]) -> tuple[float, float]:
    """Mean and population standard deviation of the scores of seeds."""
    scores = [score(of_seed) for of_seed in rates]
    return float(np.mean(scores)), float(np.std(scores))
