"""The protocols: named ways to train and score, from the papers, and `lite`.

The settings of a protocol are in `dreamer_tf/configs/presets.py`; this module says what
a reader of a table has to know of them. Scores of different protocols never share a
column.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dreamer_tf.configs import fields, presets
from dreamer_tf.configs.run import CHANGEABLE, RunConfig
from dreamer_tf.errors import UserError
from dreamer_tf.training import logdir
from reproductions import tasks

# Settings that do not belong to a protocol: which run it is, where it is written, how
# long it is and on what hardware it runs.
FREE = {"task", "seed", *CHANGEABLE} | {"replay_gb", "disk_gb"}
FREE |= {"jit", "precision"}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A named way to train and score."""

    name: str
    source: str  # where it is defined
    scored: str  # which episodes count on DeepMind Control

    def footnote(self, versions: Sequence[str], benchmark: str) -> str:
        """One paragraph to stand under a table, with the settings of the presets."""
        each = []
        for version in versions:
            run, agent = presets.load(version, benchmark, self.name)
            each.append(
                f"{tasks.name_of(version)}: action repeat {run.repeat}, {run.envs} "
                f"environment{'s' * (run.envs > 1)}, a budget of {run.steps:,} frames, "
                f"{_images(run)}{_training(version, agent)}."
            )
        # Elsewhere versions may be scored in another way, as notes of their own say.
        known = tasks.BENCHMARKS.get(benchmark)
        dmc = known is None or known.family == "dmc"
        scored = f"; {self.scored}." if dmc else "."
        own = [v for v in versions if dmc and known and self._by_task(v, benchmark)]
        if own:
            each.append(
                f"Some settings of {' and '.join(map(tasks.name_of, own))} depend on "
                "the task (docs/protocols.md)."
            )
        return (
            f"Protocol {self.name} ({self.source}). {' '.join(each)} The tables say "
            f"what was run{scored}"
        )

    def _by_task(self, version: str, benchmark: str) -> bool:
        """Whether tasks have settings of the agent of their own."""
        names = tasks.tasks_of(benchmark, self.name)
        flags = [tasks.flag_of(name, benchmark) for name in names]
        every = [presets.load(version, benchmark, self.name, f)[1] for f in flags]
        return any(config != every[0] for config in every)

    def repeat(self, version: str, benchmark: str) -> int:
        """Frames for which one action is repeated."""
        return presets.load(version, benchmark, self.name)[0].repeat


def changes(config: Mapping[str, Any]) -> str:
    """The flags whose values differ from the run's protocol; "" if none do.

    Args:
      config: config.json of the run. A setting that is not in it counts as equal.
    """
    run, agent = config.get("run", config), config.get("agent", {})
    version, name = str(run["version"]), str(run["protocol"])
    if name not in presets.PROTOCOLS[version]:
        return ""
    benchmark, task = str(run["benchmark"]), str(run.get("task", ""))
    obs = str(run.get("obs", ""))
    # With other observations a run has their presets; --obs itself is named.
    usual, usual_agent = presets.load(version, benchmark, name, task, obs)
    own = presets.load(version, benchmark, name)[0].obs
    usual = dataclasses.replace(usual, obs=own)
    found = []
    for preset, values in ((usual, run), (usual_agent, agent)):
        made = dict(logdir.flat(values))
        for field, value in logdir.flat(fields.to_dict(preset)):
            if field not in FREE and made.get(field, value) != value:
                found.append(f"--{field}={logdir.shown(made[field])}")
    return " ".join(found)


def _images(run: RunConfig) -> str:
    if run.obs == "proprio":
        return ""
    drawn = " drawn with --fast_render" if run.fast_render else ""
    return f"images of {run.size}x{run.size}{drawn}, "


def _training(version: str, agent) -> str:
    if version == "v3":
        return (
            f"train ratio {agent.train_ratio:g}, batch {agent.batch_size} x "
            f"{agent.batch_length}, deter {agent.dyn.deter}, units {agent.value.units}"
        )
    if version == "v2":
        return (
            f"one update every {agent.train_every} decisions, batch "
            f"{agent.dataset.batch} x {agent.dataset.length}, deter {agent.rssm.deter}"
        )
    return (
        f"{agent.train_steps} updates every {agent.train_every} frames, batch "
        f"{agent.batch_size} x {agent.batch_length}, deter {agent.deter_size}"
    )


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "nature",
            "Nature 640:647 (2025) and the official configs.yaml",
            "scores are returns of training episodes, actions sampled",
        ),
        Protocol(
            "arxiv_v2",
            "arXiv 2301.04104v2 (2024), whose score files are published",
            "scores are returns of training episodes, actions sampled",
        ),
        Protocol(
            "paper",
            "arXiv 1912.01603 (V1) and the score file of the official V2 code",
            "V1: evaluation episodes without exploration every 10,000 frames; V2: "
            "returns of training episodes, actions sampled",
        ),
        Protocol(
            "lite",
            "this suite, for two CPU cores",
            "scores as in the papers: V1 evaluation episodes, V2 and V3 returns of "
            "training episodes",
        ),
    )
}


def protocol(name: str) -> Protocol:
    """The protocol of that name; UserError if there is none."""
    if name not in PROTOCOLS:
        raise UserError(
            f"The protocol is '{name}'; choose from {', '.join(PROTOCOLS)}."
        )
    return PROTOCOLS[name]
