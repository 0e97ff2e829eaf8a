"""Loads an agent that was saved, by itself or in a run's directory."""

import pathlib

from dreamer_tf.agent import Agent, make_agent
from dreamer_tf.configs import config_class
from dreamer_tf.configs.fields import from_dict
from dreamer_tf.envs.spaces import space_from_json
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import read_json, read_npz
from dreamer_tf.training.checkpoint import latest


def load_agent(path: str | pathlib.Path) -> Agent:
    """The agent saved by `Agent.save`, or the newest one of a run's directory.

    Raises:
      UserError: `path` holds no saved agent.
    """
    path = pathlib.Path(path)
    if (path / "checkpoints").is_dir():
        path = latest(path / "checkpoints")
    broken: tuple[type[Exception], ...] = (OSError, ValueError)
    # Another structure, or numbers of another size.
    broken += (LookupError, TypeError, AttributeError, AssertionError)
    broken += (ArithmeticError, MemoryError, RecursionError)
    try:
        meta = read_json(path / "agent.json")
        state = read_npz(path / "agent.npz")
        config = from_dict(config_class(meta["version"])(), meta["config"])
        obs_space = space_from_json(meta["obs_space"])
        action_space = space_from_json(meta["action_space"], bound=1)
        seed = int(meta["seed"])
    except broken as error:
        raise UserError(
            f"{path} holds no readable agent ({reason(error)}); give a directory "
            "written by agent.save() or a run's --logdir."
        ) from error
    except UserError as error:
        raise UserError(
            f"{path / 'agent.json'} is not of this version of dreamer_tf: {error}"
        ) from error
    agent = make_agent(meta["version"], obs_space, action_space, config, seed)
    agent.load_state_dict(state)
    return agent
