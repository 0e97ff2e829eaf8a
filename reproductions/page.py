"""The report as one HTML page that holds everything: no network, no other files.

This module prepares the data; page.html.jinja is the text of the page, page.css its
style and page.js its filters and sorting.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from reproductions import tasks, texts
from reproductions.normalise import has_references
from reproductions.published import references
from reproductions.reference import width
from reproductions.sheets import Sheet
from reproductions.verdicts import NOT_RUN

HERE = Path(__file__).parent
NONE = "–"  # noqa: RUF001
VERDICTS = ("reproduced", "above", "below", "too few seeds", "nothing published")
AGREEMENT = ("agrees", "undecided")  # above, below and too few seeds are as above
SHIFT = 200.0  # points at the ends of the strips that show differences
HIGHEST = ("high", "published_high", "mean", "published")
FEW = 6  # tasks
ABSENT = ("not finished", NOT_RUN)
# Any other verdict is a reason why scores are not comparable.
CLASSES = {v: v.replace(" ", "-") for v in (*VERDICTS, *AGREEMENT, *ABSENT)}


@dataclasses.dataclass(frozen=True)
class Section:
    """A benchmark under one protocol, as the page shows it."""

    key: str
    title: str
    benchmark: str
    protocol: str
    versions: Mapping[str, str]  # version -> name
    colors: Mapping[str, str]  # version -> colour as a CSS value
    budgets: Mapping[int, str]  # frames -> label
    cells: pd.DataFrame  # tables.cell_table of every budget, with a budget column
    agreement: pd.DataFrame  # tables.agreement_table; empty without a reference
    reference: str  # what it is
    totals: pd.DataFrame  # tables.aggregate_table likewise
    pairs: pd.DataFrame  # tables.improvement_table likewise
    curves: Mapping[str, str]  # task that was run -> SVG
    dashed: bool  # whether published curves are among them
    runs: Mapping[str, int]  # version -> how many
    profile: str  # SVG; "" for a single task
    notes: Sequence[str]  # the protocol, and how scores and verdicts came about
    sources: Mapping[str, str]  # a language -> the tables in it, to be copied
    manifests: Mapping[str, Mapping[str, Any]]  # version's name -> how it was made


def render(sections: Sequence[Section], published: Sequence[Sheet], title: str) -> str:
    """The page as text.

    Args:
      title: what the benchmarks are.
    """
    versions: dict[str, tuple[str, str]] = {}  # version -> (name, colour)
    for section in sections:
        for version, name in section.versions.items():
            versions.setdefault(version, (name, section.colors[version]))
    text = _template().render(
        # Style and script are not HTML: escaping would change them.
        css=Markup((HERE / "page.css").read_text("utf-8")),
        js=Markup((HERE / "page.js").read_text("utf-8")),
        versions=dict(sorted(versions.items())),
        sections=[_section(section) for section in sections],
        references=[_reference(sheet) for sheet in published],
        title=title,
        # A filter is of use only among many tasks.
        few=bool(sections) and all(len(s.curves) <= FEW for s in sections),
    )
    return text.lstrip() + "\n"  # the template's macros leave empty lines at the start


# --- Data for the template --------------------------------------------------


def _section(section: Section) -> dict[str, Any]:
    """What the template shows of a benchmark."""
    absent = section.cells.verdict == NOT_RUN
    form = texts.form_of(section.benchmark)
    cells = _of_versions(section.cells[~absent], section, form)
    totals = _of_versions(section.totals, section, texts.number)
    scale = _scaled(cells, section.benchmark)
    shift = _most_shown(section)
    return {
        "key": section.key,
        "title": section.title,
        "budgets": section.budgets,
        "longest": max(section.budgets),
        "summary": _summary(section),
        "cells": cells,
        # Whether any row is compared with a published score.
        "compared": any(row["difference"] is not None for row in cells),
        # Whether their verdicts say more than that they cannot be compared.
        "judged": any(not row["verdict"].endswith("not comparable") for row in cells),
        "absent": _absent(section),
        "agreement": [
            row
            | {
                "frames": _frames(row["budget"]),
                "width": width(row["reference"], section.benchmark),
                "shift": shift,
            }
            for row in _of_versions(section.agreement, section, form)
        ],
        "reference": section.reference,
        "shift": form(shift),
        "scale": scale,
        "human": has_references(section.benchmark),
        "totals": totals,
        "totals_scale": _scaled_alike(totals, section.benchmark),
        "pairs": _records(section.pairs),
        # The SVG comes from plots.py, so it is safe and not escaped.
        "curves": {task: Markup(svg) for task, svg in section.curves.items()},
        "dashed": section.dashed,
        "profile": Markup(section.profile),
        "notes": [*section.notes],
        "sources": section.sources,
        "manifests": {n: _manifest(m) for n, m in section.manifests.items()},
    }


def _summary(section: Section) -> list[dict[str, Any]]:
    """Per version what was run, and how often each verdict at the longest budget."""
    cells = section.cells[section.cells.budget == max(section.budgets)]
    lines = []
    for version, name in section.versions.items():
        rows = cells[cells.version == version]
        counts = rows.verdict[rows.verdict != NOT_RUN].value_counts()
        other = [verdict for verdict in counts.index if verdict not in CLASSES]
        order = [v for v in (*VERDICTS, *other, *ABSENT) if v in counts]
        same = section.agreement[section.agreement.version == version]
        line: dict[str, Any] = {"name": name, "color": section.colors[version]}
        line |= {"version": version, "runs": section.runs.get(version, 0)}
        line |= {"tasks": int(counts.sum()), "of": len(rows)}
        line |= {"verdicts": [(v, int(counts[v])) for v in order]}
        by_measure = same.groupby("measure", sort=False).verdict
        line["agreement"] = [(m, [*v.value_counts().items()]) for m, v in by_measure]
        lines.append(line)
    return lines


def _absent(section: Section) -> dict[str, Any]:
    """The rows that were not run: how many, of how many, and which tasks."""
    # These are the same at every budget.
    cells = section.cells[section.cells.budget == max(section.budgets)]
    absent = cells[cells.verdict == NOT_RUN]
    each = [
        {"version": v, "name": name, "color": section.colors[v], "tasks": [*names]}
        for v, name in section.versions.items()
        if len(names := absent.task[absent.version == v])
    ]
    return {"count": len(absent), "of": len(cells), "versions": each}


def _of_versions(
    table: pd.DataFrame, section: Section, form: texts.Form
) -> list[dict[str, Any]]:
    """Rows of a table with a column `version`, with its name and colour.

    Args:
      form: how the scores of a row are written.
    """
    rows = _records(table)
    for row in rows:
        version = row["version"]
        row |= {"name": section.versions[version], "color": section.colors[version]}
        row["form"] = form
    return rows


def _most_shown(section: Section) -> float:
    """The ends of the strips of differences: points, of DMC 200."""
    low, high = tasks.BENCHMARKS[section.benchmark].span
    if np.isfinite(high - low):
        return SHIFT / 1000 * (high - low)
    table = section.agreement
    most = table[["difference", "low", "high"]].abs().max().max() if len(table) else 0
    return float(most) or 1.0


def _scaled(rows: list[dict[str, Any]], benchmark: str) -> tuple[str, str, str]:
    """Sets `span` of each row, the ends of its strip; returns what stands above it.

    All strips of a benchmark have one scale if its returns have two ends. Otherwise
    each row has its own: from the score of random actions, or 0, to the highest score.
    """
    known = tasks.BENCHMARKS[benchmark]
    if np.isfinite(known.high - known.low):
        return _scaled_alike(rows, benchmark)
    human = has_references(benchmark)
    for row in rows:
        ends = [row["low"], row["high"], row["published_low"], row["published_high"]]
        ends += [row["mean"], row["published"]]
        if human:
            ends += [references().random[row["task"]], references().gamer[row["task"]]]
        found = [float(end) for end in ends if end is not None]
        row["span"] = min(found if human else [0.0, *found]), max([*found, 0.0])
        if row["span"][0] == row["span"][1]:
            row["span"] = row["span"][0], row["span"][0] + 1.0
    return ("lowest" if human else "0", "", "highest")


def _scaled_alike(rows: list[dict[str, Any]], benchmark: str) -> tuple[str, str, str]:
    """As above, with one scale for all rows."""
    low, high = tasks.BENCHMARKS[benchmark].span
    form = texts.form_of(benchmark)
    if not np.isfinite(high - low):
        ends = [row[name] or 0.0 for row in rows for name in HIGHEST]
        low, high, form = 0.0, max([100.0, *ends]), texts.number
    for row in rows:
        row["span"] = low, high
    middle = (low + high) / 2
    return form(low), form(middle), form(high)


def _reference(sheet: Sheet) -> dict[str, Any]:
    """What the template shows of a benchmark's published scores."""
    rows: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for task, scores in zip(map(str, sheet.wide.index), _records(sheet.wide)):
        known = [
            value
            for name, value in scores.items()
            if value is not None and name not in sheet.beside
        ]
        row = {"task": task, "scores": scores, "best": max(known, default=None)}
        row |= {"form": sheet.number}
        (totals if task in sheet.footer else rows).append(row)
    means = sheet.totals.pivot(
        index="method", columns="budget", values=sheet.shown or "mean"
    )
    order = means.max(axis=1).sort_values(ascending=False).index
    means = means.loc[order]
    return {
        "key": sheet.stem,
        "title": sheet.title,
        "first": sheet.first,
        "methods": [*sheet.wide.columns],
        "tasks": rows,
        "totals": totals,
        "notes": sheet.notes,
        "budgets": [_frames(budget) for budget in means.columns],
        "means": {m: [*row.values()] for m, row in zip(means.index, _records(means))},
        "means_title": sheet.totals_title,
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict per row; missing numbers are None."""
    return [
        {str(k): None if pd.isna(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def _manifest(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a manifest says: of the versions, then of each run."""
    runs = manifest.get("runs")
    lines = [(k, _plain(v)) for k, v in manifest.items() if k != "runs"]
    if isinstance(runs, Mapping):
        lines += [(name, _plain(made)) for name, made in runs.items()]
    return lines


def _plain(value: Any) -> str:
    """A value of a manifest in words."""
    if isinstance(value, Mapping):
        parts = [f"{k} {_plain(v)}" for k, v in value.items() if v != ""]
        return " · ".join(parts)
    return value if isinstance(value, str) else json.dumps(value)


# --- Filters of the template ------------------------------------------------


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "css_class": _css_class,
        "number": _number,
        "percent": _percent,
        "place": _place,
        "counted": _counted,
        "signed": _signed,
        "shift": _shift,
        "sort_key": _sort_key,
        "spaced": _spaced,
    }
    return environment.get_template("page.html.jinja")


