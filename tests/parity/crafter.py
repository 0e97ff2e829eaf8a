"""Crafter: traces of the authors' wrappers, replayed by our environment.

They are observations of the official DreamerV3 and DreamerV2 wrappers over crafter
1.8.3, with the chunks of the world in the order of insertion, as ours are. A row of a
trace is what the agent receives, first records included. Everything has to be equal.
"""

import zlib
from typing import Any

import numpy as np

from dreamer_tf.envs.crafter import LIMIT, Crafter
from tests.parity.common import Row, unequal

FLAGS = ("is_first", "is_last", "is_terminal")
INPUTS = ("action", "config", "full_index")  # of a trace, to which nothing is compared


def compare(data, config, run) -> list[Row]:
    """A row per entry of a trace; `run` is for the files of networks."""
    length = 0 if config["limit"] == LIMIT else config["limit"]
    env = Crafter("crafter_reward", config["env_seed"], length=length)
    ours, stats = replay(env, data["action"], config)
    tanh = config["protocol"] == "v2c"
    ours["reward_learner"] = np.tanh(ours["reward"]) if tanh else ours["reward"]
    ours["full_obs"] = ours["image"][data["full_index"]]
    names = [name for name in data.files if name not in INPUTS]
    found = {name: unequal(ours[name], data[name]) for name in names}
    if "stats_jsonl" in config:  # of the package's Recorder
        found["stats_jsonl"] = float(stats != config["stats_jsonl"])
    return [Row("trace", name, error, 0.0) for name, error in found.items()]


def replay(
    env: Crafter, actions: np.ndarray, config: dict[str, Any]
) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """Our entries of a trace `[T, ...]`, and the stats of its whole episodes.

    Args:
      actions: of a trace; -1 begins the next episode.
    """
    choices = np.eye(config["n_actions"], dtype=np.float32)
    rows, stats = [], []
    for action in actions:
        record = env.reset() if action < 0 else env.step(choices[action])
        player, info = env._env._player, env._info
        image = record["image"]
        row: dict[str, Any] = {
            name: record[name] for name in ("image", "reward", *FLAGS)
        }
        row["log_reward"] = info.get("reward", 0.0)
        row["discount"] = info.get("discount", 1.0)
        for name, values in (
            ("achievements", player.achievements),
            ("inventory", player.inventory),
        ):
            # Their order in a trace is that of its list of names.
            order = config[f"{name.removesuffix('s')}_names"]
            row[name] = [values[key] for key in order]
        row["player_pos"] = player.pos
        semantic = info.get("semantic")
        crc = 0 if semantic is None else zlib.crc32(semantic.astype(np.uint8).tobytes())
        row["semantic_crc"] = crc
        row["crc"] = zlib.crc32(image.tobytes())
        row["block"] = image.reshape(8, 8, 8, 8, 3).mean((1, 3)).round(3)
        rows.append(row)
        if record["is_last"]:
            stats.append(getattr(record, "stats", {}))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}, stats
