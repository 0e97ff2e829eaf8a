"""DreamerV2's networks, by their official names and sizes."""

import re

from dreamer_tf.configs import v2
from dreamer_tf.configs.v2 import Config
from dreamer_tf.distributions import (
    Bernoulli,
    ImageNormal,
    OneHot,
    TanhNormal,
    TruncNormal,
    UnitNormal,
)
from dreamer_tf.errors import UserError
from dreamer_tf.nets.coders import per_entry
from dreamer_tf.nets.heads import Head, HeadNet
from dreamer_tf.nets.strided import StridedDecoder, StridedEncoder


def encoder(c: Config, shapes) -> StridedEncoder:
    """From observation entries to tokens."""
    convs = [f"conv{i}" for i in range(len(c.encoder.cnn_kernels))]
    return StridedEncoder(**_coder(c, c.encoder, shapes), convs=convs, name="encoder")


def decoder(c: Config, shapes, width: int) -> Head:
    """From features to distributions of observation entries."""
    convs = ["convin", *(f"conv{i}" for i in range(len(c.decoder.cnn_kernels)))]
    net = StridedDecoder(
        **_coder(c, c.decoder, shapes), width=width, convs=convs, name="decoder"
    )
    return Head(net, per_entry(shapes, UnitNormal, ImageNormal))


def heads(c: Config, actions: int, discrete: bool) -> dict[str, Head]:
    """From features to distributions of reward, continuation, action and value."""

    def head(name, config, outputs, dist) -> Head:
        sizes = config.layers, config.units, outputs, config.act, config.norm
        names = {"hidden": "dense{}", "normed": "norm{}", "group": "out"}
        return Head(HeadNet(*sizes, **names, name=name), dist)

    one = {"out": 1}
    outputs = dict.fromkeys(("out",) if discrete else ("out", "std"), actions)
    actor = lambda out: action(c, discrete, out)  # noqa: E731
    return {
        "reward": head("reward", c.reward_head, one, number),
        "continues": head("discount", c.discount_head, one, event),
        "actor": head("actor", c.actor, outputs, actor),
        "critic": head("critic", c.critic, one, number),
        "slow_critic": head("target_critic", c.critic, one, number),
    }


def action_kind(c: Config, discrete: bool) -> type:
    """The class of the actor's distributions."""
    kinds = {"trunc_normal": TruncNormal, "tanh_normal": TanhNormal}
    return OneHot if discrete else kinds[c.actor.kind(discrete)]


def action(c: Config, discrete: bool, out):
    """The actor's distribution."""
    if discrete:
        return OneHot(out["out"])
    kind = action_kind(c, discrete)
    return kind(out["out"], out["std"], c.actor.min_std, c.actor.init_std)


def number(out) -> UnitNormal:
    """Distribution of one number."""
    return UnitNormal(out["out"][..., 0])


def event(out) -> Bernoulli:
    """Distribution of whether the episode goes on."""
    return Bernoulli(out["out"][..., 0])


def _coder(c: Config, coder: v2.Encoder, shapes) -> dict:
    """Arguments of an encoder or decoder.

    Raises:
      UserError: it would have no entries.
    """
    images, vectors = {}, {}
    for key, shape in shapes.items():
        is_vector = len(shape) == 1 or c.every_rank
        if len(shape) == 3 and re.match(coder.cnn_keys, key):
            images[key] = shape
        if len(shape) < 3 and is_vector and re.match(coder.mlp_keys, key):
            vectors[key] = shape
    if not images and not vectors:
        raise UserError(
            f"No observation of {shapes} fits cnn_keys='{coder.cnn_keys}' and has "
            f"three axes, or mlp_keys='{coder.mlp_keys}' and has one "
            "(every_rank allows others)."
        )
    return {
        "images": images,
        "vectors": vectors,
        "depth": coder.cnn_depth,
        "kernels": coder.cnn_kernels,
        "units": coder.mlp_layers,
        "act": coder.act,
        "cnn_act": coder.act,
        "norm": coder.norm,
    }
