"""Crafter: with a scripted stand-in for the package, and with the package itself."""

import functools
import json
import sys
import types
import zlib

import numpy as np
import pytest

from dreamer_tf.envs import check_env, episode_seed, make_env, make_envs
from dreamer_tf.envs.crafter import LIMIT, TASKS, Crafter
from dreamer_tf.envs.limits import time_limit
from dreamer_tf.errors import UserError

NOOP, SWORD, LAVA = range(3)  # of the stand-in


class World:
    """As much of a world as is changed or kept by our environment."""

    def __init__(self):
        self.reset()

    def reset(self, seed=None):
        self.random = np.random.RandomState(seed)
        self._chunks = {"as shipped": set()}


class Package:
    """The stand-in's Env: every step makes noise, lava kills, a sword is reached."""

    def __init__(self, size, reward, length, seed):
        self.size, self.reward, self.length = size, reward, length
        self._seed, self._episode = seed, 0
        self.action_names = ["noop", "make_wood_sword", "move_right"]
        self._world = World()

    def reset(self):
        self._episode += 1
        self.steps, self.swords = 0, 0
        self._world.reset(hash((self._seed, self._episode)) % (2**31 - 1))
        return self.render()

    def step(self, action):
        self.steps += 1
        self.swords += action == SWORD
        dead = action == LAVA
        reward = 1.0 * (action == SWORD and self.swords == 1) - 0.9 * dead
        info = {
            "achievements": {"make_wood_sword": self.swords, "wake_up": 0},
            "discount": 1 - float(dead),
            "reward": reward,
        }
        over = dead or self.steps >= self.length
        return self.render(), reward if self.reward else 0.0, over, info

    def render(self, size=None):
        noise = self._world.random.randint(0, 256, (*(size or self.size), 3))
        return noise.astype(np.uint8).transpose((1, 0, 2))


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "crafter", types.SimpleNamespace(Env=Package))


def play(env, *choices):
    size = env.action_space.n
    return [env.step(np.eye(size)[choice]) for choice in choices]


# --- With the stand-in --------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_checks_out(package, task):
    with make_env(task, obs="image", size=20, length=7) as env:
        assert "all as it should be" in check_env(env, steps=30)
        assert env.obs_space["image"].shape == (20, 20, 3)
        assert env.action_space.n == 3 and list(env.obs_space.spaces) == ["image"]


def test_only_death_is_terminal(package):
    env = make_env("crafter_reward", obs="image", length=3)
    flags = "is_first", "is_last", "is_terminal"
    env.reset(1)
    *_, last = play(env, NOOP, NOOP, LAVA)
    assert [bool(last[name]) for name in flags] == [False, True, True]
    env.reset(1)
    records = play(env, NOOP, NOOP, NOOP)
    found = [[bool(record[name]) for name in flags] for record in records]
    assert found == [[False] * 3, [False] * 3, [False, True, False]]


@pytest.mark.parametrize("length", [0, LIMIT + 5])
def test_the_limit_of_the_task(package, length):
    env = Crafter("crafter_reward", size=18, length=length)
    env.reset(1)
    env._env.steps = LIMIT - 2
    first, last = play(env, NOOP, NOOP)
    assert not first["is_last"] and last["is_last"] and not last["is_terminal"]
    assert time_limit("crafter_reward", length) == LIMIT
    assert time_limit("crafter_noreward", 300) == 300


@pytest.mark.parametrize(("task", "paid"), [*zip(TASKS, (0.1, 0.0))])
def test_stats_are_the_official_recorders(package, task, paid):
    env = make_env(task, obs="image")
    for _ in range(2):  # of one episode each
        records = [env.reset(), *play(env, NOOP, SWORD, SWORD, LAVA)]
        assert [record.stats for record in records[:-1]] == [{}] * 4
        assert records[-1].stats == {
            "length": 4,
            "reward": 0.1,  # also where the task gives none
            "achievement_make_wood_sword": 2,
            "achievement_wake_up": 0,
        }
        total = sum(float(record["reward"]) for record in records)
        assert total == pytest.approx(paid, abs=1e-6)


def test_stats_of_an_episode_that_is_cut_or_repeats_actions(package):
    env = make_env("crafter_reward", obs="image", length=5, repeat=2)
    env.reset()
    records = play(env, SWORD, NOOP, NOOP)
    assert records[-1].stats["length"] == 5 and records[-1].frames == 1
    assert records[-1].stats["achievement_make_wood_sword"] == 2


def test_a_seed_begins_the_count_of_episodes_anew(package):
    def worlds(env, *seeds):
        return [zlib.crc32(env.reset(seed)["image"].tobytes()) for seed in seeds]

    env = Crafter("crafter_reward", seed=5)
    first = worlds(env, None, None, None)
    assert len(set(first)) == 3
    assert worlds(env, 5, None, None) == first
    assert worlds(Crafter("crafter_reward", seed=6), 5, None) == first[:2]
    assert worlds(env, 6, 5) == [*worlds(env, 6), first[0]]
    assert worlds(env, 2**32 - 1)[0] not in first


