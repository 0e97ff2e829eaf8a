"""Checkpoints: a whole run on disk, complete and verified before it is used.

A checkpoint is a directory `checkpoints/<number>-<frames>`. It is written under a
temporary name, synced to disk and renamed; the file written last, COMPLETE, lists size
and SHA-256 of the others. Next to what the agent saves there are two files per entry of
the run's state: `<entry>.npz` holds the arrays, `<entry>.json` everything else. The
directory `replay/` holds the replay's rows in pieces; a piece that has not changed is a
hard link to that of the checkpoint before. Nothing is pickled: loading runs no code.
"""

import contextlib
import json
import operator
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_tf import files
from dreamer_tf.errors import UserError, reason, why
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
        self._skipped: set[Path] = set()  # damaged, or newer than what goes on
        self._unread: set[Path] = set()  # that the disk did not give: never removed
        self._left: set[Path] = set()  # that cannot be removed: said once
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
        path = self.directory
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in _named(self.directory, "-unfinished"):  # by a killed process
                self._remove(left)
            number = 1 + max(map(_number, _named(self.directory, ".*")), default=0)
            path = self.directory / f"{number:06d}-{frames}"
            temporary = _unfinished(path)
            try:
                manifest = self._write(temporary, state, write, pieces)
                temporary.rename(path)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            files.sync(self.directory)
        except OSError as error:
            raise UserError(
                f"The checkpoint {path} cannot be written ({why(error)}); what was "
                "saved before is intact."
            ) from error
        self._base = path, manifest
        # From here on it is saved: what cannot be removed is said, and no error.
        found = [p for p in _named(self.directory) if p not in self._unread]
        intact = [p for p in found if p not in self._skipped and _foreign(p) is None]
        for old in found:
            if old not in intact[-self.keep :]:
                self._remove(old)
        self._skipped.clear()
        return path

    def _write(
        self,
        temporary: Path,
        state: Mapping[str, Any],
        write: Callable[[Path], None],
        pieces: Iterable[StoredPiece],
    ) -> dict[str, Any]:
        """Writes all files of a checkpoint, returns their checksums."""
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
        return manifest

    def _remove(self, path: Path) -> None:
        """Removes a checkpoint; says once what is not ours or cannot be removed."""
        try:
            cause = _foreign(path)
            if cause is None:
                # Renamed first: a half-removed directory must not look complete.
                name = path.name.removesuffix("-unfinished") + "-unfinished"
                shutil.rmtree(path.rename(path.with_name(name)))
        except FileNotFoundError:
            return
        except OSError as error:
            cause = f"it cannot be removed ({why(error)})"
        if cause is not None and path not in self._left:
            self._left.add(path)
            self.say(f"{path} is left where it is: {cause}. The run goes on.")

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
                damaged = _verify_twice(path)
            except OSError as error:
                self._unread.add(path)
                self.say(
                    f"Skipped a checkpoint: {path} cannot be read now ({why(error)}); "
                    "it stays where it is."
                )
                continue
            except UserError as error:
                if _foreign(path) is None:
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
            self._base = partly[0], files.read_json(partly[0] / MARKER)
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
            _verify_twice(path, replay=False)
            return path
        except UserError as error:
            missing = f"that is intact: {error}"
        except OSError as error:
            missing = f"that can be read now: {path} ({why(error)})."
    raise UserError(f"There is no checkpoint in {directory} {missing}")


def saved_frames(directory: Path) -> int:
    """Frames of the newest whole checkpoint in a run's `checkpoints`; 0 without one.

    Compares sizes but no checksums, to be fast for many runs.
    """
    for path in reversed(_finished(directory)):
        try:
            listed = files.read_json(path / MARKER).items()
            if all((path / name).stat().st_size == f["bytes"] for name, f in listed):
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
        for name, expected in files.read_json(path / MARKER).items():
            if name.startswith(f"{PIECES}/"):
                if replay and not _intact(path / name, expected):
                    damaged.add(Path(name).stem)
            elif files.digest(path / name) != expected:
                raise UserError(f"{path / name} is damaged: its checksum differs.")
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is incomplete or damaged ({error}).") from error
    return damaged


def _verify_twice(path: Path, replay: bool = True) -> set[str]:
    """As `verify`, but a failure counts only if a second reading confirms it."""
    with contextlib.suppress(UserError, OSError):
        if not (damaged := verify(path, replay)):
            return damaged
    return verify(path, replay)


def _intact(file: Path, expected: Mapping[str, Any]) -> bool:
    try:
        return files.digest(file) == expected
    except OSError:
        return False


def _foreign(path: Path) -> str | None:
    """Why a file or directory named like a checkpoint is not to be removed, or None.

    It is ours if it is a directory and holds nothing but what COMPLETE lists, or,
    without that, pairs of .json and .npz and pieces of the replay.
    """
    if path.is_symlink() or not path.is_dir():
        return "it is no directory"
    try:
        entries = sorted(path.iterdir())
        names = {entry.name for entry in entries}
        try:
            names |= (listed := set(files.read_json(path / MARKER)))
        except (FileNotFoundError, ValueError, TypeError):
            listed = set()
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            pair = {f"{stem}.json", f"{stem}.npz"} & names
            if entry.is_dir() and not entry.is_symlink():
                own = entry.name == PIECES
                own = own and all(file.suffix == ".npz" for file in entry.iterdir())
            elif suffix in (".json", ".npz"):
                own = len(pair) == 2 or path.name.endswith("-unfinished")
            else:
                own = entry.name == MARKER
            if not own and entry.name not in listed:
                return f"it holds {entry.name}, which is of no checkpoint"
    except OSError as error:
        return f"it cannot be read ({why(error)})"
    return None


def read(path: Path, name: str) -> Any:
    """One entry of a checkpoint's state, as it was saved; tuples became lists.

    Raises:
      OSError: it cannot be read.
      UserError: its content is not what `Checkpoints.save` writes.
    """
    file = path / f"{name}.json"
    try:
        return _join(files.read_json(file), read_arrays(path / f"{name}.npz"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({reason(error)}).") from error


def frames(path: Path) -> int:
    """Frames of training in a checkpoint.

    Raises:
      UserError: they are not there.
    """
    try:
        return operator.index(read(path, "loop")["progress"]["frames"])
    except (KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{path / 'loop.json'} is damaged ({reason(error)})."
        ) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, without unpickling anything.

    Raises:
      OSError: it cannot be read.
      UserError: its content is nothing that `numpy.savez` writes of plain arrays.
    """
    try:
        return files.read_npz(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({reason(error)}).") from error


def _finished(directory: Path) -> list[Path]:
    """Checkpoints with their final name, oldest first."""
    return [p for p in _named(directory) if p.is_dir() and not p.is_symlink()]


def _named(directory: Path, suffix: str = "") -> list[Path]:
    """What is named like a checkpoint, followed by a pattern; oldest first."""
    paths = directory.glob("*")
    pattern = re.compile(rf"\d+-\d+{suffix}", re.ASCII)
    return sorted((p for p in paths if pattern.fullmatch(p.name)), key=_number)


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


def check_counts(loop: dict[str, Any]) -> None:
    """Raises TypeError if a number of the saved state is none."""
    numbers = dict(loop["progress"])
    numbers |= {k: loop[k] for k in ("updates", "logged", "filmed", "evaluated")}
    numbers |= {f"logs/{name}": was["bytes"] for name, was in loop["logs"].items()}
    for name, value in numbers.items():
        try:
            if operator.index(value) >= 0:
                continue
        except TypeError:
            pass
        raise TypeError(f"'{name}' is {value!r}")


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
