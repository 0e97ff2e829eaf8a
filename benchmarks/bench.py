"""Measures speed and memory of the workloads; writes and compares CSV files.

    python -m benchmarks.bench
    python -m benchmarks.bench --workloads=v3-proprio-1m --threads=1 --parts=update
    python -m benchmarks.bench --compare=results/bench/a.csv,results/bench/b.csv

Every workload runs in a process of its own, and start-up in two further ones. Names
of columns end in their unit: s, ms, us, gb (10^9 bytes), per_s; a decision is one
action, held for two frames.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import app, flags

from benchmarks.workloads import WORKLOADS
from dreamer_tf import programs
from dreamer_tf.configs import fields as configs
from dreamer_tf.errors import UserError, reason
from dreamer_tf.programs import THREADS
from dreamer_tf.training import logdir

ROOT = Path(__file__).parent.parent

SETTINGS = ("workload", "backend", "precision", "threads")
# Part -> its columns. A column that needs another part's numbers is empty without it.
MEASUREMENTS = {
    "update": (
        "update_s",
        "update_cpu_s",
        "compile_s",  # first call
        "compile_cpu_s",
        "peak_gb",  # of the process, up to here
        "device_peak_gb",
        "frames_per_s",  # replayed steps
        "update_gflop",  # see flops.py
        "matmul_float32_gflop_per_s",  # of this machine
        "matmul_gflop_per_s",  # in the precision of the run
        "attainable_s",  # of an update at that rate
        "times_attainable",  # update_s / attainable_s
    ),
    "policy": ("policy_1_ms", "policy_1_cpu_ms", "policy_16_ms", "policy_16_cpu_ms"),
    "replay": (
        "add_us",  # one row
        "replay_batches_per_s",
        "replay_over_training",  # batches drawn over batches trained on, per second
    ),
    "env": ("env_decisions_per_s",),  # all environments of the run together
    "end_to_end": (
        "end_to_end_decisions_per_s",
        "updates_per_decision",
        "end_to_end_ratio",  # a decision's seconds over the sum of its parts
    ),
    # From the start of the process to the first update.
    "startup": ("startup_cold_s", "startup_warm_s"),
}
VALUES = [column for columns in MEASUREMENTS.values() for column in columns]
PROVENANCE = ("machine", "commit", "versions", "date")
COLUMNS = [*SETTINGS, *VALUES, *PROVENANCE]


# --- Processes ---------------------------------------------------------------


def run_child(
    workload: str,
    backend: str,
    precision: str,
    threads: int,
    parts: Sequence[str],
    repeats: int,
    cache: str = "",
) -> dict[str, Any]:
    """Runs `measure.py` in a process of its own and returns what it measured.

    Args:
      cache: directory of compiled programs; empty for none.

    Raises:
      UserError: it failed; the reason is in what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        task = {"workload": workload, "precision": precision, "threads": threads}
        task |= {"parts": list(parts), "repeats": repeats, "out": str(out)}
        command = [sys.executable, "-m", "benchmarks.measure", json.dumps(task)]
        environment = child_environment(backend, threads, cache)
        code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        if code or not out.exists():
            raise UserError(
                f"The process that measured {', '.join(parts)} of {workload} ended "
                f"with code {code}; what it printed stands above."
            )
        return json.loads(out.read_text())


def child_environment(backend: str, threads: int, cache: str) -> dict[str, str]:
    """Environment variables of a measuring process."""
    variables = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # So that compiling is timed and not the reading of a cache, unless that is asked.
    variables.pop("JAX_COMPILATION_CACHE_DIR", None)
    variables[programs.WHERE] = cache
    # XLA's pools follow the cores that the process may use, see `measure.main`.
    variables |= dict.fromkeys(THREADS, str(threads)) if threads else {}
    return variables


def startup(
    workload: str, backend: str, precision: str, threads: int
) -> dict[str, float]:
    """Seconds to the first update with an empty and with a filled cache."""
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in MEASUREMENTS["startup"]:
            began, part = time.time(), ["startup"]
            found = run_child(workload, backend, precision, threads, part, 1, cache)
            seconds[name] = found["first_update"] - began
    return seconds


def bench(
    workload: str,
    backend: str,
    precision: str,
    threads: int,
    parts: Sequence[str],
    repeats: int,
) -> dict[str, Any]:
    """One row of the file."""
    row: dict[str, Any] = {"workload": workload, "backend": backend}
    row |= {"precision": precision, "threads": threads}
    inside = [part for part in parts if part != "startup"]
    if inside:
        row |= run_child(workload, backend, precision, threads, inside, repeats)
    if "startup" in parts:
        row |= startup(workload, backend, precision, threads)
    return row | provenance(backend)


