"""Kills a run before every change that it makes to a file or directory.

The run is that of a fake agent, in a forked process. Python tells an audit hook of
every opening, renaming, linking and removing; the hook counts those that change
something, and kills its process at the one that is asked for.
"""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

from tests import faults
from tests.runs import everything

STEPS = 40
# What is killed -> frames that were trained before. One checkpoint is enough: its save
# is part of a first start, and a second one, which removes another, of a continuation.
STARTS = {"a first start": 0, "a continuation": 30}
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink"}
CHANGES |= {"os.truncate", "shutil.rmtree", "shutil.move"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def changes(event: str, arguments: tuple, below: str) -> bool:
    """Whether an event changes something in the directory `below`."""
    if event == "open":
        name, _, flags = arguments
        writes = bool(flags & WRITING)
    else:
        name, writes = arguments[0] if arguments else "", event in CHANGES
    return writes and isinstance(name, str | os.PathLike) and below in os.fspath(name)


def train_until(path: Path, event: int) -> tuple[int, int]:
    """Trains to the end in a forked process, which is killed before a change.

    Args:
      path: the run's logdir.
      event: number of the change from 1; 0: do not kill.

    Returns:
      The process's exit code (that of a signal is negative), and how many changes it
      made.
    """
    # Imported before the fork, for it takes seconds.
    importlib.import_module("dreamer_tf.training.train")
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: none is needed
        child = os.fork()
    if not child:
        count = 0

        def hook(name: str, arguments: tuple) -> None:
            nonlocal count
            if changes(name, arguments, str(path)):
                count += 1
                if count == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            os.close(reader)
            sys.addaudithook(hook)
            faults.fake_train(path, STEPS)
            code = 0
        finally:
            os.write(writer, str(count).encode())
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        count = int(file.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count


def kill_at_events(
    what: str, folder: Path, only: Iterable[int] | None = None
) -> tuple[str, int, int]:
    """Kills a run at each change, lets it end, and compares with one left alone.

    Args:
      what: one of STARTS.
      folder: for the runs.
      only: numbers of changes; from the end if negative. All by default.

    Returns:
      What was found, how many kills passed and how many failed.
    """
    start, whole, path = (folder / name for name in ("start", "whole", "killed"))
    for old in (start, whole, path):
        shutil.rmtree(old, ignore_errors=True)
    if STARTS[what]:
        faults.fake_train(start, STARTS[what])
        subprocess.run(["cp", "-a", start, whole], check=True)
    code, total = train_until(whole, 0)
    if code:
        return f"the run left alone ended with {code}", 0, 1
    expected = everything(whole)
    numbers = range(1, total + 1) if only is None else only
    failed: list[str] = []
    kills = 0
    for number in numbers:
        kills += 1
        event = number if number > 0 else total + 1 + number
        shutil.rmtree(path, ignore_errors=True)
        if STARTS[what]:
            subprocess.run(["cp", "-a", start, path], check=True)
        died, _ = train_until(path, event)
        ended, _ = train_until(path, 0)
        if (died, ended) != (-signal.SIGKILL, 0):
            failed.append(f"{event} (exit codes {died}, {ended})")
        elif other := faults.differences(expected, everything(path)):
            failed.append(f"{event} ({', '.join(other)} differ)")
    found = f"{total} changes; " + ("; ".join(failed) if failed else "all equal")
    return found, kills - len(failed), len(failed)
