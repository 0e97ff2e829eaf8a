import errno
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dreamer_tf.errors import UserError
from reproductions import (
    outside,
    plots,
    published,
    report,
    rules,
    scores,
    sheets,
    stats,
    summary,
    tables,
    tasks,
    texts,
    verdicts,
)
from reproductions.protocols import PROTOCOLS as OUR_PROTOCOLS
from tests.reproductions.conftest import PROTOCOLS, flat, options, write_version

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def groups(results):
    points, manifests = scores.read_runs(results)
    found = tables.make_groups(points, PROTOCOLS, manifests=manifests)
    return {g.protocol: g for g in found}


# --- The papers' own numbers ------------------------------------------------

PAPER = {  # benchmark: budget, tasks, mean and median printed in arXiv:2301.04104v2
    "dmc_proprio": (500_000, 18, 754, 871),
    "dmc_vision": (1_000_000, 20, 786, 861),
}


@pytest.mark.parametrize("benchmark", PAPER)
def test_published_data_give_the_printed_tables(benchmark):
    budget, count, mean, median = PAPER[benchmark]
    wide = sheets.published_table(benchmark, budget)
    assert wide.loc["task mean", "dreamerv3"] == pytest.approx(mean, abs=0.5)
    assert wide.loc["task median", "dreamerv3"] == pytest.approx(median, abs=0.5)
    printed = published.printed("arxiv_v2", benchmark)
    printed = printed[
        (printed.budget == budget) & printed.paper.str.contains("2301.04104v2")
    ]
    for method, part in printed.groupby("method"):
        rows = part[part.statistic == "score"].set_index("task").printed
        assert len(rows) == count
        assert (wide.loc[rows.index, method] - rows).abs().max() <= 0.505
        for statistic in ("mean", "median"):
            value = part.printed[part.statistic == statistic].iloc[0]
            assert wide.loc[f"task {statistic}", method] == pytest.approx(value, abs=1)


@pytest.mark.parametrize("benchmark", PAPER)
def test_published_scores_as_a_log_reproduce_themselves(benchmark, tmp_path):
    """The whole way: score file, rule, table, aggregates, verdicts."""
    budget, count, mean, median = PAPER[benchmark]
    table = published.scores(benchmark)
    table = table[
        (table.method == "dreamerv3")
        & (table.benchmark == benchmark)
        & (table.budget == budget)
    ]
    runs = [
        {"task": f"dmc_{r.task}", "method": "dreamerv3", "seed": r.seed}
        | {"xs": [budget / 2, budget], "ys": [0.0, r.score]}
        for r in table.itertuples()
    ]
    path = tmp_path / f"{benchmark}-dreamerv3.json.gz"
    with gzip.open(path, "wt") as f:
        json.dump(runs, f)
    (group,) = tables.make_groups(outside.read_outside(path), PROTOCOLS)
    cells = tables.cell_table(group, budget)
    cells = cells[cells.verdict != "not run"]
    assert len(cells) == count
    assert set(cells.verdict) == {"reproduced"}
    assert (cells["mean"] - cells.printed).abs().max() <= 0.505
    totals = tables.aggregate_table(group, budget, resamples=200)
    totals = totals.set_index("aggregate")
    assert totals.loc["mean", "mean"] == pytest.approx(mean, abs=0.5)
    assert totals.loc["median", "mean"] == pytest.approx(median, abs=0.5)
    assert set(totals.verdict) == {"reproduced"}
    pairs = tables.improvement_table(group, budget, resamples=200)
    assert pairs.probability.tolist() == [pytest.approx(0.5)]


# --- Tables -----------------------------------------------------------------


def test_verdicts(groups):
    table = tables.cell_table(groups["arxiv_v2"], 500_000)
    assert len(table) == 18 * 2
    found = table.set_index(["version", "task"]).verdict
    assert found["v3"].drop("hopper_hop").value_counts().to_dict() == {
        "not run": 13,
        "reproduced": 1,  # cartpole_swingup
        "below": 1,  # walker_walk
        "too few seeds": 1,  # reacher_easy
        "not finished": 1,  # finger_spin
    }
    assert found["v3", "hopper_hop"] == "above"
    assert found["v1", "walker_walk"] == "arxiv_v2: not comparable"
    row = table[(table.task == "cartpole_swingup") & (table.version == "v3")].iloc[0]
    assert (row["mean"], row["std"], row["n"], row["published_n"]) == (853, 2, 3, 5)
    assert row["difference"] == pytest.approx(853 - row.published)
    assert row["published"] == pytest.approx(row["printed"], abs=0.5)


