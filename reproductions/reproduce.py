"""`make reproduce`: trains the three versions for a few minutes and compares.

    python -m reproductions.reproduce [--versions=v1,v2,v3] [--task=cartpole_swingup]
        [--steps=25000] [--seeds=1] [--workers=2] [--out=logs/reproduce]

The runs are a small grid under the protocol lite; the same command continues what is
not finished. At the end ten evaluation episodes are played with every agent. The table
is printed and written to table.csv and table.md beside the runs, with an HTML page.
"""

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from absl import app, flags

from dreamer_tf import output
from dreamer_tf.configs import fields
from dreamer_tf.errors import UserError, sentence
from dreamer_tf.files import parse_json, write_atomic
from dreamer_tf.training import checkpoint, logdir, signals
from reproductions import grid, launch, plan, report, rules, summary, tasks, verdicts
from reproductions.board import Board, failures
from reproductions.cells import ROOT, Cell, last_line, make_cells

PROTOCOL, BENCHMARK, EPISODES = "lite", "dmc_proprio", 10


def define_flags() -> None:
    """Defines the script's flags.

    Not done at import, because other scripts have flags of the same names.
    """
    flags.DEFINE_list("versions", list(tasks.VERSIONS), "which Dreamers to train")
    flags.DEFINE_string("task", "cartpole_swingup", "DeepMind Control task")
    number = fields.define_number
    # V3's four environments end their first episodes at 4,000 frames.
    number("steps", 25_000, "budget in environment frames", 4000)
    number("seeds", 1, "runs per version, seeds 0, 1, ...", 1)
    number("workers", 2, "runs at a time, which share the cores", 1)
    fields.define_folder("out", "logs/reproduce", "directory of runs and table")


def evaluate(cell: Cell, out: Path) -> list[float]:
    """Returns of ten episodes with the final agent.

    They are played once; later calls find them in the run's directory.

    Raises:
      UserError: the evaluation failed.
    """
    path = cell.path(out)
    if not (found := evaluated(path)):
        command = [sys.executable, str(ROOT / "run.py"), "evaluate"]
        command += [f"--logdir={path}", f"--episodes={EPISODES}"]
        with open(cell.log(out), "a") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode:
            raise UserError(
                f"The evaluation of {cell} failed: "
                f"{last_line(cell.log(out))} (see {cell.log(out)})"
            )
        found = evaluated(path)
    return found


def evaluated(path: Path) -> list[float]:
    """Scores of the evaluation after training; [] if there is none yet.

    Evaluations with other arguments, made by hand, and those of an earlier state of the
    run do not count.
    """
    file = path / logdir.EVALUATIONS
    lines = file.read_bytes().splitlines() if file.exists() else []
    frames = checkpoint.saved_frames(path / logdir.CHECKPOINTS)
    ours = {"frames": frames, "mode": "eval", "episodes": EPISODES, "seed": 0}
    for line in lines:
        try:
            row = parse_json(line)
            if row.items() >= ours.items() and "length" not in row:
                return [float(score) for score in row["scores"]]
        except (ValueError, TypeError, LookupError, AttributeError):
            continue  # a damaged line: it is played again
    return []


def comparison(cells: Sequence[Cell], out: Path, steps: int) -> pd.DataFrame:
    """`summary.summary_table` with the evaluation after training as one more column."""
    result = summary.summary_table([cell.path(out) for cell in cells], steps)
    after: dict[str, list[float]] = {}
    for cell in cells:
        after.setdefault(cell.version, []).extend(evaluate(cell, out))
    means = {version: pd.Series(found).mean() for version, found in after.items()}
    place = result.columns.get_loc("seeds")
    result.insert(place, "evaluated", result.version.map(means))
    return result


def short_note(result: pd.DataFrame) -> str:
    """What the columns of a comparison are: at most five lines in a terminal."""
    parts = [
        "score: mean return over the last 4% of the frames, of the episodes that the "
        f"papers report; evaluated: mean of {EPISODES} episodes with the final agent; "
        "random: a random policy."
    ]
    if result.reference.notna().any():
        parts.append("reference: the authors' code at the same settings and budget.")
        if result.seeds.min() < verdicts.MIN_SEEDS:
            least = verdicts.MIN_SEEDS
            parts.append(f"Fewer than {least} seeds cannot show agreement.")
    if result.published.notna().any():
        parts.append("published: at the papers' settings, not comparable.")
    if result.score.isna().any():
        parts.append("No score: no episode ended in the last 10% of the frames.")
    return " ".join([*parts, "Settings and rules: table.md."])


def train_and_compare(
    versions: Sequence[str], task: str, steps: int, seeds: int, workers: int, out: Path
) -> int:
    """Trains, evaluates, writes and prints the table; returns the exit code."""
    cells = make_cells(BENCHMARK, versions, [task], range(seeds), PROTOCOL, steps)
    if early := plan.unscored(cells):
        output.warn(early)
    board = Board(retries=0)
    try:
        ended = launch.run(cells, out, launch.Local(workers), 0, board.show)
    finally:
        board.close()
    if failed := failures(ended, out):
        output.warn(f"\n{failed}")
        return 1
    output.say(f"\nPlaying {EPISODES} episodes with each agent.")
    result = comparison(cells, out, steps)
    shown = result.round(1).astype(object).where(result.notna(), "-")
    for name, others in (
        ("published", ["published_frames"]),
        ("reference", ["reference_spread", "reference_seeds"]),
        ("spread", []),  # of a single seed
    ):
        shown.loc[shown[name] == "-", others] = "-"
        if result[name].isna().all():
            shown = shown.drop(columns=[name, *others])
    kinds = ", ".join(
        f"{tasks.name_of(v)} {'evaluation' if k == 'eval' else 'training'}"
        for v in tasks.VERSIONS
        for k in [rules.rule(BENCHMARK, PROTOCOL, v).kind]
        if v in versions
    )
    note = (
        f"score: mean return of the last 4% of {steps:,} frames, over the episodes "
        f"that the papers report ({kinds}); evaluated: mean of {EPISODES} episodes "
        f"with the final agent. The budget is small so that three versions take less "
        f"than 20 minutes on two cores. {result.attrs['footnote']}"
    )
    write_atomic(out / "table.csv", result.to_csv(index=False).encode())
    text = f"{shown.to_markdown(index=False)}\n\n{note}\n"
    write_atomic(out / "table.md", text.encode())
    groups, _ = grid.gather(cells, out)
    page = report.write(groups, out / "report")
    same = ["task", "frames", "protocol"]  # of all rows
    head = f"{task}, {steps:,} frames, protocol {PROTOCOL}"
    output.say(f"\n{head}\n\n{shown.drop(columns=same).to_string(index=False)}\n")
    output.say(f"{textwrap.fill(short_note(result), 88)}\n")
    output.say(f"Table: {out}/table.md\nPage:  {page}")
    return 0


def main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise UserError(f"'{argv[1]}' is not a flag: write --name=value.")
        f = flags.FLAGS
        out = Path(f.out).absolute()
        return train_and_compare(f.versions, f.task, f.steps, f.seeds, f.workers, out)
    except (UserError, OSError) as error:
        output.warn(f"reproductions.reproduce: {sentence(error)}")
        return launch.USER_ERROR
    except KeyboardInterrupt as stop:
        output.warn("Interrupted; the same command goes on.")
        return 128 + signals.number(stop)


if __name__ == "__main__":
    define_flags()
    with output.protected(), signals.raised():
        app.run(main, flags_parser=fields.parser("reproductions.reproduce"))
