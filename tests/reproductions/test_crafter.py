"""Crafter's score and tables: the published numbers, and small made-up runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dreamer_tf.errors import UserError
from reproductions import crafter_report, crafter_score, grid
from reproductions.crafter_score import ACHIEVEMENTS, PREFIX, success_rates

GOLDEN = Path(__file__).parents[1] / "golden" / "envs"


def episode(length=100, *unlocked):
    counts = {PREFIX + name: 3 * (name in unlocked) for name in ACHIEVEMENTS}
    return {"frames": length, "length": length, "reward": 0.1, **counts}


# --- The score --------------------------------------------------------------------


def test_the_example_of_the_official_functions():
    """Of which the episode that crosses the budget of 1,000 frames does not count."""
    example = json.loads((GOLDEN / "crafter_score_example.json").read_text())
    expected = example["expected"]
    rates = [
        success_rates(lines, "the example", expected["budget"])
        for lines in example["stats"]
    ]
    assert [PREFIX + name for name in rates[0].index] == expected["tasks"]
    np.testing.assert_allclose(rates, expected["success_percent"], atol=1e-6)
    scores = [crafter_score.score(of_seed) for of_seed in rates]
    np.testing.assert_allclose(scores, expected["score_per_seed"], atol=1e-6)
    mean, std = crafter_score.over_seeds(rates)
    assert mean == pytest.approx(expected["score_mean"], abs=1e-6)
    assert std == pytest.approx(expected["score_std"], abs=1e-6)
    # What must not be reported: the score of the rates' mean over seeds.
    other = crafter_score.score(np.mean(rates, axis=0))
    assert other == pytest.approx(expected["score_of_mean_rates"], abs=1e-6)
    assert abs(mean - other) > 1


@pytest.mark.parametrize(
    ("method", "mean", "std"), [("random", 1.55, 0.01), ("human", 50.53, 6.79)]
)
def test_the_published_scores_from_their_rates(method, mean, std):
    rates = crafter_report.published_rates()[method]
    found = crafter_score.over_seeds(rates)
    assert found == pytest.approx((mean, std), abs=0.005)
    table = pd.read_csv(crafter_report.PUBLISHED / "crafter_scores.csv")
    rows = table[(table.method == method) & (table.task == "score")]
    scores = [crafter_score.score(of_seed) for of_seed in rates]
    np.testing.assert_allclose(scores, rows.score, atol=2e-3)  # of three decimals
    board = crafter_report.printed_scores().loc[method]
    assert found == pytest.approx((board.printed, board["std"]), abs=0.06)


def test_the_score_by_hand():
    rates = np.zeros(22)
    assert crafter_score.score(rates) == 0
    assert crafter_score.score(rates + 100) == pytest.approx(100)
    rates[0] = 100
    assert crafter_score.score(rates) == pytest.approx(101 ** (1 / 22) - 1)


def test_which_episodes_count():
    """All that end within the budget, also at its last frame."""
    first, last = episode(400, "wake_up"), episode(600, "collect_drink")
    later = episode(10, "collect_iron")
    rates = success_rates([first, last, later, later], "it", 1000)
    assert rates["wake_up"] == rates["collect_drink"] == 50
    assert rates["collect_iron"] == 0 and len(rates) == 22
    assert success_rates([first, later, last], "it", 1000)["collect_drink"] == 0


@pytest.mark.parametrize(
    ("lengths", "reached"), [([], "0"), ([500_000, 489_999], "989,999")]
)
def test_a_run_must_reach_its_budget(lengths, reached):
    episodes = [episode(length) for length in lengths]
    with pytest.raises(UserError) as info:
        success_rates(episodes, "logs/run", crafter_score.BUDGET)
    assert str(info.value) == (
        f"logs/run has finished episodes of {reached} frames, but Crafter's score "
        "needs 990,000 of the budget of 1,000,000: train it to its end."
    )
    success_rates([*episodes, episode(990_000)], "logs/run", crafter_score.BUDGET)


# --- The report -------------------------------------------------------------------


def make_run(path, episodes, **changes):
    run = {"version": "v3", "benchmark": "crafter", "protocol": "arxiv_v2", "seed": 0}
    run |= {"task": "crafter_reward", "steps": 1000} | changes
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"run": run}))
    lines = "".join(json.dumps(line) + "\n" for line in episodes)
    (path / "stats.jsonl").write_text(lines)
    return path


def whole(*unlocked):
    """The first of two episodes unlocks all these."""
    return [episode(500, *unlocked), episode(495)]


def test_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(crafter_report, "BUDGET", 1000)  # as if that were published
    logs, out = tmp_path / "logs", tmp_path / "out"
    make_run(logs / "a", whole("wake_up", "eat_cow"), seed=1)
    make_run(logs / "b", whole("wake_up"), seed=0)
    make_run(logs / "c", whole(), version="v2", protocol="paper")
    make_run(logs / "d", whole()[:1], version="v2", protocol="paper", seed=1)
    text = crafter_report.report([logs], out)
    one, two = 51 ** (1 / 22) - 1, 51 ** (2 / 22) - 1
    scores = pd.read_csv(out / "crafter_scores.csv").set_index(["version", "seed"])
    assert scores.score["v3", 0] == pytest.approx(one, abs=1e-4)
    assert scores.score["v3", 1] == pytest.approx(two, abs=1e-4)
    assert scores.score["v2", 0] == 0 and len(scores) == 3
    rates = pd.read_csv(out / "crafter_rates.csv")
    assert len(rates) == 3 * 22 and rates.percent.sum() == 150
    page = (out / "crafter.md").read_text()
    assert "has finished episodes of 500 frames, but Crafter's score needs 990" in page
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "Crafter (crafter_reward), protocol arxiv_v2, 1K frames",
        "Crafter (crafter_reward), protocol arxiv_v2, 1K frames: success rates",
        "Crafter (crafter_reward), protocol paper, 1K frames",
        "Crafter (crafter_reward), protocol paper, 1K frames: success rates",
    ]
    rows = [[x.strip() for x in line.split("|")[1:-1]] for line in page.splitlines()]
    mean, std = (one + two) / 2, (two - one) / 2
    ours = [f"{mean:.1f} ± {std:.1f}", "2", "14.5 ± 1.6 (arXiv v1)"]
    assert ["DreamerV3", *ours] in rows
    wider = "10.0 ± 1.2 (a wider model than the later code's)"
    assert ["DreamerV2", "0.0", "1", wider] in rows
    assert ["wake up", "50.0", "93.6", "73.0"] in rows
    assert ["eat cow", "25.0", "0.38", "89.0"] in rows
    assert ["Human experts", "–", "–", "50.5 ± 6.8"] in rows  # noqa: RUF001
    assert rows.count(["Random policy", "–", "–", "1.6 ± 0.0"]) == 2  # noqa: RUF001
    assert text.endswith(f"Written: {out / 'crafter.md'}") and "14.5" in text
    plot = out / "crafter_rates_arxiv_v2_crafter_reward.png"
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "changes",
    [{"protocol": "lite"}, {"steps": 990}, {"task": "crafter_noreward"}],
)
def test_what_does_not_compare_with_published_scores(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(crafter_report, "BUDGET", 1000)
    make_run(tmp_path / "a", whole("wake_up"), **changes)
    ((runs,), left_out) = crafter_report.read_runs([tmp_path])
    (row,) = crafter_report.score_table(runs).to_dict("records")
    assert row == {"Version": "DreamerV3", "Score": "0.2", "Seeds": "1"}
    assert not left_out


def test_the_budget_is_the_papers_at_most(tmp_path):
    lines = [episode(10_000, "wake_up") for _ in range(100)]
    lines += [episode(10_000) for _ in range(100)]
    make_run(tmp_path / "a", lines, steps=1_100_000)
    ((runs,), _) = crafter_report.read_runs([tmp_path])
    assert runs.budget == 1_000_000 and runs.rates["v3"][0]["wake_up"] == 100


def test_the_plot(tmp_path):
    make_run(tmp_path / "a", whole("wake_up"))
    ((runs,), _) = crafter_report.read_runs([tmp_path])
    (axis,) = crafter_report.rates_figure(runs).axes
    assert len(axis.patches) == 3 * 22  # ours, random, human
    assert axis.get_ylim() == (0.01, 100) and axis.get_yscale() == "log"
    heights = [bar.get_height() for bar in axis.patches[:22]]
    assert heights == [0.0] * 21 + [50.0]
    names = [label.get_text() for label in axis.get_xticklabels()]
    assert names == [name.replace("_", " ") for name in ACHIEVEMENTS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "walker_walk"}, "holds a run of walker_walk, not of Crafter"),
        ({"version": "v4"}, "names the unknown version 'v4'"),
        ({"seed": "1"}, "lacks the setting 'seed'"),
        ({"steps": None}, "lacks the setting 'steps'"),
    ],
)
def test_runs_that_are_none(tmp_path, change, message):
    make_run(tmp_path / "a", whole(), **change)
    with pytest.raises(UserError, match=message):
        crafter_report.report([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_seed_twice(tmp_path):
    for name in "ab":
        make_run(tmp_path / name, whole())
    with pytest.raises(
        UserError, match=r"Seed 0 of v3 \(arxiv_v2, crafter_reward\) is"
    ):
        crafter_report.report([tmp_path], tmp_path / "out")


@pytest.mark.parametrize(
    "line", ["{", "[]", "1", "{}", '{"length": "9"}', '{"length": -1}', "\x00"]
)
def test_a_damaged_line(tmp_path, line):
    path = make_run(tmp_path / "a", whole())
    with open(path / "stats.jsonl", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"stats.jsonl line 3 is no episode of Crafter"):
        crafter_report.report([tmp_path], tmp_path / "out")


def test_unfinished_runs(tmp_path):
    """A line that is being written does not count; without stats nothing has ended."""
    path = make_run(tmp_path / "a", whole()[:1])
    with open(path / "stats.jsonl", "a") as file:
        file.write('{"length": 5')
    make_run(tmp_path / "b", [], seed=1)
    (tmp_path / "b" / "stats.jsonl").unlink()
    with pytest.raises(UserError, match=r"of 500 frames.* of 0 frames"):
        crafter_report.report([tmp_path], tmp_path / "out")


def test_the_benchmarks_script_tells_both_reports(tmp_path, monkeypatch):
    from reproductions import crafter
    from reproductions.cells import Cell

    cell = Cell("v3", "crafter", "arxiv_v2", "reward", 0, 1000)
    make_run(cell.path(tmp_path), whole("wake_up"))
    monkeypatch.setattr(grid, "tell", lambda cells, out: f"{len(cells)} returns")
    text = crafter.tell([cell], tmp_path)
    assert text.startswith("1 returns\n\nCrafter (crafter_reward), protocol arxiv_v2")
    assert (tmp_path / "crafter" / "crafter.md").exists()
