"""The cells of a grid (version x task x seed), and what their directories say of them.

How far a cell is, is read from its run directory alone. So the same command continues
a grid after any crash, and several processes can work on one grid.
"""

import dataclasses
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dreamer_tf.errors import UserError
from dreamer_tf.files import parse_json
from dreamer_tf.training import checkpoint, logdir, score_rows
from reproductions import rules, tasks

ROOT = Path(__file__).parent.parent
WAITING, RUNNING, ELSEWHERE = "waiting", "running", "elsewhere"
DONE, FAILED = "done", "failed"
SAVING, ENDING = "saving…", "ending"  # once the grid is interrupted
RECENT = 5  # a status shows the mean of this many most recent scores


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    version: str
    benchmark: str
    protocol: str
    task: str
    seed: int
    frames: int  # its budget

    def __str__(self) -> str:
        return f"{self.version} {self.task} {self.seed}"

    def path(self, out: Path) -> Path:
        """The run's directory below the grid's directory `out`."""
        places = (self.protocol, self.benchmark, self.version, self.task)
        return out.joinpath(*places, str(self.seed))

    def log(self, out: Path) -> Path:
        """The file for what the run prints.

        It lies beside the run's directory, because a directory with a foreign file in
        it is not accepted for a new run.
        """
        return self.path(out).with_suffix(".log")

    def command(self, out: Path) -> list[str]:
        """The command line that starts or continues the run."""
        return [
            sys.executable,
            str(ROOT / "run.py"),
            "train",
            f"--version={self.version}",
            f"--benchmark={self.benchmark}",
            f"--protocol={self.protocol}",
            f"--task={tasks.flag_of(self.task, self.benchmark)}",
            f"--seed={self.seed}",
            f"--steps={self.frames}",
            f"--logdir={self.path(out)}",
        ]


@dataclasses.dataclass
class Status:
    """What is known of a cell at present."""

    state: str = WAITING
    frames: int = 0
    score: float | None = None  # mean of the RECENT scores of the reported kind
    speed: float | None = None  # frames per second, as the run logged it most recently
    crashes: int = 0  # since this grid was started
    reason: str = ""  # why it crashed, failed, or has to wait


def protocols_of(benchmark: str, version: str) -> list[str]:
    """The protocols of a version; the one of its published scores comes first."""
    budgets = tasks.BENCHMARKS[benchmark].frames
    names = [name for name in budgets if version in budgets[name]]
    return sorted(names, key=lambda name: name not in tasks.PUBLISHED_UNDER[version])


def make_cells(
    benchmark: str,
    versions: Sequence[str],
    names: Sequence[str],
    seeds: Iterable[int],
    protocol: str = "",
    steps: int | None = None,
) -> list[Cell]:
    """The cells in the order of their seeds.

    All tasks of one seed come before the next seed, so that an unfinished grid already
    has whole tables of fewer seeds.

    Args:
      names: tasks in any spelling; empty: all of the protocol.
      protocol: for all versions; empty: each version's published protocol.
      steps: budget in frames; None: the protocol's.

    Raises:
      UserError: an unknown name, or a protocol that a version lacks.
    """
    known = {v: protocols_of(benchmark, v) for v in tasks.VERSIONS}
    ours = tasks.versions_of(benchmark)
    chosen = [tasks.check_task(name, "--tasks", benchmark) for name in names]
    cells = []
    for seed in seeds:
        for task in tasks.BENCHMARKS[benchmark].every:
            for version in versions:
                tasks.check_version(version, "--versions")
                name = protocol or next(iter(known[version]), "")
                if not name:
                    raise UserError(
                        f"--versions names {version}, which has no protocol on "
                        f"{benchmark}; valid are {', '.join(ours)}."
                    )
                if name not in known[version]:
                    have = "; ".join(f"{v}: {', '.join(known[v])}" for v in ours)
                    raise UserError(
                        f"--protocol={name} does not exist for {version}; there are "
                        f"{have}."
                    )
                if task not in (chosen or tasks.tasks_of(benchmark, name)):
                    continue
                budget = tasks.frames_of(benchmark, name, version, task)
                cells.append(
                    Cell(version, benchmark, name, task, seed, steps or budget)
                )
    return list(dict.fromkeys(cells))


# --- What the files say -----------------------------------------------------


def look(cell: Cell, out: Path, status: Status) -> None:
    """Reads frames, speed and score of a run, whichever process is running it."""
    path = cell.path(out)
    status.frames = 0
    for line in reversed(_tail(path / "metrics.jsonl")):
        try:
            row = parse_json(line)
        except ValueError:
            continue  # the first line may lack its beginning
        if not isinstance(row, dict) or "updates" not in row:
            continue
        if isinstance(row.get("frames"), int):
            status.frames = row["frames"]
            speed = row.get("machine/frames_per_second")
            learning = isinstance(speed, float) and row["updates"]
            status.speed = speed if learning else status.speed
            break
    rule = rules.rule(cell.benchmark, cell.protocol, cell.version)
    status.score = _score(rule.kind, path / "scores.csv")


def is_done(cell: Cell, out: Path) -> bool:
    """Whether the run has a checkpoint at the end of its budget."""
    saved = checkpoint.saved_frames(cell.path(out) / logdir.CHECKPOINTS)
    return saved >= cell.frames


def settle(cell: Cell, out: Path, status: Status) -> None:
    """Sets the status, from its files, of a cell that this grid is not running."""
    look(cell, out, status)
    holder = logdir.holder(cell.path(out))
    if is_done(cell, out):
        status.state, status.reason = DONE, ""
    elif holder is not None:
        status.state, status.reason = ELSEWHERE, f"process {holder} has it"
    else:
        status.state, status.reason = WAITING, status.reason if status.crashes else ""


def last_line(log: Path) -> str:
    """The last line that a run has printed."""
    lines = [line for line in _tail(log) if line.strip()]
    if not lines or lines[-1].startswith("$ "):
        return "it printed nothing"
    return lines[-1].strip().removeprefix("run.py: ")


def _score(kind: str, file: Path) -> float | None:
    found: dict[str, list[float]] = {}
    for line in _tail(file):
        row = score_rows.read(line)
        if row and row.mode in ("train", "eval"):
            found.setdefault(row.kind, []).append(row.score)
    recent = (found.get(kind) or found.get("train") or [])[-RECENT:]
    return statistics.fmean(recent) if recent else None


def _tail(file: Path, size: int = 32_768) -> list[str]:
    """The complete lines in the last `size` bytes; [] if there is no such file.

    Of the first line the beginning may be missing.
    """
    try:
        with open(file, "rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - size))
            text = opened.read().decode(errors="replace")
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
