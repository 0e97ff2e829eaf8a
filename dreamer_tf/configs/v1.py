"""Settings of DreamerV1, by official names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from dreamer_tf.configs.fields import limit
from dreamer_tf.configs.ranges import (
    Activation,
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    Range,
    Share,
    Stages,
    Widths,
)
from dreamer_tf.errors import UserError

# The last imagined state only gives the value after the ones before.
Horizon = Annotated[int, Range(at_least=2)]


@dataclass(frozen=True)
class LossScales:
    """Factors of single reconstructions (not in the paper)."""

    # reconstruction of the observation entry of this name; 1 if it is not set
    entries: Mapping[str, NonNegative] = field(default_factory=dict)

    def of(self, entry: str) -> float:
        """The factor of an observation entry's loss."""
        return self.entries.get(entry, 1.0)


@dataclass(frozen=True)
class Config:
    """All that defines DreamerV1, by official names; the defaults are for DMC."""

    deter_size: Count = 200  # width of the recurrent state and the layers around it
    stoch_size: Count = 30  # number of Gaussian latent variables
    num_units: Count = 400  # width of the heads
    dense_act: Activation = "elu"  # activation of heads, a name in keras.activations
    cnn_act: Activation = "relu"  # activation of the convolutions
    cnn_depth: Count = 32  # image channels of the outermost stage, doubled inwards
    enc_kernels: Stages = (4, 4, 4, 4)  # sizes of the encoder's convolutions
    dec_kernels: Stages = (5, 5, 6, 6)  # sizes of the decoder's convolutions
    # widths of the vector MLPs in encoder and decoder (not in the paper)
    mlp_layers: Widths = (400, 400, 400, 400)
    pcont: bool = False  # learn a discount head from is_terminal
    free_nats: NonNegative = 3.0  # nats of the mean KL below which there is no gradient
    kl_scale: NonNegative = 1.0  # factor of the KL
    pcont_scale: NonNegative = 10.0  # factor of the discount head's loss
    loss_scales: LossScales = field(default_factory=LossScales)
    model_lr: NonNegative = 6e-4  # learning rate of the world model
    value_lr: NonNegative = 8e-5  # learning rate of the value model
    actor_lr: NonNegative = 8e-5  # learning rate of the action model
    grad_clip: NonNegative = 100.0  # largest norm of a model's gradients; 0: any
    batch_size: Count = 50  # sequences of a batch
    batch_length: int = 50  # steps of a sequence
    dataset_balance: bool = False  # draw ends of episodes more often
    # draw sequences that end with an episode as well, which the official code
    # leaves out
    include_end: bool = True
    prefill: CountOrZero = 5000  # random frames before the first update
    pretrain: CountOrZero = 100  # updates before the policy acts, besides the first one
    train_every: Count = 1000  # frames between updates
    train_steps: CountOrZero = 100  # updates each time
    clip_rewards: Literal["none", "tanh"] = "none"  # transformation of rewards
    discount: Share = 0.99  # discount factor
    disclam: Share = 0.95  # λ of the returns
    horizon: Horizon = 15  # steps of imagination
    action_init_std: Positive = 5.0  # initial scale of continuous actions
    # noise on actions; auto: additive_gaussian, or epsilon_greedy if discrete
    expl: Literal["auto", "additive_gaussian", "epsilon_greedy"] = "auto"
    expl_amount: NonNegative = 0.3  # standard deviation or probability of the noise
    expl_decay: NonNegative = 0.0  # frames in which it halves; 0: never
    expl_min: NonNegative = 0.0  # its smallest amount
    eval_noise: NonNegative = 0.0  # its amount in evaluation
    # evaluation takes the likeliest of so many sampled actions; 0: the tanh of the
    # mean
    eval_samples: CountOrZero = 100
    # of the layers' computation; auto: bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # compile the update with XLA (TensorFlow on one CPU; a GPU and JAX always do)
    jit: bool = True

    def validate(self):
        """Raises UserError if settings do not fit each other."""
        # The discount head is not trained on the last step, which could be terminal.
        limit(self, "batch_length", at_least=1 + self.pcont)

    def check_actions(self, discrete: bool, space: Any):
        """Raises UserError if a setting does not fit the action space."""
        if self.expl != "auto" and (self.expl == "epsilon_greedy") != discrete:
            raise UserError(
                f"expl is {self.expl}, but the action space is {space}; use auto."
            )
