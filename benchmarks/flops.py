"""Floating-point operations of one update, counted from the sizes of the weights.

Rule: a multiply-add is 2 operations; only matrix products and convolutions count.
A kernel is used once per row (a convolution's once per row and pixel), so a forward
pass costs 2 * size(kernel) * pixels. A layer costs as many such passes as gradients
are needed: 1 forward; 2 with gradients of the weights only (its input is data or a
constant) or of the input only (its weights are frozen); 3 with both. Convolutions
count in the official form (DreamerV3's decoder: nearest upsampling, then a 5x5
convolution at the larger size), however they are computed. Activations, norms,
sampling, losses and optimizers are left out: a few percent.

The compilers' own counts are of no use here: they count the body of a loop once.
"""

import math
from typing import Any


def update_flops(agent: Any, batch: int, length: int) -> float:
    """Operations of one update.

    Args:
      agent: only sizes are read.
      batch, length: sequences, and their steps that are trained on.
    """
    return {"v1": _v1, "v2": _v2, "v3": _v3}[agent.version](agent, batch, length)


def layer_flops(agent: Any) -> dict[str, int]:
    """Operations of one forward pass of every layer for one row, by kernel path."""
    sides = [s[:2] for s in agent.shapes.values() if len(s) == 3] or [(1, 1)]
    side, strided = sides[0], agent.version != "v3"
    flops = {}
    net = ""
    for path, variable in agent.params.items():
        if not path.endswith("kernel"):
            continue
        shape, pixels = tuple(variable.shape), 1
        encoding = path.startswith("enc")
        if len(shape) == 4:
            if net != path.split("/")[0]:  # the first convolution of a coder
                net = path.split("/")[0]
                # Strided decoders start with one pixel; the others end with `sides`.
                side = sides[0] if encoding else (1, 1)
                if not encoding and not strided:
                    stages = len(agent.config.dec.mults)
                    side = tuple(n // 2**stages for n in sides[0])
            if strided and encoding:  # no padding: the output's pixels
                side = tuple((n - shape[0]) // 2 + 1 for n in side)
                pixels = math.prod(side)
            elif strided:  # transposed: every pixel of the input is spread
                pixels = math.prod(side)
                side = tuple((n - 1) * 2 + shape[0] for n in side)
            elif encoding:  # the pooling comes after
                pixels = math.prod(side)
                side = tuple(n // 2 for n in side)
            else:  # the upsampling comes before
                side = tuple(n * 2 for n in side)
                pixels = math.prod(side)
        flops[path] = 2 * math.prod(shape) * pixels
    return flops


class _Sum:
    """Operations per row of all layers whose paths start with one of the prefixes."""

    def __init__(self, agent: Any):
        self.flops = layer_flops(agent)

    def __call__(self, *prefixes: str) -> int:
        return sum(n for path, n in self.flops.items() if path.startswith(prefixes))


def _v3(agent: Any, batch: int, length: int) -> float:
    c, f = agent.config, _Sum(agent)
    rows, starts = batch * length, batch * (c.imag_last or length)
    imagined = starts * (c.imag_length + 1)
    # World model; observations and actions are data.
    model = 3 * f("enc/", "dyn/", "dec/", "rew/", "con/")
    model -= f("enc/mlp0", "enc/cnn0", "dyn/dynin2")
    model -= 0 if c.reward_grad else f("rew/mlp/linear0")
    # Rollout, without gradients; the last state has an action but no successor.
    core = f("dyn/dynin", "dyn/dynhid", "dyn/dyngru", "dyn/prior")
    rollout = starts * c.imag_length * core + imagined * f("pol/")
    # Actor and critic on constant features; reward, continuation and the slow
    # critic, which is as large as the critic, say what these are worth.
    behaviour = 3 * f("pol/", "val/") - f("pol/mlp/linear0", "val/mlp/linear0")
    behaviour += f("rew/", "con/", "val/")
    # Critic and slow critic on replayed states.
    replayed = 4 * f("val/") - (0 if c.repval_grad else f("val/mlp/linear0"))
    replayed *= c.repval_loss
    return rows * model + rollout + imagined * behaviour + starts * replayed


def _v1(agent: Any, batch: int, length: int) -> float:
    c, f = agent.config, _Sum(agent)
    rows, starts = batch * length, batch * (length - c.pcont)
    # World model; observations and actions are data.
    model = 3 * f("encode/", "dynamics/", "decode/", "reward/", "pcont/")
    model -= f("encode/h1", "encode/dense0") + 2 * agent.actions * c.deter_size
    # Rollout: the actor sees constants; its gradient comes through frozen dynamics.
    rollout = 3 * f("actor/") - f("actor/h0")
    rollout += 2 * f("dynamics/img", "dynamics/cell")
    # Returns, through frozen heads; the value model's own loss; the actor's entropy
    # on replayed states, which is only logged.
    returns = 2 * f("reward/", "value/", "pcont/")
    value = 3 * f("value/") - f("value/h0")
    imagined = c.horizon * (rollout + returns) + (c.horizon - 1) * value
    return rows * (model + f("actor/")) + starts * imagined


def _v2(agent: Any, batch: int, length: int) -> float:
    c, f = agent.config, _Sum(agent)
    rows = starts = batch * length
    # World model; observations and actions are data.
    model = 3 * f("encoder/", "rssm/", "decoder/", "reward/", "discount/")
    model -= f("encoder/conv0", "encoder/dense0") + 2 * agent.actions * c.rssm.hidden
    for head in {"decoder", "reward", "discount"} - set(c.grad_heads):
        model -= f(f"{head}/dense0", f"{head}/convin")
    # Rollout: the actor sees constants; its gradient comes through frozen dynamics,
    # or, with reinforce, not through them.
    frozen = 1 if agent.actor_grad == "reinforce" else 2
    rollout = 3 * f("actor/") - f("actor/dense0") + frozen * f("rssm/img", "rssm/cell")
    # Returns of start and imagined states, by the slow critic; the critic's loss.
    returns = frozen * f("reward/", "discount/", "critic/")
    critic = 3 * f("critic/") - f("critic/dense0")
    horizon = c.imag_horizon
    return rows * model + starts * (
        horizon * (rollout + critic) + (horizon + 1) * returns
    )
