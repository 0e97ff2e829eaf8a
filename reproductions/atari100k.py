r"""Atari100k: 26 games with 400K frames (100K decisions) each, DreamerV3.

    python -m reproductions.atari100k --tasks=road_runner --seeds=1 --dry_run
    python -m reproductions.atari100k --seeds=5 --workers=2

Each run is a directory below --out (default logs/atari100k). The same command continues
what is not finished. At the end it writes the report of the finished runs. --dry_run
only lists runs, updates, hours and the memory of replay. The games need ale-py
(requirements-atari.txt).

Published at the end of the budget, recomputed from the authors' score files, in percent
of a human gamer:

                    median    mean
    V3 (arxiv_v2)       49     125
    V3 of arXiv v1      49     112    (not a protocol of this suite)

The published arxiv_v2 runs very probably had sticky actions, although the paper names
the protocol without them; the protocol does as the runs did, and --env_args=sticky=0 of
run.py as the paper says. A score is the mean of the episodes that end in the last 10K
frames, so a seed whose last episode ends earlier has none.

What one run takes. The hours are estimates, and were not measured here: from the 0.1
days on one A100 that the paper prints, from what a user reports for one L4, and for two
CPU cores by scaling times per update that were measured at smaller sizes:

    V3 (arxiv_v2)   25K updates    2.4 hours on an A100, 8 hours on an L4,
                                   38 days on two CPU cores; replay 6 GB

All 26 games with five seeds take about 13 days of one A100 at 2.4 hours. No such run
was made yet.
"""

import sys

from reproductions import grid

if __name__ == "__main__":
    sys.exit(grid.main("atari100k", __doc__, sys.argv[1:]))
