"""What every environment has in common: records, action repeat, time limit.

A record is one row of replay: the observation entries by their own names, and
`action`, `reward`, `is_first`, `is_last`, `is_terminal`. `action` and `reward`
led to the observation beside them; on the first record both are zero.
"""

import abc
import dataclasses
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.foreign import Diverged, calling, shorten
from dreamer_tf.errors import UserError

Record = dict[str, np.ndarray]

HOPELESS = 10  # episodes in a row that diverge before their first record
ONE_HOT = 1_000_000  # choices, at most
FLOAT32 = float(np.finfo(np.float32).max)

FLAGS = ("is_first", "is_last", "is_terminal")
RESERVED = ("action", "reward", *FLAGS)


class Step(dict[str, np.ndarray]):
    """A record, and what else is known of the decision that led to it.

    Attributes:
        frames: that it took; fewer than `repeat` if the episode ended during them.
        diverged: how the simulation diverged (`Env`), empty if it did not.
        stats: numbers about the episode that ended with it (`Env._stats`); empty if
            none did, or if the environment has none.
    """

    def __init__(
        self,
        record: Record,
        frames: int,
        diverged: str = "",
        stats: Mapping[str, float] = MappingProxyType({}),
    ):
        super().__init__(record)
        self.frames, self.diverged, self.stats = frames, diverged, dict(stats)


class Env(abc.ABC):
    """One environment. Subclasses say how to reset, move by one frame and look.

    A simulation may diverge: dm_control says so with a PhysicsError, others return an
    observation that is not finite. The episode then ends as if it were cut (`is_last`
    without `is_terminal`), with the observation before and the rewards so far. A
    reset that diverges is repeated with another seed, which follows from its own. After
    `HOPELESS` times in a row without a record in between, a UserError is raised.

    Attributes:
        obs_space: `Dict` of float32 vectors (any shape) and uint8 `[H, W, C]` images.
        action_space: `Box` in [-1, 1], float32 and 1-D, or `Discrete(n)`.
        repeat: frames per decision; rewards are summed over them.
        length: frames after which an episode is cut (`is_last` without
            `is_terminal`); 0 leaves the task's own limit alone.
        ignored: what else the task observes, and why it is not in `obs_space`.
    """

    obs_space: spaces.Dict
    action_space: spaces.Box | spaces.Discrete
    ignored: Mapping[str, str] = MappingProxyType({})

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
                "themselves: rename it in your environment, or leave it out with "
                "--obs_keys."
            )
        # The order of the entries is the task's own, as in the official code.
        self.obs_space = spaces.Dict(dict(obs_space), sort_keys=False)
        self.action_space = action_space
        self.repeat = int(repeat)
        self.length = int(length)
        self._frames = 0
        self._over = True
        self._seen: Record = {}  # the observation of the last record
        self._in_vain = 0  # episodes in a row that diverged before their first record
        # Named in the sentences about what goes wrong in the subclass.
        self._title = type(self).__name__
        self._owner: Any = self

    @abc.abstractmethod
    def _reset(self, seed: int | None) -> None:
        """Starts an episode; a seed decides everything random in it."""

    @abc.abstractmethod
    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        """Moves by one frame, returns reward, is_last and is_terminal.

        It raises `Diverged`, as `_reset` and `_observe` may, if the simulation cannot
        go on.

        `action` is float32 `[A]` within [-1, 1], or the index of a discrete action.
        """

    @abc.abstractmethod
    def _observe(self) -> Record:
        """The present observation, called once per decision (it may render)."""

    @abc.abstractmethod
    def render(self, size: int | None = None) -> np.ndarray:
        """The scene as uint8 `[H, W, 3]`, for videos."""

    def _stats(self) -> dict[str, float]:
        """Numbers about the episode that has just ended, asked for once.

        Training adds them to stats.jsonl in the run's directory, a line per episode.
        """
        return {}

    def own(self) -> "Own":
        """What the environment itself observes and takes; here: as agents do."""
        return as_agents_do(self.obs_space, self.action_space)

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

        Raises:
            UserError: the environment raised an error, or keeps diverging.
        """
        diverged, again = "", seed
        for attempt in itertools.count(1):
            try:
                with calling(self._title, "reset", self._owner):
                    self._reset(again)
                    self._seen = self._look()
                break
            except Diverged as error:
                diverged = str(error)
                self._begun_in_vain(diverged)
                if seed is not None:
                    sequence = np.random.SeedSequence(seed, spawn_key=(attempt,))
                    again = int(sequence.generate_state(1)[0])
        self._frames = 0
        self._over = False
        action = np.zeros(action_size(self.action_space))
        return Step(self._record(action, 0.0, first=True), 0, diverged)

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
            UserError: the environment raised an error, or keeps diverging.
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
        start = self._frames == 0
        self._over = True  # unless what follows succeeds
        diverged, total, taken, last, terminal = "", 0.0, 0, False, False
        try:
            with calling(self._title, "step", self._owner):
                for _ in range(self.repeat):
                    taken += 1
                    reward, last, terminal = self._frame(executed)
                    if not abs(total + reward) <= FLOAT32:
                        self._look()  # raises Diverged if it is not finite either
                        fits = "not finite" if not np.isfinite(reward) else "too large"
                        raise UserError(f"The reward is {fits}: {reward}.")
                    total += reward
                    self._frames += 1
                    last = last or terminal or self._frames == self.length
                    if last:
                        break
                self._seen = self._look()
            self._in_vain = 0
        except Diverged as error:
            diverged, last, terminal = str(error), True, False
            if start:
                self._begun_in_vain(diverged)
            # Copies: replay keeps the arrays of the record before.
            self._seen = {name: np.array(x) for name, x in self._seen.items()}
        self._over = last
        record = self._record(action, total, last=last, terminal=terminal)
        return Step(record, taken, diverged, self._stats() if last else {})

    def _begun_in_vain(self, diverged: str) -> None:
        self._in_vain += 1
        if self._in_vain >= HOPELESS:
            raise UserError(
                f"{self._title} diverged in {HOPELESS} episodes in a row before their "
                f"first step was done: {diverged}; see how it begins an episode."
            )

    def _look(self) -> Record:
        """The present observation, if it is finite."""
        seen = self._observe()
        for name, value in seen.items():
            numbers = getattr(getattr(value, "dtype", None), "kind", "") == "f"
            if numbers and not np.isfinite(value).all():
                raise Diverged(
                    f'observation entry "{name}" is not finite: {shorten(value)}'
                )
        return seen

    def _record(self, action, reward, first=False, last=False, terminal=False):
        return {
            **self._seen,
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
    """Maps [-1, 1] into a space's bounds, each dimension by the same rule.

        low and high      [-1, 1] is stretched to [low, high]
        low alone         [-1, 1] is moved to [low, low + 2]
        high alone        [-1, 1] is moved to [high - 2, high]
        neither           [-1, 1] stays as it is

    Every finite bound counts, however large.

    Args:
        low, high: the bounds, of any shape; infinite where there is none.
        dtype: of the result.

    Attributes:
        bounds: low and high in that type.
        low, half: float64; an action a becomes low + (a + 1) half, clipped to `bounds`.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, dtype: Any = np.float64):
        self.bounds = np.asarray(low, dtype), np.asarray(high, dtype)
        low, high = (np.asarray(bound, np.float64) for bound in self.bounds)
        # As far as there is no bound, the length of the interval is 2.
        below_high = np.where(np.isfinite(high), high - 2, -1)
        self.low = np.where(np.isfinite(low), low, below_high)
        high = np.where(np.isfinite(high), high, self.low + 2)
        self.half = high / 2 - self.low / 2  # whose double may be too large a number

    def __call__(self, action: np.ndarray | int) -> np.ndarray:
        """Takes an action `[A]` as agents give it; the result lies in the bounds."""
        low, high = self.bounds
        with np.errstate(over="ignore"):  # it is clipped
            moved = self.low + (np.asarray(action, np.float64) + 1) * self.half
            return np.clip(moved.astype(low.dtype), low, high)


