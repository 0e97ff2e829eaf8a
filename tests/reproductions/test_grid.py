"""The grid, with a stand-in for run.py that leaves the same files."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import dreamer_tf
from dreamer_tf.errors import UserError
from dreamer_tf.training import logdir
from reproductions import collect, grid, tasks
from reproductions.grid import Status
from tests.reproductions import standin

FRAMES = 5000
SCRIPT = "dmc_proprio"


def cells(versions=("v1", "v3"), names=("walker_walk",), seeds=(0, 1)):
    return grid.make_cells(SCRIPT, versions, names, seeds, "lite", FRAMES)


def run(out, chosen=None, retries=2, more=(), stream=None, workers=2):
    """The states at the end, and what a watcher of plain lines has seen."""
    stream = stream or io.StringIO()
    board = grid.Board(retries, stream)
    result = grid.run(
        chosen or cells(),
        out,
        grid.Local(workers),
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A grid that nothing interrupted."""
    out = tmp_path_factory.mktemp("finished")
    result, printed = run(out)
    assert {s.state for s in result.values()} == {grid.DONE}
    return out, printed


def test_cells_are_whole_tables_seed_by_seed():
    made = grid.make_cells("dmc_vision", ["v1", "v2", "v3"], [], [0, 1])
    assert len(made) == 120
    assert [c.seed for c in made] == [0] * 60 + [1] * 60
    assert {(c.version, c.protocol, c.frames) for c in made} == {
        ("v1", "paper", 5_000_000),
        ("v2", "paper", 2_000_000),
        ("v3", "arxiv_v2", 1_000_000),
    }
    made = grid.make_cells("dmc_proprio", ["v3"], [], [0], "nature")
    assert len(made) == 20  # and 18 under arxiv_v2
    assert len(grid.make_cells("dmc_proprio", ["v3"], [], [0])) == 18
    assert len(grid.make_cells("dmc_vision", ["v3"], ["cup_catch"] * 2, [0])) == 1


def test_every_protocol_of_the_presets_has_budgets():
    for benchmark in tasks.BENCHMARKS:
        for version, known in dreamer_tf.configs.presets.PROTOCOLS.items():
            assert set(grid.protocols_of(benchmark, version)) == set(known)


def test_the_command_of_a_cell(tmp_path):
    cell = cells()[0]
    assert cell.path(tmp_path) == tmp_path / "lite/dmc_proprio/v1/walker_walk/0"
    assert cell.log(tmp_path) == tmp_path / "lite/dmc_proprio/v1/walker_walk/0.log"
    assert cell.command(tmp_path)[1:] == [
        str(grid.ROOT / "run.py"),
        "train",
        "--version=v1",
        "--benchmark=dmc_proprio",
        "--protocol=lite",
        "--task=walker_walk",
        "--seed=0",
        "--steps=5000",
        f"--logdir={cell.path(tmp_path)}",
    ]


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
    assert [s.state for s in result.values()] == [grid.DONE]
    assert starts(chosen[0], tmp_path) == [0, 2000, 2000]
    assert results(tmp_path, chosen) == results(finished[0], chosen)
    assert "v3 walker_walk 0: retry 2 of 2 at" in printed
    assert "after a crash: RuntimeError: told to crash at 3000 frames" in printed


def test_a_cell_that_goes_on_crashing_is_reported(tmp_path):
    chosen = cells(["v3"])
    result, _ = run(tmp_path, chosen, retries=1, more=["--crash=3000:9"])
    assert [s.state for s in result.values()] == [grid.FAILED] * 2
    assert starts(chosen[0], tmp_path) == [0, 2000]
    assert grid.failures(result, tmp_path).splitlines() == [
        "2 cells failed: RuntimeError: told to crash at 3000 frames",
        f"  v3 walker_walk 0: {chosen[0].log(tmp_path)}",
        f"  v3 walker_walk 1: {chosen[1].log(tmp_path)}",
    ]


def test_a_mistake_is_not_retried(tmp_path):
    chosen = cells(["v3"], seeds=[0])
    foreign = chosen[0].path(tmp_path) / "thesis.tex"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    result, _ = run(tmp_path, chosen)
    assert [s.state for s in result.values()] == [grid.FAILED]
    assert chosen[0].log(tmp_path).read_text().count("$ ") == 1
    reason = grid.failures(result, tmp_path).splitlines()[0]
    assert reason.startswith(
        "1 cell failed: --logdir=... is not the directory of a run"
    )


