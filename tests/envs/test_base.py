"""The rules that all environments share: records, repeat, limits, action ranges."""

import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf.envs.base import (
    HOPELESS,
    ActionScale,
    Env,
    action_box,
    action_size,
    box,
)
from dreamer_tf.envs.foreign import Diverged
from dreamer_tf.errors import UserError


class Tape(Env):
    """Rewards 1, 2, 3, ...; ends, terminally or not, after `limit` frames."""

    def __init__(self, limit=10, terminal=False, action_space=None, **arguments):
        super().__init__({"count": box(())}, action_space or action_box(2), **arguments)
        self.limit, self.terminal = limit, terminal
        self.frame, self.actions, self.looks, self.seeds = 0, [], 0, []

    def _reset(self, seed):
        self.frame = 0
        self.seeds.append(seed)

    def _frame(self, action):
        self.frame += 1
        self.actions.append(action)
        over = self.frame == self.limit
        return float(self.frame), over and not self.terminal, over and self.terminal

    def _observe(self):
        self.looks += 1
        return {"count": np.float32(self.frame)}

    def render(self, size=None):
        raise NotImplementedError


ZERO = np.zeros(2, np.float32)


def test_first_record():
    env = Tape(repeat=2)
    record = env.reset(7)
    assert env.seeds == [7]
    assert list(record) == [
        *("count", "action", "reward", "is_first", "is_last", "is_terminal")
    ]
    assert record["action"].tolist() == [0, 0]
    assert record["action"].dtype == np.float32
    assert record["reward"] == 0 and record["reward"].dtype == np.float32
    assert record["is_first"] and not record["is_last"] and not record["is_terminal"]
    for name in ("reward", "is_first", "is_last", "is_terminal"):
        assert record[name].shape == ()


def test_action_repeat_sums_rewards_and_looks_once():
    env = Tape(repeat=3)
    env.reset()
    record = env.step(ZERO)
    assert record["reward"] == 1 + 2 + 3
    assert record["count"] == 3
    assert env.looks == 2  # reset and one decision, though three frames passed
    assert not record["is_first"]


def test_action_repeat_stops_at_the_end():
    env = Tape(limit=4, repeat=3)
    env.reset()
    env.step(ZERO)
    record = env.step(ZERO)
    assert record["reward"] == 4  # one frame, not three
    assert record["is_last"] and not record["is_terminal"]
    with pytest.raises(RuntimeError, match="reset"):
        env.step(ZERO)
    assert env.reset()["count"] == 0


def test_terminal_is_also_last():
    env = Tape(limit=1, terminal=True)
    env.reset()
    record = env.step(ZERO)
    assert record["is_last"] and record["is_terminal"]


def test_length_counts_frames_and_is_no_termination():
    env = Tape(limit=100, repeat=2, length=5)
    env.reset()
    records = [env.step(ZERO) for _ in range(3)]
    assert [bool(r["is_last"]) for r in records] == [False, False, True]
    assert records[-1]["reward"] == 5  # the sixth frame is not taken
    assert not records[-1]["is_terminal"]


def test_actions_are_clipped_for_the_environment_and_recorded_as_given():
    env = Tape()
    env.reset()
    given = np.array([1.5, -0.5], np.float32)
    record = env.step(given)
    assert env.actions[0].tolist() == [1.0, -0.5]
    assert record["action"].tolist() == [1.5, -0.5]
    given[:] = 9
    assert record["action"].tolist() == [1.5, -0.5]


def test_discrete_actions_arrive_as_an_index():
    env = Tape(action_space=spaces.Discrete(4))
    assert env.reset()["action"].tolist() == [0, 0, 0, 0]
    env.step(np.array([0, 0, 1, 0]))
    assert env.actions == [2]


@pytest.mark.parametrize(
    ("action", "message"),
    [([0.0], r"shape \(1,\).*\(2,\)"), ([0.0, np.nan], "not finite")],
)
def test_wrong_actions(action, message):
    env = Tape()
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(np.array(action))


