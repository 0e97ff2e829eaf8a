"""What the algorithms need from a backend: compile, gradients, scans, noise.

`tensorflow.py` and `jax.py` offer the same functions; Keras's own choice of
backend (`KERAS_BACKEND`, TensorFlow unless set) decides which one is used.
"""

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    from dreamer_tf.engine.tensorflow import (
        compile,
        compile_policy,
        fold_in,
        normal,
        scan,
        tfp,
        to_host,
        uniform,
        value_and_grad,
    )
elif keras.backend.backend() == "jax":
    from dreamer_tf.engine.jax import (
        compile,
        compile_policy,
        fold_in,
        normal,
        scan,
        tfp,
        to_host,
        uniform,
        value_and_grad,
    )
else:
    raise ImportError(
        f"KERAS_BACKEND is '{keras.backend.backend()}'; dreamer_tf runs on "
        "'tensorflow' (the default) or 'jax'."
    )

__all__ = [
    "compile",
    "compile_policy",
    "fold_in",
    "normal",
    "scan",
    "seed",
    "tfp",
    "to_host",
    "uniform",
    "value_and_grad",
]


def seed(*entropy: int) -> np.ndarray:
    """A seed for one compiled call, int32 `[2]`, from whole numbers.

    Randomness is stateless: the caller names the draw (run seed, stream,
    counter), so the same draw can be repeated after a restart. Streams of
    different `entropy` are independent.
    """
    return np.random.SeedSequence(entropy).generate_state(2).view(np.int32)
