"""The directory of a run: its lock, and config.json with the settings."""

import contextlib
import datetime
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import CHANGEABLE, RunConfig
from dreamer_tf.errors import UserError, reason, why
from dreamer_tf.files import clear_temporary, is_temporary, read_json, write_atomic
from dreamer_tf.programs import THREADS

C = TypeVar("C")  # a frozen dataclass of settings

CONFIG, CHECKPOINTS, LOCK = "config.json", "checkpoints", "lock"
ABOUT = "agent.json"  # of a saved agent; here only if there is nothing but its weights
EVALUATIONS = "evaluations.jsonl"  # how `run.py evaluate` was called, and the scores
# Files that are replaced as a whole: temporary ones of them may be left.
REPLACED = (CONFIG, "metrics.jsonl", "scores.csv", "stats.jsonl", EVALUATIONS)
# What `flock` says of a disk that has no locks, as some shared ones.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
# What runs did from before a setting existed, where that is not its default now. A new
# setting needs an entry unless its default changes nothing.
BEFORE: dict[str, Any] = {"include_end": False}
ALWAYS = ("version", "benchmark", "protocol", "task", "seed")  # that every run has
PACKAGES: tuple[str, ...] = (
    "tensorflow",
    "jax",
    "keras",
    "tensorflow-probability",
    "tfp-nightly",
)
PACKAGES += ("numpy", "gymnasium", "dm-control", "mujoco", "crafter", "numba")


@dataclass(frozen=True)
class Place:
    """A directory that this process has locked, wherever it is moved to.

    Attributes:
      path: where it was when it was locked.
      folder, lock: descriptors of the directory and of the lock's file.
    """

    path: Path
    folder: int
    lock: int

    def lost(self) -> bool:
        """Whether `path` is another directory now, or none, or has another lock.

        A lock that was merely removed does not count. An error of the disk does not
        either: writing will tell.
        """
        try:
            if not os.path.samestat(os.stat(self.path), os.fstat(self.folder)):
                return True
            lock = os.stat(self.path / LOCK)
        except FileNotFoundError:
            return not self.path.exists()
        except NotADirectoryError:
            return True
        except OSError:
            return False
        return not os.path.samestat(lock, os.fstat(self.lock))

    def now(self) -> Path | None:
        """Where the directory is now; None if it is gone or the system cannot tell."""
        try:
            path = Path(os.readlink(f"/proc/self/fd/{self.folder}"))
            same = os.path.samestat(os.stat(path), os.fstat(self.folder))
            lock = os.path.samestat(os.stat(path / LOCK), os.fstat(self.lock))
        except OSError:
            return None
        return path if same and lock else None


