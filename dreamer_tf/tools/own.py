"""An environment's own observations and actions as TensorFlow, for exported policies.

The same as the adapters in `envs` do with NumPy and Pillow, number by number.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from dreamer_tf.envs.base import Own, OwnAction, OwnEntry

BITS = 22  # behind the point of Pillow's weights for uint8


def spec(entry: OwnEntry, name: str) -> tf.TensorSpec:
    """Of the value that the entry is made from."""
    return tf.TensorSpec(entry.shape, tf.as_dtype(entry.dtype), name)


def observed(entry: OwnEntry, value: Any, shape: tuple[int, ...]) -> Any:
    """An agent's observation entry of this shape, from the environment's own value."""
    if entry.kind == "one_hot":
        return tf.one_hot(value - entry.start, shape[0], dtype=tf.float32)
    if entry.kind == "vector":
        return tf.reshape(tf.cast(value, tf.float32), shape)
    if value.dtype.is_floating:
        value = tf.round(255 * tf.clip_by_value(value, 0, 1))
    value = tf.cast(value, tf.uint8)
    if entry.kind == "scene":
        return tf.ensure_shape(scene(value, shape[0]), shape)
    value = value if len(value.shape) == 3 else value[..., None]
    return tf.reshape(resize(value, *shape[:2]), shape)


def carried_out(own: OwnAction, action: Any) -> Any:
    """The environment's own action, for an agent's action `[A]`."""
    dtype = tf.as_dtype(own.dtype)
    if own.scale is None:
        return tf.cast(own.start + tf.argmax(action), dtype)
    low, high = own.scale.bounds
    action = tf.cast(tf.clip_by_value(tf.cast(action, tf.float32), -1, 1), tf.float64)
    moved = tf.cast(own.scale.low + (action + 1) * own.scale.half, dtype)
    return tf.reshape(tf.clip_by_value(moved, low, high), own.shape)


# --- Pictures ---------------------------------------------------------------------


def scene(picture: Any, size: int) -> Any:
    """As `envs.observations.scene`: uint8 `[H, W, 3]` to `[size, size, 3]`."""
    sides = tf.cast(tf.shape(picture)[:2], tf.float64)
    new = tf.maximum(tf.round(size * sides / tf.reduce_max(sides)), 1.0)
    rows, columns = tf.unstack(tf.cast(new, tf.int32))
    top, left = (size - rows) // 2, (size - columns) // 2
    borders = [[top, size - rows - top], [left, size - columns - left], [0, 0]]
    return tf.pad(resize(picture, rows, columns), borders)


def resize(picture: Any, rows: Any, columns: Any) -> Any:
    """As `envs.observations.resize`: uint8 `[H, W, C]` to `[rows, columns, C]`.

    It rounds after each axis. Pillow 13.0 begins with the rows if there is more to
    shrink; older ones begin with the columns, and differ by 1 of 255 in some pixels.
    """
    height, width = tf.unstack(tf.shape(picture)[:2])
    return tf.cond(
        height - rows > 2 * (width - columns),
        lambda: _average(_average(picture, rows, 0), columns, 1),
        lambda: _average(_average(picture, columns, 1), rows, 0),
    )


def _average(picture: Any, size: Any, axis: int) -> Any:
    """Averages along an axis as Pillow does: with weights that are whole numbers.

    float64 holds them and their sums exactly.
    """
    given = tf.cast(tf.shape(picture)[axis], tf.float64)
    size = tf.cast(size, tf.float64)
    scale = given / size
    wide = tf.maximum(scale, 1.0)  # so many pixels make one
    centre = (tf.range(size)[:, None] + 0.5) * scale
    place = tf.range(given)[None]
    first = tf.floor(centre - 0.5 * wide + 0.5)
    beyond = tf.floor(centre + 0.5 * wide + 0.5)
    far = (place - centre + 0.5) * (1 / wide)
    inside = (place >= first) & (place < beyond) & (far > -0.5) & (far <= 0.5)
    weights = tf.cast(inside, tf.float64)
    weights /= tf.reduce_sum(weights, 1, keepdims=True)
    weights = tf.floor(weights * 2**BITS + 0.5)
    sums = tf.tensordot(weights, tf.cast(picture, tf.float64), [[1], [axis]])
    result = tf.floor(sums / 2**BITS + 0.5)
    result = tf.cast(tf.clip_by_value(result, 0, 255), tf.uint8)
    return result if axis == 0 else tf.transpose(result, [1, 0, 2])


# --- Words ------------------------------------------------------------------------

WORDS = {
    "vector": "its numbers as float32",
    "one_hot": "one-hot",
    "picture": "a picture of {size} by {size} pixels, squeezed if it is not square",
    "scene": "a picture of {size} by {size} pixels in its proportions, on black",
}


def described(own: Own, names: dict[str, str], shapes: dict[str, Any]) -> Any:
    """What export.json says of the environment's own observations and actions."""
    observations = {
        names[entry.name]: {
            "from": where(entry, entry.source),
            "shape": list(entry.shape),
            "dtype": entry.dtype,
            "becomes": WORDS[entry.kind].format(size=(*shapes[entry.name], 0)[0]),
        }
        for entry in own.entries
    }
    return {"observations": observations, "action": _action(own.action)}


def where(entry: OwnEntry, source: str) -> str:
    """The value as Python, such as observation['position']."""
    return source + "".join(f"[{key!r}]" for key in entry.keys)


def _action(own: OwnAction) -> dict[str, Any]:
    action: dict[str, Any] = {"shape": list(own.shape), "dtype": own.dtype}
    if own.scale is None:
        return action | {"is": f"a whole number from {own.start}"}
    low, high = (_finite(bound, own.shape) for bound in own.scale.bounds)
    return action | {"low": low, "high": high}


def _finite(bound: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Bounds as lists; None where there is none."""
    values = np.reshape(bound, shape).astype(object)
    values[~np.isfinite(np.reshape(bound, shape))] = None
    return values.tolist()
