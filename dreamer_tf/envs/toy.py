"""A task of our own for tests and first runs, learned in a minute.

A cyan light must go to a red one in the middle of a square, so that they make white.
It begins anywhere; an episode has 50 frames. The action is its velocity: two numbers
in [-1, 1] (`toy`), or one of nine directions, standing still included
(`toy_discrete`).

    position' = clip(position + 0.2 velocity, -1, 1)
    reward    = 1 - |target - position'|

The axes do not influence each other, and every move that shrinks the distance along
one of them is right at every time, so the best policy is known exactly: `optimal`.
`RETURNS` says what it reaches, and what random actions do.
"""

import itertools

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.base import Env, Record, action_box, box, check_obs, image_box
from dreamer_tf.envs.choice import choose

TASKS = ("toy", "toy_discrete")
LENGTH = 50
SPEED = 0.2
TARGET = np.zeros(2)
DIRECTIONS = np.array(list(itertools.product((-1, 0, 1), repeat=2)), np.float64)
# Mean over 3000 episodes at repeat 1; tests/envs/test_toy.py computes them again.
RETURNS = {
    "toy": {"random": 10.9, "optimal": 49.2},
    "toy_discrete": {"random": 9.2, "optimal": 45.6},
}


class Toy(Env):
    """The light and its target.

    Observations: `position` (2,) and `offset` (2,), which is target - position; or
    `image`, which shows the same.
    """

    def __init__(
        self,
        discrete: bool = False,
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
            entries["position"] = box((2,))
            entries["offset"] = box((2,))
        entries, self.ignored = choose(entries, obs_keys)
        action_space = spaces.Discrete(len(DIRECTIONS)) if discrete else action_box(2)
        super().__init__(entries, action_space, repeat, length or LENGTH)
        self._size = size
        self._random = np.random.default_rng(seed)
        self._position = TARGET

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._position = self._random.uniform(-0.9, 0.9, 2)

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        velocity = DIRECTIONS[action] if isinstance(action, int) else action
        self._position = np.clip(self._position + SPEED * velocity, -1, 1)
        return 1 - float(np.linalg.norm(TARGET - self._position)), False, False

    def _observe(self) -> Record:
        record = {
            "position": self._position.astype(np.float32),
            "offset": (TARGET - self._position).astype(np.float32),
        }
        if "image" in self.obs_space.spaces:
            record["image"] = self.render()
        return {name: record[name] for name in self.obs_space.spaces}

    def render(self, size: int | None = None) -> np.ndarray:
        """Two glows; wide, so that a change of either place changes every pixel."""
        size = size or self._size
        axis = (np.arange(size) + 0.5) * 2.4 / size - 1.2  # from -1.2 to 1.2
        red, cyan = (
            # The y axis points up, rows count down.
            np.exp(-3 * ((axis[None, :] - x) ** 2 + (axis[:, None] + y) ** 2))
            for x, y in (TARGET, self._position)
        )
        return np.round(255 * np.stack((red, cyan, cyan), -1)).astype(np.uint8)


def optimal(record: Record, action_space: spaces.Space) -> np.ndarray:
    """The best action at a record with the vector entries, as `Env.step` takes it."""
    wish = np.clip(record["offset"] / SPEED, -1, 1)
    if not isinstance(action_space, spaces.Discrete):
        return wish.astype(np.float32)
    choice = np.flatnonzero((np.round(wish) == DIRECTIONS).all(1))[0]
    return np.eye(len(DIRECTIONS), dtype=np.float32)[choice]
