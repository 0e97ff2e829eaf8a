"""Spaces of agents: which ones they take, and how they are stored as JSON."""

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.base import RESERVED
from dreamer_tf.errors import UserError

IN_BATCHES = (*RESERVED, "id")  # besides observations


def check_obs_space(
    space: spaces.Space, taken: tuple[str, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """Shapes of all observation entries; raises UserError if one does not fit.

    Args:
      taken: names that entries must not have, besides those of every batch.
    """
    if not isinstance(space, spaces.Dict):
        raise UserError(
            f"The observation space is {space}; it must be a Dict of named entries."
        )
    shapes = {}
    names = ", ".join((*IN_BATCHES, *taken))
    for key, entry in space.spaces.items():
        if not isinstance(key, str) or not key.isprintable() or not key:
            raise UserError(
                f"An observation entry is called {key!r}; its name must be a text of "
                "characters that can be printed."
            )
        image = entry.dtype == np.uint8 and len(entry.shape or ()) == 3
        vector = entry.dtype == np.float32 and len(entry.shape or ()) <= 2
        if not isinstance(entry, spaces.Box) or not (image or vector):
            raise UserError(
                f"Observation '{key}' is {entry}; it must be a float32 Box with at "
                "most two axes, or a uint8 Box of shape [height, width, channels]."
            )
        if key in (*IN_BATCHES, *taken) or "/" in key:
            raise UserError(
                f"Observation '{key}' has a name that cannot be used; rename it to one "
                f"without '/' that is none of {names}, or leave it out with --obs_keys."
            )
        if 0 in entry.shape:
            raise UserError(
                f"Observation '{key}' is {entry}, which holds no number; leave it out."
            )
        shapes[key] = tuple(entry.shape)
    if not shapes:
        raise UserError("The observation space is empty; it needs at least one entry.")
    return shapes


def check_action_space(space: spaces.Space) -> tuple[int, bool]:
    """Width of the action vector, and whether it is discrete."""
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return int(space.n), True
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0]:
        bounds = np.stack([space.low, space.high], 1)
        if (bounds == (-1, 1)).all():
            return int(space.shape[0]), False
    raise UserError(
        f"The action space is {space}; it must be Discrete from 0, or a Box from -1 to "
        "1 with one axis."
    )


def space_to_json(space: spaces.Space) -> dict:
    """A JSON description of a space of `check_obs_space`/`check_action_space`."""
    if isinstance(space, spaces.Dict):
        return {"dict": {k: space_to_json(v) for k, v in space.spaces.items()}}
    if isinstance(space, spaces.Discrete):
        return {"discrete": int(space.n)}
    return {"box": list(space.shape or ()), "dtype": str(space.dtype)}


def space_from_json(data: dict, bound: float = np.inf) -> spaces.Space:
    """The inverse of `space_to_json`; the bounds of a float32 Box are not in it."""
    if "dict" in data:
        entries = {k: space_from_json(v) for k, v in data["dict"].items()}
        return spaces.Dict(entries, sort_keys=False)  # V1 and V2 join them in order
    if "discrete" in data:
        return spaces.Discrete(data["discrete"])
    if data["dtype"] == "uint8":
        return spaces.Box(0, 255, tuple(data["box"]), np.uint8)
    return spaces.Box(-bound, bound, tuple(data["box"]), np.float32)
