"""Atari's adapter: on a scripted emulator, and on ale-py where it is installed."""

import sys
import types
import zlib

import numpy as np
import pytest

from dreamer_tf.envs import atari, check_env, list_tasks, make_env, make_envs
from dreamer_tf.envs.atari import LIMIT, Atari
from dreamer_tf.envs.limits import time_limit
from dreamer_tf.errors import UserError

# --- A scripted emulator -----------------------------------------------------------


class ALE:
    """Screens of one colour each, and games that end when the script says so.

    Attributes:
        calls: of all instances, in order.
        screens: the gray of each frame, from the reset's on; the last one stays.
        ends: after how many frames each game is over, 0 for never; the last stays.
    """

    calls: list[tuple]
    screens: list[int]
    ends: list[int]

    def __init__(self):
        self.game, self.frame, self.settings = -1, 0, {}

    @classmethod
    def setLoggerMode(cls, mode):
        pass

    def setInt(self, name, value):
        self.calls.append((name, value))

    def setFloat(self, name, value):
        self.calls.append((name, value))

    def loadROM(self, path):
        self.calls.append(("load", path))
        self.game = -1

    def reset_game(self):
        self.calls.append(("reset",))
        self.game, self.frame = self.game + 1, 0

    def act(self, action):
        assert not self.game_over()
        self.calls.append(("act", action))
        self.frame += 1
        return self.frame

    def game_over(self):
        return self.frame == (self.ends[min(self.game, len(self.ends) - 1)] or -1)

    def getScreenDims(self):
        return 210, 160

    def getScreenRGB(self, out=None):
        out = np.zeros((210, 160, 3), np.uint8) if out is None else out
        out[:] = self.screens[min(self.frame, len(self.screens) - 1)]
        return out

    getScreenGrayscale = getScreenRGB

    def getLegalActionSet(self):
        return [types.SimpleNamespace(value=code) for code in range(18)]

    def getMinimalActionSet(self):
        return [types.SimpleNamespace(value=code) for code in (0, 1, 11, 12)]


@pytest.fixture
def ale(monkeypatch):
    """The scripted emulator in the place of ale-py; its class."""
    roms = types.ModuleType("ale_py.roms")
    roms.get_all_rom_ids = lambda: ["pong", "jamesbond", "kung_fu_master"]
    roms.get_rom_path = lambda name: f"{name}.bin"
    fake = type("Scripted", (ALE,), {"calls": [], "screens": [0], "ends": [0]})
    mode = types.SimpleNamespace(Error=2)
    module = types.ModuleType("ale_py")
    module.ALEInterface, module.LoggerMode, module.roms = fake, mode, roms
    monkeypatch.setitem(sys.modules, "ale_py", module)
    monkeypatch.setitem(sys.modules, "ale_py.roms", roms)
    atari._package.cache_clear()
    yield fake
    atari._package.cache_clear()


V2 = {"pooling": "v2", "noops": "1-30", "limit_terminal": False}
V3 = {"noops": 0, "gray": False}


def acting(env, choice=0):
    return np.eye(len(env.actions), dtype=np.float32)[choice]


def seen(record):
    """The one gray of a picture."""
    (value,) = np.unique(record["image"])
    return value


def test_both_settings_are_read_when_the_game_is_loaded(ale):
    env = make_env("atari_pong", obs="image", seed=3, env_args={"sticky": 0})
    random = np.random.default_rng(3)
    first, noops = int(random.integers(2**31)), int(random.integers(31))
    loaded = [("repeat_action_probability", 0.0), ("load", "pong.bin")]
    assert ale.calls == [("random_seed", first), *loaded]
    ale.calls.clear()
    env.reset()
    assert ale.calls == [("reset",), *[("act", 0)] * noops]
    ale.calls.clear()
    env.reset(7)
    random = np.random.default_rng(7)
    assert ale.calls[:3] == [("random_seed", int(random.integers(2**31))), *loaded]
    assert ale.calls[3:] == [("reset",), *[("act", 0)] * int(random.integers(31))]


def test_a_seed_draws_what_the_official_wrapper_of_v3_draws(ale):
    """Those of the trace v3c_100k_breakout_authors."""
    env = Atari("pong", 1019)
    assert ale.calls[0] == ("random_seed", 728699809)
    for noops in (6, 2):
        ale.calls.clear()
        env.reset()
        assert ale.calls == [("reset",), *[("act", 0)] * noops]


def test_a_game_that_ends_during_the_no_ops_is_reset(ale):
    ale.ends = [2, 0]
    env = Atari("pong", env_args={"noops": "5-5"})
    ale.calls.clear()
    env.reset()
    act, reset = ("act", 0), ("reset",)
    assert ale.calls == [reset, act, act, reset, act, act, act]
    assert env.step(acting(env)).frames == 4  # the no-ops do not count


