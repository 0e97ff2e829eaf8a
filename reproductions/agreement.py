"""Our runs beside the authors' code at the same settings: a table and a figure.

    python -m reproductions.agreement                        # results/runs
    python -m reproductions.agreement --logdirs=logs/mine --out=/tmp/agreement
    python -m reproductions.agreement --reference=/old/results/runs --out=/tmp/agreement

Prints, per task and version, both scores at the largest budget that both have reached
and both mean returns over that whole budget, the differences with their 95 % intervals
and verdicts (`reference.judged`), and the mean returns of both in five windows of it.
Writes the same as agreement.csv, windows.csv and agreement.md, and the learning curves
as curves.png.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from absl import app, flags

from dreamer_tf import output
from dreamer_tf.configs import fields
from dreamer_tf.errors import UserError, reason, sentence
from dreamer_tf.files import write_atomic
from reproductions import plots, reference, scores, tables, tasks, texts
from reproductions.scores import CELL


def define_flags() -> None:
    """Defines the script's flags.

    Not done at import, because other scripts have flags of the same names.
    """
    fields.define_folder("runs", None, "Results folder; default: results/runs.")
    flags.DEFINE_multi_string("logdirs", [], "Run directories, or folders of them.")
    fields.define_folder("reference", "", reference.FLAG)
    flags.DEFINE_string("outside_benchmark", "", "Benchmark of a reference's logs.")
    flags.DEFINE_string("outside_method", "", "Method name of a reference's logs.")
    fields.define_folder(
        "out",
        "",
        "Folder for tables and figure; default: results/agreement, or agreement if "
        "other runs or another reference are named.",
    )


def windows(
    rows: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame
) -> pd.DataFrame:
    """Mean returns in the fifths of each row's budget: CELL, frames, ours, reference.

    `frames` is the right edge. A seed counts with the mean of its episodes that ended
    in a window, then the mean over seeds is taken.
    """
    found = []
    for row in rows.itertuples():
        cell = [getattr(row, name) for name in CELL]
        width = {row.version: row.budget // scores.FIFTHS}
        sides = [
            tables.curve_table(points, width).set_index("frames")["mean"]
            for points in _cell(cell, ours, theirs)
        ]
        for edge in range(width[row.version], row.budget + 1, width[row.version]):
            both = [side.get(edge, float("nan")) for side in sides]
            found.append((*cell, edge, *both))
    return pd.DataFrame(found, columns=[*CELL, "frames", "ours", "reference"])


def panels(
    rows: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame
) -> list[plots.Panel]:
    """The learning curves of each row, in ten bins of its budget."""
    found = []
    for row in rows.itertuples():
        cell = [getattr(row, name) for name in CELL]
        width = {row.version: max(1, row.budget // 10)}
        curves = [
            tables.curve_table(points[points.frames <= row.budget], width)
            for points in _cell(cell, ours, theirs)
        ]
        title = f"{tasks.name_of(row.version)}, {row.task.replace('_', ' ')}"
        seeds = row.n, row.reference_n
        found.append(plots.Panel(title, row.version, curves[0], curves[1], *seeds))
    return found


def _cell(
    cell: list, ours: pd.DataFrame, theirs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points of a cell on both sides, of the kind of episode that both have."""
    a, b = (points[(points[CELL] == cell).all(axis=1)] for points in (ours, theirs))
    return reference.alike(a, b), b


def readable_windows(
    table: pd.DataFrame, form: texts.Form = texts.number
) -> pd.DataFrame:
    """A row per task and version, `ours / reference` in every window."""
    table = table.assign(
        place=table.groupby(CELL, sort=False).cumcount() + 1,
        text=[f"{form(a)} / {form(b)}" for a, b in zip(table.ours, table.reference)],
    )
    wide = table.pivot(index=CELL, columns="place", values="text").reset_index()
    ends = table.groupby(CELL, sort=False).frames.max().reset_index(drop=True)
    same = ends.nunique() == 1
    names = {
        k: f"{plots.frames_label(ends[0] // scores.FIFTHS * (k - 1))} to "
        f"{plots.frames_label(ends[0] // scores.FIFTHS * k)}"
        if same
        else f"fifth {k}"
        for k in range(1, scores.FIFTHS + 1)
    }
    wide.insert(0, "Task", wide.task.str.replace("_", " "))
    wide.insert(1, "Version", wide.version.map(tasks.name_of))
    return wide.drop(columns=CELL).rename(columns=names).rename_axis(columns=None)


