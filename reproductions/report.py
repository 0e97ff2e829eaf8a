"""The papers' tables with our runs in them, from files only.

    python -m reproductions.report                         # results/runs -> results
    python -m reproductions.report --logdirs=/logs/grid --out=/tmp/report
    python -m reproductions.report --outside=dmc_vision-mine.json.gz --out=/tmp/report
    python -m reproductions.report --reference=/old/results/runs --out=/tmp/report
    python -m reproductions.report --published_only --out=/tmp/report
    python -m reproductions.report --published_only --benchmark=atari,crafter

Reads runs (and outside logs, see `outside.py`), scores them by the published
rule, and writes tables (CSV, Markdown, LaTeX), plots and one HTML page that needs no
other file. Protocols never share a table. No deep-learning framework is loaded. Takes
less than a minute for a few hundred runs.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import app, flags

from dreamer_tf import output
from dreamer_tf.configs import fields
from dreamer_tf.errors import UserError, reason, sentence
from dreamer_tf.files import write_atomic
from reproductions import (
    normalise,
    outside,
    page,
    plots,
    reference,
    scores,
    sheets,
    stats,
    tables,
    tasks,
    texts,
    verdicts,
)
from reproductions.protocols import PROTOCOLS

# Languages of written tables -> ends of files' names, and who writes them.
LANGUAGES = {"Markdown": ("md", texts.markdown), "LaTeX": ("tex", texts.latex)}

# Flags that mean nothing where no run is read.
OF_RUNS = ["runs", "logdirs", "outside", "outside_benchmark", "outside_method"]
OF_RUNS += ["reference", "versions", "tasks", "budgets"]

PERCENT = 400.0  # of a gamer's score: the end of a profile's axis

# --- Output -----------------------------------------------------------------


def write(
    groups: Sequence[tables.Group],
    out: str | Path,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
    benchmarks: Sequence[str] = (),
) -> Path:
    """Writes tables, plots and report.html below `out`; returns the page's path.

    Args:
      resamples, seed: of the bootstrap.
      benchmarks: whose published scores are shown; empty: those of the groups.

    Raises:
      UserError: `out` cannot be written.
    """
    try:
        return _write(groups, Path(out), resamples, seed, benchmarks)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({reason(error)}).") from error


def _write(
    groups: Sequence[tables.Group],
    out: Path,
    resamples: int,
    seed: int,
    benchmarks: Sequence[str],
) -> Path:
    (out / "tables").mkdir(parents=True, exist_ok=True)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    sections = []
    for group in groups:
        name, form = group.key, texts.form_of(group.benchmark)
        cells, totals, pairs = [], [], []
        agreement = tables.agreement_table(group)
        listed: list[tuple[str, pd.DataFrame]] = []
        for budget in group.budgets:
            cells.append(tables.cell_table(group, budget))
            totals.append(tables.aggregate_table(group, budget, resamples, seed))
            pairs.append(tables.improvement_table(group, budget, resamples, seed))
            text = f"{group.title}, {plots.frames_label(budget)} frames"
            plain = texts.readable(cells[-1], form)
            if set(agreement.budget) == {budget}:  # its own table says the same
                plain = plain.drop(columns=texts.BESIDE)
            longer = [(f"{text}: tasks", plain)]
            if len(totals[-1]):
                longer.append((f"{text}: aggregates", texts.readable(totals[-1])))
            listed = [*longer, *listed]  # the longest budget comes first
            for table in (cells[-1], totals[-1], pairs[-1]):
                table.insert(0, "budget", budget)
        file = out / "tables" / f"{name}_agreement.csv"
        if len(agreement):
            title = f"{group.title}: ours beside {group.reference.name}"
            longer.insert(0, (title, texts.readable_agreement(agreement, form)))
            listed.insert(0, longer[0])
            _save_csv(agreement, file)
        else:
            file.unlink(missing_ok=True)  # of an earlier report
        absent = texts.left_out(cells[-1])
        notes = [absent + f" {name}_tasks.csv has them."] if absent else []
        _save(out, name, listed, [*notes, *group.notes])
        every = pd.concat(cells), pd.concat(totals), pd.concat(pairs)
        for kind, table in zip(("tasks", "aggregates", "improvement"), every):
            _save_csv(table, out / "tables" / f"{name}_{kind}.csv")
        section = _section(group, *every, agreement, out, resamples, seed)
        sections.append(dataclasses.replace(section, sources=_sources(longer)))
    names = benchmarks or [group.benchmark for group in groups]
    published = published_sheets(names)
    for sheet in published:
        _sheet(sheet, out)
    path = out / "report.html"
    title = tasks.title_of(names)
    write_atomic(path, page.render(sections, published, title).encode())
    return path


def _save(
    out: Path, stem: str, titled: Sequence[tuple[str, pd.DataFrame]], notes: Sequence
) -> None:
    """Writes titled tables as one Markdown and one LaTeX file.

    The footnotes come once, at the end.
    """
    for language, text in _sources(titled, notes).items():
        file = out / "tables" / f"{stem}.{LANGUAGES[language][0]}"
        write_atomic(file, text.encode())


def _sources(
    titled: Sequence[tuple[str, pd.DataFrame]], notes: Sequence[str] = ()
) -> dict[str, str]:
    """Titled tables in each language, with the footnotes after the last one."""
    last = len(titled) - 1
    return {
        language: "\n".join(
            write(table, title, notes if place == last else ())
            for place, (title, table) in enumerate(titled)
        )
        for language, (_, write) in LANGUAGES.items()
    }


def _save_csv(table: pd.DataFrame, file: Path, index: bool = False) -> None:
    write_atomic(file, table.to_csv(index=index, float_format="%.2f").encode())


def _section(
    group: tables.Group,
    cells: pd.DataFrame,
    totals: pd.DataFrame,
    pairs: pd.DataFrame,
    agreement: pd.DataFrame,
    out: Path,
    resamples: int,
    seed: int,
) -> page.Section:
    """A group for the page; its plots are also saved as PNG files."""
    band, widths = tables.published_curve(group)
    curves = tables.curve_table(group.points, widths)
    same = tables.curve_table(group.reference.points, widths)
    same = same[same.frames < group.points.frames.max() + same.version.map(widths)]
    # Published curves belong to other settings: a reference takes their place.
    taken = set(zip(same.version, same.task))
    other = [place not in taken for place in zip(band.version, band.task)]
    band = band[np.array(other, dtype=bool)]
    run = [task for task in group.tasks if task in set(group.points.task)]
    curves, band, same = (t[t.task.isin(run)] for t in (curves, band, same))
    one_scale = tasks.BENCHMARKS[group.benchmark].family == "dmc"
    drawn = plots.Curves(curves, band, same, group.reference.name, one_scale)
    figure = plots.grid_figure(run, drawn, group.versions, group.title)
    plots.save_png(figure, out / "plots" / f"{group.key}_curves.png")
    form = texts.form_of(group.benchmark)
    small = {
        task: plots.to_svg(
            plots.task_figure(task, drawn, group.versions),
            _described(task, drawn, form),
        )
        for task in run
    }
    profile, file = "", out / "plots" / f"{group.key}_profiles.png"
    if len(totals[totals.budget == group.budgets[-1]]):
        figure = _profile(group, group.budgets[-1], resamples, seed)
        plots.save_png(figure, file)
        profile = plots.to_svg(figure, "Performance profiles: share of runs by score")
    else:
        file.unlink(missing_ok=True)  # of an earlier report
    runs = group.points.drop_duplicates(["version", "task", "seed"])
    return page.Section(
        key=group.key,
        title=group.title,
        benchmark=group.benchmark,
        protocol=group.protocol,
        versions={v: tasks.name_of(v) for v in group.versions},
        colors={v: plots.color_of(v, group.versions) for v in group.versions},
        budgets={b: plots.frames_label(b) for b in group.budgets},
        cells=cells,
        agreement=agreement,
        reference=group.reference.name,
        totals=totals,
        pairs=pairs,
        curves=small,
        dashed=len(drawn.published) > 0,
        runs=runs.version.value_counts().to_dict(),
        profile=profile,
        notes=group.notes,
        sources={},
        manifests={tasks.name_of(v): m for v, m in group.manifests.items()},
    )


def _described(task: str, drawn: plots.Curves, form: texts.Form) -> str:
    """The learning curves of a task in words: where they end."""
    kinds = ("ours", drawn.ours), (drawn.name, drawn.reference)
    ends = []
    for kind, table in (*kinds, ("published", drawn.published)):
        for version, curve in table[table.task == task].groupby("version"):
            last = curve.iloc[curve.frames.argmax()]
            frames = plots.frames_label(last.frames)
            name = tasks.name_of(str(version))
            score = form(last["mean"])
            ends.append(f"{name}, {kind}: {score} at {frames} frames")
    return f"Learning curves of {task.replace('_', ' ')}. {'; '.join(ends)}."


def _profile(group: tables.Group, budget: int, resamples: int, seed: int):
    """Performance profiles of our runs and of the published ones on the same tasks."""
    ours, theirs = (
        tables.at_budget(group.scores, budget),
        tables.published_of(group, budget),
    )
    every = []
    for version in group.versions:
        a, b = tables.sets_of(ours, version), tables.sets_of(theirs, version)
        names = [t for t in a if t in b] or list(a)
        sides = [(False, {t: a[t] for t in names})]
        if verdicts.comparable(group.protocol, version):
            sides.append((True, {t: b[t] for t in names if t in b}))
        for published, sets in sides:
            if len(sets) >= tables.LEAST_TASKS:
                runs = normalise.profiled(sets, version, group.benchmark)
                every.append((version, published, runs))
    human = normalise.has_references(group.benchmark)
    thresholds = np.linspace(0, PERCENT if human else stats.TOP, 101)
    lines = []
    for version, published, runs in every:
        share = stats.performance_profile(runs, thresholds)
        low, high = stats.bootstrap(
            lambda r: stats.performance_profile(r, thresholds),
            runs,
            resamples=min(resamples, 500),  # enough for a band in a plot
            seed=seed,
        )
        lines.append((version, published, share, low, high))
    unit = "% of a gamer" if human else "score"
    return plots.profile_figure(lines, thresholds, group.versions, unit)


def _sheet(sheet: sheets.Sheet, out: Path) -> None:
    """Saves a published table."""
    title = f"Published scores: {sheet.title}"
    _save(out, sheet.stem, [(title, sheets.rounded(sheet))], sheet.notes)
    _save_csv(sheet.wide, out / "tables" / f"{sheet.stem}.csv", index=True)
    if len(sheet.totals):
        _save_csv(sheet.totals, out / "tables" / f"{sheet.stem}_aggregates.csv")


def published_sheets(benchmarks: Iterable[str]) -> list[sheets.Sheet]:
    """The published tables that belong beside these benchmarks, DMC's by default."""
    return [sheet for b in tasks.families(benchmarks) for sheet in sheets.sheets(b)]