@pytest.mark.parametrize("arguments", [{"repeat": 0}, {"repeat": 1.5}, {"length": -1}])
def test_wrong_arguments(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        Tape(**arguments)


def test_reserved_names():
    class Wrong(Tape):
        def __init__(self):
            Env.__init__(self, {"reward": box(())}, action_box(1))

    with pytest.raises(UserError, match='"reward"'):
        Wrong()


def test_action_scale():
    scale = ActionScale(
        np.array([-0.8, 0.0, -np.inf, -1e10, 0.0]),
        np.array([0.8, 4.0, np.inf, 1e10, np.inf]),
    )
    assert scale(np.full(5, -1)).tolist() == [-0.8, 0, -1, -1e10, 0]
    assert scale(np.full(5, 1)).tolist() == [0.8, 4, 1, 1e10, 2]
    assert scale(np.full(5, 0.5)).tolist() == pytest.approx([0.4, 3, 0.5, 5e9, 1.5])


BOUNDS = [
    ([-0.8, 0.0], [0.8, 4.0], [[-0.8, 0], [0, 2], [0.8, 4]]),
    ([0, 5], [np.inf, np.inf], [[0, 5], [1, 6], [2, 7]]),
    ([-np.inf], [-3], [[-5], [-4], [-3]]),
    ([-np.inf], [np.inf], [[-1], [0], [1]]),
    ([-1e10], [1e10], [[-1e10], [0], [1e10]]),
    ([-9.9e9], [9.9e9], [[-9.9e9], [0], [9.9e9]]),
    ([2.5], [2.5], [[2.5]] * 3),
    ([-3.4e38, 0], [3.4e38, 3.4e38], [[-3.4e38, 0], [0, 1.7e38], [3.4e38] * 2]),
]


@pytest.mark.parametrize(("low", "high", "expected"), BOUNDS)
def test_where_actions_end_up(low, high, expected):
    scale = ActionScale(np.array(low), np.array(high))
    for action, result in zip((-1, 0, 1), expected):
        assert scale(np.full(len(low), action)).tolist() == pytest.approx(result)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_actions_stay_in_the_space_whatever_is_rounded(dtype):
    random = np.random.default_rng(0)
    low = random.normal(size=50).astype(dtype)
    space = spaces.Box(
        low, low + np.abs(random.normal(size=50)).astype(dtype), (50,), dtype
    )
    scale = ActionScale(space.low, space.high, dtype)
    for action in (*random.uniform(-1, 1, (100, 50)), np.ones(50), -np.ones(50)):
        assert space.contains(scale(action.astype(np.float32)))


def test_action_size():
    assert action_size(action_box(3)) == 3
    assert action_size(spaces.Discrete(5)) == 5


# --- Frames, simulations that diverge, errors ---------------------------------


@pytest.mark.parametrize(
    ("limit", "repeat", "length", "frames"),
    [(10, 3, 0, [3, 3, 3, 1]), (1, 4, 0, [1]), (9, 2, 5, [2, 2, 1]), (4, 2, 0, [2, 2])],
)
def test_frames_of_a_decision(limit, repeat, length, frames):
    env = Tape(limit, repeat=repeat, length=length)
    assert env.reset().frames == 0
    assert [env.step(ZERO).frames for _ in frames] == frames
    assert env._over


class Falling(Tape):
    """Diverges in frame `at` of every episode whose seed is not spared (0: reset)."""

    def __init__(self, at, how="raise", spared=(), **arguments):
        super().__init__(100, **arguments)
        self.at, self.how, self.spared = at, how, spared

    def falls(self):
        return self.frame >= self.at and self.seeds[-1] not in self.spared

    def _reset(self, seed):
        super()._reset(seed)
        if self.at == 0 and self.falls() and self.how == "raise":
            raise Diverged("it fell")

    def _frame(self, action):
        result = super()._frame(action)
        if self.falls() and self.how == "raise":
            raise Diverged("it fell")
        return (np.nan, *result[1:]) if self.falls() and self.how == "nan" else result

    def _observe(self):
        value = super()._observe()["count"]
        broken = {"nan": np.nan, "inf": np.inf, "raise": value}[self.how]
        return {"count": np.float32(broken if self.falls() else value)}


@pytest.mark.parametrize("how", ["raise", "nan", "inf"])
def test_a_simulation_that_diverges_ends_its_episode(how):
    env = Falling(6, how, repeat=4)
    env.reset(0)
    before = env.step(ZERO)
    record = env.step(ZERO)
    assert record["is_last"] and not record["is_terminal"] and not record["is_first"]
    assert record["count"] == before["count"] == 4
    # The rewards 5 and 6 of the frames before; inf shows only in what is observed.
    assert record["reward"] == {"raise": 5, "nan": 5, "inf": 5 + 6 + 7 + 8}[how]
    assert record.frames == {"raise": 2, "nan": 2, "inf": 4}[how]
    assert record.diverged and not before.diverged
    with pytest.raises(RuntimeError, match="reset"):
        env.step(ZERO)
    assert env.reset(1)["count"] == 0


def test_the_observation_is_a_copy_when_it_is_repeated():
    env = Falling(2, "nan", action_space=action_box(2))
    env._observe, look = lambda: {"count": box_of_one(look())}, env._observe
    env.reset(0)
    before, record = env.step(ZERO), env.step(ZERO)
    assert np.array_equal(before["count"], record["count"])
    assert not np.shares_memory(before["count"], record["count"])


def box_of_one(record):
    return np.array([record["count"]], np.float32)


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_reset_that_diverges_is_repeated_with_a_seed_that_follows_from_its_own(how):
    first = Falling(0, how)
    with pytest.raises(UserError):
        first.reset(7)
    assert len(set(first.seeds)) == HOPELESS and first.seeds[0] == 7
    again = Falling(0, how, spared={first.seeds[2]})
    for _ in range(2):  # also after other episodes
        record = again.reset(7)
        assert again.seeds[-3:] == first.seeds[:3]
        assert record["is_first"] and record.diverged
        again.at = 1000
        again.step(ZERO)
        again.at = 0


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_run_does_not_loop_over_episodes_that_diverge_at_once(how):
    env = Falling(1, how)
    for seed in range(HOPELESS - 1):
        env.reset(seed)
        assert env.step(ZERO).diverged
    env.reset(100)
    pattern = rf"Falling diverged in {HOPELESS} episodes in a row before"
    with pytest.raises(UserError, match=pattern):
        env.step(ZERO)


def test_a_step_that_succeeds_in_between_starts_the_count_anew():
    env = Falling(1, spared=set(range(0, 100, 5)))
    for seed in range(50):
        env.reset(seed)
        assert bool(env.step(ZERO).diverged) == (seed % 5 > 0)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (np.nan, "reward is not finite: nan"),
        (1e39, "too large: 1e"),
        (None, "NoneType"),
    ],
)
def test_a_wrong_reward_of_a_sound_simulation_is_a_mistake(reward, message):
    env = Tape()
    env._frame = lambda action: (reward, False, False)
    env.reset()
    with pytest.raises(UserError, match=message):
        env.step(ZERO)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("no"),
        RecursionError("no"),
        SystemExit("no"),
        StopIteration("no"),
    ],
)
@pytest.mark.parametrize("method", ["reset", "step"])
def test_what_an_environment_raises_names_its_own_line(error, method):
    def broken(*_):
        raise error

    env = Tape()
    env.reset()
    setattr(env, {"reset": "_reset", "step": "_frame"}[method], broken)
    line = broken.__code__.co_firstlineno + 1
    name = type(error).__name__
    pattern = (
        rf"^Tape failed in {method}\(\) with {name} \(no\) at .*test_base.py:{line}:"
    )
    with pytest.raises(UserError, match=pattern):
        env.reset() if method == "reset" else env.step(ZERO)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_what_is_no_error_passes(stop):
    def broken(_):
        raise stop

    env = Tape()
    env._reset = broken
    with pytest.raises(stop):
        env.reset()
