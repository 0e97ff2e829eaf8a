"""Atari's rules, normalisation and tables, and the published ones of other suites."""

import json

import numpy as np
import pandas as pd
import pytest

from dreamer_tf.errors import UserError
from reproductions import (
    normalise,
    outside,
    protocols,
    published,
    report,
    rules,
    scores,
    sheets,
    stats,
    tables,
    texts,
)
from tests.reproductions.conftest import PROTOCOLS, Note, options, rows, write_version

PAPER = {**PROTOCOLS, "paper": Note("settings of paper")}
M = 1_000_000


# --- The papers' own numbers ------------------------------------------------

# (benchmark, method) -> aggregates in percent as recomputed from the score files with
# other code, and the numbers that the papers print (V2's are factors).
RECOMPUTED = {
    ("atari", "dreamerv2"): {
        "gamer median": (214.6, 215),
        "gamer mean": (1132.7, 1133),
        "record mean": (43.8, 44),
        "clipped record mean": (28.0, 28),
    },
    ("atari", "dreamerv2_schedules"): {
        "gamer median": (264.0, 264),
        "gamer mean": (1045.0, 1045),
        "record mean": (42.8, 43),
        "clipped record mean": (28.3, 28),
    },
    ("atari", "dreamerv3"): {
        "gamer median": (829.9, 830),
        "gamer mean": (3381.5, 3381),
    },
    ("atari", "ppo"): {"gamer median": (180.3, 180), "gamer mean": (892.3, 892)},
    ("atari", "muzero"): {"gamer median": (693.1, 693), "gamer mean": (3054.4, 3054)},
    ("atari", "iqn"): {"gamer median": (128.8, 129), "gamer mean": (885.2, 885)},
    ("atari100k", "dreamerv3"): {
        "gamer mean": (124.7, 125),
        "gamer median": (49.4, 49),
    },
    ("atari100k", "dreamerv3_2023"): {
        "gamer mean": (112.45, 112),
        "gamer median": (48.52, 49),
    },
    ("atari100k", "ppo"): {"gamer mean": (10.6, 11), "gamer median": (2.2, 2)},
}
BUDGET = {"atari": 200 * M, "atari100k": 400_000}


@pytest.mark.parametrize(("benchmark", "method"), RECOMPUTED)
def test_published_scores_give_the_printed_aggregates(benchmark, method):
    table = normalise.published_aggregates(benchmark, BUDGET[benchmark])
    found = table[table.method == method].set_index("aggregate").value
    printed = published.printed("", benchmark)
    printed = printed[(printed.method == method) & (printed.task == "")]
    printed = printed.set_index("statistic").printed
    for name, (value, on_paper) in RECOMPUTED[benchmark, method].items():
        assert found[name] == pytest.approx(value, abs=0.06)
        assert printed[name] == pytest.approx(on_paper)
        assert abs(found[name] - on_paper) <= 0.505


@pytest.mark.parametrize(
    ("benchmark", "method", "count"),
    [
        ("atari", "dreamerv2", 55),
        ("atari", "rainbow", 55),
        ("atari", "iqn", 55),
        ("atari", "dreamerv3", 20),  # other cells are not legible
        ("atari", "ppo", 13),
        ("atari", "muzero", 24),
        ("atari100k", "dreamerv3", 26),
        ("atari100k", "ppo", 26),
        ("atari100k", "dreamerv3_2023", 25),
    ],
)
def test_published_scores_give_the_printed_games(benchmark, method, count):
    budget = BUDGET[benchmark]
    table = published.scores(benchmark)
    table = table[(table.method == method) & (table.budget == budget)]
    means = table.groupby("task").score.mean()
    printed = published.printed("", benchmark)
    printed = printed[(printed.method == method) & (printed.statistic == "score")]
    cells = printed[printed.budget == budget].set_index("task").printed
    assert len(cells) == count
    assert (means[cells.index] - cells).abs().max() <= 0.505


