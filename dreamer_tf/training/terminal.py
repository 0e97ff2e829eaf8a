"""What a run prints: its messages, and one line that tells how far it is."""

import collections
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import psutil

from dreamer_tf import output

MEASURED = 10.0  # seconds of training, at least, before a time left is named


class Terminal:
    """Shows the progress of a run in one line that is updated in place.

    Where the stream is no terminal, prints a line from time to time instead. A line
    that cannot be written ends nothing: standard error says so once, and the run goes
    on. If nobody reads the stream any more, `stop` says so.

    Args:
      steps: the run's budget in frames.
      stream: where to print; stdout by default.
      clock: seconds; tests set it.
      every: seconds between lines where the stream is no terminal.
    """

    def __init__(
        self,
        steps: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        every: float = 10.0,
    ):
        self._steps, self._clock = steps, clock
        self._stream = output.safe(stream or sys.stdout)
        self._said_lost = False
        self._live: Any = None
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            file: Any = self._stream
            console = Console(file=file, highlight=False)
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()
        self._every = 0.5 if self._live else every
        self._next = clock()
        # (time, frames, updates) when this process had made its first update, from
        # which the time left is measured; before, a step costs something else
        self._since: tuple[float, int, int] | None = None
        self._begun_at: int | None = None  # updates before this process
        # (time, frames, updates) of about the last minute
        self._samples: collections.deque[tuple[float, int, int]] = collections.deque()

    def say(self, text: str) -> None:
        """Prints a line that is not overwritten."""
        if self._live:
            self._live.console.print(text, markup=False)
        else:
            print(text, file=self._stream, flush=True)
        if self._stream.lost and not self._stream.unread and not self._said_lost:
            self._said_lost = True
            output.warn(
                f"Messages are lost, as standard output cannot be written "
                f"({self._stream.lost}); training goes on."
            )

    def stop(self) -> int:
        """SIGPIPE if the stream is a pipe that nobody reads any more, else 0."""
        return signal.SIGPIPE if self._stream.unread else 0

    def show(self, frames: int, updates: int, score: float | None) -> None:
        """Updates the line of progress, if enough time has passed.

        `score` is the last episode's; None before the first one has ended.
        """
        if self._since is None:
            self._begun_at = updates if self._begun_at is None else self._begun_at
            if updates > self._begun_at:
                self._since = self._clock(), frames, updates
        if self._clock() < self._next:
            return
        self._next = self._clock() + self._every
        rates = self.rates(frames, updates)
        speed = rates.get("machine/frames_per_second", 0.0)
        columns = [
            f"{frames:,} of {self._steps:,} frames",
            f"{100 * frames / max(self._steps, 1):.1f} %",
            f"{speed:.1f} frames/s",
            f"{rates.get('machine/updates_per_second', 0.0):.2f} updates/s",
            "return -" if score is None else f"return {score:.1f}",
            f"{rates['machine/memory_gb']:.2f} GB",
        ]
        left = self._left(frames, updates)
        if left is not None:
            columns.append(f"{duration(left)} left")
        if self._live:
            self._live.update("  ".join(columns), refresh=True)
        else:
            self.say("  ".join(columns))

    def _left(self, frames: int, updates: int) -> float | None:
        """Seconds to the end of the budget at the mean speed since the first update.

        None before there is a speed: updates, between which frames are collected,
        count as long as frames do (DreamerV1 makes 100 of them at once).
        """
        if self._since is None:
            return None
        then, old_frames, old_updates = self._since
        seconds = self._clock() - then
        if seconds < MEASURED or updates == old_updates or frames == old_frames:
            return None
        return max(0, self._steps - frames) * seconds / (frames - old_frames)

    def compiling(self) -> None:
        """Says what the first update waits for."""
        self.say(
            "Compiling the first update: a minute or more, seconds if this machine "
            "has compiled it before."
        )

    def rates(self, frames: int, updates: int) -> dict[str, float]:
        """Speed over the last minute, and memory of this process.

        Environments in processes of their own are not counted. The names begin with
        "machine/": these values differ between otherwise equal runs.
        """
        now = self._clock()
        self._samples.append((now, frames, updates))
        while len(self._samples) > 2 and self._samples[1][0] < now - 60:
            self._samples.popleft()
        then, old_frames, old_updates = self._samples[0]
        result = {"machine/memory_gb": psutil.Process().memory_info().rss / 1e9}
        if now > then:
            result["machine/frames_per_second"] = (frames - old_frames) / (now - then)
            result["machine/updates_per_second"] = (updates - old_updates) / (
                now - then
            )
        return result

    def close(self) -> None:
        if self._live:
            self._live.stop()


def duration(seconds: float) -> str:
    """Seconds as text: 40 s, 5 min, 3 h 05 min or 5 d 10 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
