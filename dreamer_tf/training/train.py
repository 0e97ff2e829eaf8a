"""A run: trains within a budget, writes logs and checkpoints, continues from them."""

import contextlib
import dataclasses
import errno
import functools
import gc
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_tf import programs
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import gl
from dreamer_tf.envs.limits import time_limit
from dreamer_tf.errors import Interrupted, UserError, reason, system, why
from dreamer_tf.replay import Episodes
from dreamer_tf.training import checkpoint, logdir, signals, track
from dreamer_tf.training.budget import check_replay, needs
from dreamer_tf.training.build import build
from dreamer_tf.training.evaluate import Stopped, cut_at, evaluate
from dreamer_tf.training.experience import (
    EVALUATION,
    Components,
    Decision,
    Episode,
    Stats,
    Update,
    check_decision,
    experience,
)
from dreamer_tf.training.logs import Logs, Means
from dreamer_tf.training.outlook import SHORTER, outlook
from dreamer_tf.training.schedules import Progress
from dreamer_tf.training.terminal import Terminal

# Errors of the operating system that a person can fix: of the disk and the logdir.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EFBIG}
DISK |= {errno.EPERM, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN}
DISK |= {errno.ENAMETOOLONG, errno.EREMOTEIO, errno.EBUSY}
DISK |= {errno.EISDIR, errno.ENOTDIR, errno.EEXIST}  # the name is taken
# What a checkpoint of another structure leads to.
FOREIGN: tuple[type[Exception], ...] = (KeyError, TypeError, ValueError, IndexError)
FOREIGN += (AttributeError, ArithmeticError, RecursionError, FileNotFoundError)


