"""DreamerV3 beyond parity: sizes, spaces, schedule, whole updates."""

import json
import pathlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf import load_agent, make_agent, v3
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.v3 import sized
from dreamer_tf.errors import UserError
from dreamer_tf.training.schedules import Progress, ScheduleV3

JAX = keras.backend.backend() == "jax"
TRACE = pathlib.Path(__file__).parent / "golden" / "v3" / "replay_trace.json"

WALKER = {"height": (), "orientations": (14,), "velocity": (9,)}
BOX = spaces.Box(-1, 1, (2,), np.float32)
TINY = {
    "precision": "float32",  # on a GPU too
    "dyn.deter": 16,
    "dyn.hidden": 8,
    "dyn.stoch": 4,
    "dyn.classes": 4,
    "enc.units": 8,
    "enc.depth": 2,
    "dec.units": 8,
    "dec.depth": 2,
    "rewhead.units": 8,
    "conhead.units": 8,
    "policy.units": 8,
    "value.units": 8,
    "rewhead.bins": 41,
    "value.bins": 41,
    "imag_length": 3,
    "batch_size": 2,
    "batch_length": 5,
    "opt.warmup": 0,
    "jit": False,
}


def slow_on_jax(test):
    """Marks what a change need not wait for on both backends."""
    return pytest.mark.slow(test) if JAX else test


def space(shapes):
    return spaces.Dict(
        {
            k: spaces.Box(0, 255, s, np.uint8)
            if len(s) == 3
            else spaces.Box(-np.inf, np.inf, s, np.float32)
            for k, s in shapes.items()
        }
    )


def tiny(shapes=None, actions=BOX, seed=0, **changes):
    config = updated(v3.Config(), TINY | changes)
    shapes = shapes or {"x": (3,), "y": ()}
    return make_agent("v3", space(shapes), actions, config, seed)


def random_batch(agent, seed=0):
    c, rng = agent.config, np.random.default_rng(seed)
    lead = (c.batch_size, c.batch_length + c.replay_context)
    batch = {
        k: rng.integers(0, 256, (*lead, *s)).astype(np.uint8)
        if len(s) == 3
        else rng.normal(size=(*lead, *s)).astype(np.float32)
        for k, s in agent.shapes.items()
    }
    if agent.discrete:
        batch["action"] = np.eye(agent.actions, dtype=np.float32)[
            rng.integers(agent.actions, size=lead)
        ]
    else:
        batch["action"] = rng.uniform(-1, 1, (*lead, agent.actions)).astype("f4")
    batch["reward"] = rng.normal(size=lead).astype(np.float32)
    for name in ("is_first", "is_last", "is_terminal"):
        batch[name] = rng.random(lead) < 0.2
    batch["deter"] = rng.normal(size=(*lead, c.dyn.deter)).astype(np.float32)
    hot = rng.integers(c.dyn.classes, size=(*lead, c.dyn.stoch))
    batch["stoch"] = np.eye(c.dyn.classes, dtype=np.float32)[hot]
    return batch


@pytest.mark.parametrize(("actions", "expected"), [(1, 0.0), (2, 1.0), (4, 0.5)])
def test_randomness_of_actions_is_a_number_for_a_single_action_too(actions, expected):
    entropy = np.log(1 if actions == 1 else 2) * np.ones(3, np.float32)
    dist = SimpleNamespace(entropy=lambda: entropy)
    model = SimpleNamespace(prior=dist, belief=SimpleNamespace(dist=dist))
    names = ["advantage", "reward", "goes_on", "ret", "value", "weight", "slow"]
    found = {name: np.ones(3, np.float32) for name in names}
    stats = {"offset": 0.0, "scale": 1.0, "lo": 0.0, "hi": 1.0}
    behaviour = SimpleNamespace(**found, entropy=entropy, stats=stats)
    agent = SimpleNamespace(discrete=True, actions=actions)
    metrics = v3.summary(agent, 0.0, {}, model, None, behaviour)
    assert float(metrics["rand/action"]) == pytest.approx(expected)


# spec/v3.md, section 1: counted by running the official code.
@slow_on_jax
@pytest.mark.parametrize(
    ("size", "shapes", "count"),
    [
        ("1m", WALKER, 640_867),
        ("1m", {"image": (64, 64, 3)}, 686_846),
        ("12m", WALKER, 9_738_019),
        ("12m", {"image": (64, 64, 3)}, 10_494_158),
    ],
)
def test_parameter_counts(size, shapes, count):
    config = sized(v3.Config(), size)
    actions = spaces.Box(-1, 1, (6,), np.float32)
    agent = v3.DreamerV3(space(shapes), actions, config)
    assert sum(agent.param_count().values()) == count


