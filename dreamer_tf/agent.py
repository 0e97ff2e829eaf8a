"""The interface every Dreamer offers, and what the three share.

The loop, replay, logs, evaluation and scripts know only what stands here:

    agent = make_agent("v3", obs_space, action_space, config, seed)
    state = agent.initial_state(batch_size)
    action, state = agent.policy(obs, state, mode)
    metrics, feedback = agent.update(batch)
    finish = agent.begin(batch); metrics, feedback = finish()
    report = agent.report(batch)
    agent.save(path); agent = load_agent(path)
"""

import abc
import contextlib
import functools
import importlib
import json
import operator
import pathlib
import random
import zipfile
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from dreamer_tf import engine, rssm
from dreamer_tf.configs.fields import from_dict, to_dict
from dreamer_tf.envs.base import RESERVED
from dreamer_tf.errors import UserError, reason

VERSIONS = ("v1", "v2", "v3")
IN_BATCHES = (*RESERVED, "id")  # besides observations
MODES = ("train", "eval", "random")

# Which axis of an update's noise is the batch: of imagination's, sequences times steps.
BATCH_AXIS = {"post": 0, "latent": 1, "action": 1}

# Streams of randomness below the run's seed.
INIT, POLICY, UPDATE, REPORT = range(4)


def make_agent(
    version: str,
    obs_space: spaces.Space,
    action_space: spaces.Space,
    config: Any = None,
    seed: int = 0,
    devices: int = 1,
) -> "Agent":
    """A new agent.

    Args:
      version: "v1", "v2" or "v3".
      obs_space: named vectors (float32) and images (uint8, `[H, W, C]`).
      action_space: `Box` in [-1, 1] with one axis, or `Discrete`.
      config: the version's `Config`; its defaults if None.
      seed: decides initial weights and every draw.
      devices: number of GPUs (or CPU devices, without a GPU) that share every batch;
        what is learned differs by rounding only.

    Raises:
      UserError: an unknown version, a space or config it cannot handle, or more
        devices than there are.
    """
    module = version_module(version)
    config = module.Config() if config is None else config
    if not isinstance(config, module.Config):
        raise UserError(
            f"The config is a {type(config).__module__}.{type(config).__name__}; for "
            f"{version} it must be a {module.__name__}.Config."
        )
    config.validate()
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise UserError(f"The seed is {seed!r}; it must be from 0 to {2**32 - 1}.")
    return module.AGENT(obs_space, action_space, config, seed, devices)


def version_module(version: str):
    """The module of a version: `Config` and `AGENT`."""
    if version not in VERSIONS:
        raise UserError(
            f"The version is '{version}'; choose from {', '.join(VERSIONS)}."
        )
    return importlib.import_module(f"dreamer_tf.{version}")


def load_agent(path: str | pathlib.Path) -> "Agent":
    """The agent saved by `Agent.save`, or the newest one of a run's directory.

    Raises:
      UserError: `path` holds no saved agent.
    """
    path = pathlib.Path(path)
    if (path / "checkpoints").is_dir():
        from dreamer_tf.training.checkpoint import latest

        path = latest(path / "checkpoints")
    broken: tuple[type[Exception], ...] = (OSError, EOFError, zipfile.BadZipFile)
    broken += (ValueError, KeyError, TypeError, AttributeError)  # another structure
    try:
        meta = json.loads((path / "agent.json").read_text())
        with np.load(path / "agent.npz", allow_pickle=False) as data:
            state = dict(data)
        module = version_module(meta["version"])
        config = from_dict(module.Config(), meta["config"])
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


