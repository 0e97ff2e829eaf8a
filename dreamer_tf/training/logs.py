"""What a run leaves to read: metrics.jsonl, scores.csv, TensorBoard, the terminal.

The first two are the truth and are cut back to the checkpoint when a run continues;
TensorBoard repeats metrics.jsonl. Every x axis is environment frames.
"""

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from dreamer_tf.files import write_atomic

METRICS, SCORES, BOARD = "metrics.jsonl", "scores.csv", "tb"


@dataclasses.dataclass(frozen=True)
class Episode:
    """A finished episode: one row of scores.csv."""

    frames: int  # of training when it ended
    score: float  # undiscounted sum of its rewards
    length: int  # decisions
    kind: str  # train, eval (during training) or eval_cmd (`run.py evaluate`)
    mode: str  # of the policy: train, eval or random
    env: int  # index of the environment
    episode: int  # index among the episodes of that environment and kind
    seed: int  # with which it was reset


COLUMNS = tuple(field.name for field in dataclasses.fields(Episode))


class Logs:
    """The files of a run.

    Args:
      directory: the run's logdir.
      position: what `state()` returned at the checkpoint that is continued; rows
        after it are removed. None starts the files anew.
      frames: of that checkpoint.
      say: receives a sentence about a file that is not what was written.
    """

    def __init__(
        self,
        directory: Path,
        position: Mapping[str, Mapping[str, Any]] | None = None,
        frames: int = 0,
        say: Callable[[str], None] = print,
    ):
        directory = Path(directory)
        position = position or {}
        for name, was in position.items():
            if _digest(directory / name, was["bytes"]) != was:
                say(
                    f"{directory / name} is not what this run wrote until its last "
                    "checkpoint: rows are missing or changed. Training goes on."
                )
        sizes = {name: was["bytes"] for name, was in position.items()}
        _cut(directory / METRICS, sizes.get(METRICS, 0), lambda line: False)
        # Evaluations by hand of a checkpoint that still counts are kept.
        by_hand = functools.partial(_by_hand, frames=frames)
        _cut(directory / SCORES, sizes.get(SCORES, 0), by_hand)
        self._metrics = open(directory / METRICS, "a")  # noqa: SIM115
        self._scores = open(directory / SCORES, "a")  # noqa: SIM115
        if not self._scores.tell():
            self._scores.write(",".join(COLUMNS) + "\n")
        self._board = _Board(directory / BOARD, frames)

    def metrics(self, frames: int, values: Mapping[str, float]) -> None:
        """Adds a row; a value that is not finite becomes null."""
        row = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._metrics.write(json.dumps({"frames": frames, **row}) + "\n")
        self._metrics.flush()
        self._board.add(frames, values)

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        """Shows a picture in TensorBoard: uint8 `[H, W, 3]`."""
        self._board.image(frames, name, picture)

    def score(self, episode: Episode) -> None:
        self._scores.write(_csv(episode))
        self._scores.flush()

    def state(self) -> dict[str, dict[str, Any]]:
        """Size and checksum of what is written, all of it safely on disk."""
        state = {}
        for name, file in ((METRICS, self._metrics), (SCORES, self._scores)):
            file.flush()
            os.fsync(file.fileno())
            state[name] = _digest(Path(file.name))
        return state

    def close(self) -> None:
        for file in (self._metrics, self._scores, self._board):
            file.close()


def append_scores(directory: Path, episodes: Iterable[Episode]) -> None:
    """Adds rows from outside of the training process."""
    with open(Path(directory) / SCORES, "a") as file:
        if not file.tell():
            file.write(",".join(COLUMNS) + "\n")
        file.write("".join(map(_csv, episodes)))


