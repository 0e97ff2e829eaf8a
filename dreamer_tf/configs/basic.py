"""The presets of DMC, gymnasium and small tasks as data, in the form of `presets`."""

from typing import Any

BENCHMARK: dict[str, dict[str, Any]] = {
    "dmc_proprio": {"obs": "proprio", "task": "walker_walk"},
    "dmc_vision": {"obs": "image", "task": "walker_walk"},
    "gym": {"obs": "proprio", "task": "gym_Pendulum-v1", "repeat": 1},
    "toy": {"obs": "proprio", "task": "toy", "repeat": 1},
    "toy_vision": {"obs": "image", "task": "toy", "repeat": 1},
    "catch": {"obs": "proprio", "task": "catch", "repeat": 1},
    "catch_vision": {"obs": "image", "task": "catch", "repeat": 1},
    # Whoever plays Breakout well plays for ever.
    "minatar": {
        "obs": "proprio",
        "task": "minatar_breakout",
        "repeat": 1,
        "length": 5_000,
    },
}

# For `lite`. At 64 x 64 an update takes 1.7 (V2) to 2.9 (V3) times as long. Without a
# GPU more than half of an environment's step was the smooth edges and shadows.
_SMALL_IMAGES = {"size": 32, "fast_render": True}
_GYM = {"steps": 10_000}
# A frame is 0.02 s. The cart has to be pushed left before it can move right, which
# takes longer than imagination lasts: 15 decisions of one frame are 0.3 s. With a
# repeat of 1 all versions let it drift off its track. After 10,000 frames V1 and V2 had
# it, but not in every evaluation.
_CARTPOLE = {"repeat": 2, "steps": 15_000}
_TOY = {"steps": 1_500, "eval_every": 250, "log_every": 50}
_SHORT_TOY = {"steps": 450, "eval_every": 150, "log_every": 50}
_CATCH = {"steps": 5_000, "eval_every": 1_000, "log_every": 250, "envs": 1}
_MINATAR = {"steps": 20_000}

RUN: dict[tuple, dict[str, Any]] = {
    # The official configurations; budgets are those of the published scores.
    ("v1", "paper"): {
        "repeat": 2,
        "steps": 5_000_000,
        "eval_every": 10_000,
        "eval_episodes": 1,
    },
    # The paper has no vectors; this is V3's budget.
    ("v1", "dmc_proprio", "paper"): {"steps": 500_000},
    ("v1", "lite"): {
        "repeat": 4,
        "steps": 50_000,
        "eval_every": 2_500,
        "eval_episodes": 5,
    },
    ("v2", "paper"): {
        "repeat": 2,
        "steps": 2_000_000,
        "eval_every": 20_000,
        "eval_episodes": 1,
    },
    ("v2", "dmc_proprio", "paper"): {"steps": 500_000},
    ("v2", "lite"): {"repeat": 4, "steps": 50_000},
    # Nature 2025: settings of the official configs.yaml, budgets of the Methods.
    ("v3", "nature"): {"repeat": 1, "envs": 16, "steps": 1_000_000},
    # arXiv v2 (2024), the published score files.
    ("v3", "arxiv_v2"): {"repeat": 2, "envs": 16, "steps": 1_000_000},
    ("v3", "dmc_proprio", "arxiv_v2"): {"steps": 500_000},
    ("v3", "lite"): {"repeat": 4, "envs": 4, "steps": 50_000},
    ("v1", "dmc_vision", "lite"): _SMALL_IMAGES,
    ("v2", "dmc_vision", "lite"): _SMALL_IMAGES,
    ("v3", "dmc_vision", "lite"): _SMALL_IMAGES,
    # Memory for every record of the budget, images and latents included.
    ("v1", "dmc_vision", "paper"): {"replay_gb": 32},
    ("v2", "dmc_vision", "paper"): {"replay_gb": 13},
    ("v3", "dmc_vision", "nature"): {"replay_gb": 55},
    ("v3", "dmc_vision", "arxiv_v2"): {"replay_gb": 12},
    ("v1", "gym", "lite"): _GYM | {"eval_every": 1_000},
    ("v1", "gym_vision", "lite"): _GYM | {"eval_every": 1_000},
    ("v2", "gym", "lite"): _GYM,
    ("v2", "gym_vision", "lite"): _GYM,
    ("v3", "gym", "lite"): _GYM,
    ("v3", "gym_vision", "lite"): _GYM,
    ("v1", "gym", "lite", "gym_CartPole-v1"): _CARTPOLE,
    ("v2", "gym", "lite", "gym_CartPole-v1"): _CARTPOLE,
    ("v3", "gym", "lite", "gym_CartPole-v1"): _CARTPOLE,
    # Episodes have 50 frames.
    ("v1", "toy", "lite"): _TOY,
    ("v2", "toy", "lite"): _TOY,
    ("v3", "toy", "lite"): _SHORT_TOY,
    ("v1", "toy_vision", "lite"): _TOY | {"size": 16},
    ("v2", "toy_vision", "lite"): _TOY | {"size": 16},
    ("v3", "toy_vision", "lite"): _SHORT_TOY | {"size": 8},
    # Episodes have 9 decisions.
    ("v1", "catch", "lite"): _CATCH,
    ("v2", "catch", "lite"): _CATCH,
    ("v3", "catch", "lite"): _CATCH,
    ("v1", "catch_vision", "lite"): _CATCH | {"size": 16},
    ("v2", "catch_vision", "lite"): _CATCH | {"size": 16},
    ("v3", "catch_vision", "lite"): _CATCH | {"size": 16},
    ("v1", "minatar", "lite"): _MINATAR,
    ("v2", "minatar", "lite"): _MINATAR,
    ("v3", "minatar", "lite"): _MINATAR,
    ("v1", "minatar_vision", "lite"): _MINATAR | {"size": 16},
    ("v2", "minatar_vision", "lite"): _MINATAR | {"size": 16},
    ("v3", "minatar_vision", "lite"): _MINATAR | {"size": 16},
}

