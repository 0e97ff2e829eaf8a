"""bfloat16 stays close to the authors' float32 numbers, within stated bounds.

The bounds are about twice what was seen on a CPU. A latent or action whose likeliest
classes are nearly equal can flip in bfloat16, which changes all that follows from it;
so the bounds hold for most quantities, not for each.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from dreamer_tf import nets, v1
from dreamer_tf.agent import Agent
from dreamer_tf.configs.v1 import Config
from dreamer_tf.engine.variables import computing_in
from dreamer_tf.nets import coders
from tests.parity.__main__ import compare

# File: relative error of nine tenths of the metrics of six updates (losses, norms,
# statistics), and of half of the gradients' tensors.
BOUNDS = {
    "v1/agent_A_mean": (0.15, 0.01),
    "v2/agent_vision": (0.10, 0.02),
    "v3/agent_proprio_mode": (0.005, 0.02),
    "v3/agent_vision": (0.05, 0.05),
}
CPU = Path("/proc/cpuinfo")
if CPU.exists() and "avx512f" not in CPU.read_text():
    # Without AVX-512 products are summed in another order, and in this file a choice
    # flips: 0.025 and 0.067 were seen, where the file's bounds above are of AVX-512.
    BOUNDS["v3/agent_proprio_mode"] = (0.05, 0.13)
GOLDEN = Path(__file__).parent / "golden"
METRICS = {"curves", "initial", "updates", "first step"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f, marks=pytest.mark.slow if f == "v2/agent_vision" else [])
        for f in BOUNDS
    ],
)
def test_bfloat16_within_bounds(name, monkeypatch):
    made = Agent.__init__

    def in_bfloat16(self, obs_space, action_space, config, *args, **kwargs):
        config = dataclasses.replace(config, precision="bfloat16")
        made(self, obs_space, action_space, config, *args, **kwargs)

    monkeypatch.setattr(Agent, "__init__", in_bfloat16)
    rows = compare(str(GOLDEN / f"{name}.npz"))
    metrics = [row.error for row in rows if row.group in METRICS]
    gradients = [row.error for row in rows if row.group == "gradients"]
    metric, gradient = BOUNDS[name]
    # Rounded to 8 bits, it must differ from float32 somewhere.
    assert not all(row.ok for row in rows)
    assert np.quantile(metrics, 0.9) < metric
    assert np.median(gradients) < gradient
    finals = [row.error for row in rows if row.group in ("final norm", "final l2")]
    assert np.isfinite(finals).all() and max(finals) < 0.02


@pytest.fixture
def half():
    with computing_in("bfloat16"):
        yield


STATE = np.array([[0.12345678, 0.87654321]], np.float32)
SHUT = 50.0  # bias of a gate


def test_the_state_of_v1_is_not_rounded(half):
    config = Config(deter_size=2, stoch_size=1)
    cell = v1.RSSM(config, actions=1, tokens=1)
    cell.build()
    for weight in cell.cell.weights:
        weight.assign(np.zeros(weight.shape, np.float32))
    bias = cell.cell.weights[2]  # update, reset and candidate, each of two kernels
    bias.assign(np.repeat([[SHUT, 0, 0], [0, 0, 0]], 2, 1))
    nothing = np.zeros((1, 1), np.float32)
    after = cell.core(STATE, nothing, nothing)
    np.testing.assert_array_equal(ops.convert_to_numpy(after), STATE)


def test_the_state_of_v2_is_not_rounded(half):
    cell = nets.NormGRUCell(2)
    cell.build((None, 1))
    cell.norm.weights[1].assign(np.repeat([0.0, 0.0, -SHUT], 2))  # the update gate's
    after = cell(np.zeros((1, 1), np.float32), STATE)
    np.testing.assert_array_equal(ops.convert_to_numpy(after), STATE)


def test_outputs_of_heads_are_not_rounded(half):
    """In bfloat16 150.25 would be 150."""
    head = nets.HeadNet(1, 4, {"out": 1}, norm="none")
    head.build((None, 2))
    head.outputs["out"].bias.assign([150.25])
    value = head(np.zeros((1, 2), np.float32))["out"]
    assert ops.convert_to_numpy(value).tolist() == [[150.25]]


def test_vectors_are_rounded_after_symlog(half, monkeypatch):
    encoder = nets.Encoder({"x": (1,)}, layers=1, units=4)
    encoder.build()
    seen = []
    monkeypatch.setattr(coders, "symlog", lambda x: seen.append(x) or x)
    encoder({"x": np.array([[1000.123]], np.float32)})
    assert ops.convert_to_numpy(seen[0]).tolist() == [[np.float32(1000.123)]]
