"""What the algorithms need from a backend: compile, gradients, scans, noise, devices.

`tensorflow.py` and `jax.py` offer the same functions. Keras's choice of a backend
(`KERAS_BACKEND`, TensorFlow unless set) decides which of them is used.
"""

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    from dreamer_tf.engine import tensorflow as backend
elif keras.backend.backend() == "jax":
    # For mypy `backend` is the TensorFlow module; this one has the same functions.
    from dreamer_tf.engine import jax as backend  # type: ignore[no-redef]
else:
    raise ImportError(
        f"KERAS_BACKEND is '{keras.backend.backend()}'; dreamer_tf runs on "
        "'tensorflow' (the default) or 'jax'."
    )

from dreamer_tf.engine import devices

compile = backend.compile
compile_policy = backend.compile_policy
fold_in = backend.fold_in
normal = backend.normal
register = backend.register
scan = backend.scan
tfp = backend.tfp  # TensorFlow Probability for this backend
to_host = backend.to_host
uniform = backend.uniform
value_and_grad = backend.value_and_grad

available = devices.available
group = devices.group
limit_memory = devices.limit_memory
placed = devices.placed
platform = devices.platform


def seed(*entropy: int) -> np.ndarray:
    """A seed for one compiled call, int32 `[2]`, from whole numbers.

    Randomness is stateless: the caller names the draw (run seed, stream,
    counter), so the same draw can be repeated after a restart. Streams of
    different `entropy` are independent.
    """
    return np.random.SeedSequence(entropy).generate_state(2).view(np.int32)
