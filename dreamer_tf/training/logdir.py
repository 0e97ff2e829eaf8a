"""The directory of a run: its lock, and config.json with the settings."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import CHANGEABLE, RunConfig
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import write_atomic

CONFIG, CHECKPOINTS, LOCK = "config.json", "checkpoints", "lock"
EVALUATIONS = "evaluations.jsonl"  # how `run.py evaluate` was called, and the scores
PACKAGES: tuple[str, ...] = (
    "tensorflow",
    "jax",
    "keras",
    "tensorflow-probability",
    "tfp-nightly",
)
PACKAGES += ("numpy", "gymnasium", "dm-control", "mujoco")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Creates the directory and locks it; the lock ends with the process.

    Raises:
      UserError: it cannot be written, or another process has locked it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = open(path / LOCK, "a+")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"--logdir={path} cannot be written: {error.strerror}."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"--logdir={path} is in use by process {file.read().strip()}: wait for "
                "it, or use another directory."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(path: Path) -> str | None:
    """The number of the process that has locked a run's directory, or None.

    Locks it for a moment, so a run that starts just then may be refused.
    """
    try:
        file = open(path / LOCK)  # noqa: SIM115
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip()
    return None


def check(run: RunConfig, agent: Any, say: Callable[[str], None] = print) -> None:
    """Checks that the directory is empty or holds a run of the same settings.

    Changes of what may change (`CHANGEABLE`) are reported to `say`.

    Raises:
      UserError: the directory holds another run, or files of something else.
    """
    path = Path(run.logdir)
    if (path / CONFIG).exists():
        _compare(path, _read(path), _settings(run, agent), say)
        return
    others = sorted(file.name for file in path.iterdir() if file.name != LOCK)
    if others:
        raise UserError(
            f"--logdir={path} is not the directory of a run, as it holds {others[0]} "
            f"but no {CONFIG}: use a new or an empty directory."
        )


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
    starts = _read(path)["starts"] if (path / CONFIG).exists() else []
    start = {"command": command, "devices": place, **_surroundings()}
    for key in ("commit", "python", "backend", "packages", "devices"):
        if starts and starts[-1].get(key, start[key]) != start[key]:
            say(f"Changed since the last start: {key}.")
    content = {**_settings(run, agent), "starts": [*starts, start]}
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
        stored = json.loads((path / CONFIG).read_text())
        for section, kind in (("run", dict), ("agent", dict), ("starts", list)):
            if not isinstance(stored[section], kind):
                raise TypeError(f"its '{section}' is no {kind.__name__}")
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


def _compare(
    path: Path,
    stored: Mapping[str, Any],
    now: Mapping[str, Any],
    say: Callable[[str], None],
) -> None:
    for section in ("run", "agent"):
        old, new = dict(flat(stored[section])), dict(flat(now[section]))
        for name in [*new, *(name for name in old if name not in new)]:
            if name in old and name in new and old[name] == new[name]:
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
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "packages": packages,
    }


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
