"""The records that a replay buffer accepts, their size, and that of a chunk."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer_tf.errors import UserError

Spec = dict[str, tuple[tuple[int, ...], np.dtype]]  # entry -> shape, dtype

# Stored with each row: how many rows were added before it, to find the oldest.
ORDER_BYTES = 8

# A chunk has at most MAX_CHUNK_ROWS rows. It has fewer where memory_bytes would hold
# less than MIN_CHUNKS chunks of that size: with few large chunks, one that is dropped
# or half full would waste a large share of the limit.
MAX_CHUNK_ROWS = 1024
MIN_CHUNKS = 256


def bytes_per_record(entries: Mapping[str, Any]) -> int:
    """Bytes of memory that one record takes in any of the buffers.

    Args:
      entries: names -> anything with a shape and a dtype: the arrays of an example
        record, or gymnasium spaces, so that a run can state its need before its
        first record. Latents that are stored with the record count too.
    """
    return ORDER_BYTES + sum(
        math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
        for entry in entries.values()
    )


def chunk_rows(memory_bytes: int, record_bytes: int) -> int:
    """Rows per chunk, see MAX_CHUNK_ROWS."""
    return max(1, min(MAX_CHUNK_ROWS, memory_bytes // (MIN_CHUNKS * record_bytes)))


def check_first(values: Mapping[str, np.ndarray]) -> None:
    """Raises UserError if the first record has an entry that cannot be stored."""
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


def check_like_first(values: Mapping[str, np.ndarray], spec: Spec) -> None:
    """Raises UserError if a record differs from the first one, which gave `spec`."""
    if values.keys() != spec.keys():
        odd = sorted(values.keys() ^ spec.keys())
        raise UserError(
            f"A record must have the entries of the first one, "
            f"{sorted(spec)}; received {sorted(values)}, "
            f"which differs in {odd}."
        )
    for name, (shape, dtype) in spec.items():
        value = values[name]
        if value.shape != shape or value.dtype != dtype:
            raise UserError(
                f"Entry '{name}' of a record must be {dtype} of shape {shape} as "
                f"in the first record, received {value.dtype} of shape "
                f"{value.shape}."
            )