def test_a_film_changes_nothing(package):
    env = Crafter("crafter_reward", size=18)
    shown = []
    for film in (False, True):
        records = [env.reset(3)]
        for _ in range(3):
            if film:
                seen = env.render()
                assert (seen == records[-1]["image"]).all()  # what the agent sees
                assert not np.shares_memory(seen, records[-1]["image"])
                assert env.render(64).shape == (64, 64, 3)
                assert (env.render(64) == env.render(64)).all()
            records += play(env, NOOP)
        shown.append([record["image"] for record in records])
    np.testing.assert_array_equal(*shown)


def test_chunks_keep_the_order_of_what_was_added(package):
    env = Crafter("crafter_reward")
    for seed in (1, 2):
        env.reset(seed)
        chunk = env._env._world._chunks["a chunk"]  # "as shipped" is gone
        for thing in "zombie", "cow", "skeleton", "cow":
            chunk.add(thing)
        chunk.remove("zombie")
        chunk.add("zombie")
        assert list(chunk) == ["cow", "skeleton", "zombie"]
        assert list(env._env._world._chunks) == ["a chunk"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "obs is proprio, but crafter_reward observes images only: use --obs=im"),
        ({"obs": "pixels"}, "obs is 'pixels'"),
        ({"obs": "image", "size": 17}, "size is 17, but Crafter draws pictures of at"),
        ({"obs": "image", "camera": 1}, "camera and fast_render are for dm_control"),
        ({"obs": "image", "fast_render": True}, "but the task is crafter_reward"),
        ({"obs": "image", "env_args": {"area": 1}}, "env_args are for tasks gym_<id>"),
        ({"obs": "image", "obs_keys": "map"}, "--obs_keys=map fits none of the"),
    ],
)
def test_errors(package, arguments, message):
    with pytest.raises(UserError, match=message):
        make_env("crafter_reward", **arguments)


def test_a_near_name(package):
    with pytest.raises(UserError, match="did you mean crafter_reward"):
        make_env("crafter_rewards", obs="image")


@pytest.mark.parametrize("missing", ["crafter", "opensimplex"])
def test_a_missing_package_says_what_installs_it(monkeypatch, missing, tmp_path):
    if missing == "crafter":
        monkeypatch.setitem(sys.modules, "crafter", None)
    else:
        (tmp_path / "crafter.py").write_text("import opensimplex\n")
        monkeypatch.delitem(sys.modules, "crafter", raising=False)
        monkeypatch.setitem(sys.modules, "opensimplex", None)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as info:
        make_env("crafter_noreward", obs="image")
    text = str(info.value)
    assert missing in text and text.endswith("pip install -r requirements-crafter.txt")
    assert len(text.splitlines()) == 1


# --- With the package ----------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Worlds of 24 x 24 cells, which take a moment."""
    crafter = pytest.importorskip("crafter")
    make = functools.partial(crafter.Env, area=(24, 24))
    monkeypatch.setattr(crafter, "Env", make)
    return crafter


def digests(env, actions, film=False):
    found = []
    for action in actions:
        record = env.step(np.eye(17)[action])
        if film:
            env.render(90)
        found.append((zlib.crc32(record["image"].tobytes()), float(record["reward"])))
        if record["is_last"]:
            break
    return found


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_an_episode_follows_from_seed_and_actions(small, seed):
    """Also after another episode, and with a film of a night."""
    actions = np.random.default_rng(seed).integers(0, 17, 250)
    env = Crafter("crafter_reward")
    env.reset(seed)
    first = digests(env, actions)
    assert len(first) > 30
    env.reset(seed + 1 if seed < 100 else 1)
    digests(env, actions[:20])
    env.reset(seed)
    assert digests(env, actions, film=True) == first
    other = Crafter("crafter_reward", seed=3)
    other.reset(seed)
    assert digests(other, actions) == first


def test_the_stats_of_the_packages_recorder(small, tmp_path):
    """It wraps an environment of its own, whose chunks are in our order."""
    actions = np.random.default_rng(1).integers(0, 17, 10_000)
    env = Crafter("crafter_noreward", seed=4)
    theirs = small.Recorder(env._env, tmp_path, save_video=False, save_episode=False)
    theirs.reset()
    length = next(n for n, a in enumerate(actions, 1) if theirs.step(a)[2])
    env.reset(4)
    *_, last = (env.step(np.eye(17)[action]) for action in actions[:length])
    assert last["is_terminal"] and not last["reward"]
    (line,) = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert last.stats == json.loads(line)
    assert sum(name.startswith("achievement_") for name in last.stats) == 22


def test_several_environments(small):
    """As training makes them: seeds of their own, and the state of a run."""
    arguments = {"obs": "image", "length": 40, "seed": 2}
    actions = np.eye(17)[np.random.default_rng(0).integers(0, 17, (30, 2))]
    with make_envs("crafter_reward", 2, **arguments) as envs:
        first = envs.reset()["image"]
        records = [envs.step(action) for action in actions]
        state = envs.state_dict() if not records[-1]["is_last"].any() else None
    env = make_env("crafter_reward", **arguments)
    for index in (0, 1):
        seed = episode_seed((2, 0), index, 0)
        np.testing.assert_array_equal(first[index], env.reset(seed)["image"])
    assert state is not None
    said = []
    with make_envs("crafter_reward", 2, **arguments) as again:
        again.say = said.append
        again.load_state_dict(state)
        assert not said  # it repeats itself
        record = again.step(actions[0])
    assert record["image"].shape == (2, 64, 64, 3)
