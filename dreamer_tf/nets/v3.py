"""DreamerV3's networks, by their official names and sizes."""

from dreamer_tf.configs.v3 import Config
from dreamer_tf.distributions import (
    Bernoulli,
    BoundedNormal,
    OneHot,
    SquaredError,
    SymlogError,
    TwoHot,
)
from dreamer_tf.nets.coders import Decoder, Encoder, per_entry
from dreamer_tf.nets.heads import Head, HeadNet


def encoder(c: Config, shapes) -> Encoder:
    """From observation entries to tokens."""
    return Encoder(shapes, **vars(c.enc), name="enc")


def decoder(c: Config, shapes, width: int) -> Head:
    """From `(deter, stoch)` to distributions of observation entries."""
    del width
    latent = c.dyn.deter, c.dyn.stoch, c.dyn.classes
    net = Decoder(shapes, *latent, **vars(c.dec), name="dec")
    return Head(net, per_entry(shapes, SymlogError, SquaredError))


def heads(c: Config, actions: int, discrete: bool) -> dict[str, Head]:
    """From features to distributions of reward, continuation, action and value."""

    def head(name, config, outputs, dist, group="head") -> Head:
        sizes = config.layers, config.units, outputs
        net = HeadNet(*sizes, outscale=config.outscale, group=group, name=name)
        return Head(net, dist)

    value = {"logits": c.value.bins}
    outputs = dict.fromkeys(("logits",) if discrete else ("mean", "stddev"), actions)
    actor = lambda out: action(c, discrete, out)  # noqa: E731
    return {
        "reward": head("rew", c.rewhead, {"logits": c.rewhead.bins}, number),
        "continues": head("con", c.conhead, {"logit": 1}, event),
        "actor": head("pol", c.policy, outputs, actor, "head/action"),
        "critic": head("val", c.value, value, number),
        "slow_critic": head("slowval", c.value, value, number),
    }


def action_kind(c: Config, discrete: bool) -> type:
    """The class of the actor's distributions."""
    del c
    return OneHot if discrete else BoundedNormal


def action(c: Config, discrete: bool, out):
    """The actor's distribution."""
    if discrete:
        return OneHot(out["logits"])
    return BoundedNormal(out["mean"], out["stddev"], c.policy.minstd, c.policy.maxstd)


def number(out) -> TwoHot:
    """Distribution of one number."""
    return TwoHot(out["logits"])


def event(out) -> Bernoulli:
    """Distribution of whether the episode goes on."""
    return Bernoulli(out["logit"][..., 0])