def test_a_directory_that_another_process_holds_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "LOOK_AGAIN", 0.1)
    chosen = cells(["v3"], seeds=[0])
    stream = io.StringIO()
    with logdir.locked(chosen[0].path(tmp_path)):
        board = grid.Board(0, stream)

        class Enough(Exception):
            pass

        def show(state, slots):
            board.show(state, slots)
            assert state[chosen[0]].state == grid.ELSEWHERE
            raise Enough

        with pytest.raises(Enough):
            grid.run(chosen, tmp_path, grid.Local(1), 0, show, standin.command())
        assert not chosen[0].log(tmp_path).exists()
    assert f"elsewhere: process {os.getpid()} has it" in stream.getvalue()
    result, _ = run(tmp_path, chosen)
    assert result[chosen[0]].state == grid.DONE


def test_another_launcher_is_faster(tmp_path, monkeypatch):
    """The directory is free when looked at and taken when the run starts."""
    monkeypatch.setattr(grid, "LOOK_AGAIN", 0.1)
    chosen = cells(["v3"], seeds=[0])
    with contextlib.ExitStack() as lock:
        lock.enter_context(logdir.locked(chosen[0].path(tmp_path)))
        first = iter([None, None])  # at the start of the grid, and of the cell
        real = logdir.holder
        monkeypatch.setattr(logdir, "holder", lambda path: next(first, real(path)))

        def show(state, slots):
            if state[chosen[0]].state == grid.ELSEWHERE:
                lock.close()

        command = standin.command()
        result = grid.run(chosen, tmp_path, grid.Local(1), 0, show, command, pause=0.05)
    assert result[chosen[0]].state == grid.DONE
    assert chosen[0].log(tmp_path).read_text().count("$ ") == 2


def test_two_grids_share_the_work(tmp_path, finished, monkeypatch):
    """No frame is trained twice.

    Both may start a cell in the same moment; the later one finds it taken, or done.
    """
    monkeypatch.setattr(grid, "LOOK_AGAIN", 0.1)
    other = subprocess.Popen(driver(tmp_path, "--pause=0.1"))
    result, _ = run(tmp_path, more=["--pause=0.1"], workers=1)
    assert other.wait(60) == 0
    assert {s.state for s in result.values()} == {grid.DONE}
    for cell in cells():
        assert [frames for frames in starts(cell, tmp_path) if frames < FRAMES] == [0]
    assert results(tmp_path) == results(finished[0])


def driver(out, *more):
    """The grid of `cells()` in a process of its own."""
    code = (
        "from pathlib import Path\n"
        "from tests.reproductions import test_grid\n"
        f"test_grid.run(Path({str(out)!r}), more={list(more)!r}, workers=2)"
    )
    return [sys.executable, "-c", code]


