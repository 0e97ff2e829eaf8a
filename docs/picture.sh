#!/usr/bin/env bash
# Renews docs/images/report.png: the top of the report's page, as a browser draws it.
# Run it in the repository with the environment activated; it needs Chromium.
set -euo pipefail
CHROMIUM=${CHROMIUM:-chromium}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m reproductions.report --runs=results/runs --out="$work"
"$CHROMIUM" --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
  --user-data-dir="$work/browser" --window-size=1200,715 \
  --screenshot="$work/page.png" "file://$work/report.html"
python - "$work/page.png" docs/images/report.png <<'PYTHON'
import sys

from PIL import Image

# Few colours: the page has large plain areas.
page = Image.open(sys.argv[1]).convert("RGB").quantize(128, dither=0)
page.save(sys.argv[2], optimize=True)
PYTHON
ls -l docs/images/report.png
