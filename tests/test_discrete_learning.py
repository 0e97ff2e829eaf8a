"""Catch is learned from vectors and from pictures, in minutes (slow).

V3 learns MinAtar's Breakout too, if MinAtar is installed. The settings are those of
`--protocol=lite`. `results/discrete` holds scores of such runs, and says which have
been made.
"""

import time

import pandas as pd
import pytest

from dreamer_tf.configs import presets
from dreamer_tf.configs.fields import updated
from dreamer_tf.training.evaluate import evaluate_run
from dreamer_tf.training.train import train

CATCH = 0.8  # mean return that counts as learned; random -0.2, optimal 1
BREAKOUT = 2.5  # random 0.5


def learned(version, benchmark, folder):
    """The mean return of 100 episodes after training."""
    run, agent = presets.load(version, benchmark, "lite")
    run = updated(run, {"logdir": str(folder), "save_every": 1e6, "video_every": 0})
    start = time.process_time()
    train(run, agent)
    print(f"{time.process_time() - start:.0f} CPU seconds")
    scores = pd.read_csv(folder / "scores.csv")
    print(scores.groupby([scores.kind, scores.frames // 500 * 500]).score.mean())
    played = evaluate_run(folder, episodes=100)
    return sum(episode.score for episode in played) / len(played)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("benchmark", ["catch", "catch_vision"])
@pytest.mark.parametrize("version", presets.PROTOCOLS)
def test_learns_catch(version, benchmark, tmp_path):
    assert learned(version, benchmark, tmp_path) >= CATCH


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_learns_breakout(tmp_path):
    pytest.importorskip("minatar")
    assert learned("v3", "minatar", tmp_path) >= BREAKOUT
