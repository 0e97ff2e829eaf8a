"""Dense layers, norms and recurrent cells."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from dreamer_tf.errors import UserError

# ------------------------------------------------------- DreamerV3's layers --


def trunc_normal(outscale: float = 1.0):
    """DreamerV3's kernel initialiser (official `nets.Initializer`).

    Normal, truncated at two standard deviations, of variance `outscale² / fan_in`;
    `outscale` 0 makes the kernel exactly 0.
    """
    if not outscale:
        return keras.initializers.Zeros()
    return keras.initializers.VarianceScaling(
        outscale**2, mode="fan_in", distribution="truncated_normal"
    )


def dense(units: int, name: str, outscale: float = 1.0) -> layers.Dense:
    """Linear layer of DreamerV3, `[..., in] -> [..., units]`; bias 0 at the start."""
    return layers.Dense(units, kernel_initializer=trunc_normal(outscale), name=name)


def split_dense(units: int, name: str, outscale: float = 1.0) -> "SplitDense":
    """As `dense`, of two inputs."""
    return SplitDense(units, kernel_initializer=trunc_normal(outscale), name=name)


def conv(filters: int, kernel: int, name: str, outscale: float = 1.0):
    """Convolution of DreamerV3: stride 1, same size, channels last."""
    return layers.Conv2D(
        filters,
        kernel,
        padding="same",
        data_format="channels_last",
        kernel_initializer=trunc_normal(outscale),
        name=name,
    )


def rms_norm(name: str) -> layers.RMSNormalization:
    """`x / sqrt(mean(x²) + 1e-4) * scale` over the last axis, in float32 inside."""
    # Without `autocast`, which would round the scale to the precision of the input.
    return layers.RMSNormalization(epsilon=1e-4, autocast=False, name=name)


# ---------------------------------------------------------------- two inputs --


class Known(NamedTuple):
    """What a layer makes of an input, computed before a scan for all of its steps."""

    value: Any


def untracked(layer: layers.Layer, name: str, value: Any) -> None:
    """Sets an attribute that is no part of the layer's state for Keras."""
    object.__setattr__(layer, name, value)


def ahead(fn: Callable) -> Callable:
    """A method of one input that also takes the `Known` result for it."""

    def wrapped(self, x):
        return x.value if isinstance(x, Known) else fn(self, x)

    wrapped.__doc__ = fn.__doc__
    return wrapped


@keras.saving.register_keras_serializable("dreamer_tf")
class SplitDense(layers.Dense):
    """Dense layer over the concatenation of two inputs, `layer(a, b)`.

    The second input may be known before a scan over the first: `layer.known(b)` is
    its share of the product, and `layer(a, layer.known(b)) == layer(a, b)`.

    Calls do not pass through `keras.layers.Layer.__call__`: it puts operations under
    the layer's name, by which TensorFlow's graph optimizer decides in which order
    some sums are taken.
    """

    slices: tuple | None = None  # of the weights, see `prepare`

    def build(self, a_shape, b_shape):
        self.width = a_shape[-1]
        super().build((None, a_shape[-1] + b_shape[-1]))
        self.input_spec = None  # which allows for one input only

    def prepare(self, calls: int):
        """Cuts the weights once, for all calls until `release`."""
        del calls
        untracked(self, "slices", self.cut())

    def release(self):
        """Forgets what `prepare` made."""
        untracked(self, "slices", None)

    def cut(self) -> tuple:
        """The kernel's rows for the first and for the second input, and the bias."""
        kernel, bias = (ops.cast(w, self.compute_dtype) for w in self.weights)
        return kernel[: self.width], kernel[self.width :], bias

    def known(self, b) -> Known:
        """The share of the second input, `[..., in] -> [..., units]`."""
        _, rest, bias = self.slices or self.cut()
        return Known(ops.matmul(ops.cast(b, rest.dtype), rest) + bias)

    def __call__(self, a, b):
        top, _, _ = self.slices or self.cut()
        known = b if isinstance(b, Known) else self.known(b)
        return ops.matmul(ops.cast(a, top.dtype), top) + known.value


