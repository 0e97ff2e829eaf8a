"""What is shown of a grid while it runs."""

import io

from reproductions.board import Board, grid_seconds_left, table
from reproductions.cells import (
    DONE,
    ENDING,
    FAILED,
    RUNNING,
    SAVING,
    WAITING,
    Status,
    make_cells,
)
from tests.reproductions.grids import cells


def drawn(states, height):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, height=height)
    console.print(table(states, 2, height))
    return console.file.getvalue()


def test_the_table_of_a_small_grid():
    a, b, c, d = cells()
    text = drawn(
        {
            a: Status(DONE, 5000, 812.34, 10.0),
            b: Status(RUNNING, 2500, 99.0, 10.0),
            c: Status(WAITING),
            d: Status(FAILED, 100, None, None, 3, "x"),
        },
        height=24,
    )
    assert "v1 walker_walk 0" in text and "812.3" in text
    assert "2,500 of 5,000" in text and "4 min" in text  # 2500 frames at 10 a second
    assert "failed (crash 3)" in text
    # The waiting one takes 500 s, the running one 250 s, on two slots.
    assert "1 done, 1 running, 1 waiting, 1 failed; 38.0 % of all frames, 8 min" in text


def test_a_large_grid_fits_the_screen():
    many = make_cells("dmc_vision", ["v3"], [], range(5))
    states = {c: Status(RUNNING if i < 3 else WAITING, speed=10.0)
              for i, c in enumerate(many)}  # fmt: skip
    text = drawn(states, height=24)
    assert len(text.splitlines()) <= 24 and text.count("running") == 4
    assert "100 cells: 3 running, 97 waiting" in text
    for status in states.values():
        status.state = RUNNING
    text = drawn(states, height=24)
    assert len(text.splitlines()) <= 24 and "and 83 more" in text


def test_an_interrupted_grid_says_what_its_runs_do():
    a, b, c, d = cells()
    states = {a: Status(DONE, 5000), b: Status(SAVING, 2500, speed=1.0)}
    states |= {c: Status(ENDING, speed=1.0), d: Status(WAITING)}
    text = drawn(states, height=24)
    assert text.count("saving…") == 2 and text.count("ending") == 2
    assert "1 done, 1 saving…, 1 ending, 1 waiting; 37.5 % of all frames" in text
    assert "left" not in text.splitlines()[-1]
    stream = io.StringIO()
    Board(2, stream).show(states, 1)
    assert f"{b}: saving…" in stream.getvalue().splitlines()


def test_time_left_is_by_version():
    a, b, *_ = cells()  # v1, v3
    states = {a: Status(RUNNING, 4000, speed=1.0), b: Status()}
    assert grid_seconds_left(states, 1) is None  # v3 has not been seen
    states[b].speed = 10.0
    assert grid_seconds_left(states, 1) == 1000 + 500
    assert grid_seconds_left(states, 2) == 1000
