"""Evaluation: whole episodes without learning, during training or afterwards."""

import collections
import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_tf.envs import check_record, episode_seed
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import append_lines
from dreamer_tf.training import checkpoint, logdir
from dreamer_tf.training.build import one_env
from dreamer_tf.training.experience import BY_HAND, Episode, policy_inputs
from dreamer_tf.training.load import load_agent
from dreamer_tf.training.logs import append_scores

LONGEST = 1_000_000  # decisions of an episode, after which an evaluation gives up


def evaluate(
    agent: Any,
    make_env: Callable[[], Any],
    episodes: int,
    mode: str = "eval",
    seed: int | Sequence[int] = 0,
    first: int = 0,
    batch: int = 10,
) -> list[Episode]:
    """Plays whole episodes without learning from them.

    Args:
      agent: its policy acts; nothing of it changes.
      make_env: makes an environment; called up to `batch` times.
      episodes: how many.
      mode: of the policy: "eval", "train" (explores as in training) or "random".
      seed: decides, with `first`, how the episodes start.
      first: number of the first episode; another one gives other episodes.
      batch: episodes played side by side.

    Returns:
      The episodes in order, of the kind "eval" and with `frames` 0.

    Raises:
      UserError: a record is wrong, or an episode does not end.
    """
    with contextlib.ExitStack() as stack:
        # So that evaluating does not change the noise that training draws.
        stack.callback(setattr, agent, "decisions", agent.decisions)
        envs = [make_env() for _ in range(min(batch, episodes))]
        for env in envs:
            stack.callback(env.close)
        waiting = collections.deque(range(first, first + episodes))
        playing: list[int | None] = [None] * len(envs)
        records: list[dict[str, np.ndarray]] = [{}] * len(envs)
        results: dict[int, Episode] = {}
        state = agent.initial_state(len(envs))
        while True:
            for slot, env in enumerate(envs):
                if playing[slot] is None and waiting:
                    new = playing[slot] = waiting.popleft()
                    start = episode_seed(seed, 0, new)
                    records[slot] = env.reset(seed=start)
                    check_record(records[slot], env.obs_space)
                    results[new] = Episode(0, 0.0, 0, "eval", mode, 0, new, start)
            if not any(number is not None for number in playing):
                return [results[number] for number in sorted(results)]
            stacked = {k: np.stack([r[k] for r in records]) for k in records[0]}
            action, state = agent.policy(policy_inputs(stacked, envs[0]), state, mode)
            for slot, number in enumerate(playing):
                if number is None:
                    continue  # no episode is left for this row of the batch
                record = records[slot] = envs[slot].step(action[slot])
                check_record(record, envs[slot].obs_space)
                old = results[number]
                if old.length == LONGEST:
                    raise UserError(
                        f"An episode of the evaluation has not ended after {LONGEST:,} "
                        "decisions: give --length, the longest episode in frames."
                    )
                # True if the environment's process died and the episode began again.
                restarted = bool(record["is_first"])
                results[number] = dataclasses.replace(
                    old,
                    score=0.0 if restarted else old.score + float(record["reward"]),
                    length=0 if restarted else old.length + 1,
                )
                if record["is_last"]:
                    playing[slot] = None


def evaluate_run(
    path: Path, episodes: int, mode: str = "eval", seed: int = 0
) -> list[Episode]:
    """Evaluates the newest checkpoint in a logdir and adds rows to its scores.csv.

    Adds a line to evaluations.jsonl too: frames of training, mode, number of episodes,
    seed, action repeat and the scores.

    Raises:
      UserError: there is no run, or it has no checkpoint yet.
    """
    run = logdir.read(path)
    saved = checkpoint.latest(path / logdir.CHECKPOINTS)
    frames = checkpoint.frames(saved)
    agent = load_agent(saved)
    agent.frames = frames
    make_env = functools.partial(one_env, run)
    played = evaluate(agent, make_env, episodes, mode, (seed, BY_HAND))
    rows = [dataclasses.replace(e, frames=frames, kind="eval_cmd") for e in played]
    protocol = {
        "frames": frames,
        "mode": mode,
        "episodes": episodes,
        "seed": seed,
        "repeat": run.repeat,
        "scores": [row.score for row in rows],
    }
    try:
        append_scores(path, rows)
        append_lines(path / logdir.EVALUATIONS, json.dumps(protocol) + "\n")
    except OSError as error:
        raise UserError(
            f"--logdir={path} cannot be written ({reason(error)}); the episodes that "
            "were played are lost."
        ) from error
    return rows
