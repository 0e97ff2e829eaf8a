"""The recurrent state-space model: what the three cells share, and the scans over them.

A cell (`v1.RSSM`, `v2.RSSM`, `v3.RSSM`) offers
  `initial(batch_size)`: the zero state;
  `core(deter, stoch, action)`: the next recurrent state (the sequence model);
  `posterior(deter, tokens)`: the latent's distribution given an observation;
  `prior(deter)`: its distribution without one;
  `feat(state)`: what the heads see of a state;
  `ahead(tokens, action)`: both inputs, computed as far as they do not depend on the
    state; `core` and `posterior` take the results instead of the inputs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from dreamer_tf import engine
from dreamer_tf.distributions import Distribution, sg
from dreamer_tf.nets import Blocks, by_block
from dreamer_tf.nets.fast import prepared


class State(NamedTuple):
    """A model state."""

    deter: Any  # [..., D], recurrent
    stoch: Any  # [..., S] or, of one-hots, [..., S, C]: a sample of the latent


class Belief(NamedTuple):
    """Model states and the distributions from which their latents were sampled."""

    deter: Any
    stoch: Any
    dist: Any

    @property
    def state(self) -> State:
        return State(self.deter, self.stoch)


class Dream(NamedTuple):
    """What was imagined, time first."""

    start: Any  # features of the start, [N, F]; None if `imagined` begins with them
    imagined: Any  # features of H imagined states, [H, N, F]
    action: Any  # [H, N, A], chosen in each state; also in the last, if it acts there
    policy: Any  # the distributions they were sampled from; None if it acts at the end

    @property
    def feat(self):
        """Features of the start and the imagined states, `[H + 1, N, F]`."""
        if self.start is None:
            return self.imagined
        return ops.concatenate([self.start[None], self.imagined], 0)


class Cell(layers.Layer):
    """Base of the cells.

    Args:
      latents: the class of the latent's distribution.
      stoch: number of latent variables S.
    """

    blocks = 1  # of the recurrent state, see `nets.BlockLinear`

    def __init__(self, latents: Any, stoch: int, **kwargs):
        super().__init__(**kwargs)
        self.latents, self.stoch = latents, stoch

    def noise(self, seed, lead):
        """Noise for the latents of a batch of shape `lead`."""
        return self.latents.noise(seed, lead, self.stoch)


def observe(cell, start: State, tokens, batch, noise=None) -> tuple[Belief, State]:
    """Filters a batch of sequences: posterior states of every step.

    Args:
      cell: the RSSM.
      start: state before the first step, `[B, ...]`.
      tokens: encoded observations, `[B, T, E]`.
      batch: `action` `[B, T, A]`, which led to the observations, and `is_first`
        `[B, T]`; where true, state and action are reset before the step.
      noise: of the latents, `[B, T, ...]`; None takes their mode.

    Returns:
      The states `[B, T, ...]`, and the last one `[B, ...]`.
    """
    length = tokens.shape[1]
    kind: list[Distribution] = []

    def step(state, x):
        keep = x["keep"]
        axes = [None] * (len(state.stoch.shape) - 1)
        stoch = state.stoch * keep[(slice(None), *axes)]
        deter = whole(cell.core(state.deter * keep[:, None], stoch, x["action"]))
        post = cell.posterior(deter, x["tokens"])
        kind[:] = [post]
        state = State(deter, post.sample(x.get("noise")))
        return state, {"deter": deter, "raw": post.raw, "stoch": state.stoch}

    with prepared(cell, length):
        keep = 1 - ops.cast(batch["is_first"], "float32")
        tokens, action = cell.ahead(tokens, batch["action"] * keep[..., None])
        xs = {"keep": keep, "action": action, "tokens": tokens}
        xs |= {} if noise is None else {"noise": noise}
        xs = keras.tree.map_structure(swap, xs)
        last, found = engine.scan(step, start, xs, length)
    found = keras.tree.map_structure(swap, found)
    return Belief(found["deter"], found["stoch"], kind[0].like(*found["raw"])), last


def imagine(
    cell,
    actor: Callable,
    start: State,
    length: int,
    noise: dict,
    action_grad: bool = True,
) -> Dream:
    """Rolls the prior forward under a policy.

    No gradient flows into what the actor sees.

    Args:
      cell: the RSSM.
      actor: from features to distributions of actions.
      start: states to start from, `[N, ...]`.
      length: number of steps H.
      noise: `{"action": [H, N, ...], "latent": [H, N, ...]}`; an entry that is
        missing means the mode.
      action_grad: whether gradients flow through the actions.

    Returns:
      The start and H imagined states, and the H actions between them.
    """
    kind: list[Distribution] = []

    def step(state, noise):
        policy = actor(sg(cell.feat(state)))
        kind[:] = [policy]
        action = policy.sample(noise.get("action"))
        action = action if action_grad else sg(action)
        state = advance(cell, state, action, noise.get("latent"))
        return state, (state, action, policy.raw)

    with prepared(cell, length):
        _, (states, action, raw) = engine.scan(step, start, dreamed(noise), length)
    policy = kind[0].like(*raw)
    return Dream(cell.feat(start), cell.feat(states), action, policy)


def imagine_and_act(
    cell,
    actor: Callable,
    start: State,
    length: int,
    noise: dict,
    join: Callable = lambda feat: feat,
) -> Dream:
    """As `imagine`, but also acts in the last state; without any gradient.

    Args:
      noise: as there, but with actions `[H + 1, N, ...]`.
      join: makes of features what the actor gets and what is returned, see
        `nets.Heads.joined`.
    """
    noise = dreamed(noise)

    def act(state, noise):
        feat = join(cell.feat(State(whole(state.deter), state.stoch)))
        return feat, actor(feat).sample(noise)

    def step(carry, noise):
        state, action = carry
        state = advance(cell, state, action, noise.get("latent"))
        feat, action = act(state, noise.get("action"))
        return (state, action), (feat, action)

    now = {k: v[0] for k, v in noise.items()}
    later = noise | {k: noise[k][1:] for k in noise if k == "action"}
    with prepared(cell, length):
        state = enter(cell, sg(start))
        first = act(state, now.get("action"))
        _, (feat, action) = engine.scan(step, (state, first[1]), later, length, first)
    return Dream(None, sg(feat), sg(action), None)


def predict(cell, start: State, action, noise=None) -> State:
    """Rolls the prior forward under given actions.

    Args:
      cell: the RSSM.
      start: `[B, ...]`.
      action: `[B, T, A]`.
      noise: of the latents, `[B, T, ...]`; None takes their mode.

    Returns:
      States `[B, T, ...]`.
    """
    xs = {"action": action} if noise is None else {"action": action, "noise": noise}

    def step(state, x):
        state = advance(cell, state, x["action"], x.get("noise"))
        return state, State(whole(state.deter), state.stoch)

    xs = keras.tree.map_structure(swap, xs)
    with prepared(cell, action.shape[1]):
        _, states = engine.scan(step, enter(cell, start), xs, action.shape[1])
    return keras.tree.map_structure(swap, states)


def roll_out(cell, actor, start: State, action, noise: dict) -> tuple[State, Any]:
    """As `predict`, but only the first action is given; the actor chooses the others.

    Args:
      action: `[B, A]`.
      noise: `{"action": [T, B, ...], "latent": [T, B, ...]}`.

    Returns:
      States `[B, T, ...]`, and the actions `[B, T, A]` that led to them.
    """

    def step(carry, noise):
        state, action = carry
        state = advance(cell, state, action, noise["latent"])
        seen = State(whole(state.deter), state.stoch)
        chosen = actor(cell.feat(seen)).sample(noise["action"])
        return (state, chosen), (seen, action)

    length = noise["latent"].shape[0]
    with prepared(cell, length):
        _, found = engine.scan(step, (enter(cell, start), action), noise, length)
    return keras.tree.map_structure(swap, found)


def dreamed(noise: dict) -> dict:
    """The noise of imagination among all noise of an update."""
    return {k: noise[k] for k in ("action", "latent") if k in noise}


def advance(cell, state: State, action, noise=None) -> State:
    """One step of the prior, `[N, ...]`."""
    deter = cell.core(state.deter, state.stoch, action)
    return State(deter, cell.prior(whole(deter)).sample(noise))


def enter(cell, state: State) -> State:
    """A state as a scan over `advance` carries it: by block, if the cell has any."""
    if cell.blocks == 1:
        return state
    return State(by_block(state.deter, cell.blocks), state.stoch)


def whole(deter):
    """The recurrent state `[N, D]`, however it is carried."""
    return deter.whole if isinstance(deter, Blocks) else deter


def swap(x):
    """`[B, T, ...]` <-> `[T, B, ...]`."""
    return ops.swapaxes(x, 0, 1)
