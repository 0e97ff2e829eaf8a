"""Compiled programs are kept on disk, and a run never fails for it."""

import os
import subprocess
import sys

import pytest

from dreamer_tf import compiled

PROGRAM = """
from dreamer_tf import compiled
compiled.keep()
import tensorflow as tf
product = tf.function(lambda x: tf.sin(x) @ x, jit_compile=True)
print(float(product(tf.ones((3, 3)))[0, 0]))
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("TF_XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", compiled.WHERE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(compiled.atexit, "register", lambda *_: None)


def test_names_a_folder_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled.WHERE, str(tmp_path))
    compiled.keep()
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert folder.startswith(f"{tmp_path}/")
    assert os.environ["TF_XLA_FLAGS"].endswith(f"cache_directory={folder}")
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert not folder.endswith(compiled._machine())


def test_what_the_user_says_counts(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled.WHERE, "")
    compiled.keep()
    assert "TF_XLA_FLAGS" not in os.environ
    monkeypatch.setenv(compiled.WHERE, str(tmp_path))
    mine = "--tf_xla_persistent_cache_directory=/mine"
    monkeypatch.setenv("TF_XLA_FLAGS", mine)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    compiled.keep()
    assert os.environ["TF_XLA_FLAGS"] == mine
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"


@pytest.mark.parametrize("trouble", ["no folder", "no room"])
def test_goes_without_where_nothing_can_be_kept(trouble, monkeypatch, tmp_path, capsys):
    if trouble == "no folder":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv(compiled.WHERE, str(tmp_path / "file"))
    else:
        monkeypatch.setenv(compiled.WHERE, str(tmp_path))
        monkeypatch.setattr(compiled, "ROOM", 1e18)
    compiled.keep()
    assert "TF_XLA_FLAGS" not in os.environ
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"Compiled programs are not kept: {compiled.WHERE}={tmp_path}" in said


def test_what_has_changed_is_removed(tmp_path):
    kept, cut = tmp_path / "a.pb", tmp_path / "b.pb"
    for path in (kept, cut):
        path.write_bytes(b"program")
    compiled.check(tmp_path)
    cut.write_bytes(b"prog")
    compiled.check(tmp_path)
    assert kept.exists() and not cut.exists()
    (tmp_path / compiled.SUMS).write_text("{")  # itself damaged
    compiled.check(tmp_path)
    kept.write_bytes(b"")
    compiled.check(tmp_path)
    assert not kept.exists()


def test_the_second_start_finds_the_program(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv(compiled.WHERE, str(tmp_path))

    def start():
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, run.stderr
        times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pb")}
        return run.stdout, times

    first = start()
    assert first[1] and start() == first
    for path in first[1]:
        path.write_bytes(path.read_bytes()[:500])  # TensorFlow alone would fail
    printed, times = start()
    assert printed == first[0] and times.keys() == first[1].keys() and times != first[1]
