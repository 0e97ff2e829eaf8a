"""The control suite: names, cameras, repeat, reproducible episodes, pictures."""

import os
import subprocess
import sys

import numpy as np
import pytest

from dreamer_tf.envs import check_env, dmc, list_tasks, make_env
from dreamer_tf.envs.base import action_size
from dreamer_tf.errors import UserError


def rollout(env, seed, steps=20):
    random = np.random.default_rng(0)
    records = [env.reset(seed)]
    for _ in range(steps):
        action = random.uniform(-1, 1, action_size(env.action_space))
        records.append(env.step(action))
    return records


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dmc_walker_walk", ("walker", "walk")),
        ("walker_walk", ("walker", "walk")),
        ("cup_catch", ("ball_in_cup", "catch")),
        ("dmc_cup_catch", ("ball_in_cup", "catch")),
        ("dmc_ball_in_cup_catch", ("ball_in_cup", "catch")),
        ("dmc_humanoid_CMU_run", ("humanoid_CMU", "run")),
        ("humanoid_run_pure_state", ("humanoid", "run_pure_state")),
        ("cartpole_swingup_sparse", ("cartpole", "swingup_sparse")),
    ],
)
def test_names(name, expected):
    assert dmc.split(name) == expected


def test_every_task_of_the_suite_is_listed():
    from dm_control import suite

    listed = [name for name in list_tasks() if name.startswith("dmc_")]
    assert len(listed) == len(suite.ALL_TASKS)
    assert {dmc.split(name) for name in listed} == set(suite.ALL_TASKS)


def test_unknown_task():
    with pytest.raises(UserError, match=r"did you mean dmc_walker_walk"):
        make_env("dmc_walker_wlak")
    with pytest.raises(UserError, match="did you mean dmc_cup_catch"):
        make_env("cup_cach")
    with pytest.raises(UserError, match=r"walker_fly.*not in dm_control"):
        dmc.split("walker_fly")


def test_records():
    env = make_env("walker_walk", repeat=2)
    assert {n: s.shape for n, s in env.obs_space.spaces.items()} == {
        "orientations": (14,),
        "height": (),
        "velocity": (9,),
    }
    assert env.action_space.shape == (6,)
    assert check_env(env, steps=30)


@pytest.mark.parametrize("task", ["walker_walk", "reacher_easy", "quadruped_escape"])
def test_episodes_are_reproducible(task):
    env, other = make_env(task, repeat=2), make_env(task, repeat=2)
    first = rollout(env, 3)
    different = rollout(env, 4)
    assert any((first[0][n] != different[0][n]).any() for n in env.obs_space.spaces)
    assert_equal(first, rollout(env, 3))
    assert_equal(first, rollout(other, 3))


@pytest.mark.slow
@pytest.mark.parametrize("task", dmc.tasks())
def test_every_task(task):
    with make_env(task) as env:
        check_env(env, steps=20)
        first = rollout(env, 3)
        rollout(env, 4)
        assert_equal(first, rollout(env, 3))


def test_repeat_equals_single_frames():
    single, double = make_env("cheetah_run"), make_env("cheetah_run", repeat=2)
    single.reset(1)
    double.reset(1)
    random = np.random.default_rng(0)
    for _ in range(5):
        action = random.uniform(-1, 1, 6)
        rewards = [float(single.step(action)["reward"]) for _ in range(2)]
        after = double.step(action)
        assert float(after["reward"]) == pytest.approx(sum(rewards), rel=1e-6)
    np.testing.assert_array_equal(after["position"], single._observe()["position"])


def test_full_episode_is_cut_not_terminated():
    env = make_env("cartpole_balance", repeat=2)
    record, decisions = env.reset(0), 0
    while not record["is_last"]:
        record = env.step(np.zeros(1))
        decisions += 1
    assert decisions == 500
    assert not record["is_terminal"]


def test_actions_reach_the_limits_of_the_actuators():
    env = make_env("quadruped_walk")
    env.reset(0)
    env.step(np.ones(12))
    np.testing.assert_allclose(env._env.physics.data.ctrl, [1, 1.1, 0.8] * 4)
    env.step(-np.ones(12))
    np.testing.assert_allclose(env._env.physics.data.ctrl, [-1, -1, -0.8] * 4)


def test_actuators_without_limits_are_not_stretched():
    env = make_env("lqr_lqr_2_1")
    env.reset(0)
    env.step(np.ones(1))
    assert env._env.physics.data.ctrl.tolist() == [1]


