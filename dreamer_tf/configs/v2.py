"""Settings of DreamerV2, by official names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from dreamer_tf.configs.fields import limit, to_dict
from dreamer_tf.configs.ranges import (
    Activation,
    Count,
    CountOrZero,
    NonNegative,
    Pattern,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    Stages,
    Widths,
)
from dreamer_tf.errors import UserError

Classes = Annotated[int, Range(at_least=2)]
# The loss of the actor has one term less than imagined steps.
Horizon = Annotated[int, Range(at_least=2)]


@dataclass(frozen=True)
class Rssm:
    """The RSSM."""

    deter: Count = 200  # width of the recurrent state
    hidden: Count = 200  # width of the layers around it
    stoch: Count = 32  # number of categorical latent variables
    discrete: Classes = 32  # classes of each
    act: Activation = "elu"  # activation, by its name in keras.activations
    norm: Literal["none", "layer"] = "none"  # normalisation before activations


@dataclass(frozen=True)
class Encoder:
    """The encoder; also the fields of the decoder."""

    mlp_keys: Pattern = ".*"  # pattern of the vectors' names, from their beginning
    cnn_keys: Pattern = ".*"  # pattern of the images' names, from their beginning
    act: Activation = "elu"  # activation, by its name in keras.activations
    norm: Literal["none", "layer"] = "none"  # normalisation before activations
    cnn_depth: Count = 48  # image channels of the outermost stage, doubled inwards
    cnn_kernels: Stages = (4, 4, 4, 4)  # sizes of the convolutions
    mlp_layers: Widths = (400, 400, 400, 400)  # widths of the vector MLP


@dataclass(frozen=True)
class Decoder(Encoder):
    """The decoder."""

    cnn_kernels: Stages = (5, 5, 6, 6)  # sizes of the convolutions


@dataclass(frozen=True)
class Head:
    """An MLP head."""

    layers: CountOrZero = 4  # hidden layers
    units: Count = 400  # their width
    act: Activation = "elu"  # activation, by its name in keras.activations
    norm: Literal["none", "layer"] = "none"  # normalisation before activations


@dataclass(frozen=True)
class Actor(Head):
    """The actor."""

    # distribution of actions; auto: trunc_normal, or onehot if they are discrete
    dist: Literal["auto", "trunc_normal", "tanh_normal", "onehot"] = "auto"
    min_std: NonNegative = 0.1  # smallest scale of a continuous action
    init_std: float = 0.0  # added to the raw scale

    def kind(self, discrete: bool) -> str:
        """The distribution of actions, "auto" resolved."""
        if self.dist == "auto":
            return "onehot" if discrete else "trunc_normal"
        return self.dist


@dataclass(frozen=True)
class LossScales:
    """Factors of the loss terms."""

    kl: NonNegative = 1.0  # KL between posterior and prior
    reward: NonNegative = 1.0  # reward
    discount: NonNegative = 1.0  # discount
    proprio: NonNegative = 1.0  # reconstruction of an entry of this name
    # reconstruction of the observation entry of this name; 1 if it is not set
    entries: Mapping[str, NonNegative] = field(default_factory=dict)

    def of(self, loss: str) -> float:
        """The factor of a loss term, which for a reconstruction is an entry's name."""
        return to_dict(self).get(loss, 1.0)


@dataclass(frozen=True)
class Kl:
    """The KL loss (Algorithm 2)."""

    free: NonNegative = 1.0  # nats below which there is no gradient
    forward: bool = False  # KL(prior, posterior) instead
    balance: Share = 0.8  # share of the gradient that trains the prior
    free_avg: bool = True  # free nats of the batch's mean, not of each step


@dataclass(frozen=True)
class Opt:
    """An optimizer."""

    lr: NonNegative = 3e-4  # learning rate
    eps: Positive = 1e-5  # added to the root of the second moment
    clip: NonNegative = 100.0  # largest norm of all gradients together; 0: any
    wd: ShareBelowOne = 1e-6  # weight decay, not times the learning rate


