"""The papers' benchmarks: what is run, and what came out.

What is run: `tasks`, `protocols`. Running it: `dmc_proprio`, `dmc_vision` and
`reproduce` are commands; `grid` is what the first two do, with `cells`, `launch`,
`cluster`, `board` and `plan`. What came out: `collect` gathers finished runs, `scores`
reads and scores them by the published rule, `stats`, `tables` and `verdicts` compare
them with the published scores, and `reference` with runs at the same settings, such as
the authors' code (`agreement` is a command for that alone). `report` writes tables,
`plots` and one `page`.
"""
