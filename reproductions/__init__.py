"""The papers' benchmarks: what is run, and what came out.

`tasks` and `protocols` say what is run, `scores` reads results from files and
scores them by the published rule, `stats` holds the statistics, `tables` sets our
runs beside the published ones, and `report` writes tables, plots and one page.
"""
