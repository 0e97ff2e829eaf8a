"""How variables and layers are made: in which precision, from which seed."""

import contextlib
import random

import keras

from dreamer_tf.engine import devices

INITIAL = 0  # the stream of randomness below a run's seed


def choose_precision(name: str) -> str:
    """What "auto" means here: bfloat16 on a GPU, float32 on a CPU."""
    if name != "auto":
        return name
    return "float32" if devices.platform() == "cpu" else "bfloat16"


@contextlib.contextmanager
def computing_in(name: str):
    """Layers made inside compute in `name`; their weights are float32."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


@contextlib.contextmanager
def initial_seed(seed: int):
    """Layers made inside get the same initial weights for the same seed.

    Keras draws the seeds of its initialisers from Python's generator.
    """
    state = random.getstate()
    random.seed(f"{seed}/{INITIAL}")
    try:
        yield
    finally:
        random.setstate(state)
