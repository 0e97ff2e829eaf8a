"""Compiled programs are kept on disk, so that a second start compiles nothing.

Both backends can do this themselves and are only told where, which they read when
they are imported or first used: call `keep` before. A run must not fail for it:
TensorFlow gives up where it cannot write or reads a damaged file, so both are looked
for first.
"""

import atexit
import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from dreamer_tf.checkpoint import write_atomic
from dreamer_tf.errors import reason

# The environment variable that names the folder; empty: nothing is kept.
WHERE = "DREAMER_TF_CACHE"
SUMS = "sums.json"
ROOM = 500e6  # bytes that have to be free; a program takes about 14 MB

# What a program is compiled for, beside processor and packages.
SETTINGS: tuple[str, ...] = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
SETTINGS += ("XLA_FLAGS",)


def keep() -> None:
    """Names a folder for the programs of this machine; says so where it cannot."""
    root = os.environ.get(WHERE, "~/.cache/dreamer_tf")
    if not root:
        return
    folder = Path(os.path.expanduser(root)) / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < ROOM:
            raise OSError(f"less than {ROOM / 1e9:g} GB are free")
        check(folder)
    except OSError as error:
        print(
            f"Compiled programs are not kept: {WHERE}={root} cannot be used "
            f"({reason(error)}); name another folder, or none.",
            file=sys.stderr,
        )
        return
    atexit.register(_check_at_end, folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if "tf_xla_persistent_cache_directory" not in flags:
        kept = f"--tf_xla_persistent_cache_directory={folder}"
        os.environ["TF_XLA_FLAGS"] = f"{flags} {kept}".strip()


def check(folder: Path) -> None:
    """Removes TensorFlow's programs that have changed since they were first seen.

    JAX looks after its own.

    Raises:
      OSError: the folder cannot be read or written.
    """
    try:
        known = json.loads((folder / SUMS).read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    sums = {}
    for path in folder.glob("*.pb"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if known.get(path.name, digest) == digest:
            sums[path.name] = digest
        else:
            path.unlink(missing_ok=True)  # it is compiled anew
    if sums != known:
        write_atomic(folder / SUMS, json.dumps(sums, indent=1).encode())


def _check_at_end(folder: Path) -> None:
    with contextlib.suppress(OSError):  # the next start says so
        check(folder)


def _machine() -> str:
    """Changes with what programs depend on: processor, cores, packages, settings."""
    lines = [platform.machine(), platform.python_version()]
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    lines.append(f"{cores} cores")
    lines += [f"{name}={os.environ.get(name)}" for name in SETTINGS]
    try:
        cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        lines += [x for x in cpu.split("\n") if x.startswith(("model name", "flags"))]
    except OSError:
        lines.append(platform.processor())
    for package in ("tensorflow", "jaxlib"):
        try:
            lines.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
