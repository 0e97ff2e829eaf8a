"""The directory of a run: first starts, locks, moving, errors, what is compared."""

import errno
import fcntl
import io
import json
import os
import shutil

import numpy as np
import pytest

from dreamer_tf.errors import UserError
from dreamer_tf.training import checkpoint, logdir
from dreamer_tf.training.logs import Logs
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train as train_run
from tests import fakes
from tests.runs import everything, settings
from tests.test_files import DEAD


def train(path, make=fakes.make_components, **more):
    said = io.StringIO()
    run = settings(path, **more)
    config = fakes.Config(prefill=8, ratio=0.5)
    train_run(run, config, [], make, Terminal(run.steps, said))
    return said.getvalue()


def acting(act, at=20):
    """Makes components of which the policy calls `act` before a decision."""

    def make(run, config):
        components = fakes.make_components(run, config)
        policy = components.agent.policy

        def policy_after(*arguments):
            if components.agent.decisions == at:
                act()
            return policy(*arguments)

        components.agent.policy = policy_after
        return components

    return make


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "scores.csv"])
def test_a_first_start_that_was_killed(tmp_path, name):
    (tmp_path / "lock").write_text("7")
    for process in (DEAD, os.getppid()):
        (tmp_path / f".{name}.{process}").write_text("{")
    train(tmp_path, steps=4)
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert left == {f".{name}.{os.getppid()}"}  # of a process that lives


@pytest.mark.parametrize("name", [".config.json.x", ".other.7", "config.json.7"])
def test_other_names_are_foreign(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=f"holds {name} but no config.json"):
        train(tmp_path, steps=4)
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_directory_that_is_moved(tmp_path, again):
    train(tmp_path / "whole", eval_every=0)

    def move():
        (tmp_path / "a").rename(tmp_path / "b")
        if again:
            (tmp_path / "a").mkdir()

    with pytest.raises(UserError, match=rf"a was moved to {tmp_path}/b during the run"):
        train(tmp_path / "a", acting(move), eval_every=0)
    assert not again or not list((tmp_path / "a").iterdir())
    train(tmp_path / "b", eval_every=0)
    found, expected = everything(tmp_path / "b"), everything(tmp_path / "whole")
    np.testing.assert_equal(found, expected)


def test_a_directory_that_is_removed(tmp_path):
    with pytest.raises(UserError, match=r"was removed or replaced during the run"):
        train(tmp_path / "a", acting(lambda: shutil.rmtree(tmp_path / "a")))
    assert not (tmp_path / "a").exists()


def test_a_lock_that_is_removed(tmp_path):
    def replace():
        (tmp_path / "b" / "lock").unlink()
        (tmp_path / "b" / "lock").write_text("another process")

    def remove():
        (tmp_path / "a" / "lock").unlink(missing_ok=True)

    train(tmp_path / "a", acting(remove))
    with pytest.raises(UserError, match=r"b was removed or replaced"):
        train(tmp_path / "b", acting(replace))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks(tmp_path, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert "is on a disk without locks" in train(tmp_path, steps=4)
    assert logdir.holder(tmp_path) is None


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EPERM])
def test_locking_that_fails(tmp_path, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(UserError, match=rf"cannot be locked \({os.strerror(number)}"):
        train(tmp_path, steps=4)


ERRORS = "EPERM ESTALE ETIMEDOUT EMFILE ENOMEM EHOSTDOWN EIO EFBIG ENOSPC EROFS"


@pytest.mark.parametrize("name", [*ERRORS.split(), "ENAMETOOLONG", "ENFILE", "EDQUOT"])
def test_every_error_of_the_system_is_a_sentence(tmp_path, monkeypatch, name):
    number = getattr(errno, name)

    def fail(*arguments):
        raise OSError(number, os.strerror(number), str(tmp_path / "metrics.jsonl"))

    monkeypatch.setattr(Logs, "metrics", fail)
    with pytest.raises(UserError, match=os.strerror(number)) as caught:
        train(tmp_path, save_every=0.0)
    assert f"--logdir={tmp_path}" in str(caught.value)
    assert checkpoint.latest(tmp_path / "checkpoints")


def test_other_threads_and_processors_are_said(tmp_path, monkeypatch):
    train(tmp_path, steps=4)
    assert "Changed" not in train(tmp_path, steps=6)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    said = train(tmp_path, steps=8)
    assert "Changed since the last start: threads, from" in said
    assert "TF_NUM_INTRAOP_THREADS=1. The last digits of numbers may differ" in said
    config = json.loads((tmp_path / "config.json").read_text())
    config["starts"][-1]["processor"] = "another"
    del config["starts"][-1]["threads"]  # as a run from before they were noted
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = train(tmp_path, steps=10)
    assert "Changed since the last start: processor, from another to" in said
    assert "last start: threads" not in said


@pytest.mark.parametrize("text", ["[" * 100_000, '{"run": ' + "9" * 400 + "}", "\x00"])
def test_a_hostile_config_is_a_sentence(tmp_path, text):
    train(tmp_path, steps=0)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is damaged \("):
        logdir.read(tmp_path)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ("replay", {"chunk_rows": 0}),
        ("replay", {"spec": 3}),
        ("loop", {"updates": None}),
        ("loop", {"progress": {"frames": "many"}}),
        ("loop", {"logs": {"metrics.jsonl": {"bytes": -1}}}),
        ("schedule", {"done": []}),
        ("decision", {"unknown": 1}),
        ("decision", {"scores": [1.0]}),
        ("decision", {"lengths": {"__array__": "a0"}}),
    ],
)
def test_a_hostile_checkpoint_is_a_sentence(tmp_path, entry, change):
    train(tmp_path, steps=10)
    saved = checkpoint.latest(tmp_path / "checkpoints")
    file = saved / f"{entry}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    marker = json.loads((saved / checkpoint.MARKER).read_text())
    marker[file.name] = checkpoint.files.digest(file)
    (saved / checkpoint.MARKER).write_text(json.dumps(marker))
    with pytest.raises(UserError, match="is not of this version of dreamer_tf"):
        train(tmp_path, steps=20)
