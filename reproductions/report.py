"""The papers' tables with our runs in them, from files only.

    python -m reproductions.report                         # results/runs -> results
    python -m reproductions.report --logdirs=/logs/grid --out=/tmp/report
    python -m reproductions.report --outside=dmc_vision-mine.json.gz --out=/tmp/report
    python -m reproductions.report --published_only --out=/tmp/report

Reads runs (and outside logs, see `scores.read_outside`), scores them by the
published rule, and writes tables (CSV, Markdown, LaTeX), plots and one HTML page
that needs nothing but itself.  Protocols never share a table.  Every function
returns a pandas table; nothing needs a backend or a GPU.  Takes about a minute
and less than 1 GB of memory for a full grid of 3 versions, 20 tasks and 5 seeds.
"""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import app, flags

from dreamer_tf.errors import UserError
from reproductions import page, plots, scores, stats, tasks

MIN_SEEDS = 3  # fewer give an interval too wide to decide anything
TOUCH = 1.0  # points; printed tables are rounded to this
MISSING = "–"  # noqa: RUF001 (an en dash, as in printed tables)

SCORING = (
    "Scores are episode returns (0 to 1000) by the papers' rule: per seed the mean "
    "over the last 4% of the budget, then the mean over seeds; ± is the standard "
    "deviation over seeds (n - 1)."
)
VERDICTS = (
    "Intervals are 95%: Student's t over the seeds of one task, stratified bootstrap "
    "over seeds for aggregates. Verdict: reproduced if our interval overlaps the "
    "published one (gaps up to 1 point count as overlap), above or below if not, too "
    f"few seeds below {MIN_SEEDS} on either side. Two published runs of one method "
    "differ by up to 280 points on single tasks, so the aggregates decide."
)


@dataclasses.dataclass(frozen=True)
class Group:
    """The runs of one benchmark under one protocol: what one table may hold."""

    benchmark: str
    protocol: str
    versions: tuple[str, ...]
    tasks: tuple[str, ...]
    budgets: tuple[int, ...]
    points: pd.DataFrame  # scores.POINTS
    scores: pd.DataFrame  # scores.budget_scores at every budget
    notes: tuple[str, ...]  # the protocol of each version
    rules: tuple[str, ...]  # how scores and verdicts came about
    manifests: Mapping[str, dict[str, Any]]  # by version

    @property
    def key(self) -> str:
        return f"{self.benchmark}_{self.protocol}"

    @property
    def title(self) -> str:
        name = "outside logs" if self.protocol == scores.OUTSIDE else self.protocol
        return f"{tasks.BENCHMARKS[self.benchmark].title}, {name}"


def make_groups(
    points: pd.DataFrame,
    protocols: Mapping[str, Any],
    versions: Sequence[str] = (),
    only_tasks: Sequence[str] = (),
    budgets: Sequence[int] = (),
    manifests: Mapping[tuple, dict] | None = None,
) -> list[Group]:
    """Splits points by benchmark and protocol and scores them at every budget.

    Args:
      protocols: name -> object with `footnote(version) -> str`.
      versions, only_tasks, budgets: what to show; empty: all that were run (and
        all tasks of the benchmark).
    """
    if points.empty:
        raise UserError("The results hold no finished episode.")
    groups = []
    for (benchmark, protocol), part in points.groupby(["benchmark", "protocol"]):
        shown = tuple(versions) or tuple(sorted(part.version.unique()))
        part = part[part.version.isin(shown)]
        names = tasks.tasks_of(benchmark, protocol)
        # A run on a task that the protocol does not list still gets its row.
        names = tuple(t for t in tasks.DMC_VISION if t in {*names, *part.task})
        names = tuple(t for t in names if not only_tasks or t in only_tasks)
        part = part[part.task.isin(names)]
        if part.empty:
            continue
        at = tuple(sorted(budgets)) or tuple(scores.budgets_of(part))
        found = [scores.budget_scores(part, b) for b in at]
        made = {
            v: m
            for (b, p, v), m in (manifests or {}).items()
            if (b, p) == (benchmark, protocol)
        }
        group = Group(
            benchmark=benchmark,
            protocol=protocol,
            versions=shown,
            tasks=names,
            budgets=at,
            points=part,
            scores=pd.concat(found),
            notes=tuple(
                f"{_name(v)}: {protocol_note(protocol, v, protocols)}" for v in shown
            ),
            rules=rules(part, protocol, shown),
            manifests=made,
        )
        groups.append(group)
    if not groups:
        raise UserError("--versions and --tasks leave none of the runs to report.")
    return groups


