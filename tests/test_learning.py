"""Every version learns the toy task, from vectors and from pixels (a few minutes)."""

import pandas as pd
import pytest

from dreamer_tf.configs import presets
from dreamer_tf.configs.fields import updated
from dreamer_tf.envs import toy
from dreamer_tf.training.evaluate import evaluate_run
from dreamer_tf.training.train import train


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("benchmark", ["toy", "toy_vision"])
@pytest.mark.parametrize("version", presets.PROTOCOLS)
def test_learns_the_toy(version, benchmark, tmp_path):
    """At least half the way from the random to the optimal return."""
    run, agent = presets.load(version, benchmark, "lite")
    train(updated(run, {"logdir": str(tmp_path), "save_every": 1e6}), agent)
    played = evaluate_run(tmp_path, episodes=20)
    score = sum(episode.score for episode in played) / len(played)
    random, optimal = toy.RETURNS["toy"].values()
    print(pd.read_csv(tmp_path / "scores.csv").score.round(1).tolist())
    assert score > random + 0.5 * (optimal - random)  # 30.1
