"""Versions x tasks x seeds as run directories: skipped, continued, retried, shown.

What is done, and how far the rest is, is read from the run directories alone: after
any crash the same command goes on. `dmc_vision.py` and `dmc_proprio.py` are this
file with a benchmark's name.
"""

import contextlib
import ctypes
import dataclasses
import datetime
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import pandas as pd
from absl import flags

from dreamer_tf.configs import fields as configs
from dreamer_tf.errors import UserError
from dreamer_tf.programs import THREADS
from dreamer_tf.training import checkpoint, logdir
from reproductions import collect, report, scores, tables, tasks

ROOT = Path(__file__).parent.parent
WAITING, RUNNING, ELSEWHERE = "waiting", "running", "elsewhere"
DONE, FAILED = "done", "failed"
USER_ERROR = 2  # exit code of run.py: a retry would say the same
RECENT = 5  # episodes of which the table shows the mean
MINUTE = 60.0  # seconds between totals where lines are printed
LOOK_AGAIN = 5.0  # seconds between looks at a directory that another process holds

_XEON = "two cores of an Intel Xeon, no GPU, median of 3 to 5 updates, acting left out"
_LITE = "one core of an AMD EPYC, no GPU, the fastest run of results/runs/lite"

# (version, benchmark, protocol) -> seconds per update, and how they were measured:
# acting is included where nothing else is said. What is not here is printed as not
# measured.
SECONDS_PER_UPDATE: dict[tuple[str, str, str], tuple[float, str]] = {
    ("v1", "dmc_proprio", "lite"): (0.060, f"{_LITE}/v1"),
    ("v2", "dmc_proprio", "lite"): (0.083, f"{_LITE}/v2"),
    ("v3", "dmc_proprio", "lite"): (0.034, f"{_LITE}/v3"),
    ("v1", "dmc_proprio", "paper"): (2.61, _XEON),
    ("v2", "dmc_proprio", "paper"): (2.26, _XEON),
    ("v3", "dmc_proprio", "nature"): (0.431, _XEON),
    ("v3", "dmc_proprio", "arxiv_v2"): (3.40, _XEON),
    ("v1", "dmc_vision", "paper"): (5.99, _XEON),
    ("v2", "dmc_vision", "paper"): (4.62, _XEON),
    ("v3", "dmc_vision", "arxiv_v2"): (7.36, _XEON),
}


# --- Cells ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    version: str
    benchmark: str
    protocol: str
    task: str
    seed: int
    frames: int  # its budget

    def __str__(self) -> str:
        return f"{self.version} {self.task} {self.seed}"

    def path(self, out: Path) -> Path:
        """The run's directory."""
        places = (self.protocol, self.benchmark, self.version, self.task)
        return out.joinpath(*places, str(self.seed))

    def log(self, out: Path) -> Path:
        """What the run prints; beside its directory, which holds nothing foreign."""
        return self.path(out).with_suffix(".log")

    def command(self, out: Path) -> list[str]:
        return [
            sys.executable,
            str(ROOT / "run.py"),
            "train",
            f"--version={self.version}",
            f"--benchmark={self.benchmark}",
            f"--protocol={self.protocol}",
            f"--task={self.task}",
            f"--seed={self.seed}",
            f"--steps={self.frames}",
            f"--logdir={self.path(out)}",
        ]


@dataclasses.dataclass
class Status:
    """What the table shows of a cell."""

    state: str = WAITING
    frames: int = 0
    score: float | None = None  # mean of the last episodes of the reported kind
    speed: float | None = None  # frames per second of its last minute
    crashes: int = 0  # since this grid was started
    reason: str = ""  # why it crashed, failed, or waits


def protocols_of(benchmark: str, version: str) -> list[str]:
    """The protocols of a version, its published one first."""
    named = [p for p, at in tasks.BENCHMARKS[benchmark].frames.items() if version in at]
    return sorted(named, key=lambda p: p not in tasks.PUBLISHED_UNDER[version])


