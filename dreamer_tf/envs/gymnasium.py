"""Any gymnasium environment: `gym_<id>`, or one that you constructed.

    make_env("gym_CartPole-v1")
    make_env("gym_my_package:MyEnv-v0")     # gymnasium imports my_package first
    make_env(MyEnv())                       # any gymnasium.Env

What an observation space becomes:

    Box            float32 of the same shape, named `vector`
    picture        uint8 of `size` x `size`, named `image`; [H, W] gets C = 1. Pictures
                   are uint8 [H, W] or [H, W, C], and float [H, W, C] from 0 to 1; C is
                   at most 4. Stacks of frames and [C, H, W] are refused.
    Discrete(n)    float32 [n], one-hot, named `vector`
    Dict           its entries under their own names, nested ones joined by "_", which
                   also replaces "/"

`obs` picks among them: "proprio" the vectors, "image" the images, "both" all. Where
images are asked for and the environment observes none, it is rendered as `image`, in
its proportions. "proprio" takes a grid of at most 15 x 15 cells, such as MiniGrid's, as
a vector of its numbers. Of what is left, `obs_keys` picks by name, and what it names
must be of use. Other entries of a Dict are ignored; `Gymnasium.ignored` says why.
`observations.py` says what of an observation is checked.

Actions are Discrete, or a Box of floats, into which [-1, 1] is mapped by the rule of
`base.ActionScale`. All that an environment raises becomes one sentence (`foreign.py`).
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer_tf.envs import foreign, gl, observations
from dreamer_tf.envs.base import (
    ONE_HOT,
    ActionScale,
    Env,
    Own,
    OwnAction,
    OwnEntry,
    Record,
    action_box,
    box,
    check_obs,
    image_box,
)
from dreamer_tf.envs.choice import NOT_CHOSEN, check_keys, fits, none_fits
from dreamer_tf.envs.foreign import calling, shorten
from dreamer_tf.errors import UserError, reason


class Entry(NamedTuple):
    """One entry of our observation and where it comes from in theirs."""

    name: str
    keys: tuple[Any, ...]
    space: spaces.Box
    convert: observations.Convert
    theirs: spaces.Box | spaces.Discrete
    kind: str  # of `OwnEntry`


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
        env_args: arguments of the constructor that an id names.
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
        env_args: Mapping[str, Any] | None = None,
        obs_keys: str = "",
    ):
        check_obs(obs)
        self._env = _load(env, env_args or {}) if isinstance(env, str) else env
        if not isinstance(self._env, gymnasium.Env):
            raise UserError(
                f"The environment is {shorten(self._env)}: it must be a gymnasium.Env "
                "or a task's name; those of the old gym package are none."
            )
        title = _title(self._env)
        observed = _space(self._env, title, "observation_space")
        self._seed: int | None = seed
        self._size = size
        found = _entries(observed, size, obs, obs_keys)
        if not found.entries and not found.render:
            raise UserError(
                f"obs is proprio, but {title} observes images only: use --obs=image."
            )
        self._entries, self._render, self.ignored = found
        space: dict[str, spaces.Space] = {}
        if self._render:
            space["image"] = image_box(size, size)
        for entry in self._entries:
            if entry.name in space:
                raise UserError(
                    f"Two observation entries of {title} are called "
                    f'"{entry.name}" (nested names are joined by "_", and rendered '
                    'images are called "image"): rename one.'
                )
            space[entry.name] = entry.space
        action_space, self._action = _action(_space(self._env, title, "action_space"))
        super().__init__(space, action_space, repeat, length)
        self._title, self._owner = title, self._env
        self._observation: Any = None

    def _reset(self, seed: int | None) -> None:
        if seed is None:
            seed, self._seed = self._seed, None  # the first time only
        result = self._env.reset(seed=seed)
        pair = isinstance(result, tuple) and len(result) == 2
        if not pair or not isinstance(result[1], Mapping):
            raise foreign.wrong_result(self._title, "reset", self._env, result)
        self._observation = result[0]

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        result = self._env.step(_carried_out(self._action, action))
        if not isinstance(result, tuple) or len(result) != 5:
            raise foreign.wrong_result(self._title, "step", self._env, result)
        self._observation, reward, terminated, truncated, _ = result
        try:
            terminal = _flag("terminated", terminated)
            last = terminal or _flag("truncated", truncated)
            return _number(reward), last, terminal
        except (TypeError, ValueError) as error:
            where = foreign.at(self._env, "step")
            raise UserError(f"{error} (step() of {self._title}{where}).") from error

    def _observe(self) -> Record:
        record = {}
        if self._render:
            record["image"] = self.render(self._size)
        for entry in self._entries:
            value = self._observation
            try:
                for key in entry.keys:
                    if not isinstance(value, Mapping):
                        raise TypeError(f"{shorten(value)} is no dict")
                    value = value[key]
                record[entry.name] = entry.convert(value)
            except (LookupError, TypeError, ValueError) as error:
                raise UserError(
                    f'Observation entry "{entry.name}" of {self._title} is not of its '
                    f"space ({reason(error)}): return what observation_space says."
                ) from error
        return record

    def render(self, size: int | None = None) -> np.ndarray:
        instead = "or use --obs=proprio, which needs no pictures"
        with calling(self._title, "render", self._env):
            if hasattr(self._env.unwrapped, "mujoco_renderer"):
                gl.choose()
            try:
                picture = self._env.render()
            except NotImplementedError as error:
                raise UserError(
                    f"{self._title} cannot be rendered, as it has no render(): write "
                    f"one that returns an array [H, W, 3], {instead}."
                ) from error
            except gymnasium.error.DependencyNotInstalled as error:
                raise UserError(
                    f"{self._title} cannot be rendered: {reason(error)}."
                ) from error
        if not isinstance(picture, np.ndarray):
            raise UserError(
                f"{self._title} was rendered as {type(picture).__name__}, not as "
                'an array [H, W, 3]: construct it with render_mode="rgb_array".'
            )
        try:
            return observations.scene(picture, size or self._size)
        except TypeError as error:
            raise UserError(
                f"{self._title} cannot be rendered, as {error}: return uint8 "
                f"[H, W, 3] from render(), {instead}."
            ) from error

    def own(self) -> Own:
        entries = [
            OwnEntry(
                entry.name,
                "observation",
                entry.keys,
                tuple(entry.theirs.shape or ()),
                str(entry.theirs.dtype),
                entry.kind,
                int(getattr(entry.theirs, "start", 0)),
            )
            for entry in self._entries
        ]
        if self._render:
            shape = (None, None, 3)
            rendered = OwnEntry("image", "env.render()", (), shape, "uint8", "scene")
            entries.insert(0, rendered)
        return Own(tuple(entries), self._action)

    def close(self) -> None:
        with calling(self._title, "close", self._env):
            self._env.close()


def _load(name: str, env_args: Mapping[str, Any]) -> "gymnasium.Env":
    arguments = {"disable_env_checker": True, **env_args}
    try:
        try:
            return gymnasium.make(name, **{"render_mode": "rgb_array", **arguments})
        except TypeError:
            if "render_mode" in env_args:
                raise
            # If it has no such argument, it cannot be rendered either.
            return gymnasium.make(name, **arguments)
    except (Exception, SystemExit) as error:  # a constructor raises all sorts
        why = re.split(r" Did you mean|\n| was raised from the env", str(error).strip())
        place = foreign.raised(error)
        near = difflib.get_close_matches(name, gymnasium.registry, 3)
        if place:
            hint = f" ({type(error).__name__} at {place})"
        elif near and name not in near:
            hint = f", did you mean {' or '.join('gym_' + n for n in near)}{_PACKAGES}"
        else:
            hint = _PACKAGES
        text = foreign.cut(why[0].rstrip(". "), 300) or type(error).__name__
        raise UserError(f'task "gym_{name}" cannot be made: {text}{hint}.') from error


_PACKAGES = " (an environment of another package is gym_<package>:<id>)"


def _title(env: "gymnasium.Env") -> str:
    try:
        return env.spec.id if env.spec else type(env.unwrapped).__name__
    except Exception:  # properties of foreign code
        return type(env).__name__


def _space(env: "gymnasium.Env", title: str, name: str) -> spaces.Space:
    """The observation or the action space."""
    with calling(title, name, env):
        space = getattr(env, name, None)
    if isinstance(space, spaces.Space):
        return space
    where = foreign.at(env, "__init__") or foreign.at(env, "reset")
    raise UserError(
        f"{title}{where} has "
        f"{'no' if space is None else shorten(space) + ' as'} {name}: set it to a "
        "space of gymnasium.spaces."
    )


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
        _check_choices(space, f'observation entry "{path or "vector"}"')
        convert = observations.one_hot(space)
        ours = box((int(space.n),))
        return Entry(path or "vector", keys, ours, convert, space, "one_hot")
    if (
        isinstance(space, spaces.Box)
        and obs == "proprio"
        and observations.is_grid(space)
    ):
        convert = observations.grid(space)
        ours = box((space.low.size,))
        return Entry(path or "vector", keys, ours, convert, space, "vector")
    if isinstance(space, spaces.Box) and observations.is_picture(
        space, path or "image"
    ):
        channels = space.shape[2] if len(space.shape) == 3 else 1
        convert = observations.picture(space, size)
        ours = image_box(size, size, channels)
        return Entry(path or "image", keys, ours, convert, space, "picture")
    if isinstance(space, spaces.Box):
        convert = observations.vector(space)
        ours = box(space.shape)
        return Entry(path or "vector", keys, ours, convert, space, "vector")
    raise UserError(
        f"The observation {where} is {shorten(space)}, but only Box, Discrete and "
        "Dict are supported: wrap the environment, for example in "
        "gymnasium.wrappers.FlattenObservation."
    )


def _action(
    space: spaces.Space,
) -> tuple[spaces.Box | spaces.Discrete, OwnAction]:
    """Our action space, and what their actions are."""
    if isinstance(space, spaces.Discrete):
        _check_choices(space, "action space")
        theirs = OwnAction((), str(space.dtype), start=int(space.start))
        return spaces.Discrete(int(space.n)), theirs
    if isinstance(space, spaces.Box) and space.dtype.kind == "f" and space.low.size:
        scale = ActionScale(space.low.ravel(), space.high.ravel(), space.dtype)
        theirs = OwnAction(space.shape, str(space.dtype), scale)
        return action_box(space.low.size), theirs
    raise UserError(
        f"The action space is {shorten(space)}, but only Discrete and Box of "
        "floats are supported: wrap the environment in "
        "gymnasium.wrappers.TransformAction."
    )


def _carried_out(theirs: OwnAction, action: np.ndarray | int) -> Any:
    """Their action for ours."""
    if theirs.scale is None:
        return theirs.start + action
    return theirs.scale(action).reshape(theirs.shape)


def _check_choices(space: spaces.Discrete, what: str) -> None:
    if space.n > ONE_HOT:
        raise UserError(
            f"The {what} is {space}, and would be a vector of so many numbers: it can "
            f"be a Discrete of at most {ONE_HOT:,}."
        )


def _number(reward: Any) -> float:
    number = np.asarray(reward)
    if number.size != 1:
        raise ValueError(f"The reward has shape {number.shape}: return one {_NUMBER}")
    if number.dtype.kind not in "biuf":  # such as of a text, or of 10**400
        raise TypeError(f"The reward is {shorten(reward)}: return one {_NUMBER}")
    return float(number.item())


_NUMBER = "number per step that float32 can hold"


def _flag(name: str, value: Any) -> bool:
    flag = np.asarray(value)
    if flag.size != 1 or flag.dtype.kind not in "biu":
        raise TypeError(f"{name} is {shorten(value)}: return one bool per step")
    return bool(flag.item())
