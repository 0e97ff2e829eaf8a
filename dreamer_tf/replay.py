"""Replay: records in, batches out.

Rows lie per stream (one environment's records, episodes back to back) in chunks
of contiguous numpy arrays, so a window is read with one or two slice copies per
entry. Three rules choose what is read:

- `Windows` (DreamerV3): windows across episodes: each new one once, in the order in
  which they came, the others uniformly.
- `EpisodeChunks` (DreamerV1): chunks inside whole episodes.
- `EpisodeSequences` (DreamerV2): sequences inside whole episodes.

All of them share

- `add(record, stream)`: append one record of environment number `stream`;
- `sample()`: a dict of arrays [B, T, ...] plus `id` int64 [B, T, 2], the
  (stream, row) of every entry. A row number is never given to another row;
- `peek(seed)`: such a batch for looking only; nothing sampled later changes;
- `update(ids, values)`: overwrite entries of those rows that are still stored;
- `len(replay)`: windows that can be sampled now; `nbytes`: bytes held;
- `state_dict()`, `pieces()` and `load_state_dict()`: everything, the random stream
  included; the rows in pieces, of which most have not changed since the last time.

Two limits hold at the same time, a count (`capacity`) and bytes (`memory_bytes`);
whichever is reached first makes the oldest rows go. Chunks are allocated whole,
counted whole, recycled, and never allocated beyond `memory_bytes`.

The random stream is a RandomState, whose numbers NumPy has frozen for good; those
of a Generator may change with the NumPy version, and with them a resumed run.
Nothing here is thread-safe.
"""

from __future__ import annotations

import abc
import dataclasses
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dreamer_tf.errors import UserError

# A chunk has at most this many rows. It has fewer where memory_bytes would
# otherwise hold less than MIN_CHUNKS chunks: with few large chunks, dropping one
# or leaving one half full would waste a large part of the limit.
MAX_CHUNK_ROWS = 1024
MIN_CHUNKS = 256

# The insertion number, kept beside each row to find the oldest.
_ORDER_BYTES = 8

Spec = dict[str, tuple[tuple[int, ...], np.dtype]]
Batch = dict[str, np.ndarray]
Piece = tuple[int, int, int]  # stream, first row, number of rows


def bytes_per_record(entries: Mapping[str, Any]) -> int:
    """Bytes of memory that one record takes in any of the buffers.

    `entries` maps names to anything with a shape and a dtype: the arrays of an
    example record or gymnasium spaces, so that a run can state its need before
    its first record. Latents stored with the record count too.
    """
    return _ORDER_BYTES + sum(
        math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
        for entry in entries.values()
    )


@dataclasses.dataclass(frozen=True, slots=True)
class StoredPiece:
    """Some entries of one chunk, as they are kept on disk."""

    name: str
    changed: bool  # since `mark_saved` or `load_state_dict`
    arrays: Batch  # views into the buffer: write them out before it changes


@dataclasses.dataclass(slots=True)
class _Chunk:
    order: np.ndarray  # int64 [chunk_rows], insertion number of each row
    rows: Batch  # name -> [chunk_rows, ...]
    appended: bool = True  # to, since it was saved
    updated: bool = True  # entries given to `update`, since it was saved


@dataclasses.dataclass(slots=True)
class _Stream:
    """Rows first, ..., stop - 1 are stored; row r lies in chunk r // chunk_rows."""

    first: int = 0
    stop: int = 0
    # The dict is ordered: its first key is the oldest chunk.
    chunks: dict[int, _Chunk] = dataclasses.field(default_factory=dict)


