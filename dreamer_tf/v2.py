"""DreamerV2: Mastering Atari with Discrete World Models.

Hafner, Lillicrap, Norouzi, Ba: arXiv 2010.02193 v4 (ICLR 2021).
Equations are numbered as in the paper; "official" is
github.com/danijar/dreamerv2 at commit 07d906e, whose names settings and weights keep;
attributes are named as in `v3.py`.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

import keras
import numpy as np
from keras import layers, ops

from dreamer_tf import engine, nets, rssm
from dreamer_tf.agent import Agent
from dreamer_tf.configs.fields import limit
from dreamer_tf.distributions import (
    Bernoulli,
    OneHot,
    TanhNormal,
    TruncNormal,
    UnitNormal,
    explore,
)
from dreamer_tf.errors import UserError
from dreamer_tf.optimizers import Adam
from dreamer_tf.returns import lambda_return

sg = ops.stop_gradient

# ------------------------------------------------------------------- config --


@dataclass(frozen=True)
class Rssm:
    """The RSSM."""

    deter: int = 200  # width of the recurrent state
    hidden: int = 200  # width of the layers around it
    stoch: int = 32  # number of categorical latent variables
    discrete: int = 32  # classes of each
    act: str = "elu"  # activation, by its name in keras.activations
    norm: Literal["none", "layer"] = "none"  # normalisation before activations


@dataclass(frozen=True)
class Encoder:
    """The encoder; also the fields of the decoder."""

    mlp_keys: str = ".*"  # pattern of the vectors' names, from their beginning
    cnn_keys: str = ".*"  # pattern of the images' names, from their beginning
    act: str = "elu"  # activation, by its name in keras.activations
    norm: Literal["none", "layer"] = "none"  # normalisation before activations
    cnn_depth: int = 48  # image channels of the outermost stage, doubled inwards
    cnn_kernels: tuple[int, ...] = (4, 4, 4, 4)  # sizes of the convolutions
    mlp_layers: tuple[int, ...] = (400, 400, 400, 400)  # widths of the vector MLP


@dataclass(frozen=True)
class Decoder(Encoder):
    """The decoder."""

    cnn_kernels: tuple[int, ...] = (5, 5, 6, 6)  # sizes of the convolutions


@dataclass(frozen=True)
class Head:
    """An MLP head."""

    layers: int = 4  # hidden layers
    units: int = 400  # their width
    act: str = "elu"  # activation, by its name in keras.activations
    norm: Literal["none", "layer"] = "none"  # normalisation before activations


@dataclass(frozen=True)
class Actor(Head):
    """The actor."""

    # distribution of actions; auto: trunc_normal, or onehot if they are discrete
    dist: Literal["auto", "trunc_normal", "tanh_normal", "onehot"] = "auto"
    min_std: float = 0.1  # smallest scale of a continuous action
    init_std: float = 0.0  # added to the raw scale


@dataclass(frozen=True)
class LossScales:
    """Factors of the loss terms; every other reconstruction has 1."""

    kl: float = 1.0  # KL between posterior and prior
    reward: float = 1.0  # reward
    discount: float = 1.0  # discount
    proprio: float = 1.0  # reconstruction of an entry of this name


@dataclass(frozen=True)
class Kl:
    """The KL loss (Algorithm 2)."""

    free: float = 1.0  # nats below which there is no gradient
    forward: bool = False  # KL(prior, posterior) instead
    balance: float = 0.8  # share of the gradient that trains the prior
    free_avg: bool = True  # free nats of the batch's mean, not of each step


@dataclass(frozen=True)
class Opt:
    """An optimizer."""

    lr: float = 3e-4  # learning rate
    eps: float = 1e-5  # added to the root of the second moment
    clip: float = 100.0  # largest norm of all gradients together; 0: any
    wd: float = 1e-6  # weight decay, not times the learning rate


@dataclass(frozen=True)
class RewardNorm:
    """Normalisation of imagined rewards by their mean magnitude."""

    momentum: float = 1.0  # of the moving magnitude; 1: no normalisation
    scale: float = 1.0  # magnitude that results
    eps: float = 1e-8  # added to the magnitude


@dataclass(frozen=True)
class Replay:
    """The replay buffer."""

    capacity: int = 2_000_000  # steps kept
    minlen: int = 50  # length of the shortest sequence that is drawn
    maxlen: int = 50  # length of the longest; 0: no limit
    prioritize_ends: bool = False  # draw ends of episodes more often


@dataclass(frozen=True)
class Dataset:
    """What one update sees."""

    batch: int = 16  # sequences of a batch
    length: int = 50  # steps of a sequence


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
    prefill: int = 1000  # random decisions before the first update
    pretrain: int = 100  # updates before the policy acts, besides the first one
    train_every: int = 5  # decisions between updates
    train_steps: int = 1  # updates each time
    clip_rewards: Literal["identity", "tanh", "sign"] = "identity"  # seen rewards
    pred_discount: bool = False  # learn a discount head from is_terminal
    # heads through which the RSSM and the encoder learn
    grad_heads: tuple[str, ...] = ("decoder", "reward")
    discount: float = 0.99  # discount factor
    discount_lambda: float = 0.95  # λ of the returns
    imag_horizon: int = 15  # steps of imagination
    # gradient of the actor; auto: dynamics, or reinforce if actions are discrete
    actor_grad: Literal["auto", "dynamics", "reinforce", "both"] = "auto"
    actor_grad_mix: float = 0.1  # share of dynamics in "both"
    actor_ent: float = 1e-4  # entropy bonus of the actor
    slow_target: bool = True  # compute returns from a slow copy of the critic
    slow_target_update: int = 100  # updates between refreshes of the copy
    slow_target_fraction: float = 1.0  # share of the critic taken at each refresh
    expl_noise: float = 0.0  # noise on actions in training
    eval_noise: float = 0.0  # noise on actions in evaluation
    eval_state_mean: bool = False  # do not sample latents in evaluation
    # of the layers' computation; auto: bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # compile the update with XLA (TensorFlow backend, one device; JAX always does)
    jit: bool = True

    def validate(self):
        """Raises UserError if a setting is out of range."""
        parts = ("reward_head", "discount_head", "actor", "critic")
        coders, opts = ("encoder", "decoder"), ("model_opt", "actor_opt", "critic_opt")
        limit(self, "rssm.deter rssm.hidden rssm.stoch", at_least=1)
        limit(self, "rssm.discrete", at_least=2)
        for name in coders:
            limit(self, f"{name}.cnn_depth {name}.mlp_layers", at_least=1)
            nets.check_kernels(self, f"{name}.cnn_kernels")
        for name in parts:
            limit(self, f"{name}.layers", at_least=0)
            limit(self, f"{name}.units", at_least=1)
        for name in opts:
            limit(self, f"{name}.lr {name}.clip", at_least=0)
            limit(self, f"{name}.eps", above=0)
            limit(self, f"{name}.wd", at_least=0, below=1)
        for name in ("rssm", *coders, *parts):
            nets.check_activations(self, f"{name}.act")
        limit(self, "dataset.batch dataset.length train_every", at_least=1)
        limit(self, "replay.capacity replay.minlen", at_least=1)
        if self.replay.maxlen:  # 0: no limit
            limit(self, "replay.maxlen", at_least=self.replay.minlen)
        # The actor loss has horizon - 1 terms, see `behaviour`.
        limit(self, "imag_horizon", at_least=2)
        limit(self, "slow_target_update", at_least=1)
        limit(self, "prefill pretrain train_steps", at_least=0)
        scales = [f"loss_scales.{name}" for name in vars(self.loss_scales)]
        limit(self, " ".join(scales), at_least=0)
        limit(self, "kl.free actor.min_std actor_ent", at_least=0)
        limit(self, "expl_noise eval_noise", at_least=0)
        limit(self, "reward_norm.scale reward_norm.eps", above=0)
        shares = "kl.balance reward_norm.momentum discount discount_lambda"
        shares += " actor_grad_mix slow_target_fraction"
        limit(self, shares, at_least=0, at_most=1)
        heads = ("decoder", "reward", *["discount"] * self.pred_discount)
        for name in self.grad_heads:
            if name not in heads:
                raise UserError(
                    f"grad_heads names '{name}'; the heads are {', '.join(heads)}."
                )
        for name in ("mlp_keys", "cnn_keys"):
            for part in coders:
                pattern = getattr(getattr(self, part), name)
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise UserError(
                        f"{part}.{name} is '{pattern}', which is no regular "
                        f"expression: {error}."
                    ) from error


# ---------------------------------------------------------------- RSSM cell --


class RSSM(layers.Layer):
    """Recurrent state-space model with categorical latents (Eq. 1, Algorithm 1).

    State: `deter [B, D]` and `stoch [B, S, C]`, a vector of one-hots.

    Args:
      config: `Rssm`.
      actions: width of the action vector.
      tokens: width of an encoded observation.
    """

    def __init__(self, config: Rssm, actions: int, tokens: int, **kwargs):
        super().__init__(**kwargs)
        c = self.config = config
        self.actions, self.tokens, self.flat = actions, tokens, c.stoch * c.discrete
        self.act = nets.activation(c.act)
        self.img_in = nets.SplitDense(c.hidden, name="img_in")
        self.img_in_norm = nets.Norm(c.norm, name="img_in_norm")
        self.cell = nets.NormGRUCell(c.deter, name="cell")
        # "_0": of an ensemble of one.
        self.img_out = layers.Dense(c.hidden, name="img_out_0")
        self.img_out_norm = nets.Norm(c.norm, name="img_out_norm_0")
        self.img_dist = layers.Dense(self.flat, name="img_dist_0")
        self.obs_out = nets.SplitDense(c.hidden, name="obs_out")
        self.obs_out_norm = nets.Norm(c.norm, name="obs_out_norm")
        self.obs_dist = layers.Dense(self.flat, name="obs_dist")

    def build(self):
        c = self.config
        self.img_in.build((None, self.flat + self.actions))
        self.cell.build((None, c.hidden))
        self.img_out.build((None, c.deter))
        self.img_dist.build((None, c.hidden))
        self.obs_out.build((None, c.deter + self.tokens))
        self.obs_dist.build((None, c.hidden))
        for norm in (self.img_in_norm, self.img_out_norm, self.obs_out_norm):
            norm.build((None, c.hidden))

    def initial(self, batch_size: int) -> dict:
        """The zero state."""
        c = self.config
        return {
            "deter": ops.zeros((batch_size, c.deter)),
            "stoch": ops.zeros((batch_size, c.stoch, c.discrete)),
        }

    def feat(self, state):
        """What the heads see: `[stoch, deter]`, `[..., S C + D]`."""
        deter, stoch = state["deter"], state["stoch"]
        stoch = ops.reshape(stoch, (*deter.shape[:-1], self.flat))
        return ops.concatenate([stoch, deter], -1)

    def dist(self, logit):
        """The latent's distribution from raw logits `[..., S, C]`."""
        return OneHot(logit)

    def core(self):
        """`(embed_action, core)`: `core(deter, stoch, embed_action(action)) -> deter`.

        The sequence model; actions that are known can be embedded all at once.
        """
        first, second = self.img_in.split(self.flat)

        def core(deter, stoch, action):
            stoch = ops.reshape(stoch, (*deter.shape[:-1], self.flat))
            x = self.act(self.img_in_norm(first(stoch) + action))
            return self.cell(x, deter)

        return second, core

    def posterior(self):
        """`(project, logit)`: `logit(deter, project(tokens)) -> [..., S, C]`."""
        first, second = self.obs_out.split(self.config.deter)

        def logit(deter, projected):
            x = self.act(self.obs_out_norm(first(deter) + projected))
            return self._shape(self.obs_dist(x))

        return second, logit

    def prior(self, deter):
        """Logits of the prior, `[..., D] -> [..., S, C]`."""
        x = self.act(self.img_out_norm(self.img_out(deter)))
        return self._shape(self.img_dist(x))

    def observing(self, tokens, action, is_first):
        """One filtering step, see `rssm.py`; outputs deter, stoch and logit."""
        embed_action, core = self.core()
        project, logit = self.posterior()
        keep = 1 - ops.cast(is_first, "float32")
        inputs = {
            "keep": keep,
            "action": embed_action(action * keep[..., None]),
            "tokens": project(tokens),
        }

        def step(state, x, noise):
            deter = state["deter"] * x["keep"][:, None]
            stoch = state["stoch"] * x["keep"][:, None, None]
            deter = core(deter, stoch, x["action"])
            post = logit(deter, x["tokens"])
            stoch = self.dist(post).sample(noise)
            state = {"deter": deter, "stoch": stoch}
            return state, state | {"logit": post}

        return inputs, step

    def imagining(self, start):
        """One step of the prior, see `rssm.py`."""
        embed_action, core = self.core()

        def step(state, action, noise):
            deter = core(state["deter"], state["stoch"], embed_action(action))
            stoch = self.dist(self.prior(deter)).sample(noise)
            return {"deter": deter, "stoch": stoch}

        return start, step

    def _shape(self, logit):
        c = self.config
        logit = ops.cast(logit, "float32")
        return ops.reshape(logit, (*logit.shape[:-1], c.stoch, c.discrete))


