"""Which result counts as a reproduction, and the sentences that stand under a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dreamer_tf.errors import UserError
from reproductions import scores, tasks
from reproductions.rules import rule as rules_of
from reproductions.rules import scoring
from reproductions.tasks import name_of

MIN_SEEDS = 3  # with fewer, intervals are too wide to decide anything
NOT_RUN = "not run"
# The verdicts that compare ours with published scores: beside them, and only beside
# them, a difference is shown.
COMPARED = ("reproduced", "above", "below", "too few seeds")
# Gap between intervals that still counts as overlap, in points or percent: tables are
# rounded. Returns of other benchmarks have other units: there no gap counts.
TOUCH = 1.0

INTERVALS = (
    "Intervals are 95%: Student's t over the seeds of one task; for aggregates a "
    "bootstrap that draws seeds within each task. Tasks weigh the same, whatever their "
    "number of seeds."
)
_RULE = (
    "Verdict: reproduced if our interval overlaps the published one{gaps}, above or "
    "below if not, too few seeds below {least} on either side. {published}"
)
VERDICTS = {
    "dmc": _RULE.format(
        gaps=" (gaps up to 1 point count as overlap)",
        least=MIN_SEEDS,
        published="Two published runs of one method differ by up to 280 points on "
        "single tasks, so the aggregates decide.",
    ),
    "atari": _RULE.format(
        gaps=" (for aggregates gaps up to 1 percent point count as overlap)",
        least=MIN_SEEDS,
        published="A single game may differ by chance, and moves a mean by hundreds of "
        "percent (James Bond, Video Pinball): the medians and the clipped record mean "
        "decide.",
    ),
}
NORMALISED = (
    "Aggregates are in percent: 100 (score - random) / (reference - random) per game, "
    "of a human gamer or of the human record, seeds averaged first; clipped means that "
    "no game counts above 100%. V2's paper prints factors (2.15 is 215 here). Each "
    "version is normalised by the values of its own paper, which differ for Alien and "
    "James Bond, over its own games ({games})."
)
METRICS = (
    "Two metrics that are not the same: {eval} are means of evaluation episodes, "
    "{train} returns of training episodes."
)

LITE = (
    "Under lite sizes, batches, learning rates and numbers of updates are not those "
    "of the papers: its scores show that the code learns, and are not reproductions of "
    "published numbers, which stand beside them for orientation only."
)


def touch(benchmark: str) -> float:
    """The gap between intervals of a task's scores that still counts as overlap."""
    return TOUCH if tasks.BENCHMARKS[benchmark].family == "dmc" else 0.0


def verdict(
    protocol: str,
    row: Mapping[str, Any],
    started: bool,
    changed: bool = False,
    gap: float = TOUCH,
) -> str:
    """The verdict on one row of a table.

    Args:
      row: version; n and published_n, the numbers of seeds; low, high, published_low
        and published_high, the ends of both intervals.
      started: whether any run has a finished episode.
      changed: whether a run was made with other settings than the protocol's.
      gap: between intervals that still counts as overlap.
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
    if row["low"] > row["published_high"] + gap:
        return "above"
    if row["high"] < row["published_low"] - gap:
        return "below"
    return "reproduced"


def rules(
    points: pd.DataFrame, protocol: str, versions: Sequence[str]
) -> tuple[str, ...]:
    """The sentences under a table that say how scores and verdicts came about."""
    notes = []
    words = {"train": "training", "eval": "evaluation"}
    benchmark = str(points.benchmark.iloc[0])
    kinds = {key[2]: kind for key, kind in scores.reported_kinds(points).items()}
    if protocol != scores.OUTSIDE:
        other = [
            f"{name_of(version)} {words[kind]}"
            for version, kind in kinds.items()
            # Else the protocol's sentence says so.
            if kind != rules_of(benchmark, protocol, version).kind
        ]
        if other:
            notes.append(f"These runs have only other episodes: {', '.join(other)}.")
    notes += [*departures(points), *scoring(benchmark, protocol, versions)]
    for version in versions:
        bins = rules_of(benchmark, protocol, version).bins
        if bins and not rules_of(benchmark, protocol, version).smooth:
            notes.append(
                f"As in the published file, a point of {name_of(version)} is the mean "
                f"over {bins[0]:,} frames."
            )
    family = tasks.BENCHMARKS[benchmark].family
    if family == "atari":
        if len(set(kinds.values())) > 1:
            sides = {
                kind: " and ".join(name_of(v) for v in kinds if kinds[v] == kind)
                for kind in words
            }
            notes.append(METRICS.format(**sides))
        notes.append(NORMALISED.format(games=_games(benchmark)))
    notes.append(INTERVALS)
    judged = any(comparable(protocol, version) for version in versions)
    if judged and family in VERDICTS:
        notes.append(VERDICTS[family])
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


def _games(benchmark: str) -> str:
    """How many games are aggregated, in words."""
    numbers = {
        version: len(tasks.tasks_of(benchmark, protocol))
        for version, protocol in (("v2", "paper"), ("v3", "arxiv_v2"))
        if protocol in tasks.BENCHMARKS[benchmark].tasks
    }
    each = ", ".join(f"{name_of(v)} {number}" for v, number in numbers.items())
    return each if len({*numbers.values()}) > 1 else str(numbers["v3"])


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
