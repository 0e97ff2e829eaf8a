"""Several environments at once: in this process, or spread over worker processes.

`workers.py` has the processes.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs.base import Record, action_size
from dreamer_tf.envs.workers import (
    Call,
    Here,
    Host,
    MakeFn,
    Sums,
    Worker,
    WorkerDied,
    summed,
)
from dreamer_tf.errors import UserError


class Envs:
    """N environments that are stepped together.

    After a record with `is_last` the next `step` of that environment ignores its
    action and returns the first record of the next episode. Episode k of environment
    i is seeded from (seed, i, k), however many workers there are and however fast
    the other environments finish.

    The seed and the actions of an unfinished episode bring it back: after a restart
    of the run (`state_dict`), or of a process that died or did not answer in time. An
    environment that does not repeat itself is found out, and begins its next episode.

    Args:
        make_fns: one constructor per environment, called where it will live.
        workers: number of processes that share the environments; 0 for none.
        seed: of the run; a sequence such as (run seed, 1) gives another set of
            episodes, for example for evaluation.
        timeout: seconds after which a silent process counts as hanging; 0: never.

    Attributes:
        obs_space, action_space, repeat, ignored: as of `Env`, the same for all
            environments.
        episodes: int64 [N], the number k of the episode each environment is in, -1
            before its first. Setting it to k - 1 before `reset` starts episode k.
        restarts: how often a process was started again.
        frames: int64 [N], those that each environment's last decision took: fewer than
            `repeat` where the episode ended during them, 0 after a reset.
        diverged: how many episodes ended because the simulation diverged (`Env`).
        stats: `Step.stats` of each environment's last record.
        say: receives one sentence whenever something did not go as it should.

    Raises:
        UserError: from every method, when an environment raised one or returned a
            wrong record; the sentence says which environment. Afterwards, and after
            a RuntimeError, which is what everything else becomes, all are closed.
    """

    def __init__(
        self,
        make_fns: Sequence[MakeFn],
        workers: int = 0,
        seed: int | Sequence[int] = 0,
        timeout: float = 0.0,
    ):
        if not make_fns:
            raise UserError("envs is 0, but at least one environment is needed.")
        if workers < 0:
            raise UserError(f"workers is {workers}, but must be 0 or more.")
        self._count = len(make_fns)
        self._seed = seed
        self._over = np.ones(self._count, bool)
        self.episodes = np.full(self._count, -1, np.int64)
        self.restarts = 0
        self.frames = np.zeros(self._count, np.int64)
        self.diverged = 0
        self.stats: list[dict[str, float]] = [{} for _ in make_fns]
        self.say: Callable[[str], None] = print
        # Of the present episodes: what brings them back, and to where.
        self._seeds = [0] * self._count
        self._actions: list[list[np.ndarray]] = [[] for _ in make_fns]
        self._last: list[Record] = [{} for _ in make_fns]
        self._sums: list[Sums] = [{} for _ in make_fns]  # of all their records
        self._given = False  # whether the caller chooses the seeds
        self._hosts: list[Host] = []
        groups = min(workers, self._count)
        numbered = dict(enumerate(make_fns))
        if groups == 0:
            self._hosts.append(Here(numbered))
        for group in range(groups):
            mine = {i: f for i, f in numbered.items() if i % groups == group}
            self._hosts.append(Worker(mine, timeout))
        self._host_of = [self._hosts[i % len(self._hosts)] for i in numbered]
        described = self._call([(i, "describe", None) for i in numbered])
        self.obs_space: spaces.Dict
        self.action_space: spaces.Box | spaces.Discrete
        self.repeat: int
        self.ignored: Mapping[str, str]
        self.obs_space, self.action_space, self.repeat, self.ignored = described[0]
        for i, other in enumerate(described):
            if other != described[0]:
                self.close()
                raise UserError(
                    f"Environment {i} has the spaces {other[:3]}, but environment 0 "
                    f"has {described[0][:3]}: all environments of a run must be alike."
                )

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> "Envs":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def reset(
        self,
        indices: Sequence[int] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Record:
        """Starts the next episode of some environments (all by default).

        Args:
            indices: numbers of the environments.
            seeds: one per index, instead of those derived from the run's seed.

        Returns:
            Their first records, stacked: `[len(indices), ...]` per entry.
        """
        numbers = list(range(self._count) if indices is None else indices)
        calls = [self._reset_call(i) for i in numbers]
        self._given = seeds is not None
        if seeds is not None:
            calls = [(i, "reset", int(s)) for (i, _, _), s in zip(calls, seeds)]
        return self._records(calls)

    def step(self, actions: np.ndarray) -> Record:
        """One decision of every environment.

        Args:
            actions: float32 `[N, A]`.

        Returns:
            The records, stacked: `[N, ...]` per entry.
        """
        actions = np.asarray(actions, np.float32)
        expected = (self._count, action_size(self.action_space))
        if actions.shape != expected:
            raise ValueError(f"actions have shape {actions.shape}, not {expected}.")
        if (self.episodes < 0).any():
            raise RuntimeError("Call reset() before the first step().")
        return self._records(
            [
                self._reset_call(i) if self._over[i] else (i, "step", actions[i])
                for i in range(self._count)
            ]
        )

    def render(self, index: int = 0, size: int | None = None) -> np.ndarray:
        """The scene of one environment, uint8 `[H, W, 3]`."""
        return self._call([(index, "render", size)])[0]

    def close(self) -> None:
        """Closes the environments and ends the processes."""
        for host in self._hosts:
            host.close()
        self._hosts = []

    def _reset_call(self, index: int) -> Call:
        self.episodes[index] += 1
        seed = episode_seed(self._seed, index, int(self.episodes[index]))
        return (index, "reset", seed)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to bring all present episodes back."""
        return {
            "episodes": self.episodes.copy(),
            "over": self._over.copy(),
            "seeds": list(self._seeds),
            "actions": [np.array(actions) for actions in self._actions],
            "last": [dict(record) for record in self._last],
            "diverged": self.diverged,
            "sums": [dict(sums) for sums in self._sums],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken: `step` is next."""
        self.episodes[:] = state["episodes"]
        self._over[:] = state["over"]
        self._seeds = list(state["seeds"])
        self._actions = [list(actions) for actions in state["actions"]]
        self._last = list(state["last"])
        self.diverged = state.get("diverged", 0)  # which older checkpoints lack
        # Older checkpoints lack them: only the last record can be compared.
        self._sums = list(state.get("sums", [{} for _ in self._last]))
        unfinished = [i for i in range(self._count) if not self._over[i]]
        records = self._call([self._replay_call(i) for i in unfinished])
        self._compare(unfinished, records)

    def give_up(self) -> None:
        """Ends all present episodes: the next `step` begins new ones."""
        self._over[:] = True

    def _replay_call(self, index: int) -> Call:
        return (index, "replay", (self._seeds[index], self._actions[index]))

    def _compare(
        self, indices: Sequence[int], answers: Sequence[tuple[Record, Sums]]
    ) -> None:
        """Gives up the episodes that were brought back, but not as they were."""
        for i, (record, sums) in zip(indices, answers):
            old = self._last[i]
            other = [
                name
                for name in old
                if not np.array_equal(old[name], record[name])
                or self._sums[i].get(name, sums[name]) != sums[name]
            ]
            if other:
                self._over[i] = True
                self.say(
                    f"Environment {i} does not repeat itself: with the same seed and "
                    f"actions, {', '.join(other)} differed within "
                    f"{len(self._actions[i])} decisions. It begins its next episode, "
                    "and this run will not equal an uninterrupted one."
                )

    def _records(self, calls: list[Call]) -> Record:
        records = self._call(calls)
        for (i, method, argument), record in zip(calls, records):
            self._over[i] = record["is_last"]
            self._last[i] = record
            by_default = 0 if record["is_first"] else self.repeat
            self.frames[i] = getattr(record, "frames", by_default)
            self.stats[i] = getattr(record, "stats", {})
            if why := getattr(record, "diverged", ""):
                self._say_diverged(i, why)
            self._sums[i] = summed({} if method == "reset" else self._sums[i], record)
            if method == "reset":
                self._seeds[i], self._actions[i] = argument, []
            else:
                self._actions[i].append(argument)
        return {name: np.stack([r[name] for r in records]) for name in records[0]}

    def _say_diverged(self, index: int, why: str) -> None:
        """Counts an episode that ended so; says the first one."""
        self.diverged += 1
        if self.diverged == 1:
            self.say(
                f"The simulation of environment {index} diverged ({why}): its episode "
                "ends there as if it were cut. This is said once and counted as "
                "envs/diverged in the metrics."
            )

    def _call(self, calls: list[Call]) -> list[Any]:
        """Runs calls where their environments live, answers in the same order.

        A step in `calls` becomes a reset where the episode had to be given up.
        """
        if not self._hosts:
            raise RuntimeError("These environments are closed.")
        answers: dict[int, tuple[Call, Any]] = {}
        try:
            busy = []
            for host in self._hosts:
                mine = [call for call in calls if self._host_of[call[0]] is host]
                if mine:
                    host.send(mine)
                    busy.append((host, mine))
            for host, mine in busy:
                try:
                    received = host.receive()
                except WorkerDied as error:
                    mine, received = self._revive(host, mine, error)
                for call, answer in zip(mine, received):
                    answers[call[0]] = call, answer
        except BaseException:
            # Some workers may still owe an answer; nothing after this is in step.
            with contextlib.suppress(UserError):  # the first error says more
                self.close()
            raise
        calls[:] = [answers[i][0] for i, _, _ in calls]
        return [answers[i][1] for i, _, _ in calls]

    def _revive(
        self, host: Host, calls: list[Call], error: WorkerDied
    ) -> tuple[list[Call], list[Any]]:
        """Starts a process again, brings its episodes back and repeats the calls.

        What kills it twice is given up: the last try begins new episodes, or the same
        ones anew if their seeds were given.

        Returns:
          The calls as they were made in the end, and their answers.
        """
        for last_try in (False, True):
            self.restarts += 1
            self.say(f"{error} It is started again (restart {self.restarts}).")
            try:
                host.restart()
                mine = [i for i, h in enumerate(self._host_of) if h is host]
                if last_try:
                    self._over[mine] = True
                running = [i for i in mine if not self._over[i]]
                if running:
                    host.send([self._replay_call(i) for i in running])
                    self._compare(running, host.receive())
                for number, (i, method, _) in enumerate(calls):
                    if method == "step" and self._over[i]:
                        again = (i, "reset", self._seeds[i])
                        calls[number] = again if self._given else self._reset_call(i)
                host.send(calls)
                return calls, host.receive()
            except WorkerDied as next_error:
                error = next_error
        raise RuntimeError(f"{error} So it did after two restarts.")


class Remote:
    """One environment in a process of its own, used like an `Env`.

    For whatever draws with a graphics library: Mesa's software renderer brings an
    LLVM along, and TensorFlow another one. In one process the two are mixed up and
    it dies, whichever came first (tensorflow/tensorflow#109933).

    Args:
        make: its constructor, called there.
        timeout: see `Envs`.
    """

    def __init__(self, make: MakeFn, timeout: float = 0.0):
        self._envs = Envs([make], workers=1, timeout=timeout)
        self.obs_space = self._envs.obs_space
        self.action_space = self._envs.action_space
        self.repeat = self._envs.repeat

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def reset(self, seed: int) -> Record:
        """See `Env.reset`."""
        return self._first(self._envs.reset(seeds=[seed]))

    def step(self, action: np.ndarray) -> Record:
        """See `Env.step`; after the end of an episode, call `reset`."""
        return self._first(self._envs.step(np.asarray(action)[None]))

    def render(self, size: int | None = None) -> np.ndarray:
        """See `Env.render`."""
        return self._envs.render(0, size)

    def close(self) -> None:
        """Ends the process."""
        self._envs.close()

    def _first(self, records: Record) -> Record:
        return {name: values[0] for name, values in records.items()}


def episode_seed(seed: int | Sequence[int], env: int, episode: int) -> int:
    """The seed of an episode: 32 bits, decorrelated by numpy's SeedSequence."""
    sequence = np.random.SeedSequence(seed, spawn_key=(env, episode))
    return int(sequence.generate_state(1)[0])
