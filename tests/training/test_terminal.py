import io

import pytest

from dreamer_tf.training.terminal import Terminal


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
    assert lines[2].endswith("GB  16 min left")


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
