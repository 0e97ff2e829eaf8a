"""The TensorFlow engine. See `engine/__init__.py`."""

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.eager.polymorphic_function import atomic_function, compiler_ir
from tensorflow.python.framework import ops

from dreamer_tf import programs
from dreamer_tf.engine import devices


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
        of XLA: XLA's random generator on CPU is 35 times slower.
      read, write: every variable `fn` touches.
      jit: whether XLA compiles `fn`; not with several devices, whose exchange
        within a step XLA knows only on GPUs.
      group: of `devices.group`; its devices share every call, see `devices.share`.
      axes: of each entry of the noise, which axis is the batch.
      name: all that decides what `fn` computes, besides the shapes it is given and
        the code; with it, the next start does without tracing `fn`.
    """
    if group is not None:
        return devices.share(fn, draw, group, axes or {})
    variables = list({id(v): v for v in (*read, *write)}.values())

    def by_description(*args):
        leaves = [tf.convert_to_tensor(x) for x in _leaves(args)]
        specs = iter([tf.TensorSpec(x.shape, x.dtype) for x in leaves])
        specs = keras.tree.map_structure(
            lambda x: x if x is None else next(specs), args
        )
        function, captured, structure = _program(fn, specs, variables, name)
        outputs = function.call_flat(*leaves, *captured)
        return keras.tree.pack_sequence_as(structure, outputs)

    if jit and devices.platform() == "cpu":
        step = by_description
    else:
        step = tf.function(fn, jit_compile=jit, autograph=False)

    @tf.function(autograph=False)
    def call(seed, *args):
        return step(draw(seed, *args), *args)

    return call


def compile_policy(
    fn: Callable, read: Sequence, jit: bool = True, name: str = ""
) -> Callable:
    """Compiles `fn(seed, obs, state) -> (action, state)` for NumPy arrays.

    A decision of a small agent takes less time than TensorFlow's way to hand over its
    arguments and results, so each of them goes as one array.

    Args:
      fn: reads Keras variables, assigns none, and draws its own noise. Entries of
        `obs` and `state` are `[B, ...]`, float32, bool or uint8; the new state is
        float32 and shaped as the old one.
      read: every variable `fn` touches.
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
        if jit and devices.platform() == "cpu":
            shapes = tree.map_structure(lambda x: (str(x.dtype), x.shape), args)
            return _program(joined, [spec], read, name and f"{name} {shapes}")[:2]
        function = tf.function(joined, jit_compile=jit, autograph=False)
        concrete = function.get_concrete_function(spec)
        return concrete.inference_fn, concrete.captured_inputs

    def call(seed, obs, state):
        leaves = [np.asarray(x) for x in tree.flatten((seed, obs, state))]
        key = tuple([(x.shape, x.dtype) for x in leaves])
        if key not in calls:
            calls[key] = build((seed, obs, state), leaves)
        function, captured = calls[key]
        words = np.concatenate([_words(x) for x in leaves])
        # Not by tf.constant, which runs an operation to fill the tensor.
        words = ops.EagerTensor(words, host, None)
        (result,) = (x.numpy() for x in function.call_flat(words, *captured))
        old = tree.flatten(state)
        starts = len(result) - np.cumsum([x.size for x in old[::-1]])[::-1]
        parts = [result[i : i + x.size].reshape(x.shape) for i, x in zip(starts, old)]
        action = result[: starts[0]].reshape(len(old[0]), -1)
        return action, tree.pack_sequence_as(state, parts)

    return call


def _words(x) -> np.ndarray:
    """The entries of an array as float32, bit by bit if they are as long."""
    if x.itemsize == 4:
        return x.ravel().view(np.float32)
    if x.itemsize > 1:
        raise TypeError(f"A {x.dtype} is neither float32, int32, bool nor uint8.")
    return x.ravel().astype(np.float32)


def _program(fn: Callable, specs: Sequence, variables: Sequence, name: str) -> tuple:
    """What XLA needs to know of `fn(*specs)`, on CPUs.

    `fn` is described once, as a pure function of the variables' values and the leaves
    of its arguments. Tracing it takes most of the time to a first update, so the
    description is kept on disk. Only on CPUs, as it was never tried on others.

    Returns:
      A function of leaves and of what it captures, that does the same as `fn` and
      returns leaves; what it captures; the structure of what `fn` returns.
    """
    values = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
    text = f"{name} {specs} {values}" if name else ""
    description = programs.read(text)
    if description is None:
        description = _describe(fn, specs, variables, values)
        programs.write(text, *description)
    about, module = description
    with tf.init_scope():  # may be called while another function is traced
        function, captured = _registered(about, module, specs, variables)
    return function, captured, about["structure"]


