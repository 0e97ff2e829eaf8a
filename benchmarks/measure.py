"""Measures one workload; the process that `bench.py` starts for each.

python -m benchmarks.measure '{"workload": "v3-proprio-1m", ...}'
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from benchmarks import workloads
from dreamer_tf import programs
from dreamer_tf.configs.fields import updated
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError

POLICY_BATCHES = (1, 16)
ROWS, EPISODE = 8000, 500  # rows in the replay and in each of its episodes
# Side of the matrices whose product gives the machine's limit: smaller ones leave a
# part of a GPU idle, and would make an update look closer to the limit than it is.
MATMUL = {"cpu": 2048, "gpu": 8192}

# Values of jax_default_matmul_precision with which float32 is multiplied as it is.
EXACT = ("highest", "float32")


def measure(
    run: RunConfig, config: Any, parts: Sequence[str], repeats: int
) -> dict[str, Any]:
    """All measurements of some parts (see `bench.MEASUREMENTS`), by column.

    Args:
      run, config: settings of a run and of its agent.
      parts: of "update", "policy", "replay", "env", "end_to_end".
      repeats: timed updates, of which the median counts.
    """
    from dreamer_tf.agent import make_agent
    from dreamer_tf.envs import make_envs
    from dreamer_tf.training.build import env_arguments, needs_graphics

    agent = make_agent(run.version, *spaces_of(run), config, run.seed)
    replay, add = filled_replay(run, agent)
    row: dict[str, Any] = {"machine": machine()}
    if "update" in parts:
        row |= _update(agent, replay, repeats)
    if "policy" in parts:
        for size in POLICY_BATCHES:
            row |= _policy(agent, replay, size, max(20, repeats))
    if "replay" in parts:
        sample, _ = timed(replay.sample, max(20, repeats))
        row |= {"add_us": add * 1e6, "replay_batches_per_s": 1 / sample}
        if "update" in parts:
            row["replay_over_training"] = row["update_s"] / sample
    if "env" in parts or "end_to_end" in parts:
        # As in training, images are rendered in a process of their own.
        graphics = run.obs != "proprio" and needs_graphics(run)
        how = env_arguments(run)
        with make_envs(run.task, run.envs, int(graphics), run.seed, **how) as envs:
            if "env" in parts:
                row["env_decisions_per_s"] = _env(envs, repeats)
            if "end_to_end" in parts:
                row |= _end_to_end(run, agent, envs, replay, repeats)
    needed = {"update", "policy", "replay", "env", "end_to_end"}
    if needed <= set(parts) and run.envs in POLICY_BATCHES:
        expected = 1 / row["env_decisions_per_s"] + row["add_us"] / 1e6
        expected += row[f"policy_{run.envs}_ms"] / 1e3 / run.envs
        expected += row["updates_per_decision"] * row["update_s"]
        per_second = row["end_to_end_decisions_per_s"]
        row["end_to_end_ratio"] = 1 / per_second / expected
    return row


def first_update(run: RunConfig, config: Any) -> float:
    """Unix time of a run's first update, as if filling its replay took no time."""
    from dreamer_tf.training.build import build
    from dreamer_tf.training.experience import Update
    from dreamer_tf.training.schedules import Progress

    made = build(run, short_schedule(config))
    start = time.perf_counter()
    made.replay, _ = filled_replay(run, made.agent)
    filling = time.perf_counter() - start
    with made.envs:
        for event in _experience(run, made, Progress(episodes=1)):
            if isinstance(event, Update):
                return time.time() - filling
    raise AssertionError("a run has no end")


# --- Parts ------------------------------------------------------------------


