"""An environment, agent, replay and schedule that cost nothing and record calls."""

import dataclasses
import json

import numpy as np

from dreamer_tf.envs.base import Env, action_box, box
from dreamer_tf.envs.vector import Envs
from dreamer_tf.replay import Windows
from dreamer_tf.training.experience import TRAINING, Components


@dataclasses.dataclass(frozen=True)
class Inner:
    deter: int = 8  # width of the state
    mults: tuple[int, ...] = (2, 3)  # one factor per stage


@dataclasses.dataclass(frozen=True)
class Config:
    dyn: Inner = dataclasses.field(default_factory=Inner)
    prefill: int = 0  # decisions that are random
    ratio: float = 1.0  # updates per record


class FakeEnv(Env):
    """Episodes of `limit` frames; everything in them depends on the seed."""

    def __init__(self, limit=5, repeat=1, tape=None):
        super().__init__({"vector": box((2,))}, action_box(1), repeat)
        self.limit = limit
        self.tape = [] if tape is None else tape

    def _reset(self, seed):
        self.tape.append(("reset", seed))
        self.value = np.random.default_rng(seed).uniform()
        self.frame = 0

    def _frame(self, action):
        self.tape.append(("step", float(action[0])))
        self.frame += 1
        return self.value + 0.1 * float(action[0]), self.frame >= self.limit, False

    def _observe(self):
        return {"vector": np.array([self.value, self.frame], np.float32)}

    def render(self, size=None):
        return np.zeros((size or 8, size or 8, 3), np.uint8)


class Counting(FakeEnv):
    """Has something to say of its episodes."""

    def _stats(self):
        return {"length": self.frame, "achievement_wait": np.int64(self.value * 10)}


class FakeAgent:
    """A policy that drifts with every update, so that all that happened shows."""

    latents = ("deter",)
    place = "no precision on nothing"

    def __init__(self, seed=0, tape=None):
        self.seed, self.tape = seed, [] if tape is None else tape
        self.weight, self.updates, self.decisions = np.zeros(()), 0, 0

    def initial_state(self, batch_size):
        return {"deter": np.zeros((batch_size, 1), np.float32)}

    def policy(self, obs, state, mode):
        assert set(obs) == {"vector", "is_first"}
        deter = np.where(obs["is_first"][:, None], 0, state["deter"])
        deter = (deter + obs["vector"][:, :1]).astype(np.float32)
        rng = np.random.default_rng([self.seed, self.decisions])
        action = rng.uniform(-1, 1, (len(deter), 1)).astype(np.float32)
        if mode == "eval":
            action = np.zeros_like(action)
        self.tape.append(("policy", mode))
        self.decisions += 1
        return np.clip(action + np.float32(self.weight), -1, 1), {"deter": deter}

    def begin(self, batch):
        self.weight = self.weight + 0.01 * batch["reward"].mean()
        self.updates += 1
        self.tape.append(("update", self.updates))
        metrics = {"loss": float(batch["vector"].sum())}
        return lambda: (metrics, {"deter": batch["deter"] + 1})

    def report(self, batch, context):
        return {"vector": batch["vector"] + np.float32(self.weight)}

    def param_count(self):
        return {"weight": 1}

    def state_dict(self):
        counts = {"updates": self.updates, "decisions": self.decisions}
        return {"weight": self.weight} | {k: np.asarray(v) for k, v in counts.items()}

    def load_state_dict(self, state):
        self.weight = state["weight"]
        self.updates, self.decisions = int(state["updates"]), int(state["decisions"])

    def save(self, path):
        (path / "agent.json").write_text(json.dumps({"version": "fake"}))
        np.savez(path / "agent.npz", **self.state_dict())


class Schedule:
    """Random for `prefill` decisions, then `ratio` updates per record."""

    def __init__(self, config):
        self.config, self.done = config, 0

    def random(self, progress):
        return progress.decisions < self.config.prefill

    def updates(self, progress):
        if not progress.items or self.random(progress):
            return 0
        due = int(progress.records * self.config.ratio) - self.done
        self.done += due
        return due

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


class Recorder:
    """A replay that only remembers; one item per record."""

    def __init__(self, tape):
        self.tape, self.rows = tape, []

    def add(self, record, stream):
        self.rows.append((stream, record))
        self.tape.append(("add", stream))

    def sample(self):
        self.tape.append(("sample",))
        batch = {"reward": np.ones((1, 1)), "vector": np.ones((1, 1, 2))}
        return batch | {"deter": np.ones((1, 1, 1)), "id": np.zeros((1, 1, 2))}

    def update(self, ids, values):
        self.tape.append(("feedback", *sorted(values)))

    def __len__(self):
        return len(self.rows)


def make_components(run, config, tape=None, limit=5, kind=FakeEnv):
    """As `build.build`, of fakes and the real replay and vector environment."""

    def make_env():
        return kind(limit, run.repeat)

    return Components(
        FakeAgent(run.seed, tape),
        Envs([make_env] * run.envs, run.workers, (run.seed, TRAINING)),
        Windows(2, 3, 1000, int(run.replay_gb * 1e9), run.seed),
        Schedule(config),
        make_env,
    )
