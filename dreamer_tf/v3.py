"""DreamerV3: Mastering Diverse Domains through World Models.

Hafner, Pasukonis, Ba, Lillicrap: arXiv 2301.04104, Nature 640:647 (2025).
Equations are numbered as in arXiv v2; "official" is github.com/danijar/dreamerv3
at commit e3f0224, whose names settings and weights keep,
without `agent.` and `rssm.`.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import keras
import numpy as np
from keras import layers, ops

from dreamer_tf import engine, nets, rssm
from dreamer_tf.agent import Agent
from dreamer_tf.configs.fields import limit
from dreamer_tf.distributions import Bernoulli, BoundedNormal, OneHot, TwoHot
from dreamer_tf.errors import UserError
from dreamer_tf.optimizers import LaProp
from dreamer_tf.returns import lambda_return_v3, symexp, symlog

sg = ops.stop_gradient

# ------------------------------------------------------------------- config --


@dataclass(frozen=True)
class Dyn:
    """The RSSM."""

    deter: int = 8192  # width of the recurrent state
    hidden: int = 1024  # width of the layers around it
    stoch: int = 32  # number of categorical latent variables
    classes: int = 64  # classes of each
    blocks: int = 8  # diagonal blocks of the recurrent weights
    unimix: float = 0.01  # share of uniform in latent distributions
    imglayers: int = 2  # hidden layers of the prior
    obslayers: int = 1  # hidden layers of the posterior
    dynlayers: int = 1  # block-linear layers before the gates
    free_nats: float = 1.0  # KL below which the dynamics get no gradient
    outscale: float = 1.0  # scale of the initial logit kernels


@dataclass(frozen=True)
class Enc:
    """The encoder."""

    depth: int = 64  # image channels are depth * mults
    mults: tuple[int, ...] = (2, 3, 4, 4)  # channel multiplier of every stage
    kernel: int = 5  # size of the image convolutions
    layers: int = 3  # layers of the vector MLP
    units: int = 1024  # width of the vector MLP
    symlog: bool = True  # squash vector inputs


@dataclass(frozen=True)
class Dec:
    """The decoder."""

    depth: int = 64  # image channels are depth * mults
    mults: tuple[int, ...] = (2, 3, 4, 4)  # channel multiplier of every stage
    kernel: int = 5  # size of the image convolutions
    layers: int = 3  # layers of the vector MLP
    units: int = 1024  # width of the vector MLP
    bspace: int = 8  # blocks of the layer from deter to the first map
    outscale: float = 1.0  # scale of the initial output kernels


@dataclass(frozen=True)
class Head:
    """An MLP head."""

    layers: int = 1  # hidden layers
    units: int = 1024  # their width
    outscale: float = 1.0  # scale of the initial output kernel


@dataclass(frozen=True)
class TwoHotHead(Head):
    """An MLP head that predicts a number through a two-hot code."""

    outscale: float = 0.0  # scale of the initial output kernel; 0 predicts 0
    bins: int = 255  # of the code


@dataclass(frozen=True)
class Policy:
    """The actor."""

    layers: int = 3  # hidden layers
    units: int = 1024  # their width
    minstd: float = 0.1  # smallest standard deviation of a continuous action
    maxstd: float = 1.0  # largest standard deviation of a continuous action
    outscale: float = 0.01  # scale of the initial output kernels


@dataclass(frozen=True)
class LossScales:
    """Factors of the loss terms."""

    rec: float = 1.0  # reconstruction, for every observation entry
    rew: float = 1.0  # reward
    con: float = 1.0  # continuation
    dyn: float = 1.0  # KL that trains the prior
    rep: float = 0.1  # KL that trains the posterior
    policy: float = 1.0  # actor
    value: float = 1.0  # critic, on imagined states
    repval: float = 0.3  # critic, on replayed states


@dataclass(frozen=True)
class Opt:
    """The optimizer, one for all networks."""

    lr: float = 4e-5  # learning rate after warm-up
    agc: float = 0.3  # adaptive gradient clipping, relative to the tensor's norm
    eps: float = 1e-20  # added to the root of the second moment
    beta1: float = 0.9  # decay of the momentum
    beta2: float = 0.999  # decay of the second moment
    wd: float = 0.0  # weight decay of kernels, times the learning rate
    warmup: int = 1000  # updates of linear warm-up


@dataclass(frozen=True)
class RetNorm:
    """Normalisation of returns for the actor."""

    rate: float = 0.01  # of the moving percentiles
    limit: float = 1.0  # smallest scale
    perclo: float = 5.0  # lower percentile
    perchi: float = 95.0  # upper percentile
    debias: bool = False  # correct the moving averages for their start at 0


@dataclass(frozen=True)
class ImagLoss:
    """Actor and critic on imagined states."""

    lam: float = 0.95  # λ of the returns
    actent: float = 3e-4  # entropy bonus of the actor
    slowreg: float = 1.0  # regularisation of the critic to its slow copy
    slowtar: bool = False  # compute returns from the slow critic


@dataclass(frozen=True)
class ReplLoss:
    """Critic on replayed states."""

    lam: float = 0.95  # λ of the returns
    slowreg: float = 1.0  # regularisation of the critic to its slow copy


@dataclass(frozen=True)
class SlowValue:
    """The slow copy of the critic."""

    rate: float = 0.02  # share of the critic taken at each refresh
    every: int = 1  # updates between refreshes


@dataclass(frozen=True)
class ReplaySize:
    """The replay buffer."""

    size: int = 5_000_000  # sequences that can start in it
    online: bool = True  # train on every new sequence once, before old ones


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
    batch_size: int = 16  # sequences of a batch
    batch_length: int = 64  # steps of a sequence that are trained on
    replay_context: int = 1  # steps before them that only give the start state
    train_ratio: float = 32.0  # replayed steps trained on per collected step
    horizon: int = 333  # effective horizon; the discount is 1 - 1 / horizon
    contdisc: bool = True  # put the discount into the continuation head
    imag_last: int = 0  # imagine from the last steps of a sequence only (0: all)
    imag_length: int = 15  # steps of imagination
    reward_grad: bool = True  # train the world model through the reward head
    repval_loss: bool = True  # train the critic on replayed states too
    repval_grad: bool = True  # train the world model through that loss
    # of the layers' computation; auto: bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # compile the update with XLA (TensorFlow backend, one device; JAX always does)
    jit: bool = True

    def validate(self):
        """Raises UserError if a setting is out of range or sizes do not fit."""
        limit(self, "dyn.deter dyn.hidden dyn.stoch dyn.blocks", at_least=1)
        limit(self, "dyn.classes", at_least=2)
        limit(self, "dyn.imglayers dyn.obslayers dyn.dynlayers", at_least=0)
        limit(self, "dyn.free_nats dyn.outscale dec.outscale", at_least=0)
        limit(self, "dyn.unimix", at_least=0, at_most=1)
        for name in ("enc", "dec"):
            nets.check_kernels(self, f"{name}.mults")
            limit(self, f"{name}.depth {name}.kernel {name}.units", at_least=1)
            limit(self, f"{name}.layers", at_least=0)
        limit(self, "dec.bspace", at_least=1)
        for name in ("rewhead", "conhead", "policy", "value"):
            limit(self, f"{name}.layers {name}.units", at_least=1)
            limit(self, f"{name}.outscale", at_least=0)
        limit(self, "rewhead.bins value.bins", at_least=3)
        limit(self, "policy.minstd", above=0)
        limit(self, "policy.maxstd", at_least=self.policy.minstd)
        scales = [f"loss_scales.{name}" for name in vars(self.loss_scales)]
        limit(self, " ".join(scales), at_least=0)
        limit(self, "opt.lr opt.agc opt.wd opt.warmup", at_least=0)
        limit(self, "opt.eps retnorm.limit", above=0)
        limit(self, "opt.beta1 opt.beta2", at_least=0, below=1)
        limit(self, "retnorm.perclo", at_least=0, at_most=100)
        limit(self, "retnorm.perchi", at_least=self.retnorm.perclo, at_most=100)
        shares = "retnorm.rate imag_loss.lam repl_loss.lam slowvalue.rate"
        limit(self, shares, at_least=0, at_most=1)
        limit(self, "imag_loss.actent train_ratio", at_least=0)
        limit(self, "imag_loss.slowreg repl_loss.slowreg", at_least=0)
        limit(self, "slowvalue.every replay.size batch_size imag_length", at_least=1)
        # A discount of 0 is divided by.
        limit(self, "horizon", at_least=2)
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


# ---------------------------------------------------------------- RSSM cell --


class RSSM(layers.Layer):
    """Recurrent state-space model with a block GRU (Eq. 1, official `rssm.py`).

    State: `deter [B, D]` and `stoch [B, S, C]`, a vector of one-hots.

    Args:
      config: `Dyn`.
      actions: width of the action vector.
      tokens: width of an encoded observation.
    """

    def __init__(self, config: Dyn, actions: int, tokens: int, **kwargs):
        super().__init__(**kwargs)
        c = self.config = config
        self.actions, self.tokens, self.flat = actions, tokens, c.stoch * c.classes
        self.inputs = [nets.dense(c.hidden, f"dynin{i}") for i in range(3)]
        self.innorms = [nets.rms_norm(f"dynin{i}norm") for i in range(3)]
        widths = [c.deter] * c.dynlayers + [3 * c.deter]
        names = [f"dynhid{i}" for i in range(c.dynlayers)] + ["dyngru"]
        self.blocks = [
            nets.BlockLinear(w, c.blocks, 0 if i else 3 * c.hidden, name=n)
            for i, (w, n) in enumerate(zip(widths, names))
        ]
        self.hidnorms = [nets.rms_norm(f"dynhid{i}norm") for i in range(c.dynlayers)]
        widths = [c.hidden] * c.obslayers + [self.flat]
        names = [f"obs{i}" for i in range(c.obslayers)] + ["obslogit"]
        scales = [1.0] * c.obslayers + [c.outscale]
        self.obs = [
            (nets.dense if i else nets.split_dense)(w, n, s)
            for i, (w, n, s) in enumerate(zip(widths, names, scales))
        ]
        self.obsnorms = [nets.rms_norm(f"obs{i}norm") for i in range(c.obslayers)]
        names = [f"prior{i}" for i in range(c.imglayers)]
        self.img = [nets.dense(c.hidden, n) for n in names]
        self.imgnorms = [nets.rms_norm(f"{n}norm") for n in names]
        self.priorlogit = nets.dense(self.flat, "priorlogit", c.outscale)

    def build(self):
        c = self.config
        for linear, norm, width in zip(
            self.inputs, self.innorms, (c.deter, self.flat, self.actions)
        ):
            linear.build((None, width))
            norm.build((None, c.hidden))
        for block in self.blocks:
            block.build((None, c.deter))
        for norm in self.hidnorms:
            norm.build((None, c.deter))
        width = c.deter + self.tokens
        for linear in self.obs:
            linear.build((None, width))
            width = c.hidden
        for norm in self.obsnorms:
            norm.build((None, c.hidden))
        width = nets.build_stack(self.img, self.imgnorms, c.deter)
        self.priorlogit.build((None, width))

    def initial(self, batch_size: int) -> dict:
        """The zero state."""
        c = self.config
        return {
            "deter": ops.zeros((batch_size, c.deter)),
            "stoch": ops.zeros((batch_size, c.stoch, c.classes)),
        }

    def feat(self, state):
        """What the heads see: `[deter, stoch]`, `[..., D + S C]`."""
        deter, stoch = state["deter"], state["stoch"]
        stoch = ops.reshape(stoch, (*deter.shape[:-1], self.flat))
        return ops.concatenate([deter, stoch], -1)

    def dist(self, logit):
        """The latent's distribution from raw logits `[..., S, C]`."""
        return OneHot(logit, self.config.unimix)

    def embed_action(self, action):
        """`[..., A] -> [..., hidden]`; magnitudes above 1 are scaled down to 1."""
        action = action / sg(ops.maximum(1.0, ops.abs(action)))
        return ops.silu(self.innorms[2](self.inputs[2](action)))

    def core(self, once: bool = False):
        """`core(deter, parts, stoch, action_embedding) -> (deter, parts)`.

        The sequence model; `parts` are those of `deter` by block, `[K, B, D / K]`.
        `once`: it will be called for one step only.
        """
        own, shared = self.blocks[0].split(once)
        later = [block.split()[0] for block in self.blocks[1:]]

        def core(deter, parts, stoch, x2):
            stoch = ops.reshape(stoch, (*deter.shape[:-1], self.flat))
            x0 = ops.silu(self.innorms[0](self.inputs[0](deter)))
            x1 = ops.silu(self.innorms[1](self.inputs[1](stoch)))
            x = own(parts) + shared(ops.concatenate([x0, x1, x2], -1))
            for block, norm in zip(later, self.hidnorms):
                x = block(self.parts(ops.silu(norm(x))))
            # Each block's outputs are its part of reset, candidate and update. By
            # block they lie side by side, which a compiler makes fast loops of.
            gates = self.parts(ops.cast(x, "float32"))
            reset, cand, update = ops.split(gates, 3, -1)
            cand = ops.tanh(ops.sigmoid(reset) * cand)
            update = ops.sigmoid(update - 1)
            parts = update * cand + (1 - update) * parts
            return nets.unite(parts), parts

        return core

    def posterior(self):
        """`(project, logit)`: `logit(deter, project(tokens)) -> [..., S, C]`."""
        first, second = self.obs[0].split(self.config.deter)

        def logit(deter, projected):
            x = first(deter) + projected
            for linear, norm in zip(self.obs[1:], self.obsnorms):
                x = linear(ops.silu(norm(x)))
            return self._shape(x)

        return second, logit

    def prior(self, deter):
        """Logits of the prior, `[..., D] -> [..., S, C]`."""
        return self._shape(self.priorlogit(nets.stack(deter, self.img, self.imgnorms)))

    def observing(self, tokens, action, is_first):
        """One filtering step, see `rssm.py`; outputs deter, stoch and logit."""
        core = self.core(once=action.shape[1:-1] == (1,))
        project, logit = self.posterior()
        keep = 1 - ops.cast(is_first, "float32")
        inputs = {
            "keep": keep,
            "action": self.embed_action(action * keep[..., None]),
            "tokens": project(tokens),
        }

        def step(state, x, noise):
            deter = state["deter"] * x["keep"][:, None]
            stoch = state["stoch"] * x["keep"][:, None, None]
            deter, _ = core(deter, self.parts(deter), stoch, x["action"])
            post = logit(deter, x["tokens"])
            stoch = self.dist(post).sample(noise)
            state = {"deter": deter, "stoch": stoch}
            return state, state | {"logit": post}

        return inputs, step

    def imagining(self, start):
        """One step of the prior, see `rssm.py`."""
        core = self.core()

        def step(state, action, noise):
            action = self.embed_action(action)
            deter, parts = core(state["deter"], state["parts"], state["stoch"], action)
            stoch = self.dist(self.prior(deter)).sample(noise)
            return {"deter": deter, "parts": parts, "stoch": stoch}

        return start | {"parts": self.parts(start["deter"])}, step

    def parts(self, deter):
        """Those of the recurrent state by block, `[B, D] -> [K, B, D / K]`."""
        return nets.divide(deter, self.config.blocks)

    def _shape(self, logit):
        c = self.config
        return ops.reshape(logit, (*logit.shape[:-1], c.stoch, c.classes))


