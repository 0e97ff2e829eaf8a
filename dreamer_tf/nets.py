"""Encoders, decoders and MLPs as Keras layers.

A layer gets its sizes in `__init__` and makes its weights in `build`. The
names of layers and weights are those of the official code, so that recorded
weights load by name and a reader can find each tensor there.
"""

import contextlib
import math
import operator
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from dreamer_tf.configs.fields import limit
from dreamer_tf.errors import UserError
from dreamer_tf.returns import symlog

# ---------------------------------------------------------------- DreamerV3 --


def dense(units: int, name: str, outscale: float = 1.0) -> layers.Dense:
    """Linear layer with DreamerV3's initialiser, `[..., in] -> [..., units]`.

    Kernel: normal truncated at two standard deviations with variance
    `outscale² / fan_in`; bias 0 (official `nets.Initializer`).
    """
    return layers.Dense(units, kernel_initializer=trunc_normal(outscale), name=name)


def split_dense(units: int, name: str, outscale: float = 1.0) -> "SplitDense":
    """As `dense`, for an input of which one part is known beforehand."""
    return SplitDense(units, kernel_initializer=trunc_normal(outscale), name=name)


def trunc_normal(outscale: float = 1.0):
    """DreamerV3's kernel initialiser; `outscale` 0 makes the kernel exactly 0."""
    if not outscale:
        return keras.initializers.Zeros()
    return keras.initializers.VarianceScaling(
        outscale**2, mode="fan_in", distribution="truncated_normal"
    )


def rms_norm(name: str) -> layers.RMSNormalization:
    """`x / sqrt(mean(x²) + 1e-4) * scale` over the last axis, in float32 inside."""
    # Without `autocast`, which would round the scale to the precision of the input.
    return layers.RMSNormalization(epsilon=1e-4, autocast=False, name=name)


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


@keras.saving.register_keras_serializable("dreamer_tf")
class BlockLinear(layers.Layer):
    """Block-diagonal linear layer (DreamerV3, "block GRU").

    Args:
      units: outputs; block `k` of `blocks` writes the k-th part of them.
      blocks: number of blocks.
      shared: how many further inputs every block sees, besides its own part.
      outscale: factor of the initial kernel.

    Input `[..., D]` (split evenly over blocks) and, if `shared`, `[..., shared]`;
    output `[..., units]`. Kernel `[blocks, D / blocks + shared, units / blocks]`.
    """

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

    def split(self, once: bool = False):
        """`(own, shared)`: the two halves of the layer as functions.

        The weights are sliced once, here, so that a scan which calls the halves
        does not slice (and in its gradient pad) them at every step. `own` adds
        the bias: `call(x, s) == own(divide(x)) + shared(s)`.

        Args:
          once: the halves are called but once, for which transposing the weights
            would not pay.
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

    def call(self, x, shared=None):
        own, rest = self.split()
        x = own(divide(x, self.blocks))
        return x if shared is None else x + rest(shared)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "blocks": self.blocks,
            "shared": self.shared,
            "outscale": self.outscale,
        }


def divide(x, blocks: int):
    """The parts of each vector, one after the other: `[N, D] -> [K, N, D / K]`."""
    n, width = x.shape
    return ops.transpose(ops.reshape(x, (n, blocks, width // blocks)), (1, 0, 2))


def unite(x):
    """The inverse of `divide`: `[K, N, D / K] -> [N, D]`."""
    blocks, n, width = x.shape
    return ops.reshape(ops.transpose(x, (1, 0, 2)), (n, blocks * width))


@keras.saving.register_keras_serializable("dreamer_tf")
class SplitDense(layers.Dense):
    """Dense layer over the concatenation of two inputs, one known beforehand.

    `call([a, b]) == first(a) + second(b)` with `first, second = split(width)`:
    in a scan over `a`, the part of `b` is one large product outside.
    """

    def split(self, width: int):
        """`(first, second)`; `first` takes `[..., width]`, `second` adds the bias."""
        dtype = self.compute_dtype
        kernel, bias = (ops.cast(w, dtype) for w in self.weights)
        top, rest = kernel[:width], kernel[width:]
        return (
            lambda a: ops.matmul(ops.cast(a, dtype), top),
            lambda b: ops.matmul(ops.cast(b, dtype), rest) + bias,
        )


def build_stack(linears, norms, width: int) -> int:
    """Builds alternating linear layers and norms; returns the last width."""
    for linear, norm in zip(linears, norms):
        linear.build((None, width))
        width = linear.units
        norm.build((None, width))
    return width


def stack(x, linears, norms, act=ops.silu):
    """DreamerV3's layer stack: linear, norm, activation."""
    for linear, norm in zip(linears, norms):
        x = act(norm(linear(x)))
    return x


