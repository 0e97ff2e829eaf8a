"""The checks of the installation, with bad installations."""

import errno
import os
import sys
from pathlib import Path

import pytest

import run
from dreamer_tf.envs import dmc, gl
from dreamer_tf.tools import doctor
from dreamer_tf.tools import doctor_checks as checks
from dreamer_tf.tools import doctor_facts as facts
from dreamer_tf.tools.doctor_checks import OK, PROBLEM, WARNING

PINS = facts.read_pins(facts.ROOT / "requirements.txt", "tensorflow")
JAX = facts.read_pins(facts.ROOT / "requirements-jax.txt", "jax")
GOOD = dict(PINS.versions)  # an installation as pinned
GOOD_JAX = dict(JAX.versions)


def without(versions, *names):
    return {name: v for name, v in versions.items() if name not in names}


def only(findings, mark):
    return [finding for finding in findings if finding.mark == mark]


def test_pins():
    assert PINS.versions["tf-keras"] and PINS.spelled["tf-keras"] == "tf_keras"
    assert "pandas" in PINS.direct and "tzdata" in set(PINS.versions) - PINS.direct
    version = PINS.versions["tensorflow"]
    assert PINS.requirement("tensorflow", "and-cuda") == (
        f"tensorflow[and-cuda]=={version}"
    )


@pytest.mark.parametrize(
    ("version", "names"),
    [((3, 11), {"old"}), ((3, 12), {"old", "new"}), ((3, 13), {"new"})],
)
def test_pins_of_other_pythons(version, names, monkeypatch, tmp_path):
    monkeypatch.setattr(facts.sys, "version_info", (*version, 0))
    file = tmp_path / "requirements.txt"
    file.write_text(
        "old==1; python_version < \"3.13\"\nnew==1 ; python_version>='3.12'\n"
    )
    assert set(facts.read_pins(file, "tensorflow").versions) == names


@pytest.mark.parametrize(("kind", "pins"), [("tensorflow", PINS), ("jax", JAX)])
def test_its_own_tables_agree_with_the_pins(kind, pins):
    assert set(checks.STACK[kind]) | {checks.TFP[kind]} <= pins.direct
    for name, version in checks.SIMULATOR.items():
        assert pins.versions[name] == version
        assert f"{name.replace('-', '_')}=={version}" in dmc._VERSIONS


def test_installed():
    versions = facts.installed()
    assert versions["pytest"] == pytest.__version__ and "dm-control" in versions


