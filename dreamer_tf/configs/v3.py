"""Settings of DreamerV3, by official names without `agent.` and `rssm.`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from dreamer_tf.configs.fields import limit, to_dict
from dreamer_tf.configs.ranges import (
    Count,
    CountOrZero,
    NonNegative,
    Percentage,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    Stages,
)
from dreamer_tf.errors import UserError

Classes = Annotated[int, Range(at_least=2)]
Bins = Annotated[int, Range(at_least=3)]
# With a horizon of 1 the discount is 0, by which imagined weights are divided.
Horizon = Annotated[int, Range(at_least=2)]


@dataclass(frozen=True)
class Dyn:
    """The RSSM."""

    deter: Count = 8192  # width of the recurrent state
    hidden: Count = 1024  # width of the layers around it
    stoch: Count = 32  # number of categorical latent variables
    classes: Classes = 64  # classes of each
    blocks: Count = 8  # diagonal blocks of the recurrent weights
    unimix: Share = 0.01  # share of uniform in latent distributions
    imglayers: CountOrZero = 2  # hidden layers of the prior
    obslayers: CountOrZero = 1  # hidden layers of the posterior
    dynlayers: CountOrZero = 1  # block-linear layers before the gates
    free_nats: NonNegative = 1.0  # KL below which the dynamics get no gradient
    outscale: NonNegative = 1.0  # scale of the initial logit kernels


@dataclass(frozen=True)
class Enc:
    """The encoder."""

    depth: Count = 64  # image channels are depth * mults
    mults: Stages = (2, 3, 4, 4)  # channel multiplier of every stage
    kernel: Count = 5  # size of the image convolutions
    layers: CountOrZero = 3  # layers of the vector MLP
    units: Count = 1024  # width of the vector MLP
    symlog: bool = True  # squash vector inputs


@dataclass(frozen=True)
class Dec:
    """The decoder."""

    depth: Count = 64  # image channels are depth * mults
    mults: Stages = (2, 3, 4, 4)  # channel multiplier of every stage
    kernel: Count = 5  # size of the image convolutions
    layers: CountOrZero = 3  # layers of the vector MLP
    units: Count = 1024  # width of the vector MLP
    bspace: Count = 8  # blocks of the layer from deter to the first map
    outscale: NonNegative = 1.0  # scale of the initial output kernels


@dataclass(frozen=True)
class Head:
    """An MLP head."""

    layers: Count = 1  # hidden layers
    units: Count = 1024  # their width
    outscale: NonNegative = 1.0  # scale of the initial output kernel


@dataclass(frozen=True)
class TwoHotHead(Head):
    """An MLP head that predicts a number through a two-hot code."""

    outscale: NonNegative = 0.0  # scale of the initial output kernel; 0 predicts 0
    bins: Bins = 255  # of the code


@dataclass(frozen=True)
class Policy:
    """The actor."""

    layers: Count = 3  # hidden layers
    units: Count = 1024  # their width
    minstd: Positive = 0.1  # smallest standard deviation of a continuous action
    maxstd: float = 1.0  # largest standard deviation of a continuous action
    outscale: NonNegative = 0.01  # scale of the initial output kernels


@dataclass(frozen=True)
class LossScales:
    """Factors of the loss terms."""

    rec: NonNegative = 1.0  # reconstruction of every entry without its own factor
    rew: NonNegative = 1.0  # reward
    con: NonNegative = 1.0  # continuation
    dyn: NonNegative = 1.0  # KL that trains the prior
    rep: NonNegative = 0.1  # KL that trains the posterior
    policy: NonNegative = 1.0  # actor
    value: NonNegative = 1.0  # critic, on imagined states
    repval: NonNegative = 0.3  # critic, on replayed states
    # reconstruction of the observation entry of this name (not in the paper)
    entries: Mapping[str, NonNegative] = field(default_factory=dict)

    def of(self, loss: str) -> float:
        """The factor of a loss term, which for a reconstruction is an entry's name."""
        return to_dict(self).get(loss, self.rec)


@dataclass(frozen=True)
class Opt:
    """The optimizer, one for all networks."""

    lr: NonNegative = 4e-5  # learning rate after warm-up
    agc: NonNegative = 0.3  # adaptive gradient clipping, relative to the tensor's norm
    eps: Positive = 1e-20  # added to the root of the second moment
    beta1: ShareBelowOne = 0.9  # decay of the momentum
    beta2: ShareBelowOne = 0.999  # decay of the second moment
    wd: NonNegative = 0.0  # weight decay of kernels, times the learning rate
    warmup: CountOrZero = 1000  # updates of linear warm-up


@dataclass(frozen=True)
class RetNorm:
    """Normalisation of returns for the actor."""

    rate: Share = 0.01  # of the moving percentiles
    limit: Positive = 1.0  # smallest scale
    perclo: Percentage = 5.0  # lower percentile
    perchi: float = 95.0  # upper percentile
    debias: bool = False  # correct the moving averages for their start at 0


@dataclass(frozen=True)
class ImagLoss:
    """Actor and critic on imagined states."""

    lam: Share = 0.95  # λ of the returns
    actent: NonNegative = 3e-4  # entropy bonus of the actor
    slowreg: NonNegative = 1.0  # regularisation of the critic to its slow copy
    slowtar: bool = False  # compute returns from the slow critic


