"""The presets of Atari, Crafter and BSuite as data, in the form of `presets`.

Where the environments are from:
- V2 `paper` on Atari: the release whose scores the paper prints, commit 650e92d of
  danijar/dreamerv2 (`configs.yaml`, `train.py`, `common/envs.py`). The agent is that
  of the last release, 07d906e, as elsewhere in this suite. The two differ in the
  batch, 50 x 50 in the paper and in 650e92d, which `--dataset.batch=50` gives, and
  16 x 50 in 07d906e.
- V2 `paper` on Crafter: the block `crafter` of `configs.yaml` in 07d906e.
- V3 `arxiv_v2`: commit 2411f7d of danijar/dreamerv3, whose scores arXiv v2 and Nature
  print. Its switch for sticky actions has no effect: Atari100k has them as well.
- V3 `nature`: the last commit, e3f0224. The same is true of its switch.
"""

import json
from typing import Any

Presets = dict[tuple, dict[str, Any]]

# Which protocols exist for a benchmark that does not have all of its versions.
PROTOCOLS: dict[str, dict[str, tuple[str, ...]]] = {
    "atari": {
        "v1": ("lite",),
        "v2": ("paper", "lite"),
        "v3": ("nature", "arxiv_v2", "lite"),
    },
    "atari100k": {"v3": ("nature", "arxiv_v2")},
    "crafter": {
        "v1": ("lite",),
        "v2": ("paper", "lite"),
        "v3": ("nature", "arxiv_v2", "lite"),
    },
    "bsuite": {
        "v1": ("lite",),
        "v2": ("lite",),
        "v3": ("nature", "arxiv_v2", "lite"),
    },
}

BENCHMARK: dict[str, dict[str, Any]] = {
    "atari": {"obs": "image", "task": "atari_pong", "repeat": 4},
    "atari100k": {"obs": "image", "task": "atari_pong", "repeat": 4},
    "crafter": {"obs": "image", "task": "crafter_reward", "repeat": 1},
    "bsuite": {"obs": "proprio", "task": "bsuite_catch_0", "repeat": 1},
}


def _atari(noops: str, **changes: Any) -> str:
    """Arguments of an Atari environment; by default those of DreamerV3."""
    arguments: dict[str, Any] = {
        "pooling": "v3",  # the colours' maximum of 2 frames, then resized, then gray
        "gray": True,
        "sticky": 0.25,  # probability per frame
        "noops": noops,  # how many after a reset
        "actions": "full",  # 18, not only those that a game uses
        "first_picture": "reset",
        "limit_terminal": True,  # the time limit cuts the return
    }
    return json.dumps({**arguments, **changes})


_V2_ATARI = _atari("1-30", pooling="v2", limit_terminal=False)
_V3_ATARI = _atari("0-30")
_HALF_AN_HOUR = 108_000  # frames at 60 per second
_SMOKE = {
    "steps": 2_000,
    "envs": 1,
    "log_every": 500,
    "video_every": 1_000,
}
# Short episodes: V1 and V2 learn from finished ones only.
_ATARI_SMOKE = _SMOKE | {"repeat": 4, "length": 400}
_CRAFTER_SMOKE = _SMOKE | {"repeat": 1, "length": 200}
_V1_EVAL = {"eval_every": 1_000, "eval_episodes": 1}

# `replay_gb` holds as many records as the official replay, or those of the whole run.
# A record has a picture: 64 x 64 gray pixels are 4.1 kB, 64 x 64 RGB 12.3 kB and
# 96 x 96 gray 9.2 kB. In V3 it also has the latents of 200M parameters, 41 kB (exact).
RUN: Presets = {
    ("v1", "atari", "lite"): _ATARI_SMOKE | _V1_EVAL | {"env_args": _V2_ATARI},
    ("v2", "atari", "lite"): _ATARI_SMOKE | {"env_args": _V2_ATARI},
    ("v3", "atari", "lite"): _ATARI_SMOKE | {"env_args": _V3_ATARI},
    ("v2", "atari", "paper"): {
        "repeat": 4,
        "steps": 200_000_000,
        "eval_every": 100_000,
        "eval_episodes": 1,
        "length": _HALF_AN_HOUR,
        "env_args": _V2_ATARI,
        "replay_gb": 9,  # 2M records
    },
    ("v3", "atari", "arxiv_v2"): {
        "repeat": 4,
        "envs": 16,
        "steps": 200_000_000,
        "size": 96,
        "length": _HALF_AN_HOUR,
        # Until b65cf81 an episode's first picture was one from before the reset.
        "env_args": _atari("0", first_picture="stale"),
        "replay_gb": 252,  # 5M records
    },
    ("v3", "atari", "nature"): {
        "repeat": 4,
        "envs": 16,
        "steps": 200_000_000,
        "size": 96,
        "length": _HALF_AN_HOUR,
        "env_args": _V3_ATARI,
        "replay_gb": 252,
    },
    # Scores are read at 400K frames. The official runs go on to 440K.
    ("v3", "atari100k", "arxiv_v2"): {
        "repeat": 4,
        "envs": 1,
        "steps": 400_000,
        "length": 100_000,
        "env_args": _atari("0", gray=False, first_picture="stale"),
        "replay_gb": 6,  # all 0.1M records
    },
    ("v3", "atari100k", "nature"): {
        "repeat": 4,
        "envs": 1,
        "steps": 400_000,
        "length": _HALF_AN_HOUR,
        "env_args": _atari("0-30", gray=False, actions="minimal"),
        "replay_gb": 6,
    },
    ("v1", "crafter", "lite"): _CRAFTER_SMOKE | _V1_EVAL,
    ("v2", "crafter", "lite"): _CRAFTER_SMOKE,
    ("v3", "crafter", "lite"): _CRAFTER_SMOKE,
    ("v2", "crafter", "paper"): {
        "repeat": 1,
        "steps": 1_000_000,
        "eval_every": 100_000,
        "eval_episodes": 1,
        "replay_gb": 13,  # all 1M records
    },
    ("v3", "crafter", "arxiv_v2"): {
        "repeat": 1,
        "envs": 1,
        "steps": 1_000_000,
        "replay_gb": 56,  # all 1M records
    },
    ("v3", "crafter", "nature"): {
        "repeat": 1,
        "envs": 1,
        "steps": 1_000_000,
        "replay_gb": 56,
    },
    # As many frames as the experiment's episodes have (`bsuite.budget`), 1.01M at most.
    ("v3", "bsuite", "arxiv_v2"): {"repeat": 1, "envs": 1, "replay_gb": 44},
    ("v3", "bsuite", "nature"): {"repeat": 1, "envs": 1, "replay_gb": 44},
    # Catch is learned within 6,000 steps.
    ("v1", "bsuite", "lite"): {"repeat": 1, "steps": 6_000, "eval_every": 1_000},
    ("v2", "bsuite", "lite"): {"repeat": 1, "steps": 6_000},
    ("v3", "bsuite", "lite"): {"repeat": 1, "envs": 1, "steps": 6_000},
}