def _told(sheet: sheets.Sheet) -> list[str]:
    """A published table in a few lines: what is aggregated, or all of it."""
    if sheet.totals.empty:
        return [sheet.title, sheets.rounded(sheet).to_string(index=False)]
    totals = sheet.totals
    table = totals.pivot(index="method", columns="budget", values=sheet.shown)
    table.columns = [plots.frames_label(b) for b in table.columns]
    return [sheet.told, table.map(texts.number).to_string()]


def _tasks(names: Sequence[str], benchmarks: Iterable[str]) -> list[str]:
    """Names in tables of tasks, each of at least one of these benchmarks.

    Raises:
      UserError: none of them has a task of this name.
    """
    found = []
    for name in names:
        error = None
        for benchmark in benchmarks:
            try:
                found.append(tasks.check_task(name, "--tasks", benchmark))
                break
            except UserError as unknown:
                error = error or unknown
        else:
            raise error or UserError("--tasks names tasks of no runs.")
    return found


# --- Command ----------------------------------------------------------------


def define_flags() -> None:
    """Defines the script's flags.

    Not done at import, because other scripts have flags of the same names.
    """
    fields.define_folder("runs", None, "Results folder; default: results/runs.")
    flags.DEFINE_multi_string("logdirs", [], "Run directories, or folders of them.")
    flags.DEFINE_multi_string("outside", [], "Logs of other code, or folders of them.")
    flags.DEFINE_string("outside_benchmark", "", "Benchmark of the outside logs.")
    flags.DEFINE_string("outside_method", "", "Method name of the outside logs.")
    fields.define_folder("reference", "", reference.FLAG)
    flags.DEFINE_bool("published_only", False, "Report the published data alone.")
    chosen = "Benchmarks to show, or all; default: those of the runs, or DMC's."
    flags.DEFINE_list("benchmark", [], chosen)
    flags.DEFINE_list("versions", [], "Versions to show; default: all that were run.")
    flags.DEFINE_list("tasks", [], "Tasks to show; default: all of the benchmark.")
    flags.DEFINE_list("budgets", [], "Frames at which to score; default: as published.")
    fields.define_folder("out", "results", "Folder for tables, plots, report.html.")
    fields.define_number("seed", 0, "Seed of the bootstrap.", 0)
    fields.define_number("resamples", stats.RESAMPLES, "Bootstrap resamples.", 100)


