"""Atari games, as the wrappers of DreamerV2 and DreamerV3 show them.

`atari_<game>` for any game of ale-py, by its ROM's name (`james_bond` is `jamesbond`).
The emulator is used without gymnasium or OpenCV. There is one observation, the picture
`image`; losing a life ends nothing. `Settings` are the arguments that `--env_args`
names; by default they are those of DreamerV3's current code for 200M frames.

The two papers' wrappers differ in more than numbers (argument `pooling`):

    v2    the emulator's gray (of its palette) of each screen; the maximum of the last
          two frames of a decision; averaged over areas. A decision that the game's end
          cuts short keeps the pictures from before its last frame. An end in the
          decision that reaches the time limit counts as the limit.
    v3    the maximum of the last two frames in colours; Pillow's bilinear filter; gray
          from these colours. The screen is taken before the end is looked for.

From danijar/dreamerv2 @ 650e92d (with gym 0.18's AtariPreprocessing and OpenCV's
INTER_AREA) and danijar/dreamerv3 @ e3f0224 (embodied/envs/atari.py); `stale` pictures
are those of its commits 2411f7d to b65cf81.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs import observations
from dreamer_tf.envs.base import Env, Record, image_box
from dreamer_tf.envs.choice import choose
from dreamer_tf.envs.foreign import calling, shorten
from dreamer_tf.errors import UserError, reason

PREFIX = "atari_"
LIMIT = 108_000  # frames of an episode: half an hour
# Those of DreamerV3's table. DreamerV2's leaves out defender and surround.
_GAMES = """
alien amidar assault asterix asteroids atlantis bank_heist battle_zone beam_rider
berzerk bowling boxing breakout centipede chopper_command crazy_climber defender
demon_attack double_dunk enduro fishing_derby freeway frostbite gopher gravitar hero
ice_hockey jamesbond kangaroo krull kung_fu_master montezuma_revenge ms_pacman
name_this_game phoenix pitfall pong private_eye qbert riverraid road_runner robotank
seaquest skiing solaris space_invaders star_gunner surround tennis time_pilot tutankham
up_n_down venture video_pinball wizard_of_wor yars_revenge zaxxon
"""
GAMES = tuple(_GAMES.split())
_NOOP = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a paper sets the games up: the arguments that `--env_args` names.

    Attributes:
        pooling: "v2" or "v3", the order in which a picture is made (see above).
        gray: one channel instead of three.
        sticky: probability, per frame, that the emulator repeats the action of the
            frame before.
        noops: how many frames without action begin an episode, "LOW-HIGH" with both
            ends, or one number. They count neither as frames nor as decisions.
        actions: "full" (18, for skiing 9) or "minimal" (those that do something).
        first_picture: "reset", or "stale": as in a bug of DreamerV3's code, the last
            screen of the episode before, and black in a new environment. `reset` with
            a seed begins as a new environment does, so its first picture is black.
        limit_terminal: whether the time limit is a terminal end as well.

    Raises:
        UserError: a value is not one of these.
    """

    pooling: str = "v3"
    gray: bool = True
    sticky: float = 0.25
    noops: str | int = "0-30"
    actions: str = "full"
    first_picture: str = "reset"
    limit_terminal: bool = True

    def __post_init__(self) -> None:
        self._one_of("pooling", "v2", "v3")
        self._one_of("gray", True, False)
        if type(self.sticky) not in (int, float) or not 0 <= self.sticky <= 1:
            raise self._wrong("sticky", "a probability from 0 to 1")
        low, high = self.range
        if low > high:
            raise self._wrong("noops", "LOW-HIGH with LOW at most HIGH")
        self._one_of("actions", "full", "minimal")
        self._one_of("first_picture", "reset", "stale")
        self._one_of("limit_terminal", True, False)
        if self.first_picture == "stale" and self.pooling == "v2":
            raise self._wrong(
                "first_picture", "reset with pooling v2, which has no bug"
            )

    @classmethod
    def read(cls, task: str, env_args: Mapping[str, Any]) -> "Settings":
        """The settings with these arguments; a name that does not exist is refused."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in env_args:
            if name not in names:
                raise UserError(
                    f"--env_args names {shorten(name)}, but {task} takes "
                    f"{', '.join(names)}."
                )
        return cls(**env_args)

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest number of no-ops."""
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", str(self.noops))
        if not match:
            raise self._wrong("noops", "a number or LOW-HIGH, such as 0-30")
        return int(match[1]), int(match[2] or match[1])

    def _one_of(self, name: str, *valid: Any) -> None:
        value = getattr(self, name)
        if type(value) is not type(valid[0]) or value not in valid:
            known = [str(x).lower() for x in valid]  # as JSON writes them
            raise self._wrong(name, " or ".join(known))

    def _wrong(self, name: str, valid: str) -> UserError:
        value = shorten(getattr(self, name))
        return UserError(f"--env_args: {name} is {value}, but must be {valid}.")


