r"""BSuite: 23 experiments about one ability each, arXiv 1908.03568, without pictures.

    python -m reproductions.bsuite --versions=v3 --seeds=1 --workers=2 \
        --tasks=catch_0,bandit_0

Each run is a directory below --out (default logs/bsuite). The same command continues
what is not finished. At the end it writes the report of the finished runs, and
OUT/bsuite: the scores of the experiments, the tags, the means and the radar plot.
--dry_run only lists runs, updates, hours and the memory of replay. Other runs:
`python -m reproductions.bsuite_report LOGDIR`; the printed numbers alone:
`python -m reproductions.bsuite_report --published`.

A task is one of 468 configurations, such as catch_0 (bsuite's catch/0). The whole suite
is without --tasks: the 408 that need no download; the 60 of mnist are run only if they
are named and their files are there. The package comes with requirements-bsuite.txt.

A budget is a number of episodes, 1,000 or 10,000, from the first of which regret
counts. A run ends after as many frames as the longest of them take: 10,000 (bandits) to
1,010,000. Only cartpoles and mountain cars end episodes early; later ones are not
scored.

Published (arXiv 2301.04104v2, table 13), percent, mean over tasks and over categories:

    DreamerV3   66   63        AC RNN   32   30
    Boot DQN    60   57        PPO      49   47
    DQN         54   49        random    3    3

DreamerV3's are of 10 seeds, half a day each on an A100, at train ratio 1024: an update
of size200m per step of the environment. No such run was made here yet.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from reproductions import bsuite_report, grid
from reproductions.cells import Cell


def tell(cells: Sequence[Cell], out: Path) -> str:
    """Writes the reports of finished runs; returns the text to print."""
    paths = [cell.path(out) for cell in cells]
    return "\n\n".join(
        [grid.tell(cells, out), bsuite_report.report(paths, out / "bsuite")]
    )


if __name__ == "__main__":
    sys.exit(grid.main("bsuite", __doc__, sys.argv[1:], tell))
