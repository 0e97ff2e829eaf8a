"""Counting, measuring and comparing, at tiny sizes."""

import math
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from gymnasium import spaces

from benchmarks import bench, flops, measure, workloads
from dreamer_tf import engine, programs, v1, v2, v3
from dreamer_tf.agent import make_agent
from dreamer_tf.configs import presets
from dreamer_tf.configs.fields import updated
from dreamer_tf.errors import UserError

ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
VECTOR = spaces.Dict(x=spaces.Box(-1, 1, (3,), np.float32))
IMAGE = spaces.Dict(image=spaces.Box(0, 255, (16, 16, 3), np.uint8))

TINY_V3 = {
    "dyn.deter": 8,
    "dyn.hidden": 4,
    "dyn.stoch": 2,
    "dyn.classes": 3,
    "dyn.blocks": 2,
    "enc.layers": 1,
    "enc.units": 5,
    "enc.depth": 2,
    "enc.mults": (1, 2),
    "dec.layers": 1,
    "dec.units": 6,
    "dec.depth": 2,
    "dec.mults": (1, 2),
    "dec.bspace": 2,
    "rewhead.units": 4,
    "rewhead.bins": 7,
    "conhead.units": 4,
    "policy.layers": 1,
    "policy.units": 4,
    "value.layers": 1,
    "value.units": 4,
    "value.bins": 7,
    "batch_size": 2,
    "batch_length": 4,
    "imag_length": 3,
}


# --- Counting ---------------------------------------------------------------


