"""Every layer can be made again from its configuration."""

import keras
import numpy as np
import pytest

from dreamer_tf import nets

SHAPES = {"image": (64, 64, 3), "x": (3,), "y": ()}
STRIDED = {"depth": 2, "units": (4, 4), "norm": "layer", "name": "n"}
INPUTS = {"image": SHAPES["image"]}, {"x": SHAPES["x"]}


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nets.BlockLinear(8, 2, shared=3, name="n"), (None, 4)),
        (lambda: nets.SplitDense(8, name="n"), (None, 4)),
        (lambda: nets.MLP(2, 4, name="n"), (None, 3)),
        (lambda: nets.MLPHead(1, 4, {"a": 2, "b": 3}, name="n"), (None, 3)),
        (lambda: nets.Outputs({"a": 2}, group=("g",), name="n"), (None, 3)),
        (lambda: nets.VectorOutputs({"x": 3}, name="n"), (None, 3)),
        (lambda: nets.Encoder(SHAPES, depth=2, units=4, name="n"), None),
        (lambda: nets.Decoder(SHAPES, 8, 2, 4, depth=2, units=4, name="n"), None),
        (lambda: nets.StridedEncoder(*INPUTS, **STRIDED), None),
        (lambda: nets.StridedDecoder(*INPUTS, 9, **STRIDED), None),
        (lambda: nets.Norm("layer", name="n"), (None, 3)),
        (lambda: nets.NormGRUCell(4, name="n"), (None, 3)),
        (lambda: nets.Head(2, 4, {"out": 1}, name="n"), (None, 3)),
    ],
)
def test_config_round_trip(make, shape):
    layer = make()
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    for each in (layer, copy):
        each.build(*[] if shape is None else [shape])
    described = [{v.path: tuple(v.shape) for v in n.variables} for n in (layer, copy)]
    assert described[0] == described[1] and described[0]
    copy.set_weights([np.asarray(w) for w in layer.variables])


def test_split_is_the_whole():
    x, s = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    block = nets.BlockLinear(8, 2, shared=6, name="n")
    block.build((None, 6))
    own, shared = block.split()
    np.testing.assert_allclose(block(x, s), own(x) + shared(s), rtol=1e-6)
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
