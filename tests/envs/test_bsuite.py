"""BSuite: a stand-in for the package first, then the package itself if it is there."""

import importlib
import subprocess
import sys
import types

import numpy as np
import pytest

from dreamer_tf.configs import bsuite as sweep
from dreamer_tf.envs import bsuite, check_env, make_env
from dreamer_tf.errors import UserError

PLOTTING = ("plotnine", "statsmodels", "skimage", "matplotlib", "pandas")


class Step:
    """dm_env's TimeStep, as far as it is used."""

    def __init__(self, observation, reward=None, discount=1.0, last=False):
        self.observation, self.reward, self.discount = observation, reward, discount
        self.last = lambda: last


class Guess:
    """Two steps; the first shows a random number, and the arms pay by a mapping."""

    actions = 3

    def __init__(self, mapping_seed=0):
        self._rng = np.random.RandomState(mapping_seed)
        self.pays = self._rng.permutation(self.actions) / 2
        self._rng = np.random.RandomState()
        self._total_regret, self._time = 0.1, 0

    def observation_spec(self):
        return types.SimpleNamespace(shape=(2, 3))

    def action_spec(self):
        return types.SimpleNamespace(num_values=self.actions)

    def _look(self):
        return np.full((2, 3), self._rng.rand(), np.float32)

    def reset(self):
        self._time = 0
        return Step(self._look())

    def step(self, action):
        self._time += 1
        if self._time == 1:
            return Step(self._look())  # no reward
        self._total_regret += 1 - self.pays[action]
        return Step(self._look(), self.pays[action], 0.0, last=True)

    def bsuite_info(self):
        return {"total_regret": self._total_regret}


class Sea(Guess):
    def bsuite_info(self):
        return {"total_bad_episodes": int(10 * self._total_regret)}


class Silent(Guess):
    def __init__(self, mapping_seed=0):
        super().__init__(mapping_seed)
        self._total_regret = 0.0

    def bsuite_info(self):
        return {}


SETTINGS = {
    "bandit": (Guess, [{"mapping_seed": n} for n in range(20)]),
    "bandit_noise": (
        Guess,
        [{"mapping_seed": n % 4, "noise_scale": 3.0, "seed": None} for n in range(20)],
    ),
    "bandit_scale": (
        Guess,
        [{"mapping_seed": n % 4, "reward_scale": 30, "seed": None} for n in range(20)],
    ),
    "deep_sea": (Sea, [{"mapping_seed": 42} for _ in range(21)]),
    "discounting_chain": (Silent, [{"mapping_seed": n} for n in range(20)]),
}


@pytest.fixture
def fake(monkeypatch):
    """Modules of experiments without the package."""

    def module(experiment, name):
        made, settings = SETTINGS[experiment]
        if name == "sweep":
            return types.SimpleNamespace(SETTINGS=tuple(settings))
        assert name == experiment, "noise and scale are applied by us"
        return types.SimpleNamespace(load=made)

    monkeypatch.setattr(bsuite, "_module", module)


def play(env, seed, actions=(0, 1)):
    records = [env.reset(seed)]
    records += [env.step(np.eye(3, dtype=np.float32)[action]) for action in actions]
    return records


def test_records(fake):
    env = make_env("bsuite_bandit/3")
    first, middle, end = play(env, 5)
    assert env.obs_space["observation"].shape == (6,) and env.action_space.n == 3
    assert first["observation"].shape == (6,) and first["reward"] == 0
    assert middle["reward"] == 0 and not middle["is_last"]  # None becomes 0
    assert end["is_last"] and end["is_terminal"]
    assert end["reward"] == np.float32(Guess(3).pays[1])
    assert "all as it should be" in check_env(env, 40)


def test_a_cut_is_no_end(fake):
    env = make_env("bsuite_bandit_0", length=1)
    last = play(env, 0, [2])[-1]
    assert last["is_last"] and not last["is_terminal"]