class Agent(abc.ABC):
    """Base of the three agents.

    A version defines `build` (networks, among them `dyn`, and optimizers),
    `train_step` and `policy_step`, the noise these draw (`draw`, `draw_policy`),
    and, for reports, `encode`, `decode` and `split_context`.
    """

    version: ClassVar[str]
    latents: ClassVar[tuple[str, ...]] = ()  # of the state, stored in replay
    losses: ClassVar[tuple[str, ...]] = ()  # besides those of the observations
    batch_name: ClassVar[str] = "batch_size"  # where the config says it
    dyn: Any  # the RSSM cell

    def __init__(
        self, obs_space, action_space, config, seed: int = 0, devices: int = 1
    ):
        self.obs_space, self.action_space = obs_space, action_space
        self.config, self.seed = config, seed
        self.shapes = check_obs_space(obs_space, (*self.latents, *self.losses))
        self.actions, self.discrete = check_action_space(action_space)
        self.updates, self.decisions = 0, 0
        self.frames = 0  # of training; the loop says so, V1's exploration asks
        self.params: dict[str, keras.Variable] = {}  # what optimizers train
        self.variables: dict[str, keras.Variable] = {}  # all that is saved
        check_devices(devices)
        self.devices, self.group = devices, engine.group(devices)
        size = operator.attrgetter(self.batch_name)(config)
        self._check_batch(size, self.batch_name)
        self.precision = choose_precision(config.precision)
        kind = engine.platform().upper()
        self.place = f"{self.precision} on {devices} {kind}{'s' * (devices > 1)}"
        with (
            engine.placed(self.group),
            computing_in(self.precision),
            initial_seed(seed),
        ):
            self.build()
        self._compile()

    @abc.abstractmethod
    def build(self):
        """Makes networks and optimizers and names their variables."""

    @abc.abstractmethod
    def draw(self, seed, batch, carry=None) -> dict:
        """All noise of one update."""

    @abc.abstractmethod
    def train_step(self, noise, batch, carry=None) -> tuple:
        """One update of everything; returns metrics and what goes to replay."""

    @abc.abstractmethod
    def draw_policy(self, seed, obs, state) -> dict:
        """All noise of one decision."""

    @abc.abstractmethod
    def policy_step(self, noise, obs, state, mode) -> tuple:
        """One decision; returns actions and the new state."""

    @abc.abstractmethod
    def encode(self, obs):
        """What the RSSM sees of observations."""

    @abc.abstractmethod
    def decode(self, state) -> dict:
        """Predicted observations in their own units, images in [0, 1]."""

    @abc.abstractmethod
    def split_context(self, batch) -> tuple:
        """State before the rows of a batch that are trained on, and these rows."""

    def add_variables(self, variables: dict[str, keras.Variable]):
        """Registers variables as part of the agent's saved state, by path."""
        for path, variable in variables.items():
            if path in self.variables:
                raise ValueError(f"Two variables are named {path}.")
            self.variables[path] = variable

    def _compile(self):
        everything = list(self.variables.values())
        name = f"{self.describe()} {self.precision}"
        self._train = engine.compile(
            self.train_step,
            self.draw,
            read=everything,
            write=everything,
            jit=self.config.jit,
            group=self.group,
            axes=BATCH_AXIS,
            name=f"update {name}",
        )
        self._act = {
            mode: engine.compile_policy(
                functools.partial(self._decide, mode=mode),
                read=everything,
                jit=self.config.jit,
                name=f"{mode} {name}",
            )
            for mode in ("train", "eval")
        }
        # Not with XLA: it compiles for longer than these few calls would take.
        self._report = functools.cache(
            lambda context: engine.compile(
                functools.partial(self.report_step, context=context),
                self.draw,
                read=everything,
                jit=False,
            )
        )

    def _decide(self, seed, obs, state, mode):
        noise = self.draw_policy(seed, obs, state)
        action, new = self.policy_step(noise, obs, state, mode)
        return action, state | new

    # ------------------------------------------------------------- acting --

    def initial_state(self, batch_size: int) -> dict[str, np.ndarray]:
        """State of the policy before the first observation, `[B, ...]`, all zero."""
        action = ops.zeros((batch_size, self.actions))
        return engine.to_host(self.dyn.initial(batch_size) | {"action": action})

    def policy(
        self, obs: dict, state: dict, mode: Literal["train", "eval", "random"]
    ) -> tuple[np.ndarray, dict]:
        """One decision for every environment.

        Args:
          obs: observation entries and `is_first`, `[B, ...]`; other entries are
            ignored.
          state: of the previous decision; reset inside where `is_first`.
          mode: "train" explores, "eval" does what the version does when it is
            evaluated, "random" draws uniformly.

        Returns:
          Actions `[B, A]` (one-hot if discrete) and the new state.
        """
        if mode not in MODES:
            raise ValueError(f"mode is '{mode}'; use one of {MODES}.")
        seed = engine.seed(self.seed, POLICY, self.decisions)
        self.decisions += 1
        if mode == "random":
            action = self._random_action(seed, len(obs["is_first"]))
            # Should the policy take over before the episode ends, it knows this much.
            return action, state | {"action": action}
        entries = {"is_first": np.asarray(obs["is_first"], bool)}
        for key in self.shapes:  # not float to uint8, which would make [0, 1] black
            dtype = self.obs_space[key].dtype
            entries[key] = np.asarray(obs[key]).astype(
                dtype, "K", "same_kind", copy=False
            )
        return self._act[mode](seed, entries, state)

    def _random_action(self, seed, size: int) -> np.ndarray:
        rng = np.random.default_rng(seed.view(np.uint32))
        if self.discrete:
            index = rng.integers(self.actions, size=size)
            return np.eye(self.actions, dtype=np.float32)[index]
        return rng.uniform(-1, 1, (size, self.actions)).astype(np.float32)

    # ----------------------------------------------------------- learning --

    def update(self, batch: dict, carry: dict | None = None) -> tuple[dict, dict]:
        """One gradient update of every network.

        Args:
          batch: from the version's replay, `[B, T, ...]`; not kept.
          carry: state before the first step, if it is not what the batch says.

        Returns:
          Metrics `{name: float}`, and what goes back to replay
          (`{name: [B, T, ...]}`, empty for V1 and V2).
        """
        return self.begin(batch, carry)()

    def begin(self, batch: dict, carry: dict | None = None) -> Callable[[], tuple]:
        """Has the device begin with an `update`.

        Returns:
          A function that waits for it, and returns what `update` does.
        """
        self._check_batch(len(batch["reward"]), "The size of the batch")
        seed = engine.seed(self.seed, UPDATE, self.updates)
        self.updates += 1
        batch = self._select(batch)
        args = (batch,) if carry is None else (batch, carry)
        results = self._train(seed, *args)

        def finish():
            metrics, feedback = engine.to_host(results)
            return {k: float(v) for k, v in metrics.items()}, feedback

        return finish

    def report(self, batch: dict, context: int = 5) -> dict[str, np.ndarray]:
        """Open-loop prediction: sees `context` steps, then only actions.

        Returns:
          Per observation entry `[B, T, ...]`, images in [0, 1].
        """
        seed = engine.seed(self.seed, REPORT, self.updates)
        return engine.to_host(self._report(context)(seed, self._select(batch)))

    def report_step(self, noise, batch, context):
        """See `report`."""
        state, rows = self.split_context(batch)
        noise = noise["post"]
        seen = {k: v[:, :context] for k, v in rows.items()}
        state, post = rssm.observe(
            self.dyn,
            state,
            self.encode({k: seen[k] for k in self.shapes}),
            seen["action"],
            seen["is_first"],
            noise[:, :context],
        )
        later = rssm.predict(
            self.dyn, state, rows["action"][:, context:], noise[:, context:]
        )
        return self.decode({k: ops.concatenate([post[k], later[k]], 1) for k in later})

    def _check_batch(self, size: int, name: str):
        if size % self.devices:
            raise UserError(
                f"{name} is {size}; with --devices={self.devices} it must be a "
                f"multiple of {self.devices}."
            )

    def _select(self, batch: dict) -> dict:
        """The entries the compiled step reads; of latents only the first row."""
        keys = (*self.shapes, *RESERVED)
        selected = {k: np.asarray(batch[k]) for k in keys}
        latents = {k: np.asarray(batch[k][:, :1]) for k in self.latents if k in batch}
        return selected | latents

    # -------------------------------------------------------------- state --

    def param_count(self) -> dict[str, int]:
        """Number of optimised parameters per network."""
        counts: dict[str, int] = {}
        for path, variable in self.params.items():
            name = path.split("/")[0]
            counts[name] = counts.get(name, 0) + int(np.prod(variable.shape))
        return counts

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that training changes, by path."""
        state = {k: np.asarray(v) for k, v in self.variables.items()}
        counters = {"updates": self.updates, "decisions": self.decisions}
        return state | {k: np.asarray(v) for k, v in counters.items()}

    def load_state_dict(self, state: dict[str, np.ndarray]):
        """Restores `state_dict`, whichever backend it came from.

        Raises:
          UserError: an entry is missing, unknown, or has another shape.
        """
        expected = {k: tuple(v.shape) for k, v in self.variables.items()}
        expected |= {"updates": (), "decisions": ()}
        found = {k: np.shape(v) for k, v in state.items()}
        for key in sorted(expected.keys() | found.keys()):
            if expected.get(key) != found.get(key):
                raise UserError(
                    f"The saved agent's '{key}' is {found.get(key, 'missing')}; "
                    f"this agent has {expected.get(key, 'no such entry')}."
                )
        for key, variable in self.variables.items():
            variable.assign(state[key])
        self.updates = int(state["updates"])
        self.decisions = int(state["decisions"])

    def describe(self) -> dict[str, Any]:
        """What kind of agent it is: version, spaces, settings."""
        return {
            "version": self.version,
            "obs_space": space_to_json(self.obs_space),
            "action_space": space_to_json(self.action_space),
            "config": to_dict(self.config),
        }

    def save(self, path: str | pathlib.Path):
        """Writes `agent.json` and `agent.npz` into the directory `path`."""
        path = pathlib.Path(path)
        path.mkdir(parents=True, exist_ok=True)
        meta = self.describe() | {"seed": self.seed}
        (path / "agent.json").write_text(json.dumps(meta, indent=2))
        arrays: dict[str, Any] = self.state_dict()
        np.savez(path / "agent.npz", **arrays)


# ------------------------------------------------------------------ helpers --


def check_devices(number: int):
    """Raises UserError if there are not as many devices as are to share a batch."""
    there, kind = engine.available(), engine.platform().upper()
    if not 1 <= number <= there:
        raise UserError(
            f"--devices is {number}, but {keras.backend.backend()} has {there} "
            f"{kind}{'s' * (there > 1)} here; it must be from 1 to {there}."
        )


def choose_precision(name: str) -> str:
    """What "auto" means here: bfloat16 on a GPU, float32 on a CPU."""
    if name != "auto":
        return name
    return "float32" if engine.platform() == "cpu" else "bfloat16"


@contextlib.contextmanager
def computing_in(name: str):
    """Layers made inside compute in `name`; their weights are float32."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


