"""What the comparisons of all versions share: rows, runs, weights."""

import dataclasses
import json
from collections.abc import Callable

import keras
import numpy as np

from dreamer_tf import engine


@dataclasses.dataclass
class Row:
    """One compared quantity."""

    group: str
    name: str
    error: float  # largest difference relative to the recorded value
    tolerance: float

    @property
    def ok(self) -> bool:
        return bool(self.error <= self.tolerance)  # NaN is not ok


class Rows(list):
    """Collects rows; `group` heads those that follow."""

    group = ""

    def relative(self, name: str, ours, theirs, tolerance: float, atol: float = 0.0):
        """Largest difference, relative to the largest recorded magnitude."""
        ours, theirs = _pair(name, ours, theirs)
        scale = np.abs(theirs).max() if theirs.size else 0.0
        error = np.abs(ours - theirs).max() if theirs.size else 0.0
        self._add(name, error, scale, tolerance, atol)

    def elements(self, name: str, ours, theirs, rtol: float, atol: float):
        """Largest difference of an entry, relative to that entry (`rtol, atol`)."""
        ours, theirs = _pair(name, ours, theirs)
        allowed = rtol * np.abs(theirs) + atol
        error = (np.abs(ours - theirs) / allowed).max() * rtol if theirs.size else 0.0
        self.append(Row(self.group, name, float(error), rtol))

    def norm(self, name: str, ours, theirs, tolerance: float, atol: float):
        """Norm of the difference, relative to the recorded norm."""
        ours, theirs = _pair(name, ours, theirs)
        error, scale = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
        self._add(name, error, scale, tolerance, atol)

    def _add(self, name, error, scale, tolerance, atol):
        # What the absolute tolerance allows does not count as an error.
        error = max(0.0, float(error) - atol) if np.isfinite(error) else np.nan
        relative = error / float(scale) if scale else (np.inf if error else 0.0)
        relative = np.nan if np.isnan(error) else relative
        self.append(Row(self.group, name, relative, tolerance))


def _pair(name, ours, theirs):
    ours = np.asarray(ours, np.float64)
    theirs = np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise AssertionError(f"{name}: our shape {ours.shape}, recorded {theirs.shape}")
    return ours, theirs


def read_config(data) -> dict:
    """The JSON of a golden file, whichever way it is stored."""
    raw = data["config"]
    text = raw.tobytes().decode() if raw.dtype == np.uint8 else str(raw)
    return json.loads(text)


def below(data, prefix: str) -> dict:
    """Entries of a file whose names start with `prefix`, without it."""
    return {k[len(prefix) :]: data[k] for k in data.files if k.startswith(prefix)}


def load_weights(variables: dict, weights: dict):
    """Assigns recorded weights by path; every variable and weight must match."""
    if variables.keys() != weights.keys():
        missing = sorted(variables.keys() ^ weights.keys())
        raise AssertionError(f"Weights without counterpart: {missing}")
    for path, variable in variables.items():
        if tuple(variable.shape) != weights[path].shape:
            raise AssertionError(
                f"{path}: our shape {tuple(variable.shape)}, "
                f"recorded {weights[path].shape}"
            )
        variable.assign(weights[path])


def built(layer, weights: dict, *shape):
    """`layer` with recorded weights of its own name."""
    layer.build(*shape)
    load_weights({v.path: v for v in layer.variables}, weights)
    return layer


class Run:
    """Evaluates functions: compiled (`jit`: by XLA, as on JAX always) or eagerly."""

    def __init__(self, eager: bool = False, jit: bool = False):
        self.eager, self.jit = eager, jit

    def __call__(self, fn: Callable, variables=()):
        """`fn()` on the host; `variables` are the Keras variables it reads."""
        if self.eager:
            return engine.to_host(fn())
        compiled = engine.compile(
            lambda noise: fn(), lambda seed: {}, read=list(variables), jit=self.jit
        )
        return engine.to_host(compiled(engine.seed(0)))

    def grad(self, fn: Callable, *arrays, variables=()):
        """Gradients of the scalar `fn(*arrays)` with respect to every array."""
        inputs = [keras.Variable(a, dtype="float32") for a in arrays]

        def run():
            values = lambda: (fn(*[v.value for v in inputs]), {})
            return engine.value_and_grad(values, inputs)[1]

        return self(run, [*inputs, *variables])


def unequal(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of rows that differ, in the trace's type."""
    ours = np.asarray(ours).astype(theirs.dtype)
    if ours.shape != theirs.shape:
        return 1.0
    return float((ours != theirs).reshape(len(theirs), -1).any(1).mean())