# -------------------------------------------------------------- world model --


def kl_loss(post, prior, free):
    """KL per step with free nats, `[...]` (Eq. 3; official `RSSM.loss`).

    Args:
      post, prior: distributions of the latent's variables, `[..., S]`.
      free: nats of all variables together that cost nothing.
    """
    return ops.maximum(ops.sum(post.kl(prior), -1), free)


# --------------------------------------------------------- scale of returns --


class ReturnNorm:
    """Moving 5th and 95th percentile of returns (Eq. 7, official `utils.Normalize`).

    Args:
      config: `RetNorm`.
    """

    def __init__(self, config: RetNorm):
        self.config = config
        self.variables = {
            k: keras.Variable(0.0, dtype="float32", trainable=False)
            for k in ("lo", "hi", "corr")
        }

    def stats(self, ret) -> dict:
        """Percentiles after seeing `ret`, and the `offset` and `scale` they give."""
        c = self.config
        quantiles = ops.convert_to_tensor([c.perclo / 100, c.perchi / 100], "float32")
        lo, hi = ops.unstack(ops.quantile(ops.reshape(ret, (-1,)), quantiles), 2)
        new = {"lo": lo, "hi": hi, "corr": 1.0}
        new = {k: (1 - c.rate) * self.variables[k] + c.rate * v for k, v in new.items()}
        debias = 1 / ops.maximum(c.rate, new["corr"]) if c.debias else 1.0
        scale = ops.maximum(c.limit, (new["hi"] - new["lo"]) * debias)
        return new | {"offset": new["lo"] * debias, "scale": scale}

    def assign(self, stats: dict):
        """Keeps what `stats` has seen."""
        for name, variable in self.variables.items():
            variable.assign(stats[name])


