"""Chooses how MuJoCo renders (`MUJOCO_GL`) by trying, not by guessing.

MuJoCo and dm_control decide at import, from MUJOCO_GL, and a wrong choice shows only
at the first picture, at times as a crash of the process. So each candidate renders a
small scene in a process of its own, and only a proven one is set here.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dreamer_tf.errors import UserError

# egl renders on a GPU without a display, or in software through Mesa; osmesa is
# always software; glfw needs a display.
CANDIDATES = ("egl", "osmesa", "glfw")
DISABLED = ("off", "disable", "disabled", "false", "0")

_SCENE = """
from dm_control import mujoco
physics = mujoco.Physics.from_xml_string('''<mujoco><worldbody>
<light pos="0 0 3"/><camera pos="0 0 2"/><geom type="sphere" size=".3" rgba="1 0 0 1"/>
</worldbody></mujoco>''')
picture = physics.render(32, 32, camera_id=0)
assert picture.std() > 0, "the picture is empty"
"""

_HELP = (
    "On Debian and Ubuntu install one of the two that need no display: "
    "`apt-get install libegl1 libgl1-mesa-dri` for egl (with an NVIDIA GPU its driver "
    "brings egl along), or `apt-get install libosmesa6` for osmesa."
)


def probe(name: str, timeout: float = 120) -> str:
    """Renders a small scene with one backend in a process of its own.

    Returns:
        "" when that worked, else the last line of what went wrong.
    """
    environment = {**os.environ, "MUJOCO_GL": name}
    try:
        result = subprocess.run(
            [sys.executable, "-c", _SCENE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"no picture within {timeout:g} seconds"
    if result.returncode == 0:
        return ""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else "no message"
    if result.returncode < 0:
        return f"killed by signal {-result.returncode} ({reason})"
    return reason


_reasons: dict[str, str] = {}  # of what this process has chosen, by name


def choose() -> tuple[str, str]:
    """Makes sure that this process can render; called before the first picture.

    A MUJOCO_GL that is set already is taken as it is. Otherwise the first candidate
    that renders is stored there, so the next call and all child processes know it.

    Returns:
        The name of the backend and a sentence that says why it was chosen.

    Raises:
        UserError: nothing can render; names the Debian packages to install.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen in DISABLED:
        raise UserError(
            f"MUJOCO_GL={chosen} forbids rendering, but images were asked for: unset "
            f"it, or set it to one of {', '.join(CANDIDATES)}."
        )
    if chosen:
        asked = f"MUJOCO_GL={chosen}, as the environment says."
        sentence = _reasons.get(chosen, asked)
    else:
        failures: dict[str, str] = {}
        for name in CANDIDATES:
            failure = probe(name)
            if not failure:
                chosen = name
                break
            failures[name] = failure
        reasons = "; ".join(f"{name}: {why}" for name, why in failures.items())
        if not chosen:
            raise UserError(f"MuJoCo cannot render here ({reasons}). {_HELP}")
        os.environ["MUJOCO_GL"] = chosen
        sentence = f"MUJOCO_GL={chosen}, the first that rendered a test picture"
        sentence += f" ({reasons})." if reasons else "."
        _reasons[chosen] = sentence
    _switch_dm_control()
    return chosen, sentence


def failed(error: Exception) -> UserError:
    """The error to raise when the chosen backend breaks at a picture after all."""
    name = os.environ.get("MUJOCO_GL", "")
    return UserError(
        f"Rendering with MUJOCO_GL={name} failed ({error}); unset MUJOCO_GL to let a "
        f"working backend be chosen. {_HELP}"
    )


@contextmanager
def without() -> Iterator[None]:
    """Imports of MuJoCo in this block load no graphics library at all.

    Vector observations must work on machines that cannot render; dm_control would
    try its backends at import. `choose` lets it render later all the same.
    """
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before


def _switch_dm_control() -> None:
    """Lets a dm_control that was imported `without` graphics take the chosen one."""
    module = sys.modules.get("dm_control._render")
    if module is not None and module.BACKEND in (None, *DISABLED):
        try:
            importlib.reload(module)
        except Exception as error:  # whatever a graphics library raises at import
            raise failed(error) from error
