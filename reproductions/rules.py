"""The scoring rules: which episodes count for a score at a budget, as data.

None of the authors documents them; they were recovered from the score files, whose
printed tables they reproduce (results/published/SOURCES.md). `scores.budget_scores`
applies them.
"""

import dataclasses
import math
from collections.abc import Sequence

OUTSIDE = "outside"  # the protocol of logs that this suite did not write

# version -> its name in published score files; outside logs use such names already.
METHODS = {"v1": "dreamerv1", "v2": "dreamerv2", "v3": "dreamerv3"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the score of a run at a budget follows from its points.

    E is the largest frame <= the budget over the seeds of a task. A seed's score is the
    mean of its points in [E - window, E].
    """

    words: str  # the rule in words, to stand under a table
    kind: str = "train"  # which episodes count: "train" or "eval"
    share: float = 0.04  # the window is this share of the budget,
    frames: float = math.inf  # but at most so many frames
    bins: tuple[int, int] | None = None  # width of means, right edge of the first;
    most: float = 1.0  # they are at most this share of the budget wide
    last: float = math.inf  # frames after which nothing counts
    at_budget: bool = False  # whether E is the budget, whatever the last point is
    # A seed without a point in the window takes its last one if it is that late, as a
    # share of the budget; 0: however early, 1: never.
    late: float = 0.90
    latest: float = 0.80  # a task counts if a point of it reached this share
    finished: float = 0.90  # a run counts if it has reached this share of the budget
    slack: float = 1.0  # factor on the budget up to which points count
    smooth: bool = False  # whether the mean of the last 10 % is shown beside the score

    def limit(self, budget: float) -> float:
        """The last frame that counts."""
        return min(budget * self.slack, self.last)

    def width(self, budget: float) -> int:
        """Width of the bins in frames."""
        return int(min(self.bins[0], self.most * budget)) if self.bins else 0

    def window(self, budget: float) -> float:
        """Width of the window in frames."""
        return min(self.share * budget, self.frames)


SMOOTH = 0.10  # the share of the budget over which smooth scores are means

# The rule of arXiv:2301.04104v2's tables 11 and 12: it reproduces all 190 entries.
_DMC = Rule(
    "Scores are episode returns (0 to 1000) by the papers' rule: per seed the mean "
    "over the last 4% of the budget, then the mean over seeds; ± is the standard "
    "deviation over seeds (n - 1)."
)
_SPREAD = "then the mean over seeds; ± is the standard deviation over seeds (n - 1)."
# Its tables 6 and 9.
_ATARI = Rule(
    "V3's scores are returns of training episodes by the rule of its table: per seed "
    "the mean of those that end in the last 2M frames (at most 20% of the budget), "
    f"{_SPREAD} A seed without one is left out.",
    share=0.20,
    frames=2_000_000,
    late=1.0,
)
_ATARI_100K = dataclasses.replace(
    _ATARI,
    words="V3's scores are returns of training episodes by the rule of its table: per "
    "seed the mean of those that end in the last 10K frames (at most 20% of the "
    f"budget), {_SPREAD} A seed without one is left out.",
    frames=10_000,
    at_budget=True,
)
# Tables 1 and K.1 of arXiv:2010.02193v4.
_ATARI_V2 = Rule(
    "V2's scores are means of evaluation episodes by the rule of its table: per seed "
    "the last 1M frames that end at 199M or before, which are ten episodes, "
    f"{_SPREAD} So few episodes scatter: the column of the last 10% is steadier. "
    "Published runs that stopped earlier count with their last value; ours do not.",
    kind="eval",
    share=0.0,
    bins=(1_000_000, 0),
    most=0.1,
    last=199_000_000,
    smooth=True,
)
_OTHER = Rule(
    "Scores are returns of training episodes: per seed the mean over the last 10% of "
    f"the budget, {_SPREAD}",
    share=0.10,
)
_BENCHMARKS = {
    "dmc_vision": _DMC,
    "dmc_proprio": _DMC,
    "atari": _ATARI,
    "atari100k": _ATARI_100K,
}

# (benchmark, version) -> where a version's rule differs. V1 evaluated; V2 did on Atari.
_VERSIONS = {
    ("dmc_vision", "v1"): dataclasses.replace(_DMC, kind="eval"),
    ("dmc_proprio", "v1"): dataclasses.replace(_DMC, kind="eval"),
    ("atari", "v2"): _ATARI_V2,
}

# A point of these published files is the mean of all episodes within so many frames
# before it. Our episodes are averaged likewise: single episodes near the end of a
# rising curve would score higher than such means. The points of V1's score file lie 5K
# frames above round numbers (5K, 105K, 205K ...), so they count up to 1.05 times the
# budget.
_PROTOCOLS = {
    ("dmc_vision", "paper", "v1"): dataclasses.replace(
        _DMC, kind="eval", bins=(100_000, 5_000), slack=1.05
    ),
    ("dmc_vision", "paper", "v2"): dataclasses.replace(_DMC, bins=(30_000, 0)),
}


def rule(benchmark: str, protocol: str, version: str) -> Rule:
    """The rule for a version (or a method of outside logs) under a protocol."""
    if found := _PROTOCOLS.get((benchmark, protocol, version)):
        return found
    short = next((v for v, name in METHODS.items() if name == version), version)
    found = _VERSIONS.get((benchmark, short)) or _BENCHMARKS.get(benchmark, _OTHER)
    if protocol == OUTSIDE:
        # Their points are the published ones, means already.
        late = 0.0 if found.smooth else found.late
        done = 0.0 if found.smooth else found.finished
        slack = 1.05 if version == "dreamerv1" else 1.0
        found = dataclasses.replace(
            found, bins=None, late=late, finished=done, slack=slack
        )
    return found


def scoring(benchmark: str, protocol: str, versions: Sequence[str]) -> list[str]:
    """The sentences that say how these versions are scored, each once."""
    found = [rule(benchmark, protocol, version).words for version in versions]
    return list(dict.fromkeys(found))