def report(options: Any, protocols: Mapping[str, Any] = PROTOCOLS) -> str:
    """Reads, scores and writes what the flags name; returns the text to print.

    Args:
      options: an object with the flags of `define_flags` as attributes.
      protocols: name -> object with `footnote(versions, benchmark) -> str`.

    Raises:
      UserError: a flag or a file is wrong.
    """
    groups: list[tables.Group] = []
    chosen = list(options.benchmark)
    if chosen == ["all"]:
        chosen = list(tasks.BENCHMARKS)
    for name in chosen:
        tasks.check_benchmark(name, "--benchmark")
    if options.published_only:
        for name in OF_RUNS:
            if getattr(options, name):
                raise UserError(
                    f"--{name} is of runs, which --published_only leaves out: give "
                    "only one of the two."
                )
    else:
        read: list[tuple[str, pd.DataFrame]] = []
        manifests: dict[tuple, dict] = {}
        for version in options.versions:
            if not options.outside:
                tasks.check_version(version, "--versions")
        runs = options.runs
        if not (runs or options.logdirs or options.outside):
            runs = "results/runs"
        if runs:
            points, manifests = scores.read_runs(runs)
            read.append((f"--runs={runs}", points))
        if options.logdirs:
            folders = map(os.path.expanduser, options.logdirs)
            read.append(("--logdirs", scores.read_logdirs(folders)))
        benchmark = options.outside_benchmark
        if benchmark:
            tasks.check_benchmark(benchmark, "--outside_benchmark")
        if options.outside:
            paths = [os.path.expanduser(path) for path in options.outside]
            method = options.outside_method
            points = outside.read_outside(paths, benchmark, method)
            read.append(("--outside", points))
        points = scores.combine(read)
        if chosen:
            points = points[points.benchmark.isin(chosen)]
            if points.empty:
                raise UserError(
                    f"--benchmark={','.join(options.benchmark)}: no run is of it."
                )
        groups = tables.make_groups(
            points,
            protocols,
            options.versions,
            _tasks(options.tasks, points.benchmark.unique()),
            [_frames(b) for b in options.budgets],
            manifests,
            reference.chosen(
                options.reference, points, benchmark, options.outside_method
            ),
        )
    return publish(groups, options.out, options.resamples, options.seed, chosen)


