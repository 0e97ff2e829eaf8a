"""DreamerV2: Mastering Atari with Discrete World Models.

Hafner, Lillicrap, Norouzi, Ba: arXiv 2010.02193 v4 (ICLR 2021). Equations are numbered
as in the paper; "official" is github.com/danijar/dreamerv2 at commit 07d906e, whose
names settings and weights keep. Networks are made in `nets/v2.py`, settings in
`configs/v2.py`.

  Eq. 1     RSSM                            RSSM.core, .posterior, .prior
  Alg. 1    straight-through gradients      distributions.OneHot.sample
  Eq. 2     world model's objective         model_loss
  Alg. 2    KL balancing                    kl_loss
  Eq. 3     actor and critic                DreamerV2.actor, .critic (`nets/v2.py`)
  Eq. 4     λ-return                        behaviour, returns.lambda_return
  Eq. 5     critic's objective              critic_loss
  Eq. 6     actor's objective               actor_loss
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from dreamer_tf import engine, nets, rssm
from dreamer_tf.agent import Agent
from dreamer_tf.configs.v2 import Config, Kl, Rssm
from dreamer_tf.distributions import OneHots, explore, sg
from dreamer_tf.dreamer import Model, weighted
from dreamer_tf.engine import devices
from dreamer_tf.nets import v2 as networks
from dreamer_tf.optimizers import Adam
from dreamer_tf.returns import lambda_return
from dreamer_tf.rssm import Belief, Dream, State
from dreamer_tf.scales import RewardScale

# ---------------------------------------------------------------- RSSM cell --


class RSSM(rssm.Cell):
    """Recurrent state-space model with categorical latents (Eq. 1, Algorithm 1).

    State: `deter [B, D]` and `stoch [B, S, C]`, a vector of one-hots. See `rssm.py`.

    Args:
      config: `Rssm`.
      actions: width of the action vector.
      tokens: width of an encoded observation.
    """

    def __init__(self, config: Rssm, actions: int, tokens: int, **kwargs):
        super().__init__(OneHots, config.stoch, **kwargs)
        c = self.config = config
        self.actions, self.tokens, self.flat = actions, tokens, c.stoch * c.discrete
        self.width = self.flat + c.deter  # of features
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
        self.img_in.build((None, self.flat), (None, self.actions))
        self.cell.build((None, c.hidden))
        self.img_out.build((None, c.deter))
        self.img_dist.build((None, c.hidden))
        self.obs_out.build((None, c.deter), (None, self.tokens))
        self.obs_dist.build((None, c.hidden))
        for norm in (self.img_in_norm, self.img_out_norm, self.obs_out_norm):
            norm.build((None, c.hidden))

    def initial(self, batch_size: int) -> State:
        """The zero state."""
        c = self.config
        return State(
            ops.zeros((batch_size, c.deter)),
            ops.zeros((batch_size, c.stoch, c.discrete)),
        )

    def feat(self, state):
        """What the heads see: `[stoch, deter]`, `[..., S C + D]`."""
        stoch = ops.reshape(state.stoch, (*state.deter.shape[:-1], self.flat))
        return ops.concatenate([stoch, state.deter], -1)

    def ahead(self, tokens, action):
        """Both, as far as they can be computed without the state."""
        return self.obs_out.known(tokens), self.img_in.known(action)

    def core(self, deter, stoch, action):
        """The sequence model: `h_t = f(h_{t-1}, z_{t-1}, a_{t-1})`, `[B, D]`."""
        stoch = ops.reshape(stoch, (*deter.shape[:-1], self.flat))
        x = self.act(self.img_in_norm(self.img_in(stoch, action)))
        return self.cell(x, deter)

    def posterior(self, deter, tokens):
        """`q(z_t | h_t, x_t)`: representation model (Eq. 1)."""
        x = self.act(self.obs_out_norm(self.obs_out(deter, tokens)))
        return self._latent(self.obs_dist(x))

    def prior(self, deter):
        """`p(z_t | h_t)`: transition predictor (Eq. 1)."""
        x = self.act(self.img_out_norm(self.img_out(deter)))
        return self._latent(self.img_dist(x))

    def _latent(self, logit):
        """The latent's distribution from raw outputs `[..., S C]`."""
        c, logit = self.config, ops.cast(logit, "float32")
        return OneHots(ops.reshape(logit, (*logit.shape[:-1], c.stoch, c.discrete)))


