"""DreamerV1: Dream to Control: Learning Behaviors by Latent Imagination.

Hafner, Lillicrap, Ba, Norouzi: arXiv 1912.01603 v3 (ICLR 2020).
Equations are numbered as in the paper; "official" is github.com/danijar/dreamer
at commit 56d4d44, whose names settings and weights
keep; attributes are named as in `v3.py`. Vector observations are our own
extension, with the encoder and decoder that DreamerV2 has for them.
"""

from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from keras import layers, ops

from dreamer_tf import engine, nets, rssm
from dreamer_tf.agent import Agent
from dreamer_tf.configs.fields import limit
from dreamer_tf.distributions import (
    Bernoulli,
    DiagNormal,
    OneHot,
    TanhNormal,
    UnitNormal,
    explore,
)
from dreamer_tf.errors import UserError
from dreamer_tf.optimizers import Adam
from dreamer_tf.returns import lambda_return

sg = ops.stop_gradient

# ------------------------------------------------------------------- config --


@dataclass(frozen=True)
class Config:
    """All that defines DreamerV1, by official names; the defaults are for DMC."""

    deter_size: int = 200  # width of the recurrent state and the layers around it
    stoch_size: int = 30  # number of Gaussian latent variables
    num_units: int = 400  # width of the heads
    dense_act: str = "elu"  # activation of the heads, a name in keras.activations
    cnn_act: str = "relu"  # activation of the convolutions
    cnn_depth: int = 32  # image channels of the outermost stage, doubled inwards
    enc_kernels: tuple[int, ...] = (4, 4, 4, 4)  # sizes of the encoder's convolutions
    dec_kernels: tuple[int, ...] = (5, 5, 6, 6)  # sizes of the decoder's convolutions
    # widths of the vector MLPs in encoder and decoder (not in the paper)
    mlp_layers: tuple[int, ...] = (400, 400, 400, 400)
    pcont: bool = False  # learn a discount head from is_terminal
    free_nats: float = 3.0  # nats of the mean KL below which there is no gradient
    kl_scale: float = 1.0  # factor of the KL
    pcont_scale: float = 10.0  # factor of the discount head's loss
    model_lr: float = 6e-4  # learning rate of the world model
    value_lr: float = 8e-5  # learning rate of the value model
    actor_lr: float = 8e-5  # learning rate of the action model
    grad_clip: float = 100.0  # largest norm of a model's gradients; 0: any
    batch_size: int = 50  # sequences of a batch
    batch_length: int = 50  # steps of a sequence
    dataset_balance: bool = False  # draw ends of episodes more often
    # draw sequences that end with an episode as well, which the official code
    # leaves out
    include_end: bool = True
    prefill: int = 5000  # random frames before the first update
    pretrain: int = 100  # updates before the policy acts, besides the first one
    train_every: int = 1000  # frames between updates
    train_steps: int = 100  # updates each time
    clip_rewards: Literal["none", "tanh"] = "none"  # transformation of rewards
    discount: float = 0.99  # discount factor
    disclam: float = 0.95  # λ of the returns
    horizon: int = 15  # steps of imagination
    action_init_std: float = 5.0  # initial scale of continuous actions
    # noise on actions; auto: additive_gaussian, or epsilon_greedy if discrete
    expl: Literal["auto", "additive_gaussian", "epsilon_greedy"] = "auto"
    expl_amount: float = 0.3  # standard deviation or probability of the noise
    expl_decay: float = 0.0  # frames in which it halves; 0: never
    expl_min: float = 0.0  # its smallest amount
    eval_noise: float = 0.0  # its amount in evaluation
    # evaluation takes the likeliest of so many sampled actions; 0: the tanh of the
    # mean
    eval_samples: int = 100
    # of the layers' computation; auto: bfloat16 on a GPU, float32 on a CPU
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # compile the update with XLA (TensorFlow backend, one device; JAX always does)
    jit: bool = True

    def validate(self):
        """Raises UserError if a setting is out of range."""
        sizes = "deter_size stoch_size num_units cnn_depth mlp_layers"
        limit(self, f"{sizes} batch_size train_every", at_least=1)
        nets.check_kernels(self, "enc_kernels dec_kernels")
        # The discount head leaves out the last step, which could be terminal.
        limit(self, "batch_length", at_least=1 + self.pcont)
        # The last imagined state is the bootstrap of the ones before.
        limit(self, "horizon", at_least=2)
        scales = "free_nats kl_scale pcont_scale model_lr value_lr actor_lr grad_clip"
        noise = "expl_amount expl_decay expl_min eval_noise eval_samples"
        counts = "prefill pretrain train_steps"
        limit(self, f"{scales} {noise} {counts}", at_least=0)
        limit(self, "discount disclam", at_least=0, at_most=1)
        limit(self, "action_init_std", above=0)
        nets.check_activations(self, "dense_act cnn_act")