# -------------------------------------------------------------- world model --


def kl_loss(post, prior, config: Kl):
    """KL loss with balancing (Eq. 2, Algorithm 2; official `kl_loss`).

    Args:
      post, prior: logits `[B, T, S, C]`.
      config: `Kl`.

    Returns:
      The loss, a scalar, and the KL `[B, T]` in nats.
    """

    def kl(p, q):
        return ops.sum(OneHot(p).kl(OneHot(q)), -1)

    def clipped(value):
        if config.free_avg:
            return ops.maximum(ops.mean(engine.whole_batch(value)), config.free)
        return ops.mean(ops.maximum(value, config.free))

    lhs, rhs = (prior, post) if config.forward else (post, prior)
    mix = config.balance if config.forward else 1 - config.balance
    if config.balance == 0.5:
        # Both get the whole gradient, and free nats are those of each step.
        value = kl(lhs, rhs)
        return ops.mean(ops.maximum(value, config.free)), value
    value = kl(lhs, sg(rhs))
    return mix * clipped(value) + (1 - mix) * clipped(kl(sg(lhs), rhs)), value


# --------------------------------------------------------- scale of rewards --


class RewardScale:
    """Moving mean magnitude of rewards (official `StreamNorm`).

    Args:
      config: `RewardNorm`.
    """

    def __init__(self, config: RewardNorm):
        self.config = config
        self.mag = keras.Variable(1.0, dtype="float32", trainable=False)
        self.variables = {"mag": self.mag}

    def __call__(self, reward):
        """Rewards normalised after seeing them, and the new magnitude."""
        c = self.config
        mean = ops.mean(ops.abs(engine.whole_batch(reward, 1)))
        mag = sg(c.momentum * self.mag + (1 - c.momentum) * mean)
        return c.scale * reward / (mag + c.eps), mag


