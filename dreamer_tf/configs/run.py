"""The settings of a run: what, where and for how long."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from dreamer_tf.configs.ranges import (
    Count,
    CountOrZero,
    Folder,
    NonNegative,
    Positive,
    Range,
)
from dreamer_tf.errors import UserError

Seed = Annotated[CountOrZero, Range(below=2**32)]
# Upper limits below which no memory runs out and no conversion overflows.
UpTo4096 = Annotated[Count, Range(at_most=4096)]
UpToAMillion = Annotated[NonNegative, Range(at_most=1_000_000)]
Memory = Annotated[Positive, Range(at_most=1_000_000)]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What is run, where and for how long; the algorithm's numbers are elsewhere."""

    SENTENCE: ClassVar[str] = "--{name} must be {range}, got {value}."

    version: str = "v3"  # which Dreamer: v1, v2 or v3
    benchmark: str = "dmc_proprio"  # kind of task, which selects presets
    protocol: str = "nature"  # named set of settings a score belongs to
    task: str = "walker_walk"  # task of the benchmark
    seed: Seed = 0  # the run's only source of randomness
    # budget in environment frames, action repeat included
    steps: CountOrZero = 1_000_000
    logdir: Folder = ""  # directory of the run; the same command continues it
    envs: UpTo4096 = 1  # environments that collect data side by side
    workers: CountOrZero = 0  # processes that step them; 0: all in the main process
    repeat: Count = 1  # frames for which one action is held
    obs: Literal["proprio", "image", "both"] = "proprio"  # what the agent sees
    size: UpTo4096 = 64  # height and width of images in pixels
    camera: int | None = None  # camera id; none: the usual one of the task
    # dm_control without multi-sampling and with a small shadow map: faster in
    # software, but other pixels than the papers'
    fast_render: bool = False
    length: CountOrZero = 0  # longest episode in frames; 0: as the environment says
    eval_every: CountOrZero = 0  # frames between evaluations; 0: never evaluate
    eval_episodes: Count = 10  # episodes of one evaluation
    log_every: Count = 1000  # frames between rows of metrics.jsonl
    video_every: CountOrZero = 50_000  # frames between open-loop pictures; 0: none
    save_every: NonNegative = 300.0  # seconds between checkpoints
    replay_gb: Memory = 4.0  # memory that the replay may fill, in 10^9 bytes
    # disk that the checkpoints may fill, in 10^9 bytes; the replay is made so small
    # that they fit; 0: as much as --replay_gb leads to
    disk_gb: UpToAMillion = 0.0
    # seconds after which a process of environments that does not answer is started
    # again; 0: never
    env_timeout: UpToAMillion = 600.0
    # GPUs (without a GPU: CPU devices) that share every batch, whose size must be a
    # multiple of it; what is learned differs by rounding only. On TensorFlow more than
    # one run without XLA (--jit)
    devices: Count = 1
    # memory that the run may take of each GPU, in 10^9 bytes; 0: what it needs
    gpu_memory_gb: UpToAMillion = 0.0

    def validate(self) -> None:
        """Raises UserError if settings do not fit each other."""
        if self.workers > self.envs:
            raise UserError(
                f"--workers must be at most --envs={self.envs}, got {self.workers}."
            )


# What may differ when a run is continued: none of it changes what was learned.
CHANGEABLE: tuple[str, ...] = ("steps", "logdir", "workers", "log_every", "save_every")
CHANGEABLE += ("eval_every", "eval_episodes", "video_every", "env_timeout")
CHANGEABLE += ("devices", "gpu_memory_gb")
