"""The TensorFlow engine. See `engine/__init__.py`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

__all__ = [
    "compile",
    "compile_policy",
    "fold_in",
    "normal",
    "scan",
    "tfp",
    "to_host",
    "uniform",
    "value_and_grad",
]


def compile(
    fn: Callable,
    draw: Callable,
    read: Sequence,
    write: Sequence = (),
    jit: bool = True,
) -> Callable:
    """Compiles `fn(noise, *args)` into `call(seed, *args)`.

    Args:
      fn: reads Keras variables in `read` and `write`, assigns those in `write`.
      draw: `draw(seed, *args)` returns all noise of the call. It runs outside
        of XLA: XLA's random generator on CPU is 35 times slower.
      read, write: unused here (variables are captured), needed by JAX.
      jit: whether XLA compiles `fn`.
    """
    del read, write
    step = tf.function(fn, jit_compile=jit, autograph=False)

    @tf.function(autograph=False)
    def call(seed, *args):
        return step(draw(seed, *args), *args)

    return call


def compile_policy(fn: Callable, read: Sequence, jit: bool = True) -> Callable:
    """Compiles `fn(*args)`, a small step that is called often and alone.

    Noise is drawn inside `fn`. A decision of a small agent takes less time than
    TensorFlow's way to hand over its arguments, so they go joined, one tensor for each
    type, and past the checks of `tf.function`.

    Args:
      fn: reads Keras variables, assigns none; structures of arrays in and out.
      read: unused here, needed by JAX.
      jit: whether XLA compiles it.
    """
    del read
    tree, compiled = keras.tree, {}

    def build(args, leaves):
        types = sorted({x.dtype for x in leaves}, key=str)
        structure = None

        def joined(*inputs):
            nonlocal structure
            parts = {}
            for dtype, x in zip(types, inputs):
                chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
                sizes = [leaves[i].size for i in chosen]
                parts |= zip(chosen, tf.split(x, sizes))
            values = [tf.reshape(parts[i], x.shape) for i, x in enumerate(leaves)]
            structure = fn(*tree.pack_sequence_as(args, values))
            return tree.flatten(structure)

        function = tf.function(joined, jit_compile=jit, autograph=False)
        specs = [
            tf.TensorSpec([sum(x.size for x in leaves if x.dtype == dtype)], dtype)
            for dtype in types
        ]
        concrete = function.get_concrete_function(*specs)
        return concrete.inference_fn.call_flat, concrete.captured_inputs, types, structure

    def call(*args):
        leaves = [np.asarray(x) for x in tree.flatten(args)]
        key = tuple((x.shape, x.dtype) for x in leaves)
        if key not in compiled:
            compiled[key] = build(args, leaves)
        function, captured, types, structure = compiled[key]
        inputs = [
            tf.convert_to_tensor(
                np.concatenate([x.ravel() for x in leaves if x.dtype == dtype])
            )
            for dtype in types
        ]
        return tree.pack_sequence_as(structure, function(*inputs, *captured))

    return call


def value_and_grad(fn: Callable[[], tuple], variables: Sequence) -> tuple:
    """`((loss, aux), gradients)` of `fn() -> (loss, aux)`; zeros where unused."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([v.value for v in variables])
        loss, aux = fn()
    grads = tape.gradient(
        loss, [v.value for v in variables], unconnected_gradients="zero"
    )
    return (loss, aux), grads


def scan(f: Callable, init: Any, xs: Any, length: int) -> tuple:
    """`lax.scan` for TensorFlow: compiles with and without XLA, has gradients.

    Args:
      f: `f(carry, x) -> (carry, y)` over structures of tensors.
      init: first carry.
      xs: structure of `[length, ...]` tensors.
      length: number of steps, static (XLA needs a bounded loop).

    Returns:
      Last carry, and the structure of ys stacked to `[length, ...]`.
    """
    nest = tf.nest
    init = nest.map_structure(tf.convert_to_tensor, init)
    xs = nest.map_structure(tf.convert_to_tensor, xs)
    with _Reads() as reads:
        spec = tf.function(f, autograph=False).get_concrete_function(
            nest.map_structure(lambda c: tf.TensorSpec(c.shape, c.dtype), init),
            nest.map_structure(lambda x: tf.TensorSpec(x.shape[1:], x.dtype), xs),
        )
    y_spec = spec.structured_outputs[1]
    weights = [(v, tf.convert_to_tensor(v.value)) for v in reads.variables.values()]
    # Arrays, not slices: the gradient of `x[i]` would fill zeros at every step.
    inputs = [
        tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x)
        for x in nest.flatten(xs)
    ]
    outputs = [
        tf.TensorArray(y.dtype, length, element_shape=y.shape)
        for y in nest.flatten(y_spec)
    ]

    def body(i, carry, outputs):
        x = nest.pack_sequence_as(xs, [a.read(i) for a in inputs])
        with keras.StatelessScope(state_mapping=weights):
            carry, y = f(carry, x)
        nest.assert_same_structure(y, y_spec)
        written = [a.write(i, v) for a, v in zip(outputs, nest.flatten(y))]
        return i + 1, carry, written

    _, carry, outputs = tf.while_loop(
        lambda i, *_: i < length,
        body,
        (0, init, outputs),
        parallel_iterations=1,
        maximum_iterations=length,
    )
    ys = nest.pack_sequence_as(y_spec, [a.stack() for a in outputs])
    return carry, ys


class _Reads(keras.StatelessScope):
    """Collects the variables that are read inside.

    What a loop's body reads, its gradient would stack for every step; weights are
    therefore read before the loop.
    """

    def __init__(self):
        super().__init__()
        self.variables: dict[int, keras.Variable] = {}

    def get_current_value(self, variable):
        """None: the variable's own value is the one to use."""
        self.variables[id(variable)] = variable


def fold_in(seed, data: int):
    """A new seed, int32 `[2]`, for draw number `data` below `seed`."""
    return tf.random.experimental.stateless_fold_in(seed, data)


def uniform(seed, shape):
    """Uniform float32 noise in [0, 1)."""
    return tf.random.stateless_uniform(shape, seed)


def normal(seed, shape):
    """Standard normal float32 noise."""
    return tf.random.stateless_normal(shape, seed)


def to_host(tree: Any) -> Any:
    """The same structure with NumPy arrays."""
    return tf.nest.map_structure(lambda x: x.numpy(), tree)
