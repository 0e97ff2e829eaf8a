"""The checks of `doctor.py`: each judges facts that come in as arguments.

Only the standard library is imported, so that this works where nothing is installed.
"""

import dataclasses
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamer_tf.tools.doctor_facts import BACKENDS, Pins, made_for, pip

OK, WARNING, PROBLEM = "ok", "warning", "problem"

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

# Values of environment variables that hide a GPU; packages that a GPU needs.
HIDES = {"CUDA_VISIBLE_DEVICES": ("", "-1"), "JAX_PLATFORMS": ("cpu",)}
CUDA = {
    "tensorflow": ("nvidia-cudnn-cu12",),
    "jax": ("jax-cuda13-plugin", "jax-cuda12-plugin"),
}
DRIVER = {"nvidia-cudnn-cu12": 525, "jax-cuda12-plugin": 525, "jax-cuda13-plugin": 580}

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


# --- Python and its packages -------------------------------------------------------


def check_python(
    version: Sequence[int], executable: str, kind: str, bare: bool, install: str
) -> Finding:
    """Python itself; `bare` means that this project was never installed in it."""
    name, found = "Python", f"{'.'.join(map(str, version[:3]))}, {executable}"
    upgrade = f"install Python 3.11, 3.12 or 3.13, then: {MAKE[kind]}"
    if tuple(version[:2]) < (3, 11):
        return Finding(PROBLEM, name, f"{found}; it must be 3.11 to 3.13", upgrade)
    if bare:
        found += "; what this project needs is not installed here"
        advice = f"{MAKE[kind]}   (or, in an environment of your own: {install})"
        return Finding(PROBLEM, name, found, advice)
    if tuple(version[:2]) > (3, 13):
        return Finding(WARNING, name, f"{found}; 3.11 to 3.13 are tested", upgrade)
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
    wanted = next((name for name in TFP.values() if name in pins.versions), TFP[kind])
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
    install = simulator("install", "--no-deps")
    clean = f"{pip('uninstall', '-y', 'mujoco', *parts)} && {install}"
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


def simulator(command: str, *options: str) -> str:
    """A pip command with the tested versions of dm_control and mujoco."""
    names = ("dm_control", "mujoco")
    return pip(command, *options, *map("{}=={}".format, names, SIMULATOR.values()))


def _same(version: str, pin: str) -> bool:
    """Whether it is the pinned version, or any of its builds ("2.21.0+cuda")."""
    return not pin or version.partition("+")[0] == pin


def _numbers(version: str) -> tuple[int, ...]:
    """ "0.26.0.dev1" is (0, 26, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


# --- What has been tried -----------------------------------------------------------


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
        for package in CUDA[name]:
            if package in versions:
                found += f", although {package} is installed"
                advice = "nvidia-smi   (the driver that it shows must be "
                advice += f"{DRIVER[package]} or newer)"
                return Finding(WARNING, title, found, advice)
        what = f"jax[cuda13]=={versions.get('jax', '')}"
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


# --- The machine -------------------------------------------------------------------


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


def check_memory(found: tuple[int, int] | None, limit: int | None) -> Finding:
    """Main memory.

    Args:
      found: bytes in all and available, None if nobody knows.
      limit: bytes that a container grants, None for no limit.
    """
    if found is None:
        return Finding(WARNING, "memory", "not known without psutil", ABOVE)
    total, least = found
    text = f"{_gb(total)}, {_gb(least)} available"
    if limit is not None and limit < total:
        text += f", {_gb(limit)} for this container"
        least = min(least, limit)
    if least < LEAST_MEMORY:
        advice = f"free some: even --protocol=lite needs {_gb(LEAST_MEMORY)}"
        return Finding(WARNING, "memory", text, advice)
    return Finding(OK, "memory", text)


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


def _gb(size: float) -> str:
    return f"{size / 1e9:.{1 if size < 1e10 else 0}f} GB"
