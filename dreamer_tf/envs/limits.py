"""When episodes end at the latest, without making an environment."""

import gymnasium

from dreamer_tf.configs import bsuite
from dreamer_tf.envs import atari, catch, crafter, toy

DMC_LIMIT = 1000  # frames, of every task of the suite but two
DMC_ENDLESS = ("lqr_lqr_2_1", "lqr_lqr_6_2")


def time_limit(task: str, length: int = 0) -> int | None:
    """Frames after which a task's episodes are cut, as far as that is known.

    Args:
        task, length: as in `make_env`.

    Returns:
        None if they have no limit (they may still end by themselves), or if it is not
        known before an environment is made.
    """
    if task in toy.TASKS:
        own: int | None = toy.LENGTH
    elif task in crafter.TASKS:
        own = crafter.LIMIT
    elif task.startswith(atari.PREFIX):
        own = length or atari.LIMIT
    elif task == catch.TASK:
        own = catch.LENGTH
    elif task.startswith("minatar_"):
        own = None
    elif task.startswith("bsuite_"):
        own = bsuite.limit(task)
    elif task.startswith("gym_"):
        try:
            own = gymnasium.spec(task.removeprefix("gym_")).max_episode_steps
        except (gymnasium.error.Error, ImportError):
            own = None
    else:
        own = None if task.removeprefix("dmc_") in DMC_ENDLESS else DMC_LIMIT
    return min(filter(None, (own, length)), default=None)
