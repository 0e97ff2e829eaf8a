"""Evaluation does not depend on what is played side by side."""

import itertools

import numpy as np
import pytest

from dreamer_tf.envs import episode_seed
from dreamer_tf.training.evaluate import evaluate
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