# ---------------------------------------------------------------- RSSM cell --


class RSSM(layers.Layer):
    """Recurrent state-space model with Gaussian latents (Eq. 1).

    The cell is that of PlaNet (arXiv 1811.04551).

    State: `deter [B, D]` and `stoch [B, S]`.

    Args:
      stoch, deter: sizes of the state.
      actions: width of the action vector.
      tokens: width of an encoded observation.
    """

    def __init__(self, stoch: int, deter: int, actions: int, tokens: int, **kwargs):
        super().__init__(**kwargs)
        self.stoch, self.deter = stoch, deter
        self.actions, self.tokens = actions, tokens
        self.img1 = nets.SplitDense(deter, name="img1")
        # In float32 whatever the precision: the state is summed up over a sequence.
        self.cell = layers.GRUCell(
            deter, reset_after=True, name="cell", dtype="float32"
        )
        self.img2 = layers.Dense(deter, name="img2")
        self.img3 = layers.Dense(2 * stoch, name="img3")
        self.obs1 = nets.SplitDense(deter, name="obs1")
        self.obs2 = layers.Dense(2 * stoch, name="obs2")

    def build(self):
        self.img1.build((None, self.stoch + self.actions))
        self.obs1.build((None, self.deter + self.tokens))
        for layer in (self.cell, self.img2, self.img3, self.obs2):
            layer.build((None, self.deter))

    def initial(self, batch_size: int) -> dict:
        """The zero state."""
        return {
            "deter": ops.zeros((batch_size, self.deter)),
            "stoch": ops.zeros((batch_size, self.stoch)),
        }

    def feat(self, state):
        """What the heads see: `[stoch, deter]`, `[..., S + D]`."""
        return ops.concatenate([state["stoch"], state["deter"]], -1)

    def dist(self, stats):
        """The latent's distribution from raw outputs `[..., 2 S]`."""
        mean, std = ops.split(ops.cast(stats, "float32"), 2, -1)
        return DiagNormal(mean, ops.softplus(std) + 0.1)

    def core(self):
        """`(embed_action, core)`: `core(deter, stoch, embed_action(action)) -> deter`.

        The sequence model; actions that are known can be embedded all at once.
        """
        first, second = self.img1.split(self.stoch)

        def core(deter, stoch, action):
            x = ops.elu(first(stoch) + action)
            return self.cell(x, [deter])[0]

        return second, core

    def posterior(self):
        """`(project, stats)`: `stats(deter, project(tokens)) -> [..., 2 S]`."""
        first, second = self.obs1.split(self.deter)
        return second, lambda d, projected: self.obs2(ops.elu(first(d) + projected))

    def prior(self, deter):
        """Raw outputs of the prior, `[..., D] -> [..., 2 S]`."""
        return self.img3(ops.elu(self.img2(deter)))

    def observing(self, tokens, action, is_first):
        """One filtering step, see `rssm.py`; outputs deter, stoch, mean and std."""
        embed_action, core = self.core()
        project, stats = self.posterior()
        keep = 1 - ops.cast(is_first, "float32")
        inputs = {
            "keep": keep,
            "action": embed_action(action * keep[..., None]),
            "tokens": project(tokens),
        }

        def step(state, x, noise):
            deter = state["deter"] * x["keep"][:, None]
            stoch = state["stoch"] * x["keep"][:, None]
            deter = core(deter, stoch, x["action"])
            post = self.dist(stats(deter, x["tokens"]))
            state = {"deter": deter, "stoch": post.sample(noise)}
            return state, state | {"mean": post.mean, "std": post.std}

        return inputs, step

    def imagining(self, start):
        """One step of the prior, see `rssm.py`."""
        embed_action, core = self.core()

        def step(state, action, noise):
            deter = core(state["deter"], state["stoch"], embed_action(action))
            stoch = self.dist(self.prior(deter)).sample(noise)
            return {"deter": deter, "stoch": stoch}

        return start, step


