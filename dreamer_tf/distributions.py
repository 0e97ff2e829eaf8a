"""The distributions of the papers, on top of TensorFlow Probability.

A distribution takes its noise as an argument of `sample`: all randomness of an update
is drawn before it, so that a step is a deterministic function of its inputs. `noise`
draws what `sample` needs. `sample(None)` is the mode, with the same gradient as a
sample (of `TanhNormal` it is the tanh of the mean).

What predicts an observation also knows how the observation is encoded: `log_prob` or
`loss` takes the observation as it is stored, `observation` is the prediction in the
same units (images in [0, 1]).
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from dreamer_tf import engine, returns
from dreamer_tf.engine import tfp

tfd = tfp.distributions


class Distribution:
    """Base: remembers the tensors and options that it was made of.

    Attributes:
      raw: the tensors, as they were given.
      options: the other arguments of the constructor, by name.
    """

    def __init__(self, *raw, **options):
        self.raw, self.options = raw, options

    def __init_subclass__(cls):
        engine.register(cls)

    def like(self, *raw):
        """A distribution of the same kind and options from other tensors."""
        return type(self)(*raw, **self.options)

    def __getitem__(self, index):
        """The distribution of some of the entries, such as `dist[:-1]`."""
        return self.like(*(x[index] for x in self.raw))


def sg(tree: Any) -> Any:
    """Stops gradients into tensors, distributions, and structures of them."""

    def stop(x):
        if isinstance(x, Distribution):
            return x.like(*map(ops.stop_gradient, x.raw))
        return ops.stop_gradient(x)

    return keras.tree.map_structure(stop, tree)


# ---------------------------------------------------------- discrete variables --


class OneHot(Distribution):
    """One-hot categorical with straight-through gradients (V2 Algorithm 1).

    Discrete actions of all versions; of latents see `OneHots`.

    Args:
      logits: `[..., C]`; computed in float32.
      unimix: share of a uniform distribution that is mixed in (DreamerV3: 1%).
    """

    def __init__(self, logits, unimix: float = 0.0):
        super().__init__(logits, unimix=unimix)
        logits = ops.cast(logits, "float32")
        probs = ops.softmax(logits, -1)
        if unimix:
            probs = (1 - unimix) * probs + unimix / logits.shape[-1]
            logits = ops.log(probs)
        self.dist = tfd.OneHotCategorical(logits=logits)
        self.logits, self.probs = logits, probs  # [..., C]

    @staticmethod
    def noise(seed, lead, width=None):
        """Uniform noise for a batch of shape `lead`; one number for each variable."""
        del width
        return engine.uniform(seed, lead)

    def sample(self, noise=None):
        """One-hot `[..., C]` from uniform noise `[...]` by inverting the CDF."""
        classes = self.probs.shape[-1]
        if noise is None:
            index = ops.argmax(self.logits, -1)
        else:
            # XLA's cumulative sum is slow on CPUs, so there it is a matrix product. A
            # GPU multiplies float32 with 11 bits, too few for the rare classes.
            if engine.platform() == "cpu":
                cdf = ops.matmul(self.probs, ops.triu(ops.ones((classes, classes))))
            else:
                cdf = ops.cumsum(self.probs, -1)
            passed = ops.cast(noise[..., None] >= cdf[..., :-1], "int32")
            index = ops.sum(passed, -1)
        hard = ops.one_hot(index, classes, dtype="float32")
        # The forward value is the one-hot to within one ulp of 1.
        return hard + (self.probs - ops.stop_gradient(self.probs))

    def log_prob(self, value):
        """`[..., C] -> [...]`; like TFP's without a gradient into `value`."""
        value = ops.stop_gradient(value)
        return ops.sum(value * ops.log_softmax(self.logits, -1), -1)

    def entropy(self):
        """`[...]`, in nats."""
        return self.dist.entropy()

    def kl(self, other):
        """`KL(self || other)`, `[...]`, in nats."""
        return tfd.kl_divergence(self.dist, other.dist)


