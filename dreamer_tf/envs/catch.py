"""Catch, a discrete task of our own after bsuite's, learned in minutes.

A board of 10 rows and 5 columns. A ball begins in the top row, in a random column,
and falls by one row per frame. A paddle of two columns begins left of the middle of the
bottom row; the three actions move it by one column to the left, not at all, and to the
right, within the board. After 9 frames the ball is in the bottom row and the episode
ends (it terminates), with the only reward: 1 if the paddle is there, else -1.

There is time to reach every ball, so `optimal` always catches it. The ball's column
does not depend on the paddle's: random actions catch it twice in five times. The rules
are those of the catch experiment of bsuite (Osband et al. 2020), but for the paddle,
which has one column there. Such a paddle has to stay below the ball, and V1 learns that
only by chance: to its straight-through gradient, stepping left and right in turn is as
good (results/discrete).
"""

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.base import Env, Record, box, check_obs, image_box
from dreamer_tf.envs.choice import choose

TASK = "catch"
ROWS, COLUMNS = 10, 5
WIDTH = 2  # columns of the paddle
LENGTH = ROWS - 1
START = (COLUMNS - WIDTH) // 2  # of the paddle
BALL = (255, 255, 255)
PADDLE = (0, 160, 255)
# Exact; tests/envs/test_catch.py plays episodes.
RETURNS = {"random": -0.2, "optimal": 1.0}


class Catch(Env):
    """The ball and the paddle.

    Observations: `position` (3,), the row of the ball, its column and that of the
    paddle's middle, each from -1 (top, left) to 1; or `image`, which shows the board.
    Zeros and ones for the cells would hide which of them are neighbours: V1, which
    learns from derivatives of its model, hardly learned from those.
    """

    def __init__(
        self,
        seed: int = 0,
        repeat: int = 1,
        size: int = 64,
        obs: str = "proprio",
        length: int = 0,
        obs_keys: str = "",
    ):
        check_obs(obs)
        entries: dict[str, spaces.Space] = {}
        if obs != "proprio":
            entries["image"] = image_box(size, size)
        if obs != "image":
            entries["position"] = box((3,))
        entries, self.ignored = choose(entries, obs_keys)
        super().__init__(entries, spaces.Discrete(3), repeat, length)
        self._size = size
        self._random = np.random.default_rng(seed)
        self._row = self._column = 0  # of the ball
        self._paddle = START  # its left column

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._row, self._column = 0, int(self._random.integers(COLUMNS))
        self._paddle = START

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        moved = self._paddle + int(action) - 1
        self._paddle = min(max(moved, 0), COLUMNS - WIDTH)
        self._row += 1
        if self._row < ROWS - 1:
            return 0.0, False, False
        caught = 0 <= self._column - self._paddle < WIDTH
        return (1.0 if caught else -1.0), True, True

    def _observe(self) -> Record:
        record = {}
        for name in self.obs_space.spaces:
            record[name] = self.render() if name == "image" else self._position()
        return record

    def _position(self) -> np.ndarray:
        middle = self._paddle + (WIDTH - 1) / 2
        cells = np.array([self._row, self._column, middle])
        last = np.array([ROWS, COLUMNS, COLUMNS]) - 1
        return (2 * cells / last - 1).astype(np.float32)

    def render(self, size: int | None = None) -> np.ndarray:
        """The board on a square: a white ball, a blue paddle, the ball on top."""
        size = size or self._size
        cells = np.zeros((ROWS, COLUMNS, 3), np.uint8)
        cells[-1, self._paddle : self._paddle + WIDTH] = PADDLE
        cells[self._row, self._column] = BALL
        pixels = np.arange(size)
        rows, columns = pixels * ROWS // size, pixels * COLUMNS // size
        return cells[rows[:, None], columns]


def optimal(record: Record) -> np.ndarray:
    """The best action at a record with the position, as `Env.step` takes it."""
    _, ball, paddle = record["position"]
    away = (ball - paddle) * (COLUMNS - 1) / 2  # in columns
    return np.eye(3)[1 + int(np.sign(away)) * (abs(away) > WIDTH / 2)]