def publish(
    groups: Sequence[tables.Group],
    out: str | Path,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
    benchmarks: Sequence[str] = (),
) -> str:
    """Writes the report; returns the text to print.

    It has, per group, the aggregates (of a single task: its row), how often each
    verdict on the reference was given, and the page's path.
    """
    path = write(groups, out, resamples, seed, benchmarks)
    lines = []
    for group in groups:
        budget = group.budgets[-1]
        table, form = tables.aggregate_table(group, budget, resamples, seed), None
        if table.empty:
            table = tables.cell_table(group, budget)
            form = texts.form_of(group.benchmark)
        lines.append(f"{group.title}, {plots.frames_label(budget)} frames")
        plain = texts.readable(table, form or texts.number)
        lines.append(plain.to_string(index=False))
        if counts := reference.describe(tables.agreement_table(group)):
            lines.append(f"Beside {group.reference.name}, {counts}.")
        lines.append("")
    if not groups:
        for sheet in published_sheets(benchmarks):
            lines += [*_told(sheet), ""]
    return "\n".join([*lines, f"Page: {path.absolute()}"])


def _frames(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < np.inf or value != int(value):
        raise UserError(f"--budgets got {text!r}; a number of frames is needed (5e5).")
    return int(value)


def main(argv: list[str]) -> None:
    try:
        if len(argv) > 1:
            raise UserError(f"'{argv[1]}' is not a flag: write --name=value.")
        output.say(report(flags.FLAGS))
    except (UserError, OSError) as error:
        output.warn(f"reproductions.report: {sentence(error)}")
        sys.exit(2)


if __name__ == "__main__":
    define_flags()
    with output.protected():
        app.run(main, flags_parser=fields.parser("report"))
