"""The commands of run.py, which `pip install .` installs as `dreamer-tf`."""

import os
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from absl import app, flags, logging

from dreamer_tf import output, programs
from dreamer_tf.configs import fields, presets
from dreamer_tf.configs.ranges import Count, CountOrZero, Folder
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import Interrupted, UserError, system
from dreamer_tf.training import logdir, signals

# dm_control logs which graphics libraries it tries.
logging.set_verbosity(logging.WARNING)
# TensorFlow and JAX would take nearly all of a GPU's memory at once; so they take it as
# it is needed, and several runs can share a GPU. They read this when first used.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
programs.keep()

RUN = "the run"  # heading in the help
HELP = """One run of DreamerV1, V2 or V3.

    {run} train --version=v3 --benchmark=dmc_proprio --task=walker_walk \\
        --logdir=logs/walker_walk
    {run} evaluate --logdir=logs/walker_walk --episodes=10
    {run} video --logdir=logs/walker_walk
    {run} export --logdir=logs/walker_walk
    {run} doctor

The same train command continues a run that was interrupted. `--help` after a command
shows its settings, `--helpfull` those of the algorithm too.
"""

# Backends are imported inside the functions that need them: help and mistakes are
# answered at once.


@dataclass(frozen=True)
class Choice:
    """What chooses the presets of `train`, and so the defaults of its other flags."""

    version: str = RunConfig.version
    benchmark: str = RunConfig.benchmark
    protocol: str = ""  # the version's own
    task: str = ""  # the benchmark's own
    obs: str = ""  # the benchmark's own


def train(argv: Sequence[str]) -> None:
    """Trains an agent, or continues its training."""
    (choice,) = _parse(argv, {RUN: Choice()}, known_only=True)
    preset, agent = presets.load(**vars(choice))
    parsed = _parse(argv, {RUN: preset, f"Dreamer{preset.version.upper()}": agent})
    if not parsed:
        return
    run, agent = parsed
    run = presets.with_preset_arguments(run, preset)
    _need_logdir(run.logdir)
    from dreamer_tf.training.train import train as train_run

    train_run(run, agent, ["run.py", "train", *argv])


@dataclass(frozen=True)
class OfARun:
    """Flags of the commands that read the newest checkpoint of a run."""

    SENTENCE: ClassVar[str] = "flag --{name}={value}: it must be {range}."

    logdir: Folder = ""  # directory of the run

    def path(self) -> Path:
        """The directory; raises UserError if it holds no run."""
        _need_logdir(self.logdir)
        logdir.read(Path(self.logdir))
        return Path(self.logdir)


@dataclass(frozen=True)
class Evaluate(OfARun):
    """Plays episodes with the newest checkpoint of a run; adds them to scores.csv."""

    episodes: Count = 10  # how many
    seed: CountOrZero = 0  # chooses the episodes
    mode: Literal["eval", "train", "random"] = "eval"  # how the policy acts
    # longest episode in frames (default: as the run; episodes without an end are cut
    # after 100,000 decisions)
    length: Count | None = None

    def run(self) -> None:
        path = self.path()
        from dreamer_tf.training.evaluate import evaluate_run

        how = self.episodes, self.mode, self.seed, self.length
        episodes = evaluate_run(path, *how)
        output.say(f"{'episode':>8}{'score':>10}{'decisions':>11}")
        for row in episodes:
            output.say(f"{row.episode:>8}{row.score:>10.1f}{row.length:>11}")
        scores = [row.score for row in episodes]
        mean, std = statistics.fmean(scores), statistics.pstdev(scores)
        output.say(
            f"mean {mean:.1f}  std {std:.1f}  ({len(scores)} episodes, mode "
            f"{self.mode}, after {episodes[0].frames:,} frames)"
        )
        if logdir.is_weights_only(path):
            output.say(f"{path} holds weights only: these scores are written nowhere.")


@dataclass(frozen=True)
class Video(OfARun):
    """Films the newest checkpoint of a run: open-loop prediction, and the policy."""

    out: Folder = ""  # directory; LOGDIR/videos if empty
    episodes: Count = 1  # how many to play
    context: Count = 5  # decisions that the model sees
    horizon: Count = 45  # decisions that it then predicts
    # decisions per second (default: 10 predicted, 30 of the policy)
    fps: Count | None = None
    seed: CountOrZero = 0  # chooses the episodes
    # longest episode in frames (default: as the run; episodes without an end are cut
    # after 10,000 decisions)
    length: Count | None = None

    def run(self) -> None:
        path = self.path()
        from dreamer_tf.tools import video

        out = Path(self.out) if self.out else None
        numbers = (self.episodes, self.context, self.horizon, self.fps, self.seed)
        with output.Count() as count:
            files = video.film_run(path, out, *numbers, length=self.length, count=count)
        for file in files:
            output.say(str(file))


