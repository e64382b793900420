"""Make the pictures of the README: the first screen of the terminal, of the Markdown and of the HTML report.

    python docs/pictures.py

They show what driftcheck says of the two real snapshots in docs/example, as it is installed beside this interpreter.
Needs the extra ``test`` (selenium, markdown-it-py) and Chromium with its driver.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text
from selenium import webdriver

HERE = Path(__file__).parent
EXAMPLE = (str(HERE / "example" / "laptop.json"), str(HERE / "example" / "ci.json"))
COLUMNS, LINES = 100, 44

# Enough of how GitHub shows Markdown to see what a reader of a ticket sees first.
_TICKET = """<!doctype html><meta charset="utf-8"><style>
body { font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; color: #1f2328;
       max-width: 860px; margin: 24px auto; padding: 0 24px }
code, pre { font: 85% ui-monospace, "DejaVu Sans Mono", monospace; background: #f6f8fa; border-radius: 6px }
code { padding: .2em .4em } pre { padding: 14px; overflow: hidden } pre code { padding: 0; font-size: 100% }
table { border-collapse: collapse } td, th { border: 1px solid #d1d9e0; padding: 6px 13px }
h1, h2 { border-bottom: 1px solid #d1d9e0; padding-bottom: .3em } summary { cursor: pointer }
</style>"""


def main() -> None:
    pictures = HERE / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "terminal.svg").write_text(terminal(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        html, ticket = Path(folder) / "report.html", Path(folder) / "ticket.html"
        html.write_text(driftcheck("--format", "html"), encoding="utf-8")
        body = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(driftcheck("--format", "markdown"))
        ticket.write_text(_TICKET + body, encoding="utf-8")
        photograph(ticket, pictures / "markdown.png", width=920, height=1000)
        photograph(html, pictures / "html.png", width=1280, height=1000)
        photograph(html, pictures / "html-dark.png", width=1280, height=1000, dark=True)


def driftcheck(*options: str, **variables: str) -> str:
    """What a comparison of the example prints; it ends with 1, since something breaks."""
    program = "from driftcheck.cli import main; main()"
    command = [sys.executable, "-c", program, "diff", *EXAMPLE, "--no-policy", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    if done.returncode != 1:
        raise SystemExit(f"driftcheck ended with {done.returncode}: {done.stderr}")
    return done.stdout


def terminal() -> str:
    """The first screen of a terminal as SVG."""
    shown = driftcheck(FORCE_COLOR="1", COLUMNS=str(COLUMNS)).splitlines()[:LINES]
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text.from_ansi("\n".join(shown)))
        return console.export_svg(title="driftcheck diff laptop.json ci.json")


def photograph(page: Path, picture: Path, *, width: int, height: int, dark: bool = False) -> None:
    """The first screen of a page in Chromium."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"):
        options.add_argument(argument)
    # The driver beside the browser: without its path selenium would look for one on the network.
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(page.as_uri())
        driver.save_screenshot(str(picture))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