class OneHots(OneHot):
    """Independent one-hot variables: the latents of DreamerV2 and V3.

    Args: as `OneHot`, with logits `[..., S, C]`.
    """

    @staticmethod
    def noise(seed, lead, width=None):
        """Uniform noise `[*lead, width]` for `width` variables."""
        return engine.uniform(seed, (*lead, width))

    def entropy(self):
        """`[...]`, in nats, summed over the variables."""
        return ops.sum(super().entropy(), -1)

    def kl(self, other):
        """`KL(self || other)`, `[...]`, in nats, summed over the variables."""
        return ops.sum(super().kl(other), -1)


class Bernoulli(Distribution):
    """Binary event; labels may be soft.

    Args:
      logits: `[...]`.
    """

    def __init__(self, logits):
        super().__init__(logits)
        self.dist = tfd.Bernoulli(logits=ops.cast(logits, "float32"))

    def log_prob(self, value):
        """`[...] -> [...]`, `value` in [0, 1]."""
        # TFP silently truncates Python and NumPy floats to integers here.
        return self.dist.log_prob(ops.convert_to_tensor(value, "float32"))

    @property
    def mean(self):
        """Probability of the event, `[...]`."""
        return ops.sigmoid(self.dist.logits)


# -------------------------------------------------------- continuous variables --


class Continuous(Distribution):
    """Base of the distributions that are sampled from standard normal noise."""

    @staticmethod
    def noise(seed, lead, width):
        """Standard normal noise `[*lead, width]`."""
        return engine.normal(seed, (*lead, width))


class BoundedNormal(Continuous):
    """DreamerV3's continuous policy (official `heads.bounded_normal`).

    A normal whose mean is in (-1, 1) and whose standard deviation is in
    (minstd, maxstd). Samples are not squashed; the environment clips them.

    Args:
      mean, std: raw network outputs, `[..., A]`.
    """

    def __init__(self, mean, std, minstd: float = 0.1, maxstd: float = 1.0):
        super().__init__(mean, std, minstd=minstd, maxstd=maxstd)
        std = (maxstd - minstd) * ops.sigmoid(std + 2.0) + minstd
        # Cast after the squashing, as in the official code.
        mean, std = (ops.cast(x, "float32") for x in (ops.tanh(mean), std))
        self.dist = tfd.Independent(tfd.Normal(mean, std), 1)
        self.mean, self.std = mean, std
        bounds = (0.5 * math.log(2 * math.pi * s**2) + 0.5 for s in (minstd, maxstd))
        self.minent, self.maxent = bounds

    def sample(self, noise=None):
        """`[..., A]` from standard normal noise `[..., A]`."""
        return self.mean if noise is None else self.mean + self.std * noise

    def log_prob(self, value):
        """`[..., A] -> [...]`."""
        return self.dist.log_prob(value)

    def entropy(self):
        """`[...]`, in nats, summed over A."""
        return self.dist.entropy()


class TruncNormal(Distribution):
    """DreamerV2's continuous policy: a normal truncated to [-1, 1].

    Args:
      mean, std: raw network outputs, `[..., A]`.
      min_std: smallest scale.
      init_std: added to the raw scale.
    """

    def __init__(self, mean, std, min_std: float = 0.1, init_std: float = 0.0):
        super().__init__(mean, std, min_std=min_std, init_std=init_std)
        mean, std = (ops.cast(x, "float32") for x in (mean, std))
        self.mean = ops.tanh(mean)
        self.std = 2 * ops.sigmoid((std + init_std) / 2) + min_std
        self.dist = tfd.Independent(
            tfd.TruncatedNormal(self.mean, self.std, -1.0, 1.0), 1
        )

    @staticmethod
    def noise(seed, lead, width):
        """Uniform noise `[*lead, width]`."""
        return engine.uniform(seed, (*lead, width))

    def sample(self, noise=None):
        """`[..., A]` from uniform noise `[..., A]` by inverting the CDF.

        The gradient is that of `mean + std * z` with constant z, as in the official
        agent: TensorFlow's sampler ignores that the bounds cut less or more.
        """
        sample = self.mean
        if noise is not None:
            x = self.dist.distribution.quantile(noise)
            # Far out in the tails the quantile is infinite in float32.
            z = (ops.clip(x, -1.0, 1.0) - self.mean) / self.std
            sample = self.mean + self.std * ops.stop_gradient(z)
        clipped = ops.clip(sample, -1 + 1e-6, 1 - 1e-6)
        return sample + ops.stop_gradient(clipped - sample)

    def log_prob(self, value):
        """`[..., A] -> [...]`."""
        return self.dist.log_prob(value)

    def entropy(self):
        """`[...]`, in nats, summed over A."""
        return ops.sum(self.dist.distribution.entropy(), -1)


