"""The folder on disk of compiled programs, so that a second start compiles nothing.

TensorFlow and JAX can keep what XLA compiles. They only have to be told where, by
environment variables that they read when they are imported or first used: call `keep`
before. TensorFlow ends the process if it cannot write there or reads a damaged file.
A run must not fail for that, so `keep` looks for both first.

A program is executed, so nobody else may write it: the folder must belong to this user
and be closed to others. SUMS lists TensorFlow's programs that processes of ours wrote;
any other is removed, as it may be cut, foreign or changed.

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
import stat
import sys
import tempfile
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
TRIAL = 32 * 2**20  # bytes that `keep` tries to write: quotas and ulimits are no room
LIMIT = 1e9  # bytes that all programs may take; every start reads them, see `check`

# Folders of this package that only call programs: their code decides none.
CALLERS = ("tools", "training")

# Environment variables that a program depends on, and packages; see `_machine`.
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
SETTINGS = (*THREADS, "XLA_FLAGS")
# What /proc/cpuinfo says of a processor's kind, on x86 and on ARM.
PROCESSOR: tuple[str, ...] = ("model name", "flags", "Features", "CPU implementer")
PROCESSOR += ("CPU architecture", "CPU variant", "CPU part")
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
    folder = Path(os.path.expanduser(root)).absolute() / _machine()
    try:
        _make_private(folder)
        if shutil.disk_usage(folder).free < ROOM:
            raise OSError(f"less than {ROOM / 1e9:g} GB are free")
        with tempfile.TemporaryFile(dir=folder, buffering=0) as trial:
            if trial.write(bytes(TRIAL)) < TRIAL:
                raise OSError(f"no file of {TRIAL / 1e6:.0f} MB can be written")
        check(folder)
        trim(folder.parent)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        print(
            f"Compiled programs are not kept: {WHERE}={root} cannot be used "
            f"({reason(error)}); name another folder, or none.",
            file=sys.stderr,
        )
        return
    _folder = folder
    atexit.register(adopt)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    flags = os.environ.get("TF_XLA_FLAGS", "")
    # Flags that do not begin with "-" are the name of a file with flags.
    if "tf_xla_persistent_cache_directory" not in flags and flags[:1] in ("", "-"):
        # Quoted, as a name may have spaces.
        name = str(folder).replace("\\", r"\\").replace('"', r"\"")
        kept = f'--tf_xla_persistent_cache_directory="{name}"'
        os.environ["TF_XLA_FLAGS"] = f"{flags} {kept}".strip()


def _make_private(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for this user only.

    Raises:
      OSError: it cannot be made, or others can write to it or to the one above.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process made it
                path.mkdir(mode=0o700)
    for path in (folder.parent, folder):
        facts = os.stat(path, follow_symlinks=path != folder)
        if not stat.S_ISDIR(facts.st_mode):
            raise OSError(f"{path} is no directory")
        if facts.st_uid not in (os.getuid(), 0):
            raise OSError(f"{path} belongs to another user")
        if facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX:
            raise OSError(f"others can write to {path}: chmod go-w forbids it")


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
        found = json.loads(head)
        if found["sums"] == _sums(path.stem, found["about"], body):
            return found["about"], body
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
        head = {"about": about, "sums": _sums(path.stem, about, body)}
        with contextlib.suppress(OSError):
            write_atomic(path, json.dumps(head).encode() + b"\n" + body)


def _sums(name: str, about: dict, body: bytes) -> str:
    """A digest of a description and its name, so that none stands for another."""
    head = json.dumps([name, about]).encode()
    return hashlib.sha256(head + b"\n" + body).hexdigest()


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


def check(folder: Path, new: bool = False) -> None:
    """Removes programs of TensorFlow that are not those listed in SUMS.

    JAX checks its own programs.

    Args:
      new: whether programs that are not listed are this process's own, and are added.

    Raises:
      OSError: the folder cannot be read or written.
    """
    try:
        known = json.loads((folder / SUMS).read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        known = None
    known = known if isinstance(known, dict) else {}
    sums = {}
    for path in folder.glob("*.pb"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            digest = _digest(path)
            if digest and known.get(path.name, digest if new else None) == digest:
                sums[path.name] = digest
            else:
                path.unlink()  # TensorFlow compiles it again.
    if sums != known:
        write_atomic(folder / SUMS, json.dumps(sums, indent=1).encode())


def _digest(path: Path) -> str:
    """Of a file; empty for a link, behind which anything may be."""
    return "" if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()


def adopt() -> None:
    """Lists the programs that this process has written since `keep`."""
    if _folder is not None:
        with contextlib.suppress(OSError):  # `keep` reports it at the next start.
            check(_folder, new=True)


def trim(root: Path) -> None:
    """Removes TensorFlow's oldest programs until they take no more than `LIMIT`."""
    # No other files: the user may have chosen a folder that holds other things.
    names = ("xla_compile_cache__*.pb", f"*{DESCRIPTION}")
    files = [path for name in names for path in root.glob(f"{'?' * 16}/{name}")]
    facts = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            found = path.lstat()
            facts.append((found.st_mtime, found.st_size, path))
    facts.sort()
    size = sum(fact[1] for fact in facts)
    for _, bytes_, path in facts:
        if size <= LIMIT:
            return
        path.unlink(missing_ok=True)
        size -= bytes_


def _machine() -> str:
    """A digest of what programs depend on: processor, cores, packages, settings."""
    lines = [platform.machine(), platform.python_version()]
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    lines.append(f"{cores} cores")
    lines += [f"{name}={os.environ.get(name)}" for name in SETTINGS]
    try:
        cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        lines += [x for x in cpu.split("\n") if x.startswith(PROCESSOR)]
    except OSError:
        lines.append(platform.processor())
    for package in PACKAGES:
        try:
            lines.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
