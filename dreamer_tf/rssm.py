"""The two scans over a version's RSSM cell: observe and imagine.

A cell (`v1.RSSM`, `v2.RSSM`, `v3.RSSM`) offers
  `initial(batch_size)`: the zero state, a dictionary of `[B, ...]`;
  `observing(tokens, action, is_first)`: `(inputs, step)`, where `inputs` are
    everything that can be computed for all steps at once, `[B, T, ...]`, and
    `step(state, input, noise) -> (state, outputs)` is one filtering step;
  `imagining(start)`: `(state, step)`, where `state` is the start, perhaps with more
    in it, and `step(state, action, noise) -> state` is one step of the prior.
What does not depend on the recurrent state (actions, tokens) is projected for all steps
before a scan: hence methods of cells that return two functions, one for before.
"""

import keras
from keras import ops

from dreamer_tf import engine


def observe(cell, state, tokens, action, is_first, noise=None):
    """Filters a batch of sequences: posterior states for every step.

    Args:
      cell: the RSSM.
      state: state before the first step, `[B, ...]`.
      tokens: encoded observations, `[B, T, E]`.
      action: actions that led to them, `[B, T, A]`.
      is_first: `[B, T]`; where true, state and action are reset first.
      noise: of the latents, `[B, T, ...]`; None takes their mode.

    Returns:
      The last state, and the cell's outputs as `[B, T, ...]`.
    """
    inputs, step = cell.observing(tokens, action, is_first)
    xs = {"inputs": inputs} if noise is None else {"inputs": inputs, "noise": noise}
    state, outputs = engine.scan(
        lambda state, x: step(state, x["inputs"], x.get("noise")),
        state,
        keras.tree.map_structure(swap, xs),
        tokens.shape[1],
    )
    return state, keras.tree.map_structure(swap, outputs)


def imagine(cell, policy, start, length, noise=None):
    """Rolls the prior forward under a policy.

    Args:
      cell: the RSSM.
      policy: `policy(state, noise) -> {"action": [N, A], ...}`.
      start: states to start from, `[N, ...]`.
      length: number of steps H.
      noise: `{"action": [H, N, ...], "latent": [H, N, ...]}`; an entry that is
        missing means the mode.

    Returns:
      States `s_1 … s_H`, `[H, N, ...]`, and what the policy said before each,
      `[H, N, ...]`.
    """
    state, advance = cell.imagining(start)

    def step(state, noise):
        out = policy(state, noise.get("action"))
        state = advance(state, out["action"], noise.get("latent"))
        return state, ({k: state[k] for k in start}, out)

    _, (states, outs) = engine.scan(step, state, noise or {}, length)
    return states, outs


def rollout(cell, policy, start, length, noise=None):
    """As `imagine`, for a policy that also acts in the last state.

    Args:
      noise: as there, but with actions `[H + 1, N, ...]`.

    Returns:
      What the policy said in `s_0 … s_H`, `[H + 1, N, ...]`.
    """
    noise = noise or {}
    state, advance = cell.imagining(start)

    def step(carry, noise):
        state, action = carry
        state = advance(state, action, noise.get("latent"))
        out = policy(state, noise.get("action"))
        return (state, out["action"]), out

    now = {k: v[0] for k, v in noise.items()}
    later = noise | {k: noise[k][1:] for k in noise if k == "action"}
    first = policy(state, now.get("action"))
    return engine.scan(step, (state, first["action"]), later, length, first)[1]


def predict(cell, state, action, noise=None):
    """Rolls the prior forward under given actions.

    Args:
      cell: the RSSM.
      state: `[B, ...]`.
      action: `[B, T, A]`.
      noise: of the latents, `[B, T, ...]`; None takes their mode.

    Returns:
      States `[B, T, ...]`.
    """
    xs = {"action": action} if noise is None else {"action": action, "noise": noise}
    start, advance = cell.imagining(state)

    def step(now, x):
        now = advance(now, x["action"], x.get("noise"))
        return now, {k: now[k] for k in state}

    xs = keras.tree.map_structure(swap, xs)
    _, states = engine.scan(step, start, xs, action.shape[1])
    return keras.tree.map_structure(swap, states)


def swap(x):
    """`[B, T, ...]` <-> `[T, B, ...]`."""
    return ops.swapaxes(x, 0, 1)