def test_reference_values_are_those_of_each_paper():
    known = published.references()
    assert known.random["alien"] == 227.8 and known.random_v2["alien"] == 228.8
    assert known.random["jamesbond"] == 29.0 and known.random_v2["jamesbond"] == 7.0
    assert known.gamer_v2["jamesbond"] == 302.8
    value = np.array([302.8, 7.0])
    of_v2 = normalise.percent("jamesbond", value, "gamer", "dreamerv2", "atari")
    of_v3 = normalise.percent("jamesbond", value, "gamer", "dreamerv3", "atari")
    assert of_v2.tolist() == [100, 0] and of_v3[0] == 100 and of_v3[1] < -8
    # The two differ on Atari100k too, where all methods have V3's.
    assert normalise.paper_of("v2", "atari") == "v2"
    assert normalise.paper_of("v2", "atari100k") == "v3"
    assert np.isnan(normalise.percent("surround", value, "record", "v2", "atari")).all()


def test_seeds_are_averaged_before_scores_are_clipped():
    """One seed at 0 %, one at 300 %: the game is at 150 %, so it counts as 100 %."""
    runs = [np.array([0.0, 300.0]), np.array([20.0, 40.0])]
    assert stats.clipped_mean(runs) == (100 + 30) / 2


def test_printed_bsuite_means_follow_from_its_scores():
    (sheet,) = sheets.sheets("bsuite")
    wide = sheet.wide
    assert len(wide) == 23 + 7 + 2
    assert wide.dreamerv3["task mean"] == 0.66 and wide.dqn["task mean"] == 0.54
    assert (wide.iloc[:23].mean() - wide.loc["task mean"]).abs().max() <= 0.0051


def test_the_recomputed_aggregates_that_are_committed():
    """What `report --published_only --benchmark=atari` writes."""
    text = (published.FOLDER / "AGGREGATES.md").read_text()
    for benchmark in ("atari", "atari100k"):
        sheet = sheets.sheets(benchmark)[0]
        title = f"Published scores: {sheet.title}"
        assert texts.markdown(sheets.rounded(sheet), title, sheet.notes) in text


def test_crafter_scoreboard():
    board, rates = sheets.sheets("crafter")
    assert board.wide["score, %"]["dreamerv3_2023"] == 14.5
    assert board.wide["± score, %"]["dreamerv2"] == 1.2
    assert rates.wide.shape == (22, 2) and rates.wide.human["eat_plant"] == 8
    assert sheets.rounded(board).iloc[0].tolist() == [
        "human",
        *["50.5", "6.8", "14.3", "2.3"],
    ]


# --- The rules --------------------------------------------------------------


def points(*found, version="v3", benchmark="atari", protocol="arxiv_v2", task="pong"):
    table = pd.concat(found).assign(version=version, task=task, benchmark=benchmark)
    return table.assign(protocol=protocol, changed="")[scores.POINTS]


def score(*found, budget=200 * M, smooth=False, **kwargs):
    table = scores.budget_scores(points(*found, **kwargs), budget, smooth)
    return dict(zip(table.seed, table.score))


def evaluations(end, values, seed=0):
    """One evaluation episode every 100K frames; the value of each million."""
    frames = np.arange(100_000, end + 1, 100_000)
    return rows(frames, values(np.ceil(frames / M)), seed, "eval", "eval")


def test_v2_counts_ten_evaluation_episodes_at_199m():
    run = evaluations(200 * M, lambda x: x)
    trained = rows([198_500_000], [-5], 0)
    where = {"version": "v2", "protocol": "paper"}
    assert score(run, trained, **where) == {0: 199}
    assert score(run, budget=50 * M, **where) == {0: 50}
    # Beside it the mean of the last 10 %, whose right edges are 180M to 200M.
    assert score(run, smooth=True, **where) == {0: 190}
    table = scores.budget_scores(points(run, **where), 200 * M)
    assert table.points.tolist() == [1]
    # A short run has bins of a tenth of its budget.
    short = evaluations(2 * M, lambda x: x)
    assert score(short, budget=2 * M, **where) == {0: 2}
    # A run that is not finished has no score.
    assert score(run, evaluations(150 * M, lambda x: x, 1), **where) == {0: 199}