# -------------------------------------------------------------- world model --


class DreamerV1(Agent):
    """World model, actor and critic of DreamerV1. See `agent.py`."""

    version = "v1"
    losses = ("pcont",)

    def build(self):
        """Makes all networks and the optimizers."""
        c = self.config
        feat = c.stoch_size + c.deter_size
        self.enc = nets.StridedEncoder(
            *self._inputs(),
            **self._coder(c.enc_kernels),
            convs=[f"h{i + 1}" for i in range(len(c.enc_kernels))],
            name="encode",
        )
        self.dyn = RSSM(
            c.stoch_size, c.deter_size, self.actions, self.enc.width, name="dynamics"
        )
        self.dec = nets.StridedDecoder(
            *self._inputs(),
            feat,
            **self._coder(c.dec_kernels),
            convs=[f"h{i + 1}" for i in range(len(c.dec_kernels) + 1)],
            name="decode",
        )
        self.rew = self._head("reward", 2, 1)
        self.con = self._head("pcont", 3, 1)
        self.pol = self._head("actor", 4, (2 - self.discrete) * self.actions)
        self.val = self._head("value", 3, 1)
        self.expl = c.expl
        if self.expl == "auto":
            self.expl = "epsilon_greedy" if self.discrete else "additive_gaussian"
        if (self.expl == "epsilon_greedy") != self.discrete:
            raise UserError(
                f"expl is {self.expl}, but the action space is {self.action_space}; "
                "use auto."
            )
        for net in (self.enc, self.dyn, self.dec):
            net.build()
        for net in (self.rew, self.con, self.pol, self.val):
            net.build((None, feat))
        modules = (self.enc, self.dyn, self.dec, self.rew)
        modules += (self.con,) * c.pcont
        self.model_opt = self._optimizer("model_opt", c.model_lr, *modules)
        self.actor_opt = self._optimizer("actor_opt", c.actor_lr, self.pol)
        self.value_opt = self._optimizer("value_opt", c.value_lr, self.val)
        for opt in (self.model_opt, self.actor_opt, self.value_opt):
            self.params |= opt.params
            self.add_variables(opt.params)
            self.add_variables(opt.variables)

    def _inputs(self):
        """Shapes of the images and of the vectors among the observations."""
        images = {k: s for k, s in self.shapes.items() if len(s) == 3}
        return images, {k: s for k, s in self.shapes.items() if len(s) < 3}

    def _coder(self, kernels):
        c = self.config
        return {
            "kernels": kernels,
            "depth": c.cnn_depth,
            "units": c.mlp_layers,
            "act": c.dense_act,
            "cnn_act": c.cnn_act,
        }

    def _head(self, name, depth, width):
        c = self.config
        outputs = {"hout": width}
        return nets.Head(
            depth, c.num_units, outputs, c.dense_act, hidden="h{}", group="", name=name
        )

    def _optimizer(self, name, lr, *modules):
        params = {v.path: v for m in modules for v in m.trainable_variables}
        return Adam(name, params, lr, eps=1e-7, clip=self.config.grad_clip)

    def encode(self, obs):
        """Tokens `[..., E]` from observation entries."""
        return self.enc(obs)

    def world_model(self, batch, carry, noise):
        """Losses of the world model (Eq. 10, with reconstruction).

        Args:
          batch: entries `[B, T, ...]`.
          carry: state before the first step.
          noise: of the posterior, `[B, T, S]`.

        Returns:
          The scaled sum; losses `{name: scalar}`; posterior `{deter, stoch, mean,
          std}`; and what else the tests look at.
        """
        c = self.config
        tokens = self.encode({k: batch[k] for k in self.shapes})
        _, post = rssm.observe(
            self.dyn, carry, tokens, batch["action"], batch["is_first"], noise
        )
        # The prior's own sample is never used, so all of it comes at once.
        prior = self.dyn.dist(self.dyn.prior(post["deter"]))
        posterior = DiagNormal(post["mean"], post["std"])
        feat = self.dyn.feat(post)
        likes = {}
        for key, mean in self.dec(feat).items():
            rank = len(self.shapes[key])
            target = nets.centred(batch[key]) if rank == 3 else batch[key]
            likes[key] = UnitNormal(mean, rank).log_prob(target)
        reward = batch["reward"]
        reward = ops.tanh(reward) if c.clip_rewards == "tanh" else reward
        likes["reward"] = self.reward(feat).log_prob(reward)
        losses = {k: -ops.mean(v) for k, v in likes.items()}
        if c.pcont:
            # γ is part of the label, so the head predicts γ, not 1, while it goes on.
            discount = c.discount * (1 - ops.cast(batch["is_terminal"], "float32"))
            likes["pcont"] = self.continues(feat).log_prob(discount)
            losses["pcont"] = -c.pcont_scale * ops.mean(likes["pcont"])
        kl = posterior.kl(prior)
        div = ops.maximum(ops.mean(engine.whole_batch(kl)), c.free_nats)
        total = c.kl_scale * div + sum(losses.values())
        extra = {
            "embed": tokens,
            "feat": feat,
            "prior_mean": prior.mean,
            "prior_std": prior.std,
            "kl": kl,
            "div": div,
            "likes": likes,
            "prior_ent": prior.entropy(),
            "post_ent": posterior.entropy(),
        }
        return total, losses, post, extra

    def reward(self, feat) -> UnitNormal:
        """Distribution of the reward, from features `[..., F]`."""
        return UnitNormal(self.rew(feat)["hout"][..., 0])

    def continues(self, feat) -> Bernoulli:
        """Its mean is the predicted discount factor, from features `[..., F]`."""
        return Bernoulli(self.con(feat)["hout"][..., 0])

    # ---------------------------------------------------------- behaviour --

    def actor(self, feat):
        """Action distribution from features `[..., F]`."""
        out = self.pol(feat)["hout"]
        if self.discrete:
            return OneHot(out)
        mean, std = ops.split(out, 2, -1)
        # So that the initial scale is `action_init_std`.
        raw = float(np.log(np.expm1(self.config.action_init_std)))
        return TanhNormal(mean, std, min_std=1e-4, init_std=raw)

    def imagination(self, start, noise):
        """Rolls out the actor, with gradients through dynamics and actions.

        Args:
          start: states `[N, ...]`, a constant.
          noise: `{"action": [H, N, ...], "latent": [H, N, S]}` or parts.

        Returns:
          Features `[H, N, F]` of imagined states, without the start, and the actions
          `[H, N, A]` that led to them.
        """
        start = keras.tree.map_structure(sg, start)

        def policy(state, noise):
            # No gradient into what the actor sees.
            dist = self.actor(sg(self.dyn.feat(state)))
            return {"action": dist.sample(noise)}

        states, outs = rssm.imagine(self.dyn, policy, start, self.config.horizon, noise)
        return self.dyn.feat(states), outs["action"]

    def behaviour(self, feat):
        """Loss of the actor on imagined states (Eq. 7), and λ-returns.

        Args:
          feat: see `imagination`.

        Returns:
          The loss, a scalar, and intermediate values by name.
        """
        c = self.config
        reward = self.reward(feat).mean
        value = self.value(feat).mean
        if c.pcont:
            discount = self.continues(feat).mean
        else:
            discount = ops.full_like(reward, c.discount)
        # Eq. 6: λ-returns.
        target = lambda_return(
            reward[:-1], value[:-1], discount[:-1], value[-1], c.disclam
        )
        # A state's discount says whether the *next* one counts.
        weight = ops.concatenate([ops.ones_like(discount[:1]), discount[:-2]], 0)
        weight = sg(ops.cumprod(weight, 0))
        extra = {
            "reward": reward,
            "value": value,
            "discount": discount,
            "target": target,
            "weight": weight,
        }
        return -ops.mean(weight * target), extra

    def value(self, feat) -> UnitNormal:
        """Distribution of the value, from features `[..., F]`."""
        return UnitNormal(self.val(feat)["hout"][..., 0])

    def value_loss(self, feat, target, weight):
        """Loss of the value model on imagined states (Eq. 8).

        Args:
          feat `[H - 1, N, F]`, target `[H - 1, N]`, weight `[H - 1, N]`: constants.
        """
        return -ops.mean(weight * self.value(feat).log_prob(target)), {}

    # ------------------------------------------------------------- update --

    def model_gradients(self, noise, batch, carry):
        """What `world_model` returns, metrics, and gradients by path."""

        def loss():
            total, losses, post, extra = self.world_model(
                batch, carry, noise.get("post")
            )
            metrics = {f"{k}_loss": v for k, v in losses.items()}
            metrics |= {"model_loss": total, "div": extra["div"]}
            metrics |= {k: ops.mean(extra[k]) for k in ("kl", "prior_ent", "post_ent")}
            return total, {"post": post, "metrics": metrics} | extra

        params = self.model_opt.params
        (_, out), grads = engine.value_and_grad(loss, list(params.values()))
        return out, dict(zip(params, grads))

    def behaviour_gradients(self, noise, batch, post):
        """What `behaviour` returns, metrics, and gradients of actor and value model."""
        size, length = batch["reward"].shape
        length -= self.config.pcont  # the last state could be terminal
        start = {
            k: ops.reshape(post[k][:, :length], (size * length, post[k].shape[-1]))
            for k in ("deter", "stoch")
        }
        noise = {k: noise[k] for k in ("action", "latent") if k in noise}

        def loss():
            feat, action = self.imagination(start, noise)
            loss, extra = self.behaviour(feat)
            return loss, extra | {"feat": feat, "action": action}

        params = self.actor_opt.params
        (loss, out), grads = engine.value_and_grad(loss, list(params.values()))
        actor_grads = dict(zip(params, grads))
        constants = sg(out["feat"][:-1]), sg(out["target"]), out["weight"]
        params = self.value_opt.params
        (value_loss, _), grads = engine.value_and_grad(
            lambda: self.value_loss(*constants), list(params.values())
        )
        out["metrics"] = {"actor_loss": loss, "value_loss": value_loss}
        return out, actor_grads, dict(zip(params, grads))

    def split_context(self, batch):
        """Start state and training rows of a batch: zeros, and all of them.

        A sequence starts from the zero state and its true first action, which is not
        reset (official `RSSM.observe`). It never reaches into another episode.
        """
        rows = batch | {"is_first": ops.zeros_like(batch["is_first"])}
        return self.dyn.initial(batch["reward"].shape[0]), rows

    def draw(self, seed, batch, carry=None):
        """All noise of one update: for latents, and for actions in imagination.

        Independent everywhere. (Official latents have the same noise in all rows of
        a step, which the author calls a side effect of a faster sampler.)
        """
        horizon, stoch = self.config.horizon, self.config.stoch_size
        size, length = batch["reward"].shape
        starts = size * (length - self.config.pcont)
        seeds = [engine.fold_in(seed, i) for i in range(3)]
        return {
            "post": engine.normal(seeds[0], (size, length, stoch)),
            "latent": engine.normal(seeds[1], (horizon, starts, stoch)),
            "action": self._action_noise(seeds[2], (horizon, starts)),
        }

    def _action_noise(self, seed, shape):
        if self.discrete:
            return engine.uniform(seed, shape)
        return engine.normal(seed, (*shape, self.actions))

    def train_step(self, noise, batch, carry=None):
        """One update of everything; returns metrics and nothing for replay.

        All losses are those of the weights before the update.
        """
        context, rows = self.split_context(batch)
        carry = context if carry is None else carry
        model, grads = self.model_gradients(noise, rows, carry)
        out, actor_grads, value_grads = self.behaviour_gradients(
            noise, rows, model["post"]
        )
        metrics = model["metrics"] | out["metrics"]
        metrics["action_ent"] = ops.mean(self.actor(sg(model["feat"])).entropy())
        metrics["model_grad_norm"] = self.model_opt.apply(grads)
        metrics["actor_grad_norm"] = self.actor_opt.apply(actor_grads)
        metrics["value_grad_norm"] = self.value_opt.apply(value_grads)
        return metrics, {}

    # ------------------------------------------------------------- policy --

    def policy(self, obs, state, mode):
        """See `Agent.policy`; exploration depends on the run's `frames`."""
        frames = np.full((len(obs["is_first"]), 1), self.frames, np.float32)
        action, state = super().policy(obs, state | {"frames": frames}, mode)
        return action, {k: v for k, v in state.items() if k != "frames"}

    def draw_policy(self, seed, obs, state):
        """Noise of one policy step."""
        size = state["action"].shape[0]
        seeds = [engine.fold_in(seed, i) for i in range(4)]
        shape = (self.config.eval_samples, size, self.actions)
        return {
            "post": engine.normal(seeds[0], (size, self.config.stoch_size)),
            "action": self._action_noise(seeds[1], (size,)),
            "candidates": engine.normal(seeds[2], shape),
            "explore": self._action_noise(seeds[3], (size,)),
        }

    def policy_step(self, noise, obs, state, mode):
        """One decision: sampled and noisy in training, likely in evaluation."""
        c, evaluating = self.config, mode == "eval"
        tokens = self.encode({k: obs[k][:, None] for k in self.shapes})
        post, _ = rssm.observe(
            self.dyn,
            {k: state[k] for k in ("deter", "stoch")},
            tokens,
            state["action"][:, None],
            obs["is_first"][:, None],
            noise["post"][:, None],
        )
        dist = self.actor(self.dyn.feat(post))
        if not evaluating:
            action = dist.sample(noise["action"])
        elif c.eval_samples and not self.discrete:
            action = dist.best(dist.sample(noise["candidates"]))
        else:
            action = dist.sample(None)
        amount = c.eval_noise if evaluating else self.expl_amount(state["frames"])
        if not evaluating or c.eval_noise:
            action = explore(action, amount, noise["explore"], self.discrete)
        return action, post | {"action": action}

    def expl_amount(self, frames):
        """Amount of exploration after so many frames of training."""
        c = self.config
        amount = ops.full_like(frames, c.expl_amount)
        if c.expl_decay:
            amount = amount * ops.power(0.5, frames / c.expl_decay)
        return ops.maximum(amount, c.expl_min) if c.expl_min else amount

    # ------------------------------------------------------------- report --

    def decode(self, state) -> dict:
        """Predicted observations in their own units, images around [0, 1]."""
        return {
            k: x + 0.5 if len(self.shapes[k]) == 3 else x
            for k, x in self.dec(self.dyn.feat(state)).items()
        }


AGENT = DreamerV1
