"""The papers' optimizers, written out as their update equations."""

import keras
import numpy as np
from keras import ops

from dreamer_tf import engine


def global_norm(tensors):
    """L2 norm of all entries of a list of tensors."""
    # One sum instead of one per tensor: XLA compiles every sum on its own.
    joined = ops.concatenate([ops.reshape(x, (-1,)) for x in tensors])
    return ops.sqrt(ops.sum(ops.square(joined)))


def rms(tensors):
    """Root mean square of all entries of a list of tensors."""
    return global_norm(tensors) / root_of_count(tensors)


def root_of_count(tensors) -> float:
    """Square root of the number of entries of a list of tensors."""
    return np.sqrt(sum(int(np.prod(x.shape)) for x in tensors))


def zeros_like(variable):
    """An untrained float32 variable of zeros in the shape of `variable`."""
    return keras.Variable(np.zeros(variable.shape, "float32"), trainable=False)


class Optimizer:
    """Base: the parameters by path, and gradients with respect to them."""

    params: dict

    def gradients(self, fn):
        """Gradients of `fn() -> (loss, more)`: loss, more, and gradients by path."""
        (loss, more), grads = engine.value_and_grad(fn, list(self.params.values()))
        return loss, more, dict(zip(self.params, grads))


class LaProp(Optimizer):
    """LaProp with adaptive gradient clipping and warm-up (V3, official `opt.py`).

    LaProp: arXiv 2002.04839. Clipping: arXiv 2102.06171, but by a tensor's norm instead
    of a unit's. Per tensor, with t = 1, 2, … the number of the update:
      g  ← g / max(1, ‖g‖ / (agc · max(1e-3, ‖θ‖)))      clip by the tensor's own norm
      ν  ← β₂ ν + (1 - β₂) g²
      μ  ← β₁ μ + (1 - β₁) g / (√(ν / (1 - β₂ᵗ)) + ε)     normalise, then average
      θ  ← θ - lr_t (μ / (1 - β₁ᵗ) + wd θ)               wd of kernels only
    with lr_t = lr · min(1, (t - 1) / warmup), so the first update only fills the
    moments.

    Args:
      params: path -> variable to optimise.
      config: fields lr, agc, eps, beta1, beta2, warmup, wd.
    """

    def __init__(self, params: dict, config):
        self.params, self.config = params, config
        self.count = keras.Variable(0, dtype="int32", trainable=False)
        self.mu = {k: zeros_like(v) for k, v in params.items()}
        self.nu = {k: zeros_like(v) for k, v in params.items()}

    @property
    def variables(self) -> dict:
        """Path -> variable of the optimizer's own state."""
        return (
            {"opt/count": self.count}
            | {f"opt/mu/{k}": v for k, v in self.mu.items()}
            | {f"opt/nu/{k}": v for k, v in self.nu.items()}
        )

    def updates(self, grads) -> list:
        """Advances the moments; what to add to each parameter (`-lr` included)."""
        c = self.config
        t = ops.cast(self.count + 1, "float32")
        lr = c.lr * (ops.minimum(1.0, (t - 1) / c.warmup) if c.warmup else 1.0)
        debias1 = 1 - ops.power(ops.convert_to_tensor(c.beta1, "float32"), t)
        debias2 = 1 - ops.power(ops.convert_to_tensor(c.beta2, "float32"), t)
        updates = []
        for (path, theta), grad in zip(self.params.items(), grads):
            g = clip_by_agc(grad, theta, c.agc)
            nu = c.beta2 * self.nu[path] + (1 - c.beta2) * ops.square(g)
            normed = g / (ops.sqrt(nu / debias2) + c.eps)
            mu = c.beta1 * self.mu[path] + (1 - c.beta1) * normed
            update = mu / debias1
            if c.wd and path.endswith("/kernel"):
                update = update + c.wd * theta
            self.nu[path].assign(nu)
            self.mu[path].assign(mu)
            updates.append(-lr * update)
        self.count.assign(self.count + 1)
        return updates

    def apply(self, grads) -> dict:
        """One update from gradients in the order of `params`; returns norms."""
        updates = self.updates(grads)
        for theta, update in zip(self.params.values(), updates):
            theta.assign(theta + update)
        norm = global_norm(grads)
        return {
            "grad_norm": norm,
            "grad_rms": norm / root_of_count(grads),
            "update_rms": rms(updates),
            "param_rms": rms([v.value for v in self.params.values()]),
        }


class Adam(Optimizer):
    """Adam after clipping by the global norm (DreamerV1 and V2).

    With all gradients of the group together and t = 1, 2, … the number of the update:
      g  ← g · clip / max(clip, ‖g‖)
      θ  ← (1 - wd) θ                          before the step, not scaled by lr (V2)
      m  ← 0.9 m + 0.1 g,   v ← 0.999 v + 0.001 g²
      θ  ← θ - lr √(1 - 0.999ᵗ) / (1 - 0.9ᵗ) · m / (√v + ε)

    Args:
      name: heads the paths of the optimizer's own variables.
      params: path -> variable to optimise.
      clip: largest norm; 0 does not clip.
    """

    def __init__(self, name, params: dict, lr, eps, clip=0.0, wd=0.0):
        self.name, self.params = name, params
        self.lr, self.eps, self.clip, self.wd = lr, eps, clip, wd
        self.count = keras.Variable(0, dtype="int32", trainable=False)
        self.m = {k: zeros_like(v) for k, v in params.items()}
        self.v = {k: zeros_like(v) for k, v in params.items()}

    @property
    def variables(self) -> dict:
        """Path -> variable of the optimizer's own state."""
        return (
            {f"{self.name}/count": self.count}
            | {f"{self.name}/m/{k}": v for k, v in self.m.items()}
            | {f"{self.name}/v/{k}": v for k, v in self.v.items()}
        )

    def apply(self, grads: dict):
        """One update from gradients by path; returns their norm before clipping."""
        norm = global_norm(list(grads.values()))
        factor = self.clip / ops.maximum(norm, self.clip) if self.clip else 1.0
        t = ops.cast(self.count + 1, "float32")
        beta1, beta2 = (ops.convert_to_tensor(b, "float32") for b in (0.9, 0.999))
        debias = ops.sqrt(1 - ops.power(beta2, t)) / (1 - ops.power(beta1, t))
        for path, theta in self.params.items():
            g = factor * grads[path]
            m = beta1 * self.m[path] + (1 - beta1) * g
            v = beta2 * self.v[path] + (1 - beta2) * ops.square(g)
            step = self.lr * debias * m / (ops.sqrt(v) + self.eps)
            theta.assign((1 - self.wd) * theta - step)
            self.m[path].assign(m)
            self.v[path].assign(v)
        self.count.assign(self.count + 1)
        return norm


def clip_by_agc(grad, theta, clip, floor=1e-3):
    """Scales `grad` so that its norm is at most `clip` times that of `theta`."""
    if not clip:
        return grad
    limit = clip * ops.maximum(floor, ops.norm(ops.reshape(theta, (-1,))))
    norm = ops.norm(ops.reshape(grad, (-1,)))
    return grad / ops.maximum(1.0, norm / limit)
