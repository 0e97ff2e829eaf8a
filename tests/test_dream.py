"""`agent.dream` in all versions: what it returns, what decides it, what it leaves."""

import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf import engine, rssm
from dreamer_tf.agent import DREAM
from tests import test_v1, test_v2, test_v3
from tests.test_rssm import noisy

LENGTH = 4
VECTORS, BOTH = {"x": (3,), "y": (2,)}, {"image": (64, 64, 3), "x": (3,)}
MODULES = {"v1": test_v1, "v2": test_v2, "v3": test_v3}
# The version's head for the end of an episode, which V1 and V2 have only if asked.
HEAD = {"v1": {"pcont": True}, "v2": {"pred_discount": True}, "v3": {}}
CASES = [(v, s, a) for v in MODULES for s, a in (("box", "box"), ("image", "discrete"))]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    """An agent with weights that are not zero, and a state after one observation."""
    version, shapes, actions = request.param
    agent = MODULES[version].tiny(
        BOTH if shapes == "image" else VECTORS,
        spaces.Discrete(3) if actions == "discrete" else test_v3.BOX,
        **HEAD[version],
    )
    noisy(agent)
    return agent, seen_state(agent)


def seen_state(agent):
    batch = MODULES[agent.version].random_batch(agent)
    obs = {k: v[:, 0] for k, v in batch.items()}
    return agent.policy(obs, agent.initial_state(2), "eval")[1]


def equal(one, other):
    for name in ("action", "reward", "continues", "value"):
        np.testing.assert_allclose(one[name], other[name], 1e-5, 1e-6, err_msg=name)
    for name, values in one["obs"].items():
        np.testing.assert_allclose(values, other["obs"][name], 1e-4, 1e-5, err_msg=name)


def test_what_is_dreamed(case):
    agent, state = case
    dream = agent.dream(state, LENGTH)
    assert dream.keys() == {"obs", "action", "reward", "continues", "value"}
    for name in ("reward", "continues", "value"):
        assert dream[name].shape == (2, LENGTH) and dream[name].dtype == np.float32
    assert dream["obs"].keys() == agent.shapes.keys()
    for name, shape in agent.shapes.items():
        assert dream["obs"][name].shape == (2, LENGTH, *shape)
        assert np.isfinite(dream["obs"][name]).all()
    if "image" in agent.shapes:
        image = dream["obs"]["image"]
        # V3's is squashed to [0, 1]; V1's and V2's are around 0.5 at the start.
        slack = 0 if agent.version == "v3" else 1
        assert image.min() >= -slack and image.max() <= 1 + slack
    assert dream["action"].shape == (2, LENGTH, agent.actions)
    np.testing.assert_array_equal(dream["action"][:, 0], state["action"])
    if agent.discrete:
        np.testing.assert_allclose(np.sort(dream["action"])[..., -1], 1, rtol=1e-6)
        np.testing.assert_allclose(dream["action"].sum(-1), 1, rtol=1e-6)
    assert (dream["continues"] >= 0).all() and (dream["continues"] <= 1.001).all()
    assert dream["continues"].std() > 0


def test_the_seed_decides_a_dream(case):
    agent, state = case
    first, same, other = (agent.dream(state, LENGTH, seed) for seed in (0, 0, 1))
    equal(first, same)
    assert (first["reward"] != other["reward"]).any()
    assert (first["action"][:, 1:] != other["action"][:, 1:]).any()


def test_given_actions_are_carried_out(case):
    agent, state = case
    free = agent.dream(state, LENGTH, 5)
    # The same chance and the same actions: the same dream.
    equal(free, agent.dream(state, LENGTH, 5, free["action"]))
    actions = np.roll(free["action"], 1, -1)
    actions[:, 0] = free["action"][:, 0]
    changed = agent.dream(state, LENGTH, 5, actions)
    np.testing.assert_array_equal(changed["action"], actions)
    np.testing.assert_allclose(changed["value"][:, 0], free["value"][:, 0], 1e-5, 1e-6)
    assert (changed["value"][:, 1:] != free["value"][:, 1:]).any()
    with pytest.raises(ValueError, match=r"actions have the shape \(2, 3, .*must have"):
        agent.dream(state, LENGTH, actions=actions[:, :-1])


def test_a_dream_changes_nothing(case):
    agent, state = case
    before, start = agent.state_dict(), {k: v.copy() for k, v in state.items()}
    dream = agent.dream(state, LENGTH)
    agent.dream(state, LENGTH, 3, dream["action"])
    after = agent.state_dict()
    assert before.keys() == after.keys() and {"updates", "decisions"} <= after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    for name, value in start.items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_one_step_of_the_prior(case):
    agent, state = case
    noise = agent._draw_dream(1, engine.seed(agent.seed, DREAM, 7), state, {})
    start = rssm.State(state["deter"], state["stoch"])
    new = rssm.advance(agent.cell, start, state["action"], noise["latent"][0])
    new = rssm.State(rssm.whole(new.deter), new.stoch)
    feat = agent.cell.feat(new)
    expected = {
        "obs": agent.decode(new._asdict()),
        "reward": agent.reward(feat).mean,
        "continues": agent.continuation(feat),
        "value": agent.critic(feat).mean,
    }
    expected = engine.to_host(expected) | {"action": state["action"]}
    dream = agent.dream(state, 1, 7)
    dream["obs"] = {k: v[:, 0] for k, v in dream["obs"].items()}
    equal({k: v if k == "obs" else v[:, 0] for k, v in dream.items()}, expected)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_without_the_head_every_episode_goes_on(version):
    agent = MODULES[version].tiny(VECTORS)
    dream = agent.dream(seen_state(agent), LENGTH)
    np.testing.assert_array_equal(dream["continues"], np.ones((2, LENGTH)))