def rules(
    points: pd.DataFrame, protocol: str, versions: Sequence[str]
) -> tuple[str, ...]:
    """What stands under a table beside the protocol itself."""
    notes = []
    words = {"train": "training", "eval": "evaluation"}
    if protocol != scores.OUTSIDE:
        kinds = scores.reported_kinds(points)
        used = [f"{_name(v)} {words[kind]}" for (*_, v), kind in kinds.items()]
        notes.append(f"Episodes scored: {', '.join(used)}.")
    notes += [SCORING, VERDICTS]
    if protocol == "lite":
        return (
            *notes,
            "lite uses smaller sizes and fewer updates than the papers: its scores "
            "show that the code learns and are never called a reproduction.",
        )
    for version in versions:
        if not comparable(protocol, version):
            home = " or ".join(tasks.PUBLISHED_UNDER[version])
            notes.append(
                f"The published {_name(version)} scores were made under {home}, not "
                f"under {protocol}: the difference is shown, no verdict is given."
            )
    return tuple(notes)


def protocol_note(protocol: str, version: str, protocols: Mapping[str, Any]) -> str:
    """The protocol's own footnote for a version."""
    if protocol == scores.OUTSIDE:
        return "outside logs; their protocol is whatever made them."
    if protocol not in protocols:
        raise UserError(
            f"The results name the unknown protocol {protocol!r}; valid are "
            f"{', '.join(protocols)}."
        )
    return protocols[protocol].footnote(version)


def comparable(protocol: str, version: str) -> bool:
    """Were the version's published scores made under this protocol?"""
    if protocol == scores.OUTSIDE:
        return True
    return protocol in tasks.PUBLISHED_UNDER.get(version, ())


# --- Tables -----------------------------------------------------------------


def cell_table(group: Group, budget: int) -> pd.DataFrame:
    """Task x version at a budget: ours, published, difference, verdict.

    Columns: task, version, mean, std, n, low, high, published, published_std,
    published_n, published_low, published_high, printed, difference, verdict.
    """
    grid = pd.MultiIndex.from_product(
        [group.tasks, group.versions], names=["task", "version"]
    ).to_frame(index=False)
    key = ["task", "version"]
    ours = scores.summary(_at(group.scores, budget), key)
    theirs = scores.summary(_published(group, budget), key)
    names = {c: f"published_{c}" for c in ("std", "n", "low", "high")}
    theirs = theirs.rename(columns={"mean": "published", **names})
    printed = scores.printed_scores(group.protocol)
    printed = printed[
        (printed.benchmark == group.benchmark)
        & (printed.budget == budget)
        & (printed.statistic == "score")
    ]
    printed = _as_versions(printed, group.versions)[[*key, "printed"]]
    table = grid.merge(ours, "left", key).merge(theirs, "left", key)
    table = table.merge(printed, "left", key)
    for column in ("n", "published_n"):
        table[column] = table[column].fillna(0).astype(int)
    table["difference"] = table["mean"] - table.published
    started = set(zip(group.points.task, group.points.version))
    table["verdict"] = [
        verdict(group.protocol, row, (row["task"], row["version"]) in started)
        for row in _rows(table)
    ]
    return table


def verdict(protocol: str, row: Mapping[str, Any], started: bool) -> str:
    """The verdict on a row with version, n, published_n and both intervals."""
    if row["n"] == 0:
        return "not finished" if started else "not run"
    if not comparable(protocol, row["version"]):
        return f"{protocol}: not comparable"
    if row["published_n"] == 0:
        return "nothing published"
    if min(row["n"], row["published_n"]) < MIN_SEEDS:
        return "too few seeds"
    if row["low"] > row["published_high"] + TOUCH:
        return "above"
    if row["high"] < row["published_low"] - TOUCH:
        return "below"
    return "reproduced"


