"""DreamerV1: Dream to Control: Learning Behaviors by Latent Imagination.

Hafner, Lillicrap, Ba, Norouzi: arXiv 1912.01603 v3 (ICLR 2020). Equations are numbered
as in the paper; "official" is github.com/danijar/dreamer at commit 56d4d44, whose names
settings and weights keep. Networks are made in `nets/v1.py`, settings in
`configs/v1.py`.

  Eq. 1     RSSM                            RSSM.core, .posterior, .prior
  Eq. 2, 3  actor and critic                DreamerV1.actor, .critic (`nets/v1.py`)
  Eq. 6     λ-return                        behaviour, returns.lambda_return
  Eq. 7     actor's objective               actor_loss
  Eq. 8     critic's objective              critic_loss
  Eq. 10    world model's objective         model_loss
  Alg. 1    update, acting                  train_step, policy_step
"""

from typing import Any, NamedTuple

import numpy as np
from keras import layers, ops

from dreamer_tf import engine, nets, rssm
from dreamer_tf.agent import Agent
from dreamer_tf.configs.v1 import Config
from dreamer_tf.distributions import DiagNormal, explore, sg
from dreamer_tf.dreamer import Model, weighted
from dreamer_tf.engine import devices
from dreamer_tf.nets import v1 as networks
from dreamer_tf.optimizers import Adam
from dreamer_tf.returns import lambda_return
from dreamer_tf.rssm import Belief, Dream, State

# ---------------------------------------------------------------- RSSM cell --


class RSSM(rssm.Cell):
    """Recurrent state-space model with Gaussian latents (Eq. 1; PlaNet's cell).

    State: `deter [B, D]` and `stoch [B, S]`. See `rssm.py`.

    Args:
      config: `Config`.
      actions: width of the action vector.
      tokens: width of an encoded observation.
    """

    def __init__(self, config: Config, actions: int, tokens: int, **kwargs):
        super().__init__(DiagNormal, config.stoch_size, **kwargs)
        self.deter, self.actions, self.tokens = config.deter_size, actions, tokens
        self.width = self.stoch + self.deter  # of features
        self.img1 = nets.SplitDense(self.deter, name="img1")
        # In float32 whatever the precision: the state is summed up over a sequence.
        self.cell = layers.GRUCell(
            self.deter, reset_after=True, name="cell", dtype="float32"
        )
        self.img2 = layers.Dense(self.deter, name="img2")
        self.img3 = layers.Dense(2 * self.stoch, name="img3")
        self.obs1 = nets.SplitDense(self.deter, name="obs1")
        self.obs2 = layers.Dense(2 * self.stoch, name="obs2")

    def build(self):
        self.img1.build((None, self.stoch), (None, self.actions))
        self.obs1.build((None, self.deter), (None, self.tokens))
        for layer in (self.cell, self.img2, self.img3, self.obs2):
            layer.build((None, self.deter))

    def initial(self, batch_size: int) -> State:
        """The zero state."""
        return State(
            ops.zeros((batch_size, self.deter)), ops.zeros((batch_size, self.stoch))
        )

    def feat(self, state):
        """What the heads see: `[stoch, deter]`, `[..., S + D]`."""
        return ops.concatenate([state.stoch, state.deter], -1)

    def ahead(self, tokens, action):
        """Both, as far as they can be computed without the state."""
        return self.obs1.known(tokens), self.img1.known(action)

    def core(self, deter, stoch, action):
        """The sequence model: `h_t = f(h_{t-1}, z_{t-1}, a_{t-1})`, `[B, D]`."""
        x = ops.elu(self.img1(stoch, action))
        return self.cell(x, [deter])[0]

    def posterior(self, deter, tokens):
        """`q(z_t | h_t, x_t)`: representation model (Eq. 1)."""
        return self._latent(self.obs2(ops.elu(self.obs1(deter, tokens))))

    def prior(self, deter):
        """`p(z_t | h_t)`: transition model (Eq. 1)."""
        return self._latent(self.img3(ops.elu(self.img2(deter))))

    def _latent(self, stats):
        """The latent's distribution from raw outputs `[..., 2 S]`."""
        mean, std = ops.split(ops.cast(stats, "float32"), 2, -1)
        return DiagNormal(mean, ops.softplus(std) + 0.1)


# ------------------------------------------------------------- what is passed --


class Behaviour(NamedTuple):
    """What actor and critic learn from; time first, N = starts of imagination."""

    feat: Any  # [H, N, F], of the imagined states
    reward: Any  # [H, N], predicted in them
    value: Any  # [H, N]
    discount: Any  # [H, N]
    weight: Any  # [H - 1, N], product of the discounts before a state
    ret: Any  # [H - 1, N], λ-returns


