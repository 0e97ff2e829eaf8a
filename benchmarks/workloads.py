"""The workloads: presets of the papers, V3 at a named size, on walker_walk."""

import dataclasses
from typing import Any

from dreamer_tf.configs import presets, v3
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig

# Name -> version, benchmark and, for V3, model size.
WORKLOADS = {
    "v3-proprio-1m": ("v3", "dmc_proprio", "1m"),
    "v3-vision-1m": ("v3", "dmc_vision", "1m"),
    "v3-vision-12m": ("v3", "dmc_vision", "12m"),
    "v1-vision": ("v1", "dmc_vision", ""),
    "v2-vision": ("v2", "dmc_vision", ""),
    "v2-proprio": ("v2", "dmc_proprio", ""),
}


def load(name: str, precision: str = "float32") -> tuple[RunConfig, Any]:
    """Settings of a workload's run and of its agent."""
    version, benchmark, size = WORKLOADS[name]
    run, config = presets.load(version, benchmark, task="walker_walk")
    if size:
        config = v3.sized(config, size)
    # One action repeat for all, so that a decision costs the same everywhere.
    run = dataclasses.replace(run, repeat=2)
    return run, updated(config, {"precision": precision})
