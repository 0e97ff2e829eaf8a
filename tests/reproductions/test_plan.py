"""What a grid would cost: `--dry_run`."""

import pytest

import dreamer_tf
from reproductions import grid, plan, tasks
from reproductions.cells import make_cells
from tests.reproductions.grids import SCRIPT


@pytest.mark.parametrize("version", tasks.VERSIONS)
def test_updates_are_those_of_the_loop(version):
    """Counted for the plan as the training loop makes them."""
    from dreamer_tf.envs.vector import Envs
    from dreamer_tf.replay import make_replay
    from dreamer_tf.training.experience import (
        Components,
        Decision,
        Update,
        experience,
    )
    from dreamer_tf.training.schedules import Progress, make_schedule
    from tests import fakes

    class Agent(fakes.FakeAgent):
        latents = ()

        def begin(self, batch):
            return lambda: ({}, {})

    class Replay:  # the version's own, but drawing nothing
        def __init__(self, replay):
            self.add, self.size = replay.add, replay.__len__

        def __len__(self):
            return self.size()

        def sample(self):
            return {"id": None}

    settings, config = dreamer_tf.presets.load(version, "dmc_proprio", "lite")

    def make_env():
        return fakes.FakeEnv(1000, settings.repeat)

    components = Components(
        Agent(),
        Envs([make_env] * settings.envs, 0, (0, 0)),
        Replay(make_replay(version, config, 10**9, 0)),
        make_schedule(version, config),
        make_env,
    )
    progress, updates = Progress(), 0
    for event in experience(components, progress, settings.repeat, 0):
        updates += isinstance(event, Update)
        if isinstance(event, Decision) and progress.frames >= 9000:
            break
    assert updates == plan.count_updates(version, settings, config, 9000) > 100


@pytest.mark.parametrize(
    ("protocol", "steps", "missing"),
    [
        # Four environments end their episodes together; random episodes do not count.
        ("lite", 500, "DreamerV1 (2,000), DreamerV2 (3,000), DreamerV3 (4,000)"),
        ("lite", 2999, "DreamerV1 (4,500), DreamerV2 (3,000), DreamerV3 (4,000)"),
        ("lite", 4000, "DreamerV1 (4,500)"),  # evaluated at 2,000 and 4,500
        ("lite", 10_000, "DreamerV3 (12,000)"),  # 8,000 is not within the last 10%
        ("lite", 25_000, ""),
        ("", 15_999, "DreamerV3 (16,000)"),
        ("", None, ""),
    ],
)
def test_runs_without_a_score_are_named(protocol, steps, missing):
    cells = make_cells(SCRIPT, tasks.VERSIONS, ["walker_walk"], [0, 1], protocol, steps)
    start = f"With --steps={steps} these will have no score at the end (in brackets "
    end = f"the next budget with one): {missing}."
    assert plan.unscored(cells) == (start + end if missing else "")


def test_runs_without_a_score_where_points_are_means():
    """V1's published points from images are means over 100,000 frames."""
    cells = make_cells("dmc_vision", ["v1", "v3"], ["walker_walk"], [0], "", 50_000)
    assert plan.unscored(cells).endswith("DreamerV1 (105,000).")
    assert not plan.unscored(cells[1:])


def test_updates_of_the_papers():
    """Per 100,000 frames: 10K, 10K and 25K (results/published)."""
    for version, protocol, expected in (
        ("v1", "paper", 10_000),
        ("v2", "paper", 10_000),
        ("v3", "arxiv_v2", 25_000),
    ):
        settings, config = dreamer_tf.configs.presets.load(
            version, "dmc_vision", protocol
        )
        counts = [plan.count_updates(version, settings, config, f * 100_000)
                  for f in (1, 2)]  # fmt: skip
        assert abs(counts[1] - counts[0] - expected) <= 100


def test_dry_run(finished, capsys, monkeypatch):
    out, _ = finished
    monkeypatch.setattr(
        plan, "SECONDS_PER_UPDATE", {("v3", SCRIPT, "lite"): (0.05, "two cores, here")}
    )
    before = sorted(out.rglob("*"))
    arguments = ["--versions=v1,v3", "--protocol=lite", "--tasks=walker_walk"]
    arguments += ["--steps=5e3", "--seeds=3", f"--out={out}", "--dry_run"]
    assert grid.main(SCRIPT, "", arguments) == 0
    printed = capsys.readouterr().out
    head, first, second, *_ = printed.splitlines()
    assert head.startswith("version protocol  cells  done frames decisions updates")
    assert first.split()[:6] == ["v1", "lite", "3", "2", "5,000", "1,250"]
    assert "not measured" in first and "not measured" not in second
    settings, config = dreamer_tf.configs.presets.load("v3", SCRIPT, "lite")
    updates = plan.count_updates("v3", settings, config, 5000)
    hours = f"{0.05 * updates / 3600:.1f}"
    assert second.split()[4:] == [
        "5,000",
        "1,250",
        f"{updates:,}",
        f"{3 * updates:,}",
        "4",
        "0.050",
        hours,
    ]
    assert f"6 cells, 30,000 frames; below {out}." in printed
    assert "v3 lite: two cores, here" in printed
    assert sorted(out.rglob("*")) == before
