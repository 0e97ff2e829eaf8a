"""The names of tasks, as published tables have them."""

from dreamer_tf.configs import bsuite
from dreamer_tf.envs import atari, minatar

DMC_VISION = (
    "acrobot_swingup",
    "ball_in_cup_catch",
    "cartpole_balance",
    "cartpole_balance_sparse",
    "cartpole_swingup",
    "cartpole_swingup_sparse",
    "cheetah_run",
    "finger_spin",
    "finger_turn_easy",
    "finger_turn_hard",
    "hopper_hop",
    "hopper_stand",
    "pendulum_swingup",
    "quadruped_run",
    "quadruped_walk",
    "reacher_easy",
    "reacher_hard",
    "walker_run",
    "walker_stand",
    "walker_walk",
)
DMC_PROPRIO_20 = DMC_VISION
DMC_PROPRIO_18 = tuple(t for t in DMC_VISION if not t.startswith("quadruped"))

# ROM ids of ale-py.
ATARI_57 = atari.GAMES
# DreamerV2 left out two games.
ATARI_55 = tuple(t for t in ATARI_57 if t not in ("defender", "surround"))
ATARI_26 = (
    "alien",
    "amidar",
    "assault",
    "asterix",
    "bank_heist",
    "battle_zone",
    "boxing",
    "breakout",
    "chopper_command",
    "crazy_climber",
    "demon_attack",
    "freeway",
    "frostbite",
    "gopher",
    "hero",
    "jamesbond",
    "kangaroo",
    "krull",
    "kung_fu_master",
    "ms_pacman",
    "pong",
    "private_eye",
    "qbert",
    "road_runner",
    "seaquest",
    "up_n_down",
)

# bsuite's sweep, a configuration after the other.
BSUITE = tuple(
    f"{name}_{number}"
    for name, experiment in bsuite.EXPERIMENTS.items()
    for number in range(experiment.count)
)
# Without those that download their data when they are made.
BSUITE_OFFLINE = tuple(t for t in BSUITE if t.rpartition("_")[0] not in bsuite.ONLINE)

MINATAR = minatar.GAMES
