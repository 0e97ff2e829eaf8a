"""CartPole and Pendulum are learned from vectors by every version (slow).

With the settings of `--benchmark=gym --protocol=lite`, in less than 15 minutes on two
CPU cores. `results/gym` holds scores of such runs, and says which have been made.
"""

import time

import pandas as pd
import pytest

from dreamer_tf.configs import presets
from dreamer_tf.configs.fields import updated
from dreamer_tf.training.evaluate import evaluate_run
from dreamer_tf.training.train import train

# task: the lowest mean return of 20 evaluation episodes that counts as learned.
# CartPole ends after 500 steps with 1 each; random actions reach 22. Pendulum's best
# is about -150 on average; random actions reach -1200.
LEARNED = {"CartPole-v1": 400.0, "Pendulum-v1": -400.0}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("task", LEARNED)
@pytest.mark.parametrize("version", presets.PROTOCOLS)
def test_learns(version, task, tmp_path):
    run, agent = presets.load(version, "gym", "lite", f"gym_{task}")
    run = updated(run, {"logdir": str(tmp_path), "save_every": 1e6, "video_every": 0})
    start = time.process_time()
    train(run, agent)
    print(f"{time.process_time() - start:.0f} CPU seconds")
    print(pd.read_csv(tmp_path / "scores.csv").score.round(1).tolist())
    played = evaluate_run(tmp_path, episodes=20)
    score = sum(episode.score for episode in played) / len(played)
    assert score >= LEARNED[task]
