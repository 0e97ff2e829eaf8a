"""Tables as text: what is printed, and what stands in Markdown and LaTeX files."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from reproductions import plots, tasks, verdicts

MISSING = "–"  # noqa: RUF001 (an en dash, as in printed tables)
# Columns about the reference in a table of tasks.
BESIDE = ["Reference", "Its seeds", "Difference from it", "Agreement"]
# Columns of numbers.
RIGHT = {"Score", "Seeds", "Difference", "Tasks", "Printed", "P(x > y)"}
RIGHT |= {"Frames", "Reference", "Its seeds", "Difference from it", "Detects"}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A cell or aggregate table as the strings of the printed tables.

    Left out are rows that were not run (see `left_out`), and columns about published
    scores in which no row has anything.
    """
    table = table[table.verdict != verdicts.NOT_RUN].reset_index(drop=True)
    columns = {"Version": table.version.map(tasks.name_of)}
    if "task" in table:
        columns = {"Task": table.task.str.replace("_", " "), **columns}
        columns["Score"] = pd.Series(_spreads(table["mean"], table["std"]))
        columns["Seeds"] = table.n.astype(str)
    else:
        columns["Aggregate"] = table["aggregate"]
        columns["Tasks"] = pd.Series(
            [f"{k}/{n}" for k, n in zip(table.tasks, table.of)]
        )
        columns["Score"] = table["mean"].map(number)
        columns["Seeds"] = pd.Series(
            [
                str(least) if least == most else f"{least} to {most}"
                for least, most in zip(table.seeds, table.seeds_most)
            ]
        )
    columns["95% interval"] = pd.Series(_intervals(table.low, table.high))
    both = _intervals(table.published_low, table.published_high)
    columns["Published"] = pd.Series(
        [
            number(m) + ("" if np.isnan(m) else f" {i}")
            for m, i in zip(table.published, both)
        ]
    )
    columns["Printed"] = table.printed.map(number)
    columns["Difference"] = table.difference.map(
        lambda x: MISSING if np.isnan(x) else signed(x)
    )
    for name in ("Published", "Printed", "Difference"):
        if (columns[name] == MISSING).all():
            del columns[name]
    columns["Verdict"] = table.verdict
    if "agreement" in table and table.agreement.notna().any():
        columns["Reference"] = pd.Series(_spreads(table.reference, table.reference_std))
        columns["Its seeds"] = table.reference_n.astype(str)
        shift = (f"from_reference{end}" for end in ("", "_low", "_high"))
        columns["Difference from it"] = pd.Series(
            _differences(*(table[name] for name in shift))
        )
        columns["Agreement"] = table.agreement.fillna(MISSING)
    return pd.DataFrame(columns)


def left_out(cells: pd.DataFrame) -> str:
    """The sentence about rows of a cell table that were not run; "" if all were."""
    absent = cells[cells.verdict == verdicts.NOT_RUN]
    if absent.empty:
        return ""
    counts = absent.version.map(tasks.name_of).value_counts(sort=False)
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{len(absent)} of {len(cells)} rows were not run and are left out: {each}."


def readable_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `reference.compare` as the strings of the printed tables."""
    return pd.DataFrame(
        {
            "Task": table.task.str.replace("_", " "),
            "Version": table.version.map(tasks.name_of),
            "Frames": table.budget.map(plots.frames_label),
            "Score": _spreads(table["mean"], table["std"]),
            "Seeds": table.n.astype(str),
            "Reference": _spreads(table.reference, table.reference_std),
            "Its seeds": table.reference_n.astype(str),
            "Difference": _differences(table.difference, table.low, table.high),
            "Detects": table.detects.map(number),
            "Verdict": table.verdict,
        }
    )


def signed(value: float) -> str:
    """A difference as +9, -4 or 0."""
    return f"{value:+.0f}" if round(value) else "0"


def number(value: float) -> str:
    """A score as it is printed."""
    return MISSING if np.isnan(value) else f"{value:.0f}"


def _spreads(means: Iterable[float], stds: Iterable[float]) -> list[str]:
    return [
        number(m) + ("" if np.isnan(s) else f" ± {s:.0f}") for m, s in zip(means, stds)
    ]


def _differences(
    values: Iterable[float], low: Iterable[float], high: Iterable[float]
) -> list[str]:
    return [
        MISSING
        if np.isnan(value)
        else signed(value) + ("" if interval == MISSING else f" {interval}")
        for value, interval in zip(values, _intervals(low, high))
    ]


def _intervals(low: Iterable[float], high: Iterable[float]) -> list[str]:
    return [
        MISSING if np.isnan(a) else f"[{a:.0f}, {b:.0f}]" for a, b in zip(low, high)
    ]


def markdown(table: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> str:
    """A heading, the table, and its footnotes, as Markdown."""
    align = ["right" if c in RIGHT else "left" for c in table.columns]
    text = table.to_markdown(index=False, colalign=align, disable_numparse=True)
    return "\n\n".join([f"## {title}", text, *notes]) + "\n"


def latex(table: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> str:
    """A booktabs table, and its footnotes after it, to be included by \\input."""
    align = "".join("r" if c in RIGHT else "l" for c in table.columns)
    text = table.to_latex(
        index=False, escape=True, caption=tex(title), position="t", column_format=align
    )
    if notes:
        text += "{\\footnotesize " + " ".join(map(tex, notes)) + "\\par}\n"
    text = re.sub(r"(?<=[ \[])-(?=\d)", "$-$", text)
    for sign, command in {"±": r"$\pm$", MISSING: "--"}.items():
        text = text.replace(sign, command)
    return "% needs \\usepackage{booktabs}\n" + text


_TEX: dict[str, str] = {sign: "\\" + sign for sign in "&%$#_{}"} | {"\n": " "}
_TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
_TEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}


def tex(text: str) -> str:
    """Text in which LaTeX finds no command."""
    return "".join(_TEX.get(sign, sign) for sign in text)
