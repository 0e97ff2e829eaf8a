"""Is this environment what the agents expect? Errors say what to change.

`check_env` looks at a whole environment, once, before a run; `check_record` is cheap
enough for every step of one.
"""

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs import observations
from dreamer_tf.envs.base import FLAGS, RESERVED, Env, Record, action_size, is_image
from dreamer_tf.envs.foreign import shorten
from dreamer_tf.errors import UserError


def check_record(record: Record, obs_space: spaces.Dict) -> None:
    """Shapes, types, finite bounds and finite numbers of one record.

    Raises:
        UserError: names the entry, what it is and what it should be.
    """
    for name, space in obs_space.spaces.items():
        if name not in record:
            raise UserError(
                f'Observation entry "{name}" is missing from the record: return every '
                "entry of obs_space at every step."
            )
        value = record[name]
        if getattr(value, "shape", None) != space.shape:
            raise UserError(
                f'Observation entry "{name}" has shape {np.shape(value)}, but '
                f"obs_space says {space.shape}."
            )
        if value.dtype != space.dtype:
            raise UserError(
                f'Observation entry "{name}" is {value.dtype}, but obs_space says '
                f"{space.dtype}: convert it in your environment."
            )
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise UserError(
                f'Observation entry "{name}" is not finite: {shorten(value)}.'
            )
        limits = observations.bounds(space) if isinstance(space, spaces.Box) else None
        if limits and observations.outside(value, *limits).size:
            raise UserError(
                f'Observation entry "{name}" leaves the bounds that obs_space declares '
                f"({value.min()} to {value.max()}): widen them."
            )
    if "reward" not in record:
        raise UserError('"reward" is missing from the record: return a float32 number.')
    reward = record["reward"]
    if getattr(reward, "shape", None) != ():
        raise UserError(
            f"The reward is {shorten(reward)}: return one float32 number, of shape ()."
        )
    if not np.isfinite(reward):
        raise UserError(f"The reward is not finite: {reward}.")
    for name in FLAGS:
        if name not in record:
            raise UserError(f'"{name}" is missing from the record: return a bool.')


def check_env(env: Env, steps: int = 200, seed: int = 0) -> str:
    """Walks through an environment with random actions and checks all it returns.

    Args:
        env: an environment with our interface; for a gymnasium environment use
            `check_env(make_env(env))`.
        steps: decisions to take; episodes that end are followed by new ones.
        seed: of the actions and of the episodes.

    Returns:
        A sentence about what was seen.

    Raises:
        UserError: the first thing that is wrong, and what to change.
    """
    _check_spaces(env)
    random = np.random.default_rng(seed)
    actions = [_random_action(env.action_space, random) for _ in range(steps)]
    first = _check_reset(env, env.reset(seed=seed))
    history = [_copy(first)]
    previous, ended, diverged, rewards = first, 0, 0, []
    for number, action in enumerate(actions, 1):
        if previous["is_last"]:
            ended += 1
            record = _check_reset(env, env.reset(seed=seed + ended))
        else:
            record = _check_step(env, env.step(action), action)
            rewards.append(float(record["reward"]))
        for name in env.obs_space.spaces:
            if np.shares_memory(record[name], previous[name]):
                raise UserError(
                    f'Observation entry "{name}" of step {number} is the same array as '
                    "at the step before, which replay keeps: return a copy."
                )
        diverged += bool(getattr(record, "diverged", ""))
        history.append(_copy(record))
        previous = record
    _check_repeatable(env, history, actions, seed)
    low, high = (min(rewards), max(rewards)) if rewards else (0.0, 0.0)
    return (
        f"{steps} decisions, {ended} finished episodes, "
        + (f"{diverged} of which diverged, " if diverged else "")
        + f"rewards {low:.3g} to "
        f"{high:.3g}, observations "
        + ", ".join(f"{name} {s.shape}" for name, s in env.obs_space.spaces.items())
        + ": all as it should be."
    )


