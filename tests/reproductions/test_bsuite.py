"""BSuite's scores by hand, and the published means from the published scores."""

import json

import numpy as np
import pandas as pd
import pytest

from dreamer_tf.configs.bsuite import EXPERIMENTS, TAGS
from dreamer_tf.errors import UserError
from reproductions import bsuite, bsuite_report, bsuite_score
from reproductions.bsuite_report import PUBLISHED
from reproductions.bsuite_score import LOGGED, by_tag, category_mean, score, task_mean
from reproductions.cells import Cell
from reproductions.texts import MISSING

METHODS = ("random", "ppo", "ac_rnn", "dqn", "boot_dqn", "dreamerv3")


def alike(name, *regrets):
    """Every configuration has these regrets, over and over, in as many episodes."""
    known = EXPERIMENTS[name]
    one = np.resize(np.array(regrets, float), known.episodes)
    return dict.fromkeys(range(known.count), one)


def but(regrets, numbers, value):
    """The configurations with these numbers have another regret in all episodes."""
    return {
        k: np.full(len(r), value) if k in numbers else r for k, r in regrets.items()
    }


@pytest.mark.parametrize(
    ("name", "regrets", "expected"),
    [
        # 1 - 0.2 / 0.5; random actions have 0.5, which is 0, and more is no less.
        ("bandit", alike("bandit", 0.1, 0.3), 0.6),
        ("bandit", alike("bandit", 0.5), 0),
        ("bandit", alike("bandit", 0.9), 0),
        # Half of the configurations have 0, half 0.5: the mean counts.
        ("bandit", but(alike("bandit", 0), range(10), 0.5), 0.5),
        # A quarter of the balls missed: 0.5 per episode, 1 - 0.5 / 1.6.
        ("catch", alike("catch", 0, 0, 0, 2), 0.6875),
        ("mountain_car", alike("mountain_car", 0, 500), 0.75),
        ("mountain_car", alike("mountain_car", -20), 1),
        ("discounting_chain", alike("discounting_chain", 0.0), 1),
        ("discounting_chain", alike("discounting_chain", 0.1), 0),
        ("discounting_chain", alike("discounting_chain", 0.1, 0.06), 0.2),
        # Mean return 300, no episode above 500: half of 0.3.
        ("cartpole", alike("cartpole", 900, 500), 0.15),
        # An episode with 501 in a quarter of the configurations adds an eighth.
        ("cartpole", but(alike("cartpole", 1000), range(5), 499), 0.125 + 0.062625),
        # Two of twenty heights: mean return 140 with a best one of 140, or -100.
        (
            "cartpole_swingup",
            but(alike("cartpole_swingup", 800), (3, 4), 560),
            2 * (0.2 + 1) / 2 / 20,
        ),
        # Accuracy 0.4 to the last tenth, 0.9 in it: regrets 1.2 and 0.2, 1.1 in all.
        (
            "mnist",
            dict.fromkeys(range(20), np.repeat([1.2, 0.2], [9000, 1000])),
            ((1 - 1.1 / 1.8) + 0.9) / 2,
        ),
        # Guessing has regret 1; 37.5 % wrong is the limit, 0.75.
        ("memory_len", but(alike("memory_len", 0, 2), (0, 1, 2), 0.74), 3 / 23),
        ("memory_len", alike("memory_len", 0.75), 0),
        ("memory_size", but(alike("memory_size", 0), (16,), 0.76), 16 / 17),
        ("umbrella_length", but(alike("umbrella_length", 0.4), (5, 6), 0.5), 21 / 23),
        ("umbrella_distract", alike("umbrella_distract", 1), 0),
        # Solved is another matter than the mean: see below.
        ("deep_sea", alike("deep_sea", 1), 0),
        ("deep_sea", but(alike("deep_sea", 1), (0, 7), 0), 2 / 21),
        # A level's score is that of its four configurations; all alike, no deviation.
        ("bandit_noise", alike("bandit_noise", 0.2), 0.6),
        ("catch_scale", alike("catch_scale", 0.8), 0.5),
        ("mnist_scale", alike("mnist_scale", 0), 1),
        # Levels 1, 1, 1, 1, 0: mean 0.8, deviation 0.4, so (0.8 + 0.4) / 2.
        ("bandit_scale", but(alike("bandit_scale", 0), range(16, 20), 0.5), 0.6),
        ("mountain_car_noise", but(alike("mountain_car_noise", 0), range(4), 2e3), 0.6),
        # Levels 1, 0, 0, 0, 0: mean 0.2, deviation 0.4, which is more than that.
        ("catch_noise", but(alike("catch_noise", 2), range(4), 0), 0.1),
        ("mnist_noise", but(alike("mnist_noise", 2), range(4), 0), 0.1),
        # Per level half of the regret's and half for a good run: 0.5 (0.4 + 0) in one.
        ("cartpole_noise", but(alike("cartpole_noise", 1000), range(4), 600), 0.02),
        (
            "cartpole_scale",
            but(alike("cartpole_scale", 1000), range(4), 400),
            0.8 / 5 / 2,  # 0.8 is 0.5 (0.6 + 1); its deviation is larger than the mean
        ),
        ("mountain_car_scale", alike("mountain_car_scale", 250), 0.75),
    ],
)
def test_scores(name, regrets, expected):
    assert score(name, regrets) == pytest.approx(expected, abs=1e-9)


