"""The TensorFlow engine: compile, compile_policy, gradients, scan, noise.

See `engine/__init__.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp  # noqa: F401
from tensorflow.python.framework import ops

from dreamer_tf.engine import devices, programs


def compile(
    fn: Callable,
    draw: Callable,
    read: Sequence,
    write: Sequence = (),
    jit: bool = True,
    group: Any = None,
    axes: Mapping[str, int] | None = None,
    name: str = "",
) -> Callable:
    """Compiles `fn(noise, *args)` into `call(seed, *args)`.

    Args:
      fn: reads Keras variables in `read` and `write`, assigns those in `write`.
      draw: `draw(seed, *args)` returns all noise of the call. It runs outside
        of XLA, whose random generator on CPU is 35 times slower.
      read, write: every variable that `fn` uses.
      jit: whether XLA compiles `fn`. Ignored with several devices: XLA compiles
        exchanges between devices only on GPUs.
      group: of `devices.group`; its devices share every call, see `devices.share`.
      axes: the batch axis of each entry of the noise.
      name: everything that decides what `fn` computes, besides the code and the shapes
        of its arguments. A later start then need not trace `fn`, see `programs.py`.
    """
    if group is not None:
        return devices.share(fn, draw, group, axes or {})
    variables = list({id(v): v for v in (*read, *write)}.values())
    step = _function(fn, variables, jit, name)

    @tf.function(autograph=False)
    def call(seed, *args):
        return step(draw(seed, *args), *args)

    return call


def compile_policy(
    fn: Callable, read: Sequence, jit: bool = True, name: str = ""
) -> Callable:
    """Compiles `fn(seed, obs, state) -> (action, state)` for NumPy arrays.

    Converting many small arrays to tensors and back takes TensorFlow longer than a
    decision of a small agent. So all arguments are passed as one array, and all results
    are returned as one.

    Args:
      fn: reads Keras variables, assigns none, and draws its own noise. Entries of
        `obs` and `state` are `[B, ...]`, float32, bool or uint8; the new state is
        float32 and shaped as the old one.
      read: every variable that `fn` uses.
      jit, name: see `compile`.
    """
    tree, calls = keras.tree, {}
    host = tf.config.list_logical_devices("CPU")[0].name

    def build(args, leaves):
        def joined(words):
            parts = tf.split(words, [x.size for x in leaves])
            values = [
                tf.bitcast(part, x.dtype) if x.itemsize == 4 else tf.cast(part, x.dtype)
                for part, x in zip(parts, leaves)
            ]
            values = [tf.reshape(v, x.shape) for v, x in zip(values, leaves)]
            out = fn(*tree.pack_sequence_as(args, values))
            return tf.concat([tf.reshape(x, [-1]) for x in tree.flatten(out)], 0)

        spec = tf.TensorSpec([sum(x.size for x in leaves)], tf.float32)
        shapes = tree.map_structure(lambda x: (str(x.dtype), x.shape), args)
        function = _function(joined, read, jit, name and f"{name} {shapes}")
        concrete = function.get_concrete_function(spec)
        return concrete.inference_fn, concrete.captured_inputs

    def call(seed, obs, state):
        leaves = [np.asarray(x) for x in tree.flatten((seed, obs, state))]
        key = tuple([(x.shape, x.dtype) for x in leaves])
        if key not in calls:
            calls[key] = build((seed, obs, state), leaves)
        function, captured = calls[key]
        words = np.concatenate([_words(x) for x in leaves])
        # tf.constant would run an operation to fill the tensor.
        words = ops.EagerTensor(words, host, None)
        (result,) = (x.numpy() for x in function.call_flat(words, *captured))
        old = tree.flatten(state)
        starts = len(result) - np.cumsum([x.size for x in old[::-1]])[::-1]
        parts = [result[i : i + x.size].reshape(x.shape) for i, x in zip(starts, old)]
        action = result[: starts[0]].reshape(len(old[0]), -1)
        return action, tree.pack_sequence_as(state, parts)

    return call


def _function(fn: Callable, variables: Sequence, jit: bool, name: str) -> Any:
    """`fn` as a TensorFlow function; with `jit` one that XLA compiles.

    With a name it is kept on disk, and must then use nothing but its arguments and
    `variables`.
    """
    if jit and name and devices.platform() == "cpu":
        return programs.KeptFunction(fn, variables, name)
    return tf.function(fn, jit_compile=jit, autograph=False)


def _words(x) -> np.ndarray:
    """The entries of an array as float32; those of 4 bytes keep their bits."""
    if x.itemsize == 4:
        return x.ravel().view(np.float32)
    if x.itemsize > 1:
        raise TypeError(f"A {x.dtype} is neither float32, int32, bool nor uint8.")
    return x.ravel().astype(np.float32)


def value_and_grad(fn: Callable[[], tuple], variables: Sequence) -> tuple:
    """`((loss, aux), gradients)` of `fn() -> (loss, aux)`; zeros where unused.

    The gradients are those of the mean loss of all devices that share the batch.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([v.value for v in variables])
        loss, aux = fn()
    grads = tape.gradient(
        loss, [v.value for v in variables], unconnected_gradients="zero"
    )
    return (loss, aux), devices.mean_gradients(grads)