def aggregate_table(
    group: Group, budget: int, resamples: int = stats.RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Mean, median, IQM and optimality gap over tasks, with intervals.

    Ours and published are over the same tasks: those with runs of ours and, if
    the version has any published scores, with published ones.

    Columns: version, aggregate, tasks, of, seeds (fewest on a task), mean (ours),
    low, high, published, published_low, published_high, printed, difference, verdict.
    """
    ours, theirs = _at(group.scores, budget), _published(group, budget)
    printed = _as_versions(scores.printed_scores(group.protocol), group.versions)
    rows = []
    for version in group.versions:
        a, b = _sets(ours, version), _sets(theirs, version)
        names = [t for t in a if t in b] or list(a)
        mine = [a[t] for t in names]
        other = [b[t] for t in names if t in b]
        for name, statistic in stats.AGGREGATES.items():
            row: dict[str, Any] = {"version": version, "aggregate": name}
            row |= {"tasks": len(names), "of": len(group.tasks)}
            row["seeds"] = row["n"] = min(map(len, mine), default=0)
            row["published_n"] = min(map(len, other), default=0)
            for prefix, runs in (("", mine), ("published_", other)):
                value = low = high = np.nan
                if runs:
                    value = float(statistic(runs))
                    interval = stats.bootstrap(
                        statistic, runs, resamples=resamples, seed=seed
                    )
                    low, high = map(float, interval)
                row[prefix.rstrip("_") or "mean"] = value
                row[f"{prefix}low"], row[f"{prefix}high"] = low, high
            match = printed[
                (printed.version == version)
                & (printed.benchmark == group.benchmark)
                & (printed.budget == budget)
                & (printed.statistic == name)
            ].printed
            whole = len(names) == len(group.tasks) and len(match) > 0
            row["printed"] = match.iloc[0] if whole else np.nan
            row["difference"] = row["mean"] - row["published"]
            started = version in set(group.points.version)
            row["verdict"] = verdict(group.protocol, row, started)
            rows.append(row)
    table = pd.DataFrame(rows)
    # A smaller optimality gap is the better one.
    gap = table["aggregate"] == "optimality gap"
    swapped = table.verdict.replace({"above": "below", "below": "above"})
    table["verdict"] = table.verdict.mask(gap, swapped)
    return table.drop(columns=["n", "published_n"])


def improvement_table(
    group: Group, budget: int, resamples: int = stats.RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """P(a run of x scores higher than one of y on the same task), per pair.

    Pairs: our versions among each other, and each against its published runs.
    Columns: x, y, tasks, probability, low, high.
    """
    ours, theirs = _at(group.scores, budget), _published(group, budget)
    sides = {v: _sets(ours, v) for v in group.versions}
    pairs = [(x, y) for i, x in enumerate(group.versions) for y in group.versions[:i]]
    compared = [(_name(x), _name(y), sides[x], sides[y]) for x, y in pairs]
    compared += [
        (_name(v), f"{_name(v)} published", sides[v], _sets(theirs, v))
        for v in group.versions
        if comparable(group.protocol, v)
    ]
    rows = []
    for x, y, a, b in compared:
        names = [t for t in a if t in b]
        if names:
            runs = [a[t] for t in names], [b[t] for t in names]
            value = float(stats.probability_of_improvement(*runs))
            low, high = stats.bootstrap(
                stats.probability_of_improvement, *runs, resamples=resamples, seed=seed
            )
            rows.append((x, y, len(names), value, float(low), float(high)))
    columns = ["x", "y", "tasks", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def published_table(benchmark: str, budget: int) -> pd.DataFrame:
    """Published scores: one row per task, one column per method, then the task
    mean and median of methods that have every task."""
    table = scores.published_scores()
    table = table[(table.benchmark == benchmark) & (table.budget == budget)]
    wide = table.groupby(["task", "method"]).score.mean().unstack("method")
    order = [t for t in tasks.DMC_VISION if t in wide.index]
    first = [m for m in reversed(scores.METHODS.values()) if m in wide.columns]
    wide = wide.loc[order, [*first, *(m for m in wide.columns if m not in first)]]
    # Proprio was published on 18 tasks; peers' two more do not enter the mean.
    core = list(tasks.tasks_of(benchmark, "arxiv_v2"))
    inside = wide.reindex(core)
    whole = inside.notna().all()
    wide.loc["task mean"] = inside.mean().where(whole)
    wide.loc["task median"] = inside.median().where(whole)
    return wide.rename_axis(index="task", columns=None)


def published_aggregates(benchmark: str) -> pd.DataFrame:
    """Task mean and median of every published method at every budget."""
    rows = []
    for budget in tasks.BUDGETS:
        wide = published_table(benchmark, budget)
        if len(wide) > 2:
            rows.append(wide.loc[["task mean", "task median"]].T.assign(budget=budget))
    table = pd.concat(rows).dropna().rename_axis("method").reset_index()
    return table.rename(columns={"task mean": "mean", "task median": "median"})[
        ["method", "budget", "mean", "median"]
    ]


def curve_table(points: pd.DataFrame, width: int) -> pd.DataFrame:
    """Learning curves: mean over the seeds' bin means, bins (lo, hi] of `width`.

    Columns: version, task, frames (right edge), mean, std (population), n.
    """
    points = scores.reported_points(points)
    edges = (np.ceil(points.frames / width) * width).astype(int)
    key = ["version", "task"]
    runs = points.assign(frames=edges).groupby([*key, "frames", "seed"]).score.mean()
    table = runs.groupby([*key, "frames"]).agg(
        mean="mean", std=lambda x: x.std(ddof=0), n="count"
    )
    return table.reset_index()


def published_curve(group: Group) -> tuple[pd.DataFrame, int]:
    """The published band up to our last frame, and its coarsest bin width."""
    end = int(group.points.frames.max())
    table = scores.published_curves(early=end <= 300_000)
    table = table[table.benchmark == group.benchmark]
    table = _as_versions(table, group.versions)
    table = table[table.task.isin(group.tasks)]
    widths = [
        int(np.diff(np.sort(part.frames.unique())).min())
        for _, part in table.groupby("version")
        if part.frames.nunique() > 1
    ]
    width = max(widths, default=0)
    # Too short for the published bins: ten of our own.
    if width == 0 or width * 5 > end:
        width = max(1, end // 10)
    return table[table.frames <= max(end * 1.02, width)], width


def summary_table(
    runs: pd.DataFrame | Iterable[str | Path],
    budget: int = 0,
    protocols: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """A short table of a few runs beside what is known about their tasks.

    Args:
      runs: points, or run directories.
      budget: frames at which to read the scores; 0: the runs' own end.
      protocols: as in `make_groups`; None: the suite's own.

    Returns: version, task, frames, score, spread (std over seeds, n - 1), seeds,
      random (the uniform random policy), published (at the nearest published
      point of the same version's curve), published_frames, protocol.
      `attrs["footnote"]` says what the numbers are.
    """
    points = runs if isinstance(runs, pd.DataFrame) else scores.read_logdirs(runs)
    if points.empty:
        raise UserError("The runs hold no finished episode.")
    protocols = _protocols() if protocols is None else protocols
    if not budget:
        # The end that every run has reached, in round thousands where it can be.
        ends = points.groupby([*scores.CELL, "seed"]).frames.max()
        step = 10 ** max(0, len(str(int(ends.max()))) - 2)
        budget = int(round(ends.max() / step) * step)
    table = scores.summary(scores.budget_scores(points, budget), scores.CELL)
    chance = scores.random_scores().set_index("task")["mean"]
    curves = scores.published_curves(early=budget <= 300_000)
    rows = []
    for row in table.itertuples():
        method = scores.METHODS.get(str(row.version), row.version)
        curve = curves[
            (curves.method == method)
            & (curves.benchmark == row.benchmark)
            & (curves.task == row.task)
        ]
        near = curve.iloc[(curve.frames - budget).abs().argsort()[:1]]
        rows.append(
            {
                "version": row.version,
                "task": row.task,
                "frames": budget,
                "score": row.mean,
                "spread": row.std,
                "seeds": row.n,
                "random": chance.get(row.task, np.nan),
                "published": near["mean"].iloc[0] if len(near) else np.nan,
                "published_frames": near.frames.iloc[0] if len(near) else 0,
                "protocol": row.protocol,
            }
        )
    columns = ["version", "task", "frames", "score", "spread", "seeds", "random"]
    columns += ["published", "published_frames", "protocol"]
    result = pd.DataFrame(rows, columns=columns)
    pairs = points[["protocol", "version"]].drop_duplicates().itertuples(index=False)
    notes = [f"{p}, {_name(v)}: {protocol_note(p, v, protocols)}" for p, v in pairs]
    result.attrs["footnote"] = " ".join(
        [
            *notes,
            "The published runs used the paper's sizes and updates; where these differ "
            "from the protocol above, the two scores are not comparable.",
            "Published: mean over seeds at the nearest point of the published curve.",
        ]
    )
    return result


def _name(version: str) -> str:
    return tasks.VERSIONS.get(version, version)


def _at(table: pd.DataFrame, budget: int) -> pd.DataFrame:
    return table[table.budget == budget]


def _as_versions(table: pd.DataFrame, versions: Sequence[str]) -> pd.DataFrame:
    """Rows of published methods under the versions they belong to."""
    names = {scores.METHODS.get(v, v): v for v in versions}
    table = table[table.method.isin(list(names))]
    return table.assign(version=table.method.map(names))


def _published(group: Group, budget: int) -> pd.DataFrame:
    table = scores.published_scores()
    table = table[(table.benchmark == group.benchmark) & (table.budget == budget)]
    table = table[table.task.isin(group.tasks)]
    return _as_versions(table, group.versions)


def _sets(table: pd.DataFrame, version: str) -> dict[str, np.ndarray]:
    part = table[table.version == version]
    return {str(t): g.score.to_numpy(np.float64) for t, g in part.groupby("task")}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in r.items()} for r in table.to_dict("records")]


# --- Text -------------------------------------------------------------------


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A cell or aggregate table as the strings of the printed tables."""
    columns = {"Version": table.version.map(_name)}
    if "task" in table:
        columns = {"Task": table.task.str.replace("_", " "), **columns}
        spread = zip(table["mean"], table["std"])
        columns["Score"] = pd.Series(
            [_number(m) + ("" if np.isnan(s) else f" ± {s:.0f}") for m, s in spread]
        )
        columns["Seeds"] = table.n.astype(str)
    else:
        columns["Aggregate"] = table["aggregate"]
        columns["Tasks"] = pd.Series(
            [f"{k}/{n}" for k, n in zip(table.tasks, table.of)]
        )
        columns["Score"] = table["mean"].map(_number)
        columns["Seeds"] = table.seeds.astype(str)
    columns["95% interval"] = pd.Series(_intervals(table.low, table.high))
    both = _intervals(table.published_low, table.published_high)
    columns["Published"] = pd.Series(
        [
            _number(m) + ("" if np.isnan(m) else f" {i}")
            for m, i in zip(table.published, both)
        ]
    )
    columns["Printed"] = table.printed.map(_number)
    columns["Difference"] = table.difference.map(
        lambda x: MISSING if np.isnan(x) else signed(x)
    )
    columns["Verdict"] = table.verdict
    return pd.DataFrame(columns)


def signed(value: float) -> str:
    """+9, -4, 0."""
    return f"{value:+.0f}" if round(value) else "0"


def _number(value: float) -> str:
    return MISSING if np.isnan(value) else f"{value:.0f}"


def _intervals(low: Iterable[float], high: Iterable[float]) -> list[str]:
    return [
        MISSING if np.isnan(a) else f"[{a:.0f}, {b:.0f}]" for a, b in zip(low, high)
    ]


def markdown(table: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> str:
    """A heading, the table, and its footnotes."""
    right = {"Score", "Seeds", "Difference", "Tasks", "Printed", "P(x > y)"}
    align = ["right" if c in right else "left" for c in table.columns]
    text = table.to_markdown(index=False, colalign=align, disable_numparse=True)
    return "\n\n".join([f"## {title}", text, *notes]) + "\n"


def latex(table: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> str:
    """A booktabs table with its footnotes beneath, for \\input."""
    text = table.to_latex(
        index=False, escape=True, caption=_tex(title), position="t", longtable=False
    )
    signs = {"±": r"$\pm$", MISSING: "--"}
    below = r"\par\footnotesize " + " ".join(_tex(n) for n in notes) + "\n"
    text = text.replace(r"\end{table}", below + r"\end{table}")
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return "% needs \\usepackage{booktabs}\n" + text


def _tex(text: str) -> str:
    for sign in "&%$#_":
        text = text.replace(sign, "\\" + sign)
    return text.replace("~", r"\textasciitilde{}").replace("^", r"\^{}")


# --- Output -----------------------------------------------------------------


def write(
    groups: Sequence[Group],
    out: str | Path,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
) -> Path:
    """Writes tables, plots and report.html below `out`; returns the page's path."""
    out = Path(out)
    (out / "tables").mkdir(parents=True, exist_ok=True)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    sections = []
    for group in groups:
        name = group.key
        cells, totals, pairs = [], [], []
        texts: list[tuple[str, pd.DataFrame]] = []
        for budget in group.budgets:
            cells.append(cell_table(group, budget))
            totals.append(aggregate_table(group, budget, resamples, seed))
            pairs.append(improvement_table(group, budget, resamples, seed))
            text = f"{group.title}, {plots.frames_label(budget)} frames"
            texts = [
                (f"{text}: aggregates", readable(totals[-1])),
                (f"{text}: tasks", readable(cells[-1])),
                *texts,  # the longest budget comes first
            ]
            for table in (cells[-1], totals[-1], pairs[-1]):
                table.insert(0, "budget", budget)
        _save(out, name, texts, (*group.notes, *group.rules))
        tables = pd.concat(cells), pd.concat(totals), pd.concat(pairs)
        for part, table in zip(("tasks", "aggregates", "improvement"), tables):
            _save_csv(table, out / "tables" / f"{name}_{part}.csv")
        sections.append(_section(group, *tables, out, resamples, seed))
    references = [_reference(b, out) for b in tasks.BENCHMARKS]
    path = out / "report.html"
    path.write_text(page.render(sections, references), encoding="utf-8")
    return path


def _save(
    out: Path, stem: str, titled: Sequence[tuple[str, pd.DataFrame]], notes: Sequence
) -> None:
    """One Markdown and one LaTeX file; every table in them has all its footnotes."""
    for suffix, text in (("md", markdown), ("tex", latex)):
        parts = [text(table, title, notes) for title, table in titled]
        (out / "tables" / f"{stem}.{suffix}").write_text("\n".join(parts), "utf-8")


def _save_csv(table: pd.DataFrame, file: Path, index: bool = False) -> None:
    table.to_csv(file, index=index, float_format="%.2f")


def _section(
    group: Group,
    cells: pd.DataFrame,
    totals: pd.DataFrame,
    pairs: pd.DataFrame,
    out: Path,
    resamples: int,
    seed: int,
) -> page.Section:
    """Plots of a group, saved and inlined, with its tables."""
    band, width = published_curve(group)
    curves = curve_table(group.points, width)
    figure = plots.grid_figure(group.tasks, curves, band, group.versions, group.title)
    plots.save_png(figure, out / "plots" / f"{group.key}_curves.png")
    small = {
        task: plots.to_svg(
            plots.task_figure(task, curves, band, group.versions),
            f"Learning curves of {task}",
        )
        for task in group.tasks
        if task in set(group.points.task)
    }
    figure = _profile(group, group.budgets[-1], resamples, seed)
    plots.save_png(figure, out / "plots" / f"{group.key}_profiles.png")
    profile = plots.to_svg(figure, "Performance profiles")
    return page.Section(
        key=group.key,
        title=group.title,
        protocol=group.protocol,
        versions={v: _name(v) for v in group.versions},
        colors={v: plots.color_of(v, group.versions) for v in group.versions},
        budgets={b: plots.frames_label(b) for b in group.budgets},
        cells=cells,
        totals=totals,
        pairs=pairs,
        curves=small,
        profile=profile,
        notes=group.notes,
        rules=group.rules,
        manifests={_name(v): m for v, m in group.manifests.items()},
    )


def _profile(group: Group, budget: int, resamples: int, seed: int):
    """Performance profiles of ours and of the published runs on the same tasks."""
    thresholds = np.linspace(0, 1000, 101)
    ours, theirs = _at(group.scores, budget), _published(group, budget)
    lines = []
    for version in group.versions:
        a, b = _sets(ours, version), _sets(theirs, version)
        names = [t for t in a if t in b] or list(a)
        pairs = [(False, [a[t] for t in names])]
        if comparable(group.protocol, version):
            pairs.append((True, [b[t] for t in names if t in b]))
        for published, runs in pairs:
            if runs:
                share = stats.performance_profile(runs, thresholds)
                low, high = stats.bootstrap(
                    lambda r: stats.performance_profile(r, thresholds),
                    runs,
                    resamples=min(resamples, 500),  # a drawn band needs no more
                    seed=seed,
                )
                lines.append((version, published, share, low, high))
    return plots.profile_figure(lines, thresholds, group.versions)


def _reference(benchmark: str, out: Path) -> page.Reference:
    """The published tables at the papers' budget, saved and for the page."""
    budget = tasks.BENCHMARKS[benchmark].frames["arxiv_v2"]["v3"]
    title = tasks.BENCHMARKS[benchmark].title
    wide, totals = published_table(benchmark, budget), published_aggregates(benchmark)
    count = len(tasks.tasks_of(benchmark, "arxiv_v2"))
    notes = (
        f"Published runs only, mean over seeds by the papers' rule; task mean and "
        f"median over the {count} tasks of arXiv:2301.04104v2, for methods that have "
        "all of them. *_tdmpc2 are baselines as run by TD-MPC2's authors; "
        "dreamerv3_2023 are the runs of arXiv v1. Sources: results/published.",
    )
    text = f"Published scores: {title}, {plots.frames_label(budget)} frames"
    plain = wide.map(_number).reset_index()
    plain["task"] = plain.task.str.replace("_", " ")
    _save(out, f"published_{benchmark}", [(text, plain)], notes)
    _save_csv(wide, out / "tables" / f"published_{benchmark}.csv", index=True)
    _save_csv(totals, out / "tables" / f"published_{benchmark}_aggregates.csv")
    label = plots.frames_label(budget)
    return page.Reference(f"{title}, {label} frames", wide, totals, notes)


def _protocols() -> Mapping[str, Any]:
    from reproductions import protocols  # here, so that tests may pass their own

    return protocols.PROTOCOLS


# --- Command ----------------------------------------------------------------


def define_flags() -> None:
    """Called by this file as a script only: other scripts have flags of the same
    names."""
    flags.DEFINE_string("runs", None, "Results folder; default: results/runs.")
    flags.DEFINE_multi_string("logdirs", [], "Run directories, or folders of them.")
    flags.DEFINE_multi_string("outside", [], "Logs of other code, or folders of them.")
    flags.DEFINE_string("outside_benchmark", "", "Benchmark of the outside logs.")
    flags.DEFINE_string("outside_method", "", "Method name of the outside logs.")
    flags.DEFINE_bool("published_only", False, "Report the published data alone.")
    flags.DEFINE_list("versions", [], "Versions to show; default: all that were run.")
    flags.DEFINE_list("tasks", [], "Tasks to show; default: all of the benchmark.")
    flags.DEFINE_list("budgets", [], "Frames at which to score; default: as published.")
    flags.DEFINE_string("out", "results", "Folder for tables, plots and report.html.")
    flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.", lower_bound=0)
    flags.DEFINE_integer(
        "resamples", stats.RESAMPLES, "Bootstrap resamples.", lower_bound=100
    )


def report(options: Any, protocols: Mapping[str, Any] | None = None) -> str:
    """Does what the flags say; returns the text to print."""
    groups: list[Group] = []
    if not options.published_only:
        parts: list[pd.DataFrame] = []
        manifests: dict[tuple, dict] = {}
        runs = options.runs
        if not (runs or options.logdirs or options.outside):
            runs = "results/runs"
        if runs:
            points, manifests = scores.read_runs(runs)
            parts.append(points)
        if options.logdirs:
            parts.append(scores.read_logdirs(options.logdirs))
        benchmark = options.outside_benchmark
        if benchmark:
            tasks.check_benchmark(benchmark, "--outside_benchmark")
        for path in options.outside:
            parts.append(scores.read_outside(path, benchmark, options.outside_method))
        groups = make_groups(
            scores.combine(parts),
            _protocols() if protocols is None else protocols,
            options.versions,
            [tasks.check_task(t, "--tasks") for t in options.tasks],
            [_frames(b) for b in options.budgets],
            manifests,
        )
    path = write(groups, options.out, options.resamples, options.seed)
    lines = []
    for group in groups:
        budget = group.budgets[-1]
        table = readable(aggregate_table(group, budget, options.resamples))
        lines.append(f"{group.title}, {plots.frames_label(budget)} frames")
        lines.append(table.to_string(index=False) + "\n")
    if not groups:
        for benchmark in tasks.BENCHMARKS:
            lines.append(tasks.BENCHMARKS[benchmark].title)
            lines.append(published_aggregates(benchmark).to_string(index=False) + "\n")
    return "\n".join([*lines, f"Page: {path.absolute()}"])


def _frames(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value <= 0 or value != int(value):
        raise UserError(f"--budgets got {text!r}; a number of frames is needed (5e5).")
    return int(value)


def main(_: list[str]) -> None:
    try:
        print(report(flags.FLAGS))
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    define_flags()
    app.run(main)
