"""The exceptions that are no mistakes of the code."""

import signal


class UserError(Exception):
    """A mistake a person can fix.

    The message is one sentence: it names the flag, field or file, what was
    received, and what would be valid. `run.py` prints it without a traceback.
    """


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
