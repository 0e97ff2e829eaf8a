"""Evaluation does not depend on what is played side by side."""

import itertools

import numpy as np
import pytest

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import episode_seed
from dreamer_tf.training.evaluate import Stopped, cut_at, evaluate
from tests import fakes


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_evaluate(batch):
    """Episodes do not depend on what is played beside them."""
    agent, tape = fakes.FakeAgent(), []
    limits = itertools.cycle([3, 5, 4])

    def make_env():
        return fakes.FakeEnv(next(limits), tape=tape)

    played = evaluate(agent, make_env, 5, "eval", (7, 1), first=4, batch=batch)
    assert [e.episode for e in played] == [4, 5, 6, 7, 8]
    assert [e.seed for e in played] == [episode_seed((7, 1), 0, i) for i in range(4, 9)]
    for episode in played:
        value = np.random.default_rng(episode.seed).uniform()  # a reward; actions: 0
        assert episode.score == pytest.approx(value * episode.length)
        assert episode.length in (3, 4, 5)
    assert sum(e.length for e in played) == sum(entry[0] == "step" for entry in tape)
    assert agent.tape[0] == ("policy", "eval") and agent.updates == 0


def test_episodes_that_diverge_are_said():
    class Unstable(fakes.FakeEnv):
        def _observe(self):
            unstable = self.frame == 3 and self.value < 0.5
            return (
                super()._observe() if not unstable else {"vector": np.full(2, np.nan)}
            )

    said = []
    played = evaluate(fakes.FakeAgent(), Unstable, 8, batch=3, say=said.append)
    short = [episode for episode in played if episode.length == 3]
    assert 0 < len(short) < 8
    (text,) = said
    assert text.startswith(f"{len(short)} of 8 episodes ended because the simulation")


@pytest.mark.parametrize("batch", [1, 2])
def test_episodes_without_an_end_are_cut_and_said(batch):
    limits = itertools.cycle([10**9, 3])
    said = []
    played = evaluate(
        fakes.FakeAgent(),
        lambda: fakes.FakeEnv(next(limits)),
        2 * batch,
        batch=batch,
        longest=7,
        say=said.append,
    )
    assert {e.length for e in played} == ({7} if batch == 1 else {3, 7})
    assert len(said) == 1 and "had not ended after 7 decisions" in said[0]
    assert "--length=FRAMES" in said[0]


def test_an_episode_that_ends_where_it_would_be_cut_is_not_said():
    said = []
    (played,) = evaluate(
        fakes.FakeAgent(), lambda: fakes.FakeEnv(7), 1, longest=7, say=said.append
    )
    assert played.length == 7 and not said


def test_a_longer_limit_of_the_run_is_respected():
    assert cut_at(RunConfig()) == 100_000
    assert cut_at(RunConfig(length=10**6, repeat=3)) == 333_334
    assert cut_at(RunConfig(length=50), 10) == 50


def test_evaluation_stops_between_decisions():
    agent = fakes.FakeAgent()
    agent.decisions = 5
    with pytest.raises(Stopped):
        evaluate(agent, fakes.FakeEnv, 3, stop=lambda: len(agent.tape) >= 2)
    assert len(agent.tape) == 2 and agent.decisions == 5
