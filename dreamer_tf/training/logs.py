"""The log files of a run: metrics.jsonl, scores.csv and a TensorBoard event file.

Where the environment says more of its episodes than their return (`Env._stats`), each
training episode is also a line of stats.jsonl: `frames`, and the environment's numbers.

When a run continues, metrics.jsonl, scores.csv and stats.jsonl are cut back to the
checkpoint that it continues from. TensorBoard repeats metrics.jsonl. All x axes are
environment frames.
"""

import functools
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from dreamer_tf.files import append_lines, parse_json, write_atomic
from dreamer_tf.training import score_rows
from dreamer_tf.training.score_rows import HEADER, Episode
from dreamer_tf.training.track import Tracker

METRICS, SCORES, STATS, BOARD = "metrics.jsonl", "scores.csv", "stats.jsonl", "tb"


class Logs:
    """Writes the log files of a run.

    Args:
      directory: the run's logdir.
      position: what `state()` returned at the checkpoint that is continued; rows
        after it are removed. None: begin with empty files.
      frames: of that checkpoint.
      say: receives a sentence about each file that was changed since.
      tracker: gets metrics and pictures too; not closed here.
    """

    def __init__(
        self,
        directory: Path,
        position: Mapping[str, Mapping[str, Any]] | None = None,
        frames: int = 0,
        say: Callable[[str], None] = print,
        tracker: Tracker | None = None,
    ):
        directory = Path(directory)
        self._tracker = tracker or Tracker(None)
        position = position or {}
        for name, was in position.items():
            if _digest(directory / name, was["bytes"]) != was:
                say(
                    f"{directory / name} is not what this run wrote until its last "
                    "checkpoint: rows are missing or changed. Training goes on."
                )
        sizes = {name: was["bytes"] for name, was in position.items()}
        for name in (METRICS, STATS):
            _cut(directory / name, sizes.get(name, 0), lambda line: False)
        # Kept are evaluations by hand of this checkpoint and of earlier ones.
        start = sizes.get(SCORES, 0)
        _set_aside(directory / SCORES, start, say)
        _cut(directory / SCORES, start, functools.partial(_by_hand, frames=frames))
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._files: dict[str, TextIO] = {}
        for name in (METRICS, SCORES, *({STATS} & {*position})):
            self._open(name)
        if not os.fstat(self._files[SCORES].fileno()).st_size:
            self._files[SCORES].write(HEADER)
        self._board = _Board(directory / BOARD, frames)

    def metrics(self, frames: int, values: Mapping[str, float]) -> None:
        """Adds a row to metrics.jsonl; a value that is not finite becomes null."""
        self._add(METRICS, _row(frames, values))
        self._board.add(frames, values)
        self._tracker.metrics(frames, values)

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture to TensorBoard's file: uint8 `[H, W, 3]`."""
        self._board.image(frames, name, picture)
        self._tracker.image(frames, name, picture)

    def score(self, episode: Episode) -> None:
        """Adds a row to scores.csv."""
        self._add(SCORES, score_rows.write(episode))

    def stats(self, frames: int, values: Mapping[str, float]) -> None:
        """Adds a row to stats.jsonl, which only then exists; as in `metrics`."""
        if STATS not in self._files:
            self._open(STATS)
        self._add(STATS, _row(frames, values))

    def _open(self, name: str) -> None:
        """Opens a file in the directory, which may have been moved."""

        def inside(name: str, flags: int) -> int:
            return os.open(name, flags, 0o666, dir_fd=self._directory)

        self._files[name] = open(name, "a+", opener=inside)  # noqa: SIM115

    def _add(self, name: str, line: str) -> None:
        self._files[name].write(line)
        self._files[name].flush()

    def state(self) -> dict[str, dict[str, Any]]:
        """Syncs the files to disk; returns their sizes and checksums by name."""
        state = {}
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            # By its descriptor: the directory may have been moved.
            size = os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), size, 0)
            while len(data) < size:
                data += os.pread(file.fileno(), size - len(data), len(data))
            state[name] = _checksum(data)
        return state

    def close(self) -> None:
        """Closes the files; nothing can be added any more."""
        for file in self._files.values():
            file.close()
        self._board.close()
        os.close(self._directory)


