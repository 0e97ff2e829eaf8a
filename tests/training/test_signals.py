"""Which signals are noted, which are raised, and which stay ignored."""

import os
import signal

import pytest

from dreamer_tf.training import signals


@pytest.fixture(autouse=True)
def usual():
    """The handlers of a shell's foreground; those of the tests are put back."""
    before = {n: signal.signal(n, signal.SIG_DFL) for n in signals.ALL}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", signals.ALL)
def test_noted_and_put_back(number, capfd):
    before = signal.getsignal(number)
    with signals.noted() as came:
        assert came() == 0
        send(number)
        send(number)  # at once: the same one, as `timeout` sends it
        send(signal.SIGUSR1)
        assert came() == number
    assert signal.getsignal(number) == before
    text = f"{number.name}: saving after this decision; once more stops at once."
    assert capfd.readouterr().err.count(text) == 1


def test_noted_where_nobody_reads_standard_error():
    kept = os.dup(2)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    try:
        with signals.noted() as came:
            send(signal.SIGINT)
            assert came() == signal.SIGINT
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(writer)


def test_once_more_acts_as_usual(monkeypatch):
    monkeypatch.setattr(signals, "SAME", 0.0)
    with signals.noted() as came:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            send(number)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert came() == signal.SIGINT


def test_repeated_hangups_are_ignored(monkeypatch):
    monkeypatch.setattr(signals, "SAME", 0.0)
    with signals.noted() as came:
        for _ in range(3):
            send(signal.SIGHUP)
        assert came() == signal.SIGHUP


@pytest.mark.parametrize("number", signals.ALL)
def test_raised(number):
    with pytest.raises(KeyboardInterrupt) as info, signals.raised():
        send(number)
    assert signals.number(info.value) == number
    assert signals.number(KeyboardInterrupt()) == signal.SIGINT


@pytest.mark.parametrize("handle", [signals.noted, signals.raised])
def test_what_nohup_ignores_stays_ignored(handle):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with handle():
        send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
