"""A small grid for the tests, run with the stand-in for run.py."""

import io
import sys
import time
from pathlib import Path

from reproductions import launch
from reproductions.board import Board
from reproductions.cells import make_cells
from tests.reproductions import standin

FRAMES = 5000
SCRIPT = "dmc_proprio"


def cells(versions=("v1", "v3"), names=("walker_walk",), seeds=(0, 1)):
    return make_cells(SCRIPT, versions, names, seeds, "lite", FRAMES)


def run(out, chosen=None, retries=2, more=(), stream=None, workers=2):
    """The states at the end, and what a watcher of plain lines has seen."""
    stream = stream or io.StringIO()
    board = Board(retries, stream)
    result = launch.run(
        chosen or cells(),
        out,
        launch.Local(workers),
        retries,
        board.show,
        standin.command(*more),
        pause=0.05,
    )
    return result, stream.getvalue()


def starts(cell, out):
    """Frames at which a cell was started, in order."""
    lines = cell.path(out).with_suffix(".starts").read_text().splitlines()
    return [int(line.split()[0]) for line in lines]


def results(out, chosen=None):
    return {c: (c.path(out) / "scores.csv").read_text() for c in chosen or cells()}


def driver(out, *more):
    """The grid of `cells()` in a process of its own."""
    code = (
        "from pathlib import Path\n"
        "from tests.reproductions import grids\n"
        f"grids.run(Path({str(out)!r}), more={list(more)!r}, workers=2)"
    )
    return [sys.executable, "-c", code]


def pids(out):
    # Beside the runs' directories, in which a walk would meet checkpoints that vanish.
    files = out.glob("*/*/*/*/*.starts")
    lines = [file.read_text().splitlines() for file in files]
    return [int(line.split()[1]) for file in lines for line in file]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