@dataclass(frozen=True)
class RewardNorm:
    """Normalisation of imagined rewards by their mean magnitude."""

    momentum: Share = 1.0  # of the moving magnitude; 1: no normalisation
    scale: Positive = 1.0  # magnitude that results
    eps: Positive = 1e-8  # added to the magnitude


@dataclass(frozen=True)
class Replay:
    """The replay buffer."""

    capacity: Count = 2_000_000  # steps kept
    minlen: Count = 50  # length of the shortest sequence that is drawn
    maxlen: int = 50  # length of the longest; 0: no limit
    prioritize_ends: bool = False  # draw ends of episodes more often


@dataclass(frozen=True)
class Dataset:
    """What one update sees."""

    batch: Count = 16  # sequences of a batch
    length: Count = 50  # steps of a sequence


@dataclass(frozen=True)
class Config:
    """All that defines DreamerV2, by official names; the defaults are for DMC."""

    rssm: Rssm = field(default_factory=Rssm)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    reward_head: Head = field(default_factory=Head)
    discount_head: Head = field(default_factory=Head)
    actor: Actor = field(default_factory=Actor)
    critic: Head = field(default_factory=Head)
    loss_scales: LossScales = field(default_factory=LossScales)
    kl: Kl = field(default_factory=Kl)
    model_opt: Opt = field(default_factory=Opt)
    actor_opt: Opt = field(default_factory=lambda: Opt(lr=8e-5))
    critic_opt: Opt = field(default_factory=lambda: Opt(lr=8e-5))
    reward_norm: RewardNorm = field(default_factory=RewardNorm)
    replay: Replay = field(default_factory=Replay)
    dataset: Dataset = field(default_factory=Dataset)
    # take scalars and matrices among the observations too, which the official
    # code drops
    every_rank: bool = False
    prefill: CountOrZero = 1000  # random decisions before the first update
    pretrain: CountOrZero = 100  # updates before the policy acts, besides the first one
    train_every: Count = 5  # decisions between updates
    train_steps: CountOrZero = 1  # updates each time
    clip_rewards: Literal["identity", "tanh", "sign"] = "identity"  # seen rewards
    pred_discount: bool = False  # learn a discount head from is_terminal
    # heads through which the RSSM and the encoder learn
    grad_heads: tuple[str, ...] = ("decoder", "reward")
    discount: Share = 0.99  # discount factor
    discount_lambda: Share = 0.95  # λ of the returns
    imag_horizon: Horizon = 15  # steps of imagination
    # gradient of the actor; auto: dynamics, or reinforce if actions are discrete
    actor_grad: Literal["auto", "dynamics", "reinforce", "both"] = "auto"
    actor_grad_mix: Share = 0.1  # share of dynamics in "both"
    actor_ent: NonNegative = 1e-4  # entropy bonus of the actor
    slow_target: bool = True  # compute returns from a slow copy of the critic
    slow_target_update: Count = 100  # updates between refreshes of the copy
    slow_target_fraction: Share = 1.0  # share of the critic taken at each refresh
    expl_noise: NonNegative = 0.0  # noise on actions in training
    eval_noise: NonNegative = 0.0  # noise on actions in evaluation
    eval_state_mean: bool = False  # do not sample latents in evaluation
    # of the layers' computation; auto: bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # compile the update with XLA (TensorFlow on one CPU; a GPU and JAX always do)
    jit: bool = True

    def validate(self):
        """Raises UserError if settings do not fit each other."""
        if self.replay.maxlen:  # 0: no limit
            limit(self, "replay.maxlen", at_least=self.replay.minlen)
        heads = ("decoder", "reward", *["discount"] * self.pred_discount)
        for name in self.grad_heads:
            if name not in heads:
                raise UserError(
                    f"grad_heads names '{name}'; the heads are {', '.join(heads)}."
                )

    def check_actions(self, discrete: bool, space: Any):
        """Raises UserError if a setting does not fit the action space."""
        dist = self.actor.kind(discrete)
        if (dist == "onehot") != discrete:
            raise UserError(
                f"actor.dist is {dist}, but the action space is {space}; use auto."
            )
