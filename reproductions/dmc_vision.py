"""DeepMind Control from images: the 20 tasks of all three papers.

    python -m reproductions.dmc_vision --versions=v1,v2,v3 --seeds=5 --workers=2

Each run is a directory below --out (default logs/dmc_vision). The same command
continues what is not finished. At the end it writes the report of the finished runs.
--dry_run only lists runs, updates, hours and the memory of replay.

Published at the end of the budget, mean and median over tasks, recomputed from the
authors' score files:

    V1 (paper)      5M frames     800   861   (the paper prints a mean of 823)
    V2 (paper)      2M frames     787   846
    V3 (arxiv_v2)   1M frames     786   861

What one run takes on two cores of an Intel Xeon without a GPU: its time is the number
of updates times the median time of three updates at full size (acting takes about 5 ms
per decision and the rendering more); its memory is that of the process after these
updates plus the full replay:

    V1 (paper)      499,601 updates of 6.0 s    35 days    36 GB
    V2 (paper)      199,901 updates of 4.6 s    11 days    15 GB
    V3 (arxiv_v2)   249,481 updates of 7.4 s    21 days    18 GB

V3 (nature, 200M parameters) was not timed, and nothing was timed on a GPU. None of
these runs was made to its end. Images need OpenGL (see docs/train.md).
"""

import sys

from reproductions import grid

if __name__ == "__main__":
    sys.exit(grid.main("dmc_vision", __doc__, sys.argv[1:]))