def test_installed_survives_a_broken_installation(tmp_path, monkeypatch):
    (tmp_path / "~okens-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert "pytest" in facts.installed()


@pytest.mark.parametrize(
    ("version", "bare", "mark"),
    [
        ((3, 11, 7), False, OK),
        ((3, 11, 7), True, PROBLEM),
        ((3, 10, 2), False, PROBLEM),
        ((3, 12, 0), False, OK),
        ((3, 13, 1), False, OK),
        ((3, 14, 0), False, WARNING),
    ],
)
def test_python(version, bare, mark):
    found = checks.check_python(version, "bin/python", "jax", bare, "pip install all")
    assert found.mark == mark
    assert (mark == OK) != ("make env-jax" in found.advice)
    assert ("pip install all" in found.advice) == bare


@pytest.mark.parametrize(
    ("kind", "pins", "versions"),
    [("tensorflow", PINS, GOOD), ("jax", JAX, GOOD_JAX)],
)
def test_the_pinned_packages_are_right(kind, pins, versions):
    findings = checks.check_packages(versions, pins, kind)
    assert {finding.mark for finding in findings} == {OK}
    assert not any(finding.advice for finding in findings)


def test_builds_of_the_pinned_version_are_right():
    versions = {"tensorflow": f"{PINS.versions['tensorflow']}+cuda"}
    assert checks.check_package("tensorflow", versions, PINS).mark == OK


def test_missing_and_different_packages():
    versions = GOOD | {"keras": "3.14.0", "pandas": "2.3.3", "tzdata": "2020.1"}
    versions = without(versions, "numpy", "tabulate", "six")
    findings = checks.check_packages(versions, PINS, "tensorflow")
    numpy, tabulate = only(findings, PROBLEM)
    assert numpy.advice.endswith(
        f"-m pip install --no-deps numpy=={PINS.versions['numpy']}"
    )
    assert tabulate.name == "missing packages" and tabulate.found == "tabulate"
    assert tabulate.advice.endswith(f"--no-deps tabulate=={PINS.versions['tabulate']}")
    keras, rest = only(findings, WARNING)
    assert keras.found.startswith("3.14.0; ") and "keras==" in keras.advice
    for part in ("pandas 2.3.3 (", "tzdata 2020.1 (", "six is missing"):
        assert part in rest.found
    assert "pandas==" in rest.advice and "six==" in rest.advice


def test_many_packages_are_installed_from_the_file():
    few = without(GOOD, *list(PINS.direct - {"tensorflow", "keras"}))
    missing = checks.check_others(few, PINS, shown=())[0]
    assert missing.advice.endswith("--no-deps -r requirements.txt")
    assert "rich" in missing.found


def requires(_):
    """As the metadata of an installed package has them."""
    extras = 'jax<0.12; extra == "jax"', 'nvidia; extra == "gpu-jax"'
    old = 'dm_control<1.1; python_version < "3.13"'
    return ["keras<3.16,>=3.15", "mujoco<4", "tfp-nightly>=0.26.0.dev1", old, *extras]


@pytest.mark.parametrize(("kind", "more"), [("tensorflow", set()), ("jax", {"jax"})])
def test_packages_of_an_installation_by_pip(kind, more, tmp_path, monkeypatch):
    monkeypatch.setattr(facts.importlib.metadata, "requires", requires)
    monkeypatch.setattr(facts.sys, "version_info", (3, 12, 1))
    pins = facts.read_pins(tmp_path / "requirements.txt", kind)
    needed = {"keras", "mujoco", "tfp-nightly", "dm-control", *more}
    assert pins.path is None and pins.direct == needed == set(pins.versions)
    versions = without(GOOD | GOOD_JAX, "tensorflow-probability") | {"keras": "3.99"}
    findings = checks.check_packages(versions, pins, kind)
    assert {finding.mark for finding in findings} == {OK}
    findings = checks.check_packages(without(versions, "mujoco"), pins, kind)
    assert only(findings, PROBLEM)[0].advice.endswith("-m pip install mujoco")


def test_packages_where_nothing_says_what_is_needed(tmp_path, monkeypatch):
    def none(name):
        raise facts.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(facts.importlib.metadata, "requires", none)
    pins = facts.read_pins(tmp_path / "requirements.txt", "tensorflow")
    findings = checks.check_packages({}, pins, "tensorflow")
    assert len(only(findings, PROBLEM)) == len(findings) == 7


@pytest.mark.parametrize("mujoco", ["4.0.0", "5.1", "10.0.0.dev3"])
def test_mujoco_4(mujoco):
    versions = {"dm-control": "1.0.50", "mujoco": mujoco, "mujoco-core": mujoco}
    (found,) = checks.check_simulator(versions, PINS)
    assert found.mark == PROBLEM and f"mujoco {mujoco}" in found.found
    assert "pip uninstall -y mujoco mujoco-core && " in found.advice
    assert found.advice.endswith(
        "pip install --no-deps dm_control==1.0.50 mujoco==3.17.0"
    )


def test_remains_of_mujoco_4():
    found = checks.check_simulator(GOOD | {"mujoco-core": "4.0.0"}, PINS)
    assert [finding.mark for finding in found] == [OK, WARNING]
    assert "uninstall -y mujoco mujoco-core && " in found[1].advice
    assert "mujoco==3.17.0" in found[1].advice


def test_other_simulators():
    versions = {"dm-control": "1.0.50", "mujoco": "3.18.0"}
    assert [f.mark for f in checks.check_simulator(versions, PINS)] == [OK, WARNING]
    found = checks.check_simulator({"mujoco": "4.0.0"}, PINS)
    assert found[0].mark == PROBLEM and "dm_control==1.0.50" in found[0].advice


@pytest.mark.parametrize(
    ("kind", "packages", "mark", "part"),
    [
        ("tensorflow", {"tensorflow-probability": "0.25.0"}, OK, "0.25.0"),
        ("tensorflow", {"tensorflow-probability": "0.23.0"}, PROBLEM, "Keras 3"),
        ("tensorflow", {"tensorflow-probability": "0.24.0"}, WARNING, "0.25.0"),
        ("tensorflow", {"tfp-nightly": "0.26.0.dev1"}, WARNING, "not tested with"),
        ("tensorflow", {}, PROBLEM, "missing"),
        ("jax", {"tensorflow-probability": "0.25.0"}, PROBLEM, "next to jax 0.10.2"),
        ("jax", {"tensorflow-probability": "0.26.0"}, WARNING, "not tested with"),
        ("jax", {}, PROBLEM, "missing"),
    ],
)
def test_probability(kind, packages, mark, part):
    pins = PINS if kind == "tensorflow" else JAX
    versions = {"tf-keras": "2.21.0", "jax": "0.10.2", **packages}
    found = checks.check_probability(versions, pins, kind)
    assert found.mark == mark and part in found.found
    wanted = "tensorflow-probability" if kind == "tensorflow" else "tfp-nightly"
    if mark != OK:
        assert f"pip install --no-deps {pins.requirement(wanted)}" in found.advice
    if packages and wanted not in packages:
        assert f"pip uninstall -y {next(iter(packages))} && " in found.advice


def test_two_builds_of_probability():
    versions = GOOD | {"tfp-nightly": "0.26.0.dev1"}
    found = checks.check_probability(versions, PINS, "tensorflow")
    assert found.mark == PROBLEM
    assert "uninstall -y tensorflow-probability tfp-nightly && " in found.advice
    assert found.advice.endswith(PINS.requirement("tensorflow-probability"))


def test_probability_needs_tf_keras():
    found = checks.check_probability(without(GOOD, "tf-keras"), PINS, "tensorflow")
    assert found.mark == PROBLEM
    assert found.advice.endswith(f"--no-deps {PINS.requirement('tf-keras')}")


@pytest.mark.parametrize(
    ("environ", "settings", "expected"),
    [
        ({}, {}, ("tensorflow", "default")),
        ({"KERAS_BACKEND": ""}, {}, ("tensorflow", "default")),
        ({"KERAS_BACKEND": "jax"}, {"backend": "torch"}, ("jax", "KERAS_BACKEND")),
        ({}, {"backend": "torch"}, ("torch", "keras.json")),
    ],
)
def test_choice_of_the_backend(environ, settings, expected):
    assert facts.choose_backend(environ, settings) == expected


def test_settings_of_keras(tmp_path):
    environ = {"KERAS_HOME": str(tmp_path)}
    assert facts.keras_settings(environ) == {}
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert facts.keras_settings(environ) == {"backend": "jax"}
    (tmp_path / "keras.json").write_text("{")
    assert facts.keras_settings(environ) == {}


@pytest.mark.parametrize(
    ("name", "versions", "answer", "part", "advice"),
    [
        ("torch", GOOD, {}, "must be tensorflow or", "export KERAS_BACKEND=tensorflow"),
        ("jax", GOOD, {}, "but tensorflow is", "export KERAS_BACKEND=tensorflow"),
        ("jax", GOOD, {}, "but tensorflow is", "make env-jax"),
        ("tensorflow", GOOD_JAX, {}, "but jax is", "export KERAS_BACKEND=jax"),
        ("tensorflow", {"keras": "3"}, {}, "it is missing", "advice"),
        ("tensorflow", GOOD, {"error": "ImportError: x"}, "ImportError: x", "advice"),
    ],
)
def test_bad_backends(name, versions, answer, part, advice):
    found = checks.check_backend(name, "KERAS_BACKEND", versions, answer, "advice")
    assert found.mark == PROBLEM and part in found.found and advice in found.advice


def test_good_backend():
    answer = {"gpus": [], "seconds": 1.0}
    found = checks.check_backend("jax", "KERAS_BACKEND", GOOD_JAX, answer, "advice")
    assert found.mark == OK and not found.advice


def gpu(name="tensorflow", seen=(), here=("NVIDIA T4",), failure="", **options):
    versions = options.get("versions", GOOD if name == "tensorflow" else GOOD_JAX)
    environ = options.get("environ", {})
    return checks.check_gpu(name, seen, here, failure, versions, environ, PINS)


def test_gpu():
    assert gpu(here=[]) == checks.Finding(OK, "GPU", "no GPU: CPU only")
    assert gpu(seen=["NVIDIA T4"]) == checks.Finding(OK, "GPU", "NVIDIA T4")
    assert gpu(seen=None).mark == WARNING


def test_gpu_that_the_backend_does_not_see():
    found = gpu()
    assert found.mark == WARNING and found.found.startswith("NVIDIA T4, but tensorflow")
    version = PINS.versions["tensorflow"]
    assert f"pip install 'tensorflow[and-cuda]=={version}'" in found.advice
    assert (
        "pip install 'jax[cuda13]==0.9.1'"
        in gpu("jax", versions={"jax": "0.9.1"}).advice
    )
    with_cuda = gpu(versions=GOOD | {"nvidia-cudnn-cu12": "9.3"})
    assert with_cuda.mark == WARNING and "must be 525 or newer" in with_cuda.advice
    for cuda, driver in (("12", 525), ("13", 580)):
        plugin = f"jax-cuda{cuda}-plugin"
        with_cuda = gpu("jax", versions=GOOD_JAX | {plugin: "0.10.2"})
        assert with_cuda.found.endswith(f"{plugin} is installed")
        assert f"must be {driver} or newer" in with_cuda.advice
    hidden = gpu(environ={"CUDA_VISIBLE_DEVICES": "-1"})
    assert hidden.mark == WARNING and hidden.advice == "unset CUDA_VISIBLE_DEVICES"
    environ = {"JAX_PLATFORMS": "cpu"}
    assert gpu("jax", environ=environ).advice == "unset JAX_PLATFORMS"
    assert "pip install" in gpu(environ=environ).advice
    broken = gpu(here=[], failure="couldn't communicate with the NVIDIA driver")
    assert broken.mark == WARNING and "couldn't communicate" in broken.found


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo NVIDIA T4; echo NVIDIA L4", (["NVIDIA T4", "NVIDIA L4"], "")),
        ("echo no driver >&2; exit 9", ([], "no driver")),
    ],
)
@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="has a real one")
def test_nvidia_smi(script, expected, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert facts.nvidia() == expected


def opengl(works=("egl",), dm_control=True, **environ):
    def probe(name):
        return "" if name in works else f"no {name} here"

    return checks.check_opengl(environ, dm_control, probe)


def test_opengl():
    assert opengl().mark == OK and "runs take egl" in opengl().found
    assert "egl and osmesa can draw, glfw not" in opengl(("egl", "osmesa")).found
    assert opengl(MUJOCO_GL="EGL").mark == OK
    nothing = opengl(())
    assert nothing.mark == WARNING and "no osmesa here" in nothing.found
    assert nothing.advice == gl._HELP and "apt-get install libegl1" in nothing.advice
    assert "--obs=proprio does not need it" in nothing.found


@pytest.mark.parametrize("chosen", ["osmesa", "off", "vulkan"])
def test_a_bad_choice_of_opengl(chosen):
    found = opengl(MUJOCO_GL=chosen)
    assert found.mark == WARNING and f"MUJOCO_GL={chosen}" in found.found
    assert found.advice == "unset MUJOCO_GL"


def test_opengl_is_not_blamed_for_dm_control():
    found = checks.check_opengl({}, False, lambda name: pytest.fail("was tried"))
    assert found.mark == WARNING and found.advice == checks.ABOVE


def test_tasks_that_fail():
    found = checks.check_task(checks.DMC_TASK, {"error": "UserError: no"}, "pip ...")
    assert found.mark == PROBLEM and found.advice == "pip ..."
    assert "UserError: no" in found.found


def test_cpu_and_memory():
    assert checks.check_cpu(2, 16, None) == checks.Finding(OK, "CPU", "2 cores of 16")
    assert checks.check_cpu(2, 2, 2.0).mark == OK
    share = checks.check_cpu(64, 64, 1.5)
    assert share.mark == WARNING and "taskset -c 0-1 " in share.advice
    assert checks.check_memory((16 * 10**9, 8 * 10**9), None).mark == OK
    no_limit = 2**63
    assert checks.check_memory((16 * 10**9, 8 * 10**9), no_limit).mark == OK
    assert checks.check_memory((16 * 10**9, 10**9), None).mark == WARNING
    assert checks.check_memory((16 * 10**9, 8 * 10**9), 10**9).mark == WARNING
    unknown = checks.check_memory(None, 8 * 10**9)
    assert unknown.mark == WARNING and "without psutil" in unknown.found


def test_this_machine():
    usable, total = facts.cores()
    assert 1 <= usable <= total
    size, available = facts.main_memory()
    assert 0 < available < size


def test_memory_is_not_known_without_psutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert facts.main_memory() is None


def test_limits_of_containers(tmp_path):
    assert facts.limits(tmp_path) == (None, None)
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    (new / "cpu.max").write_text("150000 100000\n")
    (new / "memory.max").write_text("4000000000\n")
    assert facts.limits(new) == (1.5, 4_000_000_000)
    (new / "cpu.max").write_text("max 100000\n")
    (new / "memory.max").write_text("max\n")
    assert facts.limits(new) == (None, None)
    (old / "cpu").mkdir(parents=True)
    (old / "memory").mkdir()
    (old / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (old / "memory" / "memory.limit_in_bytes").write_text("4000000000\n")
    assert facts.limits(old) == (None, 4_000_000_000)


def test_disk(tmp_path):
    path = tmp_path / "not" / "yet"
    found = checks.check_disk(str(path), free=lambda path: 10**12)
    assert found.mark == OK and f"(in {tmp_path})" in found.found
    assert not list(tmp_path.iterdir())  # nothing is left behind
    full = checks.check_disk(str(path), free=lambda path: 10**9)
    assert full.mark == WARNING and "--disk_gb=0.8" in full.advice
    (tmp_path / "not").write_text("")
    for blocked in (path, path.parent):
        found = checks.check_disk(str(blocked))
        assert found.mark == PROBLEM and "is a file" in found.found


def test_disk_without_locks(tmp_path):
    def lock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    found = checks.check_disk(str(tmp_path), lock=lock)
    assert found.mark == PROBLEM and "No locks available" in found.found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_disk_that_cannot_be_written():
    assert checks.check_disk("/proc/run").mark == PROBLEM


def test_a_check_that_raises_is_a_problem():
    def check(number):
        raise ZeroDivisionError(f"{number} by 0")

    (found,) = doctor.safely("thing", check, 3)
    assert found.mark == PROBLEM and found.name == "thing"
    assert "ZeroDivisionError: 3 by 0" in found.found


@pytest.mark.parametrize("task", [checks.DMC_TASK, checks.GYM_TASK])
def test_tasks_for_real(task):
    found = checks.check_task(task, doctor.ask("try_task", task), "")
    assert found.mark == OK, found


def test_processes_that_fail():
    error = doctor.ask("try_task", "gym_CartPoll-v1")["error"]
    assert error.startswith("UserError: ") and "\n" not in error
    assert doctor.ask("try_task", checks.DMC_TASK, timeout=0.01) == {
        "error": "no answer within 0.01 seconds"
    }


def test_processes_that_crash(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    error = doctor.ask("try_task", checks.DMC_TASK)["error"]
    assert error.startswith("killed by SIGABRT (")


def test_rows():
    finding = checks.Finding(WARNING, "thing", "a b " * 20, "do --this   (or that)")
    lines = doctor.row(finding, 70).splitlines()
    assert lines[0].startswith("warning  thing    ") and len(lines) > 2
    column = lines[0].index("a b")
    assert {len(line) - len(line.lstrip()) for line in lines[1:]} == {column}
    assert max(map(len, lines)) <= 70
    assert lines[-1].strip() == "-> do --this   (or that)"


@pytest.fixture
def fake_world(monkeypatch):
    """Fakes the slow facts; returns the packages and the answers, to be changed."""
    versions = dict(GOOD)
    works = {"try_backend": {"gpus": [], "seconds": 1.0}, "try_task": {"seconds": 1.0}}
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(facts, "keras_settings", lambda environ: {})
    monkeypatch.setattr(facts, "installed", lambda: versions)
    monkeypatch.setattr(facts, "nvidia", lambda: ([], ""))
    monkeypatch.setattr(facts, "main_memory", lambda: (10**10, 10**10))
    monkeypatch.setattr(facts, "limits", lambda: (None, None))
    monkeypatch.setattr(checks, "LEAST_DISK", 0)
    monkeypatch.setattr(doctor, "ask", lambda name, *arguments: works[name])
    monkeypatch.setattr(gl, "probe", lambda name: "")
    return versions, works


def test_the_command(fake_world, capsys, tmp_path):
    assert run.main(["doctor", f"--logdir={tmp_path / 'logs'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", " " * 33)) for line in lines[:-1])
    rows = sum(line.startswith("ok ") for line in lines[:-1])
    assert lines[-1] == f"{rows} ok, 0 warnings, 0 problems"
    for name in ("Python", "tensorflow", "backend", "GPU", "OpenGL", "CPU", "memory"):
        assert any(line.split()[1] == name for line in lines[:-1]), name
    assert not (tmp_path / "logs").exists()


def test_the_command_with_problems(fake_world, capsys, tmp_path):
    versions, works = fake_world
    versions["mujoco"] = "4.0.0"
    works["try_task"] = {"error": "UserError: it cannot be loaded"}
    assert run.main(["doctor", f"--logdir={tmp_path}"]) == 1
    out = capsys.readouterr().out
    assert "pip install --no-deps dm_control==1.0.50 mujoco==3.17.0" in out
    assert out.splitlines()[-1].endswith("1 warning, 3 problems")
    versions.clear()  # a Python without anything
    assert run.main(["doctor", f"--logdir={tmp_path}"]) == 1
    out = capsys.readouterr().out
    assert "make env" in out and out.splitlines()[-1].endswith("1 problem")


def test_a_broken_check_is_a_row(fake_world, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "nvidia", lambda: 1 / 0)
    assert run.main(["doctor", f"--logdir={tmp_path}"]) == 1
    out = capsys.readouterr().out
    assert "problem  GPU" in out and "ZeroDivisionError" in out and "memory" in out


def test_help_and_mistakes(capsys):
    assert run.main(["doctor", "--help"]) == 0
    assert "--logdir" in capsys.readouterr().out
    assert run.main(["doctor", "--logdri=x"]) == 2
    assert "Did you mean: logdir" in capsys.readouterr().err


def test_it_imports_the_standard_library_only():
    code = "import sys; before = set(sys.modules); import dreamer_tf.tools.doctor\n"
    code += "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
    code += "print(*(names - set(sys.stdlib_module_names)))"
    command = [sys.executable, "-c", code]
    result = doctor.subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["dreamer_tf"]


@pytest.mark.slow
def test_the_backend_for_real():
    name, source = facts.choose_backend(os.environ, facts.keras_settings(os.environ))
    answer = doctor.ask("try_backend")
    found = checks.check_backend(name, source, facts.installed(), answer, "")
    assert found.mark == OK and isinstance(answer["gpus"], list), found
