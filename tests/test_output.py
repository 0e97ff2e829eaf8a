"""What is said goes anywhere, or nowhere; nothing ends because of it."""

import ast
import errno
import io
import os
import re
import sys
from pathlib import Path

import pytest

import run
from dreamer_tf import command as commands
from dreamer_tf import output
from dreamer_tf.configs import config_class, fields
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError
from dreamer_tf.tools import doctor
from dreamer_tf.tools.doctor_checks import OK, Finding
from reproductions import grid

PACKAGE = Path(run.__file__).parent / "dreamer_tf"


def ascii_stream():
    return io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)


def unread():
    """The end for writing of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


class Failing(io.StringIO):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1.0 ± 0.5", "1.0 ? 0.5"), ("→ a/\udce4", "? a/?"), ("plain", "plain")],
)
def test_a_character_that_cannot_be_shown(text, shown):
    inner = ascii_stream()
    stream = output.Stream(inner)
    assert stream.write(text) == len(text) and not stream.lost
    assert inner.buffer.getvalue().decode() == shown


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EBADF, errno.EPIPE])
def test_writes_never_raise(number):
    stream = output.Stream(Failing(number))
    print("said", file=stream, flush=True)
    assert stream.lost == os.strerror(number)
    assert stream.unread == (number == errno.EPIPE)
    stream.finish()


def test_a_stream_that_is_closed_or_missing():
    closed = io.StringIO()
    closed.close()
    stream = output.Stream(closed)
    print("said", file=stream, flush=True)
    assert "closed file" in stream.lost and not stream.isatty() and not stream.unread
    print("said", file=output.Stream(None), flush=True)


def test_a_full_disk_leaves_nothing_to_be_flushed_at_the_end():
    full = open("/dev/full", "w")  # noqa: SIM115
    stream = output.Stream(full)
    print("said", file=stream, flush=True)
    assert stream.lost == os.strerror(errno.ENOSPC)
    stream.finish()
    full.close()  # flushes; it would raise


def test_the_streams_are_put_back(monkeypatch):
    before = sys.stdout, sys.stderr
    with output.protected():
        assert isinstance(sys.stdout, output.Stream)
        assert isinstance(sys.stderr, output.Stream)
    assert before == (sys.stdout, sys.stderr)
    monkeypatch.setattr(sys, "stdout", unread())
    with pytest.raises(SystemExit) as info, output.protected():
        output.say("said")
    assert info.value.code == 141


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["--help"], ["train", "--help"], ["train", "--helpfull"]),
        *(["video", "--help"], ["doctor", "--logdir=logs"]),
    ],
)
def test_a_short_command_ends_quietly_when_nobody_reads(argv, monkeypatch, capsys):
    made = []

    def examine(logdir):
        for number in range(3):
            made.append(number)
            yield Finding(OK, str(number), "found")

    monkeypatch.setattr(doctor, "examine", examine)
    monkeypatch.setattr(sys, "stdout", unread())
    assert run.main(argv) == 141
    assert capsys.readouterr().err == "" and made in ([], [0])
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    assert run.main(argv) == 2
    sentence = "run.py: Standard output cannot be written (No space left on device).\n"
    assert capsys.readouterr().err == sentence


def test_a_grid_ends_quietly_when_nobody_reads(monkeypatch, capsys, tmp_path):
    for more in ("--help", "--dry_run"):
        monkeypatch.setattr(sys, "stdout", unread())
        argv = [f"--out={tmp_path}", "--versions=v1", "--tasks=walker_walk", more]
        assert grid.main("dmc_proprio", "", argv) == 141
        assert capsys.readouterr().err == ""


def test_a_mistake_whose_sentence_cannot_be_written(monkeypatch):
    for stream in (unread(), Failing(errno.ENOSPC), ascii_stream(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert run.main(["train", "--protocol=λ"]) == 2


# --- Names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "name", "meant"),
    [
        ("v3", "lr", ["opt.lr"]),
        ("v2", "lr", ["model_opt.lr", "actor_opt.lr", "critic_opt.lr"]),
        ("v1", "lr", ["model_lr", "value_lr", "actor_lr"]),
        ("v3", "dyn_deter", ["dyn.deter"]),
        ("v3", "deter", ["dyn.deter"]),
        ("v2", "kl-free", ["kl.free"]),
        ("v3", "batch-size", ["batch_size"]),
        ("v3", "batch_sise", ["batch_size"]),
        ("v3", "xyz", []),
    ],
)
def test_names_are_found_across_dots(version, name, meant, capsys):
    known = [name for name, *_ in fields.leaves(config_class(version)())]
    assert fields.similar(name, known) == meant
    argv = ["train", f"--version={version}", "--logdir=x", f"--{name}=1"]
    assert run.main(argv) == 2
    text = capsys.readouterr().err
    assert (
        all(other in text for other in meant) and "Did you mean" in text
    ) or not meant
    if meant:
        with pytest.raises(UserError, match=f"did you mean '{meant[0]}'"):
            fields.updated(config_class(version)(), {name: 1})


@pytest.mark.parametrize("command", ["evaluate", "video", "export"])
def test_a_tilde_is_the_home_directory(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run.main([command, "--logdir=~/mine"]) == 2
    assert f"--logdir={tmp_path}/mine holds no run" in capsys.readouterr().err
    assert not (tmp_path / "~").exists()


def test_a_tilde_in_the_flags_of_scripts(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = grid.define_flags("dmc_proprio")
    values(["script", "--out=~/grid"])
    assert values.out == f"{tmp_path}/grid"
    for command in (commands.Video, commands.Export):
        values = fields.flags.FlagValues()
        fields.define_flags(command(), values, "run")
        values(["script", "--out=~", "--logdir=~/a~b"])
        found = fields.from_flags(command(), values)
        assert (found.out, found.logdir) == (str(tmp_path), f"{tmp_path}/a~b")
    values = fields.flags.FlagValues()
    fields.define_flags(RunConfig(), values, "run")
    values(["script", "--logdir=~/x", "--task=~"])
    assert fields.from_flags(RunConfig(), values).logdir == f"{tmp_path}/x"
    assert values["task"].value == "~"


# --- Advice -----------------------------------------------------------------------


def flags_of(*configs):
    return {name for config in configs for name, *_ in fields.leaves(config)}


# What can print the messages of a file, if it is not `train` alone.
PRINTED_BY = {
    "training/evaluate.py": (flags_of(commands.Evaluate()), flags_of(RunConfig())),
    "training/load.py": (flags_of(commands.Evaluate()),),
    "training/checkpoint.py": (flags_of(commands.Evaluate()),),
    "tools/video.py": (flags_of(commands.Video()),),
    "tools/export.py": (flags_of(commands.Export()),),
}
TRAIN = flags_of(RunConfig(), *(config_class(v)() for v in ("v1", "v2", "v3")))
PRINTED_BY["command.py"] = (
    TRAIN | flags_of(commands.Evaluate()) | {"helpfull", "name"},
)
FOREIGN = {
    *("always", "dirty", "abbrev", "query-gpu", "format", "force-reinstall"),
    *("no-deps", "gpus", "no-cache-dir", "tf_xla_persistent_cache_directory", "help"),
}


def advice(path):
    """The flags that a file's texts name, other than its documentation."""
    tree = ast.parse(path.read_text())
    bare = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)]
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node not in bare
    ]
    found = re.findall(r"(?<![\w-])--([a-z][a-z_-]*(?:\.[a-z_]+)*)", "\n".join(texts))
    return set(found) - FOREIGN


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
)
def test_flags_in_messages_exist(name):
    for known in PRINTED_BY.get(name, (TRAIN,)):
        unknown = advice(PACKAGE / name) - known
        # `f"--loss_scales.{name}"` and the like.
        unknown = {u for u in unknown if not any(k.startswith(f"{u}.") for k in known)}
        assert not unknown


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_a_count_is_replaced_in_place(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    with output.Count(every=0.0) as count:
        count("picture 1 of 2")
        count("picture 2 of 2")
    written = sys.stderr.getvalue()
    assert written == "\rpicture 1 of 2\x1b[K\rpicture 2 of 2\x1b[K\r\x1b[K"


def test_a_count_keeps_quiet(monkeypatch):
    """Where nobody watches, and as long as the last text has not stood for a while."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with output.Count(every=0.0) as count:
        count("picture 1 of 2")
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", Screen())
    with output.Count(every=60.0) as count:
        count("picture 1 of 2")
        count("picture 2 of 2")
    assert "2 of 2" not in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", None)
    with output.Count() as count:
        count("picture 1 of 2")
