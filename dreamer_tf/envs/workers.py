"""Where environments live: in this process, or in a worker process.

A worker is a fresh Python that gets its environments' constructors over a socket. It is
neither forked (TensorFlow and GPU contexts do not survive that) nor does it import
the main script again, as multiprocessing would: so it never loads TensorFlow or JAX,
and scripts need no `if __name__ == "__main__"`.
"""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

import cloudpickle
import numpy as np

from dreamer_tf import output
from dreamer_tf.envs.base import Env, Record
from dreamer_tf.envs.check import check_record
from dreamer_tf.envs.foreign import calling
from dreamer_tf.errors import UserError

MakeFn = Callable[[], Env]
Sums = dict[str, str]  # entry -> checksum of its values in an episode so far
Call = tuple[int, str, Any]  # environment number, method, argument

_START = "import sys, dreamer_tf.envs.workers as w; w.serve(int(sys.argv[1]))"

# Workers share the cores with the learner, and one environment feeds one core.
_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LP_NUM_THREADS": "0",  # Mesa's software renderer: 0 renders in the caller
}


class Host(Protocol):
    """Where some of the environments live."""

    def send(self, calls: list[Call]) -> None: ...

    def receive(self) -> list[Any]: ...

    def restart(self) -> None: ...

    def close(self) -> None: ...


class Here:
    """Environments in this process. What they raise is raised as it is."""

    def __init__(self, make_fns: dict[int, MakeFn]):
        self._envs = {i: _make(make) for i, make in make_fns.items()}
        self._answers: list[Any] = []

    def send(self, calls: list[Call]) -> None:
        self._answers = [_run(self._envs[i], m, argument) for i, m, argument in calls]

    def receive(self) -> list[Any]:
        return self._answers

    def restart(self) -> None:
        raise NotImplementedError  # nothing here dies alone

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # all of them, even if one fails
            for env in self._envs.values():
                stack.callback(env.close)


class WorkerDied(RuntimeError):
    """A worker process ended, or did not answer in time."""


class Worker:
    """Environments in a process of their own."""

    def __init__(self, make_fns: dict[int, MakeFn], timeout: float = 0.0):
        self._numbers = list(make_fns)
        self._timeout = timeout
        try:
            self._constructors = cloudpickle.dumps(make_fns)
        except Exception as error:
            raise UserError(
                f"An environment's constructor cannot be sent to a worker process "
                f"({error}): construct everything inside of it, or use workers=0."
            ) from error
        self._start()

    def _start(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        _limit(ours, self._timeout)
        paths = [os.path.abspath(path) for path in sys.path]  # "" is the current folder
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_THREADS, "PYTHONPATH": os.pathsep.join(paths)},
        )
        theirs.close()
        self._pipe = ours
        self.send(self._constructors)

    def send(self, calls: list[Call] | bytes) -> None:
        try:
            self._pipe.send(calls)
        except BlockingIOError:
            raise self._silent("read its command") from None
        except ConnectionError:
            pass  # that it is dead is noticed when its answer is waited for

    def receive(self) -> list[Any]:
        try:
            kind, number, content = self._pipe.recv()
        except BlockingIOError:
            raise self._silent("answer") from None
        except (EOFError, ConnectionError):
            raise WorkerDied(self._how_it_died()) from None
        if kind == "user error":
            raise UserError(f"Environment {number}: {content}")
        if kind == "error":
            raise RuntimeError(
                f"Environment {number} failed in its process:\n{content}"
            )
        return content

    def restart(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._start()

    def close(self) -> None:
        self._pipe.close()  # which ends the worker, at its next read
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _silent(self, what: str) -> WorkerDied:
        return WorkerDied(
            f"The process of {self._names()} did not {what} for "
            f"{self._timeout:g} seconds."
        )

    def _how_it_died(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        name = f" ({signal.Signals(-code).name})" if code and code < 0 else ""
        return f"The process of {self._names()} died with exit code {code}{name}."

    def _names(self) -> str:
        several = "s" if len(self._numbers) > 1 else ""
        return f"environment{several} {', '.join(map(str, self._numbers))}"


def _limit(pipe: Connection, seconds: float) -> None:
    """Limits how long each part of a message is waited for, in both directions.

    A process may also stop in the middle of one. What waits then raises
    BlockingIOError.

    Args:
      pipe: one end of `multiprocessing.Pipe()`, which is a socket.
      seconds: 0: there is no limit.
    """
    whole = int(seconds)
    value = struct.pack("ll", whole, int(1e6 * (seconds - whole)))  # a timeval
    with socket.socket(fileno=os.dup(pipe.fileno())) as connected:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connected.setsockopt(socket.SOL_SOCKET, option, value)


def serve(descriptor: int) -> None:
    """The life of a worker process: answers until the pipe closes.

    Also when the parent was killed: its end of the pipe closes with it.
    """
    # They are the parent's to handle, which ends this process by closing the pipe; a
    # terminal sends Ctrl-C and its own end to both.
    for ours in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ours, signal.SIG_IGN)
    with output.protected():
        _serve(descriptor)


def _serve(descriptor: int) -> None:
    pipe = Connection(descriptor)
    envs: dict[int, Env] = {}
    number = -1
    try:
        constructors = pipe.recv()
        while True:
            calls = pipe.recv()
            answers = []
            try:
                if constructors:
                    number = calls[0][0]
                    for number, make in cloudpickle.loads(constructors).items():
                        envs[number] = _make(make)
                    constructors = None
                for number, method, argument in calls:
                    answers.append(_run(envs[number], method, argument))
            except UserError as error:
                pipe.send(("user error", number, str(error)))
            except Exception:
                # The last lines name the error and the place that raised it.
                lines = traceback.format_exc().splitlines()[-12:]
                pipe.send(("error", number, "\n".join(lines)))
            else:
                pipe.send(("answers", number, answers))
    except (EOFError, ConnectionError):
        pass
    finally:
        for env in envs.values():
            try:
                env.close()
            except Exception as error:
                with contextlib.suppress(OSError):
                    print(error, file=sys.stderr)


def _make(make: MakeFn) -> Env:
    with calling("An environment", "constructor"):
        return make()


def _run(env: Env, method: str, argument: Any) -> Any:
    if method == "describe":
        return env.obs_space, env.action_space, env.repeat, dict(env.ignored)
    if method == "replay":
        return replay(env, *argument)
    with calling(type(env).__name__, method, env):
        result = getattr(env, method)(argument)
    if method != "render":
        check_record(result, env.obs_space)
    return result


def replay(env: Env, seed: int, actions: Sequence[np.ndarray]) -> tuple[Record, Sums]:
    """Brings an unfinished episode back.

    Returns:
      Its last record, and the checksums of all its records: those from before, if the
      environment repeats itself.
    """
    record = _run(env, "reset", seed)
    sums = summed({}, record)
    for action in actions:
        record = _run(env, "step", action)
        sums = summed(sums, record)
    return record, sums


def summed(sums: Sums, record: Record) -> Sums:
    """The checksums of an episode with one more record."""
    result = {}
    for name, value in record.items():
        chain = hashlib.blake2b(sums.get(name, "").encode(), digest_size=16)
        chain.update(np.asarray(value).tobytes())
        result[name] = chain.hexdigest()
    return result
