"""Many environments: seeds, resets, processes, and what happens when one breaks."""

import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dreamer_tf.envs import (
    Envs,
    Remote,
    episode_seed,
    make_env,
    make_envs,
    workers,
)
from dreamer_tf.envs.base import Env, action_box, box
from dreamer_tf.errors import UserError
from tests.fakes import Counting


class Probe(Env):
    """Ends after `length` frames, shows its seed and process, breaks when told to."""

    def __init__(self, length=3, misbehave=None, at=2):
        shown = ("seed", "pid", "frame", "heavy", "threads")
        super().__init__({name: box(()) for name in shown}, action_box(1), 1, length)
        self.misbehave, self.at = misbehave, at

    def _reset(self, seed):
        self.seed, self.frame = seed, 0

    def _frame(self, action):
        self.frame += 1
        if self.misbehave and self.frame == self.at:
            self.misbehave(self)
        return 1.0, False, False

    def _observe(self):
        heavy = {"tensorflow", "keras", "jax", "torch"} & set(sys.modules)
        values = {
            "seed": self.seed % 2**20,  # what float32 can tell apart
            "pid": os.getpid(),
            "frame": self.frame,
            "heavy": len(heavy),
            "threads": int(os.environ.get("OMP_NUM_THREADS", 0)),
        }
        return {name: np.array(value, np.float32) for name, value in values.items()}

    def render(self, size=None):
        return np.full((size or 4, size or 4, 3), self.frame, np.uint8)


def actions(n):
    return np.zeros((n, 1), np.float32)


def shown_seed(run, env, episode):
    return episode_seed(run, env, episode) % 2**20


def test_episode_seeds():
    seeds = {
        episode_seed(r, i, k) for r in range(3) for i in range(3) for k in range(9)
    }
    assert len(seeds) == 81
    assert episode_seed(0, 0, 0) == episode_seed(0, 0, 0)
    assert episode_seed((0, 1), 0, 0) != episode_seed((0, 2), 0, 0)
    assert all(0 <= seed < 2**32 for seed in seeds)
    # A recorded run has to stay repeatable: these must never change.
    assert episode_seed(0, 0, 0) == 4088532484
    assert episode_seed(7, 3, 11) == 2080188264


@pytest.mark.parametrize("workers", [0, 2, 8])
def test_sequence_of_records(workers):
    with Envs([lambda n=n: Probe(2 + n) for n in range(3)], workers, seed=5) as envs:
        first = envs.reset()
        assert first["is_first"].all()
        assert first["seed"].tolist() == [shown_seed(5, i, 0) for i in range(3)]
        frames, firsts = [], []
        for _ in range(4):
            record = envs.step(actions(3))
            frames.append(record["frame"].astype(int).tolist())
            firsts.append(record["is_first"].tolist())
        # Lengths 2, 3 and 4: after the last record comes the first of the next one.
        assert frames == [[1, 1, 1], [2, 2, 2], [0, 3, 3], [1, 0, 4]]
        assert firsts[2:] == [[True, False, False], [False, True, False]]
        assert record["seed"].tolist() == [
            *(shown_seed(5, 0, 1), shown_seed(5, 1, 1), shown_seed(5, 2, 0))
        ]
        assert envs.episodes.tolist() == [1, 1, 0]
        assert record["reward"].shape == (3,) and record["action"].shape == (3, 1)
        assert envs.render(2).max() == 4
        assert envs.render(1, size=2).shape == (2, 2, 3)
        processes = set(record["pid"].tolist())
        assert len(processes) == min(max(workers, 1), 3)
        assert (os.getpid() in processes) == (workers == 0)


def test_processes_and_one_process_agree():
    random = np.random.default_rng(0)
    plan = random.uniform(-1, 1, (120, 3, 2)).astype(np.float32)

    def run(workers):
        with make_envs("toy", 3, workers, seed=2, obs="both", size=8) as envs:
            records = [envs.reset(), *(envs.step(action) for action in plan)]
            assert len(envs) == 3 and envs.repeat == 1
        return records

    for here, there in zip(run(0), run(2)):
        assert list(here) == list(there)
        for name in here:
            np.testing.assert_array_equal(here[name], there[name])
            assert here[name].dtype == there[name].dtype


