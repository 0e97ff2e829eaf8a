"""Makes what a run is made of from its settings."""

import functools
from collections.abc import Mapping
from typing import Any

from dreamer_tf import engine
from dreamer_tf.agent import Agent, make_agent
from dreamer_tf.configs.run import RunConfig, read_arguments
from dreamer_tf.engine import devices
from dreamer_tf.envs import Remote, make_env, make_envs
from dreamer_tf.replay import make_replay
from dreamer_tf.training.budget import replay_bytes
from dreamer_tf.training.delayed import Delayed
from dreamer_tf.training.experience import Components
from dreamer_tf.training.schedules import make_schedule


def build(run: RunConfig, config: Any) -> Components:
    """Makes environments, agent, replay and schedule of a run.

    Raises:
      UserError: the settings do not fit the task, this machine or each other.
    """
    # Must come before the GPU is first used.
    engine.limit_memory(run.gpu_memory_gb)
    devices.check(run.devices)
    how = env_arguments(run)
    workers = run.workers or int(run.obs != "proprio" and needs_graphics(run))
    envs = make_envs(
        run.task, run.envs, workers, run.seed, timeout=run.env_timeout, **how
    )
    spaces = envs.obs_space, envs.action_space
    agent = make_agent(run.version, *spaces, config, run.seed, run.devices)
    return Components(
        agent,
        envs,
        make_replay(run.version, config, replay_bytes(run, agent), run.seed),
        make_schedule(run.version, config),
        functools.partial(one_env, run),
        observed(agent, envs.ignored),
        Delayed(agent) if run.delayed_acting else None,
    )


def observed(agent: Agent, ignored: Mapping[str, str]) -> str:
    """Which observation entries an agent uses as what, and which it does not.

    Args:
      agent: that is asked.
      ignored: entries that its environments leave out, and why.
    """
    used = agent.encoder.entries
    ignored = {**ignored} | {
        name: "by --encoder.mlp_keys, --encoder.cnn_keys or --every_rank"
        for name in agent.shapes
        if name not in used
    }
    images = [name for name in used if len(agent.shapes[name]) == 3]
    vectors = [name for name in used if name not in images]
    reasons = [f"{name} ({why})" for name, why in ignored.items()]
    kinds = {"images": images, "vectors": vectors, "ignored": reasons}
    parts = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    return f"Observed as {'; '.join(parts)}."


def one_env(run: RunConfig, pictures: bool | None = None) -> Any:
    """Makes one more environment of a run, for evaluation.

    Args:
      run: the settings.
      pictures: whether it will have to render; by default, whether the agent sees
        images.
    """
    make = functools.partial(make_env, run.task, seed=run.seed, **env_arguments(run))
    pictures = run.obs != "proprio" if pictures is None else pictures
    remote = pictures and needs_graphics(run)
    return Remote(make, run.env_timeout) if remote else make()


def needs_graphics(run: RunConfig) -> bool:
    """Whether rendering takes a graphics library, see `envs.Remote`."""
    return not run.task.startswith(("bsuite_", "toy"))


def env_arguments(run: RunConfig) -> dict[str, Any]:
    """Arguments of `make_env` that a run sets, besides task and seed."""
    names = ("repeat", "size", "obs", "camera", "length", "fast_render", "obs_keys")
    env_args = {"env_args": read_arguments(run.env_args)}
    return {name: getattr(run, name) for name in names} | env_args
