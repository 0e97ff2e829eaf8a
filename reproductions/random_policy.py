"""Scores of uniformly random actions, the lower reference of every table.

    python -m reproductions.random_policy [--episodes=100] [--workers=2]

Writes results/published/random.csv: every DeepMind Control task at every action repeat
of the protocols, because the score of a random policy depends on the action repeat.
"""

import functools
import itertools
import multiprocessing

import numpy as np
import pandas as pd
from absl import app, flags

from dreamer_tf.configs import fields
from dreamer_tf.envs import make_env
from dreamer_tf.files import write_atomic
from reproductions import names, published

REPEATS = (1, 2, 4)


def play(cell: tuple[str, int], episodes: int) -> dict[str, object]:
    """Statistics of the returns of `episodes` episodes of (task, action repeat)."""
    task, repeat = cell
    env = make_env(task, repeat=repeat)
    returns = []
    for number in range(episodes):
        rng = np.random.default_rng([number, repeat])
        record, total = env.reset(seed=number), 0.0
        while not record["is_last"]:
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            record = env.step(action)
            total += float(record["reward"])
        returns.append(total)
    env.close()
    row: dict[str, object] = {"task": task, "repeat": repeat, "episodes": episodes}
    found = pd.Series(returns)
    return row | {k: found.agg(k) for k in ("mean", "std", "min", "max")}


def main(argv: list[str]) -> None:
    f = flags.FLAGS
    cells = list(itertools.product(names.DMC_VISION, REPEATS))
    with multiprocessing.get_context("spawn").Pool(f.workers) as pool:
        rows = pool.map(functools.partial(play, episodes=f.episodes), cells, 1)
    text = pd.DataFrame(rows).round(2).to_csv(index=False)
    write_atomic(published.FOLDER / "random.csv", text.encode())


if __name__ == "__main__":
    fields.define_number("episodes", 100, "per task and action repeat", 1)
    fields.define_number("workers", 2, "processes", 1)
    app.run(main, flags_parser=fields.parser("reproductions.random_policy"))