def make_cells(
    benchmark: str,
    versions: Sequence[str],
    names: Sequence[str],
    seeds: Iterable[int],
    protocol: str = "",
    steps: int | None = None,
) -> list[Cell]:
    """The cells, seed by seed, so that an unfinished grid has whole tables.

    Args:
      names: tasks in any spelling; empty for all of the protocol.
      protocol: of all versions; empty for each one's published protocol.
      steps: budget in frames; None for the protocol's.

    Raises:
      UserError: an unknown name, or a protocol that a version lacks.
    """
    known = {v: protocols_of(benchmark, v) for v in tasks.VERSIONS}
    chosen = [tasks.check_task(name, "--tasks") for name in names]
    cells = []
    for seed in seeds:
        for task in tasks.DMC_VISION:
            for version in versions:
                tasks.check_version(version, "--versions")
                name = protocol or known[version][0]
                if name not in known[version]:
                    have = "; ".join(f"{v}: {', '.join(p)}" for v, p in known.items())
                    raise UserError(
                        f"--protocol={name} does not exist for {version}; there are "
                        f"{have}."
                    )
                if task not in (chosen or tasks.tasks_of(benchmark, name)):
                    continue
                budget = tasks.BENCHMARKS[benchmark].frames[name][version]
                cells.append(
                    Cell(version, benchmark, name, task, seed, steps or budget)
                )
    return list(dict.fromkeys(cells))


# --- Files ------------------------------------------------------------------


def look(cell: Cell, out: Path, status: Status) -> None:
    """Reads how far a run is, whoever runs it."""
    path = cell.path(out)
    status.frames = 0
    for line in reversed(_tail(path / "metrics.jsonl")):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the tail begins in the middle of a row
        if isinstance(row, dict) and {"updates", "frames"} <= row.keys():
            status.frames = row["frames"]
            status.speed = row.get("machine/frames_per_second") or status.speed
            break
    status.score = _score(cell.version, path / "scores.csv")


def is_done(cell: Cell, out: Path) -> bool:
    saved = checkpoint.saved_frames(cell.path(out) / logdir.CHECKPOINTS)
    return saved >= cell.frames


def settle(cell: Cell, out: Path, status: Status) -> None:
    """Decides from the files of a cell that this grid does not run at the moment."""
    look(cell, out, status)
    holder = logdir.holder(cell.path(out))
    if is_done(cell, out):
        status.state, status.reason = DONE, ""
    elif holder is not None:
        status.state, status.reason = ELSEWHERE, f"process {holder} has it"
    else:
        status.state, status.reason = WAITING, status.reason if status.crashes else ""


def _score(version: str, file: Path) -> float | None:
    found: dict[str, list[float]] = {}
    for line in _tail(file):
        values = line.split(",")
        row = dict(zip(scores.COLUMNS, values))
        if len(values) == len(scores.COLUMNS) and row["mode"] in ("train", "eval"):
            found.setdefault(row["kind"], []).append(float(row["score"]))
    last = (found.get(scores.KINDS[version]) or found.get("train") or [])[-RECENT:]
    return statistics.fmean(last) if last else None


