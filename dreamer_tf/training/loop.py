"""The training loop as a generator of events, and evaluation.

`experience` alternates acting and learning and yields what happened; budgets, logs,
evaluations and checkpoints live around it, in `train`. Neither knows anything of a
version but `Agent`, `Schedule` and `make_replay`.
"""

import collections
import contextlib
import copy
import dataclasses
import errno
import functools
import gc
import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_tf import engine
from dreamer_tf.agent import (
    Progress,
    check_devices,
    load_agent,
    make_agent,
    version_module,
)
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import (
    Remote,
    action_size,
    check_record,
    episode_seed,
    gl,
    make_env,
    make_envs,
)
from dreamer_tf.envs.base import FLAGS
from dreamer_tf.errors import Interrupted, UserError, reason
from dreamer_tf.replay import Episodes, bytes_per_record
from dreamer_tf.training import checkpoint, logdir
from dreamer_tf.training.logs import (
    Episode,
    Logs,
    Means,
    Terminal,
    append_scores,
    free_memory,
)

# Series of episodes, each with seeds of its own.
TRAINING, EVALUATION, BY_HAND = range(3)

# Errors of the operating system that tell of a disk, not of a mistake in the code.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EFBIG}
DISK |= {errno.EISDIR, errno.ENOTDIR, errno.EEXIST}  # the name is taken

LONGEST = 1_000_000  # decisions, after which an evaluation waits no more for an end


@dataclasses.dataclass(frozen=True)
class Update:
    """One gradient update was made."""

    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Decision:
    """Every environment's record is in and learned from: the time to look or stop.

    Its fields are what `experience` needs to go on from here.
    """

    state: Mapping[str, np.ndarray]  # of the policy, [N, ...]
    action: np.ndarray  # [N, A], which the environments get next
    scores: np.ndarray  # float64 [N], of the unfinished episodes
    lengths: np.ndarray  # int64 [N], their decisions


@dataclasses.dataclass
class Parts:
    """What a run consists of; `build` makes them from the configs."""

    agent: Any
    envs: Any
    replay: Any
    schedule: Any
    make_env: Callable[[], Any]  # one more environment, for evaluation


def build(run: RunConfig, config: Any) -> Parts:
    """Makes environments, agent, replay and schedule of a run."""
    # First of all, as it has to come before the GPU is used.
    engine.limit_memory(run.gpu_memory_gb)
    check_devices(run.devices)
    how = env_arguments(run)
    workers = run.workers or int(run.obs != "proprio" and needs_graphics(run))
    envs = make_envs(
        run.task, run.envs, workers, run.seed, timeout=run.env_timeout, **how
    )
    version = version_module(run.version)
    spaces = envs.obs_space, envs.action_space
    agent = make_agent(run.version, *spaces, config, run.seed, run.devices)
    return Parts(
        agent,
        envs,
        version.make_replay(config, replay_bytes(run, agent), run.seed),
        version.Schedule(config),
        functools.partial(one_env, run),
    )


def one_env(run: RunConfig, pictures: bool | None = None) -> Any:
    """Makes one more environment of a run, for evaluation.

    Args:
      run: the settings.
      pictures: whether any will be asked of it; if None, whether it observes them.
    """
    make = functools.partial(make_env, run.task, seed=run.seed, **env_arguments(run))
    pictures = run.obs != "proprio" if pictures is None else pictures
    remote = pictures and needs_graphics(run)
    return Remote(make, run.env_timeout) if remote else make()


def needs_graphics(run: RunConfig) -> bool:
    """Whether pictures come from a graphics library, see `envs.Remote`."""
    return not run.task.startswith("toy")


def env_arguments(run: RunConfig) -> dict[str, Any]:
    """What `make_env` needs to know of a run, besides task and seed."""
    names = ("repeat", "size", "obs", "camera", "length", "fast_render")
    return {name: getattr(run, name) for name in names}