def test_workers_render():
    arguments = {"seed": 3, "obs": "image", "size": 16}
    with make_envs("cartpole_balance", 2, workers=2, **arguments) as there:
        pictures = there.reset()["image"]
    with make_envs("cartpole_balance", 2, workers=0, **arguments) as here:
        np.testing.assert_array_equal(pictures, here.reset()["image"])
    assert pictures.std() > 0


def test_one_environment_in_a_process_of_its_own():
    here = make_env("toy", obs="both", size=16)
    with Remote(lambda: make_env("toy", obs="both", size=16)) as there:
        assert there.obs_space == here.obs_space and there.repeat == here.repeat
        assert there.action_space == here.action_space
        for seed in (3, 4, 3):
            records = [env.reset(seed=seed) for env in (here, there)]
            np.testing.assert_equal(*records)
            for _ in range(3):
                action = np.array([0.5, -1], np.float32)
                np.testing.assert_equal(here.step(action), there.step(action))
            np.testing.assert_array_equal(here.render(24), there.render(24))
    with Remote(Probe) as there:
        assert there.reset(seed=1)["pid"] != os.getpid()


def test_series_differ():
    with (
        make_envs("toy", 1, seed=2) as envs,
        make_envs("toy", 1, seed=2, series=1) as o,
    ):
        assert (envs.reset()["position"] != o.reset()["position"]).any()


def test_reset_of_some_with_seeds_and_at_an_episode():
    with Envs([Probe] * 3, seed=1) as envs:
        envs.reset()
        record = envs.reset([2, 0], seeds=[70, 80])
        assert record["seed"].tolist() == [70, 80]
        assert envs.episodes.tolist() == [1, 0, 1]
        envs.episodes[:] = 8
        assert envs.reset([1])["seed"].tolist() == [shown_seed(1, 1, 9)]


def test_workers_are_light_and_single_threaded():
    with Envs([Probe], workers=1) as envs:
        record = envs.reset()
    assert record["heavy"] == 0
    assert record["threads"] == 1


def spoil_nan(env):
    env.frame = np.nan


def spoil_shape(env):
    env._observe = lambda: {**Probe._observe(env), "pid": np.zeros(2, np.float32)}


def crash(env):
    raise ZeroDivisionError("oh no")


def complain(env):
    raise UserError("the battery is empty")


def vanish(env):
    os._exit(3)


def killed(env):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("workers", "misbehave", "error", "message"),
    [
        (0, spoil_shape, UserError, '"pid" has shape'),
        (0, crash, UserError, r"ZeroDivisionError \(oh no\) at .*test_vector.py:\d"),
        (2, spoil_shape, UserError, 'Environment 1: .*"pid" has shape'),
        (2, crash, UserError, r"Environment 1: Probe failed in step\(\) .* \(oh no\)"),
        (2, complain, UserError, "^Environment 1: the battery is empty$"),
    ],
)
def test_what_breaks_is_reported(workers, misbehave, error, message):
    envs = Envs([Probe, lambda: Probe(misbehave=misbehave)], workers)
    envs.reset()
    envs.step(actions(2))
    with pytest.raises(error, match=message):
        envs.step(actions(2))
    with pytest.raises(RuntimeError, match="closed"):
        envs.step(actions(2))


