"""Pure functions of the papers: squashing, two-hot codes, λ-returns.

Everything here maps tensors to tensors; nothing holds state.
"""

import numpy as np
from keras import ops


def symlog(x):
    """`sign(x) log(1 + |x|)` (DreamerV3, Eq. 9)."""
    return ops.sign(x) * ops.log1p(ops.abs(x))


def symexp(x):
    """The inverse of `symlog`: `sign(x) (exp|x| - 1)` (DreamerV3, Eq. 9)."""
    return ops.sign(x) * ops.expm1(ops.abs(x))


def recursion(x, decay, last):
    """`R_t = x_t + decay_t R_{t+1}` with `R_T = last`; the core of every return.

    Args:
      x, decay: `[T, ...]`, time first.
      last: `[...]`.

    Returns:
      `R_0 … R_{T-1}`, `[T, ...]`.
    """
    returns = []
    for t in reversed(range(x.shape[0])):
        last = x[t] + decay[t] * last
        returns.append(last)
    return ops.stack(returns[::-1])


def lambda_return(reward, discount, next_value, lam):
    """λ-returns: `R_t = r_t + d_t ((1 - λ) v_t + λ R_{t+1})`, with `R_T = v_{T-1}`.

    All three belong to the same step: to its reward, to whether there is a state after
    it, and to that state's value. Which states the papers mean by that is seen where
    this is called: in V1 (Eq. 6) and V2 (Eq. 4) a reward belongs to the state in which
    it is predicted, in V3 (Eq. 5) to the state that is arrived at.

    Args:
      reward, discount, next_value: `[T, ...]`, time first.
      lam: λ, a number or `[T, ...]`.

    Returns:
      `R_0 … R_{T-1}`, `[T, ...]`.
    """
    x = reward + discount * (1 - lam) * next_value
    return recursion(x, discount * lam, next_value[-1])


def twohot_bins(bins: int):
    """Bin positions, `[bins]`: `symexp` of an even grid, exactly antisymmetric.

    Built from one half and its mirror image, so that a uniform distribution
    has mean exactly 0 (DreamerV3, Eq. 10; official `heads.symexp_twohot`).
    """
    # In float32 like the official grid: expm1 turns one ulp at -20 into 2e-6.
    count = (bins + 1) // 2
    steps = np.arange(count, dtype=np.float32) * np.float32(1 / (count - 1))
    grid = np.float32(20) * (1 - steps)
    grid[-1] = 0
    half = -np.expm1(grid)
    mirrored = -half[: bins // 2][::-1]
    return ops.convert_to_tensor(np.concatenate([half, mirrored]), "float32")


def twohot(x, bins):
    """Distribution over `bins` whose mean is `x` (DreamerV3, in Eq. 11).

    Args:
      x: `[...]`, in the space of the bins; beyond the ends the end bin is used.
      bins: `[N]`, increasing.

    Returns:
      `[..., N]`, at most two entries are not 0.
    """
    n = bins.shape[0]
    reached = count_reached(x, bins)
    below, above = ops.clip(reached - 1, 0, n - 1), ops.clip(reached, 0, n - 1)
    equal = below == above
    to_below = ops.where(equal, 1.0, ops.abs(ops.take(bins, below) - x))
    to_above = ops.where(equal, 1.0, ops.abs(ops.take(bins, above) - x))
    total = to_below + to_above
    return (
        ops.one_hot(below, n) * (to_above / total)[..., None]
        + ops.one_hot(above, n) * (to_below / total)[..., None]
    )


def count_reached(x, bins):
    """How many `bins [N]` (increasing) are at most `x [...]`, by halving: `[...]`."""
    n = bins.shape[0]
    count = ops.zeros(x.shape, "int32")
    for power in reversed(range(n.bit_length())):
        further = count + 2**power
        at = ops.take(bins, ops.minimum(further, n) - 1)
        count = ops.where((further <= n) & (at <= x), further, count)
    return count


def twohot_mean(probs, bins):
    """Mean of a distribution over antisymmetric `bins`; exactly 0 if uniform.

    The bins reach ±5e8, so rounding in a plain sum would swamp the result:
    each bin is paired with its mirror image first (official `outs.TwoHot.pred`).

    Args:
      probs: `[..., N]`; of unnormalised ones the mean is that times their sum.
      bins: `[N]` from `twohot_bins`.

    Returns:
      `[...]`.
    """
    half = probs.shape[-1] // 2
    low = ops.flip(probs[..., :half], -1)
    high = probs[..., -half:]
    # The middle bin of an odd number is 0 and drops out.
    return ops.sum((high - low) * bins[-half:], -1)
