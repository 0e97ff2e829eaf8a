"""Cells as tasks of Ray, on one machine or several: `--launcher=ray`.

Every machine needs this repository and its Python at the same path, and --out on
storage that all of them see: a cell whose machine is lost goes on elsewhere from its
last checkpoint.
"""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dreamer_tf.errors import UserError
from reproductions import grid

PASSED_ON = ("KERAS_BACKEND", "MUJOCO_GL")  # workers do not see the driver's variables


class Cluster:
    """See `grid.Launcher`.

    Args:
      address: of the cluster; empty starts one on this machine.
      cpus, gpus: that a cell takes, fractions too.
      retries: starts after the loss of a machine, per start of a cell.
      workers: cells at a time; None for as many as there is room for.

    Raises:
      UserError: Ray is missing, there is no cluster at the address, or no machine of
        it has room for a cell.
    """

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
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
        try:
            _knock(address)
            ray.init(address or "local", **quiet)
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
        self._environment = grid.environment(max(1, int(cpus)))
        self._environment |= {k: os.environ[k] for k in PASSED_ON if k in os.environ}
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)(
            _runner(str(grid.ROOT))
        )
        self._logs: dict[Any, Path] = {}

    def slots(self) -> int:
        """Room on the machines that are alive, each by itself."""
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
            self._ray.cancel(job, force=True)  # a run dies with its worker
        if jobs:
            self._ray.wait(jobs, num_returns=len(jobs), timeout=10)


def _knock(address: str) -> None:
    """OSError if nobody listens at HOST:PORT, which Ray takes minutes to find out."""
    host, _, port = address.partition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), 10).close()


def _runner(root: str):
    """What a worker does. A nested function travels as code, not by its name."""

    def cell(command: list[str], log: str, environment: dict[str, str]) -> int:
        import sys
        from pathlib import Path

        if root not in sys.path:
            sys.path.insert(0, root)
        from reproductions import grid

        return grid.start(command, Path(log), environment).wait()

    return cell