def test_seeds(fake):
    """A seed decides the episode, the configuration alone decides the mapping."""
    one, other = (
        make_env("bsuite_bandit_3", seed=1),
        make_env("bsuite_bandit_3", seed=2),
    )
    same = [[r["observation"][0] for r in play(env, 7)] for env in (one, other)]
    assert same[0] == same[1] and len({*same[0]}) == 3
    assert play(other, 8)[0]["observation"][0] != same[0][0]
    assert list(one._env.pays) == list(other._env.pays) == list(Guess(3).pays)
    # Without seeds of their own, episodes follow from the environment's.
    again = make_env("bsuite_bandit_3", seed=1)
    starts = [
        [env.reset()["observation"][0] for _ in range(3)]
        for env in (make_env("bsuite_bandit_3", seed=1), again)
    ]
    assert starts[0] == starts[1] and len({*starts[0]}) == 3


def test_noise_and_scale(fake):
    plain = play(make_env("bsuite_bandit_1"), 4)
    noisy = [play(make_env("bsuite_bandit_noise_1", seed=s), 4) for s in (0, 1)]
    added = [[float(r["reward"]) for r in records] for records in noisy]
    assert added[0] == added[1] and added[0][0] == 0
    assert added[0][1] != 0  # steps without a reward get noise too
    drawn = [
        (noise - float(p["reward"])) / 3
        for seed in range(200)
        for noise, p in zip(
            [float(r["reward"]) for r in play(noisy_env(), seed)[1:]], plain[1:]
        )
    ]
    assert abs(np.mean(drawn)) < 0.15 and abs(np.std(drawn) - 1) < 0.15
    scaled = play(make_env("bsuite_bandit_scale_1"), 4)
    assert [r["reward"] for r in scaled] == [30 * r["reward"] for r in plain]


def noisy_env(made=[]):  # noqa: B006 (made once)
    if not made:
        made.append(make_env("bsuite_bandit_noise_1"))
    return made[0]


@pytest.mark.parametrize("task", ["bandit_2", "bandit_noise_2", "bandit_scale_2"])
def test_regret_is_that_of_the_episode(fake, task):
    env = make_env(f"bsuite_{task}")
    pays = Guess(2).pays
    for action in (0, 1, 2, 2):
        play(env, 0, [0, action])
        expected = {"length": 2, "reward": pays[action], "regret": 1 - pays[action]}
        assert env._stats() == expected


def test_regret_does_not_depend_on_earlier_episodes(fake):
    """Sums of tenths are not exact; a run that continues begins them anew."""
    env = make_env("bsuite_bandit_0")
    env._env._total_regret = 12345.7
    play(env, 0, [0, 1])
    other = make_env("bsuite_bandit_0")
    play(other, 0, [0, 1])
    assert env._stats() == other._stats()


def test_regret_where_the_environment_counts_something_else(fake):
    sea = make_env("bsuite_deep_sea_0")
    play(sea, 0, [0, int(np.argmin(Guess(42).pays))])
    assert sea._stats()["regret"] == 10
    chain = make_env("bsuite_discounting_chain_0")
    play(chain, 0, [0, int(np.argmax(Guess(0).pays))])
    assert chain._stats() == {"length": 2, "reward": 1, "regret": 0.1}


def test_render_shows_the_observation(fake):
    env = make_env("bsuite_bandit_0", size=6)
    env.reset(0)
    env._observation = np.array([[1, 0, -1], [0.5, 0, 0]], np.float32)
    picture = env.render()
    assert picture.shape == (6, 6, 3) and picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [255] * 3 and picture[0, 2].tolist() == [0] * 3
    assert picture[2, 5].tolist() == [255, 0, 0]  # -1
    assert picture[3, 1].tolist() == [128] * 3
    assert env.render(13).shape == (13, 13, 3)


