"""Layers: made again from their configurations, and fast ways beside plain ones."""

import keras
import numpy as np
import pytest
from keras import ops

from dreamer_tf import engine, nets
from dreamer_tf.distributions import UnitNormal, sg
from dreamer_tf.nets import coders, fast
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


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 2, 2, 1), (3, 5, 7, 2)])
def test_pooling_on_a_gpu_equals_that_on_a_cpu(shape, monkeypatch):
    """Values and gradients, to the bit."""
    image = np.random.default_rng(0).normal(size=shape).astype("float32")
    weight = np.arange(1.0, 1 + shape[0] * (shape[1] // 2) * (shape[2] // 2) * shape[3])
    x = keras.Variable(image)

    def loss():
        pooled = coders.halved(x.value)
        flat = ops.reshape(pooled, (-1,))
        return ops.sum(flat * weight.astype("float32")), pooled

    found = []
    for place in ("cpu", "gpu"):
        monkeypatch.setattr(engine.devices, "platform", lambda place=place: place)
        call = engine.compile(
            lambda noise: engine.value_and_grad(loss, [x]),
            lambda seed: {},
            read=[x],
            jit=False,
        )
        (_, pooled), (gradient,) = engine.to_host(call(engine.seed(0)))
        found.append((pooled, gradient))
    for cpu, gpu in zip(*found):
        np.testing.assert_array_equal(gpu, cpu)
    assert np.count_nonzero(found[1][1]) == weight.size


def test_equal_pixels_share_the_gradient_on_a_gpu(monkeypatch):
    monkeypatch.setattr(engine.devices, "platform", lambda: "gpu")
    x = keras.Variable(np.zeros((1, 2, 2, 1), "float32"))
    call = engine.compile(
        lambda noise: engine.value_and_grad(
            lambda: (ops.sum(coders.halved(x.value)), {}), [x]
        ),
        lambda seed: {},
        read=[x],
        jit=False,
    )
    _, (gradient,) = engine.to_host(call(engine.seed(0)))
    np.testing.assert_array_equal(gradient, np.full((1, 2, 2, 1), 0.25))


def two_inputs():
    return np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")


def test_dense_of_two_inputs():
    a, b = two_inputs()
    b = b[:, :4]
    layer = nets.SplitDense(8, name="n")
    layer.build((None, 6), (None, 4))
    layer.bias.assign(np.arange(8.0))

    def check():
        kernel, bias = (np.asarray(w) for w in layer.weights)
        whole = np.concatenate([a, b], -1) @ kernel + bias
        for second in (b, layer.known(b)):
            np.testing.assert_allclose(layer(a, second), whole, rtol=1e-4, atol=1e-5)

    check()
    for calls in (1, 9):
        with fast.prepared(layer, calls):
            assert layer.slices
            check()
        # What was prepared is forgotten: new weights count.
        layer.kernel.assign(np.random.default_rng(calls).normal(size=(10, 8)))
        assert layer.slices is None
        check()


def test_block_linear():
    x, s = two_inputs()
    block = nets.BlockLinear(8, 2, shared=6, name="n")
    block.build((None, 6))
    block.bias.assign(np.arange(8.0))

    def check():
        # Block by block, as the layer is defined.
        kernel, bias = (np.asarray(w) for w in block.weights)
        parts = [
            np.concatenate([x[:, 3 * k : 3 * k + 3], s], -1) @ kernel[k] for k in (0, 1)
        ]
        expected = np.concatenate(parts, -1) + bias
        for state in (x, nets.by_block(x, 2)):
            np.testing.assert_allclose(block(state, s), expected, rtol=1e-4, atol=1e-5)

    check()
    for calls in (1, 9):
        with fast.prepared(block, calls):
            assert block.halves
            check()
        block.kernel.assign(np.random.default_rng(calls).normal(size=(2, 9, 4)))
        assert block.halves is None
        check()


def test_an_error_inside_releases_what_was_prepared():
    layer = nets.SplitDense(8, name="n")
    layer.build((None, 6), (None, 4))
    with pytest.raises(KeyError), fast.prepared(layer, 2):
        raise KeyError
    assert layer.slices is None


def test_blocks():
    x, _ = two_inputs()
    state = nets.by_block(x, 3)
    assert state.whole is x and state.parts.shape == (3, 5, 2)
    for k in range(3):
        np.testing.assert_array_equal(state.parts[k], x[:, 2 * k : 2 * k + 2])
    np.testing.assert_array_equal(nets.unite(state.parts), x)
    assert nets.by_block(state, 3) is state


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


@pytest.fixture
def heads():
    """Two trained heads and another one, of different widths, on four features."""
    made = {
        name: nets.Head(
            nets.HeadNet(2, units, {"out": 1}, name=name),
            lambda out: UnitNormal(out["out"][..., 0]),
        )
        for name, units in (("actor", 3), ("critic", 5), ("reward", 4))
    }
    for number, head in enumerate(made.values()):
        head.net.build((None, 4))
        head.net.linears[0].bias.assign(np.arange(head.net.units) - number)
    return nets.Heads({k: made.pop(k) for k in ("actor", "critic")}, made)


def test_joined_heads_predict_what_each_does_alone(heads):
    x = pixels(4)
    joined = heads.joined()(x)
    np.testing.assert_array_equal(joined.x, x)
    assert heads(x)._fields == ("actor", "critic", "reward")
    for name, head in heads.heads.items():
        expected = head(x).mean
        one = getattr(heads, name)
        for found in (heads(x), heads(joined)):
            np.testing.assert_allclose(getattr(found, name).mean, expected, atol=1e-6)
        for found in (one(x), one(joined)):
            np.testing.assert_allclose(found.mean, expected, atol=1e-6)
    with pytest.raises(AttributeError, match="slow"):
        _ = heads.slow


def test_joined_heads_have_the_gradients_of_each_alone(heads):
    x = pixels(4)
    variables = [
        v for name in heads.trained for v in heads.heads[name].net.trainable_variables
    ]

    def gradients(join):
        def loss():
            feat = sg(heads.joined()(x)) if join else x
            out = heads(feat)
            return ops.sum(ops.sin(out.actor.mean) + 2 * ops.cos(out.critic.mean)), ()

        return engine.value_and_grad(loss, variables)[1]

    for found, expected in zip(gradients(True), gradients(False)):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


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
