"""How fast Atari's environments are: `python -m benchmarks.atari`.

Decisions of four frames per second of CPU time, with random actions, for each paper's
wrapper: in a row of episodes that go on with the emulator's random numbers, and of
episodes with a seed each, as training has them, which load the game anew. The best of
several runs, as other programs slow a run down. Needs requirements-atari.txt.
"""

import argparse
import time

import numpy as np

from dreamer_tf.envs.atari import Atari

SMALL_RGB = {"gray": False, "actions": "minimal"}
WRAPPERS = {  # size and arguments
    "v2": (64, {"pooling": "v2", "noops": "1-30", "limit_terminal": False}),
    "v3 100k": (64, SMALL_RGB),
    "v3 200M": (96, {}),
}


def measure(env: Atari, decisions: int, seeded: bool) -> float:
    """Decisions per second of CPU time."""
    count = len(env.actions)
    random = np.random.default_rng(0)
    actions = np.eye(count, dtype=np.float32)[random.integers(count, size=decisions)]
    env.reset(0)
    start = time.process_time()
    for number, action in enumerate(actions, 1):
        if env.step(action)["is_last"]:
            env.reset(number if seeded else None)
    return decisions / (time.process_time() - start)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.atari")
    parser.add_argument("--games", default="pong,breakout,seaquest")
    parser.add_argument("--decisions", type=int, default=1000, help="of one run")
    parser.add_argument("--repeats", type=int, default=5, help="runs, the best counts")
    args = parser.parse_args()
    print(
        "| game | wrapper | decisions per CPU second | with seeds |\n|---|---|---|---|"
    )
    for game in args.games.split(","):
        for name, (size, env_args) in WRAPPERS.items():
            env = Atari(game, size=size, env_args=env_args)
            best = [
                max(measure(env, args.decisions, seeded) for _ in range(args.repeats))
                for seeded in (False, True)
            ]
            print(f"| {game} | {name} | {best[0]:.0f} | {best[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
