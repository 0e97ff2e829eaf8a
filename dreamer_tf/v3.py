"""DreamerV3: Mastering Diverse Domains through World Models.

Hafner, Pasukonis, Ba, Lillicrap: arXiv 2301.04104, Nature 640:647 (2025). Equations are
numbered as in arXiv v2; "official" is github.com/danijar/dreamerv3 at commit e3f0224,
whose names settings and weights keep, without `agent.` and `rssm.`. Networks are made
in `nets/v3.py`, settings in `configs/v3.py`.

  Eq. 1     RSSM                            RSSM.core, .posterior, .prior
  Eq. 2, 3  world model's objective         model_loss, kl_loss
  Eq. 4     actor and critic                DreamerV3.actor, .critic (`nets/v3.py`)
  Eq. 5     λ-return, critic's objective    behaviour, critic_loss
  Eq. 6     actor's objective               actor_loss
  Eq. 7     scale of returns                scales.ReturnNorm
  Eq. 8, 9  symlog squared error            distributions.SymlogError, returns.symlog
  Eq. 10    two-hot prediction              distributions.TwoHot, returns.twohot_bins
  Eq. 11    two-hot loss                    distributions.TwoHot.loss, returns.twohot
  Methods   critic on replayed steps        replay_loss
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from dreamer_tf import nets, rssm
from dreamer_tf.agent import Agent
from dreamer_tf.configs.v3 import Config, Dyn
from dreamer_tf.distributions import OneHots, TwoHot, sg
from dreamer_tf.dreamer import Model, weighted
from dreamer_tf.engine import devices
from dreamer_tf.nets import v3 as networks
from dreamer_tf.optimizers import LaProp
from dreamer_tf.returns import lambda_return
from dreamer_tf.rssm import Belief, Dream, State
from dreamer_tf.scales import ReturnNorm

# ---------------------------------------------------------------- RSSM cell --


class RSSM(rssm.Cell):
    """Recurrent state-space model with a block GRU (Eq. 1, official `rssm.py`).

    State: `deter [B, D]` and `stoch [B, S, C]`, a vector of one-hots. See `rssm.py`.

    Args:
      config: `Dyn`.
      actions: width of the action vector.
      tokens: width of an encoded observation.
    """

    def __init__(self, config: Dyn, actions: int, tokens: int, **kwargs):
        super().__init__(OneHots, config.stoch, **kwargs)
        c = self.config = config
        self.actions, self.tokens, self.flat = actions, tokens, c.stoch * c.classes
        self.width = c.deter + self.flat  # of features
        self.blocks = c.blocks
        self.inputs = [nets.dense(c.hidden, f"dynin{i}") for i in range(3)]
        self.innorms = [nets.rms_norm(f"dynin{i}norm") for i in range(3)]
        widths = [c.deter] * c.dynlayers + [3 * c.deter]
        names = [f"dynhid{i}" for i in range(c.dynlayers)] + ["dyngru"]
        self.hidden = [
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
        for linear in self.hidden:
            linear.build((None, c.deter))
        for norm in self.hidnorms:
            norm.build((None, c.deter))
        self.obs[0].build((None, c.deter), (None, self.tokens))
        for linear in self.obs[1:]:
            linear.build((None, c.hidden))
        for norm in self.obsnorms:
            norm.build((None, c.hidden))
        width = nets.build_stack(self.img, self.imgnorms, c.deter)
        self.priorlogit.build((None, width))

    def initial(self, batch_size: int) -> State:
        """The zero state."""
        c = self.config
        return State(
            ops.zeros((batch_size, c.deter)),
            ops.zeros((batch_size, c.stoch, c.classes)),
        )

    def feat(self, state):
        """What the heads see: `[deter, stoch]`, `[..., D + S C]`."""
        stoch = ops.reshape(state.stoch, (*state.deter.shape[:-1], self.flat))
        return ops.concatenate([state.deter, stoch], -1)

    def ahead(self, tokens, action):
        """Both, as far as they can be computed without the state."""
        return self.obs[0].known(tokens), nets.Known(self.embed(action))

    @nets.ahead
    def embed(self, action):
        """`[..., A] -> [..., hidden]`; magnitudes above 1 are scaled down to 1."""
        action = action / sg(ops.maximum(1.0, ops.abs(action)))
        return ops.silu(self.innorms[2](self.inputs[2](action)))

    def core(self, deter, stoch, action) -> nets.Blocks:
        """The sequence model: `h_t = f(h_{t-1}, z_{t-1}, a_{t-1})`, `[B, D]`."""
        h = nets.by_block(deter, self.blocks)
        stoch = ops.reshape(stoch, (*h.whole.shape[:-1], self.flat))
        x0 = ops.silu(self.innorms[0](self.inputs[0](h.whole)))
        x1 = ops.silu(self.innorms[1](self.inputs[1](stoch)))
        x = self.hidden[0](h, ops.concatenate([x0, x1, self.embed(action)], -1))
        for linear, norm in zip(self.hidden[1:], self.hidnorms):
            x = linear(ops.silu(norm(x)))
        # A block's outputs are its own reset gate, candidate and update gate.
        gates = nets.divide(ops.cast(x, "float32"), self.blocks)
        parts = nets.gru_update(gates, h.parts)
        return nets.Blocks(nets.unite(parts), parts)

    def posterior(self, deter, tokens):
        """`q(z_t | h_t, x_t)`: encoder (Eq. 1)."""
        x = self.obs[0](deter, tokens)
        for linear, norm in zip(self.obs[1:], self.obsnorms):
            x = linear(ops.silu(norm(x)))
        return self._latent(x)

    def prior(self, deter):
        """`p(z_t | h_t)`: dynamics predictor (Eq. 1)."""
        x = nets.stack(deter, self.img, self.imgnorms)
        return self._latent(self.priorlogit(x))

    def _latent(self, logit):
        """The latent's distribution from raw outputs `[..., S C]`."""
        c = self.config
        logit = ops.reshape(logit, (*logit.shape[:-1], c.stoch, c.classes))
        return OneHots(logit, c.unimix)


