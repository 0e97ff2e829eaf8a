"""DreamerV2 beyond parity: sizes, spaces, options, schedule, deliberate errors."""

import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf import load_agent, make_agent, nets, rssm, v2
from dreamer_tf.configs.fields import updated
from dreamer_tf.errors import UserError
from dreamer_tf.replay import EpisodeSequences, make_replay
from dreamer_tf.training.schedules import Progress, ScheduleV2
from tests.parity import v2 as parity
from tests.parity.common import Rows, Run, below, read_config
from tests.test_v3 import BOX, WALKER, space

GOLDEN = pathlib.Path(__file__).parent / "golden" / "v2"

TINY = {
    "precision": "float32",  # on a GPU too
    "rssm.deter": 16,
    "rssm.hidden": 8,
    "rssm.stoch": 4,
    "rssm.discrete": 4,
    "kl.free": 0.0,  # or the prior would not learn at first
    "imag_horizon": 3,
    "dataset.batch": 2,
    "dataset.length": 5,
    "jit": False,
}
for part in ("encoder", "decoder"):
    TINY |= {f"{part}.mlp_layers": (8,), f"{part}.cnn_depth": 2}
for part in ("reward_head", "discount_head", "actor", "critic"):
    TINY |= {f"{part}.layers": 1, f"{part}.units": 8}
ENDS = {"pred_discount": True, "grad_heads": ("decoder", "reward", "discount")}
NETWORKS = ["rssm", "encoder", "decoder", "reward_head", "discount_head"]
NETWORKS += ["actor", "critic"]


def tiny(shapes=None, actions=BOX, seed=0, **changes):
    changes = {k.replace("__", "."): v for k, v in changes.items()}
    shapes = shapes or {"x": (3,), "y": (2,)}
    config = updated(v2.Config(), TINY | changes)
    return make_agent("v2", space(shapes), actions, config, seed)


def random_batch(agent, size=2, length=5, seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        k: rng.integers(0, 256, (size, length, *s)).astype(np.uint8)
        if len(s) == 3
        else rng.normal(size=(size, length, *s)).astype(np.float32)
        for k, s in agent.shapes.items()
    }
    batch["action"] = rng.uniform(-1, 1, (size, length, agent.actions)).astype("f4")
    if agent.discrete:
        hot = batch["action"].argmax(-1)
        batch["action"] = np.eye(agent.actions, dtype=np.float32)[hot]
    batch["reward"] = rng.normal(size=(size, length)).astype(np.float32)
    for name in ("is_first", "is_last", "is_terminal"):
        batch[name] = rng.random((size, length)) < 0.2
    return batch


# spec/v2.md, section 11: counted by running the official code.
@pytest.mark.parametrize(
    ("shapes", "actions", "changes", "counts"),
    [
        (
            {"image": (64, 64, 3)},
            spaces.Box(-1, 1, (6,), np.float32),
            {},
            (13_656_772, 976_012, 971_601),
        ),
        (
            WALKER,
            spaces.Box(-1, 1, (6,), np.float32),
            {},
            (3_462_872, 976_012, 971_601),
        ),
        (
            {"image": (64, 64, 1)},
            spaces.Discrete(18),
            {"rssm.deter": 600, "rssm.hidden": 600, "pred_discount": True},
            (19_975_379, 1_138_418, 1_131_601),
        ),
    ],
)
def test_parameter_counts(shapes, actions, changes, counts):
    config = updated(v2.Config(), changes)
    found = v2.DreamerV2(space(shapes), actions, config).param_count()
    actor, critic = found.pop("actor"), found.pop("critic")
    assert (sum(found.values()), actor, critic) == counts


def test_layer_norm_in_every_network():
    """As Crafter has it (configs.yaml of danijar/dreamerv2); GRUs always have one."""
    agents = [
        tiny({"image": (64, 64, 3)}, spaces.Discrete(17), pred_discount=True, **changes)
        for changes in ({}, {f"{name}.norm": "layer" for name in NETWORKS})
    ]
    plain, normed = (agent.param_count() for agent in agents)
    # A factor and an offset for every unit: of 8 in the heads, which have one layer;
    # of 2, 4, 8 and 16 channels in the convolutions, the last of the decoder without.
    units = {"reward": 8, "discount": 8, "actor": 8, "critic": 8}
    units |= {"encoder": 2 + 4 + 8 + 16, "decoder": 8 + 4 + 2}
    units |= {"rssm": 3 * 8}  # before, after the GRU (prior), and in the posterior
    assert {k: normed[k] - plain[k] for k in plain} == {
        name: 2 * number for name, number in units.items()
    }


