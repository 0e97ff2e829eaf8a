"""Any gymnasium environment: `gym_<id>`, or one that you constructed.

    make_env("gym_CartPole-v1")
    make_env("gym_my_package:MyEnv-v0")     # gymnasium imports my_package first
    make_env(MyEnv())                       # any gymnasium.Env

What an observation space becomes:

    Box            float32 of the same shape, named `vector`
    uint8 [H,W,C]  an image of `size` x `size`, named `image`; [H,W] gets C = 1
    Discrete(n)    float32 [n], one-hot, named `vector`
    Dict           its entries under their own names, nested ones joined by "_", which
                   also replaces "/"

`obs` picks among them: "proprio" the vectors, "image" the images, "both" all. Where
images are asked for and the environment observes none, it is rendered as `image`.
"proprio" takes a grid of at most 15 x 15 cells, such as MiniGrid's, as a vector of its
numbers. Of what is left, `obs_keys` picks by name. Other entries of a Dict are ignored;
`Gymnasium.ignored` says why. One that `obs_keys` names must be of use.
"""

import difflib
import math
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_tf.envs import gl
from dreamer_tf.envs.base import (
    ActionScale,
    Env,
    Record,
    action_box,
    box,
    check_obs,
    image_box,
)
from dreamer_tf.envs.choice import NOT_CHOSEN, check_keys, fits, none_fits
from dreamer_tf.errors import UserError, reason

GRID = 15  # rows and columns of a grid that is no picture, at most


class Entry(NamedTuple):
    """One entry of our observation and where it comes from in theirs."""

    name: str
    keys: tuple[Any, ...]
    space: spaces.Box
    convert: Callable[[Any], np.ndarray]


class Found(NamedTuple):
    """What is observed of an environment."""

    entries: list[Entry]
    render: bool  # as the entry `image`, besides
    ignored: dict[str, str]  # the other entries, and why


class Gymnasium(Env):
    """A gymnasium environment behind our interface.

    Args:
        env: an id of gymnasium's registry, or an environment.
        seed: of episodes that are reset without a seed of their own.
        repeat: frames (calls of the environment's `step`) per decision.
        size: height and width of images.
        obs: "proprio", "image" or "both".
        length: frames after which episodes are cut, 0 for the environment's limit.
        obs_keys: which entries are observed, a regular expression (see `choice`).
    """

    def __init__(
        self,
        env: "str | gymnasium.Env",
        seed: int = 0,
        repeat: int = 1,
        size: int = 64,
        obs: str = "proprio",
        length: int = 0,
        obs_keys: str = "",
    ):
        check_obs(obs)
        self._env = _load(env) if isinstance(env, str) else env
        self._seed: int | None = seed
        self._size = size
        found = _entries(self._env.observation_space, size, obs, obs_keys)
        if not found.entries and not found.render:
            raise UserError(
                f"obs is proprio, but {_title(self._env)} observes images only: use "
                "--obs=image."
            )
        self._entries, self._render, self.ignored = found
        space: dict[str, spaces.Space] = {}
        if self._render:
            space["image"] = image_box(size, size)
        for entry in self._entries:
            if entry.name in space:
                raise UserError(
                    f"Two observation entries of {_title(self._env)} are called "
                    f'"{entry.name}" (nested names are joined by "_", and rendered '
                    'images are called "image"): rename one.'
                )
            space[entry.name] = entry.space
        self._scale: Callable[[Any], Any]
        action_space, self._scale = _action(self._env.action_space)
        super().__init__(space, action_space, repeat, length)
        self._observation: Any = None

    def _reset(self, seed: int | None) -> None:
        if seed is None:
            seed, self._seed = self._seed, None  # the first time only
        try:
            self._observation, _ = self._env.reset(seed=seed)
        except Exception as error:
            raise _failed(self._env, "reset", error) from error

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        try:
            self._observation, reward, terminated, truncated, _ = self._env.step(
                self._scale(action)
            )
        except Exception as error:
            raise _failed(self._env, "step", error) from error
        return _number(reward), bool(terminated or truncated), bool(terminated)

    def _observe(self) -> Record:
        record = {}
        if self._render:
            record["image"] = self.render(self._size)
        for entry in self._entries:
            value = self._observation
            try:
                for key in entry.keys:
                    value = value[key]
                record[entry.name] = entry.convert(value)
            except (LookupError, TypeError, ValueError) as error:
                raise UserError(
                    f'Observation entry "{entry.name}" of {_title(self._env)} is not '
                    f"of its space ({reason(error)}): return what observation_space "
                    "says."
                ) from error
        return record

    def render(self, size: int | None = None) -> np.ndarray:
        if hasattr(self._env.unwrapped, "mujoco_renderer"):
            gl.choose()
        try:
            picture = self._env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(
                f"{_title(self._env)} cannot be rendered: {error}."
            ) from error
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise UserError(
                f"{_title(self._env)} was rendered as {type(picture).__name__}, not as "
                'an array [H, W, 3]: construct it with render_mode="rgb_array".'
            )
        return _resize(picture[..., :3].astype(np.uint8), size or self._size)

    def close(self) -> None:
        self._env.close()


