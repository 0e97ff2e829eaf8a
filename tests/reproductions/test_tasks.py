import pytest

from dreamer_tf.errors import UserError
from reproductions import tasks


def test_task_lists_are_those_of_the_papers():
    assert len(tasks.DMC_VISION) == len(tasks.DMC_PROPRIO_20) == 20
    assert len(tasks.DMC_PROPRIO_18) == 18
    gone = set(tasks.DMC_PROPRIO_20) - set(tasks.DMC_PROPRIO_18)
    assert gone == {"quadruped_run", "quadruped_walk"}


def test_every_task_exists_in_dm_control():
    suite = pytest.importorskip("dm_control.suite")
    known = {f"{domain}_{task}" for domain, task in suite.ALL_TASKS}
    assert set(tasks.DMC_VISION) <= known


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("dmc_walker_walk", "walker_walk"),
        ("walker-walk", "walker_walk"),
        ("dmc_cup_catch", "ball_in_cup_catch"),
        ("cup-catch", "ball_in_cup_catch"),
        ("ball_in_cup_catch", "ball_in_cup_catch"),
    ],
)
def test_other_spellings_are_understood(name, plain):
    assert tasks.check_task(name, "x.json") == plain


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UserError, match=r"a.csv .*'walker_wlak'; did you mean walker_"):
        tasks.check_task("walker_wlak", "a.csv")
    with pytest.raises(UserError, match=r"unknown benchmark 'atari'; valid are dmc_v"):
        tasks.check_benchmark("atari", "--benchmark")
    with pytest.raises(UserError, match=r"unknown version 'v4'; valid are v1, v2, v3"):
        tasks.check_version("v4", "m")