class DreamerV1(Agent):
    """World model, actor and critic of DreamerV1. See `agent.py`."""

    config: Config
    version = "v1"
    networks = networks
    losses = ("reward", "kl", "pcont", "model", "actor", "value")

    @property
    def horizon(self) -> int:
        """Steps of imagination."""
        return self.config.horizon

    def make_cell(self, tokens: int) -> RSSM:
        """The RSSM, for tokens of that width."""
        return RSSM(self.config, self.actions, tokens, name="dynamics")

    def make_optimizers(self):
        """Makes the optimizers, and names all variables."""
        c = self.config
        model = [self.encoder, self.cell, self.decoder.net, self.reward.net]
        model += [self.continues.net] * c.pcont
        self.model_opt = self._optimizer("model_opt", c.model_lr, *model)
        self.actor_opt = self._optimizer("actor_opt", c.actor_lr, self.actor.net)
        self.critic_opt = self._optimizer("value_opt", c.value_lr, self.critic.net)
        self.opts = (self.model_opt, self.actor_opt, self.critic_opt)
        for opt in self.opts:
            self.params |= opt.params
            self.add_variables(opt.params)
            self.add_variables(opt.variables)

    def _optimizer(self, name, lr, *modules) -> Adam:
        params = {v.path: v for m in modules for v in m.trainable_variables}
        return Adam(name, params, lr, eps=1e-7, clip=self.config.grad_clip)

    # ---------------------------------------------------------- world model --

    def split_context(self, batch):
        """Start state and training rows of a batch: zeros, and all of them.

        A sequence starts from the zero state and its true first action, which is not
        reset (official `RSSM.observe`). It never reaches into another episode.
        """
        rows = batch | {"is_first": ops.zeros_like(batch["is_first"])}
        return self.cell.initial(batch["reward"].shape[0]), rows

    def model_loss(self, batch, start, noise) -> Model:
        """Losses of the world model (Eq. 10, with reconstruction).

        Args:
          batch: entries `[B, T, ...]`.
          start: state before the first step.
          noise: of the posterior, `post` `[B, T, S]`.
        """
        c = self.config
        belief, _ = rssm.observe(
            self.cell, start, self.tokens(batch), batch, noise.get("post")
        )
        # The prior's own sample is never used, so all of it comes at once.
        post, prior = belief.dist, self.cell.prior(belief.deter)
        feat, losses = self.cell.feat(belief), {}
        for key, dist in self.decoder(feat).items():
            losses[self.loss_names[key]] = -ops.mean(dist.log_prob(batch[key]))
        reward = batch["reward"]
        reward = ops.tanh(reward) if c.clip_rewards == "tanh" else reward
        losses["reward"] = -ops.mean(self.reward(feat).log_prob(reward))
        if c.pcont:
            # γ is part of the label, so the head predicts γ, not 1, while it goes on.
            discount = c.discount * (1 - ops.cast(batch["is_terminal"], "float32"))
            losses["pcont"] = -ops.mean(self.continues(feat).log_prob(discount))
        kl = post.kl(prior)
        losses["kl"] = ops.maximum(devices.mean(kl), c.free_nats)
        return Model(losses, belief, prior, kl)

    def scale(self, loss: str) -> float:
        """The factor of a loss of the world model."""
        c = self.config
        scales = {"kl": c.kl_scale, "pcont": c.pcont_scale}
        return scales[loss] if loss in scales else c.loss_scales.of(loss)

    # ------------------------------------------------------------ behaviour --

    def start_steps(self, length: int) -> slice:
        """All but the last step, if that could be terminal."""
        return slice(length - self.config.pcont)

    def imagine(self, belief: Belief, noise) -> Dream:
        """Rolls out the actor, with gradients through dynamics and actions."""
        return rssm.imagine(
            self.cell, self.actor, self.starts(belief), self.horizon, noise
        )

    def behaviour(self, dream: Dream, rows) -> Behaviour:
        """Predictions in imagined states, and λ-returns (Eq. 6)."""
        del rows
        c = self.config
        feat = dream.imagined  # without the start
        reward, value = self.reward(feat).mean, self.critic(feat).mean
        if c.pcont:
            discount = self.continues(feat).mean
        else:
            discount = ops.full_like(reward, c.discount)
        ret = lambda_return(reward[:-1], discount[:-1], value[1:], c.disclam)
        # A state's discount says whether the *next* one counts.
        weight = ops.concatenate([ops.ones_like(discount[:1]), discount[:-2]], 0)
        weight = sg(ops.cumprod(weight, 0))
        return Behaviour(feat, reward, value, discount, weight, ret)

    def actor_loss(self, b: Behaviour):
        """Loss of the actor (Eq. 7), whose gradient is that of the dynamics."""
        return -ops.mean(b.weight * b.ret)

    def critic_loss(self, b: Behaviour, value):
        """Loss of the critic (Eq. 8).

        Args:
          value: its prediction in the imagined states but the last one.
        """
        return -ops.mean(b.weight * value.log_prob(sg(b.ret)))

    # --------------------------------------------------------------- update --

    def train_step(self, noise, batch, carry=None):
        """One update of everything; returns metrics and nothing for replay.

        All losses are those of the weights before the update.
        """
        start, rows = self.start_and_rows(batch, carry)
        total, model, model_grads = self.model_gradients(noise, rows, start)
        totals, seen, grads = self.behaviour_gradients(noise, rows, model.belief)
        metrics = summary(self, {"model": total} | totals, model, *seen)
        for opt, each in zip(self.opts, (model_grads, *grads)):
            metrics[opt.name.replace("opt", "grad_norm")] = opt.apply(each)
        return metrics, {}

    def model_gradients(self, noise, rows, start):
        """Loss of the world model, what led to it, and gradients by path."""

        def loss():
            model = self.model_loss(rows, start, noise)
            kl, others = model.losses["kl"], model.losses | {"kl": 0.0}
            return self.config.kl_scale * kl + weighted(others, self.scale), model

        return self.model_opt.gradients(loss)

    def behaviour_gradients(self, noise, rows, belief):
        """Losses of actor and critic, what led to them, and gradients of each."""

        def actor_loss():
            dream = self.imagine(belief, noise)
            b = self.behaviour(dream, rows)
            return self.actor_loss(b), (dream, b)

        def critic_loss():
            value = self.critic(feat)
            return self.critic_loss(b, value), value.mean

        actor, (dream, b), actor_grads = self.actor_opt.gradients(actor_loss)
        feat = sg(b.feat[:-1])
        critic, value, critic_grads = self.critic_opt.gradients(critic_loss)
        losses = {"actor": actor, "value": critic}
        return losses, (dream, b, value), (actor_grads, critic_grads)

    # --------------------------------------------------------------- acting --

    def policy(self, obs, state, mode):
        """See `Agent.policy`; exploration depends on the run's `frames`."""
        frames = np.full((len(obs["is_first"]), 1), self.frames, np.float32)
        action, state = super().policy(obs, state | {"frames": frames}, mode)
        return action, {k: v for k, v in state.items() if k != "frames"}

    def draw_policy(self, seed, obs, state):
        """Noise of one decision."""
        size = state["action"].shape[0]
        shape = (self.config.eval_samples, size, self.actions)
        return super().draw_policy(seed, obs, state) | {
            "candidates": engine.normal(engine.fold_in(seed, 2), shape),
            "explore": self.explore_noise(engine.fold_in(seed, 3), size),
        }

    def policy_step(self, noise, obs, state, mode):
        """One decision: sampled and noisy in training, likely in evaluation."""
        c, evaluating = self.config, mode == "eval"
        post = self.infer(obs, state, noise["post"])
        dist = self.actor(self.cell.feat(post))
        if not evaluating:
            action = dist.sample(noise["action"])
        elif c.eval_samples and not self.discrete:
            action = dist.best(dist.sample(noise["candidates"]))
        else:
            action = dist.sample(None)
        amount = c.eval_noise if evaluating else self.expl_amount(state["frames"])
        if not evaluating or c.eval_noise:
            action = explore(action, amount, noise["explore"], self.discrete)
        return action, post

    def expl_amount(self, frames):
        """Amount of exploration after so many frames of training."""
        c = self.config
        amount = ops.full_like(frames, c.expl_amount)
        if c.expl_decay:
            amount = amount * ops.power(0.5, frames / c.expl_decay)
        return ops.maximum(amount, c.expl_min) if c.expl_min else amount

    # ------------------------------------------------------------ predictions --

    def observations(self, state):
        """Distribution of every observation entry in a state."""
        return self.decoder(self.cell.feat(state))

    def continuation(self, feat):
        """Predicted probability that the episode goes on; 1 without that head."""
        c = self.config
        if not c.pcont:
            return ops.ones(feat.shape[:-1])
        return self.continues(feat).mean / c.discount


# ------------------------------------------------------------------ metrics --


def summary(agent, totals, model: Model, dream: Dream, b: Behaviour, value) -> dict:
    """Metrics of an update, by official names where there are any."""
    del dream, b, value
    metrics = {f"{k}_loss": v for k, v in totals.items()}
    metrics |= {f"{k}_loss": v for k, v in model.losses.items() if k != "kl"}
    if "pcont" in model.losses:
        metrics["pcont_loss"] = agent.scale("pcont") * metrics["pcont_loss"]
    metrics |= {"div": model.losses["kl"], "kl": ops.mean(model.kl)}
    metrics["prior_ent"] = ops.mean(model.prior.entropy())
    metrics["post_ent"] = ops.mean(model.belief.dist.entropy())
    feat = sg(agent.cell.feat(model.belief))
    return metrics | {"action_ent": ops.mean(agent.actor(feat).entropy())}


AGENT = DreamerV1
