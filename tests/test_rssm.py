"""Every scan over an RSSM equals its steps, one after the other, in all versions."""

import keras
import numpy as np
import pytest
from keras import ops

from dreamer_tf import engine, rssm
from dreamer_tf.engine import devices
from dreamer_tf.rssm import State
from tests import test_v1, test_v2, test_v3

MODULES = {"v1": test_v1, "v2": test_v2, "v3": test_v3}
LENGTH, SIZE = 4, 2


def noisy(agent):
    """Adds noise to the weights: at the start some of them make all outputs zero."""
    rng = np.random.default_rng(1)
    for path, variable in agent.variables.items():
        if "float" in variable.dtype and "opt/" not in path:
            value = np.asarray(variable)
            variable.assign(value + rng.normal(0, 0.1, value.shape).astype("f4"))
    return agent


@pytest.fixture(scope="module", params=MODULES)
def agent(request):
    return noisy(MODULES[request.param].tiny())


@pytest.fixture
def start(agent):
    """A state that is not zero."""
    rng = np.random.default_rng(0)
    zeros = engine.to_host(agent.cell.initial(SIZE))
    return State(*(rng.normal(size=x.shape).astype("f4") for x in zeros))


@pytest.fixture
def batch(agent):
    made = test_v2.random_batch(agent, SIZE, LENGTH)
    made["is_first"][:] = False
    return {k: ops.convert_to_tensor(v) for k, v in made.items()}


def noise(agent, actions=LENGTH):
    """Time first, as for imagination."""
    seeds = [engine.seed(i) for i in range(2)]
    return {
        "latent": agent.cell.noise(seeds[0], (LENGTH, SIZE)),
        "action": agent.action_kind.noise(seeds[1], (actions, SIZE), agent.actions),
    }


def plain(state):
    return State(rssm.whole(state.deter), state.stoch)


