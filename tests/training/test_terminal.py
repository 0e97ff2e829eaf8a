import io

import pytest

from dreamer_tf.training.terminal import Terminal, duration


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_plain_lines_every_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    terminal = Terminal(100_000, stream, clock)
    for second in range(26):
        clock.now = float(second)
        terminal.show(100 * second, 10 * second, None if second < 20 else 12.34)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(
        "2,000 of 100,000 frames  2.0 %  100.0 frames/s  10.00 updates/s  return 12.3"
    )
    # The first update was over at second 1: 100 frames a second since then.
    assert lines[2].endswith("GB  16 min left")


def left(terminal, clock, *steps):
    """What is said to be left after each (second, frames, updates)."""
    found = []
    for second, frames, updates in steps:
        clock.now = float(second)
        terminal.show(frames, updates, None)
        said = terminal._stream.getvalue().splitlines()[-1:]
        found += [line.split("  ")[-1] for line in said]
    return found


def test_no_time_left_before_a_speed_was_measured():
    """Random frames cost less than those with updates, and the first one compiles."""
    clock = Clock()
    terminal = Terminal(10_000, io.StringIO(), clock)
    before = left(terminal, clock, (10, 500, 0), (20, 1000, 0), (70, 1001, 1))
    assert not any("left" in column for column in before)
    found = left(terminal, clock, (80, 1011, 11), (90, 1021, 21))
    assert found == ["2 h 29 min left", "2 h 29 min left"]  # one frame a second


def test_time_left_counts_updates_made_at_once():
    """DreamerV1 collects 1000 frames and then makes 100 updates."""
    clock = Clock()
    terminal = Terminal(11_000, io.StringIO(), clock)
    left(terminal, clock, (1, 500, 0))
    found = left(terminal, clock, (10, 1000, 100), (20, 1900, 100), (100, 2000, 200))
    assert "left" not in "".join(found[:2]) and found[2] == "13 min left"


def test_a_continued_run_measures_anew():
    clock = Clock()
    terminal = Terminal(2000, io.StringIO(), clock)
    found = left(terminal, clock, (10, 1000, 50), (40, 1001, 51), (60, 1021, 71))
    assert "left" not in "".join(found[:2]) and found[2] == "16 min left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (40, "40 s"),
        (5 * 60, "5 min"),
        (3 * 3600 + 5 * 60, "3 h 05 min"),
        (24 * 3600 - 1, "23 h 59 min"),
        (24 * 3600, "1 d 0 h"),
        (130 * 3600 + 3599, "5 d 10 h"),
        (10_000 * 3600, "416 d 16 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_speed_is_that_of_the_last_minute():
    clock = Clock()
    terminal = Terminal(1000, io.StringIO(), clock)
    for second in range(0, 200, 10):
        clock.now = float(second)
        slow = second <= 100
        rates = terminal.rates(second if slow else 100 + 5 * (second - 100), 0)
    assert rates["machine/frames_per_second"] == pytest.approx(5)
    assert 0.001 < rates["machine/memory_gb"] < 100


def test_a_live_line_where_somebody_watches():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    stream, clock = Screen(), Clock()
    terminal = Terminal(1000, stream, clock)
    clock.now = 1.0
    terminal.show(100, 10, 5.0)
    terminal.say("a note [with brackets]")
    terminal.close()
    assert "100 of 1,000 frames" in stream.getvalue()
    assert "a note [with brackets]" in stream.getvalue()
