"""Imports go downward only; settings, replay and records load no backend."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import dreamer_tf

ROOT = Path(__file__).parent.parent

# A module may import those of lower floors, and those of its own package.
FLOORS = (
    ("run",),
    ("dreamer_tf.command",),
    ("reproductions", "dreamer_tf.tools"),
    ("dreamer_tf.training",),
    ("dreamer_tf.pictures",),
    ("dreamer_tf.v1", "dreamer_tf.v2", "dreamer_tf.v3"),
    ("dreamer_tf.agent",),
    ("dreamer_tf.dreamer",),
    ("dreamer_tf.rssm",),
    ("dreamer_tf.nets",),
    ("dreamer_tf.distributions", "dreamer_tf.optimizers", "dreamer_tf.scales"),
    ("dreamer_tf.returns",),
    ("dreamer_tf.engine",),
    ("dreamer_tf.replay", "dreamer_tf.envs"),
    ("dreamer_tf.configs",),
    ("dreamer_tf.programs",),
    ("dreamer_tf.files", "dreamer_tf.output"),
    ("dreamer_tf.errors",),
)
BACKENDS = ("keras", "tensorflow", "jax", "torch")
WITHOUT_BACKEND = ("configs", "replay", "envs", "files.py", "errors.py", "programs.py")
WITHOUT_BACKEND += ("output.py",)
WITHOUT_BACKEND += tuple(
    f"training/{name}.py"
    for name in ("schedules", "logdir", "checkpoint", "logs", "signals")
)


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """The files of the project by the names of their modules."""
    folders = (ROOT / "dreamer_tf", ROOT / "reproductions")
    paths = [ROOT / "run.py", *(p for folder in folders for p in folder.rglob("*.py"))]
    found = {module_name(path): path for path in sorted(paths)}
    del found["dreamer_tf"]  # It imports by name, when asked for one of `_WHERE`.
    return found


def imports(name: str, known: dict[str, Path]) -> set[str]:
    """The project's modules that a module imports, anywhere in its text."""
    found = []
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            for alias in node.names:
                inner, outer = f"{node.module}.{alias.name}", node.module
                if outer == "dreamer_tf":
                    outer = dreamer_tf._WHERE.get(alias.name, outer)
                found.append(inner if inner in known else outer)
    return {x for x in found if x in known}


def place(name: str) -> tuple[int, str]:
    """The floor of a module and its package there (or the module itself)."""
    for number, rooms in enumerate(FLOORS):
        for room in rooms:
            if name == room or name.startswith(f"{room}."):
                return number, room
    raise AssertionError(f"{name} has no floor")


def test_imports_go_downward_without_circles():
    known = modules()
    graph = {name: imports(name, known) for name in known}
    wrong = []
    for name, targets in graph.items():
        floor, room = place(name)
        for target in sorted(targets):
            below, other = place(target)
            if below < floor or (below == floor and other != room):
                wrong.append(f"{name} -> {target}")
    assert not wrong, "\n".join(wrong)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_settings_replay_and_records_load_no_backend():
    paths = [ROOT / "dreamer_tf" / name for name in WITHOUT_BACKEND]
    files = [p for path in paths for p in (sorted(path.rglob("*.py")) or [path])]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [x for x in {BACKENDS} if x in sys.modules]\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    names = [module_name(path) for path in files]
    command = [sys.executable, "-c", code, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