def _load(name: str) -> "gymnasium.Env":
    try:
        try:
            return gymnasium.make(
                name, render_mode="rgb_array", disable_env_checker=True
            )
        except TypeError:  # it has no such argument, so it cannot be rendered either
            return gymnasium.make(name, disable_env_checker=True)
    except Exception as error:  # a constructor raises all sorts
        near = difflib.get_close_matches(name, gymnasium.registry, 3)
        hint = f", did you mean {' or '.join('gym_' + n for n in near)}"
        why = re.split(r" Did you mean|\n", str(error).strip())[0].rstrip(". ")
        raise UserError(
            f'task "gym_{name}" cannot be made: {why or type(error).__name__}'
            f"{hint if near and name not in near else ''} "
            "(an environment of another package is gym_<package>:<id>)."
        ) from error


def _failed(env: "gymnasium.Env", method: str, error: Exception) -> UserError:
    """One sentence about what an environment raised; the error says more."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return UserError(
        f"{_title(env)} failed in {method}() with {type(error).__name__} "
        f"({reason(error)}) at {place.filename}:{place.lineno}: correct it there."
    )


def _title(env: "gymnasium.Env") -> str:
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def _entries(space: spaces.Space, size: int, obs: str, obs_keys: str) -> Found:
    """Which entries are used, and why the others are not.

    Raises:
        UserError: an entry that is asked for cannot be used, or none fits `obs_keys`.
    """
    check_keys(obs_keys)
    entries: list[Entry] = []
    useless: dict[str, tuple[spaces.Space, UserError]] = {}
    for keys, leaf in _leaves(space, ()):
        try:
            entries.append(_entry(leaf, keys, size, obs))
        except UserError as error:
            if not keys:
                raise
            useless[_path(keys)] = leaf, error
    for name, (leaf, wrong) in useless.items():
        picture = obs != "proprio" and isinstance(leaf, spaces.Box)
        nothing = obs == "proprio" and not entries
        if fits(name, obs_keys) and (obs_keys or picture or nothing):
            text = str(wrong).rstrip(".")
            raise UserError(f"{text}; --obs_keys can leave it out.") from wrong
    ignored = {name: type(leaf).__name__ for name, (leaf, _) in useless.items()}
    images = [entry for entry in entries if entry.space.dtype == np.uint8]
    render = obs != "proprio" and not images
    kinds = {"proprio": "f", "image": "u", "both": "fu"}[obs]
    seen = [entry for entry in entries if entry.space.dtype.kind in kinds]
    ignored |= {e.name: f"--obs={obs}" for e in entries if e not in seen}
    names = [*["image"] * render, *(entry.name for entry in seen)]
    if names and not any(fits(name, obs_keys) for name in names):
        raise none_fits(obs_keys, names)
    ignored |= {name: NOT_CHOSEN for name in names if not fits(name, obs_keys)}
    chosen = [entry for entry in seen if fits(entry.name, obs_keys)]
    return Found(chosen, render and fits("image", obs_keys), ignored)


def _leaves(
    space: spaces.Space, keys: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], spaces.Space]]:
    """What nested Dicts hold and the keys to it, depth first, in their own order."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _leaves(inner, (*keys, key))
    else:
        yield keys, space


