"""Runs at the same settings as a second kind of reference, and the verdicts on them."""

import json
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dreamer_tf.errors import UserError
from reproductions import (
    agreement,
    jsonl,
    reference,
    report,
    scores,
    stats,
    tables,
    texts,
)
from tests.reproductions.conftest import PROTOCOLS, flat, options, write_version

CELL = {"benchmark": "dmc_proprio", "protocol": "lite", "version": "v3"}
CELL |= {"task": "walker_walk"}


def points(levels, end=50_000, every=1000, **changes):
    """Runs that score `levels[seed]` throughout."""
    frames = np.arange(every, end + 1, every)
    runs = [
        pd.DataFrame({"frames": frames, "score": float(level), "seed": seed})
        for seed, level in enumerate(levels)
    ]
    cell = {**CELL, "kind": "train", "changed": "", **changes}
    return pd.concat(runs, ignore_index=True).assign(**cell)[scores.POINTS]


# --- The authors' code at the settings of lite ------------------------------


@pytest.mark.parametrize(
    ("version", "task", "budget", "mean", "std", "n"),
    [
        ("v3", "cartpole_swingup", 50_000, 403.3, 36.9, 5),
        ("v3", "walker_walk", 50_000, 131.3, 43.7, 8),
        ("v3", "reacher_easy", 50_000, 142.1, 98.7, 4),
        ("v2", "cartpole_swingup", 50_000, 319.1, 2.9, 3),
        ("v3", "cartpole_swingup", 25_000, 276.3, 46.1, 5),
    ],
)
def test_authors_scores(version, task, budget, mean, std, n):
    every = reference.authors().points
    found = scores.summary(scores.budget_scores(every, budget), ["version", "task"])
    row = found.set_index(["version", "task"]).loc[version, task]
    assert (round(row["mean"], 1), round(row["std"], 1), row.n) == (mean, std, n)


def test_authors_windows():
    """Means of cartpole_swingup in windows of 10,000 frames."""
    every = reference.authors().points
    table = tables.curve_table(every, {"v2": 10_000, "v3": 10_000})
    table = table[table.task == "cartpole_swingup"]
    means = table.pivot(index="version", columns="frames", values="mean").round()
    assert means.loc["v3"].tolist() == [128, 207, 292, 352, 392]
    assert means.loc["v2"].tolist() == [117, 182, 225, 293, 314]


# --- The interval and the verdict -------------------------------------------


def test_welch_interval():
    """The half width was computed with scipy.stats.ttest_ind(equal_var=False)."""
    x, y = np.array([3.0, 4, 5, 6, 7]), np.array([10.0, 14, 18])
    low, high = stats.welch_interval(x, y)
    assert (low + high) / 2 == pytest.approx(-9)
    assert (high - low) / 2 == pytest.approx(8.94712, abs=1e-5)
    assert np.isnan(stats.welch_interval(x, y[:1])).all()
    assert stats.welch_interval(np.full(3, 5.0), np.full(4, 3.0)) == (2, 2)


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([400, 410, 390], [403, 380, 430, 410], "agrees"),
        ([300, 310, 290], [403, 380, 430, 410], "below"),
        ([500, 510, 490], [403, 380, 430, 410], "above"),
        ([100, 200, 300], [403, 80, 130], "undecided"),
        ([400, 400], [400, 401, 402], "too few seeds"),
        ([400, 410, 390], [403], "too few seeds"),
        ([100, 900], [0, 0, 0], "too few seeds"),
        ([0, 0, 0], [0, 0, 0], "agrees"),
        ([5, 5, 5], [0, 0, 0], "above"),
    ],
)
def test_judged(ours, theirs, verdict):
    row = reference.judged(np.array(ours, float), np.array(theirs, float))
    assert row["verdict"] == verdict
    assert row["difference"] == pytest.approx(np.mean(ours) - np.mean(theirs))


def test_the_allowed_width_grows_with_the_reference():
    assert reference.width(100) == 50 and reference.width(800) == 120
    low, high = np.array([0.0, 70, 140]), np.array([700.0, 770, 840])
    assert reference.judged(low, low + 1)["verdict"] == "undecided"  # ±159 of 50
    assert reference.judged(high / 2, high / 2 + 1)["verdict"] == "undecided"
    assert reference.judged(high * 0.99 + 8, high + 1)["verdict"] == "undecided"
    narrow = np.array([760.0, 800, 840])
    assert reference.judged(narrow, narrow + 1)["verdict"] == "agrees"  # ±91 of 120
    assert reference.judged(narrow - 700, narrow - 699)["verdict"] == "undecided"


