"""Presets: what is observed chooses them, and those of gymnasium fit short episodes."""

import dataclasses
import json
import operator

import numpy as np
import pytest
from gymnasium import spaces

import run as command
from dreamer_tf.agent import make_agent
from dreamer_tf.configs import dmc, fields, presets
from dreamer_tf.envs import make_env
from dreamer_tf.errors import UserError
from dreamer_tf.replay import make_replay
from dreamer_tf.training import train
from reproductions import protocols
from reproductions.names import DMC_PROPRIO_18

EVERY = [(v, p) for v, names in presets.PROTOCOLS.items() for p in names]
KINDS = [("dmc_proprio", "dmc_vision"), ("toy", "toy_vision")]
KINDS += [("catch", "catch_vision")]
ENDING = ("gym", "catch", "minatar")  # benchmarks whose episodes may end soon


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize("obs", ["", *presets.OBS])
@pytest.mark.parametrize("benchmark", ENDING)
def test_learns_when_episodes_end(version, protocol, benchmark, obs):
    config = presets.load(version, benchmark, protocol, obs=obs)[1]
    if version == "v1":
        assert config.pcont and config.dataset_balance and config.include_end
    elif version == "v2":
        assert config.pred_discount and "discount" in config.grad_heads
        assert config.replay.prioritize_ends
    else:  # whose continuation head has no switch
        assert config.contdisc and config.loss_scales.con > 0


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize(
    ("benchmark", "decisions"),
    [("gym", 7), ("gym", 9), ("gym", 30), ("catch", 9), ("minatar", 9)],
)
def test_draws_short_episodes_with_their_ends(version, protocol, benchmark, decisions):
    config = presets.load(version, benchmark, protocol)[1]
    replay = make_replay(version, config, 10**8, seed=0)
    for episode in range(30):
        for row in range(decisions + 1):
            last = row == decisions
            record = {"vector": np.float32([episode]), "action": np.zeros(2, "f4")}
            record |= {"reward": np.float32(1), "is_first": np.bool_(row == 0)}
            replay.add(record | {"is_last": np.bool_(last), "is_terminal": last})
    batch = replay.sample()
    assert batch["is_terminal"].any()
    if version != "v3":  # no chunk of a batch begins with the end of its episode
        assert not (batch["is_terminal"] & batch["is_first"]).any()


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize(("vectors", "images"), KINDS)
def test_what_is_observed_chooses_the_settings(version, protocol, vectors, images):
    def agent(benchmark, obs=""):
        return presets.load(version, benchmark, protocol, obs=obs)[1]

    assert agent(vectors, "image") == agent(images) == agent(images, "image")
    assert agent(images, "proprio") == agent(vectors) == agent(vectors, "proprio")
    run = presets.load(version, vectors, protocol, obs="image")[0]
    assert (run.benchmark, run.obs) == (vectors, "image")
    assert run.size == presets.load(version, images, protocol)[0].size


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize("obs", ["image", "both"])
def test_gym_images_have_the_settings_of_images(version, protocol, obs):
    """XLA is slow with convolutions on CPUs; V3's paper has larger networks."""
    config = presets.load(version, "gym", protocol, obs=obs)[1]
    images = presets.load(version, "dmc_vision", protocol)[1]
    assert not config.jit and presets.load(version, "gym", protocol)[1].jit
    if version == "v3" and protocol == "lite":  # where DMC's images are smaller
        assert config.enc.mults == config.dec.mults == (2, 3, 4, 4)
        fewer = {"enc.mults": (2, 3, 4), "dec.mults": (2, 3, 4)}
        assert fields.updated(config, fewer | {"loss_scales.image": 4.0}) == images
    elif version == "v3":
        assert config == images
    if version == "v2":  # whatever the environment calls its images and vectors
        keys = (config.encoder.mlp_keys, config.encoder.cnn_keys)
        assert keys == (config.decoder.mlp_keys, config.decoder.cnn_keys) == (".*",) * 2