def test_vectors_need_no_graphics():
    """Not even where MUJOCO_GL names a backend that does not exist."""
    script = (
        "from dreamer_tf.envs import make_env\n"
        "env = make_env('quadruped_escape')\n"
        "env.reset(0), env.step([0] * 12)\n"
        "import os, sys\n"
        "assert not any(m.startswith('OpenGL') for m in sys.modules)\n"
        "assert os.environ['MUJOCO_GL'] == 'nonsense'\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


@pytest.mark.parametrize(
    ("task", "given", "used"),
    [
        ("walker_walk", None, 0),
        ("quadruped_run", None, 2),
        ("walker_walk", 1, 1),
        ("quadruped_run", 0, 0),
    ],
)
def test_cameras(task, given, used):
    env = make_env(task, obs="both", camera=given, size=32)
    record = env.reset(0)
    assert record["image"].shape == (32, 32, 3)
    assert record["image"].dtype == np.uint8
    assert next(iter(env.obs_space.spaces)) == "image"  # as in the official code
    expected = env._env.physics.render(32, 32, camera_id=used)
    np.testing.assert_array_equal(record["image"], expected)
    assert env.render(48).shape == (48, 48, 3)
    env.close()


def test_unknown_camera():
    with pytest.raises(UserError, match=r"camera is 7.*0 to 1"):
        make_env("walker_walk", camera=7)


def test_images_are_full_quality_by_default_and_may_be_large():
    env = make_env("cartpole_balance", obs="image", size=700)
    assert list(env.obs_space.spaces) == ["image"]
    assert env._env.physics.model.vis.quality.offsamples > 0
    assert env.reset(0)["image"].shape == (700, 700, 3)
    env.close()
    fast = make_env("cartpole_balance", obs="image", fast_render=True)
    assert fast._env.physics.model.vis.quality.offsamples == 0
    fast.reset(0)
    film = fast.render(320)  # for whose means the frame buffer has no room
    np.testing.assert_array_equal(film, fast._env.physics.render(320, 320, camera_id=0))
    fast.close()


def test_fast_render_draws_means_of_2x2_pixels():
    """Single samples of 32x32 pixels would often miss the pole, which is thinner."""
    env = make_env("cartpole_swingup", obs="image", size=32, fast_render=True)
    for seed in range(8):
        image = env.reset(seed)["image"].astype(float)
        large = env._env.physics.render(64, 64, camera_id=0).astype(float)
        means = (large[::2] + large[1::2]) / 2
        means = (means[:, ::2] + means[:, 1::2]) / 2
        assert image.shape == (32, 32, 3)
        np.testing.assert_allclose(image, means, atol=0.5)
        red, _, blue = np.moveaxis(image[18:20], -1, 0)  # between cart and floor
        assert (red > blue).any(), seed
    env.close()


def test_a_task_with_vectors_can_be_rendered_later():
    """Its terrain must be the one of the present episode."""
    early = make_env("quadruped_escape", obs="both", size=32)
    late = make_env("quadruped_escape", size=32)
    early.reset(1)
    late.reset(1)
    expected = early.reset(2)["image"]
    late.reset(2)
    np.testing.assert_array_equal(late.render(), expected)
    expected = early.reset(3)["image"]
    late.reset(3)
    np.testing.assert_array_equal(late.render(), expected)
    early.close()
    late.close()


@pytest.mark.parametrize(
    ("name", "value"), [("qpos", np.nan), ("qvel", np.nan), ("qvel", 1e11)]
)
def test_physics_that_diverges_ends_the_episode(name, value):
    env, other = make_env("walker_walk", repeat=2), make_env("walker_walk", repeat=2)
    env.reset(0)
    before = env.step(np.zeros(6))
    getattr(env._env.physics.data, name)[:] = value
    record = env.step(np.ones(6))
    assert record["is_last"] and not record["is_terminal"]
    assert record["reward"] == 0 and record.frames == 1
    assert "mjWARN_BADQ" in record.diverged
    assert_equal(
        [{n: before[n] for n in env.obs_space.spaces}],
        [{n: record[n] for n in env.obs_space.spaces}],
    )
    # Nothing of it stays behind.
    assert_equal(rollout(env, 3), rollout(other, 3))


def test_observations_of_physics_that_are_not_finite_end_the_episode():
    env = make_env("walker_walk")
    env.reset(0)
    task, look = env._env.task, env._env.task.get_observation
    task.get_observation = lambda physics: look(physics) | {"height": np.inf}
    assert "height" in env.step(np.zeros(6)).diverged


def test_physics_that_never_begins_stops_with_a_sentence():
    from dm_control.rl.control import PhysicsError

    def initialize(physics):
        raise PhysicsError("the world ended")

    env = make_env("walker_walk")
    env._env.task.initialize_episode = initialize
    pattern = "^walker_walk diverged in 10 episodes in a row .*: the world ended;"
    with pytest.raises(UserError, match=pattern):
        env.reset(0)


def test_other_errors_of_a_task_are_one_sentence():
    def initialize(physics):
        raise OSError("no such terrain")

    env = make_env("walker_walk")
    env._env.task.initialize_episode = initialize
    line = initialize.__code__.co_firstlineno + 1
    pattern = rf"walker_walk failed in reset\(\) with OSError .*test_dmc.py:{line}"
    with pytest.raises(UserError, match=pattern):
        env.reset(0)
