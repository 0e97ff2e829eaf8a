"""The adapter of MinAtar: with a stand-in for the package, and with it if installed."""

import sys
import types

import numpy as np
import pytest

from dreamer_tf.envs import check_env, make_env, minatar
from dreamer_tf.envs.limits import time_limit
from dreamer_tf.errors import UserError


class Game:
    """The interface of minatar.Environment; it ends at random, after 5 on average.

    A dot (kind 0) moves by the action, or by the last one if it sticks; kind 1 is
    everywhere in the top row, kind 2 in the corner.
    """

    def __init__(self, name, sticky_action_prob=0.1, difficulty_ramping=True):
        self.made = (name, sticky_action_prob, difficulty_ramping)
        self.sticky = sticky_action_prob
        self.last_action = 0

    def seed(self, seed):
        self.random = np.random.RandomState(seed)

    def num_actions(self):
        return 6

    def minimal_action_set(self):
        return [0, 1, 3]

    def state_shape(self):
        return [10, 10, 3]

    def reset(self):
        self.column = self.random.randint(10)

    def act(self, action):
        if self.random.rand() < self.sticky:
            action = self.last_action
        self.last_action = action
        self.column = (self.column + (action == 3) - (action == 1)) % 10
        return action, self.random.rand() < 0.2

    def state(self):
        state = np.zeros((10, 10, 3), bool)
        state[9, self.column, 0] = state[0, :, 1] = state[0, 0, 2] = True
        return state


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", types.SimpleNamespace(Environment=Game))


def play(env, seed, actions):
    """(board, reward, is_last) of each record."""
    record, seen = env.reset(seed), []
    for action in actions:
        flags = float(record["reward"]), bool(record["is_last"])
        seen.append((record["board"].tolist(), *flags))
        if record["is_last"]:
            break
        record = env.step(np.eye(env.action_space.n)[action])
    return seen


@pytest.mark.parametrize("game", minatar.GAMES)
@pytest.mark.parametrize("obs", ["proprio", "image", "both"])
def test_checks_out(fake, game, obs):
    env = make_env(f"minatar_{game}", obs=obs, size=20)
    assert "all as it should be" in check_env(env, steps=50)
    shapes = {"board": (300,), "image": (20, 20, 3)}
    expected = {"proprio": ["board"], "image": ["image"], "both": ["image", "board"]}
    found = {name: space.shape for name, space in env.obs_space.spaces.items()}
    assert found == {name: shapes[name] for name in expected[obs]}


def test_what_is_observed(fake):
    env = make_env("minatar_breakout", obs="both", size=20)
    record = env.reset(0)
    column = env._game.column
    board = record["board"].reshape(10, 10, 3)
    np.testing.assert_array_equal(board, env._game.state())
    colours = minatar._colours(3)
    assert len({tuple(colour) for colour in colours}) == 4 and not colours[0].any()
    expected = np.zeros((10, 10, 3))
    expected[9, column], expected[0], expected[0, 0] = colours[1:]
    blocks = expected.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(record["image"], blocks)
    np.testing.assert_array_equal(env.render(10), expected)


def test_an_episode_follows_from_its_seed_and_the_actions(fake):
    env = make_env("minatar_breakout")
    actions = np.random.default_rng(0).integers(3, size=100)
    first = play(env, 4, actions)
    for seed in (1, 2, 3):  # whose last actions could stick
        play(env, seed, [2] * 50)
    assert play(env, 4, actions) == first
    assert play(make_env("minatar_breakout", seed=9), 4, actions) == first
    assert first[-1][2]


def test_episodes_terminate(fake):
    env = make_env("minatar_seaquest", length=1000)
    record = env.reset(0)
    while not record["is_last"]:
        record = env.step(np.eye(3)[0])
    assert record["is_terminal"]
    assert time_limit("minatar_seaquest") is None
    assert time_limit("minatar_seaquest", 1000) == 1000


def test_arguments(fake):
    plain = make_env("minatar_freeway")
    assert plain._game.made == ("freeway", 0.1, True)
    assert (plain.action_space.n, plain._actions) == (3, [0, 1, 3])
    chosen = {"sticky": 0, "ramping": False, "actions": "full"}
    env = make_env("minatar_freeway", env_args=chosen)
    assert env._game.made == ("freeway", 0.0, False)
    assert (env.action_space.n, env._actions) == (6, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("brekout", {}, r'"minatar_brekout" is not known.*mean minatar_breakout\?'),
        ("", {}, "is not known: the games of MinAtar are asterix, breakout"),
        ("breakout", {"env_args": {"stick": 0}}, "names 'stick', .* sticky, ramping"),
        ("breakout", {"env_args": {"sticky": 1.5}}, "sticky is 1.5, but must be a pro"),
        ("breakout", {"env_args": {"sticky": True}}, "sticky is True, but must be"),
        ("breakout", {"env_args": {"sticky": "x"}}, "sticky is 'x', but must be"),
        ("breakout", {"env_args": {"ramping": 1}}, "ramping is 1, .* true or false"),
        ("breakout", {"env_args": {"actions": "all"}}, "'all', but must be minimal or"),
        ("breakout", {"obs": "pixels"}, "obs is 'pixels'"),
        ("breakout", {"camera": 1}, "camera"),
    ],
)
def test_errors(fake, task, arguments, message):
    with pytest.raises(UserError, match=message):
        make_env(f"minatar_{task}", **arguments)


def test_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", None)
    sentence = r"need the package MinAtar.*: pip install .*-r requirements-minatar.txt$"
    with pytest.raises(UserError, match=sentence):
        make_env("minatar_breakout")


@pytest.mark.parametrize("game", minatar.GAMES)
def test_the_games_themselves(game):
    pytest.importorskip("minatar")
    env = make_env(f"minatar_{game}", obs="both", size=20)
    assert "all as it should be" in check_env(env, steps=100)
    choices = np.random.default_rng(0).integers(env.action_space.n, size=(4, 3000))
    first = play(env, 5, choices[0])
    for seed in (1, 2, 3):
        play(env, seed, choices[seed, : 50 * seed])
    assert play(env, 5, choices[0]) == first
    assert first[-1][2]


def test_random_return_of_breakout():
    pytest.importorskip("minatar")
    env = make_env("minatar_breakout")
    choices = np.random.default_rng(0).integers(3, size=(300, 1000))
    returns = [sum(s[1] for s in play(env, k, c)) for k, c in enumerate(choices)]
    assert np.mean(returns) == pytest.approx(0.45, abs=0.2)
