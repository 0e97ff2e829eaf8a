"""The distributions of the papers on top of TensorFlow Probability.

Each takes its noise as an argument of `sample`: all randomness of an update is
drawn beforehand, so a step is a deterministic function of its inputs.
`sample(None)` is the mode, with the same gradient as a sample.
"""

import math

from keras import ops

from dreamer_tf import returns
from dreamer_tf.engine import tfp

tfd = tfp.distributions


class OneHot:
    """Vector of one-hot categoricals with straight-through gradients.

    The latents of DreamerV2 and V3 (V2 Algorithm 1) and all discrete actions.

    Args:
      logits: `[..., C]`; computed in float32.
      unimix: share of a uniform distribution mixed in (DreamerV3: 1%).
    """

    def __init__(self, logits, unimix: float = 0.0):
        logits = ops.cast(logits, "float32")
        if unimix:
            probs = ops.softmax(logits, -1)
            probs = (1 - unimix) * probs + unimix / logits.shape[-1]
            logits = ops.log(probs)
        self.dist = tfd.OneHotCategorical(logits=logits)
        self.logits = logits
        self.parameters = {"logits": logits}

    @property
    def probs(self):
        """`[..., C]`."""
        return ops.softmax(self.logits, -1)

    def sample(self, noise=None):
        """One-hot `[..., C]` from uniform noise `[...]` by inverting the CDF."""
        probs = self.probs
        classes = probs.shape[-1]
        if noise is None:
            index = ops.argmax(self.logits, -1)
        else:
            # As a product: XLA's cumulative sum is slow on CPU.
            cdf = ops.matmul(probs, ops.triu(ops.ones((classes, classes))))
            passed = ops.cast(noise[..., None] >= cdf[..., :-1], "int32")
            index = ops.sum(passed, -1)
        hard = ops.one_hot(index, classes, dtype="float32")
        # The forward value is the one-hot to within one ulp of 1.
        return hard + (probs - ops.stop_gradient(probs))

    def log_prob(self, value):
        """`[..., C] -> [...]`."""
        return ops.sum(value * ops.log_softmax(self.logits, -1), -1)

    def entropy(self):
        """`[...]`, in nats."""
        return self.dist.entropy()

    def kl(self, other: "OneHot"):
        """`KL(self || other)`, `[...]`, in nats."""
        return tfd.kl_divergence(self.dist, other.dist)


class BoundedNormal:
    """DreamerV3's continuous policy (official `heads.bounded_normal`).

    A normal whose mean is in (-1, 1) and whose standard deviation is in
    (minstd, maxstd). Samples are not squashed; the environment clips them.

    Args:
      mean, std: raw network outputs, `[..., A]`.
    """

    def __init__(self, mean, std, minstd: float = 0.1, maxstd: float = 1.0):
        mean, std = (ops.cast(x, "float32") for x in (ops.tanh(mean), std))
        std = (maxstd - minstd) * ops.sigmoid(std + 2.0) + minstd
        self.dist = tfd.Independent(tfd.Normal(mean, std), 1)
        self.mean, self.std = mean, std
        self.parameters = {"mean": mean, "std": std}
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


class Bernoulli:
    """Binary event; labels may be soft.

    Args:
      logits: `[...]`.
    """

    def __init__(self, logits):
        self.dist = tfd.Bernoulli(logits=ops.cast(logits, "float32"))

    def log_prob(self, value):
        """`[...] -> [...]`, `value` in [0, 1]."""
        # TFP silently truncates Python and NumPy floats to integers here.
        return self.dist.log_prob(ops.convert_to_tensor(value, "float32"))

    @property
    def mean(self):
        """Probability of the event, `[...]`."""
        return ops.sigmoid(self.dist.logits)


class TwoHot:
    """Categorical over exponentially spaced bins (DreamerV3, Eqs. 8 to 10).

    Args:
      logits: `[..., N]`.
    """

    def __init__(self, logits):
        self.logits = ops.cast(logits, "float32")
        self.bins = returns.twohot_bins(self.logits.shape[-1])

    def log_prob(self, value):
        """`[...] -> [...]`: minus the cross-entropy to the two-hot code of value."""
        target = returns.twohot(ops.stop_gradient(value), self.bins)
        return ops.sum(target * ops.log_softmax(self.logits, -1), -1)

    @property
    def mean(self):
        """`[...]`."""
        return returns.twohot_mean(ops.softmax(self.logits, -1), self.bins)
