"""Environments: dm_control, BSuite, any gymnasium environment, and a toy task.

    env = make_env("dmc_walker_walk", repeat=2)
    envs = make_envs("toy", 4, workers=2, seed=1)

Importing this package loads no simulator and neither TensorFlow nor JAX.
"""

import difflib
import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dreamer_tf.envs.base import Env, Record, action_size
from dreamer_tf.envs.check import check_env, check_record
from dreamer_tf.envs.vector import Envs, Remote, episode_seed
from dreamer_tf.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym

__all__ = [
    "Env",
    "Envs",
    "Record",
    "Remote",
    "action_size",
    "check_env",
    "check_record",
    "episode_seed",
    "list_tasks",
    "make_env",
    "make_envs",
]


def make_env(
    task: "str | gym.Env",
    seed: int = 0,
    repeat: int = 1,
    size: int = 64,
    obs: str = "proprio",
    camera: int | None = None,
    length: int = 0,
    fast_render: bool = False,
    env_args: Mapping[str, Any] | None = None,
    obs_keys: str = "",
) -> Env:
    """Makes an environment from a task's name.

    Args:
        task: `dmc_<domain>_<task>` (also without `dmc_`; `cup_catch` is
            `ball_in_cup_catch`), `gym_<id>` for any gymnasium id,
            `bsuite_<experiment>_<number>`, `toy` or `toy_discrete`; or a gymnasium
            environment.
        seed: of episodes that are reset without a seed of their own, and of what an
            environment draws once at construction (the lqr tasks of dm_control).
        repeat: frames per decision; rewards are summed over them.
        size: height and width of images, in pixels.
        obs: what is observed: "proprio" (vectors), "image", or "both".
        camera: number of a dm_control camera, None for the papers' choice.
        length: frames after which episodes are cut, 0 for the task's own limit.
        fast_render: dm_control without multi-sampling and with a small shadow map;
            faster in software, but other pixels than the papers'.
        env_args: arguments of the constructor that `gym_<id>` names, by their names.
        obs_keys: which of the entries that `obs` leaves are observed, a regular
            expression that their whole names fit; empty: all that agents can use.

    Raises:
        UserError: the task or an argument is unknown or does not fit.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}, but must be from 0 to {2**32 - 1}.")
    if not isinstance(task, str):
        _only_dmc("a gymnasium environment", camera, fast_render)
        _only_gym("one that was constructed already", env_args)
        from dreamer_tf.envs.gymnasium import Gymnasium

        return Gymnasium(task, seed, repeat, size, obs, length, obs_keys=obs_keys)
    if task.startswith("gym_"):
        _only_dmc(task, camera, fast_render)
        from dreamer_tf.envs.gymnasium import Gymnasium

        name = task.removeprefix("gym_")
        return Gymnasium(
            name, seed, repeat, size, obs, length, env_args, obs_keys=obs_keys
        )
    _only_gym(task, env_args)
    from dreamer_tf.envs import dmc, toy

    if task.startswith("bsuite_"):
        _only_dmc(task, camera, fast_render)
        from dreamer_tf.envs.bsuite import BSuite

        return BSuite(task, seed, repeat, size, obs, length, obs_keys)
    if task in toy.TASKS:
        _only_dmc(task, camera, fast_render)
        return toy.Toy(
            task == "toy_discrete", seed, repeat, size, obs, length, obs_keys
        )
    if dmc.canonical(task) not in dmc.tasks():
        raise _unknown(task)
    return dmc.DMC(task, seed, repeat, size, obs, camera, length, fast_render, obs_keys)


def make_envs(
    task: str,
    count: int,
    workers: int = 0,
    seed: int = 0,
    series: int = 0,
    timeout: float = 0.0,
    **arguments,
) -> Envs:
    """Makes `count` environments of one task, spread over `workers` processes.

    Args:
        task: as in `make_env`, like the other keyword arguments.
        count: number of environments.
        workers: number of processes, 0 to step them in this one.
        seed: of the run; episode k of environment i is seeded from (seed, i, k).
        series: another number here gives other episodes of the same run seed, for
            example for evaluation.
        timeout: seconds after which a silent process is started again; 0: never.
    """
    if arguments.get("obs", "proprio") != "proprio" and _is_dmc(task):
        from dreamer_tf.envs import gl

        gl.choose()  # once here, so that not every worker has to find out
    make = functools.partial(make_env, task, seed=seed, **arguments)
    return Envs([make] * count, workers, (seed, series), timeout)


def list_tasks() -> list[str]:
    """The names of all tasks but gymnasium's, which lists its own (`gym_<id>`).

    Those of BSuite, 468 of them, are in `configs.bsuite.EXPERIMENTS`.
    """
    from dreamer_tf.envs import dmc, toy

    return [*(f"dmc_{name}" for name in dmc.tasks()), *toy.TASKS]


def _is_dmc(task: str) -> bool:
    return not task.startswith(("gym_", "bsuite_", "toy"))


def _only_dmc(task: str, camera: int | None, fast_render: bool) -> None:
    if camera is not None or fast_render:
        raise UserError(
            f"camera and fast_render are for dm_control tasks, but the task is {task}."
        )


def _only_gym(task: str, env_args: Mapping[str, Any] | None) -> None:
    if env_args:
        raise UserError(
            f"env_args are for tasks gym_<id>, but the task is {task}: leave them out."
        )


def _unknown(task: str) -> UserError:
    known = list_tasks()
    # Compared without dmc_, so that both spellings find their neighbours.
    short = {name.removeprefix("dmc_"): name for name in known}
    short["cup_catch"] = "dmc_cup_catch"
    near = difflib.get_close_matches(task.removeprefix("dmc_"), short, 3)
    if re.search(r"[^a-z0-9_]", task):  # as ids of gymnasium have
        hint = f"an id of gymnasium is gym_<id>, such as gym_{task}."
    elif near:
        hint = f"did you mean {' or '.join(short[n] for n in near)}?"
    else:
        hint = (
            "there are gym_<id> for gymnasium ids, bsuite_<experiment>_<number>, and "
            f"{', '.join(known)}."
        )
    return UserError(f'task "{task}" is not known: {hint}')