def _check_spaces(env: Env) -> None:
    for name in ("obs_space", "action_space", "repeat", "reset", "step"):
        if not hasattr(env, name):
            raise UserError(
                f'{type(env).__name__} has no "{name}": subclass '
                "dreamer_tf.envs.Env, or write a gymnasium.Env and use make_env on it."
            )
    if not isinstance(env.obs_space, spaces.Dict) or not env.obs_space.spaces:
        raise UserError(
            f"obs_space is {env.obs_space}: make it a gymnasium.spaces.Dict with at "
            "least one entry."
        )
    for name, space in env.obs_space.spaces.items():
        if name in RESERVED:
            raise UserError(
                f'Observation entry "{name}" has a name that records use themselves: '
                "rename it."
            )
        vector = isinstance(space, spaces.Box) and space.dtype == np.float32
        image = isinstance(space, spaces.Box) and is_image(space)
        if not (vector or image):
            raise UserError(
                f'obs_space["{name}"] is {space}: make it a float32 Box, or a uint8 '
                "Box [height, width, channels] for an image."
            )
        if image and space.shape[2] > 4 and space.shape[0] <= 4:  # type: ignore[index]
            raise UserError(
                f'The image "{name}" has shape {space.shape}: move its channels last, '
                "[height, width, channels]."
            )
    space = env.action_space
    if isinstance(space, spaces.Box):
        if space.dtype != np.float32 or len(space.shape) != 1:
            raise UserError(
                f"action_space is {space}: make it float32 with one dimension."
            )
        if (space.low != -1).any() or (space.high != 1).any():
            raise UserError(
                f"action_space is {space}: make it a Box from -1 to 1 and scale the "
                "action to its range inside of your environment."
            )
    elif not isinstance(space, spaces.Discrete) or space.start != 0:
        raise UserError(
            f"action_space is {space}: make it a Box from -1 to 1 or a Discrete(n) "
            "that starts at 0."
        )
    if not isinstance(env.repeat, int) or env.repeat < 1:
        raise UserError(f"repeat is {env.repeat!r}: make it an integer of 1 or more.")


def _check_any(env: Env, record: Record) -> None:
    missing = [name for name in RESERVED if name not in record]
    if missing:
        raise UserError(
            f'"{missing[0]}" is missing from the record: every record holds the '
            f"observation and {', '.join(RESERVED)}."
        )
    unknown = sorted(set(record) - set(env.obs_space.spaces) - set(RESERVED))
    if unknown:
        raise UserError(
            f'The record holds "{unknown[0]}", which obs_space does not declare: '
            "declare it or leave it out."
        )
    check_record(record, env.obs_space)
    for name in ("action", "reward"):
        if record[name].dtype != np.float32:
            raise UserError(f'"{name}" is {record[name].dtype}: convert it to float32.')
    for name in FLAGS:
        flag = record[name]
        if getattr(flag, "shape", None) != () or flag.dtype.kind != "b":
            raise UserError(f'"{name}" is {shorten(flag)}: make it a bool of shape ().')
    size = action_size(env.action_space)
    if record["action"].shape != (size,):
        raise UserError(
            f'"action" has shape {record["action"].shape}: record the action as it was '
            f"given, of shape ({size},)."
        )
    if record["is_terminal"] and not record["is_last"]:
        raise UserError(
            "is_terminal is true where is_last is false: a terminal record is also the "
            "last of its episode."
        )


def _check_reset(env: Env, record: Record) -> Record:
    if not isinstance(record, dict):
        raise UserError(
            f"reset() returned a {type(record).__name__}: return one record, a dict."
        )
    _check_any(env, record)
    if not record["is_first"]:
        raise UserError("is_first is false after reset(): set it there.")
    if record["is_last"]:
        raise UserError("is_last is true after reset(): an episode needs a step.")
    if record["reward"] != 0:
        raise UserError(
            f"The reward after reset() is {record['reward']}: it must be 0, for no "
            "action led there."
        )
    if record["action"].any():
        raise UserError(
            f"The action after reset() is {shorten(record['action'])}: it must be 0."
        )
    return record


def _check_step(env: Env, record: Record, action: np.ndarray) -> Record:
    if not isinstance(record, dict):
        raise UserError(
            f"step() returned a {type(record).__name__}: return one record, a dict."
        )
    _check_any(env, record)
    if record["is_first"]:
        raise UserError("is_first is true after step(): it belongs to reset() alone.")
    if (record["action"] != action).any():
        raise UserError(
            f"step() was given the action {shorten(action)}, but recorded "
            f"{shorten(record['action'])}: record it as given, in [-1, 1]."
        )
    return record


def _check_repeatable(env, history, actions, seed) -> None:
    """The first episode once more: the same seed must give the same records."""
    record = env.reset(seed=seed)
    for number, (before, action) in enumerate(zip(history, [*actions, None])):
        for name in before:
            if not np.array_equal(before[name], record[name]):
                raise UserError(
                    f'reset(seed={seed}) and the same actions gave another "{name}" '
                    f"after {number} steps: draw all randomness from a generator that "
                    "reset(seed) seeds."
                )
        if before["is_last"] or action is None:
            return
        record = env.step(action)


def _random_action(space: spaces.Space, random: np.random.Generator) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return (np.arange(space.n) == random.integers(space.n)).astype(np.float32)
    return random.uniform(-1, 1, space.shape).astype(np.float32)


def _copy(record: Record) -> Record:
    return {name: np.array(value) for name, value in record.items()}
