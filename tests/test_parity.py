"""Our numbers against the authors' (tests/golden), and that errors are noticed."""

import functools
import pathlib

import keras
import pytest

from dreamer_tf import returns, v3
from tests.parity.__main__ import compare

GOLDEN = pathlib.Path(__file__).parent / "golden"
EVERY = sorted(str(p.relative_to(GOLDEN)) for p in GOLDEN.rglob("*.npz"))
FILES = [name for name in EVERY if not name.startswith("envs/")]
TENSORFLOW = keras.backend.backend() == "tensorflow"


def failures(name, **how):
    rows = compare(str(GOLDEN / name), **how)
    assert rows
    return [row for row in rows if not row.ok]


# XLA compiles for minutes on the other files, which `make test-all-jax` compares.
QUICK_ON_JAX = ("v1/prims", "v2/agent_proprio", "v3/")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            f,
            marks=[] if TENSORFLOW or f.startswith(QUICK_ON_JAX) else pytest.mark.slow,
        )
        for f in FILES
    ],
)
def test_compiled(name):
    assert failures(name) == []


@pytest.mark.skipif(not TENSORFLOW, reason="JAX always compiles with XLA")
@pytest.mark.parametrize("name", ["v3/agent_proprio_noise.npz"])
def test_xla(name):
    assert failures(name, jit=True) == []


QUICK_EAGER = ("v2/agent_proprio.npz", "v3/agent_proprio_noise.npz")


@pytest.mark.skipif(not TENSORFLOW, reason="the eager mode of TensorFlow")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f, marks=[] if f in QUICK_EAGER else pytest.mark.slow)
        for f in FILES
    ],
)
def test_eager(name):
    assert failures(name, eager=True) == []


# A few seconds; together they have every order of pooling, the limits, the bug of the
# first picture and both ends on each frame of a decision.
QUICK_TRACES = (
    "v2_asterix_s25_both",
    "v2_breakout_s25",
    "v3b_100k_pong_s00",
    "v3b_200m_breakout_s00",
    "v3bfix_100k_breakout_s00",
    "v3c_100k_breakout_authors",
    "v3c_200m_breakout_s25",
    # Without numba every other one takes longer, two seconds per episode.
    "crafter_v3c_seed5_limit",
)


@pytest.mark.skipif(not TENSORFLOW, reason="no network takes part")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f, marks=[] if f[5:-4] in QUICK_TRACES else pytest.mark.slow)
        for f in EVERY
        if f.startswith("envs/")
    ],
)
def test_environments(name):
    pytest.importorskip("crafter" if "crafter" in name else "ale_py")
    assert failures(name) == []


# Deliberate mistakes, each with a group of rows that has to notice.


def one_step_early(fn):
    """The bootstrap of the state itself instead of the next (off by one)."""

    @functools.wraps(fn)
    def wrong(reward, discount, next_value, lam):
        shifted = keras.ops.concatenate([next_value[:1], next_value[:-1]], 0)
        return fn(reward, discount, shifted, lam)

    return wrong


def no_stop(fn):
    """Both KL terms train prior and posterior alike."""
    return lambda x: x


def squashed(fn):
    """Two-hot interpolation in symlog space, as in the paper's first version."""

    def wrong(x, bins):
        return fn(returns.symlog(x), returns.symlog(bins))

    return wrong


@pytest.mark.skipif(not TENSORFLOW, reason="the same code on JAX, compiled slowly")
@pytest.mark.parametrize(
    ("module", "name", "mistake", "group"),
    [
        (v3, "lambda_return", one_step_early, "losses"),
        (v3, "sg", no_stop, "gradients"),
        (returns, "twohot", squashed, "losses"),
    ],
)
def test_mistakes_are_caught(monkeypatch, module, name, mistake, group):
    monkeypatch.setattr(module, name, mistake(getattr(module, name)))
    failed = failures("v3/agent_proprio_noise.npz")
    assert group in {row.group for row in failed}
