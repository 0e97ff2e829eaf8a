"""The exceptions that are no mistakes of the code."""

import signal


class UserError(Exception):
    """A mistake a person can fix.

    The message is one sentence: it names the flag, field or file, what was
    received, and what would be valid. `run.py` prints it without a traceback.
    """


def reason(error: BaseException) -> str:
    """What an error says, in one line, for the brackets of a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    named = isinstance(error, KeyError) or not text  # a lone key says nothing
    return f"{type(error).__name__}: {text}".rstrip(": ") if named else text


class Interrupted(Exception):
    """A signal asked a run to stop; everything is saved.

    Attributes:
      number: of the signal.
      frames: of training so far.
    """

    def __init__(self, number: int, frames: int):
        self.number, self.frames = number, frames
        super().__init__(
            f"{signal.Signals(number).name}: everything is saved, at {frames:,} "
            "frames; the same command goes on from there."
        )
