"""The sweep of BSuite as data: experiments, configurations, episodes.

Copied from bsuite 0.3.6 (`bsuite/experiments/*/sweep.py` of google-deepmind/bsuite
@ effafc0), because budgets, tables and scores need it where the package is not
installed.

A task is `bsuite_<experiment>_<number>`: bsuite's own id `catch/0` is `bsuite_catch_0`,
because tasks are names of folders too. `bsuite_catch/0` is accepted as well.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from dreamer_tf.errors import UserError

PREFIX = "bsuite_"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What bsuite's sweep says of an experiment.

    Attributes:
        episodes: of each run; the score counts no more.
        steps: of the longest episode, per configuration.
        tags: what it tests; its score counts for each.
        varies: what differs between the configurations, "" if nothing but chance.
        values: that it has, per configuration.
        needed: return per episode that counts as no regret, where bsuite computes the
            regret from the return; None where the environment counts it.
    """

    episodes: int
    steps: tuple[int, ...]
    tags: tuple[str, ...]
    varies: str = ""
    values: tuple[float, ...] = ()
    needed: float | None = None

    @property
    def count(self) -> int:
        """How many configurations there are."""
        return len(self.steps)


NOISES = (0.1, 0.3, 1.0, 3.0, 10.0)
SCALES = (0.001, 0.03, 1.0, 30.0, 1000.0)
TAGS = (
    "basic",
    "credit_assignment",
    "exploration",
    "generalization",
    "memory",
    "noise",
    "scale",
)
_CREDIT, _GENERAL, _EXPLORE = "credit_assignment", "generalization", "exploration"

_TO_25 = (*range(1, 11), 12, 14, 17, 20, 25)
_BITS = (*_TO_25, 30, 40)
_TO_100 = (*_TO_25, *range(30, 105, 10))
_SIZES = tuple(range(10, 51, 2))


def _plain(episodes: int, steps: int, *tags: str, **more: Any) -> Experiment:
    return Experiment(episodes, (steps,) * 20, tags, **more)


def _noise(episodes: int, steps: int, *tags: str, **more: Any) -> Experiment:
    values = tuple(level for level in NOISES for _ in range(4))
    about = {"varies": "noise of the reward", "values": values, **more}
    return _plain(episodes, steps, "noise", *tags, **about)


def _scale(episodes: int, steps: int, *tags: str, **more: Any) -> Experiment:
    values = tuple(level for level in SCALES for _ in range(4))
    about = {"varies": "scale of the reward", "values": values, **more}
    return _plain(episodes, steps, "scale", *tags, **about)


def _over(
    varies: str, values: Sequence[int], steps: Sequence[int], *tags: str
) -> Experiment:
    return Experiment(10_000, tuple(steps), tags, varies, tuple(values))


# The time of the cartpoles is a sum of hundredths; 1000 of them are less than ten.
EXPERIMENTS = {
    "bandit": _plain(10_000, 1, "basic"),
    "bandit_noise": _noise(10_000, 1),
    "bandit_scale": _scale(10_000, 1),
    "cartpole": _plain(1_000, 1_001, "basic", _CREDIT, _GENERAL, needed=1000.0),
    "cartpole_noise": _noise(1_000, 1_001, _GENERAL, needed=1000.0),
    "cartpole_scale": _scale(1_000, 1_001, _GENERAL, needed=1000.0),
    "cartpole_swingup": _plain(
        1_000,
        1_001,
        _EXPLORE,
        _GENERAL,
        varies="height that counts as upright",
        values=tuple(number / 20 for number in range(20)),
        needed=700.0,
    ),
    "catch": _plain(10_000, 9, "basic", _CREDIT),
    "catch_noise": _noise(10_000, 9, _CREDIT),
    "catch_scale": _scale(10_000, 9, _CREDIT),
    "deep_sea": _over("size", _SIZES, _SIZES, _EXPLORE),
    "deep_sea_stochastic": _over("size", _SIZES, _SIZES, _EXPLORE, "noise"),
    "discounting_chain": _plain(1_000, 100, _CREDIT, needed=1.1),
    "memory_len": _over("length", _TO_100, [n + 1 for n in _TO_100], "memory"),
    "memory_size": _over("bits", _BITS, [3] * len(_BITS), "memory"),
    "mnist": _plain(10_000, 1, "basic", _GENERAL),
    "mnist_noise": _noise(10_000, 1, _GENERAL),
    "mnist_scale": _scale(10_000, 1, _GENERAL),
    "mountain_car": _plain(1_000, 1_000, "basic", _GENERAL, needed=-100.0),
    "mountain_car_noise": _noise(1_000, 1_000, _GENERAL, needed=-100.0),
    "mountain_car_scale": _scale(1_000, 1_000, _GENERAL, needed=-100.0),
    "umbrella_distract": _over(
        "distractors", _TO_100, [20] * len(_TO_100), _CREDIT, "noise"
    ),
    "umbrella_length": _over("length", _TO_100, _TO_100, _CREDIT, "noise"),
}
# These download MNIST when they are made.
ONLINE = ("mnist", "mnist_noise", "mnist_scale")


def split(task: str) -> tuple[str, int]:
    """The experiment and the number of a task, with or without `bsuite_` before it.

    Raises:
      UserError: there is no such task.
    """
    short = task.removeprefix(PREFIX)
    experiment, _, text = short.replace("/", "_").rpartition("_")
    known = EXPERIMENTS.get(experiment)
    if known and text in map(str, range(known.count)):
        return experiment, int(text)
    # What stands before the number, or a name without one.
    cut = short not in EXPERIMENTS and (known or text.isdigit())
    name = experiment if cut else short
    near = difflib.get_close_matches(name, EXPERIMENTS, 1)
    hint = f"the experiments are {', '.join(EXPERIMENTS)}, numbered from 0."
    if near:
        first, last = (
            f"{PREFIX}{near[0]}_{n}" for n in (0, EXPERIMENTS[near[0]].count - 1)
        )
        hint = f"there are {first} to {last}."
    raise UserError(f'task "{task}" is not in BSuite: {hint}')


def canonical(task: str) -> str:
    """A task's name as it is written everywhere: `bsuite_catch_0`."""
    experiment, number = split(task)
    return f"{PREFIX}{experiment}_{number}"


def limit(task: str) -> int:
    """Frames of a task's longest episode."""
    experiment, number = split(task)
    return EXPERIMENTS[experiment].steps[number]


def budget(task: str) -> int:
    """Frames of a run in which every agent finishes the episodes that count.

    BSuite's budget is a number of episodes. A run ends after so many frames, which are
    as many episodes of the longest kind. Of the cartpoles and mountain cars, whose
    episodes may end early, later episodes are played and not scored; everything else
    has episodes of one length, and ends with the last that counts.
    """
    return EXPERIMENTS[split(task)[0]].episodes * limit(task)
