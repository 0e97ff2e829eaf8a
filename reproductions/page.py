"""One HTML page that holds everything: no network, no files beside it.

Style and behaviour stand in page.css and page.js; this module turns tables into
rows.  Numbers for sorting are in `data-v`, what filters look at is in `data-task`,
`data-version` and `data-budget`.
"""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
NONE = "–"  # noqa: RUF001
VERDICTS = ("reproduced", "above", "below", "too few seeds", "nothing published")
NOT_RUN = "not run"
ABSENT = ("not finished", NOT_RUN)
CLASSES = {v: v.replace(" ", "-") for v in (*VERDICTS, *ABSENT)}


@dataclasses.dataclass(frozen=True)
class Section:
    """A benchmark under one protocol, as the page shows it."""

    key: str
    title: str
    protocol: str
    versions: Mapping[str, str]  # version -> name
    colors: Mapping[str, str]  # version -> colour
    budgets: Mapping[int, str]  # frames -> label
    cells: pd.DataFrame  # tables.cell_table of every budget, with a budget column
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
    wide: pd.DataFrame  # task x method
    totals: pd.DataFrame  # method, budget, mean, median
    notes: Sequence[str]


def render(sections: Sequence[Section], references: Sequence[Reference]) -> str:
    """The page as text."""
    versions: dict[str, tuple[str, str]] = {}  # version -> (name, colour)
    for section in sections:
        for version, name in section.versions.items():
            versions.setdefault(version, (name, section.colors[version]))
    chips = "".join(
        f'<button class="chip" data-toggle="{_e(v)}" aria-pressed="true" '
        f'style="--c:{color}">{_e(name)}</button>'
        for v, (name, color) in sorted(versions.items())
    )
    if any((s.cells.verdict == NOT_RUN).any() for s in sections):
        chips += (
            '<button class="chip" data-toggle="absent" aria-pressed="true" '
            f'style="--c:var(--line)">{NOT_RUN}</button>'
        )
    links = "".join(f'<a href="#{s.key}">{_e(s.title)}</a>' for s in sections)
    body = "".join(_section(s) for s in sections)
    lead = (
        "Our runs beside the published scores, task by task."
        if sections
        else "The published scores, task by task."
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dreamer on DeepMind Control</title>
<style>{(HERE / "page.css").read_text("utf-8")}{_hiding(versions)}</style></head>
<body>
<header><div class="wrap"><h1>Dreamer on DeepMind Control</h1>
<p class="lead">{lead}</p>
<nav>{links}<a href="#published">Published scores</a></nav></div></header>
<div class="filters"><div class="wrap">
<input id="task" type="search" placeholder="Filter tasks" aria-label="Filter tasks">
<select id="sort" class="sort" aria-label="Sort by">
<option value="task">by task</option><option value="score">by score</option>
<option value="difference">by difference</option>
<option value="verdict">by verdict</option></select>
<span class="chips">{chips}</span>
<button id="reset" type="button" hidden>Reset</button>
<span id="count" aria-live="polite"></span></div></div>
<main class="wrap">{_overview(sections)}{body}
<section id="published"><h2>Published scores</h2>
{"".join(_reference(r) for r in references)}</section></main>
<footer class="wrap">Made by <code>reproductions/report.py</code> from files only;
all tables are also in <code>tables/</code> as CSV, Markdown and LaTeX.</footer>
<script>{(HERE / "page.js").read_text("utf-8")}</script>
</body></html>
"""


def _hiding(versions: Mapping[str, Any]) -> str:
    """A switched-off version also leaves the plots."""
    rules = (f'body.off-{v} svg g[id^="{v}-"]{{display:none}}' for v in versions)
    return "".join(rules)


def _overview(sections: Sequence[Section]) -> str:
    """A card per benchmark, protocol and version: the mean and the verdicts."""
    cards = []
    for section in sections:
        budget = max(section.budgets)
        totals = section.totals[section.totals.budget == budget]
        cells = section.cells[section.cells.budget == budget]
        for version, name in section.versions.items():
            row = totals[(totals.version == version) & (totals["aggregate"] == "mean")]
            mean = row.iloc[0]
            counts = cells[cells.version == version].verdict.value_counts()
            other = [v for v in counts.index if v not in CLASSES]
            order = [v for v in (*VERDICTS, *other, *ABSENT) if v in counts]
            bar = "".join(
                f'<i class="{_class(v)}" style="flex:{counts[v]}" title="{_e(v)}"></i>'
                for v in order
            )
            words = " · ".join(f"{counts[v]} {_e(v)}" for v in order)
            theirs = (
                f"published {mean.published:.0f}"
                if pd.notna(mean.published)
                else f"no published score at {section.budgets[budget]}"
            )
            interval = (
                f"<small>[{mean.low:.0f}, {mean.high:.0f}]</small>"
                if pd.notna(mean.low)
                else ""
            )
            cards.append(
                f'<a class="card" data-version="{_e(version)}" href="#{section.key}" '
                f'style="--c:{section.colors[version]}">'
                f"<h3>{_e(name)} {_pill(mean.verdict)}</h3>"
                f"<p>{_e(section.title)} · {section.budgets[budget]} · "
                f"{mean.tasks}/{mean.of} tasks</p>"
                f'<p class="big">{_number(mean["mean"])} {interval}</p>'
                f"<p>task mean · {theirs}</p>"
                f'<div class="stack">{bar}</div><p class="words">{words}</p></a>'
            )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _section(section: Section) -> str:
    chosen = max(section.budgets)
    buttons = "".join(
        f'<button data-budget="{b}" aria-pressed="{str(b == chosen).lower()}">'
        f"{label}</button>"
        for b, label in section.budgets.items()
    )
    control = (
        '<div class="budgets" role="group" aria-label="Budget in frames">'
        f"<span>Frames</span>{buttons}</div>"
    )
    notes = _notes(section.notes)
    rules = _notes([*section.notes, *section.rules])
    curves = "".join(
        f'<figure data-task="{_e(t)}"><figcaption>{_task(t)}</figcaption>'
        f'<div class="svg">{svg}</div></figure>'
        for t, svg in section.curves.items()
    )
    cells = "".join(_cell(row, section) for row in _records(section.cells))
    totals = "".join(_total(row, section) for row in _records(section.totals))
    tables = f"""<h3>Tasks</h3>
<table class="cells" data-sorts><thead><tr>
<th data-key="task">Task</th><th data-key="version">Version</th>
<th data-key="score" class="num">Score</th><th data-key="seeds" class="num">Seeds</th>
<th class="plot">{_SCALE}</th><th data-key="published" class="num">Published</th>
<th data-key="difference" class="num">Difference</th>
<th data-key="verdict">Verdict</th></tr></thead><tbody>{cells}</tbody></table>
{rules}
<h3>Aggregates</h3>
<table class="totals" data-sorts><thead><tr>
<th data-key="aggregate">Aggregate</th><th data-key="version">Version</th>
<th data-key="score" class="num">Score</th><th data-key="seeds" class="num">Tasks</th>
<th class="plot">{_SCALE}</th><th data-key="published" class="num">Published</th>
<th data-key="difference" class="num">Difference</th>
<th data-key="verdict">Verdict</th></tr></thead><tbody>{totals}</tbody></table>
{notes}"""
    pairs = "".join(_pair(row) for row in _records(section.pairs))
    beside = ""
    if pairs:
        beside = (
            "<div><h3>Probability of improvement</h3>"
            '<p class="hint">Chance that a run of the first scores higher than one of '
            "the second on the same task; 95% interval.</p>"
            f'<table class="pairs"><tbody>{pairs}</tbody></table>{notes}</div>'
        )
    profile = (
        f"<div><h3>Performance profile, {section.budgets[chosen]} frames</h3>"
        '<p class="hint">Share of runs above a score. Higher is better; '
        "dashed: published.</p>"
        f'<div class="svg">{section.profile}</div></div>'
    )
    curve_hint = (
        "<h3>Learning curves</h3>"
        f'<p class="hint">{_key(section)} Solid: our mean over seeds. Dashed: '
        "published mean. Bands: ± one standard deviation over seeds.</p>"
    )
    return f"""<section id="{section.key}"><h2>{_e(section.title)}</h2>
{control}{tables}<div class="two">{profile}{beside}</div>
{curve_hint}<div class="curves">{curves}</div>{_manifests(section.manifests)}
</section>"""


# Header of the column that draws intervals.
_SCALE = '<span class="scale"><span>0</span><span>500</span><span>1000</span></span>'


def _cell(row: Mapping[str, Any], section: Section) -> str:
    spread = "" if pd.isna(row["std"]) else f"± {row['std']:.0f}"
    # The column of seeds has no room on a phone.
    spread = f'<small>{spread}<span class="phone"> · {_seeds(row["n"])}</span></small>'
    count = row["published_n"]
    runs = f" · {_seeds(count)}" if count else ""
    return (
        f"<tr {_data(row, task=row['task'])}>"
        f'<td class="task" data-v="{_e(row["task"])}">{_task(row["task"])}</td>'
        f"{_version(row, section)}"
        f"{_num('score', row['mean'], spread)}{_num('seeds', row['n'])}"
        f"{_strip(row, section)}"
        f"{_num('published', row['published'], _published(row, runs))}"
        f"{_difference(row)}{_verdict(row)}</tr>"
    )


def _total(row: Mapping[str, Any], section: Section) -> str:
    low, high = row["low"], row["high"]
    interval = "" if pd.isna(low) else f"<small>[{low:.0f}, {high:.0f}]</small>"
    printed = row["printed"]
    extra = "" if pd.isna(printed) else f" · printed {printed:.0f}"
    return (
        f"<tr {_data(row)}>"
        f'<td class="task" data-v="{row["aggregate"]}">{row["aggregate"]}</td>'
        f"{_version(row, section)}{_num('score', row['mean'], interval)}"
        f'<td class="num seeds" data-k="seeds" data-v="{row["tasks"]}">'
        f"{row['tasks']}/{row['of']}</td>"
        f"{_strip(row, section)}"
        f"{_num('published', row['published'], _published(row, extra))}"
        f"{_difference(row)}{_verdict(row)}</tr>"
    )


def _pair(row: Mapping[str, Any]) -> str:
    low, high = row["low"], row["high"]
    interval = ""
    box = ""
    if pd.notna(low):
        interval = f"<small>[{100 * low:.0f}, {100 * high:.0f}]</small>"
        box = (
            f'<i class="our" style="left:{100 * low:.1f}%;'
            f'width:{100 * (high - low):.1f}%"></i>'
        )
    at = 100 * row["probability"]
    return (
        f'<tr data-budget="{row["budget"]}"><td>{_e(row["x"])} &gt; {_e(row["y"])}</td>'
        f'<td class="plot"><div class="strip half">{box}'
        f'<b style="left:{at:.1f}%"></b></div></td>'
        f'<td class="num">{at:.0f}% {interval}</td></tr>'
    )


def _reference(reference: Reference) -> str:
    methods = list(reference.wide.columns)
    head = "".join(f'<th data-key="{_e(m)}" class="num">{_e(m)}</th>' for m in methods)
    rows: list[str] = []
    foot: list[str] = []
    for task, values in reference.wide.iterrows():
        total = str(task).startswith("task ")
        best = values.max()
        cells = "".join(
            f'<td class="num{" best" if v == best else ""}" data-k="{_e(m)}" '
            f'data-v="{"" if pd.isna(v) else round(v, 2)}">{_number(v)}</td>'
            for m, v in values.items()
        )
        name = f'<td class="task" data-v="{_e(str(task))}">{_task(str(task))}</td>'
        kind = "" if total else f' data-task="{_e(str(task))}"'
        (foot if total else rows).append(f"<tr{kind}>{name}{cells}</tr>")
    return f"""<h3>{_e(reference.title)}</h3><div class="scroll">
<table class="wide" data-sorts><thead><tr><th data-key="task">Task</th>{head}</tr>
</thead><tbody>{"".join(rows)}</tbody><tfoot>{"".join(foot)}</tfoot></table></div>
{_notes(reference.notes)}{_budgets(reference.totals)}"""


def _budgets(totals: pd.DataFrame) -> str:
    """Task means of the published methods over budgets."""
    wide = totals.pivot(index="method", columns="budget", values="mean")
    order = wide.max(axis=1).sort_values(ascending=False).index
    head = "".join(f'<th class="num">{_frames(b)}</th>' for b in wide.columns)
    rows = "".join(
        f'<tr><td class="task">{_e(str(m))}</td>'
        + "".join(f'<td class="num">{_number(v)}</td>' for v in wide.loc[m])
        + "</tr>"
        for m in order
    )
    return f"""<details><summary>Task mean at every published budget</summary>
<div class="scroll"><table class="wide"><thead><tr><th>Method</th>{head}</tr></thead>
<tbody>{rows}</tbody></table></div></details>"""


def _manifests(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    if not manifests:
        return ""
    parts = []
    for name, manifest in manifests.items():
        rows = "".join(
            f"<dt>{_e(str(k).replace('_', ' '))}</dt><dd>{_e(_plain(v))}</dd>"
            for k, v in manifest.items()
        )
        parts.append(f"<h4>{_e(name)}</h4><dl>{rows}</dl>")
    return (
        "<details><summary>How these runs were made</summary>"
        f"{''.join(parts)}</details>"
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{_e(n)}</li>" for n in notes)}</ul>'


def _key(section: Section) -> str:
    return " ".join(
        f'<span class="ver" style="--c:{section.colors[v]}">{_e(name)}</span>'
        for v, name in section.versions.items()
    )


def _data(row: Mapping[str, Any], task: str = "") -> str:
    name = f'data-task="{_e(task)}" ' if task else ""
    absent = 'data-absent="1" ' if row.get("verdict") == NOT_RUN else ""
    return (
        f'{name}{absent}data-version="{_e(row["version"])}" '
        f'data-budget="{row["budget"]}"'
    )


def _version(row: Mapping[str, Any], section: Section) -> str:
    version = row["version"]
    return (
        f'<td class="version" data-k="version" data-v="{_e(version)}">'
        f'<span class="ver" style="--c:{section.colors[version]}">'
        f"{_e(section.versions[version])}</span></td>"
    )


def _num(key: str, value: float, extra: str = "") -> str:
    """A number cell; `extra` is small print and stands only beside a number."""
    missing = pd.isna(value)
    sort = "" if missing else round(float(value), 3)
    return (
        f'<td class="num {key}" data-k="{key}" data-v="{sort}">{_number(value)} '
        f"{'' if missing else extra}</td>"
    )


def _published(row: Mapping[str, Any], extra: str) -> str:
    low, high = row["published_low"], row["published_high"]
    interval = "" if pd.isna(low) else f"[{low:.0f}, {high:.0f}]"
    return f"<small>{interval}{_e(extra)}</small>"


def _difference(row: Mapping[str, Any]) -> str:
    value = row["difference"]
    text = NONE if pd.isna(value) else _signed(value)
    sort = "" if pd.isna(value) else round(value, 3)
    return f'<td class="num difference" data-k="difference" data-v="{sort}">{text}</td>'


def _verdict(row: Mapping[str, Any]) -> str:
    verdict = row["verdict"]
    return (
        f'<td class="verdict" data-k="verdict" data-v="{_e(verdict)}">'
        f"{_pill(verdict)}</td>"
    )


def _pill(verdict: str) -> str:
    return f'<span class="pill {_class(verdict)}">{_e(verdict)}</span>'


def _class(verdict: str) -> str:
    return CLASSES.get(verdict, "not-comparable")


def _strip(row: Mapping[str, Any], section: Section) -> str:
    """The published interval as a grey box, ours as a coloured line with a dot."""
    parts = []
    for kind, mean in (("published_", "published"), ("", "mean")):
        low, high, at = row[f"{kind}low"], row[f"{kind}high"], row[mean]
        name = "pub" if kind else "our"
        if pd.notna(low):
            parts.append(
                f'<i class="{name}" style="left:{low / 10:.1f}%;'
                f'width:{(high - low) / 10:.1f}%"></i>'
            )
        if pd.notna(at):
            tag = "u" if kind else "b"
            parts.append(f'<{tag} style="left:{at / 10:.1f}%"></{tag}>')
    color = section.colors[row["version"]]
    return (
        f'<td class="plot"><div class="strip" style="--c:{color}">'
        f"{''.join(parts)}</div></td>"
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in r.items()} for r in table.to_dict("records")]


def _number(value: float) -> str:
    return NONE if pd.isna(value) else f"{value:.0f}"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _signed(value: float) -> str:
    """With a true minus sign, and no sign at all when it rounds to zero."""
    return f"{value:+.0f}".replace("-", "−") if round(value) else "0"  # noqa: RUF001


def _frames(frames: int) -> str:
    return f"{frames / 1e6:g}M" if frames >= 1e6 else f"{frames / 1e3:g}K"


def _task(task: str) -> str:
    return _e(task.replace("_", " "))


def _e(text: str) -> str:
    return html.escape(text, quote=True)
