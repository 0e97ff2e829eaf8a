"""Reads and writes files: whole or not at all, synced to disk, checked.

Temporary files are named `.NAME.PID` after the process that writes them, beside the
file that they will replace. What a killed process left is removed later; that of a
living one never is.
"""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dreamer_tf.errors import UserError, reason, why

DEEPEST = 100  # lists and objects inside of each other in a JSON file
LONGEST = 100  # digits of an integer there; states of random numbers have up to 39


# --- Reading ------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no JSON, or nobody would write it by intention.
    """
    return parse_json(Path(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """As `json.loads`, but everything that is wrong is a ValueError.

    That includes nesting deeper than `DEEPEST` and integers longer than `LONGEST`,
    which would be other errors later.
    """
    try:
        value = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} times") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [item for each in level for item in _inside(each)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST} times")


def _integer(text: str) -> int:
    if len(text) > LONGEST:
        raise ValueError(f"it has an integer of {len(text)} digits")
    return int(text)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_npz(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; nothing is unpickled.

    Raises:
      OSError: it cannot be read.
      ValueError: it is nothing that `numpy.savez` writes of plain arrays.
    """
    import numpy as np  # not above: `doctor` runs without it

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError:
        raise
    except Exception as error:  # of zipfile, zlib and NumPy, about any kind of bytes
        raise ValueError(reason(error)) from error


def digest(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": checksum}


# --- Writing ------------------------------------------------------------------


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces a file as a whole: a reader sees the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise
    sync(path.parent)


def append_lines(path: Path, text: str, header: str = "") -> None:
    """Adds whole lines to a text file, which may be new.

    A last line without an end, as a full disk leaves one, is ended first: else it
    and the first new line would become one.

    Args:
      path: of the file.
      text: lines with their ends.
      header: what a new file begins with.
    """
    with open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            header = "" if file.read() == b"\n" else "\n"
        file.write((header + text).encode())


def sync(path: Path) -> None:
    """Makes a file's bytes, or the names in a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path, name: str = "") -> Iterator[Path]:
    """Gives a path for a new file or directory, which replaces `path` when it is whole.

    After an error, or if the process is killed, the old one is still there.
    Directories above it are made, and what killed processes left is removed.

    Args:
      path: of the old one, if there is any.
      name: what the error calls it, such as a flag; the path by default.

    Yields:
      A path beside it with the same suffix, at which nothing is.

    Raises:
      UserError: it cannot be written.
    """
    new, old = (
        path.with_name(f".{path.stem}.{os.getpid()}{mark}{path.suffix}")
        for mark in ("", ".old")
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        yield new
        if not path.is_dir():
            new.replace(path)
        elif not _exchange(new, path):
            path.rename(old)
            new.replace(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise UserError(f"{name or path} cannot be written ({why(error)}).") from error
    finally:
        _remove(new)
    _remove(old)


def _clear(path: Path) -> None:
    """Removes what killed processes left of `replacing(path)`.

    Where two directories cannot be exchanged, they may have left the only whole one.
    """
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    for name in sorted(os.listdir(path.parent)):
        match = re.fullmatch(rf"\.{stem}\.(\d+)(\.old)?{suffix}", name)
        if not match or _lives(int(match[1])):
            continue
        if match[2] and not path.exists():
            path.with_name(name).rename(path)
        else:
            _remove(path.with_name(name))


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step; False where the system cannot do that."""
    function = _renameat2()
    if function is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return function(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@functools.cache
def _renameat2() -> Any:
    """The function of Linux's C library, or None; Python does not have it."""
    return getattr(ctypes.CDLL(None), "renameat2", None)


# --- Temporary files ------------------------------------------------------------


def is_temporary(name: str, of: Iterable[str]) -> bool:
    """Whether `write_atomic` made a file of this name for one of the names `of`."""
    return any(re.fullmatch(rf"\.{re.escape(n)}\.\d+", name) for n in of)


def clear_temporary(directory: Path, of: Iterable[str]) -> None:
    """Removes temporary files of dead processes for files of the names `of`."""
    for name in os.listdir(directory):
        if is_temporary(name, of) and not _lives(int(name.rpartition(".")[2])):
            path = directory / name
            if path.is_file() and not path.is_symlink():
                _remove(path)


def _lives(process: int) -> bool:
    """Whether another process of this number runs on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OverflowError:  # no number of a process
        return False
    except PermissionError:  # another user's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # it is not there, or cannot be
            path.unlink()
