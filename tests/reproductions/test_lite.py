"""What `make reproduce` does around its runs, with a stand-in for them."""

import functools

import pandas as pd
import pytest

from reproductions import grid, lite
from tests.reproductions import standin

VERSIONS = ["v1", "v2", "v3"]


@pytest.fixture
def reproduce(tmp_path, monkeypatch, capsys):
    """Calls `lite.reproduce`; returns the exit code and what it printed."""
    monkeypatch.setattr(lite, "evaluate", lambda cell, out: [float(cell.seed)] * 10)

    def call(*more):
        quick = functools.partial(grid.run, command=standin.command(*more), pause=0.01)
        monkeypatch.setattr(grid, "run", quick)
        code = lite.reproduce(VERSIONS, "cartpole_swingup", 4000, 2, 2, tmp_path)
        return code, capsys.readouterr()

    return call


def test_one_table_has_all_versions(reproduce, tmp_path):
    code, printed = reproduce()
    table = pd.read_csv(tmp_path / "table.csv").set_index("version")
    assert code == 0
    assert list(table.index) == VERSIONS
    assert set(table.seeds) == {2} and table.random.eq(72.55).all()  # repeat 4
    assert set(table.evaluated) == {0.5}  # mean of seeds 0 and 1
    for version in VERSIONS:
        runs = (tmp_path / "lite/dmc_proprio" / version).glob("*/*/scores.csv")
        last = [pd.read_csv(file).score.iloc[-1] for file in runs]
        assert table.score[version] == pytest.approx(sum(last) / 2)
    page = tmp_path / "report" / "report.html"
    assert page.exists() and printed.out.rstrip().endswith(str(page))
    note = (tmp_path / "table.md").read_text()
    assert "DreamerV1 evaluation, DreamerV2 training" in note
    assert "not reproductions of published numbers" in note


def test_a_failed_run_is_named(reproduce, tmp_path):
    code, printed = reproduce("--crash=1000:9")
    assert code == 1
    assert "v2 cartpole_swingup 1: " in printed.err
    assert not (tmp_path / "table.csv").exists()
