"""Compiled programs are kept on disk, so that a second start compiles nothing.

Both backends can do this themselves and are only told where, which they read when
they are imported or first used: call `keep` before.
"""

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path

# The environment variable that names the folder; empty: nothing is kept.
WHERE = "DREAMER_TF_CACHE"


def keep() -> None:
    """Names a folder for the programs of this processor and these packages."""
    root = os.environ.get(WHERE, str(Path.home() / ".cache" / "dreamer_tf"))
    if not root:
        return
    folder = str(Path(root).expanduser() / _machine())
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if "tf_xla_persistent_cache_directory" not in flags:
        kept = f"--tf_xla_persistent_cache_directory={folder}"
        os.environ["TF_XLA_FLAGS"] = f"{flags} {kept}".strip()


def _machine() -> str:
    """Changes with what a program may not be shared by: processor and packages."""
    lines = [platform.machine(), platform.python_version()]
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
