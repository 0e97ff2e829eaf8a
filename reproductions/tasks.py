"""The DeepMind Control benchmarks of the papers as data.

Task names are dm_control's `domain_task`. Every budget is in environment frames,
action repeat included. Sources: the score files and tables 11 (proprio, 500K) and 12
(vision, 1M) of arXiv:2301.04104v2. Its 20 vision tasks are also those of DreamerV1
(5M frames) and of DreamerV2's published scores (2M).
"""

import dataclasses
import difflib
from collections.abc import Mapping

from dreamer_tf.errors import UserError

DMC_VISION = (
    "acrobot_swingup",
    "ball_in_cup_catch",
    "cartpole_balance",
    "cartpole_balance_sparse",
    "cartpole_swingup",
    "cartpole_swingup_sparse",
    "cheetah_run",
    "finger_spin",
    "finger_turn_easy",
    "finger_turn_hard",
    "hopper_hop",
    "hopper_stand",
    "pendulum_swingup",
    "quadruped_run",
    "quadruped_walk",
    "reacher_easy",
    "reacher_hard",
    "walker_run",
    "walker_stand",
    "walker_walk",
)
DMC_PROPRIO_20 = DMC_VISION
DMC_PROPRIO_18 = tuple(t for t in DMC_VISION if not t.startswith("quadruped"))

# version -> its name as it is printed
VERSIONS = {"v1": "DreamerV1", "v2": "DreamerV2", "v3": "DreamerV3"}

# Budgets in frames at which scores are compared with the published curves.
BUDGETS = (
    50_000,
    100_000,
    200_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    4_000_000,
    5_000_000,
)

# Other names of the same task in published score files.
ALIASES = {"cup_catch": "ball_in_cup_catch"}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark: its tasks and budgets under each protocol."""

    name: str
    title: str
    tasks: Mapping[str, tuple[str, ...]]  # protocol -> tasks
    frames: Mapping[str, Mapping[str, int]]  # protocol -> version -> frames of a run


BENCHMARKS = {
    "dmc_vision": Benchmark(
        name="dmc_vision",
        title="DMC vision",
        tasks=dict.fromkeys(("paper", "arxiv_v2", "nature", "lite"), DMC_VISION),
        frames={
            "paper": {"v1": 5_000_000, "v2": 2_000_000},
            "arxiv_v2": {"v3": 1_000_000},
            "nature": {"v3": 1_000_000},
            "lite": {"v1": 50_000, "v2": 50_000, "v3": 50_000},
        },
    ),
    # V1 and V2 have no published proprio scores; they get V3's budget.
    "dmc_proprio": Benchmark(
        name="dmc_proprio",
        title="DMC proprio",
        tasks={
            "paper": DMC_PROPRIO_18,
            "arxiv_v2": DMC_PROPRIO_18,
            "nature": DMC_PROPRIO_20,
            "lite": DMC_PROPRIO_18,
        },
        frames={
            "paper": {"v1": 500_000, "v2": 500_000},
            "arxiv_v2": {"v3": 500_000},
            "nature": {"v3": 1_000_000},
            "lite": {"v1": 50_000, "v2": 50_000, "v3": 50_000},
        },
    ),
}

# The protocols under which a version's published scores were made. V3's score files
# are those of arXiv v2, not of the Nature edition.
PUBLISHED_UNDER = {"v1": ("paper",), "v2": ("paper",), "v3": ("arxiv_v2",)}


def name_of(version: str) -> str:
    """A version's printed name; methods of outside logs are printed as they are."""
    return VERSIONS.get(version, version)


def check_benchmark(name: str, where: str) -> Benchmark:
    """The benchmark of that name.

    Args:
      where: the flag or file that has the name, for the error.

    Raises:
      UserError: there is no such benchmark.
    """
    if not isinstance(name, str) or name not in BENCHMARKS:
        raise UserError(
            f"{where} names the unknown benchmark {name!r}; valid are "
            f"{', '.join(BENCHMARKS)}."
        )
    return BENCHMARKS[name]


def check_version(name: str, where: str) -> None:
    """Raises UserError for a version that is none of the three; `where` as above."""
    if name not in VERSIONS:
        raise UserError(
            f"{where} names the unknown version {name!r}; valid are "
            f"{', '.join(VERSIONS)}."
        )


def check_task(name: str, where: str) -> str:
    """dm_control's name of a task that is spelled as in any of the score files.

    Raises:
      UserError: there is no such task; `where` as above.
    """
    plain = name.replace("-", "_").removeprefix("dmc_")
    plain = ALIASES.get(plain, plain)
    if plain not in DMC_VISION:
        close = difflib.get_close_matches(plain, DMC_VISION, 1)
        hint = f"did you mean {close[0]}?" if close else "the 20 tasks are listed in "
        hint += "" if close else "reproductions/tasks.py."
        raise UserError(f"{where} names the unknown task {name!r}; {hint}")
    return plain


def tasks_of(benchmark: str, protocol: str) -> tuple[str, ...]:
    """The tasks of a protocol; all 20 if it is none of ours."""
    return BENCHMARKS[benchmark].tasks.get(protocol, DMC_VISION)