def test_rates_of_verdicts():
    """Planted: equal runs, and runs that differ by what is said to be detected."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(400, 25, (2, 2000, 5))
    size = (2.306 + 0.889) * 25 * np.sqrt(2 / 5)  # t(0.975) and t(0.8) at 8 df
    equal = [reference.judged(a, b) for a, b in zip(ours, theirs)]
    lower = [reference.judged(a - size, b)["verdict"] for a, b in zip(ours, theirs)]
    far = [reference.judged(a - 120, b)["verdict"] for a, b in zip(ours, theirs)]
    names = pd.Series([row["verdict"] for row in equal])
    assert 0.03 < names.isin(["above", "below"]).mean() < 0.06
    assert (names == "agrees").mean() > 0.9
    assert np.median([row["detects"] for row in equal]) == pytest.approx(size, rel=0.05)
    assert 0.75 < np.mean([v == "below" for v in lower]) < 0.85
    # Twice the width that agreement may have is never called agreement.
    assert "agrees" not in far and np.mean([v == "below" for v in far]) > 0.99


# --- What stands beside what ------------------------------------------------


def test_both_sides_are_scored_at_the_same_budget():
    """A longer reference is read where ours ends, and the other way round."""
    rising = points([0, 10, 20], end=50_000)
    rising["score"] += rising.frames / 100
    short = points([250] * 3, end=25_000)
    end, whole = reference.compare(short, rising).itertuples()
    assert end.budget == whole.budget == 25_000
    assert end.reference == pytest.approx(245 + 10)  # frames 24,000 and 25,000
    assert whole.reference == pytest.approx(130 + 10)  # frames 1,000 to 25,000
    end, whole = reference.compare(rising, short).itertuples()
    assert (end.budget, end.reference, whole.reference) == (25_000, 250, 250)
    ends = points([1, 2, 3], end=48_000), points([1, 2, 3], end=100_000)
    assert set(reference.compare(*ends).budget) == {50_000}


def test_a_whole_run_is_the_mean_over_its_fifths():
    """Every fifth weighs the same, however many episodes it has."""
    even, dense = points([10, 20, 30]), points([10, 20, 30])
    for runs in (even, dense):
        runs["score"] += (runs.frames > 40_000) * 50
    first = dense[dense.frames <= 10_000]
    dense = pd.concat([dense, first.assign(frames=first.frames - 500)])
    for runs in (even, dense):
        assert scores.whole_runs(runs, 50_000).score.tolist() == [20, 30, 40]
    # One without any episode in a fifth has no such score, but one at the end.
    gap = even[(even.seed > 0) | (even.frames > 10_000)]
    assert scores.whole_runs(gap, 50_000).seed.tolist() == [1, 2]
    assert scores.budget_scores(gap, 50_000).seed.tolist() == [0, 1, 2]
    # Nor has one that ended early.
    assert scores.whole_runs(points([1], end=40_000), 50_000).empty


def test_random_episodes_are_in_whole_runs_of_both_sides():
    """The authors' V2 logs its random episodes as any other."""
    theirs = points([10, 20, 30], version="v2")
    ours = theirs.assign(kind=theirs.kind.mask(theirs.frames <= 2000, scores.RANDOM))
    ours["score"] += (ours.kind == scores.RANDOM) * -10
    for one, other in ((ours, theirs), (theirs, ours)):
        beside = reference.beside(one, other)
        table = reference.compare(one, beside).set_index("measure")
        assert table.difference["end"] == 0
        assert abs(table.difference["whole run"]) == pytest.approx(10 * 2 / 10 / 5)
        curves = [tables.curve_table(side, {"v2": 1000}) for side in (one, beside)]
        assert len(curves[0]) == len(curves[1]) == 50
    # Evaluations are not beside them.
    evaluated = theirs.assign(kind="eval")
    assert reference.compare(ours, reference.beside(ours, evaluated)).empty


