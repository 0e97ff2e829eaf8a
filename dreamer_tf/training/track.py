"""A run's metrics in Weights & Biases or MLflow, beside its own files: `--track`.

The run's directory names the tracked run: logs/walker_walk is `walker_walk` of the
project (MLflow: experiment) `logs`. WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME name
another one, WANDB_MODE=offline keeps all on this disk, and MLFLOW_TRACKING_URI says
where MLflow's server is; without it all is in `mlflow.db` beside the run's directory.
TRACKED in the run's directory holds what continues the same tracked run.

The packages are optional, and imported only here, when asked for.
"""

import importlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError, reason
from dreamer_tf.files import read_json, write_atomic
from dreamer_tf.training.logdir import flat, shown

TRACKED = "tracked.json"
NEEDED = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
INSTALL = {  # requirements-track.txt has the versions that are tested
    "wandb": "python -m pip install wandb",
    "mlflow": "python -m pip install mlflow-skinny sqlalchemy alembic",
}


class Service(Protocol):
    """One tracked run, open for writing.

    Attributes:
      known: what continues it, as JSON.
    """

    known: dict[str, str]

    def metrics(self, frames: int, values: Mapping[str, float]) -> None:
        """Adds numbers, all finite."""

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 `[H, W, 3]`."""

    def close(self, done: bool) -> None:
        """Ends it; `done` if the run has reached its budget."""


class Tracker:
    """Hands rows to a service. What fails there is said once, and ends no run.

    Args:
      service: None: nothing is tracked.
      say: receives the sentence.
    """

    def __init__(self, service: Service | None, say: Callable[[str], None] = print):
        self._service, self._say = service, say

    def metrics(self, frames: int, values: Mapping[str, float]) -> None:
        """Adds a row; numbers that are not finite are left out."""
        finite = {name: float(v) for name, v in values.items() if math.isfinite(v)}
        self._try(lambda service: service.metrics(frames, finite))

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, uint8 `[H, W, 3]`."""
        self._try(lambda service: service.image(frames, name, picture))

    def close(self, done: bool) -> None:
        """Ends the tracked run."""
        self._try(lambda service: service.close(done))
        self._service = None

    def _try(self, call: Callable[[Service], None]) -> None:
        if self._service is None:
            return
        try:
            call(self._service)
        except Exception as error:  # libraries and networks raise all sorts
            self._service = None
            self._say(f"Tracking failed ({_short(error)}): the run goes on without it.")


def check(name: str) -> None:
    """Raises UserError if the package that `--track=name` needs is missing."""
    if name == "none":
        return
    try:
        for module in NEEDED[name]:
            importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--track={name} needs a package that cannot be imported "
            f"({_short(error)}): {INSTALL[name]}"
        ) from error


def start(run: RunConfig, config: Any, say: Callable[[str], None] = print) -> Tracker:
    """Begins to track a run, or continues to.

    Raises:
      UserError: the file TRACKED is damaged, or a run that was not tracked before
        cannot be. One that was goes on without.
    """
    if run.track == "none":
        return Tracker(None)
    path = Path(run.logdir).resolve()
    try:
        tracked = read_json(path / TRACKED) if (path / TRACKED).exists() else {}
        before = tracked.get(run.track)
        if before is not None:
            before = {str(key): str(value) for key, value in before.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path / TRACKED} is damaged ({reason(error)}): remove it to begin a new "
            "tracked run, or go on with --track=none."
        ) from error
    settings = {"run": configs.to_dict(run), "agent": configs.to_dict(config)}
    try:
        service = SERVICES[run.track](path, settings, before)
    except Exception as error:  # libraries and networks raise all sorts
        failed = f"--track={run.track} cannot begin ({_short(error)})"
        if before is None:
            raise UserError(
                f"{failed}: {HINTS[run.track]}, or leave --track out."
            ) from error
        say(f"{failed}: the run goes on without it.")
        return Tracker(None)
    content = json.dumps({**tracked, run.track: service.known}, indent=1)
    write_atomic(path / TRACKED, content.encode())
    verb = "Tracked" if before is None else "Tracked as before"
    say(f"{verb} by {run.track}: {', '.join(service.known.values())}.")
    return Tracker(service, say)


HINTS = {
    "wandb": "run `wandb login` first, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a server or a database that can be reached",
}


def project(path: Path) -> str:
    """The project's name: of the directory above, with the characters all allow."""
    return re.sub(r"[/\\#?%:\s]", "_", path.parent.name)[:128] or "dreamer_tf"


def _short(error: Exception) -> str:
    return " ".join(reason(error).split())[:300].rstrip(". ")


# --- Services ---------------------------------------------------------------------


class Wandb:
    """Weights & Biases. Its x axis is `frames`: steps of its own cannot go back."""

    def __init__(
        self, path: Path, settings: dict[str, Any], before: dict[str, str] | None
    ):
        import wandb

        self._wandb = wandb
        where = os.environ.get("WANDB_PROJECT") or project(path)
        self.known = before or {"project": where, "id": secrets.token_hex(4)}
        self._run = wandb.init(
            project=self.known["project"],
            id=self.known["id"],
            name=path.name,
            resume="allow",
            dir=str(path),
            config=settings,
            allow_val_change=True,
            settings=wandb.Settings(console="off", silent=True),
        )
        if not self._run.offline:
            self.known["url"] = str(self._run.url)
        self._run.define_metric("frames")
        self._run.define_metric("*", step_metric="frames")

    def metrics(self, frames: int, values: Mapping[str, float]) -> None:
        self._run.log({"frames": frames, **values})

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        self._run.log({"frames": frames, name: self._wandb.Image(picture)})

    def close(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


class MLflow:
    """MLflow, by its client, which leaves the process's active run alone."""

    def __init__(
        self, path: Path, settings: dict[str, Any], before: dict[str, str] | None
    ):
        import mlflow
        from mlflow.tracking import MlflowClient

        self._entities = mlflow.entities
        here = path.parent
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{here}/mlflow.db"
        uri = (before or {"uri": uri})["uri"]
        self._client = MlflowClient(tracking_uri=uri)
        if before:
            self.known = before
            self._client.update_run(before["run"], status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or project(path)
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            experiment = found.experiment_id
        else:
            local = (here / "mlartifacts").as_uri() if "sqlite:" in uri else None
            experiment = self._client.create_experiment(name, artifact_location=local)
        run = self._client.create_run(experiment, run_name=path.name).info.run_id
        self.known = {"uri": uri, "experiment": name, "run": run}
        for section in settings.values():
            parameters = [
                self._entities.Param(_allowed(key), shown(value)[:500])
                for key, value in flat(section)
            ]
            self._client.log_batch(run, params=parameters)

    def metrics(self, frames: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        rows = [
            self._entities.Metric(_allowed(name), value, now, frames)
            for name, value in values.items()
        ]
        self._client.log_batch(self.known["run"], metrics=rows)

    def image(self, frames: int, name: str, picture: np.ndarray) -> None:
        self._client.log_image(self.known["run"], picture, key=name, step=frames)

    def close(self, done: bool) -> None:
        status = "FINISHED" if done else "KILLED"
        self._client.set_terminated(self.known["run"], status)


def _allowed(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


SERVICES: dict[str, Callable[..., Service]] = {"wandb": Wandb, "mlflow": MLflow}
