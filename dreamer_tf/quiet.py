"""Loads Keras and its backend without the notes that TensorFlow prints meanwhile."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

# What TensorFlow says before its own log level counts: what it found and did not find.
NOTES = r"^\(I[0-9]\{4\} \|WARNING: All log messages before absl\)"


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Around the first import of Keras: leaves the notes out of stderr.

    What TensorFlow logs later (errors that are none, where there is no GPU) goes by its
    own log level, which is raised unless it was set. The rest passes through a process
    of its own, so that nothing is lost should a library end this one.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules or not shutil.which("grep"):
        yield
        return
    sys.stderr.flush()
    grep = subprocess.Popen(["grep", "-v", NOTES], stdin=subprocess.PIPE, stdout=2)
    assert grep.stdin is not None
    before = os.dup(2)
    os.dup2(grep.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        grep.stdin.close()
        grep.wait()
