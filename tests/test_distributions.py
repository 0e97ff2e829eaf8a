"""What all distributions offer, two-hot losses, and λ-returns against plain loops."""

import numpy as np
import pytest
from keras import Variable, ops

from dreamer_tf import distributions as d
from dreamer_tf import engine, returns

RNG = np.random.default_rng(0)
LEAD = (4, 3)


def normal(*shape):
    return RNG.normal(size=(*LEAD, *shape)).astype(np.float32)


def image():
    return RNG.integers(0, 256, (*LEAD, 4, 4, 3)).astype(np.uint8)


# Each with a value whose probability it knows, or None.
MADE = {
    "OneHot": (d.OneHot(normal(5), unimix=0.01), np.eye(5, dtype="f4")[[[1] * 3] * 4]),
    "OneHots": (d.OneHots(normal(2, 5), unimix=0.5), None),
    "Bernoulli": (d.Bernoulli(normal()), np.full(LEAD, 0.7, np.float32)),
    "BoundedNormal": (d.BoundedNormal(normal(2), normal(2), 0.2, 0.9), normal(2)),
    "TruncNormal": (d.TruncNormal(normal(2), normal(2), 0.2, 0.3), np.tanh(normal(2))),
    "TanhNormal": (
        d.TanhNormal(normal(2), normal(2), 0.2, 0.3, samples=7),
        np.tanh(normal(2)),
    ),
    "DiagNormal": (d.DiagNormal(normal(2), np.exp(normal(2))), None),
    "UnitNormal": (d.UnitNormal(normal(2, 2), 2), normal(2, 2)),
    "ImageNormal": (d.ImageNormal(normal(4, 4, 3)), image()),
    "SquaredError": (d.SquaredError(normal(4, 4, 3)), image()),
    "SymlogError": (d.SymlogError(normal(2), 1), normal(2)),
    "TwoHot": (d.TwoHot(normal(41)), normal()),
}


def properties(dist, value):
    """All that a distribution says of itself, `[4, 3, ...]` by name."""
    found = {k: getattr(dist, k) for k in ("mean", "observation") if hasattr(dist, k)}
    for name in ("sample", "entropy"):
        if hasattr(dist, name):
            found[name] = getattr(dist, name)()
    if value is not None:
        found["log_prob"] = dist.log_prob(value)
    return {k: np.asarray(v) for k, v in found.items()}


def test_every_distribution_is_here():
    kinds = {
        k
        for k, v in vars(d).items()
        if isinstance(v, type) and issubclass(v, d.Distribution)
    }
    assert kinds - {"Distribution", "Continuous"} == MADE.keys()


@pytest.mark.parametrize("name", MADE)
def test_like_and_parts(name):
    dist, value = MADE[name]
    whole = properties(dist, value)
    assert whole
    same = dist.like(*dist.raw)
    assert type(same) is type(dist) and same.options == dist.options
    for key, found in properties(same, value).items():
        np.testing.assert_array_equal(found, whole[key], err_msg=key)
    for index in (slice(None, -1), 0, (slice(None), 1)):
        part = None if value is None else value[index]
        for key, found in properties(dist[index], part).items():
            # TanhNormal's entropy is a mean of logarithms near the ends of tanh.
            close = 1e-3 if key == "entropy" else 1e-5
            np.testing.assert_allclose(
                found, whole[key][index], close, 1e-6, err_msg=key
            )


@pytest.mark.parametrize("name", MADE)
def test_no_gradient_passes_sg(name):
    dist, value = MADE[name]
    value = None if value is None else ops.convert_to_tensor(value)

    def gradients(stop):
        inputs = [Variable(x, dtype="float32") for x in dist.raw]

        def loss():
            made = dist.like(*(x.value for x in inputs))
            if stop:
                made = d.sg({"in": (made,)})["in"][0]
            if value is None:
                return ops.sum(ops.sin(made.entropy())), made
            return ops.sum(ops.sin(made.log_prob(value))), made

        # The distribution goes out beside the loss.
        (_, made), grads = engine.value_and_grad(loss, inputs)
        assert type(made) is type(dist) and made.options == dist.options
        np.testing.assert_array_equal(made.raw[0], dist.raw[0])
        return [float(np.abs(g).max()) for g in grads]

    assert max(gradients(False)) > 0
    assert max(gradients(True)) == 0


def test_two_targets_of_a_two_hot():
    dist, _ = MADE["TwoHot"]
    bins, logp = dist.bins, ops.log_softmax(dist.logits, -1)
    ret, slow = normal()[:-1] * 30, normal() * 30

    def plain(value, rows):
        code = returns.twohot(ops.convert_to_tensor(value[:rows]), bins)
        return -ops.sum(code * logp[:rows], -1)

    np.testing.assert_allclose(dist.loss((slow, 1.0)), plain(slow, 4), rtol=1e-5)
    np.testing.assert_allclose(dist.loss((ret, 1.0)), plain(ret, 3), rtol=1e-5)
    expected = plain(ret, 3) + 0.3 * plain(slow, 3)
    found = dist.loss((ret, 1.0), (slow, 0.3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(-dist.log_prob(slow), plain(slow, 4), rtol=1e-5)


T, LAM, GAMMA = 6, 0.95, 0.9


def test_return_of_v1_and_v2():
    """V1 Eq. 6, V2 Eq. 4: a reward belongs to the state in which it is predicted."""
    reward, value = RNG.normal(size=(2, T, 3)).astype("f4")
    discount = RNG.uniform(size=(T, 3)).astype("f4")
    last, expected = value[-1], []
    for t in reversed(range(T - 1)):
        last = reward[t] + discount[t] * ((1 - LAM) * value[t + 1] + LAM * last)
        expected.append(last)
    found = returns.lambda_return(reward[:-1], discount[:-1], value[1:], LAM)
    np.testing.assert_allclose(found, expected[::-1], rtol=1e-5)


def test_return_of_v3():
    """V3 Eq. 5: a reward belongs to the state that is arrived at."""
    reward, value = RNG.normal(size=(2, T, 3)).astype("f4")
    is_terminal, is_last = (RNG.random((2, T, 3)) < 0.3).astype("f4")
    following, expected = value[-1], []
    for t in reversed(range(T - 1)):
        lam = LAM * (1 - is_last[t + 1])
        goes_on = GAMMA * (1 - is_terminal[t + 1])
        mixed = (1 - lam) * value[t + 1] + lam * following
        following = reward[t + 1] + goes_on * mixed
        expected.append(following)
    found = returns.lambda_return(
        reward[1:], GAMMA * (1 - is_terminal[1:]), value[1:], LAM * (1 - is_last[1:])
    )
    np.testing.assert_allclose(found, expected[::-1], rtol=1e-5)
