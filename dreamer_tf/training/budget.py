"""The memory and disk that a run may use, and whether it fits."""

import copy
import shutil
from typing import Any

import numpy as np
import psutil

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import action_size
from dreamer_tf.envs.base import FLAGS
from dreamer_tf.errors import UserError
from dreamer_tf.replay import bytes_per_record
from dreamer_tf.training import checkpoint
from dreamer_tf.training.experience import Components


def replay_bytes(run: RunConfig, agent: Any) -> int:
    """The replay's memory limit in bytes: --replay_gb, or less to keep --disk_gb.

    Raises:
      UserError: --disk_gb is too small even for the agent alone.
    """
    limit = int(run.replay_gb * 1e9)
    if not run.disk_gb:
        return limit
    # `disk_bytes` is linear in the size of the replay.
    without, each = (checkpoint.disk_bytes(agent_bytes(agent), n) for n in (0, 1))
    rest = (run.disk_gb * 1e9 - without) / (each - without)
    if rest < 1:
        least = checkpoint.disk_bytes(agent_bytes(agent), 10**8)
        raise UserError(
            f"--disk_gb={run.disk_gb:g} is too small for {checkpoint.AT_ONCE} "
            f"checkpoints of this agent; give at least {least / 1e9:.2f}, or 0."
        )
    return min(limit, int(rest))


def check_replay(run: RunConfig, components: Components) -> None:
    """Checks that the replay's memory holds one sequence of each environment.

    Raises:
      UserError: it does not, so that nothing would ever be learned.
    """
    limit = enough = components.replay.memory_bytes
    while not _fits(components, run.envs, enough):
        enough *= 2
    if enough > limit:
        raise UserError(
            f"--replay_gb={run.replay_gb:g} and --disk_gb={run.disk_gb:g} leave "
            f"{limit / 1e9:.2g} GB of memory for the replay, too little for a sequence "
            f"of each environment; {enough / 1e9:.2g} GB would be enough."
        )


def _fits(components: Components, streams: int, memory_bytes: int) -> bool:
    """Whether a copy of the replay with this limit holds a sequence per stream.

    Adds to each stream one episode of the least length, and most of another one.
    """
    trial, rows = copy.deepcopy(components.replay), components.replay.length + 1
    trial.memory_bytes = memory_bytes
    record = {
        name: np.zeros(entry.shape, entry.dtype)
        for name, entry in record_entries(components).items()
    }
    try:
        for row in range(2 * rows - 1):
            record["is_first"] = np.asarray(row % rows == 0)
            record["is_last"] = np.asarray(row % rows == rows - 1)
            for stream in range(streams):
                trial.add(record, stream)
    except UserError:
        # If even this much memory is too little, something else is wrong.
        if memory_bytes > 10**18:
            raise
        return False
    return True


def agent_bytes(agent: Any) -> int:
    """Bytes that a saved agent takes on disk."""
    return sum(np.asarray(value).nbytes for value in agent.state_dict().values())


def record_entries(components: Components) -> dict[str, Any]:
    """The entries of a replay row: names -> something with a shape and a dtype."""
    entries: dict[str, Any] = {**components.envs.obs_space.spaces}
    state = components.agent.initial_state(1)
    entries |= {name: np.asarray(state[name])[0] for name in components.agent.latents}
    actions = np.zeros(action_size(components.envs.action_space), np.float32)
    entries |= {"action": actions, "reward": np.zeros((), np.float32)}
    return entries | {name: np.zeros((), bool) for name in FLAGS}


def needs(run: RunConfig, components: Components) -> str:
    """One sentence: the memory and disk that a run will need, and what is lacking."""
    entries = components.replay.packing.pack(record_entries(components))
    rows = run.steps / run.repeat * 1.05 + 2000 * run.envs  # with first rows
    memory = min(components.replay.memory_bytes, rows * bytes_per_record(entries))
    disk = checkpoint.disk_bytes(agent_bytes(components.agent), memory)
    text = (
        f"The replay will take up to {memory / 1e9:.2g} GB of memory, the checkpoints "
        f"up to {disk / 1e9:.2g} GB of disk"
    )
    free = {
        "--replay_gb": (memory, "memory", psutil.virtual_memory().available),
        "--disk_gb": (disk, "disk", shutil.disk_usage(run.logdir).free),
    }
    short = [
        f"only {left / 1e9:.2g} GB of {what} are free (see {flag})"
        for flag, (needed, what, left) in free.items()
        if needed > left
    ]
    return f"{text}; {' and '.join(short)}." if short else f"{text}."
