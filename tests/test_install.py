"""What `make` and `pip install .` install fits together, and make finds a Python."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BACKENDS = ("requirements.txt", "requirements-jax.txt", "requirements-jax-next.txt")


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and line[0] != "#"]
    return {canonicalize_name(r.name): r for r in found}


def version(pin: Requirement) -> str:
    return str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize("file", BACKENDS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_requirements_are_complete(file, python):
    """They are installed without dependencies, so they have to list them all."""
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    listed = {
        name: pin
        for name, pin in (pins(file) | pins("requirements-dev.txt")).items()
        if pin.marker is None or pin.marker.evaluate(here)
    }
    left_out = {"labmaze"} if python == "3.13" else set()
    seen = 0
    for name, pin in listed.items():
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of the other backend
        if importlib.metadata.version(name) != version(pin):
            continue  # of another environment
        seen += 1
        for extra in pin.extras or {""}:
            for requirement in map(Requirement, needed):
                marker = requirement.marker
                if marker and not marker.evaluate(here | {"extra": extra}):
                    continue
                other = canonicalize_name(requirement.name)
                assert other in listed or other in left_out, f"{name}: {requirement}"
                if other in listed:
                    assert requirement.specifier.contains(
                        version(listed[other]), prereleases=True
                    ), f"{name}: {requirement}, but {listed[other]}"
    assert seen > 60  # of some 75


def test_ranges_of_the_package_contain_what_is_tested():
    tested = pins("requirements-jax.txt") | pins("requirements.txt")
    tested |= pins("requirements-crafter.txt")
    lines = [*PROJECT["dependencies"]]
    for name in ("jax", "gpu", "gpu-jax", "tables", "crafter"):
        lines += PROJECT["optional-dependencies"][name]
    for requirement in map(Requirement, lines):
        pin = tested[canonicalize_name(requirement.name)]
        contains = requirement.specifier.contains
        assert contains(version(pin), prereleases=True), requirement
    newest = version(pins("requirements-jax-next.txt")["jax"])
    assert Requirement(PROJECT["optional-dependencies"]["jax"][0]).specifier.contains(
        newest
    )


def test_the_package_asks_for_what_it_imports():
    imported = set()
    for file in (ROOT / "dreamer_tf").rglob("*.py"):
        found = re.findall(r"^ *(?:import|from) (\w+)", file.read_text(), re.MULTILINE)
        imported |= set(found)
    names = importlib.metadata.packages_distributions()
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["crafter"]]
    asked = {canonicalize_name(Requirement(line).name) for line in lines}
    asked |= {"tensorflow-probability", "jax", "dreamer-tf"}  # builds; an extra; itself
    missing = {
        module: names[module]
        for module in imported & set(names)
        if not asked & {canonicalize_name(name) for name in names[module]}
    }
    assert not missing


@pytest.mark.parametrize("python", ["/nowhere/python", "false", ""])
def test_make_says_which_pythons_fit(python, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for file in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / file).touch()
    done = subprocess.run(
        ["make", "env", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    first, *rest = done.stderr.splitlines()
    assert done.returncode and len(rest) == 1 and "PYTHON=/path/to/python" in first
    assert "needs Python 3.11, 3.12 or 3.13" in first and python in first
    assert not (tmp_path / ".venv").exists()
