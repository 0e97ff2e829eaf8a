"""Runs survive what `tests.faults` does to them; `make test-faults` does more of it."""

import json

import numpy as np
import pytest

from dreamer_tf import programs
from dreamer_tf.training import logs
from tests import fault_events, faults


def assert_passed(rows):
    failed = [row for row in rows if row.failed]
    assert rows and not failed


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    monkeypatch.setenv(programs.WHERE, str(tmp_path / "programs"))  # compiled once
    run = ("v3", "toy", faults.TOY.replace("--steps=800", "--steps=200"))
    row = faults.kill_at_random(run, 1, 4, tmp_path)
    assert row.passed == 1, row.found


@pytest.mark.parametrize("what", fault_events.STARTS)
def test_killed_before_a_change_of_its_files(tmp_path, what):
    """At the first ones, some in between and the last; `make test-faults` at all."""
    found, passed, failed = fault_events.kill_at_events(
        what, tmp_path, (2, 3, 9, 37, -2)
    )
    assert (passed, failed) == (5, 0), found


def test_damaged_files(tmp_path):
    assert_passed(list(faults.damaged_files(1, tmp_path, alike=2)))


def test_disks(tmp_path):
    rows = faults.disks(tmp_path)
    if not sum(row.passed + row.failed for row in rows):
        pytest.skip(rows[0].found)
    assert_passed(rows)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_memory_stays_flat(version, tmp_path):
    """Thousands of updates, hundreds of episodes, evaluations, pictures, saves."""
    more = "--length=20 --steps=8000 --jit=True --video_every=1000 --log_every=100"
    more += " --train_every=5" if version == "v2" else ""
    more += " --train_ratio=8" if version == "v3" else ""
    log = tmp_path / "log"
    command = faults.command(version, "toy", more, tmp_path / "run")
    assert faults.start(command, log).wait() == 0, log.read_text()
    rows = [row for row in logs.read_metrics(tmp_path / "run") if "updates" in row]
    memory = np.array([row["machine/memory_gb"] for row in rows])
    third = len(memory) // 3
    print(json.dumps({"updates": rows[-1]["updates"], "gb": memory[::8].tolist()}))
    assert rows[-1]["updates"] > 1000 and rows[-1]["episodes"] > 300
    # The first third compiles and fills the replay.
    assert memory[-third:].mean() < 1.02 * memory[third:-third].mean() + 0.005
