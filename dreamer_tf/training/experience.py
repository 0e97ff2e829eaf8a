"""Acting and learning as a generator of events.

`experience` only acts, stores and learns, and yields what happened. Budgets, logs,
evaluations and checkpoints are the business of `train.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dreamer_tf.envs import episode_seed
from dreamer_tf.errors import UserError
from dreamer_tf.training.delayed import Delayed
from dreamer_tf.training.schedules import Progress, Schedule
from dreamer_tf.training.score_rows import Episode

# Series of episodes, each with seeds of its own.
TRAINING, EVALUATION, BY_HAND = range(3)


@dataclasses.dataclass(frozen=True)
class Update:
    """One gradient update was made."""

    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Stats:
    """What an environment says of the episode that has just ended (`Step.stats`)."""

    frames: int  # of training when it ended
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Decision:
    """The records of all environments are stored, and the updates due are made.

    This is the moment to evaluate, save or stop. The fields are what `experience`
    needs to continue from here.
    """

    state: Mapping[str, np.ndarray]  # of the policy, [N, ...]
    action: np.ndarray  # [N, A], which the environments get next
    scores: np.ndarray  # float64 [N], of the unfinished episodes
    lengths: np.ndarray  # int64 [N], their decisions


@dataclasses.dataclass
class Components:
    """The objects that a run is made of; `build.build` makes them from the settings."""

    agent: Any
    envs: Any
    replay: Any
    schedule: Schedule
    make_env: Callable[[], Any]  # makes one more environment, for evaluation
    observed: str = ""  # a sentence about the observation entries
    delayed: Delayed | None = None  # acts instead of the agent


def experience(
    components: Components,
    progress: Progress,
    repeat: int,
    seed: int,
    since: Decision | None = None,
    compiling: Callable[[], None] = lambda: None,
) -> Iterator[Episode | Stats | Update | Decision]:
    """Acts in all environments and learns by the schedule, without end.

    At every time step the policy gets the records of all environments. They are
    stored with its latents, one after the other, and each is followed by the updates
    that are due (the order of the official DreamerV3 code). While the device computes
    an update, further records are stored, the next batch is drawn and its update is
    sent, so that the device need not wait; then the latents of the earlier update are
    written back, all of them before the `Decision` is yielded.

    Args:
      components: what acts, stores and learns.
      progress: kept up to date.
      repeat: frames per decision.
      seed: of the run; names the seeds of training episodes.
      since: the decision that a continued run was saved with.
      compiling: called before the first update begins, which compiles it.

    Raises:
      UserError: an update returned a number that is not finite.
    """
    agent, envs, delayed = components.agent, components.envs, components.delayed
    replay, schedule = components.replay, components.schedule
    if since is None:
        state = agent.initial_state(len(envs))
        records = envs.reset()
        scores, lengths = np.zeros(len(envs)), np.zeros(len(envs), int)
    else:
        state, scores, lengths = dict(since.state), since.scores, since.lengths
        records = envs.step(since.action)
    begun: tuple | None = None  # the update that the device computes
    compiled = False
    while True:
        mode = "random" if schedule.random(progress) else "train"
        agent.frames = progress.frames
        actor = delayed or agent
        action, state = actor.policy(policy_inputs(records, envs), state, mode)
        rows = records | {name: np.asarray(state[name]) for name in agent.latents}
        for index in range(len(envs)):
            row = {name: values[index] for name, values in rows.items()}
            replay.add(row, index)
            progress.records += 1
            if row["is_first"]:
                scores[index], lengths[index] = 0.0, 0
            else:
                scores[index] += float(row["reward"])
                lengths[index] += 1
                progress.decisions += 1
                progress.frames += int(envs.frames[index])
            if row["is_last"]:
                progress.episodes += 1
                # Only the last decision may have ended before its frames were over.
                before = (int(lengths[index]) - 1) * repeat
                progress.finished_frames += before + int(envs.frames[index])
            progress.items = len(replay)
            if row["is_last"]:
                number = int(envs.episodes[index])
                yield Episode(
                    frames=progress.frames,
                    score=float(scores[index]),
                    length=int(lengths[index]),
                    kind="train",
                    mode=mode,
                    env=index,
                    episode=number,
                    seed=episode_seed((seed, TRAINING), index, number),
                )
                if envs.stats[index]:
                    yield Stats(progress.frames, envs.stats[index])
            for _ in range(schedule.updates(progress)):
                batch = replay.sample()
                if delayed:
                    delayed.before_update()
                if not compiled:
                    compiled = True
                    compiling()
                following = batch["id"], agent.begin(batch)
                if begun:
                    yield _finish(begun, replay, progress)
                begun = following
        if begun:
            yield _finish(begun, replay, progress)
            begun = None
        yield Decision(state, action, scores.copy(), lengths.copy())
        records = envs.step(action)


def _finish(begun: tuple, replay: Any, progress: Progress) -> Update:
    """Waits for the end of an update, and writes its latents to replay."""
    ids, finish = begun
    metrics, feedback = finish()
    _check_finite(metrics, progress)
    if feedback:
        replay.update(ids, feedback)
    return Update(metrics)


def _check_finite(metrics: Mapping[str, float], progress: Progress) -> None:
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        others = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(
            f"Training stops at {progress.frames:,} frames: an update made "
            f"'{bad[0]}'{others} {metrics[bad[0]]}, which is not finite."
        )


def policy_inputs(records: Mapping[str, np.ndarray], env: Any) -> dict[str, np.ndarray]:
    """The entries of records that the policy gets: observations and `is_first`."""
    return {name: records[name] for name in [*env.obs_space.spaces, "is_first"]}


def check_decision(decision: Decision, components: Components) -> None:
    """Raises ValueError if an array is not of these environments and this agent."""
    count = len(components.envs)
    wanted = components.agent.initial_state(count)
    wanted |= {"scores": np.zeros(count), "lengths": np.zeros(count)}
    found = {**decision.state, "scores": decision.scores, "lengths": decision.lengths}
    alike = all(np.shape(found[name]) == np.shape(wanted[name]) for name in wanted)
    if not alike or len(decision.action) != count:
        raise ValueError("the last decision's arrays have other shapes")
