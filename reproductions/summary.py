"""A short table of a few runs, for `make reproduce`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dreamer_tf.errors import UserError
from reproductions import published, reference, scores, tasks, verdicts
from reproductions.protocols import PROTOCOLS


def summary_table(
    runs: pd.DataFrame | Iterable[str | Path],
    budget: int = 0,
    protocols: Mapping[str, Any] = PROTOCOLS,
) -> pd.DataFrame:
    """A short table of a few runs beside random and published scores of their tasks.

    Args:
      runs: points, or run directories.
      budget: frames at which to read the scores; 0: the runs' own end.
      protocols: name -> object with `footnote` and `repeat`, as `Protocol` has them.

    Returns: version, task, frames, score, spread (std over seeds, n - 1), seeds,
      random (the uniform random policy at the same action repeat), reference (the
      authors' code at the same settings and budget), reference_spread, reference_seeds,
      published (without a reference: at the nearest published point of the same
      version's curve), published_frames, protocol; `attrs["footnote"]` says what the
      numbers are.

    Raises:
      UserError: there is no finished episode, or a protocol is unknown.
    """
    points = runs if isinstance(runs, pd.DataFrame) else scores.read_logdirs(runs)
    if points.empty:
        raise UserError("The runs hold no finished episode.")
    budget = budget or scores.own_budget(points)
    table = _summary(points, budget)
    # Runs without a score (no episode ended late enough) have a row too.
    table = points[scores.CELL].drop_duplicates().merge(table, "left", scores.CELL)
    table["n"] = table.n.fillna(0).astype(int)
    same = reference.beside(points, reference.authors().points)
    same = _summary(same, budget).set_index(scores.CELL)
    rows = []
    for row in table.itertuples():
        method = scores.METHODS.get(str(row.version), row.version)
        curve = published.curves(str(row.benchmark), early=budget <= 300_000)
        curve = curve[(curve.method == method) & (curve.task == row.task)]
        near = curve.iloc[(curve.frames - budget).abs().argsort()[:1]]
        cell = tuple(getattr(row, name) for name in scores.CELL)
        theirs = same.loc[cell] if cell in same.index else None
        if theirs is not None:
            near = near.iloc[:0]
        repeat = protocols[row.protocol].repeat(row.version, row.benchmark)
        rows.append(
            {
                "version": row.version,
                "task": row.task,
                "frames": budget,
                "score": row.mean,
                "spread": row.std,
                "seeds": row.n,
                "random": published.chance(row.benchmark, row.task, repeat),
                "reference": np.nan if theirs is None else theirs["mean"],
                "reference_spread": np.nan if theirs is None else theirs["std"],
                "reference_seeds": 0 if theirs is None else int(theirs["n"]),
                "published": near["mean"].iloc[0] if len(near) else np.nan,
                "published_frames": near.frames.iloc[0] if len(near) else 0,
                "protocol": row.protocol,
            }
        )
    columns = ["version", "task", "frames", "score", "spread", "seeds", "random"]
    columns += ["reference", "reference_spread", "reference_seeds"]
    columns += ["published", "published_frames", "protocol"]
    result = pd.DataFrame(rows, columns=columns)
    notes = [
        verdicts.protocol_note(str(p), sorted(set(r.version)), str(b), protocols)
        for (b, p), r in points.groupby(["benchmark", "protocol"], sort=False)
    ]
    notes += verdicts.departures(points)
    if result.reference.notna().any():
        notes.append(
            f"Reference: {reference.AUTHORS_NAME}, at the same budget by the same rule "
            "(results/reference), mean and standard deviation over its seeds. A single "
            "seed of ours cannot show agreement or a difference."
        )
    if result.published.notna().any():
        if (points.protocol == "lite").any():
            notes.append(verdicts.LITE)
        notes.append(
            "Published: mean over seeds at the nearest point of the published curve. "
            "Those runs used the paper's sizes and updates; where these differ from "
            "the protocol above, the two scores are not comparable."
        )
    result.attrs["footnote"] = " ".join(notes)
    if result.score.isna().any():
        result.attrs["footnote"] += (
            f" No score: no episode ended within the last 10% of {budget:,} frames."
        )
    return result


def _summary(points: pd.DataFrame, budget: int) -> pd.DataFrame:
    """`scores.summary` of every cell."""
    table = scores.budget_scores(points, budget)
    parts = [
        scores.summary(rows, scores.CELL, tasks.BENCHMARKS[str(benchmark)].span)
        for benchmark, rows in table.groupby("benchmark", sort=False)
    ]
    empty = scores.summary(table.iloc[:0], scores.CELL)
    return pd.concat(parts) if parts else empty