def test_own_interface(fake):
    env = make_env("bsuite_bandit_0")
    (entry,) = env.own().entries
    assert (entry.source, entry.keys, entry.shape) == (
        "time_step.observation",
        (),
        (2, 3),
    )
    assert env.own().action.dtype == "int64" and env.own().action.scale is None


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("bsuite_bandit_0", {"obs": "image"}, "obs is image.*--obs=proprio"),
        ("bsuite_bandit_0", {"obs": "both"}, "obs is both.*--obs=proprio"),
        ("bsuite_bandit_0", {"obs_keys": "image"}, "fits none.*observation"),
        ("bsuite_bandit_0", {"camera": 0}, "camera"),
        ("bsuite_bandit_0", {"env_args": {"size": 3}}, "env_args"),
        ("bsuite_bandit_20", {}, "bsuite_bandit_0 to bsuite_bandit_19"),
        ("bsuite_bandit", {}, "bsuite_bandit_0 to bsuite_bandit_19"),
        ("bsuite_bandit_noise", {}, "bsuite_bandit_noise_0 to"),
        ("bsuite_bandit_00", {}, "bsuite_bandit_0 to"),
        ("bsuite_bandit_-1", {}, "bsuite_bandit_0 to"),
        ("bsuite_deep_see/4", {}, "bsuite_deep_sea_0 to bsuite_deep_sea_20"),
        ("bsuite_walker", {}, "experiments are bandit, .*umbrella_length"),
        ("bandit_0", {}, "bsuite_<experiment>_<number>"),
    ],
)
def test_errors(fake, task, arguments, message):
    with pytest.raises(UserError, match=message):
        make_env(task, **arguments)


@pytest.mark.parametrize("task", ["bsuite_mnist_0", "bsuite_mnist_noise/3"])
def test_mnist_has_to_be_there(fake, monkeypatch, tmp_path, task):
    monkeypatch.setattr(bsuite, "MNIST", tmp_path)
    for name in bsuite.MNIST_FILES[1:]:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"train-images\S+ of MNIST.*not scored"):
        make_env(task)
    (tmp_path / bsuite.MNIST_FILES[0]).touch()
    with pytest.raises(KeyError, match="mnist"):  # the stand-in has no such experiment
        make_env(task)


