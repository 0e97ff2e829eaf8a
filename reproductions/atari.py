r"""Atari at 200M frames: DreamerV2's 55 games and DreamerV3's 57.

    python -m reproductions.atari --versions=v3 --tasks=pong,breakout --seeds=1 \
        --dry_run

Each run is a directory below --out (default logs/atari). The same command continues
what is not finished. At the end it writes the report of the finished runs. --dry_run
only lists runs, updates, hours and the memory of replay. The games need ale-py
(requirements-atari.txt).

Published at the end of the budget, recomputed from the authors' score files, in percent
of a human gamer, and of the human record (which V3's paper does not print):

                    median    mean    record, clipped    record
    V2 (paper)         215    1133                 28        44    55 games
    V3 (arxiv_v2)      830    3381                                 57 games

V2 counts evaluation episodes, V3 training episodes, and each paper has reference values
of its own: the rows are not to be compared with each other.

What one run takes. The times are estimates from what the papers print, on their
hardware, and were not measured here:

    V2 (paper)      3.1M updates    less than 10 days on one V100    replay 9 GB
    V3 (arxiv_v2)   1.6M updates    7.7 days on one A100             replay 252 GB

On two CPU cores a run would take years; no such run was made. --protocol=lite plays
2,000 frames: it shows that a run works, and learns nothing.
"""

import sys

from reproductions import grid

if __name__ == "__main__":
    sys.exit(grid.main("atari", __doc__, sys.argv[1:]))