def _update(agent: Any, replay: Any, repeats: int) -> dict[str, Any]:
    """Times of the update and its compilation, memory, and the machine's limit."""
    from benchmarks.flops import update_flops

    batch = replay.sample()
    compiling = timed(lambda: agent.update(batch), 1, warm=0)
    wall, cpu = timed(lambda: agent.update(batch), repeats, warm=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    length = replay.length - getattr(agent.config, "replay_context", 0)
    flops = update_flops(agent, replay.batch_size, length)
    float32 = matmul_rate("float32")
    precision = agent.precision
    rate = float32 if precision == "float32" else matmul_rate(precision)
    return {
        "update_s": wall,
        "update_cpu_s": cpu,
        "compile_s": compiling[0],
        "compile_cpu_s": compiling[1],
        "peak_gb": peak,
        "device_peak_gb": _device_peak(),
        "frames_per_s": replay.batch_size * length / wall,
        "update_gflop": flops / 1e9,
        "matmul_float32_gflop_per_s": float32 / 1e9,
        "matmul_gflop_per_s": rate / 1e9,
        "attainable_s": flops / rate,
        "times_attainable": wall * rate / flops,
    }


def _policy(agent: Any, replay: Any, size: int, repeats: int) -> dict[str, float]:
    """Milliseconds of one decision for `size` environments."""
    batch = replay.sample()
    obs = {k: np.resize(batch[k][:, 0], (size, *s)) for k, s in agent.shapes.items()}
    obs["is_first"] = np.zeros(size, bool)
    state = agent.initial_state(size)

    def decide() -> None:
        nonlocal state
        _, state = agent.policy(obs, state, "train")

    wall, cpu = timed(decide, repeats)
    return {f"policy_{size}_ms": wall * 1e3, f"policy_{size}_cpu_ms": cpu * 1e3}


def _env(envs: Any, repeats: int) -> float:
    """Decisions per second of all environments together, with random actions."""
    from dreamer_tf.envs import action_size

    size = len(envs), action_size(envs.action_space)
    actions = np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)
    envs.reset()
    seconds, _ = timed(lambda: envs.step(actions), max(3 * repeats, 200 // len(envs)))
    return len(envs) / seconds


def _end_to_end(
    run: RunConfig, agent: Any, envs: Any, replay: Any, repeats: int
) -> dict[str, float]:
    """Decisions per second of acting and learning in turn, from a filled replay.

    The clock starts and stops right after updates, so whole rounds are timed.
    """
    from dreamer_tf.training.experience import Components, Decision, Update
    from dreamer_tf.training.schedules import Progress, make_schedule

    schedule = make_schedule(run.version, short_schedule(agent.config))
    made = Components(agent, envs, replay, schedule, lambda: None)
    progress = Progress(episodes=1)
    updates, learned, begun, seen = 0, False, 0.0, (0, 0)
    for event in _experience(run, made, progress):
        if isinstance(event, Update):
            updates += 1
            learned = True
        elif isinstance(event, Decision):
            if learned and not begun:  # compiled, and warm
                begun, seen = time.perf_counter(), (updates, progress.decisions)
            elif begun and learned and updates - seen[0] >= repeats:
                seconds = time.perf_counter() - begun
                decisions = progress.decisions - seen[1]
                return {
                    "end_to_end_decisions_per_s": decisions / seconds,
                    "updates_per_decision": (updates - seen[0]) / decisions,
                }
            learned = False
    raise AssertionError("a run has no end")


def _experience(run: RunConfig, made: Any, progress: Any) -> Iterator[Any]:
    from dreamer_tf.training.experience import experience

    return experience(made, progress, run.repeat, run.seed)


# --- Runs to measure, and how ------------------------------------------------


def short_schedule(config: Any) -> Any:
    """Settings with as many updates per decision, from the start, in small rounds.

    DreamerV1 makes 100 updates at a time, which would take minutes to time.
    """
    if not hasattr(config, "train_steps"):
        return config  # DreamerV3
    common = int(np.gcd(config.train_every, config.train_steps))
    changes = {"train_every": config.train_every // common, "prefill": 0}
    changes |= {"train_steps": config.train_steps // common, "pretrain": 0}
    return updated(config, changes)


def spaces_of(run: RunConfig) -> tuple[spaces.Dict, spaces.Space]:
    """Spaces of observations and actions, found without rendering anything."""
    from dreamer_tf.envs import make_envs
    from dreamer_tf.envs.base import image_box
    from dreamer_tf.training.build import env_arguments

    # Where images are observed, this process, with TensorFlow, must not load MuJoCo.
    pictures = run.obs != "proprio"
    how = env_arguments(run) | {"obs": "proprio"}
    with make_envs(run.task, 1, int(pictures), run.seed, **how) as envs:
        if not pictures:
            return envs.obs_space, envs.action_space
        image = spaces.Dict(image=image_box(run.size, run.size))
        return image, envs.action_space


def filled_replay(run: RunConfig, agent: Any) -> tuple[Any, float]:
    """The version's replay with random episodes, and the seconds that a row took."""
    from dreamer_tf.envs.base import FLAGS
    from dreamer_tf.replay import make_replay

    replay = make_replay(run.version, agent.config, int(run.replay_gb * 1e9), run.seed)
    random, some = np.random.default_rng(0), 64  # rows that differ; they are repeated
    rows: dict[str, np.ndarray] = {
        key: random.integers(0, 256, (some, *shape), np.uint8)
        if len(shape) == 3
        else random.normal(size=(some, *shape)).astype(np.float32)
        for key, shape in agent.shapes.items()
    }
    rows["action"] = random.uniform(-1, 1, (some, agent.actions)).astype(np.float32)
    rows["reward"] = random.uniform(0, 2, some).astype(np.float32)
    state = agent.initial_state(some)
    rows |= {key: np.asarray(state[key]) for key in agent.latents}
    flags = {name: np.zeros((), bool) for name in FLAGS}
    records = [{k: v[i] for k, v in rows.items()} | flags for i in range(some)]
    start = time.perf_counter()
    for number in range(ROWS // run.envs):
        step = number % EPISODE
        ends = {"is_first": np.asarray(step == 0)}
        ends["is_last"] = np.asarray(step == EPISODE - 1)
        for stream in range(run.envs):
            replay.add(records[(number + stream) % some] | ends, stream)
    return replay, (time.perf_counter() - start) / ROWS


def timed(call: Callable[[], Any], repeats: int, warm: int = 3) -> tuple[float, float]:
    """Medians of wall and CPU seconds of a call, after some uncounted ones."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*times)
    return statistics.median(walls), statistics.median(cpus)


def matmul_rate(dtype: str, chain: int = 4) -> float:
    """Operations per second of large matrix products, in this process's settings."""
    from keras import ops

    from dreamer_tf.engine import devices

    side = MATMUL[devices.platform()]
    random = np.random.default_rng(0).normal(size=(side, side)) / side**0.5
    matrix = ops.cast(ops.convert_to_tensor(random.astype(np.float32)), dtype)

    def multiply() -> None:
        product = matrix
        for _ in range(chain):
            product = ops.matmul(product, matrix)
        ops.convert_to_numpy(product[:1, :1])  # waits for it

    seconds, _ = timed(multiply, 3, warm=1)
    return chain * 2 * side**3 / seconds


def machine() -> str:
    """The accelerator, or the processor and how many of its cores may be used.

    Of an accelerator also whether its products of float32 round them to TF32.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        if (device := jax.devices()[0]).platform != "cpu":
            exact = jax.config.jax_default_matmul_precision in EXACT
            return gpu_name(str(device.device_kind), exact)
    else:
        import tensorflow as tf

        if devices := tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(devices[0])
            exact = not tf.config.experimental.tensor_float_32_execution_enabled()
            return gpu_name(str(details.get("device_name", "GPU")), exact)
    name = "unknown processor"
    if (file := Path("/proc/cpuinfo")).exists():
        lines = file.read_text().splitlines()
        names = [line.split(":", 1)[1] for line in lines if line.startswith("model n")]
        name = names[-1].strip() if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def gpu_name(name: str, exact: bool) -> str:
    """The name of a GPU, and how it multiplies float32: "H100, float32 as TF32"."""
    exact = exact or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0"
    return name if exact else f"{name}, float32 as TF32"


def _device_peak() -> float | None:
    """Peak memory of an accelerator in 10^9 bytes, where JAX knows it."""
    import keras

    if keras.backend.backend() != "jax":
        return None
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return None if peak is None else peak / 1e9


def main(argv: Sequence[str]) -> int:
    """Runs the task that `bench.run_child` describes; writes what came out."""
    task = json.loads(argv[1])
    if task["threads"]:
        # Before any library counts the cores: XLA's own pools read no variable.
        cores = sorted(os.sched_getaffinity(0))[: task["threads"]]
        os.sched_setaffinity(0, cores)
    programs.keep()
    try:
        run, config = workloads.load(task["workload"], task["precision"])
        if "startup" in task["parts"]:
            result: dict[str, Any] = {"first_update": first_update(run, config)}
        else:
            result = measure(run, config, task["parts"], task["repeats"])
    except UserError as error:
        print(f"benchmarks.measure: {error}", file=sys.stderr)
        return 2
    Path(task["out"]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