def pids(out):
    lines = [f.read_text().splitlines() for f in out.glob("**/*.starts")]
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


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_killed_and_started_again(tmp_path, finished):
    """SIGKILL leaves no child behind; the second start does the rest and no more."""
    launcher = subprocess.Popen(driver(tmp_path, "--pause=0.3"))
    # One pair of cells is done, the other pair has begun.
    wait_for(lambda: sum(grid.is_done(c, tmp_path) for c in cells()) >= 2)
    wait_for(lambda: len(pids(tmp_path)) == 4)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(map(alive, pids(tmp_path))))
    done = [cell for cell in cells() if grid.is_done(cell, tmp_path)]
    assert 2 <= len(done) < 4

    result, _ = run(tmp_path)
    assert {s.state for s in result.values()} == {grid.DONE}
    for cell in cells():
        assert len(starts(cell, tmp_path)) == (1 if cell in done else 2)
    assert results(tmp_path) == results(finished[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_stops_the_children(tmp_path, number):
    launcher = subprocess.Popen(
        driver(tmp_path, "--pause=1"),
        stderr=subprocess.PIPE,
        # Background jobs of a shell, such as these tests, may ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: len(pids(tmp_path)) == 2)
    launcher.send_signal(number)
    assert b"KeyboardInterrupt" in launcher.communicate(timeout=60)[1]
    assert not any(map(alive, pids(tmp_path)))


def test_threads_are_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    shares = [grid.Local(n)._environment for n in (1, 3, 20)]
    assert [s["TF_NUM_INTRAOP_THREADS"] for s in shares] == ["8", "2", "1"]
    assert [s["OMP_NUM_THREADS"] for s in shares] == ["7", "7", "7"]


# --- What is shown ----------------------------------------------------------


def drawn(states, height):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, height=height)
    console.print(grid.table(states, 2, height))
    return console.file.getvalue()


def test_the_table_of_a_small_grid():
    a, b, c, d = cells()
    text = drawn(
        {
            a: Status(grid.DONE, 5000, 812.34, 10.0),
            b: Status(grid.RUNNING, 2500, 99.0, 10.0),
            c: Status(grid.WAITING),
            d: Status(grid.FAILED, 100, None, None, 3, "x"),
        },
        height=24,
    )
    assert "v1 walker_walk 0" in text and "812.3" in text
    assert "2,500 of 5,000" in text and "4 min" in text  # 2500 frames at 10 a second
    assert "failed (crash 3)" in text
    # The waiting one takes 500 s, the running one 250 s, on two slots.
    assert "1 done, 1 running, 1 waiting, 1 failed; 38.0 % of all frames, 8 min" in text


def test_a_large_grid_fits_the_screen():
    many = grid.make_cells("dmc_vision", ["v3"], [], range(5))
    states = {c: Status(grid.RUNNING if i < 3 else grid.WAITING, speed=10.0)
              for i, c in enumerate(many)}  # fmt: skip
    text = drawn(states, height=24)
    assert len(text.splitlines()) <= 24 and text.count("running") == 4
    assert "100 cells: 3 running, 97 waiting" in text
    for status in states.values():
        status.state = grid.RUNNING
    text = drawn(states, height=24)
    assert len(text.splitlines()) <= 24 and "and 83 more" in text


def test_time_left_is_by_version():
    a, b, *_ = cells()  # v1, v3
    states = {a: Status(grid.RUNNING, 4000, speed=1.0), b: Status()}
    assert grid.grid_seconds_left(states, 1) is None  # v3 has not been seen
    states[b].speed = 10.0
    assert grid.grid_seconds_left(states, 1) == 1000 + 500
    assert grid.grid_seconds_left(states, 2) == 1000


# --- What it would cost -----------------------------------------------------


@pytest.mark.parametrize("version", tasks.VERSIONS)
def test_updates_are_those_of_the_loop(version):
    """Counted for the plan as the training loop makes them."""
    from dreamer_tf.envs.vector import Envs
    from dreamer_tf.replay import make_replay
    from dreamer_tf.training.experience import (
        Components,
        Decision,
        Update,
        experience,
    )
    from dreamer_tf.training.schedules import Progress, make_schedule
    from tests import fakes

    class Agent(fakes.FakeAgent):
        latents = ()

        def begin(self, batch):
            return lambda: ({}, {})

    class Replay:  # the version's own, but drawing nothing
        def __init__(self, replay):
            self.add, self.size = replay.add, replay.__len__

        def __len__(self):
            return self.size()

        def sample(self):
            return {"id": None}

    settings, config = dreamer_tf.presets.load(version, "dmc_proprio", "lite")

    def make_env():
        return fakes.FakeEnv(1000, settings.repeat)

    components = Components(
        Agent(),
        Envs([make_env] * settings.envs, 0, (0, 0)),
        Replay(make_replay(version, config, 10**9, 0)),
        make_schedule(version, config),
        make_env,
    )
    progress, updates = Progress(), 0
    for event in experience(components, progress, settings.repeat, 0):
        updates += isinstance(event, Update)
        if isinstance(event, Decision) and progress.frames >= 9000:
            break
    assert updates == grid.count_updates(version, settings, config, 9000) > 100


def test_updates_of_the_papers():
    """Per 100,000 frames: 10K, 10K and 25K (results/published)."""
    for version, protocol, expected in (
        ("v1", "paper", 10_000),
        ("v2", "paper", 10_000),
        ("v3", "arxiv_v2", 25_000),
    ):
        settings, config = dreamer_tf.configs.presets.load(
            version, "dmc_vision", protocol
        )
        counts = [grid.count_updates(version, settings, config, f * 100_000)
                  for f in (1, 2)]  # fmt: skip
        assert abs(counts[1] - counts[0] - expected) <= 100


def test_dry_run(finished, capsys, monkeypatch):
    out, _ = finished
    monkeypatch.setattr(
        grid, "SECONDS_PER_UPDATE", {("v3", SCRIPT, "lite"): (0.05, "two cores, here")}
    )
    before = sorted(out.rglob("*"))
    arguments = ["--versions=v1,v3", "--protocol=lite", "--tasks=walker_walk"]
    arguments += ["--steps=5e3", "--seeds=3", f"--out={out}", "--dry_run"]
    assert grid.main(SCRIPT, "", arguments) == 0
    printed = capsys.readouterr().out
    head, first, second, *_ = printed.splitlines()
    assert head.startswith("version protocol  cells  done frames decisions updates")
    assert first.split()[:6] == ["v1", "lite", "3", "2", "5,000", "1,250"]
    assert "not measured" in first and "not measured" not in second
    settings, config = dreamer_tf.configs.presets.load("v3", SCRIPT, "lite")
    updates = grid.count_updates("v3", settings, config, 5000)
    hours = f"{0.05 * updates / 3600:.1f}"
    assert second.split()[4:] == [
        "5,000",
        "1,250",
        f"{updates:,}",
        f"{3 * updates:,}",
        "4",
        "0.050",
        hours,
    ]
    assert f"6 cells, 30,000 frames; below {out}." in printed
    assert "v3 lite: two cores, here" in printed
    assert sorted(out.rglob("*")) == before


# --- The command ------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--versions=v1,v4", "--versions names the unknown version 'v4'; valid are v1"),
        ("--tasks=walker_wlak", "'walker_wlak'; did you mean walker_walk?"),
        (
            "--protocol=paper",
            "--protocol=paper does not exist for v3; there are v1: paper, lite; "
            "v2: paper, lite; v3: arxiv_v2, nature, lite.",
        ),
        ("--seeds=-1", "--seeds=-1 must be a count such as 5 or a list such as 0,3."),
        ("--seeds=0", "--seeds=0 must be a count"),
        ("--seeds=1,1", "--seeds=1,1 must be a count"),
        ("--steps=lots", "--steps=lots must be a whole number of frames above 0."),
        ("--steps=0.5", "--steps=0.5 must be a whole number"),
        ("--versions=", "--versions and --tasks must each name at least one."),
        ("--tasks=", "--versions and --tasks must each name at least one."),
        ("--workers=0", "--workers=0: it must be at least 1."),
        ("--cpus=2", "--cpus is for --launcher=ray, which was not given."),
        ("--stepz=5", "Unknown command line flag 'stepz'. Did you mean: steps ?"),
        ("stuff", "'stuff' is not a flag: write --name=value."),
    ],
)
def test_bad_flags(flag, sentence, tmp_path, capsys):
    out = tmp_path / "out"
    assert grid.main(SCRIPT, "", [f"--out={out}", flag]) == 2
    error = capsys.readouterr().err
    assert error.startswith("reproductions.dmc_proprio: ") and sentence in error
    assert not out.exists()


