"""Draw `page.png`: the first screen of a run's report, in a headless Chromium.

.venv/bin/python docs/draw_report.py models/report.html
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Chromium starts as root, in a container, only without its sandbox.
ARGUMENTS = ["--no-sandbox"] if os.geteuid() == 0 else []


def run(report: Path) -> None:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as browser,
    ):
        page = browser.new_page(viewport={"width": 1200, "height": 1150})
        page.goto(report.resolve().as_uri())
        page.screenshot(path=Path(__file__).with_name("report.png"))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
