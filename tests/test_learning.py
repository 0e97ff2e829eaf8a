"""Every version learns the toy task, from vectors and from pixels (many minutes)."""

import pandas as pd
import pytest

from dreamer_tf import loop, presets
from dreamer_tf.config import updated
from dreamer_tf.envs import toy

# Three halvings fit into 32x32 pixels; V3's stages do anyway. What `lite` changes of
# the KL is for vectors. Convolutions are faster without XLA on CPUs.
IMAGES = {
    "v1": {
        "enc_kernels": (4, 4, 4),
        "dec_kernels": (5, 6, 6),
        "cnn_depth": 16,
        "kl_scale": 0.3,
        "train_every": 125,
        "jit": False,
    },
    "v2": {
        "encoder.cnn_kernels": (4, 4, 4),
        "decoder.cnn_kernels": (5, 6, 6),
        "encoder.cnn_depth": 16,
        "decoder.cnn_depth": 16,
        "loss_scales.kl": 0.3,
        "train_every": 1,
        "jit": False,
    },
    "v3": {"train_ratio": 256, "jit": False},
}
FRAMES = {"proprio": 4_000, "image": 12_000}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("obs", ["proprio", "image"])
@pytest.mark.parametrize("version", presets.PROTOCOLS)
def test_learns_the_toy(version, obs, tmp_path):
    """At least half the way from the random to the optimal return."""
    run, agent = presets.load(version, "toy", "lite")
    settings = {"obs": obs, "size": 32, "steps": FRAMES[obs], "save_every": 1e6}
    run = updated(run, settings | {"logdir": str(tmp_path)})
    if obs == "image":
        agent = updated(agent, IMAGES[version])
    loop.train(run, agent)
    played = loop.evaluate_run(tmp_path, episodes=20)
    score = sum(episode.score for episode in played) / len(played)
    random, optimal = toy.RETURNS["toy"].values()
    print(pd.read_csv(tmp_path / "scores.csv").score.round(1).tolist())
    assert score > random + 0.5 * (optimal - random)
