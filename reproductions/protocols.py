"""What exactly is run under which name: the protocols of the papers, and `lite`.

The numbers behind a name are in `dreamer_tf/configs/presets.py`; here stands what a
reader of a table has to know. Scores of different protocols never share a column.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import CHANGEABLE
from dreamer_tf.errors import UserError
from dreamer_tf.training import logdir

# Settings that may differ from the protocol's: which run it is, and where, how long and
# on what it is made.
FREE = {"task", "seed", *CHANGEABLE} | {"replay_gb", "disk_gb"}
FREE |= {"jit", "precision"}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A named way to train and score."""

    name: str
    source: str  # where it is defined
    scored: str  # which episodes count

    def footnote(self, version: str, benchmark: str = "dmc_proprio") -> str:
        """One paragraph for under a table, with the numbers of the presets."""
        run, agent = _presets().load(version, benchmark, self.name)
        return (
            f"Protocol '{self.name}' for Dreamer{version.upper()} ({self.source}): "
            f"action repeat {run.repeat}, {run.envs} environment(s), "
            f"a budget of {run.steps:,} frames (the table says what was run); "
            f"{_training(version, agent)}; {self.scored}."
        )

    def repeat(self, version: str, benchmark: str) -> int:
        """Frames for which one action is held."""
        return _presets().load(version, benchmark, self.name)[0].repeat


def changes(config: Mapping[str, Any]) -> str:
    """The flags by which a run left its protocol, "" if it did not.

    Args:
      config: config.json of the run; settings that it does not name count as the
        protocol's.
    """
    presets = _presets()
    run, agent = config.get("run", config), config.get("agent", {})
    version, name = str(run["version"]), str(run["protocol"])
    if name not in presets.PROTOCOLS[version]:
        return ""
    usual = presets.load(version, str(run["benchmark"]), name)
    found = []
    for preset, values in zip(usual, (run, agent)):
        made = dict(logdir.flat(values))
        for field, value in logdir.flat(configs.to_dict(preset)):
            if field not in FREE and made.get(field, value) != value:
                found.append(f"--{field}={logdir.shown(made[field])}")
    return " ".join(found)


def _presets() -> Any:
    """Needs a backend; the rest of the reports does not."""
    from dreamer_tf.configs import presets

    return presets


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
