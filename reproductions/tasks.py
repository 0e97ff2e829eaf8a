"""The benchmarks of the papers as data: tasks, budgets, and the range of scores.

Task names are those of the published tables: dm_control's `domain_task`, ale-py's ROM
ids (`road_runner`), `reward` of Crafter, `catch_0` for bsuite's `catch/0`. `flag_of`
gives the name that `run.py --task` has. Every budget is in environment frames, action
repeat included. Sources: for control the score files and tables 11 (proprio, 500K) and
12 (vision, 1M) of arXiv:2301.04104v2, whose 20 vision tasks are also those of DreamerV1
(5M frames) and of DreamerV2's published scores (2M); for Atari table K.1 of
arXiv:2010.02193v4 (55 games) and tables 6 (57 games) and 9 (26 games) of
arXiv:2301.04104v2.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dreamer_tf.configs import bsuite
from dreamer_tf.errors import UserError
from reproductions.names import (
    ATARI_26,
    ATARI_55,
    ATARI_57,
    BSUITE,
    BSUITE_OFFLINE,
    DMC_PROPRIO_18,
    DMC_PROPRIO_20,
    DMC_VISION,
    MINATAR,
)

# version -> its name as it is printed
VERSIONS = {"v1": "DreamerV1", "v2": "DreamerV2", "v3": "DreamerV3"}

# Budgets in frames at which scores are compared with the published ones.
DMC_BUDGETS = (
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


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark: its tasks and budgets under each protocol, and its scores."""

    name: str
    title: str
    family: str  # benchmarks whose published tables are shown together
    every: tuple[str, ...]  # all tasks, in the order of tables
    tasks: Mapping[str, tuple[str, ...]]  # protocol -> tasks
    frames: Mapping[str, Mapping[str, int]]  # protocol -> version -> frames of a run
    budgets: tuple[int, ...] = ()  # frames at which scores were published
    published: str | None = None  # how names of its files in results/published begin
    prefix: str = ""  # of the task in `run.py --task`
    prefixes: tuple[str, ...] = ()  # others that score files have
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    low: float = -np.inf  # the lowest and the highest return of an episode
    high: float = np.inf
    episode: int = 1000  # frames of an episode; where they differ, a typical number
    fixed: bool = False  # whether every episode has so many

    @property
    def span(self) -> tuple[float, float]:
        return self.low, self.high


# The suites by which the page is titled.
FAMILIES = {
    "dmc": "DeepMind Control",
    "atari": "Atari",
    "crafter": "Crafter",
    "bsuite": "BSuite",
    "small": "small tasks",
}

_DMC: dict[str, Any] = {
    "family": "dmc",
    "every": DMC_VISION,
    "budgets": DMC_BUDGETS,
    "published": "",
    "prefixes": ("dmc_",),
    # Other names of the same task in published score files.
    "aliases": {"cup_catch": "ball_in_cup_catch"},
    "low": 0.0,
    "high": 1000.0,
    "fixed": True,
}
_ATARI: dict[str, Any] = {
    "family": "atari",
    "published": "atari_",
    "prefix": "atari_",
    "prefixes": ("atari57_", "atari100k_"),
    "aliases": {"james_bond": "jamesbond"},
}
_SMALL: dict[str, Any] = {"family": "small"}
_CATCH: dict[str, Any] = {
    "every": ("catch",),
    "tasks": {"lite": ("catch",)},
    "frames": {"lite": {"v1": 5_000, "v2": 5_000, "v3": 5_000}},
    "low": -1.0,
    "high": 1.0,
    "episode": 9,
    "fixed": True,
    **_SMALL,
}
# Under lite: it runs, and learns nothing.
_SMOKE = {"v1": 2_000, "v2": 2_000, "v3": 2_000}

