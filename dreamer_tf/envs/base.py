"""What every environment has in common: records, action repeat, time limit.

A record is one row of replay: the observation entries by their own names, and
`action`, `reward`, `is_first`, `is_last`, `is_terminal`. `action` and `reward`
led to the observation beside them; on the first record both are zero.
"""

import abc
from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from dreamer_tf.errors import UserError

Record = dict[str, np.ndarray]

FLAGS = ("is_first", "is_last", "is_terminal")
RESERVED = ("action", "reward", *FLAGS)


class Env(abc.ABC):
    """One environment. Subclasses say how to reset, move by one frame and look.

    Attributes:
        obs_space: `Dict` of float32 vectors (any shape) and uint8 `[H, W, C]` images.
        action_space: `Box` in [-1, 1], float32 and 1-D, or `Discrete(n)`.
        repeat: frames per decision; rewards are summed over them.
        length: frames after which an episode is cut (`is_last` without
            `is_terminal`); 0 leaves the task's own limit alone.
    """

    obs_space: spaces.Dict
    action_space: spaces.Box | spaces.Discrete

    def __init__(
        self,
        obs_space: Mapping[str, spaces.Space],
        action_space: spaces.Box | spaces.Discrete,
        repeat: int = 1,
        length: int = 0,
    ):
        if int(repeat) != repeat or repeat < 1:
            raise UserError(
                f"repeat is {repeat!r}, but must be an integer of 1 or more."
            )
        if int(length) != length or length < 0:
            raise UserError(
                f"length is {length!r}, but must be a number of frames, or 0 for the "
                "task's own limit."
            )
        clashes = sorted(set(obs_space) & set(RESERVED))
        if clashes:
            raise UserError(
                f'The observation has an entry "{clashes[0]}", a name that records use '
                "themselves: rename it in your environment."
            )
        # The order of the entries is the task's own, as in the official code.
        self.obs_space = spaces.Dict(dict(obs_space), sort_keys=False)
        self.action_space = action_space
        self.repeat = int(repeat)
        self.length = int(length)
        self._frames = 0
        self._over = True

    @abc.abstractmethod
    def _reset(self, seed: int | None) -> None:
        """Starts an episode; a seed decides everything random in it."""

    @abc.abstractmethod
    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        """Moves by one frame, returns reward, is_last and is_terminal.

        `action` is float32 `[A]` within [-1, 1], or the index of a discrete action.
        """

    @abc.abstractmethod
    def _observe(self) -> Record:
        """The present observation, called once per decision (it may render)."""

    @abc.abstractmethod
    def render(self, size: int | None = None) -> np.ndarray:
        """The scene as uint8 `[H, W, 3]`, for videos."""

    def close(self) -> None:  # noqa: B027 (most have nothing)
        """Frees what the environment holds."""

    def __enter__(self) -> "Env":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def reset(self, seed: int | None = None) -> Record:
        """Starts an episode and returns its first record.

        The same seed and the same actions give the same episode. Without a seed
        the environment's random stream just goes on.
        """
        self._reset(seed)
        self._frames = 0
        self._over = False
        return self._record(np.zeros(action_size(self.action_space)), 0.0, first=True)

    def step(self, action: np.ndarray) -> Record:
        """Repeats an action for `repeat` frames and returns the record it led to.

        Args:
            action: float32 `[A]`; one-hot when the action space is discrete. What
                lies outside of [-1, 1] is clipped for the environment, and recorded
                as given: that is what replay has to hold, for the policy's
                probabilities are those of the unclipped sample.

        Raises:
            ValueError: the action has the wrong shape or is not finite.
            RuntimeError: the episode is over.
        """
        if self._over:
            raise RuntimeError("The episode is over: call reset() before step().")
        action = np.asarray(action, np.float32)
        if action.shape != (action_size(self.action_space),):
            raise ValueError(
                f"The action has shape {action.shape}, but this environment takes "
                f"({action_size(self.action_space)},)."
            )
        if not np.isfinite(action).all():
            raise ValueError(f"The action is not finite: {action}.")
        if isinstance(self.action_space, spaces.Discrete):
            executed: np.ndarray | int = int(action.argmax())
        else:
            executed = action.clip(-1, 1)
        total, last, terminal = 0.0, False, False
        for _ in range(self.repeat):
            reward, last, terminal = self._frame(executed)
            total += reward
            self._frames += 1
            last = last or terminal or (0 < self.length <= self._frames)
            if last:
                break
        self._over = last
        return self._record(action, total, last=last, terminal=terminal)

    def _record(self, action, reward, first=False, last=False, terminal=False):
        return {
            **self._observe(),
            "action": np.array(action, np.float32),  # a copy: callers reuse theirs
            "reward": np.asarray(reward, np.float32),
            "is_first": np.asarray(first),
            "is_last": np.asarray(last),
            "is_terminal": np.asarray(terminal),
        }


def action_size(space: spaces.Space) -> int:
    """The length of an action vector: its dimensions, or its one-hot choices."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    assert isinstance(space, spaces.Box)
    return int(np.prod(space.shape))


def box(shape: tuple[int, ...]) -> spaces.Box:
    """The space of a float32 observation without bounds."""
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def image_box(height: int, width: int, channels: int = 3) -> spaces.Box:
    """The space of a uint8 image."""
    return spaces.Box(0, 255, (height, width, channels), np.uint8)


def is_image(space: spaces.Space) -> bool:
    """Whether an observation entry is a uint8 image `[H, W, C]`."""
    return space.dtype == np.uint8 and space.shape is not None and len(space.shape) == 3


def action_box(size: int) -> spaces.Box:
    """The space of continuous actions as agents see them: [-1, 1] everywhere."""
    return spaces.Box(-1, 1, (size,), np.float32)


def check_obs(obs: str) -> None:
    """Refuses anything but the three kinds of observation."""
    if obs not in ("proprio", "image", "both"):
        raise UserError(f'obs is {obs!r}, but must be "proprio", "image" or "both".')


class ActionScale:
    """Maps [-1, 1] to the bounds of each dimension; unbounded ones stay as they are.

    MuJoCo writes an actuator without limits as ±1e10, which counts as unbounded here:
    stretching [-1, 1] over that (as the official code would, for the two lqr tasks
    only) leaves nothing to control.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray):
        low = np.asarray(low, np.float64)
        high = np.asarray(high, np.float64)
        bounded = (np.abs(low) < 1e10) & (np.abs(high) < 1e10)
        self._low = np.where(bounded, low, -1)
        self._high = np.where(bounded, high, 1)

    def __call__(self, action: np.ndarray | int) -> np.ndarray:
        """Takes an action as agents give it, returns float64 within the bounds."""
        fraction = (np.asarray(action, np.float64) + 1) / 2
        return self._low + fraction * (self._high - self._low)