def train(
    run: RunConfig,
    config: Any,
    command: Sequence[str] = (),
    make: Callable[[RunConfig, Any], Components] | None = None,
    terminal: Terminal | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Trains until `run.steps` frames, continuing the run in `run.logdir` if any.

    Args:
      run, config: the settings. If a run is continued, only the fields in
        `configs.run.CHANGEABLE` may differ from its own.
      command: noted in config.json.
      make: makes the components, instead of `build`.
      terminal: where to report; stdout by default.
      clock: seconds; decides when to save.

    Returns:
      How far the run is.

    Raises:
      UserError: the directory is in use, holds another run or cannot be written, or
        training cannot continue.
      Interrupted: one of `signals.ALL` came, or nobody reads the output any more;
        everything was saved.
    """
    terminal = terminal or Terminal(run.steps)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(terminal.close)
            track.check(run.track)
            place = stack.enter_context(logdir.locked(Path(run.logdir), terminal.say))
            run, config = logdir.check(run, config, terminal.say)
            components = (make or build)(run, config)
            if run.obs != "proprio" and os.environ.get("MUJOCO_GL"):
                terminal.say(gl.choose()[1])  # chosen when `build` made environments
            stack.callback(components.envs.close)
            check_replay(run, components)
            begin = functools.partial(
                logdir.write,
                run,
                config,
                list(command),
                terminal.say,
                components.agent.place,
            )
            follow = functools.partial(track.start, run, config, terminal.say)
            trainer = Trainer(run, components, terminal, clock, begin, follow)
            trainer.place = place
            stack.callback(trainer.close)
            came = stack.enter_context(signals.noted())
            trainer.stop = lambda: came() or terminal.stop()
            trainer.train()
            return trainer.progress
    except OSError as error:
        raise UserError(
            f"--logdir={run.logdir} cannot be written ({why(error)}); what was "
            "saved before is intact, and the same command continues from it."
            if error.errno in DISK
            else f"{system(error)} What was saved in --logdir={run.logdir} before is "
            "intact, and the same command continues from it."
        ) from error


class Trainer:
    """Writes a run's files from the events of `experience`, and continues from them.

    Args:
      run: the settings.
      components: of the run; restored from its newest checkpoint if there is one.
      terminal: where to report.
      clock: seconds; decides when to save.
      begin: called once the run is sure to start, before its logs are opened.
      follow: called after it, for who gets the metrics besides the run's files.
    """

    def __init__(
        self,
        run: RunConfig,
        components: Components,
        terminal: Terminal,
        clock: Callable[[], float],
        begin: Callable[[], None],
        follow: Callable[[], track.Tracker],
    ):
        self.run, self.components = run, components
        self.terminal, self.clock = terminal, clock
        self.progress, self.means = Progress(), Means()
        self.updates = 0
        self.logged = 0  # frames of the last row of metrics
        self.filmed = 0  # frames of the last open-loop picture
        self.next_eval: int | None = None  # frames; None as long as acting is random
        self.evaluated = 0  # episodes
        self.since: Decision | None = None  # where a continued run begins
        self.restarts = 0  # of environment processes, by the runs before this one
        self.said_too_short = self.said_endless = False
        # Episodes, and their frames, that V1's and V2's replay do not keep.
        self.short_episodes = self.short_frames = 0
        # Whether a signal cut `_report` short after the last decision.
        self.owed = False
        self.stop: Callable[[], int] = lambda: 0  # number of a signal
        self.place: logdir.Place | None = None  # of the logdir, wherever it is moved
        components.envs.say = terminal.say
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
            f"{sum(components.agent.param_count().values()):,} parameters, computed in "
            f"{components.agent.place}."
        )
        terminal.say(f"Curves: {shlex.join(['tensorboard', '--logdir', str(path)])}")
        if components.observed:
            terminal.say(components.observed)
        terminal.say(needs(run, components))
        if not self.updates and self.progress.frames < run.steps:
            for sentence in outlook(run, components):
                terminal.say(sentence)
        # Not before: a run that cannot be built or continued must leave no files.
        begin()
        self.tracker = follow()
        frames, say = self.progress.frames, terminal.say
        self.logs = Logs(path, position, frames, say, self.tracker)

    def train(self) -> None:
        """Trains until the budget is spent, and saves a last checkpoint."""
        if self.owed and self.since:
            # So that a run that was interrupted equals one that was not.
            done = self.progress.frames >= self.run.steps
            self._report(done)
            if self.owed:
                raise Interrupted(self.stop(), self.progress.frames)
            if done:
                self.save(self.since)
                self._say_finished()
                return
        if self.progress.frames >= self.run.steps:
            self.terminal.say(f"Nothing to do: --steps={self.run.steps} is reached.")
            return
        saved, score, compiled = self.clock(), None, False
        numbers = self.run.repeat, self.run.seed, self.since
        for event in experience(
            self.components, self.progress, *numbers, self.terminal.compiling
        ):
            if isinstance(event, Update):
                self.updates += 1
                self.means.add(event.metrics)
                if not compiled:  # a run that is killed later finds its programs again
                    compiled = True
                    programs.adopt()
            elif isinstance(event, Episode):
                score = event.score
                self.logs.score(event)
                self._count_if_short(event)
                self.means.add(
                    {"train/return": event.score, "train/length": event.length}
                )
            elif isinstance(event, Stats):
                self.logs.stats(event.frames, event.values)
            else:
                if self.place and self.place.lost():
                    self._end_where_it_is(self.place, event)
                done = self.progress.frames >= self.run.steps
                self._report(done)
                stop = self.stop()
                if done or stop or self.clock() - saved >= self.run.save_every:
                    self.save(event)
                    saved = self.clock()
                self.terminal.show(self.progress.frames, self.updates, score)
                if done and not self.owed:
                    self._say_finished()
                    return
                if stop:
                    raise Interrupted(stop, self.progress.frames)

    def close(self) -> None:
        """Closes the logs."""
        self.logs.close()
        self.tracker.close(done=self.progress.frames >= self.run.steps)

    def _say_finished(self) -> None:
        self.terminal.say(
            f"Finished: {self.progress.frames:,} frames, {self.updates:,} updates, "
            f"{self.progress.episodes:,} episodes."
        )

    def _report(self, done: bool) -> None:
        """Evaluates, logs and films what is due after a decision.

        A signal ends an evaluation. Then all of it is `owed`: the run that continues
        begins with it.
        """
        try:
            self._evaluate_if_due()
            self._log_if_due(done)
            self._film_if_due()
            self.owed = False
        except Stopped:
            self.owed = True

    def _evaluate_if_due(self) -> None:
        frames, every = self.progress.frames, self.run.eval_every
        if not every or self.components.schedule.random(self.progress):
            return
        if self.next_eval is None:
            self.next_eval = frames
        if frames < self.next_eval:
            return
        episodes = evaluate(
            self.components.agent,
            self.components.make_env,
            self.run.eval_episodes,
            seed=(self.run.seed, EVALUATION),
            first=self.evaluated,
            longest=cut_at(self.run),
            stop=self.stop,
            say=self.terminal.say,
        )
        while self.next_eval <= frames:
            self.next_eval += every
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
            "replay/gb": self.components.replay.nbytes / 1e9,
            "envs/restarts": self.restarts + self.components.envs.restarts,
            "envs/diverged": self.components.envs.diverged,
        }
        if isinstance(self.components.replay, Episodes):
            row["replay/short_episodes"] = self.short_episodes
            row["replay/short_frames"] = self.short_frames
            self._say_too_short(self.components.replay)
            self._say_endless()
        rates = self.terminal.rates(frames, self.updates)
        self.logs.metrics(frames, row | self.means.take() | rates)

    def _count_if_short(self, episode: Episode) -> None:
        """Counts an episode that is too short for replay.

        The windows of DreamerV3 span episodes: they are never too short.
        """
        replay = self.components.replay
        if isinstance(replay, Episodes) and episode.length + 1 < replay.shortest:
            self.short_episodes += 1
            self.short_frames += episode.length * self.run.repeat

    def _say_too_short(self, replay: Episodes) -> None:
        """Says once how much is lost by episodes that are too short."""
        progress = self.progress
        if self.said_too_short or not self.short_episodes:
            return
        advice = (
            f"A new run with a smaller {SHORTER[self.run.version]} learns from shorter "
            "ones."
        )
        if not progress.items:
            self.said_too_short = True
            self.terminal.say(
                f"Nothing can be learned yet: none of {progress.episodes:,} episodes "
                f"was long enough for a sequence of {replay.shortest} records. {advice}"
            )
        elif not self.components.schedule.random(progress):
            self.said_too_short = True
            share = self.short_frames / max(1, progress.finished_frames)
            self.terminal.say(
                f"{self.short_episodes:,} of {progress.episodes:,} episodes so far, "
                f"with {100 * share:.2g} % of their frames, are not learned from: they "
                f"were too short for a sequence of {replay.shortest} records. {advice}"
            )

    def _say_endless(self) -> None:
        """Says once if only a finished episode is missing for updates."""
        run, progress = self.run, self.progress
        if self.said_endless or progress.episodes or time_limit(run.task, run.length):
            return
        frames = progress.frames
        ended = dataclasses.replace(progress, episodes=1, finished_frames=frames)
        if not self.components.schedule.random(ended):
            self.said_endless = True
            self.terminal.say(
                f"Nothing can be learned yet: no episode has ended within "
                f"{frames // run.envs:,} frames. If they never end, start again in "
                "another --logdir with --length, the longest episode in frames."
            )

    def _film_if_due(self) -> None:
        """Logs a picture of an open-loop prediction; leaves training's noise alone."""
        frames, every = self.progress.frames, self.run.video_every
        if not every or frames // every == self.filmed // every:
            return
        if not self.progress.items:
            return  # no sequence yet: tried again at the next decision
        self.filmed = frames
        from dreamer_tf import pictures  # only now: it loads matplotlib

        run, components = self.run, self.components
        picture = pictures.training_picture(
            components.agent,
            components.replay,
            (run.seed, frames),
            pictures.heading(run.version, run.task, frames),
        )
        if picture is not None:
            self.logs.image(frames, "openloop", picture)
        gc.collect()  # figures are in reference cycles and hold megabytes

    def save(self, decision: Decision) -> None:
        """Writes a checkpoint of everything."""
        components = self.components
        state = {
            "schedule": components.schedule.state_dict(),
            "replay": components.replay.state_dict(),
            "envs": components.envs.state_dict(),
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
                "owed": self.owed,
                "short": [self.short_episodes, self.short_frames],
                "means": self.means.sums,
                "restarts": self.restarts + components.envs.restarts,
                "logs": self.logs.state(),
            },
        }
        if components.delayed:
            state["delayed"] = components.delayed.state_dict()
        agent, replay = components.agent, components.replay
        self.checkpoints.save(self.progress.frames, state, agent.save, replay.pieces())
        replay.mark_saved()

    def _end_where_it_is(self, place: logdir.Place, decision: Decision) -> None:
        """Ends a run whose directory is not at its path any more.

        Raises:
          UserError: always; before, everything is saved where the directory is now.
        """
        now, frames = place.now(), self.progress.frames
        if now is None:
            raise UserError(
                f"--logdir={place.path} was removed or replaced during the run, which "
                f"ends at {frames:,} frames: what it had not saved elsewhere is lost."
            )
        self.checkpoints.directory = now / logdir.CHECKPOINTS
        self.save(decision)
        raise UserError(
            f"--logdir={place.path} was moved to {now} during the run, which ends: "
            f"everything is saved there, at {frames:,} frames. To go on, give the same "
            f"command with --logdir={now}, or move it back."
        )

    def _restore(self, path: Path, damaged: set[str]) -> dict[str, Any]:
        """Restores a checkpoint; returns the position of the logs.

        Raises:
          UserError: another version of this code wrote it.
        """
        try:
            return self._load(path, damaged)
        except FOREIGN as error:
            raise UserError(
                f"The checkpoint {path} is not of this version of dreamer_tf "
                f"({reason(error)}): continue with the version that wrote it, or use "
                "another --logdir."
            ) from error

    def _load(self, path: Path, damaged: set[str]) -> dict[str, Any]:
        components, loop = self.components, checkpoint.read(path, "loop")
        checkpoint.check_counts(loop)
        components.agent.load_state_dict(checkpoint.read_arrays(path / "agent.npz"))
        if components.delayed:
            components.delayed.load_state_dict(checkpoint.read(path, "delayed"))
        schedule = checkpoint.read(path, "schedule")
        for name, value in schedule.items():
            if not isinstance(value, int | float | None):
                raise TypeError(f"'{name}' is {value!r}")
        components.schedule.load_state_dict(schedule)
        components.replay.load_state_dict(
            checkpoint.read(path, "replay"),
            functools.partial(checkpoint.read_piece, path),
            damaged,
        )
        self.progress = Progress(**loop["progress"])
        self.updates, self.logged = loop["updates"], loop["logged"]
        self.filmed = loop["filmed"]
        self.next_eval, self.evaluated = loop["next_eval"], loop["evaluated"]
        self.means.sums, self.restarts = loop["means"], loop["restarts"]
        # Older checkpoints have neither of the two.
        self.owed = loop.get("owed", False)
        self.short_episodes, self.short_frames = loop.get("short", (0, 0))
        self.since = Decision(**checkpoint.read(path, "decision"))
        check_decision(self.since, components)
        components.envs.load_state_dict(checkpoint.read(path, "envs"))
        if damaged:
            components.envs.give_up()
            self.terminal.say(
                f"Went on without them: {len(components.replay):,} of "
                f"{self.progress.items:,} sequences are left, all environments begin "
                "new episodes, and this run will not equal an uninterrupted one."
            )
        return loop["logs"]