class TanhNormal(Continuous):
    """DreamerV1's continuous policy: the tanh of a normal.

    Args:
      mean, std: raw network outputs, `[..., A]`.
      min_std: smallest scale.
      init_std: added to the raw scale.
      samples: number of draws behind `entropy`.
    """

    def __init__(self, mean, std, min_std: float, init_std: float, samples: int = 100):
        super().__init__(mean, std, min_std=min_std, init_std=init_std, samples=samples)
        mean, std = (ops.cast(x, "float32") for x in (mean, std))
        self.mean = 5 * ops.tanh(mean / 5)
        self.std = ops.softplus(std + init_std) + min_std
        self.dist = tfd.Independent(
            tfd.TransformedDistribution(
                tfd.Normal(self.mean, self.std), tfp.bijectors.Tanh()
            ),
            1,
        )
        self.samples = samples

    def sample(self, noise=None):
        """`[..., A]` from standard normal noise `[..., A]`; None: tanh of the mean."""
        return ops.tanh(self.mean if noise is None else self.mean + self.std * noise)

    def log_prob(self, value):
        """`[..., A] -> [...]`; what tanh has rounded to ±1 counts as just below."""
        return self.dist.log_prob(ops.clip(value, -0.99999997, 0.99999997))

    def entropy(self):
        """`[...]`, in nats: minus the mean log-density of draws.

        Official draws are random; these are evenly spaced quantiles of every
        dimension, which are independent, so nothing needs to be drawn.
        """
        levels = (np.arange(self.samples, dtype="float32") + 0.5) / self.samples
        z = tfd.Normal(0.0, 1.0).quantile(levels)
        z = ops.reshape(z, (-1, *[1] * len(self.mean.shape)))
        return -ops.mean(self.log_prob(self.sample(z)), 0)

    def best(self, candidates):
        """The likeliest of `[K, ..., A]` candidates, `[..., A]` (V1's evaluation).

        The official code takes the index found for the first row for all rows,
        which is the same for one environment.
        """
        index = ops.argmax(self.log_prob(candidates), 0)
        chosen = ops.one_hot(index, candidates.shape[0], axis=0, dtype="float32")
        return ops.sum(chosen[..., None] * candidates, 0)


class DiagNormal(Continuous):
    """DreamerV1's latents: independent normals.

    Args:
      mean, std: `[..., S]`, std positive.
    """

    def __init__(self, mean, std):
        super().__init__(mean, std)
        self.mean, self.std = (ops.cast(x, "float32") for x in (mean, std))
        self.dist = tfd.Independent(tfd.Normal(self.mean, self.std), 1)

    def sample(self, noise=None):
        """`[..., S]` from standard normal noise `[..., S]`."""
        return self.mean if noise is None else self.mean + self.std * noise

    def entropy(self):
        """`[...]`, in nats, summed over S."""
        return self.dist.entropy()

    def kl(self, other):
        """`KL(self || other)`, `[...]`, in nats, summed over S."""
        return tfd.kl_divergence(self.dist, other.dist)


def explore(action, amount, noise, discrete: bool):
    """The action to execute instead of `action` in DreamerV1 and V2.

    Args:
      action: `[N, A]`.
      amount: standard deviation of added noise; if discrete, the probability of a
        random choice.
      noise: standard normal `[N, A]`; if discrete, uniform `[N]`.
    """
    if not discrete:
        return ops.clip(action + amount * noise, -1, 1)
    probs = amount / action.shape[-1] + (1 - amount) * action
    return OneHot(ops.log(probs)).sample(noise)


# ------------------------------------------------------------------ predictions --


class UnitNormal(Distribution):
    """Numbers and vectors in DreamerV1 and V2: a normal of standard deviation 1.

    Args:
      mean: `[..., *event]`.
      rank: number of axes of an event.
    """

    def __init__(self, mean, rank: int = 0):
        super().__init__(mean, rank=rank)
        self.mean = ops.cast(mean, "float32")
        self.dist = tfd.Independent(tfd.Normal(self.mean, 1.0), rank)

    def log_prob(self, value):
        """`[..., *event] -> [...]`, constants included."""
        return self.dist.log_prob(value)

    @property
    def observation(self):
        """`[..., *event]`."""
        return self.mean


