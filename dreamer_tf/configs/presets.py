"""Settings and budgets per version, benchmark and protocol, as data.

A preset is a set of changes, by dotted names, to the defaults of `RunConfig` and of the
version's `Config`. Where two presets change the same setting, that of version,
benchmark and protocol together counts, or that of one task if there is one. What is
observed chooses between the presets for vectors and those for images.
`reproductions/protocols.py` says what each protocol means.
"""

import difflib
import json
import re
from dataclasses import replace
from typing import Any

from dreamer_tf.configs import basic, bsuite, config_class, discrete, dmc, v3
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig, read_arguments
from dreamer_tf.configs.tasks import family
from dreamer_tf.errors import UserError

# Benchmark -> family of its tasks.
_FAMILIES = {
    "dmc_proprio": "dmc",
    "dmc_vision": "dmc",
    "gym": "gym",
    "toy": "toy",
    "toy_vision": "toy",
    "atari": "atari",
    "atari100k": "atari",
    "crafter": "crafter",
    "bsuite": "bsuite",
    "catch": "catch",
    "catch_vision": "catch",
    "minatar": "minatar",
}
BENCHMARKS = tuple(_FAMILIES)

# The names of the presets for vectors, and for images; other benchmarks have one kind
# of observations.
_KINDS = (
    ("dmc_proprio", "dmc_vision"),
    ("gym", "gym_vision"),
    ("toy", "toy_vision"),
    ("catch", "catch_vision"),
    ("minatar", "minatar_vision"),
)
OBS = ("proprio", "image", "both")

# Which protocols exist for a version; the first is its default.
PROTOCOLS = {
    "v1": ("paper", "lite"),
    "v2": ("paper", "lite"),
    "v3": ("nature", "arxiv_v2", "lite"),
}


def load(
    version: str, benchmark: str, protocol: str = "", task: str = "", obs: str = ""
) -> tuple[RunConfig, Any]:
    """Settings of a run and of its agent.

    Args:
      version: "v1", "v2" or "v3".
      benchmark: one of `BENCHMARKS`.
      protocol: one of `PROTOCOLS[version]`; the version's own if empty.
      task: name of the task within the benchmark; its default if empty.
      obs: one of `OBS`; the benchmark's own if empty.

    Raises:
      UserError: a name that does not exist, or a protocol that the version does not
        have on this benchmark.
    """
    config = config_class(version)()
    protocol = protocol or PROTOCOLS[version][0]
    _one_of("--benchmark", benchmark, BENCHMARKS)
    _one_of(f"--protocol of {version}", protocol, PROTOCOLS[version])
    _check_protocol(version, benchmark, protocol)
    if obs:
        _one_of("--obs", obs, OBS)
    if task:
        _check_task(task, benchmark)
    run: dict[str, Any] = {"version": version, "benchmark": benchmark}
    run["protocol"] = protocol
    agent: dict[str, Any] = {}
    for changes in (_RUN.get((version, protocol), {}), _BENCHMARK[benchmark]):
        run |= changes
    if task:
        run["task"] = task
    if obs:
        run["obs"] = obs
    name = _name(benchmark, run["obs"])
    # A task of dm_control may be given as dmc_<task> too.
    own = (version, name, protocol, run["task"].removeprefix("dmc_"))
    for changes in (
        _AGENT.get((version, name), {}),
        _AGENT.get((version, protocol), {}),
        _AGENT.get((version, name, protocol), {}),
        _AGENT.get(own, {}),
        _AGENT.get((version, run["obs"]), {}),
    ):
        agent |= changes
    for changes in (
        _RUN.get((version, name, protocol), {}),
        _RUN.get(own, {}),
    ):
        run |= changes
    if benchmark == "bsuite" and protocol != "lite":
        run["steps"] = bsuite.budget(run["task"])
    if "size" in agent:  # of V3 only
        config = v3.sized(config, agent.pop("size"))
    return updated(RunConfig(), run), updated(config, agent)


def protocols_of(version: str, benchmark: str) -> tuple[str, ...]:
    """The protocols that a version has on a benchmark; there may be none."""
    if benchmark in discrete.PROTOCOLS:
        return discrete.PROTOCOLS[benchmark].get(version, ())
    return PROTOCOLS[version]


def with_preset_arguments(run: RunConfig, preset: RunConfig) -> RunConfig:
    """`run` with those arguments of its environment that only the preset names.

    So `--env_args=sticky=0` changes this argument alone.
    """
    arguments = read_arguments(preset.env_args) | read_arguments(run.env_args)
    return replace(run, env_args=json.dumps(arguments))


def _name(benchmark: str, obs: str) -> str:
    """The name of the presets for a benchmark and what is observed of it."""
    for vectors, images in _KINDS:
        if benchmark in (vectors, images):
            return vectors if obs == "proprio" else images
    return benchmark


def _check_protocol(version: str, benchmark: str, protocol: str):
    """Refuses a protocol that a version has on other benchmarks only."""
    if protocol in protocols_of(version, benchmark):
        return
    known = [
        f"{name} with {' or '.join(protocols)}"
        for name in PROTOCOLS
        if (protocols := protocols_of(name, benchmark))
    ]
    raise UserError(
        f"--benchmark={benchmark} has no --protocol={protocol} for "
        f"--version={version}; it has {', '.join(known)}."
    )


def _check_task(task: str, benchmark: str):
    """Refuses a task whose action repeat and settings another benchmark has."""
    kind = family(task)
    # The environments refuse names that do not exist, and suggest similar ones.
    if kind == "dmc" and re.search(r"[^a-z0-9_]", task):  # as ids of gymnasium have
        add = "" if benchmark == "gym" else "--benchmark=gym "
        raise UserError(
            f"--task={task} is no task of dm_control; if it is an id of gymnasium, "
            f"give {add}--task=gym_{task}."
        )
    if kind == "dmc" and _FAMILIES[benchmark] in ("dmc", "toy"):
        return
    own = [name for name, its in _FAMILIES.items() if its == kind]
    if benchmark not in own:
        raise UserError(
            f"--task={task} is no task of --benchmark={benchmark}; add "
            f"--benchmark={' or '.join(own)}."
        )


def _one_of(what: str, value: str, known: tuple[str, ...]):
    if value not in known:
        close = difflib.get_close_matches(value, known, 1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise UserError(f"{what} is '{value}'; choose from {', '.join(known)}{hint}.")


_BENCHMARK = basic.BENCHMARK | discrete.BENCHMARK
# Per (version, protocol), then per (version, benchmark, protocol), with a task after it
# for what is of this task only.
_RUN = basic.RUN | discrete.RUN
# Per (version, benchmark), (version, protocol), (version, benchmark, protocol), which
# may have a task after it, and (version, obs). "gym_vision" is gym with images,
# likewise "minatar_vision".
_AGENT = basic.AGENT | dmc.AGENT | discrete.AGENT
