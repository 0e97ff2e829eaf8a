"""The rows of a replay buffer, in memory and on disk.

Each stream keeps its rows in chunks of contiguous numpy arrays, so that reading a
sequence copies one or two slices per entry. Chunks are allocated, counted and reused
as a whole, and never allocated beyond `memory_bytes`.

Sampling uses a RandomState, whose numbers NumPy guarantees never to change. Those of
a Generator may change with the NumPy version, and a continued run would differ.
"""

from __future__ import annotations

import abc
import dataclasses
import heapq
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dreamer_tf.errors import UserError
from dreamer_tf.replay.packing import Packing
from dreamer_tf.replay.pieces import ORDER, Batch, StoredPiece, keys, unpack
from dreamer_tf.replay.records import (
    ORDER_BYTES,
    Spec,
    bytes_per_record,
    check_first,
    check_like_first,
    chunk_rows,
)

Span = tuple[int, int, int]  # stream, first row, number of rows


@dataclasses.dataclass(slots=True)
class Chunk:
    """Memory for chunk_rows rows of one stream."""

    order: np.ndarray  # int64 [chunk_rows], how many rows were added before each
    rows: Batch  # name -> [chunk_rows, ...]
    appended: bool = True  # rows were added since the last save
    updated: bool = True  # `update` changed rows since the last save


@dataclasses.dataclass(slots=True)
class Stream:
    """The stored rows of one environment.

    These are rows first, ..., stop - 1; row r is in chunk r // chunk_rows.
    """

    first: int = 0
    stop: int = 0
    # By number, in ascending order: the first key is the oldest chunk.
    chunks: dict[int, Chunk] = dataclasses.field(default_factory=dict)


