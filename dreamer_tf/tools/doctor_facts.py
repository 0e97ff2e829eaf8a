"""What is installed here, and on what machine: what `doctor_checks.py` judges.

Only the standard library is imported, so that this works where nothing is installed.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = {"tensorflow": "requirements.txt", "jax": "requirements-jax.txt"}


@dataclasses.dataclass(frozen=True)
class Pins:
    """What is to be installed: a requirements file's lines. Names are canonical.

    Attributes:
      path: of the file; None if this is what the installed package asks for.
      spelled: each name as people write it.
      versions: the one version of each, "" if any will do.
      direct: what this project itself imports; the others are what these need.
    """

    path: Path | None
    spelled: Mapping[str, str]
    versions: Mapping[str, str]
    direct: frozenset[str]

    def requirement(self, name: str, extra: str = "") -> str:
        """As pip wants it, such as "tensorflow[and-cuda]==2.21.0"."""
        version = self.versions.get(name, "")
        text = self.spelled.get(name, name) + (f"[{extra}]" if extra else "")
        return f"{text}=={version}" if version else text

    def install(self, names: Sequence[str]) -> str:
        """The command that installs these; the whole file where they are many."""
        if self.path and len(names) > 4:
            return self.install_all()
        return pip("install", *self._options(), *map(self.requirement, names))

    def install_all(self, *options: str) -> str:
        """The command that installs everything."""
        what = ["-r", short(self.path)] if self.path else self.spelled.values()
        return pip("install", *options, *self._options(), *what)

    def _options(self) -> list[str]:
        # A file lists all that is needed; its head says what this avoids.
        return ["--no-deps"] if self.path else []


# --- Packages and backends ---------------------------------------------------------


def canonical(name: str) -> str:
    """The one spelling of a package's name: "tf_keras" is "tf-keras"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Versions of all packages of this Python, without importing any."""
    versions: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        # An interrupted installation leaves directories that say nothing.
        with contextlib.suppress(Exception):
            versions.setdefault(canonical(package.metadata["Name"]), package.version)
    if "tensorflow-cpu" in versions:  # a smaller build of the same module
        versions.setdefault("tensorflow", versions["tensorflow-cpu"])
    return versions


def read_pins(path: Path, kind: str) -> Pins:
    """Reads `name==version` lines; what is imported directly is the first paragraph.

    Returns:
        Where there is no such file, since this was installed by pip: what the package
        asks for, in any version.
    """
    if not path.is_file():
        names = {canonical(name): name for name in _asked_for(kind)}
        return Pins(None, names, dict.fromkeys(names, ""), frozenset(names))
    spelled, versions, direct = {}, {}, set()
    for number, paragraph in enumerate(path.read_text().split("\n\n")):
        for line in paragraph.splitlines():
            match = re.match(r"([\w.-]+)\s*==\s*([^\s;#]+)", line)
            if match and _for_this_python(line):
                name = canonical(match[1])
                spelled[name], versions[name] = match[1], match[2]
                if number == 0:
                    direct.add(name)
    return Pins(path, spelled, versions, frozenset(direct))


def _asked_for(kind: str) -> list[str]:
    """Names of the requirements in this package's metadata, with those of a backend."""
    try:
        lines = importlib.metadata.requires("dreamer_tf") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    extras = (re.search(r"extra == [\"']([\w-]+)[\"']", line) for line in lines)
    return [
        re.match(r"[\w.-]+", line)[0]  # type: ignore[index]
        for line, extra in zip(lines, extras)
        if (extra is None or extra[1] == kind) and _for_this_python(line)
    ]


def _for_this_python(line: str) -> bool:
    """Whether a line's marker, such as `; python_version < "3.13"`, holds here."""
    match = re.search(r"python_version\s*(<|>=)\s*[\"'](\d+)\.(\d+)", line)
    if not match:
        return True
    below = sys.version_info[:2] < (int(match[2]), int(match[3]))
    return below == (match[1] == "<")


def keras_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """What Keras's own file of defaults says; empty if it says nothing."""
    home = environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        settings = json.loads(Path(home, "keras.json").read_text())
    except (OSError, ValueError):  # Keras ignores it, too
        return {}
    return settings if isinstance(settings, dict) else {}


def choose_backend(
    environ: Mapping[str, str], settings: Mapping[str, Any]
) -> tuple[str, str]:
    """The backend that Keras will take, and who says so."""
    if environ.get("KERAS_BACKEND"):
        return environ["KERAS_BACKEND"], "KERAS_BACKEND"
    name = str(settings.get("backend") or "tensorflow")
    return name, "default" if name == "tensorflow" else "keras.json"


def made_for(backend: str, versions: Mapping[str, str]) -> str:
    """The backend that is installed here, if possible the one that was chosen."""
    here = [name for name in BACKENDS if name in versions]
    if backend in BACKENDS and (backend in here or not here):
        return backend
    return here[0] if here else "tensorflow"


def pip(command: str, *arguments: str) -> str:
    """A pip command for this very Python."""
    return shlex.join([short(sys.executable), "-m", "pip", command, *arguments])


def short(path: Path | str) -> str:
    """The path from here, if it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


# --- The machine -------------------------------------------------------------------


def nvidia() -> tuple[list[str], str]:
    """Names of the NVIDIA GPUs of this machine, and how nvidia-smi fails, if so."""
    failure = ""
    if program := shutil.which("nvidia-smi"):
        command = [program, "--query-gpu=name", "--format=csv,noheader"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
            lines = (run.stdout + run.stderr).strip().splitlines() or ["no message"]
            if run.returncode == 0:
                return lines, ""
            failure = lines[0]
        except subprocess.TimeoutExpired:
            failure = "no answer within 60 seconds"
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"Model:\s*(.+)", path.read_text())
        names.append(match[1].strip() if match else "an NVIDIA GPU")
    return names, failure


def cores() -> tuple[int, int]:
    """The CPU cores that this process may use, and all of them."""
    total = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), total
    return total, total


def main_memory() -> tuple[int, int] | None:
    """Bytes in all and available; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def limits(root: Path = Path("/sys/fs/cgroup")) -> tuple[float | None, int | None]:
    """The cores and bytes of memory that a container grants; None for no limit."""

    def words(*names: str) -> list[str]:
        found = (root / name for name in names)
        return next((f.read_text().split() for f in found if f.is_file()), [])

    quota = words("cpu.max") or [
        *words("cpu/cpu.cfs_quota_us"),
        *words("cpu/cpu.cfs_period_us"),
    ]
    share = None
    if len(quota) == 2 and quota[0] not in ("max", "-1"):
        share = int(quota[0]) / int(quota[1])
    size = words("memory.max", "memory/memory.limit_in_bytes")
    return share, int(size[0]) if size and size[0] != "max" else None
