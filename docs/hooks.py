"""Hooks of MkDocs: files outside of docs/ become pages, links to code lead to the API.

The same Markdown is read in the repository, where links lead to files and lines, and on
the site, which holds only what is built from it.
"""

import ast
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]

# File of the repository -> its place on the site.
PAGES = {
    "README.md": "index.md",
    "results/README.md": "results/index.md",
    "results/reference/SOURCES.md": "results/reference.md",
    "results/published/SOURCES.md": "results/published.md",
    "results/gym/README.md": "results/gym.md",
    "examples/agents/README.md": "agents.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "results/agreement/curves.png": "results/curves.png",
    "benchmarks/README.md": "benchmarks.md",
    "reproductions/differences.md": "differences.md",
}
ORIGINS = {site: path for path, site in PAGES.items()}

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
# Between dollars, as GitHub has it; not in `code`.
INLINE = re.compile(r"(`[^`]*`)|(?<![\\$\w])\$([^$`]+)\$(?!\w)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def math(source, language, css_class, options, md, **kwargs):
    """A block of LaTeX as MathML, which browsers draw without a script."""
    lines = [line for line in source.split("\n\n") if line.strip()]
    drawn = "".join(convert(line.strip(), display="block") for line in lines)
    return f'<div class="math">{drawn}</div>'


def on_config(config):
    fence = {"name": "math", "class": "math", "format": math}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files, config):
    for path, site in PAGES.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    here = page.file.src_uri
    origin = ORIGINS.get(here, f"docs/{here}")

    def replace(match):
        image, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        if not (ROOT / path).exists():
            raise PluginError(f"{origin} links to {target}, which does not exist.")
        if path.startswith("docs/") or path in PAGES:
            site = PAGES.get(path, path.removeprefix("docs/"))
            site = posixpath.relpath(site, posixpath.dirname(here) or ".")
            return f"{image}[{text}]({site}{'#' * bool(anchor)}{anchor})"
        name = api_name(path, anchor)
        return f"[{text}][{name}]" if name else f"{text} (`{path}`)"

    return outside_code(
        markdown, lambda text: INLINE.sub(inline, LINK.sub(replace, text))
    )


def outside_code(markdown: str, change) -> str:
    """Changes the text between blocks of code."""
    parts, start = [], 0
    for block in FENCE.finditer(markdown):
        parts += [change(markdown[start : block.start()]), block[0]]
        start = block.end()
    return "".join([*parts, change(markdown[start:])])


def inline(match):
    code, formula = match.groups()
    # In a span, as a line that begins with <math> would become a paragraph of its own.
    return code or f"<span>{convert(formula, display='inline')}</span>"


def api_name(path: str, anchor: str) -> str:
    """The full name of what a line of the package defines; "" if it has no API page."""
    if not (path.startswith("dreamer_tf/") and path.endswith(".py")):
        return ""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if not anchor:
        return name
    line = int(anchor.removeprefix("L"))
    inside = defined_at(ast.parse((ROOT / path).read_text()), line)
    if not inside:
        raise PluginError(f"{path} defines nothing in line {line}.")
    return ".".join([name, *inside])


def defined_at(tree, line: int) -> list[str]:
    """Names that lead to the class or function whose `def` stands in a line."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    for node in (
        node for node in ast.iter_child_nodes(tree) if isinstance(node, kinds)
    ):
        if node.lineno == line:
            return [node.name]
        if deeper := defined_at(node, line):
            return [node.name, *deeper]
    return []
