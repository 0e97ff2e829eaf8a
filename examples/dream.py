"""What an agent expects to see, beside what it then sees.

    python examples/own_env.py
    python examples/dream.py --logdir=logs/own_env --out=dream.png

The agent acts on a few observations, then goes on inside its world model, without any.
Then the same actions are carried out in the environment. Any run will do: vectors and
the reward become curves, images two rows.
The cells (`# %%`) are those of Jupyter, VS Code and Spyder.
"""

# %% Which run, and how far to dream
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # where dreamer_tf lies
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notes

from dreamer_tf import load_agent
from dreamer_tf.errors import UserError
from dreamer_tf.training import logdir
from dreamer_tf.training.build import one_env

flags.DEFINE_string("logdir", "logs/own_env", "directory of the run")
flags.DEFINE_string("out", "dream.png", "the picture")
flags.DEFINE_integer("context", 5, "decisions whose observations are seen")
flags.DEFINE_integer("horizon", 30, "decisions that are dreamed after them")
flags.DEFINE_integer("seed", 0, "of the episode")
flags.FLAGS(sys.argv, known_only=True)  # a notebook has arguments of its own
FLAGS = flags.FLAGS
DREAMS = 64

# %% Look: the agent acts in the environment and keeps its state
try:
    agent = load_agent(FLAGS.logdir)
except UserError as error:
    sys.exit(f"dream.py: {error}")
run = logdir.read(Path(FLAGS.logdir))
env = one_env(run)
state = agent.initial_state(batch_size=1)
record = env.reset(seed=FLAGS.seed)
real, seen = [], []
while True:
    real.append(record)
    obs = {name: record[name][None] for name in [*agent.shapes, "is_first"]}
    action, state = agent.policy(obs, state, mode="eval")
    seen.append(agent.decode(state))
    if len(real) == FLAGS.context:
        break
    record = env.step(action[0])

# %% Dream: once for the actions, then many times, for much is left to chance
actions = agent.dream(state, FLAGS.horizon, seed=FLAGS.seed)["action"]
many = {name: np.repeat(x, DREAMS, 0) for name, x in state.items()}
same = np.repeat(actions, DREAMS, 0)
dreams = agent.dream(many, FLAGS.horizon, seed=FLAGS.seed, actions=same)

# %% Wake up: what really happens after these actions
for action in actions[0]:
    if record["is_last"]:
        break
    record = env.step(action)
    real.append(record)
env.close()


# %% Every number of the vectors over time, and the reward: real, seen and dreamed
def flat(values):
    """An entry's values `[., ., *shape]` as `[., ., numbers]`."""
    return np.reshape(values, (*np.shape(values)[:2], -1))


images = [name for name, shape in agent.shapes.items() if len(shape) == 3]
numbers = []  # label; real [T]; model, observing [context]; dreams [DREAMS, horizon]
for name in [name for name in agent.shapes if name not in images]:
    truth = flat([record[name][None] for record in real])[:, 0]
    before = flat([step[name] for step in seen])[:, 0]
    after = flat(dreams["obs"][name])
    for i in range(truth.shape[-1]):
        label = f"{name}[{i}]" if truth.shape[-1] > 1 else name
        numbers.append((label, truth[:, i], before[:, i], after[..., i]))
most = np.argsort([-truth.std() for _, truth, *_ in numbers])[:6]  # that moves
numbers = [numbers[i] for i in sorted(most)]
rewards = np.stack([record["reward"] for record in real])
unknown = np.full(FLAGS.context, np.nan)  # only dreams predict rewards
numbers.append(("reward", rewards, unknown, dreams["reward"]))

# %% Draw: blue is what the agent has seen, orange what it dreamed
BLUE, ORANGE, INK, GREY = "#0072b2", "#e67800", "#1b2430", "#5c6876"
MORE = [GREY, "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b59f00"]  # of actions
COLUMNS = 10  # images side by side
now = FLAGS.context - 1  # the last moment with an observation
time = np.arange(FLAGS.context + FLAGS.horizon) - now
past, future = time[: now + 1], time[now:]

heights = [1.4] * len(numbers) + [0.9, 0.9] * len(images) + [0.7]
figure = plt.figure(figsize=(9, sum(heights) + 0.9), layout="constrained")
figure.get_layout_engine().set(hspace=0.05, h_pad=0.04, wspace=0.0, w_pad=0.03)
grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights)
title = f"Dreamer{run.version.upper()} on {run.task}, after {agent.updates:,} updates"
figure.suptitle(title, x=0.01, ha="left", weight="bold", color=INK)


def panel(row, title):
    axes = figure.add_subplot(grid[row, :])
    axes.axvspan(time[0] - 0.2, 0, color=BLUE, alpha=0.08, lw=0)
    axes.set_title(title, loc="left", fontsize=10, weight="bold", color=INK)
    axes.set_xlim(time[0] - 0.2, time[-1] + 0.2)
    axes.grid(color="#e4e8ed", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#aab2bc")
    axes.tick_params(length=0, labelsize=8, labelcolor=GREY)
    return axes


for row, (label, truth, before, after) in enumerate(numbers):
    axes = panel(row, label)
    bounds = np.percentile(after, (10, 50, 90), axis=0)
    low, middle, high = np.insert(bounds, 0, before[-1], axis=1)  # where they begin
    band = {"label": "8 of 10 dreams", "color": ORANGE, "alpha": 0.2, "lw": 0}
    axes.plot(time[: len(truth)], truth, ".-", label="real", color=INK, lw=1.2, ms=4)
    axes.plot(past, before, label="model, observing", color=BLUE, lw=2)
    axes.plot(future, middle, label="dreams, median", color=ORANGE, lw=2)
    axes.fill_between(future, low, high, **band)
    axes.tick_params(labelbottom=False)
    if row == 0:
        right = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 4}
        axes.legend(**right, frameon=False, fontsize=9, borderaxespad=0)

moments = np.linspace(0, len(real) - 1, COLUMNS).round().astype(int)
for row, name in enumerate(images):
    for column, t in enumerate(moments):
        dreamed = dreams["obs"][name][0]
        model = 255 * np.asarray(seen[t][name][0] if t <= now else dreamed[t - now - 1])
        colour = ORANGE if t > now else BLUE
        for below, image in enumerate((real[t][name], model)):
            at = grid[len(numbers) + 2 * row + below, column]
            axes = figure.add_subplot(at, xticks=[], yticks=[])
            axes.imshow(np.clip(image, 0, 255).astype(np.uint8).squeeze(), "gray")
            axes.spines[:].set(color=colour, lw=2)
            if below == 0:
                axes.set_title(
                    f"{time[t]:+d}" if t != now else "0", fontsize=9, color=colour
                )
            if column == 0:
                axes.set_ylabel(("real", "model")[below], fontsize=10, color=INK)

axes = panel(len(heights) - 1, "action")
done = np.stack([*(record["action"] for record in real[1 : now + 1]), *actions[0]])
lines = [done.argmax(1)] if agent.discrete else done.T.clip(-1, 1)[: len(MORE)]
for values, colour in zip(lines, MORE):
    axes.step(time, [*values, values[-1]], where="post", color=colour, lw=1.2)
axes.set_xlabel("decisions since the last observation", color=GREY)

figure.savefig(FLAGS.out, dpi=150)
print(FLAGS.out)