@keras.saving.register_keras_serializable("dreamer_tf")
class MLP(layers.Layer):
    """`depth` times linear, norm, activation: `[..., in] -> [..., units]`.

    Args:
      depth, units: number of layers and their width.
    """

    def __init__(self, depth, units, **kwargs):
        super().__init__(**kwargs)
        self.depth, self.units = depth, units
        self.linears = [dense(units, f"linear{i}") for i in range(depth)]
        self.norms = [rms_norm(f"norm{i}") for i in range(depth)]

    def build(self, input_shape):
        build_stack(self.linears, self.norms, input_shape[-1])

    def call(self, x):
        return self.after_first(self.linears[0](x)) if self.depth else x

    def after_first(self, x):
        """What follows on the first linear layer, `[..., units] -> [..., units]`."""
        return stack(ops.silu(self.norms[0](x)), self.linears[1:], self.norms[1:])

    def get_config(self):
        return super().get_config() | {"depth": self.depth, "units": self.units}


@keras.saving.register_keras_serializable("dreamer_tf")
class MLPHead(layers.Layer):
    """MLP followed by one or more linear outputs (official `nets.MLPHead`).

    Args:
      depth, units: of the MLP.
      outputs: name -> width of each output.
      outscale: factor of the outputs' initial kernels.
      group: names of the layers that enclose the outputs.

    `[..., in] -> {name: [..., width]}`.
    """

    def __init__(self, depth, units, outputs, outscale=1.0, group=("head",), **kwargs):
        super().__init__(**kwargs)
        self.depth, self.units, self.outputs = depth, units, dict(outputs)
        self.outscale, self.group = outscale, tuple(group)
        self.mlp = MLP(depth, units, name="mlp")
        self.head = Outputs(self.outputs, outscale, self.group[1:], name=self.group[0])

    def build(self, input_shape):
        self.mlp.build(input_shape)
        width = self.units if self.depth else input_shape[-1]
        self.head.build((*input_shape[:-1], width))

    def call(self, x):
        return self.head(self.mlp(x))

    def get_config(self):
        return super().get_config() | {
            "depth": self.depth,
            "units": self.units,
            "outputs": self.outputs,
            "outscale": self.outscale,
            "group": self.group,
        }


class Together:
    """Heads on the same input, whose first layers are one product.

    Args:
      heads: with at least one layer each. Their weights are joined here, once, so
        that a scan does not join them at every step.
    """

    def __init__(self, heads: Sequence[MLPHead]):
        self.heads = heads
        firsts = [head.mlp.linears[0] for head in heads]
        self.kernel, self.bias = (
            ops.cast(ops.concatenate(weights, -1), firsts[0].compute_dtype)
            for weights in zip(*([f.kernel, f.bias] for f in firsts))
        )
        self.ends = np.cumsum([first.units for first in firsts])

    def first(self, x):
        """All first layers without biases, `[..., in] -> [..., sum of their units]`."""
        return ops.matmul(ops.cast(x, self.kernel.dtype), self.kernel)

    def known_first(self, x, value):
        """`first(x)`, of which the value is known: with gradients for the weights."""
        return known_product(value, ops.cast(x, self.kernel.dtype), self.kernel)

    def rest(self, first) -> list:
        """What each head says, from `first(x)`."""
        parts = [first + self.bias]
        if len(self.heads) > 1:
            parts = ops.split(parts[0], self.ends[:-1], -1)
        return [h.head(h.mlp.after_first(x)) for h, x in zip(self.heads, parts)]


