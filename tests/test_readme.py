"""What README and the documentation say exists, and their snippets run.

Commands are parsed by what they call, Python is executed, links and flags are looked
up. Pages whose Python needs a trained agent are slow.
"""

import ast
import math
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from dreamer_tf import command
from dreamer_tf.configs import config_class, fields, presets
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError
from reproductions import grid
from reproductions.cells import make_cells
from reproductions.tasks import BENCHMARKS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "results").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "reproductions" / "differences.md",
]
LANGUAGES = {"bash", "python", "text", "math"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
DEFINITION = re.compile(r"\[`([\w.]+)`\]\(([\w/.]+)#L(\d+)\)")
PROGRAMS = {"git", "ray", "source", "tensorboard"}  # whose arguments are not ours


def name(page):
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name)


def blocks(text, language):
    """The blocks of code in that language."""
    return [code for kind, code in FENCE.findall(text) if kind == language]


def without_blocks(text):
    return FENCE.sub("", text)


def code_of(page):
    """All Python of a page, as one program."""
    return "\n".join(blocks(page.read_text(), "python"))


def commands(text):
    """The commands in its blocks of bash, as lists of words."""
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


# --- Links ---------------------------------------------------------------------


@each_page
def test_links_lead_somewhere(page):
    for _, target in LINK.findall(without_blocks(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text()), f"{name(page)}: {target}"


def anchors(text):
    """What a heading is linked by, on GitHub and on the site."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", h.lower()).strip() for h in headings]
    return [re.sub(r"[-\s]+", "-", h) for h in plain]


def test_links_lead_to_definitions():
    count = 0
    for page in PAGES:
        for title, path, number in DEFINITION.findall(page.read_text()):
            lines = (page.parent / path).read_text().splitlines()
            where = f"{name(page)}: {path}:{number} does not define {title}"
            last = re.escape(title.split(".")[-1])
            assert re.match(rf"\s*(def|class) {last}\b", lines[int(number) - 1]), where
            count += 1
    assert count > 100


def test_other_links_with_lines_lead_to_definitions():
    for page in PAGES:
        for _, target in LINK.findall(page.read_text()):
            if found := re.fullmatch(r"([\w/.]+\.py)#L(\d+)", target):
                line = (page.parent / found[1]).read_text().splitlines()
                line = line[int(found[2]) - 1]
                assert re.match(r"\s*(def|class) ", line), f"{name(page)}: {target}"


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    hidden = {"docs/images/README.md"}
    for page in PAGES:
        if name(page).startswith("docs/") and name(page) not in hidden:
            assert f": {name(page).removeprefix('docs/')}\n" in text, name(page)


# --- Commands ------------------------------------------------------------------


@each_page
def test_blocks_say_their_language(page):
    text = page.read_text()
    assert {language for language, _ in FENCE.findall(text)} <= LANGUAGES
    assert not re.search(r"\n\n    \S", without_blocks(text)), "an indented block"


@each_page
def test_commands_are_accepted(page, monkeypatch, capsys):
    for words in commands(page.read_text()):
        check(words, monkeypatch, capsys)


def check(words, monkeypatch, capsys):
    """Fails if the command would be refused by what it calls."""
    while re.match(r"\w+=", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(rest) <= set(targets), words
    elif program == "dreamer-tf":
        check_python(["run.py", *rest], monkeypatch, capsys)
    elif program == "pip":
        assert rest[0] == "install", words
    elif program == "bash":
        assert (ROOT / rest[0]).exists(), words
    elif program.endswith("python"):
        check_python(rest, monkeypatch, capsys)
    else:
        assert program in PROGRAMS, words


def check_python(words, monkeypatch, capsys):
    if words[0] == "run.py":
        fake = SimpleNamespace(train=lambda *args: None)
        monkeypatch.setitem(sys.modules, "dreamer_tf.training.train", fake)
        for one in command.COMMANDS.values():
            monkeypatch.setattr(one, "run", lambda self: 0)
        assert command.main(words[1:]) == 0, (words, capsys.readouterr().err)
    elif words[0] == "-m" and words[1].removeprefix("reproductions.") in BENCHMARKS:
        check_grid(words[1].removeprefix("reproductions."), words[2:])
    elif words[0] == "-m":
        path = ROOT / words[1].replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        check_flags(file, words[2:])
    else:
        check_flags(ROOT / words[0], words[1:])


def check_grid(benchmark, words):
    f = grid.define_flags(benchmark)
    assert fields.parse(f, [benchmark, *words])[1:] == []
    tasks = [] if f.tasks == ["all"] else f.tasks
    choice = f.versions, tasks, grid.parse_seeds(f.seeds), f.protocol
    assert make_cells(benchmark, *choice, grid.parse_steps(f.steps))


def check_flags(file, words):
    known = named_flags(file)
    for word in words:
        if word.startswith("--"):
            assert word[2:].partition("=")[0] in known, f"{word} of {name(file)}"


def named_flags(file):
    """Texts that a script hands to any function first: its flags are among them."""
    calls = (
        n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)
    )
    first = (call.args[0] for call in calls if call.args)
    texts = (x.value for x in first if isinstance(x, ast.Constant))
    return {text.lstrip("-") for text in texts if isinstance(text, str)}


@pytest.mark.parametrize(
    "text",
    [
        "make tests",
        "pythn run.py doctor",
        "python run.py train --versoin=v3 --logdir=x",
        "python run.py train --version=v4 --logdir=x",
        "KERAS_BACKEND=jax python run.py evaluate --logdir=x --episodes=many",
        "python -m reproductions.dmc_proprio --tasks=walker_wlak",
        "python -m reproductions.report --protocol=lite",
        "python examples/dream.py --length=3",
    ],
)
def test_a_wrong_command_is_found(text, monkeypatch, capsys):
    with pytest.raises((AssertionError, UserError)):
        check(shlex.split(text), monkeypatch, capsys)


# --- Flags and settings in the text ----------------------------------------------


@pytest.fixture(scope="module")
def flags():
    """Names of all flags of the suite."""
    configs = [config_class(version)() for version in ("v1", "v2", "v3")]
    known = {leaf for c in [RunConfig(), *configs] for leaf, *_ in fields.leaves(c)}
    known |= {k for c in command.COMMANDS.values() for k, *_ in fields.leaves(c())}
    known |= set(grid.define_flags("dmc_proprio"))
    scripts = [*(ROOT / "reproductions").glob("*.py"), ROOT / "benchmarks/bench.py"]
    scripts += [*(ROOT / "tests/parity").glob("*.py"), ROOT / "tests/faults.py"]
    return known.union(*map(named_flags, scripts), {"helpfull", "loss_scales.NAME"})


@each_page
def test_flags_in_the_text_exist(page, flags):
    text = without_blocks(page.read_text())
    for flag in re.findall(r"`--([a-z][\w.]*)", text):
        if not flag.startswith("xla_"):
            assert flag in flags or flag.removeprefix("no") in flags, f"--{flag}"


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_settings_of_the_papers_are_the_defaults(version):
    text = (ROOT / "docs" / f"{version}.md").read_text()
    values = {}
    for settings in presets.load(version, "dmc_vision"):
        values |= {k: value for k, _, value in fields.leaves(settings)}
    lists = "\n".join(
        re.findall(r"^- Settings:(?:.|\n)*?(?=^$|\Z)", text, re.MULTILINE)
    )
    stated = re.findall(r"`--([\w.]+)` ([\w.,-]+?)[.,]?(?:\s|$)", lists)
    stated = [(k, v) for k, v in stated if v != "by"]
    assert len(stated) > 15
    for flag, value in stated:
        found = values[flag]
        if isinstance(found, bool):
            assert value == str(found).lower(), flag
        elif isinstance(found, int | float):
            assert float(value) == found, flag
        else:
            shown = found if isinstance(found, str) else ",".join(found)
            assert value == shown, flag


# --- Results -------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_the_table_of_results_is_the_measured_one(page):
    stated = re.findall(r"^\| (V\d \|.*,.*\|.*) \|$", (ROOT / page).read_text(), re.M)
    table = pd.read_csv(ROOT / "results" / "agreement" / "agreement.csv")
    assert sorted(stated) == sorted(map(result, table.to_dict("records")))


def result(row):
    """A row of the table as it is printed."""

    def side(mean, std, n):
        spread = "" if math.isnan(row[std]) else f" ± {row[std]:.0f}"
        return f"{row[mean]:.0f}{spread}, {row[n]}"

    interval = ""
    if not math.isnan(row["low"]):
        interval = f" [{row['low']:.0f}, {row['high']:.0f}]"
    difference = round(row["difference"])
    cells = [row["version"].upper(), row["task"], row["measure"]]
    cells += [side("mean", "std", "n")]
    cells += [side("reference", "reference_std", "reference_n")]
    cells += [f"{difference:{'+' if difference else ''}}{interval}", row["verdict"]]
    return " | ".join(cells)


# --- Python ----------------------------------------------------------------------

PYTHON = {page: code for page in PAGES if (code := code_of(page))}
NEEDS_A_RUN = [page for page, code in PYTHON.items() if "load_agent(" in code]
QUICK = [page for page in PYTHON if page not in NEEDS_A_RUN]


def test_there_are_snippets():
    assert QUICK and NEEDS_A_RUN


@pytest.mark.parametrize("page", QUICK, ids=name)
def test_python(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[page], name(page), "exec"), {"__name__": "page"})


@pytest.mark.slow
@pytest.mark.parametrize("page", NEEDS_A_RUN, ids=name)
def test_python_with_a_run(page, tmp_path, monkeypatch):
    """The page's own commands first, the training cut short."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for words in commands(page.read_text()):
        if words[:2] == ["python", "run.py"]:
            less = {
                "train": ["--steps=60", "--eval_every=0"],
                "evaluate": ["--episodes=1"],
                "video": ["--horizon=6"],
            }
            assert command.main([*words[2:], *less.get(words[2], [])]) == 0, words
    exec(compile(PYTHON[page], name(page), "exec"), {"__name__": "page"})
