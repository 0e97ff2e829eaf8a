"""A run that cannot learn says so when it starts."""

import dataclasses
import re

import numpy as np
import pytest

from dreamer_tf.configs import presets
from dreamer_tf.envs import dmc
from dreamer_tf.envs.limits import time_limit
from dreamer_tf.replay import make_replay
from dreamer_tf.training import outlook as module
from dreamer_tf.training.experience import Components
from dreamer_tf.training.schedules import make_schedule


@pytest.fixture(autouse=True)
def small_records(monkeypatch):
    monkeypatch.setattr(module, "record_entries", lambda components: {})
    monkeypatch.setattr(module, "bytes_per_record", lambda entries: 100)


def said(version, changes=None, agent=None, benchmark="toy", protocol="lite"):
    run, config = presets.load(version, benchmark, protocol)
    run = dataclasses.replace(run, **(changes or {}))
    config = dataclasses.replace(config, **(agent or {}))
    replay = make_replay(version, config, int(run.replay_gb * 1e9), 0)
    schedule = make_schedule(version, config)
    components = Components(None, None, replay, schedule, lambda: None)
    return " ".join(module.outlook(run, components))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize(
    "benchmark", ["toy", "toy_vision", "dmc_proprio", "dmc_vision"]
)
@pytest.mark.parametrize("protocol", [0, 1])
def test_nothing_is_said_of_the_presets(version, benchmark, protocol):
    name = presets.PROTOCOLS[version][-protocol]
    assert said(version, benchmark=benchmark, protocol=name) == ""


NEVER = "This run will never make an update: "
LQR = {"task": "lqr_lqr_2_1"}


@pytest.mark.parametrize(
    ("version", "changes", "agent", "sentence"),
    [
        ("v1", {}, {"prefill": 10**7}, f"{NEVER}--prefill=10000000 is not reached"),
        ("v2", {}, {"prefill": 1501}, f"{NEVER}--prefill=1501 is not reached within"),
        ("v2", {}, {"prefill": 1499}, ""),
        # 20 frames of the toy's 50 are 5 decisions; a sequence has 24 records.
        ("v1", {"length": 20, "repeat": 4}, {}, f"{NEVER}no episode can have more th"),
        ("v2", {"length": 20}, {}, r"20 decisions .* takes 24 \(see --replay.minlen"),
        ("v1", {"steps": 20}, {}, r"more than 20 decisions .*see --batch_length"),
        (
            "v1",
            {"steps": 1600, "envs": 40},
            {},
            r"Episodes may have 50 frames.* 40 fra",
        ),
        ("v1", {"length": 30, "steps": 1500}, {"prefill": 1490}, ""),
        # 49 whole episodes of 30 frames by 1490 frames.
        (
            "v1",
            {"length": 30, "steps": 1490},
            {"prefill": 1480},
            r"the 49 that end are",
        ),
        ("v3", {"steps": 60}, {}, f"{NEVER}at most .* within --steps=60"),
        ("v3", {"replay_gb": 1e-6}, {}, f"{NEVER}at most 0 .*see also --replay_gb"),
        ("v3", {}, {"train_ratio": 0.0}, f"{NEVER}.* --train_ratio"),
        ("v1", LQR, {}, r"lqr_lqr_2_1 have no time limit, and DreamerV1 .* --length,"),
        ("v2", LQR, {}, r"have no time limit, and DreamerV2 learns from whole"),
        ("v2", LQR | {"length": 100}, {}, ""),
        ("v3", LQR, {}, ""),
    ],
)
def test_what_is_said(version, changes, agent, sentence):
    found = said(version, changes, agent)
    assert re.search(sentence, found) if sentence else not found, found


@pytest.mark.parametrize(
    ("task", "length", "limit"),
    [
        ("toy", 0, 50),
        ("toy_discrete", 20, 20),
        ("toy", 80, 50),
        ("walker_walk", 0, 1000),
        ("dmc_cartpole_swingup", 300, 300),
        ("lqr_lqr_6_2", 0, None),
        ("catch", 0, 9),
        ("catch", 5, 5),
        ("minatar_breakout", 0, None),
        ("minatar_asterix", 5000, 5000),
        ("dmc_lqr_lqr_2_1", 70, 70),
        ("bsuite_catch_3", 0, 9),
        ("bsuite_memory_len/22", 0, 101),
        ("bsuite_cartpole_0", 300, 300),
        ("gym_CartPole-v1", 0, 500),
        ("gym_none:Env-v0", 0, None),
        ("gym_Nothing-v0", 9, 9),
    ],
)
def test_time_limit(task, length, limit):
    assert time_limit(task, length) == limit


def test_the_time_limits_of_dm_control():
    """Read from the suite's own constants: no environment is made."""
    suite = dmc._suite()  # without graphics, which XLA does not bear in its process
    from dm_control.suite import lqr, walker

    assert walker._DEFAULT_TIME_LIMIT / walker._CONTROL_TIMESTEP == 1000
    assert np.isinf(lqr._DEFAULT_TIME_LIMIT)
    endless = {
        f"{domain}_{task}"
        for domain, task in suite.ALL_TASKS
        if np.isinf(getattr(suite._DOMAINS[domain], "_DEFAULT_TIME_LIMIT", 0))
    }
    assert endless == {"lqr_lqr_2_1", "lqr_lqr_6_2"}
    assert {time_limit(name) for name in endless} == {None}
