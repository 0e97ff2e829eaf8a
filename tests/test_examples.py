"""The examples run as they are, from any directory."""

import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreamer_tf import v1, v2
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import check_env, make_env
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import test_v1, test_v2

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name, directory, *flags):
    """Runs one in a directory; returns what it prints."""
    command = [sys.executable, str(EXAMPLES / name), *flags]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=True
    ).stdout


def returns(text):
    """With random actions, and of the policy."""
    found = re.findall(r"return +([\d.]+) of at most 50 with", text)
    random, policy = map(float, found)
    return random, policy


@pytest.fixture(scope="module")
def own_env(tmp_path_factory):
    """A run too short for a single update, and what was printed."""
    path = tmp_path_factory.mktemp("own_env")
    return path, example("own_env.py", path, "--steps=60")


def test_own_env(own_env):
    path, text = own_env
    assert "observations room (), outside (): all as it should be." in text
    assert (path / "logs" / "own_env" / "config.json").exists()
    assert all(0 < value < 50 for value in returns(text))


def test_own_env_is_found_by_name():
    with make_env("gym_examples.own_env:Thermostat-v0") as env:
        check_env(env)
        assert env.render().std() > 0


def test_dream_of_vectors(own_env):
    path, _ = own_env
    assert example("dream.py", path, "--horizon=8").strip() == "dream.png"
    picture(path / "dream.png")


def picture(path):
    """There is something in it, at the left and at the right."""
    pixels = np.asarray(Image.open(path).convert("L"), float)
    assert pixels.shape[1] == 1350
    assert pixels[:, :600].std() > 20 and pixels[:, 800:].std() > 20


@pytest.mark.slow
def test_own_env_is_learned(tmp_path):
    random, policy = returns(example("own_env.py", tmp_path))
    assert random < 20 and policy > random + 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "test", "changes"),
    [(v1, test_v1, {}), (v2, test_v2, {"every_rank": True, "replay.minlen": 5})],
    ids=["v1", "v2"],
)
def test_dream_of_images(module, test, changes, tmp_path):
    run = RunConfig(version=test.__name__[-2:], task="toy_discrete", obs="both")
    run = dataclasses.replace(run, steps=4, length=12, logdir=str(tmp_path / "run"))
    config = updated(module.Config(), test.TINY | changes)
    train(run, config, [], None, Terminal(0, io.StringIO()))
    # The episode ends before the dream does.
    example("dream.py", tmp_path, f"--logdir={run.logdir}", "--horizon=20")
    picture(tmp_path / "dream.png")