BENCHMARKS = {
    b.name: b
    for b in (
        Benchmark(
            name="dmc_vision",
            title="DMC vision",
            tasks=dict.fromkeys(("paper", "arxiv_v2", "nature", "lite"), DMC_VISION),
            frames={
                "paper": {"v1": 5_000_000, "v2": 2_000_000},
                "arxiv_v2": {"v3": 1_000_000},
                "nature": {"v3": 1_000_000},
                "lite": {"v1": 50_000, "v2": 50_000, "v3": 50_000},
            },
            **_DMC,
        ),
        # V1 and V2 have no published proprio scores; they get V3's budget.
        Benchmark(
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
            **_DMC,
        ),
        Benchmark(
            name="atari",
            title="Atari",
            every=ATARI_57,
            tasks={
                "paper": ATARI_55,
                "arxiv_v2": ATARI_57,
                "nature": ATARI_57,
                "lite": ATARI_57,
            },
            frames={
                "paper": {"v2": 200_000_000},
                "arxiv_v2": {"v3": 200_000_000},
                "nature": {"v3": 200_000_000},
                "lite": _SMOKE,
            },
            budgets=(10_000_000, 50_000_000, 100_000_000, 200_000_000),
            episode=10_000,
            **_ATARI,
        ),
        Benchmark(
            name="atari100k",
            title="Atari100k",
            every=ATARI_57,
            tasks=dict.fromkeys(("arxiv_v2", "nature"), ATARI_26),
            frames={
                "arxiv_v2": {"v3": 400_000},
                "nature": {"v3": 400_000},
            },
            budgets=(100_000, 200_000, 400_000),
            episode=4_000,
            **_ATARI,
        ),
        Benchmark(
            name="crafter",
            title="Crafter",
            family="crafter",
            every=("reward", "noreward"),
            tasks=dict.fromkeys(("paper", "arxiv_v2", "nature", "lite"), ("reward",)),
            frames={
                "paper": {"v2": 1_000_000},
                "arxiv_v2": {"v3": 1_000_000},
                "nature": {"v3": 1_000_000},
                "lite": _SMOKE,
            },
            budgets=(1_000_000,),
            published="crafter_",
            prefix="crafter_",
            # Every step may lose 0.1 per point of health; 22 achievements give 1 each.
            low=-1.0,
            high=22.0,
            episode=170,
        ),
        # A budget is a number of episodes there (`frames_of`); this is the largest.
        Benchmark(
            name="bsuite",
            title="BSuite",
            family="bsuite",
            every=BSUITE,
            tasks=dict.fromkeys(("arxiv_v2", "nature", "lite"), BSUITE_OFFLINE),
            frames={
                "arxiv_v2": {"v3": 1_010_000},
                "nature": {"v3": 1_010_000},
                "lite": {"v1": 6_000, "v2": 6_000, "v3": 6_000},
            },
            published="bsuite_",
            prefix="bsuite_",
            episode=100,
        ),
        Benchmark(name="catch", title="Catch from vectors", **_CATCH),
        Benchmark(name="catch_vision", title="Catch from images", **_CATCH),
        Benchmark(
            name="minatar",
            title="MinAtar",
            every=MINATAR,
            tasks={"lite": MINATAR},
            frames={"lite": {"v1": 20_000, "v2": 20_000, "v3": 20_000}},
            prefix="minatar_",
            low=0.0,
            episode=100,
            **_SMALL,
        ),
    )
}

# The protocols under which a version's published scores were made. V3's score files
# are those of arXiv v2, not of the Nature edition.
PUBLISHED_UNDER = {"v1": ("paper",), "v2": ("paper",), "v3": ("arxiv_v2",)}


def families(benchmarks: Iterable[str]) -> list[str]:
    """The benchmarks of the same families as these; of DMC for none."""
    wanted = {BENCHMARKS[name].family for name in benchmarks} or {"dmc"}
    return [name for name, known in BENCHMARKS.items() if known.family in wanted]


def title_of(benchmarks: Iterable[str]) -> str:
    """What these benchmarks are, in words."""
    found = [BENCHMARKS[name].family for name in families(benchmarks)]
    *first, last = (FAMILIES[name] for name in dict.fromkeys(found))
    return f"{', '.join(first)} and {last}" if first else last


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


def check_task(name: str, where: str, benchmark: str) -> str:
    """The name in tables of a task that is spelled as in any of the score files.

    Raises:
      UserError: the benchmark has no such task; `where` as above.
    """
    known = BENCHMARKS[benchmark]
    plain = name.replace("-", "_").replace("/", "_")
    for prefix in (known.prefix, *known.prefixes):
        plain = plain.removeprefix(prefix)
    plain = known.aliases.get(plain, plain)
    if plain not in known.every:
        close = difflib.get_close_matches(plain, known.every, 1)
        hint = f"did you mean {close[0]}?" if close else _listed(known)
        raise UserError(f"{where} names the unknown task {name!r}; {hint}")
    return plain


def _listed(known: Benchmark) -> str:
    if len(known.every) <= 5:
        return f"valid are {', '.join(known.every)}."
    where = "names" if known.family != "dmc" else "tasks"
    return f"the {len(known.every)} tasks are listed in reproductions/{where}.py."


def flag_of(task: str, benchmark: str) -> str:
    """A task's name as `run.py --task` has it."""
    return BENCHMARKS[benchmark].prefix + task


def frames_of(benchmark: str, protocol: str, version: str, task: str) -> int:
    """Frames of a run; in BSuite those of the task's own number of episodes."""
    if benchmark == "bsuite" and protocol != "lite":
        return bsuite.budget(task)
    return BENCHMARKS[benchmark].frames[protocol][version]


def tasks_of(benchmark: str, protocol: str) -> tuple[str, ...]:
    """The tasks of a protocol; all of the benchmark if it is none of ours."""
    known = BENCHMARKS[benchmark]
    return known.tasks.get(protocol, known.every)


def versions_of(benchmark: str, papers: bool = False) -> list[str]:
    """The versions that have a protocol on this benchmark.

    Args:
      papers: only those that have one of a paper, if any has.
    """
    frames = BENCHMARKS[benchmark].frames
    some = {name: f for name, f in frames.items() if name != "lite"}
    shown = (some or frames) if papers else frames
    return [v for v in VERSIONS if any(v in f for f in shown.values())]
