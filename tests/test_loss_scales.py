"""The weight of one observation entry's loss, by the entry's name."""

from pathlib import Path

import numpy as np
import pytest

from dreamer_tf import engine, load_agent
from dreamer_tf.configs import v3
from dreamer_tf.configs.fields import from_dict, to_dict, updated
from dreamer_tf.errors import UserError
from tests import test_v1, test_v2, test_v3
from tests.parity import v1 as parity_v1
from tests.parity import v2 as parity_v2
from tests.parity import v3 as parity_v3
from tests.parity.common import read_config

GOLDEN = Path(__file__).parent / "golden"
MODULES = {"v1": test_v1, "v2": test_v2, "v3": test_v3}
SHAPES = {"x": (3,), "y": (2,)}
METRIC = {"v1": "{}_loss", "v2": "{}_loss", "v3": "loss/{}"}


def weighted_by(version, scale, **changes):
    scales = {} if scale is None else {"loss_scales.x": scale}
    return MODULES[version].tiny(SHAPES, **scales, **changes)


def first_update(agent):
    """Total, unscaled losses and gradients by path, all before the first step."""
    batch = agent._select(MODULES[agent.version].random_batch(agent))
    noise = agent.draw(engine.seed(0), batch)
    start, rows = agent.start_and_rows(batch)
    if agent.version == "v3":
        total, (losses, *_), grads = agent.gradients(noise, rows, start)
    else:
        total, model, grads = agent.model_gradients(noise, rows, start)
        losses = model.losses
    losses = {k: float(np.mean(v)) for k, v in losses.items()}
    return float(total), losses, {k: np.asarray(v) for k, v in grads.items()}


@pytest.mark.parametrize("version", MODULES)
def test_a_loss_is_scaled(version):
    agents = {scale: weighted_by(version, scale) for scale in (None, 0.0, 3.0)}
    found = {scale: first_update(agent) for scale, agent in agents.items()}
    total, losses, grads = found[None]
    x, y = (
        [v.path for v in agents[None].decoder.net.outputs[key].trainable_variables]
        for key in SHAPES
    )
    assert losses["x"] > 0
    for scale in (0.0, 3.0):
        scaled_total, same_losses, scaled = found[scale]
        assert same_losses == losses
        change = (scale - 1) * losses["x"]
        np.testing.assert_allclose(scaled_total - total, change, rtol=1e-3)
        for path in x:
            np.testing.assert_allclose(scaled[path], scale * grads[path], 1e-5, 1e-6)
            assert np.abs(grads[path]).max() > 0
        for path in y:
            np.testing.assert_allclose(scaled[path], grads[path], 1e-5, 1e-6)
        # The model before them learns something else.
        encoder = next(k for k in grads if k.startswith("enc"))
        assert (scaled[encoder] != grads[encoder]).any()


@pytest.mark.parametrize(
    "version",
    ["v2", *(pytest.param(v, marks=pytest.mark.slow) for v in ("v1", "v3"))],
)
def test_metrics_are_not_scaled_and_the_agent_is_saved(version, tmp_path):
    plain, agent = weighted_by(version, None), weighted_by(version, 0.0)
    batch = MODULES[version].random_batch(agent)
    expected, metrics = plain.update(batch)[0], agent.update(batch)[0]
    for key in SHAPES:
        name = METRIC[version].format(key)
        assert metrics[name] == pytest.approx(expected[name], rel=1e-6) != 0
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    assert loaded.config == agent.config
    assert loaded.config.loss_scales.of("x") == 0 and loaded.scale("x") == 0
    assert loaded.scale("y") == 1
    assert loaded.update(batch)[0] == agent.update(batch)[0]


def test_an_entry_counts_before_rec_in_v3():
    agent = weighted_by("v3", 0.7, **{"loss_scales.rec": 0.5})
    assert (agent.scale("x"), agent.scale("y")) == (0.7, 0.5)
    assert (agent.scale("dyn"), agent.scale("rep")) == (1.0, 0.1)