@pytest.mark.parametrize("version", presets.PROTOCOLS)
def test_images_of_dmc_are_small_under_lite(version):
    run, config = presets.load(version, "dmc_vision", "lite")
    assert (run.size, run.fast_render) == (32, True)
    # The loss of an image is a sum over its pixels, in the papers 64 x 64.
    assert config.loss_scales.entries == {"image": 64**2 / run.size**2}
    observed = spaces.Dict({"image": spaces.Box(0, 255, (32, 32, 3), np.uint8)})
    # Refuses stages that do not make images of this size.
    make_agent(version, observed, spaces.Box(-1, 1, (6,), np.float32), config, 0)
    lite = protocols.PROTOCOLS["lite"]
    note = lite.footnote([version], "dmc_vision")
    assert "images of 32x32 drawn with --fast_render" in note
    assert "images" not in lite.footnote([version], "dmc_proprio")
    assert "depend on the task" not in note


def test_settings_by_task_are_in_the_footnote():
    note = protocols.PROTOCOLS["lite"].footnote([*presets.PROTOCOLS], "dmc_proprio")
    assert "Some settings of DreamerV1 and DreamerV2 depend on the task" in note
    assert "depend" not in protocols.PROTOCOLS["paper"].footnote(["v2"], "dmc_proprio")


@pytest.mark.parametrize(
    "version, updates",
    [("v1", "train_every"), ("v2", "train_every"), ("v3", "train_ratio")],
)
def test_a_task_may_have_settings_of_its_own(version, updates):
    every = presets.load(version, "gym", "lite", "gym_Pendulum-v1")
    one = presets.load(version, "gym", "lite", "gym_CartPole-v1")
    assert (every[0].repeat, one[0].repeat) == (1, 2)
    # As many updates per frame: V1 counts frames, the others decisions.
    found = [getattr(config, updates) for _, config in (every, one)]
    assert found == {"v1": [200, 200], "v2": [2, 1], "v3": [128, 256]}[version]
    # From images, and under other protocols, it has none.
    others = [("lite", "image"), ("", "")]
    for protocol, obs in others:
        run, _ = presets.load(version, "gym", protocol, "gym_CartPole-v1", obs)
        assert run.repeat == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_vectors_of_dmc_have_weights_under_lite(version):
    def scales(task, protocol="lite", benchmark="dmc_proprio"):
        config = presets.load(version, benchmark, protocol, task)[1]
        return config.loss_scales.entries

    scaled = {task for task in DMC_PROPRIO_18 if scales(task)}
    assert scaled == {t for t in DMC_PROPRIO_18 if "cartpole" not in t}
    assert scaled == set(dmc.WEIGHTS)
    assert scales("dmc_reacher_easy") == scales("reacher_easy") != {}
    assert scales("reacher_easy", "paper") == {}
    assert scales("reacher_easy", benchmark="dmc_vision").keys() == {"image"}
    # Those of the authors' runs (results/reference).
    config = presets.load("v2", "dmc_proprio", "lite", "cartpole_swingup")[1]
    found = config.kl.balance, config.loss_scales.kl, config.actor_ent
    assert found == (0.8, 0.02, 1e-4) and config.rssm.norm == "none"


@pytest.mark.parametrize(
    "task", {str(weights): task for task, weights in dmc.WEIGHTS.items()}.values()
)
def test_weights_are_those_of_a_standard_deviation(task):
    rng, seen = np.random.default_rng(0), {}
    with make_env(task, repeat=4) as env:
        for episode in range(10):
            record = env.reset(seed=episode)
            while not record["is_last"]:
                for key in env.obs_space:
                    seen.setdefault(key, []).append(np.atleast_1d(record[key]))
                action = rng.uniform(-1, 1, env.action_space.shape)
                record = env.step(action.astype(np.float32))
    weights = {k: 1 / np.var(np.array(v), 0).mean() for k, v in seen.items()}
    assert dmc.WEIGHTS[task] == pytest.approx(weights, rel=0.1)


