"""The published scores of a benchmark as tables: for the page, and for files."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from dreamer_tf.configs import bsuite
from reproductions import normalise, plots, published, rules, tasks, texts

# Other sets of runs of the Dreamers, which come last.
VARIANTS = (
    "dreamerv3_2023",
    "dreamerv2_schedules",
    "dreamerv2_seedset2",
    "dreamerv2_2020",
)
MARK = "*"  # of methods whose scores are of evaluation episodes


_EMPTY = pd.DataFrame(columns=["method", "budget", "mean", "median"])


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of published scores."""

    stem: str  # of its files
    title: str
    first: str  # what its rows are
    wide: pd.DataFrame  # a column per method; statistics over tasks at the end
    footer: Sequence[str]  # the rows that are such statistics
    totals: pd.DataFrame  # method, budget, mean, median; may be empty
    shown: str  # which of the two the page shows
    totals_title: str
    told: str  # the title of the same table in a terminal
    notes: Sequence[str]
    number: Callable[[float], str]  # how a score is written
    beside: Sequence[str] = ()  # columns that are no method: the best is not marked


def sheets(benchmark: str) -> list[Sheet]:
    """The published tables of a benchmark; [] if nothing was published."""
    family = tasks.BENCHMARKS[benchmark].family
    made = {"dmc": _dmc, "atari": _atari, "crafter": _crafter, "bsuite": _bsuite}
    return made[family](benchmark) if family in made else []


# --- DeepMind Control -------------------------------------------------------


def published_table(benchmark: str, budget: int) -> pd.DataFrame:
    """Published scores, a row per task and a column per method.

    The two rows at the end are the task mean and median of the methods that have every
    task.
    """
    wide = _means(benchmark, budget)
    # The paper has 18 proprio tasks; the two more of other methods are not averaged.
    core = list(tasks.tasks_of(benchmark, "arxiv_v2"))
    inside = wide.reindex(core)
    whole = inside.notna().all()
    wide.loc["task mean"] = inside.mean().where(whole)
    wide.loc["task median"] = inside.median().where(whole)
    return wide.rename_axis(index="task", columns=None)


@functools.cache
def published_aggregates(benchmark: str) -> pd.DataFrame:
    """Task mean and median of every published method at every budget."""
    rows = []
    for budget in tasks.BENCHMARKS[benchmark].budgets:
        wide = published_table(benchmark, budget)
        if len(wide) > 2:
            rows.append(wide.loc[["task mean", "task median"]].T.assign(budget=budget))
    table = pd.concat(rows).dropna().rename_axis("method").reset_index()
    return table.rename(columns={"task mean": "mean", "task median": "median"})[
        ["method", "budget", "mean", "median"]
    ]


def _dmc(benchmark: str) -> list[Sheet]:
    """The published table at the papers' budget."""
    budget = tasks.BENCHMARKS[benchmark].frames["arxiv_v2"]["v3"]
    wide, totals = published_table(benchmark, budget), published_aggregates(benchmark)
    count = len(tasks.tasks_of(benchmark, "arxiv_v2"))
    notes = (
        f"Published runs only, mean over seeds by the papers' rule; task mean and "
        f"median over the {count} tasks of arXiv:2301.04104v2, for methods that have "
        "all of them. *_tdmpc2 are baselines as run by TD-MPC2's authors; "
        "dreamerv3_2023 are the runs of arXiv v1. Sources: results/published.",
    )
    return [
        Sheet(
            stem=f"published_{benchmark}",
            title=_title(benchmark, budget),
            first="Task",
            wide=wide,
            footer=("task mean", "task median"),
            totals=totals,
            shown="mean",
            totals_title="Task mean at every published budget",
            told=f"{tasks.BENCHMARKS[benchmark].title}, published task means",
            notes=notes,
            number=texts.number,
        )
    ]


def _title(benchmark: str, budget: int) -> str:
    title = tasks.BENCHMARKS[benchmark].title
    return f"{title}, {plots.frames_label(budget)} frames"


def _means(benchmark: str, budget: int) -> pd.DataFrame:
    """Means over seeds, a row per task and a column per method, the Dreamers first."""
    table = published.scores(benchmark)
    table = table[table.budget == budget]
    wide = table.groupby(["task", "method"]).score.mean().unstack("method")
    order = [t for t in tasks.BENCHMARKS[benchmark].every if t in wide.index]
    first = [m for m in reversed(rules.METHODS.values()) if m in wide.columns]
    return wide.loc[order, [*first, *(m for m in wide.columns if m not in first)]]


# --- Atari ------------------------------------------------------------------