# For `lite`. A vector holds less information than the free nats: the KL would stay
# below them, and nothing would train the prior. So there are none, and a small scale.
_V1_VECTORS = {"free_nats": 0.0, "kl_scale": 0.02}
_V2_VECTORS = {"kl.free": 0.0, "loss_scales.kl": 0.02}
# Environments of gymnasium may end, and may end soon.
#
# V1's options for that, which are off for DMC (define_config in dreamer.py of
# danijar/dreamer). Chunks that end with an episode are drawn more often: there alone
# the discount head sees an end (load_episodes in its tools.py). A chunk lies inside
# one episode, so chunks are short, as many as make the 50 x 50 steps of the paper.
_V1_ENDS = {
    "pcont": True,
    "dataset_balance": True,
    "batch_size": 312,
    "batch_length": 8,
}
# V2's are those in which the block `defaults` of configs.yaml in danijar/dreamerv2,
# which is for any environment, differs from the blocks for DMC; but rewards stay as
# they are, without its tanh. It also drops episodes shorter than 50 steps
# (replay.minlen). With a smaller minlen its loader joins sequences of several episodes.
_V2_ENDS = {
    "every_rank": True,
    "pred_discount": True,
    "grad_heads": ("decoder", "reward", "discount"),
    "kl.free": 0.0,
    "actor_ent": 2e-3,
    "replay.minlen": 5,
    "replay.prioritize_ends": True,
}
# For `lite`, which would replace some of these. An end is rare and decides all, so it
# has the weight in V2 that the official block for Atari gives it.
_V1_GYM = {
    "batch_size": 24,
    "batch_length": 8,
    "prefill": 1000,
    "train_every": 200,
    "train_steps": 100,
    "actor_lr": 5e-5,
}
_V2_GYM = {
    "replay.minlen": 5,
    "loss_scales.discount": 5.0,
    "actor_opt.lr": 1e-4,
}
# V3's head for the continuation is always on, and its replay joins episodes. For `lite`
# there are no free nats, as for the others, and the horizon is that of their discount:
# within a few thousand updates the critic reaches no farther. Imagination starts from
# more steps than on DMC: states near an end are few.
_V3_GYM = {
    "imag_last": 16,
    "dyn.free_nats": 0.0,
    "loss_scales.dyn": 0.2,
    "loss_scales.rep": 0.02,
    "horizon": 100,
}

# Learned within a minute. Half of it is XLA's compilation, unless the compiled program
# was kept from an earlier run.
_V3_TOY = {
    "train_ratio": 256,
    "batch_size": 16,
    "batch_length": 8,
    "imag_length": 5,
    "opt.lr": 1e-3,
    "opt.warmup": 20,
}

