"""Replay buffers: environment records go in, training batches come out.

The records of one environment form a stream: one row per record, episodes back to
back. `store.py` holds the rows; three classes choose which of them make up a batch:

- `Windows` (DreamerV3): windows that may span episodes. Each new window is used
  once, in order of arrival; the rest of a batch is drawn uniformly.
- `EpisodeChunks` (DreamerV1): sequences of fixed length inside finished episodes.
- `EpisodeSequences` (DreamerV2): sequences of varying length inside finished
  episodes.

All of them have

- `add(record, stream)`: append one record of environment number `stream`;
- `sample()`: a dict of arrays [B, T, ...] plus `id` int64 [B, T, 2], the
  (stream, row) of every entry. Row numbers are never reused;
- `peek(seed)`: a batch for looking only, which changes nothing that is sampled later;
- `update(ids, values)`: overwrite entries of those rows that are still stored;
- `len(replay)`: sequences that can be sampled now; `nbytes`: bytes held;
- `state_dict()`, `pieces()`, `load_state_dict()`: save and restore everything,
  including the random stream. Rows are saved in pieces, most of which have not
  changed since the last time.

`store.py` keeps entries as `packing.py` says, by default as they are.

Two limits hold at the same time, a count (`capacity`) and bytes (`memory_bytes`);
when either is reached, the oldest rows are dropped. Nothing here is thread-safe.
"""

from typing import Any

from dreamer_tf.replay.episodes import (
    EpisodeChunks,
    Episodes,
    EpisodeSequences,
    draw_chunks,
    draw_sequence,
)
from dreamer_tf.replay.packing import CompactLatents
from dreamer_tf.replay.pieces import StoredPiece
from dreamer_tf.replay.records import bytes_per_record
from dreamer_tf.replay.store import Replay
from dreamer_tf.replay.windows import Windows

__all__ = [
    "CompactLatents",
    "EpisodeChunks",
    "EpisodeSequences",
    "Episodes",
    "Replay",
    "StoredPiece",
    "Windows",
    "bytes_per_record",
    "draw_chunks",
    "draw_sequence",
    "make_replay",
]


def make_replay(version: str, config: Any, memory_bytes: int, seed: int) -> Replay:
    """The replay buffer that a version trains from.

    Args:
      version: "v1", "v2" or "v3".
      config: the version's settings.
      memory_bytes: hard limit of the rows' memory. V1 has no other limit.
      seed: of the random stream that chooses what is sampled.

    Raises:
      UserError: settings that do not go together.
    """
    return _MAKERS[version](config, memory_bytes, seed)


def _make_v1(config: Any, memory_bytes: int, seed: int) -> EpisodeChunks:
    return EpisodeChunks(
        batch_size=config.batch_size,
        length=config.batch_length,
        capacity=None,
        memory_bytes=memory_bytes,
        seed=seed,
        balance=config.dataset_balance,
        include_end=config.include_end,
    )


def _make_v2(config: Any, memory_bytes: int, seed: int) -> EpisodeSequences:
    return EpisodeSequences(
        batch_size=config.dataset.batch,
        length=config.dataset.length,
        capacity=config.replay.capacity,
        memory_bytes=memory_bytes,
        seed=seed,
        minlen=config.replay.minlen,
        maxlen=config.replay.maxlen,
        prioritize_ends=config.replay.prioritize_ends,
    )


def _make_v3(config: Any, memory_bytes: int, seed: int) -> Windows:
    compact = config.replay.latents == "compact"
    return Windows(
        batch_size=config.batch_size,
        length=config.batch_length + config.replay_context,
        capacity=config.replay.size,
        memory_bytes=memory_bytes,
        seed=seed,
        online=config.replay.online,
        packing=CompactLatents(config.dyn.classes) if compact else None,
    )


_MAKERS = {"v1": _make_v1, "v2": _make_v2, "v3": _make_v3}