def append_scores(directory: Path, episodes: Iterable[Episode]) -> None:
    """Adds rows to scores.csv from another process than the training one."""
    append_lines(
        Path(directory) / SCORES, "".join(map(score_rows.write, episodes)), HEADER
    )


def read_metrics(
    directory: Path, say: Callable[[str], None] = print
) -> Iterator[dict[str, Any]]:
    """Yields the rows of metrics.jsonl, without a last line that is incomplete.

    Lines that are no rows are skipped; `say` receives a sentence about them.
    """
    path, bad = Path(directory) / METRICS, []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            continue
        try:
            row = parse_json(line)
            if type(row["frames"]) is not int:
                raise TypeError
        except (ValueError, KeyError, TypeError):
            bad.append(number)
            continue
        yield row
    if bad:
        say(f"{path}: skipped {_lines(bad)}, no row of metrics.")


def _row(frames: int, values: Mapping[str, float]) -> str:
    """A line of JSON; a value that is not finite becomes null."""
    row = {name: v if math.isfinite(v) else None for name, v in values.items()}
    return json.dumps({"frames": frames, **row}, default=float) + "\n"


def _by_hand(line: bytes, frames: int) -> bool:
    """Whether a line of scores.csv is of `run.py evaluate` at no more than `frames`."""
    row = score_rows.read(line.decode(errors="replace"))
    return row is not None and row.kind == "eval_cmd" and row.frames <= frames


def _set_aside(path: Path, start: int, say: Callable[[str], None]) -> None:
    """Copies damaged lines behind the byte `start`, which are cut off, to a file."""
    data = path.read_bytes()[start:] if path.exists() else b""
    lines = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    bad = [
        line
        for line in lines
        if score_rows.read(line.decode(errors="replace")) is None
        and line != HEADER.encode()
    ]
    if bad:
        aside = path.with_name(f"{path.name}.damaged")
        with open(aside, "ab") as file:
            file.write(b"".join(bad))
        several = f"{len(bad)} lines are" if len(bad) > 1 else "1 line is"
        say(f"{path}: {several} damaged and kept in {aside}. Training goes on.")


def _lines(numbers: list[int]) -> str:
    """Names up to three lines."""
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    several = "lines" if len(numbers) > 1 else "line"
    return f"{several} {', '.join(map(str, numbers[:3]))}{more}"


def _digest(path: Path, size: int) -> dict[str, Any]:
    """Size and checksum of the first `size` bytes of a file."""
    return _checksum(path.read_bytes()[:size] if path.exists() else b"")


def _checksum(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _cut(path: Path, size: int, keep: Callable[[bytes], bool]) -> None:
    """Cuts a file to `size` bytes, but keeps the lines that `keep` accepts."""
    data = path.read_bytes() if path.exists() else b""
    tail = data[size:].splitlines(keepends=True)
    kept = [line for line in tail if line.endswith(b"\n") and keep(line)]
    if len(kept) < len(tail):
        write_atomic(path, b"".join([data[:size], *kept]))


class _Board:
    """A TensorBoard event file, written with TensorBoard's own classes.

    Every event is flushed at once, so that a killed process loses none, and written
    by the calling thread, so that a full disk is an error there. tensorboardX does
    neither: its thread loses queued events, and a full queue blocks for ever once
    the thread has failed.
    """

    def __init__(self, directory: Path, frames: int):
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._writer = RecordWriter(open(directory / name, "wb"))  # noqa: SIM115
        self._write(Event(file_version="brain.Event:2"))
        # Makes TensorBoard discard what an earlier process wrote at later frames.
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
    """Averages of the values since the last row. `sums` is saved in checkpoints."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}  # name -> [sum, count]

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            entry = self.sums.setdefault(name, [0.0, 0])
            entry[0] += float(value)
            entry[1] += 1

    def take(self) -> dict[str, float]:
        """Returns the averages, and begins new ones."""
        result = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return result
