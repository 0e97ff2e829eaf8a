r"""Crafter: 22 achievements in one world, arXiv 2109.06780, 1M frames.

    python -m reproductions.crafter --versions=v2,v3 --seeds=5 --workers=2

Each run is a directory below --out (default logs/crafter). The same command continues
what is not finished. At the end it writes the report of the finished runs, and
OUT/crafter: the scores, the 22 success rates and their plot. --dry_run only lists runs,
updates, hours and the memory of replay. Other runs: `python -m
reproductions.crafter_report LOGDIR`. The package comes with
requirements-crafter.txt; without numba a new world takes 2 seconds instead of 0.1.

Published after 1M frames, percent, mean and standard deviation over seeds:

    people                     50.5 +- 6.8
    DreamerV3 (arXiv v1)       14.5 +- 1.6    arXiv v2 and Nature print no number
    DreamerV2                  10.0 +- 1.2
    random policy               1.6 +- 0.0

The score is a geometric mean of success rates (`crafter_score`). The published
"reward" is of one episode per seed and is not compared. Acting takes 4 ms per decision
more than on vectors; what a run costs is that of its updates, which --dry_run knows.
No such run was made here yet.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from reproductions import crafter_report, grid
from reproductions.cells import Cell


def tell(cells: Sequence[Cell], out: Path) -> str:
    """Writes the reports of finished runs; returns the text to print."""
    paths = [cell.path(out) for cell in cells]
    return "\n\n".join(
        [grid.tell(cells, out), crafter_report.report(paths, out / "crafter")]
    )


if __name__ == "__main__":
    sys.exit(grid.main("crafter", __doc__, sys.argv[1:], tell))