def test_an_entry_called_proprio_in_v2():
    """The one name of an entry that the official settings have."""
    changes = {"loss_scales.proprio": 0.5, "loss_scales.x": 0.7}
    agent = test_v2.tiny({"proprio": (3,), "x": (2,), "z": (1,)}, **changes)
    assert [agent.scale(k) for k in ("proprio", "x", "z")] == [0.5, 0.7, 1.0]
    assert agent.scale("kl") == 1


# Names of losses and totals, of arguments of functions and of nothing.
ODD = ("kl", "model", "value", "critic", "rec", "obs_kl", "self", "file", "a b", "{0}")
RENAMED = {
    "v1": {"kl": "obs_obs_kl", "model": "obs_model", "value": "obs_value"},
    "v2": {"kl": "obs_obs_kl", "model": "obs_model", "critic": "obs_critic"},
    "v3": {"value": "obs_value", "rec": "obs_rec"},
}


@pytest.mark.parametrize("version", MODULES)
def test_an_entry_of_any_name_is_learned(version):
    off = "obs_rec" if version == "v3" else "obs_obs_kl"
    shapes = dict.fromkeys(ODD, (2,))
    agent = MODULES[version].tiny(shapes, **{f"loss_scales.{off}": 0.0})
    names = {entry: RENAMED[version].get(entry, entry) for entry in ODD}
    assert agent.loss_names == names
    _, losses, grads = first_update(agent)
    assert losses.keys() >= set(names.values()) and len(names.values()) == len(ODD)
    for entry, name in names.items():
        weights = agent.decoder.net.outputs[entry].trainable_variables
        learned = any(grads[weight.path].any() for weight in weights)
        assert learned == (name != off), entry
        assert losses[name] > 0
    if version != "v3":  # where totals are named like losses
        batch = MODULES[version].random_batch(agent)
        metrics, _ = agent.train_step(agent.draw(engine.seed(0), batch), batch)
        assert {f"{name}_loss" for name in names.values()} <= metrics.keys()
        assert float(metrics["obs_model_loss"]) != float(metrics["model_loss"])


def test_scales_of_entries_called_like_parts_of_the_settings():
    scales = {"loss_scales.entries": 0.5, "loss_scales.NAME": 0.7, "loss_scales.of": 2}
    config = updated(v3.Config(), scales)
    values = {name.split(".")[1]: scale for name, scale in scales.items()}
    assert {name: config.loss_scales.of(name) for name in values} == values
    assert from_dict(v3.Config(), to_dict(config)) == config


@pytest.mark.parametrize("version", MODULES)
def test_an_entry_that_is_not_there(version):
    sentence = (
        rf"--loss_scales.z is no loss of Dreamer{version.upper()} and no observation "
        "entry that it predicts; these are x, y."
    )
    with pytest.raises(UserError, match=sentence):
        MODULES[version].tiny(SHAPES, **{"loss_scales.z": 0.5})


def test_an_entry_that_is_seen_but_not_predicted():
    changes = {"decoder.mlp_keys": "y", "loss_scales.x": 0.5}
    with pytest.raises(UserError, match=r"scales.x is no loss .*; these are y\."):
        test_v2.tiny(SHAPES, **changes)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (parity_v1, "v1/agent_A_mean"),
        (parity_v2, "v2/agent_proprio"),
        (parity_v3, "v3/agent_proprio_mode"),
    ],
)
def test_recorded_settings_are_read(module, name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as data:
        recorded = read_config(data)
    recorded = recorded.get("config", recorded.get("agent", recorded))
    plain = module.make_config(recorded)
    scales = recorded.get("loss_scales", {})
    recorded["loss_scales"] = scales | {"position": 0.7, "velocity": 1.0}
    config = module.make_config(recorded)
    assert dict(config.loss_scales.entries) == {"position": 0.7, "velocity": 1.0}
    for loss in ("position", "velocity"):
        assert config.loss_scales.of(loss) == recorded["loss_scales"][loss]
    assert plain.loss_scales.entries == {}
    for loss in {"rew", "dyn", "rep", "kl", "reward"} & scales.keys():
        assert config.loss_scales.of(loss) == plain.loss_scales.of(loss)
