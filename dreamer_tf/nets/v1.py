"""DreamerV1's networks, by their official names and sizes.

Vector observations are our own extension, with the coders that DreamerV2 has for them.
"""

import numpy as np
from keras import ops

from dreamer_tf.configs.v1 import Config
from dreamer_tf.distributions import (
    Bernoulli,
    ImageNormal,
    OneHot,
    TanhNormal,
    UnitNormal,
)
from dreamer_tf.nets.coders import per_entry
from dreamer_tf.nets.heads import Head, HeadNet
from dreamer_tf.nets.strided import StridedDecoder, StridedEncoder


def encoder(c: Config, shapes) -> StridedEncoder:
    """From observation entries to tokens."""
    convs = [f"h{i + 1}" for i in range(len(c.enc_kernels))]
    return StridedEncoder(
        **_coder(c, shapes), kernels=c.enc_kernels, convs=convs, name="encode"
    )


def decoder(c: Config, shapes, width: int) -> Head:
    """From features to distributions of observation entries."""
    convs = [f"h{i + 1}" for i in range(len(c.dec_kernels) + 1)]
    net = StridedDecoder(
        **_coder(c, shapes),
        width=width,
        kernels=c.dec_kernels,
        convs=convs,
        name="decode",
    )
    return Head(net, per_entry(shapes, UnitNormal, ImageNormal))


def heads(c: Config, actions: int, discrete: bool) -> dict[str, Head]:
    """From features to distributions of reward, continuation, action and value."""

    def head(name, depth, width, dist) -> Head:
        sizes = depth, c.num_units, {"hout": width}, c.dense_act, "none"
        return Head(HeadNet(*sizes, hidden="h{}", group="", name=name), dist)

    width = actions if discrete else 2 * actions
    return {
        "reward": head("reward", 2, 1, number),
        "continues": head("pcont", 3, 1, event),
        "actor": head("actor", 4, width, lambda out: action(c, discrete, out)),
        "critic": head("value", 3, 1, number),
    }


def action_kind(c: Config, discrete: bool) -> type:
    """The class of the actor's distributions."""
    del c
    return OneHot if discrete else TanhNormal


def action(c: Config, discrete: bool, out):
    """The actor's distribution."""
    if discrete:
        return OneHot(out["hout"])
    mean, std = ops.split(out["hout"], 2, -1)
    # So that the initial scale is `action_init_std`.
    raw = float(np.log(np.expm1(c.action_init_std)))
    return TanhNormal(mean, std, min_std=1e-4, init_std=raw)


def number(out) -> UnitNormal:
    """Distribution of one number."""
    return UnitNormal(out["hout"][..., 0])


def event(out) -> Bernoulli:
    """Distribution of whether the episode goes on."""
    return Bernoulli(out["hout"][..., 0])


def _coder(c: Config, shapes) -> dict:
    """What the arguments of encoder and decoder have in common."""
    return {
        "images": {k: s for k, s in shapes.items() if len(s) == 3},
        "vectors": {k: s for k, s in shapes.items() if len(s) < 3},
        "depth": c.cnn_depth,
        "units": c.mlp_layers,
        "act": c.dense_act,
        "cnn_act": c.cnn_act,
    }
