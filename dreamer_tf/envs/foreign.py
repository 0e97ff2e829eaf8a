"""Calls into code that is not ours: what it raises becomes one sentence.

Every call into an environment is made within `calling`. The sentence names the place
in the user's own file, which is neither in this package nor in installed libraries.
"""

import contextlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamer_tf.errors import UserError, reason

_OURS = str(Path(__file__).parents[1]) + os.sep
_BASE = os.path.join("gymnasium", "core.py")
_STANDARD = sysconfig.get_path("stdlib") + os.sep


class Diverged(UserError):
    """The simulation computed a number that is not finite, and cannot go on.

    `base.Env` ends an episode by it; elsewhere it is an error like others.
    """


@contextlib.contextmanager
def calling(title: str, method: str, owner: Any = None) -> Iterator[None]:
    """Whatever is raised inside becomes a UserError that names the user's line.

    Args:
      title: of the environment.
      method: that is called.
      owner: the object that has it, whose source is named if the traceback holds no
        line of the user's.

    Raises:
      Diverged: the physics of dm_control diverged.
      UserError: anything else that went wrong, `sys.exit` included.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        control = sys.modules.get("dm_control.rl.control")
        if control and isinstance(error, control.PhysicsError):
            raise Diverged(why(error)) from error
        raise failed(title, method, owner, error) from error


def failed(title: str, method: str, owner: Any, error: BaseException) -> UserError:
    """The sentence about an error that `method` raised."""
    place = _raised(error, owner)
    if not place and _is_of_old_gym(method, str(error)):
        return old_gym(title, method, owner)
    place = place or defined(owner, method)
    advice = f" at {place}: correct it there." if place else "."
    kind = type(error).__name__
    return UserError(f"{title} failed in {method}() with {kind} ({why(error)}){advice}")


_GYMNASIUM = {
    "reset": "take seed and options, and return (observation, info)",
    "step": "return (observation, reward, terminated, truncated, info)",
}


def old_gym(title: str, method: str, owner: Any) -> UserError:
    """The sentence about an environment whose methods are those of the old gym."""
    return UserError(
        f"{title} has the old gym API{at(owner, method)}, but must have that of "
        f"gymnasium: its {method}() has to {_GYMNASIUM[method]}."
    )


def wrong_result(title: str, method: str, owner: Any, result: Any) -> UserError:
    """The sentence about what `reset` or `step` of a gymnasium environment returned."""
    # There, reset() returns the observation alone, and step() four things.
    things = len(result) if isinstance(result, tuple) else 1
    if result is not None and things == {"reset": 1, "step": 4}[method]:
        return old_gym(title, method, owner)
    return UserError(
        f"{method}() of {title} returned {shorten(result)}{at(owner, method)}: it has "
        f"to {_GYMNASIUM[method]}."
    )


def at(owner: Any, method: str) -> str:
    """ " at file:line", where a method of an environment begins, or ""."""
    place = defined(owner, method)
    return f" at {place}" if place else ""


def _is_of_old_gym(method: str, text: str) -> bool:
    """Whether an error is what callers of an old environment run into."""
    if method == "step":
        return "values to unpack (expected 5" in text
    texts = ("argument 'seed'", "argument 'options'", "values to unpack (expected 2")
    return method == "reset" and any(found in text for found in texts)


def why(error: BaseException) -> str:
    """An error's message on one line, not too long, whatever it is."""
    try:
        return cut(reason(error), 300)
    except Exception:  # an error may fail to print itself
        return type(error).__name__


def shorten(value: Any, most: int = 80) -> str:
    """A value on one line, at most so many characters."""
    try:
        return cut(repr(value), most)
    except Exception:  # such as of a number with thousands of digits
        return f"of type {type(value).__name__} and cannot be shown"


def cut(text: str, most: int) -> str:
    """A text on one line, at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def raised(error: BaseException) -> str:
    """The innermost line of the user's own that an error came from, or ""."""
    return _raised(error, None)


def _raised(error: BaseException, owner: Any) -> str:
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        return f"{error.filename}:{error.lineno}"
    library = _file(owner)
    found = ""
    cause: BaseException | None = error
    for _ in range(10):  # libraries raise another error over the user's
        if cause is None:
            break
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            place = f"{frame.filename}:{frame.lineno}"
            if _is_own(frame.filename):
                return place
            # The environment may itself be an installed one.
            if frame.filename == library:
                found = found or place
        cause = cause.__cause__ or cause.__context__
    return found


def defined(owner: Any, method: str) -> str:
    """Where a method of an environment begins, as "file:line", or "".

    Of a method that it only inherits from gymnasium.Env: where its class begins.
    """
    kind = type(_unwrapped(owner))
    code = getattr(getattr(kind, method, None), "__code__", None)
    if code is None or code.co_filename.startswith(_OURS):
        return ""
    if not code.co_filename.endswith(_BASE):
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        return f"{inspect.getsourcefile(kind)}:{inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):  # its source is not at hand
        return ""


def _is_own(file: str) -> bool:
    parts = Path(file).parts
    return not (
        file.startswith((_OURS, _STANDARD, "<"))
        or "site-packages" in parts
        or "dist-packages" in parts
    )


def _file(owner: Any) -> str | None:
    """The file of an environment's class, if it is not ours."""
    module = sys.modules.get(type(_unwrapped(owner)).__module__)
    file = getattr(module, "__file__", None)
    return None if file is None or file.startswith(_OURS) else file


def _unwrapped(owner: Any) -> Any:
    """The environment inside of gymnasium's wrappers."""
    try:
        return getattr(owner, "unwrapped", owner)
    except Exception:  # a property of foreign code
        return owner