@dataclass(frozen=True)
class Export(OfARun):
    """Writes the policy of the newest checkpoint as a SavedModel of TensorFlow.

    With --weights_only, what load_agent and the other commands take instead of a run.
    """

    # directory; LOGDIR/export if empty, with --weights_only LOGDIR/weights
    out: Folder = ""
    mode: Literal["eval", "train"] = "eval"  # how the policy acts
    # instead, a directory with the weights and the settings alone: evaluate, video,
    # export, load_agent and examples/dream.py take it as they take a run
    weights_only: bool = False

    def run(self) -> None:
        path = self.path()
        from dreamer_tf.tools import export

        out = Path(self.out) if self.out else None
        files = (
            export.export_weights(path, out)
            if self.weights_only
            else export.export_run(path, out, self.mode)
        )
        for file in files:
            output.say(str(file))


@dataclass(frozen=True)
class Doctor:
    """Says what is wrong with this installation, and what to do about it."""

    logdir: Folder = "logs"  # directory of the runs, whose disk is checked

    def run(self) -> int:
        from dreamer_tf.tools import doctor

        return doctor.report(self.logdir)


# Besides `train`, whose flags depend on the presets.
COMMANDS: dict[str, type[Any]] = {
    "evaluate": Evaluate,
    "video": Video,
    "export": Export,
    "doctor": Doctor,
}


def main(argv: Sequence[str], run: str = "python run.py") -> int:
    """Runs a command line; returns the exit code.

    Args:
      argv: without the program's name.
      run: how the user calls the program, for help and messages.

    Returns:
      0; 1 if `doctor` found a problem; 2 for what the user can correct; 128 + the
      number of the signal that ended it, which is SIGPIPE if nobody reads the output.
    """
    with output.protected(), signals.raised():
        return _main(argv, run)


def _main(argv: Sequence[str], run: str) -> int:
    program = run.split()[-1]
    try:
        if not argv or argv[0] in ("-h", "--help", "--helpfull"):
            output.say(HELP.format(run=run))
            return 0
        name, *rest = argv
        names = ("train", *COMMANDS)
        if name not in names:
            raise UserError(
                f"The command is '{name}', but must be one of {', '.join(names)}: "
                f"{run} train --help"
            )
        if name != "doctor":  # which reports a wrong backend itself
            _check_backend()
        if name == "train":
            train(rest)
            return 0
        parsed = _parse(rest, {RUN: COMMANDS[name]()})
        return (parsed[0].run() or 0) if parsed else 0
    except (UserError, flags.Error) as error:
        output.warn(f"{program}: {error}")
        return 2
    except ModuleNotFoundError as error:
        output.warn(f"{program}: {error}: {run} doctor says what is missing.")
        return 2
    except OSError as error:
        output.warn(f"{program}: {system(error)}")
        return 2
    except Interrupted as stop:
        if stop.number != signal.SIGPIPE:
            output.warn(f"{program}: {stop}")
        return 128 + stop.number
    except output.Closed:
        return output.CLOSED
    except KeyboardInterrupt as stop:
        again = "continues" if argv[:1] == ["train"] else "begins again"
        output.warn(f"{program}: interrupted; the same command {again}.")
        return 128 + signals.number(stop)


def _parse(
    argv: Sequence[str], settings: Mapping[str, Any], known_only: bool = False
) -> list[Any]:
    """The settings as the flags change them; none if `argv` only asks for help.

    Args:
      settings: heading in the help -> settings that become flags.
      known_only: leave all other flags alone, and ignore a request for help.
    """
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "show the run's settings", values, RUN)
    flags.DEFINE_boolean("helpfull", False, "show all settings", values, RUN)
    for heading, config in settings.items():
        fields.define_flags(config, values, heading, argv)
    try:
        words = ["run.py", *argv]
        positional = fields.parse(values, words, known_only=known_only)[1:]
    except ValueError as error:  # such as --nohelp=yes
        raise UserError(f"{error}.") from error
    if not known_only:
        if values["helpfull"].value or values["help"].value:
            full = values["helpfull"].value
            output.say(values.get_help() if full else values.module_help(RUN))
            return []
        if positional:
            raise UserError(f"'{positional[0]}' is not a flag: write --name=value.")
    return [fields.from_flags(config, values) for config in settings.values()]


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


def start() -> None:
    """The program `dreamer-tf`."""
    run_program(lambda argv: main(argv, "dreamer-tf"))


def run_program(program: Callable[[Sequence[str]], int]) -> None:
    """Calls `program` with the command line (without its name) and exits with its code.

    Its flags are left to the commands, whose defaults depend on the presets.
    """

    def parse_nothing(argv: list[str]) -> list[str]:
        flags.FLAGS.mark_as_parsed()
        return argv

    app.run(lambda argv: program(argv[1:]), flags_parser=parse_nothing)
