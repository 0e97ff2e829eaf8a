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
import pandas as pd
from markupsafe import Markup

from reproductions.reference import describe, width

HERE = Path(__file__).parent
NONE = "–"  # noqa: RUF001
VERDICTS = ("reproduced", "above", "below", "too few seeds", "nothing published")
AGREEMENT = ("agrees", "undecided")  # above, below and too few seeds are as above
SHIFT = 200.0  # points at the ends of the strips that show differences
NOT_RUN = "not run"
ABSENT = ("not finished", NOT_RUN)
# Any other verdict is a reason why scores are not comparable.
CLASSES = {v: v.replace(" ", "-") for v in (*VERDICTS, *AGREEMENT, *ABSENT)}


@dataclasses.dataclass(frozen=True)
class Section:
    """A benchmark under one protocol, as the page shows it."""

    key: str
    title: str
    protocol: str
    versions: Mapping[str, str]  # version -> name
    colors: Mapping[str, str]  # version -> colour as a CSS value
    budgets: Mapping[int, str]  # frames -> label
    cells: pd.DataFrame  # tables.cell_table of every budget, with a budget column
    agreement: pd.DataFrame  # tables.agreement_table; empty without a reference
    reference: str  # what it is
    totals: pd.DataFrame  # tables.aggregate_table likewise
    pairs: pd.DataFrame  # tables.improvement_table likewise
    curves: Mapping[str, str]  # task -> SVG
    profile: str  # SVG
    notes: Sequence[str]  # the protocol of each version
    rules: Sequence[str]  # how scores and verdicts came about
    manifests: Mapping[str, Mapping[str, Any]]  # version's name -> how it was made


@dataclasses.dataclass(frozen=True)
class Reference:
    """Published scores of one benchmark."""

    title: str
    wide: pd.DataFrame  # task x method; rows "task mean" and "task median" at the end
    totals: pd.DataFrame  # method, budget, mean, median
    notes: Sequence[str]


def render(sections: Sequence[Section], references: Sequence[Reference]) -> str:
    """The page as text."""
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
        references=[_reference(reference) for reference in references],
        not_run=NOT_RUN,
        some_not_run=any((s.cells.verdict == NOT_RUN).any() for s in sections),
    )
    return text.lstrip() + "\n"  # the template's macros leave empty lines at the start


# --- Data for the template --------------------------------------------------


def _section(section: Section) -> dict[str, Any]:
    """What the template shows of a benchmark."""
    return {
        "key": section.key,
        "title": section.title,
        "budgets": section.budgets,
        "longest": max(section.budgets),
        "legend": [(name, section.colors[v]) for v, name in section.versions.items()],
        "cards": _cards(section),
        "cells": _of_versions(section.cells, section),
        "agreement": [
            row
            | {
                "frames": _frames(row["budget"]),
                "width": width(row["reference"]),
            }
            for row in _of_versions(section.agreement, section)
        ],
        "reference": section.reference,
        "totals": _of_versions(section.totals, section),
        "pairs": _records(section.pairs),
        # The SVG comes from plots.py, so it is safe and not escaped.
        "curves": {task: Markup(svg) for task, svg in section.curves.items()},
        "profile": Markup(section.profile),
        "notes": [*section.notes],
        "rules": [*section.rules],
        "manifests": {
            name: {key: _plain(value) for key, value in manifest.items()}
            for name, manifest in section.manifests.items()
        },
    }


def _cards(section: Section) -> list[dict[str, Any]]:
    """Per version the task mean at the longest budget, and how often each verdict."""
    budget = max(section.budgets)
    totals = section.totals[section.totals.budget == budget]
    means = _of_versions(totals[totals["aggregate"] == "mean"], section)
    cells = section.cells[section.cells.budget == budget]
    cards = []
    for row in means:
        counts = cells[cells.version == row["version"]].verdict.value_counts()
        other = [verdict for verdict in counts.index if verdict not in CLASSES]
        order = [v for v in (*VERDICTS, *other, *ABSENT) if v in counts]
        card: dict[str, Any] = {"key": section.key, "title": section.title}
        card |= {"budget": section.budgets[budget]}
        card |= {"verdicts": {v: counts[v] for v in order}}
        same = section.agreement[section.agreement.version == row["version"]]
        card |= {"agreement": describe(same.verdict)}
        card |= {"compared": section.reference}
        cards.append(row | card)
    return cards


def _of_versions(table: pd.DataFrame, section: Section) -> list[dict[str, Any]]:
    """Rows of a table with a column `version`, with its name and colour."""
    rows = _records(table)
    for row in rows:
        version = row["version"]
        row |= {"name": section.versions[version], "color": section.colors[version]}
    return rows


def _reference(reference: Reference) -> dict[str, Any]:
    """What the template shows of a benchmark's published scores."""
    tasks: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for task, scores in zip(map(str, reference.wide.index), _records(reference.wide)):
        known = [value for value in scores.values() if value is not None]
        row = {"task": task, "scores": scores, "best": max(known, default=None)}
        (totals if task.startswith("task ") else tasks).append(row)
    means = reference.totals.pivot(index="method", columns="budget", values="mean")
    order = means.max(axis=1).sort_values(ascending=False).index
    means = means.loc[order]
    return {
        "title": reference.title,
        "methods": [*reference.wide.columns],
        "tasks": tasks,
        "totals": totals,
        "notes": reference.notes,
        "budgets": [_frames(budget) for budget in means.columns],
        "means": {m: [*row.values()] for m, row in zip(means.index, _records(means))},
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict per row; missing numbers are None."""
    return [
        {str(k): None if pd.isna(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def _plain(value: Any) -> str:
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
        "seeds": _seeds,
        "signed": _signed,
        "shift": _shift,
        "sort_key": _sort_key,
        "spaced": _spaced,
    }
    return environment.get_template("page.html.jinja")


def _css_class(verdict: str) -> str:
    return CLASSES.get(verdict, "not-comparable")


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"


def _percent(value: float, whole: float = 1) -> str:
    """Of a length, for CSS."""
    return f"{100 * value / whole:.1f}%"


def _shift(difference: float) -> str:
    """A difference's place on a strip from -SHIFT to SHIFT points, for CSS."""
    return _percent(min(max(difference, -SHIFT), SHIFT) + SHIFT, 2 * SHIFT)


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _signed(value: float | None) -> str:
    """With a true minus sign, and without a sign if it rounds to zero."""
    if value is None:
        return NONE
    return f"{value:+.0f}".replace("-", "−") if round(value) else "0"  # noqa: RUF001


def _sort_key(value: float | None, digits: int = 3) -> str:
    """By which page.js sorts a cell; "" for a missing number."""
    return "" if value is None else str(round(float(value), digits))


def _spaced(name: str) -> str:
    return str(name).replace("_", " ")


def _frames(frames: int) -> str:
    return f"{frames / 1e6:g}M" if frames >= 1e6 else f"{frames / 1e3:g}K"
