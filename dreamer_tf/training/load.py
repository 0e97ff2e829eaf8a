"""Loads an agent: one that was saved, the newest of a run, or one that is weights only.

A directory of weights only holds config.json of the run that trained them, agent.json
and agent.npz, without what optimizers remember and without a replay: a megabyte that
can be evaluated, filmed, exported and dreamed with, but not trained on.
"""

import json
import pathlib
import shutil
from typing import Any

import numpy as np

from dreamer_tf.agent import Agent, make_agent
from dreamer_tf.configs import config_class
from dreamer_tf.configs.fields import from_dict
from dreamer_tf.envs.spaces import space_from_json
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import read_json, read_npz
from dreamer_tf.training import checkpoint, logdir

ABOUT, ARRAYS = logdir.ABOUT, "agent.npz"


def load_agent(path: str | pathlib.Path) -> Agent:
    """The agent saved by `Agent.save`, the newest of a run's directory, or weights.

    Optimizers of weights only are new: `update` begins with their first step.

    Raises:
      UserError: `path` holds no saved agent.
    """
    path = pathlib.Path(path)
    if (path / logdir.CHECKPOINTS).is_dir():
        path = checkpoint.latest(path / logdir.CHECKPOINTS)
    broken: tuple[type[Exception], ...] = (OSError, ValueError)
    # Another structure, or numbers of another size.
    broken += (LookupError, TypeError, AttributeError, AssertionError)
    broken += (ArithmeticError, MemoryError, RecursionError)
    try:
        meta = read_json(path / ABOUT)
        state = read_npz(path / ARRAYS)
        config = from_dict(config_class(meta["version"])(), meta["config"])
        obs_space = space_from_json(meta["obs_space"])
        action_space = space_from_json(meta["action_space"], bound=1)
        seed = int(meta["seed"])
        weights_only = "frames" in meta
    except broken as error:
        raise UserError(
            f"{path} holds no readable agent ({reason(error)}); give a directory "
            "written by agent.save() or a run's --logdir."
        ) from error
    except UserError as error:
        raise UserError(
            f"{path / ABOUT} is not of this version of dreamer_tf: {error}"
        ) from error
    agent = make_agent(meta["version"], obs_space, action_space, config, seed)
    if weights_only:
        new = agent.state_dict()
        state = {k: v for k, v in new.items() if _of_optimizer(k)} | state
    agent.load_state_dict(state)
    return agent


def newest(path: pathlib.Path) -> tuple[Agent, int]:
    """The agent of a run's directory, or of one of weights only; frames of training.

    Raises:
      UserError: there is none.
    """
    if logdir.is_weights_only(path):
        try:
            frames = int(read_json(path / ABOUT)["frames"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(f"{path / ABOUT} is damaged ({reason(error)}).") from error
        agent = load_agent(path)
        agent.frames = frames
        return agent, frames
    saved = checkpoint.latest(path / logdir.CHECKPOINTS)
    frames = checkpoint.frames(saved)
    agent = load_agent(saved)
    agent.frames = frames
    return agent, frames


def save_weights(agent: Agent, frames: int, run: pathlib.Path, out: pathlib.Path):
    """Writes a directory of weights only.

    Args:
      agent: whose weights.
      frames: of training so far.
      run: directory of the run, whose config.json is copied.
      out: an empty directory.
    """
    about = agent.describe() | {"seed": agent.seed, "frames": frames}
    (out / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    state = agent.state_dict()
    arrays: dict[str, Any] = {k: v for k, v in state.items() if not _of_optimizer(k)}
    np.savez_compressed(out / ARRAYS, **arrays)
    shutil.copyfile(run / logdir.CONFIG, out / logdir.CONFIG)


def _of_optimizer(path: str) -> bool:
    """Whether a variable is an optimizer's own, such as model_opt/m/encode/…"""
    return path.split("/")[0].endswith("opt")