@pytest.mark.parametrize("benchmark", ["dmc_proprio", "dmc_vision"])
def test_v2_uses_vectors_and_images_of_both(benchmark):
    config = presets.load("v2", benchmark, obs="both")[1]
    for coder in (config.encoder, config.decoder):
        assert (coder.mlp_keys, coder.cnn_keys) == (".*", ".*")


def test_unknown_observations():
    sentence = r"^--obs is 'images'; choose from .*\(did you mean 'image'\?\)\.$"
    with pytest.raises(UserError, match=sentence):
        presets.load("v1", "gym", obs="images")


def test_the_command_line_chooses_by_obs(monkeypatch):
    made = []
    monkeypatch.setattr(train, "train", lambda *given: made.append(given))
    words = "train --version=v2 --benchmark=gym --protocol=lite --logdir=x"
    for obs in ("", " --obs=image", " --obs=image --jit"):
        assert command.main([*(words + obs).split()]) == 0
    assert [run.obs for run, *_ in made] == ["proprio", "image", "image"]
    assert [agent.jit for _, agent, _ in made] == [True, False, True]


@pytest.mark.parametrize(
    ("benchmark", "task", "obs", "flags"),
    [
        ("gym", "", "", ""),
        ("gym", "", "image", "--obs=image"),
        ("gym", "gym_CartPole-v1", "", ""),
        ("gym", "gym_CartPole-v1", "image", "--obs=image"),
        ("dmc_vision", "", "proprio", "--obs=proprio"),
        ("dmc_vision", "", "image", ""),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v3"])
def test_other_observations_are_named_but_not_their_settings(
    version, benchmark, task, obs, flags
):
    run, agent = presets.load(version, benchmark, "lite", task, obs)
    config = {"run": fields.to_dict(run), "agent": fields.to_dict(agent)}
    assert protocols.changes(config) == flags
    config["agent"] = fields.to_dict(dataclasses.replace(agent, horizon=12))
    assert protocols.changes(config) == f"{flags} --horizon=12".strip()


# --- Atari, Crafter and BSuite -------------------------------------------------

# The environment of V3's adapter, `embodied/envs/atari.py` of danijar/dreamerv3.
V3_ATARI = {"pooling": "v3", "gray": True, "sticky": 0.25, "actions": "full"}
V3_ATARI |= {"first_picture": "reset", "limit_terminal": True, "noops": "0-30"}
V3B = {"noops": "0", "first_picture": "stale"}
NETWORKS = ("rssm", "encoder", "decoder", "reward_head", "discount_head")
NETWORKS += ("actor", "critic")
# (version, benchmark, protocol) -> settings of the run, of its environment, of the
# agent; with each their source. V3's agents are the same in both of its protocols.
RUNS = {
    # danijar/dreamerv2 650e92d, configs.yaml block atari; all_actions=True in train.py
    ("v2", "atari", "paper"): (
        {"repeat": 4, "envs": 1, "steps": 2e8, "size": 64, "length": 108_000}
        | {"eval_every": 1e5, "eval_episodes": 1, "replay_gb": 9},
        V3_ATARI | {"pooling": "v2", "noops": "1-30", "limit_terminal": False},
    ),
    # 07d906e, block crafter: 1M steps are those of the published scores
    ("v2", "crafter", "paper"): (
        {"repeat": 1, "envs": 1, "steps": 1e6, "size": 64, "length": 0}
        | {"eval_every": 1e5, "eval_episodes": 1, "replay_gb": 13},
        {},
    ),
    # danijar/dreamerv3 2411f7d, configs.yaml blocks atari, atari100k, crafter, bsuite
    ("v3", "atari", "arxiv_v2"): (
        {"repeat": 4, "envs": 16, "steps": 2e8, "size": 96, "length": 108_000}
        | {"eval_every": 0, "replay_gb": 252},
        V3_ATARI | V3B,
    ),
    ("v3", "atari100k", "arxiv_v2"): (
        {"repeat": 4, "envs": 1, "steps": 4e5, "size": 64, "length": 100_000}
        | {"eval_every": 0, "replay_gb": 6},
        V3_ATARI | V3B | {"gray": False},
    ),
    ("v3", "crafter", "arxiv_v2"): (
        {"repeat": 1, "envs": 1, "steps": 1e6, "size": 64, "length": 0}
        | {"eval_every": 0, "replay_gb": 56},
        {},
    ),
    ("v3", "bsuite", "arxiv_v2"): (
        {"repeat": 1, "envs": 1, "steps": 90_000, "obs": "proprio"}
        | {"eval_every": 0, "replay_gb": 44},
        {},
    ),
    # e3f0224, the same blocks
    ("v3", "atari", "nature"): (
        {"repeat": 4, "envs": 16, "steps": 2e8, "size": 96, "length": 108_000},
        V3_ATARI,
    ),
    ("v3", "atari100k", "nature"): (
        {"repeat": 4, "envs": 1, "steps": 4e5, "size": 64, "length": 108_000},
        V3_ATARI | {"gray": False, "actions": "minimal"},
    ),
    ("v3", "crafter", "nature"): (
        {"repeat": 1, "envs": 1, "steps": 1e6, "size": 64, "length": 0},
        {},
    ),
    ("v3", "bsuite", "nature"): (
        {"repeat": 1, "envs": 1, "steps": 90_000, "obs": "proprio"},
        {},
    ),
}
V2_IMAGES = {"encoder.mlp_keys": "$^", "encoder.cnn_keys": "image", "jit": False}
V2_IMAGES |= {"decoder.mlp_keys": "$^", "decoder.cnn_keys": "image"}
# The block defaults of configs.yaml in danijar/dreamerv2 07d906e, and what its blocks
# atari and crafter share.
V2_BOTH = V2_IMAGES | {
    "rssm.stoch": 32,
    "rssm.discrete": 32,
    "encoder.cnn_depth": 48,
    "encoder.cnn_kernels": (4, 4, 4, 4),
    "decoder.cnn_kernels": (5, 5, 6, 6),
    "reward_head.layers": 4,
    "reward_head.units": 400,
    "discount_head.units": 400,
    "actor.units": 400,
    "critic.layers": 4,
    "clip_rewards": "tanh",
    "pred_discount": True,
    "grad_heads": ("decoder", "reward", "discount"),
    "loss_scales.reward": 1,
    "kl.free": 0,
    "kl.balance": 0.8,
    "kl.forward": False,
    "kl.free_avg": True,
    "model_opt.eps": 1e-5,
    "model_opt.clip": 100,
    "model_opt.wd": 1e-6,
    "actor_opt.wd": 1e-6,
    "critic_opt.clip": 100,
    "replay.capacity": 2_000_000,
    "replay.minlen": 50,
    "replay.maxlen": 50,
    "replay.prioritize_ends": True,
    "dataset.batch": 16,
    "dataset.length": 50,
    "pretrain": 1,
    "train_steps": 1,
    "discount": 0.999,
    "discount_lambda": 0.95,
    "imag_horizon": 15,
    "slow_target": True,
    "slow_target_update": 100,
    "slow_target_fraction": 1,
    "expl_noise": 0,
    "reward_norm.momentum": 1,
}
# configs.yaml of danijar/dreamerv3, the same at both commits for what is here.
V3_SIZE200M = {
    "dyn.deter": 8192,
    "dyn.hidden": 1024,
    "dyn.stoch": 32,
    "dyn.classes": 64,
    "enc.depth": 64,
    "enc.mults": (2, 3, 4, 4),
    "dec.depth": 64,
    "value.units": 1024,
    "batch_size": 16,
    "batch_length": 64,
    "replay_context": 1,
    "replay.size": 5_000_000,
    "horizon": 333,
    "contdisc": True,
    "imag_length": 15,
    "opt.lr": 4e-5,
    "imag_loss.actent": 3e-4,
}
AGENTS = {
    ("v2", "atari", "paper"): V2_BOTH
    | {f"{name}.norm": "none" for name in NETWORKS}
    | {
        "rssm.deter": 600,
        "rssm.hidden": 600,
        "loss_scales.kl": 0.1,
        "loss_scales.discount": 5,
        "model_opt.lr": 2e-4,
        "actor_opt.lr": 4e-5,
        "critic_opt.lr": 1e-4,
        "actor_ent": 1e-3,
        "actor_grad": "reinforce",
        "prefill": 50_000,  # decisions
        "train_every": 16,
    },
    ("v2", "crafter", "paper"): V2_BOTH
    | {f"{name}.norm": "layer" for name in NETWORKS}
    | {
        "rssm.deter": 1024,
        "rssm.hidden": 1024,
        "loss_scales.kl": 1,
        "loss_scales.discount": 1,
        "model_opt.lr": 1e-4,
        "actor_opt.lr": 1e-4,
        "critic_opt.lr": 1e-4,
        "actor_ent": 3e-3,
        "actor_grad": "auto",
        "prefill": 10_000,
        "train_every": 5,
    },
}
RATIOS = {"atari": 32, "atari100k": 256, "crafter": 512, "bsuite": 1024}
for name, ratio in RATIOS.items():
    for protocol in ("arxiv_v2", "nature"):
        AGENTS["v3", name, protocol] = V3_SIZE200M | {"train_ratio": ratio}


@pytest.mark.parametrize("which", RUNS)
def test_runs_of_the_discrete_benchmarks(which):
    settings, arguments = RUNS[which]
    run = presets.load(*which)[0]
    assert {name: getattr(run, name) for name in settings} == settings
    assert json.loads(run.env_args or "{}") == arguments


@pytest.mark.parametrize("which", RUNS)
def test_agents_of_the_discrete_benchmarks(which):
    agent = presets.load(*which)[1]
    values = {name: operator.attrgetter(name)(agent) for name in AGENTS[which]}
    assert values == AGENTS[which]


def test_the_batch_of_the_paper_is_two_flags_away(monkeypatch):
    made = []
    monkeypatch.setattr(train, "train", lambda *given: made.append(given))
    words = "train --version=v2 --benchmark=atari --logdir=x --dataset.batch=50"
    assert command.main(words.split()) == 0
    assert (made[0][1].dataset.batch, made[0][1].dataset.length) == (50, 50)


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("", {}),
        ("--env_args=", {}),
        ("--env_args={}", {}),
        ("--env_args=sticky=0", {"sticky": 0}),
        ("--env_args=sticky=0,noops=0-30", {"sticky": 0, "noops": "0-30"}),
        ('--env_args={"gray":true}', {"gray": True}),
        ("--env_args=gravity=1", {"gravity": 1}),  # refused by the environment
    ],
)
def test_arguments_on_the_command_line_leave_the_presets_others(
    monkeypatch, flags, changed
):
    made = []
    monkeypatch.setattr(train, "train", lambda *given: made.append(given))
    words = ["train", "--benchmark=atari100k", "--protocol=arxiv_v2", "--logdir=x"]
    assert command.main([*words, *flags.split()]) == 0
    usual = RUNS["v3", "atari100k", "arxiv_v2"][1]
    assert json.loads(made[0][0].env_args) == usual | changed


