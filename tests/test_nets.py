"""Every layer can be made again from its configuration."""

import keras
import numpy as np
import pytest
from keras import ops

from dreamer_tf import engine, nets
from dreamer_tf.nets import fast
from dreamer_tf.nets.layers import conv

SHAPES = {"image": (64, 64, 3), "x": (3,), "y": ()}
STRIDED = {"depth": 2, "units": (4, 4), "norm": "layer", "name": "n"}
PLAIN = {"act": "elu", "norm": "layer", "hidden": "h{}", "group": "", "name": "n"}
INPUTS = {"image": SHAPES["image"]}, {"x": SHAPES["x"]}


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: nets.BlockLinear(8, 2, shared=3, name="n"), [(None, 4)]),
        (lambda: nets.SplitDense(8, name="n"), [(None, 4), (None, 3)]),
        (lambda: nets.HeadNet(2, 4, {"a": 2, "b": 3}, name="n"), [(None, 3)]),
        (lambda: nets.HeadNet(2, 4, {"out": 1}, **PLAIN), [(None, 3)]),
        (lambda: nets.Encoder(SHAPES, depth=2, units=4, name="n"), []),
        (lambda: nets.Decoder(SHAPES, 8, 2, 4, depth=2, units=4, name="n"), []),
        (lambda: nets.StridedEncoder(*INPUTS, **STRIDED), []),
        (lambda: nets.StridedDecoder(*INPUTS, 9, **STRIDED), []),
        (lambda: nets.Norm("layer", name="n"), [(None, 3)]),
        (lambda: nets.NormGRUCell(4, name="n"), [(None, 3)]),
    ],
)
def test_config_round_trip(make, inputs):
    layer = make()
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    for each in (layer, copy):
        each.build(*inputs)
    described = [{v.path: tuple(v.shape) for v in n.variables} for n in (layer, copy)]
    assert described[0] == described[1] and described[0]
    copy.set_weights([np.asarray(w) for w in layer.variables])


def test_split_is_the_whole():
    x, s = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    block = nets.BlockLinear(8, 2, shared=6, name="n")
    block.build((None, 6))
    for once in (False, True):
        own, shared = block.split(once)
        whole = own(nets.divide(x, 2)) + shared(s)
        np.testing.assert_allclose(block(x, s), whole, rtol=1e-4, atol=1e-6)
    # Block by block, as the layer is defined.
    kernel, bias = (np.asarray(w) for w in block.weights)
    parts = [
        np.concatenate([x[:, 3 * k : 3 * k + 3], s], -1) @ kernel[k] for k in (0, 1)
    ]
    expected = np.concatenate(parts, -1) + bias
    np.testing.assert_allclose(block(x, s), expected, rtol=1e-4, atol=1e-6)
    split = nets.SplitDense(8, name="s")
    split.build((None, 12))
    first, second = split.split(6)
    whole = split(np.concatenate([x, s], -1))
    np.testing.assert_allclose(first(x) + second(s), whole, rtol=1e-4, atol=1e-6)


def made(layer, channels):
    """`layer`, built, with a bias that shows."""
    layer.build((None, None, None, channels))
    layer.bias.assign(np.arange(1.0, layer.filters + 1))
    return layer


def pixels(*shape):
    random = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    return keras.ops.convert_to_tensor(random)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6])
def test_convolution_before_upsampling(kernel):
    layer, x = made(conv(3, kernel, "n"), 4), pixels(3, 5, 4)
    expected = layer(np.repeat(np.repeat(x, 2, 1), 2, 2))
    np.testing.assert_allclose(fast.upsampled_conv(layer, x), expected, atol=1e-5)


# Results of few pixels and of many, even and odd kernels, rows that are left over.
@pytest.mark.parametrize(("size", "kernel"), [(6, 4), (7, 4), (4, 2), (5, 3), (9, 4)])
def test_strided_convolution(size, kernel):
    layer = made(keras.layers.Conv2D(3, kernel, 2), 4)
    x = pixels(size, size, 4)
    np.testing.assert_allclose(fast.strided_conv(layer, x), layer(x), atol=1e-5)


@pytest.mark.parametrize(("size", "kernel"), [(5, 6), (1, 6), (4, 2), (3, 4), (3, 5)])
def test_transposed_convolution(size, kernel):
    layer = made(keras.layers.Conv2DTranspose(3, kernel, 2), 4)
    x = pixels(size, size, 4)
    np.testing.assert_allclose(fast.transposed_conv(layer, x), layer(x), atol=1e-5)
    if size == 1:
        np.testing.assert_allclose(fast.spread(layer, x[:, 0, 0]), layer(x), atol=1e-5)


def test_heads_together():
    heads = [nets.MLPHead(2, n, {"a": n}, name=f"n{n}") for n in (3, 5)]
    x = pixels(4)
    for head in heads:
        head.build((None, 4))
    joined = nets.Together(heads)
    for head, out in zip(heads, joined.rest(joined.first(x))):
        np.testing.assert_allclose(out["a"], head(x)["a"], atol=1e-6)


def test_a_known_product_has_the_gradient_of_a_product():
    x, kernel = pixels(3, 4), keras.Variable(np.ones((4, 5), "float32"))

    def loss(known):
        y = product = ops.matmul(x, kernel)
        if known:
            y = fast.known_product(ops.stop_gradient(y), x, kernel.value)
        return ops.sum(ops.sin(y)), product

    def gradient(known):
        (value, _), (grad,) = engine.value_and_grad(lambda: loss(known), [kernel])
        return value, grad

    np.testing.assert_allclose(gradient(True)[0], gradient(False)[0], rtol=1e-6)
    np.testing.assert_allclose(gradient(True)[1], gradient(False)[1], rtol=1e-5)