# The agent of V2 sees the entry "image" only. Convolutions are faster without XLA on
# CPUs; on a GPU `jit` is always on.
_V2_IMAGES = {
    "encoder.mlp_keys": "$^",
    "encoder.cnn_keys": "image",
    "decoder.mlp_keys": "$^",
    "decoder.cnn_keys": "image",
    "jit": False,
}
# In the official block `defaults`, which Atari and Crafter keep.
_V2_DEFAULTS = {
    "clip_rewards": "tanh",
    "pred_discount": True,
    "grad_heads": ("decoder", "reward", "discount"),
    "kl.free": 0.0,
    "replay.prioritize_ends": True,
    "pretrain": 1,
}
_V2_NETWORKS = ["rssm", "encoder", "decoder", "actor", "critic"]
_V2_NETWORKS += ["reward_head", "discount_head"]

# For the smoke test: a few updates only. The KL of V1 has no free nats there, so that
# it is seen to fall.
_V1_SMOKE = {
    "jit": False,
    "pcont": True,
    "dataset_balance": True,
    "clip_rewards": "tanh",
    "free_nats": 0.0,
    "prefill": 400,
    "pretrain": 5,
    "train_every": 200,
    "train_steps": 5,
}
_V2_SMOKE = {"prefill": 100, "pretrain": 5, "train_every": 10}
_V3_SMOKE = {"train_ratio": 32, "batch_length": 16}

AGENT: Presets = {
    ("v1", "atari", "lite"): _V1_SMOKE,
    ("v1", "crafter", "lite"): _V1_SMOKE,
    ("v2", "atari"): _V2_IMAGES
    | _V2_DEFAULTS
    | {
        "rssm.deter": 600,
        "rssm.hidden": 600,
        "model_opt.lr": 2e-4,
        "actor_opt.lr": 4e-5,
        "critic_opt.lr": 1e-4,
        "actor_grad": "reinforce",
        "actor_ent": 1e-3,
        "discount": 0.999,
        "loss_scales.kl": 0.1,
        "loss_scales.discount": 5.0,
        "prefill": 50_000,  # decisions: 200,000 frames
        "train_every": 16,
    },
    ("v2", "crafter"): _V2_IMAGES
    | _V2_DEFAULTS
    | {f"{network}.norm": "layer" for network in _V2_NETWORKS}
    | {
        "rssm.deter": 1024,
        "rssm.hidden": 1024,
        "model_opt.lr": 1e-4,
        "actor_opt.lr": 1e-4,
        "critic_opt.lr": 1e-4,
        "actor_ent": 3e-3,
        "discount": 0.999,
        "prefill": 10_000,
        "train_every": 5,
    },
    ("v2", "atari", "lite"): _V2_SMOKE,
    ("v2", "crafter", "lite"): _V2_SMOKE | {"prefill": 400, "train_every": 40},
    # One update per 32, 4, 2 and 1 records.
    ("v3", "atari"): {"train_ratio": 32, "jit": False},
    ("v3", "atari100k"): {"train_ratio": 256, "jit": False},
    ("v3", "crafter"): {"train_ratio": 512, "jit": False},
    ("v3", "bsuite"): {"train_ratio": 1024},
    # That of this protocol for the control suite is smaller.
    ("v3", "atari", "arxiv_v2"): {"size": "200m", "train_ratio": 32},
    ("v3", "atari100k", "arxiv_v2"): {"size": "200m", "train_ratio": 256},
    ("v3", "crafter", "arxiv_v2"): {"size": "200m", "train_ratio": 512},
    ("v3", "bsuite", "arxiv_v2"): {"size": "200m", "train_ratio": 1024},
    ("v3", "atari", "lite"): _V3_SMOKE,
    ("v3", "crafter", "lite"): _V3_SMOKE | {"train_ratio": 16},
    ("v3", "bsuite", "lite"): {"train_ratio": 256},
}
