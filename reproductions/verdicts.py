"""Which result counts as a reproduction, and the sentences that stand under a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dreamer_tf.errors import UserError
from reproductions import scores, tasks
from reproductions.tasks import name_of

MIN_SEEDS = 3  # with fewer, intervals are too wide to decide anything
NOT_RUN = "not run"
# The verdicts that compare ours with published scores: beside them, and only beside
# them, a difference is shown.
COMPARED = ("reproduced", "above", "below", "too few seeds")
TOUCH = 1.0  # gap between intervals that still counts as overlap: tables are rounded

SCORING = (
    "Scores are episode returns (0 to 1000) by the papers' rule: per seed the mean "
    "over the last 4% of the budget, then the mean over seeds; ± is the standard "
    "deviation over seeds (n - 1)."
)
INTERVALS = (
    "Intervals are 95%: Student's t over the seeds of one task; for aggregates a "
    "bootstrap that draws seeds within each task. Tasks weigh the same, whatever their "
    "number of seeds."
)
VERDICTS = (
    "Verdict: reproduced if our interval overlaps the "
    "published one (gaps up to 1 point count as overlap), above or below if not, too "
    f"few seeds below {MIN_SEEDS} on either side. Two published runs of one method "
    "differ by up to 280 points on single tasks, so the aggregates decide."
)

LITE = (
    "Under lite sizes, batches, learning rates and numbers of updates are not those "
    "of the papers: its scores show that the code learns, and are not reproductions of "
    "published numbers, which stand beside them for orientation only."
)


def verdict(
    protocol: str, row: Mapping[str, Any], started: bool, changed: bool = False
) -> str:
    """The verdict on one row of a table.

    Args:
      row: version; n and published_n, the numbers of seeds; low, high, published_low
        and published_high, the ends of both intervals.
      started: whether any run has a finished episode.
      changed: whether a run was made with other settings than the protocol's.
    """
    if row["n"] == 0:
        return "not finished" if started else NOT_RUN
    if changed:
        return "other settings"
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


def rules(
    points: pd.DataFrame, protocol: str, versions: Sequence[str]
) -> tuple[str, ...]:
    """The sentences under a table that say how scores and verdicts came about."""
    notes = []
    words = {"train": "training", "eval": "evaluation"}
    if protocol != scores.OUTSIDE:
        kinds = scores.reported_kinds(points)
        other = [
            f"{name_of(version)} {words[kind]}"
            for (*_, version), kind in kinds.items()
            if kind != scores.KINDS[version]  # else the protocol's sentence says so
        ]
        if other:
            notes.append(f"These runs have only other episodes: {', '.join(other)}.")
    notes += [*departures(points), SCORING]
    for cell, (width, _) in scores.BINS.items():
        version = cell[2]
        if version in versions and cell[:2] == (points.benchmark.iloc[0], protocol):
            notes.append(
                f"As in the published file, a point of {name_of(version)} is the mean "
                f"over {width:,} frames."
            )
    notes.append(INTERVALS)
    if any(comparable(protocol, version) for version in versions):
        notes.append(VERDICTS)
    if protocol == "lite":
        return (*notes, LITE)
    for version in versions:
        if not comparable(protocol, version):
            home = " or ".join(tasks.PUBLISHED_UNDER[version])
            notes.append(
                f"The published {name_of(version)} scores were made under {home}, not "
                f"under {protocol}: they stand beside ours for orientation only, "
                "without a difference."
            )
    return tuple(notes)


def departures(points: pd.DataFrame) -> list[str]:
    """A sentence for each set of flags by which runs differ from their protocol."""
    runs = points[points.changed != ""].drop_duplicates([*scores.CELL, "seed"])
    notes = []
    for (version, flags), alike in runs.groupby(["version", "changed"]):
        names = ", ".join(f"{r.task} {r.seed}" for r in alike.itertuples())
        notes.append(
            f"Runs of {name_of(str(version))} with settings that are not the "
            f"protocol's, which are not judged by published scores: {names} ({flags})."
        )
    return notes


def protocol_note(
    protocol: str, versions: Sequence[str], benchmark: str, protocols: Mapping[str, Any]
) -> str:
    """The protocol's footnote for these versions on a benchmark.

    Raises:
      UserError: the protocol is unknown.
    """
    if protocol == scores.OUTSIDE:
        names = ", ".join(map(name_of, versions))
        return f"{names}: outside logs; their protocol is whatever made them."
    if protocol not in protocols:
        raise UserError(
            f"The results name the unknown protocol {protocol!r}; valid are "
            f"{', '.join(protocols)}."
        )
    return protocols[protocol].footnote(versions, benchmark)


def comparable(protocol: str, version: str) -> bool:
    """Whether the version's published scores were made under this protocol."""
    if protocol == scores.OUTSIDE:
        return True
    return protocol in tasks.PUBLISHED_UNDER.get(version, ())
