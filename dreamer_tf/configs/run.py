"""The settings of a run: what, where and for how long."""

import dataclasses
from typing import Literal

from dreamer_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What is run, where and for how long; the algorithm's numbers are elsewhere."""

    version: str = "v3"  # which Dreamer: v1, v2 or v3
    benchmark: str = "dmc_proprio"  # kind of task, which selects presets
    protocol: str = "nature"  # named set of settings a score belongs to
    task: str = "walker_walk"  # task of the benchmark
    seed: int = 0  # the run's only source of randomness
    steps: int = 1_000_000  # budget in environment frames, action repeat included
    logdir: str = ""  # directory of the run; the same command continues it
    envs: int = 1  # environments that collect data side by side
    workers: int = 0  # processes that step them; 0: all in the main process
    repeat: int = 1  # frames for which one action is held
    obs: Literal["proprio", "image", "both"] = "proprio"  # what the agent sees
    size: int = 64  # height and width of images in pixels
    camera: int | None = None  # camera id; none: the usual one of the task
    # dm_control without multi-sampling and with a small shadow map: faster in
    # software, but other pixels than the papers'
    fast_render: bool = False
    length: int = 0  # longest episode in frames; 0: as the environment says
    eval_every: int = 0  # frames between evaluations; 0: never evaluate
    eval_episodes: int = 10  # episodes of one evaluation
    log_every: int = 1000  # frames between rows of metrics.jsonl
    video_every: int = 50_000  # frames between open-loop pictures; 0: none
    save_every: float = 300.0  # seconds between checkpoints
    replay_gb: float = 4.0  # memory that the replay may fill, in 10^9 bytes
    # disk that the checkpoints may fill, in 10^9 bytes; the replay is made so small
    # that they fit; 0: as much as --replay_gb leads to
    disk_gb: float = 0.0
    # seconds after which a process of environments that does not answer is started
    # again; 0: never
    env_timeout: float = 600.0
    # GPUs (without a GPU: CPU devices) that share every batch, whose size must be a
    # multiple of it; what is learned differs by rounding only. On TensorFlow more than
    # one run without XLA (--jit)
    devices: int = 1
    # memory that the run may take of each GPU, in 10^9 bytes; 0: what it needs
    gpu_memory_gb: float = 0.0

    def validate(self) -> None:
        at_least = {"envs": 1, "repeat": 1, "size": 1, "eval_episodes": 1}
        at_least |= {"log_every": 1, "seed": 0, "steps": 0, "workers": 0}
        at_least |= {"length": 0, "eval_every": 0, "save_every": 0}
        at_least |= {"video_every": 0, "disk_gb": 0, "env_timeout": 0}
        at_least |= {"devices": 1, "gpu_memory_gb": 0}
        for name, lowest in at_least.items():
            if getattr(self, name) < lowest:
                raise UserError(
                    f"--{name} must be at least {lowest}, got {getattr(self, name)}."
                )
        if self.seed >= 2**32:
            raise UserError(f"--seed must be below {2**32}, got {self.seed}.")
        # More would run out of memory, or not be a number of bytes or milliseconds.
        at_most = {"envs": 4096, "size": 4096, "env_timeout": 1_000_000}
        at_most |= {"replay_gb": 1_000_000, "disk_gb": 1_000_000}
        at_most |= {"gpu_memory_gb": 1_000_000}
        for name, highest in at_most.items():
            if getattr(self, name) > highest:
                raise UserError(
                    f"--{name} must be at most {highest}, got {getattr(self, name)}."
                )
        if self.workers > self.envs:
            raise UserError(
                f"--workers must be at most --envs={self.envs}, got {self.workers}."
            )
        if self.replay_gb <= 0:
            raise UserError(f"--replay_gb must be above 0, got {self.replay_gb}.")


# What may differ when a run is continued: none of it changes what was learned.
CHANGEABLE: tuple[str, ...] = ("steps", "logdir", "workers", "log_every", "save_every")
CHANGEABLE += ("eval_every", "eval_episodes", "video_every", "env_timeout")
CHANGEABLE += ("devices", "gpu_memory_gb")
