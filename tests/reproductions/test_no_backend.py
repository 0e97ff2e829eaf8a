"""What reads and plans only, loads no deep-learning framework."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Runs a module as `python -m` does, then names the frameworks that it has loaded. Its
# exit code is ignored: that of absl's --help is 1.
CODE = """
import runpy, sys
name, *arguments = sys.argv[1:]
sys.argv = [name, *arguments]
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit:
    pass
found = {"tensorflow", "tensorflow_probability", "jax", "keras", "torch"}
found &= set(sys.modules)
sys.exit(f"loaded: {found}" if found else 0)
"""
COLLECTED = "OUT/lite/v3/dmc_proprio/walker_walk.csv"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("dmc_proprio --help", "--launcher: <local|ray>"),
        ("dmc_vision --help", "--launcher: <local|ray>"),
        ("dmc_proprio --dry_run --out=OUT", "270 cells, 135,000,000 frames"),
        ("dmc_vision --dry_run --out=OUT", "300 cells, 800,000,000 frames"),
        ("reproduce --help", "--steps: "),
        ("collect --help", "--out: "),
        ("random_policy --help", "--episodes: "),
        ("report --help", "--[no]published_only: "),
        ("agreement --out=OUT", "Figure: OUT/curves.png"),
        ("report --published_only --out=OUT", "Page: OUT/report.html"),
        ("report --resamples=100 --out=OUT", "Page: OUT/report.html"),  # with footnotes
    ],
)
def test_commands(command, printed, tmp_path):
    name, *flags = command.replace("OUT", str(tmp_path)).split()
    done = run(f"reproductions.{name}", *flags)
    assert done.returncode == 0, done.stderr
    assert printed.replace("OUT", str(tmp_path)) in done.stdout


def test_collect(finished, tmp_path):
    done = run(
        "reproductions.collect", f"--out={tmp_path}", finished[0] / "lite/dmc_proprio"
    )
    assert done.returncode == 0, done.stderr
    assert COLLECTED.replace("OUT", str(tmp_path)) in done.stdout