def test_arguments_of_gymnasium_are_those_of_the_command_line(monkeypatch):
    made = []
    monkeypatch.setattr(train, "train", lambda *given: made.append(given))
    words = ["train", "--benchmark=gym", "--logdir=x"]
    for flag in ("--env_args=gravity=1", "--env_args="):
        assert command.main([*words, flag]) == 0
    assert [run.env_args for run, *_ in made] == ['{"gravity": 1}', ""]


def test_changed_arguments_are_no_setting_of_the_protocol():
    run, agent = presets.load("v3", "atari100k", "arxiv_v2")
    config = {"run": fields.to_dict(run), "agent": fields.to_dict(agent)}
    assert protocols.changes(config) == ""
    other = json.dumps(json.loads(run.env_args) | {"sticky": 0})
    config["run"]["env_args"] = dataclasses.replace(run, env_args=other).env_args
    assert protocols.changes(config).startswith("--env_args=")


ATARI = "v1 with lite, v2 with paper or lite, v3 with nature or arxiv_v2 or lite."


@pytest.mark.parametrize(
    ("version", "benchmark", "protocol", "known"),
    [
        ("v1", "atari", "", ATARI),
        ("v1", "crafter", "paper", ATARI),
        ("v2", "atari100k", "", "v3 with nature or arxiv_v2."),
        ("v3", "atari100k", "lite", "v3 with nature or arxiv_v2."),
        ("v2", "bsuite", "paper", "v2 with lite, v3 with nature or arxiv_v2 or lite."),
    ],
)
def test_protocols_that_do_not_exist(version, benchmark, protocol, known):
    with pytest.raises(UserError) as error:
        presets.load(version, benchmark, protocol)
    start = f"--benchmark={benchmark} has no --protocol={protocol or 'paper'} for "
    assert str(error.value).startswith(f"{start}--version={version}; it has ")
    assert str(error.value).endswith(known)


