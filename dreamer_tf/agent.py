"""The interface every Dreamer offers.

The loop, replay, logs, evaluation and scripts know only what stands here:

    agent = make_agent("v3", obs_space, action_space, config, seed)
    state = agent.initial_state(batch_size)
    action, state = agent.policy(obs, state, mode)
    metrics, feedback = agent.update(batch)
    finish = agent.begin(batch); metrics, feedback = finish()
    report = agent.report(batch)
    dream = agent.dream(state, length=15)
    agent.save(path); agent = load_agent(path)
"""

import functools
import importlib
import json
import operator
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from dreamer_tf import engine
from dreamer_tf.configs import config_class
from dreamer_tf.configs.fields import to_dict, validate
from dreamer_tf.dreamer import Dreamer, loss_names
from dreamer_tf.engine.variables import choose_precision, computing_in, initial_seed
from dreamer_tf.envs.base import RESERVED
from dreamer_tf.envs.spaces import (
    check_action_space,
    check_obs_space,
    space_to_json,
)
from dreamer_tf.errors import UserError

MODES = ("train", "eval", "random")

# Which axis of an update's noise is the batch: of imagination's, sequences times steps.
BATCH_AXIS = {"post": 0, "latent": 1, "action": 1}

# Streams of randomness below the run's seed.
POLICY, UPDATE, REPORT, DREAM = range(1, 5)  # 0: of initial weights, see `engine`


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
    kind = config_class(version)
    module = importlib.import_module(f"dreamer_tf.{version}")
    config = kind() if config is None else config
    if not isinstance(config, kind):
        raise UserError(
            f"The config is a {type(config).__module__}.{type(config).__name__}; for "
            f"{version} it must be a {kind.__module__}.Config."
        )
    validate(config)
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise UserError(f"The seed is {seed!r}; it must be from 0 to {2**32 - 1}.")
    return module.AGENT(obs_space, action_space, config, seed, devices)


class Agent(Dreamer):
    """Base of the three agents: what others call, and what of it is compiled."""

    def __init__(
        self, obs_space, action_space, config, seed: int = 0, devices: int = 1
    ):
        self.obs_space, self.action_space = obs_space, action_space
        self.config, self.seed = config, seed
        self.shapes = check_obs_space(obs_space, self.latents)
        self.loss_names = loss_names(self.shapes, self.losses)
        self.actions, self.discrete = check_action_space(action_space)
        self.updates, self.decisions = 0, 0
        self.frames = 0  # of training so far, set by the loop; V1's exploration uses it
        self.params: dict[str, keras.Variable] = {}  # what optimizers train
        self.variables: dict[str, keras.Variable] = {}  # all that is saved
        engine.devices.check(devices)
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
        self._check_scales()
        self._compile()

    def _compile(self):
        everything = list(self.variables.values())
        name = f"{self.describe()} {self.precision}"
        # Without XLA convolutions are faster on a CPU, but nothing is on a GPU.
        jit = self.config.jit or engine.devices.platform() != "cpu"
        self._train = engine.compile(
            self.train_step,
            self.draw,
            read=everything,
            write=everything,
            jit=jit,
            group=self.group,
            axes=BATCH_AXIS,
            name=f"update {name}",
        )
        self._act = {
            mode: engine.compile_policy(
                functools.partial(self._decide, mode=mode),
                read=everything,
                jit=jit,
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
        self._dream = functools.cache(
            lambda length, given: engine.compile(
                self.dream_step,
                functools.partial(self._draw_dream, length),
                read=everything,
                jit=False,
            )
        )

    def _decide(self, seed, obs, state, mode):
        noise = self.draw_policy(seed, obs, state)
        action, new = self.policy_step(noise, obs, state, mode)
        return action, state | new._asdict() | {"action": action}

    # ------------------------------------------------------------- acting --

    def initial_state(self, batch_size: int) -> dict[str, np.ndarray]:
        """State of the policy before the first observation, `[B, ...]`, all zero."""
        action = ops.zeros((batch_size, self.actions))
        state = self.cell.initial(batch_size)._asdict() | {"action": action}
        return engine.to_host(state)

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
            return (np.arange(self.actions) == index[:, None]).astype(np.float32)
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

    def dream(
        self,
        state: dict,
        length: int,
        seed: int = 0,
        actions: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """What the model expects to happen next, without observations.

        The first action is that of `state`, which the policy has chosen already; the
        others are sampled from the actor in the imagined states.

        Args:
          state: as `policy` returns it, `[B, ...]`.
          length: number of steps T.
          seed: decides all that is left to chance, together with the agent's seed.
          actions: `[B, T, A]`, carried out instead of the policy's.

        Returns:
          `obs`, by entry `[B, T, *shape]`, images in [0, 1]; `action` `[B, T, A]`,
          which led there; `reward`, `continues` (the probability that the episode goes
          on) and `value` of every state, `[B, T]`.
        """
        state = {k: np.asarray(state[k]) for k in ("deter", "stoch", "action")}
        size = len(state["action"])
        if actions is not None:
            actions = np.asarray(actions, np.float32)
            if actions.shape != (size, length, self.actions):
                raise ValueError(
                    f"actions have the shape {actions.shape}; they must have "
                    f"{(size, length, self.actions)}."
                )
        call = self._dream(length, actions is not None)
        given = {} if actions is None else {"actions": actions}
        return engine.to_host(call(engine.seed(self.seed, DREAM, seed), state, given))

    def _check_batch(self, size: int, name: str):
        if size % self.devices:
            raise UserError(
                f"{name} is {size}; with --devices={self.devices} it must be a "
                f"multiple of {self.devices}."
            )

    def _check_scales(self):
        predicted = [self.loss_names[entry] for entry in self.decoder.net.entries]
        for name in self.config.loss_scales.entries:
            if name not in predicted:
                raise UserError(
                    f"--loss_scales.{name} is no loss of Dreamer{self.version.upper()} "
                    "and no observation entry that it predicts; these are "
                    f"{', '.join(predicted)}."
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
