"""The games of MinAtar (Young and Tian 2019): Atari on a board of 10x10 cells.

    env = make_env("minatar_breakout", env_args={"sticky": 0.0})

MinAtar is an optional package, under the GPL. It is imported when an environment is
made, not before.
"""

import colorsys
import difflib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.base import Env, Record, box, check_obs, image_box
from dreamer_tf.envs.choice import choose
from dreamer_tf.errors import UserError, reason

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
# What env_args may name, and the package's own values.
ARGUMENTS = {"sticky": 0.1, "ramping": True, "actions": "minimal"}


class MinAtar(Env):
    """One game.

    Observations: `board` (100 C,), whether an object of each of the game's C kinds is
    in each of the 10x10 cells, the kinds of a cell side by side; or `image`, with a
    colour for each kind. Where several are in a cell, the last kind is seen, as in the
    package's own display. An episode terminates where the game ends.

    Args:
        game: one of `GAMES`.
        seed, repeat, size, obs, length, obs_keys: as in `make_env`.
        env_args: `sticky`, the probability that a frame repeats the action of the frame
            before; `ramping`, whether the game becomes harder; `actions`, "minimal"
            for those that have an effect in the game, "full" for all 6.

    Raises:
        UserError: the game or an argument does not exist, or MinAtar is missing.
    """

    def __init__(
        self,
        game: str,
        seed: int = 0,
        repeat: int = 1,
        size: int = 64,
        obs: str = "proprio",
        length: int = 0,
        env_args: Mapping[str, Any] | None = None,
        obs_keys: str = "",
    ):
        check_obs(obs)
        if game not in GAMES:
            close = difflib.get_close_matches(game, GAMES, 1)
            hint = f" (did you mean minatar_{close[0]}?)" if close else ""
            raise UserError(
                f'task "minatar_{game}" is not known: the games of MinAtar are '
                f"{', '.join(GAMES)}{hint}."
            )
        chosen = _checked(env_args or {})
        self._game = _package().Environment(
            game, float(chosen["sticky"]), chosen["ramping"]
        )
        full = chosen["actions"] == "full"
        self._actions = (
            list(range(self._game.num_actions()))
            if full
            else list(self._game.minimal_action_set())
        )
        shape = tuple(self._game.state_shape())
        entries: dict[str, spaces.Space] = {}
        if obs != "proprio":
            entries["image"] = image_box(size, size)
        if obs != "image":
            entries["board"] = box((int(np.prod(shape)),))
        entries, self.ignored = choose(entries, obs_keys)
        super().__init__(entries, spaces.Discrete(len(self._actions)), repeat, length)
        self._title = f"minatar_{game}"
        self._owner = self._game
        self._size = size
        self._colours = _colours(shape[-1])
        self._seed(seed)

    def _seed(self, seed: int) -> None:
        self._game.seed(seed)  # of the game and of the sticky actions
        self._game.last_action = 0  # which would be the end of the episode before

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._seed(seed)
        self._game.reset()

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        reward, terminal = self._game.act(self._actions[int(action)])
        return float(reward), bool(terminal), bool(terminal)

    def _observe(self) -> Record:
        record = {}
        for name in self.obs_space.spaces:
            board = name == "board"
            record[name] = self._state().ravel() if board else self.render()
        return record

    def _state(self) -> np.ndarray:
        return np.asarray(self._game.state(), np.float32)

    def render(self, size: int | None = None) -> np.ndarray:
        """The board, each cell in the colour of the last kind of object in it."""
        size = size or self._size
        state = self._state()
        kinds = 1 + np.arange(state.shape[-1])
        cells = self._colours[(state * kinds).max(-1).astype(int)]
        rows, columns = (np.arange(size) * n // size for n in cells.shape[:2])
        return cells[rows[:, None], columns]


def _checked(env_args: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the game, the given ones instead of the package's values."""
    unknown = [name for name in env_args if name not in ARGUMENTS]
    if unknown:
        raise UserError(
            f"--env_args names {unknown[0]!r}, but the arguments of MinAtar are "
            f"{', '.join(ARGUMENTS)}."
        )
    chosen = {**ARGUMENTS, **env_args}
    sticky, ramping, actions = (chosen[name] for name in ARGUMENTS)
    number = isinstance(sticky, int | float) and not isinstance(sticky, bool)
    for name, good, valid in (
        ("sticky", number and 0 <= sticky <= 1, "a probability from 0 to 1"),
        ("ramping", isinstance(ramping, bool), "true or false"),
        ("actions", actions in ("minimal", "full"), "minimal or full"),
    ):
        if not good:
            raise UserError(
                f"--env_args={name} is {chosen[name]!r}, but must be {valid}."
            )
    return chosen


def _package() -> Any:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that without seaborn it has no display
    try:
        import minatar
    except ImportError as error:
        raise UserError(
            f"tasks minatar_<game> need the package MinAtar ({reason(error)}): "
            "pip install --no-deps -r requirements-minatar.txt"
        ) from error
    finally:
        logging.disable(before)
    return minatar


def _colours(kinds: int) -> np.ndarray:
    """uint8 `[kinds + 1, 3]`: black, then hues as far apart as they can be."""
    hues = (colorsys.hsv_to_rgb(kind / kinds, 0.8, 1.0) for kind in range(kinds))
    return np.round(255 * np.array([(0, 0, 0), *hues])).astype(np.uint8)