def bad_but(name, good):
    """Every episode is bad, but those from this one on (from 1)."""
    bad = np.ones(10_000)
    bad[good - 1 :] = 0
    return dict.fromkeys(range(EXPERIMENTS[name].count), bad)


@pytest.mark.parametrize(
    ("name", "good", "solved"),
    [
        # The share of bad ones is (good - 1) / n. Size 10 has 2^10 + 100 = 1124
        # episodes, and the last line before is that of 1000: 0.899, or 0.9.
        ("deep_sea", 900, 21),
        ("deep_sea", 901, 20),
        # Size 12 has 4196, its last line is that of 4000.
        ("deep_sea", 3600, 20),
        ("deep_sea", 3601, 19),
        # Of the others 10,000 are enough.
        ("deep_sea", 9000, 19),
        ("deep_sea", 9001, 0),
        # 0.8 for the stochastic one.
        ("deep_sea_stochastic", 800, 21),
        ("deep_sea_stochastic", 801, 20),
        ("deep_sea_stochastic", 8000, 19),
        ("deep_sea_stochastic", 8001, 0),
    ],
)
def test_deep_sea_is_solved_in_time(name, good, solved):
    assert score(name, bad_but(name, good)) == pytest.approx(solved / 21)


def test_the_first_hundred_episodes_of_the_stochastic_sea_do_not_count():
    """A good start may be luck there: not so with the deterministic one."""
    bad = np.ones(10_000)
    bad[:10] = 0
    assert score("deep_sea", {0: bad}) == 1
    assert score("deep_sea_stochastic", {0: bad}) == 0
    bad[:100] = 0
    assert score("deep_sea_stochastic", {0: bad}) == 1


def test_bsuite_writes_at_these_episodes():
    ratios = (
        1,
        1.2,
        1.4,
        1.7,
        2,
        2.5,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
    )  # `_logarithmic_logging`
    known = range(1, 10_001)
    written = [n for n in known if n / 10 ** (len(str(n)) - 1) in ratios]
    assert [*LOGGED] == written


def test_later_episodes_do_not_count():
    regrets = {k: np.r_[r, np.full(99, 100.0)] for k, r in alike("catch", 0.4).items()}
    assert score("catch", regrets) == pytest.approx(0.75)
    more = {k: np.r_[r, 0.0] for k, r in alike("cartpole", 1000).items()}
    assert score("cartpole", more) == 0  # nor as the best episode


