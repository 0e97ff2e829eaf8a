"""Versions x tasks x seeds as run directories: the command of a benchmark's script.

`dmc_vision.py` and `dmc_proprio.py` call `main` with their benchmark's name. Finished
cells are skipped, unfinished ones continued, crashed ones retried; at the end stands
the report of what is done.
"""

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from dreamer_tf import output
from dreamer_tf.configs import fields
from dreamer_tf.errors import UserError, sentence
from dreamer_tf.training import signals
from reproductions import collect, launch, plan, report, scores, tables, tasks
from reproductions.board import Board, failures
from reproductions.cells import DONE, Cell, make_cells
from reproductions.cluster import Cluster
from reproductions.protocols import PROTOCOLS

Tell = Callable[[Sequence[Cell], Path], str]


def main(
    benchmark: str, doc: str, argv: Sequence[str], tell: Tell | None = None
) -> int:
    """Does what a benchmark's script is told to do; returns the exit code.

    Args:
      doc: the script's docstring, for `--help`.
      argv: the command line without the script's name.
      tell: reports on finished runs, instead of the function of that name.
    """
    name = f"reproductions.{benchmark}"
    with output.protected(), signals.raised():
        try:
            return _main(benchmark, doc, argv, tell)
        except (UserError, OSError, flags.Error) as error:
            output.warn(f"{name}: {sentence(error)}")
            return launch.USER_ERROR
        except output.Closed:
            return output.CLOSED
        except KeyboardInterrupt as stop:
            again = shlex.join(["python", "-m", name, *argv])
            output.warn(f"Interrupted, all runs stopped; go on with: {again}")
            return 128 + signals.number(stop)


def _main(benchmark: str, doc: str, argv: Sequence[str], report: Tell | None) -> int:
    f = define_flags(benchmark)
    try:
        extra = fields.parse(f, [benchmark, *argv])[1:]
    except ValueError as error:  # such as --nodry_run=yes
        raise UserError(f"{error}.") from error
    if f.help:
        output.say(f"{doc}\n{f.module_help('the grid')}")
        return 0
    if extra:
        raise UserError(f"'{extra[0]}' is not a flag: write --name=value.")
    cells = make_cells(
        benchmark,
        f.versions,
        [] if f.tasks == ["all"] else f.tasks,
        parse_seeds(f.seeds),
        f.protocol,
        parse_steps(f.steps),
    )
    if not (f.tasks and cells):
        raise UserError("--versions and --tasks must each name at least one.")
    out = Path(f.out).absolute()
    early = plan.unscored(cells)
    if f.dry_run:
        output.say(plan.costs(cells, out) + (f"\n{early}" if early else ""))
        return 0
    launcher = make_launcher(f)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={f.out} cannot be written: {error.strerror}.") from None
    if early:
        output.warn(early)
    board = Board(f.retries)
    try:
        grid = launch.run(cells, out, launcher, f.retries, board.show)
    finally:
        board.close()
    finished = [cell for cell, status in grid.items() if status.state == DONE]
    failed = failures(grid, out)
    try:
        if finished:
            output.say("\n" + (report or tell)(finished, out))
    finally:
        if failed:
            output.warn(f"\n{failed}")
    return 1 if failed else 0


def define_flags(benchmark: str) -> flags.FlagValues:
    """The flags of a benchmark's script, not parsed yet."""
    f = flags.FlagValues()
    at: dict[str, Any] = {"flag_values": f, "module_name": "the grid"}
    flags.DEFINE_boolean("help", False, "show this text", **at)
    flags.DEFINE_list(
        "versions", tasks.versions_of(benchmark, True), "versions to run", **at
    )
    flags.DEFINE_list("tasks", ["all"], "names; all: all of the protocol", **at)
    flags.DEFINE_string("seeds", "5", "how many, or a list such as 0,3", **at)
    protocol = "for all versions; empty: each version's published protocol"
    flags.DEFINE_string("protocol", "", protocol, **at)
    flags.DEFINE_string("steps", "", "frames of a run; empty: the protocol's", **at)
    out = "directory of the grid; with ray: on storage that all machines share"
    fields.define_folder("out", f"logs/{benchmark}", out, **at)
    workers = "runs at a time; default: 1 if local, all that there is room for with ray"
    fields.define_number("workers", None, workers, lower_bound=1, **at)
    fields.define_number(
        "retries",
        2,
        "how often a run is started again after crashes",
        lower_bound=0,
        **at,
    )
    flags.DEFINE_boolean(
        "dry_run", False, "only list what would be run, and its costs", **at
    )
    flags.DEFINE_enum(
        "launcher", "local", ["local", "ray"], "where runs are started", **at
    )
    some: dict[str, Any] = {"kind": float, **at}
    fields.define_number("cpus", 1.0, "ray: CPUs of a run", lower_bound=0.01, **some)
    fields.define_number("gpus", 0.0, "ray: GPUs of a run", lower_bound=0.0, **some)
    address = "ray: HOST:PORT of the cluster, or auto; empty: one is started here"
    flags.DEFINE_string("ray_address", "", address, **at)
    return f


def parse_seeds(text: str) -> list[int]:
    """Seeds from a count (3: 0, 1, 2) or from a list, which has a comma (0,3 or 3,).

    Raises:
      UserError: neither of these.
    """
    try:
        values = [int(number) for number in text.split(",") if number]
    except ValueError:
        values = []
    if not values or min(values) < 0 or text == "0" or len({*values}) < len(values):
        raise UserError(
            f"--seeds={text} must be a count such as 5 or a list such as 0,3."
        )
    return values if "," in text else list(range(values[0]))


def parse_steps(text: str) -> int | None:
    """Frames in any notation of a whole number, such as 1e6; None if empty.

    Raises:
      UserError: not a whole number above 0.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 < value < 1e15 and value == int(value)):
        raise UserError(f"--steps={text} must be a whole number of frames above 0.")
    return int(value)


def make_launcher(f: flags.FlagValues) -> launch.Launcher:
    """What `--launcher` names; UserError for flags that it does not have."""
    if f.launcher == "ray":
        return Cluster(f.ray_address, f.cpus, f.gpus, f.retries, f.workers)
    for name in ("cpus", "gpus", "ray_address"):
        if f[name].present:
            raise UserError(f"--{name} is for --launcher=ray, which was not given.")
    return launch.Local(f.workers or 1)


def gather(cells: Iterable[Cell], out: Path) -> tuple[list[tables.Group], list[str]]:
    """Collects finished runs into OUT/runs.

    Returns:
      What to report, and a sentence for each run that was left out.
    """
    left_out = []
    for cell in cells:
        try:
            collect.collect([cell.path(out)], out / "runs")
        except UserError as error:  # such as a run with a larger budget, not ended
            left_out.append(str(error))
    points, manifests = scores.read_runs(out / "runs")
    return tables.make_groups(points, PROTOCOLS, manifests=manifests), left_out


def tell(cells: Iterable[Cell], out: Path) -> str:
    """Writes OUT/report about finished runs; returns the text to print."""
    groups, left_out = gather(cells, out)
    return "\n".join([*left_out, report.publish(groups, out / "report")])