# --- How the package is imported --------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An installed bsuite whose `__init__` cannot be imported."""
    forget()
    path = tmp_path / "bsuite" / "experiments" / "catch"
    path.mkdir(parents=True)
    (tmp_path / "bsuite" / "__init__.py").write_text("import plotnine_is_missing\n")
    (path / "sweep.py").write_text("NUM_EPISODES = 7\n")
    (path / "catch.py").write_text(
        "from bsuite.experiments.catch import sweep\nload = sweep.NUM_EPISODES\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield path
    forget()


def forget():
    for name in [n for n in sys.modules if n.partition(".")[0] == "bsuite"]:
        del sys.modules[name]
    bsuite._module.cache_clear()


def test_the_package_is_imported_without_its_plots(folder):
    assert bsuite._module("catch", "catch").load == 7
    assert not [name for name in sys.modules if name.startswith("bsuite")]
    with pytest.raises(ImportError, match="plotnine_is_missing"):
        importlib.import_module("bsuite")  # as if we had not been there


def test_the_package_may_be_imported_already(folder, monkeypatch):
    (folder.parents[1] / "__init__.py").write_text("")
    importlib.invalidate_caches()
    real = importlib.import_module("bsuite.experiments.catch.catch")
    assert bsuite._module("catch", "catch") is real


def test_a_missing_package(folder, monkeypatch):
    (folder / "catch.py").write_text("import dm_env_is_missing\n")
    with pytest.raises(UserError, match=r"dm_env_is_missing.*requirements-bsuite.txt"):
        bsuite._module("catch", "catch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match="pip install --no-deps -r requirements-bsuite"):
        bsuite._module("catch", "sweep")


# --- The sweep --------------------------------------------------------------------


def test_the_sweep_has_the_papers_size():
    experiments = sweep.EXPERIMENTS
    assert len(experiments) == 23
    assert sum(e.count for e in experiments.values()) == 468
    counts = {
        tag: sum(tag in e.tags for e in experiments.values()) for tag in sweep.TAGS
    }
    assert [*counts.values()] == [5, 7, 3, 10, 2, 8, 5]
    assert sum(experiments[name].count for name in sweep.ONLINE) == 60
    assert all(not e.values or len(e.values) == e.count for e in experiments.values())


@pytest.mark.parametrize(
    ("task", "frames"),
    [
        ("bsuite_bandit_0", 10_000),
        ("bsuite_catch/19", 90_000),
        ("cartpole_noise_0", 1_001_000),
        ("bsuite_mountain_car_1", 1_000_000),
        ("bsuite_deep_sea_20", 500_000),
        ("bsuite_memory_len_0", 20_000),
        ("bsuite_memory_size_16", 30_000),
        ("bsuite_umbrella_distract_22", 200_000),
        ("bsuite_umbrella_length_22", 1_000_000),
        ("bsuite_discounting_chain_4", 100_000),
    ],
)
def test_budgets_are_as_many_of_the_longest_episodes_as_count(task, frames):
    assert sweep.budget(task) == frames


def test_names():
    assert sweep.split("bsuite_deep_sea_stochastic/20") == ("deep_sea_stochastic", 20)
    assert sweep.canonical("bsuite_catch_noise/3") == "bsuite_catch_noise_3"
    for name, experiment in sweep.EXPERIMENTS.items():
        number = experiment.count - 1
        assert sweep.split(f"bsuite_{name}_{number}") == (name, number)
        assert sweep.split(f"{name}/{number}") == (name, number)


# --- The package itself -----------------------------------------------------------


@pytest.fixture(scope="module")
def package():
    if importlib.util.find_spec("bsuite") is None:
        pytest.skip("bsuite is not installed")


def test_the_package_has_the_same_sweep(package):
    for name, experiment in sweep.EXPERIMENTS.items():
        theirs = bsuite._module(name, "sweep")
        assert experiment.episodes == theirs.NUM_EPISODES, name
        assert len(theirs.SETTINGS) == experiment.count, name
        assert set(theirs.TAGS) == set(experiment.tags), name
        if experiment.varies:
            values = [next(iter(s.values())) for s in theirs.SETTINGS]
            assert tuple(values) == experiment.values, name


@pytest.mark.parametrize(
    "name", [n for n in sweep.EXPERIMENTS if n not in sweep.ONLINE]
)
def test_the_package_behind_our_interface(package, name):
    env = make_env(f"bsuite_{name}_0")
    assert "all as it should be" in check_env(env, 40)
    record = env.reset(3)
    random = np.random.default_rng(0)
    before = env._env.bsuite_info()
    while not record["is_last"]:
        action = np.eye(env.action_space.n)[random.integers(env.action_space.n)]
        record = env.step(action)
    assert record["is_terminal"]
    stats, after = env._stats(), env._env.bsuite_info()
    assert 1 <= stats["length"] <= sweep.limit(f"{name}_0")
    for counted in ("total_regret", "total_bad_episodes"):
        if counted in after:
            assert stats["regret"] == pytest.approx(after[counted] - before[counted])
    if "raw_return" in after:
        raw = after["raw_return"] - before["raw_return"]
        assert stats["reward"] == pytest.approx(raw)
        needed = sweep.EXPERIMENTS[name].needed
        assert stats["regret"] == pytest.approx(needed - raw)


@pytest.mark.parametrize("name", ["cartpole_swingup", "mountain_car"])
def test_standing_still_lasts_to_the_time_limit_which_is_an_end(package, name):
    env = make_env(f"bsuite_{name}_0")
    record, frames = env.reset(0), 0
    while not record["is_last"]:
        record, frames = env.step(np.array([0, 1, 0])), frames + 1
    assert frames == sweep.limit(f"{name}_0") and record["is_terminal"]


@pytest.mark.slow
def test_no_plotting_is_imported(package):
    script = (
        "import sys\n"
        "from dreamer_tf.envs import make_env\n"
        "for name in ('catch_0', 'bandit_noise_3', 'cartpole_scale_1'):\n"
        "    make_env('bsuite_' + name).reset(0)\n"
        f"print(*set({PLOTTING}) & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
