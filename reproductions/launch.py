"""Runs the cells of a grid: starts, watches, retries and ends their processes."""

import contextlib
import ctypes
import datetime
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dreamer_tf import output
from dreamer_tf.errors import reason
from dreamer_tf.programs import THREADS
from dreamer_tf.training import signals
from reproductions.cells import (
    DONE,
    ELSEWHERE,
    FAILED,
    RUNNING,
    SAVING,
    WAITING,
    Cell,
    Status,
    is_done,
    last_line,
    look,
    settle,
)

USER_ERROR = 2  # exit code of run.py for a wrong input, which a retry cannot repair
LOOK_AGAIN = 5.0  # seconds between looks at a directory that another process holds


# --- Launchers --------------------------------------------------------------


class Launcher(Protocol):
    """Starts cells somewhere; a job is whatever `start` returns.

    Attributes:
      ending: state of a cell while `stop` ends it.
    """

    ending: str

    def slots(self) -> int:
        """How many cells may run at present."""

    def start(self, command: list[str], log: Path) -> Any:
        """Starts a command whose output is appended to the file `log`."""

    def poll(self, job: Any) -> int | None:
        """The exit code; None while it runs."""

    def stop(self, jobs: Iterable[Any]) -> None:
        """Ends them; their complete checkpoints stay."""


class Local:
    """Processes on this machine, which share its cores.

    Args:
      workers: cells that run at the same time.
    """

    ending = SAVING

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
        """Lets them save, however long that takes; another signal ends them at once.

        A run saves between two decisions: after an update, or some hundred of V1's.
        """
        jobs = [job for job in jobs if job.poll() is None]
        if not jobs:
            return
        output.warn(f"{len(jobs)} running: each saves and ends; Ctrl-C ends at once.")
        for job in jobs:
            job.terminate()
        begun = time.monotonic()
        while any(job.poll() is None for job in jobs):
            try:
                time.sleep(0.1)
            except KeyboardInterrupt:
                # One that comes at once is the same that closed the pipe, such as
                # Ctrl-C in `python -m ... | tee log`.
                if time.monotonic() - begun < signals.SAME:
                    continue
                for job in jobs:
                    job.kill()
                    job.wait()
                raise


def environment(threads: int) -> dict[str, str]:
    """Environment variables for a cell; those that the user has set keep their value.

    Args:
      threads: that each of the cell's thread pools may use.
    """
    ours = dict.fromkeys(THREADS, str(threads))
    # Cells may share a GPU.
    ours["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return {name: os.environ.get(name, value) for name, value in ours.items()}


def start(
    command: list[str], log: Path, variables: Mapping[str, str]
) -> subprocess.Popen:
    """Starts a process that dies with this one; its output is appended to a file.

    Args:
      log: the file; the command is written to it first.
      variables: environment variables, in addition to those of this process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    # Looked up before the fork: between fork and exec the child must do very little.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if prctl:
            prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # the parent died before the call
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
            env={**os.environ, **variables},
            start_new_session=True,  # only the grid receives Ctrl-C; it stops the runs
            preexec_fn=die_with_parent,
        )


# --- Running ----------------------------------------------------------------


@signals.raised()
def run(
    cells: Sequence[Cell],
    out: Path,
    launcher: Launcher,
    retries: int,
    show: Callable[[Mapping[Cell, Status], int], None],
    command: Callable[[Cell, Path], list[str]] = Cell.command,
    pause: float = 1.0,
) -> dict[Cell, Status]:
    """Runs the cells that are not done; returns when every cell is done or failed.

    Args:
      out: directory of the grid.
      retries: how often a cell is started again after crashes.
      show: receives the status of all cells and the number of slots, every `pause`
        seconds.
      command: returns the command line of a cell.

    Raises:
      KeyboardInterrupt: Ctrl-C or one of `signals.ALL`; the runs have saved and ended.
      Closed: nobody reads the output any more; likewise.
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
                    settle(cell, out, status)  # another grid may have taken or done it
                if free and status.state == WAITING:
                    try:
                        jobs[cell] = launcher.start(command(cell, out), cell.log(out))
                        status.state = RUNNING
                    except (OSError, subprocess.SubprocessError) as error:
                        status.reason = f"it cannot be started ({reason(error)})"
                        _crashed(status, retries)
            show(grid, slots)
            if not any(s.state in (WAITING, RUNNING, ELSEWHERE) for s in grid.values()):
                return grid
            time.sleep(pause)
    finally:
        if jobs:
            for cell in jobs:
                grid[cell].state = launcher.ending
            with contextlib.suppress(output.Closed):
                show(grid, launcher.slots())
        launcher.stop(jobs.values())


def _ended(cell: Cell, out: Path, status: Status, code: int, retries: int) -> None:
    """Sets the status of a cell whose process has ended with an exit code."""
    status.reason = last_line(cell.log(out))
    if code == 0 and is_done(cell, out):
        status.state, status.reason = DONE, ""
    elif code == USER_ERROR and "is in use by process" in status.reason:
        status.state = ELSEWHERE  # another launcher has started it just before
    elif code == USER_ERROR:
        status.state = FAILED
    else:
        if code == -signal.SIGKILL:
            status.reason = "killed by SIGKILL, as Linux does when memory runs out"
        elif code < 0:
            status.reason = f"killed by {signal.Signals(-code).name}"
        _crashed(status, retries)


def _crashed(status: Status, retries: int) -> None:
    status.crashes += 1
    status.state = FAILED if status.crashes > retries else WAITING
