"""Every version learns the toy task, from vectors and from pixels (minutes each)."""

import pandas as pd
import pytest

from dreamer_tf import loop, presets
from dreamer_tf.config import updated
from dreamer_tf.envs import toy

# Three halvings fit into 32x32 pixels; V3's stages do anyway. What `lite` changes of
# the KL is for vectors.
IMAGES = {
    "v1": {
        "enc_kernels": (4, 4, 4),
        "dec_kernels": (5, 6, 6),
        "free_nats": 3.0,
        "kl_scale": 1.0,
    },
    "v2": {
        "encoder.cnn_kernels": (4, 4, 4),
        "decoder.cnn_kernels": (5, 6, 6),
        "kl.free": 1.0,
        "loss_scales.kl": 1.0,
    },
    "v3": {},
}
FRAMES = {"proprio": 4_000, "image": 5_000}


@pytest.mark.slow
@pytest.mark.timeout(3600)
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