def scan(f: Callable, init: Any, xs: Any, length: int, first: Any = None) -> tuple:
    """`lax.scan` for TensorFlow; works with and without XLA, and has gradients.

    Args:
      f: `f(carry, x) -> (carry, y)` over structures of tensors.
      init: the first carry.
      xs: structure of `[length, ...]` tensors.
      length: the number of steps, known beforehand (XLA needs a bounded loop).
      first: None, or a y to be put before those of the steps.

    Returns:
      The last carry, and the structure of ys, stacked to `[length, ...]`, or with
      `first` to `[length + 1, ...]`.
    """
    number = length + (first is not None)
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
    # xs and ys are stacks, because the gradient of a pop is a push, and of a push a
    # pop. The gradient of a slice would be an array as large as xs, at every step.
    raw = tf.raw_ops
    flat_xs, flat_ys = nest.flatten(xs), nest.flatten(y_spec)
    inputs = [
        raw.TensorListFromTensor(tensor=x[::-1], element_shape=x.shape[1:])
        for x in flat_xs
    ]
    outputs = [
        raw.EmptyTensorList(
            element_shape=y.shape, max_num_elements=number, element_dtype=y.dtype
        )
        for y in flat_ys
    ]

    def pushed(stacks, y):
        nest.assert_same_structure(y, y_spec)
        return [
            raw.TensorListPushBack(input_handle=stack, tensor=y)
            for stack, y in zip(stacks, nest.flatten(y))
        ]

    # `first` goes into the same stacks: joining it afterwards would copy all ys.
    outputs = outputs if first is None else pushed(outputs, first)

    def body(i, carry, inputs, outputs):
        popped = [
            raw.TensorListPopBack(
                input_handle=stack, element_shape=x.shape[1:], element_dtype=x.dtype
            )
            for stack, x in zip(inputs, flat_xs)
        ]
        x = nest.pack_sequence_as(xs, [p.tensor for p in popped])
        with keras.StatelessScope(state_mapping=weights):
            carry, y = f(carry, x)
        return i + 1, carry, [p.output_handle for p in popped], pushed(outputs, y)

    _, carry, _, outputs = tf.while_loop(
        lambda i, *_: i < length,
        body,
        (0, init, inputs, outputs),
        parallel_iterations=1,
        maximum_iterations=length,
    )
    stacked = [
        raw.TensorListStack(
            input_handle=stack,
            element_shape=y.shape,
            element_dtype=y.dtype,
            num_elements=number,
        )
        for stack, y in zip(outputs, flat_ys)
    ]
    return carry, nest.pack_sequence_as(y_spec, stacked)


class _Reads(keras.StatelessScope):
    """Collects the variables that are read inside.

    `scan` reads them before its loop: of what is read in the loop's body, the gradient
    would keep one copy per step.
    """

    def __init__(self):
        super().__init__()
        self.variables: dict[int, keras.Variable] = {}

    def get_current_value(self, variable):
        """Notes the variable; returns None, so that its own value is used."""
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


def register(cls: type) -> None:
    """Nothing: TensorFlow's functions pass objects on as they are."""
    del cls