def test_slower_learning_to_the_same_end():
    """What the end cannot show, the whole run does."""
    slow, fast = points([0, 10, 20]), points([0, 10, 20])
    fast["score"] += np.minimum(fast.frames / 100, 300)
    slow["score"] += np.minimum(slow.frames / 150, 300)
    end, whole = reference.compare(slow, fast).itertuples()
    assert (end.measure, end.difference, end.verdict) == ("end", 0, "agrees")
    assert (whole.measure, whole.verdict) == ("whole run", "below")


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, 2),
        ({"protocol": "arxiv_v2"}, 0),
        ({"version": "v2"}, 0),
        ({"benchmark": "dmc_vision"}, 0),
        ({"task": "walker_run"}, 0),
        ({"protocol": "outside", "version": "dreamerv3"}, 2),
        ({"protocol": "outside", "version": "tdmpc2"}, 2),  # the only method there
        ({"protocol": "outside", "version": "dreamerv2"}, 0),
        ({"kind": "eval"}, 0),  # episodes of another kind
    ],
)
def test_beside(changes, rows):
    ours, theirs = points([1, 2, 3]), points([1, 2, 3], **changes)
    found = reference.compare(ours, reference.beside(ours, theirs))
    assert len(found) == rows
    if rows:
        assert set(found.difference) == {0} and set(found.version) == {"v3"}


def test_kinds_are_never_mixed():
    """V1's evaluations are reported; with training episodes only, those count."""
    cell = {"version": "v1"}
    ours = pd.concat([points([9] * 3, kind="eval", **cell), points([5] * 3, **cell)])
    theirs = points([4] * 3, **cell)
    for row in reference.compare(ours, reference.beside(ours, theirs)).itertuples():
        assert (row.mean, row.reference) == (5, 4)


def test_other_settings_are_named():
    ours = points([100, 101, 102], changed="--opt.lr=2e-4")
    theirs = points([200, 201, 202])
    verdicts = reference.compare(ours, theirs).verdict
    assert verdicts.tolist() == ["below, other settings"] * 2


# --- Any set of runs as the reference ---------------------------------------


def own_results(folder, level, **kwargs):
    write_version(folder / "lite" / "v3", "dmc_proprio",
                  {"cartpole_swingup": flat(level, 50_000, **kwargs)})  # fmt: skip