def test_what_was_not_run_is_left_out_and_said():
    agent = {
        "catch": {k: r for k, r in alike("catch", 0.4).items() if k < 5},
        "bandit": {0: np.zeros(10_000), 1: np.array([])},
        "cartpole": dict.fromkeys(range(20), np.zeros(700)),
        "memory_len": alike("memory_len", 0),
    }
    table = bsuite_score.scores(agent)
    assert [*table.index] == [*EXPERIMENTS]
    ran = table.score.dropna().to_dict()
    assert ran == pytest.approx(
        {"bandit": 1, "cartpole": 1, "catch": 0.75, "memory_len": 1}
    )
    assert table.loc["bandit"].to_dict() == {
        "score": 1,
        "run": 1,
        "count": 20,
        "episodes": 10_000,
        "needed": 10_000,
    }
    assert task_mean(table.score) == pytest.approx(3.75 / 4)
    tags = by_tag(table.score)
    assert tags["basic"] == pytest.approx(2.75 / 3) and tags["memory"] == 1
    assert np.isnan(tags["scale"])
    assert category_mean(table.score) == pytest.approx(
        np.mean([2.75 / 3, 0.875, 1, 1])  # basic, credit assignment, cartpole, memory
    )
    text = bsuite_score.missing(table)
    assert "catch 5 of 20" in text and "bandit 1 of 20" in text
    assert "cartpole 700 of 1000" in text and "memory_len" not in text
    assert "left out of means: bandit_noise, " in text
    assert "as bsuite downloads their data: mnist, mnist_noise, mnist_scale." in text
    whole = {name: alike(name, 0.1) for name in EXPERIMENTS}
    assert bsuite_score.missing(bsuite_score.scores(whole)) == ""


# --- The published numbers ------------------------------------------------------


def printed():
    table = pd.read_csv(PUBLISHED / "bsuite_printed.csv", keep_default_na=False)
    return table[table.table == "13"]


@pytest.mark.parametrize(
    ("method", "tasks", "categories"),
    [*zip(METHODS, (3, 49, 32, 54, 60, 66), (3, 47, 30, 49, 57, 63))],
)
def test_published_means_follow_from_published_scores(method, tasks, categories):
    table = printed()
    table = table[table.method == method]
    values = table[table.task != ""].set_index("task").printed.astype(float)
    assert set(values.index) == set(EXPERIMENTS)
    assert abs(100 * task_mean(values) - tasks) <= 0.5
    assert abs(100 * category_mean(values) - categories) <= 0.51
    tags = (
        table[table.statistic.isin(TAGS)].set_index("statistic").printed.astype(float)
    )
    assert len(tags) == 7
    assert (by_tag(values) - tags).abs().max() < 0.0065


# --- The report -------------------------------------------------------------------