def _css_class(verdict: str) -> str:
    return CLASSES.get(verdict, "not-comparable")


def _number(value: float | None, form: texts.Form | None = None) -> str:
    return NONE if value is None else (form or texts.number)(value)


def _percent(value: float, whole: float = 1) -> str:
    """Of a length, for CSS."""
    return f"{100 * value / whole:.1f}%"


def _place(value: float, span: tuple[float, float]) -> str:
    """A score's place on a strip, for CSS."""
    return _percent(value - span[0], span[1] - span[0])


def _shift(difference: float, most: float = SHIFT) -> str:
    """A difference's place on a strip from -most to most, for CSS."""
    return _percent(min(max(difference, -most), most) + most, 2 * most)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _signed(value: float | None, form: texts.Form = texts.number) -> str:
    """With a true minus sign, and without a sign if it rounds to zero."""
    return NONE if value is None else texts.signed(value, form, "−")  # noqa: RUF001


def _sort_key(value: float | None, digits: int = 3) -> str:
    """By which page.js sorts a cell; "" for a missing number."""
    return "" if value is None else str(round(float(value), digits))


def _spaced(name: str) -> str:
    return str(name).replace("_", " ")


def _frames(frames: int) -> str:
    return f"{frames / 1e6:g}M" if frames >= 1e6 else f"{frames / 1e3:g}K"
