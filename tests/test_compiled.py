"""Compiled programs are kept on disk."""

import os
import subprocess
import sys

import pytest

from dreamer_tf import compiled

TWICE = """
import sys
from dreamer_tf import compiled
compiled.keep()
import tensorflow as tf
print(tf.function(lambda x: tf.sin(x) @ x, jit_compile=True)(tf.ones((3, 3)))[0, 0])
"""


@pytest.fixture
def clean(monkeypatch):
    for name in ("TF_XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", compiled.WHERE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("clean")
def test_names_a_folder_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled.WHERE, str(tmp_path))
    compiled.keep()
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert folder.startswith(f"{tmp_path}/")
    assert os.environ["TF_XLA_FLAGS"].endswith(f"cache_directory={folder}")
    monkeypatch.setattr(compiled.platform, "python_version", lambda: "another")
    assert not folder.endswith(compiled._machine())


@pytest.mark.usefixtures("clean")
def test_what_the_user_says_counts(monkeypatch):
    monkeypatch.setenv(compiled.WHERE, "")
    compiled.keep()
    assert "TF_XLA_FLAGS" not in os.environ
    monkeypatch.setenv(compiled.WHERE, "/somewhere")
    mine = "--tf_xla_persistent_cache_directory=/mine"
    monkeypatch.setenv("TF_XLA_FLAGS", mine)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    compiled.keep()
    assert os.environ["TF_XLA_FLAGS"] == mine
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"


@pytest.mark.usefixtures("clean")
def test_the_second_start_finds_the_program(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv(compiled.WHERE, str(tmp_path))
    kept = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", TWICE], check=True, timeout=300)
        kept.append({p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.pb")})
    assert kept[0] and kept[0] == kept[1]
