"""The rules that all environments share: records, repeat, limits, action ranges."""

import numpy as np
import pytest
from gymnasium import spaces

from dreamer_tf.envs.base import ActionScale, Env, action_box, action_size, box
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


def test_action_size():
    assert action_size(action_box(3)) == 3
    assert action_size(spaces.Discrete(5)) == 5