def test_an_out_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert grid.main(SCRIPT, "", [f"--out={tmp_path / 'file' / 'out'}"]) == 2
    assert "cannot be written: Not a directory." in capsys.readouterr().err


def test_seeds():
    assert grid.parse_seeds("3") == [0, 1, 2]
    assert grid.parse_seeds("0,3") == [0, 3]
    assert grid.parse_seeds("3,") == [3]


def test_from_flags_to_the_report(finished, tmp_path, capsys, monkeypatch):
    """Cells that are done are collected and reported; the rest is named."""
    monkeypatch.setattr(grid, "run", fake_run(finished[0]))
    arguments = [f"--out={finished[0]}", "--protocol=lite", "--tasks=walker_walk"]
    arguments += ["--versions=v1,v3", "--steps=5000", "--seeds=3"]
    assert grid.main(SCRIPT, "", arguments) == 1
    printed = capsys.readouterr()
    assert "DMC proprio, lite, 5K frames" in printed.out
    assert printed.out.rstrip().endswith("report/report.html")
    assert (finished[0] / "runs/lite/v3/dmc_proprio/walker_walk.csv").exists()
    assert "2 cells failed: no luck\n  v1 walker_walk 2: " in printed.err


def test_all_runs_below_a_folder_are_collected(finished, tmp_path):
    files = collect.collect([finished[0] / "lite"], tmp_path / "all")
    assert len(files) == 4 and len(set(files)) == 2
    for file in files:
        assert set(pd.read_csv(file).seed) == {0, 1}
    # One that cannot be read leaves the results as they are.
    shutil.copytree(finished[0] / "lite", tmp_path / "lite")
    (tmp_path / "lite/dmc_proprio/v3/walker_walk/1/scores.csv").write_text("no table")
    with pytest.raises(UserError, match=r"1/scores\.csv lacks the column"):
        collect.collect([tmp_path / "lite"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def fake_run(out):
    def run(chosen, out, launcher, retries, show):
        states = {c: Status() for c in chosen}
        for cell, status in states.items():
            grid.settle(cell, out, status)
            if status.state == grid.WAITING:
                status.state, status.reason = grid.FAILED, "no luck"
        return states

    return run


def test_interrupting_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(grid, "run", interrupt)
    arguments = [f"--out={tmp_path}", "--versions=v3"]
    assert grid.main(SCRIPT, "", arguments) == 130
    command = f"python -m reproductions.dmc_proprio --out={tmp_path} --versions=v3"
    assert f"go on with: {command}" in capsys.readouterr().err
