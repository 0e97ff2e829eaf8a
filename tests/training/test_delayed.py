"""Acting with older parameters: which ones, and that continuing changes nothing."""

import dataclasses
import io
import itertools

import numpy as np
import pytest

from dreamer_tf.training.delayed import Delayed
from dreamer_tf.training.experience import experience
from dreamer_tf.training.schedules import Progress
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train as train_run
from tests import fakes
from tests.runs import everything, settings
from tests.training.test_train import interrupted


class Weight:
    """The fake agent's only parameter, as a variable."""

    def __init__(self, agent):
        self.agent = agent

    def __array__(self, dtype=None, copy=None):
        return np.array(self.agent.weight, dtype)

    def assign(self, value):
        self.agent.weight = value


def make(run, config, tape=None):
    components = fakes.make_components(run, config, tape)
    components.agent.params = {"weight": Weight(components.agent)}
    return dataclasses.replace(components, delayed=Delayed(components.agent))


def test_decisions_lag_two_behind():
    """Two updates per decision, each of which adds 1: four updates behind."""
    components = make(dataclasses.replace(settings("x"), envs=1), fakes.Config(ratio=2))
    agent, used = components.agent, []
    policy, begin = agent.policy, agent.begin

    def noted(*arguments):
        used.append(float(agent.weight))
        return policy(*arguments)

    def update(batch):
        finish = begin(batch)
        agent.weight = np.asarray(float(agent.updates))
        return finish

    agent.policy, agent.begin = noted, update
    newest = []
    for event in itertools.islice(experience(components, Progress(), 1, 0), 40):
        if type(event).__name__ == "Decision":
            newest.append(float(agent.weight))  # the newest again after every decision
    assert newest[:6] == [0, 0, 6, 8, 10, 12]
    # A decision does not know the updates after the two before it.
    assert used[:9] == [0, 0, 0, *newest[:6]]


def train(path, config, make):
    return train_run(settings(path), config, [], make, Terminal(40, io.StringIO()))


@pytest.mark.parametrize("at", [3, 8, 13])
def test_continuing_changes_nothing(tmp_path, at):
    config = fakes.Config(ratio=1.0)
    train(tmp_path / "whole", config, make)
    interrupted(settings(tmp_path / "cut", save_every=0.0), config, at, make)
    train(tmp_path / "cut", config, make)
    whole, cut = everything(tmp_path / "whole"), everything(tmp_path / "cut")
    np.testing.assert_equal(cut, whole)
    train(tmp_path / "newest", config, fakes.make_components)
    assert everything(tmp_path / "newest")["scores"] != whole["scores"]


def test_parameters_of_another_agent_are_refused():
    components = make(settings("x"), fakes.Config())
    with pytest.raises(ValueError, match="of another agent"):
        components.delayed.load_state_dict({"used": {"w": 1}, "copied": None})
