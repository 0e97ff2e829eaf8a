"""What the algorithms need from a backend: compile, gradients, scans, noise, devices.

`tensorflow.py` and `jax.py` offer the same functions; Keras's own choice of
backend (`KERAS_BACKEND`, TensorFlow unless set) decides which one is used.
"""

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    from dreamer_tf.engine.tensorflow import (
        available,
        compile,
        compile_policy,
        fold_in,
        group,
        limit_memory,
        normal,
        placed,
        platform,
        scan,
        tfp,
        to_host,
        uniform,
        value_and_grad,
        whole_batch,
    )
elif keras.backend.backend() == "jax":
    from dreamer_tf.engine.jax import (
        available,
        compile,
        compile_policy,
        fold_in,
        group,
        limit_memory,
        normal,
        placed,
        platform,
        scan,
        tfp,
        to_host,
        uniform,
        value_and_grad,
        whole_batch,
    )
else:
    raise ImportError(
        f"KERAS_BACKEND is '{keras.backend.backend()}'; dreamer_tf runs on "
        "'tensorflow' (the default) or 'jax'."
    )

__all__ = [
    "available",
    "compile",
    "compile_policy",
    "fold_in",
    "group",
    "limit_memory",
    "normal",
    "placed",
    "platform",
    "scan",
    "seed",
    "tfp",
    "to_host",
    "uniform",
    "value_and_grad",
    "whole_batch",
]


def seed(*entropy: int) -> np.ndarray:
    """A seed for one compiled call, int32 `[2]`, from whole numbers.

    Randomness is stateless: the caller names the draw (run seed, stream,
    counter), so the same draw can be repeated after a restart. Streams of
    different `entropy` are independent.
    """
    return np.random.SeedSequence(entropy).generate_state(2).view(np.int32)
