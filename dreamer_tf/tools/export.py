"""A run's policy as files that need nothing but TensorFlow.

    OUT/policy/       SavedModel with `initial_state`, `step` and `act`
    OUT/weights.npz   the variables that they read, by the agent's names
    OUT/export.json   the run it comes from; names, shapes and dtypes of inputs and
                      outputs; and, at its end, lines of Python that use it

`step` takes what the environment itself observes, and returns the action that it takes
itself: no other code is needed. `act` decides for many environments at once; it takes
observations, and returns actions, as agents do.

The policy's state goes in and out by name, and the seed of its noise goes in: the same
inputs give the same action.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import keras
import numpy as np
from absl import logging

from dreamer_tf.agent import Agent
from dreamer_tf.configs.fields import to_dict
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import make_env
from dreamer_tf.envs.base import Own, as_agents_do
from dreamer_tf.envs.spaces import space_to_json
from dreamer_tf.errors import UserError
from dreamer_tf.files import replacing
from dreamer_tf.training import load, logdir
from dreamer_tf.training.build import env_arguments
from dreamer_tf.training.load import newest

POLICY, WEIGHTS, ABOUT = "policy", "weights.npz", "export.json"


def export_run(
    path: Path, out: Path | None = None, mode: Literal["eval", "train"] = "eval"
) -> list[Path]:
    """Writes the policy of a run's newest checkpoint.

    Args:
      path: the run's logdir.
      out: directory of the files; `export` in the logdir if None. An earlier export
        is replaced as a whole.
      mode: how the policy acts, see `Agent.policy`.

    Returns:
      The three files named above.

    Raises:
      UserError: no checkpoint, another backend than TensorFlow, an environment that
        cannot be made or has changed, or a directory that cannot be written or holds
        something else.
    """
    run = logdir.read(path)
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"The backend is '{keras.backend.backend()}', but a SavedModel is made by "
            "TensorFlow: run this command with KERAS_BACKEND=tensorflow, which reads "
            "the same checkpoints."
        )
    out = (path / "export" if out is None else out).resolve()
    _refuse_others(out, {POLICY, WEIGHTS, ABOUT})
    agent, _ = newest(path)
    own = _own(run, agent)
    about: dict[str, Any] = {
        "version": agent.version,
        "mode": mode,
        "frames": agent.frames,
        "commit": logdir.commit(),
        "env": {"task": run.task, **env_arguments(run)},
        "obs_space": space_to_json(agent.obs_space),
        "action_space": space_to_json(agent.action_space),
        "config": to_dict(agent.config),
    }
    with replacing(out, f"--out={out}") as directory:
        directory.mkdir()
        about |= save_policy(agent, mode, directory, own)
        (directory / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    return [out / name for name in (POLICY, WEIGHTS, ABOUT)]


def export_weights(path: Path, out: Path | None = None) -> list[Path]:
    """Writes the weights of a run's newest checkpoint, see `training.load`.

    Args:
      path: the run's logdir.
      out: directory of the files; `weights` in the logdir if None. Earlier weights
        are replaced as a whole.

    Returns:
      The three files.

    Raises:
      UserError: no checkpoint, or a directory that cannot be written or holds
        something else.
    """
    out = (path / "weights" if out is None else out).resolve()
    names = (logdir.CONFIG, load.ABOUT, load.ARRAYS)
    _refuse_others(out, set(names))
    agent, frames = newest(path)
    with replacing(out, f"--out={out}") as directory:
        directory.mkdir()
        load.save_weights(agent, frames, path, directory)
    return [out / name for name in names]


def _own(run: RunConfig, agent: Agent) -> Own:
    """What the run's environment itself observes and takes."""
    with make_env(run.task, run.seed, **env_arguments(run)) as env:
        seen, taken = space_to_json(env.obs_space), space_to_json(env.action_space)
        if seen != space_to_json(agent.obs_space):
            raise UserError(
                f"{run.task} observes {seen} now, but the agent was trained with "
                f"{space_to_json(agent.obs_space)}."
            )
        if taken != space_to_json(agent.action_space):
            raise UserError(
                f"{run.task} takes actions {taken} now, but the agent was trained with "
                f"{space_to_json(agent.action_space)}."
            )
        return env.own()