def atari_table(benchmark: str, budget: int) -> pd.DataFrame:
    """Published scores per game, random and human ones, and all aggregates in percent.

    Methods whose scores are means of evaluation episodes have a MARK.
    """
    every = _means(benchmark, budget)
    wide = every[[*(m for m in every if m not in VARIANTS)]]
    printed = published.printed("arxiv_v2", benchmark)
    printed = printed[(printed.statistic == "score") & (printed.budget == budget)]
    for method, rows in printed.groupby("method", sort=False):
        if method not in {*every, "gamer", "random", "record"}:  # no score files
            wide[f"{method} (printed)"] = rows.set_index("task").printed
    known = published.references()
    wide["random"], wide["gamer"] = known.random, known.gamer
    if benchmark == "atari":
        wide["record"] = known.record_v2
    wide = wide.join(every[[m for m in VARIANTS if m in every]])
    found = normalise.published_aggregates(benchmark, budget)
    totals = found.pivot(index="aggregate", columns="method", values="value")
    for name in totals.reindex(normalise.names(benchmark)).dropna(how="all").index:
        wide.loc[f"{name}, %"] = totals.loc[name].reindex(wide.columns)
    metrics = published.scores(benchmark).groupby("method").metric.first()
    marked = {m: f"{m}{MARK}" for m in wide if metrics.get(m) == "eval10"}
    return wide.rename(columns=marked).rename_axis(index="task", columns=None)


def aggregate_table(benchmark: str, budget: int) -> pd.DataFrame:
    """Every aggregate of the published methods in percent, recomputed and printed.

    Methods without score files have printed values alone.
    """
    found = normalise.published_aggregates(benchmark, budget)
    totals = found.pivot(index="method", columns="aggregate", values="value")
    printed = published.printed("arxiv_v2", benchmark)
    printed = printed[(printed.task == "") & (printed.budget == budget)]
    printed = printed.pivot(index="method", columns="statistic", values="printed")
    wide = pd.DataFrame(index=totals.index.union(printed.index))
    for name in normalise.names(benchmark):
        if name in totals or name in printed:
            wide[name] = totals.get(name)
            wide[f"{name}, printed"] = printed.get(name)
    wide = wide.dropna(axis="columns", how="all")
    order = wide.sort_values("gamer median", ascending=False, na_position="last").index
    known = [m for m in order if m in totals.index]
    return wide.loc[[*known, *(m for m in order if m not in known)]]


@functools.cache
def atari_totals(benchmark: str) -> pd.DataFrame:
    """The gamer median of every published method at every budget, in percent."""
    rows = []
    for budget in tasks.BENCHMARKS[benchmark].budgets:
        found = normalise.published_aggregates(benchmark, budget)
        wide = found.pivot(index="method", columns="aggregate", values="value")
        wide = wide.rename(columns={"gamer mean": "mean", "gamer median": "median"})
        rows.append(wide[["mean", "median"]].assign(budget=budget).reset_index())
    return pd.concat(rows)[["method", "budget", "mean", "median"]]


def _atari(benchmark: str) -> list[Sheet]:
    budget = tasks.BENCHMARKS[benchmark].budgets[-1]
    wide = atari_table(benchmark, budget)
    notes = [
        "Per game 100 (score - random) / (reference - random), with a human gamer's or "
        "the human record's score as reference; clipped: no game counts above 100%. "
        "Recomputed from the score files, where a method has every game of its paper; "
        "a method without a recomputed value has no score file.",
    ]
    games = ["Published runs only, mean over seeds by each paper's rule."]
    if benchmark == "atari":
        notes += [
            "V2's paper has 55 games (without Defender and Surround) and random scores "
            "of 228.8 on Alien and 7.0 on James Bond; its methods (dreamerv2, rainbow, "
            "iqn, c51, dqn) are normalised by these, the others by V3's values over 57 "
            "games. V2's paper prints factors: its 2.15 is 215 here. Not the same "
            "metric either: V2 counts evaluation episodes, V3 training episodes.",
            "dreamerv2_schedules: with schedules; dreamerv2_seedset2: three more seeds "
            "that the paper does not use; dreamerv2_2020: the first release; "
            "dreamerv2_earlier and the rows no_...: the paper's ablations.",
        ]
        games += [
            f"{MARK} Not the same metric as the other columns: means of ten evaluation "
            "episodes at 199M frames; the others are of training episodes (for muzero "
            "it is not known).",
            "dreamerv3_2023: the runs of arXiv v1, which lack two games. The other "
            "variants of the Dreamers are explained above.",
        ]
    else:
        notes += [
            "dreamerv3's runs very probably had sticky actions with probability 0.25, "
            "unlike the protocol that the paper names: the public code of that date "
            "sets the probability where it has no effect. dreamerv3_2023 are the runs "
            "of arXiv v1, without sticky actions.",
        ]
        games += [
            "(printed): from table 9 of arXiv:2301.04104v2; there are no score files.",
        ]
    summary = aggregate_table(benchmark, budget)
    return [
        Sheet(
            stem=f"published_{benchmark}_totals",
            title=f"{_title(benchmark, budget)}: aggregates in percent",
            first="Method",
            wide=summary.rename_axis(index="method", columns=None),
            footer=(),
            totals=_EMPTY,
            shown="",
            totals_title="",
            told="",
            notes=notes,
            number=_percent,
            beside=[*summary.columns],
        ),
        Sheet(
            stem=f"published_{benchmark}",
            title=f"{_title(benchmark, budget)}: scores by game",
            first="Game",
            wide=wide,
            footer=[str(name) for name in wide.index if str(name).endswith("%")],
            totals=atari_totals(benchmark),
            shown="median",
            totals_title="Gamer median at every published budget, in percent",
            told=f"{tasks.BENCHMARKS[benchmark].title}, published gamer medians in %",
            notes=[*games, "Sources: results/published."],
            number=texts.score,
            beside=("random", "gamer", "record"),
        ),
    ]


