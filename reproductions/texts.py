"""Tables as text: what is printed, and what stands in Markdown and LaTeX files."""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from reproductions import plots, tasks, verdicts

MISSING = "–"  # noqa: RUF001 (an en dash, as in printed tables)
# Columns about the reference in a table of tasks.
BESIDE = ["Reference", "Its seeds", "Difference from it", "Agreement"]
# Columns of numbers.
RIGHT = {"Score", "Seeds", "Difference", "Tasks", "Printed", "P(x > y)"}
RIGHT |= {"Frames", "Reference", "Its seeds", "Difference from it", "Detects"}
# Columns of Atari's cell tables -> as they are printed.
MORE = {
    "smooth": "Last 10%",
    "published_smooth": "Published, last 10%",
    "normalised": "% of a gamer",
    "published_normalised": "Published, % of a gamer",
}
RIGHT |= {*MORE.values()}

Form = Callable[[float], str]  # how a score is written


def number(value: float, digits: int = 0) -> str:
    """A score as it is printed."""
    return MISSING if np.isnan(value) else f"{value:.{digits}f}"


def score(value: float) -> str:
    """An Atari score: some lie below 1, some above a million."""
    if np.isnan(value) or abs(value) < 100:
        return number(value, 1)
    return f"{value:,.0f}"


def tenths(value: float) -> str:
    """With one decimal."""
    return number(value, 1)


def hundredths(value: float) -> str:
    """With two decimals, for scores of a few points."""
    return number(value, 2)


def signed(value: float, form: Form = number, minus: str = "-") -> str:
    """A difference as +9, -4 or 0."""
    text = form(abs(value))
    if not text.strip("0.,"):
        return "0"
    return f"{minus if value < 0 else '+'}{text}"


def form_of(benchmark: str) -> Form:
    """How the scores of a benchmark's tasks are written."""
    forms = {"dmc": number, "atari": score, "crafter": tenths}
    return forms.get(tasks.BENCHMARKS[benchmark].family, hundredths)


def readable(table: pd.DataFrame, form: Form = number) -> pd.DataFrame:
    """A cell or aggregate table as the strings of the printed tables.

    Left out are rows that were not run (see `left_out`), and columns about published
    scores in which no row has anything.

    Args:
      form: how a score is written.
    """
    table = table[table.verdict != verdicts.NOT_RUN].reset_index(drop=True)
    columns = {"Version": table.version.map(tasks.name_of)}
    if "task" in table:
        columns = {"Task": table.task.str.replace("_", " "), **columns}
        columns["Score"] = pd.Series(_spreads(table["mean"], table["std"], form))
        columns["Seeds"] = table.n.astype(str)
    else:
        columns["Aggregate"] = table["aggregate"]
        columns["Tasks"] = pd.Series(
            [f"{k}/{n}" for k, n in zip(table.tasks, table.of)]
        )
        columns["Score"] = table["mean"].map(form)
        columns["Seeds"] = pd.Series(
            [
                str(least) if least == most else f"{least} to {most}"
                for least, most in zip(table.seeds, table.seeds_most)
            ]
        )
    columns["95% interval"] = pd.Series(_intervals(table.low, table.high, form))
    both = _intervals(table.published_low, table.published_high, form)
    columns["Published"] = pd.Series(
        [
            form(m) + ("" if np.isnan(m) else f" {i}")
            for m, i in zip(table.published, both)
        ]
    )
    columns["Printed"] = table.printed.map(form)
    columns["Difference"] = table.difference.map(
        lambda x: MISSING if np.isnan(x) else signed(x, form)
    )
    for name in ("Published", "Printed", "Difference"):
        if (columns[name] == MISSING).all():
            del columns[name]
    for name, title in MORE.items():
        if name in table and table[name].notna().any():
            plain = tenths if "normalised" in name else form
            columns[title] = table[name].map(plain)
    columns["Verdict"] = table.verdict
    if "agreement" in table and table.agreement.notna().any():
        columns["Reference"] = pd.Series(
            _spreads(table.reference, table.reference_std, form)
        )
        columns["Its seeds"] = table.reference_n.astype(str)
        value, low, high = (
            table[f"from_reference{end}"] for end in ("", "_low", "_high")
        )
        columns["Difference from it"] = pd.Series(_differences(value, low, high, form))
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


def readable_agreement(table: pd.DataFrame, form: Form = number) -> pd.DataFrame:
    """A table of `reference.compare` as the strings of the printed tables."""
    return pd.DataFrame(
        {
            "Task": table.task.str.replace("_", " "),
            "Version": table.version.map(tasks.name_of),
            "Frames": table.budget.map(plots.frames_label),
            "Measure": table.measure,
            "Score": _spreads(table["mean"], table["std"], form),
            "Seeds": table.n.astype(str),
            "Reference": _spreads(table.reference, table.reference_std, form),
            "Its seeds": table.reference_n.astype(str),
            "Difference": _differences(table.difference, table.low, table.high, form),
            "Detects": table.detects.map(form),
            "Verdict": table.verdict,
        }
    )


def _spreads(means: Iterable[float], stds: Iterable[float], form: Form) -> list[str]:
    return [
        form(m) + ("" if np.isnan(s) else f" ± {form(s)}") for m, s in zip(means, stds)
    ]


def _differences(
    values: Iterable[float], low: Iterable[float], high: Iterable[float], form: Form
) -> list[str]:
    return [
        MISSING
        if np.isnan(value)
        else signed(value, form) + ("" if interval == MISSING else f" {interval}")
        for value, interval in zip(values, _intervals(low, high, form))
    ]


def _intervals(low: Iterable[float], high: Iterable[float], form: Form) -> list[str]:
    return [
        MISSING if np.isnan(a) else f"[{form(a)}, {form(b)}]" for a, b in zip(low, high)
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


def titled(table: pd.DataFrame, title: str) -> str:
    """A table in Markdown under its title, its first column to the left."""
    align = ["left", *["right"] * (len(table.columns) - 1)]
    text = table.to_markdown(index=False, colalign=align, disable_numparse=True)
    return f"## {title}\n\n{text}"
