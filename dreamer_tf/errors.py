"""Errors that are expected: of what a person asked for, and of a signal."""

import signal


class UserError(Exception):
    """Something that the user can fix.

    The message is one sentence: it names the flag, field or file, what was
    received, and what would be valid. `run.py` prints it without a traceback.
    """


def reason(error: BaseException) -> str:
    """The message of an error in one line, to be put in brackets in a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    named = isinstance(error, KeyError) or not text  # its message is only the key
    return f"{type(error).__name__}: {text}".rstrip(": ") if named else text


def why(error: OSError) -> str:
    """What the operating system says of an error, without its number and file."""
    text = error.strerror or str(error).strip().partition("\n")[0]
    return text or type(error).__name__


def system(error: OSError) -> str:
    """A sentence about an error of the operating system, with the file if known."""
    about = ", ".join(
        str(f) for f in (error.filename, error.filename2) if f is not None
    )
    return f"{about} cannot be used ({why(error)})." if about else f"{why(error)}."


def sentence(error: Exception) -> str:
    """What a command says of an expected error or one of the operating system."""
    return system(error) if isinstance(error, OSError) else str(error)


class Interrupted(Exception):
    """A signal asked a run to stop; everything is saved.

    Attributes:
      number: the signal's number; SIGPIPE if nobody reads the output any more.
      frames: of training so far.
    """

    def __init__(self, number: int, frames: int):
        self.number, self.frames = number, frames
        super().__init__(
            f"{signal.Signals(number).name}: everything is saved, at {frames:,} "
            "frames; the same command goes on from there."
        )
