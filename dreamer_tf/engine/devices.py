"""CPUs and GPUs: what there is, several that share every batch, memory limits.

With several devices each holds the same weights and gets an equal part of every batch.
On TensorFlow a device sees only its part, so whatever is not a mean of means has to
collect the whole batch first: the statistics at the end of this file do. On JAX the
program is written for the whole batch, and XLA divides it among the devices.

Both backends stand side by side here; `TENSORFLOW` says which one Keras uses.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import ops

from dreamer_tf.errors import UserError

TENSORFLOW = keras.backend.backend() == "tensorflow"

if TENSORFLOW:
    import tensorflow as tf
else:
    import jax
    from jax.sharding import NamedSharding, PartitionSpec


# -------------------------------------------------------- devices and groups --


def platform() -> str:
    """What everything is computed on: "gpu" (or another accelerator) or "cpu"."""
    if TENSORFLOW:
        return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def available() -> int:
    """The number of devices of that kind."""
    if TENSORFLOW:
        return len(tf.config.list_logical_devices(platform().upper()))
    return jax.local_device_count()


def check(number: int):
    """Raises UserError if there are not as many devices as are to share a batch."""
    there, kind = available(), platform().upper()
    if not 1 <= number <= there:
        raise UserError(
            f"--devices is {number}, but {keras.backend.backend()} has {there} "
            f"{kind}{'s' * (there > 1)} here; it must be from 1 to {there}."
        )


def group(number: int) -> Any:
    """The first `number` devices as a group that shares every batch; None for one."""
    if number == 1:
        return None
    if TENSORFLOW:
        devices = tf.config.list_logical_devices(platform().upper())[:number]
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    devices = keras.distribution.list_devices()[:number]
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


@contextlib.contextmanager
def placed(group: Any) -> Iterator[None]:
    """Every device of the group gets a copy of each variable that is made inside.

    On TensorFlow a device assigns only its own copy. The copies stay equal because all
    devices compute the same values from the same gradients. (TensorFlow's usual
    mirrored variables would send every assigned value from one device to the others:
    each weight and its two moments, at every update.)
    """
    if group is None:
        yield
    elif TENSORFLOW:

        def own(creator, **how):
            how["synchronization"] = tf.VariableSynchronization.ON_READ
            how["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
            # Keras itself knows which variables are trainable.
            return creator(**{**how, "trainable": False})

        with group.scope(), tf.variable_creator_scope(own):
            yield
    else:
        with group.scope():
            yield


def limit_memory(gigabytes: float) -> None:
    """Limits the memory taken of each GPU, in 10^9 bytes; 0 sets no limit.

    Call it before the backend first uses a GPU. On JAX the environment's own
    `XLA_CLIENT_MEM_FRACTION` has priority.

    Raises:
      UserError: on TensorFlow, the GPUs are in use already; on JAX, which takes a
        fraction, nvidia-smi does not say how much memory there is.
    """
    if not gigabytes:
        return
    if TENSORFLOW:
        limit = tf.config.LogicalDeviceConfiguration(gigabytes * 1e9 / 2**20)
        try:
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.set_logical_device_configuration(gpu, [limit])
        except RuntimeError as error:
            raise UserError(
                f"--gpu_memory_gb={gigabytes:g} comes too late, as this process uses "
                "the GPU already; give it to a process of its own."
            ) from error
        return
    program = shutil.which("nvidia-smi")
    if not program:
        return  # There is no GPU.
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    run = subprocess.run(command, capture_output=True, text=True)
    try:
        smallest = sorted(map(float, run.stdout.split()))[0] * 2**20
    except (ValueError, IndexError) as error:
        raise UserError(
            f"--gpu_memory_gb={gigabytes:g} needs nvidia-smi to say the GPU's memory, "
            f"but it says '{(run.stdout or run.stderr).strip()}'; use 0."
        ) from error
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # its older name
        fraction = gigabytes * 1e9 / smallest if gigabytes * 1e9 < smallest else 1.0
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", str(fraction))


# ---------------------------------------- one call, divided among the devices --


def share(fn: Callable, draw: Callable, group: Any, axes: Mapping[str, int]) -> Any:
    """`call(seed, *args)`, in which each device calls `fn` on its part (TensorFlow).

    Noise is drawn for the whole batch and then divided: it equals that of one device.

    Args:
      fn, draw, axes: see `compile`; `args` are dictionaries of `[B, ...]` arrays.
      group: the devices, of `group`.

    Returns:
      The function. Of results without axes it returns the mean over the devices, of
      others the rows of all devices in order.
    """
    number = group.num_replicas_in_sync

    @tf.function(autograph=False)
    def call(seed, *args):
        noise = draw(seed, *args)
        parts = (
            {k: tf.split(x, number, axes[k]) for k, x in noise.items()},
            *({k: tf.split(x, number) for k, x in tree.items()} for tree in args),
        )

        def part():
            index = tf.get_static_value(_replica().replica_id_in_sync_group)
            return fn(*({k: x[index] for k, x in tree.items()} for tree in parts))

        return tf.nest.map_structure(join, group.run(part))

    def join(value):
        found = group.experimental_local_results(value)
        return tf.concat(found, 0) if found[0].shape.rank else tf.add_n(found) / number

    return call


def shardings(group: Any) -> tuple:
    """How arrays lie on a group (JAX): divided along the first axis; a copy on each."""
    mesh = group.device_mesh.backend_mesh
    rows = NamedSharding(mesh, PartitionSpec(group.batch_dim_name))
    return rows, NamedSharding(mesh, PartitionSpec())


def mean_gradients(gradients: list) -> list:
    """The mean of all devices' gradients; on JAX they are those of the whole batch."""
    if TENSORFLOW and _shared():
        return _replica().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
    return gradients


def whole_batch(x, batch_axis: int = 0):
    """The parts of `x` that the devices hold, joined along `batch_axis`.

    `x` itself on one device, and on JAX. Has gradients.
    """
    if TENSORFLOW and _shared():
        return _replica().all_gather(x, batch_axis)
    return x


def _replica():
    return tf.distribute.get_replica_context()


def _shared() -> bool:
    replica = _replica()
    return replica is not None and replica.num_replicas_in_sync > 1


# ------------------------------------------- statistics over the whole batch --
#
# Of all devices' parts of `x`, which are joined along `batch_axis`. A loss or metric
# that is a plain mean over the batch needs none of these: the devices' means are
# averaged anyway.


def mean(x, axis: int | None = None, batch_axis: int = 0):
    """The mean of `x`, of all entries or along `axis`."""
    return ops.mean(whole_batch(x, batch_axis), axis)


def std(x, batch_axis: int = 0):
    """The standard deviation of all entries of `x`."""
    return ops.std(whole_batch(x, batch_axis))


def min(x, batch_axis: int = 0):
    """The smallest entry of `x`."""
    return ops.min(whole_batch(x, batch_axis))


def max(x, batch_axis: int = 0):
    """The largest entry of `x`."""
    return ops.max(whole_batch(x, batch_axis))


def quantile(x, q, batch_axis: int = 0):
    """The quantiles `q` (in [0, 1]) of all entries of `x`; shaped as `q`."""
    return ops.quantile(ops.reshape(whole_batch(x, batch_axis), (-1,)), q)
