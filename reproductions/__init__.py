"""The papers' benchmarks: what is run, and what came out.

`tasks` and `protocols` say what is run, `scores` reads results from files and
scores them by the published rule, `stats` holds the statistics, and `report`
turns all of it into tables, plots and one page.  Nothing here needs a backend.
"""
