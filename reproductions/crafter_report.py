"""Crafter's tables and plot from run directories: scores and success rates.

    python -m reproductions.crafter_report --out=results/crafter LOGDIR [LOGDIR ...]

A LOGDIR may also be a folder with runs below it. The scores are those of
`crafter_score`, of the training episodes in stats.jsonl. Runs that have not reached
their budget are left out, and named. Written are crafter.md, crafter_scores.csv,
crafter_rates.csv and, per protocol and task, a plot crafter_rates_*.png.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from absl import app, flags
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from dreamer_tf import output
from dreamer_tf.configs import fields
from dreamer_tf.errors import UserError, reason, sentence
from dreamer_tf.files import parse_json, write_atomic
from dreamer_tf.training.logs import STATS
from reproductions import crafter_score, plots, scores, tasks, texts
from reproductions.crafter_score import ACHIEVEMENTS, BUDGET, PREFIX

PUBLISHED = Path(__file__).parent.parent / "results" / "published"
# version -> its name in the published scoreboard, and the settings behind that score
PRINTED = {
    "v2": ("dreamerv2", "a wider model than the later code's"),
    "v3": ("dreamerv3_2023", "arXiv v1"),
}
# Whose success rates are published.
OTHERS = {"random": "Random policy", "human": "Human experts"}
TICKS = (0.01, 0.1, 1, 10, 100)  # percent, on the axis of the plot


@dataclasses.dataclass(frozen=True)
class Runs:
    """The finished runs of one protocol on one task."""

    protocol: str
    task: str
    budget: int  # frames at which they are scored
    rates: dict[str, list[pd.Series]]  # version -> success rates of its seeds
    seeds: dict[str, list[int]]  # likewise

    @property
    def title(self) -> str:
        frames = plots.frames_label(self.budget)
        return f"Crafter ({self.task}), protocol {self.protocol}, {frames} frames"


def report(folders: Iterable[str | Path], out: str | Path) -> str:
    """Writes tables and plots of finished runs; returns the text to print.

    Args:
      folders: run directories, or folders of them.
      out: for the files.

    Raises:
      UserError: a run is none of Crafter's or damaged, or `out` cannot be written.
    """
    groups, left_out = read_runs(folders)
    if not groups:
        raise UserError(" ".join(left_out))
    try:
        return _write(groups, left_out, Path(out))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({reason(error)}).") from error


# --- Runs -------------------------------------------------------------------------


def read_runs(folders: Iterable[str | Path]) -> tuple[list[Runs], list[str]]:
    """The runs by protocol and task, and a sentence for each that was left out.

    The budget of a group is the smallest of its runs, at most that of the paper.
    """
    found: dict[tuple[str, str], list[tuple[Path, dict]]] = {}
    for path in scores.find_runs(folders):
        settings = _settings(path)
        place = settings["protocol"], settings["task"]
        found.setdefault(place, []).append((path, settings))
    groups, left_out = [], []
    for (protocol, task), runs in sorted(found.items()):
        budget = min(BUDGET, *(settings["steps"] for _, settings in runs))
        rates: dict[str, list[pd.Series]] = {}
        seeds: dict[str, list[int]] = {}
        for path, settings in sorted(runs, key=lambda run: run[1]["seed"]):
            version, seed = settings["version"], settings["seed"]
            if seed in seeds.get(version, []):
                raise UserError(
                    f"Seed {seed} of {version} ({protocol}, {task}) is given twice, "
                    f"the second time in {path}; keep one of the two."
                )
            episodes = read_stats(path / STATS)
            try:
                of_seed = crafter_score.success_rates(episodes, str(path), budget)
            except UserError as error:
                left_out.append(str(error))
                continue
            rates.setdefault(version, []).append(of_seed)
            seeds.setdefault(version, []).append(seed)
        if rates:
            order = [version for version in tasks.VERSIONS if version in rates]
            rates = {version: rates[version] for version in order}
            groups.append(Runs(protocol, task, budget, rates, seeds))
    return groups, left_out


def _settings(path: Path) -> dict[str, Any]:
    """The settings of a run of Crafter, as far as they are needed."""
    where = path / "config.json"
    settings = scores.read_json(where).get("run")
    kinds = {"version": str, "protocol": str, "task": str, "seed": int, "steps": int}
    for name, kind in kinds.items():
        if not isinstance(settings, dict) or not isinstance(settings.get(name), kind):
            raise UserError(f"{where} lacks the setting {name!r}.")
    tasks.check_version(settings["version"], str(where))
    if not settings["task"].startswith("crafter_"):
        raise UserError(f"{path} holds a run of {settings['task']}, not of Crafter.")
    return settings


def read_stats(file: Path) -> list[dict[str, Any]]:
    """The episodes of a run's stats.jsonl, without a last line that is incomplete.

    Raises:
      UserError: the file is missing, or a line is no episode of Crafter.
    """
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []  # no episode has ended yet
    except OSError as error:
        raise UserError(f"{file} cannot be read ({reason(error)}).") from None
    needed = ("length", *(PREFIX + name for name in ACHIEVEMENTS))
    episodes = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            row = parse_json(line)
            fine = all(0 <= row[name] < 2**53 for name in needed)
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            raise UserError(f"{file} line {number} is no episode of Crafter.")
        episodes.append(row)
    return episodes


# --- Tables -----------------------------------------------------------------------


def published_rates() -> dict[str, list[pd.Series]]:
    """The published success rates of each seed, by method."""
    table = pd.read_csv(PUBLISHED / "crafter_scores.csv")
    found = {}
    for method in OTHERS:
        rows = table[table.method == method].pivot(
            index="seed", columns="task", values="score"
        )
        rates = rows[[PREFIX + name for name in ACHIEVEMENTS]]
        rates.columns = [*ACHIEVEMENTS]
        found[method] = [of_seed for _, of_seed in rates.iterrows()]
    return found


def printed_scores() -> pd.DataFrame:
    """The published scoreboard: columns printed and std, in percent, by method."""
    table = pd.read_csv(PUBLISHED / "crafter_printed.csv")
    return table[table.statistic == "crafter score"].set_index("method")


def score_table(runs: Runs) -> pd.DataFrame:
    """Scores of versions as strings, beside the published ones if they compare."""
    board = printed_scores()
    printed = {m: _spread(*board.loc[m, ["printed", "std"]]) for m in board.index}
    rows = []
    for version, rates in runs.rates.items():
        mean, std = crafter_score.over_seeds(rates)
        score = _spread(mean, std if len(rates) > 1 else np.nan)
        row = [tasks.name_of(version), score, str(len(rates)), texts.MISSING]
        if version in PRINTED:
            method, settings = PRINTED[version]
            row[-1] = f"{printed[method]} ({settings})"
        rows.append(row)
    rows += [
        [name, texts.MISSING, texts.MISSING, printed[method]]
        for method, name in OTHERS.items()
    ]
    table = pd.DataFrame(rows, columns=["Version", "Score", "Seeds", "Published"])
    compares = runs.budget >= BUDGET and runs.protocol != "lite"
    if compares and runs.task == "crafter_reward":
        return table
    return table.drop(columns="Published").iloc[: len(runs.rates)]


def rates_table(runs: Runs) -> pd.DataFrame:
    """Success rates in percent, mean over seeds, as strings; a row per achievement."""
    columns = {"Achievement": [name.replace("_", " ") for name in ACHIEVEMENTS]}
    for name, rates in _columns(runs):
        means = np.mean(rates, axis=0)
        columns[name] = [f"{x:.2f}" if 0 < x < 1 else f"{x:.1f}" for x in means]
    return pd.DataFrame(columns)


def _columns(runs: Runs) -> list[tuple[str, list[pd.Series]]]:
    """Names and success rates of our versions and of those that are published."""
    ours = [(tasks.name_of(v), rates) for v, rates in runs.rates.items()]
    return ours + [(OTHERS[m], rates) for m, rates in published_rates().items()]


def _spread(mean: float, std: float) -> str:
    return f"{mean:.1f}" + ("" if np.isnan(std) else f" ± {std:.1f}")


# --- Files ------------------------------------------------------------------------

NOTES = (
    "Percent. A score is exp(mean of ln(1 + s)) - 1 over the 22 success rates s of a "
    "seed's training episodes, early random ones included; mean and population "
    "standard deviation over seeds.",
    "Published scores are those of danijar/crafter. The Dreamers' belong to other "
    "settings than ours: DreamerV3's to arXiv v1, as later editions print no Crafter "
    "score, and DreamerV2's to a wider model than its later code's. Success rates of "
    "the random policy and of human experts are means over five published seeds.",
)


def _write(groups: Sequence[Runs], left_out: Sequence[str], out: Path) -> str:
    out.mkdir(parents=True, exist_ok=True)
    titled: list[tuple[str, pd.DataFrame]] = []
    by_seed, by_rate = [], []
    for runs in groups:
        titled.append((runs.title, score_table(runs)))
        titled.append((f"{runs.title}: success rates", rates_table(runs)))
        place = {"protocol": runs.protocol, "task": runs.task, "budget": runs.budget}
        for version, rates in runs.rates.items():
            for seed, of_seed in zip(runs.seeds[version], rates):
                line = {**place, "version": version, "seed": seed}
                by_seed.append({**line, "score": crafter_score.score(of_seed)})
                by_rate += [
                    {**line, "achievement": name, "percent": of_seed[name]}
                    for name in ACHIEVEMENTS
                ]
        file = out / f"crafter_rates_{runs.protocol}_{runs.task}.png"
        plots.save_png(rates_figure(runs), file)
    for name, rows in (("scores", by_seed), ("rates", by_rate)):
        text = pd.DataFrame(rows).to_csv(index=False, float_format="%.4f")
        write_atomic(out / f"crafter_{name}.csv", text.encode())
    pages = [texts.titled(table, title) for title, table in titled]
    text = "\n\n".join([*pages, *left_out, *NOTES]) + "\n"
    write_atomic(out / "crafter.md", text.encode())
    shown = [f"{title}\n{table.to_string(index=False)}" for title, table in titled]
    return "\n\n".join([*left_out, *shown, f"Written: {out / 'crafter.md'}"])


def rates_figure(runs: Runs) -> Figure:
    """Success rates as bars on a logarithmic axis, as in the paper's figure."""
    columns = _columns(runs)
    shades = [plots.color_of(version, [*runs.rates]) for version in runs.rates]
    shades += [plots.EDGE, plots.MUTED]
    width = 0.8 / len(columns)
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        axis = figure.subplots()
        axis.set_yscale("log")
        for number, (name, rates) in enumerate(columns):
            left = np.arange(len(ACHIEVEMENTS)) - 0.4 + (number + 0.5) * width
            heights = np.mean(rates, axis=0)
            axis.bar(left, heights, 0.9 * width, color=shades[number], label=name)
        names = [name.replace("_", " ") for name in ACHIEVEMENTS]
        axis.set_xticks(np.arange(len(names)), names, rotation=45, ha="right")
        axis.yaxis.set_major_locator(FixedLocator(TICKS))
        axis.yaxis.set_minor_locator(FixedLocator([]))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}%"))
        axis.set_ylim(TICKS[0], TICKS[-1])
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.set_ylabel("episodes with the achievement")
        axis.grid(axis="x", visible=False)
        axis.set_title(runs.title, loc="left")
        figure.legend(loc="outside upper right", ncols=len(columns))
    return figure


def main(argv: list[str]) -> None:
    try:
        if len(argv) < 2:
            raise UserError("No run directory is given; name at least one.")
        folders = [os.path.expanduser(path) for path in argv[1:]]
        output.say(report(folders, flags.FLAGS.out))
    except (UserError, OSError) as error:
        output.warn(f"reproductions.crafter_report: {sentence(error)}")
        sys.exit(2)


if __name__ == "__main__":
    fields.define_folder("out", "results/crafter", "folder of the tables and plots")
    with output.protected():
        app.run(main, flags_parser=fields.parser("reproductions.crafter_report"))
