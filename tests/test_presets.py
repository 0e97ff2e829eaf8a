"""Presets: what is observed chooses them, and those of gymnasium fit short episodes."""

import dataclasses

import numpy as np
import pytest

import run as command
from dreamer_tf.configs import fields, presets
from dreamer_tf.errors import UserError
from dreamer_tf.replay import make_replay
from dreamer_tf.training import train
from reproductions import protocols

EVERY = [(v, p) for v, names in presets.PROTOCOLS.items() for p in names]
KINDS = [("dmc_proprio", "dmc_vision"), ("toy", "toy_vision")]
KINDS += [("catch", "catch_vision")]
ENDING = ("gym", "catch", "minatar")  # benchmarks whose episodes may end soon


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize("obs", ["", *presets.OBS])
@pytest.mark.parametrize("benchmark", ENDING)
def test_learns_when_episodes_end(version, protocol, benchmark, obs):
    config = presets.load(version, benchmark, protocol, obs=obs)[1]
    if version == "v1":
        assert config.pcont and config.dataset_balance and config.include_end
    elif version == "v2":
        assert config.pred_discount and "discount" in config.grad_heads
        assert config.replay.prioritize_ends
    else:  # whose continuation head has no switch
        assert config.contdisc and config.loss_scales.con > 0


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize(
    ("benchmark", "decisions"),
    [("gym", 7), ("gym", 9), ("gym", 30), ("catch", 9), ("minatar", 9)],
)
def test_draws_short_episodes_with_their_ends(version, protocol, benchmark, decisions):
    config = presets.load(version, benchmark, protocol)[1]
    replay = make_replay(version, config, 10**8, seed=0)
    for episode in range(30):
        for row in range(decisions + 1):
            last = row == decisions
            record = {"vector": np.float32([episode]), "action": np.zeros(2, "f4")}
            record |= {"reward": np.float32(1), "is_first": np.bool_(row == 0)}
            replay.add(record | {"is_last": np.bool_(last), "is_terminal": last})
    batch = replay.sample()
    assert batch["is_terminal"].any()
    if version != "v3":  # no chunk of a batch begins with the end of its episode
        assert not (batch["is_terminal"] & batch["is_first"]).any()


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize(("vectors", "images"), KINDS)
def test_what_is_observed_chooses_the_settings(version, protocol, vectors, images):
    def agent(benchmark, obs=""):
        return presets.load(version, benchmark, protocol, obs=obs)[1]

    assert agent(vectors, "image") == agent(images) == agent(images, "image")
    assert agent(images, "proprio") == agent(vectors) == agent(vectors, "proprio")
    run = presets.load(version, vectors, protocol, obs="image")[0]
    assert (run.benchmark, run.obs) == (vectors, "image")
    assert run.size == presets.load(version, images, protocol)[0].size


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize("obs", ["image", "both"])
def test_gym_images_have_the_settings_of_images(version, protocol, obs):
    """XLA is slow with convolutions on CPUs; V3's paper has larger networks."""
    config = presets.load(version, "gym", protocol, obs=obs)[1]
    images = presets.load(version, "dmc_vision", protocol)[1]
    assert not config.jit and presets.load(version, "gym", protocol)[1].jit
    if version == "v3":
        assert config == images
    if version == "v2":  # whatever the environment calls its images and vectors
        keys = (config.encoder.mlp_keys, config.encoder.cnn_keys)
        assert keys == (config.decoder.mlp_keys, config.decoder.cnn_keys) == (".*",) * 2


@pytest.mark.parametrize("benchmark", ["dmc_proprio", "dmc_vision"])
def test_v2_uses_vectors_and_images_of_both(benchmark):
    config = presets.load("v2", benchmark, obs="both")[1]
    for coder in (config.encoder, config.decoder):
        assert (coder.mlp_keys, coder.cnn_keys) == (".*", ".*")


def test_unknown_observations():
    sentence = r"^--obs is 'images'; choose from .*\(did you mean 'image'\?\)\.$"
    with pytest.raises(UserError, match=sentence):
        presets.load("v1", "gym", obs="images")


def test_the_command_line_chooses_by_obs(monkeypatch):
    made = []
    monkeypatch.setattr(train, "train", lambda *given: made.append(given))
    words = "train --version=v2 --benchmark=gym --protocol=lite --logdir=x"
    for obs in ("", " --obs=image", " --obs=image --jit"):
        assert command.main([*(words + obs).split()]) == 0
    assert [run.obs for run, *_ in made] == ["proprio", "image", "image"]
    assert [agent.jit for _, agent, _ in made] == [True, False, True]


@pytest.mark.parametrize(
    ("benchmark", "obs", "flags"),
    [
        ("gym", "", ""),
        ("gym", "image", "--obs=image"),
        ("dmc_vision", "proprio", "--obs=proprio"),
        ("dmc_vision", "image", ""),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_other_observations_are_named_but_not_their_settings(
    version, benchmark, obs, flags
):
    run, agent = presets.load(version, benchmark, "lite", obs=obs)
    config = {"run": fields.to_dict(run), "agent": fields.to_dict(agent)}
    assert protocols.changes(config) == flags
    config["agent"] = fields.to_dict(dataclasses.replace(agent, horizon=12))
    assert protocols.changes(config) == f"{flags} --horizon=12".strip()


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize(
    ("benchmark", "task", "obs", "size"),
    [
        ("catch", "catch", "proprio", 64),
        ("catch_vision", "catch", "image", 16),
        ("minatar", "minatar_breakout", "proprio", 64),
    ],
)
def test_small_discrete_tasks(version, protocol, benchmark, task, obs, size):
    """One frame per decision in every protocol; `lite` has small pictures."""
    run = presets.load(version, benchmark, protocol)[0]
    assert (run.task, run.obs, run.repeat) == (task, obs, 1)
    assert run.size == (size if protocol == "lite" else 64)


@pytest.mark.parametrize(
    ("benchmark", "task", "sentence"),
    [
        ("toy", "catch", "--task=catch is no task of --benchmark=toy; add "
         "--benchmark=catch or catch_vision"),
        ("catch", "toy", "--task=toy is no task of --benchmark=catch"),
        ("catch", "minatar_asterix", "add --benchmark=minatar"),
        ("minatar", "walker_walk", "--task=walker_walk is no task of"),
        ("gym", "minatar_asterix", "add --benchmark=minatar"),
    ],
)  # fmt: skip
def test_tasks_of_other_benchmarks_are_refused(benchmark, task, sentence):
    with pytest.raises(UserError, match=sentence):
        presets.load("v3", benchmark, task=task)


@pytest.mark.parametrize("task", ["ball_in_cup_catch", "dmc_ball_in_cup_catch"])
def test_dm_controls_catch_is_another_task(task):
    assert presets.load("v3", "dmc_proprio", task=task)[0].task == task
    with pytest.raises(UserError, match="is no task of --benchmark=catch"):
        presets.load("v3", "catch", task=task)
