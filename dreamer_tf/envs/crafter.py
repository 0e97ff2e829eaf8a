"""Crafter (arXiv 2109.06780): surviving and crafting in a world of 64 x 64 cells.

`crafter_reward` gives 1 for the first time that an episode unlocks an achievement, and
a tenth of every change of the player's health; `crafter_noreward` gives nothing. There
are 17 actions, and one observation: the picture `image`. An episode ends when the
player dies, or after 10,000 frames, which is a cut and no end. Of each episode
`Step.stats` has what the package's own `Recorder` writes.

As shipped, the package does not repeat itself: it balances the creatures of a chunk of
the world in the order of a set of objects, which depends on where they lie in memory.
Here a chunk keeps them in the order in which they came.

The noise of the night is drawn from the world's own random numbers, in the size of the
picture: another `size` gives other episodes.
"""

import collections
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.base import Env, Record, check_obs, image_box
from dreamer_tf.envs.choice import choose
from dreamer_tf.errors import UserError, reason

TASKS = ("crafter_reward", "crafter_noreward")
LIMIT = 10_000  # frames of an episode
SMALLEST = 18  # pixels; a cell of the 9 x 9 must have two, to show a number in it


class Crafter(Env):
    """A task of Crafter behind our interface.

    A seed is the package's own, with its count of episodes begun anew: `reset(seed)`
    gives the first world of `crafter.Env(seed=seed)`, and further calls without a seed
    the next ones.

    Args:
        task: one of `TASKS`.
        seed: of episodes that are reset without a seed of their own.
        repeat: frames (steps of the package) per decision.
        size: height and width of the image.
        obs: "image" or "both".
        length: frames after which episodes are cut, 0 for `LIMIT`.
        obs_keys: which entries are observed, a regular expression (see `choice`).

    Raises:
        UserError: the package is not installed, or an argument does not fit.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        repeat: int = 1,
        size: int = 64,
        obs: str = "image",
        length: int = 0,
        obs_keys: str = "",
    ):
        check_obs(obs)
        if obs == "proprio":
            raise UserError(
                f"obs is proprio, but {task} observes images only: use --obs=image."
            )
        _check_size(size)
        entries, self.ignored = choose({"image": image_box(size, size)}, obs_keys)
        crafter = _package()
        self._env = crafter.Env(
            size=(size, size),
            reward=task == "crafter_reward",
            length=LIMIT,
            seed=seed,
        )
        _keep_order(self._env._world)
        names = self._env.action_names
        super().__init__(entries, spaces.Discrete(len(names)), repeat, length)
        self._title, self._owner = task, self._env
        self._image = np.zeros((size, size, 3), np.uint8)
        self._info: dict[str, Any] = {}  # of the last frame
        self._steps, self._total = 0, 0.0

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._env._seed, self._env._episode = seed, 0
        self._image = self._env.reset()
        self._info = {}
        self._steps, self._total = 0, 0.0

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        self._image, reward, last, self._info = self._env.step(action)
        self._steps += 1
        self._total += self._info["reward"]  # also where the task gives none
        return float(reward), bool(last), self._info["discount"] == 0

    def _observe(self) -> Record:
        return {"image": np.ascontiguousarray(self._image)}

    def _stats(self) -> dict[str, float]:
        """A line of the official Recorder: how often each achievement was reached."""
        counts = self._info["achievements"].items()
        return {
            "length": self._steps,
            "reward": round(self._total, 1),
            **{f"achievement_{name}": count for name, count in counts},
        }

    def render(self, size: int | None = None) -> np.ndarray:
        """The scene; what happens afterwards does not depend on it."""
        if size is None:
            return self._image.copy()
        _check_size(size)
        random = self._env._world.random
        before = random.get_state()
        try:
            return np.ascontiguousarray(self._env.render((size, size)))
        finally:
            random.set_state(before)


class _Ordered(dict):
    """As much of a set as a chunk needs, in the order in which things were added."""

    def add(self, thing: Any) -> None:
        self[thing] = None

    def remove(self, thing: Any) -> None:
        del self[thing]


def _keep_order(world: Any) -> None:
    """Makes all later worlds of an environment keep the order of their creatures."""
    reset = world.reset

    def ordered(seed: int | None = None) -> None:
        reset(seed)
        world._chunks = collections.defaultdict(_Ordered)

    world.reset = ordered


def _package() -> Any:
    try:
        import crafter
    except ImportError as error:
        raise UserError(
            f"Tasks crafter_* need the package crafter, which cannot be imported "
            f"({reason(error)}): pip install -r requirements-crafter.txt"
        ) from error
    return crafter


def _check_size(size: int) -> None:
    if size < SMALLEST:
        raise UserError(
            f"size is {size}, but Crafter draws pictures of at least {SMALLEST} pixels."
        )
