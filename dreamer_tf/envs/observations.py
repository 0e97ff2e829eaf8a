"""From what a gymnasium environment observes to vectors and pictures, checked first.

A value must be one of its own space:

    shape     exactly the space's
    type      numbers of another width are taken; floats do not serve for integers, and
              bools not for pictures
    bounds    where they are finite; rounding (a few units in the last place of float32)
              is tolerated

NaN and infinity are no mistake of type or bounds: the simulation diverged (`base.Env`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.foreign import Diverged, shorten
from dreamer_tf.errors import UserError

Convert = Callable[[Any], np.ndarray]

CHANNELS = 4  # of a picture, at most
GRID = 15  # rows and columns of a grid, at most


def is_picture(space: spaces.Box, name: str) -> bool:
    """Whether a Box is a picture; the others are vectors.

    A picture is uint8 `[H, W]` or `[H, W, C]`, or float `[H, W, C]` with the bounds 0
    and 1; C is at most `CHANNELS`.

    Raises:
      UserError: it has three axes or more and is no picture.
    """
    axes = len(space.shape)
    if space.dtype == np.uint8 and axes == 2:
        return True
    if axes < 3:
        return False
    alike = f'The observation entry "{name}" has shape {space.shape}'
    if axes > 3:
        raise UserError(
            f"{alike}, but a picture is [height, width, channels]: of a stack of "
            "frames observe the newest only, as agents remember, for example with "
            "gymnasium.wrappers.TransformObservation."
        )
    if space.shape[2] > CHANNELS:
        raise UserError(
            f"{alike}, but a picture is [height, width, channels] with at most "
            f"{CHANNELS} channels: move the channels last, and of a stack of frames "
            "observe the newest only, as agents remember, for example with "
            "gymnasium.wrappers.TransformObservation."
        )
    unit = (space.low == 0).all() and (space.high == 1).all()
    if space.dtype == np.uint8 or (space.dtype.kind == "f" and unit):
        return True
    raise UserError(
        f"{alike} and is {space.dtype} from {_ends(space.low)} to {_ends(space.high)}, "
        "but a picture is uint8, or float from 0 to 1: convert it, or use "
        "gymnasium.wrappers.FlattenObservation if it is none."
    )


def is_grid(space: spaces.Box) -> bool:
    """Whether a Box is a grid of a few cells, such as MiniGrid's, and no vector.

    It is uint8 `[H, W]`, or `[H, W, C]` of any type; H and W are at most `GRID`. With
    obs="proprio" it is taken as a vector of its numbers, otherwise as a picture.
    """
    axes = len(space.shape)
    cells = axes == 3 or (axes == 2 and space.dtype == np.uint8)
    return cells and max(space.shape[:2]) <= GRID


def grid(space: spaces.Box) -> Convert:
    """Numbers of a grid as float32 `[H W C]`."""
    convert = vector(space)
    return lambda value: convert(value).ravel()


def vector(space: spaces.Box) -> Convert:
    """Numbers of a Box as float32 of the same shape."""
    check = _check(space)

    def convert(value: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # infinity is noticed later
            return np.array(check(value), np.float32)

    return convert


def one_hot(space: spaces.Discrete) -> Convert:
    """A number of a Discrete space as float32 `[n]`, 1 at its place."""
    count, start = int(space.n), int(space.start)

    def convert(value: Any) -> np.ndarray:
        number = np.asarray(value)
        if number.shape != () or number.dtype.kind not in "biu":
            raise TypeError(f"it is {shorten(value)}, not one whole number")
        place = int(number) - start
        if not 0 <= place < count:
            raise ValueError(
                f"it is {int(number)}, not one of {start} to {start + count - 1}"
            )
        result = np.zeros(count, np.float32)
        result[place] = 1
        return result

    return convert


def picture(space: spaces.Box, size: int) -> Convert:
    """A picture as uint8 `[size, size, C]`; floats from 0 to 1 become 0 to 255.

    Pictures that are not square are squeezed, as the official code does with Atari's.
    """
    check = _check(space)

    def convert(value: Any) -> np.ndarray:
        checked = check(value)
        if space.dtype.kind == "f":
            if not np.isfinite(checked).all():
                raise Diverged("a picture is not finite")
            checked = np.round(255 * np.clip(checked, 0, 1))
        return resize(checked.astype(np.uint8), size, size)

    return convert


def scene(value: Any, size: int) -> np.ndarray:
    """What `render()` returned as uint8 `[size, size, 3]`.

    It keeps its proportions; the rest is black.

    Raises:
      TypeError: it is no picture.
    """
    value = np.asarray(value)
    if value.ndim != 3 or value.shape[2] not in (3, 4) or 0 in value.shape:
        raise TypeError(f"it has shape {value.shape}, not [H, W, 3]")
    if value.dtype.kind not in "iu" or value.min() < 0 or value.max() > 255:
        raise TypeError(f"it is {value.dtype}, not uint8")
    height, width = value.shape[:2]
    longer = max(height, width)
    rows = max(1, round(size * height / longer))
    columns = max(1, round(size * width / longer))
    top, left = (size - rows) // 2, (size - columns) // 2
    result = np.zeros((size, size, 3), np.uint8)
    result[top : top + rows, left : left + columns] = resize(
        value[..., :3].astype(np.uint8), rows, columns
    )
    return result


def resize(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, C]` to `[rows, columns, C]`, averaging over areas."""
    from PIL import Image

    if image.ndim == 2:
        image = image[..., None]
    if image.shape[:2] == (rows, columns):
        return image.copy()
    how = (columns, rows), Image.Resampling.BOX
    channels = [
        np.asarray(Image.fromarray(channel).resize(*how))
        for channel in np.moveaxis(np.ascontiguousarray(image), 2, 0)
    ]
    return np.stack(channels, -1)


def bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray] | None:
    """The least and the greatest values that count as within; None if all do."""
    if not (space.bounded_below.any() or space.bounded_above.any()):
        return None
    if space.dtype.kind != "f":
        return space.low, space.high
    part = 4 * max(np.finfo(np.float32).eps, np.finfo(space.dtype).eps)  # type: ignore[type-var]
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return (
        low - part * np.maximum(1, np.abs(low)),
        high + part * np.maximum(1, np.abs(high)),
    )


def outside(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The numbers beyond finite bounds; NaN and infinity are not among them."""
    return value[((value < low) | (value > high)) & np.isfinite(value)]


def _check(space: spaces.Box) -> Convert:
    """A function that returns a value as an array of the space, or raises."""
    limits = bounds(space)
    is_float, is_bool = space.dtype.kind == "f", space.dtype.kind == "b"
    may_be_bool = space.dtype != np.uint8 or len(space.shape) == 1  # no picture

    def check(value: Any) -> np.ndarray:
        value = np.asarray(value)
        kind = value.dtype.kind
        if kind not in "biuf":
            raise TypeError(f"it is {shorten(value)}, not numbers")
        if value.shape != space.shape:
            raise ValueError(f"it has shape {value.shape}, its space {space.shape}")
        if (kind == "f" and not is_float) or (kind == "b" and not may_be_bool):
            raise TypeError(f"it is {value.dtype}, its space {space.dtype}")
        if is_bool and kind != "b":
            raise TypeError(f"it is {value.dtype}, its space bool")
        if limits is not None:
            wrong = outside(value, *limits)
            if wrong.size:
                raise ValueError(
                    f"it holds {wrong[0]}, which is not within its bounds "
                    f"{_ends(space.low)} to {_ends(space.high)}"
                )
        return value

    return check


def _ends(numbers: np.ndarray) -> str:
    """Bounds in few words: one number if all are the same."""
    one = np.unique(numbers)
    return str(one[0]) if one.size == 1 else shorten(numbers.tolist(), 60)