@pytest.mark.parametrize(
    ("shapes", "actions", "changes"),
    [
        ({"x": (3,), "y": (), "m": (2, 2)}, BOX, {"every_rank": True}),
        (
            {"image": (64, 64, 3), "x": (3,)},
            spaces.Discrete(3),
            ENDS,
        ),
        pytest.param(  # Atari
            {"image": (64, 64, 1)}, spaces.Discrete(18), ENDS, marks=pytest.mark.slow
        ),
        pytest.param(  # Crafter
            {"image": (64, 64, 3)},
            spaces.Discrete(17),
            ENDS | {f"{name}.norm": "layer" for name in NETWORKS},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_policy_update_and_report(shapes, actions, changes, tmp_path):
    agent = tiny(shapes, actions, expl_noise=0.3, **changes)
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
    assert list(loaded.shapes) == list(agent.shapes)
    first, _ = agent.policy(obs, agent.initial_state(2), "eval")
    second, _ = loaded.policy(obs, loaded.initial_state(2), "eval")
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "changes",
    [
        {"actor__dist": "tanh_normal", "eval_noise": 0.1, "eval_state_mean": True},
        {"actor_grad": "both", "slow_target": False, "clip_rewards": "tanh"},
        {"precision": "bfloat16", "rssm__norm": "layer", "actor__norm": "layer"},
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


def test_the_seed_decides_everything():
    agent, same, other = (tiny(seed=seed) for seed in (3, 3, 4))
    start = agent.state_dict()
    for key, value in same.state_dict().items():
        np.testing.assert_array_equal(start[key], value)
    kernel = "actor/out/out/kernel"
    assert (start[kernel] != other.state_dict()[kernel]).any()
    batch, results = random_batch(agent), []
    for agent.seed in (3, 3, 4):
        agent.load_state_dict(start)
        results.append(agent.update(batch)[0])
    assert results[0] == results[1] != results[2]


def test_carry_counts_until_is_first():
    """The state before a batch and its first action matter, unless it is reset."""
    agent = tiny()
    batch = random_batch(agent)
    start = agent.state_dict()
    results = []
    for reset in (False, True):
        batch["is_first"][:] = False
        batch["is_first"][:, 0] = reset
        for value in (0.0, 1.0):
            batch["action"][:, 0] = value
            carry = {"deter": np.full((2, 16), value, np.float32)}
            carry["stoch"] = np.full((2, 4, 4), value, np.float32)
            agent.load_state_dict(start)
            results.append(agent.update(batch, carry)[0]["kl_loss"])
    assert results[0] != results[1]
    assert results[2] == results[3]


def test_keys_by_pattern_and_rank():
    shapes = {"ab": (3,), "b": (2,), "a": (), "image": (64, 64, 3)}
    agent = tiny(shapes, encoder__mlp_keys="a", encoder__cnn_keys="$^")
    decoder = agent.decoder.net
    assert list(agent.encoder.vectors) == ["ab"] and not agent.encoder.images
    assert list(decoder.vectors) == ["ab", "b"] and list(decoder.images) == ["image"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder__mlp_keys": "c"}, "No observation of"),
        ({"encoder__mlp_keys": "("}, "no regular expression"),
        ({"grad_heads": ("discount",)}, "grad_heads names 'discount'"),
        ({"actor__dist": "onehot"}, "actor.dist is onehot"),
        ({"rssm__act": "softish"}, "rssm.act is 'softish'"),
        ({"imag_horizon": 1}, "imag_horizon is 1"),
        ({"model_opt__wd": 1.0}, "model_opt.wd is 1.0"),
        ({"shapes": {"image": (32, 32, 3)}}, "too small"),
        ({"shapes": {"image": (48, 48, 3)}}, "make images of 64x64 pixels"),
    ],
)
def test_errors_name_the_setting(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_smaller_images():
    kernels = {"encoder__cnn_kernels": (4, 4, 4), "decoder__cnn_kernels": (5, 6, 6)}
    agent = tiny({"image": (32, 32, 3)}, **kernels)
    batch = random_batch(agent)
    prediction = agent.decoder.net(np.zeros((1, 32), np.float32))
    assert prediction["image"].shape == (1, 32, 32, 3)
    assert agent.tokens(batch).shape == (2, 5, agent.encoder.width)


def test_schedule():
    """Spec/v2.md, section 3: 101 updates, then one each for decisions 1, 6, 11, …"""
    schedule, due = ScheduleV2(v2.Config()), []
    for decision in range(1, 1521):
        progress = Progress(decisions=decision, episodes=decision // 500, items=1)
        assert schedule.random(progress) == (decision < 1000)
        due += [(decision, n) for n in [schedule.updates(progress)] if n]
        if decision % 500 == 0:  # the first record of the next episode
            assert schedule.updates(progress) == 0
    assert due == [(1000, 101), *((n, 1) for n in range(1001, 1521, 5))]
    other = ScheduleV2(v2.Config())
    other.load_state_dict(schedule.state_dict())
    later = Progress(decisions=1521, episodes=3, items=1)
    assert other.updates(later) == schedule.updates(later) == 1


def test_replay():
    changes = {"replay.minlen": 3, "replay.maxlen": 4, "replay.prioritize_ends": True}
    config = updated(v2.Config(), TINY | changes)
    made = make_replay("v2", config, 10**6, 0)
    assert isinstance(made, EpisodeSequences)
    assert (made.batch_size, made.length) == (2, 5)
    assert (made.minlen, made.maxlen, made.capacity) == (3, 4, 2_000_000)
    assert made.prioritize_ends


# ---------------------------------------------------------- deliberate errors --


def keeping_actions(observe):
    """`rssm.observe` that does not reset the action where an episode begins."""

    def wrong(cell, start, tokens, batch, noise=None):
        ahead = cell.ahead

        def forgetful(tokens, action):
            return ahead(tokens, batch["action"])

        with mock.patch.object(cell, "ahead", forgetful):
            return observe(cell, start, tokens, batch, noise)

    return wrong


def failed(name, *parts):
    """Groups of rows that fail in parts of a file's comparison."""
    rows = Rows()
    with np.load(GOLDEN / name, allow_pickle=False) as data:
        config = read_config(data)

        def get(group):
            return below(data, f"{group}/")

        if "still" in parts:
            parity.still(rows, data, *parity.prepare(data, config), Run())
        else:
            for part in parts:
                getattr(parity, part)(rows, get, config, Run())
    assert rows
    return {row.group for row in rows if not row.ok}


def test_nothing_fails_without_an_error():
    assert failed("primitives.npz", "latents", "cells") == set()
    assert failed("agent_quantile.npz", "still") == set()


def test_kl_direction_is_noticed(monkeypatch):
    right = v2.OneHots.kl
    monkeypatch.setattr(v2.OneHots, "kl", lambda self, other: right(other, self))
    assert "latents" in failed("primitives.npz", "latents")


def test_balance_of_the_wrong_side_is_noticed(monkeypatch):
    right = v2.kl_loss

    def wrong(post, prior, config):
        return right(post, prior, updated(config, {"balance": 1 - config.balance}))

    monkeypatch.setattr(v2, "kl_loss", wrong)
    assert "latents" in failed("primitives.npz", "latents")


def test_gate_order_is_noticed(monkeypatch):
    def wrong(self, x, state):
        ops = keras.ops
        parts = self.norm(self.layer(ops.concatenate([x, state], -1)))
        update, cand, reset = ops.split(parts, 3, -1)
        cand, update = ops.tanh(ops.sigmoid(reset) * cand), ops.sigmoid(update - 1)
        return update * cand + (1 - update) * state

    monkeypatch.setattr(nets.NormGRUCell, "call", wrong)
    assert "cells" in failed("primitives.npz", "cells")


def test_unmasked_action_is_noticed(monkeypatch):
    monkeypatch.setattr(rssm, "observe", keeping_actions(rssm.observe))
    assert "cells" in failed("primitives.npz", "cells")


def test_return_of_the_wrong_step_is_noticed(monkeypatch):
    right = v2.lambda_return

    def wrong(reward, discount, next_value, lam):
        reward = keras.ops.concatenate([reward[1:], reward[-1:]], 0)
        return right(reward, discount, next_value, lam)

    monkeypatch.setattr(v2, "lambda_return", wrong)
    assert {"initial", "forward"} <= failed("agent_quantile.npz", "still")


def test_missing_weights_are_noticed(monkeypatch):
    monkeypatch.setattr(v2.ops, "cumprod", lambda x, axis: keras.ops.ones_like(x))
    assert {"initial", "gradients"} <= failed("agent_quantile.npz", "still")
