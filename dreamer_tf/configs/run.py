"""The settings of a run: what, where and for how long."""

import dataclasses
import json
from typing import Annotated, Any, ClassVar, Literal

from dreamer_tf.configs.ranges import (
    Count,
    CountOrZero,
    Folder,
    NonNegative,
    Pattern,
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
    # which observation entries of these it sees: a regular expression that their whole
    # names fit, such as position|velocity; empty: all that it can use
    obs_keys: Pattern = ""
    size: UpTo4096 = 64  # height and width of images in pixels
    camera: int | None = None  # camera id; none: the usual one of the task
    # dm_control without multi-sampling, but means of 2x2 pixels, and with a small
    # shadow map: faster in software, but other pixels than the papers'
    fast_render: bool = False
    # arguments of the environment (those of a gymnasium constructor, or such as sticky
    # of Atari): NAME=VALUE,NAME=VALUE or JSON such as {"NAME": [1, 2]}; the preset's
    # others stay
    env_args: str = ""
    length: CountOrZero = 0  # longest episode in frames; 0: as the environment says
    # act with parameters two decisions old, as the official DreamerV3 does; otherwise
    # with the newest, as the official V1 and V2 do
    delayed_acting: bool = False
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
    # where metrics go besides the run's own files: Weights & Biases or MLflow, each an
    # optional package (requirements-track.txt)
    track: Literal["none", "wandb", "mlflow"] = "none"
    # GPUs (without a GPU: CPU devices) that share every batch, whose size must be a
    # multiple of it; what is learned differs by rounding only. On TensorFlow more than
    # one run without XLA (--jit)
    devices: Count = 1
    # memory that the run may take of each GPU, in 10^9 bytes; 0: what it needs
    gpu_memory_gb: UpToAMillion = 0.0

    def __post_init__(self) -> None:
        # One spelling, by which runs are compared.
        arguments = read_arguments(self.env_args)
        text = json.dumps(arguments, sort_keys=True) if arguments else ""
        object.__setattr__(self, "env_args", text)

    def validate(self) -> None:
        """Raises UserError if settings do not fit each other."""
        if self.workers > self.envs:
            raise UserError(
                f"--workers must be at most --envs={self.envs}, got {self.workers}."
            )


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments in the text of `RunConfig.env_args`.

    A value of NAME=VALUE is read as JSON where it can be, as a text otherwise.

    Raises:
        UserError: the text has neither of the two forms.
    """
    if text.lstrip().startswith("{"):
        arguments = _read_json(text, None)
    else:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        good = all(equals and name.strip() for name, equals, _ in pairs)
        names = [name.strip() for name, _, _ in pairs]
        good = good and len(set(names)) == len(names)
        values = (_read_json(value, value) for _, _, value in pairs)
        arguments = dict(zip(names, values)) if good else None
    if arguments is None:
        raise UserError(
            f"--env_args is {text[:200]}, but must be NAME=VALUE,NAME=VALUE, each NAME "
            'once, or JSON such as {"NAME": [1, 2]}.'
        )
    return arguments


def _read_json(text: str, otherwise: Any) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(name)  # NaN and Infinity are no JSON

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return otherwise


# What may differ when a run is continued: none of it changes what was learned.
CHANGEABLE: tuple[str, ...] = ("steps", "logdir", "workers", "log_every", "save_every")
CHANGEABLE += ("eval_every", "eval_episodes", "video_every", "env_timeout")
CHANGEABLE += ("devices", "gpu_memory_gb", "track")
