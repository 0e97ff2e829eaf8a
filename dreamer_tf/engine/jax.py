"""The JAX engine: compile, compile_policy, gradients, scan, noise.

See `engine/__init__.py`. The algorithms read and assign Keras variables as on
TensorFlow; a `StatelessScope` turns that into a pure function of their values.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax.extend.core import Literal
from keras.src.backend.common.stateless_scope import get_stateless_scope
from tensorflow_probability.substrates import jax as tfp  # noqa: F401

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
      draw: `draw(seed, *args)` returns all noise of the call.
      read, write: every variable that `fn` uses. The memory of `write` is reused for
        the new values (donated).
      jit: unused, as JAX always compiles.
      group: of `devices.group`; its devices share every call. The arguments are
        divided along their first axis, XLA divides the noise and whatever follows.
      axes, name: unused; XLA finds out the batch axis, and JAX traces at every start.
    """
    del jit, axes, name
    written = {id(v) for v in write}
    read = [v for v in read if id(v) not in written]
    write = list(write)

    def pure(kept, donated, seed, args):
        mapping = [*zip(read, kept), *zip(write, donated)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            out = fn(draw(seed, *args), *args)
        return out, [scope.get_current_value(v) for v in write]

    how: dict[str, Any] = {}
    if group is not None:
        rows, copies = devices.shardings(group)
        how["out_shardings"] = (None, copies)
    step = jax.jit(pure, donate_argnums=1, **how)

    def call(seed, *args):
        if group is not None:
            args = jax.device_put(args, rows)
        kept, donated = [v.value for v in read], [v.value for v in write]
        out, values = step(kept, donated, seed, args)
        for variable, value in zip(write, values):
            # `assign` would copy what the step has just computed.
            variable._value = value
        for leaf in jax.tree.leaves(out):
            # Sent as soon as it is there, while the device goes on with the next call.
            leaf.copy_to_host_async()
        return out

    return call


def compile_policy(
    fn: Callable, read: Sequence, jit: bool = True, name: str = ""
) -> Callable:
    """Compiles `fn(seed, obs, state) -> (action, state)` for NumPy arrays.

    Args:
      fn: reads Keras variables, assigns none, and draws its own noise.
      read: every variable that `fn` uses.
      jit, name: see `compile`.
    """
    del name
    step = compile(lambda _, *args: fn(*args), lambda *_: None, read, jit=jit)
    return lambda *args: to_host(step(None, *args))


def value_and_grad(fn: Callable[[], tuple], variables: Sequence) -> tuple:
    """`((loss, aux), gradients)` of `fn() -> (loss, aux)`; zeros where unused."""
    outer = get_stateless_scope()
    # An inner scope does not look into the outer one, so it gets a copy of its mapping.
    mapping = dict(outer.state_mapping) if outer else {}

    def pure(values):
        with keras.StatelessScope() as scope:
            scope.state_mapping.update(mapping)
            scope.state_mapping.update(zip(map(id, variables), values))
            return fn()

    return jax.value_and_grad(pure, has_aux=True)([v.value for v in variables])


def scan(f: Callable, init: Any, xs: Any, length: int, first: Any = None) -> tuple:
    """`jax.lax.scan`, with an optional y to be put before those of the steps.

    Args and returns as in `tensorflow.py`.
    """
    if devices.platform() == "cpu":
        carry, ys = jax.lax.scan(f, init, xs, length)
    else:
        carry, ys = _scan_on_gpu(f, init, xs, length)
    if first is not None:
        ys = jax.tree.map(lambda y, ys: jnp.concatenate([y[None], ys]), first, ys)
    return carry, ys


# ------------------------------------------------------------- scans on a GPU --
#
# There a step of an RSSM is a few dozen small kernels, and launching them is what takes
# time. `jax.lax.scan` with gradients launches twice as many as needed: its forward loop
# copies some 40 intermediate results of each step to where its backward loop finds
# them, and that one adds to the gradient of every weight.
#
# Here the forward loop keeps only what passes from step to step. The backward pass
# first repeats all steps side by side, as one large step. Its loop then computes the
# gradients of what passes from step to step; those of weights come from all steps at
# once. On a CPU, where nothing is launched, the repeated step is not worth it.


def _scan_on_gpu(f: Callable, init: Any, xs: Any, length: int) -> tuple:
    """As `jax.lax.scan`; all of its arrays are floats."""
    x = jax.tree.map(lambda x: x[0], xs)
    # The weights are what `f` reads besides its arguments and has a gradient.
    step, weights = jax.closure_convert(f, init, x)
    weights = _cast_once(step, weights, init, x)
    return _scan_with_weights(step, length, weights, init, xs)


def _cast_once(step: Callable, weights: Sequence, *args) -> list:
    """The weights as `step(*args, *weights)` uses them: those that it only casts, cast.

    Otherwise a loop would cast them at every step.
    """
    jaxpr = jax.make_jaxpr(step)(*args, *weights).jaxpr
    inputs = jaxpr.invars[len(jaxpr.invars) - len(weights) :]
    uses: dict[Any, set] = {variable: set() for variable in inputs}
    for equation in jaxpr.eqns:
        casts = equation.primitive.name == "convert_element_type"
        for variable in equation.invars:
            if not isinstance(variable, Literal) and variable in uses:
                uses[variable].add(equation.params["new_dtype"] if casts else None)
    dtypes = [
        used.pop() if len(used) == 1 and variable not in jaxpr.outvars else None
        for variable, used in uses.items()
    ]
    return [w.astype(dtype or w.dtype) for w, dtype in zip(weights, dtypes)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan_with_weights(step, length, weights, init, xs):
    """A scan over `step(carry, x, *weights)`."""
    return jax.lax.scan(lambda carry, x: step(carry, x, *weights), init, xs, length)


def _forward(step, length, weights, init, xs):
    def body(carry, x):
        new, y = step(carry, x, *weights)
        return new, (carry, y)

    last, (carries, ys) = jax.lax.scan(body, init, xs, length)
    return (last, ys), (weights, carries, xs)


def _backward(step, length, kept, grads):
    weights, carries, xs = kept
    last, ys = grads
    pullback: list[Any] = []  # of a step: its structure, and the arrays of all steps

    def linearized(carry, x):
        """The arrays of a step's pullback that are its own."""
        _, pull = jax.vjp(lambda carry, x: step(carry, x, *weights), carry, x)
        leaves, structure = jax.tree.flatten(pull)
        # Inside `vmap` what differs between steps is a tracer of the kind of `carry`.
        mapped = type(jax.tree.leaves(carry)[0])
        shared = [None if isinstance(leaf, mapped) else leaf for leaf in leaves]
        pullback[:] = structure, shared
        return [leaf for leaf, other in zip(leaves, shared) if other is None]

    own = jax.vmap(linearized)(carries, xs)
    structure, shared = pullback

    def back(grad, x):
        own, y = iter(x[0]), x[1]
        leaves = [next(own) if leaf is None else leaf for leaf in shared]
        before, grad_x = jax.tree.unflatten(structure, leaves)((grad, y))
        return before, (grad, grad_x)

    first, (news, grad_xs) = jax.lax.scan(back, last, (own, ys), length, reverse=True)

    def all_steps(*weights):
        return jax.vmap(lambda carry, x: step(carry, x, *weights))(carries, xs)

    _, pull = jax.vjp(all_steps, *weights)
    return list(pull((news, ys))), first, grad_xs


_scan_with_weights.defvjp(_forward, _backward)


def fold_in(seed, data: int):
    """A new seed for draw number `data` below `seed`."""
    return jax.random.key_data(jax.random.fold_in(_key(seed), data))


def uniform(seed, shape):
    """Uniform float32 noise in [0, 1)."""
    return jax.random.uniform(_key(seed), shape)


def normal(seed, shape):
    """Standard normal float32 noise."""
    return jax.random.normal(_key(seed), shape)


def to_host(tree: Any) -> Any:
    """The same structure with NumPy arrays, all of them fetched at once."""
    return jax.device_get(tree)


def _key(seed):
    return jax.random.wrap_key_data(jnp.asarray(seed).astype(jnp.uint32))


def register(cls: type) -> None:
    """Lets objects of a class pass through transformations as their tensors.

    Args:
      cls: with attributes `raw` (tensors) and `options` (a dictionary of the rest),
        of which `cls(*raw, **options)` makes an equal object.
    """
    jax.tree_util.register_pytree_node(
        cls,
        lambda x: (x.raw, tuple(x.options.items())),
        lambda options, raw: cls(*raw, **dict(options)),
    )
