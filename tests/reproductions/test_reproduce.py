"""What `make reproduce` does around its runs, with a stand-in for them."""

import functools
import json
import textwrap

import pandas as pd
import pytest

from reproductions import launch, reproduce, summary
from tests.reproductions import standin

VERSIONS = ["v1", "v2", "v3"]


@pytest.fixture
def train_and_compare(tmp_path, monkeypatch, capsys):
    """Calls the function; returns the exit code and what it printed."""
    monkeypatch.setattr(
        reproduce, "evaluate", lambda cell, out: [float(cell.seed)] * 10
    )

    def call(*more):
        quick = functools.partial(
            launch.run, command=standin.command(*more), pause=0.01
        )
        monkeypatch.setattr(launch, "run", quick)
        code = reproduce.train_and_compare(
            VERSIONS, "cartpole_swingup", 4000, 2, 2, tmp_path
        )
        return code, capsys.readouterr()

    return call


def test_one_table_has_all_versions(train_and_compare, tmp_path):
    code, printed = train_and_compare()
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
    assert "Reference: authors' code, same settings" in note
    # The file has the whole note, the terminal a short one.
    assert "train ratio 128" in note
    *_, shown, short, _ = printed.out.split("\n\n")
    assert "cartpole_swingup, 4,000 frames, protocol lite" in printed.out
    assert shown.split()[:2] == ["version", "score"] and "lite" not in shown
    assert short.startswith("score: mean return") and len(short.splitlines()) <= 5
    assert max(map(len, shown.splitlines())) <= 100
    # Said before it runs: the real V1 is evaluated at 2,000 and at 4,500 frames.
    assert "DreamerV1 (4,500)." in printed.err
    # Nothing of V1 at these settings, nothing published that would be comparable.
    assert table.reference.isna().tolist() == [True, False, False]
    assert table.reference_seeds.tolist() == [0, 3, 5]
    assert "published" not in note.split("|\n\n")[0] and table.published.isna().all()


@pytest.mark.parametrize("score", [1.0, None])
@pytest.mark.parametrize("reference", [1.0, None])
@pytest.mark.parametrize("published", [1.0, None])
@pytest.mark.parametrize("seeds", [1, 5])
def test_a_short_note_has_five_lines(score, reference, published, seeds):
    row = {"score": score, "reference": reference, "published": published}
    result = pd.DataFrame([row | {"seeds": seeds}]).astype(float)
    note = reproduce.short_note(result)
    assert len(textwrap.wrap(note, 88)) <= 5
    assert ("reference: " in note) == (reference is not None)
    few = reference is not None and seeds == 1
    assert ("Fewer than 3 seeds cannot show agreement" in note) == few
    assert ("not comparable" in note) == (published is not None)
    assert ("No score: " in note) == (score is None)


def test_a_failed_run_is_named(train_and_compare, tmp_path):
    code, printed = train_and_compare("--crash=1000:9")
    assert code == 1
    assert "v2 cartpole_swingup 1: " in printed.err
    assert not (tmp_path / "table.csv").exists()


def test_only_its_own_evaluation_counts(train_and_compare, tmp_path):
    """Not those that were made by hand, or before the run was continued."""
    train_and_compare()
    path = tmp_path / "lite/dmc_proprio/v3/cartpole_swingup/0"
    own = {"frames": 4000, "mode": "eval", "episodes": 10, "seed": 0, "repeat": 4}
    others = [{"mode": "random"}, {"episodes": 3}, {"seed": 1}, {"frames": 2000}]
    rows = [own | other | {"scores": [1.0]} for other in others]
    file = path / "evaluations.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert reproduce.evaluated(path) == []
    with open(file, "a") as opened:
        opened.write('{"frames": 5000, "mode": "ev\n3\n[]\n' + "[" * 100_000 + "\n")
        opened.write(json.dumps(own | {"scores": None}) + "\n")
        opened.write(json.dumps(own | {"scores": [7.0, 8.0]}) + "\n")
    assert reproduce.evaluated(path) == [7.0, 8.0]


def test_a_run_without_a_score_has_its_row(tmp_path):
    """Episodes end at 4,000 and 8,000 frames, too early for 10,000."""
    points = {"benchmark": "dmc_proprio", "protocol": "lite", "task": "walker_walk"}
    points |= {"seed": 0, "kind": "train", "changed": "", "score": 5.0}
    frames = {"v2": [4000, 8000, 9600], "v3": [3200, 7200]}
    rows = [points | {"version": v, "frames": f} for v in frames for f in frames[v]]
    table = summary.summary_table(pd.DataFrame(rows), 10_000)
    assert table.version.tolist() == ["v2", "v3"]
    assert table.score.fillna(-1).tolist() == [5, -1] and table.seeds.tolist() == [1, 0]
    assert "No score: no episode ended within" in table.attrs["footnote"]
