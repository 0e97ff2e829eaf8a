"""The one exception that means "the input was wrong", not "the code is"."""


class UserError(Exception):
    """A mistake a person can fix.

    The message is one sentence: it names the flag, field or file, what was
    received, and what would be valid. `run.py` prints it without a traceback.
    """