def replay_bytes(run: RunConfig, agent: Any) -> int:
    """The replay's memory limit, so small that the checkpoints keep to theirs.

    Raises:
      UserError: --disk_gb does not even hold the agent.
    """
    limit = int(run.replay_gb * 1e9)
    if not run.disk_gb:
        return limit
    # `disk_bytes` is linear in the replay's.
    without, each = (checkpoint.disk_bytes(agent_bytes(agent), n) for n in (0, 1))
    rest = (run.disk_gb * 1e9 - without) / (each - without)
    if rest < 1:
        least = checkpoint.disk_bytes(agent_bytes(agent), 10**8)
        raise UserError(
            f"--disk_gb={run.disk_gb:g} is too small for {checkpoint.AT_ONCE} "
            f"checkpoints of this agent; give at least {least / 1e9:.2f}, or 0."
        )
    return min(limit, int(rest))


def check_replay(run: RunConfig, parts: Parts) -> None:
    """Makes sure that the replay's memory holds one sequence of each environment.

    Raises:
      UserError: it does not, so nothing would ever be learned; says what would.
    """
    limit = enough = parts.replay.memory_bytes
    while not _fits(parts, run.envs, enough):
        enough *= 2
    if enough > limit:
        raise UserError(
            f"--replay_gb={run.replay_gb:g} and --disk_gb={run.disk_gb:g} leave "
            f"{limit / 1e9:.2g} GB of memory for the replay, too little for a sequence "
            f"of each environment; {enough / 1e9:.2g} GB would be enough."
        )


def _fits(parts: Parts, streams: int, memory_bytes: int) -> bool:
    """Whether a copy of the replay with this limit takes a sequence per stream.

    They are whole episodes, as short as can be, and others that have not ended.
    """
    trial, rows = copy.deepcopy(parts.replay), parts.replay.length + 1
    trial.memory_bytes = memory_bytes
    record = {
        name: np.zeros(entry.shape, entry.dtype)
        for name, entry in record_entries(parts).items()
    }
    try:
        for row in range(2 * rows - 1):
            record["is_first"] = np.asarray(row % rows == 0)
            record["is_last"] = np.asarray(row % rows == rows - 1)
            for stream in range(streams):
                trial.add(record, stream)
    except UserError:
        # Where it is more than any memory, the record itself is wrong.
        if memory_bytes > 10**18:
            raise
        return False
    return True


def agent_bytes(agent: Any) -> int:
    """What a saved agent takes."""
    return sum(np.asarray(value).nbytes for value in agent.state_dict().values())


# --- Acting and learning ------------------------------------------------------


def experience(
    parts: Parts,
    progress: Progress,
    repeat: int,
    seed: int,
    since: Decision | None = None,
) -> Iterator[Episode | Update | Decision]:
    """Acts in all environments and learns as the schedule says, without end.

    At every time step all environments' records are shown to the policy, stored with
    its latents one after the other, and each is followed by the updates that are due
    (the order of the official DreamerV3 code). While the device works at an update,
    more records are stored and the next batch is drawn; then its latents are written
    back, all of them before the `Decision`. `progress` is kept up to date. A restored
    run goes on `since` the decision that was saved with it.

    Raises:
      UserError: an update gave a number that is not finite.
    """
    agent, envs = parts.agent, parts.envs
    replay, schedule = parts.replay, parts.schedule
    if since is None:
        state = agent.initial_state(len(envs))
        records = envs.reset()
        scores, lengths = np.zeros(len(envs)), np.zeros(len(envs), int)
    else:
        state, scores, lengths = dict(since.state), since.scores, since.lengths
        records = envs.step(since.action)
    begun: tuple | None = None  # the update that the device works at
    while True:
        mode = "random" if schedule.random(progress) else "train"
        agent.frames = progress.frames
        action, state = agent.policy(_seen(records, envs), state, mode)
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
                progress.frames += repeat
            if row["is_last"]:
                progress.episodes += 1
                progress.finished_frames += int(lengths[index]) * repeat
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
            for _ in range(schedule.updates(progress)):
                batch = replay.sample()
                if begun:
                    yield _finish(begun, replay, progress)
                begun = batch["id"], agent.begin(batch)
        if begun:
            yield _finish(begun, replay, progress)
            begun = None
        yield Decision(state, action, scores.copy(), lengths.copy())
        records = envs.step(action)