class ImageNormal(UnitNormal):
    """Images in DreamerV1 and V2: a unit normal over pixels in [-0.5, 0.5].

    Args:
      mean: `[..., H, W, C]`.
    """

    def __init__(self, mean):
        super().__init__(mean, rank=3)
        self.options = {}

    def log_prob(self, value):
        """uint8 `[..., H, W, C] -> [...]`, constants included."""
        return super().log_prob(centred(value))

    @property
    def observation(self):
        """`[..., H, W, C]`, around [0, 1]."""
        return self.mean + 0.5


def centred(image, dtype="float32"):
    """uint8 images as DreamerV1 and V2 see and predict them, in [-0.5, 0.5]."""
    return ops.cast(image, dtype) / 255 - 0.5


class SquaredError(Distribution):
    """Images in DreamerV3: the squared error over pixels in [0, 1] is the loss.

    Args:
      mean: `[..., *event]`, in the space in which errors are measured.
      rank: number of axes of an event.
    """

    def __init__(self, mean, rank: int = 3):
        super().__init__(mean, rank=rank)
        self.mean, self.rank = ops.cast(mean, "float32"), rank

    def encode(self, value):
        """The observation in that space."""
        return ops.cast(value, "float32") / 255

    def loss(self, value):
        """`[..., *event] -> [...]`: the sum of squared errors."""
        error = ops.square(self.mean - self.encode(value))
        axes = range(len(error.shape) - self.rank, len(error.shape))
        return ops.sum(error, tuple(axes))

    def log_prob(self, value):
        """Minus the loss."""
        return -self.loss(value)

    @property
    def observation(self):
        """`[..., *event]` in the observation's units; images in [0, 1]."""
        return self.mean


class SymlogError(SquaredError):
    """Vectors in DreamerV3: squared error of symlog values (Eq. 8)."""

    def encode(self, value):
        """The observation in symlog space."""
        return returns.symlog(ops.cast(value, "float32"))

    @property
    def observation(self):
        """`[..., *event]` in the observation's units."""
        return returns.symexp(self.mean)


class TwoHot(Distribution):
    """Categorical over exponentially spaced bins (DreamerV3, Eqs. 10 and 11).

    Args:
      logits: `[..., N]`.
    """

    def __init__(self, logits):
        super().__init__(logits)
        self.logits = ops.cast(logits, "float32")
        self.bins = returns.twohot_bins(self.logits.shape[-1])
        top = ops.stop_gradient(ops.max(self.logits, -1))
        self.weights = ops.exp(self.logits - top[..., None])
        self.total = ops.sum(self.weights, -1)
        self.norm = top + ops.log(self.total)

    def log_prob(self, value):
        """`[...] -> [...]`: minus the cross-entropy to the two-hot code of value."""
        return self._expected(self._code(value), 1.0)

    def loss(self, *targets):
        """Weighted sum of the cross-entropies to several targets.

        Args:
          targets: pairs of numbers and a factor. Along the first axis there may be
            fewer numbers than predictions, which leaves out the last predictions.

        Returns:
          `[...]`, as many along the first axis as the shortest target has.
        """
        length = self.logits.shape[0]
        codes, mass, count = [], 0.0, length
        for value, factor in targets:
            # Numbers are padded, and results cut: cutting the logits costs more.
            missing = length - value.shape[0]
            count = min(count, value.shape[0])
            around = ((0, missing), *[(0, 0)] * (len(value.shape) - 1))
            code = self._code(ops.pad(value, around) if missing else value)
            codes.append(code if factor == 1 else factor * code)
            mass += factor
        return -self._expected(sum(codes[1:], codes[0]), mass)[:count]

    def _code(self, value):
        """The two-hot code of numbers, a constant: `[...] -> [..., N]`."""
        return returns.twohot(ops.stop_gradient(value), self.bins)

    def _expected(self, code, mass: float):
        """`Σ code · log p`, `[..., N] -> [...]`, of a code that sums to `mass`."""
        return ops.sum(code * self.logits, -1) - mass * self.norm

    @property
    def mean(self):
        """`[...]`."""
        return returns.twohot_mean(self.weights, self.bins) / self.total
