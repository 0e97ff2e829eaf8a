"""DeepMind Control from images: the 20 tasks of all three papers.

    python -m reproductions.dmc_vision --versions=v1,v2,v3 --seeds=5 --workers=2

Each run is a directory below --out (default logs/dmc_vision); the same command goes
on with what is not finished, and ends with the report of what is. --dry_run lists
runs, updates and the memory of replay first.

Published at the end of the budget, mean and median over tasks, recomputed from the
authors' score files:

    V1 (paper)      5M frames     800   861   (the paper prints a mean of 823)
    V2 (paper)      2M frames     787   846
    V3 (arxiv_v2)   1M frames     786   861

Runs at these sizes have not been timed yet. Images need OpenGL (see the README).
"""

import sys

from reproductions import grid

if __name__ == "__main__":
    sys.exit(grid.main("dmc_vision", __doc__, sys.argv[1:]))