# Small discrete tasks, which end by themselves. Catch ends after 9 decisions, so
# imagination goes no farther.
#
# V1's gradient only says in which direction the paddle should go. With the learning
# rate of control tasks, 2e-5, its actor went on stepping left and right
# (results/discrete).
_V1_CATCH = {
    "batch_size": 24,
    "batch_length": 8,
    "horizon": 10,
    "prefill": 500,
    "train_every": 100,
    "train_steps": 100,
    "actor_lr": 1e-4,
}
_V2_CATCH = {
    "replay.minlen": 5,
    "loss_scales.discount": 5.0,
    "imag_horizon": 10,
    "actor_opt.lr": 2e-4,
}
# A column is half a unit from the next: with a weight of 1 the model would learn late
# where the ball is.
#
# V1's chunks are whole episodes, of 10 steps.
_V1_POSITION = {
    "free_nats": 0.0,
    "kl_scale": 0.5,
    "loss_scales.position": 20.0,
    "batch_size": 20,
    "batch_length": 10,
}
_V2_POSITION = {"kl.free": 0.0, "loss_scales.kl": 0.1, "loss_scales.position": 10.0}
_V3_CATCH = {"train_ratio": 256}
_V1_MINATAR = _V1_GYM
_V2_MINATAR = _V2_GYM | {"train_every": 4}
_V3_MINATAR = {"train_ratio": 64, "imag_last": 0}
# Images of 16x16 pixels need two stages of convolutions.
_V1_SMALL = {
    "enc_kernels": (4, 4),
    "dec_kernels": (6, 6),
    "cnn_depth": 16,
    "free_nats": 0.0,
    "kl_scale": 0.1,
}
_V2_SMALL = {
    "encoder.cnn_kernels": (4, 4),
    "decoder.cnn_kernels": (6, 6),
    "encoder.cnn_depth": 16,
    "decoder.cnn_depth": 16,
    "kl.free": 0.0,
    "loss_scales.kl": 0.1,
}
_V3_SMALL = {"enc.mults": (2, 4), "dec.mults": (2, 4), "jit": True}