# ------------------------------------------------- block GRU (DreamerV3) --


class Blocks(NamedTuple):
    """A recurrent state `[N, D]`, and its parts by block `[K, N, D / K]`."""

    whole: Any
    parts: Any


def by_block(x, blocks: int) -> Blocks:
    """A state `[N, D]` with its parts."""
    return x if isinstance(x, Blocks) else Blocks(x, divide(x, blocks))


def divide(x, blocks: int):
    """The parts of each vector, one after the other: `[N, D] -> [K, N, D / K]`."""
    n, width = x.shape
    return ops.transpose(ops.reshape(x, (n, blocks, width // blocks)), (1, 0, 2))


def unite(x):
    """The inverse of `divide`: `[K, N, D / K] -> [N, D]`."""
    blocks, n, width = x.shape
    return ops.reshape(ops.transpose(x, (1, 0, 2)), (n, blocks * width))


@keras.saving.register_keras_serializable("dreamer_tf")
class BlockLinear(layers.Layer):
    """Block-diagonal linear layer (DreamerV3, "block GRU").

    Args:
      units: outputs; block `k` of `blocks` writes the k-th part of them.
      blocks: number of blocks.
      shared: how many further inputs every block sees, besides its own part.
      outscale: factor of the initial kernel.

    Input `[N, D]` (divided evenly among the blocks) and, if `shared`, `[N, shared]`;
    output `[N, units]`. Kernel `[blocks, D / blocks + shared, units / blocks]`. Of
    calls see `SplitDense`.
    """

    halves: tuple | None = None  # see `prepare`

    def __init__(self, units, blocks, shared=0, outscale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.blocks = units, blocks
        self.shared, self.outscale = shared, outscale

    def build(self, input_shape):
        own = input_shape[-1] // self.blocks
        self.kernel = self.add_weight(
            shape=(self.blocks, own + self.shared, self.units // self.blocks),
            initializer=trunc_normal(self.outscale),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.units,), initializer="zeros", name="bias"
        )

    def prepare(self, calls: int):
        """Cuts the weights once, for all calls until `release`."""
        untracked(self, "halves", self.split(once=calls == 1))

    def release(self):
        """Forgets what `prepare` made."""
        untracked(self, "halves", None)

    def split(self, once: bool = False):
        """`(own, shared)`: the layer's share of its two inputs, as functions.

        The weights are sliced here, so that a scan which calls the functions does
        not slice them (and pad their gradients) at every step. `own` adds the bias:
        `layer(x, s) == own(divide(x)) + shared(s)`.

        Args:
          once: the functions are called only once, so that a transposed copy of the
            weights would not pay.
        """
        kernel, bias = (ops.cast(w, self.compute_dtype) for w in self.weights)
        rows = kernel.shape[1] - self.shared
        diagonal = kernel[:, :rows]
        bias = ops.reshape(bias, (self.blocks, 1, self.units // self.blocks))
        rest = kernel[:, rows:]
        if not once:
            rest = ops.transpose(rest, (1, 0, 2))
            rest = ops.reshape(rest, (self.shared, self.units))

        def own(x):
            return unite(ops.matmul(ops.cast(x, kernel.dtype), diagonal) + bias)

        def shared(s):
            x = ops.matmul(ops.cast(s, kernel.dtype), rest)
            return unite(x) if once else x

        return own, shared

    def __call__(self, x, shared=None):
        own, rest = self.halves or self.split()
        x = own(by_block(x, self.blocks).parts)
        return x if shared is None else x + rest(shared)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "blocks": self.blocks,
            "shared": self.shared,
            "outscale": self.outscale,
        }


def gru_update(gates, state):
    """The next state `[..., D]` of a GRU from its gates `[..., 3 D]` and its state.

    The update gate starts at sigmoid(-1), and the reset gate multiplies what goes into
    the candidate's tanh, not the state (DreamerV2 and V3; official `nets.GRUCell`).
    """
    reset, candidate, update = ops.split(gates, 3, -1)
    candidate = ops.tanh(ops.sigmoid(reset) * candidate)
    update = ops.sigmoid(update - 1)
    return update * candidate + (1 - update) * state


@keras.saving.register_keras_serializable("dreamer_tf")
class NormGRUCell(layers.Layer):
    """GRU whose gates are normalised together (DreamerV2): `(x, h) -> h`.

    Args:
      units: width of the state.
    """

    def __init__(self, units, **kwargs):
        # The state is summed up over a sequence: it must not be rounded to bfloat16.
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.layer = layers.Dense(3 * units, name="layer")
        # In float32 whatever the precision, as in the official code.
        self.norm = layers.LayerNormalization(
            epsilon=1e-3, name="norm", dtype="float32"
        )

    def build(self, input_shape):
        self.layer.build((None, input_shape[-1] + self.units))
        self.norm.build((None, 3 * self.units))

    def call(self, x, state):
        x, state = ops.cast(x, "float32"), ops.cast(state, "float32")
        gates = self.norm(self.layer(ops.concatenate([x, state], -1)))
        return gru_update(gates, state)

    def get_config(self):
        return super().get_config() | {"units": self.units}


# ------------------------------------------------------ stacks of dense layers --


@keras.saving.register_keras_serializable("dreamer_tf")
class Norm(layers.Layer):
    """Layer normalisation over the last axis, or nothing (`kind` "layer", "none")."""

    def __init__(self, kind="none", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        if kind == "layer":
            self.layer = layers.LayerNormalization(epsilon=1e-3, name="layer")

    def build(self, input_shape):
        if self.kind == "layer":
            self.layer.build(input_shape)

    def call(self, x):
        return self.layer(x) if self.kind == "layer" else x

    def get_config(self):
        return super().get_config() | {"kind": self.kind}


def dense_stack(units: Sequence[int], norm: str, name: str, norm_name: str):
    """Linear layers and their norms, for `stack`.

    Args:
      units: widths.
      norm: "rms" makes layers of DreamerV3; "none" and "layer" those of V1 and V2,
        whose kernels start Glorot-uniform as is Keras's default.
      name, norm_name: patterns of the layers' names, with `{}` for their number.
    """
    names = [(name.format(i), norm_name.format(i)) for i in range(len(units))]
    if norm == "rms":
        linears = [dense(n, linear) for n, (linear, _) in zip(units, names)]
        return linears, [rms_norm(each) for _, each in names]
    linears = [layers.Dense(n, name=linear) for n, (linear, _) in zip(units, names)]
    return linears, [Norm(norm, name=each) for _, each in names]


def build_stack(linears, norms, width: int) -> int:
    """Builds alternating linear layers and norms; returns the last width."""
    for linear, norm in zip(linears, norms):
        linear.build((None, width))
        width = linear.units
        norm.build((None, width))
    return width


def stack(x, linears, norms, act=ops.silu):
    """Linear layer, norm and activation, several times."""
    for linear, norm in zip(linears, norms):
        x = act(norm(linear(x)))
    return x


@contextlib.contextmanager
def scope(path: str) -> Iterator[None]:
    """What is built inside has names below `path`, such as "head/action"."""
    with contextlib.ExitStack() as entered:
        for name in filter(None, path.split("/")):
            entered.enter_context(keras.name_scope(name))
        yield


def activation(name: str, setting: str = "The activation"):
    """The activation of that name in `keras.activations`; "none" changes nothing.

    Raises:
      UserError: there is none; names the setting.
    """
    try:
        return keras.activations.get("linear" if name == "none" else name)
    except ValueError as error:
        raise UserError(
            f"{setting} is '{name}'; give a name of keras.activations, such as elu, "
            "relu or silu, or none."
        ) from error
