"""Environments: dm_control, gymnasium, Atari, MinAtar, Crafter, BSuite, small tasks.

    env = make_env("dmc_walker_walk", repeat=2)
    envs = make_envs("toy", 4, workers=2, seed=1)

Importing this package loads no simulator and neither TensorFlow nor JAX.
"""

import difflib
import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dreamer_tf.configs.tasks import family
from dreamer_tf.envs.base import Env, Record, action_size
from dreamer_tf.envs.check import check_env, check_record
from dreamer_tf.envs.vector import Envs, Remote, episode_seed
from dreamer_tf.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym

# The families whose tasks take `env_args`.
WITH_ARGUMENTS = ("atari", "gym", "minatar")

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
            `ball_in_cup_catch`), `gym_<id>` for any gymnasium id, `atari_<game>` by the
            name of the ROM, `minatar_<game>`, `crafter_reward`, `crafter_noreward`,
            `bsuite_<experiment>_<number>`, `toy`, `toy_discrete` or `catch`; or a
            gymnasium environment.
        seed: of episodes that are reset without a seed of their own, and of what an
            environment draws once at construction (the lqr tasks of dm_control).
        repeat: frames per decision; rewards are summed over them.
        size: height and width of images, in pixels.
        obs: what is observed: "proprio" (vectors), "image", or "both".
        camera: number of a dm_control camera, None for the papers' choice.
        length: frames after which episodes are cut, 0 for the task's own limit.
        fast_render: dm_control without multi-sampling, but means of 2x2 pixels, and
            with a small shadow map; faster in software, but other pixels than the
            papers'.
        env_args: arguments of the constructor that `gym_<id>` names, of
            `atari.Settings` or of `MinAtar`, by their names.
        obs_keys: which of the entries that `obs` leaves are observed, a regular
            expression that their whole names fit; empty: all that agents can use.

    Raises:
        UserError: the task or an argument is unknown or does not fit.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}, but must be from 0 to {2**32 - 1}.")
    common: dict[str, Any] = {"seed": seed, "repeat": repeat, "size": size, "obs": obs}
    common |= {"length": length, "obs_keys": obs_keys}
    if not isinstance(task, str):
        _only_dmc("a gymnasium environment", camera, fast_render)
        _only_with_arguments("one that was constructed already", env_args)
        from dreamer_tf.envs.gymnasium import Gymnasium

        return Gymnasium(task, **common)
    kind = family(task)
    if kind != "dmc":
        _only_dmc(task, camera, fast_render)
    if kind not in WITH_ARGUMENTS:
        _only_with_arguments(task, env_args)
    if kind == "atari":
        from dreamer_tf.envs.atari import Atari

        return Atari(task, env_args=env_args, **common)
    if kind == "bsuite":
        from dreamer_tf.envs.bsuite import BSuite

        return BSuite(task, **common)
    if kind == "gym":
        from dreamer_tf.envs.gymnasium import Gymnasium

        return Gymnasium(task.removeprefix("gym_"), env_args=env_args, **common)
    if kind == "minatar":
        from dreamer_tf.envs.minatar import MinAtar

        return MinAtar(task.removeprefix("minatar_"), env_args=env_args, **common)
    from dreamer_tf.envs import catch, crafter, dmc, toy

    if task in crafter.TASKS:
        return crafter.Crafter(task, **common)
    if task in toy.TASKS:
        return toy.Toy(task == "toy_discrete", **common)
    if task == catch.TASK:
        return catch.Catch(**common)
    if dmc.canonical(task) not in dmc.tasks():
        raise _unknown(task)
    return dmc.DMC(task, camera=camera, fast_render=fast_render, **common)


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
    if arguments.get("obs", "proprio") != "proprio" and family(task) == "dmc":
        from dreamer_tf.envs import gl

        gl.choose()  # once here, so that not every worker has to find out
    make = functools.partial(make_env, task, seed=seed, **arguments)
    return Envs([make] * count, workers, (seed, series), timeout)


def list_tasks() -> list[str]:
    """The names of all tasks but gymnasium's, which lists its own (`gym_<id>`).

    Those of BSuite, 468 of them, are in `configs.bsuite.EXPERIMENTS`.
    """
    from dreamer_tf.envs import atari, catch, crafter, dmc, minatar, toy

    names = [f"dmc_{name}" for name in dmc.tasks()]
    names += [f"atari_{game}" for game in atari.GAMES]
    names += [f"minatar_{game}" for game in minatar.GAMES]
    return [*names, *crafter.TASKS, *toy.TASKS, catch.TASK]


def _only_dmc(task: str, camera: int | None, fast_render: bool) -> None:
    if camera is not None or fast_render:
        raise UserError(
            f"camera and fast_render are for dm_control tasks, but the task is {task}."
        )


def _only_with_arguments(task: str, env_args: Mapping[str, Any] | None) -> None:
    if env_args:
        raise UserError(
            "env_args are for tasks gym_<id>, atari_<game> and minatar_<game>, but the "
            f"task is {task}: leave them out."
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
        others = ", ".join(name for name in known if not name.startswith("atari_"))
        hint = (
            "there are gym_<id> for gymnasium ids, atari_<game>, "
            f"bsuite_<experiment>_<number>, and {others}."
        )
    return UserError(f'task "{task}" is not known: {hint}')
