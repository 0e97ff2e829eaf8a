"""How a replay keeps entries in memory and on disk: as they are, or smaller."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer_tf.errors import UserError


class Packing:
    """Keeps every entry as it is."""

    name = "exact"

    def pack(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Entries as they are kept, from those of a record or of many."""
        return {**values}

    def unpack(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `pack`."""
        return {**values}


class CompactLatents(Packing):
    """Keeps DreamerV3's latents in less than half of their memory.

    `stoch`, one-hots `[..., S, C]` in float32, becomes the numbers of their classes,
    `[..., S]`, which loses nothing. `deter` becomes float16, which has 11 bits: between
    -1 and 1, where it lies, that changes it by less than 0.0003.

    Args:
      classes: C.
    """

    name = "compact"

    def __init__(self, classes: int):
        # One more number than classes: that of the state before an episode, all zeros.
        self.classes = classes
        self.dtype = np.uint8 if classes < 2**8 else np.uint32

    def pack(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Entries as they are kept.

        Raises:
          UserError: `stoch` holds something else than one-hots and zeros.
        """
        packed = {**values}
        if "deter" in packed:
            packed["deter"] = np.asarray(packed["deter"]).astype(np.float16)
        if "stoch" in packed:
            stoch = np.asarray(packed["stoch"])
            number = np.where(stoch.any(-1), stoch.argmax(-1), self.classes)
            packed["stoch"] = number.astype(self.dtype)
            # A one-hot with straight-through gradients is one to within a rounding.
            wanted = self.unpack({"stoch": packed["stoch"]})["stoch"]
            alike = wanted.shape == stoch.shape
            if not (alike and (np.abs(wanted - stoch) <= 1e-5).all()):
                raise UserError(
                    f"With replay.latents=compact, 'stoch' must be one-hots of "
                    f"{self.classes} classes; received other numbers, of shape "
                    f"{stoch.shape}."
                )
        return packed

    def unpack(self, values: Mapping[str, Any]) -> dict[str, Any]:
        unpacked = {**values}
        if "deter" in unpacked:
            unpacked["deter"] = unpacked["deter"].astype(np.float32)
        if "stoch" in unpacked:
            classes = np.arange(self.classes, dtype=self.dtype)
            one_hots = unpacked["stoch"][..., None] == classes
            unpacked["stoch"] = one_hots.astype(np.float32)
        return unpacked