def authors_log(folder, seed, level, config=True, name="scores.jsonl"):
    """A run directory of the official DreamerV3."""
    folder.mkdir(parents=True)
    if config:
        text = f"task: dmc_cartpole_swingup\nseed: {seed}\nrun: {{steps: 5e4}}\n"
        (folder / "config.yaml").write_text(text)
    rows = [{"step": 4, "train/loss": 1.0}]
    rows += [{"step": 1000 * k, "episode/score": level} for k in range(1, 51)]
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.mark.parametrize("kind", ["results", "tidy", "jsonl", "folders", "tdmpc2"])
def test_report_beside_other_runs(kind, tmp_path, monkeypatch):
    own_results(tmp_path / "runs", 300)
    other = tmp_path / "other"
    if kind == "results":
        own_results(other, 240)
    for seed in range(3):
        level = 240.0 + 2 * seed
        if kind == "jsonl":
            authors_log(other / f"run{seed}", seed, level, name="metrics.jsonl")
        if kind == "folders":
            authors_log(other / f"cartpole_swingup/{seed}", seed, level, config=False)
    if kind == "tidy":
        other.mkdir()
        table = points([240, 242, 244], task="cartpole_swingup")
        table[reference.TIDY].to_csv(other / "before.csv", index=False)
    if kind == "tdmpc2":
        other.mkdir()
        table = points([240, 242, 244]).rename(
            columns={"frames": "step", "score": "reward"}
        )
        table[["step", "reward", "seed"]].to_csv(
            other / "cartpole-swingup.csv", index=False
        )
    shown = []
    monkeypatch.setattr(report, "publish", lambda groups, *_: shown.extend(groups))
    chosen = options(runs=str(tmp_path / "runs"), reference=str(other))
    report.report(chosen, PROTOCOLS)
    for row in tables.agreement_table(shown[0]).itertuples():
        assert (row.mean, row.reference, row.n, row.reference_n) == (302, 242, 3, 3)
        assert row.verdict == "above" and row.difference == 60
    text = texts.readable(tables.cell_table(shown[0], 50_000)).set_index("Task")
    row = text.loc["cartpole swingup"]
    assert row["Reference"] == "242 ± 2" and row["Agreement"] == "above"
    assert row["Difference from it"] == "+60 [55, 65]"
    assert text.index.tolist() == ["cartpole swingup"]  # all that was run
    assert shown[0].reference.name.endswith("/other")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"step": 5, "episode/score": "x"}', "line 1 has the episode/score 'x'"),
        ('{"step": -5, "episode/score": 1}', "line 1 has the step -5"),
        ('{"step": 1, "episode/score": NaN}', "line 1 has the episode/score nan"),
        ('{"step": true, "episode/score": 1}', "line 1 has the step True"),
        ('{"step": 1' + "0" * 400 + ', "episode/score": 1}', "line 1 has the step 1"),
        ('{"episode/score": 1}', "line 1 has the step None"),
        ("[1]", "line 1 is not a JSON object"),
        ('{"step": 1, "a": 2}\n{"step": 2, "epi', "line 2 is not a JSON object"),
        ("[" * 100_000, "line 1 is not a JSON object"),
        ('{"step": 1, "a": 2}', "holds no finished episode"),
        ("", "holds no finished episode"),
    ],
)
def test_damaged_logs(lines, said, tmp_path):
    file = tmp_path / "walker_walk/0/scores.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(lines)
    with pytest.raises(UserError, match=said):
        jsonl.read(file, "dmc_proprio")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("seed: 1\n", "does not name the task"),
        ("task: dmc_walker_wolk\nseed: 1\n", "did you mean walker_walk"),
        ("task: dmc_walker_walk\nseed: one\n", "the seed 'one'; a whole number"),
        ("task: dmc_walker_walk\n", "the seed 'mine'; a whole number"),
        (None, "the seed 'mine'; a whole number"),
    ],
)
def test_logs_of_unknown_runs(config, said, tmp_path):
    authors_log(tmp_path / "mine", 0, 5.0, config=False)
    if config is not None:
        (tmp_path / "mine/config.yaml").write_text(config)
    with pytest.raises(UserError, match=said):
        jsonl.read(tmp_path / "mine/scores.jsonl", "dmc_proprio")


def test_one_log_per_run(tmp_path):
    """A run that has both files is read once."""
    authors_log(tmp_path / "a", 0, 5.0)
    (tmp_path / "a/metrics.jsonl").write_text("not read")
    assert jsonl.find(tmp_path) == [tmp_path / "a/scores.jsonl"]
    row = jsonl.read(tmp_path / "a/scores.jsonl", "dmc_proprio").iloc[0]
    assert (row.task, row.seed, row.version) == ("cartpole_swingup", 0, "dreamerv3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not exist"),
        ("benchmark,protocol,version,task,seed,frames,score,kind\n"
         "dmc_proprio,lite,v3,walker_walk,0,1000,x,train\n", "line 2 has score 'x'"),
        ("benchmark,protocol,version,task,seed,frames,score,kind\n"
         "dmc_proprio,lite,v4,walker_walk,0,1000,1,train\n", "unknown version 'v4'"),
        ("benchmark,protocol,version,task,seed,frames,score,kind\n"
         "dmc_proprio,lite,v3,walker_walk,0,1000,1,test\n", "unknown kind 'test'"),
        ("benchmark,protocol,version,task,seed,frames,score,kind\n"
         "dmc_proprio,lite,v3,walker_run,0,1000,1,train\n", "has no run on a task"),
        ("benchmark,protocol,version,task,seed,frames,score\n"
         "dmc_proprio,lite,v3,walker_walk,0,1000,1\n", "lacks the column 'kind'"),
        ("a,b\n1,2\n", "lacks the column 'step'"),
    ],
)  # fmt: skip
def test_wrong_references(text, said, tmp_path):
    file = tmp_path / "walker_walk.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=said):
        reference.chosen(str(file), points([1, 2, 3]))


# --- The command ------------------------------------------------------------


def call(out, runs, **changes):
    flags = {"runs": str(runs), "logdirs": [], "reference": "", "out": str(out)}
    flags |= {"outside_benchmark": "", "outside_method": ""}
    return agreement.agreement(types.SimpleNamespace(**{**flags, **changes}))


