"""`run.py doctor`: what is wrong with this installation, and what to do about it.

A row for each check; a check that fails with an error is a row too. `doctor_facts.py`
finds out what is here, `doctor_checks.py` judges it. Only the standard library is
imported, so `python -m dreamer_tf.tools.doctor` also answers where nothing is
installed. A backend and a simulator can crash in one process: each is tried in a
process of its own, and a crash is a finding.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dreamer_tf import output
from dreamer_tf.tools import doctor_checks as checks
from dreamer_tf.tools import doctor_facts as facts
from dreamer_tf.tools.doctor_checks import ABOVE, OK, PROBLEM, WARNING, Finding

# --- What runs in a process of its own -----------------------------------------------


def try_backend() -> dict[str, Any]:
    """Compiles and runs a small product with the backend.

    Returns:
        The names of the "gpus" that it sees.
    """
    import keras
    import numpy as np

    from dreamer_tf import engine

    engine.tfp.distributions.Normal(0.0, 1.0).log_prob(0.0)  # loaded at its first use
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
    call = f"answer({function!r}, *{arguments!r})"
    code = f"from dreamer_tf.tools import doctor; doctor.{call}"
    path = [str(facts.ROOT), os.environ.get("PYTHONPATH", "")]
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


# --- All of it ---------------------------------------------------------------------


def examine(logdir: str) -> Iterator[Finding]:
    """Makes all checks; yields the findings as they come."""
    environ, versions = os.environ, facts.installed()
    name, source = facts.choose_backend(environ, facts.keras_settings(environ))
    kind = facts.made_for(name, versions)
    pins = facts.read_pins(facts.ROOT / facts.BACKENDS[kind], kind)
    bare = kind not in versions and "keras" not in versions
    executable, install = facts.short(sys.executable), pins.install_all()
    yield from safely(
        "Python", checks.check_python, sys.version_info, executable, kind, bare, install
    )
    if not bare:
        yield from _examine_software(environ, versions, name, source, kind, pins)
    share, limit = facts.limits()
    yield from safely("CPU", lambda: checks.check_cpu(*facts.cores(), share))
    yield from safely("memory", lambda: checks.check_memory(facts.main_memory(), limit))
    yield from safely("--logdir", checks.check_disk, logdir)


def _examine_software(
    environ: Mapping[str, str],
    versions: Mapping[str, str],
    name: str,
    source: str,
    kind: str,
    pins: facts.Pins,
) -> Iterator[Finding]:
    packages = safely("packages", checks.check_packages, versions, pins, kind)
    yield from packages
    # If the packages are right and yet do not work, their files are damaged.
    right = all(finding.mark == OK for finding in packages)
    again = pins.install_all("--force-reinstall") if right else ABOVE
    backend = ask("try_backend") if name == kind and name in versions else {}
    yield from safely(
        "backend", checks.check_backend, name, source, versions, backend, again
    )
    yield from safely(
        "GPU",
        lambda: checks.check_gpu(
            name, backend.get("gpus"), *facts.nvidia(), versions, environ, pins
        ),
    )
    dmc = ask("try_task", checks.DMC_TASK)
    options = "--force-reinstall", "--no-deps"
    pair = checks.simulator("install", *options) if right else ABOVE
    yield from safely("dm_control task", checks.check_task, checks.DMC_TASK, dmc, pair)
    gym = ask("try_task", checks.GYM_TASK)
    yield from safely("gymnasium task", checks.check_task, checks.GYM_TASK, gym, again)
    yield from safely("OpenGL", checks.check_opengl, environ, "error" not in dmc)


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
    """A finding as lines of the table, of a terminal's width.

    The advice is the last line, unbroken, so that it can be copied.
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
        output.say(row(finding, width))
    words = []
    for mark, count in counts.items():
        words.append(f"{count} {mark}{'s' * (mark != OK and count != 1)}")
    output.say(", ".join(words))
    return 1 if counts[PROBLEM] else 0


def main(argv: Sequence[str]) -> int:
    """The command where `run.py` has no flags, because absl is not installed."""
    parser = argparse.ArgumentParser("doctor", allow_abbrev=False)
    about = "directory of the runs, whose disk is checked"
    parser.add_argument("--logdir", default="logs", type=os.path.expanduser, help=about)
    with output.protected():
        return report(parser.parse_args(argv).logdir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