def test_published_v2_runs_that_stopped_carry_their_last_value(tmp_path):
    """As all 55 games of table K.1 need it."""
    xs = [M * k for k in range(1, 201)]
    runs = [(0, xs), (1, xs[:30])]
    log = [
        {"task": "atari_pong", "method": "dreamerv2", "seed": seed, "xs": x,
         "ys": [k / M for k in x]}
        for seed, x in runs
    ]  # fmt: skip
    (tmp_path / "atari-dreamerv2.json").write_text(json.dumps(log))
    found = outside.read_outside(tmp_path)
    table = scores.budget_scores(found, 200 * M)
    assert dict(zip(table.seed, table.score)) == {0: 199, 1: 30}
    other = found.assign(version="dreamerv3")  # V3's rule leaves it out
    table = scores.budget_scores(other, 200 * M)
    assert dict(zip(table.seed, table.score)) == {0: 199}  # 198M to 200M


def test_v3_counts_training_episodes_of_the_last_2m():
    frames = np.arange(M, 200 * M, M)
    ends = rows(frames, frames / M, 0), rows(frames[:-4], frames[:-4] / M, 1)
    # E = 199M, the last point of any seed; seed 1 has none in [197M, 199M].
    assert score(*ends) == {0: 198}
    evaluated = rows([199 * M], [9], 0, "eval", "eval")
    assert score(*ends, evaluated) == {0: 198}


def test_atari100k_counts_episodes_that_end_in_the_last_10k():
    where = {"benchmark": "atari100k", "budget": 400_000}
    first = rows([380_000, 389_999, 390_000, 396_000, 400_000], [0, 1, 5, 6, 7], 0)
    second = rows([300_000, 389_000, 404_000], [1, 2, 3], 1)
    # The window ends at the budget, not at the last episode of any seed.
    assert score(first, second, **where) == {0: 6}
    late = rows([391_000], [4], 2), rows([380_000, 386_000], [1, 2], 3)
    assert score(*late, **where) == {2: 4}
    # At 100K the same window; a short budget has a shorter one.
    short = rows([89_000, 91_000, 99_000], [1, 2, 4], 0)
    assert score(short, benchmark="atari100k", budget=100_000) == {0: 3}
    small = rows([15_000, 17_000, 19_000], [1, 2, 4], 0)
    assert score(small, benchmark="atari100k", budget=20_000) == {0: 3}


def test_files_of_atari100k_are_not_of_atari(tmp_path):
    log = [{"task": "atari100k_pong", "method": "m", "seed": 0, "xs": [4e5], "ys": [1]}]
    (tmp_path / "atari100k-m.json").write_text(json.dumps(log))
    (row,) = outside.read_outside(tmp_path).itertuples()
    assert (row.benchmark, row.task) == ("atari100k", "pong")


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (("atari", "paper", "v2"), "eval"),
        (("atari", "arxiv_v2", "v3"), "train"),
        (("atari100k", "nature", "v3"), "train"),
        (("crafter", "paper", "v2"), "train"),
        (("dmc_proprio", "lite", "v1"), "eval"),
        (("dmc_proprio", "lite", "v2"), "train"),
        (("catch", "lite", "v3"), "train"),
    ],
)
def test_which_episodes_count(place, kind):
    assert rules.rule(*place).kind == kind


# --- Our runs ---------------------------------------------------------------


