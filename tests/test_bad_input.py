"""What a person can get wrong: one sentence each, and nothing is lost by it.

A row is a command line or a function, and what the sentence must say. Beside a
finished run lie files of something else; not a byte of them may change, and nothing
but a lock may appear. HOME stands for their directory.
"""

import dataclasses
import errno
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import run
from dreamer_tf import agent as agents
from dreamer_tf import files, load_agent, replay
from dreamer_tf.configs import config_class, presets
from dreamer_tf.configs import fields as configs
from dreamer_tf.envs import Envs, make_env
from dreamer_tf.errors import UserError
from dreamer_tf.training import evaluate, logdir
from reproductions import collect, grid, report, scores
from reproductions.outside import read_outside
from tests import fakes

TOY = "--benchmark=toy --protocol=lite --version=v1"
NEW = f"run.py train {TOY} --logdir=HOME/new"
GYM = f"{NEW} --benchmark=gym --task="
# The finished run, once more; no networks are compiled for its random decisions.
RUN = f"run.py train {TOY} --logdir=HOME/run --steps=60 --envs=2"
COMMANDS = {"run.py": run.main}
COMMANDS["dmc_proprio"] = functools.partial(grid.main, "dmc_proprio", "")

VECTOR = spaces.Box(-np.inf, np.inf, (2,), np.float32)
PLAIN = spaces.Dict({"x": VECTOR})
ACTION = spaces.Box(-1, 1, (2,), np.float32)
HEADER = "frames,score,length,kind,mode,env,episode,seed\n"
ROW = "1000,5.0,10,train,train,0,0,0\n"
SCORES = "results/lite/v3/dmc_proprio/walker_walk.csv"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A finished run, a saved agent, results, and files of something else."""
    home = tmp_path_factory.mktemp("home")
    assert run.main(RUN.replace("HOME", str(home)).split()[1:]) == 0
    build("v1").save(home / "agent")
    (home / "thesis.tex").write_text("years of work")
    (home / "foreign").mkdir()
    (home / "foreign" / "notes.txt").write_text("months of work")
    (home / SCORES).parent.mkdir(parents=True)
    (home / SCORES).write_text(HEADER + ROW)
    manifest = {"benchmark": "dmc_proprio", "runs": {}}
    (home / SCORES).with_name("manifest.json").write_text(json.dumps(manifest))
    # A run as the reports read it, of a task that they know.
    (home / "walker").mkdir()
    (home / "walker" / "scores.csv").write_text(HEADER + ROW)
    row = {"frames": 1000, "updates": 3}
    (home / "walker" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    settings = {"benchmark": "dmc_proprio", "protocol": "lite", "version": "v3"}
    settings |= {"task": "walker_walk", "seed": 0, "steps": 1000}
    names = ("commit", "time", "backend", "python", "machine", "packages")
    start = dict.fromkeys(names) | {"command": ["run.py"]}
    content = {"run": settings, "agent": {}, "starts": [start]}
    (home / "walker" / "config.json").write_text(json.dumps(content))
    return home


@pytest.fixture
def home(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "home")
    return tmp_path / "home"


def digest(home):
    files = (path for path in home.rglob("*") if path.is_file())
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != logdir.LOCK
    }


def sentence(what, home, capsys):
    """What a person gets to read."""
    if callable(what):
        with pytest.raises(UserError) as info:
            what(home)
        return str(info.value)
    name, *argv = what.replace("HOME", str(home)).split(" ")
    capsys.readouterr()
    assert COMMANDS[name](argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0].split(": ", 1)[1]


def check(what, pattern, home, capsys):
    before = digest(home)
    text = sentence(what, home, capsys)
    assert re.search(pattern, text), text
    assert "\n" not in text and "Traceback" not in text
    # Sentences of absl have no full stop.
    assert re.search(r"[.?>]$|flag '?\S+$|--help$", text), text
    assert digest(home) == before


# --- Flags ------------------------------------------------------------------

FLAGS = [
    # Commands and words.
    ("run.py trian", r"command is 'trian', but must be one of train, evaluate"),
    ("run.py --version=v3", r"command is '--version=v3', but must be one of train"),
    ("run.py ", r"command is '', but must be one of"),
    ("run.py train", r"--logdir is needed"),
    ("run.py train --logdir=", r"--logdir is needed"),
    ("run.py train --logdir", r"Missing value for flag --logdir"),
    ("run.py evaluate", r"--logdir is needed"),
    ("run.py video", r"--logdir is needed"),
    (f"{NEW} steps=3", r"'steps=3' is not a flag: write --name=value"),
    (f"{NEW} evaluate", r"'evaluate' is not a flag"),
    ("run.py evaluate --logdir=HOME/run now", r"'now' is not a flag"),
    # Names.
    (f"{NEW} --stpes=3", r"'stpes'. Did you mean: steps"),
    (f"{NEW} --deter_sizes=3", r"'deter_sizes'. Did you mean: deter_size"),
    (f"{NEW} --version=v3 --dyn=3", r"'dyn'. Did you mean: dyn.blocks"),
    (f"{NEW} --loss_scales.=1", r"Unknown command line flag 'loss_scales.'"),
    (f"{NEW} --loss_scale.x=1", r"'loss_scale.x'. Did you mean: loss_scales.NAME"),
    (f"{NEW} --noloss_scales.x", r"Unknown command line flag 'noloss_scales.x'"),
    (f"{NEW} --loss_scales.x", r"Missing value for flag --loss_scales.x"),
    (f"{NEW} --nosteps", r"'nosteps'. Did you mean: steps"),
    (f"{NEW} --nohelp=yes", r"--nohelp=yes does not take an argument"),
    (f"{NEW} --version=v4", r"version is 'v4'; choose from v1, v2, v3"),
    (f"{NEW} --version=", r"version is ''; choose from v1, v2, v3"),
    (f"{NEW} --benchmark=dmc_vison", r"--benchmark is 'dmc_vison'.*'dmc_vision'"),
    (f"{NEW} --benchmark=", r"--benchmark is ''; choose from dmc_proprio"),
    (f"{NEW} --protocol=nature", r"--protocol of v1 is 'nature'; choose from paper"),
    (f"{NEW} --task=toi", r'task "toi" is not known: did you mean toy\?'),
    (f"{NEW} --task=walker_wlk", r"did you mean dmc_walker_walk or"),
    (f"{NEW} --task=", r'task "" is not known: there are gym_<id>'),
    (f"{GYM}gym_CartPol-v1", r"`CartPol` doesn't exist, did you mean gym_Car"),
    (f"{GYM}gym_none:Env-v0", r"No module named 'none'"),
    (f"{GYM}walker_walk", r"=walker_walk is no .*; add --benchmark=dmc_proprio or"),
    (f"{GYM}CartPole-v1", r"an id of gymnasium, give --task=gym_CartPole-v1\."),
    (f"{GYM}ALE/Pong-v5", r"an id of gymnasium, give --task=gym_ALE/Pong-v5\."),
    (f"{NEW} --task=Ant-v5", r"give --benchmark=gym --task=gym_Ant-v5\."),
    (f"{NEW} --lr=3", r"'lr'. Did you mean: model_lr, value_lr, actor_lr"),
    (f"{NEW} --task=gym_CartPole-v1", r"is no task of .*; add --benchmark=gym\."),
    (f"{NEW} --env_args=gravity", r"--env_args is gravity, but must be NAME=VALUE"),
    (f"{NEW} --env_args=gravity=1", r"env_args are for tasks gym_<id>"),
    (f"{NEW} --camera=1", r"camera and fast_render are for dm_control tasks"),
    # Types.
    (f"{NEW} --steps=", r"--steps=: it must be a whole number"),
    (f"{NEW} --steps=many", r"--steps=many: it must be a whole number"),
    (f"{NEW} --steps=1.5", r"--steps=1.5: it must be a whole number"),
    (f"{NEW} --steps=inf", r"--steps=inf: it must be a whole number"),
    (f"{NEW} --steps=1{'0' * 400}", r"0: it must be a whole number"),
    (f"{NEW} --camera=left", r"must be a whole number or none"),
    (f"{NEW} --fast_render=maybe", r"--fast_render=maybe: it must be true or false"),
    (f"{NEW} --obs=pixels", r"--obs is 'pixels'; choose from proprio, image, both"),
    (f"{NEW} --save_every=nan", r"--save_every=nan: it must be a finite number"),
    (f"{NEW} --replay_gb=inf", r"--replay_gb=inf: it must be a finite number"),
    (f"{NEW} --disk_gb=inf", r"--disk_gb=inf: it must be a finite number"),
    (f"{NEW} --env_timeout=inf", r"--env_timeout=inf: it must be a finite number"),
    (f"{NEW} --loss_scales.x=much", r"scales.x=much: it must be a finite number"),
    (f"{NEW} --enc_kernels=4,x", r"comma-separated list, each a whole number"),
    ("run.py evaluate --logdir=HOME/run --episodes=1.5", r"=1.5: .* a whole number"),
    ("run.py video --logdir=HOME/run --fps=fast", r"=fast: it must be a whole number"),
    # Ranges.
    (f"{NEW} --loss_scales.x=-1", r"loss_scales.x is -1.0; it must be at least 0"),
    (f"{NEW} --steps=-1", r"--steps must be at least 0, got -1"),
    (f"{NEW} --seed=-1", r"--seed must be at least 0, got -1"),
    (f"{NEW} --seed=1e30", r"--seed must be below 4294967296, got 1000"),
    (f"{NEW} --envs=0", r"--envs must be at least 1, got 0"),
    (f"{NEW} --envs=1e9", r"--envs must be at most 4096, got 1000000000"),
    (f"{NEW} --envs=2 --workers=3", r"--workers must be at most --envs=2, got 3"),
    (f"{NEW} --repeat=0", r"--repeat must be at least 1, got 0"),
    (f"{NEW} --size=1e9 --obs=image", r"--size must be at most 4096, got 10000"),
    (f"{NEW} --length=-1", r"--length must be at least 0, got -1"),
    (f"{NEW} --eval_episodes=0", r"--eval_episodes must be at least 1, got 0"),
    (f"{NEW} --replay_gb=1e300", r"--replay_gb must be at most 1000000, got 1e\+300"),
    (f"{NEW} --replay_gb=0", r"--replay_gb must be above 0, got 0"),
    (f"{NEW} --replay_gb=1e-6", r"--replay_gb=1e-06 .* too little .* \S+ GB would be"),
    (f"{NEW} --version=v2 --replay_gb=1e-9", r"--replay_gb=1e-09 .* would be enough"),
    (f"{NEW} --version=v3 --replay_gb=1e-5", r"--replay_gb=1e-05 .* would be enough"),
    (f"{NEW} --disk_gb=1e-6", r"--disk_gb=1e-06 is too small .* give at least 0"),
    ("run.py evaluate --logdir=HOME/run --episodes=0", r"it must be at least 1"),
    ("run.py evaluate --logdir=HOME/run --seed=-1", r"it must be at least 0"),
    ("run.py evaluate --logdir=HOME/run --mode=best", r"one of <eval\|train\|random>"),
    # The grid of the reproductions.
    ("dmc_proprio --versions=v9", r"--versions names the unknown version 'v9'"),
    ("dmc_proprio --versions=", r"--versions and --tasks must each name at least one"),
    ("dmc_proprio --tasks=walker_wlk", r"task 'walker_wlk'; did you mean walker_walk"),
    ("dmc_proprio --protocol=natur", r"--protocol=natur does not exist for v1"),
    ("dmc_proprio --seeds=1.5", r"--seeds=1.5 must be a count such as 5"),
    ("dmc_proprio --steps=nan", r"--steps=nan must be a whole number of frames"),
    ("dmc_proprio --workers=1.5", r"--workers=1.5: it must be a whole number"),
    ("dmc_proprio --workers=0", r"--workers=0: it must be at least 1"),
    ("dmc_proprio --cpus=nan", r"--cpus=nan: it must be a finite number"),
    ("dmc_proprio --nodry_run=3", r"--nodry_run=3 does not take an argument"),
    ("dmc_proprio --versoins=v1", r"'versoins'. Did you mean: versions"),
    ("dmc_proprio now", r"'now' is not a flag"),
    ("dmc_proprio --out=HOME/thesis.tex", r"--out=.*thesis.tex cannot be written"),
]


@pytest.mark.parametrize(
    ("what", "pattern"), FLAGS, ids=[what.replace(NEW, "train") for what, _ in FLAGS]
)
def test_flags(what, pattern, home, capsys):
    check(what, pattern, home, capsys)


def test_another_backend(home, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pattern = r"KERAS_BACKEND is 'torch'; it must be tensorflow \(the default\) or jax"
    check(NEW, pattern, home, capsys)


def test_a_missing_package(home, capsys, monkeypatch):
    def load(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'scipy'")

    monkeypatch.setattr(presets, "load", load)
    pattern = r"'scipy': python run.py doctor says what is missing"
    check(NEW, pattern, home, capsys)


# --- Settings of the algorithms ----------------------------------------------

# Version, settings, sentence.
SETTINGS = [
    ("v1", {"batch_length": 0}, r"batch_length is 0; it must be at least 1"),
    ("v1", {"batch_length": 1, "pcont": True}, r"batch_length is 1; .* at least 2"),
    ("v1", {"batch_size": 0}, r"batch_size is 0"),
    ("v1", {"deter_size": 0}, r"deter_size is 0"),
    ("v1", {"num_units": -4}, r"num_units is -4"),
    ("v1", {"mlp_layers": (64, 0)}, r"mlp_layers is 0"),
    ("v1", {"enc_kernels": ()}, r"enc_kernels is empty; it must have at least one"),
    ("v1", {"dec_kernels": (5, -5)}, r"dec_kernels is -5; it must be at least 1"),
    ("v1", {"model_lr": -1e-3}, r"model_lr is -0.001; it must be at least 0"),
    ("v1", {"discount": 2}, r"discount is 2.0; .* at least 0 and at most 1"),
    ("v1", {"disclam": -0.1}, r"disclam is -0.1"),
    ("v1", {"train_every": 0}, r"train_every is 0"),
    ("v1", {"prefill": -1}, r"prefill is -1"),
    ("v1", {"horizon": 1}, r"horizon is 1; it must be at least 2"),
    ("v1", {"action_init_std": 0}, r"action_init_std is 0.0; it must be above 0"),
    ("v1", {"dense_act": "rellu"}, r"dense_act is 'rellu'; give a name of keras"),
    (
        "v1",
        {"precision": "float16"},
        r"'precision' must be one of auto, float32, bfloat16",
    ),
    ("v1", {"pcont": 1}, r"'pcont' must be true or false, got 1"),
    ("v1", {"grad_clip": float("inf")}, r"'grad_clip' must be a finite number"),
    ("v1", {"deter_sise": 3}, r"'deter_sise': did you mean 'deter_size'"),
    ("v2", {"dataset.length": 0}, r"dataset.length is 0"),
    ("v2", {"rssm.discrete": 1}, r"rssm.discrete is 1; it must be at least 2"),
    ("v2", {"rssm.act": "x"}, r"rssm.act is 'x'; give a name"),
    ("v2", {"critic.act": ""}, r"critic.act is ''; give a name"),
    ("v2", {"actor.layers": -1}, r"actor.layers is -1"),
    ("v2", {"encoder.cnn_kernels": (0, 4)}, r"encoder.cnn_kernels is 0"),
    ("v2", {"encoder.mlp_keys": "("}, r"encoder.mlp_keys is '\(', which is no reg"),
    ("v2", {"replay.maxlen": 3}, r"replay.maxlen is 3; it must be at least 50"),
    ("v2", {"replay.capacity": 0}, r"replay.capacity is 0"),
    ("v2", {"slow_target_update": 0}, r"slow_target_update is 0"),
    ("v2", {"kl.balance": 3}, r"kl.balance is 3.0; .* at most 1"),
    ("v2", {"model_opt.lr": -1}, r"model_opt.lr is -1.0"),
    ("v2", {"critic_opt.eps": 0}, r"critic_opt.eps is 0.0; it must be above 0"),
    ("v2", {"actor_opt.wd": 1}, r"actor_opt.wd is 1.0; .* below 1"),
    ("v2", {"loss_scales.kl": -1}, r"loss_scales.kl is -1.0"),
    ("v2", {"imag_horizon": 1}, r"imag_horizon is 1"),
    ("v2", {"grad_heads": ("discount",)}, r"grad_heads names 'discount'; the heads"),
    ("v3", {"dyn.blocks": 0}, r"dyn.blocks is 0"),
    ("v3", {"dyn.deter": 100}, r"dyn.deter is 100; it must be a multiple of 8"),
    ("v3", {"dec.bspace": 0}, r"dec.bspace is 0"),
    ("v3", {"dec.mults": ()}, r"dec.mults is empty"),
    ("v3", {"enc.units": 0}, r"enc.units is 0"),
    ("v3", {"enc.kernel": 0}, r"enc.kernel is 0"),
    ("v3", {"enc.layers": -1}, r"enc.layers is -1"),
    ("v3", {"dyn.unimix": 2}, r"dyn.unimix is 2.0; .* at most 1"),
    ("v3", {"rewhead.bins": 2}, r"rewhead.bins is 2; it must be at least 3"),
    ("v3", {"policy.minstd": 0}, r"policy.minstd is 0.0; it must be above 0"),
    ("v3", {"policy.minstd": 2}, r"policy.maxstd is 1.0; it must be at least 2.0"),
    ("v3", {"opt.lr": -1}, r"opt.lr is -1.0"),
    ("v3", {"opt.beta2": 1}, r"opt.beta2 is 1.0; .* below 1"),
    ("v3", {"retnorm.perclo": 99}, r"retnorm.perchi is 95.0; it must be at least 99"),
    ("v3", {"retnorm.limit": 0}, r"retnorm.limit is 0.0; it must be above 0"),
    ("v3", {"batch_length": 0}, r"batch_length is 0"),
    ("v3", {"batch_length": 1}, r"batch_length is 1; it must be at least 2"),
    ("v3", {"imag_last": 1}, r"imag_last is 1; it must be at least 2"),
    ("v3", {"imag_last": 65}, r"imag_last is 65; .* between 0 \(all\) and"),
    ("v3", {"imag_length": 0}, r"imag_length is 0"),
    ("v3", {"horizon": 1}, r"horizon is 1"),
    ("v3", {"train_ratio": -1}, r"train_ratio is -1.0"),
    ("v3", {"replay.size": 0}, r"replay.size is 0"),
    ("v3", {"replay_context": 2}, r"replay_context is 2; use 0 or 1"),
    ("v3", {"loss_scales.repval": -1}, r"loss_scales.repval is -1.0"),
    ("v1", {"loss_scales.x": -1}, r"loss_scales.x is -1.0; it must be at least 0"),
    ("v2", {"loss_scales.x": "1"}, r"'loss_scales.x' must be a finite number, got '1'"),
    ("v3", {"loss_scales.": 1}, r"Unknown setting 'loss_scales.'"),
    ("v3", {"loss_scale.x": 1}, r"'loss_scale.x': did you mean 'loss_scales."),
]


@pytest.mark.parametrize(
    ("version", "changes", "pattern"),
    SETTINGS,
    ids=[f"{v} {', '.join(f'{k}={x}' for k, x in c.items())}" for v, c, _ in SETTINGS],
)
def test_settings(version, changes, pattern, home, capsys):
    default = config_class(version)()
    check(lambda home: configs.updated(default, changes), pattern, home, capsys)


# --- Spaces, and settings that do not fit them ----------------------------------


def build(version, obs=PLAIN, action=ACTION, benchmark="toy", **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    config = presets.load(version, benchmark, "lite")[1]
    return agents.make_agent(
        version, obs, action, configs.updated(config, changes), seed=0
    )


def image(size, channels=3, name="image"):
    return spaces.Dict({name: spaces.Box(0, 255, (size, size, channels), np.uint8)})


def entry(space, name="x"):
    return spaces.Dict({name: space})


def floats(*shape):
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


TWO_SIZES = spaces.Dict({**image(16, name="a"), **image(32, name="b")})
FITS = r"it must be a float32 Box with at most two axes, or a uint8 Box of shape"
ACTS = r"it must be Discrete from 0, or a Box from -1 to 1 with one axis"
NAME = r"has a name that cannot be used; rename it"

# Arguments of `build`, sentence.
SPACES = [
    ("no entries", {"obs": spaces.Dict()}, r"observation space is empty; it needs"),
    ("no dict", {"obs": VECTOR}, r"Box.*; it must be a Dict of named entries"),
    ("tuple", {"obs": spaces.Tuple([VECTOR])}, r"Tuple.* must be a Dict of named"),
    ("nested tuple", {"obs": entry(spaces.Tuple([VECTOR]))}, FITS),
    ("nested dict", {"obs": entry(PLAIN)}, FITS),
    ("float64", {"obs": entry(spaces.Box(-1, 1, (2,), np.float64))}, FITS),
    ("int32", {"obs": entry(spaces.Box(0, 9, (2,), np.int32))}, FITS),
    ("uint8 vector", {"obs": entry(spaces.Box(0, 255, (2,), np.uint8))}, FITS),
    ("discrete", {"obs": entry(spaces.Discrete(3))}, FITS),
    ("three axes", {"obs": entry(floats(2, 2, 2))}, FITS),
    ("four axes", {"obs": entry(floats(2, 2, 2, 2))}, FITS),
    ("no numbers", {"obs": entry(floats(0))}, r"holds no number; leave it out"),
    ("no channels", {"obs": image(16, 0)}, r"holds no number; leave it out"),
    ("called reward", {"obs": entry(VECTOR, "reward")}, NAME),
    ("called is_first", {"obs": entry(VECTOR, "is_first")}, NAME),
    ("called id", {"obs": entry(VECTOR, "id")}, NAME),
    ("called deter", {"version": "v3", "obs": entry(VECTOR, "deter")}, NAME),
    ("called stoch", {"version": "v3", "obs": entry(VECTOR, "stoch")}, NAME),
    ("called a/b", {"obs": entry(VECTOR, "a/b")}, NAME),
    (
        "called nothing",
        {"obs": entry(VECTOR, "")},
        r"entry is called ''; its name must",
    ),
    ("called 0", {"obs": entry(VECTOR, 0)}, r"entry is called 0; its name must be a"),
    ("called NUL", {"obs": entry(VECTOR, "a\0b")}, r"called 'a\\x00b'; its name must"),
    (
        "loss of nothing",
        {"version": "v3", "loss_scales__obs_x": 0.5},
        r"--loss_scales.obs_x is no loss of DreamerV3 .*; these are x",
    ),
    ("multidiscrete", {"action": spaces.MultiDiscrete([2, 3])}, ACTS),
    ("multibinary", {"action": spaces.MultiBinary(3)}, ACTS),
    ("action tuple", {"action": spaces.Tuple([ACTION])}, ACTS),
    ("action dict", {"action": PLAIN}, ACTS),
    ("action matrix", {"action": spaces.Box(-1, 1, (2, 2))}, ACTS),
    ("unbounded action", {"action": floats(2)}, ACTS),
    ("action from 0", {"action": spaces.Box(0, 1, (2,))}, ACTS),
    ("no action", {"action": spaces.Box(-1, 1, (0,))}, ACTS),
    ("discrete from 5", {"action": spaces.Discrete(3, start=5)}, ACTS),
    ("v1 noise", {"expl": "epsilon_greedy"}, r"expl is epsilon_greedy, .*; use auto"),
    ("v2 onehot", {"version": "v2", "actor__dist": "onehot"}, r"actor.dist is onehot"),
    ("v1 kernels", {"obs": image(16)}, r"too small for the encoder's kernels"),
    (
        "v1 size",
        {"obs": image(48)},
        r"decoder's kernels .* make images of 64x64 pixels; use this size",
    ),
    ("two sizes", {"version": "v3", "obs": TWO_SIZES}, r"All images must have one"),
    ("v3 size", {"version": "v3", "obs": image(24)}, r"make multiples of 16 pixels"),
    ("v3 tiny", {"version": "v3", "obs": image(8)}, r"too small for the encoder's 4"),
    (
        "v2 keys of nothing",
        {"version": "v2", "encoder__mlp_keys": "nope"},
        r"No observation of .* fits .* mlp_keys='nope'",
    ),
    (
        "v2 decoder of nothing",
        {"version": "v2", "decoder__mlp_keys": "nope"},
        r"No observation of .* fits .* mlp_keys='nope'",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [row[1:] for row in SPACES],
    ids=[row[0] for row in SPACES],
)
def test_spaces(arguments, pattern, home, capsys):
    arguments = {"version": "v1", **arguments}
    check(lambda home: build(**arguments), pattern, home, capsys)


def test_a_config_of_another_version(home, capsys):
    config = config_class("v1")()
    pattern = (
        r"config is a \S+\.configs\.v1\.Config; for v3 it must be a .*\.v3\.Config"
    )
    make = functools.partial(agents.make_agent, "v3", PLAIN, ACTION, config)
    check(lambda home: make(), pattern, home, capsys)


def test_a_seed_out_of_range(home, capsys):
    for seed in (-1, 2**32, 0.5):
        make = functools.partial(agents.make_agent, "v1", PLAIN, ACTION, seed=seed)
        check(
            lambda home, make=make: make(),
            r"seed is .*; it must be from 0",
            home,
            capsys,
        )


# --- Environments ---------------------------------------------------------------


class Odd(gymnasium.Env):
    """A gymnasium environment with one thing wrong."""

    observation_space = VECTOR
    action_space = ACTION

    def __init__(self, **changes):
        self.changes = changes
        for name in ("observation_space", "action_space"):
            setattr(self, name, changes.get(name, getattr(self, name)))

    def seen(self):
        return self.changes.get("obs", np.zeros(2, np.float32))

    def reset(self, *, seed=None, options=None):
        if "reset" in self.changes:
            raise self.changes["reset"]
        return self.seen(), {}

    def step(self, action):
        if "step" in self.changes:
            raise self.changes["step"]
        result = self.seen(), self.changes.get("reward", 1.0), False, False, {}
        return result[: self.changes.get("returned", 5)]


class Wrong(fakes.FakeEnv):
    """One of ours whose records differ from what it declares."""

    def __init__(self, **changes):
        super().__init__()
        self.changes = changes

    def _record(self, *arguments, **flags):
        record = super()._record(*arguments, **flags) | self.changes
        return {k: v for k, v in record.items() if v is not None}


def play(env):
    with Envs([lambda: make_env(env) if isinstance(env, Odd) else env]) as envs:
        envs.reset()
        envs.step(np.zeros((1, envs.action_space.shape[0]), np.float32))


def endless(home):
    """Episodes that never end fill the memory of a replay of whole episodes."""
    buffer = replay.EpisodeChunks(1, 2, None, memory_bytes=5000)
    env = fakes.FakeEnv(limit=10**9)
    buffer.add(env.reset(seed=0))
    for _ in range(1000):
        buffer.add(env.step(np.zeros(1)))


def evaluated(env, monkeypatch):
    monkeypatch.setattr(evaluate, "LONGEST", 20)
    evaluate.evaluate(fakes.FakeAgent(), lambda: env, 1)


SUPPORTED = r"only Box, Discrete and Dict are supported: wrap"
ENVS = [
    ("nan reward", Odd(reward=float("nan")), r"The reward is not finite: nan"),
    ("two rewards", Odd(reward=np.ones(2)), r"reward has shape \(2,\): return one"),
    ("no reward", Odd(reward=None), r"reward is None: return one number per step"),
    ("nan", Odd(obs=np.full(2, np.nan)), r'entry "vector" is not finite: .*nan'),
    ("shape", Odd(obs=np.zeros(3)), r"has shape \(3,\), its space \(2,\)"),
    ("ragged", Odd(obs=[[1], [1, 2]]), r'"vector" of Odd is not of its space'),
    ("text", Odd(obs="north"), r'"vector" of Odd is not of its space'),
    (
        "missing entry",
        Odd(observation_space=PLAIN, obs={}),
        r"entry \"x\" of Odd is not of its space \(KeyError: 'x'\)",
    ),
    (
        "index out of range",
        Odd(observation_space=spaces.Discrete(3), obs=7),
        r'entry "vector" of Odd is not of its space',
    ),
    ("old step", Odd(returned=4), r"Odd has the old gym API at .*\.py:\d+"),
    (
        "raises in reset",
        Odd(reset=OSError("robot is off\nor away")),
        r"failed in reset\(\) with OSError \(robot is off or away\) at .*\.py:\d+",
    ),
    (
        "raises in step",
        Odd(step=ZeroDivisionError()),
        r"failed in step\(\) with ZeroDivisionError \(ZeroDivisionError\) at",
    ),
    ("tuple", Odd(observation_space=spaces.Tuple([VECTOR])), SUPPORTED),
    ("multidiscrete", Odd(action_space=spaces.MultiDiscrete([2, 3])), r"only Discrete"),
    ("reserved", Odd(observation_space=entry(VECTOR, "action")), r"records use"),
    ("dtype", Wrong(vector=np.zeros(2)), r"is float64, but obs_space says float32"),
    ("no entry", Wrong(vector=None), r'"vector" is missing from the record: return'),
    ("no flag", Wrong(is_terminal=None), r'"is_terminal" is missing from the record'),
]


@pytest.mark.parametrize(
    ("env", "pattern"), [row[1:] for row in ENVS], ids=[row[0] for row in ENVS]
)
def test_environments(env, pattern, home, capsys):
    check(lambda home: play(env), pattern, home, capsys)


def test_episodes_without_an_end(home, capsys, monkeypatch):
    pattern = r"must hold one finished episode.*--replay_gb.*--length"
    check(endless, pattern, home, capsys)
    evaluated(fakes.FakeEnv(limit=10**9), monkeypatch)
    assert "had not ended after 20 decisions" in capsys.readouterr().out


def test_a_wrong_reward_in_an_evaluation(home, capsys, monkeypatch):
    env = Wrong(reward=np.float32(np.nan))
    pattern = r"reward is not finite"
    check(lambda home: evaluated(env, monkeypatch), pattern, home, capsys)


# --- Directories of runs ----------------------------------------------------------


def write(name, content):
    """Puts a text, bytes or JSON in the place of a file."""

    def spoil(home):
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        data = data.encode() if isinstance(data, str) else data
        (home / name).write_bytes(data)

    return spoil


def cut(name, share=0.5):
    """Leaves the first part of a file."""

    def spoil(home):
        for path in home.glob(name):
            path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return spoil


def change(name, edit):
    """Edits a JSON file."""

    def spoil(home):
        content = json.loads((home / name).read_text())
        edit(content)
        (home / name).write_text(json.dumps(content))

    return spoil


def delete(name):
    def spoil(home):
        for path in home.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def of_an_older_version(home):
    """A checkpoint without a value that is now in it, but intact."""
    (path,) = (home / "run" / "checkpoints").iterdir()
    stored = json.loads((path / "loop.json").read_text())
    del stored["restarts"]
    (path / "loop.json").write_text(json.dumps(stored))
    marker = json.loads((path / "COMPLETE").read_text())
    marker["loop.json"] = files.digest(path / "loop.json")
    (path / "COMPLETE").write_text(json.dumps(marker))


CONFIG = "run/config.json"
DAMAGED = r"run/config.json is damaged \(.+\): restore it from a copy, or use another"
EVALUATE = "run.py evaluate --logdir=HOME/run"
WEIGHTS = "run/checkpoints/*/agent.npz"
OLD = r"run/config.json is not of this version of dreamer_tf: "

# What is spoiled, what is done, sentence.
LOGDIRS = [
    ("another config", None, f"{RUN} --deter_size=9", r"--deter_size was 128 there"),
    (
        "another task",
        None,
        f"{RUN} --task=toy_discrete",
        r"--task was toy there and is",
    ),
    ("another version", None, f"{RUN} --version=v2", r"--version was v1 there and is"),
    (
        "foreign files",
        None,
        f"run.py train {TOY} --logdir=HOME/foreign",
        r"holds notes.txt but no config.json: use a new or an empty directory",
    ),
    (
        "a file",
        None,
        f"run.py train {TOY} --logdir=HOME/thesis.tex",
        r"--logdir=.*thesis.tex cannot be written: File exists",
    ),
    (
        "below a file",
        None,
        f"run.py train {TOY} --logdir=HOME/thesis.tex/run",
        r"cannot be written: Not a directory",
    ),
    (
        "evaluate nothing",
        None,
        "run.py evaluate --logdir=HOME/x",
        r"holds no run: no c",
    ),
    (
        "evaluate a file",
        None,
        "run.py evaluate --logdir=HOME/thesis.tex",
        r"thesis.tex holds no run: no config.json there",
    ),
    ("video of nothing", None, "run.py video --logdir=HOME/x", r"holds no run"),
    ("export of nothing", None, "run.py export --logdir=HOME/x", r"holds no run"),
    (
        "video into a file",
        None,
        "run.py video --logdir=HOME/run --out=HOME/thesis.tex",
        r"--out=.*thesis.tex cannot be written: File exists",
    ),
    ("empty config", write(CONFIG, ""), RUN, DAMAGED),
    ("half a config", cut(CONFIG), RUN, DAMAGED),
    ("config no JSON", write(CONFIG, "steps: 3"), EVALUATE, DAMAGED),
    ("config of bytes", write(CONFIG, b"\xff\xfe\x00"), EVALUATE, DAMAGED),
    ("config a list", write(CONFIG, ["run", "agent", "starts"]), EVALUATE, DAMAGED),
    ("config a number", write(CONFIG, 3), RUN, DAMAGED),
    (
        "config without agent",
        change(CONFIG, lambda c: c.pop("agent")),
        RUN,
        DAMAGED.replace(".+", "KeyError: 'agent'"),
    ),
    ("run a number", change(CONFIG, lambda c: c.update(run=3)), EVALUATE, DAMAGED),
    ("starts no list", change(CONFIG, lambda c: c.update(starts=3)), RUN, DAMAGED),
    ("a start a number", change(CONFIG, lambda c: c.update(starts=[3])), RUN, DAMAGED),
    (
        "an older field",
        change(CONFIG, lambda c: c["run"].update(gpus=1)),
        EVALUATE,
        OLD + r"Unknown setting 'gpus': there is none like it",
    ),
    (
        "an older field, train",
        change(CONFIG, lambda c: c["run"].update(gpus=1)),
        RUN,
        r"--gpus was 1 there and is unknown now",
    ),
    (
        "a field of another type",
        change(CONFIG, lambda c: c["run"].update(steps="many")),
        EVALUATE,
        OLD + r"Setting 'steps' must be a whole number, got 'many'",
    ),
    (
        "a field out of range",
        change(CONFIG, lambda c: c["run"].update(envs=0)),
        "run.py video --logdir=HOME/run",
        OLD + r"--envs must be at least 1, got 0",
    ),
    (
        "no checkpoint, evaluate",
        delete("run/checkpoints"),
        EVALUATE,
        r"There is no checkpoint in .*run/checkpoints yet",
    ),
    (
        "no checkpoint, video",
        delete("run/checkpoints"),
        "run.py video --logdir=HOME/run",
        r"There is no checkpoint in .*run/checkpoints yet",
    ),
    ("half of the weights", cut(WEIGHTS), EVALUATE, r"agent.npz is damaged: its check"),
    (
        "half of the weights, train",
        cut(WEIGHTS),
        RUN,
        r"No checkpoint in .* is intact: use another --logdir, or move this one",
    ),
    (
        "no mark of completeness",
        delete("run/checkpoints/*/COMPLETE"),
        EVALUATE,
        r"no checkpoint in .* that is intact: .* is incomplete or damaged",
    ),
    (
        "an empty mark",
        cut("run/checkpoints/*/COMPLETE", 0.0),
        RUN,
        r"No checkpoint in .* is intact",
    ),
    ("an older checkpoint", of_an_older_version, RUN, r"not of this .* 'restarts'\)"),
]


@pytest.mark.parametrize(
    ("spoil", "what", "pattern"),
    [row[1:] for row in LOGDIRS],
    ids=[row[0] for row in LOGDIRS],
)
def test_directories(spoil, what, pattern, home, capsys):
    if spoil:
        spoil(home)
    check(what, pattern, home, capsys)


def test_a_run_that_cannot_be_continued_can_be_after_a_correction(home, capsys):
    """What the sentences above say last is true: the run is still there."""
    name = f"{RUN} --deter_size=9"
    check(name, r"--deter_size was", home, capsys)
    assert run.main(RUN.replace("HOME", str(home)).split()[1:]) == 0
    assert "Nothing to do: --steps=60 is reached." in capsys.readouterr().out


NO_AGENT = r"holds no readable agent \(.+\); give a directory written by agent.save"
AGENTS = [
    ("nothing", delete("agent"), NO_AGENT),
    ("no weights", delete("agent/agent.npz"), NO_AGENT),
    ("half of the weights", cut("agent/agent.npz"), NO_AGENT),
    ("empty weights", cut("agent/agent.npz", 0.0), NO_AGENT),
    ("weights of text", write("agent/agent.npz", "weights"), NO_AGENT),
    ("empty JSON", write("agent/agent.json", ""), NO_AGENT),
    ("a list", write("agent/agent.json", []), NO_AGENT),
    ("an empty group", write("agent/agent.json", {}), NO_AGENT),
    (
        "an unknown version",
        change("agent/agent.json", lambda c: c.update(version="v4")),
        r"agent.json is not of this version .*: The version is 'v4'; choose from v1",
    ),
    (
        "an older field",
        change("agent/agent.json", lambda c: c["config"].update(gpus=1)),
        r"agent.json is not of this version of dreamer_tf: Unknown setting 'gpus'",
    ),
    (
        "another size",
        change("agent/agent.json", lambda c: c["config"].update(deter_size=16)),
        r"The saved agent's '\S+' is \(.*\); this agent has \(",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "pattern"), [row[1:] for row in AGENTS], ids=[row[0] for row in AGENTS]
)
def test_saved_agents(spoil, pattern, home, capsys):
    spoil(home)
    check(lambda home: load_agent(home / "agent"), pattern, home, capsys)


def test_episodes_too_short_to_learn_from_are_said(tmp_path, capsys):
    command = f"train {TOY} --logdir={tmp_path} --repeat=10 --steps=2500"
    command += " --log_every=1000"
    assert run.main(command.split()) == 0
    text = capsys.readouterr().out
    assert text.count("none of 20 episodes was long enough for a sequence of 24") == 1


# --- Files for the reports --------------------------------------------------------


@dataclasses.dataclass
class Options:
    """The flags of `reproductions.report`."""

    runs: str | None = None
    logdirs: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    outside_benchmark: str = ""
    outside_method: str = ""
    reference: str = ""
    published_only: bool = False
    benchmark: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    out: str = ""
    seed: int = 0
    resamples: int = 100


def reported(**options):
    def tell(home):
        given = {"runs": str(home / "results"), "out": str(home / "out"), **options}
        given["out"] = given["out"].replace("HOME", str(home))
        report.report(Options(**given))

    return tell


def results(home: Path):
    return scores.read_runs(home / "results")


def collected(home: Path):
    return collect.collect([home / "walker"], home / "results")


def walker(home: Path):
    return scores.read_logdirs([home / "walker"])


def outside(name):
    return lambda home: read_outside(home / name)


RUNS = [{"task": "walker_walk", "method": "m", "seed": 0, "xs": [1], "ys": [1]}]
ZIPPED = gzip.compress(json.dumps(RUNS * 50).encode())
GARBLED = ZIPPED[:20] + bytes(255 - byte for byte in ZIPPED[20:])
FILE = "dmc_vision-mine.json"
MANIFEST = SCORES.replace("walker_walk.csv", "manifest.json")
B = "dmc_proprio"
W_CONFIG, W_SCORES = "walker/config.json", "walker/scores.csv"


def line(**changes):
    row = dict(zip(HEADER.strip().split(","), ROW.strip().split(","))) | changes
    return HEADER + ",".join(row.values()) + "\n"


def instead_of_results(home):
    shutil.rmtree(home / "results")
    (home / "results").write_text("mine")


def version2(manifest):
    """Results of another version, with this manifest.json."""

    def spoil(home):
        shutil.copytree(home / "results/lite/v3/dmc_proprio", home / "results/lite/v2")
        write("results/lite/v2/manifest.json", manifest)(home)

    return spoil


# What is spoiled, what is done, sentence.
REPORTS = [
    ("no folder", delete("results"), results, r"results folder .* does not exist"),
    ("no files", delete("results/*"), results, r"results folder .* is empty: expected"),
    ("no such file", None, outside("nope.json"), r"outside log .* does not exist"),
    ("empty", write(SCORES, ""), results, r"is not a valid CSV file: No columns"),
    (
        "columns",
        write(SCORES, "a,b\n1,2\n"),
        results,
        r"lacks the column 'frames'; it n",
    ),
    ("no episode", write(SCORES, HEADER), reported(), r"hold no finished episode"),
    (
        "text",
        write(SCORES, line(score="x")),
        results,
        r"line 2 has score 'x'; a finite",
    ),
    (
        "nan",
        write(SCORES, line(score="nan")),
        results,
        r"line 2 has score 'nan'; a fin",
    ),
    ("inf", write(SCORES, line(score="inf")), results, r"line 2 has score 'inf'"),
    ("before 0", write(SCORES, line(frames="-1")), results, r"'-1'; a number from 0"),
    ("half a seed", write(SCORES, line(seed="0.5")), results, r"'0.5'; a whole number"),
    ("kind", write(SCORES, line(kind="test")), results, r"unknown kind 'test'; valid"),
    ("row cut off", write(SCORES, HEADER + "1,2"), results, r"line 2 has seed 'nan'"),
    ("rows joined", write(SCORES, line(seed="01,2,3")), results, r"not a valid CSV"),
    ("binary", write(SCORES, bytes(range(256))), results, r"is not a valid CSV file"),
    ("no manifest", delete(MANIFEST), results, r"manifest.json is missing"),
    ("half a manifest", cut(MANIFEST), results, r"manifest.json is not valid JSON"),
    ("a list", write(MANIFEST, []), results, r"must hold an object, not list"),
    ("no benchmark", version2({}), results, r"does not say which benchmark was run"),
    ("benchmark []", version2({"benchmark": []}), results, r"benchmark \[\]; valid"),
    ("no scores", delete(W_SCORES), collected, r"scores.csv is missing"),
    ("scores of text", write(W_SCORES, line(score="x")), collected, r"no episode that"),
    ("other columns", write(W_SCORES, "a,b\n1,2\n"), collected, r"must begin with fra"),
    ("runs a list", version2({"benchmark": B, "runs": []}), results, r"as 'runs', not"),
    (
        "a run of text",
        version2({"benchmark": B, "runs": {"a/0": "b"}}),
        results,
        r"as run 'a/0', not a str",
    ),
    (
        "nested",
        write(MANIFEST, b"[" * 100_000),
        results,
        r"is not valid JSON: it is nested deeper than",
    ),
    ("long", write(MANIFEST, b"9" * 400), results, r"an integer of 400 digits"),
    (
        "results damaged before",
        write(SCORES, line(score="x")),
        collected,
        r"walker_walk.csv line 2 has score 'x'",
    ),
    ("manifest damaged before", cut(MANIFEST), collected, r"json is not valid JSON"),
    (
        "results a file",
        instead_of_results,
        collected,
        r"--out=.*results cannot be written",
    ),
    (
        "not ended",
        write("walker/metrics.jsonl", ""),
        collected,
        r"has 0 of 1000 frames",
    ),
    ("metrics", write("walker/metrics.jsonl", "{"), collected, r"has 0 of 1000 frames"),
    ("metrics 3", write("walker/metrics.jsonl", "3\n"), collected, r"0 of 1000 frames"),
    (
        "no start",
        change(W_CONFIG, lambda c: c.update(starts=[])),
        collected,
        r"does not say how its run was made",
    ),
    (
        "unknown protocol",
        change(W_CONFIG, lambda c: c["run"].update(protocol="../x")),
        collected,
        r"config.json names the unknown protocol '../x'; valid are",
    ),
    ("no config", delete(W_CONFIG), walker, r"there is no config.json in it"),
    ("half a config", cut(W_CONFIG), walker, r"config.json is not valid JSON"),
    ("run 3", write(W_CONFIG, {"run": 3}), walker, r"must hold an object as 'run'"),
    ("no seed", write(W_CONFIG, {"run": {}}), walker, r"lacks the setting 'benchmark'"),
    (
        "seed of text",
        change(W_CONFIG, lambda c: c["run"].update(seed="x")),
        walker,
        r"has the seed 'x'; a whole number is needed",
    ),
    (
        "unknown version",
        change(W_CONFIG, lambda c: c["run"].update(version="v7")),
        walker,
        r"names the unknown version 'v7'; valid are v1, v2, v3",
    ),
    (
        "gz cut off",
        write(f"{FILE}.gz", ZIPPED[:-9]),
        outside(f"{FILE}.gz"),
        r"ended bef",
    ),
    (
        "gz garbled",
        write(f"{FILE}.gz", GARBLED),
        outside(f"{FILE}.gz"),
        r"not valid JS",
    ),
    ("no gz", write(f"{FILE}.gz", "[]"), outside(f"{FILE}.gz"), r"Not a gzipped file"),
    ("empty gz", write(f"{FILE}.gz", b""), outside(f"{FILE}.gz"), r"is not valid JSON"),
    ("no runs", write(FILE, []), outside(FILE), r"holds no runs"),
    ("an object", write(FILE, {}), outside(FILE), r"must hold a list, not dict"),
    ("no fields", write(FILE, [3]), outside(FILE), r"Entry 0 of .* lacks 'task'"),
    (
        "nested numbers",
        write(FILE, [RUNS[0] | {"xs": [[1]]}]),
        outside(FILE),
        r"has entries that are not numbers",
    ),
    (
        "infinite numbers",
        write(FILE, [RUNS[0] | {"ys": [float("inf")]}]),
        outside(FILE),
        r"has entries that are infinite",
    ),
    (
        "lengths",
        write(FILE, [RUNS[0] | {"ys": [1, 2]}]),
        outside(FILE),
        r"has 1 xs but 2 ys",
    ),
    (
        "no benchmark",
        write("a.json", RUNS),
        outside("a.json"),
        r"--outside_benchmark=dmc",
    ),
    (
        "budget",
        None,
        reported(budgets=("inf",)),
        r"--budgets got 'inf'; a number of fr",
    ),
    ("budget 0", None, reported(budgets=("0",)), r"--budgets got '0'; a number of fra"),
    ("version", None, reported(versions=("v9",)), r"--versions names the unknown vers"),
    ("nothing left", None, reported(versions=("v1",)), r"leave none of the runs to re"),
    (
        "out",
        None,
        reported(out="HOME/thesis.tex"),
        r"--out=.*thesis.tex cannot be writ",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "what", "pattern"),
    [row[1:] for row in REPORTS],
    ids=[row[0] for row in REPORTS],
)
def test_reports(spoil, what, pattern, home, capsys):
    if spoil:
        spoil(home)
    check(what, pattern, home, capsys)


@pytest.mark.parametrize(
    ("script", "argv", "pattern"),
    [
        (report, ["results/runs"], r"'results/runs' is not a flag"),
        (collect, [], r"No run directory is given; name at least one"),
    ],
)
def test_scripts(script, argv, pattern, capsys, monkeypatch):
    monkeypatch.setattr(script, "flags", types.SimpleNamespace(FLAGS=None))
    with pytest.raises(SystemExit) as info:
        script.main(["script", *argv])
    error = capsys.readouterr().err
    assert info.value.code == 2 and re.search(pattern, error)
    assert error.count("\n") == 1


@pytest.mark.parametrize("script", [report, collect])
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT])
def test_errors_of_the_system_are_a_sentence(script, number, capsys, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number), "/shared/x")

    monkeypatch.setattr(script, "report" if script is report else "collect", fail)
    names = types.SimpleNamespace(out="")
    monkeypatch.setattr(script, "flags", types.SimpleNamespace(FLAGS=names))
    with pytest.raises(SystemExit) as info:
        script.main(["script", *["logs"] * (script is collect)])
    error = capsys.readouterr().err
    assert info.value.code == 2 and error.count("\n") == 1
    assert f"/shared/x cannot be used ({os.strerror(number)})." in error


def test_mistakes_in_the_flags_of_a_script(capsys, monkeypatch):
    values = configs.flags.FlagValues()
    configs.define_number("seeds", 1, "runs", 1, values)
    monkeypatch.setattr(configs.flags, "FLAGS", values)
    for argv in (["--seeds=x"], ["--seeds=0"], ["--sedes=1"]):
        with pytest.raises(SystemExit) as info:
            configs.parser("lite")(["script", *argv])
        assert info.value.code == 2
        assert re.fullmatch(r"lite: .*seeds.*\n", capsys.readouterr().err)
