"""Compiled programs are kept on disk; a run never fails if they cannot be."""

import functools
import os
import resource
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from dreamer_tf import engine, programs

# Adds the sum of what it is given to a variable; prints its results and how often it
# was traced.
PROGRAM = """
import sys
import numpy as np
from dreamer_tf import programs
programs.keep()
import keras
from dreamer_tf import engine
total, traced = keras.Variable([1.0, 2.0]), []
def add(noise, x):
    traced.append(x)
    total.assign_add(keras.ops.sum(x["a"] @ x["b"]) * noise)
    return {"twice": 2 * total, "none": {}}, keras.ops.sum(total)
call = engine.compile(add, lambda *_: 1.0, [total], [total], name=sys.argv[1])
rows = {name: np.full((3, 3), 2, "f4") for name in "ab"}
for _ in range(2):
    (first, second) = engine.to_host(call(engine.seed(0), rows))
    print(sorted(first), first["twice"].tolist(), second, np.asarray(total).tolist())
print("traced", len(traced), file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("TF_XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", programs.WHERE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(programs.atexit, "register", lambda *_: None)
    monkeypatch.setattr(programs, "_folder", None)


def test_names_a_folder_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv(programs.WHERE, str(tmp_path))
    programs.keep()
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert folder.startswith(f"{tmp_path}/")
    assert os.environ["TF_XLA_FLAGS"].endswith(f'cache_directory="{folder}"')
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert not folder.endswith(programs._machine())


def test_what_the_user_says_counts(monkeypatch, tmp_path):
    monkeypatch.setenv(programs.WHERE, "")
    programs.keep()
    assert "TF_XLA_FLAGS" not in os.environ
    monkeypatch.setenv(programs.WHERE, str(tmp_path))
    mine = "--tf_xla_persistent_cache_directory=/mine"
    monkeypatch.setenv("TF_XLA_FLAGS", mine)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    programs.keep()
    assert os.environ["TF_XLA_FLAGS"] == mine
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"


def _a_file(root, monkeypatch):
    root.write_text("")


def _no_room(root, monkeypatch):
    monkeypatch.setattr(programs, "ROOM", 1e18)


def _only_small_files(root, monkeypatch):
    """As `ulimit -f` or a quota: a write stops short."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    restore = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
    monkeypatch.setattr(programs, "trim", lambda _: None)
    return restore


def _open_to_all(root, monkeypatch):
    root.mkdir()
    root.chmod(0o777)


def _open_to_a_group(root, monkeypatch):
    monkeypatch.setenv(programs.WHERE, str(root))
    programs.keep()
    (folder,) = root.iterdir()
    folder.chmod(0o770)
    monkeypatch.delenv("TF_XLA_FLAGS")


def _of_somebody_else(root, monkeypatch):
    root.mkdir()
    os.chown(root, 12345, 12345)


def _a_link(root, monkeypatch):
    (root / "elsewhere").mkdir(parents=True)
    (root / programs._machine()).symlink_to(root / "elsewhere")


TROUBLES = {
    _a_file: "Not a directory",
    _no_room: "GB are free",
    _only_small_files: "no file of 34 MB",
    _open_to_all: "others can write to",
    _open_to_a_group: "others can write to",
    _of_somebody_else: "belongs to another user",
    _a_link: "is no directory",
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda f: f.__name__[1:])
def test_goes_without_where_nothing_can_be_kept(trouble, monkeypatch, tmp_path, capsys):
    if trouble is _of_somebody_else and os.getuid():
        pytest.skip("only root can give a directory away")
    root = tmp_path / "root"
    restore = trouble(root, monkeypatch)
    monkeypatch.setenv(programs.WHERE, str(root))
    programs.keep()
    if restore:
        restore()
    assert "TF_XLA_FLAGS" not in os.environ and programs._folder is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and TROUBLES[trouble] in said
    assert f"Compiled programs are not kept: {programs.WHERE}={root}" in said


def test_folders_are_private_whatever_the_umask(monkeypatch, tmp_path):
    monkeypatch.setenv(programs.WHERE, str(tmp_path / "new" / "root"))
    umask = os.umask(0)
    try:
        programs.keep()
    finally:
        os.umask(umask)
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    modes = {oct(path.stat().st_mode & 0o777) for path in made if path.is_dir()}
    assert len(made) >= 3 and modes == {"0o700"}


