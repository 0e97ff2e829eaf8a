"""The papers' settings per version, benchmark and protocol, as data.

A preset is a set of changes to the defaults of `config.RunConfig` and of the
version's `Config`, by dotted field names: first the benchmark's, then the
protocol's. What each protocol means is told in `reproductions/protocols.py`.
"""

import difflib
from typing import Any

from dreamer_tf.agent import version_module
from dreamer_tf.config import RunConfig, updated
from dreamer_tf.errors import UserError

BENCHMARKS = ("dmc_proprio", "dmc_vision", "gym", "toy")

# Which protocols exist for a version; the first is its default.
PROTOCOLS = {
    "v1": ("paper", "lite"),
    "v2": ("paper", "lite"),
    "v3": ("nature", "arxiv_v2", "lite"),
}


def load(
    version: str, benchmark: str, protocol: str = "", task: str = ""
) -> tuple[RunConfig, Any]:
    """Settings of a run and of its agent.

    Args:
      version: "v1", "v2" or "v3".
      benchmark: one of `BENCHMARKS`.
      protocol: one of `PROTOCOLS[version]`; the version's own if empty.
      task: name of the task within the benchmark; its default if empty.

    Raises:
      UserError: a name that does not exist.
    """
    module = version_module(version)
    protocol = protocol or PROTOCOLS[version][0]
    _one_of("--benchmark", benchmark, BENCHMARKS)
    _one_of(f"--protocol of {version}", protocol, PROTOCOLS[version])
    run = {"version": version, "benchmark": benchmark, "protocol": protocol}
    agent: dict[str, Any] = {}
    for changes in (_RUN.get((version, protocol), {}), _BENCHMARK[benchmark]):
        run |= changes
    if task:
        run["task"] = task
    for changes in (
        _AGENT.get((version, benchmark), {}),
        _AGENT.get((version, protocol), {}),
        _AGENT.get((version, benchmark, protocol), {}),
    ):
        agent |= changes
    run |= _RUN.get((version, benchmark, protocol), {})
    config = module.Config()
    if "size" in agent:
        config = module.sized(config, agent.pop("size"))
    return updated(RunConfig(), run), updated(config, agent)


def _one_of(what: str, value: str, known: tuple[str, ...]):
    if value not in known:
        close = difflib.get_close_matches(value, known, 1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise UserError(f"{what} is '{value}'; choose from {', '.join(known)}{hint}.")


_BENCHMARK: dict[str, dict[str, Any]] = {
    "dmc_proprio": {"obs": "proprio", "task": "walker_walk"},
    "dmc_vision": {"obs": "image", "task": "walker_walk"},
    "gym": {"obs": "proprio", "task": "gym_Pendulum-v1", "repeat": 1},
    "toy": {"obs": "proprio", "task": "toy", "repeat": 1},
}

# Per (version, protocol), then per (version, benchmark, protocol).
_RUN: dict[tuple, dict[str, Any]] = {
    # Nature 2025, as in the official configs.yaml: spec of budgets in its Methods.
    ("v3", "nature"): {"repeat": 1, "envs": 16, "steps": 1_000_000},
    # arXiv v2 (2024), the published score files.
    ("v3", "arxiv_v2"): {"repeat": 2, "envs": 16, "steps": 1_000_000},
    ("v3", "dmc_proprio", "arxiv_v2"): {"steps": 500_000},
    ("v3", "lite"): {"repeat": 2, "envs": 4, "steps": 50_000},
}

# Per (version, benchmark), (version, protocol), (version, benchmark, protocol).
_AGENT: dict[tuple, dict[str, Any]] = {
    ("v3", "dmc_proprio"): {"size": "1m", "train_ratio": 1024},
    ("v3", "dmc_vision"): {"train_ratio": 256, "jit": False},
    ("v3", "gym"): {"size": "1m", "train_ratio": 1024},
    ("v3", "toy"): {"size": "1m", "train_ratio": 256},
    ("v3", "arxiv_v2"): {"size": "12m", "train_ratio": 512},
    # Small enough for two CPU cores; a larger learning rate makes up for the few
    # updates. Not a setting of any paper.
    ("v3", "lite"): {
        "dyn.deter": 256,
        "dyn.hidden": 64,
        "dyn.stoch": 16,
        "dyn.classes": 8,
        "enc.layers": 2,
        "enc.units": 64,
        "enc.depth": 4,
        "dec.layers": 2,
        "dec.units": 64,
        "dec.depth": 4,
        "rewhead.units": 64,
        "rewhead.bins": 63,
        "conhead.units": 64,
        "policy.layers": 2,
        "policy.units": 64,
        "value.layers": 2,
        "value.units": 64,
        "value.bins": 63,
        "opt.lr": 3e-4,
        "opt.warmup": 100,
        "batch_size": 16,
        "batch_length": 32,
        "imag_last": 8,
        "train_ratio": 64,
    },
}