# ------------------------------------------------------------------ KL loss --


def kl_loss(post, prior, c: Kl):
    """KL loss with balancing (Eq. 2, Algorithm 2; official `kl_loss`).

    Args:
      post, prior: distributions of latents, `[B, T]`.
      c: `Kl`.

    Returns:
      The loss, a scalar, and the KL `[B, T]` in nats.
    """

    def free_nats(kl):
        if c.free_avg:
            return ops.maximum(devices.mean(kl), c.free)
        return ops.mean(ops.maximum(kl, c.free))

    left, right = (prior, post) if c.forward else (post, prior)
    if c.balance == 0.5:
        # Both get the whole gradient, and free nats are those of each step.
        kl = left.kl(right)
        return ops.mean(ops.maximum(kl, c.free)), kl
    kl, other = left.kl(sg(right)), sg(left).kl(right)
    share = c.balance if c.forward else 1 - c.balance  # of what trains `left`
    return share * free_nats(kl) + (1 - share) * free_nats(other), kl


# ------------------------------------------------------------- what is passed --


class Behaviour(NamedTuple):
    """What actor and critic learn from; time first, N = starts of imagination."""

    feat: Any  # [H + 1, N, F], of the start and the imagined states
    reward: Any  # [H + 1, N], predicted in them
    value: Any  # [H + 1, N], of the slow critic
    discount: Any  # [H + 1, N]
    weight: Any  # [H + 1, N], product of the discounts before a state
    ret: Any  # [H, N], λ-returns
    action: Any  # [H - 1, N, A], all but the last
    policy: Any  # the distributions they were sampled from
    entropy: Any  # [H - 1, N], of the policy
    normed: Any  # [H + 1, N], normalised rewards
    mag: Any  # the magnitude by which they were