class Replay(abc.ABC):
    """Stores rows; subclasses choose what is sampled and what is dropped.

    Args:
      batch_size: B.
      length: T, rows per batch entry.
      memory_bytes: hard limit of the rows' memory.
      seed: of the random stream that chooses what is sampled.
      packing: how entries are kept; as they are by default.
    """

    def __init__(
        self,
        batch_size: int,
        length: int,
        memory_bytes: int,
        seed: int,
        packing: Packing | None = None,
    ):
        self.packing = packing or Packing()
        self.batch_size = at_least_one("batch_size", batch_size)
        self.length = at_least_one("length", length)
        self.memory_bytes = at_least_one("memory_bytes", memory_bytes)
        self._rng = np.random.RandomState(np.random.MT19937(seed))
        self._streams: dict[int, Stream] = {}
        self._spec: Spec = {}  # of packed entries; empty until the first record
        self._count = 0  # rows ever appended
        self._chunk_rows = 0
        self._chunk_bytes = 0
        self._max_chunks = 0
        self._num_chunks = 0  # allocated: in a stream or in _unused
        self._unused: list[Chunk] = []
        self._mutable: set[str] = set()  # entries that `update` has ever changed

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of sequences that can be sampled now."""

    @abc.abstractmethod
    def add(self, record: Mapping[str, Any], stream: int = 0) -> None:
        """Appends one record of environment number `stream`.

        Raises:
          UserError: the entries' names, shapes or dtypes differ from those of the
            first record, or `memory_bytes` is too small.
        """

    def sample(self) -> Batch:
        """Draws a batch: one new array [B, T, ...] per entry, and `id`.

        Raises:
          UserError: there is nothing to sample yet.
        """
        return self._sample(queued=True)

    def peek(self, seed: int | Sequence[int]) -> Batch:
        """A batch like that of `sample`, drawn with a random stream of its own.

        Changes nothing: windows that wait in an online queue stay there, and are
        drawn no more often than others.
        """
        own = self._rng
        self._rng = np.random.RandomState(np.random.MT19937(seed))
        try:
            return self._sample(queued=False)
        finally:
            self._rng = own

    @abc.abstractmethod
    def _sample(self, queued: bool) -> Batch:
        """Draws a batch; `queued` tells whether to take from the online queue."""

    @abc.abstractmethod
    def _make_room(self) -> None:
        """Drops some of the oldest rows; called until a chunk is free."""

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks, full or not; never above `memory_bytes`.

        Not counted: about 2 kB of Python objects for each chunk.
        """
        return self._num_chunks * self._chunk_bytes

    def update(self, ids: np.ndarray, values: Mapping[str, Any]) -> None:
        """Overwrites entries of stored rows, such as the latents of DreamerV3.

        Rows that were dropped after they were sampled are skipped. If a row occurs
        several times, its last value counts.

        Args:
          ids: `id` of a sampled batch, int64 [B, T, 2].
          values: arrays [B, T', ...] with T' <= T, for the last T' rows of each
            sequence. The rows before them (the context) keep their values.
        """
        if not values:
            return
        arrays = self.packing.pack({k: np.asarray(v) for k, v in values.items()})
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
        for at, (number, start, count) in self._spans(ids):
            stream = self._streams[number]
            skip = max(0, stream.first - start)
            if skip >= count:
                continue
            index, low = divmod(start + skip, self._chunk_rows)
            chunk = stream.chunks[index]
            chunk.updated = True
            for name, value in arrays.items():
                new = value[at + skip : at + count]
                chunk.rows[name][low : low + count - skip] = new

    def state_dict(self) -> dict[str, Any]:
        """Everything but the rows (see `pieces`): arrays and JSON-able values."""
        rng: dict[str, Any] = dict(self._rng.get_state(legacy=False))
        rng["state"] = {
            "key": rng["state"]["key"].tolist(),
            "pos": int(rng["state"]["pos"]),
        }
        spec = {
            name: [list(shape), dtype.str]
            for name, (shape, dtype) in self._spec.items()
        }
        exact = self.packing.name == Packing.name  # as in older states
        return {
            **({} if exact else {"latents": self.packing.name}),
            "kind": type(self).__name__,
            "length": self.length,
            "rng": rng,
            "spec": spec,
            "count": self._count,
            "chunk_rows": self._chunk_rows,
            "streams": np.array(
                [(n, s.first, s.stop) for n, s in self._streams.items()], np.int64
            ).reshape(-1, 3),
            "mutable": sorted(self._mutable),
        }

    def pieces(self) -> Iterator[StoredPiece]:
        """The rows, in two pieces per chunk: entries that `update` changes, and others.

        Of a full chunk, only the former still change.
        """
        names = keys(self._spec)
        for number, stream in self._streams.items():
            for index, chunk in stream.chunks.items():
                rows = slice(stream.stop - index * self._chunk_rows)
                fixed: Batch = {ORDER: chunk.order[rows]}
                mutable: Batch = {}
                for name, value in chunk.rows.items():
                    target = mutable if name in self._mutable else fixed
                    target[names[name]] = value[rows]
                name = f"{number}-{index}"
                yield StoredPiece(name, chunk.appended, fixed)
                if mutable:
                    changed = chunk.appended or chunk.updated
                    yield StoredPiece(f"{name}-updated", changed, mutable)

    def mark_saved(self) -> None:
        """Makes `pieces` report as changed only what changes from now on."""
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
          read: returns the arrays of a piece by its name.
          damaged: names of pieces that cannot be read. The rows of their chunks are
            dropped, and with them all unfinished episodes; the rows after a gap
            begin like an episode.

        Raises:
          UserError: the state is of another kind of buffer or another length, or
            needs more than `memory_bytes`.
        """
        state = {"latents": Packing.name, **state}
        own = {"kind": type(self).__name__, "length": self.length}
        for name, value in {**own, "latents": self.packing.name}.items():
            if state[name] != value:
                raise UserError(
                    f"The saved replay has {name} {state[name]}, this run has {value}; "
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
        streams = {n: Stream(*rows) for n, *rows in state["streams"].tolist()}
        places = [(n, i) for n, s in streams.items() for i in self._indices(s)]
        if len(places) > self._max_chunks:
            raise UserError(
                f"memory_bytes={self.memory_bytes} is too small for the saved replay; "
                f"it needs {len(places) * self._chunk_bytes}."
            )

        def read_chunk(number: int, index: int) -> tuple[np.ndarray, Batch] | None:
            """The order and the entries of its rows."""
            names = [f"{number}-{index}"]
            names += [f"{number}-{index}-updated"] if self._mutable else []
            if any(name in damaged for name in names):
                return None
            arrays = {k: v for name in names for k, v in read(name).items()}
            return arrays[ORDER], unpack(arrays, self._spec)

        if damaged:
            self._forget_index()
            self._salvage(streams, read_chunk)
        else:
            self._streams = streams
            self._load_index(state)
            for number, index in places:
                chunk = streams[number].chunks[index] = self._take_chunk()
                found = read_chunk(number, index)
                assert found  # as no piece is damaged
                order, arrays = found
                rows = slice(len(order))
                chunk.order[rows] = order
                for name, value in chunk.rows.items():
                    value[rows] = arrays[name]
            self._mark(False)
        self._count = state["count"]
        rng = state["rng"]
        key = np.array(rng["state"]["key"], np.uint32)
        self._rng.set_state({**rng, "state": {**rng["state"], "key": key}})

    @abc.abstractmethod
    def _load_index(self, state: Mapping[str, Any]) -> None:
        """Restores from `state` what a subclass keeps besides the rows."""

    @abc.abstractmethod
    def _forget_index(self) -> None:
        """Empties what a subclass keeps besides the rows."""

    @abc.abstractmethod
    def _forget_unfinished(self) -> None:
        """Removes the episodes that have not ended from what can be sampled."""

    def _indices(self, stream: Stream) -> range:
        """Numbers of the chunks that hold a stream's rows."""
        size = self._chunk_rows
        return range(stream.first // size, -(-stream.stop // size))

    def _salvage(
        self,
        streams: Mapping[int, Stream],
        read_chunk: Callable[[int, int], tuple[np.ndarray, Batch] | None],
    ) -> None:
        """Adds the rows of the readable chunks again, in their old order.

        The first row after a gap gets `is_first`, so that no latent state is carried
        across it.
        """

        def rows(number: int, stream: Stream) -> Iterator[tuple[int, int, Batch]]:
            gap = False
            for index in self._indices(stream):
                begin = index * self._chunk_rows
                found = read_chunk(number, index)
                if found is None:
                    gap = True
                    continue
                order, arrays = found
                live = range(
                    max(stream.first, begin), min(stream.stop, begin + len(order))
                )
                for row in live:
                    record = {name: v[row - begin] for name, v in arrays.items()}
                    if gap:
                        record["is_first"] = np.asarray(True)
                        gap = False
                    yield int(order[row - begin]), number, self.packing.unpack(record)

        merged = (rows(number, stream) for number, stream in streams.items())
        for _, number, record in heapq.merge(*merged, key=lambda row: row[0]):
            self.add(record, number)
        self._forget_unfinished()

    def _checked(self, record: Mapping[str, Any]) -> Batch:
        """A record's entries as arrays; the first one fixes shapes and dtypes."""
        values = self.packing.pack({k: np.asarray(v) for k, v in record.items()})
        if not self._spec:
            self._begin(values)
        check_like_first(values, self._spec)
        return values

    def _begin(self, values: Batch) -> None:
        """Fixes the entries and the size of a chunk by the first record."""
        check_first(values)
        record_bytes = bytes_per_record(values)
        if record_bytes > self.memory_bytes:
            raise UserError(
                f"memory_bytes={self.memory_bytes} is less than one record, which "
                f"takes {record_bytes} bytes."
            )
        self._spec = {name: (v.shape, v.dtype) for name, v in values.items()}
        self._set_chunk_rows(chunk_rows(self.memory_bytes, record_bytes))

    def _set_chunk_rows(self, rows: int) -> None:
        record_bytes = ORDER_BYTES + sum(
            math.prod(shape) * dtype.itemsize for shape, dtype in self._spec.values()
        )
        self._chunk_rows = rows
        self._chunk_bytes = rows * record_bytes
        self._max_chunks = self.memory_bytes // self._chunk_bytes

    def _append(self, values: Batch, number: int) -> Stream:
        """Stores a row at the end of stream `number`."""
        stream = self._streams.get(number)
        if stream is None:
            stream = self._streams[number] = Stream()
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

    def _take_chunk(self) -> Chunk:
        """A free chunk: a new one, or one of dropped rows where memory is used up."""
        while not self._unused and self._num_chunks >= self._max_chunks:
            self._make_room()
        if self._unused:
            return self._unused.pop()
        self._num_chunks += 1
        size = self._chunk_rows
        return Chunk(
            np.empty(size, np.int64),
            {n: np.empty((size, *sh), dt) for n, (sh, dt) in self._spec.items()},
        )

    def _release(self, stream: Stream, index: int) -> None:
        """Takes a chunk from a stream; other rows may reuse its memory."""
        self._unused.append(stream.chunks.pop(index))

    def _drop_before(self, stream: Stream, first: int) -> None:
        """Drops the rows before row `first`."""
        stream.first = first
        keep = first // self._chunk_rows
        while stream.chunks and (index := next(iter(stream.chunks))) < keep:
            self._release(stream, index)

    def _order(self, stream: Stream, row: int) -> int:
        """How many rows of all streams were added before this one."""
        index, offset = divmod(row, self._chunk_rows)
        return int(stream.chunks[index].order[offset])

    def _spans(self, ids: np.ndarray) -> Iterator[tuple[int, Span]]:
        """Splits ids [N, 2] into spans of consecutive rows inside one chunk.

        Yields each span with its position among the ids.
        """
        number, row = ids.T
        broken = (number[1:] != number[:-1]) | (row[1:] != row[:-1] + 1)
        broken |= row[1:] % self._chunk_rows == 0
        edges = [0, *(np.flatnonzero(broken) + 1).tolist(), len(ids)]
        for at, end in itertools.pairwise(edges):
            yield at, (int(number[at]), int(row[at]), end - at)

    def _read(self, spans: Sequence[Span]) -> Batch:
        """Copies spans, B * T rows in all, one after the other into [B, T, ...]."""
        total = self.batch_size * self.length
        batch = {n: np.empty((total, *sh), dt) for n, (sh, dt) in self._spec.items()}
        ids = np.empty((total, 2), np.int64)
        size, at = self._chunk_rows, 0
        for number, row, count in spans:
            ids[at : at + count, 0] = number
            ids[at : at + count, 1] = np.arange(row, row + count)
            chunks = self._streams[number].chunks
            stop = row + count
            while row < stop:
                index, low = divmod(row, size)
                here = min(size - low, stop - row)
                rows = chunks[index].rows
                for name, out in batch.items():
                    out[at : at + here] = rows[name][low : low + here]
                at += here
                row += here
        batch["id"] = ids
        shape = (self.batch_size, self.length)
        return {
            n: value.reshape(*shape, *value.shape[1:])
            for n, value in self.packing.unpack(batch).items()
        }


def at_least_one(name: str, value: int) -> int:
    """The value of an argument; raises UserError if it is below 1."""
    if value < 1:
        raise UserError(f"{name} must be at least 1, received {value}.")
    return int(value)
