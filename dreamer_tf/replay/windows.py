"""DreamerV3's replay: windows of one stream, across episodes."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer_tf.errors import UserError
from dreamer_tf.replay.packing import Packing
from dreamer_tf.replay.records import chunk_rows
from dreamer_tf.replay.store import Batch, Replay, Stream, at_least_one


class Windows(Replay):
    """Windows of `length` rows of one stream, across episodes (DreamerV3).

    An item is a window, identified by its first row. Online queue: whenever the
    number of a new row of a stream (from 0) is a positive multiple of `length`, the
    window that ends there is queued: rows 1..L, L+1..2L and so on. `sample` takes
    queued windows first, oldest first, and draws the rest uniformly, with
    replacement, from all items.

    In a sampled batch `is_first` is True in row 0, because the model has no state
    from before it, and `is_last` is True in each row before an `is_first`, even where
    that episode was cut off. Source: embodied/core/replay.py of the official code.

    Args:
      length: rows per window, including the replayed context.
      capacity: the number of items kept; the oldest is dropped first.
      online: whether to use the online queue.
      packing: how entries are kept; as they are by default.
    """

    def __init__(
        self,
        batch_size: int,
        length: int,
        capacity: int,
        memory_bytes: int,
        seed: int = 0,
        online: bool = True,
        packing: Packing | None = None,
    ):
        super().__init__(batch_size, length, memory_bytes, seed, packing)
        self.online = online
        self.capacity = at_least_one("capacity", capacity)
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
        # Windows may span episodes, so the rows stay. But none of them is new.
        self._queue.clear()

    def _items(self, stream: Stream) -> int:
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
        # Its stream may not have filled this chunk yet.
        self._drop_before(oldest, min(end, oldest.stop))

    def _check_memory(self, streams: int) -> None:
        """Raises UserError if `memory_bytes` cannot hold a window of each stream.

        All streams grow at the same rate and the oldest chunk is dropped first. So
        with k chunks per stream, each always has k - 1 full ones and a row of the next.
        """
        record_bytes = self._chunk_bytes // self._chunk_rows

        def enough(limit: int) -> bool:
            rows = chunk_rows(limit, record_bytes)
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