def read_metrics(directory: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of metrics.jsonl; a last line that was cut off is left out."""
    with open(Path(directory) / METRICS) as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _csv(episode: Episode) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(dataclasses.astuple(episode))
    return text.getvalue()


def _by_hand(line: bytes, frames: int) -> bool:
    cells = line.decode(errors="replace").strip().split(",")
    row = dict(zip(COLUMNS, cells))
    if len(cells) != len(COLUMNS) or row["kind"] != "eval_cmd":
        return False
    return int(row["frames"]) <= frames


def _digest(path: Path, size: int | None = None) -> dict[str, Any]:
    """Of the first `size` bytes of a file."""
    data = path.read_bytes()[:size] if path.exists() else b""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _cut(path: Path, size: int, keep: Callable[[bytes], bool]) -> None:
    """Removes what follows the first `size` bytes, but for the lines to keep."""
    data = path.read_bytes() if path.exists() else b""
    tail = data[size:].splitlines(keepends=True)
    kept = [line for line in tail if line.endswith(b"\n") and keep(line)]
    if len(kept) < len(tail):
        write_atomic(path, b"".join([data[:size], *kept]))


class _Board:
    """A TensorBoard event file, written without TensorFlow."""

    def __init__(self, directory: Path, frames: int):
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._writer = RecordWriter(open(directory / name, "wb"))  # noqa: SIM115
        self._write(Event(file_version="brain.Event:2"))
        # Makes TensorBoard forget what an interrupted process wrote beyond here.
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=frames + 1, session_log=start))

    def add(self, frames: int, values: Mapping[str, float]) -> None:
        entries = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        self._write(Event(step=frames, summary=Summary(value=entries)))

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "png")
        height, width, channels = picture.shape
        image = Summary.Image(
            height=height,
            width=width,
            colorspace=channels,
            encoded_image_string=file.getvalue(),
        )
        entries = [Summary.Value(tag=name, image=image)]
        self._write(Event(step=frames, summary=Summary(value=entries)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Means:
    """Averages of what was reported since the last row; part of a checkpoint."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}  # name -> [sum, count]

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            entry = self.sums.setdefault(name, [0.0, 0])
            entry[0] += float(value)
            entry[1] += 1

    def take(self) -> dict[str, float]:
        """The averages; starts anew."""
        result = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return result


class Terminal:
    """One line that stays up to date; plain lines when nobody watches.

    Args:
      steps: the run's budget in frames.
      stream: where to; stdout by default.
      clock: seconds, for tests.
      every: seconds between plain lines.
    """

    def __init__(
        self,
        steps: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        every: float = 10.0,
    ):
        self._steps, self._clock = steps, clock
        self._stream = stream or sys.stdout
        self._live: Any = None
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream, highlight=False)
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()
        self._every = 0.5 if self._live else every
        self._next = clock()
        # (time, frames, updates) over about the last minute
        self._samples: collections.deque[tuple[float, int, int]] = collections.deque()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            self._live.console.print(text, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    def show(self, frames: int, updates: int, score: float | None) -> None:
        """Brings the line up to date, if it is time to."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + self._every
        rates = self.rates(frames, updates)
        speed = rates.get("machine/frames_per_second", 0.0)
        parts = [
            f"{frames:,} of {self._steps:,} frames",
            f"{100 * frames / max(self._steps, 1):.1f} %",
            f"{speed:.1f} frames/s",
            f"{rates.get('machine/updates_per_second', 0.0):.2f} updates/s",
            "return -" if score is None else f"return {score:.1f}",
            f"{rates['machine/memory_gb']:.2f} GB",
        ]
        if speed:
            parts.append(f"{duration(max(0, self._steps - frames) / speed)} left")
        if self._live:
            self._live.update("  ".join(parts), refresh=True)
        else:
            self.say("  ".join(parts))

    def rates(self, frames: int, updates: int) -> dict[str, float]:
        """Speed over the last minute and memory: what differs between equal runs."""
        now = self._clock()
        self._samples.append((now, frames, updates))
        while len(self._samples) > 2 and self._samples[1][0] < now - 60:
            self._samples.popleft()
        then, old_frames, old_updates = self._samples[0]
        result = {"machine/memory_gb": memory() / 1e9}
        if now > then:
            result["machine/frames_per_second"] = (frames - old_frames) / (now - then)
            result["machine/updates_per_second"] = (updates - old_updates) / (
                now - then
            )
        return result

    def close(self) -> None:
        if self._live:
            self._live.stop()


def memory() -> int:
    """Bytes of memory that this process holds (without its environments' processes)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:  # not Linux: the largest so far, in kilobytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1000


def free_memory() -> float:
    """Bytes that processes could still take; infinite where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("MemAvailable:")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return math.inf


def duration(seconds: float) -> str:
    """As people say it: 40 s, 5 min, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
