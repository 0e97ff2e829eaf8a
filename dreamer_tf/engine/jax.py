"""The JAX engine. See `engine/__init__.py`.

Keras variables are read and assigned as on TensorFlow; a `StatelessScope`
turns that into a pure function of their values.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from keras.src.backend.common.stateless_scope import get_stateless_scope
from tensorflow_probability.substrates import jax as tfp

from dreamer_tf.errors import UserError

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
    "tfp",
    "to_host",
    "uniform",
    "value_and_grad",
    "whole_batch",
]


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
      read, write: every variable `fn` touches; `write` is donated.
      jit: unused here: JAX always compiles.
      group: of `group`; its devices share every call, split along the first axis of
        the arguments. XLA splits the noise and whatever follows.
      axes, name: unused here.
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
        mesh = group.device_mesh.backend_mesh
        rows = NamedSharding(mesh, PartitionSpec(group.batch_dim_name))
        how["out_shardings"] = (None, NamedSharding(mesh, PartitionSpec()))
    step = jax.jit(pure, donate_argnums=1, **how)

    def call(seed, *args):
        if group is not None:
            args = jax.device_put(args, rows)
        kept, donated = [v.value for v in read], [v.value for v in write]
        out, values = step(kept, donated, seed, args)
        for variable, value in zip(write, values):
            # Not `assign`, which would copy what the step has just computed.
            variable._value = value
        return out

    return call


def compile_policy(
    fn: Callable, read: Sequence, jit: bool = True, name: str = ""
) -> Callable:
    """Compiles `fn(seed, obs, state) -> (action, state)` for NumPy arrays.

    Args:
      fn: one decision, with the noise it draws; assigns no variables.
      read: every variable that `fn` touches.
      jit, name: see `compile`.
    """
    del name
    step = compile(lambda _, *args: fn(*args), lambda *_: None, read, jit=jit)
    return lambda *args: to_host(step(None, *args))


def value_and_grad(fn: Callable[[], tuple], variables: Sequence) -> tuple:
    """`((loss, aux), gradients)` of `fn() -> (loss, aux)`; zeros where unused."""
    outer = get_stateless_scope()
    # An inner scope does not fall through to the outer one: copy its mapping.
    mapping = dict(outer.state_mapping) if outer else {}

    def pure(values):
        with keras.StatelessScope() as scope:
            scope.state_mapping.update(mapping)
            scope.state_mapping.update(zip(map(id, variables), values))
            return fn()

    return jax.value_and_grad(pure, has_aux=True)([v.value for v in variables])


def scan(f: Callable, init: Any, xs: Any, length: int, first: Any = None) -> tuple:
    """`jax.lax.scan`: last carry, and ys stacked to `[length, ...]`.

    `first`, a further y, comes before the others.
    """
    carry, ys = jax.lax.scan(f, init, xs, length)
    if first is not None:
        ys = jax.tree.map(lambda y, ys: jnp.concatenate([y[None], ys]), first, ys)
    return carry, ys


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
    """The same structure with NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


def _key(seed):
    return jax.random.wrap_key_data(jnp.asarray(seed).astype(jnp.uint32))


def platform() -> str:
    """On what everything is computed, "gpu" (or another accelerator) or "cpu"."""
    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def available() -> int:
    """Number of devices of that kind."""
    return jax.local_device_count()


def group(number: int) -> Any:
    """The first so many devices as one, which share every batch; None for one."""
    if number == 1:
        return None
    devices = keras.distribution.list_devices()[:number]
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


@contextlib.contextmanager
def placed(group: Any) -> Iterator[None]:
    """Every device of the group gets a copy of each variable that is made inside."""
    with group.scope() if group is not None else contextlib.nullcontext():
        yield


def whole_batch(x, axis: int = 0):
    """`x`: XLA sees the whole batch, however many devices share it."""
    del axis
    return x


def limit_memory(gigabytes: float) -> None:
    """The most memory taken of each GPU, in 10^9 bytes; 0 sets no limit.

    Has an effect only before JAX is first used; what the environment says counts more.

    Raises:
      UserError: nvidia-smi does not say how much there is to take a share of.
    """
    program = shutil.which("nvidia-smi")
    if not gigabytes or not program:
        return  # without it there is no GPU
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    run = subprocess.run(command, capture_output=True, text=True)
    try:
        least = min(map(float, run.stdout.split())) * 2**20  # of several GPUs
    except ValueError as error:
        raise UserError(
            f"--gpu_memory_gb={gigabytes:g} needs nvidia-smi to say the GPU's memory, "
            f"but it says '{(run.stdout or run.stderr).strip()}'; use 0."
        ) from error
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # its older name
        share = str(min(1.0, gigabytes * 1e9 / least))
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", share)
