"""`run.py doctor`: what is wrong with this installation, and what to do about it.

One row per check; a check that fails in a way nobody foresaw is a row too. Only the
standard library is imported here, so `python -m dreamer_tf.tools.doctor` also answers
where nothing is installed. Whatever loads a backend or a simulator runs in a process of its
own: both in one can crash, and a crash is a finding.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

OK, WARNING, PROBLEM = "ok", "warning", "problem"

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = {"tensorflow": "requirements.txt", "jax": "requirements-jax.txt"}
MAKE = {
    "tensorflow": "make env && source .venv/bin/activate",
    "jax": "make env-jax && source .venv-jax/bin/activate",
}

# Packages with a row each; then those whose combinations matter, by canonical name.
STACK = {
    "tensorflow": ("tensorflow", "keras", "numpy", "gymnasium"),
    "jax": ("jax", "jaxlib", "keras", "numpy", "gymnasium"),
}
TFP = {"tensorflow": "tensorflow-probability", "jax": "tfp-nightly"}
SIMULATOR = {"dm-control": "1.0.50", "mujoco": "3.17.0"}  # as dmc.py wants them
MUJOCO_4 = ("mujoco-core", "mujoco-studio")

# What is needed, where no requirements file is there to say it.
NEEDED = (
    *("absl-py", "cloudpickle", "dm_control", "gymnasium", "imageio-ffmpeg"),
    *("ImageIO", "Jinja2", "keras", "matplotlib", "mujoco", "numpy", "packaging"),
    *("pandas", "pillow", "rich", "tabulate", "tensorboard"),
)
NEEDED_BY = {
    "tensorflow": ("tensorflow", "tensorflow-probability", "tf_keras"),
    "jax": ("jax", "jaxlib", "tfp-nightly"),
}

# Values of environment variables that hide a GPU; packages that a GPU needs.
HIDES = {"CUDA_VISIBLE_DEVICES": ("", "-1"), "JAX_PLATFORMS": ("cpu",)}
CUDA = {"tensorflow": "nvidia-cudnn-cu12", "jax": "jax-cuda12-plugin"}

DMC_TASK, GYM_TASK = "cartpole_swingup", "gym_CartPole-v1"
# Bytes; less is worth a warning. Runs of the protocol lite take up to 2.3 GB of memory.
LEAST_MEMORY, LEAST_DISK = 2.5e9, 5e9
ABOVE = "first do what the rows above say"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One row of the table.

    Attributes:
      mark: OK, WARNING or PROBLEM.
      name: of the thing.
      found: what was found.
      advice: what to do; empty if there is nothing to do.
    """

    mark: str
    name: str
    found: str
    advice: str = ""


@dataclasses.dataclass(frozen=True)
class Pins:
    """A requirements file. Names are canonical.

    Attributes:
      path: of the file, None if there is none.
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
        return pip("install", *map(self.requirement, names))

    def install_all(self, *options: str) -> str:
        """The command that installs everything."""
        what = ["-r", short(self.path)] if self.path else self.spelled.values()
        return pip("install", *options, *what)


# What is here.


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
        Without that file: all that this kind of backend needs, in any version.
    """
    if not path.is_file():
        names = {canonical(name): name for name in (*NEEDED, *NEEDED_BY[kind])}
        return Pins(None, names, dict.fromkeys(names, ""), frozenset(names))
    spelled, versions, direct = {}, {}, set()
    for number, paragraph in enumerate(path.read_text().split("\n\n")):
        for line in paragraph.splitlines():
            if match := re.match(r"([\w.-]+)\s*==\s*([^\s;#]+)", line):
                name = canonical(match[1])
                spelled[name], versions[name] = match[1], match[2]
                if number == 0:
                    direct.add(name)
    return Pins(path, spelled, versions, frozenset(direct))


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


