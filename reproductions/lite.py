"""`make reproduce`: trains the versions for a few minutes and compares.

    python -m reproductions.lite [--versions=v3] [--task=cartpole_swingup]
        [--steps=50000] [--seeds=1] [--out=logs/reproduce]

Each run is a directory below --out; the same command goes on with those that are
not finished. At the end it plays ten evaluation episodes with every agent, prints
the table, and writes it to table.csv and table.md beside the runs.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from absl import app, flags

from dreamer_tf.errors import UserError
from reproductions import report, tasks

ROOT = Path(__file__).parent.parent
PROTOCOL, BENCHMARK, EPISODES = "lite", "dmc_proprio", 10

flags.DEFINE_list("versions", ["v3"], "which Dreamers to train")
flags.DEFINE_string("task", "cartpole_swingup", "DeepMind Control task")
flags.DEFINE_integer("steps", 25_000, "budget in environment frames", 1000)
flags.DEFINE_integer("seeds", 1, "runs per version, seeds 0, 1, ...", 1)
flags.DEFINE_string("out", "logs/reproduce", "directory of runs and table")


def run(version: str, task: str, seed: int, steps: int, out: Path) -> Path:
    """Trains one agent and evaluates it; returns the run's directory."""
    path = out / f"{version}-{task}-{seed}"
    train = ["train", f"--version={version}", f"--benchmark={BENCHMARK}"]
    train += [f"--protocol={PROTOCOL}", f"--task={task}", f"--seed={seed}"]
    _call([*train, f"--steps={steps}", f"--logdir={path}"])
    if not evaluated(path):
        _call(["evaluate", f"--logdir={path}", f"--episodes={EPISODES}"])
    return path


def evaluated(path: Path) -> list[float]:
    """Scores of the evaluation after training, empty if it was not made."""
    scores = pd.read_csv(path / "scores.csv")
    last = scores[(scores.kind == "eval_cmd") & (scores.frames == scores.frames.max())]
    return last.score.tolist()


def table(paths: dict[str, list[Path]], steps: int) -> pd.DataFrame:
    """The suite's summary with the evaluation after training as a further column."""
    result = report.summary_table([p for ps in paths.values() for p in ps], steps)
    after = {
        v: pd.Series([s for p in ps for s in evaluated(p)]).mean()
        for v, ps in paths.items()
    }
    place = result.columns.get_loc("seeds")
    result.insert(place, "evaluated", result.version.map(after))
    return result


def _call(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments])
    if done.returncode:
        raise UserError(
            f"run.py {arguments[0]} ended with exit code {done.returncode}; what it "
            "says stands above, and the same command goes on from there."
        )


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise UserError(f"'{argv[1]}' is not a flag: write --name=value.")
    f = flags.FLAGS
    for version in f.versions:
        if version not in tasks.VERSIONS:
            raise UserError(
                f"--versions has '{version}'; choose from {', '.join(tasks.VERSIONS)}."
            )
    out = Path(f.out)
    paths = {
        version: [run(version, f.task, seed, f.steps, out) for seed in range(f.seeds)]
        for version in f.versions
    }
    result = table(paths, f.steps)
    shown = result.round(1)
    note = (
        f"score: returns as in the papers' tables (V1: evaluation episodes, V2 and "
        f"V3: training episodes); evaluated: mean of {EPISODES} episodes with the "
        f"final agent. {result.attrs['footnote']}"
    )
    result.to_csv(out / "table.csv", index=False)
    (out / "table.md").write_text(f"{shown.to_markdown(index=False)}\n\n{note}\n")
    print(f"\n{shown.to_string(index=False)}\n\n{note}\n\nWritten: {out}/table.md")
    return 0


def _main(argv: list[str]) -> int:
    try:
        return main(argv)
    except UserError as error:
        print(f"reproductions.lite: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    app.run(_main)