def test_touching_intervals_count_as_overlap():
    row = {"version": "v3", "n": 3, "published_n": 5, "low": 10, "high": 20}
    ends = {"published_low": 21, "published_high": 40}
    assert verdicts.verdict("arxiv_v2", row | ends, True) == "reproduced"
    ends["published_low"] = 21.5
    assert verdicts.verdict("arxiv_v2", row | ends, True) == "below"


@pytest.mark.parametrize("protocol", ["lite", "nature"])
def test_other_protocols_are_never_called_a_reproduction(protocol):
    row = {"version": "v3", "n": 5, "published_n": 5, "low": 0, "high": 1000}
    row |= {"published_low": 0, "published_high": 1000}
    assert verdicts.verdict(protocol, row, True) == f"{protocol}: not comparable"
    assert verdicts.verdict("arxiv_v2", row, True) == "reproduced"
    assert verdicts.verdict("paper", row | {"version": "v2"}, True) == "reproduced"
    row |= {"version": "v1", "published_n": 0}
    assert verdicts.verdict("paper", row, True) == "nothing published"


def test_runs_with_other_settings_get_no_verdict(results):
    points, _ = scores.read_runs(results)
    points = points[points.protocol == "arxiv_v2"].copy()
    (before,) = tables.make_groups(points, PROTOCOLS, ["v3"])
    one = (points.task == "walker_walk") & (points.seed == 0) & (points.version == "v3")
    points.loc[one, "changed"] = "--train_ratio=8"
    (after,) = tables.make_groups(points, PROTOCOLS, ["v3"])
    budget = before.budgets[-1]
    cells = [tables.cell_table(g, budget).set_index("task") for g in (before, after)]
    verdicts = [set(tables.aggregate_table(g, budget).verdict) for g in (before, after)]
    assert "other settings" not in {*cells[0].verdict, *verdicts[0]}
    differ = cells[0].verdict != cells[1].verdict
    assert differ[differ].index.tolist() == ["walker_walk"]
    assert cells[1].verdict["walker_walk"] == "other settings"
    assert verdicts[1] == {"other settings"}
    (note,) = [note for note in after.notes if "--train_ratio=8" in note]
    assert "walker_walk 0" in note and note not in before.notes
    assert np.isnan(cells[1].difference["walker_walk"])
    assert not np.isnan(cells[0].difference["walker_walk"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_difference_beside_what_cannot_be_compared(groups, protocol):
    group = groups[protocol]
    for budget in group.budgets:
        cells = tables.cell_table(group, budget)
        totals = tables.aggregate_table(group, budget, resamples=100)
        for table in (cells, totals):
            compared = table.verdict.isin(verdicts.COMPARED)
            assert (compared == table.difference.notna()).all()
            assert not compared[table.version == "v1"].any()
            if protocol == "lite":
                # The published score itself stays, for orientation.
                assert not compared.any() and table.published.notna().any()


def test_lite_never_says_reproduced(groups):
    cells = tables.cell_table(groups["lite"], 50_000)
    totals = tables.aggregate_table(groups["lite"], 50_000, resamples=200)
    assert set(cells.verdict) == {"lite: not comparable", "not run"}
    assert set(totals.verdict) == {"lite: not comparable"}


def test_aggregates_compare_the_same_tasks(groups):
    group = groups["arxiv_v2"]
    totals = tables.aggregate_table(group, 500_000, resamples=200)
    mean = totals[(totals.version == "v3") & (totals["aggregate"] == "mean")].iloc[0]
    names = ["cartpole_swingup", "walker_walk", "hopper_hop", "reacher_easy"]
    means = sheets.published_table("dmc_proprio", 500_000).dreamerv3
    assert (mean.tasks, mean.of, mean.seeds) == (4, 18, 2)
    assert mean["mean"] == pytest.approx((853 + 502 + 302 + 955) / 4)
    assert mean.published == pytest.approx(means[names].mean())
    assert np.isnan(mean.printed)  # only whole benchmarks are printed
    assert mean.verdict == "too few seeds"


def test_aggregates_need_two_tasks(groups, tmp_path):
    """Over one task they are its row again, whatever the number of seeds."""
    names = ["walker_walk", "hopper_hop"]
    for version, seeds, some in (("v1", 1, 1), ("v2", 5, 1), ("v3", 1, 2)):
        kind = rules.rule("dmc_proprio", "lite", version).kind
        runs = {t: flat(9, 50_000, seeds, kind=kind, mode=kind) for t in names[:some]}
        write_version(tmp_path / "lite" / version, "dmc_proprio", runs)
    (group,) = tables.make_groups(scores.read_runs(tmp_path)[0], PROTOCOLS)
    totals = tables.aggregate_table(group, 50_000, resamples=100)
    assert set(totals.version) == {"v3"} and len(totals) == len(stats.AGGREGATES)
    assert totals.low.isna().all()  # a single seed has no spread
    assert tables.improvement_table(group, 50_000, resamples=100).empty
    one = groups["arxiv_v2"]
    assert set(one.points[one.points.version == "v1"].task) == {"walker_walk"}
    assert "v1" not in set(tables.aggregate_table(one, 500_000, 100).version)


def test_aggregates_over_unequal_seeds(tmp_path):
    """By hand: 252 of three seeds (250, 252, 254) and 20 of one."""
    runs = {"walker_run": flat(250, 50_000), "hopper_hop": flat(20, 50_000, seeds=1)}
    write_version(tmp_path / "lite" / "v3", "dmc_proprio", runs)
    (group,) = tables.make_groups(scores.read_runs(tmp_path)[0], PROTOCOLS)
    totals = tables.aggregate_table(group, 50_000, resamples=100)
    found = totals.set_index("aggregate")["mean"].to_dict()
    # Of four runs 1/4 is cut off: of 20 1/4 is left, of 250 1/6, of 252 1/12.
    iqm = (20 / 4 + 250 / 6 + 252 / 12) * 2
    means = {"mean": 136, "median": 136, "IQM": iqm, "optimality gap": 864}
    assert found == pytest.approx(means)
    assert set(totals.seeds) == {1} and set(totals.seeds_most) == {3}
    assert set(texts.readable(totals).Seeds) == {"1 to 3"}


def test_optimality_gap_is_better_when_smaller(tmp_path):
    runs = {t: flat(995, 500_000, every=5000) for t in ("walker_run", "hopper_hop")}
    write_version(tmp_path / "arxiv_v2" / "v3", "dmc_proprio", runs)
    (group,) = tables.make_groups(scores.read_runs(tmp_path)[0], PROTOCOLS)
    totals = tables.aggregate_table(group, 500_000, resamples=200)
    assert set(totals.verdict) == {"above"}


def test_probability_of_improvement_per_pair(tmp_path):
    """V3 is above on one task, and level on the other."""
    for version, level in (("v2", 300), ("v3", 500)):
        runs = {"walker_walk": flat(level, 50_000), "hopper_hop": flat(5, 50_000)}
        write_version(tmp_path / "lite" / version, "dmc_proprio", runs)
    (group,) = tables.make_groups(scores.read_runs(tmp_path)[0], PROTOCOLS)
    (row,) = tables.improvement_table(group, 50_000, resamples=200).itertuples()
    assert (row.x, row.y, row.tasks) == ("DreamerV3", "DreamerV2", 2)
    assert row.probability == 0.75 and row.low < 0.75 < row.high


def test_curves_and_bands_share_bins(groups):
    group = groups["arxiv_v2"]
    band, widths = tables.published_curve(group)
    assert widths == {"v1": 50_000, "v3": 20_000}
    assert set(band.version) == {"v3"}
    curves = tables.curve_table(group.points, widths)
    part = curves[(curves.version == "v3") & (curves.task == "walker_walk")]
    assert part.frames.tolist() == list(range(20_000, 500_001, 20_000))
    assert set(part["mean"]) == {502} and set(part.n) == {3}


def test_published_curves_reach_the_end_of_short_runs(tmp_path):
    """V2's published points are 30K frames apart, V1's first one is at 100K."""
    for version in ("v1", "v2", "v3"):
        runs = {"walker_walk": flat(300, 50_000)}
        write_version(tmp_path / "lite" / version, "dmc_vision", runs)
    (group,) = tables.make_groups(scores.read_runs(tmp_path)[0], PROTOCOLS)
    band, _ = tables.published_curve(group)
    frames = {v: sorted(set(t.frames)) for v, t in band.groupby("version")}
    ten = [10_000, 20_000, 30_000, 40_000, 50_000]
    assert frames == {"v2": [30_000, 60_000], "v3": ten}


def test_filters(results):
    points, _ = scores.read_runs(results)
    (group,) = tables.make_groups(points, PROTOCOLS, ["v1"], ["walker_walk"], [10**5])
    assert (group.versions, group.tasks) == (("v1",), ("walker_walk",))
    assert len(tables.cell_table(group, 10**5)) == 1
    with pytest.raises(UserError, match="leave none of the runs"):
        tables.make_groups(points, PROTOCOLS, ["v2"])


def test_summary_table(results):
    points, _ = scores.read_runs(results)
    lite = points[points.protocol == "lite"]
    table = summary.summary_table(lite, protocols=PROTOCOLS).set_index("task")
    row = table.loc["cartpole_swingup"]
    assert (row.score, row.spread, row.seeds, row.frames) == (252, 2, 3, 50_000)
    assert row.random == 47.24  # at action repeat 2
    # The authors' code at the same settings stands there instead of other sizes.
    assert row.reference == pytest.approx(403.3, abs=0.05)
    assert row.reference_spread == pytest.approx(36.9, abs=0.05)
    assert row.reference_seeds == 5 and np.isnan(row.published)
    assert "Reference: authors' code" in table.attrs["footnote"]


def test_summary_table_without_a_reference(results):
    points, _ = scores.read_runs(results)
    lite = points[(points.protocol == "lite") & (points.task == "cartpole_swingup")]
    other = lite.assign(task="cheetah_run")
    table = summary.summary_table(other, protocols=PROTOCOLS).set_index("task")
    row = table.loc["cheetah_run"]
    assert np.isnan(row.reference) and row.reference_seeds == 0
    early = published.curves("dmc_proprio", early=True)
    expected = early[
        (early.method == "dreamerv3")
        & (early.benchmark == "dmc_proprio")
        & (early.task == "cheetah_run")
        & (early.frames == 50_000)
    ]["mean"].iloc[0]
    assert (row.published, row.published_frames) == (expected, 50_000)
    assert row.protocol == "lite"
    assert "settings of lite for v3" in table.attrs["footnote"]
    assert "not comparable" in table.attrs["footnote"]


# --- Files ------------------------------------------------------------------


def test_report_writes_every_format(written):
    out, text = written
    names = {p.name for p in (out / "tables").iterdir()}
    for group in ("dmc_proprio_lite", "dmc_proprio_arxiv_v2"):
        assert {f"{group}.md", f"{group}.tex", f"{group}_tasks.csv"} <= names
        assert (out / "plots" / f"{group}_curves.png").stat().st_size > 10_000
    assert f"Page: {out / 'report.html'}" in text
    back = pd.read_csv(out / "tables" / "dmc_proprio_arxiv_v2_tasks.csv")
    assert set(back.budget) == {50_000, 100_000, 200_000, 250_000, 500_000}


def test_a_reference_has_its_own_table(written):
    """The authors' code at the settings of lite; never under another protocol."""
    tables_of = written[0] / "tables"
    (row,) = [
        row
        for row in pd.read_csv(
            tables_of / "dmc_proprio_lite_agreement.csv"
        ).itertuples()
        if (row.task, row.measure) == ("cartpole_swingup", "end")
    ]
    assert (row.mean, row.n, row.reference_n, row.verdict) == (252, 3, 5, "below")
    assert row.reference == pytest.approx(403.3, abs=0.05)
    cells = pd.read_csv(tables_of / "dmc_proprio_lite_tasks.csv").set_index("task")
    assert cells.agreement["cartpole_swingup"] == "below"
    assert cells.verdict["cartpole_swingup"] == "lite: not comparable"
    text = (tables_of / "dmc_proprio_lite.md").read_text()
    assert "ours beside authors' code, same settings" in text
    assert not (tables_of / "dmc_proprio_arxiv_v2_agreement.csv").exists()
    assert "Reference" not in (tables_of / "dmc_proprio_arxiv_v2.md").read_text()
    page = (written[0] / "report.html").read_text()
    assert page.count('<table class="totals agreement"') == 1
    assert page.count("</svg> authors&#39; code, same settings</span>") == 1
    assert 'id="v3-reference"' in page


def test_protocols_never_share_a_table(written):
    out, _ = written
    for name, other in (("lite", "arxiv_v2"), ("arxiv_v2", "lite")):
        text = (out / "tables" / f"dmc_proprio_{name}.md").read_text()
        assert f"settings of {other}" not in text


@pytest.mark.parametrize("suffix", ["md", "tex"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_notes_come_once_and_last(written, name, suffix):
    text = (written[0] / "tables" / f"dmc_proprio_{name}.{suffix}").read_text()
    note = "settings of " + (texts.tex(name) if suffix == "tex" else name)
    for sentence in (note, "Intervals are 95", "Scores are episode returns"):
        assert text.count(sentence) == 1
    tables_end = text.rindex(r"\end{table}" if suffix == "tex" else "|\n")
    assert text.index(note) > tables_end


@pytest.mark.parametrize(
    ("name", "count", "rows"),
    [
        ("lite", "16 of 18 rows were not run and are left out: DreamerV3 16.", 2),
        (
            "arxiv_v2",
            "30 of 36 rows were not run and are left out: DreamerV1 17, DreamerV3 13.",
            6,
        ),
    ],
)
def test_rows_that_were_not_run(written, name, count, rows):
    """Counted in Markdown, LaTeX and page; whole in the CSV file."""
    folder = written[0] / "tables"
    text = (folder / f"dmc_proprio_{name}.md").read_text()
    latex = (folder / f"dmc_proprio_{name}.tex").read_text()
    assert count in text and count in latex
    assert f"dmc_proprio_{name}_tasks.csv has them" in text
    for part in text.split("## ")[1:]:
        if part.split("\n")[0].endswith("tasks"):
            lines = [line for line in part.splitlines() if line.startswith("|")]
            assert len(lines) == 2 + rows and "not run" not in "".join(lines)
    table = pd.read_csv(folder / f"dmc_proprio_{name}_tasks.csv")
    one = table[table.budget == table.budget.max()]
    assert len(one) == int(count.split()[2])
    assert (one.verdict == "not run").sum() == int(count.split()[0])
    page = (written[0] / "report.html").read_text()
    assert page.count(f"<summary>{' '.join(count.split()[:4])} not run</summary>") == 1


def test_columns_without_anything_are_left_out(groups):
    lite = texts.readable(tables.cell_table(groups["lite"], 50_000))
    assert not {"Difference", "Printed"} & set(lite.columns)
    assert {"Published", "Verdict", "Agreement"} < set(lite.columns)
    paper = texts.readable(tables.cell_table(groups["arxiv_v2"], 500_000))
    assert {"Published", "Printed", "Difference", "Verdict"} < set(paper.columns)
    assert paper.Difference[paper.Version == "DreamerV1"].tolist() == [texts.MISSING]


def test_one_run_beside_a_reference_of_any_name(tmp_path):
    """Its name is neither markup nor a formula; nothing is averaged over one task."""
    name = "a$b$_^{ <i>'\"|x"
    for folder, level in (("runs", 9), (name, 5)):
        run = {"hopper_hop": flat(level, 50_000, seeds=1, every=5000)}
        write_version(tmp_path / folder / "lite/v3", "dmc_proprio", run)
    earlier = tmp_path / "out/plots/dmc_proprio_lite_profiles.png"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    chosen = options(runs=str(tmp_path / "runs"), out=tmp_path / "out")
    chosen.reference = str(tmp_path / name)
    text = report.report(chosen, PROTOCOLS)
    counts = "end: 1 too few seeds; whole run: 1 too few seeds"
    assert f"Beside reference {tmp_path.name}/{name}, {counts}." in text
    assert re.search(r"hopper hop +DreamerV3 +9 +1 ", text)  # instead of aggregates
    page = (tmp_path / "out/report.html").read_text()
    assert "/a$b$_^{ &lt;i&gt;&#39;&#34;|x" in page and "<i>'" not in page
    for word in ("Aggregates", "Performance profile", "Probability of improvement"):
        assert word not in page
    assert not earlier.exists()
    aggregates = pd.read_csv(tmp_path / "out/tables/dmc_proprio_lite_aggregates.csv")
    assert aggregates.empty and aggregates.columns[-1] == "seeds_most"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("authors' code, same settings", "authors' code, same settings"),
        ("a$b$\nc\td", r"a\$b\$ c d"),
        ("x" * 37, "x" * 35 + "…"),
        ("$" * 36, r"\$" * 36),
    ],
)
def test_names_in_legends_are_short_and_no_formula(name, shown):
    assert plots.plain(name) == shown


@pytest.mark.parametrize(
    ("most", "spread", "top"),
    [(90, 20, 250), (245, 10, 500), (500, 0, 500), (740, np.nan, 750), (751, 0, 1000)],
)
def test_all_curves_have_one_scale_that_holds_them(most, spread, top):
    row = {"version": "v3", "task": "walker_walk", "frames": 1, "n": 2}
    table = pd.DataFrame([row | {"mean": 10.0, "std": 1.0}])
    high = pd.DataFrame([row | {"mean": float(most), "std": spread}])
    empty = table.iloc[:0]
    assert plots.Curves(table, empty, high, "x").top == top
    assert plots.Curves(high, empty, table, "x").top == top


def test_latex_is_escaped_and_balanced(written):
    out, _ = written
    for file in (out / "tables").glob("*.tex"):
        text = file.read_text()
        assert len(re.findall(r"\\begin{", text)) == len(re.findall(r"\\end{", text))
        assert not re.search(r"(?<!\\)[_#&](?![^\n]*\\\\)", text)
        assert text.isascii()


@pytest.mark.parametrize(
    "text",
    [r"\input{/etc/passwd}", r"\\", "{}", "a & b % $x$ #1 y_z ~^", "<|>", "a\nb"],
)
def test_latex_finds_no_command_in_a_text(text):
    escaped = texts.tex(text)
    commands = r"\\(textbackslash|textasciitilde|textless|textgreater|textbar|\^)\{\}"
    plain = re.sub(commands, "", escaped)
    plain = re.sub(r"\\[&%$#_{}]", "", plain)
    assert not re.search(r"[\\{}&%$#_~^<>|\n]", plain)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EPERM])
