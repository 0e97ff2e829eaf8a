"""The folder on disk of compiled programs, so that a second start compiles nothing.

TensorFlow and JAX can keep what XLA compiles. They only have to be told where, by
environment variables that they read when they are imported or first used: call `keep`
before. TensorFlow ends the process if it cannot write there or reads a damaged file.
A run must not fail for that, so `keep` looks for both first.

XLA finds a kept program by its input, which TensorFlow gets by tracing Python code:
that takes longer than loading the program. So the TensorFlow engine keeps this input
too, as a "description", by `write` and `read`; see `engine/programs.py`.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from dreamer_tf.errors import reason
from dreamer_tf.files import write_atomic

PACKAGE = Path(__file__).parent

# The environment variable that names the folder; empty: nothing is kept.
WHERE = "DREAMER_TF_CACHE"
SUMS = "sums.json"
DESCRIPTION = ".stablehlo"
ROOM = 500e6  # bytes that must be free on the disk; a program takes about 14 MB
LIMIT = 1e9  # bytes that all programs may take; every start reads them, see `check`

# Folders of this package that only call programs: their code decides none.
CALLERS = ("tools", "training")

# Environment variables that a program depends on, and packages; see `_machine`.
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
SETTINGS = (*THREADS, "XLA_FLAGS")
PACKAGES = ("tensorflow", "tensorflow-probability", "tfp-nightly", "jaxlib", "keras")

_folder: Path | None = None  # of this machine's programs; None: they are not kept


def keep() -> None:
    """Chooses the folder for this machine's programs and tells the backends.

    Prints one line to stderr, and keeps nothing, if the folder cannot be used.
    """
    global _folder
    _folder = None
    root = os.environ.get(WHERE, "~/.cache/dreamer_tf")
    if not root:
        return
    folder = Path(os.path.expanduser(root)) / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < ROOM:
            raise OSError(f"less than {ROOM / 1e9:g} GB are free")
        check(folder)
        trim(folder.parent)
    except OSError as error:
        print(
            f"Compiled programs are not kept: {WHERE}={root} cannot be used "
            f"({reason(error)}); name another folder, or none.",
            file=sys.stderr,
        )
        return
    _folder = folder
    atexit.register(_check_at_end, folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if "tf_xla_persistent_cache_directory" not in flags:
        kept = f"--tf_xla_persistent_cache_directory={folder}"
        os.environ["TF_XLA_FLAGS"] = f"{flags} {kept}".strip()


def read(text: str) -> tuple[dict, bytes] | None:
    """A description that `write` kept; None if there is none, or it is damaged.

    Args:
      text: everything that decides what is described, besides the code of this package;
        empty: nothing is kept.

    Returns:
      `about` and `body`, as they were given to `write`.
    """
    path = _path(text)
    if path is None:
        return None
    try:
        head, body = path.read_bytes().split(b"\n", 1)
        about = json.loads(head)
        if about.pop("sha256") == hashlib.sha256(body).hexdigest():
            return about, body
    except (OSError, ValueError, KeyError):
        pass  # The caller describes it again.
    return None


def write(text: str, about: dict, body: bytes) -> None:
    """Keeps a description for `read`; does nothing if the disk cannot be written.

    Args:
      text: see `read`.
      about: facts about the description, of JSON's types.
      body: the description itself.
    """
    path = _path(text)
    if path is not None:
        head = about | {"sha256": hashlib.sha256(body).hexdigest()}
        with contextlib.suppress(OSError):
            write_atomic(path, json.dumps(head).encode() + b"\n" + body)


def _path(text: str) -> Path | None:
    if not text or _folder is None:
        return None
    digest = hashlib.sha256(_code(PACKAGE) + text.encode()).hexdigest()
    return _folder / f"{digest}{DESCRIPTION}"


@functools.cache
def _code(package: Path) -> bytes:
    """A digest of all code in the package that may decide what a program computes."""
    files = sorted(
        path
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] not in CALLERS
    )
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).digest()


def check(folder: Path) -> None:
    """Removes programs of TensorFlow that have changed since they were first seen.

    JAX checks its own programs.

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
            path.unlink(missing_ok=True)  # TensorFlow compiles it again.
    if sums != known:
        write_atomic(folder / SUMS, json.dumps(sums, indent=1).encode())


def trim(root: Path) -> None:
    """Removes TensorFlow's oldest programs until they take no more than `LIMIT`."""
    # No other files: the user may have chosen a folder that holds other things.
    names = ("xla_compile_cache__*.pb", f"*{DESCRIPTION}")
    files = [path for name in names for path in root.glob(f"{'?' * 16}/{name}")]
    facts = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in files)
    size = sum(fact[1] for fact in facts)
    for _, bytes_, path in facts:
        if size <= LIMIT:
            return
        path.unlink(missing_ok=True)
        size -= bytes_


def _check_at_end(folder: Path) -> None:
    with contextlib.suppress(OSError):  # `keep` reports it at the next start.
        check(folder)


def _machine() -> str:
    """A digest of what programs depend on: processor, cores, packages, settings."""
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
    for package in PACKAGES:
        try:
            lines.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
