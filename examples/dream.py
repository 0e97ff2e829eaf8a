"""What an agent expects to see, beside what it then sees.

    python examples/own_env.py
    python examples/dream.py --logdir=logs/own_env --out=dream.png

The agent looks at a few observations, closes its eyes and acts in its dream. Then the
same actions are carried out. Any run will do: vectors become curves, images two rows.
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

from dreamer_tf import engine, load_agent
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

# %% Dream: many at once, for much is left to chance; the first one's policy acts
dream = {name: np.repeat(x, DREAMS, 0) for name, x in state.items()}
dream, imagine = agent.dyn.imagining(dream)
actions, dreamed = [], []
for step in range(FLAGS.horizon):
    actions.append(action[0])
    action = np.repeat(action[:1], DREAMS, 0)
    # The prior takes noise of the same shape as the posterior that the policy uses.
    chance = agent.draw_policy(engine.seed(FLAGS.seed, step), {}, {"action": action})
    dream = imagine(dream, action, chance["post"])
    dreamed.append(agent.decode(dream))
    action = np.asarray(agent.actor(agent.dyn.feat(dream)).sample(None))

# %% Wake up: what really happens after these actions
for action in actions:
    if record["is_last"]:
        break
    record = env.step(action)
    real.append(record)
env.close()


# %% Every number of the vectors over time, real and in all dreams
def over_time(steps, name):
    """An entry of all steps, `[T, B, numbers]`."""
    values = np.stack([np.asarray(step[name]) for step in steps])
    return values.reshape(*values.shape[:2], -1)


images = [name for name, shape in agent.shapes.items() if len(shape) == 3]
numbers = []
for name in [name for name in agent.shapes if name not in images]:
    truth = over_time([{name: record[name][None]} for record in real], name)
    before, after = over_time(seen, name), over_time(dreamed, name)
    for i in range(truth.shape[-1]):
        label = f"{name}[{i}]" if truth.shape[-1] > 1 else name
        numbers.append((label, truth[:, 0, i], before[:, 0, i], after[..., i]))
most = np.argsort([-truth.std() for _, truth, *_ in numbers])[:6]  # that moves
numbers = [numbers[i] for i in sorted(most)]

# %% Draw: blue is what the agent has seen, orange what it dreamed
BLUE, ORANGE, INK, GREY = "#0072b2", "#e67800", "#1b2430", "#5c6876"
MORE = [GREY, "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b59f00"]  # of actions
COLUMNS = 10  # images side by side
now = FLAGS.context - 1  # the last moment with open eyes
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
    bounds = np.percentile(after, (10, 50, 90), axis=1)
    low, middle, high = np.insert(bounds, 0, before[-1], axis=1)  # where they begin
    band = {"label": "8 of 10 dreams", "color": ORANGE, "alpha": 0.2, "lw": 0}
    axes.plot(time[: len(truth)], truth, ".-", label="real", color=INK, lw=1.2, ms=4)
    axes.plot(past, before, label="model, eyes open", color=BLUE, lw=2)
    axes.plot(future, middle, label="dreams, median", color=ORANGE, lw=2)
    axes.fill_between(future, low, high, **band)
    axes.tick_params(labelbottom=False)
    if row == 0:
        right = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 4}
        axes.legend(**right, frameon=False, fontsize=9, borderaxespad=0)

moments = np.linspace(0, len(real) - 1, COLUMNS).round().astype(int)
for row, name in enumerate(images):
    for column, t in enumerate(moments):
        model = 255 * np.asarray([*seen, *dreamed][t][name][0])
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
done = np.stack([*(record["action"] for record in real[1 : now + 1]), *actions])
lines = [done.argmax(1)] if agent.discrete else done.T.clip(-1, 1)[: len(MORE)]
for values, colour in zip(lines, MORE):
    axes.step(time, [*values, values[-1]], where="post", color=colour, lw=1.2)
axes.set_xlabel("decisions since the agent closed its eyes", color=GREY)

figure.savefig(FLAGS.out, dpi=150)
print(FLAGS.out)