@contextlib.contextmanager
def initial_seed(seed: int):
    """Layers made inside get the same initial weights for the same seed.

    Keras draws the seeds of its initialisers from Python's generator.
    """
    state = random.getstate()
    random.seed(f"{seed}/{INIT}")
    try:
        yield
    finally:
        random.setstate(state)


def check_obs_space(
    space: spaces.Space, taken: tuple[str, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """Shapes of all observation entries; raises UserError if one does not fit.

    Args:
      taken: names that entries must not have, besides those of every batch.
    """
    if not isinstance(space, spaces.Dict):
        raise UserError(
            f"The observation space is {space}; it must be a Dict of named entries."
        )
    shapes = {}
    for key, entry in space.spaces.items():
        image = entry.dtype == np.uint8 and len(entry.shape or ()) == 3
        vector = entry.dtype == np.float32 and len(entry.shape or ()) <= 2
        if not isinstance(entry, spaces.Box) or not (image or vector):
            raise UserError(
                f"Observation '{key}' is {entry}; it must be a float32 Box with at "
                "most two axes, or a uint8 Box of shape [height, width, channels]."
            )
        if key in (*IN_BATCHES, *taken) or "/" in key:
            raise UserError(
                f"Observation '{key}' has a name that cannot be used; rename it to one "
                f"without '/' that is none of {', '.join((*IN_BATCHES, *taken))}."
            )
        if 0 in entry.shape:
            raise UserError(
                f"Observation '{key}' is {entry}, which holds no number; leave it out."
            )
        shapes[key] = tuple(entry.shape)
    if not shapes:
        raise UserError("The observation space is empty; it needs at least one entry.")
    return shapes


def check_action_space(space: spaces.Space) -> tuple[int, bool]:
    """Width of the action vector, and whether it is discrete."""
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return int(space.n), True
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0]:
        bounds = np.stack([space.low, space.high], 1)
        if (bounds == (-1, 1)).all():
            return int(space.shape[0]), False
    raise UserError(
        f"The action space is {space}; it must be Discrete from 0, or a Box from -1 to "
        "1 with one axis."
    )


def space_to_json(space: spaces.Space) -> dict:
    """A JSON description of a space of `check_obs_space`/`check_action_space`."""
    if isinstance(space, spaces.Dict):
        return {"dict": {k: space_to_json(v) for k, v in space.spaces.items()}}
    if isinstance(space, spaces.Discrete):
        return {"discrete": int(space.n)}
    return {"box": list(space.shape or ()), "dtype": str(space.dtype)}


def space_from_json(data: dict, bound: float = np.inf) -> spaces.Space:
    """The inverse of `space_to_json`; the bounds of a float32 Box are not in it."""
    if "dict" in data:
        entries = {k: space_from_json(v) for k, v in data["dict"].items()}
        return spaces.Dict(entries, sort_keys=False)  # V1 and V2 join them in order
    if "discrete" in data:
        return spaces.Discrete(data["discrete"])
    if data["dtype"] == "uint8":
        return spaces.Box(0, 255, tuple(data["box"]), np.uint8)
    return spaces.Box(-bound, bound, tuple(data["box"]), np.float32)
