"""The page in headless Chromium, at laptop and at phone width."""

import html
import re
import shutil
import struct
import subprocess

import pytest

from reproductions import report
from tests.reproductions.conftest import PROTOCOLS, flat, options, write_version

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (apt-get install chromium)"
)


@pytest.fixture
def page(written):
    return written[0] / "report.html"


@pytest.fixture
def chromium(tmp_path):
    """Runs chromium with a profile of its own; returns what it printed."""

    def run(*arguments):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [CHROMIUM, *FLAGS, profile, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def framed(page, tmp_path, width):
    """The page in a frame of that width (chromium's windows have a smallest width),
    with a script that writes what does not fit into the outer document."""
    file = tmp_path / f"frame{width}.html"
    file.write_text(
        f'<body style="margin:0"><iframe style="border:0;width:{width}px;height:1600px"'
        f' srcdoc="{html.escape(page.read_text())}"></iframe><script>'
        "addEventListener('load', () => {"
        "const inner = document.querySelector('iframe').contentDocument;"
        "const root = inner.documentElement;"
        "const cut = [...inner.querySelectorAll('main *')].filter(e => "
        "!e.closest('.scroll') && !e.closest('svg') && e.offsetParent && "
        f"e.getBoundingClientRect().right > {width} + 1);"
        "const first = inner.querySelector('figure').getBoundingClientRect();"
        "document.body.dataset.first = Math.round(first.top);"
        "document.body.dataset.width = root.scrollWidth;"
        "document.body.dataset.cut = cut.slice(0, 3).map(e => e.className).join();"
        "});</script>"
    )
    return file.as_uri()


def test_page_is_self_contained(page):
    text = page.read_text()
    assert len(text) < 3_000_000
    assert not re.search(r"(src|href)=[\"'](?!#)", text)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    assert text.count("settings of lite for v3") == 1  # under all of its tables


def test_curves_come_first_and_pictures_have_words(page):
    text = page.read_text()
    for section in text.split("<section id=")[1:-1]:
        titles = re.findall("<h3>([^<]*)", section)
        assert titles[0] == "Learning curves"
        assert section.index("<figure") < section.index("<table")
    pictures = re.findall("<svg [^>]*>", text)
    assert pictures
    for picture in pictures:
        assert re.search('aria-label="[^"]{20,}"|aria-hidden="true"', picture), picture
    assert "Learning curves of walker walk. DreamerV1, ours: 402 at 500K frames" in text


def test_tables_can_be_copied(page):
    """What stands in the page is what the files say, without the notes."""
    text = page.read_text()
    for suffix, language in (("tex", "LaTeX"), ("md", "Markdown")):
        file = page.parent / "tables" / f"dmc_proprio_lite.{suffix}"
        copied = text[text.index('id="dmc_proprio_lite"') :]
        copied = copied[copied.index(f"These tables in {language}") :]
        copied = html.unescape(
            copied[copied.index("<pre>") + 5 : copied.index("</pre>")]
        )
        assert file.read_text().startswith(copied.rstrip())
        assert "walker walk" in copied and "settings of" not in copied


def test_no_difference_beside_not_comparable(page):
    text = page.read_text()
    compared, lite = text.split("<section id=")[1:3]
    for row in re.findall(r"<tr [^>]*data-version.*?</tr>", compared, re.S):
        shown = re.search('data-k="difference" data-v="([^"]*)"', row)[1]
        assert not (shown and ("not comparable" in row or "not finished" in row))
    table = lite[lite.index('<table class="cells') :]
    table = table[: table.index("</table>")]
    assert "Published, not comparable" in table and "Difference" not in table


def test_texts_are_escaped(tmp_path):
    """What files say can be no markup, and missing numbers are dashes."""
    write_version(
        tmp_path / "runs/lite/v3",
        "dmc_proprio",
        {"walker_walk": flat(120, 50_000, seeds=1)},
        machine="<script>alert('&')</script>",
    )
    chosen = options(runs=tmp_path / "runs", tasks=["walker_walk"], out=tmp_path)
    report.report(chosen, PROTOCOLS)
    text = (tmp_path / "report.html").read_text()
    escaped = "<dd>&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;</dd>"
    assert f"<dt>machine</dt>{escaped}" in text and text.startswith("<!doctype html>")
    assert text.count("<script>") == 1
    rows = text.split('<tr data-task="walker_walk"')[1:3]
    for row in (part[: part.index("</tr>")] for part in rows):
        assert 'data-k="score" data-v="120.0">120' in row and "1 seed" in row
        assert "None" not in row and "nan" not in row


@needs_chromium
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_page_fits(page, tmp_path, chromium, width):
    dom = chromium(
        "--window-size=1400,1700", "--dump-dom", framed(page, tmp_path, width)
    )
    body = dom[: dom.index("<iframe")]
    assert f'data-width="{width}"' in body, body
    assert 'data-cut=""' in body, body
    # A curve is on the first screen, whatever the width.
    first = int(re.search(r'data-first="(\d+)"', body)[1])
    assert first < 650


@needs_chromium
def test_page_is_drawn(page, tmp_path, chromium):
    image = tmp_path / "page.png"
    chromium("--window-size=1280,1600", f"--screenshot={image}", page.as_uri())
    data = image.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1280, 1600)
    assert len(data) > 60_000  # an empty page of that size has a tenth


@needs_chromium
def test_filter_and_sort(page, chromium):
    dom = chromium("--dump-dom", page.as_uri() + "#task=walker&off=v1&sort=-score")
    table = dom[dom.index('id="dmc_proprio_arxiv_v2"') :]
    table = table[table.index("<tbody>") : table.index("</tbody>")]
    rows = re.findall(r"<tr ([^>]*)>(.*?)</tr>", table, re.S)
    assert len(rows) == 6 * 5
    shown = [(tag, cells) for tag, cells in rows if "hidden" not in tag]
    assert len(shown) == 1  # V3's walker task at the longest budget
    for tag, _ in shown:
        assert 'data-version="v3"' in tag and 'data-budget="500000"' in tag
    values = [re.search(r'data-k="score" data-v="([^"]*)"', c)[1] for _, c in shown]
    assert values == ["502.0"]
    assert re.search(r"<body[^>]*off-v1", dom)
    assert 'data-toggle="v1" aria-pressed="false"' in dom


@needs_chromium
def test_everything_is_shown_at_first(page, chromium):
    dom = chromium("--dump-dom", page.as_uri())
    assert re.search(r'id="count"[^>]*>8 of 8 rows<', dom)  # 6 and 2
    assert 'aria-sort="ascending"' in dom


@needs_chromium
def test_rows_are_sorted_and_missing_scores_come_last(page, chromium):
    dom = chromium("--dump-dom", page.as_uri() + "#sort=-score")
    table = dom[dom.index('id="dmc_proprio_arxiv_v2"') :]
    table = table[table.index('<table class="cells') :]
    rows = re.findall(r"<tr ([^>]*)>(.*?)</tr>", table[: table.index("</table>")], re.S)
    shown = [cells for tag, cells in rows if "data-v" in tag and "hidden" not in tag]
    values = [re.search(r'data-k="score" data-v="([^"]*)"', c)[1] for c in shown]
    assert values == ["955.0", "853.0", "502.0", "402.0", "302.0", ""]
    assert "not finished" in shown[-1]
