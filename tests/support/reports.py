"""A small set to report on, and what tests read back from a page."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def write_set(folder: Path, n: int = 60, *, mos: bool = True) -> Path:
    """meta.csv, two score files and a MOS file of a small set with three speakers; returns the folder."""
    rng = np.random.default_rng(0)
    rows, first, second, rated = ["file,speaker,label"], [], [], []
    for i in range(n):
        bonafide = i % 2 == 0
        rows.append(f"{i}.wav,Speaker {i % 3},{'bona-fide' if bonafide else 'spoof'}")
        first.append(f"{i}.wav {rng.normal() + 2 * bonafide:.6f}")
        second.append(f"{i}.wav {rng.normal() + 1.5 * bonafide:.6f}")
        rated.append(f"{i}.wav,Speaker {i % 3},{'bona-fide' if bonafide else 'spoof'},{rng.uniform(1, 5):.3f}")
    for name, lines in (("meta.csv", rows), ("a.txt", first), ("b.txt", second), ("mos.csv", rated)):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text())))


def embedded(page: Path, name: str) -> dict:
    """What a page carries as JSON: its charts or its clips."""
    return json.loads(page.read_text().split(f'id="{name}">')[1].split("</script>")[0])


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class opened:
    """A tab with the page; at its end there must have been no error and no request beyond the page itself."""

    def __init__(self, browser: Any, folder: Path, **options: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        self.tab = self.context.new_page()
        self.url = (folder / "r.html").as_uri()
        self.faults: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> Any:
        self.tab.on("console", lambda message: self.faults.append(message.text))
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(self.url)
        return self.tab

    def __exit__(self, *failure: object) -> None:
        self.context.close()
        if failure[0] is None:
            assert self.faults == []
            assert [url for url in self.requests if url != self.url and not url.startswith("data:")] == []


def values_of(tab: Any, figure: str) -> list[str]:
    return tab.eval_on_selector_all(f"#{figure} .u-legend .u-value", "all => all.map(e => e.textContent)")


needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright here"
)


def until(tab: Any, condition: str, seconds: float = 10) -> None:
    """Wait until a JavaScript expression is true; the page's policy keeps playwright's own way from running."""
    deadline = time.monotonic() + seconds
    while not tab.evaluate(f"!!({condition})"):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


# Of the element that has the focus: what it is, where, and whether a person sees that it has it.
FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const shown = e.id === "file" ? document.querySelector("label[for=file]") : e, style = getComputedStyle(shown);
  const box = shown.getBoundingClientRect(), all = [...document.querySelectorAll("*")];
  const [left, right] = [Math.max(box.left, 0), Math.min(box.right, innerWidth)];
  const [top, bottom] = [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
  const there = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return {
    tag: e.tagName, name: e.id || e.className || e.tagName.toLowerCase(),
    text: e.textContent.trim().slice(0, 40), at: all.indexOf(e),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    on_screen: right - left > 4 && bottom - top > 4,
    uncovered: !!there && (shown.contains(there) || there.contains(shown)),
  };
}"""


def to_top(tab: Any) -> None:
    """Put the focus before everything on the page, as when it has just been opened."""
    tab.evaluate("() => { const b = document.body; b.tabIndex = -1; b.focus(); b.removeAttribute('tabindex'); }")


def tabbed_through(tab: Any, at_most: int = 300) -> list[dict[str, Any]]:
    """What gets the focus as the Tab key is pressed from the top of the page to its end, in that order."""
    to_top(tab)
    stops: list[dict[str, Any]] = []
    for _ in range(at_most):
        tab.keyboard.press("Tab")
        tab.wait_for_timeout(20)
        found = tab.evaluate(FOCUSED)
        if found is None or (stops and found["at"] == stops[0]["at"]):
            return stops
        if not stops or found["at"] != stops[-1]["at"]:  # a player has stops within
            stops.append(found)
    raise AssertionError(f"no end after {at_most} stops: the focus is caught at {stops[-1]}")


def check_stops(stops: list[dict[str, Any]]) -> None:
    """The order is that of the page, and each stop is seen to have the focus."""
    places = [stop["at"] for stop in stops]
    assert places == sorted(set(places))
    for stop in stops:
        assert stop["outlined"], stop
        assert stop["on_screen"], stop
        assert stop["uncovered"], stop
