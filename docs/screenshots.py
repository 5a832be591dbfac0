"""Make docs/judge_page.png and docs/report.png from a demo run, in a headless Chromium.

    python docs/screenshots.py exps/NAME database/mini

The page judges the longest clip of one set, the report is of the run's unseen engines; both are pictured at a width of
1,000 pixels and kept under 150 kB.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright import sync_api

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qamo import InputError  # noqa: E402
from qamo.command import Parser, run_command  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MAX_BYTES = 150_000
WIDTH = 1_000  # CSS pixels of the window


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("screenshots.py", __doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of the demo")
    parser.add_argument("corpus", type=Path, help="the mini corpus that it was trained on")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs", help="folder [docs]")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    clips = sorted((args.corpus / "mini_in_the_wild").glob("*.wav"), key=lambda path: path.stat().st_size)
    if not clips:
        raise InputError(f"{args.corpus}: expected the mini corpus, found no clips in mini_in_the_wild")
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900})
        with served(args.run) as url:
            tab.goto(url)
            tab.set_input_files("#file", clips[-1])
            tab.locator("#result").wait_for(state="visible", timeout=120_000)
            tab.mouse.move(0, 0)
            save(tab, args.output / "judge_page.png", "#facts")
        page = Path(folder) / "report.html"
        write_report(args.run, args.corpus, page)
        tab.goto(page.as_uri())
        tab.locator("#det canvas").first.wait_for()
        save(tab, args.output / "report.png", "#det")
        browser.close()
    return 0


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of the page for a run."""
    words = [sys.executable, "serve.py", str(run.resolve()), "--port", "0"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().partition(" ")[0]
    finally:
        process.terminate()
        process.wait(30)


def write_report(run: Path, corpus: Path, out: Path) -> None:
    words = [run / "scores" / "mini_unseen.txt", "--run", run, "-o", out]
    keys = corpus / "LA" / "mini_cm_protocols" / "mini.eval_unseen.trl.score.txt"
    subprocess.run([sys.executable, "report.py", *map(str, words), "--keys", str(keys)], cwd=ROOT, check=True)


def save(tab: Any, path: Path, element: str) -> None:
    """A picture from the top of the page to the end of an element; few colours, little space."""
    bottom = tab.evaluate("e => document.querySelector(e).getBoundingClientRect().bottom + scrollY", element)
    height = int(min(bottom + 16, 1_500))
    tab.set_viewport_size({"width": WIDTH, "height": height})
    tab.evaluate("scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