@pytest.mark.parametrize(
    ("noops", "seen"), [("1-30", (1, 30)), ("0-30", (0, 30)), (0, (0, 0)), (7, (7, 7))]
)
def test_how_many_no_ops_there_are(ale, noops, seen):
    env = Atari("pong", size=8, env_args={"noops": noops})
    counts = []
    for _ in range(200):
        ale.calls.clear()
        env.reset()
        counts.append(len(ale.calls) - 1)
    assert (min(counts), max(counts)) == seen


SECOND = {"v2": (7, 8, 100, 120), "v3": (7, 8, 30, 120)}


@pytest.mark.parametrize(
    ("settings", "end", "expected"),
    [
        *((V2 | {"noops": 0}, end, x) for end, x in enumerate((90, 90, 90, 100), 1)),
        (V2 | {"noops": 0}, 0, 120),
        *((V3, end, x) for end, x in enumerate((90, 90, 40, 120), 1)),
        (V3, 0, 120),
    ],
)
def test_pictures_when_a_game_ends_within_a_decision(ale, settings, end, expected):
    ale.screens = [5, 1, 2, 90, 40, *SECOND[settings.get("pooling", "v3")]]
    ale.ends = [4 + end if end else 0]
    env = Atari("pong", env_args=settings)
    assert seen(env.reset()) == 5
    first = env.step(acting(env))
    assert seen(first) == 90
    record = env.step(acting(env))
    assert seen(record) == expected
    assert record.frames == (end or 4)
    assert record["reward"] == sum(range(5, 5 + record.frames))
    assert record["is_last"] == record["is_terminal"] == bool(end)
    assert not np.shares_memory(first["image"], record["image"])


@pytest.mark.parametrize(
    ("settings", "repeat", "expected"),
    [
        (V2 | {"noops": 0}, 1, (50, 20, 90)),
        (V2 | {"noops": 0}, 2, (50, 90, 60)),
        (V3, 1, (50, 50, 90)),
        (V3, 2, (50, 90, 60)),
        (V3, 3, (50, 90, 30)),
    ],
)
def test_other_repeats_show_the_last_two_frames(ale, settings, repeat, expected):
    ale.screens = [50, 20, 90, 60, 10, 10, 30]
    env = Atari("pong", repeat=repeat, env_args=settings)
    records = [env.reset(), env.step(acting(env)), env.step(acting(env))]
    assert tuple(seen(record) for record in records) == expected


@pytest.mark.parametrize(
    ("settings", "length", "end", "frames", "terminal"),
    [
        (V3, 6, 0, 6, True),
        (V3, 6, 5, 5, True),
        (V3 | {"limit_terminal": False}, 6, 0, 6, False),
        (V3 | {"limit_terminal": False}, 6, 6, 6, True),  # the game says so
        (V2, 8, 0, 8, False),
        (V2, 8, 4, 4, True),
        *((V2, 8, end, end, False) for end in (5, 6, 7, 8)),
        (V2, 12, 8, 8, True),
        (V2 | {"limit_terminal": True}, 8, 0, 8, True),
        (V2 | {"limit_terminal": True}, 8, 5, 5, True),
    ],
)
def test_which_ends_are_terminal(ale, settings, length, end, frames, terminal):
    ale.ends = [end]
    env = Atari("pong", length=length, env_args=settings | {"noops": 0})
    env.reset()
    records = [env.step(acting(env))]
    while not records[-1]["is_last"]:
        records.append(env.step(acting(env)))
    assert sum(record.frames for record in records) == frames
    assert [bool(record["is_terminal"]) for record in records] == [
        *[False] * (len(records) - 1),
        terminal,
    ]


def test_the_time_limit(ale):
    assert Atari("pong").length == LIMIT == 108_000
    assert Atari("pong", length=100_000).length == 100_000
    assert time_limit("atari_pong") == 108_000
    assert time_limit("atari_pong", 100_000) == 100_000
    assert time_limit("atari_pong", 200_000) == 200_000


@pytest.mark.parametrize(
    ("first_picture", "expected"),
    [("stale", [0, 40, 0, 0]), ("reset", [5, 5, 5, 5])],
)
def test_the_first_picture_of_an_episode(ale, first_picture, expected):
    ale.screens = [5, 1, 2, 90, 40]  # the last decision shows 90, the maximum
    env = Atari("pong", env_args=V3 | {"first_picture": first_picture})
    found = []
    for seed in (None, None, 1, 2):
        found.append(seen(env.reset(seed)))
        assert seen(env.step(acting(env))) == 90
    assert found == expected