class DreamerV2(Agent):
    """World model, actor and critic of DreamerV2. See `agent.py`."""

    version = "v2"
    losses = ("kl", "discount")
    batch_name = "dataset.batch"

    def build(self):
        """Makes all networks, the optimizers and the running statistics."""
        c = self.config
        feat = c.rssm.deter + c.rssm.stoch * c.rssm.discrete
        self.enc = nets.StridedEncoder(
            *self._inputs(c.encoder),
            **self._coder(c.encoder),
            convs=[f"conv{i}" for i in range(len(c.encoder.cnn_kernels))],
            name="encoder",
        )
        self.dyn = RSSM(c.rssm, self.actions, self.enc.width, name="rssm")
        self.dec = nets.StridedDecoder(
            *self._inputs(c.decoder),
            feat,
            **self._coder(c.decoder),
            convs=["convin", *(f"conv{i}" for i in range(len(c.decoder.cnn_kernels)))],
            name="decoder",
        )
        self.rew = self._head("reward", c.reward_head, {"out": 1})
        self.con = self._head("discount", c.discount_head, {"out": 1})
        self.dist = c.actor.dist
        if self.dist == "auto":
            self.dist = "onehot" if self.discrete else "trunc_normal"
        if (self.dist == "onehot") != self.discrete:
            raise UserError(
                f"actor.dist is {self.dist}, but the action space is "
                f"{self.action_space}; use auto."
            )
        self.grad = c.actor_grad
        if self.grad == "auto":
            self.grad = "reinforce" if self.discrete else "dynamics"
        names = ("out",) if self.discrete else ("out", "std")
        self.pol = self._head("actor", c.actor, dict.fromkeys(names, self.actions))
        self.val = self._head("critic", c.critic, {"out": 1})
        self.slowval = self._head("target_critic", c.critic, {"out": 1})
        for net in (self.enc, self.dyn, self.dec):
            net.build()
        for net in (self.rew, self.con, self.pol, self.val, self.slowval):
            net.build((None, feat))
        for slow, fast in zip(self.slowval.variables, self.val.variables):
            slow.assign(np.asarray(fast))
        if not c.slow_target:
            self.slowval = self.val
        modules = (self.enc, self.dyn, self.dec, self.rew)
        modules += (self.con,) * c.pred_discount
        self.model_opt = self._optimizer("model_opt", *modules)
        self.actor_opt = self._optimizer("actor_opt", self.pol)
        self.critic_opt = self._optimizer("critic_opt", self.val)
        self.rewnorm = RewardScale(c.reward_norm)
        self.count = keras.Variable(0, dtype="int32", trainable=False)
        for opt in (self.model_opt, self.actor_opt, self.critic_opt):
            self.params |= opt.params
            self.add_variables(opt.params)
            self.add_variables(opt.variables)
        if c.slow_target:
            self.add_variables({v.path: v for v in self.slowval.variables})
        self.add_variables({"slow_target/count": self.count})
        self.add_variables(
            {f"reward_norm/{k}": v for k, v in self.rewnorm.variables.items()}
        )

    def _inputs(self, config):
        """Shapes of the images and of the vectors that a coder handles."""
        images, vectors = {}, {}
        for key, shape in self.shapes.items():
            is_vector = len(shape) == 1 or self.config.every_rank
            if len(shape) == 3 and re.match(config.cnn_keys, key):
                images[key] = shape
            if len(shape) < 3 and is_vector and re.match(config.mlp_keys, key):
                vectors[key] = shape
        if not images and not vectors:
            raise UserError(
                f"No observation of {self.shapes} fits cnn_keys='{config.cnn_keys}' "
                f"and has three axes, or mlp_keys='{config.mlp_keys}' and has one "
                "(every_rank allows others)."
            )
        return images, vectors

    def _coder(self, config):
        return {
            "depth": config.cnn_depth,
            "kernels": config.cnn_kernels,
            "units": config.mlp_layers,
            "act": config.act,
            "cnn_act": config.act,
            "norm": config.norm,
        }

    def _head(self, name, config, outputs):
        return nets.Head(
            config.layers, config.units, outputs, config.act, config.norm, name=name
        )

    def _optimizer(self, name, *modules):
        params = {v.path: v for m in modules for v in m.trainable_variables}
        return Adam(name, params, **vars(getattr(self.config, name)))

    def encode(self, obs):
        """Tokens `[..., E]` from observation entries."""
        return self.enc(obs)

    def world_model(self, batch, carry, noise):
        """Losses of the world model (Eq. 2).

        Args:
          batch: entries `[B, T, ...]`.
          carry: state before the first step.
          noise: of the posterior, `[B, T, S]`.

        Returns:
          The scaled sum; losses `{name: scalar}`; posterior `{deter, stoch, logit}`;
          and what else the tests look at.
        """
        c = self.config
        tokens = self.encode({k: batch[k] for k in self.shapes})
        _, post = rssm.observe(
            self.dyn, carry, tokens, batch["action"], batch["is_first"], noise
        )
        # The prior's own sample is never used, so all logits come at once.
        prior_logit = self.dyn.prior(post["deter"])
        feat = self.dyn.feat(post)
        losses = {}
        losses["kl"], kl = kl_loss(post["logit"], prior_logit, c.kl)
        likes = {}
        inputs = {
            k: feat if k in c.grad_heads else sg(feat)
            for k in ("decoder", "reward", "discount")
        }
        for key, mean in self.dec(inputs["decoder"]).items():
            rank = len(self.shapes[key])
            target = nets.centred(batch[key]) if rank == 3 else batch[key]
            likes[key] = UnitNormal(mean, rank).log_prob(target)
        reward = ops.cast(batch["reward"], "float32")
        if c.clip_rewards != "identity":
            reward = {"tanh": ops.tanh, "sign": ops.sign}[c.clip_rewards](reward)
        likes["reward"] = self.reward(inputs["reward"]).log_prob(reward)
        # γ is part of the label, so the head predicts γ, not 1, while it goes on.
        discount = c.discount * (1 - ops.cast(batch["is_terminal"], "float32"))
        if c.pred_discount:
            dist = self.continues(inputs["discount"])
            likes["discount"] = dist.log_prob(discount)
        losses |= {k: -ops.mean(v) for k, v in likes.items()}
        scales = vars(c.loss_scales)
        total = sum(scales.get(k, 1.0) * v for k, v in losses.items())
        extra = {
            "embed": tokens,
            "feat": feat,
            "prior_logit": prior_logit,
            "kl": kl,
            "likes": likes,
            "reward": reward,
            "discount": discount,
            "prior_ent": ops.sum(self.dyn.dist(prior_logit).entropy(), -1),
            "post_ent": ops.sum(self.dyn.dist(post["logit"]).entropy(), -1),
        }
        return total, losses, post, extra

    def reward(self, feat) -> UnitNormal:
        """Distribution of the reward, from features `[..., F]`."""
        return UnitNormal(self.rew(feat)["out"][..., 0])

    def continues(self, feat) -> Bernoulli:
        """Its mean is the predicted discount factor, from features `[..., F]`."""
        return Bernoulli(self.con(feat)["out"][..., 0])

    # ---------------------------------------------------------- behaviour --

    def actor(self, feat):
        """Action distribution from features `[..., F]`."""
        return self.action_dist(self.pol(feat))

    def action_dist(self, out):
        """Action distribution from the raw outputs of the actor's network."""
        c = self.config.actor
        if self.dist == "onehot":
            return OneHot(out["out"])
        kind = {"trunc_normal": TruncNormal, "tanh_normal": TanhNormal}[self.dist]
        return kind(out["out"], out["std"], c.min_std, c.init_std)

    def imagination(self, start, noise):
        """Rolls out the actor, with the gradients that `actor_grad` wants.

        Args:
          start: states `[N, ...]`, a constant.
          noise: `{"action": [H, N, ...], "latent": [H, N, S]}` or parts.

        Returns:
          Features `[H + 1, N, F]` of start and imagined states, the actions
          `[H, N, A]` that led from each to the next, the actor's raw outputs there,
          and the imagined states `[H, N, ...]`.
        """
        start = keras.tree.map_structure(sg, start)

        def policy(state, noise):
            # No gradient into what the actor sees.
            out = self.pol(sg(self.dyn.feat(state)))
            action = self.action_dist(out).sample(noise)
            return out | {"action": sg(action) if self.grad == "reinforce" else action}

        states, outs = rssm.imagine(
            self.dyn, policy, start, self.config.imag_horizon, noise
        )
        action = outs.pop("action")
        feat = [self.dyn.feat(start)[None], self.dyn.feat(states)]
        return ops.concatenate(feat, 0), action, outs, states

    def behaviour(self, feat, action, outs, is_terminal):
        """Loss of the actor on imagined states (Eqs. 4 and 6), and λ-returns.

        Args:
          feat, action, outs: see `imagination`.
          is_terminal: of the starts, `[N]`.

        Returns:
          The loss, a scalar; metrics; intermediate values by name.
        """
        c = self.config
        reward = self.reward(feat).mean
        normed, mag = self.rewnorm(reward)
        if c.pred_discount:
            discount = self.continues(feat).mean
            # The starts were observed: whether they are an end is known.
            first = c.discount * (1 - ops.cast(is_terminal, "float32"))
            discount = ops.concatenate([first[None], discount[1:]], 0)
        else:
            discount = ops.full_like(reward, c.discount)
        # A state's discount says whether the *next* one counts.
        weight = ops.concatenate([ops.ones_like(discount[:1]), discount[:-1]], 0)
        weight = sg(ops.cumprod(weight, 0))
        # Eq. 4: λ-returns, from the slow critic.
        value = self.value(feat, slow=True).mean
        target = lambda_return(
            normed[:-1], value[:-1], discount[:-1], value[-1], c.discount_lambda
        )
        # Eq. 6. A reward belongs to the state in which it is predicted, so the action
        # chosen in state h is credited with V_{h+1}; the last one, which leads to the
        # bootstrap only, is left out. The baseline is the slow critic's v_h, which
        # unlike V_{h+1} also predicts r_h (official `actor_loss`; the paper has v_ξ).
        policy = self.action_dist({k: v[:-1] for k, v in outs.items()})
        entropy = policy.entropy()
        objective = target[1:]
        if self.grad != "dynamics":
            advantage = sg(target[1:] - value[:-2])
            objective = policy.log_prob(action[:-1]) * advantage
        if self.grad == "both":
            mix = c.actor_grad_mix
            objective = mix * target[1:] + (1 - mix) * objective
        loss = -ops.mean(weight[:-2] * (objective + c.actor_ent * entropy))
        metrics = {
            "reward_mean": ops.mean(reward),
            "reward_std": ops.std(engine.whole_batch(reward, 1)),
            "reward_normed_mean": ops.mean(normed),
            "reward_normed_std": ops.std(engine.whole_batch(normed, 1)),
            "critic_slow": ops.mean(value),
            "critic_target": ops.mean(target),
            "actor_ent": ops.mean(entropy),
        }
        extra = {
            "reward": normed,
            "discount": discount,
            "weight": weight,
            "value": value,
            "target": target,
            "entropy": entropy,
            "mag": mag,
        }
        return loss, metrics, extra

    def value(self, feat, slow=False) -> UnitNormal:
        """Distribution of the value, from features `[..., F]`."""
        net = self.slowval if slow else self.val
        return UnitNormal(net(feat)["out"][..., 0])

    def critic_loss(self, feat, target, weight):
        """Loss of the critic on imagined states (Eq. 5), and its mean prediction.

        Args:
          feat `[H, N, F]`, target `[H, N]`, weight `[H, N]`: constants.
        """
        dist = self.value(feat)
        return -ops.mean(weight * dist.log_prob(target)), ops.mean(dist.mean)

    # ------------------------------------------------------------- update --

    def model_gradients(self, noise, batch, carry):
        """What `world_model` returns, metrics, and gradients by path."""

        def loss():
            total, losses, post, extra = self.world_model(
                batch, carry, noise.get("post")
            )
            metrics = {f"{k}_loss": v for k, v in losses.items()}
            metrics |= {"model_loss": total, "model_kl": ops.mean(extra["kl"])}
            metrics |= {k: ops.mean(extra[k]) for k in ("prior_ent", "post_ent")}
            return total, {"post": post, "metrics": metrics} | extra

        params = self.model_opt.params
        (_, out), grads = engine.value_and_grad(loss, list(params.values()))
        return out, dict(zip(params, grads))

    def behaviour_gradients(self, noise, batch, post):
        """What `behaviour` returns, metrics, and gradients of actor and critic."""
        size, length = batch["reward"].shape
        start = {
            k: ops.reshape(post[k], (size * length, *post[k].shape[2:]))
            for k in ("deter", "stoch")
        }
        is_terminal = ops.reshape(batch["is_terminal"], (size * length,))
        noise = {k: noise[k] for k in ("action", "latent") if k in noise}

        def loss():
            feat, action, outs, states = self.imagination(start, noise)
            loss, metrics, extra = self.behaviour(feat, action, outs, is_terminal)
            extra |= {"feat": feat, "action": action, "outs": outs, "states": states}
            return loss, {"metrics": metrics | {"actor_loss": loss}} | extra

        params = self.actor_opt.params
        (_, out), grads = engine.value_and_grad(loss, list(params.values()))
        actor_grads = dict(zip(params, grads))
        constants = sg(out["feat"][:-1]), sg(out["target"]), out["weight"][:-1]
        params = self.critic_opt.params
        (loss, mean), grads = engine.value_and_grad(
            lambda: self.critic_loss(*constants), list(params.values())
        )
        out["metrics"] |= {"critic_loss": loss, "critic": mean}
        return out, actor_grads, dict(zip(params, grads))

    def split_context(self, batch):
        """Start state and training rows of a batch: zeros, and all of them."""
        return self.dyn.initial(batch["reward"].shape[0]), batch

    def draw(self, seed, batch, carry=None):
        """All noise of one update: for latents, and for actions in imagination."""
        horizon, stoch = self.config.imag_horizon, self.config.rssm.stoch
        size, length = batch["reward"].shape
        seeds = [engine.fold_in(seed, i) for i in range(3)]
        return {
            "post": engine.uniform(seeds[0], (size, length, stoch)),
            "latent": engine.uniform(seeds[1], (horizon, size * length, stoch)),
            "action": self._action_noise(seeds[2], (horizon, size * length)),
        }

    def _action_noise(self, seed, shape):
        if self.dist == "onehot":
            return engine.uniform(seed, shape)
        draw = engine.normal if self.dist == "tanh_normal" else engine.uniform
        return draw(seed, (*shape, self.actions))

    def train_step(self, noise, batch, carry=None):
        """One update of everything; returns metrics and nothing for replay.

        The world model learns first; the behaviour learns inside the new one, from
        the states that the old one inferred (official `Agent.train`).
        """
        context, rows = self.split_context(batch)
        carry = context if carry is None else carry
        model, grads = self.model_gradients(noise, rows, carry)
        metrics = model["metrics"]
        metrics["model_grad_norm"] = self.model_opt.apply(grads)
        out, actor_grads, critic_grads = self.behaviour_gradients(
            noise, rows, model["post"]
        )
        metrics |= out["metrics"]
        metrics["actor_grad_norm"] = self.actor_opt.apply(actor_grads)
        metrics["critic_grad_norm"] = self.critic_opt.apply(critic_grads)
        self.rewnorm.mag.assign(out["mag"])
        self.update_slow_target()
        return metrics, {}

    def update_slow_target(self):
        """Copies the critic, after the first update and then every so many."""
        c = self.config
        if c.slow_target:
            mix = ops.where(ops.equal(self.count, 0), 1.0, c.slow_target_fraction)
            due = ops.equal(self.count % c.slow_target_update, 0)
            mix = ops.where(due, mix, 0.0)
            for slow, fast in zip(self.slowval.variables, self.val.variables):
                slow.assign(mix * fast + (1 - mix) * slow)
        self.count.assign(self.count + 1)

    # ------------------------------------------------------------- policy --

    def draw_policy(self, seed, obs, state):
        """Noise of one policy step."""
        size = state["action"].shape[0]
        seeds = [engine.fold_in(seed, i) for i in range(3)]
        return {
            "post": engine.uniform(seeds[0], (size, self.config.rssm.stoch)),
            "action": self._action_noise(seeds[1], (size,)),
            "explore": engine.uniform(seeds[2], (size,))
            if self.discrete
            else engine.normal(seeds[2], (size, self.actions)),
        }

    def policy_step(self, noise, obs, state, mode):
        """One decision: sampled in training, the mode in evaluation."""
        c, evaluating = self.config, mode == "eval"
        tokens = self.encode({k: obs[k][:, None] for k in self.shapes})
        latent = None if evaluating and c.eval_state_mean else noise.get("post")
        post, _ = rssm.observe(
            self.dyn,
            {k: state[k] for k in ("deter", "stoch")},
            tokens,
            state["action"][:, None],
            obs["is_first"][:, None],
            None if latent is None else latent[:, None],
        )
        policy = self.actor(self.dyn.feat(post))
        action = policy.sample(None if evaluating else noise.get("action"))
        amount = c.eval_noise if evaluating else c.expl_noise
        if amount:
            action = explore(action, amount, noise["explore"], self.discrete)
        return action, post | {"action": action}

    # ------------------------------------------------------------- report --

    def decode(self, state) -> dict:
        """Predicted observations in their own units, images around [0, 1]."""
        return {
            k: x + 0.5 if len(self.shapes[k]) == 3 else x
            for k, x in self.dec(self.dyn.feat(state)).items()
        }


AGENT = DreamerV2
