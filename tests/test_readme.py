"""README's links lead to the lines that they name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[`?([\w.]+)`?\]\(([\w/.]+)#L(\d+)\)")


def test_links_lead_to_definitions():
    links = LINK.findall((ROOT / "README.md").read_text())
    assert len(links) > 30
    for name, path, number in links:
        line = (ROOT / path).read_text().splitlines()[int(number) - 1]
        defined = rf"\s*(def|class) {name.split('.')[-1]}\b"
        assert re.match(defined, line), f"{path}:{number} does not define {name}"
