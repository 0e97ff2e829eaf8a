"""TensorFlow functions that a second start neither traces nor compiles.

The first call of an update traces its Python code into a graph, which takes most of the
time to the first result, and then compiles it by XLA. TensorFlow can keep what XLA
compiles on disk, but would trace again at every start, only to find it. So what tracing
yields is kept too: a description of the function, that is its StableHLO module (the
input of XLA) and a list of the variables that it reads and writes. It stands in the
folder that `dreamer_tf/programs.py` looks after.

Only for CPUs, as it was never tried on others. To do without it, remove the two lines
of `_function` in `engine/tensorflow.py` that call `KeptFunction`, and this file; all
else stays, and XLA's own programs are kept as before.
"""

import hashlib
import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.eager.polymorphic_function import atomic_function, compiler_ir

from dreamer_tf import programs as folder


class Concrete(NamedTuple):
    """A function of fixed shapes, with the names of TensorFlow's `ConcreteFunction`.

    `inference_fn.call_flat(*leaves, *captured_inputs)` returns the leaves of `fn`'s
    result; `structure` has their indices in the places where they belong.
    """

    inference_fn: Any
    captured_inputs: Sequence
    structure: Any


class KeptFunction:
    """Used as `tf.function(fn, jit_compile=True)`, but kept on disk under a name.

    Args:
      fn: takes structures of tensors, None for what is left out, and returns one.
      variables: every Keras variable that `fn` reads or assigns.
      name: everything that decides what `fn` computes, besides the shapes of its
        arguments and variables and the code of this package.
    """

    def __init__(self, fn: Callable, variables: Sequence, name: str):
        self.fn, self.variables, self.name = fn, variables, name

    def __call__(self, *args):
        """`fn(*args)`."""
        leaves = [tf.convert_to_tensor(x) for x in _leaves(args)]
        specs = iter([tf.TensorSpec(x.shape, x.dtype) for x in leaves])
        found = self.get_concrete_function(
            *keras.tree.map_structure(lambda x: x if x is None else next(specs), args)
        )
        outputs = found.inference_fn.call_flat(*leaves, *found.captured_inputs)
        return keras.tree.pack_sequence_as(found.structure, outputs)

    def get_concrete_function(self, *specs) -> Concrete:
        """The function for arguments of these `tf.TensorSpec`s, traced if not kept."""
        values = [tf.TensorSpec(v.shape, v.dtype) for v in self.variables]
        text = f"{self.name} {specs} {values}"
        description = folder.read(text)
        if description is None:
            description = _describe(self.fn, specs, self.variables, values)
            folder.write(text, *description)
        about, module = description
        with tf.init_scope():  # may be called while another function is traced
            return _from_description(about, module, specs, self.variables)


def _leaves(tree) -> list:
    """The tensors or specs in a structure, without the None of what is left out."""
    return [x for x in keras.tree.flatten(tree) if x is not None]


def _describe(
    fn: Callable, specs: Sequence, variables: Sequence, values: Sequence
) -> tuple[dict, bytes]:
    """Traces `fn` as a pure function of variables' values and arguments.

    Args:
      specs, values: the `tf.TensorSpec`s of arguments and of variables.

    Returns:
      What `_from_description` needs to know, and the StableHLO module:
      `structure` of `fn`'s result; indices of the variables that are `read` and
      `written`; shape and dtype of all `results`, those of `fn` before the new values
      of variables.

    Raises:
      ValueError: `fn` uses tensors that are neither arguments nor `variables`.
    """
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
        raise ValueError(
            f"These are neither arguments nor variables: {whole.captured_inputs}"
        )
    inputs = whole.inputs[: len(variables)]
    about["read"] = [i for i, value in enumerate(inputs) if value.consumers()]
    about["results"] = [(x.shape.as_list(), x.dtype.name) for x in whole.outputs]

    def needed(read, args):
        """`pure` of only those values that are read; the others are zeros."""
        found = dict(zip(about["read"], read))
        zeros = [tf.zeros(value.shape, value.dtype) for value in values]
        return whole([found.get(i, x) for i, x in enumerate(zeros)], args)

    read = [values[i] for i in about["read"]]
    function = tf.function(needed, jit_compile=True, autograph=False)
    concrete = function.get_concrete_function(read, specs)
    module = compiler_ir.from_concrete_function(concrete, _leaves((read, specs)))
    text = module(stage="stablehlo_serialized", platform_name="CPU")
    # The error function is written in the dialect MHLO, which is not read again; the
    # dialect CHLO has it under the same name.
    return about, text.replace(b"\0mhlo\0", b"\0chlo\0")


# Functions in use, by name: equal ones of several agents are one, compiled once.
_IN_USE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def _from_description(
    about: dict, module: bytes, specs: Sequence, variables: Sequence
) -> Concrete:
    """The function that `_describe` described; captures `variables`."""
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
    # TensorFlow numbers its functions in the order of tracing. XLA finds a program that
    # it kept by the function's name, so this one gets a name from its content.
    digest = hashlib.sha256(json.dumps(about).encode() + module).hexdigest()
    name = f"dreamer_{digest[:16]}"
    found = _IN_USE.get(name)
    if found is None:
        definition = type(concrete.function_def)()
        definition.CopyFrom(concrete.function_def)
        definition.signature.name = name
        found = atomic_function.from_function_def(definition, concrete.function_type)
        _IN_USE[name] = found
    return Concrete(found, concrete.captured_inputs, about["structure"])