def _path(keys: tuple[Any, ...]) -> str:
    return "_".join(map(str, keys)).replace("/", "_")


def _entry(space: spaces.Space, keys: tuple[Any, ...], size: int, obs: str) -> Entry:
    """What becomes of an entry that is no Dict; UserError if it cannot be used."""
    path = _path(keys)
    where = f'entry "{path}"' if path else "space"
    if isinstance(space, spaces.Box) and 0 in space.shape:
        raise UserError(f"The observation {where} is {space}, which holds no number.")
    if isinstance(space, spaces.Discrete):
        one_hot = np.eye(int(space.n), dtype=np.float32)
        start = int(space.start)
        return Entry(
            path or "vector",
            keys,
            box((int(space.n),)),
            lambda x: one_hot[x - start].copy(),
        )
    if isinstance(space, spaces.Box) and obs == "proprio" and _is_grid(space):
        return Entry(
            path or "vector",
            keys,
            box((math.prod(space.shape),)),
            lambda x: np.array(x, np.float32).ravel(),
        )
    if isinstance(space, spaces.Box) and _looks_like_image(space, path):
        channels = space.shape[2] if len(space.shape) == 3 else 1
        return Entry(
            path or "image",
            keys,
            image_box(size, size, channels),
            lambda x: _resize(np.asarray(x, np.uint8), size),
        )
    if isinstance(space, spaces.Box):
        return Entry(
            path or "vector",
            keys,
            box(space.shape),
            lambda x: np.array(x, np.float32),
        )
    raise UserError(
        f"The observation {where} is {space}, but only Box, Discrete and Dict are "
        "supported: wrap the environment, for example in "
        "gymnasium.wrappers.FlattenObservation."
    )


def _is_grid(space: spaces.Box) -> bool:
    """Whether a Box is a grid of a few cells rather than a picture."""
    cells = len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype == np.uint8)
    return cells and max(space.shape[:2]) <= GRID


def _looks_like_image(space: spaces.Box, path: str) -> bool:
    if space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        return False
    if len(space.shape) == 3 and space.shape[0] <= 4 < space.shape[2]:
        raise UserError(
            f'The observation entry "{path or "image"}" has shape {space.shape}: '
            "images are [height, width, channels], so move the channels last, for "
            "example with gymnasium.wrappers.TransformObservation."
        )
    return True


def _action(
    space: spaces.Space,
) -> tuple[spaces.Box | spaces.Discrete, Callable[[Any], Any]]:
    """Our action space, and the map from our actions to theirs."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return spaces.Discrete(int(space.n)), lambda index: start + index
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        scale = ActionScale(space.low.ravel(), space.high.ravel())
        shape, dtype = space.shape, space.dtype
        return action_box(
            space.low.size
        ), lambda action: scale(action).reshape(shape).astype(dtype)
    raise UserError(
        f"The action space is {space}, but only Discrete and Box of floats are "
        "supported: wrap the environment in gymnasium.wrappers.TransformAction."
    )


def _number(reward: Any) -> float:
    if np.size(reward) != 1:
        raise UserError(
            f"The reward has shape {np.shape(reward)}: return one number per step."
        )
    try:
        return float(np.asarray(reward).item())
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The reward is {reward!r}: return one number per step."
        ) from error


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, C]` to `[size, size, C]`, averaging over areas."""
    from PIL import Image

    if image.ndim == 2:
        image = image[..., None]
    if image.shape[:2] == (size, size):
        return image.copy()
    channels = [
        np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.BOX))
        for channel in np.moveaxis(np.ascontiguousarray(image), 2, 0)
    ]
    return np.stack(channels, -1)