def test_only_listed_programs_are_used(tmp_path):
    kept, cut, foreign, link = (tmp_path / f"{name}.pb" for name in "abcd")
    for path in (kept, cut):
        path.write_bytes(b"program")
    programs.check(tmp_path, new=True)
    cut.write_bytes(b"prog")
    foreign.write_bytes(b"program")
    link.symlink_to(kept)
    programs.check(tmp_path)
    assert kept.exists() and not (cut.exists() or foreign.exists())
    assert not link.is_symlink()
    kept.write_bytes(b"")  # a change is no new program
    programs.check(tmp_path, new=True)
    assert not kept.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a.pb": 1}', "[" * 100_000, None])
def test_without_a_list_nothing_is_trusted(text, tmp_path):
    (tmp_path / "a.pb").write_bytes(b"program")
    programs.check(tmp_path, new=True)
    if text is None:
        (tmp_path / programs.SUMS).unlink()
    else:
        (tmp_path / programs.SUMS).write_text(text)
    programs.check(tmp_path)
    assert not (tmp_path / "a.pb").exists()


def test_processors_have_folders_of_their_own(monkeypatch):
    arm = "processor: 0\nFeatures: fp asimd{}\nCPU part: {}\n\nprocessor: 1\n"
    names = set()
    for features, part in [("", "0xd0c"), (" sve", "0xd0c"), (" sve", "0xd40")]:
        text = arm.format(features, part)
        with monkeypatch.context() as patch:
            patch.setattr(programs, "PACKAGES", ())
            patch.setattr(programs.Path, "read_text", lambda _, text=text: text)
            names.add(programs._machine())
    assert len(names) == 3


def test_the_oldest_make_room(monkeypatch, tmp_path):
    program = "xla_compile_cache__{}__XLA_CPU_JIT.pb"
    names = [program.format("new"), "old.stablehlo", program.format("old"), "mine.pb"]
    paths = [tmp_path / "0123456789abcdef" / name for name in names]
    paths[0].parent.mkdir()
    for age, path in enumerate(paths):
        path.write_bytes(b"12345678")
        os.utime(path, (10_000 - age, 10_000 - age))
    programs.trim(tmp_path)
    assert all(path.exists() for path in paths)
    monkeypatch.setattr(programs, "LIMIT", 12)
    programs.trim(tmp_path)
    assert [path.exists() for path in paths] == [True, False, False, True]


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Runs PROGRAM under a name; returns what it prints, and whether it traced."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX traces at every start")
    monkeypatch.setenv(programs.WHERE, str(tmp_path / 'with "space" \\'))

    def run(name="add"):
        command = [sys.executable, "-c", PROGRAM, name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout, "traced 0" not in done.stderr

    return run


def kept(folder, pattern):
    return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def test_the_second_start_neither_traces_nor_compiles(start, tmp_path):
    printed, traced = start()
    assert traced and printed.splitlines() == [
        "['none', 'twice'] [218.0, 220.0] 219.0 [109.0, 110.0]",
        "['none', 'twice'] [434.0, 436.0] 435.0 [217.0, 218.0]",
    ]
    programs, descriptions = kept(tmp_path, "*.pb"), kept(tmp_path, "*.stablehlo")
    assert len(programs) == len(descriptions) == 1
    assert start() == (printed, False)
    assert kept(tmp_path, "*.pb") == programs
    assert kept(tmp_path, "*.stablehlo") == descriptions


@pytest.mark.parametrize(
    "pattern", ["*.pb", pytest.param("*.stablehlo", marks=pytest.mark.slow)]
)
def test_what_is_damaged_is_made_anew(pattern, start, tmp_path):
    printed, _ = start()
    before = kept(tmp_path, pattern)
    for path in before:
        path.write_bytes(path.read_bytes()[:500])  # TensorFlow alone would fail
    assert start() == (printed, pattern == "*.stablehlo")
    after = kept(tmp_path, pattern)
    assert after.keys() == before.keys() and after != before


def test_descriptions_are_found_by_name_and_code(monkeypatch, tmp_path):
    programs.write("before", {}, b"")  # no folder yet
    monkeypatch.setenv(programs.WHERE, str(tmp_path))
    programs.keep()
    programs.write("a", {"written": [1]}, b"body\nof\na")
    assert programs.read("a") == ({"written": [1]}, b"body\nof\na")
    assert programs.read("b") is None and programs.read("before") is None
    programs.write("", {}, b"no name")
    assert programs.read("") is None
    programs.write("c", {"written": [2]}, b"body of c")
    shutil.copy(programs._path("c"), programs._path("a"))
    assert programs.read("a") is None  # which is not that of c
    programs._path("c").write_bytes(b"[" * 100_000 + b"\nbody")
    assert programs.read("c") is None
    monkeypatch.setattr(programs, "_code", lambda _: b"other code")
    assert programs.read("a") is None


def test_all_code_counts_but_that_of_callers(tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return programs._code.__wrapped__(tmp_path)

    first = write("v1.py", "one")
    second = write("nets/layers.py", "one")
    third = write("nets/layers.py", "two")
    assert len({first, second, third}) == 3
    assert write("training/logs.py", "one") == third
    assert write("tools/doctor.py", "one") == third


def test_what_has_no_name_is_not_kept(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX keeps no descriptions")
    said = []
    monkeypatch.setattr(programs, "write", lambda text, *_: said.append(text))
    for name in ("", "twice"):
        step = engine.compile_policy(lambda _, obs, s: (obs, 2 * s), [], name=name)
        action, state = step(
            engine.seed(0), np.eye(3, 2, dtype="f4"), np.ones((3, 1), "f4")
        )
        assert action.tolist() == np.eye(3, 2).tolist()
        assert state.tolist() == [[2], [2], [2]]
    call = engine.compile(lambda noise, x: noise * x, lambda *_: 2.0, [])
    assert engine.to_host(call(engine.seed(0), np.float32(3))) == 6
    assert len(said) == 1 and said[0].startswith("twice")


def test_descriptions_do_without_a_disk(monkeypatch, tmp_path):
    monkeypatch.setenv(programs.WHERE, str(tmp_path / "folder"))
    programs.keep()
    shutil.rmtree(tmp_path / "folder")
    programs.write("a", {}, b"body")
    assert programs.read("a") is None