class Fragile(Env):
    """A random walk from a seed. In episodes of even seeds, `breaks` comes at frame 3.

    Only as long as the file `spare` exists, which it then removes; always without one.
    """

    def __init__(self, breaks=None, spare=None):
        super().__init__({"place": box((2,))}, action_box(1), 1, 5)
        self.breaks, self.spare = breaks, spare

    def _reset(self, seed):
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self.place = self.random.normal(size=2)

    def _frame(self, action):
        if self.breaks and self._frames == 2 and self.seed % 2 == 0:
            if self.spare is None:
                self.breaks(self)
            elif os.path.exists(self.spare):
                os.remove(self.spare)
                self.breaks(self)
        self.place = self.place + action[0] + self.random.normal(size=2)
        return float(self.place[0]), False, False

    def _observe(self):
        return {"place": self.place.astype(np.float32)}

    def render(self, size=None):
        return np.zeros((4, 4, 3), np.uint8)


def walk(envs, steps=14):
    random = np.random.default_rng(0)
    rows = [envs.reset()]
    rows += [
        envs.step(random.uniform(-1, 1, (len(envs), 1)).astype(np.float32))
        for _ in range(steps)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def hang(env):
    time.sleep(1000)


@pytest.mark.parametrize(
    ("workers", "breaks", "sentence"),
    [
        (2, vanish, r"of environment 1 died with exit code 3\. It is started again"),
        (1, killed, r"of environments 0, 1 died with exit code -9 \(SIGKILL\)"),
        (2, hang, "of environment 1 did not answer for 6 seconds"),
    ],
)
def test_a_process_that_dies_or_hangs_is_started_again(
    workers, breaks, sentence, tmp_path
):
    with Envs([Fragile] * 2, 0, seed=3) as envs:
        expected = walk(envs)
    spare = tmp_path / "spare"
    spare.touch()
    makes = [Fragile, lambda: Fragile(breaks, str(spare))]
    said = []
    with Envs(makes, workers, seed=3, timeout=6) as envs:
        envs.say = said.append
        np.testing.assert_equal(walk(envs), expected)
        assert envs.restarts == 1
    assert not spare.exists()
    (text,) = said
    assert re.search(sentence, text)


def test_an_episode_that_always_kills_its_process_is_given_up():
    said = []
    with Envs([lambda: Fragile(vanish)], 1, seed=3) as envs:
        envs.say = said.append
        starts = walk(envs)["is_first"][:, 0]
        seeds = [episode_seed(3, 0, number) for number in range(5)]
        lengths = [3 if seed % 2 == 0 else 6 for seed in seeds]  # rows
        assert np.flatnonzero(starts).tolist() == [
            row for row in np.cumsum([0, *lengths]) if row < 15
        ]
        assert (
            envs.restarts
            == len(said)
            == 2
            * sum(
                length == 3 and end <= 14
                for length, end in zip(lengths, np.cumsum(lengths))
            )
        )


def never(env, seed):
    os._exit(4)


def test_a_process_that_cannot_live_is_an_error():
    class Stillborn(Fragile):
        _reset = never

    envs = Envs([Stillborn], 1)
    with pytest.raises(RuntimeError, match="after two restarts"):
        envs.reset()
    with pytest.raises(RuntimeError, match="closed"):
        envs.reset()


@pytest.mark.parametrize("workers", [0, 2])
def test_unfinished_episodes_come_back(workers):
    with Envs([Fragile] * 2, workers, seed=3) as envs:
        walk(envs, 8)
        state = envs.state_dict()
        expected = [envs.step(actions(2) + 0.5) for _ in range(6)]
    with Envs([Fragile] * 2, workers, seed=3) as envs:
        envs.load_state_dict(state)
        found = [envs.step(actions(2) + 0.5) for _ in range(6)]
    np.testing.assert_equal(found, expected)


def fails_to_start():
    raise UserError("there is no such robot")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_constructor_that_fails(workers):
    with pytest.raises(UserError, match="no such robot"):
        Envs([Probe, fails_to_start], workers)


def test_a_task_that_does_not_exist():
    with pytest.raises(UserError, match="did you mean toy_discrete"):
        make_envs("toy_discret", 1, workers=1)


def test_constructors_that_cannot_travel():
    lock = threading.Lock()
    with pytest.raises(UserError, match="workers=0"):
        Envs([lambda: lock], workers=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_environments_must_be_alike(workers):
    with pytest.raises(UserError, match="Environment 1 has the spaces"):
        Envs([Probe, lambda: make_env("toy")], workers)


def test_wrong_use():
    with pytest.raises(UserError, match="envs is 0"):
        Envs([])
    with pytest.raises(UserError, match="workers is -1"):
        Envs([Probe], -1)
    with Envs([Probe] * 2) as envs:
        with pytest.raises(RuntimeError, match="reset"):
            envs.step(actions(2))
        envs.reset()
        with pytest.raises(ValueError, match=r"\(1, 1\), not \(2, 1\)"):
            envs.step(actions(1))


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pids):
    deadline = time.monotonic() + 30
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "worker processes are left over"
        time.sleep(0.05)


def test_close_ends_the_processes():
    envs = Envs([Probe] * 2, workers=2)
    pids = envs.reset()["pid"].astype(int).tolist()
    assert not any(gone(pid) for pid in pids)
    envs.close()
    wait_until_gone(pids)


MAIN = """
import os
assert __name__ == "__main__"      # a worker must not run this file again
from dreamer_tf.envs import Envs, make_env
class Mine:                        # and yet it can be given what is defined here
    def __new__(cls):
        return make_env("toy")
envs = Envs([Mine, lambda: Mine()], workers=2)
envs.reset()
print(*(host._process.pid for host in envs._hosts), flush=True)
os.kill(os.getpid(), 9)
"""


def test_workers_end_when_the_parent_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(MAIN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) == 2
    wait_until_gone(pids)


class Unstable(Probe):
    """Shows NaN from frame 2 of every other episode on."""

    def _observe(self):
        broken = self.frame >= 2 and self.seed % 2 == 0
        return super()._observe() | {
            "frame": np.float32(np.nan if broken else self.frame)
        }


@pytest.mark.parametrize("workers", [0, 2])
def test_simulations_that_diverge_are_counted_and_said_once(workers):
    said = []
    with Envs([lambda: Unstable(5)] * 2, workers, seed=3) as envs:
        envs.say = said.append
        rows = [envs.reset(), *(envs.step(actions(2)) for _ in range(30))]
        last = np.stack([row["is_last"] for row in rows])
        shown = np.stack([row["frame"] for row in rows])
        assert envs.diverged == (last & (shown == 1)).sum() > 2
        assert not np.stack([row["is_terminal"] for row in rows]).any()
        assert envs.frames.tolist() == (~rows[-1]["is_first"]).astype(int).tolist()
        state = envs.state_dict()
    (text,) = said
    assert re.match(
        r"The simulation of environment \d diverged \(obs.* not finite", text
    )
    with Envs([lambda: Unstable(5)] * 2, 0, seed=3) as envs:
        envs.load_state_dict(state)
        assert envs.diverged == state["diverged"]
        old = {name: value for name, value in state.items() if name != "diverged"}
        envs.load_state_dict(old)
        assert envs.diverged == 0


def test_a_run_of_diverging_simulations_continues_exactly():
    def walked(envs, steps):
        return [envs.step(actions(2)) for _ in range(steps)]

    def make():
        return Envs([lambda: Unstable(5)] * 2, 0, seed=3)

    said = []
    with make() as envs:
        envs.reset()
        states = [(walked(envs, 1), envs.state_dict())[1] for _ in range(12)]
        expected = walked(envs, 8)
    for state in states:
        with make() as envs:
            envs.say = said.append
            envs.load_state_dict(state)
            found = walked(envs, 8)
    assert not [text for text in said if "does not repeat itself" in text]
    np.testing.assert_equal(found, expected)


def never_starts(env):
    env._observe = lambda: {**Probe._observe(env), "frame": np.float32(np.nan)}


def test_simulations_that_never_begin_stop_the_run():
    with Envs([lambda: Probe(misbehave=never_starts, at=1)], 1, seed=3) as envs:
        envs.reset()
        with pytest.raises(
            UserError, match=r"^Environment 0: Probe diverged in 10 epi"
        ):
            for _ in range(4):
                envs.step(actions(1))


def falls_apart():
    raise OSError("no robot there")


@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_name_the_line_too(workers):
    line = falls_apart.__code__.co_firstlineno + 1
    pattern = rf"in constructor\(\) with OSError \(no robot .*test_vector.py:{line}:"
    with pytest.raises(UserError, match=pattern):
        Envs([falls_apart], workers)
    with Envs([Unseen], workers) as envs:
        envs.reset()
        with pytest.raises(
            UserError, match=r"Unseen failed in render\(\) with Rec.*py:"
        ):
            envs.render(0)


class Unseen(Probe):
    def render(self, size=None):
        raise RecursionError("a mirror")


def refuse_to_close():
    raise UserError("the door is stuck")


def test_closing_fails_after_another_error():
    def breaks(env):
        env.close = refuse_to_close
        raise ValueError("the floor is wet")

    envs = Envs([Probe, lambda: Probe(misbehave=breaks)])
    envs.reset()
    envs.step(actions(2))
    with pytest.raises(UserError, match="the floor is wet"):
        envs.step(actions(2))


class Large(Probe):
    """Its records are larger than what a socket holds."""

    def __init__(self):
        super().__init__(length=0)
        self.obs_space["large"] = box((1_000_000,))

    def _observe(self):
        return super()._observe() | {"large": np.zeros(1_000_000, np.float32)}


@pytest.mark.parametrize("part", ["answer", "read its command"])
def test_a_process_that_stops_in_the_middle_of_a_message_counts_as_hanging(part):
    worker = workers.Worker({0: Large})
    try:
        worker.send([(0, "describe", None)])
        worker.receive()
        worker._timeout = 0.5
        workers._limit(worker._pipe, 0.5)
        if part == "answer":
            worker.send([(0, "reset", 1)])
            assert worker._pipe.poll(60)  # its answer has begun, and cannot end
        os.kill(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(workers.WorkerDied, match=f"did not {part} for 0.5 seconds"):
            if part == "answer":
                worker.receive()
            else:
                worker.send([(0, "step", np.zeros(10**7, np.float32))])
        worker._timeout = 0
        worker.restart()
        worker.send([(0, "describe", None)])
        assert worker.receive()[0][2] == 1
    finally:
        worker.close()


def held():
    """What this process holds of the machine: files, threads, processes, memory."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "processes": len(children),
        "shared": len(os.listdir("/dev/shm")),
        "MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("deaths", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_deaths_of_processes_leave_nothing_behind(deaths):
    with Envs([lambda: Probe(10**6)], 1, seed=3) as envs:
        envs.say = lambda _: None
        envs.reset()
        before = {}
        for number in range(deaths + 1):
            os.kill(envs._hosts[0]._process.pid, signal.SIGKILL)
            envs.step(actions(1))
            before = before or held()  # after the first, which imports what it needs
            assert envs.restarts == number + 1
        after = held()
    assert after.pop("MB") < before.pop("MB") + 5
    assert after == before


@pytest.mark.parametrize("workers", [0, 1])
def test_stats_of_the_episodes_that_ended(workers):
    """Of each environment, with its last record."""
    makers = [functools.partial(Counting, limit) for limit in (1, 2)]
    with Envs(makers, workers, seed=7) as envs:
        assert envs.stats == [{}, {}]
        envs.reset()
        seen = []
        for _ in range(3):
            envs.step(actions(2))
            seen.append(list(envs.stats))
    values = np.random.default_rng(episode_seed(7, 1, 0)).uniform()
    assert [[stats.get("length") for stats in both] for both in seen] == [
        *([1, None], [None, 2], [1, None]),
    ]
    assert seen[1][1] == {"length": 2, "achievement_wait": int(10 * values)}