def test_a_report_that_cannot_be_written(results, tmp_path, monkeypatch, number):
    (tmp_path / "report.html").write_text("the one before")

    def fail(path, data):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(report, "write_atomic", fail)
    with pytest.raises(UserError, match=f"cannot be written .*{os.strerror(number)}"):
        report.report(options(runs=str(results), out=tmp_path), PROTOCOLS)
    assert (tmp_path / "report.html").read_text() == "the one before"


def test_report_is_repeatable(results, tmp_path):
    for out in ("a", "b"):
        chosen = options(runs=str(results), tasks=["walker_walk"], out=tmp_path / out)
        report.report(chosen, PROTOCOLS)
    files = [f for f in (tmp_path / "a").rglob("*") if f.is_file()]
    assert len(files) > 15
    for file in files:
        other = tmp_path / "b" / file.relative_to(tmp_path / "a")
        assert other.read_bytes() == file.read_bytes()


def test_outside_logs_have_their_own_table(tmp_path):
    log = ROOT / "tests/reproductions/data/dreamerv3_tdmpc2"
    earlier = tmp_path / "tables" / "dmc_proprio_outside_agreement.csv"
    earlier.parent.mkdir()
    earlier.touch()
    text = report.report(
        options(
            outside=[str(log)],
            tasks=["cartpole_swingup"],
            outside_benchmark="dmc_proprio",
            out=str(tmp_path),
        ),
        PROTOCOLS,
    )
    assert "DMC proprio, outside logs, 4M frames" in text
    assert not earlier.exists()
    table = pd.read_csv(tmp_path / "tables" / "dmc_proprio_outside_tasks.csv")
    table = table[table.published_n > 0]
    assert table.budget.tolist() == [10**5, 5 * 10**5, 10**6, 2 * 10**6, 4 * 10**6]
    assert set(table.verdict) == {"reproduced"}  # the same runs as the published ones
    assert (table.difference.abs() < 0.01).all()