def _leaves(tree) -> list:
    """What a structure holds; an argument may be left out, as None."""
    return [x for x in keras.tree.flatten(tree) if x is not None]


def _describe(fn, specs, variables, values) -> tuple[dict, bytes]:
    """Traces `fn` for `_program`; XLA's input, and what to do with its results."""
    tree, about = keras.tree, {}

    def pure(values, args):
        mapping = list(zip(variables, values))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            out = fn(*args)
        leaves = [tf.convert_to_tensor(x) for x in tree.flatten(out)]
        now = [scope.get_current_value(v) for v in variables]
        written = [i for i, value in enumerate(values) if now[i] is not value]
        about["structure"] = tree.pack_sequence_as(out, range(len(leaves)))
        about["written"] = written
        return leaves + [now[i] for i in written]

    whole = tf.function(pure, autograph=False).get_concrete_function(values, specs)
    if whole.captured_inputs:
        names = [x.name for x in whole.captured_inputs]
        raise ValueError(f"These are neither arguments nor variables: {names}")
    inputs = whole.inputs[: len(variables)]
    about["read"] = [i for i, value in enumerate(inputs) if value.consumers()]
    about["results"] = [(x.shape.as_list(), x.dtype.name) for x in whole.outputs]

    def needed(read, args):
        found = dict(zip(about["read"], read))
        none = [tf.zeros(value.shape, value.dtype) for value in values]
        return whole([found.get(i, x) for i, x in enumerate(none)], args)

    read = [values[i] for i in about["read"]]
    function = tf.function(needed, jit_compile=True, autograph=False)
    concrete = function.get_concrete_function(read, specs)
    module = compiler_ir.from_concrete_function(concrete, _leaves((read, specs)))
    text = module(stage="stablehlo_serialized", platform_name="CPU")
    # The error function is written in a dialect (MHLO) that is not read again; another
    # one (CHLO) has it by the same name.
    return about, text.replace(b"\0mhlo\0", b"\0chlo\0")


# Functions in use, by name.
_FUNCTIONS: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def _registered(about, module, specs, variables) -> tuple:
    """A function that does what a description says, and the variables it captures."""
    types = [dtype for _, dtype in about["results"]]
    shapes = [tf.TensorShape(shape) for shape, _ in about["results"]]
    number = len(types) - len(about["written"])  # the rest are values of variables

    def call(*leaves):
        values = [tf.convert_to_tensor(variables[i].value) for i in about["read"]]
        results = xla.call_module(
            [*values, *leaves],
            version=xla.call_module_maximum_supported_version(),
            module=module,
            Tout=types,
            Sout=shapes,
            platforms=["CPU"],
        )
        for index, value in zip(about["written"], results[number:]):
            variables[index].assign(value)
        return results[:number]

    function = tf.function(call, jit_compile=True, autograph=False)
    concrete = function.get_concrete_function(*_leaves(specs))
    # Under a name that does not depend on what was traced before, or XLA would not
    # find the program that it kept.
    digest = hashlib.sha256(json.dumps(about).encode() + module).hexdigest()
    name = f"dreamer_{digest[:16]}"
    found = _FUNCTIONS.get(name)
    if found is None:
        definition = type(concrete.function_def)()
        definition.CopyFrom(concrete.function_def)
        definition.signature.name = name
        found = atomic_function.from_function_def(definition, concrete.function_type)
        _FUNCTIONS[name] = found
    return found, concrete.captured_inputs


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
    """`lax.scan` for TensorFlow: compiles with and without XLA, has gradients.

    Args:
      f: `f(carry, x) -> (carry, y)` over structures of tensors.
      init: first carry.
      xs: structure of `[length, ...]` tensors.
      length: number of steps, static (XLA needs a bounded loop).
      first: a further y, before the others.

    Returns:
      Last carry, and the structure of ys stacked to `[length, ...]`; with `first`
      they are one longer.
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
    # Stacks, not slices or arrays: the gradient of a pop is a push and the other way
    # round; of a slice it would be a whole array, at every step.
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

    # Into the same stacks: joining it with them afterwards would copy everything.
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