def _finish(begun: tuple, replay: Any, progress: Progress) -> Update:
    """Waits for an update that was begun, and writes back what it found."""
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


def _seen(records: Mapping[str, np.ndarray], env: Any) -> dict[str, np.ndarray]:
    return {name: records[name] for name in [*env.obs_space.spaces, "is_first"]}


# --- Evaluation --------------------------------------------------------------


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
      agent: only its policy is used; nothing of it changes.
      make_env: makes an environment; called up to `batch` times.
      episodes: how many.
      mode: of the policy: "eval", "train" (explores as in training) or "random".
      seed: with `first`, decides how the episodes start.
      first: number of the first episode, so that evaluations differ.
      batch: episodes that are played side by side.

    Returns:
      The episodes in order, of the kind "eval" and with `frames` 0.

    Raises:
      UserError: a record is wrong, or an episode does not end.
    """
    with contextlib.ExitStack() as stack:
        # Training draws the same noise whether or not it is evaluated.
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
            action, state = agent.policy(_seen(stacked, envs[0]), state, mode)
            for slot, number in enumerate(playing):
                if number is None:
                    continue  # its episode is over: an idle row of the batch
                record = records[slot] = envs[slot].step(action[slot])
                check_record(record, envs[slot].obs_space)
                old = results[number]
                if old.length == LONGEST:
                    raise UserError(
                        f"An episode of the evaluation has not ended after {LONGEST:,} "
                        "decisions: give --length, the longest episode in frames."
                    )
                anew = bool(record["is_first"])  # its process died, see `Envs`
                results[number] = dataclasses.replace(
                    old,
                    score=0.0 if anew else old.score + float(record["reward"]),
                    length=0 if anew else old.length + 1,
                )
                if record["is_last"]:
                    playing[slot] = None


def evaluate_run(
    path: Path, episodes: int, mode: str = "eval", seed: int = 0
) -> list[Episode]:
    """Evaluates the newest checkpoint in a logdir and adds to its scores.csv.

    A line of evaluations.jsonl says how: frames of training, mode, number of episodes,
    seed and action repeat, beside the scores.

    Raises:
      UserError: there is no run, or it has no checkpoint yet.
    """
    run = logdir.read(path)
    saved = checkpoint.latest(path / logdir.CHECKPOINTS)
    frames = checkpoint.read(saved, "loop")["progress"]["frames"]
    agent = load_agent(saved)
    agent.frames = frames
    played = evaluate(
        agent,
        functools.partial(one_env, run),
        episodes,
        mode,
        (seed, BY_HAND),
    )
    rows = [dataclasses.replace(e, frames=frames, kind="eval_cmd") for e in played]
    protocol: dict[str, Any] = {
        "frames": frames,
        "mode": mode,
        "episodes": episodes,
        "seed": seed,
    }
    protocol |= {"repeat": run.repeat, "scores": [row.score for row in rows]}
    try:
        append_scores(path, rows)
        with open(path / logdir.EVALUATIONS, "a") as file:
            file.write(json.dumps(protocol) + "\n")
    except OSError as error:
        raise UserError(
            f"--logdir={path} cannot be written ({reason(error)}); the episodes that "
            "were played are lost."
        ) from error
    return rows


# --- A run -------------------------------------------------------------------


def train(
    run: RunConfig,
    config: Any,
    command: Sequence[str] = (),
    make_parts: Callable[[RunConfig, Any], Parts] | None = None,
    terminal: Terminal | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Runs until `run.steps` frames, or continues what `run.logdir` holds.

    Args:
      run, config: the settings; they must be those of a run that is continued, but
        for the fields in `config.CHANGEABLE`.
      command: noted in config.json.
      make_parts: instead of `build`.
      terminal: where to report; stdout by default.
      clock: seconds, decides when to save.

    Raises:
      UserError: the directory is in use, of another run, or cannot be written, or
        training cannot go on.
      Interrupted: by SIGINT or SIGTERM, after everything was saved.
    """
    terminal = terminal or Terminal(run.steps)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(terminal.close)
            stack.enter_context(logdir.locked(Path(run.logdir)))
            logdir.check(run, config, terminal.say)
            parts = (make_parts or build)(run, config)
            if run.obs != "proprio" and os.environ.get("MUJOCO_GL"):
                terminal.say(gl.choose()[1])  # made when the environments were built
            stack.callback(parts.envs.close)
            check_replay(run, parts)
            begin = functools.partial(
                logdir.write,
                run,
                config,
                list(command),
                terminal.say,
                parts.agent.place,
            )
            trainer = Trainer(run, parts, terminal, clock, begin)
            stack.callback(trainer.logs.close)
            trainer.stop = stack.enter_context(stop_signal())
            trainer.train()
            return trainer.progress
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise UserError(
            f"--logdir={run.logdir} cannot be written ({error.strerror}); what was "
            "saved before is intact, and the same command continues from it."
        ) from error


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[], int]]:
    """Turns the first SIGINT or SIGTERM into a wish; the second one acts as usual.

    Yields a function: the number of the signal that came, or 0.
    """
    received: list[int] = []
    old: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        restore()
        name = signal.Signals(number).name
        text = f"\n{name}: saving after this decision; once more stops at once.\n"
        os.write(2, text.encode())  # print may be what was interrupted

    def restore() -> None:
        for number, handler in old.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():  # only it may
        for number in (signal.SIGINT, signal.SIGTERM):
            # Shells let their background jobs ignore what Ctrl-C means for others.
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, note)
    try:
        yield lambda: received[0] if received else 0
    finally:
        restore()


