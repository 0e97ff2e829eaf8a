"""The command: flags, and what it does around its runs."""

import shutil
import threading
import time

import pandas as pd
import pytest

from dreamer_tf.errors import UserError
from reproductions import collect, grid, launch, scores
from reproductions.cells import FAILED, WAITING, Status, settle
from tests.reproductions.grids import SCRIPT


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
    monkeypatch.setattr(launch, "run", fake_run(finished[0]))
    arguments = [f"--out={finished[0]}", "--protocol=lite", "--tasks=walker_walk"]
    arguments += ["--versions=v1,v3", "--steps=5000", "--seeds=3"]
    assert grid.main(SCRIPT, "", arguments) == 1
    printed = capsys.readouterr()
    assert "DMC proprio, lite, 5K frames" in printed.out
    assert printed.out.rstrip().endswith("report/report.html")
    assert (finished[0] / "runs/lite/v3/dmc_proprio/walker_walk.csv").exists()
    assert "2 cells failed: no luck\n  v1 walker_walk 2: " in printed.err


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_a_budget_below_the_first_score_is_said_first(
    more, tmp_path, capsys, monkeypatch
):
    def run(*_):
        raise UserError("it began to run")

    monkeypatch.setattr(launch, "run", run)
    arguments = [f"--out={tmp_path}", "--protocol=lite", "--versions=v3", "--steps=2e3"]
    assert grid.main(SCRIPT, "", arguments + more) == (0 if more else 2)
    printed = "".join(capsys.readouterr())
    early = "With --steps=2000 these will have no score at the end"
    assert printed.count(early) == 1 and "DreamerV3 (4,000)." in printed
    if not more:
        assert printed.index(early) < printed.index("it began to run")


def test_collecting_at_the_same_time_loses_nothing(finished, tmp_path, monkeypatch):
    """Every change of the results waits for the one before."""
    read_json = scores.read_json

    def slow(file, *more):
        content = read_json(file, *more)
        time.sleep(0.2 * (tmp_path in file.parents))  # between reading and writing
        return content

    monkeypatch.setattr(scores, "read_json", slow)
    runs = sorted((finished[0] / "lite/dmc_proprio/v3").glob("*/?"))
    threads = [
        threading.Thread(target=collect.collect, args=([run], tmp_path)) for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    points, manifests = scores.read_runs(tmp_path)
    (manifest,) = manifests.values()
    assert len(runs) == points.seed.nunique() == len(manifest["runs"]) == 2


def test_all_runs_below_a_folder_are_collected(finished, tmp_path):
    files = collect.collect([finished[0] / "lite"], tmp_path / "all")
    assert len(files) == 4 and len(set(files)) == 2
    for file in files:
        assert set(pd.read_csv(file).seed) == {0, 1}
    # One that cannot be read leaves the results as they are.
    shutil.copytree(finished[0] / "lite", tmp_path / "lite")
    (tmp_path / "lite/dmc_proprio/v3/walker_walk/1/scores.csv").write_text("no table")
    with pytest.raises(UserError, match=r"1/scores\.csv must begin with"):
        collect.collect([tmp_path / "lite"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def fake_run(out):
    def run(chosen, out, launcher, retries, show):
        states = {c: Status() for c in chosen}
        for cell, status in states.items():
            settle(cell, out, status)
            if status.state == WAITING:
                status.state, status.reason = FAILED, "no luck"
        return states

    return run


def test_interrupting_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run", interrupt)
    arguments = [f"--out={tmp_path}", "--versions=v3"]
    assert grid.main(SCRIPT, "", arguments) == 130
    command = f"python -m reproductions.dmc_proprio --out={tmp_path} --versions=v3"
    assert f"go on with: {command}" in capsys.readouterr().err