# --- Crafter and BSuite -----------------------------------------------------


def _crafter(benchmark: str) -> list[Sheet]:
    """The scoreboard, and the success rates of random actions and of humans."""
    printed = published.printed("", benchmark)
    board = printed.pivot(index="method", columns="statistic", values="printed")
    spread = printed.pivot(index="method", columns="statistic", values="std")
    columns = {"crafter score": "score, %", "episode return": "return"}
    wide = pd.DataFrame(index=board.index)
    for name, title in columns.items():
        wide[title], wide[f"± {title}"] = board[name], spread[name]
    wide = wide.sort_values("score, %", ascending=False).rename_axis("method")
    runs = published.scores(benchmark)
    rates = runs[runs.task.str.startswith("achievement_")]
    rates = rates.groupby(["task", "method"]).score.mean().unstack("method")
    rates = rates[["random", "human"]]
    rates.index = rates.index.str.removeprefix("achievement_")
    rates = rates.sort_values("human", ascending=False).rename_axis("task", axis=0)
    where = "Sources: results/published."
    return [
        Sheet(
            stem="published_crafter",
            title="Crafter scoreboard, 1M frames",
            first="Method",
            wide=wide,
            footer=(),
            totals=_EMPTY,
            shown="",
            totals_title="",
            told="",
            notes=(
                "As printed; ± is the standard deviation over seeds. The score is the "
                "geometric mean of the success rates of the 22 achievements over all "
                "training episodes of 1M frames, with an offset of one percent point.",
                "Compare scores, not returns: a printed return is a single episode per "
                "seed (that of ppo_resnet and dreamerv3_2023 is of unknown origin). "
                "Over all episodes random actions return 1.4 and humans 13.0.",
                "dreamerv3_2023: arXiv v1. Later editions print no Crafter score, and "
                "there are no score files of a Dreamer. plan2explore_unsup and "
                "rnd_unsup never see the reward; humans played 100 episodes.",
                where,
            ),
            number=texts.tenths,
            beside=[*wide.columns],
        ),
        Sheet(
            stem="published_crafter_rates",
            title="Crafter success rates, % of episodes",
            first="Achievement",
            wide=rates.rename_axis(columns=None),
            footer=(),
            totals=_EMPTY,
            shown="",
            totals_title="",
            told="",
            notes=("From the score files of random actions and of humans.", where),
            number=texts.tenths,
            beside=[*rates.columns],
        ),
    ]


def _bsuite(benchmark: str) -> list[Sheet]:
    """The printed scores of the experiments; tags and means at the end."""
    printed = published.printed("arxiv_v2", benchmark)
    values = printed.printed.where(printed.unit == "score", printed.printed / 100)
    rows = printed.task.where(printed.task != "", printed.statistic)
    table = printed.assign(value=values, row=rows)
    wide = table.pivot(index="row", columns="method", values="value")
    first = ["dreamerv3", "random"]
    wide = wide[[*first, *(m for m in wide if m not in first)]]
    tags = [*bsuite.TAGS, "task mean", "category mean"]
    wide = wide.loc[[*bsuite.EXPERIMENTS, *tags]]
    return [
        Sheet(
            stem="published_bsuite",
            title="BSuite, scores from 0 to 1",
            first="Experiment",
            wide=wide.rename_axis(index="task", columns=None),
            footer=tags,
            totals=_EMPTY,
            shown="",
            totals_title="",
            told="",
            notes=(
                "As printed in table 13 of arXiv:2301.04104v2; there are no score "
                "files. At the end the means by tag, over the 23 experiments and over "
                "the 7 tags; they follow from the printed scores.",
                "An experiment has up to 23 configurations, 468 in all. The 60 of "
                "mnist need a download when they start.",
                "Sources: results/published.",
            ),
            number=texts.hundredths,
            beside=("random",),
        )
    ]


def _percent(value: float) -> str:
    """With one decimal, unless it is printed as a whole number."""
    if np.isnan(value) or abs(value - round(value)) < 1e-6:
        return texts.number(value)
    return texts.tenths(value)


def rounded(sheet: Sheet) -> pd.DataFrame:
    """A sheet as the strings of the printed tables."""
    plain = sheet.wide.map(lambda x: sheet.number(np.float64(x))).reset_index()
    plain[plain.columns[0]] = plain.iloc[:, 0].str.replace("_", " ")
    return plain