@ops.custom_gradient
def known_product(value, x, kernel):
    """`x @ kernel`, which is `value`; with the gradient for `kernel` only."""

    def grad(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        x2, up2 = (ops.reshape(y, (-1, y.shape[-1])) for y in (x, upstream))
        # Transposing the narrower factor takes two thirds of the time on a CPU; the
        # further axis keeps XLA from undoing it.
        turned = ops.matmul(ops.transpose(up2), x2)[None]
        kernel_grad = ops.transpose(turned, (0, 2, 1))[0]
        return ops.zeros_like(value), ops.zeros_like(x), kernel_grad

    return value, grad


@keras.saving.register_keras_serializable("dreamer_tf")
class Outputs(layers.Layer):
    """Parallel linear layers on one input, `[..., in] -> {name: [..., width]}`."""

    def __init__(self, outputs, outscale=1.0, group=(), **kwargs):
        super().__init__(**kwargs)
        self.outputs, self.outscale, self.group = dict(outputs), outscale, tuple(group)
        if group:
            self.inner = Outputs(outputs, outscale, group[1:], name=group[0])
        else:
            self.linears = {k: dense(n, k, outscale) for k, n in outputs.items()}

    def build(self, input_shape):
        for layer in [self.inner] if self.group else self.linears.values():
            layer.build(input_shape)

    def call(self, x):
        if self.group:
            return self.inner(x)
        return {k: linear(x) for k, linear in self.linears.items()}

    def get_config(self):
        return super().get_config() | {
            "outputs": self.outputs,
            "outscale": self.outscale,
            "group": self.group,
        }


def split_keys(shapes: dict[str, tuple[int, ...]]) -> tuple[list[str], list[str]]:
    """Observation keys as (vectors, images), each sorted by name."""
    vectors = sorted(k for k, s in shapes.items() if len(s) < 3)
    images = sorted(k for k, s in shapes.items() if len(s) == 3)
    return vectors, images


def flatten_vectors(obs, keys: Sequence[str], shapes):
    """Concatenation of the flattened float32 entries, `[..., width]`."""
    parts = []
    for key in keys:
        x = ops.cast(obs[key], "float32")
        lead = x.shape[: len(x.shape) - len(shapes[key])]
        parts.append(ops.reshape(x, (*lead, math.prod(shapes[key]))))
    return ops.concatenate(parts, -1)


@keras.saving.register_keras_serializable("dreamer_tf")
class Encoder(layers.Layer):
    """DreamerV3's encoder: `{key: [..., *shape]} -> tokens [..., width]`.

    Vectors: symlog, then an MLP. Images (uint8): per stage a convolution, 2x2
    max-pooling, norm and activation. Tokens: vector part, then image part.

    Args:
      shapes: shape of every observation entry.
      depth, mults, kernel: channels are `depth * mults`; kernel size.
      layers, units: of the MLP.
      symlog: whether vectors are squashed.
    """

    def __init__(
        self,
        shapes,
        depth=64,
        mults=(2, 3, 4, 4),
        kernel=5,
        layers=3,
        units=1024,
        symlog=True,
        **kwargs,
    ):
        # Vectors are rounded to the precision after symlog only.
        super().__init__(autocast=False, **kwargs)
        self.config = dict(
            shapes={k: tuple(s) for k, s in shapes.items()},
            depth=depth,
            mults=tuple(mults),
            kernel=kernel,
            layers=layers,
            units=units,
            symlog=symlog,
        )
        self.shapes = self.config["shapes"]
        self.symlog = symlog
        self.veckeys, self.imgkeys = split_keys(self.shapes)
        self.width = 0
        if self.veckeys:
            names = [f"mlp{i}" for i in range(layers)]
            self.linears = [dense(units, n) for n in names]
            self.norms = [rms_norm(f"{n}norm") for n in names]
            self.inputs = sum(math.prod(self.shapes[k]) for k in self.veckeys)
            self.width += units if layers else self.inputs
        if self.imgkeys:
            names = [f"cnn{i}" for i in range(len(mults))]
            self.convs = [conv(depth * m, kernel, n) for m, n in zip(mults, names)]
            self.convnorms = [rms_norm(f"{n}norm") for n in names]
            images = {k: self.shapes[k] for k in self.imgkeys}
            height, width = common_size(images)
            area = (height // 2 ** len(mults)) * (width // 2 ** len(mults))
            if not area:
                raise UserError(
                    f"Images have the shapes {images}, too small for the encoder's "
                    f"{len(mults)} stages; use fewer enc.mults, or 64x64 pixels."
                )
            self.width += area * depth * mults[-1]

    def build(self):
        if self.veckeys:
            build_stack(self.linears, self.norms, self.inputs)
        if self.imgkeys:
            channels = sum(self.shapes[k][-1] for k in self.imgkeys)
            for layer, norm in zip(self.convs, self.convnorms):
                layer.build((None, None, None, channels))
                channels = layer.filters
                norm.build((None, None, None, channels))

    def call(self, obs):
        tokens = []
        if self.veckeys:
            x = flatten_vectors(obs, self.veckeys, self.shapes)
            x = ops.cast(symlog(x) if self.symlog else x, self.compute_dtype)
            tokens.append(stack(x, self.linears, self.norms))
        if self.imgkeys:
            x = ops.concatenate([obs[k] for k in self.imgkeys], -1)
            lead = x.shape[:-3]
            x = ops.cast(x, self.compute_dtype) / 255 - 0.5
            x = ops.reshape(x, (math.prod(lead), *x.shape[-3:]))
            for layer, norm in zip(self.convs, self.convnorms):
                x = ops.max_pool(layer(x), 2, 2, data_format="channels_last")
                x = ops.silu(norm(x))
            tokens.append(ops.reshape(x, (*lead, math.prod(x.shape[1:]))))
        return ops.concatenate(tokens, -1)

    def get_config(self):
        return super().get_config() | self.config


@keras.saving.register_keras_serializable("dreamer_tf")
class Decoder(layers.Layer):
    """DreamerV3's decoder: `(deter [..., D], stoch [..., S, C]) -> predictions`.

    Vectors: an MLP on (stoch, deter), one linear output per key, in symlog
    space. Images: a small map from deter (block-linear) plus one from stoch,
    then per stage nearest upsampling and a convolution; sigmoid, in (0, 1).

    Args: as `Encoder`, with
      deter, stoch, classes: sizes of the latent.
      bspace: blocks of the layer that spreads deter over the map.
      outscale: factor of the outputs' initial kernels.
    """

    def __init__(
        self,
        shapes,
        deter,
        stoch,
        classes,
        depth=64,
        mults=(2, 3, 4, 4),
        kernel=5,
        layers=3,
        units=1024,
        bspace=8,
        outscale=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = dict(
            shapes={k: tuple(s) for k, s in shapes.items()},
            deter=deter,
            stoch=stoch,
            classes=classes,
            depth=depth,
            mults=tuple(mults),
            kernel=kernel,
            layers=layers,
            units=units,
            bspace=bspace,
            outscale=outscale,
        )
        self.shapes = self.config["shapes"]
        self.deter, self.flat, self.units = deter, stoch * classes, units
        self.bspace = bspace
        self.veckeys, self.imgkeys = split_keys(self.shapes)
        if self.veckeys:
            widths = {k: math.prod(self.shapes[k]) for k in self.veckeys}
            self.mlp = MLP(layers, units, name="mlp")
            self.vec = VectorOutputs(widths, outscale, name="vec")
        if self.imgkeys:
            stages = len(mults)
            images = {k: self.shapes[k] for k in self.imgkeys}
            height, width = common_size(images)
            if height % 2**stages or width % 2**stages:
                raise UserError(
                    f"Images have the shapes {images}, but the decoder's {stages} "
                    f"stages make multiples of {2**stages} pixels; use such a size, or "
                    "fewer dec.mults."
                )
            self.map = (height // 2**stages, width // 2**stages, depth * mults[-1])
            self.sp0 = BlockLinear(math.prod(self.map), bspace, name="sp0")
            self.sp1, self.sp1norm = dense(2 * units, "sp1"), rms_norm("sp1norm")
            self.sp2, self.spnorm = (
                dense(math.prod(self.map), "sp2"),
                rms_norm("spnorm"),
            )
            numbers = list(reversed(range(stages - 1)))
            self.convs = [conv(depth * mults[i], kernel, f"conv{i}") for i in numbers]
            self.convnorms = [rms_norm(f"conv{i}norm") for i in numbers]
            self.channels = [self.shapes[k][-1] for k in self.imgkeys]
            self.imgout = conv(sum(self.channels), kernel, "imgout", outscale)

    def build(self):
        if self.veckeys:
            self.mlp.build((None, self.flat + self.deter))
            width = self.units if self.mlp.depth else self.flat + self.deter
            self.vec.build((None, width))
        if self.imgkeys:
            self.sp0.build((None, self.deter))
            self.sp1.build((None, self.flat))
            self.sp1norm.build((None, self.sp1.units))
            self.sp2.build((None, self.sp1.units))
            channels = self.map[-1]
            self.spnorm.build((None, None, None, channels))
            for layer, norm in zip(self.convs, self.convnorms):
                layer.build((None, None, None, channels))
                channels = layer.filters
                norm.build((None, None, None, channels))
            self.imgout.build((None, None, None, channels))

    def call(self, deter, stoch):
        lead = deter.shape[:-1]
        stoch = ops.reshape(stoch, (*lead, self.flat))
        stoch = ops.cast(stoch, self.compute_dtype)
        deter = ops.cast(deter, self.compute_dtype)
        out = {}
        if self.veckeys:
            outputs = self.vec(self.mlp(ops.concatenate([stoch, deter], -1)))
            for key, x in outputs.items():
                out[key] = ops.reshape(x, (*lead, *self.shapes[key]))
        if self.imgkeys:
            size = math.prod(lead)
            height, width, channels = self.map
            x0 = ops.reshape(
                self.sp0(ops.reshape(deter, (size, self.deter))),
                (size, self.bspace, height, width, channels // self.bspace),
            )
            x0 = ops.reshape(ops.transpose(x0, (0, 2, 3, 1, 4)), (size, *self.map))
            x1 = self.sp2(ops.silu(self.sp1norm(self.sp1(stoch))))
            x = ops.silu(self.spnorm(x0 + ops.reshape(x1, (size, *self.map))))
            for layer, norm in zip(self.convs, self.convnorms):
                x = ops.silu(norm(upsampled_conv(layer, x)))
            x = ops.sigmoid(upsampled_conv(self.imgout, x))
            x = ops.reshape(x, (*lead, *x.shape[1:]))
            start = 0
            for key, channels in zip(self.imgkeys, self.channels):
                out[key] = x[..., start : start + channels]
                start += channels
        return {k: ops.cast(x, "float32") for k, x in out.items()}

    def get_config(self):
        return super().get_config() | self.config


@keras.saving.register_keras_serializable("dreamer_tf")
class VectorOutputs(layers.Layer):
    """One linear output per observation key, in a layer `<key>/pred` each."""

    def __init__(self, widths, outscale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.widths, self.outscale = dict(widths), outscale
        self.heads = {
            k: Outputs({"pred": n}, outscale, name=k) for k, n in self.widths.items()
        }

    def build(self, input_shape):
        for head in self.heads.values():
            head.build(input_shape)

    def call(self, x):
        return {k: head(x)["pred"] for k, head in self.heads.items()}

    def get_config(self):
        return super().get_config() | {
            "widths": self.widths,
            "outscale": self.outscale,
        }


def upsampled_conv(layer: layers.Conv2D, x):
    """`layer(upsample(x))` with nearest-neighbour upsampling by two, computed at half
    the resolution: `[N, H, W, C] -> [N, 2H, 2W, filters]`.

    The even and the odd rows (columns) of the result are convolutions of `x` with
    kernels whose taps are sums of those that fall on the same pixel of `x`: a kernel
    of size 5 takes 36 products instead of 100 for every 4 pixels.
    """
    kernel = ops.cast(layer.kernel, layer.compute_dtype)
    taps = ops.convert_to_tensor(phases(kernel.shape[0]), kernel.dtype)
    kernel = ops.einsum("ayt,bxs,tsio->yxiabo", taps, taps, kernel)
    kernel = ops.reshape(kernel, (*kernel.shape[:3], 4 * layer.filters))
    x = ops.conv(x, kernel, padding="same", data_format="channels_last")
    return depth_to_space(x) + ops.cast(layer.bias, layer.compute_dtype)


def phases(size: int) -> np.ndarray:
    """Which pixel before upsampling a tap falls on: 0 or 1, `[2, taps, size]`.

    Entry `[a, y, t]` says whether tap `t` of a kernel over upsampled pixels reads,
    for the pixel `2 i + a`, pixel `i + y - taps // 2` of the original.
    """
    taps = np.arange(size) - (size - 1) // 2
    pixel = (np.arange(2)[:, None] + taps) // 2
    reach = np.abs(pixel).max()
    return (pixel[:, None] == np.arange(-reach, reach + 1)[:, None]).astype("float32")


def depth_to_space(x):
    """Blocks of 2x2 pixels from channels: `[N, H, W, 4 C] -> [N, 2H, 2W, C]`."""
    n, h, w, c = x.shape
    x = ops.transpose(ops.reshape(x, (n, h, w, 2, 2, c // 4)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (n, 2 * h, 2 * w, c // 4))


# --------------------------------------------------------- DreamerV1 and V2 --
# Kernels start Glorot-uniform and biases at zero, as is Keras's default.


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


def check_activations(config, names: str):
    """Refuses settings that name no activation; the names have spaces between."""
    for name in names.split():
        activation(operator.attrgetter(name)(config), name)


def check_kernels(config, names: str):
    """Refuses lists of convolutions that are empty or have one without pixels."""
    for name in names.split():
        limit(config, name, at_least=1)
        if not operator.attrgetter(name)(config):
            raise UserError(f"{name} is empty; it must have at least one number.")


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


@keras.saving.register_keras_serializable("dreamer_tf")
class NormGRUCell(layers.Layer):
    """GRU whose gates are normalised together (DreamerV2): `(x, h) -> h`.

    The update gate starts at sigmoid(-1), and the reset gate multiplies what goes
    into the candidate's tanh, not the state (official `nets.GRUCell`).

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
        parts = self.norm(self.layer(ops.concatenate([x, state], -1)))
        reset, cand, update = ops.split(parts, 3, -1)
        cand = ops.tanh(ops.sigmoid(reset) * cand)
        update = ops.sigmoid(update - 1)
        return update * cand + (1 - update) * state

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("dreamer_tf")
class StridedEncoder(layers.Layer):
    """Encoder of DreamerV1 and V2: `{key: [..., *shape]} -> [..., width]`.

    Images (uint8, seen in [-0.5, 0.5], joined by channel): convolutions with stride
    2 and no padding. Vectors (joined): an MLP. Result: image part, then vector part.

    Args:
      images, vectors: shapes of the entries, in their order.
      depth, kernels: filters of the first convolution, doubled by each following
        one; their sizes.
      units: widths of the MLP.
      act, cnn_act: activations of the MLP and of the convolutions.
      norm: see `Norm`.
      convs: names of the convolutions.
    """

    def __init__(
        self,
        images,
        vectors,
        depth=48,
        kernels=(4, 4, 4, 4),
        units=(400, 400, 400, 400),
        act="elu",
        cnn_act="elu",
        norm="none",
        convs=("conv0", "conv1", "conv2", "conv3"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = dict(
            images={k: tuple(s) for k, s in images.items()},
            vectors={k: tuple(s) for k, s in vectors.items()},
            depth=depth,
            kernels=tuple(kernels),
            units=tuple(units),
            act=act,
            cnn_act=cnn_act,
            norm=norm,
            convs=tuple(convs),
        )
        self.images, self.vectors = self.config["images"], self.config["vectors"]
        self.act, self.cnn_act = activation(act), activation(cnn_act)
        self.width = 0
        if self.images:
            size = common_size(self.images)
            for kernel in kernels:
                size = [(n - kernel) // 2 + 1 for n in size]
            if min(size) < 1:
                raise UserError(
                    f"Images have the shapes {self.images}, too small for the "
                    f"encoder's kernels {tuple(kernels)}; use fewer kernels, or 64x64 "
                    "pixels."
                )
            filters = [depth * 2**i for i in range(len(kernels))]
            self.convs = [
                layers.Conv2D(n, k, 2, data_format="channels_last", name=name)
                for n, k, name in zip(filters, kernels, convs)
            ]
            self.convnorms = [
                Norm(norm, name=f"convnorm{i}") for i in range(len(kernels))
            ]
            self.width += math.prod(size) * filters[-1]
        if self.vectors:
            self.inputs = sum(math.prod(s) for s in self.vectors.values())
            self.linears, self.norms = dense_stack(
                units, norm, "dense{}", "densenorm{}"
            )
            self.width += units[-1] if units else self.inputs

    def build(self):
        if self.images:
            channels = sum(s[-1] for s in self.images.values())
            for layer, norm in zip(self.convs, self.convnorms):
                layer.build((None, None, None, channels))
                channels = layer.filters
                norm.build((None, None, None, channels))
        if self.vectors:
            build_stack(self.linears, self.norms, self.inputs)

    def call(self, obs):
        parts = []
        if self.images:
            x = ops.concatenate([obs[k] for k in self.images], -1)
            lead = x.shape[:-3]
            x = centred(x, self.compute_dtype)
            x = ops.reshape(x, (math.prod(lead), *x.shape[-3:]))
            for layer, norm in zip(self.convs, self.convnorms):
                x = self.cnn_act(norm(strided_conv(layer, x)))
            parts.append(ops.reshape(x, (*lead, math.prod(x.shape[1:]))))
        if self.vectors:
            x = flatten_vectors(obs, self.vectors, self.vectors)
            x = ops.cast(x, self.compute_dtype)
            parts.append(stack(x, self.linears, self.norms, self.act))
        return ops.concatenate(parts, -1)

    def get_config(self):
        return super().get_config() | self.config


@keras.saving.register_keras_serializable("dreamer_tf")
class StridedDecoder(layers.Layer):
    """Decoder of DreamerV1 and V2: `[..., F] -> {key: [..., *shape]}`.

    Images, around [-0.5, 0.5] without a bound: a linear layer to one pixel, then
    transposed convolutions with stride 2. Vectors: an MLP and a linear output each.

    Args: as `StridedEncoder`, with
      width: F.
      depth: channels of the last hidden map, doubled by each earlier one.
      convs: names of the linear layer and of the convolutions.
    """

    def __init__(
        self,
        images,
        vectors,
        width,
        depth=48,
        kernels=(5, 5, 6, 6),
        units=(400, 400, 400, 400),
        act="elu",
        cnn_act="elu",
        norm="none",
        convs=("convin", "conv0", "conv1", "conv2", "conv3"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = dict(
            images={k: tuple(s) for k, s in images.items()},
            vectors={k: tuple(s) for k, s in vectors.items()},
            width=width,
            depth=depth,
            kernels=tuple(kernels),
            units=tuple(units),
            act=act,
            cnn_act=cnn_act,
            norm=norm,
            convs=tuple(convs),
        )
        self.images, self.vectors = self.config["images"], self.config["vectors"]
        self.act, self.cnn_act = activation(act), activation(cnn_act)
        self.width = width
        if self.images:
            made = 1
            for kernel in kernels:
                made = (made - 1) * 2 + kernel
            if common_size(self.images) != [made, made]:
                raise UserError(
                    f"Images have the shapes {self.images}, but the decoder's kernels "
                    f"{tuple(kernels)} make images of {made}x{made} pixels; use this "
                    "size."
                )
            self.convin = layers.Dense(32 * depth, name=convs[0])
            self.channels = [s[-1] for s in self.images.values()]
            filters = [depth * 2**i for i in reversed(range(len(kernels) - 1))]
            self.convs = [
                layers.Conv2DTranspose(n, k, 2, data_format="channels_last", name=name)
                for n, k, name in zip(
                    [*filters, sum(self.channels)], kernels, convs[1:]
                )
            ]
            self.convnorms = [
                Norm(norm, name=f"convnorm{i}") for i in range(len(filters))
            ]
        if self.vectors:
            self.linears, self.norms = dense_stack(
                units, norm, "dense{}", "densenorm{}"
            )
            self.outputs = {
                k: layers.Dense(math.prod(s), name="out", dtype="float32")
                for k, s in self.vectors.items()
            }

    def build(self):
        if self.images:
            self.convin.build((None, self.width))
            channels = self.convin.units
            for layer, norm in zip(self.convs, [*self.convnorms, None]):
                layer.build((None, None, None, channels))
                channels = layer.filters
                if norm is not None:
                    norm.build((None, None, None, channels))
        if self.vectors:
            width = build_stack(self.linears, self.norms, self.width)
            for key, output in self.outputs.items():
                with keras.name_scope(f"dense_{key}"):
                    output.build((None, width))

    def call(self, feat):
        lead, out = feat.shape[:-1], {}
        if self.images:
            x = ops.reshape(self.convin(feat), (math.prod(lead), self.convin.units))
            x = spread(self.convs[0], x)
            for norm, layer in zip(self.convnorms, self.convs[1:]):
                x = transposed_conv(layer, self.cnn_act(norm(x)))
            x = ops.reshape(x, (*lead, *x.shape[1:]))
            start = 0
            for key, channels in zip(self.images, self.channels):
                out[key] = x[..., start : start + channels]
                start += channels
        if self.vectors:
            x = stack(feat, self.linears, self.norms, self.act)
            for key, output in self.outputs.items():
                out[key] = ops.reshape(output(x), (*lead, *self.vectors[key]))
        return {k: ops.cast(x, "float32") for k, x in out.items()}

    def get_config(self):
        return super().get_config() | self.config


@keras.saving.register_keras_serializable("dreamer_tf")
class Head(layers.Layer):
    """MLP head of DreamerV1 and V2: `[..., in] -> {name: [..., width]}`, float32.

    Args:
      depth, units: hidden layers and their width.
      outputs: name -> width of each linear output.
      act: activation.
      norm: see `Norm`.
      hidden: pattern of the hidden layers' names.
      group: name of the group of the outputs, if they have one.
    """

    def __init__(
        self,
        depth,
        units,
        outputs,
        act="elu",
        norm="none",
        hidden="dense{}",
        group="out",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = dict(
            depth=depth,
            units=units,
            outputs=dict(outputs),
            act=act,
            norm=norm,
            hidden=hidden,
            group=group,
        )
        self.act, self.group = activation(act), group
        self.linears, self.norms = dense_stack([units] * depth, norm, hidden, "norm{}")
        # In float32 whatever the precision: in bfloat16 a return of 150 would be known
        # to the next whole number only.
        self.outputs = {
            k: layers.Dense(n, name=k, dtype="float32") for k, n in outputs.items()
        }

    def build(self, input_shape):
        width = build_stack(self.linears, self.norms, input_shape[-1])
        scope = keras.name_scope(self.group) if self.group else contextlib.nullcontext()
        with scope:
            for output in self.outputs.values():
                output.build((None, width))

    def call(self, x):
        x = stack(x, self.linears, self.norms, self.act)
        return {k: f(x) for k, f in self.outputs.items()}

    def get_config(self):
        return super().get_config() | self.config


def strided_conv(layer: layers.Conv2D, x):
    """`layer(x)` for stride 2 without padding, `[N, H, W, C] -> [N, h, w, filters]`.

    A result of few pixels is a product of matrices, which is three times as fast on
    CPU as a convolution of so small a map.
    """
    size = layer.kernel_size[0]
    rows, columns = ((n - size) // 2 + 1 for n in x.shape[1:3])
    if rows * columns > 4 or size % 2:
        return layer(x)
    kernel, bias = (ops.cast(w, layer.compute_dtype) for w in layer.weights)

    def seen(x, axis, count):
        # Strips of two pixels, joined: the gradient of overlapping slices is slow.
        strips = [2] * (count - 1 + size // 2)
        strips = ops.split(x, [*np.cumsum(strips)], axis)
        return [ops.concatenate(strips[i : i + size // 2], axis) for i in range(count)]

    patches = [p for row in seen(x, 1, rows) for p in seen(row, 2, columns)]
    width = size**2 * x.shape[-1]
    patches = ops.stack([ops.reshape(p, (x.shape[0], width)) for p in patches], 1)
    x = ops.matmul(patches, ops.reshape(kernel, (width, layer.filters)))
    return ops.reshape(x + bias, (x.shape[0], rows, columns, layer.filters))


def transposed_conv(layer: layers.Conv2DTranspose, x):
    """`layer(x)` for stride 2 without padding, `[N, h, w, C] -> [N, H, W, filters]`.

    For few filters (an image) it is a convolution that makes every even or odd row and
    column on its own, twice as fast on CPU.
    """
    size, _, filters, channels = layer.kernel.shape
    if filters > 8 or size % 2:
        return layer(x)
    taps = size // 2
    kernel, bias = (ops.cast(w, layer.compute_dtype) for w in layer.weights)
    # Pixel 2 i + a of the result is the sum over t of pixel i - t times tap 2 t + a.
    kernel = ops.reshape(kernel, (taps, 2, taps, 2, filters, channels))
    kernel = ops.transpose(ops.flip(kernel, (0, 2)), (0, 2, 5, 1, 3, 4))
    kernel = ops.reshape(kernel, (taps, taps, channels, 4 * filters))
    around = (taps - 1, taps - 1)
    x = ops.pad(ops.cast(x, kernel.dtype), ((0, 0), around, around, (0, 0)))
    x = ops.conv(x, kernel, padding="valid", data_format="channels_last")
    return depth_to_space(x) + bias


def spread(layer: layers.Conv2DTranspose, x):
    """`layer` on maps of one pixel, `[N, C] -> [N, size, size, filters]`.

    As a product of matrices, which is ten times as fast on CPU.
    """
    kernel, bias = (ops.cast(w, layer.compute_dtype) for w in layer.weights)
    size, _, filters, channels = kernel.shape
    x = ops.matmul(x, ops.transpose(ops.reshape(kernel, (-1, channels))))
    return ops.reshape(x, (x.shape[0], size, size, filters)) + bias


def dense_stack(units, norm: str, name: str, norm_name: str):
    """Linear layers and norms for `stack`, named by the two patterns."""
    linears = [layers.Dense(n, name=name.format(i)) for i, n in enumerate(units)]
    return linears, [Norm(norm, name=norm_name.format(i)) for i in range(len(units))]


def centred(image, dtype="float32"):
    """uint8 images as DreamerV1 and V2 see and predict them, in [-0.5, 0.5]."""
    return ops.cast(image, dtype) / 255 - 0.5


def common_size(images: dict[str, tuple[int, ...]]) -> list[int]:
    """Height and width of all images; raises UserError if they differ."""
    sizes = {shape[:2] for shape in images.values()}
    if len(sizes) != 1:
        raise UserError(f"All images must have one size, received {images}.")
    return list(sizes.pop())
