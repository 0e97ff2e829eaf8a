"""DreamerV1 beyond parity: sizes, spaces, exploration, schedule, deliberate errors."""

import itertools
import json
import pathlib

import keras
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf import load_agent, make_agent, rssm, v1
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.distributions import DiagNormal, TanhNormal, explore
from dreamer_tf.errors import UserError
from dreamer_tf.replay import EpisodeChunks, make_replay
from dreamer_tf.training.experience import Decision, Update, experience
from dreamer_tf.training.schedules import Progress, ScheduleV1
from tests import fakes
from tests.fakes import Recorder
from tests.parity import v1 as parity
from tests.parity.common import Rows, Run, below, read_config
from tests.test_v2 import keeping_actions, random_batch
from tests.test_v3 import BOX, space

GOLDEN = pathlib.Path(__file__).parent / "golden" / "v1"

TINY = {
    "precision": "float32",  # on a GPU too
    "deter_size": 16,
    "stoch_size": 4,
    "num_units": 8,
    "cnn_depth": 2,
    "mlp_layers": (8,),
    "free_nats": 0.0,  # or the prior would not learn at first
    "horizon": 3,
    "batch_size": 2,
    "batch_length": 5,
    "jit": False,
}


def tiny(shapes=None, actions=BOX, seed=0, **changes):
    config = updated(v1.Config(), TINY | changes)
    return make_agent(
        "v1", space(shapes or {"x": (3,), "y": ()}), actions, config, seed
    )


def test_parameter_counts():
    """Spec/v1.md, section 3: counted by running the official code."""
    actions = spaces.Box(-1, 1, (6,), np.float32)
    agent = v1.DreamerV1(space({"image": (64, 64, 3)}), actions, v1.Config())
    assert agent.param_count() == {
        "encode": 690_144,
        "dynamics": 557_920,
        "decode": 3_795_555,
        "reward": 253_201,
        "value": 413_601,
        "actor": 578_412,
    }


@pytest.mark.parametrize(
    ("shapes", "actions", "changes"),
    [
        ({"x": (3,), "y": (), "m": (2, 2)}, BOX, {}),
        ({"image": (64, 64, 3), "x": (3,)}, spaces.Discrete(3), {"pcont": True}),
        pytest.param(  # Atari
            {"image": (64, 64, 1)},
            spaces.Discrete(18),
            {"pcont": True},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_policy_update_and_report(shapes, actions, changes, tmp_path):
    agent = tiny(shapes, actions, **changes)
    batch = random_batch(agent)
    obs = {k: v[:, 0] for k, v in batch.items()}
    state = agent.initial_state(2)
    before = agent.state_dict()
    for mode in ("train", "eval", "random"):
        action, state = agent.policy(obs, state, mode)
        assert action.shape == (2, agent.actions)
        np.testing.assert_array_equal(state["action"], action)
        assert (np.abs(action) <= 1).all()
        if agent.discrete:
            np.testing.assert_allclose(np.sort(action)[:, -1], 1, rtol=1e-6)
            np.testing.assert_allclose(action.sum(-1), 1, rtol=1e-6)
    metrics, feedback = agent.update(batch)
    assert feedback == {}
    assert np.isfinite(list(metrics.values())).all()
    after = agent.state_dict()
    assert not [k for k in agent.params if (before[k] == after[k]).all()]
    report = agent.report(batch, context=2)
    for key, shape in agent.shapes.items():
        assert report[key].shape == (2, 5, *shape)
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    first, _ = agent.policy(obs, agent.initial_state(2), "eval")
    second, _ = loaded.policy(obs, loaded.initial_state(2), "eval")
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "changes",
    [
        {"eval_samples": 0, "eval_noise": 0.1, "clip_rewards": "tanh"},
        {"precision": "bfloat16"},
    ],
)
def test_options(changes):
    agent = tiny(**changes)
    batch = random_batch(agent)
    metrics, _ = agent.update(batch)
    assert np.isfinite(list(metrics.values())).all()
    obs = {k: v[:, 0] for k, v in batch.items()}
    action, _ = agent.policy(obs, agent.initial_state(2), "eval")
    assert np.isfinite(action).all() and (np.abs(action) <= 1).all()


def test_sequences_start_from_zeros_and_their_first_action():
    agent = tiny()
    batch = random_batch(agent)
    start, results = agent.state_dict(), []
    for is_first, action in ((True, 0.0), (False, 0.0), (True, 1.0)):
        batch["is_first"][:] = is_first
        batch["action"][:, 0] = action
        agent.load_state_dict(start)
        results.append(agent.update(batch)[0]["kl"])
    assert results[0] == results[1] != results[2]


def test_the_policy_forgets_at_is_first():
    agent = tiny(eval_samples=0)
    obs = {k: v[:, 0] for k, v in random_batch(agent).items()}
    actions = []
    for is_first, value in ((True, 0.0), (True, 1.0), (False, 1.0)):
        obs["is_first"] = np.full(2, is_first)
        state = {k: v + value for k, v in agent.initial_state(2).items()}
        agent.decisions = 0
        actions.append(agent.policy(obs, state, "eval")[0])
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0] != actions[2]).any()


