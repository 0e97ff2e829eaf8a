"""Evaluation: whole episodes without learning, during training or afterwards."""

import collections
import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import check_record, episode_seed
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import append_lines
from dreamer_tf.training import logdir
from dreamer_tf.training.build import one_env
from dreamer_tf.training.experience import BY_HAND, Episode, policy_inputs
from dreamer_tf.training.load import newest
from dreamer_tf.training.logs import append_scores

LONGEST = 100_000  # decisions after which an episode is cut


class Stopped(Exception):
    """`evaluate` was told to stop."""


def evaluate(
    agent: Any,
    make_env: Callable[[], Any],
    episodes: int,
    mode: str = "eval",
    seed: int | Sequence[int] = 0,
    first: int = 0,
    batch: int = 10,
    longest: int = 0,
    stop: Callable[[], Any] = lambda: False,
    say: Callable[[str], None] = print,
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
      longest: decisions after which an episode is cut; 0: `LONGEST`.
      stop: asked before every decision.
      say: receives a sentence if episodes are cut, or simulations diverged
        (`envs.Env`).

    Returns:
      The episodes in order, of the kind "eval" and with `frames` 0.

    Raises:
      UserError: a record is wrong.
      Stopped: `stop` returned something true.
    """
    longest, said = longest or LONGEST, False
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
        diverged = 0
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
                if diverged:
                    say(
                        f"{diverged} of {episodes} episodes ended because the "
                        "simulation diverged; their scores are the rewards until then."
                    )
                return [results[number] for number in sorted(results)]
            if stop():
                raise Stopped
            stacked = {k: np.stack([r[k] for r in records]) for k in records[0]}
            action, state = agent.policy(policy_inputs(stacked, envs[0]), state, mode)
            for slot, number in enumerate(playing):
                if number is None:
                    continue  # no episode is left for this row of the batch
                record = records[slot] = envs[slot].step(action[slot])
                check_record(record, envs[slot].obs_space)
                old = results[number]
                # True if the environment's process died and the episode began again.
                restarted = bool(record["is_first"])
                results[number] = dataclasses.replace(
                    old,
                    score=0.0 if restarted else old.score + float(record["reward"]),
                    length=0 if restarted else old.length + 1,
                )
                diverged += bool(getattr(record, "diverged", ""))
                cut = results[number].length >= longest and not record["is_last"]
                if cut and not said:
                    said = True
                    say(
                        f"An episode of the evaluation had not ended after {longest:,} "
                        "decisions; it is cut there, and so are others. "
                        "--length=FRAMES cuts them earlier, of `evaluate` and of "
                        "`train` in a new --logdir."
                    )
                if cut or record["is_last"]:
                    playing[slot] = None


def cut_at(run: RunConfig, longest: int = 0) -> int:
    """Decisions after which to cut an episode: `longest`, or more if --length is.

    `longest` 0 stands for `LONGEST`.
    """
    return max(longest or LONGEST, math.ceil(run.length / run.repeat))


def evaluate_run(
    path: Path,
    episodes: int,
    mode: str = "eval",
    seed: int = 0,
    length: int | None = None,
) -> list[Episode]:
    """Evaluates the newest checkpoint in a logdir and adds rows to its scores.csv.

    Adds a line to evaluations.jsonl too: frames of training, mode, number of episodes,
    seed, action repeat and the scores, and `length` if it is given. A directory of
    weights only stays as it is.

    Args:
      path: the run's logdir.
      episodes, mode, seed: see `evaluate`.
      length: longest episode in frames; None: as in the run.

    Raises:
      UserError: there is no run, or it has no checkpoint yet.
    """
    run = logdir.read(path)
    if length is not None:
        run = dataclasses.replace(run, length=length)
    agent, frames = newest(path)
    make_env = functools.partial(one_env, run)
    played = evaluate(
        agent, make_env, episodes, mode, (seed, BY_HAND), longest=cut_at(run)
    )
    rows = [dataclasses.replace(e, frames=frames, kind="eval_cmd") for e in played]
    if logdir.is_weights_only(path):
        return rows
    protocol: dict[str, Any] = {
        "frames": frames,
        "mode": mode,
        "episodes": episodes,
        "seed": seed,
        "repeat": run.repeat,
        "scores": [row.score for row in rows],
    }
    if length is not None:
        protocol["length"] = length
    try:
        append_scores(path, rows)
        append_lines(path / logdir.EVALUATIONS, json.dumps(protocol) + "\n")
    except OSError as error:
        raise UserError(
            f"--logdir={path} cannot be written ({reason(error)}); the episodes that "
            "were played are lost."
        ) from error
    return rows