class Trainer:
    """Turns the events of a run into its files, and continues from them."""

    def __init__(
        self,
        run: RunConfig,
        parts: Parts,
        terminal: Terminal,
        clock: Callable[[], float],
        begin: Callable[[], None],
    ):
        self.run, self.parts, self.terminal, self.clock = run, parts, terminal, clock
        self.progress, self.means = Progress(), Means()
        self.updates = 0
        self.logged = 0  # frames of the last row of metrics
        self.filmed = 0  # frames of the last open-loop picture
        self.next_eval: int | None = None  # frames; None as long as acting is random
        self.evaluated = 0  # episodes
        self.since: Decision | None = None  # where a continued run goes on
        self.restarts = 0  # of environment processes, by the runs before this one
        self.said_too_short = False
        self.stop: Callable[[], int] = lambda: 0  # number of a signal
        parts.envs.say = terminal.say
        path = Path(run.logdir)
        self.checkpoints = checkpoint.Checkpoints(
            path / logdir.CHECKPOINTS, say=terminal.say
        )
        saved = self.checkpoints.latest()
        position = self._restore(*saved) if saved else None
        verb = "Continuing" if saved else "Starting"
        terminal.say(
            f"{verb} {run.version} on {run.task} in {path} at "
            f"{self.progress.frames:,} of {run.steps:,} frames. "
            f"{sum(parts.agent.param_count().values()):,} parameters, computed in "
            f"{parts.agent.place}."
        )
        terminal.say(needs(run, parts))
        # Only now: what cannot be built or continued leaves nothing behind.
        begin()
        self.logs = Logs(path, position, self.progress.frames, terminal.say)

    def train(self) -> None:
        """Goes on until the budget is spent; the last thing is a checkpoint."""
        if self.progress.frames >= self.run.steps:
            self.terminal.say(f"Nothing to do: --steps={self.run.steps} is reached.")
            return
        saved, score = self.clock(), None
        for event in experience(
            self.parts, self.progress, self.run.repeat, self.run.seed, self.since
        ):
            if isinstance(event, Update):
                self.updates += 1
                self.means.add(event.metrics)
            elif isinstance(event, Episode):
                score = event.score
                self.logs.score(event)
                self.means.add(
                    {"train/return": event.score, "train/length": event.length}
                )
            else:
                done = self.progress.frames >= self.run.steps
                self._evaluate_if_due()
                self._log_if_due(done)
                self._film_if_due()
                stop = self.stop()
                if done or stop or self.clock() - saved >= self.run.save_every:
                    self.save(event)
                    saved = self.clock()
                self.terminal.show(self.progress.frames, self.updates, score)
                if done:
                    self.terminal.say(
                        f"Finished: {self.progress.frames:,} frames, {self.updates:,} "
                        f"updates, {self.progress.episodes:,} episodes."
                    )
                    return
                if stop:
                    raise Interrupted(stop, self.progress.frames)

    def _evaluate_if_due(self) -> None:
        frames, every = self.progress.frames, self.run.eval_every
        if not every or self.parts.schedule.random(self.progress):
            return
        if self.next_eval is None:
            self.next_eval = frames
        if frames < self.next_eval:
            return
        while self.next_eval <= frames:
            self.next_eval += every
        episodes = evaluate(
            self.parts.agent,
            self.parts.make_env,
            self.run.eval_episodes,
            seed=(self.run.seed, EVALUATION),
            first=self.evaluated,
        )
        self.evaluated += len(episodes)
        for episode in episodes:
            self.logs.score(dataclasses.replace(episode, frames=frames))
        scores = [episode.score for episode in episodes]
        lengths = [episode.length for episode in episodes]
        row = {"eval/return": np.mean(scores), "eval/return_std": np.std(scores)}
        row["eval/length"] = np.mean(lengths)
        self.logs.metrics(frames, {name: float(v) for name, v in row.items()})
        self.terminal.say(
            f"{frames:,} frames: evaluation return {np.mean(scores):.1f} "
            f"± {np.std(scores):.1f} ({len(scores)} episodes)"
        )

    def _log_if_due(self, done: bool) -> None:
        frames, every = self.progress.frames, self.run.log_every
        if not done and frames // every == self.logged // every:
            return
        self.logged = frames
        row: dict[str, float] = {
            "updates": self.updates,
            "episodes": self.progress.episodes,
            "replay/items": self.progress.items,
            "replay/gb": self.parts.replay.nbytes / 1e9,
            "envs/restarts": self.restarts + self.parts.envs.restarts,
        }
        if self.progress.episodes and not self.progress.items:
            self._say_too_short()
        rates = self.terminal.rates(frames, self.updates)
        self.logs.metrics(frames, row | self.means.take() | rates)

    def _say_too_short(self) -> None:
        replay, said = self.parts.replay, self.said_too_short
        if isinstance(replay, Episodes) and not said:  # others join episodes
            self.said_too_short = True
            self.terminal.say(
                f"Nothing can be learned yet: none of {self.progress.episodes:,} "
                f"episodes was long enough for a sequence of {replay.length} records."
            )

    def _film_if_due(self) -> None:
        """Shows what the model predicts, with noise of its own."""
        frames, every = self.progress.frames, self.run.video_every
        if not every or frames // every == self.filmed // every:
            return
        if not self.progress.items:
            return  # nothing to look at yet: as soon as there is
        self.filmed = frames
        from dreamer_tf import pictures  # matplotlib, only where it is needed

        run, parts = self.run, self.parts
        picture = pictures.training_picture(
            parts.agent,
            parts.replay,
            (run.seed, frames),
            pictures.heading(run.version, run.task, frames),
        )
        if picture is not None:
            self.logs.image(frames, "openloop", picture)
        gc.collect()  # a figure refers to itself, and holds megabytes

    def save(self, decision: Decision) -> None:
        """Writes a checkpoint of everything."""
        parts = self.parts
        state = {
            "schedule": parts.schedule.state_dict(),
            "replay": parts.replay.state_dict(),
            "envs": parts.envs.state_dict(),
            "decision": {
                field.name: getattr(decision, field.name)
                for field in dataclasses.fields(decision)
            },
            "loop": {
                "progress": dataclasses.asdict(self.progress),
                "updates": self.updates,
                "logged": self.logged,
                "filmed": self.filmed,
                "next_eval": self.next_eval,
                "evaluated": self.evaluated,
                "means": self.means.sums,
                "restarts": self.restarts + parts.envs.restarts,
                "logs": self.logs.state(),
            },
        }
        self.checkpoints.save(
            self.progress.frames, state, parts.agent.save, parts.replay.pieces()
        )
        parts.replay.mark_saved()

    def _restore(self, path: Path, damaged: set[str]) -> dict[str, Any]:
        """Takes the state of a checkpoint; returns the position of the logs."""
        try:
            return self._take(path, damaged)
        except (KeyError, TypeError, FileNotFoundError) as error:
            raise UserError(
                f"The checkpoint {path} is not of this version of dreamer_tf "
                f"({reason(error)}): continue with the version that wrote it, or use "
                "another --logdir."
            ) from error

    def _take(self, path: Path, damaged: set[str]) -> dict[str, Any]:
        parts, loop = self.parts, checkpoint.read(path, "loop")
        parts.agent.load_state_dict(checkpoint.read_arrays(path / "agent.npz"))
        parts.schedule.load_state_dict(checkpoint.read(path, "schedule"))
        parts.replay.load_state_dict(
            checkpoint.read(path, "replay"),
            functools.partial(checkpoint.read_piece, path),
            damaged,
        )
        self.progress = Progress(**loop["progress"])
        self.updates, self.logged = loop["updates"], loop["logged"]
        self.filmed = loop["filmed"]
        self.next_eval, self.evaluated = loop["next_eval"], loop["evaluated"]
        self.means.sums, self.restarts = loop["means"], loop["restarts"]
        self.since = Decision(**checkpoint.read(path, "decision"))
        parts.envs.load_state_dict(checkpoint.read(path, "envs"))
        if damaged:
            parts.envs.give_up()
            self.terminal.say(
                f"Went on without them: {len(parts.replay):,} of "
                f"{self.progress.items:,} sequences are left, all environments begin "
                "new episodes, and this run will not equal an uninterrupted one."
            )
        return loop["logs"]


