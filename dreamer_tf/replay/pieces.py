"""The arrays of a piece of the replay, as a file of a checkpoint holds them.

`order` says how many rows were added before each row; the entries have the names
`entry/0`, `entry/1` and so on, by their place in the spec. Their own names might be
`order` as well, or one of NumPy's (`np.savez(file, ...)`), or no name of a file.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

Batch = dict[str, np.ndarray]

ORDER = "order"


@dataclasses.dataclass(frozen=True, slots=True)
class StoredPiece:
    """Some entries of one chunk."""

    name: str
    changed: bool  # since `mark_saved` or `load_state_dict`
    arrays: Batch  # views into the buffer: write them out before it changes


def keys(entries: Iterable[str]) -> dict[str, str]:
    """Entry -> name of its array; the entries in the order of the spec."""
    return {entry: f"entry/{place}" for place, entry in enumerate(entries)}


def unpack(arrays: Mapping[str, np.ndarray], entries: Iterable[str]) -> Batch:
    """Arrays by the entries' own names, without the order.

    Also of pieces from before entries were numbered, whose arrays have these names. No
    entry of an agent has a "/" in its name.
    """
    names = {key: entry for entry, key in keys(entries).items()}
    return {names.get(key, key): x for key, x in arrays.items() if key != ORDER}