def make_run(folder, task, regrets, version="v3", seed=0, protocol="arxiv_v2"):
    run = {"version": version, "protocol": protocol, "task": task, "seed": seed}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"run": run, "agent": {}}))
    lines = [
        json.dumps({"frames": n, "length": 1, "reward": 1.0, "regret": regret})
        for n, regret in enumerate(regrets, 1)
    ]
    (folder / "stats.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two seeds of V3 and one of V2, in both spellings of names."""
    folder = tmp_path / "logs"
    make_run(folder / "a", "bsuite_catch/0", [0.4] * 20)
    make_run(folder / "b", "bsuite_catch_1", [0.8] * 20)
    make_run(folder / "c", "bsuite_catch_0", [1.6] * 20, seed=1)
    make_run(folder / "d", "bsuite_memory_len_0", [0.0] * 20)
    make_run(
        folder / "e", "bsuite_bandit_0", [0.1] * 20, version="v2", protocol="paper"
    )
    return folder


def test_report_of_runs(runs, tmp_path):
    (runs / "a" / "stats.jsonl").open("a").write('{"regret": 7')  # being written
    out = tmp_path / "out"
    text = bsuite_report.report([runs], out)
    table = pd.read_csv(out / "bsuite_scores.csv").dropna(subset="score")
    where = ["protocol", "version", "seed", "experiment"]
    assert table.set_index(where).score.to_dict() == pytest.approx(
        {
            ("arxiv_v2", "v3", 0, "catch"): 0.625,
            ("arxiv_v2", "v3", 0, "memory_len"): 1,
            ("arxiv_v2", "v3", 1, "catch"): 0,
            ("paper", "v2", 0, "bandit"): 0.8,
        }
    )
    rows = [line.split("|") for line in (out / "bsuite.md").read_text().splitlines()]
    found = [[c.strip() for c in row[1:4]] for row in rows if len(row) > 3]
    assert ["Experiment", "DreamerV3 (2 seeds)", "DreamerV3, printed"] in found
    assert ["catch", "0.31", "0.96"] in found and [
        "catch noise",
        MISSING,
        "0.53",
    ] in found
    assert ["memory len", "1.00", "0.65"] in found and [
        "basic",
        "0.31",
        "0.88",
    ] in found
    assert ["Task mean", "0.66", "0.66"] in found  # of (0.3125, 1), and of 23
    both = (0.96 + 0.65) / 2  # printed, of catch and memory_len
    assert ["Mean of the 2 that ours have", "0.66", f"{both:.2f}"] in found
    assert ["Category mean", "0.54", "0.63"] in found  # 0.3125, 0.3125, 1
    assert ["Experiment", "DreamerV2 (1 seed)", "DreamerV3, printed"] in found
    assert "DreamerV3, seed 0: Not run" in text and "catch 2 of 20" in text
    assert "catch 20 of 10000" in text and "mnist_scale." in text
    assert {p.name for p in out.iterdir()} == {
        "bsuite.md",
        "bsuite_scores.csv",
        "bsuite_radar_arxiv_v2.png",
        "bsuite_radar_paper.png",
    }


def test_radar_has_gaps_for_what_was_not_run(runs):
    first = bsuite_report.read_runs([runs])[0]
    lines = {
        line.get_label(): line for line in bsuite_report.radar(first).axes[0].lines
    }
    ours = dict(zip(TAGS, lines.pop("DreamerV3").get_ydata()))
    assert ours["memory"] == 1 and ours["basic"] == pytest.approx(0.3125)
    assert np.isnan([ours["scale"], ours["exploration"]]).all()
    assert len(lines) == 6
    dreamer = lines["DreamerV3, printed"].get_ydata()
    assert len(dreamer) == 8 and dreamer[0] == dreamer[-1] == pytest.approx(0.876)


def test_report_of_the_printed_numbers(tmp_path):
    text = bsuite_report.report([], tmp_path)
    assert "0.66     0.60 0.54   0.32 0.49   0.03" in text
    assert {p.name for p in tmp_path.iterdir()} == {
        "bsuite.md",
        "bsuite_radar_published.png",
    }


@pytest.mark.parametrize(
    "line",
    [
        '{"length": 3}',
        '{"regret": null}',
        '{"regret": "1"}',
        "[1]",
        "{",
        '{"regret": NaN}',
    ],
)
def test_a_damaged_line_is_named(runs, tmp_path, line):
    with (runs / "b" / "stats.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"b/stats.jsonl line 21 is no episode"):
        bsuite_report.report([runs], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_do_not_fit_are_named(runs, tmp_path):
    make_run(runs / "f", "bsuite_catch_0", [1.0])
    with pytest.raises(UserError, match=r"Seed 0 of v3 .* twice.*keep one"):
        bsuite_report.read_runs([runs])
    other = make_run(tmp_path / "g", "crafter_reward", [1.0])
    with pytest.raises(UserError, match="crafter_reward, not of BSuite"):
        bsuite_report.read_runs([other])
    unknown = make_run(tmp_path / "h", "bsuite_catch_20", [1.0])
    with pytest.raises(UserError, match="bsuite_catch_0 to bsuite_catch_19"):
        bsuite_report.read_runs([unknown])
    unborn = make_run(tmp_path / "i", "bsuite_catch_0", [])
    (unborn / "stats.jsonl").unlink()
    (runs,) = bsuite_report.read_runs([unborn])
    assert np.isnan(runs.versions["v3"]).all()


def test_the_script_reports_both(monkeypatch, tmp_path):
    monkeypatch.setattr(bsuite.grid, "tell", lambda cells, out: "the grid's")
    monkeypatch.setattr(
        bsuite.bsuite_report, "report", lambda paths, out: f"{[*paths]} {out.name}"
    )
    cell = Cell("v3", "bsuite", "arxiv_v2", "catch_0", 0, 9)
    text = bsuite.tell([cell], tmp_path)
    assert text.startswith("the grid's\n\n") and text.endswith("bsuite")
    assert str(cell.path(tmp_path)) in text
