"""Running statistics by which rewards and returns are scaled."""

import keras
from keras import ops

from dreamer_tf.configs.v2 import RewardNorm
from dreamer_tf.configs.v3 import RetNorm
from dreamer_tf.engine import devices

sg = ops.stop_gradient


class RewardScale:
    """Moving mean magnitude of rewards (DreamerV2, official `StreamNorm`).

    Args:
      config: `RewardNorm`.
    """

    def __init__(self, config: RewardNorm):
        self.config = config
        self.mag = keras.Variable(1.0, dtype="float32", trainable=False)
        self.variables = {"mag": self.mag}

    def __call__(self, reward):
        """Rewards `[H, N]` normalised after seeing them, and the new magnitude."""
        c = self.config
        mean = devices.mean(ops.abs(reward), batch_axis=1)
        mag = sg(c.momentum * self.mag + (1 - c.momentum) * mean)
        return c.scale * reward / (mag + c.eps), mag


class ReturnNorm:
    """Moving 5th and 95th percentile of returns (V3, Eq. 7; official `Normalize`).

    Args:
      config: `RetNorm`.
    """

    def __init__(self, config: RetNorm):
        self.config = config
        self.variables = {
            k: keras.Variable(0.0, dtype="float32", trainable=False)
            for k in ("lo", "hi", "corr")
        }

    def stats(self, ret) -> dict:
        """Percentiles after seeing `ret`, and the `offset` and `scale` they give."""
        c = self.config
        quantiles = ops.convert_to_tensor([c.perclo / 100, c.perchi / 100], "float32")
        lo, hi = ops.unstack(devices.quantile(ret, quantiles), 2)
        new = {"lo": lo, "hi": hi, "corr": 1.0}
        new = {k: (1 - c.rate) * self.variables[k] + c.rate * v for k, v in new.items()}
        debias = 1 / ops.maximum(c.rate, new["corr"]) if c.debias else 1.0
        scale = ops.maximum(c.limit, (new["hi"] - new["lo"]) * debias)
        return new | {"offset": new["lo"] * debias, "scale": scale}

    def assign(self, stats: dict):
        """Keeps what `stats` has seen."""
        for name, variable in self.variables.items():
            variable.assign(stats[name])
