"""Atari: traces of the authors' wrappers, replayed by our environment.

They are observations of the official DreamerV2 and DreamerV3 wrappers over ale-py
0.12.1. A row of a trace is what the agent receives, first records included. Everything
has to be equal. The emulator's seed and the numbers of no-ops come from the trace;
those of DreamerV3's current code follow from its seed too.
"""

import zlib
from typing import Any

import numpy as np

from dreamer_tf.envs.atari import Atari
from tests.parity.common import Row, unequal

FLAGS = ("is_first", "is_last", "is_terminal")
INPUTS = ("action", "config", "full_index")  # of a trace, to which nothing is compared
NOOPS = {"uniform 1..30": "1-30", "uniform 0..30": "0-30", "uniform 0..0": "0"}


class Traced(Atari):
    """Takes the emulator's seed and the numbers of no-ops from a trace."""

    def __init__(self, data, config: dict[str, Any]):
        v2 = config["protocol"] == "v2"
        decisions = config["limit_unit"] == "decisions"
        settings = {
            "pooling": "v2" if v2 else "v3",
            "gray": config["gray"],
            "sticky": config["sticky_effective"],
            "noops": NOOPS[config["noops_rule"]],
            "actions": config["actions"],
            "first_picture": "stale" if config.get("first_frame_bug") else "reset",
            "limit_terminal": not v2,
        }
        super().__init__(
            config["game"],
            config["env_seed"],
            config["repeat"],
            config["size"][0],
            length=config["limit"] * (config["repeat"] if decisions else 1),
            env_args=settings,
        )
        assert list(self.actions) == config["action_values"]
        self.noops = data["noops"][data["noops"] >= 0].tolist()
        self.drawn = self.noops[0]
        self._load(config["ale_seed"])

    def _reset(self, seed: int | None) -> None:
        self.drawn = self.noops.pop(0)
        self._begin(self.drawn)

    def row(self, record) -> dict[str, Any]:
        """Our entries of a row, under the trace's names."""
        first, image = bool(record["is_first"]), record["image"]
        side = len(image) // 8
        return {
            **{name: record[name] for name in ("image", "reward", *FLAGS)},
            "game_over": self._ale.game_over(),
            "lives": self._ale.lives(),
            "frames": record.frames,
            "noops": self.drawn if first else -1,
            "ram_crc": zlib.crc32(self._ale.getRAM().tobytes()),
            "pooled_crc": zlib.crc32(self._screens.pooled.tobytes()),
            "crc": zlib.crc32(image.tobytes()),
            "block": image.reshape(8, side, 8, side, -1).mean((1, 3)).round(3),
        }


def compare(data, config, run) -> list[Row]:
    """A row per entry of a trace; `run` is for the files of networks."""
    env = Traced(data, config)
    choices = np.eye(config["n_actions"], dtype=np.float32)
    rows = [
        env.row(env.reset() if action < 0 else env.step(choices[action]))
        for action in data["action"]
    ]
    ours = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    tanh = config["reward_learner"] == "tanh"
    ours["reward_learner"] = np.tanh(ours["reward"]) if tanh else ours["reward"]
    ours["full_obs"] = ours["image"][data["full_index"]]
    names = [name for name in data.files if name not in INPUTS]
    return [Row("trace", name, unequal(ours[name], data[name]), 0.0) for name in names]
