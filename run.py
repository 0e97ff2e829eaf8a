"""One run of DreamerV1, V2 or V3.

    python run.py train --version=v3 --benchmark=dmc_proprio --task=walker_walk \
        --logdir=logs/walker_walk
    python run.py evaluate --logdir=logs/walker_walk --episodes=10
    python run.py video --logdir=logs/walker_walk
    python run.py export --logdir=logs/walker_walk
    python run.py doctor

The same train command continues a run that was interrupted. `--help` after a command
shows its settings, `--helpfull` those of the algorithm too.
"""

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from dreamer_tf import programs
from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import Interrupted, UserError
from dreamer_tf.training import logdir

# dm_control notes which graphics libraries it tries.
logging.set_verbosity(logging.WARNING)
# Of a GPU's memory TensorFlow and JAX would take nearly all at once: take it as it is
# needed, so that several runs can share a GPU. Read when they first use it.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
programs.keep()

RUN = "the run"  # heading in the help


def train(argv: Sequence[str]) -> None:
    """Trains an agent, or goes on with it."""
    from dreamer_tf.configs import presets

    # These four choose the presets, and so the defaults of all flags.
    first = _flags()
    choice = {"version": RunConfig.version, "benchmark": RunConfig.benchmark}
    choice |= {"protocol": "", "task": ""}  # the version's and the benchmark's own
    for name, value in choice.items():
        flags.DEFINE_string(name, value, "", first)
    _read(first, argv, known_only=True)
    run, agent = presets.load(*(str(first[name].value) for name in choice))
    parsed = _flags()
    configs.define_flags(run, parsed, RUN)
    configs.define_flags(agent, parsed, f"Dreamer{run.version.upper()}")
    if not _parse(parsed, argv):
        return
    run = configs.from_flags(run, parsed)
    agent = configs.from_flags(agent, parsed)
    _need_logdir(run.logdir)
    from dreamer_tf.training import loop

    loop.train(run, agent, ["run.py", "train", *argv])


def evaluate(argv: Sequence[str]) -> None:
    """Plays episodes with the newest checkpoint of a run; adds them to scores.csv."""
    parsed = _flags()
    define: dict[str, Any] = {"flag_values": parsed, "module_name": RUN}
    flags.DEFINE_string("logdir", "", "directory of the run", **define)
    configs.define_number("episodes", 10, "how many", lower_bound=1, **define)
    configs.define_number("seed", 0, "chooses the episodes", lower_bound=0, **define)
    modes = ["eval", "train", "random"]
    flags.DEFINE_enum("mode", "eval", modes, "how the policy acts", **define)
    if not _parse(parsed, argv):
        return
    _need_logdir(parsed.logdir)
    mode, path = parsed.mode, Path(parsed.logdir)
    logdir.read(path)  # before the seconds that the next import takes
    from dreamer_tf.training import loop

    episodes = loop.evaluate_run(path, parsed.episodes, mode, parsed.seed)
    print(f"{'episode':>8}{'score':>10}{'decisions':>11}")
    for row in episodes:
        print(f"{row.episode:>8}{row.score:>10.1f}{row.length:>11}")
    scores = [row.score for row in episodes]
    print(
        f"mean {statistics.fmean(scores):.1f}  std {statistics.pstdev(scores):.1f}  "
        f"({len(scores)} episodes, mode {mode}, after {episodes[0].frames:,} frames)"
    )


def video(argv: Sequence[str]) -> None:
    """Films the newest checkpoint of a run: open-loop prediction, and the policy."""
    parsed = _flags()
    define: dict[str, Any] = {"flag_values": parsed, "module_name": RUN}
    least: dict[str, Any] = {**define, "lower_bound": 1}
    flags.DEFINE_string("logdir", "", "directory of the run", **define)
    flags.DEFINE_string("out", "", "directory; LOGDIR/videos if empty", **define)
    configs.define_number("episodes", 1, "how many to play", **least)
    configs.define_number("context", 5, "decisions that the model sees", **least)
    configs.define_number("horizon", 45, "decisions that it then predicts", **least)
    fps = "decisions per second (default: 10 predicted, 30 of the policy)"
    configs.define_number("fps", None, fps, **least)
    configs.define_number("seed", 0, "chooses the episodes", lower_bound=0, **define)
    if not _parse(parsed, argv):
        return
    _need_logdir(parsed.logdir)
    path = Path(parsed.logdir)
    logdir.read(path)  # before the seconds that the next import takes
    from dreamer_tf.tools import video as films

    files = films.film_run(
        path,
        Path(parsed.out) if parsed.out else None,
        parsed.episodes,
        parsed.context,
        parsed.horizon,
        parsed.fps,
        parsed.seed,
    )
    for file in files:
        print(file)