class DreamerV3(Agent):
    """World model, actor and critic of DreamerV3. See `agent.py`."""

    version = "v3"
    latents = ("deter", "stoch")
    losses = ("dyn", "rep", "rew", "con", "policy", "value", "repval")

    def build(self):
        """Makes all networks, the optimizer and the running statistics."""
        c = self.config
        self.enc = nets.Encoder(self.shapes, **vars(c.enc), name="enc")
        self.dyn = RSSM(c.dyn, self.actions, self.enc.width, name="dyn")
        latent = (c.dyn.deter, c.dyn.stoch, c.dyn.classes)
        self.dec = nets.Decoder(self.shapes, *latent, **vars(c.dec), name="dec")
        self.rew = self._head("rew", c.rewhead, {"logits": c.rewhead.bins})
        self.con = self._head("con", c.conhead, {"logit": 1})
        outputs = (
            {"logits": self.actions}
            if self.discrete
            else {"mean": self.actions, "stddev": self.actions}
        )
        self.pol = self._head("pol", c.policy, outputs, ("head", "action"))
        self.val = self._head("val", c.value, {"logits": c.value.bins})
        self.slowval = self._head("slowval", c.value, {"logits": c.value.bins})
        for net in (self.enc, self.dyn, self.dec):
            net.build()
        feat = c.dyn.deter + c.dyn.stoch * c.dyn.classes
        for net in (self.rew, self.con, self.pol, self.val, self.slowval):
            net.build((None, feat))
        for slow, fast in zip(self.slowval.variables, self.val.variables):
            slow.assign(np.asarray(fast))
        self.modules = (self.dyn, self.enc, self.dec)
        self.modules += (self.rew, self.con, self.pol, self.val)
        self.params = {v.path: v for m in self.modules for v in m.variables}
        self.opt = LaProp(self.params, c.opt)
        self.retnorm = ReturnNorm(c.retnorm)
        self.add_variables(self.params)
        self.add_variables({v.path: v for v in self.slowval.variables})
        self.add_variables(self.opt.variables)
        self.add_variables(
            {f"retnorm/{k}": v for k, v in self.retnorm.variables.items()}
        )

    def _head(self, name, config, outputs, group=("head",)):
        return nets.MLPHead(
            config.layers, config.units, outputs, config.outscale, group, name=name
        )

    def encode(self, obs):
        """Tokens `[..., E]` from observation entries."""
        return self.enc(obs)

    def world_model(self, batch, carry, noise):
        """Losses of the world model (Eq. 3).

        Args:
          batch: entries `[B, T, ...]`.
          carry: state before the first step.
          noise: of the posterior, `[B, T, S]`.

        Returns:
          Losses `{name: [B, T]}`; posterior `{deter, stoch, logit}`; and what
          else the tests look at.
        """
        c = self.config
        obs = {k: batch[k] for k in self.shapes}
        tokens = self.encode(obs)
        _, post = rssm.observe(
            self.dyn, carry, tokens, batch["action"], batch["is_first"], noise
        )
        prior_logit = self.dyn.prior(post["deter"])
        feat = self.dyn.feat(post)

        # Eq. 3: the prior learns from the posterior, and less so the reverse.
        dist, logit, free = self.dyn.dist, post["logit"], c.dyn.free_nats
        losses = {
            "dyn": kl_loss(dist(sg(logit)), dist(prior_logit), free),
            "rep": kl_loss(dist(logit), dist(sg(prior_logit)), free),
        }
        # Eq. 3: predictions of observations, reward and continuation.
        for key, prediction in self.dec(post["deter"], post["stoch"]).items():
            prediction = ops.cast(prediction, "float32")
            target = ops.cast(obs[key], "float32")
            target = target / 255 if len(self.shapes[key]) == 3 else symlog(target)
            error = ops.square(prediction - target)
            losses[key] = ops.sum(error, tuple(range(2, len(error.shape))))
        rew = TwoHot(self.rew(feat if c.reward_grad else sg(feat))["logits"])
        losses["rew"] = -rew.log_prob(batch["reward"])
        goes_on = 1 - ops.cast(batch["is_terminal"], "float32")
        if c.contdisc:  # the head learns γ c, see `behaviour`
            goes_on = goes_on * (1 - 1 / c.horizon)
        losses["con"] = -self.continues(feat).log_prob(goes_on)
        extra = {
            "tokens": tokens,
            "prior_logit": prior_logit,
            "dyn_ent": ops.sum(self.dyn.dist(prior_logit).entropy(), -1),
            "rep_ent": ops.sum(self.dyn.dist(post["logit"]).entropy(), -1),
        }
        return losses, post, extra

    def continues(self, feat) -> Bernoulli:
        """Distribution of "the episode goes on", from features `[..., F]`."""
        return Bernoulli(self.con(feat)["logit"][..., 0])

    # ---------------------------------------------------------- behaviour --

    def actor(self, feat):
        """Action distribution from features `[..., F]`."""
        return self.action_dist(self.pol(feat))

    def action_dist(self, out):
        """Action distribution from the raw outputs of the actor's network."""
        c = self.config.policy
        if self.discrete:
            return OneHot(out["logits"])
        return BoundedNormal(out["mean"], out["stddev"], c.minstd, c.maxstd)

    def imagination(self, start, noise):
        """Rolls out the actor; nothing of it has gradients.

        Args:
          start: states `[N, ...]`.
          noise: `{"action": [H + 1, N, ...], "latent": [H, N, S]}` or parts.

        Returns:
          Of start and imagined states, `[H + 1, N, ...]`: features `feat`, the
          `action` chosen there, and what the `first` layers of all heads make of feat:
          step by step, while it lies in the cache.
        """
        actor = nets.Together([self.pol])

        def policy(state, noise):
            feat = self.dyn.feat(state)
            first = self.heads.first(feat)
            (out,) = actor.rest(first[:, : self.pol.units])  # the first of the heads
            action = self.action_dist(out).sample(noise)
            return {"feat": feat, "first": first, "action": action}

        start = keras.tree.map_structure(sg, start)
        length = self.config.imag_length
        out = rssm.rollout(self.dyn, policy, start, length, noise)
        return keras.tree.map_structure(sg, out)

    def behaviour(self, feat, first, action):
        """Losses of actor and critic on imagined states (Eqs. 5 to 7).

        Args:
          feat, first, action: see `imagination`; without gradient.

        Returns:
          Losses `{name: [H, N]}`; return statistics; metrics; intermediate values.
        """
        c = self.config
        pol, val, rew, con, slow = self.outputs(feat, first)
        value, policy = TwoHot(val["logits"]), self.action_dist(pol)
        rew, slow = (TwoHot(out["logits"]).mean for out in (rew, slow))
        con = Bernoulli(con["logit"][..., 0]).mean
        baseline = slow if c.imag_loss.slowtar else value.mean
        rew, con, slow, baseline = map(sg, (rew, con, slow, baseline))
        # With contdisc the continuation has γ in it already. The product begins with
        # the start state's own prediction (official `imag_loss`).
        disc = 1.0 if c.contdisc else 1 - 1 / c.horizon
        weight = ops.cumprod(disc * con, 0) / disc
        # Eq. 5: λ-returns.
        ret = lambda_return_v3(
            last=ops.zeros_like(con),
            term=1 - con,
            reward=rew,
            boot=baseline,
            disc=disc,
            lambda_=c.imag_loss.lam,
        )
        # Eqs. 6, 7: reinforce with returns scaled by their 5-95% range. The paper sums
        # over time, the code takes means.
        stats = self.retnorm.stats(engine.whole_batch(ret))
        advantage = (ret - baseline[:-1]) / stats["scale"]
        entropy = policy.entropy()[:-1]
        score = policy.log_prob(action)[:-1] * advantage
        losses = {
            "policy": -weight[:-1] * (score + c.imag_loss.actent * entropy),
            # Eq. 5, and the regulariser towards the slow critic.
            "value": self.critic_loss(value, ret, slow, c.imag_loss.slowreg)
            * weight[:-1],
        }
        normed = (ret - stats["offset"]) / stats["scale"]
        metrics = {
            "adv": ops.mean(advantage),
            "adv_std": ops.std(engine.whole_batch(advantage)),
            "adv_mag": ops.mean(ops.abs(advantage)),
            "rew": ops.mean(rew),
            "con": ops.mean(con),
            "ret": ops.mean(normed),
            "ret_min": ops.min(engine.whole_batch(normed)),
            "ret_max": ops.max(engine.whole_batch(normed)),
            "ret_rate": ops.mean(ops.cast(ops.abs(normed) >= 1.0, "float32")),
            "val": ops.mean(value.mean),
            "tar": ops.mean(ret),
            "weight": ops.mean(weight),
            "slowval": ops.mean(slow),
            "ent/action": ops.mean(entropy),
        }
        if self.discrete:
            metrics["rand/action"] = metrics["ent/action"] / np.log(self.actions)
        extra = {"rew": rew, "con": con, "val": value.mean, "slowval": slow}
        extra |= {"ret": ret, "policy": policy.parameters}
        return losses, stats, metrics, extra

    @property
    def heads(self):
        """All heads of a model state, the actor first, then the critic."""
        return nets.Together((self.pol, self.val, self.rew, self.con, self.slowval))

    def outputs(self, feat, first):
        """Outputs of the `heads`, whose first layers are known from imagination."""
        # Those that are trained in imagination, and those that are not.
        trained = nets.Together((self.pol, self.val))
        others = nets.Together((self.rew, self.con, self.slowval))
        known, rest = ops.split(first, [self.pol.units + self.val.units], -1)
        return (*trained.rest(trained.known_first(feat, known)), *others.rest(rest))

    def critic_loss(self, value, ret, slow, slowreg):
        """Cross-entropy to returns and to the slow critic's prediction, `[T, N]`.

        Args:
          value: two-hot distributions `[T + 1, N]`.
          ret: returns `[T, N]`.
          slow: predictions of the slow critic `[T + 1, N]`.
          slowreg: factor of the second term.
        """
        # The last step has no return and is left out at the end, not before: cutting
        # logits costs more.
        ret = ops.pad(ret, ((0, 1), (0, 0)))
        target = value.code(ret) + slowreg * value.code(slow)
        return -value.expected(target, 1 + slowreg)[:-1]

    def replay_value(self, feat, batch, boot):
        """Critic loss on replayed steps, bootstrapped by imagined returns.

        Args:
          feat: posterior features `[K, B, F]`; batch: entries `[K, B]`;
          boot: imagined return of each step, `[K, B]`.

        Returns:
          Loss `[K - 1, B]` and intermediate values.
        """
        c = self.config
        last, term = (ops.cast(batch[k], "float32") for k in ("is_last", "is_terminal"))
        value = TwoHot(self.val(feat if c.repval_grad else sg(feat))["logits"])
        slow = sg(TwoHot(self.slowval(feat)["logits"]).mean)
        ret = lambda_return_v3(
            last=last,
            term=term,
            reward=batch["reward"],
            boot=boot,
            disc=1 - 1 / c.horizon,  # flags have no γ in them
            lambda_=c.repl_loss.lam,
        )
        loss = self.critic_loss(value, ret, slow, c.repl_loss.slowreg)
        # After an episode's last row comes the first one of another.
        return (1 - last[:-1]) * loss, {"val": value.mean, "boot": boot, "ret": ret}

    # ------------------------------------------------------------- update --

    def loss(self, batch, carry, noise):
        """All losses of one batch, as one scalar (Eq. 2, and Eqs. 5 and 6).

        Args:
          batch: entries `[B, T, ...]`; carry: state before the first step.
          noise: see `draw`.

        Returns:
          The scaled sum; and everything else by name.
        """
        c = self.config
        losses, post, model = self.world_model(batch, carry, noise.get("post"))
        size, length = batch["reward"].shape
        count = c.imag_last or length
        late = {k: post[k][:, -count:] for k in self.latents}
        start = {
            k: ops.reshape(v, (size * count, *v.shape[2:])) for k, v in late.items()
        }
        dream = self.imagination(
            start, {k: noise[k] for k in ("action", "latent") if k in noise}
        )
        imag_losses, stats, metrics, imag = self.behaviour(**dream)
        for name, loss in imag_losses.items():
            losses[name] = ops.reshape(ops.mean(loss, 0), (size, count))
        repl = {}
        if c.repval_loss:
            boot = ops.reshape(imag["ret"][0], (size, count))
            flags = {
                k: batch[k][:, -count:] for k in ("reward", "is_last", "is_terminal")
            }
            time_first = (self.dyn.feat(late), flags, boot)
            time_first = keras.tree.map_structure(rssm.swap, time_first)
            loss, repl = self.replay_value(*time_first)
            losses["repval"] = rssm.swap(loss)
        scales = vars(c.loss_scales)
        means = {k: ops.mean(v) for k, v in losses.items()}
        total = sum(scales.get(k, scales["rec"]) * v for k, v in means.items())
        metrics |= {f"loss/{k}": v for k, v in means.items()}
        metrics |= {f"{k}": ops.mean(model[k]) for k in ("dyn_ent", "rep_ent")}
        return total, {
            "losses": losses,
            "post": post,
            "model": model,
            "imag": imag | {k: dream[k] for k in ("feat", "action")},
            "repl": repl,
            "stats": stats,
            "metrics": metrics | {"total": total},
        }

    def split_context(self, batch):
        """Start state and training rows of a batch with context (official `agent.py`).

        With `replay_context` 1 row 0 only gives the stored latents from which the
        other rows go on; without, sequences start from zeros.
        """
        size = batch["reward"].shape[0]
        if not self.config.replay_context:
            return self.dyn.initial(size), batch
        carry = {k: ops.cast(batch[k][:, 0], "float32") for k in self.latents}
        return carry, {k: v[:, 1:] for k, v in batch.items()}

    def draw(self, seed, batch, carry=None):
        """All noise of one update: for latents, and for actions in imagination."""
        c = self.config
        size, rows = batch["reward"].shape
        length = rows - c.replay_context
        starts = size * (c.imag_last or length)
        seeds = [engine.fold_in(seed, i) for i in range(3)]
        return {
            "post": engine.uniform(seeds[0], (size, length, c.dyn.stoch)),
            "latent": engine.uniform(seeds[1], (c.imag_length, starts, c.dyn.stoch)),
            "action": self._action_noise(seeds[2], (c.imag_length + 1, starts)),
        }

    def _action_noise(self, seed, shape):
        if self.discrete:
            return engine.uniform(seed, shape)
        return engine.normal(seed, (*shape, self.actions))

    def gradients(self, noise, batch, carry=None):
        """What `loss` returns but for the scalar, and its gradients by path."""
        context, rows = self.split_context(batch)
        carry = context if carry is None else carry
        (_, out), grads = engine.value_and_grad(
            lambda: self.loss(rows, carry, noise), list(self.params.values())
        )
        return out, dict(zip(self.params, grads))

    def train_step(self, noise, batch, carry=None):
        """One update of everything; returns metrics and latents for replay."""
        return self.apply(*self.gradients(noise, batch, carry))

    def apply(self, out, grads):
        """Takes the step that `gradients` has prepared."""
        c = self.config
        metrics = out["metrics"] | self.opt.apply(list(grads.values()))
        self.update_slow_value()
        self.retnorm.assign(out["stats"])
        metrics |= {f"retnorm/{k}": out["stats"][k] for k in ("lo", "hi")}
        # To replay, from which `split_context` takes them when the row is drawn again.
        feedback = {k: out["post"][k] for k in self.latents}
        return metrics, feedback if c.replay_context else {}

    def update_slow_value(self):
        """The slow critic follows after the step (official `utils.SlowModel`)."""
        c = self.config.slowvalue
        rate = ops.where((self.opt.count - 1) % c.every == 0, c.rate, 0.0)
        for slow, fast in zip(self.slowval.variables, self.val.variables):
            slow.assign(rate * fast + (1 - rate) * slow)

    # ------------------------------------------------------------- policy --

    def draw_policy(self, seed, obs, state):
        """Noise of one policy step."""
        size, stoch = state["action"].shape[0], self.config.dyn.stoch
        seeds = [engine.fold_in(seed, i) for i in range(2)]
        return {
            "post": engine.uniform(seeds[0], (size, stoch)),
            "action": self._action_noise(seeds[1], (size,)),
        }

    def policy_step(self, noise, obs, state, mode):
        """One decision. DreamerV3 samples its actions in evaluation as well."""
        del mode
        tokens = self.encode({k: obs[k][:, None] for k in self.shapes})
        carry = {k: state[k] for k in self.latents}
        post, _ = rssm.observe(
            self.dyn,
            carry,
            tokens,
            state["action"][:, None],
            obs["is_first"][:, None],
            noise["post"][:, None],
        )
        action = self.actor(self.dyn.feat(post)).sample(noise["action"])
        return action, post | {"action": action}

    # ------------------------------------------------------------- report --

    def decode(self, state) -> dict:
        """Predicted observations in their own units, images in [0, 1]."""
        return {
            k: x if len(self.shapes[k]) == 3 else symexp(x)
            for k, x in self.dec(state["deter"], state["stoch"]).items()
        }


AGENT = DreamerV3
