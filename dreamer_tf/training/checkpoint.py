"""Checkpoints: a whole run on disk, complete and verified before it is used.

A checkpoint is a directory `checkpoints/<number>-<frames>`. It is written under a
temporary name, synced to disk and renamed; the file written last, COMPLETE, lists size
and SHA-256 of the others. Next to what the agent saves there are two files per entry of
the run's state: `<entry>.npz` holds the arrays, `<entry>.json` everything else. The
directory `replay/` holds the replay's rows in pieces; a piece that has not changed is a
hard link to that of the checkpoint before. Nothing is pickled: loading runs no code.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_tf import files
from dreamer_tf.errors import UserError
from dreamer_tf.replay import StoredPiece

PIECES = "replay"  # directory in a checkpoint
AT_ONCE = 3  # checkpoints on the disk: two that are kept, and one being written
# Size of one checkpoint: its arrays times OVERHEAD (files' headers) plus EXTRA_BYTES.
OVERHEAD, EXTRA_BYTES = 1.1, 2_000_000
MARKER = "COMPLETE"
_ARRAY = "__array__"  # in the JSON, {_ARRAY: name} stands for an array of the .npz


class Checkpoints:
    """The checkpoints of one run; the newest are kept and older ones removed.

    Args:
      directory: that holds them; created when the first one is saved.
      keep: how many to keep.
      say: receives one sentence for every checkpoint that had to be skipped.
    """

    def __init__(
        self, directory: Path, keep: int = 2, say: Callable[[str], None] = print
    ):
        self.directory, self.keep, self.say = Path(directory), keep, say
        self._skipped: set[Path] = set()
        # The checkpoint last saved or loaded, and its files' checksums: unchanged
        # pieces are linked to its files.
        self._base: tuple[Path, dict[str, Any]] | None = None

    def save(
        self,
        frames: int,
        state: Mapping[str, Any],
        write: Callable[[Path], None] = lambda directory: None,
        pieces: Iterable[StoredPiece] = (),
    ) -> Path:
        """Writes a checkpoint, then removes old and damaged ones.

        Args:
          frames: of training so far, for the name.
          state: entry -> nested dicts and lists of arrays and plain values.
          write: writes further files into the directory, such as `agent.save`.
          pieces: of the replay; `changed` means since the last checkpoint that was
            saved or loaded here.

        Raises:
          UserError: the disk refuses; the checkpoints before this one are intact.
        """
        older = _finished(self.directory)
        path = self.directory / f"{_number(older[-1]) + 1 if older else 1:06d}-{frames}"
        temporary = _unfinished(path)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in self.directory.glob("*-unfinished"):  # by a killed process
                shutil.rmtree(left)
            temporary.mkdir()
            write(temporary)
            for name, tree in state.items():
                _write_entry(temporary, name, tree)
            manifest = {}
            for file in sorted(temporary.iterdir()):
                files.sync(file)
                manifest[file.name] = files.digest(file)
            (temporary / PIECES).mkdir()
            for piece in pieces:
                name = f"{PIECES}/{piece.name}.npz"
                manifest[name] = self._write_piece(temporary, name, piece)
            files.sync(temporary / PIECES)
            (temporary / MARKER).write_text(json.dumps(manifest, indent=1))
            files.sync(temporary / MARKER)
            files.sync(temporary)
            temporary.rename(path)
            files.sync(self.directory)
            self._base = path, manifest
            intact = [old for old in [*older, path] if old not in self._skipped]
            for old in {*intact[: -self.keep], *self._skipped}:
                # Renamed first: a half-removed directory must not look complete.
                shutil.rmtree(old.rename(_unfinished(old)))
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"The checkpoint {path} cannot be written ({error.strerror}); what was "
                "saved before is intact."
            ) from error
        self._skipped.clear()
        return path

    def _write_piece(self, directory: Path, name: str, piece: StoredPiece) -> Any:
        """Links or writes a file, returns its checksum."""
        if not piece.changed and self._base and name in self._base[1]:
            try:
                os.link(self._base[0] / name, directory / name)
                return self._base[1][name]
            except OSError:
                pass  # no links on this disk, or no such file: written again
        np.savez(directory / name, **piece.arrays)  # type: ignore[arg-type]
        files.sync(directory / name)
        return files.digest(directory / name)

    def latest(self) -> tuple[Path, set[str]] | None:
        """Finds the newest intact checkpoint.

        If there is none, takes the newest of which only pieces of the replay are
        damaged.

        Returns:
          Its path, and the names of the damaged pieces; None if there are no
          checkpoints at all.

        Raises:
          UserError: every checkpoint is damaged beyond the replay.
        """
        found = _finished(self.directory)
        partly: tuple[Path, set[str]] | None = None
        for path in reversed(found):
            try:
                damaged = verify(path)
            except UserError as error:
                self._skipped.add(path)
                self.say(f"Skipped a checkpoint: {error}")
                continue
            if not damaged:
                partly = path, damaged
                break
            several = "s" if len(damaged) > 1 else ""
            self.say(
                f"{len(damaged)} piece{several} of the replay in {path / PIECES} "
                f"cannot be read, such as {min(damaged)}.npz."
            )
            partly = partly or (path, damaged)
        if partly is None:
            if found:
                raise UserError(
                    f"No checkpoint in {self.directory} is intact: use another "
                    "--logdir, or move this one away to start again."
                )
            return None
        # The run continues from this one, so newer ones are removed at the next save.
        self._skipped |= set(found[found.index(partly[0]) + 1 :])
        if not partly[1]:
            self._base = partly[0], json.loads((partly[0] / MARKER).read_bytes())
        return partly


def latest(directory: Path) -> Path:
    """The newest checkpoint in a run's `checkpoints` that is intact.

    Damage of the replay does not count.

    Raises:
      UserError: there is none.
    """
    missing = "yet."
    for path in reversed(_finished(directory)):
        try:
            verify(path, replay=False)
            return path
        except UserError as error:
            missing = f"that is intact: {error}"
    raise UserError(f"There is no checkpoint in {directory} {missing}")


def saved_frames(directory: Path) -> int:
    """Frames of the newest whole checkpoint in a run's `checkpoints`; 0 without one.

    Compares sizes but no checksums, to be fast for many runs.
    """
    for path in reversed(_finished(directory)):
        try:
            files = json.loads((path / MARKER).read_bytes()).items()
            if all((path / name).stat().st_size == f["bytes"] for name, f in files):
                return int(path.name.split("-")[1])
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            pass  # incomplete, or just being removed
    return 0


def verify(path: Path, replay: bool = True) -> set[str]:
    """Compares the files of a checkpoint with the checksums in COMPLETE.

    Args:
      path: of a checkpoint.
      replay: whether to verify the replay's pieces too.

    Returns:
      Names of damaged pieces of the replay.

    Raises:
      UserError: anything else is missing or damaged; names the file.
    """
    damaged = set()
    try:
        for name, expected in json.loads((path / MARKER).read_bytes()).items():
            if name.startswith(f"{PIECES}/"):
                if replay and not _intact(path / name, expected):
                    damaged.add(Path(name).stem)
            elif files.digest(path / name) != expected:
                raise UserError(f"{path / name} is damaged: its checksum differs.")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is incomplete or damaged ({error}).") from error
    return damaged


def _intact(file: Path, expected: Mapping[str, Any]) -> bool:
    try:
        return files.digest(file) == expected
    except OSError:
        return False


def read(path: Path, name: str) -> Any:
    """One entry of a checkpoint's state, as it was saved; tuples became lists."""
    plain = json.loads((path / f"{name}.json").read_bytes())
    return _join(plain, read_arrays(path / f"{name}.npz"))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, without unpickling anything."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _finished(directory: Path) -> list[Path]:
    """Checkpoints with their final name, oldest first."""
    paths = directory.glob("*")
    return sorted((p for p in paths if re.fullmatch(r"\d+-\d+", p.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.name.split("-")[0])


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}-unfinished")


def read_piece(path: Path, name: str) -> dict[str, np.ndarray]:
    """A piece of the replay in a checkpoint."""
    return read_arrays(path / PIECES / f"{name}.npz")


def disk_bytes(agent: int, replay: float) -> float:
    """Bytes that the checkpoints of a run take at most.

    Args:
      agent, replay: bytes of their arrays.
    """
    return AT_ONCE * OVERHEAD * (agent + replay + EXTRA_BYTES)


# --- One entry of the state ----------------------------------------------------


def _write_entry(directory: Path, name: str, tree: Any) -> None:
    arrays: dict[str, np.ndarray] = {}
    plain = _split(tree, name, arrays)
    (directory / f"{name}.json").write_text(json.dumps(plain))
    np.savez(directory / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def _split(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """`tree` for JSON: moves its arrays to `arrays` and leaves their names."""
    if isinstance(tree, Mapping):
        if not all(isinstance(key, str) for key in tree):
            raise TypeError(f"Checkpoint entry '{path}' has keys that are no strings.")
        return {key: _split(tree[key], f"{path}/{key}", arrays) for key in tree}
    if isinstance(tree, list | tuple):
        return [_split(item, f"{path}/{i}", arrays) for i, item in enumerate(tree)]
    if isinstance(tree, np.ndarray | np.generic):
        if tree.dtype.kind not in "biufcSU":  # others would need pickle
            raise TypeError(f"Checkpoint entry '{path}' has the type {tree.dtype}.")
        key = f"a{len(arrays)}"
        arrays[key] = np.asarray(tree)
        return {_ARRAY: key}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"Checkpoint entry '{path}' is a {type(tree).__name__}.")


def _join(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `_split`."""
    if isinstance(plain, list):
        return [_join(item, arrays) for item in plain]
    if isinstance(plain, dict):
        if set(plain) == {_ARRAY}:
            return arrays[plain[_ARRAY]]
        return {key: _join(value, arrays) for key, value in plain.items()}
    return plain