def main_memory() -> tuple[int, int | None]:
    """Bytes in all and available; None where the system does not tell."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return total, None
    match = re.search(r"MemAvailable:\s*(\d+) kB", text)
    return total, int(match[1]) * 1024 if match else None


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


# The checks. What they depend on comes in as arguments.


def check_python(
    version: Sequence[int], executable: str, kind: str, bare: bool, install: str
) -> Finding:
    """Python itself; `bare` means that this project was never installed in it."""
    name, found = "Python", f"{'.'.join(map(str, version[:3]))}, {executable}"
    upgrade = f"install Python 3.11, then: {MAKE[kind]}"
    if tuple(version[:2]) < (3, 11):
        return Finding(PROBLEM, name, f"{found}; 3.11 is needed", upgrade)
    if bare:
        found += "; what this project needs is not installed here"
        advice = f"{MAKE[kind]}   (or, in an environment of your own: {install})"
        return Finding(PROBLEM, name, found, advice)
    if tuple(version[:2]) > (3, 11):
        return Finding(WARNING, name, f"{found}; only 3.11 is tested", upgrade)
    return Finding(OK, name, found)


def check_packages(versions: Mapping[str, str], pins: Pins, kind: str) -> list[Finding]:
    """All packages of an environment that is made for one backend."""
    shown = {*STACK[kind], *TFP.values(), *SIMULATOR}
    return [
        *(check_package(name, versions, pins) for name in STACK[kind]),
        check_probability(versions, pins, kind),
        *check_simulator(versions, pins),
        *check_others(versions, pins, shown),
    ]


def check_package(name: str, versions: Mapping[str, str], pins: Pins) -> Finding:
    """One package beside its pin."""
    title, pin = pins.spelled.get(name, name), pins.versions.get(name, "")
    here, advice = versions.get(name), pins.install([name])
    if here is None:
        return Finding(PROBLEM, title, "missing", advice)
    if not _same(here, pin):
        return Finding(WARNING, title, f"{here}; {pin} is the tested one", advice)
    return Finding(OK, title, here)


def check_probability(versions: Mapping[str, str], pins: Pins, kind: str) -> Finding:
    """TensorFlow Probability: two builds of the same files, one for each backend."""
    wanted = TFP[kind]
    other = next(name for name in TFP.values() if name != wanted)
    install = pins.install([wanted])
    if wanted in versions and other in versions:
        found = f"{wanted} and {other} have overwritten each other's files"
        advice = f"{pip('uninstall', '-y', wanted, other)} && {install}"
        return Finding(PROBLEM, wanted, found, advice)
    if other in versions:
        found = f"instead of it there is {other} {versions[other]}, which "
        advice = f"{pip('uninstall', '-y', other)} && {install}"
        if kind == "jax" and _numbers(versions[other]) < (0, 26):
            found += f"cannot be imported next to jax {versions.get('jax', '0.10')}"
            return Finding(PROBLEM, wanted, found, advice)
        return Finding(WARNING, wanted, f"{found}was not tested with {kind}", advice)
    if kind == "tensorflow" and wanted in versions:
        if _numbers(versions[wanted]) < (0, 24):
            found = f"{versions[wanted]} cannot be used next to Keras 3"
            return Finding(PROBLEM, wanted, found, install)
        if "tf-keras" not in versions:
            found = f"{versions[wanted]} cannot be imported without tf_keras"
            return Finding(PROBLEM, wanted, found, pins.install(["tf-keras"]))
    return check_package(wanted, versions, pins)


def check_simulator(versions: Mapping[str, str], pins: Pins) -> list[Finding]:
    """dm_control and mujoco, whose newest versions do not fit."""
    dm_control, mujoco = (versions.get(name) for name in SIMULATOR)
    # mujoco 4 is several packages, which write into one directory: a mere downgrade
    # leaves their files between those of mujoco 3, and removing them later breaks it.
    parts = [name for name in MUJOCO_4 if name in versions]
    clean = f"{pip('uninstall', '-y', 'mujoco', *parts)} && {_pair('install')}"
    if dm_control and mujoco and _numbers(mujoco) >= (4,):
        found = f"{dm_control} cannot load any task with mujoco {mujoco}"
        return [Finding(PROBLEM, "dm_control", found, clean)]
    if mujoco and parts:
        found = f"{mujoco}, mixed with files of {' and '.join(parts)} of mujoco 4"
        rest = check_package("dm-control", versions, pins)
        return [rest, Finding(WARNING, "mujoco", found, clean)]
    return [check_package(name, versions, pins) for name in SIMULATOR]


def check_others(
    versions: Mapping[str, str], pins: Pins, shown: Iterable[str]
) -> list[Finding]:
    """The packages that are not `shown` already, in a row or two."""
    rest = [name for name in pins.versions if name not in set(shown)]
    missing = [name for name in rest if name not in versions]
    needed = [name for name in missing if name in pins.direct]
    findings = []
    if needed:
        found = ", ".join(pins.spelled[name] for name in needed)
        advice = pins.install(needed)
        findings.append(Finding(PROBLEM, "missing packages", found, advice))
    odd = {}  # what is missing here may be needed by an option only
    for name in rest:
        if name in missing and name not in needed:
            odd[name] = f"{pins.spelled[name]} is missing"
        elif name in versions and not _same(versions[name], pins.versions[name]):
            odd[name] = f"{pins.spelled[name]} {versions[name]} ({pins.versions[name]})"
    if odd:
        found = f"not the tested versions (in brackets): {', '.join(odd.values())}"
        advice = pins.install(list(odd))
        findings.append(Finding(WARNING, "other packages", found, advice))
    elif len(missing) < len(rest):
        found = f"{len(rest) - len(missing)}"
        found += f", as pinned in {pins.path.name}" if pins.path else ", not pinned"
        findings.append(Finding(OK, "other packages", found))
    return findings


def check_backend(
    name: str,
    source: str,
    versions: Mapping[str, str],
    answer: Mapping[str, Any],
    advice: str,
) -> Finding:
    """Whether the backend that Keras will take can be used.

    Args:
      name, source: of `choose_backend`.
      versions: of `installed`.
      answer: of `try_backend`, empty if it was not tried.
      advice: if that failed.
    """
    title, found, kind = "backend", f"{name} ({source})", made_for(name, versions)
    if name not in BACKENDS:
        found += f"; must be {' or '.join(BACKENDS)}"
        return Finding(PROBLEM, title, found, f"export KERAS_BACKEND={kind}")
    if name != kind:
        found += f", but {kind} is what is installed here"
        use = f"export KERAS_BACKEND={kind}   (or, to use {name}: {MAKE[name]})"
        return Finding(PROBLEM, title, found, use)
    if "gpus" not in answer:
        found += f" does not work: {answer.get('error', 'it is missing')}"
        return Finding(PROBLEM, title, found, advice)
    found += f" starts and compiles ({answer['seconds']:.0f} s)"
    return Finding(OK, title, found)


def check_gpu(
    name: str,
    seen: Sequence[str] | None,
    here: Sequence[str],
    failure: str,
    versions: Mapping[str, str],
    environ: Mapping[str, str],
    pins: Pins,
) -> Finding:
    """The GPUs, and why the backend does not see one that is there.

    Args:
      name: of the backend.
      seen: the GPUs that it sees, None if it does not work.
      here, failure: of `nvidia`.
      versions: of `installed`.
      environ: may hide GPUs.
      pins: say which TensorFlow to install.
    """
    title, found = "GPU", ", ".join(here)
    if seen:
        return Finding(OK, title, ", ".join(seen))
    if seen is None:
        found += ", not tried" if here else "not tried"
        return Finding(WARNING, title, f"{found} without a backend", ABOVE)
    if here:
        found += f", but {name} does not see it and will use the CPU"
        for variable, values in HIDES.items():
            if variable == "JAX_PLATFORMS" and name != "jax":
                continue
            if environ.get(variable) in values:
                found += f": {variable}='{environ[variable]}' hides it"
                return Finding(WARNING, title, found, f"unset {variable}")
        if CUDA[name] in versions:
            found += f", although {CUDA[name]} is installed"
            advice = "nvidia-smi   (the driver that it shows must be 525 or newer)"
            return Finding(WARNING, title, found, advice)
        what = f"jax[cuda12]=={versions.get('jax', '')}"
        if name == "tensorflow":
            what = pins.requirement("tensorflow", "and-cuda")
        return Finding(WARNING, title, found, pip("install", what))
    if failure:
        advice = "nvidia-smi   (must list the GPU: repair its driver; a container "
        advice += "must be given it: docker run --gpus all)"
        return Finding(WARNING, title, f"nvidia-smi fails: {failure}", advice)
    return Finding(OK, title, "no GPU: CPU only")


def check_task(name: str, answer: Mapping[str, Any], advice: str) -> Finding:
    """Whether an environment works; `answer` is that of `try_task`."""
    title = "dm_control task" if name == DMC_TASK else "gymnasium task"
    if "error" in answer:
        return Finding(PROBLEM, title, f"{name}: {answer['error']}", advice)
    return Finding(OK, title, f"{name} loads and steps ({answer['seconds']:.1f} s)")


def check_opengl(
    environ: Mapping[str, str], works: bool, probe: Callable[[str], str] | None = None
) -> Finding:
    """Which of MuJoCo's ways to render draw a picture.

    Args:
      environ: may choose one by MUJOCO_GL.
      works: whether dm_control does; if not, no picture says nothing of OpenGL.
      probe: draws with one, returns "" or what went wrong; `gl.probe` if None.
    """
    title, vectors = "OpenGL", "--obs=proprio does not need it"
    if not works:
        return Finding(WARNING, title, "not tried without dm_control", ABOVE)
    from dreamer_tf.envs import gl  # imports gymnasium

    probe = probe or gl.probe
    failures = {name: probe(name) for name in gl.CANDIDATES}
    good = [name for name, failure in failures.items() if not failure]
    chosen = environ.get("MUJOCO_GL", "").strip().lower()
    if not good:
        reasons = "; ".join(f"{name}: {why}" for name, why in failures.items())
        found = f"cannot draw, so there are no images; {vectors} ({reasons})"
        return Finding(WARNING, title, found, gl._HELP)
    bad = [name for name in failures if name not in good]
    found = f"{' and '.join(good)} can draw"
    found += f", {' and '.join(bad)} not" if bad else ""
    if not chosen:
        return Finding(OK, title, f"{found}; runs take {good[0]}")
    if chosen in gl.DISABLED:
        found += f"; but MUJOCO_GL={chosen} forbids it ({vectors})"
        return Finding(WARNING, title, found, "unset MUJOCO_GL")
    if chosen not in good:
        why = failures.get(chosen, f"must be one of {', '.join(failures)}")
        found += f"; but MUJOCO_GL={chosen} is set ({why})"
        return Finding(WARNING, title, found, "unset MUJOCO_GL")
    return Finding(OK, title, f"{found}; MUJOCO_GL={chosen}")


def check_cpu(usable: int, total: int, share: float | None) -> Finding:
    """The cores; `share` is how many a container grants."""
    found = f"{usable} core{'s' * (usable != 1)}"
    found += f" of {total}" if usable != total else ""
    if share is not None and share < usable:
        # Libraries start a thread per core, which then wait for each other.
        found += f", but this container gets the time of {share:g} only"
        advice = f"taskset -c 0-{max(0, round(share) - 1)} python run.py train ..."
        return Finding(WARNING, "CPU", found, advice)
    return Finding(OK, "CPU", found)


def check_memory(total: int, available: int | None, limit: int | None) -> Finding:
    """Bytes of main memory; `limit` is what a container grants."""
    found, least = _gb(total), total if available is None else available
    if available is not None:
        found += f", {_gb(available)} available"
    if limit is not None and limit < total:
        found += f", {_gb(limit)} for this container"
        least = min(least, limit)
    if least < LEAST_MEMORY:
        advice = f"free some: even --protocol=lite needs {_gb(LEAST_MEMORY)}"
        return Finding(WARNING, "memory", found, advice)
    return Finding(OK, "memory", found)


def check_disk(
    logdir: str,
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    lock: Callable[[Any, int], None] = fcntl.flock,
) -> Finding:
    """Whether runs can be stored: tried in the nearest directory that exists.

    Args:
      logdir: as given.
      free: bytes that are left at a path.
      lock: runs keep each other off their directories by it.
    """
    title, advice = "--logdir", "choose another directory: --logdir=DIRECTORY"
    wanted = path = Path(logdir).absolute()
    while not path.exists():
        path = path.parent
    found = logdir if path == wanted else f"{logdir} (in {path})"
    if not path.is_dir():
        found += f" is impossible: {path} is a file"
        return Finding(PROBLEM, title, found, advice)
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        found += f" cannot be written or locked: {error.strerror}"
        return Finding(PROBLEM, title, found, advice)
    left = free(path)
    found += f" can be written, {_gb(left)} free"
    if left < LEAST_DISK:
        advice = "free some, or limit what the checkpoints of a run may take: "
        return Finding(
            WARNING, title, found, f"{advice}--disk_gb={max(0.1, left * 0.8e-9):.1f}"
        )
    return Finding(OK, title, found)


# What runs in a process of its own.


def try_backend() -> dict[str, Any]:
    """Compiles and runs a little with the backend; returns the names of its "gpus"."""
    import keras
    import numpy as np

    from dreamer_tf import engine

    engine.tfp.distributions.Normal(0.0, 1.0).log_prob(0.0)  # loads it at last
    call = engine.compile(
        lambda noise, x: keras.ops.sum(noise @ x),
        lambda seed, x: engine.normal(seed, (8, 8)),
        read=[],
    )
    total = engine.to_host(call(engine.seed(0), np.eye(8, dtype=np.float32)))
    if not np.isfinite(total):
        raise ArithmeticError(f"a product of two small matrices has the sum {total}")
    if keras.backend.backend() == "jax":
        import jax

        return {"gpus": [d.device_kind for d in jax.devices() if d.platform != "cpu"]}
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    gpus = tf.config.list_physical_devices("GPU")
    return {"gpus": [details(gpu).get("device_name", gpu.name) for gpu in gpus]}


def try_task(name: str) -> dict[str, Any]:
    """Loads an environment and takes a step in it."""
    import numpy as np

    from dreamer_tf.envs import action_size, make_env

    with make_env(name) as env:
        env.reset(seed=0)
        env.step(np.zeros(action_size(env.action_space), np.float32))
    return {}


def ask(function: str, *arguments: str, timeout: float = 180) -> dict[str, Any]:
    """Calls a function of this module in a process of its own.

    Returns:
        What it returns, with the "seconds" that it took; or the "error" that it or
        the process ended with, in one line.
    """
    code = f"from dreamer_tf import doctor; doctor.answer({function!r}, *{arguments!r})"
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # A run may be using the GPU: leave it its memory.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    start = time.monotonic()
    try:
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout:g} seconds"}
    answers = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode == 0 and answers:
        return {"seconds": time.monotonic() - start, **json.loads(answers[-1])}
    reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
    if run.returncode < 0:
        reason = f"killed by {signal.Signals(-run.returncode).name} ({reason})"
    return {"error": reason}


def answer(function: str, *arguments: str) -> None:
    """The other end of `ask`: prints the answer, on a line of its own."""
    try:
        result = globals()[function](*arguments)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        result = {"error": f"{type(error).__name__}: {first}"}
    print(json.dumps(result), flush=True)


# All of it.


def examine(logdir: str) -> Iterator[Finding]:
    """Makes all checks; yields the findings as they come."""
    environ, versions = os.environ, installed()
    name, source = choose_backend(environ, keras_settings(environ))
    kind = made_for(name, versions)
    pins = read_pins(ROOT / BACKENDS[kind], kind)
    bare = kind not in versions and "keras" not in versions
    executable, install = short(sys.executable), pins.install_all()
    yield from safely(
        "Python", check_python, sys.version_info, executable, kind, bare, install
    )
    if not bare:
        yield from _examine_software(environ, versions, name, source, kind, pins)
    share, limit = limits()
    yield from safely("CPU", lambda: check_cpu(*cores(), share))
    yield from safely("memory", lambda: check_memory(*main_memory(), limit))
    yield from safely("--logdir", check_disk, logdir)


def _examine_software(
    environ: Mapping[str, str],
    versions: Mapping[str, str],
    name: str,
    source: str,
    kind: str,
    pins: Pins,
) -> Iterator[Finding]:
    packages = safely("packages", check_packages, versions, pins, kind)
    yield from packages
    # If the packages are right and yet do not work, their files are damaged.
    right = all(finding.mark == OK for finding in packages)
    again = pins.install_all("--force-reinstall") if right else ABOVE
    backend = ask("try_backend") if name == kind and name in versions else {}
    yield from safely("backend", check_backend, name, source, versions, backend, again)
    yield from safely(
        "GPU",
        lambda: check_gpu(
            name, backend.get("gpus"), *nvidia(), versions, environ, pins
        ),
    )
    dmc = ask("try_task", DMC_TASK)
    pair = _pair("install", "--force-reinstall", "--no-deps") if right else ABOVE
    yield from safely("dm_control task", check_task, DMC_TASK, dmc, pair)
    gym = ask("try_task", GYM_TASK)
    yield from safely("gymnasium task", check_task, GYM_TASK, gym, again)
    yield from safely("OpenGL", check_opengl, environ, "error" not in dmc)


def safely(
    name: str, check: Callable[..., Finding | list[Finding]], *arguments: Any
) -> list[Finding]:
    """The findings of a check; one that raises has found a problem as well."""
    try:
        found = check(*arguments)
    except Exception as error:
        text = f"this check failed: {type(error).__name__}: {error}"
        return [Finding(PROBLEM, name, text, "report it, with this whole table")]
    return found if isinstance(found, list) else [found]


def row(finding: Finding, width: int) -> str:
    """A finding as lines of the table, of a terminal's width; what to do is the last.

    That is not broken into lines, to be copied.
    """
    head = f"{finding.mark:<9}{finding.name:<24}"
    room = max(30, width - len(head))
    lines = textwrap.wrap(
        finding.found, room, break_long_words=False, break_on_hyphens=False
    )
    if finding.advice:
        lines.append(f"-> {finding.advice}")
    return head + f"\n{' ' * len(head)}".join(lines)


def report(logdir: str) -> int:
    """Prints the table; returns the exit code: 1 if there is a problem, else 0."""
    width = shutil.get_terminal_size((88, 24)).columns
    counts = dict.fromkeys((OK, WARNING, PROBLEM), 0)
    for finding in examine(logdir):
        counts[finding.mark] += 1
        print(row(finding, width), flush=True)
    words = []
    for mark, count in counts.items():
        words.append(f"{count} {mark}{'s' * (mark != OK and count != 1)}")
    print(", ".join(words))
    return 1 if counts[PROBLEM] else 0


def pip(command: str, *arguments: str) -> str:
    """A pip command for this very Python."""
    return shlex.join([short(sys.executable), "-m", "pip", command, *arguments])


def short(path: Path | str) -> str:
    """The path from here, if it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def _pair(command: str, *options: str) -> str:
    names = ("dm_control", "mujoco")
    return pip(command, *options, *map("{}=={}".format, names, SIMULATOR.values()))


def _same(version: str, pin: str) -> bool:
    """Whether it is the pinned version, or any of its builds ("2.21.0+cuda")."""
    return not pin or version.partition("+")[0] == pin


def _numbers(version: str) -> tuple[int, ...]:
    """ "0.26.0.dev1" is (0, 26, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _gb(size: float) -> str:
    return f"{size / 1e9:.{1 if size < 1e10 else 0}f} GB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m dreamer_tf.tools.doctor")
    parser.add_argument("--logdir", default="logs")
    sys.exit(report(parser.parse_args().logdir))