def save_policy(
    agent: Agent,
    mode: Literal["eval", "train"],
    directory: Path,
    own: Own | None = None,
) -> dict[str, Any]:
    """Writes the SavedModel and the weights into a directory.

    Args:
      agent: its `frames` decide how much a DreamerV1 of mode "train" explores.
      mode: how the policy acts.
      own: what the environment itself observes and takes; None: as agents do.

    Returns:
      What export.json says of them: `names` (entry -> tensor), `environment` (its own
      observations and action), `functions` (their inputs and outputs; None in a shape
      is the batch of `act`, or any size), `usage` of `step`, and `usage_of_act`.

    Raises:
      OSError: the directory cannot be written.
    """
    import tensorflow as tf  # not above: it may be missing where JAX is installed

    from dreamer_tf.tools import own as adapter

    own = own or as_agents_do(agent.obs_space, agent.action_space)
    obs, state = _names("obs", agent.shapes), _names("state", agent.initial_state(1))
    functions = _functions(agent, mode, obs, state, own)
    used = {id(variable) for variable in functions["act"].variables}
    weights = {k: v for k, v in agent.variables.items() if id(v.value) in used}
    module = tf.Module()
    for name, function in functions.items():
        setattr(module, name, function)
    module.weights = [v.value for v in weights.values()]
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in weights.items()}
    np.savez(directory / WEIGHTS, **arrays)
    try:
        with _quiet():
            tf.saved_model.save(module, str(directory / POLICY), signatures=functions)
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
    return {
        "names": {"obs": obs, "state": state},
        "environment": adapter.described(own, obs, agent.shapes),
        "functions": {
            name: {
                "inputs": _described(_inputs(function)),
                "outputs": _described(function.structured_outputs),
            }
            for name, function in functions.items()
        },
        "usage": _usage(own, obs),
        "usage_of_act": _usage_of_act(agent, obs),
    }


def _functions(
    agent: Agent,
    mode: str,
    obs_names: dict[str, str],
    state_names: dict[str, str],
    own: Own,
) -> dict[str, Any]:
    """The three functions, traced: keyword arguments in, a dictionary out."""
    import tensorflow as tf

    from dreamer_tf.tools import own as adapter

    start, axes = agent.initial_state(1), _batch_axes(agent)

    def initial_state(batch_size):
        return {
            name: tf.repeat(tf.constant(start[key]), batch_size, 0)
            for key, name in state_names.items()
        }

    def act(**inputs):
        obs = {key: inputs[name] for key, name in obs_names.items()}
        obs["is_first"] = inputs["is_first"]
        state = {key: inputs[name] for key, name in state_names.items()}
        size = tf.shape(obs["is_first"])[0]
        # The noise depends on the state's batch size only, unknown until this runs.
        sized = {"action": SimpleNamespace(shape=(size, agent.actions))}
        noise = agent.draw_policy(inputs["seed"], obs, sized)
        noise = {key: _to_front(x, axes[key]) for key, x in noise.items()}
        state["frames"] = tf.fill([size, 1], float(agent.frames))  # for V1
        # vectorized_map computes all rows of an operation at once.
        action, state = tf.vectorized_map(row, (noise, obs, state), warn=False)
        return {"action": action} | {state_names[key]: x for key, x in state.items()}

    def row(args):
        """One row as a batch of size 1: the agent's code has to know the size."""
        noise, obs, state = args
        noise = {key: tf.expand_dims(x, axes[key]) for key, x in noise.items()}
        obs, state = tf.nest.map_structure(lambda x: x[None], (obs, state))
        action, new = agent.policy_step(noise, obs, state, mode=mode)
        result = action, new._asdict() | {"action": action}
        return tf.nest.map_structure(lambda x: x[0], result)

    def step(**inputs):
        obs = {
            entry.name: adapter.observed(
                entry, inputs[obs_names[entry.name]], agent.shapes[entry.name]
            )[None]
            for entry in own.entries
        }
        obs["is_first"] = tf.constant([False])  # the first state is `initial_state`
        state = {key: inputs[name] for key, name in state_names.items()}
        noise = agent.draw_policy(inputs["seed"], obs, state)
        state["frames"] = tf.fill([1, 1], float(agent.frames))  # for V1
        action, new = agent.policy_step(noise, obs, state, mode=mode)
        new = {state_names[key]: x for key, x in new._asdict().items()}
        new[state_names["action"]] = action
        return {"action": adapter.carried_out(own.action, action[0])} | new

    def batch(name, like):
        return tf.TensorSpec((None, *like.shape), like.dtype, name)

    inputs = [batch(name, agent.obs_space[key]) for key, name in obs_names.items()]
    inputs += [tf.TensorSpec((None,), tf.bool, "is_first")]
    inputs += [batch(name, start[key][0]) for key, name in state_names.items()]
    inputs += [tf.TensorSpec((2,), tf.int32, "seed")]
    inputs_of_one = [adapter.spec(e, obs_names[e.name]) for e in own.entries]
    inputs_of_one += [
        tf.TensorSpec(start[key].shape, start[key].dtype, name)
        for key, name in state_names.items()
    ]
    inputs_of_one.append(inputs[-1])
    size = tf.TensorSpec((), tf.int32, "batch_size")
    # Without XLA, which not every build of TensorFlow has.
    return {
        function.__name__: tf.function(function, autograph=False).get_concrete_function(
            **{spec.name: spec for spec in specs}
        )
        for function, specs in (
            (initial_state, [size]),
            (step, inputs_of_one),
            (act, inputs),
        )
    }


