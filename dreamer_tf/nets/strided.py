"""Encoder and decoder of DreamerV1 and V2, with strided convolutions."""

import math

import keras
from keras import layers, ops

from dreamer_tf.distributions import centred
from dreamer_tf.errors import UserError
from dreamer_tf.nets.coders import common_size, flatten_vectors
from dreamer_tf.nets.fast import spread, strided_conv, transposed_conv
from dreamer_tf.nets.layers import (
    Norm,
    activation,
    build_stack,
    dense_stack,
    scope,
    stack,
)


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
        self.entries = [*self.images, *self.vectors]
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
        self.entries = [*self.images, *self.vectors]
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
                with scope(f"dense_{key}"):
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