def export(argv: Sequence[str]) -> None:
    """Writes the policy of the newest checkpoint as a SavedModel of TensorFlow."""
    parsed = _flags()
    define: dict[str, Any] = {"flag_values": parsed, "module_name": RUN}
    flags.DEFINE_string("logdir", "", "directory of the run", **define)
    flags.DEFINE_string("out", "", "directory; LOGDIR/export if empty", **define)
    modes = ["eval", "train"]
    flags.DEFINE_enum("mode", "eval", modes, "how the policy acts", **define)
    if not _parse(parsed, argv):
        return
    _need_logdir(parsed.logdir)
    path = Path(parsed.logdir)
    logdir.read(path)  # before the seconds that the next import takes
    from dreamer_tf.tools import export as exports

    out = Path(parsed.out) if parsed.out else None
    for file in exports.export_run(path, out, parsed.mode):
        print(file)


def doctor(argv: Sequence[str]) -> int:
    """Says what is wrong with this installation, and what to do about it."""
    parsed = _flags()
    where = "directory of the runs, whose disk is checked"
    flags.DEFINE_string("logdir", "logs", where, flag_values=parsed, module_name=RUN)
    if not _parse(parsed, argv):
        return 0
    from dreamer_tf.tools import doctor as checks

    return checks.report(parsed.logdir)


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "train": train,
    "evaluate": evaluate,
    "video": video,
    "export": export,
    "doctor": doctor,
}


def main(argv: Sequence[str]) -> int:
    """Runs a command line (without the program's name); returns the exit code."""
    try:
        if not argv or argv[0] in ("-h", "--help", "--helpfull"):
            print(__doc__)
            return 0
        if argv[0] not in COMMANDS:
            raise UserError(
                f"The command is '{argv[0]}', but must be one of "
                f"{', '.join(COMMANDS)}: python run.py train --help"
            )
        if argv[0] != "doctor":  # which says more
            _check_backend()
            import keras  # noqa: F401
        return COMMANDS[argv[0]](argv[1:]) or 0
    except (UserError, flags.Error) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        doctor = "python run.py doctor says what is missing"
        print(f"run.py: {error}: {doctor}.", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"run.py: {stop}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print("run.py: interrupted; the same command continues.", file=sys.stderr)
        return 130


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "show the run's settings", values, RUN)
    flags.DEFINE_boolean("helpfull", False, "show all settings", values, RUN)
    return values


def _parse(values: flags.FlagValues, argv: Sequence[str]) -> bool:
    """Parses; False when the command line only asked for help, which is printed."""
    positional = _read(values, argv)
    if values["helpfull"].value:
        print(values.get_help())
    elif values["help"].value:
        print(values.module_help(RUN))
    elif positional:
        raise UserError(f"'{positional[0]}' is not a flag: write --name=value.")
    return not (values["help"].value or values["helpfull"].value)


def _read(values: flags.FlagValues, argv: Sequence[str], **how: Any) -> list[str]:
    """Parses; the words that are no flags."""
    try:
        return values(["run.py", *argv], **how)[1:]
    except ValueError as error:  # such as --nohelp=yes
        raise UserError(f"{error}.") from error


def _check_backend() -> None:
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in ("tensorflow", "jax"):
        raise UserError(
            f"KERAS_BACKEND is '{name}'; it must be tensorflow (the default) or jax."
        )


def _need_logdir(path: str) -> None:
    if not path:
        raise UserError(
            "--logdir is needed, the directory of the run, such as --logdir=logs/first."
        )


def _parse_nothing(argv: list[str]) -> list[str]:
    """Leaves the flags to the commands, whose defaults depend on the presets."""
    flags.FLAGS.mark_as_parsed()
    return argv


if __name__ == "__main__":
    app.run(lambda argv: main(argv[1:]), flags_parser=_parse_nothing)