def close(found, expected):
    """Compares two sequences of tensors."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, 1e-4, 1e-5)


def stacked(states, axis):
    return State(*(np.stack([np.asarray(x) for x in each], axis) for each in states))


def test_observe(agent, start, batch):
    chance = rssm.swap(noise(agent)["latent"])
    tokens = agent.tokens(batch)
    belief, last = rssm.observe(agent.cell, start, tokens, batch, chance)
    state, deters, stochs = start, [], []
    for t in range(LENGTH):
        action = batch["action"][:, t]
        deter = rssm.whole(agent.cell.core(state.deter, state.stoch, action))
        post = agent.cell.posterior(deter, tokens[:, t])
        close(belief.dist[:, t].raw, post.raw)
        state = State(deter, post.sample(chance[:, t]))
        deters.append(deter)
        stochs.append(state.stoch)
    close(belief.state, stacked((deters, stochs), 1))
    close(last, state)


def test_observe_begins_anew_at_is_first(agent, start, batch):
    first = np.zeros((SIZE, LENGTH), bool)
    first[:, 2] = True
    batch["is_first"] = ops.convert_to_tensor(first)
    tokens, chance = agent.tokens(batch), rssm.swap(noise(agent)["latent"])
    belief, _ = rssm.observe(agent.cell, start, tokens, batch, chance)
    later = {k: v[:, 2:] for k, v in batch.items()}
    zero = np.asarray(later["action"]).copy()
    zero[:, 0] = 0
    later["action"] = ops.convert_to_tensor(zero)
    later["is_first"] = ops.zeros_like(later["is_first"])
    zeros = agent.cell.initial(SIZE)
    alone, _ = rssm.observe(agent.cell, zeros, tokens[:, 2:], later, chance[:, 2:])
    close((belief.deter[:, 2:], belief.stoch[:, 2:]), alone.state)


def test_predict(agent, start, batch):
    chance = rssm.swap(noise(agent)["latent"])
    found = rssm.predict(agent.cell, start, batch["action"], chance)
    state, states = start, []
    for t in range(LENGTH):
        state = rssm.advance(agent.cell, state, batch["action"][:, t], chance[:, t])
        states.append(plain(state))
    close(found, stacked(zip(*states), 1))


def test_roll_out(agent, start, batch):
    chance, action = noise(agent), batch["action"][:, 0]
    found, actions = rssm.roll_out(agent.cell, agent.actor, start, action, chance)
    state, states, taken = start, [], []
    for t in range(LENGTH):
        taken.append(np.asarray(action))
        state = rssm.advance(agent.cell, state, action, chance["latent"][t])
        states.append(plain(state))
        action = agent.actor(agent.cell.feat(states[-1])).sample(chance["action"][t])
    close(found, stacked(zip(*states), 1))
    close([actions], [np.stack(taken, 1)])


def by_hand(agent, start, chance, actions):
    """Features of start and steps, and the actions chosen in the first of them."""
    feats, taken, policies, state = [], [], [], start
    for t in range(LENGTH + 1):
        feats.append(agent.cell.feat(plain(state)))
        if t < actions:
            policies.append(agent.actor(feats[-1]))
            taken.append(policies[-1].sample(chance["action"][t]))
        if t < LENGTH:
            state = rssm.advance(agent.cell, state, taken[-1], chance["latent"][t])
    raw = zip(*(policy.raw for policy in policies))
    return ops.stack(feats), ops.stack(taken), [ops.stack(each) for each in raw]


@pytest.fixture
def unblocked(agent):
    if agent.cell.blocks > 1:
        pytest.skip("`imagine` takes cells without blocks only")


@pytest.mark.usefixtures("unblocked")
def test_imagine(agent, start):
    chance = noise(agent)
    dream = rssm.imagine(agent.cell, agent.actor, start, LENGTH, chance)
    feat, action, raw = by_hand(agent, start, chance, LENGTH)
    close((dream.feat, dream.action), (feat, action))
    close(dream.policy.raw, raw)


def test_imagine_and_act(agent, start):
    chance = noise(agent, LENGTH + 1)
    dream = rssm.imagine_and_act(agent.cell, agent.actor, start, LENGTH, chance)
    feat, action, _ = by_hand(agent, start, chance, LENGTH + 1)
    close((dream.feat, dream.action), (feat, action))
    if agent.version == "v3":  # with the first layers of all heads computed beforehand
        heads = agent.heads
        joined = rssm.imagine_and_act(
            agent.cell, heads.actor, start, LENGTH, chance, heads.joined()
        )
        close((joined.feat.x, joined.action), (feat, action))


@pytest.mark.usefixtures("unblocked")
@pytest.mark.parametrize("grad", [True, False])
def test_gradients_of_imagination(agent, start, grad):
    """They reach the actor through dynamics, unless actions are to stop them."""
    weight = agent.actor.net.trainable_variables[0]

    def loss():
        dream = rssm.imagine(
            agent.cell, agent.actor, start, LENGTH, noise(agent), action_grad=grad
        )
        return ops.sum(dream.feat[-1]), ()

    _, (found,) = engine.value_and_grad(loss, [weight])
    assert bool(ops.any(ops.not_equal(found, 0))) == grad


# ---------------------------------------------------------------- gradients --


def in_turn(f, init, xs, length):
    """A scan whose steps are written out."""
    carry, ys = init, []
    for t in range(length):
        carry, y = f(carry, {k: x[t] for k, x in xs.items()})
        ys.append(y)
    return carry, keras.tree.map_structure(lambda *y: ops.stack(y), *ys)


@pytest.mark.parametrize("given", [True, False], ids=["inputs", "no inputs"])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_gradients_of_a_scan(platform, given, monkeypatch):
    """Of weights (cast, used twice or not at all), of the start and of the inputs."""
    monkeypatch.setattr(devices, "platform", lambda: platform)  # JAX scans otherwise
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 3), "b": (3,), "c": (3, 3), "unused": (2,)}
    made = {k: rng.normal(size=v).astype("f4") for k, v in shapes.items()}
    made |= {"start": rng.normal(size=(2, 3)), "xs": rng.normal(size=(LENGTH, 2, 3))}
    v = {k: keras.Variable(x.astype("f4")) for k, x in made.items()}

    def step(carry, x):
        state, count = carry
        rounded = ops.cast(ops.cast(v["c"], "bfloat16"), "float32")
        half = ops.matmul(state, rounded)
        new = ops.tanh(ops.matmul(state, v["a"]) + v["b"] * half + x.get("x", 0.0))
        return (new, count + ops.sum(v["b"] * state)), (new, half)

    def gradients(scan):
        def loss():
            xs = {"x": v["xs"].value} if given else {}
            start = v["start"].value, ops.zeros(())
            (last, count), ys = scan(step, start, xs, LENGTH)
            total = (
                ops.sum(last**2) + 0.1 * count + ops.sum(ys[0] ** 3) - ops.mean(ys[1])
            )
            return total, ()

        call = engine.compile(
            lambda _: engine.value_and_grad(loss, list(v.values())),
            lambda _: None,
            list(v.values()),
            jit=False,
        )
        return engine.to_host(call(engine.seed(0)))

    (one, _), found = gradients(engine.scan)
    (other, _), expected = gradients(in_turn)
    np.testing.assert_allclose(one, other, 1e-5)
    for name, grad, right in zip(v, found, expected, strict=True):
        # The gradient of a cast weight is rounded once, or at every step.
        loose = 1e-2 if name == "c" else 1e-5
        np.testing.assert_allclose(grad, right, loose, loose, err_msg=name)
