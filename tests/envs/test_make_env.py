"""The package's front door."""

import subprocess
import sys

import pytest

from dreamer_tf.envs import list_tasks, make_env
from dreamer_tf.errors import UserError


def test_importing_loads_nothing_heavy():
    script = (
        "import sys, dreamer_tf.envs\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'mujoco', 'dm_control'}\n"
        "print(*heavy & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_list_tasks():
    tasks = list_tasks()
    assert {"dmc_walker_walk", "dmc_ball_in_cup_catch", "toy", "toy_discrete"} <= {
        *tasks
    }
    assert {"catch", "minatar_breakout", "minatar_space_invaders"} <= {*tasks}
    assert len(set(tasks)) == len(tasks)


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("toi", {}, "did you mean toy"),
        ("", {}, "not known.*gym_<id>"),
        ("toy", {"obs": "pixels"}, "obs is 'pixels'"),
        ("gym_CartPole-v1", {"obs": "pixels"}, "obs is 'pixels'"),
        ("walker_walk", {"obs": "pixels"}, "obs is 'pixels'"),
        ("cach", {}, "did you mean .*catch"),
        ("minatar", {}, "did you mean minatar_"),
        ("catch_2", {}, "did you mean .*catch"),
        ("catch", {"obs": "pixels"}, "obs is 'pixels'"),
        ("catch", {"camera": 0}, "camera"),
        ("catch", {"env_args": {"rows": 5}}, "env_args are for .*the task is catch"),
        ("toy", {"camera": 1}, "camera"),
        ("toy", {"fast_render": True}, "fast_render"),
        ("toy", {"repeat": 0}, "repeat is 0"),
        ("toy", {"seed": -1}, "seed is -1"),
    ],
)
def test_errors(task, arguments, message):
    with pytest.raises(UserError, match=message):
        make_env(task, **arguments)
