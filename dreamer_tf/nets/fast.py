"""The same numbers in less time. Nothing outside depends on how.

`prepared` cuts weights once for a whole scan, `Heads` joins the first layers of heads
that see the same features, and the convolutions are rewritten so that a CPU computes
them faster.
"""

import contextlib
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from keras import layers, ops

from dreamer_tf.nets.heads import Head

# -------------------------------------------------------------- before a scan --


@contextlib.contextmanager
def prepared(cell: layers.Layer, calls: int) -> Iterator[None]:
    """Cuts the weights of a cell's layers once for all calls inside.

    A scan whose steps cut them would do so at every step, and pad their gradients.

    Args:
      calls: how often each layer will be called.
    """
    able = [each for each in cell._flatten_layers() if hasattr(each, "prepare")]
    for layer in able:
        layer.prepare(calls)
    try:
        yield
    finally:
        for layer in able:
            layer.release()


# ---------------------------------------------------------------- joined heads --


class Features(NamedTuple):
    """Features `[..., F]`, and the products of all heads' first layers with them."""

    x: Any
    first: Any  # [..., sum of the heads' units]


class Heads:
    """Heads on the same features, by name; `heads.actor` is one of them.

    `heads(feat)` evaluates all of them. `heads.joined()` computes only their first
    layers, as one product. Both `heads.actor` and `heads` then take features with these
    products as well as without.

    Args:
      trained: heads whose weights get gradients from `heads(feat)` when the products
        are known.
      others: heads that get none.
    """

    def __init__(self, trained: dict[str, Head], others: dict[str, Head]):
        self.trained, self.others = list(trained), list(others)
        self.heads = trained | others
        self.outputs = namedtuple("Outputs", self.heads)  # type: ignore[misc]

    def __getattr__(self, name: str):
        if name not in self.__dict__.get("heads", {}):
            raise AttributeError(name)
        return lambda feat: self._one(name, feat)

    def _one(self, name: str, feat):
        """The distribution of one head; the first one's products come first."""
        head = self.heads[name]
        if not isinstance(feat, Features):
            return head(feat)
        start = 0
        for other, each in self.heads.items():
            if other == name:
                break
            start += each.net.units
        first = feat.first[..., start : start + head.net.units]
        (dist,) = self._rest([name], first)
        return dist

    def joined(self) -> Callable:
        """`join(feat) -> Features`: the first layers of all heads as one product.

        Joins the weights once, here, for all calls.
        """
        kernel, _ = self._first_layers(list(self.heads))
        return lambda feat: Features(
            feat, ops.matmul(ops.cast(feat, kernel.dtype), kernel)
        )

    def __call__(self, feat):
        """The distributions of all heads, by name."""
        if not isinstance(feat, Features):
            return self.outputs(*(head(feat) for head in self.heads.values()))
        split = sum(self.heads[name].net.units for name in self.trained)
        known, rest = ops.split(feat.first, [split], -1)
        kernel, _ = self._first_layers(self.trained)
        first = known_product(known, ops.cast(feat.x, kernel.dtype), kernel)
        dists = [*self._rest(self.trained, first), *self._rest(self.others, rest)]
        return self.outputs(*dists)

    def _first_layers(self, names) -> tuple:
        """The joined kernel and bias of some heads' first layers."""
        firsts = [self.heads[name].net.linears[0] for name in names]
        kernel, bias = (
            ops.cast(ops.concatenate(weights, -1), firsts[0].compute_dtype)
            for weights in zip(*([f.kernel, f.bias] for f in firsts))
        )
        return kernel, bias

    def _rest(self, names, first) -> list:
        """What some heads predict, from the products of their first layers."""
        _, bias = self._first_layers(names)
        nets = [self.heads[name].net for name in names]
        inputs = [first + bias]
        if len(names) > 1:
            ends = np.cumsum([net.units for net in nets])
            inputs = ops.split(inputs[0], ends[:-1], -1)
        return [
            self.heads[name].dist(net.after_first(x))
            for name, net, x in zip(names, nets, inputs)
        ]


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


# ----------------------------------------------------------------- convolutions --


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
