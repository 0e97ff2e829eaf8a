"""Cells as tasks of Ray, on one machine or several: `--launcher=ray`.

Every machine needs this repository and its Python at the same path, and --out must be
on storage that all of them share: a cell whose machine is lost is continued on another
one from its last checkpoint.
"""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dreamer_tf.errors import UserError
from reproductions import launch
from reproductions.cells import ENDING, ROOT

# Environment variables that cells get as they are set here: Ray does not pass them on.
PASSED_ON = ("KERAS_BACKEND", "MUJOCO_GL")


class Cluster:
    """A `launch.Launcher` whose cells are tasks of Ray.

    Args:
      address: HOST:PORT of the cluster, or "auto"; empty: start one on this machine.
      cpus, gpus: what a cell takes; fractions are allowed.
      retries: how often Ray repeats a start of a cell whose machine is lost.
      workers: most cells at a time; None: as many as there is room for.

    Raises:
      UserError: Ray is missing, there is no cluster at the address, or no machine of
        it has room for a cell.
    """

    ending = ENDING  # without saving

    def __init__(
        self, address: str, cpus: float, gpus: float, retries: int, workers: int | None
    ):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise UserError(
                "--launcher=ray needs Ray: pip install -r requirements-cluster.txt."
            ) from None
        self._ray, self._workers = ray, workers
        self._needs = {"CPU": cpus, "GPU": gpus}
        silent: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
        try:
            _knock(address)
            ray.init(address or "local", **silent)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--ray_address={address} is no cluster that answers "
                f"({str(error).splitlines()[0]})."
            ) from None
        if not self.slots():
            raise UserError(
                f"--cpus={cpus:g} and --gpus={gpus:g} are more than any machine of the "
                "cluster has."
            )
        self._environment = launch.environment(max(1, int(cpus)))
        self._environment |= {k: os.environ[k] for k in PASSED_ON if k in os.environ}
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)(
            _runner(str(ROOT))
        )
        self._logs: dict[Any, Path] = {}

    def slots(self) -> int:
        """Cells for which the machines have room; one cell runs on one machine."""
        room = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                room += min(int(has.get(k, 0) / n) for k, n in self._needs.items() if n)
        return min(room, self._workers or room)

    def start(self, command: list[str], log: Path) -> Any:
        job = self._task.remote(command, str(log), self._environment)
        self._logs[job] = log
        return job

    def poll(self, job: Any) -> int | None:
        if not self._ray.wait([job], timeout=0)[0]:
            return None
        try:
            return self._ray.get(job)
        except self._ray.exceptions.RayError as error:
            with open(self._logs[job], "a") as file:
                reason = str(error).strip().splitlines()[0]
                file.write(f"Ray: {type(error).__name__}: {reason}\n")
            return 1

    def stop(self, jobs: Iterable[Any]) -> None:
        jobs = list(jobs)
        for job in jobs:
            self._ray.cancel(job, force=True)  # the run's process dies with its worker
        if jobs:
            self._ray.wait(jobs, num_returns=len(jobs), timeout=10)


def _knock(address: str) -> None:
    """OSError if nobody listens at HOST:PORT; Ray itself needs minutes to notice."""
    host, _, port = address.partition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), 10).close()


def _runner(root: str):
    """The function that a worker calls.

    Ray sends nested functions as code, so that a worker can call this one before it
    knows where the repository is (at `root`).
    """

    def cell(command: list[str], log: str, environment: dict[str, str]) -> int:
        import sys
        from pathlib import Path

        if root not in sys.path:
            sys.path.insert(0, root)
        from reproductions import launch

        return launch.start(command, Path(log), environment).wait()

    return cell