# ------------------------------------------------------------------ KL loss --


def kl_loss(post, prior, free):
    """KL of every step with free nats (Eq. 3; official `RSSM.loss`).

    Args:
      post, prior: distributions of latents, `[B, T]`.
      free: nats that cost nothing.

    Returns:
      `[B, T]`.
    """
    return ops.maximum(post.kl(prior), free)


# ------------------------------------------------------------- what is passed --


class Behaviour(NamedTuple):
    """What actor and critic learn from; time first, N = starts of imagination."""

    action: Any  # [H + 1, N, A], chosen in the start and the imagined states
    policy: Any  # the distributions they were sampled from
    critic: TwoHot  # predicted values, [H + 1, N]
    reward: Any  # [H + 1, N], predicted in these states
    goes_on: Any  # [H + 1, N], predicted continuation
    value: Any  # [H + 1, N]
    slow: Any  # [H + 1, N], value of the slow critic
    weight: Any  # [H + 1, N], product of the continuations up to a state
    ret: Any  # [H, N], λ-returns
    advantage: Any  # [H, N]
    entropy: Any  # [H, N], of the policy
    stats: dict  # of the returns, see `ReturnNorm`


class DreamerV3(Agent):
    """World model, actor and critic of DreamerV3. See `agent.py`."""

    config: Config
    version = "v3"
    networks = networks
    latents = ("deter", "stoch")
    losses = ("rec", "dyn", "rep", "rew", "con", "policy", "value", "repval")
    acts_last = True

    @property
    def horizon(self) -> int:
        """Steps of imagination."""
        return self.config.imag_length

    def make_cell(self, tokens: int) -> RSSM:
        """The RSSM, for tokens of that width."""
        return RSSM(self.config.dyn, self.actions, tokens, name="dyn")

    def make_optimizers(self):
        """Makes the optimizer and running statistics, and names all variables."""
        c, slow = self.config, self.slow_critic.net
        for target, source in zip(slow.variables, self.critic.net.variables):
            target.assign(np.asarray(source))
        self.context = c.replay_context
        self.heads = nets.Heads(
            trained={"actor": self.actor, "critic": self.critic},
            others={
                "reward": self.reward,
                "continues": self.continues,
                "slow": self.slow_critic,
            },
        )
        modules = [self.cell, self.encoder, self.decoder.net, self.reward.net]
        modules += [self.continues.net, self.actor.net, self.critic.net]
        self.params = {v.path: v for m in modules for v in m.variables}
        self.opt = LaProp(self.params, c.opt)
        self.retnorm = ReturnNorm(c.retnorm)
        self.add_variables(self.params)
        self.add_variables({v.path: v for v in slow.variables})
        self.add_variables(self.opt.variables)
        scale = {f"retnorm/{k}": v for k, v in self.retnorm.variables.items()}
        self.add_variables(scale)

    # ---------------------------------------------------------- world model --

    def split_context(self, batch):
        """Start state and training rows of a batch with context (official `agent.py`).

        With `replay_context` 1, row 0 only gives the stored latents from which the
        other rows go on; without, sequences start from zeros.
        """
        if not self.context:
            return self.cell.initial(batch["reward"].shape[0]), batch
        deter, stoch = (ops.cast(batch[k][:, 0], "float32") for k in self.latents)
        return State(deter, stoch), {k: v[:, 1:] for k, v in batch.items()}

    def model_loss(self, batch, start, noise) -> Model:
        """Losses of the world model (Eq. 3).

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
        # The prior learns from the posterior, and less so the reverse.
        losses["dyn"] = kl_loss(sg(post), prior, c.dyn.free_nats)
        losses["rep"] = kl_loss(post, sg(prior), c.dyn.free_nats)
        for key, dist in self.observations(belief).items():
            losses[self.loss_names[key]] = dist.loss(batch[key])
        reward = self.reward(feat if c.reward_grad else sg(feat))
        losses["rew"] = -reward.log_prob(batch["reward"])
        goes_on = 1 - ops.cast(batch["is_terminal"], "float32")
        if c.contdisc:  # the head learns γ c, see `behaviour`
            goes_on = goes_on * (1 - 1 / c.horizon)
        losses["con"] = -self.continues(feat).log_prob(goes_on)
        return Model(losses, belief, prior)

    def scale(self, loss: str) -> float:
        """The factor of a loss."""
        return self.config.loss_scales.of(loss)

    # ------------------------------------------------------------ behaviour --

    def start_steps(self, length: int) -> slice:
        """Imagination starts from the last steps of a sequence, or from all."""
        return slice(length - (self.config.imag_last or length), length)

    def imagine(self, belief: Belief, noise) -> Dream:
        """Rolls out the actor, which also acts in the last state; no gradients."""
        return rssm.imagine_and_act(
            self.cell,
            self.heads.actor,
            self.starts(belief),
            self.horizon,
            noise,
            self.heads.joined(),
        )

    def behaviour(self, dream: Dream, rows) -> Behaviour:
        """Predictions in imagined states, and λ-returns (Eq. 5)."""
        del rows
        c, out = self.config, self.heads(dream.feat)
        reward, slow = sg((out.reward.mean, out.slow.mean))
        goes_on, value = sg(out.continues.mean), out.critic.mean
        base = slow if c.imag_loss.slowtar else sg(value)
        # With contdisc the continuation has γ in it already. The product begins with
        # the start state's own prediction (official `imag_loss`).
        gamma = 1.0 if c.contdisc else 1 - 1 / c.horizon
        weight = ops.cumprod(gamma * goes_on, 0) / gamma
        # As `replay_loss` does from flags; nothing is the last step of a dream.
        term, last = 1 - goes_on, ops.zeros_like(goes_on)
        discount, lam = (1 - term)[1:] * gamma, (1 - last)[1:] * c.imag_loss.lam
        ret = lambda_return(reward[1:], discount, base[1:], lam)
        # Eqs. 6, 7: returns are scaled by their range from 5 to 95 %.
        stats = self.retnorm.stats(ret)
        advantage = (ret - base[:-1]) / stats["scale"]
        entropy = out.actor.entropy()[:-1]
        found = (dream.action, out.actor, out.critic, reward, goes_on, value, slow)
        return Behaviour(*found, weight, ret, advantage, entropy, stats)

    def actor_loss(self, b: Behaviour):
        """Loss of the actor (Eq. 6) for every start, `[N]`: reinforce.

        The paper sums over time, the code takes means.
        """
        actent = self.config.imag_loss.actent
        score = b.policy.log_prob(b.action)[:-1] * b.advantage
        return ops.mean(-b.weight[:-1] * (score + actent * b.entropy), 0)

    def critic_loss(self, b: Behaviour, value: TwoHot):
        """Loss of the critic for every start, `[N]` (Eq. 5, and towards its slow copy).

        Args:
          value: its prediction in all states.
        """
        slowreg = self.config.imag_loss.slowreg
        loss = value.loss((b.ret, 1.0), (b.slow, slowreg))
        return ops.mean(loss * b.weight[:-1], 0)

    def replay_loss(self, feat, batch, boot):
        """Loss of the critic on replayed steps, bootstrapped by imagined returns.

        Args:
          feat: posterior features `[K, B, F]`.
          batch: entries `[K, B]`.
          boot: imagined return of each step, `[K, B]`.

        Returns:
          The loss `[K - 1, B]`, and its values, bootstraps and returns.
        """
        c = self.config
        last, term = (ops.cast(batch[k], "float32") for k in ("is_last", "is_terminal"))
        value = self.critic(feat if c.repval_grad else sg(feat))
        slow = sg(self.slow_critic(feat).mean)
        gamma = 1 - 1 / c.horizon  # flags have no γ in them
        discount, lam = (1 - term)[1:] * gamma, (1 - last)[1:] * c.repl_loss.lam
        ret = lambda_return(batch["reward"][1:], discount, boot[1:], lam)
        loss = value.loss((ret, 1.0), (slow, c.repl_loss.slowreg))
        # After an episode's last row comes the first one of another.
        return (1 - last[:-1]) * loss, {"val": value.mean, "boot": boot, "ret": ret}

    # --------------------------------------------------------------- update --

    def train_step(self, noise, batch, carry=None):
        """One update of everything; returns metrics and latents for replay."""
        start, rows = self.start_and_rows(batch, carry)
        return self.apply(*self.gradients(noise, rows, start))

    def apply(self, total, seen, grads):
        """Takes the step that `gradients` has prepared."""
        losses, model, dream, b, _ = seen
        metrics = summary(self, total, losses, model, dream, b)
        metrics |= self.opt.apply(list(grads.values()))
        self.update_slow_critic()
        self.retnorm.assign(b.stats)
        # To replay, from which `split_context` takes them when the row is drawn again.
        feedback = {"deter": model.belief.deter, "stoch": model.belief.stoch}
        return metrics, feedback if self.context else {}

    def gradients(self, noise, rows, start):
        """Loss of everything, what led to it, and gradients by path."""
        return self.opt.gradients(lambda: self.loss(rows, start, noise))

    def loss(self, batch, start, noise):
        """All losses of one batch, as one scalar (Eq. 2, and Eqs. 5 and 6).

        Args:
          batch: entries `[B, T, ...]`.
          start: state before the first step.
          noise: see `Agent.draw`.

        Returns:
          The sum; all losses, `[B, T]` or `[B, K]` for K starts of imagination in each
          sequence; what led to them.
        """
        model = self.model_loss(batch, start, noise)
        dream = self.imagine(model.belief, noise)
        b = self.behaviour(dream, batch)
        size, length = batch["reward"].shape
        steps = self.start_steps(length)
        losses = dict(model.losses)
        losses["policy"] = ops.reshape(self.actor_loss(b), (size, -1))
        losses["value"] = ops.reshape(self.critic_loss(b, b.critic), (size, -1))
        replayed: dict[str, Any] = {}
        if self.config.repval_loss:
            late = State(model.belief.deter[:, steps], model.belief.stoch[:, steps])
            rows = {k: batch[k][:, steps] for k in ("reward", "is_last", "is_terminal")}
            boot = ops.reshape(b.ret[0], (size, -1))
            time_first = keras.tree.map_structure(
                rssm.swap, (self.cell.feat(late), rows, boot)
            )
            loss, replayed = self.replay_loss(*time_first)
            losses["repval"] = rssm.swap(loss)
        means = {k: ops.mean(v) for k, v in losses.items()}
        return weighted(means, self.scale), (losses, model, dream, b, replayed)

    def update_slow_critic(self):
        """The slow critic follows after the step (official `utils.SlowModel`)."""
        c = self.config.slowvalue
        rate = ops.where((self.opt.count - 1) % c.every == 0, c.rate, 0.0)
        pairs = zip(self.slow_critic.net.variables, self.critic.net.variables)
        for slow, fast in pairs:
            slow.assign(rate * fast + (1 - rate) * slow)

    # --------------------------------------------------------------- acting --

    def policy_step(self, noise, obs, state, mode):
        """One decision. DreamerV3 samples its actions in evaluation as well."""
        del mode
        post = self.infer(obs, state, noise["post"])
        action = self.actor(self.cell.feat(post)).sample(noise["action"])
        return action, post

    # ------------------------------------------------------------ predictions --

    def observations(self, state):
        """Distribution of every observation entry in a state."""
        return self.decoder(state.deter, state.stoch)

    def continuation(self, feat):
        """Predicted probability that the episode goes on."""
        c = self.config
        gamma = 1 - 1 / c.horizon if c.contdisc else 1.0
        return self.continues(feat).mean / gamma


# ------------------------------------------------------------------ metrics --


def summary(agent, total, losses, model: Model, dream: Dream, b: Behaviour) -> dict:
    """Metrics of an update, by official names."""
    del dream
    normed = (b.ret - b.stats["offset"]) / b.stats["scale"]
    metrics = {f"loss/{k}": ops.mean(v) for k, v in losses.items()}
    metrics |= {
        "total": total,
        "dyn_ent": ops.mean(model.prior.entropy()),
        "rep_ent": ops.mean(model.belief.dist.entropy()),
        "adv": ops.mean(b.advantage),
        "adv_std": devices.std(b.advantage),
        "adv_mag": ops.mean(ops.abs(b.advantage)),
        "rew": ops.mean(b.reward),
        "con": ops.mean(b.goes_on),
        "ret": ops.mean(normed),
        "ret_min": devices.min(normed),
        "ret_max": devices.max(normed),
        "ret_rate": ops.mean(ops.cast(ops.abs(normed) >= 1.0, "float32")),
        "val": ops.mean(b.value),
        "tar": ops.mean(b.ret),
        "weight": ops.mean(b.weight),
        "slowval": ops.mean(b.slow),
        "ent/action": ops.mean(b.entropy),
    }
    if agent.discrete:
        # Of a single action the entropy is 0, and so is the highest possible one.
        highest = np.log(max(agent.actions, 2))
        metrics["rand/action"] = metrics["ent/action"] / highest
    return metrics | {f"retnorm/{k}": b.stats[k] for k in ("lo", "hi")}


AGENT = DreamerV3
