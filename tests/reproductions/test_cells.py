"""Which runs a grid consists of."""

from pathlib import Path

import pytest

from dreamer_tf.configs import presets
from dreamer_tf.errors import UserError
from reproductions import tasks
from reproductions.cells import ROOT, make_cells, protocols_of
from tests.reproductions.grids import cells


def test_cells_are_whole_tables_seed_by_seed():
    made = make_cells("dmc_vision", ["v1", "v2", "v3"], [], [0, 1])
    assert len(made) == 120
    assert [c.seed for c in made] == [0] * 60 + [1] * 60
    assert {(c.version, c.protocol, c.frames) for c in made} == {
        ("v1", "paper", 5_000_000),
        ("v2", "paper", 2_000_000),
        ("v3", "arxiv_v2", 1_000_000),
    }
    made = make_cells("dmc_proprio", ["v3"], [], [0], "nature")
    assert len(made) == 20  # and 18 under arxiv_v2
    assert len(make_cells("dmc_proprio", ["v3"], [], [0])) == 18
    assert len(make_cells("dmc_vision", ["v3"], ["cup_catch"] * 2, [0])) == 1


def test_every_protocol_of_the_presets_has_budgets():
    for benchmark in tasks.BENCHMARKS:
        if benchmark not in presets.BENCHMARKS:
            continue
        for version in tasks.VERSIONS:
            known = presets.protocols_of(version, benchmark)
            if tasks.BENCHMARKS[benchmark].family == "small":
                known = ("lite",)  # with others they can be run, but have no tables
            assert set(protocols_of(benchmark, version)) == set(known)


def test_cells_of_atari():
    made = make_cells("atari", ["v2", "v3"], [], [0])
    assert len(made) == 55 + 57
    (cell,) = make_cells("atari100k", ["v3"], ["atari_pong"], [3])
    assert (cell.task, cell.frames, cell.protocol) == ("pong", 400_000, "arxiv_v2")
    assert "--task=atari_pong" in cell.command(Path("logs"))
    assert str(cell.path(Path("logs"))) == "logs/arxiv_v2/atari100k/v3/pong/3"
    with pytest.raises(
        UserError, match="v2, which has no protocol on atari100k; valid"
    ):
        make_cells("atari100k", ["v2"], [], [0])


def test_the_command_of_a_cell(tmp_path):
    cell = cells()[0]
    assert cell.path(tmp_path) == tmp_path / "lite/dmc_proprio/v1/walker_walk/0"
    assert cell.log(tmp_path) == tmp_path / "lite/dmc_proprio/v1/walker_walk/0.log"
    assert cell.command(tmp_path)[1:] == [
        str(ROOT / "run.py"),
        "train",
        "--version=v1",
        "--benchmark=dmc_proprio",
        "--protocol=lite",
        "--task=walker_walk",
        "--seed=0",
        "--steps=5000",
        f"--logdir={cell.path(tmp_path)}",
    ]


def test_budgets_of_bsuite_are_those_of_its_tasks():
    names = ["catch/0", "bandit_3", "bsuite_memory_len/22", "deep_sea_0"]
    found = make_cells("bsuite", ["v3"], names, [0])
    assert {cell.task: cell.frames for cell in found} == {
        "catch_0": 90_000,
        "bandit_3": 10_000,
        "memory_len_22": 1_010_000,
        "deep_sea_0": 100_000,
    }
    assert {c.frames for c in make_cells("bsuite", ["v3"], names, [0], steps=7)} == {7}
    assert len(make_cells("bsuite", ["v3"], [], [0])) == 408