@pytest.mark.parametrize(
    ("actions", "codes"), [("full", tuple(range(18))), ("minimal", (0, 1, 11, 12))]
)
def test_actions_are_the_emulators(ale, actions, codes):
    env = Atari("pong", env_args=V3 | {"actions": actions})
    assert env.actions == codes and env.action_space.n == len(codes)
    env.reset()
    ale.calls.clear()
    env.step(acting(env, 2))
    assert ale.calls == [("act", codes[2])] * 4


def test_the_grays(ale):
    """A gray of its own in V2; that of the colours in V3, truncated."""
    colours = np.array([[[7, 55, 23], [255, 255, 255], [110, 110, 110]]], np.uint8)
    assert atari.gray(colours)[..., 0].tolist() == [[37, 255, 110]]
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).astype(np.uint8)
    weights = np.array([0.299, 0.587, 1 - (0.299 + 0.587)])
    official = (every * weights).sum(-1).astype(np.uint8)
    flat = every.reshape(len(every), -1, 3)
    assert (atari.gray(flat).reshape(official.shape) == official).all()
    assert make_env("atari_pong", obs="image").obs_space["image"].shape == (64, 64, 1)
    picture = make_env("atari_pong", obs="image", size=96, env_args={"gray": False})
    assert picture.obs_space["image"].shape == (96, 96, 3)


def test_areas():
    """160 columns to 64: two and a half pixels become one; 210 rows to 64 likewise."""
    columns = np.broadcast_to(np.arange(160, dtype=np.uint8), (210, 160))
    exact = [i // 2 * 5 + (0.8 if i % 2 == 0 else 3.2) for i in range(64)]
    assert (atari.area(columns, 64)[..., 0] == np.rint(exact)).all()
    rows = np.zeros((210, 160), np.uint8)
    rows[3] = 100  # a part of the first and of the second row: 3.28125 pixels each
    found = atari.area(rows, 64)[:, 0, 0]
    assert found[:3].tolist() == [round(28.125 / 3.28125), round(71.875 / 3.28125), 0]
    colours = np.random.default_rng(0).integers(0, 256, (210, 160, 3), np.uint8)
    channels = [atari.area(channel, 64) for channel in np.moveaxis(colours, 2, 0)]
    assert (atari.area(colours, 64) == np.concatenate(channels, -1)).all()


def test_a_film_shows_the_screen_in_its_proportions(ale):
    ale.screens = [200]
    env = Atari("pong", env_args=V3)
    env.reset()
    film = env.render(210)
    assert film.shape == (210, 210, 3)
    assert (film[:, 25:185] == 200).all() and not film[:, :25].any()
    assert env.render().shape == (96, 96, 3)


@pytest.mark.parametrize(
    ("env_args", "message"),
    [
        ({"pooling": "v4"}, "pooling is 'v4', but must be v2 or v3"),
        ({"pooling": 2}, "pooling is 2, but must be v2 or v3"),
        ({"gray": "yes"}, "gray is 'yes', but must be true or false"),
        ({"gray": 1}, "gray is 1, but must be true or false"),
        ({"sticky": 25}, "sticky is 25, but must be a probability from 0 to 1"),
        ({"sticky": float("nan")}, "sticky is nan, but must be a probability"),
        ({"sticky": True}, "sticky is True, but must be a probability"),
        ({"sticky": "0.25x"}, "sticky is '0.25x', but must be a probability"),
        ({"noops": "30-1"}, "noops is '30-1', but must be LOW-HIGH with LOW"),
        ({"noops": "1 to 30"}, "noops is '1 to 30', but must be a number or LOW-HIGH"),
        ({"noops": -1}, "noops is -1, but must be a number or LOW-HIGH"),
        ({"noops": True}, "noops is True, but must be a number or LOW-HIGH"),
        ({"actions": "all"}, "actions is 'all', but must be full or minimal"),
        ({"first_picture": "black"}, "'black', but must be reset or stale"),
        ({"pooling": "v2", "first_picture": "stale"}, "must be reset with pooling v2"),
        ({"limit_terminal": "no"}, "'no', but must be true or false"),
        (
            {"stiky": 0},
            "names 'stiky', but atari_pong takes pooling, gray, sticky",
        ),
        ({"seed": 0}, "names 'seed', but atari_pong takes"),
    ],
)
def test_wrong_arguments(ale, env_args, message):
    with pytest.raises(UserError, match="^--env_args.*" + message):
        make_env("atari_pong", obs="image", env_args=env_args)


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (
            "atari_pong",
            {"obs": "proprio"},
            "proprio.*observes an image only",
        ),
        ("atari_pong", {"obs": "both"}, "both.*use --obs=image"),
        ("atari_pong", {"camera": 1}, "camera"),
        ("atari_pong", {"obs_keys": "ram"}, "fits none of.*image"),
        ("atari_pnog", {}, '"atari_pnog" is not known: did you mean atari_pong?'),
        ("atari_kungfu_master", {}, "did you mean atari_kung_fu_master?"),
        ("atari_", {}, "the games of ale-py are jamesbond, kung_fu_master, pong"),
        ("atri_pong", {}, "did you mean atari_pong"),
        (
            "toy",
            {"env_args": {"sticky": 0}},
            "atari_<game> and minatar_<game>, but the task",
        ),
    ],
)
def test_wrong_tasks(ale, task, arguments, message):
    with pytest.raises(UserError, match=message):
        make_env(task, **{"obs": "image", **arguments})


