"""Acting and learning: the order of calls, what is stored, counted and due."""

import dataclasses
import itertools

import numpy as np
import pytest

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import episode_seed
from dreamer_tf.training.experience import Decision, Episode, Update, experience
from dreamer_tf.training.schedules import Progress
from tests import fakes


def fake_components(tape, envs=2, limit=3, repeat=1, **config):
    run = RunConfig(envs=envs, repeat=repeat)
    components = fakes.make_components(run, fakes.Config(**config), tape, limit)
    return dataclasses.replace(components, replay=fakes.Recorder(tape))


def test_order_of_acting_storing_learning():
    tape = []
    events = experience(fake_components(tape, ratio=0.5, prefill=1), Progress(), 1, 0)
    list(itertools.islice(events, 6))
    assert tape == [
        *[("policy", "random"), ("add", 0), ("add", 1)],  # first records: no decision
        # The first record of a decision ends the prefill: 3 records, 1 update due.
        *[("policy", "random"), ("add", 0), ("sample",), ("update", 1)],
        # The device works at it while one more record comes in, a batch is drawn and
        # the next update is sent; the batch was drawn before the feedback all the same.
        *[("add", 1), ("sample",), ("update", 2), ("feedback", "deter")],
        *[("feedback", "deter"), ("policy", "train"), ("add", 0), ("add", 1)],
        *[("sample",), ("update", 3), ("feedback", "deter")],
    ]


def test_compiling_is_said_before_the_first_update():
    tape = []
    components = fake_components(tape, ratio=0.5, prefill=1)
    numbers = 1, 0, None, lambda: tape.append("compiling")
    list(itertools.islice(experience(components, Progress(), *numbers), 9))
    assert tape.count("compiling") == 1
    first = tape.index(("update", 1))
    assert tape[first - 2 : first] == [("sample",), "compiling"]


def test_records_pair_action_reward_and_latents():
    components = fake_components([], envs=1, ratio=0.0)
    actions, first = [], components.agent.policy

    def policy(*arguments):
        action, state = first(*arguments)
        actions.append((action[0], state["deter"][0]))
        return action, state

    components.agent.policy = policy
    progress = Progress()
    events = experience(components, progress, 1, 0)
    list(itertools.islice(events, 10))  # 9 decisions, and the end of 2 episodes
    rows = [row for _, row in components.replay.rows]
    assert [bool(row["is_first"]) for row in rows[:5]] == [True] + [False] * 3 + [True]
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(row["deter"], actions[number][1])
        if row["is_first"]:
            assert row["reward"] == 0 and not row["action"].any()
        else:
            np.testing.assert_array_equal(row["action"], actions[number - 1][0])
            value = row["vector"][0] + 0.1 * row["action"][0]
            np.testing.assert_allclose(row["reward"], value, rtol=1e-6)


def test_progress_counts_frames_of_decisions():
    components = fake_components([], envs=2, limit=6, repeat=2, ratio=0.0)
    progress = Progress()
    found = []
    for event in experience(components, progress, 2, seed=5):
        found.append(event)
        if progress.records == 14:
            break
    # Per environment 4 records and 3 decisions of an episode, 3 and 2 of the next;
    # the generator stands before the last Decision.
    assert dataclasses.astuple(progress) == (14, 10, 20, 2, 12, 14)
    episodes = [event for event in found if isinstance(event, Episode)]
    assert [(e.frames, e.length, e.env, e.episode) for e in episodes] == [
        (10, 3, 0, 0),
        (12, 3, 1, 0),
    ]
    assert [e.seed for e in episodes] == [episode_seed((5, 0), i, 0) for i in (0, 1)]
    rewards = [
        row["reward"] for stream, row in components.replay.rows[:8] if stream == 1
    ]
    assert episodes[1].score == pytest.approx(float(np.sum(rewards)))


@pytest.mark.parametrize(
    ("limit", "repeat", "frames"), [(1, 4, 60), (6, 4, 60), (5, 3, 100), (4, 2, 40)]
)
def test_frames_are_those_that_were_stepped(limit, repeat, frames):
    """Also where an episode ends while an action is still repeated."""
    tape = []
    components = fake_components(tape, envs=1, limit=limit, repeat=repeat, ratio=0.0)
    envs, stepped = components.envs, 0
    step = envs.step

    def counted(action):
        nonlocal stepped
        records = step(action)
        stepped += int(records["vector"][0, 1] - before[0]) * (
            not records["is_first"][0]
        )
        before[0] = records["vector"][0, 1]
        return records

    before, envs.step = [0], counted
    progress = Progress()
    for event in experience(components, progress, repeat, 0):
        if isinstance(event, Decision) and progress.frames >= frames:
            break
        if isinstance(event, Episode):
            assert progress.finished_frames == progress.episodes * limit
            assert event.frames == progress.frames == progress.finished_frames
    assert progress.frames == stepped == frames


def test_updates_follow_the_ratio_exactly():
    components = fake_components([], envs=3, ratio=0.3)
    progress, updates = Progress(), 0
    for event in experience(components, progress, 1, 0):
        updates += isinstance(event, Update)
        if isinstance(event, Decision):
            assert updates == int(progress.records * 0.3)
        if progress.records >= 120:
            break
