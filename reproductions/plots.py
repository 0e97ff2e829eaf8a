"""Learning curves and performance profiles, drawn with matplotlib.

The SVG group ids of a version's lines begin with its name, so that the page can hide
them.
"""

import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dreamer_tf.files import write_atomic
from reproductions import tasks

INK, MUTED, GRID, EDGE = "#1b2430", "#66717f", "#e4e8ed", "#b7c0ca"
# Colours that colour-blind readers can tell apart (Okabe and Ito).
COLORS = {"v1": "#009e73", "v2": "#d55e00", "v3": "#0072b2"}
OTHERS = ("#cc79a7", "#7f6b00", "#56b4e9", "#444444")
NAME = 36  # letters of the longest name in a legend
# Styles of lines that are not ours.
LINES: dict[str, Any] = {
    "published": {"lw": 1, "ls": (0, (4, 2))},
    "reference": {"lw": 1.7, "ls": (0, (1, 1))},
}
STYLE: Any = {  # Any: matplotlib has a type for every key
    "font.family": "sans-serif",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.titlesize": 8.5,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text, not outlines: smaller, and in the page's font
    "svg.hashsalt": "dreamer",  # fixed, so that equal data give equal files
}


def color_of(version: str, versions: Sequence[str]) -> str:
    """A version's colour; methods of outside logs take `OTHERS` in turn."""
    others = [v for v in versions if v not in COLORS]
    if version in COLORS:
        return COLORS[version]
    return OTHERS[others.index(version) % len(OTHERS)]


def frames_label(frames: float) -> str:
    """500000 -> 500K, 1000000 -> 1M."""
    if frames >= 1e6:
        return f"{frames / 1e6:g}M"
    return f"{frames / 1e3:g}K" if frames >= 1e3 else f"{frames:g}"


@dataclasses.dataclass(frozen=True)
class Curves:
    """What a plot shows; tables have columns version, task, frames, mean, std, n."""

    ours: pd.DataFrame
    published: pd.DataFrame
    reference: pd.DataFrame  # runs at the same settings
    name: str  # of the reference
    one_scale: bool = True  # whether all tasks have the same axis, from 0

    @property
    def top(self) -> int:
        """The highest score on the axes of all tasks: 1000, or less for low scores."""
        tables = (self.ours, self.published, self.reference)
        most = max((t["mean"] + t["std"].fillna(0)).max() for t in tables if len(t))
        return next((top for top in (250, 500, 750) if most <= top), 1000)


def task_figure(task: str, curves: Curves, versions: Sequence[str]) -> Figure:
    """The learning curves of one task, for the page."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.0, 2.5), layout="constrained")
        _draw_task(figure.subplots(), task, curves, versions)
    return figure


def grid_figure(
    names: Sequence[str],
    curves: Curves,
    versions: Sequence[str],
    title: str,
) -> Figure:
    """The learning curves of these tasks, three or five in a row, with one legend."""
    columns = min(3 if len(names) <= 6 else 5, len(names))
    rows = -(-len(names) // columns)
    with mpl.rc_context(STYLE):
        width, height = (3.1, 2.1) if len(names) <= 6 else (2.3, 1.75)
        handles, across = _legend(curves, versions), max(1, columns - 1)
        legend = 0.2 * -(-len(handles) // across)  # inches
        size = (max(4.6, width * columns), height * rows + 0.3 + legend)
        figure = Figure(figsize=size, layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis, task in zip(axes, names):
            _draw_task(axis, task, curves, versions)
            axis.set_title(task.replace("_", " "), loc="left")
        for axis in axes[len(names) :]:
            axis.set_axis_off()
        figure.suptitle(title, x=0.005, ha="left", fontsize=11, weight="bold")
        figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=across,  # few, as names may be long
        )
    return figure


def _draw_task(axis: Axes, task: str, curves: Curves, versions: Sequence[str]) -> None:
    ours = curves.ours[curves.ours.task == task]
    theirs = curves.published[curves.published.task == task]
    same = curves.reference[curves.reference.task == task]
    for version in versions:
        color = color_of(version, versions)
        for kind, table in (("published", theirs), ("reference", same)):
            band = table[table.version == version]
            if len(band):
                std = band["std"].fillna(0)
                axis.fill_between(
                    band.frames, band["mean"] - std, band["mean"] + std, color=color,
                    alpha=0.14, lw=0, gid=f"{version}-{kind}-band",
                )  # fmt: skip
                line = axis.plot(
                    band.frames, band["mean"], color=color, alpha=0.75, **LINES[kind]
                )
                line[0].set_gid(f"{version}-{kind}")
        line = ours[ours.version == version]
        if len(line):
            x, std = line.frames, line["std"].fillna(0)
            axis.fill_between(
                x,
                line["mean"] - std,
                line["mean"] + std,
                color=color,
                alpha=0.28,
                lw=0,
                gid=f"{version}-spread",
            )
            marker = "o" if len(line) < 15 else ""
            axis.plot(x, line["mean"], color=color, lw=1.8, marker=marker, ms=2.6)[
                0
            ].set_gid(f"{version}-ours")
    shown = next((x for x in (ours, theirs, same, curves.ours) if len(x)), theirs)
    end = max([1, *shown.frames])
    axis.set_xlim(0, end)
    if curves.one_scale:
        axis.set_ylim(0, curves.top)
    axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if not curves.one_scale and max(map(abs, axis.get_ylim())) >= 10_000:
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: frames_label(y)))
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: frames_label(x)))


def _legend(curves: Curves, versions: Sequence[str]) -> list:
    handles: list = []
    for version in versions:
        color = color_of(version, versions)
        name = tasks.VERSIONS.get(version, version)
        handles.append(Line2D([], [], color=color, lw=1.8, label=f"{name}, our seeds"))
        others = ("published", curves.published), ("reference", curves.reference)
        for kind, table in others:
            if version in set(table.version):
                who = "published" if kind == "published" else plain(curves.name)
                line = Line2D(
                    [], [], color=color, **LINES[kind], label=f"{name}, {who}"
                )
                handles.append(line)
    handles.append(Patch(color="#8a94a0", alpha=0.3, lw=0, label="± std over seeds"))
    return handles


@dataclasses.dataclass(frozen=True)
class Panel:
    """The learning curves of a version on a task, ours and the reference's."""

    title: str
    version: str
    ours: pd.DataFrame  # columns frames, mean, std, n
    reference: pd.DataFrame  # likewise
    seeds: int
    reference_seeds: int


