import pytest

from dreamer_tf.configs import presets
from dreamer_tf.envs import dmc
from dreamer_tf.errors import UserError
from reproductions import names, published, tasks


def test_task_lists_are_those_of_the_papers():
    assert len(names.DMC_VISION) == len(names.DMC_PROPRIO_20) == 20
    assert len(names.DMC_PROPRIO_18) == 18
    gone = set(names.DMC_PROPRIO_20) - set(names.DMC_PROPRIO_18)
    assert gone == {"quadruped_run", "quadruped_walk"}


def test_every_task_exists_in_dm_control():
    assert set(names.DMC_VISION) <= set(dmc.tasks())


@pytest.mark.parametrize(
    ("benchmark", "name", "plain"),
    [
        ("dmc_vision", "dmc_walker_walk", "walker_walk"),
        ("dmc_vision", "walker-walk", "walker_walk"),
        ("dmc_proprio", "dmc_cup_catch", "ball_in_cup_catch"),
        ("dmc_proprio", "cup-catch", "ball_in_cup_catch"),
        ("dmc_proprio", "ball_in_cup_catch", "ball_in_cup_catch"),
        ("atari", "atari_pong", "pong"),
        ("atari", "atari57_alien", "alien"),
        ("atari", "atari_james_bond", "jamesbond"),
        ("atari100k", "atari100k_road_runner", "road_runner"),
        ("crafter", "crafter_reward", "reward"),
        ("bsuite", "bsuite_memory_len/22", "memory_len_22"),
        ("bsuite", "bsuite_memory_len_22", "memory_len_22"),
        ("catch", "catch", "catch"),
        ("minatar", "minatar_space_invaders", "space_invaders"),
    ],
)
def test_other_spellings_are_understood(benchmark, name, plain):
    assert tasks.check_task(name, "x.json", benchmark) == plain


def test_the_tasks_of_the_other_benchmarks():
    atari = tasks.BENCHMARKS["atari"]
    assert len(atari.tasks["arxiv_v2"]) == 57 and len(atari.tasks["paper"]) == 55
    gone = set(atari.tasks["arxiv_v2"]) - set(atari.tasks["paper"])
    assert gone == {"defender", "surround"}
    assert len(tasks.tasks_of("atari100k", "arxiv_v2")) == 26
    assert len(names.BSUITE) == 468
    assert len(tasks.tasks_of("bsuite", "nature")) == 408
    flags = published.references()
    for name, column in (("arxiv_v2", "atari57"), ("paper", "atari55")):
        assert set(atari.tasks[name]) == set(flags.index[flags[column] == 1])
    assert set(names.ATARI_26) == set(flags.index[flags.atari100k == 1])


@pytest.mark.parametrize("benchmark", tasks.BENCHMARKS)
def test_presets_know_the_names_and_budgets(benchmark):
    """What a grid hands to run.py."""
    if benchmark not in presets.BENCHMARKS:
        pytest.skip("no presets")
    for protocol, frames in tasks.BENCHMARKS[benchmark].frames.items():
        task = tasks.flag_of(tasks.tasks_of(benchmark, protocol)[0], benchmark)
        for version, budget in frames.items():
            run, _ = presets.load(version, benchmark, protocol, task)
            if benchmark == "bsuite":  # whose is the largest budget of a task
                budget = tasks.frames_of(benchmark, protocol, version, task)
            assert (run.task, run.steps) == (task, budget)


def test_which_versions_a_grid_has():
    assert tasks.versions_of("atari") == ["v1", "v2", "v3"]  # v1 under lite
    assert tasks.versions_of("atari", papers=True) == ["v2", "v3"]
    assert tasks.versions_of("dmc_vision", papers=True) == ["v1", "v2", "v3"]
    assert tasks.versions_of("catch", papers=True) == ["v1", "v2", "v3"]


def test_what_benchmarks_are_called_together():
    assert tasks.title_of([]) == "DeepMind Control"
    assert tasks.title_of(["atari100k"]) == "Atari"
    assert tasks.title_of(["bsuite", "atari", "crafter"]) == "Atari, Crafter and BSuite"


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UserError, match=r"a.csv .*'walker_wlak'; did you mean walker_"):
        tasks.check_task("walker_wlak", "a.csv", "dmc_vision")
    with pytest.raises(UserError, match=r"'pnog'; did you mean pong"):
        tasks.check_task("pnog", "a.csv", "atari")
    with pytest.raises(UserError, match=r"'walker_walk'; valid are reward, noreward"):
        tasks.check_task("walker_walk", "a.csv", "crafter")
    with pytest.raises(UserError, match=r"57 tasks are listed in reproductions/names"):
        tasks.check_task("walker_walk", "a.csv", "atari")
    with pytest.raises(UserError, match=r"unknown benchmark 'doom'; valid are dmc_v"):
        tasks.check_benchmark("doom", "--benchmark")
    with pytest.raises(UserError, match=r"unknown version 'v4'; valid are v1, v2, v3"):
        tasks.check_version("v4", "m")