# --- Bad input --------------------------------------------------------------


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "reproductions.report", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_script_reports_published_data(tmp_path):
    done = run_script("--published_only", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    assert re.search(r"dreamerv3 +237 +385 +502 +533 +667 +786", done.stdout)


@pytest.mark.parametrize("name", ["runs", "reference", "budgets"])
def test_published_data_alone_has_no_runs(name, tmp_path):
    chosen = options(published_only=True, out=str(tmp_path / "o"), **{name: "x"})
    with pytest.raises(UserError, match=f"--{name} is of runs, which --published_only"):
        report.report(chosen, PROTOCOLS)
    assert not (tmp_path / "o").exists()


def test_script_ends_with_one_sentence(tmp_path):
    (tmp_path / "runs").mkdir()
    done = run_script(f"--runs={tmp_path / 'runs'}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("reproductions.report: The results folder")
    assert "is empty" in line
    assert not (tmp_path / "out").exists()


def test_unknown_protocol(tmp_path):
    write_version(
        tmp_path / "light" / "v3", "dmc_proprio", {"walker_run": flat(1, 1000)}
    )
    with pytest.raises(UserError, match="'light'; valid are lite, arxiv_v2"):
        report.report(options(runs=str(tmp_path), out=str(tmp_path / "o")), PROTOCOLS)


def test_header_only_results(tmp_path):
    empty = flat(1, 1000).head(0)
    write_version(tmp_path / "lite" / "v3", "dmc_proprio", {"walker_run": empty})
    with pytest.raises(UserError, match="hold no finished episode"):
        report.report(options(runs=str(tmp_path), out=str(tmp_path / "o")), PROTOCOLS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": ["x"]}, r"--budgets got 'x'"),
        ({"budgets": ["-5"]}, r"--budgets got '-5'"),
        ({"tasks": ["walker"]}, r"--tasks names the unknown task 'walker'"),
        ({"versions": ["v7"]}, r"--versions names the unknown version 'v7'"),
        (
            {"outside": ["x"], "outside_benchmark": "doom"},
            r"--outside_benchmark names the unknown benchmark 'doom'",
        ),
    ],
)
def test_bad_flags(results, tmp_path, changes, message):
    chosen = options(runs=str(results), out=str(tmp_path / "o"), **changes)
    with pytest.raises(UserError, match=message):
        report.report(chosen, PROTOCOLS)


def test_logdirs(tmp_path, results):
    for seed in range(2):
        folder = tmp_path / "grid" / str(seed)
        folder.mkdir(parents=True)
        config = {"benchmark": "dmc_proprio", "protocol": "lite", "version": "v3"}
        config |= {"task": "walker_walk", "seed": seed}
        (folder / "config.json").write_text(json.dumps(config))
        table = flat(1, 20_000, 1).assign(seed=seed)
        table.to_csv(folder / "scores.csv", index=False)
    chosen = options(logdirs=[str(tmp_path / "grid")], out=str(tmp_path / "o"))
    text = report.report(chosen, PROTOCOLS)
    assert "DMC proprio, lite, 20K frames" in text
    # The same seeds once more, from the results folder.
    folder = tmp_path / "runs" / "lite"
    shutil.copytree(results / "lite", folder)
    chosen = options(logdirs=chosen.logdirs, runs=str(folder.parent), out=chosen.out)
    with pytest.raises(
        UserError,
        match=r"Seed 0 of v3 .* is given twice, in --runs=.* and in --logdirs",
    ):
        report.report(chosen, PROTOCOLS)


def test_every_budget_of_a_benchmark_is_compared():
    for benchmark in tasks.BENCHMARKS.values():
        assert set(benchmark.frames) == set(benchmark.tasks)
        for protocol, frames in benchmark.frames.items():
            if benchmark.budgets and protocol != "lite":
                assert set(frames.values()) <= set(benchmark.budgets)


def test_protocols_are_those_of_the_suite():
    known = set(OUR_PROTOCOLS)
    for benchmark in tasks.BENCHMARKS.values():
        assert set(benchmark.tasks) <= known
    assert {p for ps in tasks.PUBLISHED_UNDER.values() for p in ps} <= known


# --- The tables of the repository ---------------------------------------------


def test_the_tables_are_those_of_the_runs():
    points, manifests = scores.read_runs(ROOT / "results" / "runs")
    groups = tables.make_groups(points, OUR_PROTOCOLS, manifests=manifests)
    folder = ROOT / "results" / "tables"
    files = {folder / f"{group.key}_tasks.csv" for group in groups}
    assert files == {*folder.glob("*_tasks.csv")}
    for group in groups:
        (budget,) = group.budgets
        found = tables.cell_table(group, budget)
        written = pd.read_csv(folder / f"{group.key}_tasks.csv")
        assert set(written.budget) == {budget} and len(written) == len(found)
        for column in ("task", "version", "n", "verdict"):
            assert written[column].tolist() == found[column].tolist()
        for column in ("mean", "std", "published"):
            values = found[column].astype(float)
            np.testing.assert_allclose(written[column], values, atol=0.01)
