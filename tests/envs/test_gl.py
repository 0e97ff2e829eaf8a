"""The choice of the graphics backend."""

import os
import subprocess
import sys

import pytest

from dreamer_tf.envs import gl
from dreamer_tf.errors import UserError


@pytest.fixture(autouse=True)
def restore(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")  # so that its old value is put back
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(gl, "_switch_dm_control", lambda: None)


def fake(monkeypatch, works):
    tried = []

    def probe(name):
        tried.append(name)
        return "" if name in works else f"no lib{name}"

    monkeypatch.setattr(gl, "probe", probe)
    return tried


def test_the_first_that_works_is_taken_and_remembered(monkeypatch):
    tried = fake(monkeypatch, {"osmesa", "glfw"})
    name, sentence = gl.choose()
    assert (name, tried) == ("osmesa", ["egl", "osmesa"])
    assert "no libegl" in sentence
    assert os.environ["MUJOCO_GL"] == "osmesa"
    assert gl.choose()[0] == "osmesa"
    assert len(tried) == 2


def test_the_users_choice_is_honoured(monkeypatch):
    tried = fake(monkeypatch, set())
    monkeypatch.setenv("MUJOCO_GL", "GLFW")
    name, sentence = gl.choose()
    assert name == "glfw" and "as the environment says" in sentence
    assert not tried


def test_nothing_works(monkeypatch):
    fake(monkeypatch, set())
    with pytest.raises(UserError, match=r"no libosmesa.*libegl1.*libosmesa6"):
        gl.choose()
    assert "MUJOCO_GL" not in os.environ


def test_rendering_was_forbidden(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(UserError, match="MUJOCO_GL=disable forbids"):
        gl.choose()


def test_without_puts_the_variable_back(monkeypatch):
    with gl.without():
        assert os.environ["MUJOCO_GL"] == "disable"
    assert "MUJOCO_GL" not in os.environ
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(ValueError), gl.without():
        raise ValueError
    assert os.environ["MUJOCO_GL"] == "egl"


def test_a_probe_says_what_is_wrong():
    assert "nonsense" in gl.probe("nonsense")
    assert "within 0.01 seconds" in gl.probe("egl", timeout=0.01)


def test_a_process_chooses_for_itself():
    """The real thing: nothing set, a picture asked for."""
    script = (
        "import os; from dreamer_tf.envs import gl, make_env\n"
        "image = make_env('cartpole_balance', obs='image').reset(0)['image']\n"
        "assert image.std() > 0\n"
        "print(os.environ['MUJOCO_GL'])\n"
    )
    clean = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    clean["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run(
        [sys.executable, "-c", script], env=clean, capture_output=True, text=True
    )
    if result.returncode and "libosmesa6" in result.stderr:
        pytest.skip("this machine cannot render")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in gl.CANDIDATES
    # Silent: no warning about displays, no error at exit.
    assert "GLFW" not in result.stderr and "Traceback" not in result.stderr
