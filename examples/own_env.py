"""DreamerV3 on an environment of your own, in two minutes on two CPU cores.

    python examples/own_env.py --steps=800
    python examples/dream.py --logdir=logs/own_env
    python run.py video --logdir=logs/own_env

A run stores the name of its environment. Every command can make `gym_<module>:<id>`
from it, provided that Python finds the module:

    python run.py train --version=v1 --benchmark=gym --protocol=lite \
        --task=gym_examples.own_env:Thermostat-v0 --logdir=logs/own_env_v1
"""

import math
import statistics
import sys
from pathlib import Path

import gymnasium
import numpy as np
from absl import app, flags
from gymnasium import spaces

# Where Python finds dreamer_tf, and `examples.own_env`.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dreamer_tf import make_env
from dreamer_tf.configs import presets
from dreamer_tf.configs.fields import updated
from dreamer_tf.envs import check_env
from dreamer_tf.training.evaluate import evaluate_run
from dreamer_tf.training.train import train

DEGREES = spaces.Box(-np.inf, np.inf, (), np.float32)


class Thermostat(gymnasium.Env):
    """A room to keep at 20 °C, whatever the weather does."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Dict(room=DEGREES, outside=DEGREES)
    action_space = spaces.Box(-1, 1, (1,), np.float32)  # full cooling … full heating

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = self.np_random.uniform(-10, 10)  # °C above 20
        self.hour = self.np_random.uniform(0, 24)
        return self.observe(), {}

    def step(self, action):
        self.hour += 1
        self.room += 0.1 * (self.outside - self.room) + 2 * float(action[0])
        comfort = math.exp(-abs(self.room) / 2)
        return self.observe(), comfort, False, False, {}

    @property
    def outside(self):
        return 10 * math.sin(2 * math.pi * self.hour / 24)

    def observe(self):  # numbers of about size 1, which networks learn sooner
        return {"room": self.room / 10, "outside": self.outside / 10}

    def render(self):
        """Two thermometers, the inner one on the left."""
        picture = np.full((64, 64, 3), 255, np.uint8)
        for left, value in ((12, self.room), (40, self.outside)):
            top = int(np.clip(32 - 2 * value, 0, 63))
            picture[top:, left : left + 12] = (
                (230, 120, 0) if value > 0 else (0, 114, 178)
            )
        return picture


TASK = "gym_examples.own_env:Thermostat-v0"

# Many updates from short sequences, so that a few hundred frames are enough.
SMALL = {"batch_size": 8, "batch_length": 16, "train_ratio": 128}
SMALL |= {"opt.lr": 1e-3, "opt.warmup": 20}


def main(_):
    print(check_env(make_env(TASK)))  # what to change, if anything
    run, config = presets.load("v3", "gym", "lite", TASK)
    where = {"steps": STEPS.value, "logdir": LOGDIR.value, "log_every": 100}
    run = updated(run, where | {"envs": 1, "repeat": 1})
    train(run, updated(config, SMALL), sys.argv)
    for mode, name in (("random", "random actions"), ("eval", "the trained policy")):
        episodes = evaluate_run(Path(run.logdir), 10, mode)
        mean = statistics.fmean(episode.score for episode in episodes)
        print(f"return {mean:5.1f} of at most 50 with {name}")


if __name__ == "__main__":
    STEPS = flags.DEFINE_integer("steps", 800, "frames to train for", lower_bound=1)
    LOGDIR = flags.DEFINE_string("logdir", "logs/own_env", "directory of the run")
    app.run(main)
else:  # gymnasium imports this file to find the name
    gymnasium.register("Thermostat-v0", Thermostat, max_episode_steps=50)
