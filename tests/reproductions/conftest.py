"""Small result folders in the suite's own format, and protocols to report under."""

import dataclasses
import json
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reproductions import report, scores
from reproductions.cells import DONE
from tests.reproductions import grids


@dataclasses.dataclass(frozen=True)
class Note:
    text: str

    def footnote(self, versions, benchmark: str) -> str:
        return f"{self.text} for {', '.join(versions)} on {benchmark}"

    def repeat(self, version: str, benchmark: str) -> int:
        return 2


PROTOCOLS = {name: Note(f"settings of {name}") for name in ("lite", "arxiv_v2")}


def rows(frames, values, seed: int, kind: str = "train", mode: str = "train"):
    """Rows of a score file: one episode per value."""
    count = len(frames)
    return pd.DataFrame(
        {
            "frames": frames,
            "score": values,
            "length": 1000,
            "kind": kind,
            "mode": mode,
            "env": 0,
            "episode": np.arange(count),
            "seed": seed,
        },
        columns=scores.COLUMNS,
    )


def write_version(
    folder: Path, benchmark: str, tables: dict[str, pd.DataFrame], **more
):
    """Writes `<protocol>/<version>/<task>.csv` and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"benchmark": benchmark, "command": "python run.py train", **more}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for task, table in tables.items():
        table.to_csv(folder / f"{task}.csv", index=False)


def flat(level: float, end: int, seeds: int = 3, every: int = 1000, **kwargs):
    """Runs that score about `level` throughout; seeds differ by 2 points."""
    frames = np.arange(every, end + 1, every)
    return pd.concat(
        [rows(frames, np.full(len(frames), level + 2.0 * s), s, **kwargs)
         for s in range(seeds)]
    )  # fmt: skip


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """V3 under two protocols and V1, at known distances from the published runs."""
    root = tmp_path_factory.mktemp("runs")
    write_version(
        root / "lite" / "v3",
        "dmc_proprio",
        {"cartpole_swingup": flat(250, 50_000), "walker_walk": flat(120, 50_000)},
    )
    write_version(
        root / "arxiv_v2" / "v3",
        "dmc_proprio",
        {
            "cartpole_swingup": flat(851, 500_000),  # published 852 [833, 872]
            "walker_walk": flat(500, 500_000),  # published 936 [900, 972]
            "hopper_hop": flat(300, 500_000),  # published 113 [71, 156]
            "reacher_easy": flat(954, 500_000, seeds=2),
            "finger_spin": flat(900, 300_000),  # published to 500K
        },
    )
    write_version(
        root / "arxiv_v2" / "v1",
        "dmc_proprio",
        {"walker_walk": flat(400, 500_000, kind="eval", mode="eval")},
    )
    return root


def options(**changes):
    """What absl would hand over, with few resamples."""
    values = {"runs": None, "logdirs": [], "outside": [], "outside_benchmark": ""}
    values |= {"outside_method": "", "published_only": False, "versions": []}
    values |= {"reference": "", "benchmark": []}
    values |= {"tasks": [], "budgets": [], "out": "", "seed": 0, "resamples": 200}
    return types.SimpleNamespace(**{**values, **changes})


@pytest.fixture(scope="session")
def written(results, tmp_path_factory) -> tuple[Path, str]:
    """The report of these results: its folder and what it printed."""
    out = tmp_path_factory.mktemp("out")
    return out, report.report(options(runs=str(results), out=out), PROTOCOLS)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A grid that nothing interrupted."""
    out = tmp_path_factory.mktemp("finished")
    result, printed = grids.run(out)
    assert {s.state for s in result.values()} == {DONE}
    return out, printed
