"""Files and directories that are replaced as a whole."""

import errno
import io
import os
import zipfile

import numpy as np
import pytest

from dreamer_tf import files
from dreamer_tf.errors import UserError, system
from dreamer_tf.files import replacing

DEAD = 2**22 + 1  # more than the highest number of a process


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.gif"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    with (
        pytest.raises(UserError, match=r"a.gif cannot be written \(.*full"),
        replacing(path) as temporary,
    ):
        raise OSError(28, "The disk is full")
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    assert path.read_text() == "old"


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "out"
    for number in range(2):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / f"file{number}").write_text("")
    assert [p.name for p in path.iterdir()] == ["file1"]
    with (
        pytest.raises(UserError, match=r"--out=here cannot be written \(full\)"),
        replacing(path, "--out=here") as temporary,
    ):
        temporary.mkdir()
        (temporary / "half").write_text("")
        raise OSError(28, "full")
    assert [p.name for p in path.iterdir()] == ["file1"]
    assert [p.name for p in path.parent.iterdir()] == ["out"]


def test_a_directory_is_exchanged_in_one_step(tmp_path, monkeypatch):
    """There is no moment at which a kill leaves nothing at its path."""
    path, renamed = tmp_path / "out", []
    path.mkdir()
    rename = type(path).rename
    monkeypatch.setattr(
        type(path), "rename", lambda *names: renamed.append(names) or rename(*names)
    )
    with replacing(path) as temporary:
        temporary.mkdir()
    assert not renamed or files._renameat2() is None


@pytest.mark.parametrize("exchange", [True, False])
def test_a_killed_replacement_is_cleared(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    path = tmp_path / "out"
    for name in (f".out.{DEAD}.old", f".out.{DEAD}", f".out.{os.getppid()}", ".out.x"):
        (tmp_path / name).mkdir()
    (tmp_path / f".out.{DEAD}.old" / "earlier").write_text("")
    with pytest.raises(UserError, match="full"), replacing(path) as temporary:
        raise OSError(28, "full")
    assert [p.name for p in path.iterdir()] == ["earlier"]
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("")
    assert [p.name for p in path.iterdir()] == ["new"]
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"out", f".out.{os.getppid()}", ".out.x"}  # living, foreign


def test_temporary_files_of_the_dead_are_cleared(tmp_path):
    for name in (f".a.json.{DEAD}", f".a.json.{os.getppid()}", f".b.json.{DEAD}"):
        (tmp_path / name).write_text("")
    (tmp_path / f".a.json.{DEAD + 1}").mkdir()  # foreign
    files.clear_temporary(tmp_path, ["a.json"])
    assert {p.name for p in tmp_path.iterdir()} == {
        *(f".a.json.{os.getppid()}", f".b.json.{DEAD}", f".a.json.{DEAD + 1}")
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "deeper than 100"),
        ("[" * 101 + "]" * 101, "deeper than 100"),
        ('{"a":' * 200 + "1" + "}" * 200, "deeper than 100"),
        ("1" * 400, "an integer of 400 digits"),
        ("1" * 5000, "an integer of 5000 digits"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        (b"\xff\xfe{", "utf|decode"),
    ],
)
def test_hostile_json_is_a_value_error(text, message):
    with pytest.raises(ValueError, match=message):
        files.parse_json(text)


def test_json_that_we_write_is_read():
    assert files.parse_json(f"[{2**128}, -1, 0.5, null]") == [2**128, -1, 0.5, None]
    assert files.parse_json("[" * 90 + "]" * 90)


def hostile_npz():
    def npz(header):
        buffer, file = io.BytesIO(), io.BytesIO()
        np.lib.format.write_array_header_1_0(file, header)
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.npy", file.getvalue())
        return buffer.getvalue()

    yield b""
    yield b"PK\x03\x04" + bytes(50)
    yield b"\x80\x04K\x01."  # a pickle
    yield npz({"descr": "|O", "fortran_order": False, "shape": (1,)})
    yield npz({"descr": "<f4", "fortran_order": False, "shape": (10**14,)})
    yield npz({"descr": "<f4", "fortran_order": False, "shape": (3,)})  # cut


@pytest.mark.parametrize("data", list(hostile_npz()))
def test_hostile_npz_is_a_value_error(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError):
        files.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "h\nnew\n"), ("h\na\n", "h\na\nnew\n"), ("h\na,1", "h\na,1\nnew\n")],
)
def test_a_cut_line_is_ended_first(tmp_path, before, after):
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)
    files.append_lines(path, "new\n", "h\n")
    assert path.read_text() == after


def test_a_failed_replacement_leaves_no_temporary_file(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError):
        files.write_atomic(tmp_path / "a", b"new")
    assert not list(tmp_path.iterdir())


def test_errors_of_the_system_are_sentences():
    for number in (errno.ESTALE, errno.EMFILE, errno.EHOSTDOWN, errno.EPERM):
        error = OSError(number, os.strerror(number), "some/file")
        assert system(error) == f"some/file cannot be used ({os.strerror(number)})."
    assert system(OSError("only text")) == "only text."