class DreamerV2(Agent):
    """World model, actor and critic of DreamerV2. See `agent.py`."""

    config: Config
    version = "v2"
    networks = networks
    losses = ("reward", "kl", "discount", "model", "actor", "critic")
    batch_name = "dataset.batch"

    @property
    def horizon(self) -> int:
        """Steps of imagination."""
        return self.config.imag_horizon

    def make_cell(self, tokens: int) -> RSSM:
        """The RSSM, for tokens of that width."""
        return RSSM(self.config.rssm, self.actions, tokens, name="rssm")

    def make_optimizers(self):
        """Makes the optimizers and running statistics, and names all variables."""
        c, slow = self.config, self.slow_critic.net
        for target, source in zip(slow.variables, self.critic.net.variables):
            target.assign(np.asarray(source))
        self.slow_critic = self.slow_critic if c.slow_target else self.critic
        model = [self.encoder, self.cell, self.decoder.net, self.reward.net]
        model += [self.continues.net] * c.pred_discount
        self.model_opt = self._optimizer("model_opt", *model)
        self.actor_opt = self._optimizer("actor_opt", self.actor.net)
        self.critic_opt = self._optimizer("critic_opt", self.critic.net)
        self.rewnorm = RewardScale(c.reward_norm)
        self.count = keras.Variable(0, dtype="int32", trainable=False)
        self.opts = (self.model_opt, self.actor_opt, self.critic_opt)
        for opt in self.opts:
            self.params |= opt.params
            self.add_variables(opt.params)
            self.add_variables(opt.variables)
        if c.slow_target:
            self.add_variables({v.path: v for v in slow.variables})
        self.add_variables({"slow_target/count": self.count})
        scale = {f"reward_norm/{k}": v for k, v in self.rewnorm.variables.items()}
        self.add_variables(scale)

    def _optimizer(self, name, *modules) -> Adam:
        params = {v.path: v for m in modules for v in m.trainable_variables}
        return Adam(name, params, **vars(getattr(self.config, name)))

    # ---------------------------------------------------------- world model --

    def split_context(self, batch):
        """Start state and training rows of a batch: zeros, and all of them."""
        return self.cell.initial(batch["reward"].shape[0]), batch

    def model_loss(self, batch, start, noise) -> Model:
        """Losses of the world model (Eq. 2).

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
        losses["kl"], kl = kl_loss(post, prior, c.kl)

        def seen(head):
            return feat if head in c.grad_heads else sg(feat)

        for key, dist in self.decoder(seen("decoder")).items():
            losses[self.loss_names[key]] = -ops.mean(dist.log_prob(batch[key]))
        reward = clip_reward(batch["reward"], c.clip_rewards)
        losses["reward"] = -ops.mean(self.reward(seen("reward")).log_prob(reward))
        if c.pred_discount:
            # γ is part of the label, so the head predicts γ, not 1, while it goes on.
            discount = c.discount * (1 - ops.cast(batch["is_terminal"], "float32"))
            dist = self.continues(seen("discount"))
            losses["discount"] = -ops.mean(dist.log_prob(discount))
        return Model(losses, belief, prior, kl)

    def scale(self, loss: str) -> float:
        """The factor of a loss of the world model."""
        return self.config.loss_scales.of(loss)

    # ------------------------------------------------------------ behaviour --

    def start_steps(self, length: int) -> slice:
        """Imagination starts from every step."""
        return slice(length)

    @property
    def actor_grad(self) -> str:
        """By which gradient the actor learns: dynamics, reinforce or both."""
        name = self.config.actor_grad
        if name == "auto":
            return "reinforce" if self.discrete else "dynamics"
        return name

    def imagine(self, belief: Belief, noise) -> Dream:
        """Rolls out the actor, with the gradients that `actor_grad` needs."""
        return rssm.imagine(
            self.cell,
            self.actor,
            self.starts(belief),
            self.horizon,
            noise,
            action_grad=self.actor_grad != "reinforce",
        )

    def behaviour(self, dream: Dream, rows) -> Behaviour:
        """Predictions in imagined states, and λ-returns (Eq. 4)."""
        c, feat = self.config, dream.feat
        reward = self.reward(feat).mean
        normed, mag = self.rewnorm(reward)
        if c.pred_discount:
            discount = self.continues(feat).mean
            # The starts were observed: whether they are an end is known.
            is_terminal = ops.reshape(rows["is_terminal"], (-1,))
            first = c.discount * (1 - ops.cast(is_terminal, "float32"))
            discount = ops.concatenate([first[None], discount[1:]], 0)
        else:
            discount = ops.full_like(reward, c.discount)
        # A state's discount says whether the *next* one counts.
        weight = ops.concatenate([ops.ones_like(discount[:1]), discount[:-1]], 0)
        weight = sg(ops.cumprod(weight, 0))
        value = self.slow_critic(feat).mean
        ret = lambda_return(normed[:-1], discount[:-1], value[1:], c.discount_lambda)
        # The last action leads to the bootstrap only, and is left out.
        action, policy = dream.action[:-1], dream.policy[:-1]
        found = (feat, reward, value, discount, weight, ret, action, policy)
        return Behaviour(*found, policy.entropy(), normed, mag)

    def actor_loss(self, b: Behaviour):
        """Loss of the actor (Eq. 6).

        A reward belongs to the state in which it is predicted, so the action chosen in
        state h is credited with V_{h+1}. The baseline is the slow critic's v_h, which
        unlike V_{h+1} also predicts r_h (official `actor_loss`; the paper has v_ξ).
        """
        c = self.config
        objective = b.ret[1:]
        if self.actor_grad != "dynamics":
            advantage = sg(b.ret[1:] - b.value[:-2])
            objective = b.policy.log_prob(b.action) * advantage
        if self.actor_grad == "both":
            mix = c.actor_grad_mix
            objective = mix * b.ret[1:] + (1 - mix) * objective
        return -ops.mean(b.weight[:-2] * (objective + c.actor_ent * b.entropy))

    def critic_loss(self, b: Behaviour, value):
        """Loss of the critic (Eq. 5).

        Args:
          value: its prediction in all states but the last one.
        """
        return -ops.mean(b.weight[:-1] * value.log_prob(sg(b.ret)))

    # --------------------------------------------------------------- update --

    def train_step(self, noise, batch, carry=None):
        """One update of everything; returns metrics and nothing for replay.

        The world model learns first; the behaviour learns inside the new one, from
        the states that the old one inferred (official `Agent.train`).
        """
        start, rows = self.start_and_rows(batch, carry)
        total, model, model_grads = self.model_gradients(noise, rows, start)
        norms = [self.model_opt.apply(model_grads)]
        totals, seen, grads = self.behaviour_gradients(noise, rows, model.belief)
        metrics = summary(self, {"model": total} | totals, model, *seen)
        norms += [opt.apply(each) for opt, each in zip(self.opts[1:], grads)]
        for opt, norm in zip(self.opts, norms):
            metrics[opt.name.replace("opt", "grad_norm")] = norm
        _, b, _ = seen
        self.rewnorm.mag.assign(b.mag)
        self.update_slow_critic()
        return metrics, {}

    def model_gradients(self, noise, rows, start):
        """Loss of the world model, what led to it, and gradients by path."""

        def loss():
            model = self.model_loss(rows, start, noise)
            return weighted(model.losses, self.scale), model

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
        losses = {"actor": actor, "critic": critic}
        return losses, (dream, b, value), (actor_grads, critic_grads)

    def update_slow_critic(self):
        """Copies the critic, after the first update and then every so many."""
        c = self.config
        if c.slow_target:
            mix = ops.where(ops.equal(self.count, 0), 1.0, c.slow_target_fraction)
            due = ops.equal(self.count % c.slow_target_update, 0)
            mix = ops.where(due, mix, 0.0)
            pairs = zip(self.slow_critic.net.variables, self.critic.net.variables)
            for slow, fast in pairs:
                slow.assign(mix * fast + (1 - mix) * slow)
        self.count.assign(self.count + 1)

    # --------------------------------------------------------------- acting --

    def draw_policy(self, seed, obs, state):
        """Noise of one decision."""
        size = state["action"].shape[0]
        return super().draw_policy(seed, obs, state) | {
            "explore": self.explore_noise(engine.fold_in(seed, 2), size)
        }

    def policy_step(self, noise, obs, state, mode):
        """One decision: sampled in training, the mode in evaluation."""
        c, evaluating = self.config, mode == "eval"
        no_noise = evaluating and c.eval_state_mean
        post = self.infer(obs, state, None if no_noise else noise.get("post"))
        dist = self.actor(self.cell.feat(post))
        action = dist.sample(None if evaluating else noise.get("action"))
        amount = c.eval_noise if evaluating else c.expl_noise
        if amount:
            action = explore(action, amount, noise["explore"], self.discrete)
        return action, post

    # ------------------------------------------------------------ predictions --

    def observations(self, state):
        """Distribution of every observation entry in a state."""
        return self.decoder(self.cell.feat(state))

    def continuation(self, feat):
        """Predicted probability that the episode goes on; 1 without that head."""
        c = self.config
        if not c.pred_discount:
            return ops.ones(feat.shape[:-1])
        return self.continues(feat).mean / c.discount


def clip_reward(reward, how: str):
    """Rewards as the world model sees them; `how`: identity, tanh or sign."""
    reward = ops.cast(reward, "float32")
    if how == "identity":
        return reward
    return {"tanh": ops.tanh, "sign": ops.sign}[how](reward)


# ------------------------------------------------------------------ metrics --


def summary(agent, totals, model: Model, dream: Dream, b: Behaviour, value) -> dict:
    """Metrics of an update, by official names."""
    del agent, dream
    metrics = {f"{k}_loss": v for k, v in model.losses.items()}
    metrics |= {f"{k}_loss": v for k, v in totals.items()}
    return metrics | {
        "model_kl": ops.mean(model.kl),
        "prior_ent": ops.mean(model.prior.entropy()),
        "post_ent": ops.mean(model.belief.dist.entropy()),
        "reward_mean": ops.mean(b.reward),
        "reward_std": devices.std(b.reward, batch_axis=1),
        "reward_normed_mean": ops.mean(b.normed),
        "reward_normed_std": devices.std(b.normed, batch_axis=1),
        "critic_slow": ops.mean(b.value),
        "critic_target": ops.mean(b.ret),
        "actor_ent": ops.mean(b.entropy),
        "critic": ops.mean(value),
    }


AGENT = DreamerV2