def agreement(options: Any) -> str:
    """Compares, writes and returns the text to print.

    Args:
      options: an object with the flags of `define_flags` as attributes.

    Raises:
      UserError: a flag or a file is wrong, or nothing can be compared.
    """
    for name in ("outside_benchmark", "outside_method"):
        if getattr(options, name) and not options.reference:
            raise UserError(f"--{name} is of the logs that --reference names: add it.")
    read = []
    if options.runs or not options.logdirs:
        folder = options.runs or "results/runs"
        read.append((f"--runs={folder}", scores.read_runs(folder)[0]))
    if options.logdirs:
        folders = map(os.path.expanduser, options.logdirs)
        read.append(("--logdirs", scores.read_logdirs(folders)))
    ours = scores.combine(read)
    if options.outside_benchmark:
        tasks.check_benchmark(options.outside_benchmark, "--outside_benchmark")
    chosen = reference.chosen(
        options.reference, ours, options.outside_benchmark, options.outside_method
    )
    theirs = reference.beside(ours, chosen.points)
    rows = reference.compare(ours, theirs).sort_values(CELL, ignore_index=True)
    if rows.empty:
        sides = [
            ", ".join(sorted(points.version.unique()))
            for points in (ours, chosen.points)
        ]
        raise UserError(
            f"None of the runs can be compared with {chosen.name}: no benchmark, "
            f"protocol, version and task has finished runs on both sides (ours: "
            f"{sides[0]}; there: {sides[1]}; a method of another name must be the only "
            "one there)."
        )
    ends = rows[rows.measure == reference.END]  # one for each task and version
    means = windows(ends, ours, theirs)
    benchmark = str(rows.benchmark.iloc[0])
    form = texts.form_of(benchmark)
    both = texts.readable_agreement(rows, form), readable_windows(means, form)
    note = reference.rule(chosen, benchmark)
    named = options.runs or options.logdirs or options.reference
    # What is committed is not overwritten by a comparison of something else.
    out = Path(options.out or ("agreement" if named else "results/agreement"))
    titles = f"Beside {chosen.name}", "Mean returns, ours / reference"
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure = plots.agreement_figure(panels(ends, ours, theirs), chosen.name)
        plots.save_png(figure, out / "curves.png")
        for table, name in ((rows, "agreement.csv"), (means, "windows.csv")):
            text = table.to_csv(index=False, float_format="%.2f")
            write_atomic(out / name, text.encode())
        notes = [note], ["A window is one fifth of the budget; mean over seeds."]
        written = [texts.markdown(*part) for part in zip(both, titles, notes)]
        write_atomic(out / "agreement.md", "\n".join(written).encode())
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({reason(error)}).") from error
    shown = [table.to_string(index=False) for table in both]
    return (
        f"{titles[0]}\n\n{shown[0]}\n\n{titles[1]}\n\n{shown[1]}\n\n"
        f"{note}\n\nTable:  {out / 'agreement.md'}\nFigure: {out / 'curves.png'}"
    )


def main(argv: list[str]) -> None:
    try:
        if len(argv) > 1:
            raise UserError(f"'{argv[1]}' is not a flag: write --name=value.")
        output.say(agreement(flags.FLAGS))
    except (UserError, OSError) as error:
        output.warn(f"reproductions.agreement: {sentence(error)}")
        sys.exit(2)


if __name__ == "__main__":
    define_flags()
    with output.protected():
        app.run(main, flags_parser=fields.parser("reproductions.agreement"))
