"""BSuite's tables and radar plot from run directories, beside the published scores.

    python -m reproductions.bsuite_report --out=results/bsuite LOGDIR [LOGDIR ...]
    python -m reproductions.bsuite_report --out=results/bsuite --published

A LOGDIR may also be a folder with runs below it. The scores are those of
`bsuite_score`, of the episodes in stats.jsonl; each seed of a version is an agent of
its own, and the mean over seeds is shown. With --published, and no LOGDIR, the tables
and the plot are of the printed numbers alone. Written are bsuite.md, bsuite_scores.csv
and a radar plot per protocol, bsuite_radar_*.png.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from absl import app, flags
from matplotlib.figure import Figure

from dreamer_tf import output
from dreamer_tf.configs import bsuite, fields
from dreamer_tf.errors import UserError, reason, sentence
from dreamer_tf.files import parse_json, write_atomic
from reproductions import bsuite_score, plots, scores, tasks, texts

PUBLISHED = Path(__file__).parent.parent / "results" / "published"
STATS = "stats.jsonl"
# Methods of the published table, as they are printed here.
NAMES = {
    "dreamerv3": "DreamerV3, printed",
    "boot_dqn": "Boot DQN",
    "dqn": "DQN",
    "ac_rnn": "AC RNN",
    "ppo": "PPO",
    "random": "Random",
}
COLORS = {"dreamerv3": "#222222", "boot_dqn": "#7a5195", "dqn": "#bc5090"}
COLORS |= {"ac_rnn": "#8a8a00", "ppo": "#b07030", "random": "#999999"}
MEANS = ("Task mean", "Category mean")


@dataclasses.dataclass(frozen=True)
class Runs:
    """The runs of one protocol."""

    protocol: str
    versions: dict[str, pd.Series]  # score by experiment, mean over seeds
    seeds: dict[str, dict[int, pd.DataFrame]]  # `bsuite_score.scores` of each seed

    @property
    def title(self) -> str:
        kind = f"protocol {self.protocol}" if self.versions else "printed scores"
        return f"BSuite, {kind}"

    @property
    def columns(self) -> dict[str, pd.Series]:
        """Scores by their title."""
        return {
            f"{tasks.name_of(v)} ({_seeds(len(self.seeds[v]))})": found
            for v, found in self.versions.items()
        }

    def missing(self) -> list[str]:
        """A line for every seed whose scores are of less than the whole suite."""
        found = []
        for version, seeds in self.seeds.items():
            for seed, table in seeds.items():
                if text := bsuite_score.missing(table):
                    found.append(f"{tasks.name_of(version)}, seed {seed}: {text}")
        return found


def report(folders: Iterable[str | Path], out: str | Path) -> str:
    """Writes tables and plots of runs; returns the text to print.

    Args:
      folders: run directories, or folders of them; none: the published scores alone.
      out: for the files.

    Raises:
      UserError: a run is none of BSuite's or damaged, or `out` cannot be written.
    """
    folders = list(folders)
    groups = read_runs(folders) if folders else [Runs("published", {}, {})]
    try:
        return _write(groups, Path(out))
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({reason(error)}).") from error


# --- Runs -------------------------------------------------------------------------


def read_runs(folders: Iterable[str | Path]) -> list[Runs]:
    """The scores of all runs among these folders, by protocol."""
    agents: dict[tuple[str, str, int], dict[str, dict[int, np.ndarray]]] = {}
    for path in scores.find_runs(folders):
        settings = _settings(path)
        experiment, number = bsuite.split(settings["task"])
        who = settings["protocol"], settings["version"], settings["seed"]
        numbers = agents.setdefault(who, {}).setdefault(experiment, {})
        if number in numbers:
            raise UserError(
                f"Seed {who[2]} of {who[1]} ({who[0]}, {settings['task']}) is given "
                f"twice, the second time in {path}; keep one of the two."
            )
        numbers[number] = read_regrets(path / STATS)
    groups = []
    for protocol in sorted({who[0] for who in agents}):
        seeds: dict[str, dict[int, pd.DataFrame]] = {}
        for version in tasks.VERSIONS:
            found = {
                seed: bsuite_score.scores(agent)
                for (p, v, seed), agent in sorted(agents.items())
                if (p, v) == (protocol, version)
            }
            if found:
                seeds[version] = found
        means = {
            v: pd.concat([t.score for t in found.values()], axis=1).mean(axis=1)
            for v, found in seeds.items()
        }
        groups.append(Runs(protocol, means, seeds))
    return groups


def _settings(path: Path) -> dict[str, Any]:
    """The settings of a run of BSuite, as far as they are needed."""
    where = path / "config.json"
    settings = scores.read_json(where).get("run")
    kinds = {"version": str, "protocol": str, "task": str, "seed": int}
    for name, kind in kinds.items():
        if not isinstance(settings, dict) or not isinstance(settings.get(name), kind):
            raise UserError(f"{where} lacks the setting {name!r}.")
    tasks.check_version(settings["version"], str(where))
    if not settings["task"].startswith(bsuite.PREFIX):
        raise UserError(f"{path} holds a run of {settings['task']}, not of BSuite.")
    return settings


def read_regrets(file: Path) -> np.ndarray:
    """The regrets in a run's stats.jsonl, without a last line that is incomplete.

    Raises:
      UserError: the file cannot be read, or a line is no episode of BSuite.
    """
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return np.zeros(0)  # no episode has ended yet
    except OSError as error:
        raise UserError(f"{file} cannot be read ({reason(error)}).") from None
    regrets = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            regret = parse_json(line)["regret"]
            fine = isinstance(regret, int | float) and np.isfinite(regret)
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            raise UserError(f"{file} line {number} is no episode of BSuite.")
        regrets.append(float(regret))
    return np.array(regrets)


# --- Tables -----------------------------------------------------------------------


def published() -> dict[str, pd.Series]:
    """The printed scores by experiment, of each method."""
    table = pd.read_csv(PUBLISHED / "bsuite_printed.csv", keep_default_na=False)
    table = table[table.task != ""]
    return {
        method: table[table.method == method].set_index("task").printed.astype(float)
        for method in NAMES
    }


def _beside(runs: Runs) -> dict[str, pd.Series]:
    """Our columns and the published ones."""
    return runs.columns | {NAMES[m]: found for m, found in published().items()}


def score_table(runs: Runs) -> pd.DataFrame:
    """A row per experiment and the task mean, as strings.

    Where ours lack experiments, also the mean of those that all of ours have.
    """
    columns = _beside(runs)
    table = pd.DataFrame(columns).loc[[*bsuite.EXPERIMENTS]]
    ours = table[[*runs.columns]].notna().all(axis=1)
    shared = table[ours].mean()
    table.loc[MEANS[0]] = [bsuite_score.task_mean(x) for x in columns.values()]
    if 0 < ours.sum() < len(ours):
        table.loc[f"Mean of the {ours.sum()} that ours have"] = shared
    return _shown(table, "Experiment")


def tag_table(runs: Runs) -> pd.DataFrame:
    """A row per tag and the category mean, as strings."""
    columns = _beside(runs)
    table = pd.DataFrame({k: bsuite_score.by_tag(x) for k, x in columns.items()})
    table.loc[MEANS[1]] = [bsuite_score.category_mean(x) for x in columns.values()]
    return _shown(table, "Tag")


def _shown(table: pd.DataFrame, first: str) -> pd.DataFrame:
    plain = table.map(lambda x: texts.MISSING if np.isnan(x) else f"{x:.2f}")
    plain = plain.rename_axis(first).reset_index()
    plain[first] = plain[first].str.replace("_", " ")
    return plain


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


# --- Files ------------------------------------------------------------------------

NOTES = (
    "Scores from 0 to 1. Each seed is scored by itself, by bsuite's rules and as many "
    "of its first episodes as these count, early random ones included; the mean over "
    "seeds is shown. A tag is the mean of its experiments, the task mean that of all "
    "experiments, the category mean that of the tags.",
    "Printed numbers: arXiv 2301.04104v2, table 13; tags and means are recomputed from "
    "its scores. There are no score files. Means of ours leave out what was not run; "
    "the last row compares the experiments that all of ours have.",
)


def _write(groups: Sequence[Runs], out: Path) -> str:
    out.mkdir(parents=True, exist_ok=True)
    titled: list[tuple[str, pd.DataFrame]] = []
    missing: list[str] = []
    rows = []
    for runs in groups:
        titled.append((f"{runs.title}: experiments", score_table(runs)))
        titled.append((f"{runs.title}: tags", tag_table(runs)))
        missing += runs.missing()
        for version, seeds in runs.seeds.items():
            for seed, table in seeds.items():
                place = {"protocol": runs.protocol, "version": version, "seed": seed}
                rows.append(table.reset_index().assign(**place))
        plots.save_png(radar(runs), out / f"bsuite_radar_{runs.protocol}.png")
    if rows:
        first = ["protocol", "version", "seed"]
        whole = pd.concat(rows)
        whole = whole[[*first, *whole.columns.drop(first)]]
        text = whole.to_csv(index=False, float_format="%.6f")
        write_atomic(out / "bsuite_scores.csv", text.encode())
    pages = [texts.titled(table, title) for title, table in titled]
    text = "\n\n".join([*pages, *missing, *NOTES]) + "\n"
    write_atomic(out / "bsuite.md", text.encode())
    shown = [f"{title}\n{table.to_string(index=False)}" for title, table in titled]
    return "\n\n".join([*missing, *shown, f"Written: {out / 'bsuite.md'}"])


def radar(runs: Runs) -> Figure:
    """The seven tags around a circle; what is published is faint behind ours."""
    angles = np.linspace(0, 2 * np.pi, len(bsuite.TAGS), endpoint=False)
    faint = bool(runs.versions)

    def draw(axis: Any, table: Mapping[str, float], name: str, color: str, **style):
        values = np.array([table[tag] for tag in bsuite.TAGS])
        around = np.r_[angles, angles[0]], np.r_[values, values[0]]
        axis.plot(*around, color=color, label=name, **style)
        return around

    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(7, 5), layout="constrained")
        axis: Any = figure.add_subplot(projection="polar")
        axis.set_theta_zero_location("N")
        axis.set_theta_direction(-1)
        for method, table in published().items():
            style: dict[str, Any] = {"lw": 1.6}
            if faint:
                style = {"lw": 1, "ls": (0, (4, 2)), "alpha": 0.55}
            tags = bsuite_score.by_tag(table)
            draw(axis, tags, NAMES[method], COLORS[method], **style)
        for version, table in runs.versions.items():
            color = plots.color_of(version, [*runs.versions])
            name = tasks.name_of(version)
            tags = bsuite_score.by_tag(table)
            # A tag without a score is a gap, not a zero.
            around = draw(axis, tags, name, color, lw=2.2, marker="o", ms=4)
            if not np.isnan(around[1]).any():
                axis.fill(*around, color=color, alpha=0.08)
        labels = [tag.replace("_", " ") for tag in bsuite.TAGS]
        axis.set_xticks(angles, labels, color=plots.INK, fontsize=9)
        axis.tick_params(axis="x", pad=10)
        axis.set_ylim(0, 1)
        axis.set_yticks([0.25, 0.5, 0.75, 1], ["0.25", "0.5", "0.75", "1"])
        axis.set_rlabel_position(3 * 180 / len(bsuite.TAGS))
        axis.spines["polar"].set_color(plots.EDGE)
        axis.set_title(runs.title, pad=18)
        figure.legend(loc="outside right upper")
    return figure


def main(argv: list[str]) -> None:
    f = flags.FLAGS
    try:
        if f.published == (len(argv) > 1):
            raise UserError(
                "Give run directories, or --published for the printed numbers alone."
            )
        folders = [os.path.expanduser(path) for path in argv[1:]]
        output.say(report(folders, f.out))
    except (UserError, OSError) as error:
        output.warn(f"reproductions.bsuite_report: {sentence(error)}")
        sys.exit(2)


if __name__ == "__main__":
    fields.define_folder("out", "results/bsuite", "folder of the tables and plots")
    flags.DEFINE_boolean("published", False, "the printed numbers, without any run")
    with output.protected():
        app.run(main, flags_parser=fields.parser("reproductions.bsuite_report"))