# --- Names, shapes and the example ------------------------------------------------


def _names(prefix: str, entries: Iterable[str]) -> dict[str, str]:
    """Entry -> name of its tensor: a Python identifier, no two the same."""
    names: dict[str, str] = {}
    for entry in entries:
        name = re.sub(r"\W", "_", f"{prefix}_{entry}", flags=re.ASCII)
        while name in names.values():
            name += "_"
        names[entry] = name
    return names


def _inputs(function: Any) -> dict[str, Any]:
    positional, named = function.structured_input_signature
    return {spec.name: spec for spec in positional} | named


def _described(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {"shape": list(x.shape), "dtype": x.dtype.name}
        for name, x in tensors.items()
    }


def _usage(own: Own, names: Mapping[str, str]) -> list[str]:
    """Lines of Python that run where export.json lies, and decide once."""
    from dreamer_tf.tools import own as adapter

    given: dict[Any, Any] = {}  # what the environment gives, as zeros
    seen = []
    for entry in own.entries:
        variable = "picture" if entry.source.endswith(")") else "observation"
        tree, keys = given, [(variable, entry.source), *entry.keys]
        for key in keys[:-1]:
            tree = tree.setdefault(key, {})
        shape = tuple(64 if side is None else side for side in entry.shape)
        tree[keys[-1]] = _Code(f'np.zeros({shape}, "{entry.dtype}")')
        seen.append(f"{names[entry.name]}={adapter.where(entry, variable)}")
    return [
        "import numpy as np, tensorflow as tf",
        f'policy = tf.saved_model.load("{POLICY}")',
        "state = policy.initial_state(1)  # at the beginning of every episode",
        *(f"{name} = {value}  # {source}" for (name, source), value in given.items()),
        f"state = dict(policy.step({', '.join(seen)}, **state, "
        "seed=[0, 0]))  # another seed at every decision",
        'action = state.pop("action").numpy()  # as the environment takes it; state: '
        "for the next call",
    ]


class _Code(str):
    """Python that is shown as it is."""

    __repr__ = str.__str__


def _usage_of_act(agent: Agent, names: Mapping[str, str]) -> list[str]:
    """Six lines of Python that run where export.json lies."""
    obs = ", ".join(
        f'"{names[key]}": np.zeros({(1, *shape)}, "{agent.obs_space[key].dtype}")'
        for key, shape in agent.shapes.items()
    )
    kind = "one-hot" if agent.discrete else "to be clipped to [-1, 1]"
    return [
        "import numpy as np, tensorflow as tf",
        f'policy = tf.saved_model.load("{POLICY}")',
        "state, first = policy.initial_state(1), tf.constant([True])  # of an episode",
        f"obs = {{{obs}}}",
        "state = dict(policy.act(**obs, **state, is_first=first, "
        "seed=tf.constant([0, 0])))  # another seed at every decision",
        f'action = state.pop("action")[0].numpy()  # {kind}; state: for the next call',
    ]


# --- Noise ------------------------------------------------------------------------


def _batch_axes(agent: Agent) -> dict[str, int]:
    """Which axis of each entry of the policy's noise is the batch."""
    seed = np.zeros(2, np.int32)
    one, two = (
        agent.draw_policy(seed, {}, {"action": np.zeros((size, agent.actions))})
        for size in (1, 2)
    )
    return {
        key: [a != b for a, b in zip(one[key].shape, two[key].shape)].index(True)
        for key in one
    }


def _to_front(x: Any, axis: int) -> Any:
    """Moves `axis` to the front."""
    rest = [i for i in range(len(x.shape)) if i != axis]
    return keras.ops.transpose(x, [axis, *rest])


# --- Files ------------------------------------------------------------------------


def _refuse_others(out: Path, own: set[str]) -> None:
    """Raises UserError if there is anything at `out` but an earlier export, `own`."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out={out} is a file; give a directory.")
    found = {file.name for file in out.iterdir()}
    if found and found != own:
        raise UserError(
            f"--out={out} holds {min(found)} and is not an earlier export, which would "
            "be replaced: give a new directory."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TensorFlow from printing a note for every file that it writes."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