def agreement_figure(panels: Sequence[Panel], name: str) -> Figure:
    """Ours and the reference's curves, two or three panels in a row.

    Args:
      name: of the reference.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    versions = list(dict.fromkeys(panel.version for panel in panels))
    with mpl.rc_context(STYLE):
        size = (max(4.6, 3.4 * columns), 2.5 * rows + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis, panel in zip(axes, panels):
            color = color_of(panel.version, versions)
            sides = ((panel.reference, MUTED, "--"), (panel.ours, color, "-"))
            for curve, shade, dash in sides:
                std = curve["std"].fillna(0)
                low, high = curve["mean"] - std, curve["mean"] + std
                axis.fill_between(curve.frames, low, high, color=shade, alpha=0.2, lw=0)
                axis.plot(curve.frames, curve["mean"], color=shade, ls=dash, lw=1.6)
            axis.set_title(
                f"{panel.title}\nseeds: {panel.seeds} ours, "
                f"{panel.reference_seeds} reference",
                loc="left",
            )
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("environment frames")
            axis.set_ylabel("return")
            axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: frames_label(x)))
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        label = plain(name)
        handles: list = [Line2D([], [], color=MUTED, ls="--", lw=1.6, label=label)]
        for version in versions:
            label = f"{tasks.name_of(version)}, ours"
            color = color_of(version, versions)
            handles.append(Line2D([], [], color=color, lw=1.6, label=label))
        handles.append(Patch(color=MUTED, alpha=0.3, lw=0, label="± std over seeds"))
        figure.legend(handles=handles, loc="outside lower left", ncols=4)
    return figure


def profile_figure(
    profiles: Iterable[tuple[str, bool, np.ndarray, np.ndarray, np.ndarray]],
    thresholds: np.ndarray,
    versions: Sequence[str],
    unit: str = "score",
    title: str = "",
) -> Figure:
    """Share of runs above a score, over all scores.

    Args:
      profiles: (version, published?, share, low, high) per line.
      thresholds: the scores on the x axis.
      unit: of these scores.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        axis = figure.subplots()
        for version, published, share, low, high in profiles:
            color = color_of(version, versions)
            name = tasks.VERSIONS.get(version, version)
            dash = "--" if published else "-"
            label = f"{name}, {'published' if published else 'our seeds'}"
            axis.fill_between(
                thresholds, low, high, color=color, lw=0,
                alpha=0.12 if published else 0.25, gid=f"{version}-band",
            )  # fmt: skip
            line = axis.plot(
                thresholds, share, color=color, lw=1 if published else 1.8, ls=dash,
                label=label,
            )  # fmt: skip
            line[0].set_gid(f"{version}-line")
        ends = thresholds[0], thresholds[-1]
        axis.set(xlim=ends, ylim=(0, 1), xlabel=unit, ylabel="runs above it")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f}%"))
        if axis.lines:
            axis.legend(loc="best")
        if title:
            axis.set_title(title, loc="left")
    return figure


def plain(text: str) -> str:
    """A name for a legend: short, on one line, and no formula of matplotlib."""
    text = " ".join(text.split())
    text = text if len(text) <= NAME else f"{text[: NAME - 1]}…"
    return text.replace("$", r"\$")


def to_svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element that scales with its container.

    Args:
      label: for screen readers.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    (box,) = re.findall(r"<svg [^>]*?viewBox=\"([^\"]+)\"", text)
    rest = text[text.index(">") + 1 :]
    text = f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">{rest}'
    # Two decimals are enough on a screen and make the page much smaller.
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", text)


def save_png(figure: Figure, file: Path) -> None:
    """Writes the file, without matplotlib's version: equal data give equal bytes."""
    picture = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    write_atomic(file, picture.getvalue())