class Atari(Env):
    """A game behind our interface.

    A seed is the number that DreamerV3's wrapper takes: from it come the emulator's
    seed and the numbers of no-ops. `reset(seed)` loads the game anew (a tenth of a
    second), so that the episode follows from the seed and the actions. `reset()` lets
    the emulator's random numbers go on.

    Args:
        task: `atari_<game>`, with or without `atari_` before it.
        seed: of episodes that are reset without a seed of their own.
        repeat: frames per decision, 4 in both papers. If it is 1, pooling v2 shows
            each frame, and v3 the maximum of two frames still.
        size: height and width of the image.
        obs: "image".
        length: frames after which episodes are cut, 0 for `LIMIT`; no-ops do not count.
        env_args: `Settings` by their names.
        obs_keys: which entries are observed, a regular expression (see `choice`).

    Attributes:
        settings: of this environment.
        actions: the emulator's own number of each action.

    Raises:
        UserError: ale-py is not installed, it has no such game, or an argument does
            not fit.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        repeat: int = 4,
        size: int = 96,
        obs: str = "image",
        length: int = 0,
        env_args: Mapping[str, Any] | None = None,
        obs_keys: str = "",
    ):
        game = task.removeprefix(PREFIX)
        title = f"{PREFIX}{game}"
        if obs != "image":
            raise UserError(
                f"obs is {shorten(obs)}, but {title} observes an image only: use "
                "--obs=image."
            )
        self.settings = Settings.read(title, env_args or {})
        gray = self.settings.gray
        space = {"image": image_box(size, size, 1 if gray else 3)}
        entries, self.ignored = choose(space, obs_keys)
        self._game, self._rom = game, _rom(game)
        self._ale = _package().ALEInterface()
        self._seed(seed)
        if self.settings.actions == "full":
            own = self._ale.getLegalActionSet()
        else:
            own = self._ale.getMinimalActionSet()
        self.actions = tuple(action.value for action in own)
        super().__init__(entries, spaces.Discrete(len(own)), repeat, length or LIMIT)
        self._title = title
        self._size = size
        kind = V2Screens if self.settings.pooling == "v2" else V3Screens
        self._blank = functools.partial(kind, self._ale, gray, self.repeat)
        self._screens = self._blank()

    def _seed(self, seed: int) -> None:
        """Takes the emulator back to its beginning."""
        self._random = np.random.default_rng(seed)
        self._load(int(self._random.integers(2**31)))

    def _load(self, seed: int) -> None:
        with calling(f"{PREFIX}{self._game}", "load"):
            # The emulator reads both when it loads the ROM, and only then.
            self._ale.setInt("random_seed", seed)
            self._ale.setFloat("repeat_action_probability", float(self.settings.sticky))
            self._ale.loadROM(self._rom)

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._seed(seed)
            self._screens = self._blank()
        low, high = self.settings.range
        self._begin(int(self._random.integers(low, high + 1)))

    def _begin(self, noops: int) -> None:
        """Starts an episode with so many frames without action."""
        self._ale.reset_game()
        for _ in range(noops):
            self._ale.act(_NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._screens.begin(self.settings.first_picture == "stale")

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        done = self._frames % self.repeat  # frames of this decision, before this one
        reward = self._ale.act(self.actions[int(action)])
        over = self._ale.game_over()
        self._screens.add(done, over)
        terminal = over
        if self.settings.limit_terminal:
            terminal = over or self._frames + 1 == self.length
        elif self.settings.pooling == "v2":
            terminal = over and self._frames - done + self.repeat < self.length
        return float(reward), over, terminal

    def _observe(self) -> Record:
        return {"image": self._screens.picture(self._size)}

    def render(self, size: int | None = None) -> np.ndarray:
        """The screen in colours and in its proportions, on black."""
        return observations.scene(self._ale.getScreenRGB(), size or self._size)


class V2Screens:
    """The two screens of a decision, pooled in V2's order.

    Args:
        ale: the emulator, with a game loaded.
        gray: one channel.
        repeat: frames per decision.

    Attributes:
        pooled: uint8 `[H, W]` or `[H, W, 3]`, what the last picture was made of.
    """

    def __init__(self, ale: Any, gray: bool, repeat: int):
        shape = ale.getScreenDims()
        self._take = ale.getScreenGrayscale if gray else ale.getScreenRGB
        self._repeat = repeat
        # The maximum is taken in place, as in the official code, where this shows: an
        # end on the last frame leaves the maximum of before and the frame before it.
        self.pooled = np.zeros(shape if gray else (*shape, 3), np.uint8)
        self._earlier = np.zeros_like(self.pooled)

    def begin(self, stale: bool) -> None:
        """Takes the first screen of an episode."""
        self._take(self.pooled)
        self._earlier[:] = 0

    def add(self, done: int, over: bool) -> None:
        """Takes the screen if it is wanted.

        Args:
            done: frames of the decision before this one.
            over: whether the game ended in this frame.
        """
        if over:
            return
        if done == self._repeat - 2:
            self._take(self._earlier)
        elif done == self._repeat - 1:
            self._take(self.pooled)

    def picture(self, size: int) -> np.ndarray:
        """uint8 `[size, size, 1 or 3]`."""
        if self._repeat > 1:
            np.maximum(self.pooled, self._earlier, out=self.pooled)
        return area(self.pooled, size)


class V3Screens:
    """The last two screens, pooled in V3's order; otherwise as `V2Screens`."""

    def __init__(self, ale: Any, gray: bool, repeat: int):
        self._take = ale.getScreenRGB
        self._gray, self._repeat = gray, repeat
        self.pooled = np.zeros((*ale.getScreenDims(), 3), np.uint8)
        self._newest, self._earlier = (np.zeros_like(self.pooled) for _ in range(2))

    def begin(self, stale: bool) -> None:
        self._render()
        if stale:
            self._newest[:] = self._earlier
        else:
            self._earlier[:] = self._newest

    def add(self, done: int, over: bool) -> None:
        if done >= self._repeat - 2:
            self._render()

    def picture(self, size: int) -> np.ndarray:
        from PIL import Image

        np.maximum(self._newest, self._earlier, out=self.pooled)
        screen = Image.fromarray(self.pooled)
        image = np.array(screen.resize((size, size), Image.Resampling.BILINEAR))
        return gray(image) if self._gray else image

    def _render(self) -> None:
        self._newest, self._earlier = self._earlier, self._newest
        self._take(self._newest)