AGENT: dict[tuple, dict[str, Any]] = {
    # Convolutions are faster without XLA on CPUs; on a GPU `jit` is always on.
    ("v1", "dmc_vision"): {"jit": False},
    ("v1", "toy_vision"): {"jit": False},
    ("v1", "gym"): _V1_ENDS,
    ("v1", "gym_vision"): _V1_ENDS | {"jit": False},
    ("v1", "catch"): _V1_ENDS,
    ("v1", "catch_vision"): _V1_ENDS | {"jit": False},
    ("v1", "minatar"): _V1_ENDS,
    ("v1", "minatar_vision"): _V1_ENDS | {"jit": False},
    # Small enough for two CPU cores; not settings of any paper. The actor's learning
    # rate is low: it would saturate before the value model has learned anything.
    ("v1", "lite"): {
        "deter_size": 128,
        "stoch_size": 30,
        "num_units": 64,
        "mlp_layers": (64, 64),
        "cnn_depth": 8,
        "batch_size": 8,
        "batch_length": 24,
        "prefill": 2000,
        "train_every": 1000,
        "train_steps": 125,
        "model_lr": 1e-3,
        "value_lr": 1e-3,
        "actor_lr": 2e-5,
        "action_init_std": 1.0,
    },
    ("v2", "dmc_proprio"): {"encoder.cnn_keys": "$^", "decoder.cnn_keys": "$^"},
    ("v2", "dmc_vision"): {
        "encoder.mlp_keys": "$^",
        "encoder.cnn_keys": "image",
        "decoder.mlp_keys": "$^",
        "decoder.cnn_keys": "image",
        "jit": False,
    },
    # The images of an environment have names of its own, and --obs chooses them.
    ("v2", "gym"): _V2_ENDS,
    ("v2", "gym_vision"): _V2_ENDS | {"jit": False},
    ("v2", "catch"): _V2_ENDS,
    ("v2", "catch_vision"): _V2_ENDS | {"jit": False},
    ("v2", "minatar"): _V2_ENDS,
    ("v2", "minatar_vision"): _V2_ENDS | {"jit": False},
    # DMC's presets choose one kind of observations.
    ("v2", "both"): {
        "encoder.mlp_keys": ".*",
        "encoder.cnn_keys": ".*",
        "decoder.mlp_keys": ".*",
        "decoder.cnn_keys": ".*",
    },
    ("v2", "toy"): {"every_rank": True},
    ("v2", "toy_vision"): {"every_rank": True, "jit": False},
    ("v2", "lite"): {
        "every_rank": True,
        "rssm.deter": 128,
        "rssm.hidden": 64,
        "rssm.stoch": 32,
        "rssm.discrete": 8,
        "encoder.mlp_layers": (64, 64),
        "encoder.cnn_depth": 8,
        "decoder.mlp_layers": (64, 64),
        "decoder.cnn_depth": 8,
        "reward_head.layers": 2,
        "reward_head.units": 64,
        "discount_head.layers": 2,
        "discount_head.units": 64,
        "actor.layers": 2,
        "actor.units": 64,
        "critic.layers": 2,
        "critic.units": 64,
        "dataset.batch": 8,
        "dataset.length": 24,
        "replay.minlen": 24,
        "replay.maxlen": 24,
        "prefill": 500,
        "train_every": 2,
        "model_opt.lr": 1e-3,
        "actor_opt.lr": 5e-5,
        "critic_opt.lr": 1e-3,
        "slow_target_update": 25,
    },
    ("v1", "dmc_proprio", "lite"): _V1_VECTORS,
    # Images of 32 x 32 pixels: one stage of convolutions less than at 64 x 64, and a
    # weight for the missing pixels in their loss, which is a sum. Without it the model
    # left out the pole of cartpole. With V1's 3 free nats the KL of such images stayed
    # at them, so nothing trained the prior.
    ("v1", "dmc_vision", "lite"): {
        "enc_kernels": (4, 4, 4),
        "dec_kernels": (6, 4, 6),
        "loss_scales.image": 4.0,
        "free_nats": 0.0,
        "kl_scale": 0.1,
    },
    ("v2", "dmc_vision", "lite"): {
        "encoder.cnn_kernels": (4, 4, 4),
        "decoder.cnn_kernels": (6, 4, 6),
        "loss_scales.image": 4.0,
    },
    ("v3", "dmc_vision", "lite"): {
        "enc.mults": (2, 3, 4),
        "dec.mults": (2, 3, 4),
        "loss_scales.image": 4.0,
    },
    ("v1", "gym", "lite"): _V1_VECTORS | _V1_GYM,
    ("v1", "gym_vision", "lite"): _V1_GYM,
    ("v1", "catch", "lite"): _V1_CATCH | _V1_POSITION,
    ("v1", "catch_vision", "lite"): _V1_SMALL | _V1_CATCH,
    ("v1", "minatar", "lite"): _V1_VECTORS | _V1_MINATAR,
    ("v1", "minatar_vision", "lite"): _V1_SMALL | _V1_MINATAR,
    ("v1", "toy", "lite"): _V1_VECTORS
    | {"actor_lr": 1e-5, "prefill": 500, "train_every": 250},
    ("v2", "dmc_proprio", "lite"): _V2_VECTORS,
    ("v2", "gym", "lite"): _V2_VECTORS | _V2_GYM,
    # V2 and V3 count decisions: these are updates per frame as elsewhere in `gym`.
    # In V1,
    # - 30% of random pushes let the pole fall before the cart reaches an end of its
    #   track, so the model never saw one;
    # - the pole's angle, 0.2 at most, needs more weight than the noise of the latents
    #   leaves it;
    # - values without a target network grew beyond all bounds with a discount of 0.99,
    #   and with 0.97, a horizon of 1.3 s, the cart drifted off its track at times;
    # - a model of chunks of 8 steps moved the cart back to the middle while it really
    #   went on; few random episodes have 20 steps, so more of them come first;
    # - with learning rates of 1e-3 for model and values, one evaluation in five lost
    #   the cart again after others had 500.
    ("v1", "gym", "lite", "gym_CartPole-v1"): {
        "expl_amount": 0.05,
        "loss_scales.vector": 10.0,
        "discount": 0.985,
        "model_lr": 5e-4,
        "value_lr": 5e-4,
        "actor_lr": 3e-5,
        "batch_size": 10,
        "batch_length": 20,
        "prefill": 2000,
    },
    ("v2", "gym", "lite", "gym_CartPole-v1"): {"train_every": 1},
    ("v3", "gym", "lite", "gym_CartPole-v1"): {"train_ratio": 256},
    ("v2", "gym_vision", "lite"): _V2_GYM,
    ("v2", "catch", "lite"): _V2_POSITION | _V2_CATCH,
    ("v2", "catch_vision", "lite"): _V2_SMALL | _V2_CATCH,
    ("v2", "minatar", "lite"): _V2_VECTORS | _V2_MINATAR,
    ("v2", "minatar_vision", "lite"): _V2_SMALL | _V2_MINATAR,
    ("v2", "toy", "lite"): _V2_VECTORS,
    # Images of 16x16 pixels need two stages of convolutions; V3's of 8x8 need one.
    ("v1", "toy_vision", "lite"): {
        "enc_kernels": (4, 4),
        "dec_kernels": (6, 6),
        "cnn_depth": 16,
        "free_nats": 0.0,
        "kl_scale": 0.3,
        "actor_lr": 1e-5,
        "prefill": 500,
        "train_every": 125,
    },
    ("v2", "toy_vision", "lite"): {
        "encoder.cnn_kernels": (4, 4),
        "decoder.cnn_kernels": (6, 6),
        "encoder.cnn_depth": 16,
        "decoder.cnn_depth": 16,
        "kl.free": 0.0,
        "loss_scales.kl": 0.3,
        "train_every": 1,
    },
    ("v3", "gym", "lite"): _V3_GYM,
    ("v3", "catch", "lite"): _V3_CATCH,
    ("v3", "catch_vision", "lite"): _V3_CATCH | _V3_SMALL,
    ("v3", "minatar", "lite"): _V3_MINATAR,
    ("v3", "minatar_vision", "lite"): _V3_MINATAR | _V3_SMALL,
    ("v3", "toy", "lite"): _V3_TOY,
    ("v3", "toy_vision", "lite"): _V3_TOY
    | {"enc.mults": (4,), "dec.mults": (4,), "jit": True},
    ("v3", "dmc_proprio"): {"size": "1m", "train_ratio": 1024},
    ("v3", "dmc_vision"): {"train_ratio": 256, "jit": False},
    ("v3", "gym"): {"size": "1m", "train_ratio": 1024},
    ("v3", "gym_vision"): {"train_ratio": 256, "jit": False},
    ("v3", "catch"): {"size": "1m", "train_ratio": 256},
    ("v3", "catch_vision"): {"size": "1m", "train_ratio": 256, "jit": False},
    ("v3", "minatar"): {"size": "1m", "train_ratio": 256},
    ("v3", "minatar_vision"): {"size": "1m", "train_ratio": 256, "jit": False},
    ("v3", "toy"): {"size": "1m", "train_ratio": 256},
    ("v3", "toy_vision"): {"size": "1m", "train_ratio": 256, "jit": False},
    ("v3", "arxiv_v2"): {"size": "12m", "train_ratio": 512},
    # Small enough for two CPU cores; a larger learning rate makes up for the few
    # updates. Not a setting of any paper.
    ("v3", "lite"): {
        "dyn.deter": 256,
        "dyn.hidden": 64,
        "dyn.stoch": 16,
        "dyn.classes": 8,
        "enc.layers": 2,
        "enc.units": 64,
        "enc.depth": 4,
        "dec.layers": 2,
        "dec.units": 64,
        "dec.depth": 4,
        "rewhead.units": 64,
        "rewhead.bins": 63,
        "conhead.units": 64,
        "policy.layers": 2,
        "policy.units": 64,
        "value.layers": 2,
        "value.units": 64,
        "value.bins": 63,
        "opt.lr": 4e-4,
        "opt.warmup": 100,
        "batch_size": 8,
        "batch_length": 32,
        "imag_last": 4,
        "train_ratio": 128,
    },
    # The episodes of BSuite end, and may end after one step.
    ("v1", "bsuite"): _V1_ENDS,
    ("v2", "bsuite"): _V2_ENDS,
    ("v1", "bsuite", "lite"): _V1_VECTORS | _V1_GYM,
    ("v2", "bsuite", "lite"): _V2_VECTORS | _V2_GYM | {"replay.minlen": 2},
}