def test_exploration_decays_with_frames():
    agent = tiny(expl_amount=0.8, expl_decay=1000.0, expl_min=0.1)
    amounts = [float(agent.expl_amount(np.float32(n))) for n in (0, 1000, 2000, 10**5)]
    np.testing.assert_allclose(amounts, [0.8, 0.4, 0.2, 0.1], rtol=1e-6)
    obs = {k: v[:, 0] for k, v in random_batch(agent).items()}
    spread = []
    for agent.frames in (0, 10**6):
        seen = []
        for agent.decisions in range(30):
            state = agent.initial_state(2)
            seen.append(agent.policy(obs, state, "train")[0])
        spread.append(np.stack(seen))
    assert (spread[0] != spread[1]).any()


def test_epsilon_greedy_is_uniform_with_that_probability():
    action = np.eye(4, dtype=np.float32)[np.full(1000, 2)]
    noise = (np.arange(1000, dtype=np.float32) + 0.5) / 1000
    counts = np.asarray(explore(action, 0.4, noise, True)).sum(0)
    np.testing.assert_allclose(counts, [100, 100, 700, 100], atol=1)


def test_tanh_normal_entropy_and_best():
    """Against numerical integration; and every row gets its own best sample."""
    mean, std = np.array([[0.5, -1.0]], "f4"), np.array([[0.2, 0.4]], "f4")
    dist = TanhNormal(mean, std, 0.1, 0.0)
    a = np.tanh(np.linspace(-9, 9, 20001))[:, None].repeat(2, 1)
    loc, scale = np.asarray(dist.mean), np.asarray(dist.std)
    u = np.arctanh(np.clip(a, -0.9999999, 0.9999999))
    logp = -0.5 * ((u - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    density = np.exp(logp)  # of u; that of a has the slope of tanh beside it
    slope = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
    entropy = -np.trapezoid(density * (logp - slope), u, axis=0).sum()
    np.testing.assert_allclose(dist.entropy(), [entropy], rtol=0.02)
    candidates = np.array([[[0.1], [0.9]], [[0.5], [-0.2]]], "f4")
    dist = TanhNormal(np.array([[0.5], [1.5]], "f4"), np.zeros((2, 1), "f4"), 0.1, -3.0)
    np.testing.assert_allclose(dist.best(candidates), [[0.5], [0.9]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expl": "epsilon_greedy"}, "expl is epsilon_greedy"),
        (
            {"expl": "additive_gaussian", "actions": spaces.Discrete(3)},
            "expl is additive_gaussian",
        ),
        ({"horizon": 1}, "horizon is 1"),
        ({"action_init_std": 0.0}, "action_init_std is 0.0"),
        ({"dense_act": "softish"}, "dense_act is 'softish'"),
    ],
)
def test_errors_name_the_setting(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_replay():
    made = make_replay("v1", updated(v1.Config(), {"batch_length": 8}), 10**6, 0)
    assert isinstance(made, EpisodeChunks)
    assert (made.batch_size, made.length, made.capacity) == (50, 8, None)
    assert made.include_end and not made.balance


# ------------------------------------------------------------------- schedule --


def recorded_events():
    """The official loop's updates and evaluations, as (what, frames, ...).

    There, updates that are due at an evaluation run before its first action; here
    they run before the evaluation.
    """
    events, held = [], []
    for event in json.loads((GOLDEN / "schedule.json").read_text()):
        kind = event["event"]
        if kind == "eval_begin":
            held = [("evaluate", event["env_step"])]
        elif kind == "eval_end":
            events += held
        elif kind == "update":
            events.append(
                ("update", event["step"], event["episodes_on_disk"], event["updates"])
            )
    return events


def test_schedule_is_the_official_one():
    run = RunConfig(envs=1, repeat=2)
    parts = fakes.make_components(run, fakes.Config(), [], limit=1000)
    schedule = ScheduleV1(v1.Config())
    parts.schedule, parts.replay = schedule, Recorder([])
    progress, found, next_eval = Progress(), [], 5000
    for event in experience(parts, progress, run.repeat, run.seed):
        now = ("update", progress.frames, progress.episodes)
        if isinstance(event, Update):
            if found and found[-1][:3] == now:
                found[-1] = (*now, found[-1][3] + 1)
            else:
                found.append((*now, 1))
        elif (
            isinstance(event, Decision)
            and not schedule.random(progress)
            and progress.frames >= next_eval
        ):
            found.append(("evaluate", progress.frames))
            next_eval += 10_000
        if progress.frames >= 34_500:
            break
    recorded = recorded_events()
    # One update more at first, made when the official agent is constructed.
    assert recorded[0] == ("update", 5000, 5, 100)
    assert found == [("update", 5000, 5, 101), *recorded[1:]]
    modes = [mode for kind, mode in parts.agent.tape if kind == "policy"]
    # Five random episodes; what is chosen at the last record of one is not executed.
    counts = [(m, len(list(g))) for m, g in itertools.groupby(modes)]
    assert counts[0] == ("random", 5 * 501) and counts[1][0] == "train"


def test_schedule_continues():
    schedule = ScheduleV1(v1.Config())
    start = Progress(frames=5000, finished_frames=5000, items=1)
    assert schedule.updates(start) == 101
    other = ScheduleV1(v1.Config())
    other.load_state_dict(schedule.state_dict())
    due = [
        other.updates(Progress(frames=n, finished_frames=5000, items=1))
        for n in (5000, 5998, 6000, 6002, 7000)
    ]
    assert due == [0, 0, 100, 0, 100]


# ---------------------------------------------------------- deliberate errors --


def failed(name, part=None):
    """Groups of rows that fail in a file's comparison or a part of it."""
    with np.load(GOLDEN / name, allow_pickle=False) as data:
        config = read_config(data)

        def get(group):
            return below(data, f"{group}/")

        rows = Rows()
        if part:
            getattr(parity, part)(rows, get, Run())
        else:
            rows = parity.agent(data, config, Run())
    assert rows
    return {row.group for row in rows if not row.ok}


def test_nothing_fails_without_an_error():
    assert failed("prims_A.npz", "latents") == set()
    assert failed("prims_A.npz", "networks") == set()
    assert failed("agent_A_pcont.npz") == set()


def test_kl_direction_is_noticed(monkeypatch):
    right = DiagNormal.kl
    monkeypatch.setattr(DiagNormal, "kl", lambda self, other: right(other, self))
    assert "latents" in failed("prims_A.npz", "latents")


def test_gate_order_is_noticed(monkeypatch):
    class Swapped(keras.layers.GRUCell):
        """Takes its weights in the order reset, update, candidate."""

        def call(self, x, states):
            ops = keras.ops
            a = ops.matmul(x, self.kernel) + self.bias[0]
            b = ops.matmul(states[0], self.recurrent_kernel) + self.bias[1]
            (r, z, h), (rr, zz, hh) = ops.split(a, 3, -1), ops.split(b, 3, -1)
            r, z = ops.sigmoid(r + rr), ops.sigmoid(z + zz)
            h = ops.tanh(h + r * hh)
            return (out := z * states[0] + (1 - z) * h), [out]

    monkeypatch.setattr(v1.layers, "GRUCell", Swapped)
    assert "rssm" in failed("prims_A.npz", "networks")


def test_unmasked_action_is_noticed(monkeypatch):
    monkeypatch.setattr(rssm, "observe", keeping_actions(rssm.observe))
    with pytest.raises(AssertionError):
        test_the_policy_forgets_at_is_first()


def test_return_of_the_wrong_step_is_noticed(monkeypatch):
    right = v1.lambda_return

    def wrong(reward, discount, next_value, lam):
        reward = keras.ops.concatenate([reward[1:], reward[-1:]], 0)
        return right(reward, discount, next_value, lam)

    monkeypatch.setattr(v1, "lambda_return", wrong)
    assert {"curves", "imagination"} <= failed("agent_A_pcont.npz")


def test_missing_weights_are_noticed(monkeypatch):
    monkeypatch.setattr(v1.ops, "cumprod", lambda x, axis: keras.ops.ones_like(x))
    assert {"imagination", "gradients"} <= failed("agent_A_pcont.npz")
