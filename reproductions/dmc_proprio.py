r"""DeepMind Control from vectors: the 18 tasks of arXiv 2301.04104v2, table 11.

    python -m reproductions.dmc_proprio --versions=v1,v2,v3 --seeds=5 --workers=2

Each run is a directory below --out (default logs/dmc_proprio). The same command
continues what is not finished. At the end it writes the report of the finished runs.
--dry_run only lists runs, updates, hours and the memory of replay.

Published at the end of the budget, mean and median over tasks:

    V3 (arxiv_v2)   500K frames   754   871
    V1, V2 (paper)  500K frames   nothing published: the budget is V3's

What one run takes on two cores of an Intel Xeon without a GPU: its time is the number
of updates times the median time of three to five updates at full size (acting takes
about 4 ms per decision more); its memory is that of the process after these updates
plus the full replay:

    V1 (paper)      49,601 updates of 2.6 s     36 hours    3.5 GB
    V2 (paper)      49,901 updates of 2.3 s     31 hours    2.9 GB
    V3 (arxiv_v2)   124,233 updates of 3.4 s    117 hours   6.5 GB
    V3 (nature)     998,961 updates of 0.43 s   120 hours   5.5 GB, 1M frames

None of these runs was made to its end, and nothing was timed on a GPU. With the small
networks of lite, whose scores are no reproduction, a run takes a few minutes:

    python -m reproductions.dmc_proprio --protocol=lite --tasks=cartpole_swingup \
        --seeds=3

took 6 to 9 (V1), 8 to 10 (V2) and 7 to 16 (V3, five seeds) minutes on one core of an
AMD EPYC that also did other work, and scored 447, 353 and 431 (results/runs/lite).
"""

import sys

from reproductions import grid

if __name__ == "__main__":
    sys.exit(grid.main("dmc_proprio", __doc__, sys.argv[1:]))