def test_agreement_of_the_committed_runs(tmp_path):
    root = Path(__file__).parents[2]
    text = call(tmp_path, root / "results/runs")
    rows = pd.read_csv(tmp_path / "agreement.csv")
    rows = rows.set_index(["version", "task", "measure"])
    row = rows.loc["v3", "cartpole_swingup", "end"]
    assert row.reference == pytest.approx(403.3, abs=0.05) and row.reference_n == 5
    assert row.difference == pytest.approx(row["mean"] - row.reference, abs=0.02)
    means = pd.read_csv(tmp_path / "windows.csv").set_index(["version", "task"])
    means = means.loc["v3", "cartpole_swingup"]
    assert means.frames.tolist() == [10_000, 20_000, 30_000, 40_000, 50_000]
    assert means.reference.round().tolist() == [128, 207, 292, 352, 392]
    whole = rows.loc["v3", "cartpole_swingup", "whole run"]
    assert whole.reference == pytest.approx(means.reference.mean(), abs=0.02)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    written = (tmp_path / "agreement.md").read_text()
    assert "403 ± 37" in written and "| 0 to 10K" in written
    assert "403 ± 37" in text and "Welch's 95% interval" in text


@pytest.mark.parametrize("other", ["", "results/runs"])
def test_a_halved_learning_rate_is_seen(other, tmp_path):
    """Five runs of V3 with --opt.lr=2e-4, half of its value in lite."""
    root = Path(__file__).parents[2]
    reference = str(root / other) if other else ""
    call(tmp_path, root / "results/planted", reference=reference)
    rows = pd.read_csv(tmp_path / "agreement.csv").set_index("measure")
    assert rows.verdict["whole run"] == "below, other settings"
    assert rows.n["whole run"] == rows.reference_n["whole run"] == 5


@pytest.mark.parametrize("own", [False, True])
def test_where_agreement_is_written(own, tmp_path, monkeypatch):
    """A comparison of other runs leaves the committed table alone."""
    monkeypatch.chdir(tmp_path)
    own_results(tmp_path / "results/runs", 300)
    call("", "results/runs" if own else "")
    written = sorted(p.parent for p in Path().glob("**/curves.png"))
    assert written == [Path("agreement" if own else "results/agreement")]


def test_agreement_needs_something_to_compare(tmp_path):
    own_results(tmp_path / "runs", 300)
    (tmp_path / "runs/lite").rename(tmp_path / "runs/arxiv_v2")
    with pytest.raises(UserError, match="None of the runs can be compared with auth"):
        call(tmp_path / "out", tmp_path / "runs")
    assert not (tmp_path / "out").exists()


def test_flags_of_logs_need_logs(tmp_path):
    with pytest.raises(UserError, match="--outside_method is of the logs that"):
        call(tmp_path / "out", "results/runs", outside_method="mine")


def test_a_folder_of_logs_may_have_other_tasks(tmp_path, capsys):
    """TD-MPC2's own has tasks that are not in the papers of Dreamer."""
    own_results(tmp_path / "runs", 300)
    (tmp_path / "tdmpc2").mkdir()
    for name in ("cartpole-swingup", "cheetah-jump"):
        log = pd.DataFrame({"step": range(1000, 50_001, 1000), "reward": 250.0})
        log = pd.concat([log.assign(seed=seed) for seed in range(3)])
        log.to_csv(tmp_path / f"tdmpc2/{name}.csv", index=False)
    text = call(tmp_path / "out", tmp_path / "runs", reference=tmp_path / "tdmpc2")
    assert "cartpole swingup" in text and reference.LOGS_NOTE in text
    assert (
        "left out cheetah-jump.csv: no task of dmc_proprio" in capsys.readouterr().err
    )
    for file in (tmp_path / "tdmpc2").iterdir():
        file.rename(tmp_path / "tdmpc2" / file.name.replace(".csv", ".txt"))
    with pytest.raises(UserError, match=r"is no log: valid are \*.csv"):
        reference.read(tmp_path / "tdmpc2/cheetah-jump.txt", "dmc_proprio")


def test_agreement_that_cannot_be_written(tmp_path):
    own_results(tmp_path / "runs", 300)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out=.* cannot be written"):
        call(tmp_path / "file/out", tmp_path / "runs")