class Replay(abc.ABC):
    """The storage of rows, and what all buffers share.

    Args:
      batch_size: B.
      length: T, rows per batch entry.
      memory_bytes: hard limit of the rows' memory.
      seed: of the random stream that chooses what is sampled.
    """

    def __init__(self, batch_size: int, length: int, memory_bytes: int, seed: int):
        self.batch_size = _positive("batch_size", batch_size)
        self.length = _positive("length", length)
        self.memory_bytes = _positive("memory_bytes", memory_bytes)
        self._rng = np.random.RandomState(np.random.MT19937(seed))
        self._streams: dict[int, _Stream] = {}
        self._spec: Spec = {}  # empty until the first record
        self._count = 0  # rows ever appended
        self._chunk_rows = 0
        self._chunk_bytes = 0
        self._max_chunks = 0
        self._num_chunks = 0  # allocated: in a stream or in _unused
        self._unused: list[_Chunk] = []
        self._mutable: set[str] = set()  # entries ever given to `update`

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of windows that can be sampled now."""

    @abc.abstractmethod
    def add(self, record: Mapping[str, Any], stream: int = 0) -> None:
        """Appends one record of environment number `stream`.

        Raises:
          UserError: if the entries' names, shapes or dtypes differ from those of
            the first record, or `memory_bytes` is too small to work with.
        """

    def sample(self) -> Batch:
        """Draws a batch: arrays [B, T, ...] by the records' names, and `id`.

        The arrays are new each time. Raises UserError if there is nothing to
        sample yet.
        """
        return self._sample(queued=True)

    def peek(self, seed: int | Sequence[int]) -> Batch:
        """A batch as of `sample`, drawn with a random stream of its own.

        Nothing changes: queued windows stay where they are and are not preferred.
        """
        own = self._rng
        self._rng = np.random.RandomState(np.random.MT19937(seed))
        try:
            return self._sample(queued=False)
        finally:
            self._rng = own

    @abc.abstractmethod
    def _sample(self, queued: bool) -> Batch:
        """What `sample` does; `queued` lets it take from an online queue."""

    @abc.abstractmethod
    def _make_room(self) -> None:
        """Drops some of the oldest rows; called until a chunk becomes unused."""

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks, full or not; never above `memory_bytes`.

        The chunks' array objects, about 2 kB for each chunk, come on top.
        """
        return self._num_chunks * self._chunk_bytes

    def update(self, ids: np.ndarray, values: Mapping[str, Any]) -> None:
        """Overwrites entries of stored rows, such as the latents of DreamerV3.

        Rows dropped since they were sampled are skipped. If a row occurs several
        times, its last value stays.

        Args:
          ids: `id` of a sampled batch, int64 [B, T, 2].
          values: arrays [B, T', ...] with T' <= T. They belong to the last T'
            rows: a context row comes first in its window and has no new value.
        """
        if not values:
            return
        arrays = {name: np.asarray(value) for name, value in values.items()}
        ids = np.asarray(ids)
        time = next(iter(arrays.values())).shape[1]
        ids = ids[:, ids.shape[1] - time :]
        for name, value in arrays.items():
            if name not in self._spec:
                raise ValueError(f"Records have no entry '{name}'.")
            expected = (*ids.shape[:2], *self._spec[name][0])
            if value.shape != expected:
                raise ValueError(
                    f"'{name}' must have shape {expected}, received {value.shape}."
                )
            arrays[name] = value.reshape(-1, *value.shape[2:])
        if not arrays.keys() <= self._mutable:
            self._mutable |= arrays.keys()
            self._mark(True)
        ids = ids.reshape(-1, 2)
        for at, (number, start, count) in self._runs(ids):
            stream = self._streams[number]
            skip = max(0, stream.first - start)
            if skip >= count:
                continue
            index, low = divmod(start + skip, self._chunk_rows)
            chunk = stream.chunks[index]
            chunk.updated = True
            for name, value in arrays.items():
                part = value[at + skip : at + count]
                chunk.rows[name][low : low + count - skip] = part

    def state_dict(self) -> dict[str, Any]:
        """All but the rows, see `pieces`: numpy arrays or JSON-able values."""
        rng: dict[str, Any] = dict(self._rng.get_state(legacy=False))
        rng["state"] = {
            "key": rng["state"]["key"].tolist(),
            "pos": int(rng["state"]["pos"]),
        }
        spec = {
            name: [list(shape), dtype.str]
            for name, (shape, dtype) in self._spec.items()
        }
        state: dict[str, Any] = {
            "kind": type(self).__name__,
            "length": self.length,
            "rng": rng,
            "spec": spec,
            "count": self._count,
            "chunk_rows": self._chunk_rows,
            "streams": np.array(
                [(n, s.first, s.stop) for n, s in self._streams.items()], np.int64
            ).reshape(-1, 3),
        }
        state["mutable"] = sorted(self._mutable)
        return state

    def pieces(self) -> Iterator[StoredPiece]:
        """The rows, in two pieces per chunk: what `update` changes, and the rest.

        A chunk that is full never changes but for entries given to `update`.
        """
        for number, stream in self._streams.items():
            for index, chunk in stream.chunks.items():
                rows = slice(stream.stop - index * self._chunk_rows)
                fixed: Batch = {"order": chunk.order[rows]}
                mutable: Batch = {}
                for name, value in chunk.rows.items():
                    target = mutable if name in self._mutable else fixed
                    target[name] = value[rows]
                name = f"{number}-{index}"
                yield StoredPiece(name, chunk.appended, fixed)
                if mutable:
                    changed = chunk.appended or chunk.updated
                    yield StoredPiece(f"{name}-updated", changed, mutable)

    def mark_saved(self) -> None:
        """From now on `pieces` tells what changed after this."""
        self._mark(False)

    def _mark(self, changed: bool) -> None:
        for stream in self._streams.values():
            for chunk in stream.chunks.values():
                chunk.appended = chunk.updated = changed

    def load_state_dict(
        self,
        state: Mapping[str, Any],
        read: Callable[[str], Batch],
        damaged: Collection[str] = (),
    ) -> None:
        """Replaces the contents by copies of what was saved.

        Args:
          state: from `state_dict`.
          read: gives the arrays of a piece by its name.
          damaged: pieces that cannot be read, which drops their chunks' rows. The
            unfinished episodes are then left out, and no window spans a gap.

        Raises:
          UserError: if the state is of another kind of buffer or another length,
            or needs more than `memory_bytes`.
        """
        for name, own in (("kind", type(self).__name__), ("length", self.length)):
            if state[name] != own:
                raise UserError(
                    f"The saved replay has {name} {state[name]}, this run has {own}; "
                    f"continue with the settings it was started with."
                )
        self._streams, self._unused, self._num_chunks = {}, [], 0
        self._spec = {
            name: (tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in state["spec"].items()
        }
        self._mutable = set(state["mutable"])
        if self._spec:
            self._set_chunk_rows(state["chunk_rows"])
        streams = {n: _Stream(*rows) for n, *rows in state["streams"].tolist()}
        places = [(n, i) for n, s in streams.items() for i in self._indices(s)]
        if len(places) > self._max_chunks:
            raise UserError(
                f"memory_bytes={self.memory_bytes} is too small for the saved replay; "
                f"it needs {len(places) * self._chunk_bytes}."
            )

        def read_chunk(number: int, index: int) -> Batch | None:
            names = [f"{number}-{index}"]
            names += [f"{number}-{index}-updated"] if self._mutable else []
            if any(name in damaged for name in names):
                return None
            return {k: v for name in names for k, v in read(name).items()}

        if damaged:
            self._forget_index()
            self._salvage(streams, read_chunk)
        else:
            self._streams = streams
            self._load_index(state)
            for number, index in places:
                chunk = streams[number].chunks[index] = self._take_chunk()
                arrays = read_chunk(number, index) or {}
                rows = slice(len(arrays["order"]))
                chunk.order[rows] = arrays["order"]
                for name, value in chunk.rows.items():
                    value[rows] = arrays[name]
            self._mark(False)
        self._count = state["count"]
        rng = state["rng"]
        key = np.array(rng["state"]["key"], np.uint32)
        self._rng.set_state({**rng, "state": {**rng["state"], "key": key}})

    @abc.abstractmethod
    def _load_index(self, state: Mapping[str, Any]) -> None:
        """Takes from `state` what a subclass knows besides the rows."""

    @abc.abstractmethod
    def _forget_index(self) -> None:
        """Forgets what a subclass knows besides the rows."""

    @abc.abstractmethod
    def _forget_unfinished(self) -> None:
        """Drops what the last episode of every stream has not ended."""

    def _indices(self, stream: _Stream) -> range:
        """Numbers of the chunks that hold a stream's rows."""
        size = self._chunk_rows
        return range(stream.first // size, -(-stream.stop // size))

    def _salvage(
        self,
        streams: Mapping[int, _Stream],
        read_chunk: Callable[[int, int], Batch | None],
    ) -> None:
        """Adds anew, in their old order, the rows of the chunks that can be read.

        What follows a gap starts as an episode does: the model starts anew there.
        """

        def rows(number: int, stream: _Stream) -> Iterator[tuple[int, int, Batch]]:
            gap = False
            for index in self._indices(stream):
                begin = index * self._chunk_rows
                arrays = read_chunk(number, index)
                if arrays is None:
                    gap = True
                    continue
                order = arrays.pop("order")
                live = range(
                    max(stream.first, begin), min(stream.stop, begin + len(order))
                )
                for row in live:
                    record = {name: v[row - begin] for name, v in arrays.items()}
                    if gap:
                        record["is_first"] = np.asarray(True)
                        gap = False
                    yield int(order[row - begin]), number, record

        merged = (rows(number, stream) for number, stream in streams.items())
        for _, number, record in heapq.merge(*merged, key=lambda row: row[0]):
            self.add(record, number)
        self._forget_unfinished()

    def _checked(self, record: Mapping[str, Any]) -> Batch:
        values = {name: np.asarray(value) for name, value in record.items()}
        if not self._spec:
            self._begin(values)
        if values.keys() != self._spec.keys():
            odd = sorted(values.keys() ^ self._spec.keys())
            raise UserError(
                f"A record must have the entries of the first one, "
                f"{sorted(self._spec)}; received {sorted(values)}, "
                f"which differs in {odd}."
            )
        for name, (shape, dtype) in self._spec.items():
            value = values[name]
            if value.shape != shape or value.dtype != dtype:
                raise UserError(
                    f"Entry '{name}' of a record must be {dtype} of shape {shape} as "
                    f"in the first record, received {value.dtype} of shape "
                    f"{value.shape}."
                )
        return values

    def _begin(self, values: Batch) -> None:
        """Fixes the entries and the size of a chunk by the first record."""
        for name in ("is_first", "is_last"):
            if name not in values:
                raise UserError(f"A record must have the entry '{name}'.")
            if values[name].shape != () or values[name].dtype != bool:
                raise UserError(
                    f"Entry '{name}' of a record must be bool of shape (), received "
                    f"{values[name].dtype} of shape {values[name].shape}."
                )
        for name, value in values.items():
            if name == "id":
                raise UserError(
                    "A record must not have an entry 'id': batches use that name."
                )
            if value.dtype.kind not in "biuf":
                raise UserError(
                    f"Entry '{name}' of a record must be numbers or bool, received "
                    f"{value.dtype}."
                )
        record_bytes = bytes_per_record(values)
        if record_bytes > self.memory_bytes:
            raise UserError(
                f"memory_bytes={self.memory_bytes} is less than one record, which "
                f"takes {record_bytes} bytes."
            )
        self._spec = {name: (v.shape, v.dtype) for name, v in values.items()}
        self._set_chunk_rows(_chunk_rows(self.memory_bytes, record_bytes))

    def _set_chunk_rows(self, rows: int) -> None:
        record_bytes = _ORDER_BYTES + sum(
            math.prod(shape) * dtype.itemsize for shape, dtype in self._spec.values()
        )
        self._chunk_rows = rows
        self._chunk_bytes = rows * record_bytes
        self._max_chunks = self.memory_bytes // self._chunk_bytes

    def _append(self, values: Batch, number: int) -> _Stream:
        stream = self._streams.get(number)
        if stream is None:
            stream = self._streams[number] = _Stream()
        index, offset = divmod(stream.stop, self._chunk_rows)
        chunk = stream.chunks.get(index)
        if chunk is None:
            chunk = self._take_chunk()
            stream.chunks[index] = chunk
        chunk.order[offset] = self._count
        chunk.appended = True
        rows = chunk.rows
        for name, value in values.items():
            rows[name][offset] = value
        self._count += 1
        stream.stop += 1
        return stream

    def _take_chunk(self) -> _Chunk:
        while not self._unused and self._num_chunks >= self._max_chunks:
            self._make_room()
        if self._unused:
            return self._unused.pop()
        self._num_chunks += 1
        size = self._chunk_rows
        return _Chunk(
            np.empty(size, np.int64),
            {n: np.empty((size, *sh), dt) for n, (sh, dt) in self._spec.items()},
        )

    def _release(self, stream: _Stream, index: int) -> None:
        self._unused.append(stream.chunks.pop(index))

    def _drop_before(self, stream: _Stream, first: int) -> None:
        """Drops the rows before row `first`."""
        stream.first = first
        keep = first // self._chunk_rows
        while stream.chunks and (index := next(iter(stream.chunks))) < keep:
            self._release(stream, index)

    def _order(self, stream: _Stream, row: int) -> int:
        index, offset = divmod(row, self._chunk_rows)
        return int(stream.chunks[index].order[offset])

    def _runs(self, ids: np.ndarray) -> Iterator[tuple[int, Piece]]:
        """Splits ids [N, 2] into runs of consecutive rows inside one chunk.

        Yields the run's position among the ids, and the run.
        """
        number, row = ids.T
        broken = (number[1:] != number[:-1]) | (row[1:] != row[:-1] + 1)
        broken |= row[1:] % self._chunk_rows == 0
        edges = [0, *(np.flatnonzero(broken) + 1).tolist(), len(ids)]
        for at, end in itertools.pairwise(edges):
            yield at, (int(number[at]), int(row[at]), end - at)

    def _read(self, pieces: Sequence[Piece]) -> Batch:
        """Copies pieces, B * T rows in all, one after the other into [B, T, ...]."""
        total = self.batch_size * self.length
        batch = {n: np.empty((total, *sh), dt) for n, (sh, dt) in self._spec.items()}
        ids = np.empty((total, 2), np.int64)
        size, at = self._chunk_rows, 0
        for number, row, count in pieces:
            ids[at : at + count, 0] = number
            ids[at : at + count, 1] = np.arange(row, row + count)
            chunks = self._streams[number].chunks
            stop = row + count
            while row < stop:
                index, low = divmod(row, size)
                part = min(size - low, stop - row)
                rows = chunks[index].rows
                for name, out in batch.items():
                    out[at : at + part] = rows[name][low : low + part]
                at += part
                row += part
        batch["id"] = ids
        shape = (self.batch_size, self.length)
        return {
            n: value.reshape(*shape, *value.shape[1:]) for n, value in batch.items()
        }


class Windows(Replay):
    """Windows of `length` rows of one stream, across episodes (DreamerV3).

    An item is a window, known by its first row. Online queue: whenever the number
    of a new row of a stream (from 0) is a positive multiple of `length`, the
    window that ends there is queued, hence rows 1..L, L+1..2L and so on. `sample`
    takes queued windows first, oldest first, and then draws uniformly, with
    replacement, from all items.

    In a sampled batch `is_first` is True in row 0, where the model starts anew,
    and `is_last` in each row before an `is_first`, also if that episode was cut
    off. Source: embodied/core/replay.py of the official code.

    Args:
      length: rows per window, the replayed context included.
      capacity: the number of items kept; the oldest goes first.
      online: whether there is an online queue.
    """

    def __init__(
        self,
        batch_size: int,
        length: int,
        capacity: int,
        memory_bytes: int,
        seed: int = 0,
        online: bool = True,
    ):
        super().__init__(batch_size, length, memory_bytes, seed)
        self.online = online
        self.capacity = _positive("capacity", capacity)
        self._queue: deque[tuple[int, int]] = deque()  # stream, first row

    def __len__(self) -> int:
        return sum(map(self._items, self._streams.values()))

    def add(self, record: Mapping[str, Any], stream: int = 0) -> None:
        values = self._checked(record)
        if stream not in self._streams:
            self._check_memory(len(self._streams) + 1)
        rows = self._append(values, stream)
        start = rows.stop - self.length
        if self.online and start >= 0 and (rows.stop - 1) % self.length == 0:
            self._queue.append((stream, start))
        while len(self) > self.capacity:
            self._drop_item()
        while self._queue and not self._stored(*self._queue[0]):
            self._queue.popleft()

    def _sample(self, queued: bool) -> Batch:
        streams = self._streams
        counts = np.array([self._items(s) for s in streams.values()], np.int64)
        total = int(counts.sum())
        if total == 0:
            raise UserError(
                f"Replay holds no window of {self.length} rows yet; train later or "
                f"lower batch_length."
            )
        starts: list[tuple[int, int]] = []
        while queued and self._queue and len(starts) < self.batch_size:
            window = self._queue.popleft()
            if self._stored(*window):
                starts.append(window)
        missing = self.batch_size - len(starts)
        if missing:
            numbers = list(streams)
            ends = np.cumsum(counts)
            draws = self._rng.randint(0, total, missing)
            which = np.searchsorted(ends, draws, side="right")
            offsets = draws - (ends - counts)[which]
            for i, offset in zip(which.tolist(), offsets.tolist()):
                starts.append((numbers[i], streams[numbers[i]].first + offset))
        batch = self._read([(number, row, self.length) for number, row in starts])
        batch["is_last"][:, :-1] |= batch["is_first"][:, 1:]
        batch["is_first"][:, 0] = True
        return batch

    def state_dict(self) -> dict[str, Any]:
        queue = np.array(self._queue, np.int64).reshape(-1, 2)
        return {**super().state_dict(), "queue": queue}

    def _load_index(self, state: Mapping[str, Any]) -> None:
        self._queue = deque((n, row) for n, row in state["queue"].tolist())

    def _forget_index(self) -> None:
        self._queue.clear()

    def _forget_unfinished(self) -> None:
        # Windows span episodes, and stay. But nothing of what was added is new.
        self._queue.clear()

    def _items(self, stream: _Stream) -> int:
        return max(0, stream.stop - stream.first - self.length + 1)

    def _stored(self, number: int, row: int) -> bool:
        return row >= self._streams[number].first

    def _drop_item(self) -> None:
        # The age of an item is the age of the row that completed it.
        oldest = min(
            filter(self._items, self._streams.values()),
            key=lambda s: self._order(s, s.first + self.length - 1),
        )
        self._drop_before(oldest, oldest.first + 1)

    def _make_room(self) -> None:
        oldest = min(
            (s for s in self._streams.values() if s.chunks),
            key=lambda s: self._order(s, s.first),
        )
        index = next(iter(oldest.chunks))
        end = (index + 1) * self._chunk_rows
        self._release(oldest, index)
        # The oldest chunk may be one that its stream has not filled yet.
        self._drop_before(oldest, min(end, oldest.stop))

    def _check_memory(self, streams: int) -> None:
        """Refuses a limit under which some stream could never hold a window.

        Streams advance together and the oldest chunk goes first. So with k chunks
        for each, a stream always has k - 1 full ones and a row of the next.
        """
        record_bytes = self._chunk_bytes // self._chunk_rows

        def enough(limit: int) -> bool:
            rows = _chunk_rows(limit, record_bytes)
            each = limit // (rows * record_bytes) // streams
            return (each - 1) * rows + 1 >= self.length

        valid = self.memory_bytes
        while not enough(valid):
            valid *= 2
        if valid > self.memory_bytes:
            raise UserError(
                f"memory_bytes={self.memory_bytes} is too small for {streams} "
                f"environments with windows of {self.length} rows of {record_bytes} "
                f"bytes; {valid} would be enough."
            )


class Episodes(Replay):
    """Whole finished episodes: the common part of the rules of V1 and V2.

    The newest episodes are kept, and always at least one; the oldest goes first.
    An episode without a single valid window is not kept, and neither is one that
    a new `is_first` cuts off.

    In a sampled batch `is_first` is True where a drawn piece starts and nowhere
    else, whatever row of its episode that is: the model starts anew there.

    Args:
      capacity: steps kept (an episode of n rows has n - 1), or None: all that
        `memory_bytes` holds.
    """

    def __init__(
        self,
        batch_size: int,
        length: int,
        capacity: int | None,
        memory_bytes: int,
        seed: int = 0,
    ):
        super().__init__(batch_size, length, memory_bytes, seed)
        self.capacity = None if capacity is None else _positive("capacity", capacity)
        self._episodes: list[tuple[int, int]] = []  # stream, first row; oldest first
        self._lengths: list[int] = []  # rows of each
        self._unfinished: dict[int, int] = {}  # stream -> its episode's first row
        self._windows = 0
        self._steps = 0

    @abc.abstractmethod
    def _num_windows(self, rows: int) -> int:
        """Valid first rows in an episode; it is not kept if there is none."""

    @abc.abstractmethod
    def _draw(self) -> list[Piece]:
        """Draws pieces (position of the episode, first row in it, rows).

        Their rows are B * T in all, and each T-th one starts a new piece.
        """

    def __len__(self) -> int:
        return self._windows

    def add(self, record: Mapping[str, Any], stream: int = 0) -> None:
        values = self._checked(record)
        if values["is_first"]:
            self._discard_unfinished(stream)
        self._unfinished.setdefault(stream, 0)
        stop = self._append(values, stream).stop
        if values["is_last"]:
            start = self._unfinished[stream]
            if self._num_windows(stop - start) < 1:
                self._discard_unfinished(stream)
                return
            self._unfinished[stream] = stop
            self._episodes.append((stream, start))
            self._lengths.append(stop - start)
            self._windows += self._num_windows(stop - start)
            self._steps += stop - start - 1
            while (
                self.capacity is not None
                and self._steps > self.capacity
                and len(self._episodes) > 1
            ):
                self._drop_episode()

    def _sample(self, queued: bool) -> Batch:
        del queued
        if not self._episodes:
            raise UserError(
                "Replay holds no finished episode that is long enough; lower "
                "batch_length or collect more before training."
            )
        pieces, firsts, at = [], [], 0
        for position, start, count in self._draw():
            stream, begin = self._episodes[position]
            pieces.append((stream, begin + start, count))
            firsts.append(at)
            at += count
        batch = self._read(pieces)
        is_first = np.zeros(at, bool)
        is_first[firsts] = True
        batch["is_first"] = is_first.reshape(self.batch_size, self.length)
        return batch

    def state_dict(self) -> dict[str, Any]:
        episodes = [(*e, rows) for e, rows in zip(self._episodes, self._lengths)]
        return {
            **super().state_dict(),
            "episodes": np.array(episodes, np.int64).reshape(-1, 3),
            "unfinished": np.array([*self._unfinished.items()], np.int64).reshape(
                -1, 2
            ),
        }

    def _load_index(self, state: Mapping[str, Any]) -> None:
        episodes = state["episodes"].tolist()
        self._episodes = [(stream, row) for stream, row, _ in episodes]
        self._lengths = [rows for _, _, rows in episodes]
        self._unfinished = dict(state["unfinished"].tolist())
        self._windows = sum(map(self._num_windows, self._lengths))
        self._steps = sum(self._lengths) - len(self._lengths)

    def _forget_index(self) -> None:
        self._episodes, self._lengths, self._unfinished = [], [], {}
        self._windows = self._steps = 0

    def _forget_unfinished(self) -> None:
        for number in self._streams:
            self._discard_unfinished(number)

    def _discard_unfinished(self, number: int) -> None:
        """Takes the rows of the unfinished episode back; nobody has seen them."""
        if number not in self._streams:
            return
        stream = self._streams[number]
        stream.stop = self._unfinished[number]
        beyond = [i for i in stream.chunks if i * self._chunk_rows >= stream.stop]
        for index in beyond:
            self._release(stream, index)

    def _drop_episode(self) -> None:
        number, start = self._episodes.pop(0)
        rows = self._lengths.pop(0)
        self._windows -= self._num_windows(rows)
        self._steps -= rows - 1
        # The episodes of a stream lie back to back, and end in its order.
        self._drop_before(self._streams[number], start + rows)

    def _make_room(self) -> None:
        if len(self._episodes) < 2:
            unfinished = sum(
                stream.stop - self._unfinished[number]
                for number, stream in self._streams.items()
            )
            raise UserError(
                f"memory_bytes={self.memory_bytes} is too small: it must hold one "
                f"finished episode and the unfinished ones, which have {unfinished} "
                f"rows of {self._chunk_bytes // self._chunk_rows} bytes so far; give "
                f"at least {2 * self.memory_bytes} (see --replay_gb and --disk_gb), or "
                "shorter episodes (see --length)."
            )
        self._drop_episode()


class EpisodeChunks(Episodes):
    """DreamerV1: B chunks of `length` rows by `draw_chunks`.

    The official loader looks for new episodes after every 100 draws; here an
    episode can be drawn as soon as it has ended.
    """

    def __init__(
        self,
        batch_size: int,
        length: int,
        capacity: int | None,
        memory_bytes: int,
        seed: int = 0,
        balance: bool = False,
        include_end: bool = False,
    ):
        super().__init__(batch_size, length, capacity, memory_bytes, seed)
        self.balance = balance
        self.include_end = include_end

    def _num_windows(self, rows: int) -> int:
        if rows - self.length + self.include_end < 1:
            return 0
        # Moving late starts back, balance always reaches the last possible one.
        return rows - self.length + (self.include_end or self.balance)

    def _draw(self) -> list[Piece]:
        position, start = draw_chunks(
            self._rng,
            self._lengths,
            self.length,
            self.batch_size,
            self.balance,
            self.include_end,
        )
        return [(p, s, self.length) for p, s in zip(position, start)]


class EpisodeSequences(Episodes):
    """DreamerV2: sequences by `draw_sequence`, put together to `length` rows.

    With minlen = maxlen = length, as in the official configurations, each batch entry
    is one sequence. Otherwise sequences follow one another, each with its `is_first`,
    until the entry is full. The last one is cut; the official loader continues it
    in the next chunk, which another batch entry, with another state, may get.

    Args:
      minlen: shorter sequences are not drawn; episodes of fewer steps not kept.
      maxlen: longer sequences are not drawn; 0: no limit.
      prioritize_ends: draw the last start more often, see `draw_sequence`.
    """

    def __init__(
        self,
        batch_size: int,
        length: int,
        capacity: int | None,
        memory_bytes: int,
        seed: int = 0,
        minlen: int = 50,
        maxlen: int = 50,
        prioritize_ends: bool = False,
    ):
        super().__init__(batch_size, length, capacity, memory_bytes, seed)
        self.minlen = _positive("minlen", minlen)
        if length < minlen:  # else no draw would reach an episode's last rows
            raise UserError(
                f"minlen must be at most length={length}, received {minlen}; of "
                "DreamerV2 these are --replay.minlen and --dataset.length."
            )
        if maxlen and maxlen < minlen:
            raise UserError(
                f"maxlen must be 0 or at least minlen={minlen}, received {maxlen}."
            )
        self.maxlen = maxlen
        self.prioritize_ends = prioritize_ends

    def _num_windows(self, rows: int) -> int:
        return rows - self.minlen + 1 if rows - 1 >= self.minlen else 0

    def _draw(self) -> list[Piece]:
        pieces = []
        for _ in range(self.batch_size):
            missing = self.length
            while missing:
                position, start, count = draw_sequence(
                    self._rng,
                    self._lengths,
                    self.minlen,
                    self.maxlen,
                    self.prioritize_ends,
                )
                pieces.append((position, start, min(count, missing)))
                missing -= pieces[-1][2]
        return pieces


def draw_chunks(
    rng: np.random.RandomState,
    lengths: Sequence[int],
    length: int,
    draws: int,
    balance: bool = False,
    include_end: bool = False,
) -> tuple[list[int], list[int]]:
    """DreamerV1's rule: uniform over episodes, then uniform over starts.

    Order of the draws: `draws` episodes at once, with replacement, then one start
    for each of them in turn. Source: load_episodes in tools.py of danijar/dreamer.

    Args:
      lengths: rows of each episode.
      length: rows of a chunk. Episodes without a valid start are passed over.
      balance: draw the start from all rows and move it back to the last possible
        one, which so gets the weight of all later rows.
      include_end: the official code draws starts below rows - length, so that an
        episode's last row is never trained on; True draws that start as well.

    Returns:
      The position of the episode among `lengths`, and the first row in it, for at
      most `draws` chunks.
    """
    position, start = [], []
    for episode in rng.choice(len(lengths), draws).tolist():
        available = lengths[episode] - length
        if available + include_end < 1:
            continue
        if balance:
            row = min(int(rng.randint(0, lengths[episode])), available)
        else:
            row = int(rng.randint(0, available + include_end))
        position.append(episode)
        start.append(row)
    return position, start


def draw_sequence(
    rng: np.random.RandomState,
    lengths: Sequence[int],
    minlen: int,
    maxlen: int,
    prioritize_ends: bool = False,
) -> tuple[int, int, int]:
    """DreamerV2's rule: uniform over episodes, a random length, a uniform start.

    Order of the draws: episode, length, start. Source: Replay in common/replay.py
    of danijar/dreamerv2.

    Args:
      lengths: rows of each episode, at least `minlen` everywhere.
      minlen, maxlen: the length is the longest possible, an episode or maxlen (0: no
        limit), less a random number below minlen; but at least minlen.
      prioritize_ends: gives the last start the weight of minlen + 1 others.

    Returns:
      Position of the episode among `lengths`, first row in it, number of rows.
    """
    position = int(rng.randint(len(lengths)))
    rows = lengths[position]
    count = min(rows, maxlen) if maxlen else rows
    count = max(minlen, count - int(rng.randint(minlen)))
    upper = rows - count + 1 + (minlen if prioritize_ends else 0)
    return position, min(int(rng.randint(upper)), rows - count), count


def _chunk_rows(memory_bytes: int, record_bytes: int) -> int:
    return max(1, min(MAX_CHUNK_ROWS, memory_bytes // (MIN_CHUNKS * record_bytes)))


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise UserError(f"{name} must be at least 1, received {value}.")
    return int(value)