@dataclass(frozen=True)
class ReplLoss:
    """Critic on replayed states."""

    lam: Share = 0.95  # λ of the returns
    slowreg: NonNegative = 1.0  # regularisation of the critic to its slow copy


@dataclass(frozen=True)
class SlowValue:
    """The slow copy of the critic."""

    rate: Share = 0.02  # share of the critic taken at each refresh
    every: Count = 1  # updates between refreshes


@dataclass(frozen=True)
class ReplaySize:
    """The replay buffer."""

    size: Count = 5_000_000  # sequences that can start in it
    online: bool = True  # train on every new sequence once, before old ones
    # how the latents in it are kept; compact: one-hots as the numbers of their classes,
    # which loses nothing, and deter in float16, which rounds it (not official); the
    # latents then take less than half of the memory
    latents: Literal["exact", "compact"] = "exact"


@dataclass(frozen=True)
class Config:
    """All that defines DreamerV3, by official names; the defaults are 200m."""

    dyn: Dyn = field(default_factory=Dyn)
    enc: Enc = field(default_factory=Enc)
    dec: Dec = field(default_factory=Dec)
    rewhead: TwoHotHead = field(default_factory=TwoHotHead)
    conhead: Head = field(default_factory=Head)
    policy: Policy = field(default_factory=Policy)
    value: TwoHotHead = field(default_factory=lambda: TwoHotHead(layers=3))
    loss_scales: LossScales = field(default_factory=LossScales)
    opt: Opt = field(default_factory=Opt)
    retnorm: RetNorm = field(default_factory=RetNorm)
    imag_loss: ImagLoss = field(default_factory=ImagLoss)
    repl_loss: ReplLoss = field(default_factory=ReplLoss)
    slowvalue: SlowValue = field(default_factory=SlowValue)
    replay: ReplaySize = field(default_factory=ReplaySize)
    batch_size: Count = 16  # sequences of a batch
    batch_length: int = 64  # steps of a sequence that are trained on
    replay_context: int = 1  # steps before them that only give the start state
    train_ratio: NonNegative = 32.0  # replayed steps trained on per collected step
    horizon: Horizon = 333  # effective horizon; the discount is 1 - 1 / horizon
    contdisc: bool = True  # put the discount into the continuation head
    imag_last: int = 0  # imagine from the last steps of a sequence only (0: all)
    imag_length: Count = 15  # steps of imagination
    reward_grad: bool = True  # train the world model through the reward head
    repval_loss: bool = True  # train the critic on replayed states too
    repval_grad: bool = True  # train the world model through that loss
    # of the layers' computation; auto: bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # compile the update with XLA (TensorFlow on one CPU; a GPU and JAX always do)
    jit: bool = True

    def validate(self):
        """Raises UserError if settings do not fit each other."""
        limit(self, "policy.maxstd", at_least=self.policy.minstd)
        limit(self, "retnorm.perchi", at_least=self.retnorm.perclo, at_most=100)
        # The critic's loss on replayed steps leaves out the last one.
        limit(self, "batch_length", at_least=1 + self.repval_loss)
        if self.imag_last:  # 0: all
            limit(self, "imag_last", at_least=1 + self.repval_loss)
        for name, value, blocks in [
            ("dyn.deter", self.dyn.deter, self.dyn.blocks),
            ("dyn.deter", self.dyn.deter, self.dec.bspace),
            ("dec.depth * dec.mults[-1]", self.channels, self.dec.bspace),
        ]:
            if value % blocks:
                raise UserError(
                    f"{name} is {value}; it must be a multiple of {blocks} "
                    "(dyn.blocks and dec.bspace)."
                )
        if self.replay_context not in (0, 1):
            raise UserError(f"replay_context is {self.replay_context}; use 0 or 1.")
        if not 0 <= self.imag_last <= self.batch_length:
            raise UserError(
                f"imag_last is {self.imag_last}; it must be between 0 (all) and "
                f"batch_length ({self.batch_length})."
            )

    def check_actions(self, discrete: bool, space: Any):
        """Nothing: all settings fit all action spaces."""

    @property
    def channels(self) -> int:
        """Channels of the decoder's first map."""
        return self.dec.depth * self.dec.mults[-1]


# deter, hidden, classes, depth, units (official configs.yaml).
SIZES = {
    "1m": (512, 64, 4, 4, 64),
    "12m": (2048, 256, 16, 16, 256),
    "25m": (3072, 384, 24, 24, 384),
    "50m": (4096, 512, 32, 32, 512),
    "100m": (6144, 768, 48, 48, 768),
    "200m": (8192, 1024, 64, 64, 1024),
    "400m": (12288, 1536, 96, 96, 1536),
}


def sized(config: Config, size: str) -> Config:
    """`config` with the widths of a named model size, "1m" to "400m"."""
    if size not in SIZES:
        raise UserError(f"The model size is '{size}'; choose from {', '.join(SIZES)}.")
    deter, hidden, classes, depth, units = SIZES[size]
    return replace(
        config,
        dyn=replace(config.dyn, deter=deter, hidden=hidden, classes=classes),
        enc=replace(config.enc, depth=depth, units=units),
        dec=replace(config.dec, depth=depth, units=units),
        rewhead=replace(config.rewhead, units=units),
        conhead=replace(config.conhead, units=units),
        policy=replace(config.policy, units=units),
        value=replace(config.value, units=units),
    )