def _tail(file: Path, size: int = 32_768) -> list[str]:
    """The last whole lines of a file, [] if there is none."""
    try:
        with open(file, "rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - size))
            text = opened.read().decode(errors="replace")
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def last_sentence(log: Path) -> str:
    """The last line that a run has printed."""
    lines = [line for line in _tail(log) if line.strip()]
    if not lines or lines[-1].startswith("$ "):
        return "it printed nothing"
    return lines[-1].strip().removeprefix("run.py: ")


# --- Launchers --------------------------------------------------------------


class Launcher(Protocol):
    """Starts cells somewhere; a job is whatever `start` returns."""

    def slots(self) -> int:
        """How many cells may run at present."""

    def start(self, command: list[str], log: Path) -> Any: ...

    def poll(self, job: Any) -> int | None:
        """The exit code, None as long as it runs."""

    def stop(self, jobs: Iterable[Any]) -> None:
        """Ends them; a checkpoint that was complete stays so."""


class Local:
    """Processes of this machine, which share its cores."""

    def __init__(self, workers: int):
        self._workers = workers
        cores = os.cpu_count() or 1
        if hasattr(os, "sched_getaffinity"):
            cores = len(os.sched_getaffinity(0))
        self._environment = environment(max(1, cores // workers))

    def slots(self) -> int:
        return self._workers

    def start(self, command: list[str], log: Path) -> subprocess.Popen:
        return start(command, log, self._environment)

    def poll(self, job: subprocess.Popen) -> int | None:
        return job.poll()

    def stop(self, jobs: Iterable[subprocess.Popen]) -> None:
        jobs = list(jobs)
        for job in jobs:
            job.terminate()  # they save first, see `loop.stop_signal`
        until = time.monotonic() + 30
        for job in jobs:
            try:
                job.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()


def environment(threads: int) -> dict[str, str]:
    """Variables of a cell; those that the user has set stay as they are."""
    ours = dict.fromkeys(THREADS, str(threads))
    # Cells may share a GPU.
    ours["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return {name: os.environ.get(name, value) for name, value in ours.items()}


def start(command: list[str], log: Path, more: Mapping[str, str]) -> subprocess.Popen:
    """Starts a process that dies with this one and whose output is added to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    # Looked up here: the child should do as little as possible before exec.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if prctl:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it died before that
                os._exit(1)

    with open(log, "a") as file:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file.write(f"$ {shlex.join(command)}  # {now}\n")
        file.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **more},
            start_new_session=True,  # Ctrl-C is for the launcher, which passes it on
            preexec_fn=die_with_parent,
        )


# --- Running ----------------------------------------------------------------


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, by which batch systems end a job, acts as Ctrl-C does: runs save."""

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # once more stops at once
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only it may
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@sigterm_interrupts()
def run(
    cells: Sequence[Cell],
    out: Path,
    launcher: Launcher,
    retries: int,
    show: Callable[[Mapping[Cell, Status], int], None],
    command: Callable[[Cell, Path], list[str]] = Cell.command,
    pause: float = 1.0,
) -> dict[Cell, Status]:
    """Runs what is not done until nothing is left that could be.

    Args:
      out: directory of the grid.
      retries: starts after a crash, per cell.
      show: receives the state of all cells and the number of slots, every `pause`
        seconds.
      command: of a cell.
    """
    grid = {cell: Status() for cell in cells}
    for cell, status in grid.items():
        settle(cell, out, status)
    jobs: dict[Cell, Any] = {}
    next_look = 0.0
    try:
        while True:
            for cell, job in list(jobs.items()):
                status, code = grid[cell], launcher.poll(job)
                look(cell, out, status)
                if code is not None:
                    del jobs[cell]
                    _ended(cell, out, status, code, retries)
            again = time.monotonic() >= next_look
            if again:
                next_look = time.monotonic() + LOOK_AGAIN
            slots = launcher.slots()
            for cell, status in grid.items():
                free = status.state == WAITING and len(jobs) < slots
                if free or (status.state == ELSEWHERE and again):
                    settle(cell, out, status)  # others may work on this grid too
                if free and status.state == WAITING:
                    jobs[cell] = launcher.start(command(cell, out), cell.log(out))
                    status.state = RUNNING
            show(grid, slots)
            if not any(s.state in (WAITING, RUNNING, ELSEWHERE) for s in grid.values()):
                return grid
            time.sleep(pause)
    finally:
        launcher.stop(jobs.values())


def _ended(cell: Cell, out: Path, status: Status, code: int, retries: int) -> None:
    status.reason = last_sentence(cell.log(out))
    if code == 0 and is_done(cell, out):
        status.state, status.reason = DONE, ""
    elif code == USER_ERROR and "is in use by process" in status.reason:
        status.state = ELSEWHERE  # another launcher was faster
    elif code == USER_ERROR:
        status.state = FAILED
    else:
        if code == -signal.SIGKILL:
            status.reason = "killed by SIGKILL, as Linux does when memory runs out"
        elif code < 0:
            status.reason = f"killed by {signal.Signals(-code).name}"
        status.crashes += 1
        status.state = FAILED if status.crashes > retries else WAITING


def failures(grid: Mapping[Cell, Status], out: Path) -> str:
    """One paragraph per reason, with the logs; empty if all is well."""
    reasons: dict[str, list[Cell]] = {}
    for cell, status in grid.items():
        if status.state == FAILED:
            # Runs of the same mistake differ in their own paths only.
            reason = status.reason.replace(str(cell.path(out)), "...")
            reasons.setdefault(reason, []).append(cell)
    lines = []
    for reason, cells in reasons.items():
        lines.append(f"{_cells(len(cells))} failed: {reason}")
        lines += [f"  {cell}: {cell.log(out)}" for cell in cells]
    return "\n".join(lines)


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


# --- The table --------------------------------------------------------------


class Board:
    """A table that stays up to date; lines for changes where there is no terminal.

    Args:
      retries: for the words on a crash.
      stream: where to; stdout by default.
    """

    def __init__(self, retries: int, stream: TextIO | None = None):
        self._retries, self._stream = retries, stream or sys.stdout
        self._shown: dict[Cell, tuple[str, int]] = {}
        self._next_totals = 0.0
        self._live: Any = None
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream, highlight=False)
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()

    def show(self, grid: Mapping[Cell, Status], slots: int) -> None:
        if self._live:
            height = self._live.console.height
            self._live.update(table(grid, slots, height), refresh=True)
            return
        if time.monotonic() >= self._next_totals:
            self._next_totals = time.monotonic() + MINUTE
            print(totals(grid, slots), file=self._stream, flush=True)
        for cell, status in grid.items():
            now = (status.state, status.crashes)
            quiet = status.state if status.state in (WAITING, DONE) else ""
            if now != self._shown.get(cell, (quiet, 0)):
                print(f"{cell}: {self._words(cell, status)}", file=self._stream)
            self._shown[cell] = now
        self._stream.flush()

    def _words(self, cell: Cell, status: Status) -> str:
        at = f"{status.frames:,} of {cell.frames:,} frames"
        if status.state == RUNNING and status.crashes:
            again = f"retry {status.crashes} of {self._retries} at {at}"
            return f"{again}, after a crash: {status.reason}"
        if status.state == RUNNING:
            return f"running at {at}"
        if status.state == DONE:
            return f"done, its last {RECENT} scores average {_number(status.score)}"
        return f"{status.state}: {status.reason}" if status.reason else status.state

    def close(self) -> None:
        if self._live:
            self._live.stop()


def table(grid: Mapping[Cell, Status], slots: int, height: int):
    """One row per cell; of more than fit on the screen, those that are at work."""
    from rich.table import Table

    room = max(1, height - 6)  # heading, borders, last line
    rows = list(grid)
    if len(rows) > room:
        rows = [c for c in rows if grid[c].state in (RUNNING, ELSEWHERE, FAILED)]
    left_out = len(rows) - room
    result = Table(caption=totals(grid, slots), caption_justify="left")
    for name in ("cell", "state", "frames", "%", "score", "frames/s", "left"):
        words = name in ("cell", "state")
        result.add_column(name, justify="left" if words else "right", no_wrap=True)
    for cell in rows[: room - (left_out > 0)]:
        status = grid[cell]
        running = status.state == RUNNING
        result.add_row(
            str(cell),
            status.state + (f" (crash {status.crashes})" if status.crashes else ""),
            f"{status.frames:,} of {cell.frames:,}",
            f"{100 * status.frames / cell.frames:.0f}",
            _number(status.score),
            _number(status.speed) if running else "",
            duration(seconds_left(cell, status, status.speed)) if running else "",
        )
    if left_out > 0:
        result.add_row(f"and {left_out + 1} more")
    return result


def totals(grid: Mapping[Cell, Status], slots: int) -> str:
    """The last line: 100 cells: 3 done, 2 running, 95 waiting; 5 h left."""
    count = Counter(status.state for status in grid.values())
    states = (DONE, RUNNING, ELSEWHERE, WAITING, FAILED)
    counts = ", ".join(f"{count[state]} {state}" for state in states if count[state])
    frames = sum(min(s.frames, cell.frames) for cell, s in grid.items())
    every = sum(cell.frames for cell in grid)
    text = f"{_cells(len(grid))}: {counts}; {100 * frames / every:.1f} % of all frames"
    left = grid_seconds_left(grid, slots)
    return f"{text}, {duration(left)} left" if left else text


def seconds_left(cell: Cell, status: Status, speed: float | None) -> float | None:
    return (cell.frames - status.frames) / speed if speed else None


def grid_seconds_left(grid: Mapping[Cell, Status], slots: int) -> float | None:
    """By the speeds seen of each version; None if one has not been seen yet."""
    speeds: dict[str, list[float]] = {}
    for cell, status in grid.items():
        if status.speed:
            speeds.setdefault(cell.version, []).append(status.speed)
    left = []
    for cell, status in grid.items():
        if status.state in (WAITING, RUNNING):
            if cell.version not in speeds:
                return None
            speed = status.speed or statistics.fmean(speeds[cell.version])
            left.append(seconds_left(cell, status, speed) or 0.0)
    return max(sum(left) / max(1, slots), *left) if left else 0.0


def duration(seconds: float | None) -> str:
    from dreamer_tf.training import logs  # TensorBoard's writer comes along

    return "-" if seconds is None else logs.duration(max(0.0, seconds))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


# --- What it would cost -----------------------------------------------------


def plan(cells: Sequence[Cell], out: Path) -> str:
    """One row per version and protocol, without running anything."""
    from dreamer_tf.configs import presets  # needs a backend

    rows, known = [], 0.0
    groups = dict.fromkeys((c.version, c.benchmark, c.protocol) for c in cells)
    for key in groups:
        part = [c for c in cells if (c.version, c.benchmark, c.protocol) == key]
        settings, agent = presets.load(*key)
        frames = part[0].frames
        updates = count_updates(key[0], settings, agent, frames)
        seconds = SECONDS_PER_UPDATE.get(key)
        hours = seconds[0] * updates / 3600 if seconds else None
        known += (hours or 0.0) * len(part)
        rows.append(
            {
                "version": key[0],
                "protocol": key[2],
                "cells": len(part),
                "done": sum(is_done(c, out) for c in part),
                "frames": f"{frames:,}",
                "decisions": f"{frames // settings.repeat:,}",
                "updates": f"{updates:,}",
                "updates in all": f"{updates * len(part):,}",
                "replay GB": f"{settings.replay_gb:g}",
                "s/update": f"{seconds[0]:.3f}" if seconds else "not measured",
                "hours": f"{hours:.1f}" if hours else "-",
            }
        )
    measured = [k for k in groups if k in SECONDS_PER_UPDATE]
    lines = [
        pd.DataFrame(rows).to_string(index=False),
        "",
        "Frames, decisions, updates and hours are per cell; replay GB is the most that "
        "a run takes.",
        f"{_cells(len(cells))}, {sum(c.frames for c in cells):,} frames; below {out}.",
    ]
    if measured:
        rest = "" if len(measured) == len(groups) else " without what is not measured"
        total = duration(known * 3600)
        lines.append(
            f"{total} one after the other{rest}, and up to a minute each to start;"
        )
        lines.append("s/update:")
        lines += [f"  {k[0]} {k[2]}: {SECONDS_PER_UPDATE[k][1]}" for k in measured]
    return "\n".join(lines)


def count_updates(version: str, settings: Any, agent: Any, frames: int) -> int:
    """Updates of a run, by the version's own schedule on episodes of 1000 frames."""
    from dreamer_tf.agent import Progress, version_module

    schedule, progress = version_module(version).Schedule(agent), Progress()
    length = 1000 // settings.repeat
    total, step = 0, 0
    while progress.frames < frames:
        place = step % (length + 1)  # the first record of an episode has no action
        for _ in range(settings.envs):
            progress.records += 1
            if place:
                progress.decisions += 1
                progress.frames += settings.repeat
            if place == length:
                progress.episodes += 1
                progress.finished_frames += length * settings.repeat
            if version == "v3":  # windows, else episodes
                window = agent.batch_length + agent.replay_context
                progress.items += step + 1 >= window
            else:
                progress.items = progress.episodes
            total += schedule.updates(progress)
        step += 1
    return total


# --- Command ----------------------------------------------------------------


def main(benchmark: str, doc: str, argv: Sequence[str]) -> int:
    """A script's command line (without its name); returns the exit code."""
    name = f"reproductions.{benchmark}"
    try:
        return _main(benchmark, doc, argv)
    except (UserError, flags.Error) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", name, *argv])
        print(f"Interrupted, all runs stopped; go on with: {again}", file=sys.stderr)
        return 130


def _main(benchmark: str, doc: str, argv: Sequence[str]) -> int:
    f = define_flags(benchmark)
    try:
        extra = f([benchmark, *argv])[1:]
    except ValueError as error:  # such as --nodry_run=yes
        raise UserError(f"{error}.") from error
    if f.help:
        print(f"{doc}\n{f.module_help('the grid')}")
        return 0
    if extra:
        raise UserError(f"'{extra[0]}' is not a flag: write --name=value.")
    cells = make_cells(
        benchmark,
        f.versions,
        [] if f.tasks == ["all"] else f.tasks,
        parse_seeds(f.seeds),
        f.protocol,
        parse_steps(f.steps),
    )
    if not (f.tasks and cells):
        raise UserError("--versions and --tasks must each name at least one.")
    out = Path(f.out).absolute()
    if f.dry_run:
        print(plan(cells, out))
        return 0
    launcher = make_launcher(f)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={f.out} cannot be written: {error.strerror}.") from None
    board = Board(f.retries)
    try:
        grid = run(cells, out, launcher, f.retries, board.show)
    finally:
        board.close()
    finished = [cell for cell, status in grid.items() if status.state == DONE]
    failed = failures(grid, out)
    try:
        if finished:
            print("\n" + tell(finished, out))
    finally:
        if failed:
            print(f"\n{failed}", file=sys.stderr)
    return 1 if failed else 0


def define_flags(benchmark: str) -> flags.FlagValues:
    f = flags.FlagValues()
    at: dict[str, Any] = {"flag_values": f, "module_name": "the grid"}
    flags.DEFINE_boolean("help", False, "show this", **at)
    flags.DEFINE_list("versions", list(tasks.VERSIONS), "which Dreamers", **at)
    flags.DEFINE_list("tasks", ["all"], "names, or all of the protocol", **at)
    flags.DEFINE_string("seeds", "5", "how many, or a list such as 0,3", **at)
    protocol = "settings of all versions; each one's published protocol if empty"
    flags.DEFINE_string("protocol", "", protocol, **at)
    flags.DEFINE_string("steps", "", "frames of a run; the protocol's if empty", **at)
    out = "directory of the grid; with ray on storage that all machines see"
    flags.DEFINE_string("out", f"logs/{benchmark}", out, **at)
    workers = "runs at a time; 1 if local, as many as there is room for with ray"
    configs.define_number("workers", None, workers, lower_bound=1, **at)
    configs.define_number("retries", 2, "starts after a crash", lower_bound=0, **at)
    flags.DEFINE_boolean("dry_run", False, "only say what would be run", **at)
    flags.DEFINE_enum("launcher", "local", ["local", "ray"], "who runs it", **at)
    some: dict[str, Any] = {"kind": float, **at}
    configs.define_number("cpus", 1.0, "ray: CPUs of a run", lower_bound=0.01, **some)
    configs.define_number("gpus", 0.0, "ray: GPUs of a run", lower_bound=0.0, **some)
    address = "ray: of the cluster, or auto; if empty, one is started here"
    flags.DEFINE_string("ray_address", "", address, **at)
    return f


def parse_seeds(text: str) -> list[int]:
    """A count, or a list with a comma."""
    try:
        values = [int(part) for part in text.split(",") if part]
    except ValueError:
        values = []
    if not values or min(values) < 0 or text == "0" or len({*values}) < len(values):
        raise UserError(
            f"--seeds={text} must be a count such as 5 or a list such as 0,3."
        )
    return values if "," in text else list(range(values[0]))


def parse_steps(text: str) -> int | None:
    """Frames, in any notation of a whole number."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 < value < 1e15 and value == int(value)):
        raise UserError(f"--steps={text} must be a whole number of frames above 0.")
    return int(value)


def make_launcher(f: flags.FlagValues) -> Launcher:
    if f.launcher == "ray":
        from reproductions.cluster import Cluster

        return Cluster(f.ray_address, f.cpus, f.gpus, f.retries, f.workers)
    for name in ("cpus", "gpus", "ray_address"):
        if f[name].present:
            raise UserError(f"--{name} is for --launcher=ray, which was not given.")
    return Local(f.workers or 1)


def gather(cells: Iterable[Cell], out: Path) -> tuple[list[tables.Group], list[str]]:
    """Collects finished runs into OUT/runs; what to report, and what was left out."""
    left_out = []
    for cell in cells:
        try:
            collect.collect([cell.path(out)], out / "runs")
        except UserError as error:  # a longer run that has not ended
            left_out.append(str(error))
    points, manifests = scores.read_runs(out / "runs")
    protocols = tables.suite_protocols()
    return tables.make_groups(points, protocols, manifests=manifests), left_out


def tell(cells: Iterable[Cell], out: Path) -> str:
    """Writes OUT/report about finished runs; the text to print."""
    groups, left_out = gather(cells, out)
    return "\n".join([*left_out, report.publish(groups, out / "report")])
