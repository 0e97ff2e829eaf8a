"""Writes files whole or not at all, syncs them to disk, and computes checksums."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamer_tf.errors import UserError


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces a file as a whole: a reader sees the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Makes a file's bytes, or the names in a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": checksum}


@contextlib.contextmanager
def replacing(path: Path, name: str = "") -> Iterator[Path]:
    """Gives a path for a new file or directory, which replaces `path` when it is whole.

    After an error the old one is still there. Directories above it are made.

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
        yield new
        if path.is_dir():  # a full directory cannot be replaced in one step
            path.rename(old)
        new.replace(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        why = error.strerror or str(error).strip().partition("\n")[0]
        raise UserError(f"{name or path} cannot be written ({why}).") from error
    finally:
        _remove(new)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # it is not there, or cannot be
            path.unlink()