def record_entries(parts: Parts) -> dict[str, Any]:
    """What a row of replay holds: by name, anything with a shape and a dtype."""
    entries: dict[str, Any] = {**parts.envs.obs_space.spaces}
    state = parts.agent.initial_state(1)
    entries |= {name: np.asarray(state[name])[0] for name in parts.agent.latents}
    actions = np.zeros(action_size(parts.envs.action_space), np.float32)
    entries |= {"action": actions, "reward": np.zeros((), np.float32)}
    return entries | {name: np.zeros((), bool) for name in FLAGS}


def needs(run: RunConfig, parts: Parts) -> str:
    """One sentence: the memory and disk that a run will need, and what is free."""
    entries = record_entries(parts)
    rows = run.steps / run.repeat * 1.05 + 2000 * run.envs  # and each first row
    memory = min(parts.replay.memory_bytes, rows * bytes_per_record(entries))
    disk = checkpoint.disk_bytes(agent_bytes(parts.agent), memory)
    text = (
        f"The replay will take up to {memory / 1e9:.2g} GB of memory, the checkpoints "
        f"up to {disk / 1e9:.2g} GB of disk"
    )
    free = {
        "--replay_gb": (memory, "memory", free_memory()),
        "--disk_gb": (disk, "disk", shutil.disk_usage(run.logdir).free),
    }
    short = [
        f"only {left / 1e9:.2g} GB of {what} are free (see {flag})"
        for flag, (needed, what, left) in free.items()
        if needed > left
    ]
    return f"{text}; {' and '.join(short)}." if short else f"{text}."