@contextlib.contextmanager
def locked(path: Path, say: Callable[[str], None] = print) -> Iterator[Place]:
    """Creates the directory and locks it; the lock ends with the process.

    Where the disk has no locks, says so and goes on. Removes temporary files that
    killed processes left in it.

    Raises:
      UserError: it cannot be written, or another process has locked it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = open(path / LOCK, "a+", errors="replace")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"--logdir={path} cannot be written: {why(error)}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"--logdir={path} is in use by process {file.read().strip()}: wait for "
                "it, or use another directory."
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise UserError(
                    f"--logdir={path} cannot be locked ({why(error)})."
                ) from error
            say(
                f"--logdir={path} is on a disk without locks ({why(error)}): nothing "
                "keeps a second process from writing there, so start only one."
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        clear_temporary(path, REPLACED)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield Place(path, folder, file.fileno())
        finally:
            os.close(folder)


def holder(path: Path) -> str | None:
    """The number of the process that has locked a run's directory, or None.

    Locks it for a moment, so a run that starts just then may be refused.
    """
    try:
        file = open(path / LOCK, errors="replace")  # noqa: SIM115
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip()
        except OSError:
            pass  # no locks there: nobody can tell
    return None


def check(
    run: RunConfig, agent: Any, say: Callable[[str], None] = print
) -> tuple[RunConfig, Any]:
    """Checks that the directory is empty or holds a run of the same settings.

    Changes of what may change (`CHANGEABLE`) are reported to `say`. A run from before a
    setting existed goes on as it was, with the value that means what was done then.

    Returns:
      The settings to continue with.

    Raises:
      UserError: the directory holds another run, or files of something else.
    """
    path = Path(run.logdir)
    if is_weights_only(path):
        raise UserError(
            f"--logdir={path} holds the weights of a trained agent only, without what "
            "training goes on with: use another --logdir for a new run."
        )
    if (path / CONFIG).exists():
        stored = _read(path)
        run, lacked = _as_before("run", stored, run, say)
        agent, lacked_too = _as_before("agent", stored, agent, say)
        _compare(path, stored, _settings(run, agent), lacked | lacked_too, say)
        return run, agent
    # Temporary files are of a start that was killed, or of one elsewhere.
    names = sorted(file.name for file in path.iterdir())
    others = [n for n in names if n != LOCK and not is_temporary(n, REPLACED)]
    if others:
        raise UserError(
            f"--logdir={path} is not the directory of a run, as it holds {others[0]} "
            f"but no {CONFIG}: use a new or an empty directory."
        )
    return run, agent


def is_weights_only(path: Path) -> bool:
    """Whether a directory holds a trained agent without checkpoints, see `load`."""
    return (path / ABOUT).exists() and not (path / CHECKPOINTS).is_dir()


def _as_before(
    section: str,
    stored: Mapping[str, Any],
    config: C,
    say: Callable[[str], None],
) -> tuple[C, set[str]]:
    """`config` with the settings that config.json lacks as they were; their names."""
    known, defaults = dict(flat(stored[section])), type(config)()
    old, now = (dict(flat(configs.to_dict(c))) for c in (defaults, config))
    lacking = {
        name: BEFORE.get(name, value)
        for name, value in old.items()
        if name not in known and not (section == "run" and name in CHANGEABLE)
    }
    for name, value in lacking.items():
        if value != now[name]:
            say(
                f"Continuing with --{name}={shown(value)}: this run is from before "
                "that setting existed, and it means what was done then."
            )
    return configs.updated(config, lacking), set(lacking)


def write(
    run: RunConfig,
    agent: Any,
    command: list[str],
    say: Callable[[str], None] = print,
    place: str = "",
) -> None:
    """Writes config.json: the settings, and a record of each start.

    Args:
      run, agent: the settings.
      command: of this start.
      say: receives a sentence for each change since the last start.
      place: `agent.place`: precision and devices that "auto" chose on this machine.
    """
    path = Path(run.logdir)
    stored = _read(path) if (path / CONFIG).exists() else {}
    starts = stored.get("starts", [])
    start = {"command": command, "devices": place, **_surroundings()}
    before = starts[-1] if starts else {}
    for key in ("commit", "python", "backend", "packages", "devices"):
        if before.get(key, start[key]) != start[key]:
            say(f"Changed since the last start: {key}.")
    for key in ("processor", "threads"):  # which older runs did not note
        if before.get(key, start[key]) != start[key]:
            say(
                f"Changed since the last start: {key}, from {before[key]} to "
                f"{start[key]}. The last digits of numbers may differ from those of an "
                "uninterrupted run."
            )
    settings = _settings(run, agent)
    if starts:
        defaults = _settings(type(run)(), type(agent)())
        settings = {k: _only(settings[k], stored[k], defaults[k]) for k in settings}
    content = {**settings, "starts": [*starts, start]}
    write_atomic(path / CONFIG, json.dumps(content, indent=1).encode())


def _settings(run: RunConfig, agent: Any) -> dict[str, Any]:
    return {"run": configs.to_dict(run), "agent": configs.to_dict(agent)}


def read(path: Path) -> RunConfig:
    """The settings of the run in a directory.

    Raises:
      UserError: there is no run, or its file is damaged or of another version.
    """
    stored = _read(path)["run"]
    try:
        return configs.from_dict(RunConfig(), stored)
    except UserError as error:
        raise UserError(
            f"{path / CONFIG} is not of this version of dreamer_tf: {error}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = read_json(path / CONFIG)
        for section, kind in (("run", dict), ("agent", dict), ("starts", list)):
            if not isinstance(stored[section], kind):
                raise TypeError(f"its '{section}' is no {kind.__name__}")
        if lacking := [name for name in ALWAYS if name not in stored["run"]]:
            raise TypeError(f"its 'run' lacks '{lacking[0]}'")
        if not all(isinstance(start, dict) for start in stored["starts"]):
            raise TypeError("its 'starts' are no dicts")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"--logdir={path} holds no run: no {CONFIG} there.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path / CONFIG} is damaged ({reason(error)}): restore it from a copy, or "
            "use another --logdir."
        ) from error
    return stored


def _only(
    tree: Mapping[str, Any], stored: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that config.json has had so far.

    One that it lacks stays out, so that the next start knows that it did not exist.
    """
    return {
        name: _only(value, stored.get(name, {}), defaults.get(name, {}))
        if isinstance(value, Mapping)
        else value
        for name, value in tree.items()
        if name in stored or name in CHANGEABLE or name not in defaults
    }


def _compare(
    path: Path,
    stored: Mapping[str, Any],
    now: Mapping[str, Any],
    lacked: set[str],
    say: Callable[[str], None],
) -> None:
    """Refuses what differs and may not, other than the settings that were `lacked`."""
    for section in ("run", "agent"):
        old, new = dict(flat(stored[section])), dict(flat(now[section]))
        for name in [*new, *(name for name in old if name not in new)]:
            if name in old and name in new and old[name] == new[name]:
                continue
            if name in lacked and name not in old:
                continue
            was = shown(old[name]) if name in old else "unknown"
            is_now = shown(new[name]) if name in new else "unknown"
            if section == "run" and name in CHANGEABLE:
                say(f"Continuing with --{name}={is_now}, before it was {was}.")
            else:
                raise UserError(
                    f"--logdir={path} holds a run of another config: --{name} was "
                    f"{was} there and is {is_now} now; use another directory or the "
                    "same setting."
                )


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting in a section of config.json."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _surroundings() -> dict[str, Any]:
    """Time, source, machine and packages of this process."""
    packages = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "processor": _processor(),
        "threads": _threads(),
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "packages": packages,
    }


def _processor() -> str:
    """The name of this machine's processor."""
    try:
        with open("/proc/cpuinfo", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _threads() -> str:
    """What decides how many threads compute: their sums differ in the last digits."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        processors = os.cpu_count() or 1
    limits = [f"{name}={os.environ[name]}" for name in THREADS if os.environ.get(name)]
    return ", ".join([f"{processors} CPUs", *limits])


def commit() -> str | None:
    """The commit of the running source, with "-dirty" if changed; None without git.

    Where the source was copied without its history, DREAMER_TF_COMMIT may say it; it
    counts before git, which could describe another project around the copy.
    """
    if said := os.environ.get("DREAMER_TF_COMMIT", "").strip():
        return said
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        run = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None
