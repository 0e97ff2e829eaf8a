"""What a grid shows while it runs: a table, or lines where there is no terminal."""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from dreamer_tf import output
from dreamer_tf.training import terminal
from reproductions.cells import (
    DONE,
    ELSEWHERE,
    ENDING,
    FAILED,
    RECENT,
    RUNNING,
    SAVING,
    WAITING,
    Cell,
    Status,
)

MINUTE = 60.0  # seconds between two lines of totals


class Board:
    """A table that is updated in place; a line per change where there is no terminal.

    Args:
      retries: starts after a crash; lines about a crash name this limit.
      stream: where to write; None: stdout.
    """

    def __init__(self, retries: int, stream: TextIO | None = None):
        self._retries, self._stream = retries, output.safe(stream or sys.stdout)
        self._shown: dict[Cell, tuple[str, int]] = {}
        self._next_totals = 0.0
        self._live: Any = None
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            file: Any = self._stream
            console = Console(file=file, highlight=False)
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()

    def show(self, grid: Mapping[Cell, Status], slots: int) -> None:
        """Shows the status of all cells.

        Args:
          slots: cells that may run at the same time.

        Raises:
          Closed: the stream is a pipe that nobody reads any more.
        """
        if self._live:
            height = self._live.console.height
            self._live.update(table(grid, slots, height), refresh=True)
        else:
            self._lines(grid, slots)
        if self._stream.unread:
            raise output.Closed

    def _lines(self, grid: Mapping[Cell, Status], slots: int) -> None:
        if time.monotonic() >= self._next_totals:
            self._next_totals = time.monotonic() + MINUTE
            print(totals(grid, slots), file=self._stream, flush=True)
        for cell, status in grid.items():
            now = (status.state, status.crashes)
            # Cells that wait or are done from the start need no line of their own.
            unsaid = status.state if status.state in (WAITING, DONE) else ""
            if now != self._shown.get(cell, (unsaid, 0)):
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
        """Leaves the table as it is and gives the terminal back."""
        if self._live:
            self._live.stop()


def table(grid: Mapping[Cell, Status], slots: int, height: int):
    """A rich table with one row per cell.

    Args:
      slots: cells that may run at the same time.
      height: lines of the screen. If not all cells fit, only those that run or have
        failed are listed.
    """
    from rich.table import Table

    room = max(1, height - 6)  # heading, borders, caption
    rows = list(grid)
    if len(rows) > room:
        rows = [c for c in rows if grid[c].state not in (WAITING, DONE)]
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
    """All cells in one line: 100 cells: 3 done, 2 running, 95 waiting; ... left."""
    count = Counter(status.state for status in grid.values())
    states = (DONE, RUNNING, SAVING, ENDING, ELSEWHERE, WAITING, FAILED)
    counts = ", ".join(f"{count[state]} {state}" for state in states if count[state])
    frames = sum(min(s.frames, cell.frames) for cell, s in grid.items())
    budget = sum(cell.frames for cell in grid)
    text = f"{number_of_cells(len(grid))}: {counts}"
    text += f"; {100 * frames / budget:.1f} % of all frames"
    interrupted = count[SAVING] or count[ENDING]
    left = None if interrupted else grid_seconds_left(grid, slots)
    return f"{text}, {duration(left)} left" if left else text


def failures(grid: Mapping[Cell, Status], out: Path) -> str:
    """A paragraph per reason, with the cells and their logs; "" if none has failed."""
    reasons: dict[str, list[Cell]] = {}
    for cell, status in grid.items():
        if status.state == FAILED:
            # Runs that failed for one reason differ in their own paths only.
            reason = status.reason.replace(str(cell.path(out)), "...")
            reasons.setdefault(reason, []).append(cell)
    lines = []
    for reason, cells in reasons.items():
        lines.append(f"{number_of_cells(len(cells))} failed: {reason}")
        lines += [f"  {cell}: {cell.log(out)}" for cell in cells]
    return "\n".join(lines)


# --- Time left --------------------------------------------------------------


def seconds_left(cell: Cell, status: Status, speed: float | None) -> float | None:
    """Of a cell at a speed in frames per second; None if the speed is not known."""
    return (cell.frames - status.frames) / speed if speed else None


def grid_seconds_left(grid: Mapping[Cell, Status], slots: int) -> float | None:
    """Of the whole grid, by the mean speed seen so far of every version.

    None if nothing is known of the speed of a version that has frames left.
    """
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


# --- Words ------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    """5 h 20 min; "-" if it is not known."""
    return "-" if seconds is None else terminal.duration(max(0.0, seconds))


def number_of_cells(count: int) -> str:
    """1 cell, 2 cells."""
    return f"{count} cell" if count == 1 else f"{count} cells"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
