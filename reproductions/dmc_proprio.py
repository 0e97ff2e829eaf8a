r"""DeepMind Control from vectors: the 18 tasks of arXiv 2301.04104v2, table 11.

    python -m reproductions.dmc_proprio --versions=v1,v2,v3 --seeds=5 --workers=2

Each run is a directory below --out (default logs/dmc_proprio); the same command goes
on with what is not finished, and ends with the report of what is. --dry_run lists
runs, updates and the memory of replay first.

Published at the end of the budget, mean and median over tasks:

    V3 (arxiv_v2)   500K frames   754   871
    V1, V2 (paper)  500K frames   nothing published: the budget is V3's

Runs at these sizes have not been timed on a GPU, nor to their end anywhere; --dry_run
counts their updates. A few minutes instead, with small networks whose scores are no
reproduction:

    python -m reproductions.dmc_proprio --protocol=lite --tasks=cartpole_swingup \
        --seeds=3

took 10 to 17 (V1), 16 to 18 (V2) and 7 (V3) minutes and up to 2.5 GB per run on two
busy cores of an AMD EPYC, and scored 422, 403 and 381 (results/runs/lite).
"""

import sys

from reproductions import grid

if __name__ == "__main__":
    sys.exit(grid.main("dmc_proprio", __doc__, sys.argv[1:]))