def count_of_images(config, size, channels, actions, discrete):
    """Parameters of an agent that sees images, layer by layer as the paper has them."""
    c = config
    deter, hidden = c.dyn.deter, c.dyn.hidden
    stoch, block = c.dyn.stoch * c.dyn.classes, c.dyn.deter // c.dyn.blocks
    depths = [c.enc.depth * m for m in c.enc.mults]
    cells = (size // 2 ** len(depths)) ** 2  # of the smallest map
    area = cells * depths[-1]

    def dense(inputs, outputs, norm=True):
        return inputs * outputs + outputs + outputs * norm

    def conv(inputs, outputs, norm=True):
        return dense(25 * inputs, outputs, norm)

    def head(layers, units, outputs):
        hidden = dense(deter + stoch, units) + (layers - 1) * dense(units, units)
        return hidden + dense(units, outputs, norm=False)

    dyn = dense(deter, hidden) + dense(stoch, hidden) + dense(actions, hidden)
    # Block-linear: every output has the inputs of its block only.
    dyn += dense(block + 3 * hidden, deter) + dense(block, 3 * deter, norm=False)
    dyn += dense(deter + area, hidden) + dense(hidden, stoch, norm=False)
    dyn += dense(deter, hidden) + dense(hidden, hidden)
    dyn += dense(hidden, stoch, norm=False)
    enc = sum(map(conv, [channels, *depths], depths))
    dec = deter // c.dec.bspace * area + area  # from deter to the first map
    dec += dense(stoch, 2 * c.dec.units) + dense(2 * c.dec.units, area, norm=False)
    dec += depths[-1]  # norm of that map
    dec += sum(map(conv, depths[:0:-1], depths[-2::-1]))
    dec += conv(depths[0], channels, norm=False)
    heads = head(c.rewhead.layers, c.rewhead.units, c.rewhead.bins)
    heads += head(c.conhead.layers, c.conhead.units, 1)
    heads += head(c.value.layers, c.value.units, c.value.bins)
    outputs = actions if discrete else 2 * actions
    heads += head(c.policy.layers, c.policy.units, outputs)
    return dyn + enc + dec + heads


@pytest.mark.parametrize(
    ("size", "count"), [("1m", 686_846), ("12m", 10_494_158), ("200m", 165_948_686)]
)
def test_parameters_counted_layer_by_layer_are_the_official_ones(size, count):
    """Spec: counted by running the official code, walker's 6 actions."""
    assert count_of_images(sized(v3.Config(), size), 64, 3, 6, False) == count


# Atari, Atari100k and Crafter.
@slow_on_jax
@pytest.mark.parametrize(
    ("pixels", "channels", "actions", "millions"),
    [(96, 1, 18, 187), (64, 3, 18, 166), (64, 3, 17, 166)],
)
def test_parameters_at_the_sizes_of_the_discrete_benchmarks(
    pixels, channels, actions, millions
):
    whole = count_of_images(v3.Config(), pixels, channels, actions, True)
    assert round(whole / 1e6) == millions
    shapes = {"image": (pixels, pixels, channels)}
    small = tiny(shapes, spaces.Discrete(actions))
    found = sum(small.param_count().values())
    assert found == count_of_images(small.config, pixels, channels, actions, True)
    assert small.decoder.net.map[:2] == (pixels // 16,) * 2


@pytest.mark.parametrize(
    ("shapes", "actions"),
    [
        ({"x": (3,), "y": (), "m": (2, 2)}, BOX),
        pytest.param(
            {"image": (64, 64, 3), "x": (3,)},
            spaces.Discrete(3),
            marks=[pytest.mark.slow] * JAX,
        ),
        pytest.param(  # Atari
            {"image": (96, 96, 1)}, spaces.Discrete(18), marks=pytest.mark.slow
        ),
    ],
)
def test_policy_update_and_report(shapes, actions):
    # Below its free nats the KL would not train the prior.
    agent = tiny(shapes, actions, **{"dyn.free_nats": 0.0})
    batch = random_batch(agent)
    obs = {k: v[:, 0] for k, v in batch.items()}
    state = agent.initial_state(2)
    before = agent.state_dict()
    for mode in ("train", "eval", "random"):
        action, state = agent.policy(obs, state, mode)
        assert action.shape == (2, agent.actions)
        np.testing.assert_array_equal(state["action"], action)
        if agent.discrete:
            np.testing.assert_array_equal(action.sum(-1), 1)
    metrics, feedback = agent.update(batch)
    assert np.isfinite(list(metrics.values())).all()
    assert feedback["deter"].shape == (2, 5, 16)
    after = agent.state_dict()
    unchanged = [k for k in agent.params if (before[k] == after[k]).all()]
    # Outputs that start at zero stop the gradient to what lies before them.
    assert not [k for k in unchanged if not k.startswith(("rew/", "val/", "pol/"))]
    report = agent.report(batch, context=2)
    for key, shape in agent.shapes.items():
        assert report[key].shape == (2, 5, *shape)


@pytest.fixture(scope="module")
def fresh():
    """An agent and its state; compiling one takes longer than all updates of it."""
    agent = tiny(seed=3)
    return agent, agent.state_dict()


def metrics_from(fresh, batch):
    agent, state = fresh
    agent.load_state_dict(state)
    return agent.update(batch)[0]


@slow_on_jax
def test_same_seed_same_numbers_and_restart(fresh):
    agent, state = fresh
    other, same = tiny(seed=4), tiny(seed=3).state_dict()
    assert all((same[k] == state[k]).all() for k in state)
    batch = random_batch(agent)
    first = metrics_from(fresh, batch)
    assert metrics_from(fresh, batch) == first != other.update(batch)[0]
    other.load_state_dict(agent.state_dict())
    other.seed = 3
    assert other.update(batch)[0] == agent.update(batch)[0] != first


def test_observations_of_other_types(fresh):
    agent, state = fresh
    obs = {k: v[:, 0] for k, v in random_batch(agent).items()}
    wide = {k: v.astype(int if v.dtype == bool else float) for k, v in obs.items()}
    actions = []
    for entries in (obs, wide):
        agent.load_state_dict(state)
        actions.append(agent.policy(entries, agent.initial_state(2), "train")[0])
    np.testing.assert_array_equal(*actions)


def test_images_are_not_cut_to_whole_numbers():
    agent = tiny({"image": (64, 64, 3)})
    obs = {"image": np.full((1, 64, 64, 3), 0.5), "is_first": np.ones(1, bool)}
    with pytest.raises(TypeError, match="uint8"):
        agent.policy(obs, agent.initial_state(1), "eval")


def test_save_and_load(tmp_path):
    agent = tiny({"image": (64, 64, 3), "x": (3,)}, spaces.Discrete(3))
    rng = np.random.default_rng(0)
    state = {
        k: rng.normal(9, 3, v.shape).astype(v.dtype)
        for k, v in agent.state_dict().items()
    }
    agent.load_state_dict(state)
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    assert loaded.config == agent.config
    for key, value in loaded.state_dict().items():
        np.testing.assert_array_equal(value, state[key])
    with pytest.raises(UserError, match="holds no readable agent"):
        load_agent(tmp_path / "missing")


def test_replay_context_is_the_start_state(fresh):
    batch = random_batch(fresh[0])
    batch["is_first"][:] = False
    changed = {k: v.copy() for k, v in batch.items()}
    changed["deter"][:, 0] += 1.0
    metrics = metrics_from(fresh, batch)
    assert metrics["total"] != metrics_from(fresh, changed)["total"]
    # Later rows of the stored latents are not used.
    changed = {k: v.copy() for k, v in batch.items()}
    changed["deter"][:, 1:] += 1.0
    assert metrics == metrics_from(fresh, changed)


def test_previous_episode_is_forgotten_at_is_first(fresh):
    batch = random_batch(fresh[0])
    batch["is_first"][:] = False
    batch["is_first"][:, 1] = True
    changed = {k: v.copy() for k, v in batch.items()}
    changed["deter"][:, 0] += 1.0
    changed["stoch"][:, 0] = 0.0
    changed["action"][:, 1] += 0.5
    assert metrics_from(fresh, batch) == metrics_from(fresh, changed)


@slow_on_jax
def test_imag_last_and_no_context():
    agent = tiny(imag_last=2, replay_context=0, repval_loss=False, contdisc=False)
    batch = random_batch(agent)
    metrics, feedback = agent.update(batch)
    assert feedback == {}
    assert "loss/repval" not in metrics


@pytest.mark.parametrize("ratio", [1024, 512, 256])
def test_train_ratio(ratio):
    trace = json.loads(TRACE.read_text())[f"ratio_{ratio}"]
    config = updated(
        v3.Config(), {"batch_size": 16, "batch_length": 64, "train_ratio": ratio}
    )
    schedule = ScheduleV3(config)
    assert schedule.updates(Progress(records=10, items=1023)) == 0
    due = [
        schedule.updates(Progress(records=1087 + i, items=1024 + i))
        for i in range(len(trace))
    ]
    assert due == trace


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dyn.deter": 18}, "dyn.deter"),
        ({"replay_context": 2}, "replay_context"),
        ({"imag_last": 9}, "imag_last"),
    ],
)
def test_bad_config(changes, field):
    with pytest.raises(UserError, match=field):
        updated(v3.Config(), TINY | changes)


@pytest.mark.parametrize(
    ("obs", "act", "message"),
    [
        (BOX, BOX, "must be a Dict"),
        (spaces.Dict(), BOX, "is empty"),
        (spaces.Dict({"x": spaces.Box(0, 1, (3,), np.float64)}), BOX, "'x'"),
        (space({"x": (3,)}), spaces.MultiBinary(3), "action space"),
        (space({"x": (3,)}), spaces.Box(-1, 1, (2, 2), np.float32), "action space"),
    ],
)
def test_bad_spaces(obs, act, message):
    with pytest.raises(UserError, match=message):
        make_agent("v3", obs, act, updated(v3.Config(), TINY))
