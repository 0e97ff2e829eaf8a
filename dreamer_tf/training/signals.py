"""Signals that ask a process to end: it saves, or cleans up, and ends then.

Ctrl-C (SIGINT), SIGTERM of batch systems, SIGHUP of a terminal that closes, and
SIGUSR1, by which batch systems announce that time is nearly up. One that is ignored
when the process starts stays ignored: `nohup` ignores SIGHUP, and shells ignore SIGINT
for jobs in the background. The exit code is 128 + the signal's number.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
TWICE = (signal.SIGINT, signal.SIGTERM)  # which a person sends again to end it at once
# A signal is often sent twice in one moment: by `timeout` to a process and its group,
# by the kernel and the shell when a terminal closes.
SAME = 1.0  # seconds within which a signal counts as the same one


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], int]]:
    """Notes the first signal; SIGINT or SIGTERM a second time acts as before.

    Yields:
      A function that returns the number of the signal that came, or 0.
    """
    received: list[int] = []

    def note(number: int) -> None:
        received.append(number)
        name = signal.Signals(number).name
        text = f"\n{name}: saving after this decision; once more stops at once.\n"
        # Not `print`, which the signal may interrupt. Nobody may be there to read it:
        # Ctrl-C also ends the `tee` at the other end of a pipe.
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    with _handled(ALL, note):
        yield lambda: received[0] if received else 0


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Lets all of them act as Ctrl-C does: by one KeyboardInterrupt, see `number`."""

    def interrupt(number: int) -> None:
        raise KeyboardInterrupt(number)

    with _handled(ALL, interrupt):
        yield


def number(error: KeyboardInterrupt) -> int:
    """The signal that a KeyboardInterrupt stands for."""
    return error.args[0] if error.args else signal.SIGINT


@contextlib.contextmanager
def _handled(numbers: Sequence[int], first: Callable[[int], None]) -> Iterator[None]:
    """Calls `first` with the number of the first of the signals that comes.

    SIGINT or SIGTERM once more acts as before; all others are then ignored.
    """
    old: dict[int, Any] = {}
    came: list[tuple[int, float]] = []

    def handle(number: int, frame: Any) -> None:
        now = time.monotonic()
        if not came:
            came.append((number, now))
            first(number)
        elif number == came[0][0] in TWICE and now - came[0][1] > SAME:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in old.items():
            signal.signal(number, handler)

    # Python lets only the main thread set signal handlers.
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            # None: another library handles it, and cannot be set back.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                old[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
