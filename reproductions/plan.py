"""What a grid would cost, for `--dry_run`; nothing is run or written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dreamer_tf.configs import presets
from dreamer_tf.training.schedules import Progress, make_schedule
from reproductions import board, scores, tasks
from reproductions.cells import Cell, is_done

_XEON = "two cores of an Intel Xeon, no GPU, median of 3 to 5 updates, acting left out"
_A100 = "an estimate: one A100, from the GPU days that the paper prints; not measured"
_V100 = "an estimate: one V100, from 'less than ten days' in the paper; not measured"
_LITE = "one core of an AMD EPYC, no GPU, the fastest run of results/runs/lite"

# (version, benchmark, protocol) -> seconds per update, and how they were measured:
# acting is included unless it says otherwise. What is not in here is printed as "not
# measured".
SECONDS_PER_UPDATE: dict[tuple[str, str, str], tuple[float, str]] = {
    ("v1", "dmc_proprio", "lite"): (0.058, f"{_LITE}/v1"),
    ("v2", "dmc_proprio", "lite"): (0.067, f"{_LITE}/v2"),
    ("v3", "dmc_proprio", "lite"): (0.027, f"{_LITE}/v3"),
    ("v1", "dmc_vision", "lite"): (0.154, f"{_LITE}/v1"),
    ("v2", "dmc_vision", "lite"): (0.119, f"{_LITE}/v2"),
    ("v3", "dmc_vision", "lite"): (0.132, f"{_LITE}/v3"),
    ("v1", "dmc_proprio", "paper"): (2.61, _XEON),
    ("v2", "dmc_proprio", "paper"): (2.26, _XEON),
    ("v3", "dmc_proprio", "nature"): (0.431, _XEON),
    ("v3", "dmc_proprio", "arxiv_v2"): (3.40, _XEON),
    ("v1", "dmc_vision", "paper"): (5.99, _XEON),
    ("v2", "dmc_vision", "paper"): (4.62, _XEON),
    ("v3", "dmc_vision", "arxiv_v2"): (7.36, _XEON),
    # 7.7 and 0.1 days, 10 days.
    ("v3", "atari", "arxiv_v2"): (0.43, _A100),
    ("v3", "atari", "nature"): (0.43, _A100),
    ("v3", "atari100k", "arxiv_v2"): (0.35, _A100),
    ("v3", "atari100k", "nature"): (0.35, _A100),
    ("v2", "atari", "paper"): (0.28, _V100),
}
# Updates of longer runs are not counted one by one.
COUNTED = 5_000_000


def costs(cells: Sequence[Cell], out: Path) -> str:
    """A table with one row per version and protocol, and what its columns mean.

    Args:
      out: directory of the grid, where finished cells are counted.
    """
    rows, known_hours = [], 0.0
    kinds: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        key = (cell.version, cell.benchmark, cell.protocol)
        kinds.setdefault(key, []).append(cell)
    for key, alike in kinds.items():
        settings, agent = presets.load(*key)
        # Of the longest run, and as many of these as all runs together are.
        frames = max(cell.frames for cell in alike)
        count = sum(cell.frames for cell in alike) / frames
        updates = _updates(key[0], settings, agent, frames)
        seconds = SECONDS_PER_UPDATE.get(key)
        hours = seconds[0] * updates / 3600 if seconds else None
        known_hours += (hours or 0.0) * count
        rows.append(
            {
                "version": key[0],
                "protocol": key[2],
                "cells": len(alike),
                "done": sum(is_done(cell, out) for cell in alike),
                "frames": f"{frames:,}",
                "decisions": f"{frames // settings.repeat:,}",
                "updates": f"{updates:,}",
                "updates in all": f"{round(updates * count):,}",
                "replay GB": f"{settings.replay_gb:g}",
                "s/update": f"{seconds[0]:.3f}" if seconds else "not measured",
                "hours": f"{hours:.1f}" if hours else "-",
            }
        )
    measured = [key for key in kinds if key in SECONDS_PER_UPDATE]
    all_frames = sum(cell.frames for cell in cells)
    lines = [
        pd.DataFrame(rows).to_string(index=False),
        "",
        "Frames, decisions, updates and hours are per cell, of the longest if they "
        "differ; replay GB is the most that a run takes.",
        f"{board.number_of_cells(len(cells))}, {all_frames:,} frames; below {out}.",
    ]
    if measured:
        rest = "" if len(measured) == len(kinds) else " without what is not measured"
        lines += [
            f"{board.duration(known_hours * 3600)} one after the other{rest}, and up "
            "to a minute each to start;",
            "s/update:",
        ]
        lines += [f"  {k[0]} {k[2]}: {SECONDS_PER_UPDATE[k][1]}" for k in measured]
    return "\n".join(lines)


def unscored(cells: Sequence[Cell]) -> str:
    """A sentence about runs whose budget ends before a score; "" if all get one.

    They get none if no episode that counts ends late enough in the budget, by the rule
    of `scores.budget_scores`.
    """
    # BSuite's scores need no more than one episode.
    cells = [cell for cell in cells if cell.benchmark != "bsuite"]
    alike = {(c.version, c.benchmark, c.protocol, c.frames) for c in cells}
    budgets = [f"--steps={frames}" for frames in sorted({c.frames for c in cells})]
    missing = []
    for version, benchmark, protocol, frames in sorted(alike):
        points = _points(version, benchmark, protocol, 2 * frames + 200_000)
        ends = np.sort(scores.reported_points(points).frames.unique())
        if not _has_score(points, frames):
            later = (n for n in ends[ends > frames] if _has_score(points, n))
            found = next(later, None)
            more = f" ({found:,})" if found else ""
            missing.append(f"{tasks.name_of(version)}{more}")
    if not missing:
        return ""
    return (
        f"With {' or '.join(budgets)} these will have no score at the end (in brackets "
        f"the next budget with one): {', '.join(missing)}."
    )


def _has_score(points: pd.DataFrame, budget: int) -> bool:
    return len(scores.budget_scores(points[points.frames <= budget], budget)) > 0


def _points(version: str, benchmark: str, protocol: str, end: int) -> pd.DataFrame:
    """The episodes of a run that count, all with score 0.

    Args:
      end: frames of the run.
    """
    settings, agent = presets.load(version, benchmark, protocol)
    schedule, progress = make_schedule(version, agent), Progress()
    length = tasks.BENCHMARKS[benchmark].episode
    while schedule.random(progress):
        progress.decisions += 1
        progress.frames += settings.repeat
        progress.episodes = progress.frames // length
        progress.finished_frames = progress.episodes * length
    # Evaluations begin, and training episodes count, when actions are no longer random.
    first, each = progress.frames, length * settings.envs
    frames = {"train": [n for n in range(each, end + 1, each) if n > first]}
    if settings.eval_every:
        frames["eval"] = [*range(first, end + 1, settings.eval_every)]
    rows = [(n, kind, 0.0) for kind, ends in frames.items() for n in ends]
    cell = dict(zip(scores.CELL, (benchmark, protocol, version, "")))
    table = pd.DataFrame(rows, columns=["frames", "kind", "score"])
    return table.assign(**cell, seed=0)


def _updates(version: str, settings: Any, agent: Any, frames: int) -> int:
    """`count_updates`, of long runs from the rate at which updates come in the end."""
    if frames <= COUNTED:
        return count_updates(version, settings, agent, frames)
    half, whole = (
        count_updates(version, settings, agent, n) for n in (COUNTED // 2, COUNTED)
    )
    return whole + round((whole - half) * (frames - COUNTED) / (COUNTED // 2))


def count_updates(version: str, settings: Any, agent: Any, frames: int) -> int:
    """Updates of a run of so many frames, counted by the version's own schedule.

    Args:
      settings: the run's `RunConfig`.
      agent: the version's `Config`.
    """
    schedule, progress = make_schedule(version, agent), Progress()
    known = tasks.BENCHMARKS.get(settings.benchmark)
    episode = known.episode if known else 1000
    length = episode // settings.repeat  # decisions of an episode
    total, step = 0, 0
    while progress.frames < frames:
        place = step % (length + 1)  # the first record of an episode has no action
        for _ in range(settings.envs):
            progress.records += 1
            if place:
                progress.decisions += 1
                progress.frames += settings.repeat
            if place == length:
                progress.episodes += 1
                progress.finished_frames += length * settings.repeat
            # What can be sampled from replay: windows in V3, episodes in V1 and V2.
            if version == "v3":
                window = agent.batch_length + agent.replay_context
                progress.items += step + 1 >= window
            else:
                progress.items = progress.episodes
            total += schedule.updates(progress)
        step += 1
    return total
