"""Two devices that share every batch learn what one does; the choice of precision.

The comparison runs in a process of its own (`python -m tests.test_devices v1`), because
the number of CPU devices must be set before the backend starts.
"""

import os
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest

from dreamer_tf import agent as agents
from dreamer_tf import engine
from dreamer_tf.configs.fields import updated
from dreamer_tf.engine.variables import choose_precision
from dreamer_tf.errors import UserError
from tests import test_v1, test_v2, test_v3

MODULES = {"v1": test_v1, "v2": test_v2, "v3": test_v3}
# Settings by which a statistic of one device's part of the batch would differ from that
# of the whole: free nats between the KLs of the two parts, rewards that are normalised,
# percentiles.
CHANGES = {
    "v1": {"free_nats": 1.5},
    "v2": {"kl.free": 0.15, "reward_norm.momentum": 0.9, "pred_discount": True},
    # Heads whose weights start at zero are nearly uniform over bins from -5e8 to 5e8.
    # Their predictions would be the rounding errors of sums that cancel.
    "v3": {
        "retnorm.limit": 1e-3,
        "retnorm.rate": 0.5,
        "rewhead.outscale": 1.0,
        "value.outscale": 1.0,
    },
}
UPDATES = 3
# Two devices (for JAX; TensorFlow ignores it), and little optimisation by XLA.
XLA = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
XLA += " --xla_llvm_disable_expensive_passes=true"


def make(version: str, devices: int):
    module, changes = MODULES[version], CHANGES[version]
    one = module.tiny()
    spaces = one.obs_space, one.action_space
    config = updated(one.config, changes)
    return agents.make_agent(version, *spaces, config, 0, devices)


def random_batch(agent, seed: int):
    module = MODULES["v3" if agent.version == "v3" else "v2"]
    batch = module.random_batch(agent, seed=seed)
    batch["x"][1] *= 5  # so that the two parts have different KLs
    return batch


def compare(version: str) -> None:
    """Makes the same agent on one and two devices, and the same updates of it."""
    one, two = make(version, 1), make(version, 2)
    start = one.state_dict()
    for path, value in two.state_dict().items():
        np.testing.assert_array_equal(value, start[path], err_msg=path)
    for seed in range(UPDATES):
        batch = random_batch(one, seed)
        (metrics, feedback), (found, returned) = one.update(batch), two.update(batch)
        assert metrics.keys() == found.keys()
        for name, value in metrics.items():
            # The entropy of V1's actor is a mean of logarithms near the ends of tanh.
            close = 1e-3 if name == "action_ent" else 1e-4
            np.testing.assert_allclose(
                found[name], value, rtol=close, atol=1e-5, err_msg=name
            )
        for name, value in feedback.items():
            assert returned[name].shape == value.shape
            np.testing.assert_allclose(returned[name], value, atol=1e-5, err_msg=name)
    end = two.state_dict()
    for path, value in one.state_dict().items():
        change = np.linalg.norm(np.float64(value) - start[path])
        error = np.linalg.norm(np.float64(value) - end[path])
        assert error <= 1e-3 * change + 1e-9, (path, error, change)
    # Two devices act on what one device has learned.
    two.load_state_dict(one.state_dict())
    for path, value in two.state_dict().items():
        np.testing.assert_array_equal(value, one.state_dict()[path], err_msg=path)
    obs = {name: values[:1, 0] for name, values in batch.items()}
    action, _ = two.policy(obs, two.initial_state(1), "eval")
    assert np.isfinite(action).all()
    batch = {name: values[:1] for name, values in batch.items()}
    with pytest.raises(UserError, match=r"size of the batch is 1; with --devices=2 it"):
        two.update(batch)
    with pytest.raises(UserError, match=r"--devices is 3, but .* has 2 CPUs here; it"):
        make(version, 3)


def two_devices() -> None:
    """Divides the CPU into two devices, on TensorFlow; JAX does it by `XLA_FLAGS`."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)


# One is enough for a change; the others take a minute each.
QUICK = "v3" if keras.backend.backend() == "jax" else "v1"


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(v, marks=[] if v == QUICK else pytest.mark.slow)
        for v in ("v1", "v2", "v3")
    ],
)
def test_two_devices_learn_what_one_does(version):
    run = subprocess.run(
        [sys.executable, "-m", "tests.test_devices", version],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"XLA_FLAGS": XLA, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"--devices is 0, .*; it must be from 1 to"):
        make("v1", 0)


@pytest.mark.parametrize(
    ("name", "platform", "wanted"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "gpu", "bfloat16"),
        ("float32", "gpu", "float32"),
        ("bfloat16", "cpu", "bfloat16"),
    ],
)
def test_precision(name, platform, wanted, monkeypatch):
    monkeypatch.setattr(engine.devices, "platform", lambda: platform)
    assert choose_precision(name) == wanted


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="takes minutes without compilation"
)
@pytest.mark.parametrize("version", MODULES)
def test_bfloat16_is_only_inside_of_layers(version):
    """Weights, moments, losses, states and what is predicted are float32."""
    shapes = {"image": (64, 64, 3), "x": (3,)}
    agent = MODULES[version].tiny(shapes, precision="bfloat16")
    assert agent.precision == "bfloat16" and agent.place == "bfloat16 on 1 CPU"
    batch = agent._select(random_batch(agent, 0))
    metrics, feedback = agent.train_step(agent.draw(engine.seed(0), batch), batch)
    obs = {name: values[:, 0] for name, values in batch.items()}
    state = agent.initial_state(2) | {"frames": np.zeros((2, 1), np.float32)}
    noise = agent.draw_policy(engine.seed(1), obs, state)
    action, state = agent.policy_step(noise, obs, state, "train")
    found = {"action": action, "metrics": metrics, "feedback": feedback}
    found["state"] = state._asdict()
    found["predicted"] = agent.decode(state._asdict())
    found["variables"] = {k: v.value for k, v in agent.variables.items()}
    names = {
        keras.backend.standardize_dtype(x.dtype) for x in keras.tree.flatten(found)
    }
    assert names == {"float32", "int32"}
    assert keras.backend.standardize_dtype(agent.tokens(obs).dtype) == "bfloat16"


@pytest.mark.parametrize(
    ("place", "jit", "used"),
    [
        ("cpu", False, False),
        ("cpu", True, True),
        ("gpu", False, True),
        ("gpu", True, True),
    ],
)
def test_a_gpu_always_uses_xla(place, jit, used, monkeypatch):
    """Presets leave it out for images because of CPUs only."""
    seen = []
    monkeypatch.setattr(engine.devices, "platform", lambda: place)
    for name in ("compile", "compile_policy"):
        monkeypatch.setattr(engine, name, lambda *_, jit, **how: seen.append(jit))
    agent = mock.MagicMock(variables={}, config=types.SimpleNamespace(jit=jit))
    agents.Agent._compile(agent)
    assert seen == [used] * 3  # the update; acting in training and in evaluation


def test_results_come_to_the_host_as_they_are():
    tree = {
        "a": np.arange(6, dtype="int32").reshape(2, 3),
        "b": [np.float32(0.1), True],
    }
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, tree)
    found = engine.to_host(tensors)
    assert found.keys() == tree.keys() and isinstance(found["b"], list)
    for there, here in zip(keras.tree.flatten(found), keras.tree.flatten(tree)):
        assert there.dtype == np.asarray(here).dtype
        np.testing.assert_array_equal(there, here)


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        two_devices()
    compare(sys.argv[1])
