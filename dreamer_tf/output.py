"""What is said to a person: a line that cannot be written ends nothing.

Standard output and standard error may be a full disk, a terminal that was closed, a
pipe that nobody reads, or know no character but ASCII. `protected` makes them safe for
everything that prints, libraries included. Commands print their results with `say`,
which ends a command whose reader has gone; training goes on or saves first, see
`training/terminal.py`.

Only the standard library is imported: `doctor` runs where nothing is installed.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from dreamer_tf.errors import UserError

CLOSED = 128 + signal.SIGPIPE  # exit code when nobody reads the output any more


class Closed(Exception):
    """Standard output is a pipe that nobody reads any more: end without a word."""


class Stream:
    """A text stream whose writes never raise; otherwise it is the stream within.

    Args:
      inner: the stream; None, as Python has it where one was closed: nowhere.

    Attributes:
      unread: whether it is a pipe that nobody reads any more.
      lost: why the first line that could not be written was lost; "" if none was.
    """

    def __init__(self, inner: Any):
        self._inner = open(os.devnull, "w") if inner is None else inner  # noqa: SIM115
        self.unread, self.lost = False, ""

    def write(self, text: str) -> int:
        """Writes; a character that the stream cannot show becomes a question mark."""
        try:
            try:
                self._inner.write(text)
            except UnicodeEncodeError as error:
                plain = text.encode(error.encoding, "replace")
                self._inner.write(plain.decode(error.encoding))
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flushes, as far as the stream can be written."""
        try:
            self._inner.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return bool(self._inner.isatty())
        except ValueError:
            return False

    def finish(self) -> None:
        """Flushes; what cannot be written is dropped, so that Python's end is quiet."""
        self.flush()
        if self.lost:
            self._drop()
            self.flush()

    def _lose(self, error: Exception) -> None:
        self.lost = self.lost or getattr(error, "strerror", None) or str(error)
        if isinstance(error, BrokenPipeError) and not self.unread:
            self.unread = True
            self._drop()

    def _drop(self) -> None:
        """Leads what is buffered, and all that follows, to nowhere."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._inner.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def safe(stream: Any) -> Stream:
    """The stream as a `Stream`; itself if it is one."""
    return stream if isinstance(stream, Stream) else Stream(stream)


@contextlib.contextmanager
def protected() -> Iterator[None]:
    """Makes standard output and error safe to write to; a script runs inside of it.

    `Closed` ends the process with the exit code `CLOSED`, as that of other programs
    in a pipe.
    """
    _open_all()
    before = sys.stdout, sys.stderr
    streams = sys.stdout, sys.stderr = safe(sys.stdout), safe(sys.stderr)
    try:
        yield
    except Closed:
        sys.exit(CLOSED)
    finally:
        for stream in streams:
            stream.finish()
        sys.stdout, sys.stderr = before


def say(text: str) -> None:
    """Prints a line to standard output.

    Raises:
      Closed: it is a pipe that nobody reads any more.
      UserError: it cannot be written for another reason.
    """
    print(text, flush=True)
    if getattr(sys.stdout, "unread", False):
        raise Closed
    if why := getattr(sys.stdout, "lost", ""):
        raise UserError(f"Standard output cannot be written ({why}).")


class Count:
    """How far something is: a line of standard error that is replaced in place.

    Nothing where that is no terminal. Used in a `with`, at whose end the line goes.

    Args:
      every: seconds between two of its texts.
    """

    def __init__(self, every: float = 0.1):
        self._every, self._next = every, 0.0
        self._shown = False

    def __call__(self, text: str) -> None:
        """Shows a text, if the last one has stood for long enough."""
        now = time.monotonic()
        if now >= self._next and getattr(sys.stderr, "isatty", bool)():
            self._next, self._shown = now + self._every, True
            self._write(text)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "Count":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            self._write("")


def warn(text: str) -> None:
    """Writes a line to standard error, or nothing if that cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _open_all() -> None:
    """Opens input, output and error where they are closed.

    Else the next file that is opened would get the number of one of them, and the
    messages of libraries would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
