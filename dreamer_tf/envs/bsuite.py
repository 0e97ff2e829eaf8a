"""BSuite (arXiv 1908.03568): 23 experiments, 468 configurations, no pictures.

    make_env("bsuite_catch_0")      # bsuite's own id is catch/0

An observation is one vector, `observation`: the numbers of bsuite's array, row by row.
Actions are discrete. Every end is terminal, the time limits of cartpole and mountain
car too: bsuite ends all episodes with discount 0.

A run of an experiment is a number of episodes, all of which count from the first on
(`configs/bsuite.py`). Of each episode `Step.stats` has the regret from which
`reproductions/bsuite_score.py` computes the scores.

The package's `__init__.py` and its reward wrappers import plotnine, statsmodels,
scikit-image and matplotlib, which no environment needs. So the environments are
imported around it, and noise and scale of rewards are applied here.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.configs.bsuite import EXPERIMENTS, ONLINE, canonical, split
from dreamer_tf.envs.base import Env, Own, OwnAction, OwnEntry, Record, box, check_obs
from dreamer_tf.envs.choice import choose
from dreamer_tf.envs.foreign import calling
from dreamer_tf.errors import UserError, reason

NAME = "observation"
MNIST = Path("/tmp/mnist")  # where bsuite looks, and downloads to
MNIST_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


class BSuite(Env):
    """One configuration of an experiment behind our interface.

    A seed decides all that an episode draws: bsuite's generators are seeded by it. What
    an experiment draws once, such as which arm of a bandit pays how much, is seeded by
    its configuration and the same for all runs.

    Args:
        task: a name that `configs.bsuite.split` knows.
        seed: of episodes that are reset without a seed of their own.
        repeat: frames (steps of bsuite) per decision.
        size: height and width of what `render` draws.
        obs: "proprio", the only kind there is.
        length: frames after which episodes are cut, 0 for bsuite's own end.
        obs_keys: which entries are observed, a regular expression (see `choice`).

    Raises:
        UserError: there is no such task, the package is not installed, or MNIST is not
            there.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        repeat: int = 1,
        size: int = 64,
        obs: str = "proprio",
        length: int = 0,
        obs_keys: str = "",
    ):
        self._experiment, number = split(task)
        title = canonical(task)
        check_obs(obs)
        if obs != "proprio":
            raise UserError(
                f"obs is {obs}, but {title} observes vectors only: use --obs=proprio."
            )
        if self._experiment in ONLINE:
            _check_mnist(title)
        settings = dict(_module(self._experiment, "sweep").SETTINGS[number])
        self._noise = settings.pop("noise_scale", 0.0)
        self._scale = settings.pop("reward_scale", 1.0)
        settings.pop("seed", None)  # None where it is given: `_seed` does it
        # Those with noise or scale are an experiment of their own in a wrapper.
        inner = self._experiment.removesuffix("_noise").removesuffix("_scale")
        module = _module(inner, inner)
        make = getattr(module, "CartpoleSwingup", None) or module.load
        with calling(title, "__init__"):
            self._env = make(**settings)
        shape = self._env.observation_spec().shape
        entries, self.ignored = choose({NAME: box((int(np.prod(shape)),))}, obs_keys)
        actions = spaces.Discrete(int(self._env.action_spec().num_values))
        super().__init__(entries, actions, repeat, length)
        self._title, self._owner = title, self._env
        self._size = size
        self._random = np.random.RandomState()  # of the noise, as in bsuite
        self._observation = np.zeros(shape, np.float32)
        self._steps, self._total, self._counted = 0, 0.0, 0.0
        self._seed(seed)

    def _seed(self, seed: int) -> None:
        generators = [self._random, getattr(self._env, "_rng", None)]
        for number, generator in enumerate(generators):
            if generator is not None:  # the chains of discounting draw nothing
                sequence = np.random.SeedSequence(seed, spawn_key=(number,))
                generator.seed(sequence.generate_state(4))

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._seed(seed)
        self._observation = self._env.reset().observation
        self._steps, self._total, self._counted = 0, 0.0, self._count()

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        step = self._env.step(action)
        self._observation = step.observation
        reward = float(step.reward or 0.0)
        self._steps += 1
        self._total += reward
        if self._noise:
            reward += self._noise * self._random.randn()
        return self._scale * reward, step.last(), step.last() and step.discount == 0

    def _observe(self) -> Record:
        return {NAME: np.array(self._observation, np.float32).ravel()}

    def _count(self) -> float:
        """What the environment has counted in all its episodes."""
        info = self._env.bsuite_info()
        return float(info.get("total_regret", info.get("total_bad_episodes", 0)))

    def _stats(self) -> dict[str, float]:
        """Frames, return without noise and scale, and regret of the episode.

        The regret is what bsuite's analysis takes from it: what the environment counts
        (of deep_sea: 1 if the way to the goal was left), otherwise the return that
        counts as none (`Experiment.needed`) minus the return.
        """
        needed = EXPERIMENTS[self._experiment].needed
        if needed is None:
            regret = self._count() - self._counted
        else:
            regret = needed - self._total
        # They are sums of tenths; what is left of the sums before would differ after a
        # restart, which begins them anew.
        return {
            "length": self._steps,
            "reward": round(self._total, 6),
            "regret": round(regret, 6),
        }

    def render(self, size: int | None = None) -> np.ndarray:
        """The observation as cells: white is 1, black 0 and red -1."""
        size = size or self._size
        values = np.asarray(self._observation, np.float64).clip(-1, 1)
        rows, columns = (np.arange(size) * n // size for n in values.shape)
        cells = values[rows][:, columns]
        positive = cells.clip(0, 1)
        picture = np.stack((np.abs(cells), positive, positive), -1)
        return np.round(255 * picture).astype(np.uint8)

    def own(self) -> Own:
        shape = self._observation.shape
        where = "time_step.observation", ()
        entry = OwnEntry(NAME, *where, shape, str(np.dtype(np.float32)), "vector")
        return Own((entry,), OwnAction((), "int64"))


def _check_mnist(title: str) -> None:
    missing = [name for name in MNIST_FILES if not (MNIST / name).is_file()]
    if missing:
        raise UserError(
            f"{title} needs {', '.join(missing)} of MNIST in {MNIST}, which bsuite "
            "would download: put them there, or leave these tasks out, as tasks that "
            "were not run are not scored."
        )


@functools.cache
def _module(experiment: str, name: str) -> Any:
    """A module of an experiment, imported on first use, without `bsuite/__init__`."""
    try:
        with _without_init():
            return importlib.import_module(f"bsuite.experiments.{experiment}.{name}")
    except ImportError as error:
        raise UserError(
            f"Tasks bsuite_* need the package bsuite, which cannot be imported "
            f"({reason(error)}): pip install --no-deps -r requirements-bsuite.txt"
        ) from error


@contextlib.contextmanager
def _without_init() -> Iterator[None]:
    """Imports of `bsuite.…` run no `bsuite/__init__.py`, and leave no trace of that."""
    spec = None if "bsuite" in sys.modules else importlib.util.find_spec("bsuite")
    if spec is None:  # it is imported already, or not installed
        yield
        return
    before = set(sys.modules)
    package = types.ModuleType("bsuite")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["bsuite"] = package
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "bsuite":
                del sys.modules[name]