def test_james_bond_has_two_names(ale):
    make_env("atari_james_bond", obs="image")
    make_env("atari_jamesbond", obs="image")
    assert [call[1] for call in ale.calls if call[0] == "load"] == ["jamesbond.bin"] * 2


def test_a_missing_package_says_what_installs_it(ale, monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=r"ale-py.*: pip install -r requirements-atari"):
        make_env("atari_pong", obs="image")


def test_tasks_are_listed_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    games = [name for name in list_tasks() if name.startswith("atari_")]
    assert len(games) == 57 and {"atari_pong", "atari_jamesbond"} < set(games)


# --- ale-py ------------------------------------------------------------------------


# How many actions of each game do something, 18 where it is not said (ale-py 0.12.1).
MINIMAL = """
amidar 10, assault 7, asterix 9, asteroids 14, atlantis 4, beam_rider 9, bowling 6,
breakout 4, crazy_climber 9, demon_attack 6, enduro 9, freeway 3, gopher 8,
kung_fu_master 14, ms_pacman 9, name_this_game 6, phoenix 8, pong 6, qbert 6, skiing
3, space_invaders 6, surround 5, time_pilot 10, tutankham 8, up_n_down 6,
video_pinball 9, wizard_of_wor 10
"""


@pytest.fixture
def real():
    return pytest.importorskip("ale_py")


@pytest.mark.parametrize("env_args", [V2, {}, V3 | {"first_picture": "stale"}])
def test_checks_out(real, env_args):
    env = make_env("atari_breakout", 0, 4, 64, "image", length=120, env_args=env_args)
    assert "1 finished episodes" in check_env(env, steps=40)


def test_an_episode_follows_from_seed_and_actions(real):
    """Also sticky actions; with another seed it is another one."""

    def play(env, seed):
        random, record, found = np.random.default_rng(0), env.reset(seed), []
        for _ in range(30):
            found.append((zlib.crc32(record["image"]), zlib.crc32(env._ale.getRAM())))
            record = env.step(acting(env, random.integers(18)))
        return found

    env = Atari("seaquest")
    first = play(env, 5)
    assert play(env, 6) != first
    env.reset()
    assert play(env, 5) == first == play(Atari("seaquest", 9), 5)


@pytest.mark.parametrize("sticky", [0, 0.25])
def test_sticky_is_what_is_effective(real, sticky):
    """Without it two emulators' seeds change nothing."""
    crcs = []
    for seed in (1, 2):
        env = Atari("pong", env_args={"sticky": sticky, "noops": 0})
        env.reset(seed)
        random = np.random.default_rng(0)
        for _ in range(40):
            env.step(acting(env, random.integers(18)))
        crcs.append(zlib.crc32(env._ale.getRAM()))
    assert (crcs[0] == crcs[1]) == (sticky == 0)


def test_unfinished_episodes_are_brought_back(real):
    """In another process, as after a restart of the run; its first picture is black."""
    env_args = V3 | {"first_picture": "stale"}
    arguments = dict(repeat=4, obs="image", length=80, seed=3, env_args=env_args)
    random = np.random.default_rng(0)
    choices = np.eye(18, dtype=np.float32)[random.integers(18, size=(45, 1))]
    said: list[str] = []
    with make_envs("atari_breakout", 1, **arguments) as envs:
        envs.reset()
        for actions in choices[:30]:
            envs.step(actions)
        state = envs.state_dict()
        expected = [envs.step(actions) for actions in choices[30:]]
    with make_envs("atari_breakout", 1, workers=1, **arguments) as envs:
        envs.say = said.append
        envs.load_state_dict(state)
        for actions, record in zip(choices[30:], expected):
            again = envs.step(actions)
            assert all((again[name] == record[name]).all() for name in record)
    assert said == []
    assert any(record["is_first"] for record in expected)


@pytest.mark.slow
def test_all_games(real):
    counts = dict(pair.split() for pair in MINIMAL.split(",") if pair.strip())
    for game in atari.GAMES:
        env = Atari(game, env_args={"actions": "minimal"})
        assert len(env.actions) == int(counts.get(game, 18)), game
        full = [action.value for action in env._ale.getLegalActionSet()]
        assert len(full) == (9 if game == "skiing" else 18), game
        record = env.reset()
        assert record["image"].any() and env._screens.pooled.shape == (210, 160, 3)