def runs_at(levels, end, seeds=3, every=2000, **kwargs):
    """Runs at a level per task, whose seeds differ by 1 % of it."""
    frames = np.arange(every, end + 1, every)
    return {
        task: pd.concat(
            rows(frames, np.full(len(frames), level * (1 + s / 100)), s, **kwargs)
            for s in range(seeds)
        )
        for task, level in levels.items()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """V3 on three games of Atari100k, V2 on two of Atari: the report's folder."""
    root, out = tmp_path_factory.mktemp("atari"), tmp_path_factory.mktemp("out")
    levels = {"pong": -4, "road_runner": 50_000, "jamesbond": 450}
    found = runs_at(levels, 400_000)
    write_version(root / "arxiv_v2" / "v3" / "atari100k", "atari100k", found)
    levels = {"pong": 19, "breakout": 300}
    found = runs_at(levels, 10 * M, every=100_000, kind="eval", mode="eval")
    write_version(root / "paper" / "v2" / "atari", "atari", found)
    chosen = options(runs=str(root), out=out)
    return out, report.report(chosen, PAPER), root


def test_cells_of_atari_are_normalised(written):
    out, _, _ = written
    table = pd.read_csv(out / "tables" / "atari100k_arxiv_v2_tasks.csv")
    table = table[table.budget == 400_000].set_index("task")
    row = table.loc["jamesbond"]
    mean = 450 * 1.01
    assert row["mean"] == pytest.approx(mean)
    assert row.normalised == pytest.approx(100 * (mean - 29) / (302.8 - 29), abs=0.01)
    assert table.verdict["road_runner"] == "above"  # published 19,230
    # Negative scores keep their intervals.
    assert table["mean"]["pong"] == pytest.approx(-4.04)
    assert table.low["pong"] < -4.04 < table.high["pong"] < 0


def test_aggregates_of_atari(written):
    out, text, _ = written
    table = pd.read_csv(out / "tables" / "atari100k_arxiv_v2_aggregates.csv")
    table = table[table.budget == 400_000].set_index("aggregate")
    assert table.index.tolist() == ["gamer median", "gamer mean", "gamer IQM"]
    assert (table.tasks == 3).all() and (table.of == 26).all()
    known = published.references()
    percents = [
        100 * (1.01 * level - known.random[g]) / (known.gamer[g] - known.random[g])
        for g, level in (("pong", -4), ("road_runner", 50_000), ("jamesbond", 450))
    ]
    assert table["mean"]["gamer mean"] == pytest.approx(np.mean(percents), abs=0.01)
    assert table["mean"]["gamer median"] == pytest.approx(np.median(percents), abs=0.01)
    low, high = table.low["gamer mean"], table.high["gamer mean"]
    assert low < np.mean(percents) < high
    table = pd.read_csv(out / "tables" / "atari_paper_aggregates.csv")
    names = ["gamer median", "clipped record mean", "record mean", "gamer mean"]
    assert table["aggregate"].tolist() == names and set(table.budget) == {10 * M}
    assert "gamer median" in text


def test_smooth_scores_stand_beside_those_of_v2(written):
    out, _, _ = written
    table = pd.read_csv(out / "tables" / "atari_paper_tasks.csv").set_index("task")
    assert table.smooth["pong"] == pytest.approx(19.19)
    theirs = published.scores("atari")
    theirs = theirs[(theirs.method == "dreamerv2") & (theirs.budget == 10 * M)]
    smooth = theirs[theirs.task == "pong"].smooth.mean()
    assert table.published_smooth["pong"] == pytest.approx(smooth, abs=0.01)
    assert "smooth" not in (out / "tables" / "atari100k_arxiv_v2_tasks.csv").read_text()
    text = (out / "tables" / "atari_paper.md").read_text()
    assert "Last 10%" in text and "evaluation episodes by the rule of its table" in text


def test_page_of_atari(written):
    out, _, _ = written
    text = (out / "report.html").read_text()
    assert "<title>Dreamer on Atari</title>" in text
    assert 'id="published_atari_totals"' in text and "DMC" not in text
    assert "50,500" in text and "Of a gamer" in text


def test_a_protocol_does_not_say_that_v2_trains_on_atari():
    note = protocols.PROTOCOLS["paper"].footnote(["v2"], "atari")
    assert "training episodes" not in note and "200,000,000 frames" in note
    assert "training episodes" in protocols.PROTOCOLS["paper"].footnote(
        ["v2"], "dmc_vision"
    )


def test_two_metrics_in_one_table_are_named(tmp_path):
    """Under lite V2 evaluates and V3 does not."""
    for version, kind in (("v2", "eval"), ("v3", "train")):
        runs = runs_at({"pong": 5}, 100_000, kind=kind, mode=kind)
        write_version(tmp_path / "lite" / version, "atari", runs)
    (group,) = tables.make_groups(scores.read_runs(tmp_path)[0], PROTOCOLS)
    (note,) = [note for note in group.notes if note.startswith("Two metrics")]
    assert "DreamerV2 are means of evaluation" in note
    assert "DreamerV3 returns of training episodes" in note
    (game,) = {
        row.task for row in tables.cell_table(group, 100_000).itertuples() if row.n
    }
    assert game == "pong"
    games = "DreamerV2 55, DreamerV3 57"
    assert any(games in note for note in group.notes)


@pytest.mark.parametrize("benchmark", ["catch", "crafter", "minatar"])
def test_other_benchmarks_are_reported(tmp_path, benchmark):
    task = {"catch": "catch", "crafter": "reward", "minatar": "breakout"}[benchmark]
    runs = runs_at({task: 0.5}, 6_000, every=10)
    write_version(tmp_path / "lite" / "v3", benchmark, runs)
    out = tmp_path / "out"
    report.report(options(runs=str(tmp_path), out=out), PROTOCOLS)
    table = pd.read_csv(out / "tables" / f"{benchmark}_lite_tasks.csv")
    row = table.set_index("task").loc[task]
    assert row["mean"] == 0.5 or row["mean"] == pytest.approx(0.505, abs=0.006)
    assert np.isnan(row.published) and row.verdict == "lite: not comparable"
    assert (out / "tables" / f"{benchmark}_lite_aggregates.csv").exists()


def test_published_data_of_other_benchmarks(tmp_path):
    chosen = options(published_only=True, benchmark=["atari100k"], out=tmp_path)
    text = report.report(chosen, PROTOCOLS)
    assert "Atari100k, 400K frames: aggregates in percent" in text
    page = (tmp_path / "report.html").read_text()
    assert "Dreamer on Atari" in page and "bsuite" not in page
    with pytest.raises(
        UserError, match="--benchmark names the unknown benchmark 'doom'"
    ):
        report.report(options(published_only=True, benchmark=["doom"]), PROTOCOLS)


def test_runs_of_another_benchmark_are_left_out(written, tmp_path):
    *_, root = written
    chosen = options(runs=str(root), out=tmp_path, benchmark=["atari100k"])
    report.report(chosen, PAPER)
    assert not list((tmp_path / "tables").glob("atari_paper*"))
    with pytest.raises(UserError, match="--benchmark=crafter: no run is of it"):
        report.report(options(runs=str(root), benchmark=["crafter"]), PAPER)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.04, "0.0"), (-20.9, "-20.9"), (99.96, "100.0"), (1234567.8, "1,234,568"),
     (np.nan, "–"), (-17098.1, "-17,098")],  # noqa: RUF001
)  # fmt: skip
def test_scores_of_atari_are_written_by_their_size(value, shown):
    assert texts.score(value) == shown


def test_differences_in_any_form():
    assert texts.signed(-4.4) == "-4" and texts.signed(0.4) == "0"
    assert texts.signed(0.5) == "0" and texts.signed(1.5) == "+2"
    assert texts.signed(0.04, texts.tenths) == "0"
    assert texts.signed(-12345.0, texts.score) == "-12,345"