def gray(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` to `[H, W, 1]`, with V3's weights, truncated.

    In double precision and in this order: 0.114 as the last weight, or another
    precision, gives other pixels.
    """
    result = image[..., 0] * 0.299
    result += image[..., 1] * 0.587
    result += image[..., 2] * (1 - (0.299 + 0.587))
    return result.astype(np.uint8)[..., None]


def area(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, C]` to `[size, size, C]`, averaging over areas.

    In the precision and order of OpenCV's INTER_AREA: float32, first along rows.
    """
    result = image.reshape(*image.shape[:2], -1)
    for axis in (1, 0):
        first, *others = _overlaps(image.shape[axis], size)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        total = result.take(first[0], axis) * first[1].reshape(shape)
        for places, weights in others:
            total += result.take(places, axis) * weights.reshape(shape)
        result = total
    return np.rint(result).astype(np.uint8)


@functools.cache
def _overlaps(old: int, new: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of `new` equal parts of `old` pixels: a pixel and its share, in order.

    Each pair holds one pixel of every part (`[new]`) and its weight, float32; parts
    that reach over fewer pixels have weights of 0 at the end.
    """
    edges = np.arange(new + 1) * (old / new)
    places = np.floor(edges[:-1]).astype(int)
    pairs = []
    while (places < edges[1:]).any():
        overlap = np.minimum(places + 1, edges[1:]) - np.maximum(places, edges[:-1])
        weights = (np.maximum(overlap, 0) * new / old).astype(np.float32)
        pairs.append((np.minimum(places, old - 1), weights))
        places = places + 1
    return pairs


def _rom(game: str) -> Any:
    """The path of a game's ROM."""
    _package()
    from ale_py import roms

    game = {"james_bond": "jamesbond"}.get(game, game)
    known = sorted(roms.get_all_rom_ids())
    if game in known:
        with calling(f"{PREFIX}{game}", "load"):
            return roms.get_rom_path(game)
    near = difflib.get_close_matches(game, known, 3)
    if near:
        hint = f"did you mean {' or '.join(PREFIX + name for name in near)}?"
    else:
        hint = f"the games of ale-py are {', '.join(known)}."
    raise UserError(f'task "{PREFIX}{game}" is not known: {hint}')


@functools.cache
def _package() -> Any:
    try:
        import ale_py
    except ImportError as error:
        raise UserError(
            f"Tasks atari_<game> need the package ale-py, which cannot be imported "
            f"({reason(error)}): pip install -r requirements-atari.txt"
        ) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py
