"""The replays of DreamerV1 and V2: sequences inside finished episodes."""

import abc
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamer_tf.errors import UserError
from dreamer_tf.replay.store import Batch, Replay, Span, at_least_one


class Episodes(Replay):
    """Finished episodes only: what V1's and V2's replay have in common.

    The newest episodes are kept, at least one; the oldest is dropped first. An
    episode is not kept if it is too short to draw a sequence from, or if a new
    `is_first` cuts it off.

    In a sampled batch `is_first` is True in the first row of each drawn sequence,
    whatever row of its episode that is, because the model has no state from before
    it; and nowhere else.

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
        self.capacity = None if capacity is None else at_least_one("capacity", capacity)
        self._episodes: list[tuple[int, int]] = []  # stream, first row; oldest first
        self._lengths: list[int] = []  # rows of each
        self._unfinished: dict[int, int] = {}  # stream -> its episode's first row
        self._sequences = 0
        self._steps = 0

    @abc.abstractmethod
    def _num_sequences(self, rows: int) -> int:
        """Number of sequences in an episode; without any it is not kept."""

    @property
    def shortest(self) -> int:
        """Rows of the shortest episode that is kept."""
        return next(n for n in itertools.count(1) if self._num_sequences(n) > 0)

    @abc.abstractmethod
    def _draw(self) -> list[Span]:
        """Draws sequences: (position of the episode, first row in it, rows).

        They have B * T rows in all; each batch entry begins with a new sequence.
        """

    def __len__(self) -> int:
        return self._sequences

    def add(self, record: Mapping[str, Any], stream: int = 0) -> None:
        values = self._checked(record)
        if values["is_first"]:
            self._discard_unfinished(stream)
        self._unfinished.setdefault(stream, 0)
        stop = self._append(values, stream).stop
        if values["is_last"]:
            start = self._unfinished[stream]
            if self._num_sequences(stop - start) < 1:
                self._discard_unfinished(stream)
                return
            self._unfinished[stream] = stop
            self._episodes.append((stream, start))
            self._lengths.append(stop - start)
            self._sequences += self._num_sequences(stop - start)
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
        spans, firsts, at = [], [], 0
        for position, start, count in self._draw():
            stream, begin = self._episodes[position]
            spans.append((stream, begin + start, count))
            firsts.append(at)
            at += count
        batch = self._read(spans)
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
        self._sequences = sum(map(self._num_sequences, self._lengths))
        self._steps = sum(self._lengths) - len(self._lengths)

    def _forget_index(self) -> None:
        self._episodes, self._lengths, self._unfinished = [], [], {}
        self._sequences = self._steps = 0

    def _forget_unfinished(self) -> None:
        for number in self._streams:
            self._discard_unfinished(number)

    def _discard_unfinished(self, number: int) -> None:
        """Removes the rows of a stream's unfinished episode; none was ever sampled."""
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
        self._sequences -= self._num_sequences(rows)
        self._steps -= rows - 1
        # Episodes of one stream lie back to back, so only dropped ones come before it.
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

    An episode can be drawn as soon as it has ended; the official loader looks for
    new episodes only after every 100 draws.

    Args:
      balance, include_end: see `draw_chunks`.
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

    def _num_sequences(self, rows: int) -> int:
        if rows - self.length + self.include_end < 1:
            return 0
        # `balance` can draw the last start even without `include_end`.
        return rows - self.length + (self.include_end or self.balance)

    def _draw(self) -> list[Span]:
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
    """DreamerV2: sequences by `draw_sequence`, joined to `length` rows.

    With minlen = maxlen = length, as in the official configurations, each batch entry
    is one sequence. Otherwise sequences follow one another, each with its `is_first`,
    until the entry is full, and the last one is cut. (The official loader continues
    it in its next chunk, which may become another batch entry with another state.)

    Args:
      minlen: shorter sequences are not drawn, and episodes of fewer steps not kept.
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
        self.minlen = at_least_one("minlen", minlen)
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

    def _num_sequences(self, rows: int) -> int:
        return rows - self.minlen + 1 if rows - 1 >= self.minlen else 0

    def _draw(self) -> list[Span]:
        spans = []
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
                spans.append((position, start, min(count, missing)))
                missing -= spans[-1][2]
        return spans


def draw_chunks(
    rng: np.random.RandomState,
    lengths: Sequence[int],
    length: int,
    draws: int,
    balance: bool = False,
    include_end: bool = False,
) -> tuple[list[int], list[int]]:
    """DreamerV1's rule: a uniform episode, then a uniform first row in it.

    Draws `draws` episodes at once, with replacement, then a first row for each of
    them in turn. Source: load_episodes in tools.py of danijar/dreamer.

    Args:
      lengths: rows of each episode.
      length: rows of a chunk. Episodes that are too short for one are passed over.
      balance: draw the first row among all rows; if too few follow it, use the last
        possible first row, which is thereby drawn more often.
      include_end: also draw first row rows - length, so that the chunk ends with the
        episode. The official code does not, and never trains on the last row.

    Returns:
      For at most `draws` chunks: positions of their episodes among `lengths`, and
      first rows in these.
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
    """DreamerV2's rule: a uniform episode, a random length, a uniform first row.

    They are drawn in this order. Source: Replay in common/replay.py of
    danijar/dreamerv2.

    Args:
      lengths: rows of each episode, each at least `minlen`.
      minlen, maxlen: the drawn length is that of the episode, or maxlen if that is
        less (0: no limit), minus a random number below minlen; at least minlen.
      prioritize_ends: makes the last possible first row minlen + 1 times as likely
        as any other.

    Returns:
      Position of the episode among `lengths`, first row in it, number of rows.
    """
    position = int(rng.randint(len(lengths)))
    rows = lengths[position]
    count = min(rows, maxlen) if maxlen else rows
    count = max(minlen, count - int(rng.randint(minlen)))
    upper = rows - count + 1 + (minlen if prioritize_ends else 0)
    return position, min(int(rng.randint(upper)), rows - count), count