def test_v3_by_hand():
    agent = make_agent("v3", VECTOR, ACTIONS, updated(v3.Config(), TINY_V3))
    feat = 8 + 2 * 3
    # Multiply-adds of one row, layer by layer: three embeddings, the block-linear
    # layer (own part and what all blocks share), the gates, then the prior's three.
    action, enc = 2 * 4, 3 * 5
    core = 8 * 4 + 6 * 4 + action + (8 * 8 // 2 + 12 * 8) + 8 * 24 // 2
    prior = 8 * 4 + 4 * 4 + 4 * 6
    posterior = (8 + 5) * 4 + 4 * 6
    dec, first = feat * 6 + 6 * 3, feat * 4
    rew, con, pol, val = (first + 4 * n for n in (7, 1, 2 * 2, 7))
    model = 3 * (enc + core + prior + posterior + dec + rew + con) - enc - action
    rollout = 3 * (core + prior) + 4 * pol
    behaviour = 4 * (rew + con + val + 3 * (pol + val) - 2 * first)
    expected = 2 * 8 * (model + rollout + behaviour + 4 * val)
    assert flops.update_flops(agent, 2, 4) == expected


def test_v1_by_hand():
    config = v1.Config(
        deter_size=4, stoch_size=2, num_units=3, mlp_layers=(5,), horizon=3
    )
    agent = make_agent("v1", VECTOR, ACTIONS, config)
    feat, enc, action = 6, 3 * 5, 2 * 4
    core, prior = 2 * 4 + action + 2 * 4 * 12, 4 * 4 + 4 * 4
    posterior, dec = (4 + 5) * 4 + 4 * 4, feat * 5 + 5 * 3
    first = feat * 3
    rew, pol, val = first + 9 + 3, first + 27 + 3 * 4, first + 18 + 3
    model = 3 * (enc + core + prior + posterior + dec + rew) - enc - action + pol
    step = 3 * pol - first + 2 * (core + prior) + 2 * (rew + val)
    expected = 2 * 8 * (model + 3 * step + 2 * (3 * val - first))
    assert flops.update_flops(agent, 2, 4) == expected


def test_v2_by_hand():
    sizes = {"rssm.deter": 4, "rssm.hidden": 3, "rssm.stoch": 2, "rssm.discrete": 2}
    sizes |= {"encoder.mlp_layers": (5,), "decoder.mlp_layers": (5,)}
    for head in ("reward_head", "discount_head", "actor", "critic"):
        sizes |= {f"{head}.layers": 1, f"{head}.units": 3}
    config = updated(v2.Config(), sizes | {"imag_horizon": 3})
    agent = make_agent("v2", VECTOR, ACTIONS, config)
    feat, enc, action = 8, 3 * 5, 2 * 3
    core, prior = 4 * 3 + action + (3 + 4) * 12, 4 * 3 + 3 * 4
    posterior, dec, first = (4 + 5) * 3 + 3 * 4, feat * 5 + 5 * 3, feat * 3
    rew, pol, val = first + 3, first + 3 * 4, first + 3
    model = 3 * (enc + core + prior + posterior + dec + rew) - enc - action
    step = 3 * pol - first + 2 * (core + prior) + 3 * val - first
    expected = 2 * 8 * (model + 3 * step + 4 * 2 * (rew + val))
    assert flops.update_flops(agent, 2, 4) == expected


def test_convolutions_by_hand():
    agent = make_agent("v3", IMAGE, ACTIONS, updated(v3.Config(), TINY_V3))
    layers = flops.layer_flops(agent)
    assert layers["enc/cnn0/kernel"] == 2 * 25 * 3 * 2 * 16 * 16
    assert layers["enc/cnn1/kernel"] == 2 * 25 * 2 * 4 * 8 * 8
    assert layers["dec/conv0/kernel"] == 2 * 25 * 4 * 2 * 8 * 8
    assert layers["dec/imgout/kernel"] == 2 * 25 * 2 * 3 * 16 * 16
    config = v1.Config(enc_kernels=(4, 4), dec_kernels=(6, 6), cnn_depth=4)
    layers = flops.layer_flops(make_agent("v1", IMAGE, ACTIONS, config))
    assert layers["encode/h1/kernel"] == 2 * 16 * 3 * 4 * 7 * 7
    assert layers["encode/h2/kernel"] == 2 * 16 * 4 * 8 * 2 * 2
    assert layers["decode/h2/kernel"] == 2 * 36 * 4 * 128
    assert layers["decode/h3/kernel"] == 2 * 36 * 3 * 4 * 6 * 6


def compiler_flops(fn, *args):
    """Operations that the backend's compiler counts, the body of a loop once."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]
    import tensorflow as tf

    graph = tf.function(fn).get_concrete_function(*args).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options |= {"output": "none"}
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


def test_convolutions_against_the_compiler():
    config = v1.Config(enc_kernels=(4, 4), dec_kernels=(6, 6))
    agent = make_agent("v1", IMAGE, ACTIONS, config)
    image = keras.ops.convert_to_tensor(np.zeros((4, 16, 16, 3), np.uint8))
    found = compiler_flops(lambda x: agent.encoder({"image": x}), image)
    layers = flops.layer_flops(agent).items()
    counted = 4 * sum(n for path, n in layers if path.startswith("encode"))
    assert found == pytest.approx(counted, rel=0.06)


def test_gradients_against_the_compiler():
    sizes = TINY_V3 | {"enc.layers": 3, "enc.units": 128}
    agent = make_agent("v3", VECTOR, ACTIONS, updated(v3.Config(), sizes))
    layers = {k: n for k, n in flops.layer_flops(agent).items() if k[:3] == "enc"}
    weights = [v for path, v in agent.params.items() if path.startswith("enc/")]

    def gradients(x):
        def loss():
            return keras.ops.sum(keras.ops.square(agent.encoder({"x": x}))), ()

        return engine.value_and_grad(loss, weights)[1]

    found = compiler_flops(gradients, keras.ops.ones((64, 3)))
    counted = 64 * (3 * sum(layers.values()) - layers["enc/mlp0/kernel"])
    assert found == pytest.approx(counted, rel=0.1)


# --- Measuring --------------------------------------------------------------


@pytest.mark.parametrize(("place", "side"), [("cpu", 2048), ("gpu", 8192)])
def test_the_limit_is_measured_with_larger_products_on_a_gpu(place, side, monkeypatch):
    assert measure.MATMUL[place] == side
    monkeypatch.setattr(engine.devices, "platform", lambda: place)
    monkeypatch.setattr(measure, "MATMUL", {"cpu": 4, "gpu": 8})
    monkeypatch.setattr(measure, "timed", lambda call, *_, **__: (2.0, call()))
    assert measure.matmul_rate("float32", 3) == 3 * 2 * measure.MATMUL[place] ** 3 / 2


@pytest.mark.parametrize(
    ("exact", "override", "name"),
    [
        (False, "", "H100, float32 as TF32"),
        (False, "1", "H100, float32 as TF32"),
        (False, "0", "H100"),
        (True, "", "H100"),
    ],
)
def test_a_gpu_that_rounds_float32_is_called_so(exact, override, name, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert measure.gpu_name("H100", exact) == name


@pytest.mark.parametrize("version", [pytest.param("v1", marks=pytest.mark.slow), "v3"])
def test_a_tiny_workload(version, monkeypatch):
    monkeypatch.setattr(measure, "POLICY_BATCHES", (1,))  # each is compiled
    monkeypatch.setattr(measure, "MATMUL", {"cpu": 64})
    monkeypatch.setattr(measure, "ROWS", 400)
    monkeypatch.setattr(measure, "EPISODE", 50)
    run, config = presets.load(version, "toy", "lite")
    run = updated(run, {"envs": 1})
    tiny = {"train_ratio": 16.0, "jit": False} | TINY_V3
    if version == "v1":
        tiny = {"deter_size": 8, "num_units": 8, "mlp_layers": (8,), "horizon": 3}
        tiny |= {"batch_size": 2, "batch_length": 4, "jit": False}
    parts = [part for part in bench.MEASUREMENTS if part != "startup"]
    row = measure.measure(run, updated(config, tiny), parts, repeats=2)
    assert {*bench.VALUES, "machine"} - set(row) == {
        "policy_16_ms",
        "policy_16_cpu_ms",
        "startup_cold_s",
        "startup_warm_s",
    }
    assert set(row) < {*bench.VALUES, "machine"}
    absent = {k for k, v in row.items() if v is None}
    assert absent <= {"device_peak_gb"}
    assert all(row[k] > 0 for k in bench.VALUES if k in row and k not in absent)
    assert row["updates_per_decision"] == pytest.approx({"v1": 0.5, "v3": 2}[version])
    assert row["frames_per_s"] == pytest.approx(8 / row["update_s"])


def test_short_schedule_keeps_the_ratio():
    short = measure.short_schedule(v1.Config())
    assert (short.train_every, short.train_steps) == (10, 1)
    assert short.prefill == short.pretrain == 0
    assert measure.short_schedule(v3.Config()) == v3.Config()


def test_every_workload_loads():
    for name in workloads.WORKLOADS:
        run, config = workloads.load(name, "bfloat16")
        assert (run.repeat, run.task) == (2, "walker_walk")
        assert config.precision == "bfloat16"
        assert run.envs in measure.POLICY_BATCHES  # needed for the sum of the parts
    _, config = workloads.load("v3-vision-12m")
    assert (config.dyn.deter, config.batch_size, config.jit) == (2048, 16, False)


# --- Files and command line --------------------------------------------------


def standin(workload, backend, precision, threads, parts, repeats, cache=""):
    """Stands in for a process: one workload fails, the others give the same numbers."""
    if workload == "v2-proprio":
        raise UserError("It failed.")
    if list(parts) == ["startup"]:
        return {"first_update": math.inf}
    return {"update_s": 0.5, "policy_1_ms": 2.0, "machine": "a machine"}


def run_all(out, names=("v3-proprio-1m", "v2-proprio", "v1-vision")):
    return bench.run_all(names, "jax", "float32", 1, ["update", "startup"], 5, out)


def test_a_file_and_its_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "run_child", standin)
    out = tmp_path / "new" / "a.csv"
    assert run_all(out) == 1
    data = pd.read_csv(out)
    assert list(data.columns) == bench.COLUMNS
    assert list(data.workload) == ["v3-proprio-1m", "v1-vision"]
    assert list(data.update_s) == [0.5, 0.5]
    assert data.env_decisions_per_s.isna().all()
    assert data.loc[0, ["backend", "threads", "machine"]].tolist() == [
        "jax",
        1,
        "a machine",
    ]
    assert "python 3" in data.versions[0] and "keras" in data.versions[0]
    printed = capsys.readouterr()
    assert "update_s" in printed.out and "env_decisions_per_s" not in printed.out
    assert "It failed." in printed.err


def test_two_files_side_by_side(tmp_path):
    paths = []
    for name, seconds in (("a", 2.0), ("b", 0.5)):
        row = dict.fromkeys(bench.COLUMNS, "") | {"workload": "v1-vision"}
        row |= {"update_s": seconds, "policy_1_ms": 3.0 if name == "a" else ""}
        paths.append(tmp_path / f"{name}.csv")
        pd.DataFrame([row]).to_csv(paths[-1], index=False)
    result = bench.compare(*paths)
    assert list(result.index) == [
        ("v1-vision", "update_s"),
        ("v1-vision", "policy_1_ms"),
    ]
    assert result.loc[("v1-vision", "update_s")].tolist() == [2.0, 0.5, 4.0]
    assert result.loc[("v1-vision", "policy_1_ms")].isna().tolist() == [
        False,
        True,
        True,
    ]


def test_files_that_cannot_be_compared(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv, which cannot be read"):
        bench.compare(tmp_path / "nowhere.csv", tmp_path / "nowhere.csv")
    other = tmp_path / "other.csv"
    other.write_text("workload,speed\nv1-vision,3\n")
    with pytest.raises(UserError, match=r"lacks the column 'backend'"):
        bench.compare(other, other)
    row = dict.fromkeys(bench.COLUMNS, "fast") | {"workload": "v1-vision"}
    pd.DataFrame([row]).to_csv(other, index=False)
    with pytest.raises(UserError, match=r"no number"):
        bench.compare(other, other)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--workloads=v4", "--workloads names 'v4'; choose from v3-proprio-1m,"),
        ("--parts=speed", "--parts names 'speed'; choose from update,"),
        ("--backend=torch", "backend"),
        ("--repeats=1", "repeats"),
        ("--compare=a.csv", "give two"),
        ("--compare=a.csv,b.csv", "a.csv, which cannot be read"),
        ("fast", "'fast' is not a flag"),
    ],
)
def test_mistakes_are_one_sentence(flag, message):
    command = [sys.executable, "-m", "benchmarks.bench", flag]
    done = subprocess.run(command, cwd=bench.ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_failing_process_is_named(monkeypatch):
    monkeypatch.setattr(bench.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="measured update of v1-vision ended with code"):
        bench.run_child("v1-vision", "jax", "float32", 0, ["update"], 5)


def test_threads_and_caches_reach_the_process(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    variables = bench.child_environment("jax", 1, "")
    assert {variables[name] for name in bench.THREADS} == {"1"}
    assert variables["KERAS_BACKEND"] == "jax"
    assert "JAX_COMPILATION_CACHE_DIR" not in variables
    assert not variables[programs.WHERE]
    assert bench.child_environment("jax", 0, "/here")[programs.WHERE] == "/here"