def provenance(backend: str) -> dict[str, str]:
    """Commit, versions and time."""
    commit = logdir.commit() or "unknown"
    changed = "+" if commit.endswith("-dirty") else ""
    versions = [f"python {platform.python_version()}"]
    for name in ("keras", backend, "tensorflow-probability", "tfp-nightly"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "commit": commit.removesuffix("-dirty")[:12] + changed,
        "versions": ", ".join(versions),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


# --- Tables ------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measurements as lines, workloads as columns; without what was not measured."""
    data = pd.DataFrame(rows).set_index("workload").reindex(columns=VALUES).T
    return _text(data.astype(float).dropna(how="all"))


def compare(first: Path, second: Path) -> pd.DataFrame:
    """Two files side by side: `A`, `B` and `A/B` by workload and measurement.

    Raises:
      UserError: a file cannot be read, or has no or another kind of columns.
    """
    sides = {"A": _read(first), "B": _read(second)}
    result = pd.DataFrame(sides).dropna(how="all")
    result["A/B"] = result.A / result.B
    order = {name: i for i, name in enumerate([*WORKLOADS, *VALUES])}
    return result.sort_index(key=lambda level: level.map(lambda x: order.get(x, -1)))


def _read(file: Path) -> pd.Series:
    try:
        data = pd.read_csv(file)
    except (OSError, ValueError) as error:  # pandas raises ValueErrors
        raise UserError(
            f"--compare names {file}, which cannot be read ({reason(error)})."
        ) from error
    if missing := [name for name in COLUMNS if name not in data.columns]:
        raise UserError(
            f"{file} is no file of this benchmark: it lacks the column '{missing[0]}'."
        )
    data = data.drop_duplicates("workload", keep="last").set_index("workload")
    try:
        return data[VALUES].astype(float).stack()
    except ValueError as error:
        raise UserError(
            f"{file} holds what is no number in a column of measurements ({error})."
        ) from error


def _text(data: pd.DataFrame) -> str:
    return data.to_string(float_format=lambda x: f"{x:.4g}", na_rep="-")


# --- Command line -------------------------------------------------------------


def define_flags() -> None:
    flags.DEFINE_list("workloads", list(WORKLOADS), "what to measure")
    flags.DEFINE_enum("backend", "tensorflow", ["tensorflow", "jax"], "of Keras")
    precisions = ["float32", "bfloat16"]
    flags.DEFINE_enum("precision", "float32", precisions, "of the computation")
    threads = "cores and threads that may be used; 0: as many as there are"
    configs.define_number("threads", 0, threads, 0)
    configs.define_number("repeats", 5, "timed updates; the median counts", 5)
    flags.DEFINE_list("parts", list(MEASUREMENTS), "which measurements")
    out = "CSV file; if empty, named by date and settings in results/bench"
    flags.DEFINE_string("out", "", out)
    flags.DEFINE_list("compare", [], "two CSV files A,B to compare; measures nothing")


def run_all(
    names: Sequence[str],
    backend: str,
    precision: str,
    threads: int,
    parts: Sequence[str],
    repeats: int,
    out: Path,
) -> int:
    """Measures, prints and writes one workload after the other; the exit code."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    failed = 0
    for name in names:
        print(f"{name}, {backend}, {precision} ...", flush=True)
        try:
            row = bench(name, backend, precision, threads, parts, repeats)
        except UserError as error:  # the other workloads may work
            print(f"benchmarks.bench: {error}", file=sys.stderr)
            failed += 1
            continue
        rows.append(row)
        pd.DataFrame(rows, columns=COLUMNS).to_csv(out, index=False)
        print(f"{table([row])}\n", flush=True)
    if len(rows) > 1:
        print(f"{table(rows)}\n")
    if rows:
        print(f"Table: {out}")
    return 1 if failed else 0


def main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise UserError(f"'{argv[1]}' is not a flag: write --name=value.")
        f = flags.FLAGS
        if f.compare:
            if len(f.compare) != 2:
                raise UserError(
                    f"--compare={','.join(f.compare)} names {len(f.compare)} files; "
                    "give two, as --compare=A.csv,B.csv."
                )
            first, second = map(Path, f.compare)
            result = _text(compare(first, second))
            print(f"A: {first}\nB: {second}\n\n{result}")
            return 0
        _check("--workloads", f.workloads, WORKLOADS)
        _check("--parts", f.parts, MEASUREMENTS)
        now = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
        name = f"{now}-{f.backend}-{f.precision}-threads{f.threads}.csv"
        out = Path(f.out) if f.out else ROOT / "results" / "bench" / name
        how = (f.backend, f.precision, f.threads, f.parts, f.repeats)
        return run_all(f.workloads, *how, out.absolute())
    except UserError as error:
        print(f"benchmarks.bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the workloads that are done are saved.", file=sys.stderr)
        return 130


def _check(flag: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    for name in names or [""]:
        if name not in known:
            raise UserError(f"{flag} names '{name}'; choose from {', '.join(known)}.")


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=configs.parser("benchmarks.bench"))
