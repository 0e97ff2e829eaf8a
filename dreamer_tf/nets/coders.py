"""Encoder and decoder of DreamerV3, and what all coders share.

An encoder maps `{entry: [..., *shape]}` to tokens `[..., width]`, a decoder maps the
model state to predictions `{entry: [..., *shape]}`, float32.
"""

import math
from collections.abc import Callable, Sequence

import keras
from keras import layers, ops

from dreamer_tf.engine import devices
from dreamer_tf.errors import UserError
from dreamer_tf.nets.fast import upsampled_conv
from dreamer_tf.nets.layers import (
    BlockLinear,
    build_stack,
    conv,
    dense,
    dense_stack,
    rms_norm,
    scope,
    stack,
)
from dreamer_tf.returns import symlog


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
        self.entries = [*self.veckeys, *self.imgkeys]
        self.width = 0
        if self.veckeys:
            hidden = dense_stack([units] * layers, "rms", "mlp{}", "mlp{}norm")
            self.linears, self.norms = hidden
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
                x = ops.silu(norm(halved(layer(x))))
            tokens.append(ops.reshape(x, (*lead, math.prod(x.shape[1:]))))
        return ops.concatenate(tokens, -1)

    def get_config(self):
        return super().get_config() | self.config


def halved(x):
    """The largest of each 2x2 pixels, `[N, H, W, C] -> [N, H // 2, W // 2, C]`.

    An odd last row or column is left out. On a GPU the gradient of a pooling adds
    numbers to places that it looks up, which is slow there; that of a maximum is a
    product. They differ where pixels are equal: pooling passes the gradient to the
    first of them, the maximum divides it among them.
    """
    if devices.platform() == "cpu":
        return ops.max_pool(x, 2, 2, data_format="channels_last")
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : height * 2, : width * 2]
    x = ops.reshape(x, (-1, height, 2, width, 2, x.shape[3]))
    return ops.max(x, (2, 4))


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
        self.deter, self.flat = deter, stoch * classes
        self.bspace = bspace
        self.veckeys, self.imgkeys = split_keys(self.shapes)
        self.entries = [*self.veckeys, *self.imgkeys]
        if self.veckeys:
            hidden = dense_stack([units] * layers, "rms", "linear{}", "norm{}")
            self.linears, self.norms = hidden
            self.outputs = {
                k: dense(math.prod(self.shapes[k]), "pred", outscale)
                for k in self.veckeys
            }
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
            with scope("mlp"):
                width = build_stack(self.linears, self.norms, self.flat + self.deter)
            for key, output in self.outputs.items():
                with scope(f"vec/{key}"):
                    output.build((None, width))
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
            x = ops.concatenate([stoch, deter], -1)
            x = stack(x, self.linears, self.norms)
            for key, output in self.outputs.items():
                out[key] = ops.reshape(output(x), (*lead, *self.shapes[key]))
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


# ------------------------------------------------------------------- shared --


def per_entry(shapes, vector: Callable, image: Callable) -> Callable:
    """From predictions by entry to distributions.

    Args:
      shapes: of the observation entries.
      vector: makes one from a prediction and the number of its axes.
      image: makes one from a prediction.
    """
    return lambda predictions: {
        k: image(x) if len(shapes[k]) == 3 else vector(x, len(shapes[k]))
        for k, x in predictions.items()
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


def common_size(images: dict[str, tuple[int, ...]]) -> list[int]:
    """Height and width of all images; raises UserError if they differ."""
    sizes = {shape[:2] for shape in images.values()}
    if len(sizes) != 1:
        raise UserError(f"All images must have one size, received {images}.")
    return list(sizes.pop())