# --- The environment's own observations and actions -----------------------------


@dataclasses.dataclass(frozen=True)
class OwnEntry:
    """Where an entry of `Env.obs_space` comes from, and what is done to it.

    Attributes:
        name: of the entry.
        source: what holds the value, as Python that callers of the environment know.
        keys: that lead to the value there; none if it is all of it.
        shape, dtype: of the value; None in the shape is any size.
        kind: "vector": its numbers as float32, in the entry's shape; "one_hot": the
            number `start` + i becomes 1 at place i; "picture": squeezed into the
            entry's square, floats times 255; "scene": the same in its proportions, on
            black.
        start: of "one_hot".
    """

    name: str
    source: str
    keys: tuple[Any, ...]
    shape: tuple[int | None, ...]
    dtype: str
    kind: str
    start: int = 0


@dataclasses.dataclass(frozen=True)
class OwnAction:
    """What the environment itself takes as an action.

    Attributes:
        shape, dtype: of it; () for a Discrete.
        scale: from an agent's action; None: it is `start` plus the index.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: ActionScale | None = None
    start: int = 0


@dataclasses.dataclass(frozen=True)
class Own:
    """The environment's own interface, which an exported policy has too."""

    entries: tuple[OwnEntry, ...]
    action: OwnAction


def as_agents_do(
    obs_space: spaces.Dict, action_space: spaces.Box | spaces.Discrete
) -> Own:
    """Of an environment that has the spaces of agents, but takes an index."""
    entries = [
        OwnEntry(
            name,
            "observation",
            (name,),
            tuple(space.shape or ()),
            str(space.dtype),
            "picture" if is_image(space) else "vector",
        )
        for name, space in obs_space.spaces.items()
    ]
    if isinstance(action_space, spaces.Discrete):
        return Own(tuple(entries), OwnAction((), "int64"))
    scale = ActionScale(action_space.low, action_space.high, np.float32)
    return Own(tuple(entries), OwnAction(action_space.shape, "float32", scale))
