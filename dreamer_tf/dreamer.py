"""What the three versions share inside an update and a decision.

A version defines its cell, losses, `train_step` and `policy_step`; here stand the
making of its networks, the noise of a call, and the steps that need no equation.
"""

import abc
from collections.abc import Callable, Collection
from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from dreamer_tf import engine, rssm
from dreamer_tf.distributions import Continuous, OneHot, sg
from dreamer_tf.nets import Head
from dreamer_tf.rssm import Belief, State


class Model(NamedTuple):
    """What a world model makes of a batch."""

    losses: dict[str, Any]  # by name: V1, V2 scalars, V3 [B, T]
    belief: Belief  # posterior states, [B, T, ...]
    prior: Any  # distribution of the same latents, before the observation
    kl: Any = None  # between the two, [B, T], in nats (V1, V2)


def weighted(losses: dict, scale: Callable[[str], float]):
    """The sum of losses, scalars by name, times their factors."""
    return sum(scale(name) * loss for name, loss in losses.items())


def loss_names(entries: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """The name of each observation entry's loss.

    It is the entry's own name. If another loss has that, `obs_` stands before it, as
    often as it takes: DreamerV3's entry `value` has the loss `obs_value`.
    """
    names = {}
    for entry in entries:
        name = entry
        while name in taken or (name != entry and name in entries):
            name = f"obs_{name}"
        names[entry] = name
    return names


class Dreamer(abc.ABC):
    """Networks, noise and common steps of a version."""

    version: ClassVar[str]
    networks: Any  # the module `nets.v1` and so on
    config: Any  # `configs.v1.Config` and so on
    latents: ClassVar[tuple[str, ...]] = ()  # of the state, stored in replay
    losses: ClassVar[tuple[str, ...]] = ()  # names that no observation's loss has
    batch_name: ClassVar[str] = "batch_size"  # where the config says it
    acts_last: ClassVar[bool] = False  # in the last imagined state, too
    context = 0  # rows of a batch that only give the start state
    cell: Any  # the RSSM
    encoder: Any  # from observation entries to tokens `[..., E]`
    decoder: Head  # to distributions of observation entries
    reward: Head  # from features `[..., F]` to a distribution, as those that follow
    continues: Head
    actor: Head
    critic: Head
    slow_critic: Head

    obs_space: Any
    action_space: Any
    shapes: dict[str, tuple[int, ...]]  # of the observation entries
    loss_names: dict[str, str]  # of the same entries
    actions: int  # width of the action vector
    discrete: bool
    params: dict[str, keras.Variable]  # what optimizers train, by path
    variables: dict[str, keras.Variable]  # all that is saved, by path

    def build(self):
        """Makes networks and optimizers and names their variables."""
        c, networks = self.config, self.networks
        c.check_actions(self.discrete, self.action_space)
        self.encoder = networks.encoder(c, self.shapes)
        self.cell = self.make_cell(self.encoder.width)
        self.decoder = networks.decoder(c, self.shapes, self.cell.width)
        heads = networks.heads(c, self.actions, self.discrete)
        self.action_kind = networks.action_kind(c, self.discrete)
        for net in (self.encoder, self.cell, self.decoder.net):
            net.build()
        for name, head in heads.items():
            head.net.build((None, self.cell.width))
            setattr(self, name, head)
        self.make_optimizers()

    @property
    @abc.abstractmethod
    def horizon(self) -> int:
        """Steps of imagination."""

    @abc.abstractmethod
    def make_cell(self, tokens: int):
        """The RSSM, for tokens of that width."""

    @abc.abstractmethod
    def make_optimizers(self):
        """Makes optimizers and running statistics, and names all variables."""

    @abc.abstractmethod
    def split_context(self, batch) -> tuple[State, dict]:
        """State before the rows of a batch that are trained on, and these rows."""

    @abc.abstractmethod
    def start_steps(self, length: int) -> slice:
        """The steps of a sequence from which imagination starts."""

    @abc.abstractmethod
    def train_step(self, noise, batch, carry=None) -> tuple:
        """One update of everything; returns metrics and what goes to replay."""

    @abc.abstractmethod
    def policy_step(self, noise, obs, state, mode) -> tuple:
        """One decision; returns actions and the new model state."""

    @abc.abstractmethod
    def observations(self, state) -> dict:
        """Predicted distribution of every observation entry in a model state."""

    @abc.abstractmethod
    def continuation(self, feat):
        """Predicted probability that the episode goes on, from features."""

    def add_variables(self, variables: dict[str, keras.Variable]):
        """Registers variables as part of the agent's saved state, by path."""
        for path, variable in variables.items():
            if path in self.variables:
                raise ValueError(f"Two variables are named {path}.")
            self.variables[path] = variable

    # -------------------------------------------------------------- noise --

    def draw(self, seed, batch, carry=None) -> dict:
        """All noise of one update: for latents, and for actions in imagination."""
        size, rows = batch["reward"].shape
        length = rows - self.context
        starts = size * len(range(length)[self.start_steps(length)])
        seeds = [engine.fold_in(seed, i) for i in range(3)]
        lead = self.horizon + self.acts_last, starts
        return {
            "post": self.cell.noise(seeds[0], (size, length)),
            "latent": self.cell.noise(seeds[1], (self.horizon, starts)),
            "action": self.action_kind.noise(seeds[2], lead, self.actions),
        }

    def draw_policy(self, seed, obs, state) -> dict:
        """All noise of one decision."""
        size = state["action"].shape[0]
        seeds = [engine.fold_in(seed, i) for i in range(2)]
        return {
            "post": self.cell.noise(seeds[0], (size,)),
            "action": self.action_kind.noise(seeds[1], (size,), self.actions),
        }

    def _draw_dream(self, length, seed, state, given) -> dict:
        """All noise of a dream, time first."""
        lead = length, state["action"].shape[0]
        return {
            "latent": self.cell.noise(engine.fold_in(seed, 0), lead),
            "action": self.action_kind.noise(
                engine.fold_in(seed, 1), lead, self.actions
            ),
        }

    def explore_noise(self, seed, size: int):
        """Noise of `distributions.explore` for a batch of actions."""
        kind = OneHot if self.discrete else Continuous
        return kind.noise(seed, (size,), self.actions)

    # ------------------------------------------------- what versions share --

    def tokens(self, batch):
        """Encoded observations, `[B, T, E]`."""
        return self.encoder({k: batch[k] for k in self.shapes})

    def start_and_rows(self, batch, carry=None) -> tuple[State, dict]:
        """As `split_context`; `carry` replaces the start state."""
        start, rows = self.split_context(batch)
        return start if carry is None else State(carry["deter"], carry["stoch"]), rows

    def starts(self, belief: Belief) -> State:
        """The states from which imagination starts, `[N, ...]`, without gradients."""
        steps = self.start_steps(belief.deter.shape[1])
        states = (x[:, steps] for x in (belief.deter, belief.stoch))
        return sg(State(*(ops.reshape(x, (-1, *x.shape[2:])) for x in states)))

    def infer(self, obs, state, noise=None) -> State:
        """The model state after one more observation, `[B, ...]`."""
        batch = {k: obs[k][:, None] for k in (*self.shapes, "is_first")}
        batch["action"] = state["action"][:, None]
        noise = None if noise is None else noise[:, None]
        start = State(state["deter"], state["stoch"])
        _, last = rssm.observe(self.cell, start, self.tokens(batch), batch, noise)
        return last

    def report_step(self, noise, batch, context):
        """See `report`."""
        start, rows = self.split_context(batch)
        noise = noise["post"]
        seen = {k: v[:, :context] for k, v in rows.items()}
        tokens = self.tokens(seen)
        post, last = rssm.observe(self.cell, start, tokens, seen, noise[:, :context])
        later = rssm.predict(
            self.cell, last, rows["action"][:, context:], noise[:, context:]
        )
        both = zip((post.deter, post.stoch), later)
        states = State(*(ops.concatenate(each, 1) for each in both))
        return self.decode(states._asdict())

    def dream_step(self, noise, state, given):
        """See `dream`."""
        start = State(state["deter"], state["stoch"])
        if given:
            action = given["actions"]
            states = rssm.predict(self.cell, start, action, rssm.swap(noise["latent"]))
        else:
            states, action = rssm.roll_out(
                self.cell, self.actor, start, state["action"], noise
            )
        feat = self.cell.feat(states)
        return {
            "obs": self.decode(states._asdict()),
            "action": action,
            "reward": self.reward(feat).mean,
            "continues": self.continuation(feat),
            "value": self.critic(feat).mean,
        }

    def decode(self, state: dict) -> dict:
        """Predicted observations of a model state, in their own units.

        Args:
          state: `deter` and `stoch`, `[..., ...]`, such as `policy` returns.

        Returns:
          Per entry `[..., *shape]`; images in [0, 1], not clipped.
        """
        seen = self.observations(State(state["deter"], state["stoch"]))
        return {k: dist.observation for k, dist in seen.items()}