@pytest.mark.parametrize("benchmark", presets.BENCHMARKS)
@pytest.mark.parametrize("version", presets.PROTOCOLS)
def test_all_protocols_can_be_loaded(version, benchmark):
    for protocol in presets.protocols_of(version, benchmark):
        run = presets.load(version, benchmark, protocol)[0]
        assert (run.benchmark, run.protocol) == (benchmark, protocol)
        assert run == presets.load(version, benchmark, protocol, task=run.task)[0]


@pytest.mark.parametrize(
    ("task", "benchmark", "add"),
    [
        ("walker_walk", "atari", "dmc_proprio or dmc_vision"),
        ("atari_pong", "crafter", "atari or atari100k"),
        ("atari_pong", "dmc_vision", "atari or atari100k"),
        ("bsuite_catch/0", "gym", "bsuite"),
        ("crafter_reward", "toy", "crafter"),
        ("gym_Pendulum-v1", "bsuite", "gym"),
    ],
)
def test_tasks_of_other_benchmarks(task, benchmark, add):
    sentence = rf"--task={task} is no task of --benchmark={benchmark}; .*={add}\.$"
    with pytest.raises(UserError, match=sentence):
        presets.load("v3", benchmark, task=task)


@pytest.mark.parametrize(("version", "protocol"), EVERY)
@pytest.mark.parametrize(
    ("benchmark", "task", "obs", "size"),
    [
        ("catch", "catch", "proprio", 64),
        ("catch_vision", "catch", "image", 16),
        ("minatar", "minatar_breakout", "proprio", 64),
    ],
)
def test_small_discrete_tasks(version, protocol, benchmark, task, obs, size):
    """One frame per decision in every protocol; `lite` has small pictures."""
    run = presets.load(version, benchmark, protocol)[0]
    assert (run.task, run.obs, run.repeat) == (task, obs, 1)
    assert run.size == (size if protocol == "lite" else 64)


@pytest.mark.parametrize(
    ("benchmark", "task", "sentence"),
    [
        ("toy", "catch", "--task=catch is no task of --benchmark=toy; add "
         "--benchmark=catch or catch_vision"),
        ("catch", "toy", "--task=toy is no task of --benchmark=catch"),
        ("catch", "minatar_asterix", "add --benchmark=minatar"),
        ("minatar", "walker_walk", "--task=walker_walk is no task of"),
        ("gym", "minatar_asterix", "add --benchmark=minatar"),
    ],
)  # fmt: skip
def test_tasks_of_other_benchmarks_are_refused(benchmark, task, sentence):
    with pytest.raises(UserError, match=sentence):
        presets.load("v3", benchmark, task=task)


@pytest.mark.parametrize("task", ["ball_in_cup_catch", "dmc_ball_in_cup_catch"])
def test_dm_controls_catch_is_another_task(task):
    assert presets.load("v3", "dmc_proprio", task=task)[0].task == task
    with pytest.raises(UserError, match="is no task of --benchmark=catch"):
        presets.load("v3", "catch", task=task)
