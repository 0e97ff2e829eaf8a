"""Whether a run can learn at all, from its settings alone."""

import copy
import dataclasses
import math
from collections.abc import Iterator

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs.limits import time_limit
from dreamer_tf.replay import Episodes, bytes_per_record
from dreamer_tf.training.budget import record_entries
from dreamer_tf.training.experience import Components
from dreamer_tf.training.schedules import Progress

# What makes shorter episodes long enough, per version.
SHORTER = {"v1": "--batch_length", "v2": "--replay.minlen"}


def outlook(run: RunConfig, components: Components) -> Iterator[str]:
    """A sentence if the run will never make an update, or may never make one.

    It will never, if its schedule asks for none at the end of the most favourable run
    within `run.steps`: one whose episodes have whatever length is best.
    """
    replay, schedule = components.replay, components.schedule
    best = _best(run, components)
    budget = f"--steps={run.steps}"
    if not copy.deepcopy(schedule).updates(best):
        if best.items and schedule.random(best):
            prefill = getattr(schedule.config, "prefill", None)
            why = f"--prefill={prefill} is not reached within {budget}"
        elif isinstance(replay, Episodes):
            most = longest_episode(run)
            why = (
                f"no episode can have more than {most:,} decisions (see --steps, "
                f"--envs, --repeat and --length), but a sequence takes "
                f"{replay.shortest - 1:,} (see {SHORTER[run.version]})"
            )
        else:
            why = (
                f"at most {best.items:,} sequences can be in replay within {budget} "
                "(see also --replay_gb), or the settings ask for no update (see "
                "--train_ratio, --batch_size and --batch_length)"
            )
        yield f"This run will never make an update: {why}."
    elif isinstance(replay, Episodes):
        limit = time_limit(run.task, run.length)
        if limit is None:
            yield (
                f"Episodes of {run.task} have no time limit, and Dreamer"
                f"{run.version.upper()} learns from whole episodes: if they do not end "
                "by themselves, give --length, the longest episode in frames."
            )
            return
        each = run.repeat * _decisions(run)  # frames of one environment
        whole = each // limit * run.envs  # episodes that end, if none does before
        usual = dataclasses.replace(best, episodes=whole, finished_frames=whole * limit)
        if not whole or schedule.random(usual):
            yield (
                f"Episodes may have {limit:,} frames, and {budget} and "
                f"--envs={run.envs} leave {each:,} frames to an environment: unless "
                f"episodes end before, the {whole} that end are too few for an update "
                "(see --prefill)."
            )


def longest_episode(run: RunConfig) -> int:
    """Decisions of the longest episode that may happen in a run."""
    limit = time_limit(run.task, run.length)
    most = _decisions(run)
    return most if limit is None else min(most, math.ceil(limit / run.repeat))


def _decisions(run: RunConfig) -> int:
    """Decisions of one environment in the whole run."""
    return math.ceil(run.steps / (run.repeat * run.envs))


def _best(run: RunConfig, components: Components) -> Progress:
    """How far the most favourable run comes: all that any run may reach, at once."""
    replay, each = components.replay, _decisions(run)
    rows = 2 * each  # of one environment, if every episode has one decision
    if isinstance(replay, Episodes):
        items = each * run.envs * (longest_episode(run) + 1 >= replay.shortest)
    else:
        entries = replay.packing.pack(record_entries(components))
        held = replay.memory_bytes // bytes_per_record(entries)
        items = (min(rows, held // run.envs) - replay.length + 1) * run.envs
        items = max(0, min(items, replay.capacity))
    return Progress(
        records=rows * run.envs,
        decisions=each * run.envs,
        frames=each * run.envs * run.repeat,
        episodes=each * run.envs,
        finished_frames=each * run.envs * run.repeat,
        items=items,
    )
