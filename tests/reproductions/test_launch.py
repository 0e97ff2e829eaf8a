"""Running a grid, with a stand-in for run.py that leaves the same files."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from dreamer_tf import output
from dreamer_tf.training import logdir, signals
from reproductions import launch
from reproductions.board import Board, failures
from reproductions.cells import (
    DONE,
    ELSEWHERE,
    FAILED,
    SAVING,
    Status,
    is_done,
    look,
)
from tests.reproductions import standin
from tests.reproductions.grids import (
    FRAMES,
    alive,
    cells,
    driver,
    pids,
    results,
    run,
    starts,
    wait_for,
)


def test_a_grid_runs_every_cell_once(finished):
    out, printed = finished
    for cell in cells():
        assert starts(cell, out) == [0]
        rows = pd.read_csv(cell.path(out) / "scores.csv")
        assert rows.frames.tolist() == [1000, 2000, 3000, 4000, 5000]
        assert f"$ {sys.executable}" in cell.log(out).read_text()
    lines = printed.splitlines()
    assert lines[0].startswith("4 cells: 2 running, 2 waiting; 0.0 % of all frames")
    mean = pd.read_csv(cells()[0].path(out) / "scores.csv").score.mean()
    assert f"v1 walker_walk 0: done, its last 5 scores average {mean:.1f}" in lines
    assert sum(": done" in line for line in lines) == 4
    assert sum(": running at 0 of 5,000 frames" in line for line in lines) == 4


def test_done_cells_are_skipped(finished):
    out, _ = finished
    before = results(out)
    result, printed = run(out)
    assert [s.frames for s in result.values()] == [FRAMES] * 4
    assert all(starts(cell, out) == [0] for cell in cells())
    assert printed == "4 cells: 4 done; 100.0 % of all frames\n"
    assert results(out) == before


def test_a_crash_is_retried_from_the_checkpoint(tmp_path, finished):
    chosen = cells(["v3"], seeds=[0])
    result, printed = run(tmp_path, chosen, more=["--crash=3000:2"])
    assert [s.state for s in result.values()] == [DONE]
    assert starts(chosen[0], tmp_path) == [0, 2000, 2000]
    assert results(tmp_path, chosen) == results(finished[0], chosen)
    assert "v3 walker_walk 0: retry 2 of 2 at" in printed
    assert "after a crash: RuntimeError: told to crash at 3000 frames" in printed


def test_a_cell_that_goes_on_crashing_is_reported(tmp_path):
    chosen = cells(["v3"])
    result, _ = run(tmp_path, chosen, retries=1, more=["--crash=3000:9"])
    assert [s.state for s in result.values()] == [FAILED] * 2
    assert starts(chosen[0], tmp_path) == [0, 2000]
    assert failures(result, tmp_path).splitlines() == [
        "2 cells failed: RuntimeError: told to crash at 3000 frames",
        f"  v3 walker_walk 0: {chosen[0].log(tmp_path)}",
        f"  v3 walker_walk 1: {chosen[1].log(tmp_path)}",
    ]


def test_a_cell_that_cannot_be_started_costs_only_itself(tmp_path, monkeypatch):
    broken, full, good = cells(seeds=(0, 1))[:3]
    broken.log(tmp_path).mkdir(parents=True)
    start = launch.start

    def no_room(command, log, variables):
        if log == full.log(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device", str(log))
        return start(command, log, variables)

    monkeypatch.setattr(launch, "start", no_room)
    result, _ = run(tmp_path, [broken, full, good], retries=1)
    assert [result[cell].state for cell in (broken, full, good)] == [
        FAILED,
        FAILED,
        DONE,
    ]
    assert "it cannot be started" in result[broken].reason
    assert "No space left" in result[full].reason and result[full].crashes == 2


@pytest.mark.parametrize("frames", ["null", '"x"', "[]", "1e400", "{}"])
def test_damaged_files_do_not_end_a_grid(tmp_path, frames):
    (cell,) = cells(["v3"], seeds=[0])
    path = cell.path(tmp_path)
    path.mkdir(parents=True)
    row = '{"frames": 1000, "updates": 5, "machine/frames_per_second": null}'
    bad = f'{{"frames": {frames}, "updates": 5}}'
    (path / "metrics.jsonl").write_text(f"{row}\n{bad}\n" + "[" * 9999 + "\n")
    rows = "1000,7.5,9,train,train,0,0,0\n2000,1x.5,9,train,train,0,0,0\n3,4\n"
    (path / "scores.csv").write_text(rows)
    status = Status()
    look(cell, tmp_path, status)
    assert status.frames == 1000 and status.score == 7.5


def test_a_mistake_is_not_retried(tmp_path):
    chosen = cells(["v3"], seeds=[0])
    foreign = chosen[0].path(tmp_path) / "thesis.tex"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    result, _ = run(tmp_path, chosen)
    assert [s.state for s in result.values()] == [FAILED]
    assert chosen[0].log(tmp_path).read_text().count("$ ") == 1
    reason = failures(result, tmp_path).splitlines()[0]
    assert reason.startswith(
        "1 cell failed: --logdir=... is not the directory of a run"
    )


def test_a_directory_that_another_process_holds_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "LOOK_AGAIN", 0.1)
    chosen = cells(["v3"], seeds=[0])
    stream = io.StringIO()
    with logdir.locked(chosen[0].path(tmp_path)):
        board = Board(0, stream)

        class Enough(Exception):
            pass

        def show(state, slots):
            board.show(state, slots)
            assert state[chosen[0]].state == ELSEWHERE
            raise Enough

        with pytest.raises(Enough):
            launch.run(chosen, tmp_path, launch.Local(1), 0, show, standin.command())
        assert not chosen[0].log(tmp_path).exists()
    assert f"elsewhere: process {os.getpid()} has it" in stream.getvalue()
    result, _ = run(tmp_path, chosen)
    assert result[chosen[0]].state == DONE


def test_another_launcher_is_faster(tmp_path, monkeypatch):
    """The directory is free when looked at and taken when the run starts."""
    monkeypatch.setattr(launch, "LOOK_AGAIN", 0.1)
    chosen = cells(["v3"], seeds=[0])
    with contextlib.ExitStack() as lock:
        lock.enter_context(logdir.locked(chosen[0].path(tmp_path)))
        first = iter([None, None])  # at the start of the grid, and of the cell
        real = logdir.holder
        monkeypatch.setattr(logdir, "holder", lambda path: next(first, real(path)))

        def show(state, slots):
            if state[chosen[0]].state == ELSEWHERE:
                lock.close()

        command = standin.command()
        result = launch.run(
            chosen, tmp_path, launch.Local(1), 0, show, command, pause=0.05
        )
    assert result[chosen[0]].state == DONE
    assert chosen[0].log(tmp_path).read_text().count("$ ") == 2


def test_two_grids_share_the_work(tmp_path, finished, monkeypatch):
    """No frame is trained twice.

    Both may start a cell in the same moment; the later one finds it taken, or done.
    """
    monkeypatch.setattr(launch, "LOOK_AGAIN", 0.1)
    other = subprocess.Popen(driver(tmp_path, "--pause=0.1"))
    result, _ = run(tmp_path, more=["--pause=0.1"], workers=1)
    assert other.wait(60) == 0
    assert {s.state for s in result.values()} == {DONE}
    for cell in cells():
        assert [frames for frames in starts(cell, tmp_path) if frames < FRAMES] == [0]
    assert results(tmp_path) == results(finished[0])


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_killed_and_started_again(tmp_path, finished):
    """SIGKILL leaves no child behind; the second start does the rest and no more."""
    launcher = subprocess.Popen(driver(tmp_path, "--pause=0.3"))
    # One pair of cells is done, the other pair has begun.
    wait_for(lambda: sum(is_done(c, tmp_path) for c in cells()) >= 2)
    wait_for(lambda: len(pids(tmp_path)) == 4)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(map(alive, pids(tmp_path))))
    done = [cell for cell in cells() if is_done(cell, tmp_path)]
    assert 2 <= len(done) < 4

    result, _ = run(tmp_path)
    assert {s.state for s in result.values()} == {DONE}
    for cell in cells():
        assert len(starts(cell, tmp_path)) == (1 if cell in done else 2)
    assert results(tmp_path) == results(finished[0])


@pytest.mark.parametrize("number", signals.ALL)
def test_interrupting_stops_the_children(tmp_path, number):
    launcher = subprocess.Popen(
        driver(tmp_path, "--pause=1"),
        stderr=subprocess.PIPE,
        # Background jobs of a shell, such as these tests, may ignore them.
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in signals.ALL],
    )
    wait_for(lambda: len(pids(tmp_path)) == 2)
    launcher.send_signal(number)
    assert b"KeyboardInterrupt" in launcher.communicate(timeout=60)[1]
    assert not any(map(alive, pids(tmp_path)))


SLOW = (
    "import signal, sys, time\n"
    "def save(*_):\n"
    "    time.sleep(1.5)\n"
    "    print('saved', flush=True)\n"
    "    sys.exit(143)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print('ready', flush=True)\n"
    "while True:\n"
    "    time.sleep(0.05)\n"
)


def slow_run(tmp_path):
    log = tmp_path / "log"
    job = launch.start([sys.executable, "-c", SLOW], log, {})
    wait_for(lambda: "\nready" in log.read_text())
    return job, log


def test_runs_get_the_time_that_they_need_to_save(tmp_path, capsys):
    job, log = slow_run(tmp_path)
    launch.Local(1).stop([job])
    assert job.returncode == 143 and log.read_text().endswith("saved\n")
    assert "1 running: each saves and ends" in capsys.readouterr().err
    launch.Local(1).stop([job])  # it has ended already
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("later", [False, True])
def test_another_signal_ends_runs_at_once(tmp_path, monkeypatch, later):
    """But not one in the same moment, which is the first one once more."""
    monkeypatch.setattr(signals, "SAME", 0.0 if later else 60.0)
    job, log = slow_run(tmp_path)
    sleep, calls = time.sleep, []

    def interrupted(seconds):
        calls.append(seconds)
        if len(calls) == 1:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(launch.time, "sleep", interrupted)
    if later:
        with pytest.raises(KeyboardInterrupt):
            launch.Local(1).stop([job])
        assert job.returncode == -signal.SIGKILL
    else:
        launch.Local(1).stop([job])
        assert job.returncode == 143 and log.read_text().endswith("saved\n")


def test_a_grid_whose_output_nobody_reads_stops_its_runs(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, pytest.raises(output.Closed):
        run(tmp_path, stream=stream, more=["--pause=1"])
    assert not any(map(alive, pids(tmp_path)))


def test_threads_are_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    shares = [launch.Local(n)._environment for n in (1, 3, 20)]
    assert [s["TF_NUM_INTRAOP_THREADS"] for s in shares] == ["8", "2", "1"]
    assert [s["OMP_NUM_THREADS"] for s in shares] == ["7", "7", "7"]


class Instant:
    """A launcher whose jobs never end by themselves."""

    ending = SAVING

    def __init__(self):
        self.stopped = []

    def slots(self):
        return 2

    def start(self, command, log):
        return command

    def poll(self, job):
        return None

    def stop(self, jobs):
        self.stopped += jobs


@pytest.mark.parametrize("kind", [KeyboardInterrupt, output.Closed])
def test_an_interrupted_grid_is_shown_saving(tmp_path, kind):
    launcher, shown = Instant(), []

    def show(grid, slots):
        shown.append([status.state for status in grid.values()])
        assert not launcher.stopped  # it is said before
        if len(shown) == 1 or kind is output.Closed:
            raise kind

    with pytest.raises(kind):
        launch.run(cells(), tmp_path, launcher, 0, show)
    assert shown[0] == ["running", "running", "waiting", "waiting"]
    assert shown[1] == ["saving…", "saving…", "waiting", "waiting"]
    assert len(launcher.stopped) == 2


def test_no_speed_before_the_first_update(tmp_path):
    """Random frames are fast: they say nothing about the time left."""
    cell, status = cells()[0], Status()
    path = cell.path(tmp_path)
    path.mkdir(parents=True)
    rows = [(100, 0, 50.0), (200, 10, 2.0)]
    for count, expected in ((1, None), (2, 2.0)):
        lines = [
            json.dumps({"frames": f, "updates": u, "machine/frames_per_second": s})
            for f, u, s in rows[:count]
        ]
        (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        look(cell, tmp_path, status)
        assert (status.frames, status.speed) == (rows[count - 1][0], expected)
