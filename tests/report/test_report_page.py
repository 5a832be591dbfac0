"""The report in headless Chromium: what a person with a mouse, a keyboard, a phone or a printer meets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import report
from eval_metrics import equal_error_rate
from qamo.report.page import Section
from qamo.report.page import page as document
from qamo.report.tables import Column, Table
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores
from tests.support.reports import (
    FOCUSED,
    check_stops,
    embedded,
    needs_browser,
    opened,
    tabbed_through,
    to_top,
    until,
    values_of,
    write_set,
)  # fmt: skip

pytestmark = needs_browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of two systems with quality, speakers, recordings and a run."""
    folder = write_set(tmp_path_factory.mktemp("page"), n=400)
    (folder / "wavs").mkdir()
    rng = np.random.default_rng(0)
    for i in range(400):
        soundfile.write(folder / "wavs" / f"{i}.wav", (0.05 * rng.normal(size=16_000)).astype(np.float32), 16_000)
    (folder / "run").mkdir()
    rows = [
        f'{{"epoch": {e}, "loss_total": {3 / e}, "dev_loss": {2 / e}, "dev_eer": {9.0 / e}, "centroid_cosine": 0.1}}'
        for e in (1, 2, 3)
    ]
    (folder / "run" / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    words = ["one=a.txt", "b.txt", "--keys", "meta.csv", "--mos", "mos.csv", "--audio", "wavs", "--run", "run"]
    words = [str(folder / w) if (folder / w).exists() else w for w in words]
    words[0] = f"one={folder / 'a.txt'}"
    assert report.main([*words, "--resamples", "100", "-o", str(folder / "r.html")]) == 0
    return folder


@pytest.fixture
def page(browser: Any, made: Path) -> Iterator[Any]:
    with opened(browser, made) as tab:
        yield tab


def hover(tab: Any, figure: str, across: float, down: float = 0.5) -> None:
    over = tab.locator(f"#{figure} .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    tab.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])


def test_the_table_on_screen_holds_the_numbers_of_eval_metrics(page, made):
    keys = read_keys(made / "meta.csv")
    for row, file in enumerate(("a.txt", "b.txt")):
        values = keys.align(read_scores(made / file))
        eer = equal_error_rate(values[keys.bonafide], values[~keys.bonafide])
        cells = page.eval_on_selector_all(
            f"#pooled tbody tr:nth-child({row + 1}) > *", "all => all.map(e => e.textContent)"
        )
        assert cells[1].startswith(f"{100 * eer.eer:.2f} [")
        assert cells[3] == f"{eer.threshold:.4f}"
        assert page.locator(".cards strong").nth(row).text_content() == f"{100 * eer.eer:.2f} %"


def test_pointing_at_the_det_curve_reads_it(page, made):
    assert values_of(page, "det") == ["–", "–", "–"]
    hover(page, "det", 0.5)
    far, first, second = values_of(page, "det")
    spec = embedded(made / "r.html", "charts")["det"]
    at = spec["x"]["text"].index(far)
    assert 0.45 < at / len(spec["x"]["text"]) < 0.55
    assert (first, second) == (spec["series"][0]["text"][at], spec["series"][1]["text"][at])


def test_pointing_at_a_histogram_says_what_a_threshold_there_would_do(page, made):
    keys = read_keys(made / "meta.csv")
    values = keys.align(read_scores(made / "a.txt"))
    hover(page, "scores-0", 0.6)
    score, _, _, misses, false_alarms = values_of(page, "scores-0")
    # The edge is shown with fewer digits than it has, so a trial may fall on either side of it.
    for shown, wrong in (
        (misses, values[keys.bonafide] <= float(score)),
        (false_alarms, values[~keys.bonafide] > float(score)),
    ):
        assert float(shown.removesuffix(" %")) == pytest.approx(100 * wrong.mean(), abs=0.6)


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_on_a_phone_a_tap_reads_a_chart_and_a_finger_that_slides_reads_on(browser, made):
    spec = embedded(made / "r.html", "charts")["det"]
    texts = spec["x"]["text"]
    with opened(browser, made, **PHONE) as tab:
        over = tab.locator("#det .u-over")
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        middle = box["y"] + box["height"] / 2
        tab.touchscreen.tap(box["x"] + 0.5 * box["width"], middle)
        far, first, second = values_of(tab, "det")
        at = texts.index(far)
        assert 0.45 < at / len(texts) < 0.55
        assert (first, second) == (spec["series"][0]["text"][at], spec["series"][1]["text"][at])
        swipe(tab, [(box["x"] + across * box["width"], middle) for across in (0.5, 0.55, 0.6, 0.7, 0.8)])
        assert 0.75 < texts.index(values_of(tab, "det")[0]) / len(texts) < 0.85
        tab.touchscreen.tap(box["x"] + 0.3 * box["width"], middle)  # one tap is one reading, and zooms nothing
        assert 0.25 < texts.index(values_of(tab, "det")[0]) / len(texts) < 0.35


def test_on_a_phone_a_finger_on_a_chart_scrolls_the_page_and_the_buttons_zoom(browser, made):
    with opened(browser, made, **PHONE) as tab:
        over = tab.locator("#det .u-over")
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"]
        before = tab.evaluate("scrollY")
        swipe(tab, [(x, y - down) for down in (0, 20, 60, 100, 140, 180)])
        until(tab, f"scrollY > {before} + 100")
        drawing = "document.querySelector('#det canvas').toDataURL()"
        whole = tab.evaluate(drawing)
        tab.locator("#det [data-do=in]").tap()
        assert tab.evaluate(drawing) != whole
        sizes = tab.eval_on_selector_all(
            ".tools button", "all => all.map(e => e.getBoundingClientRect()).map(b => Math.min(b.width, b.height))"
        )
        assert min(sizes) >= 32


def test_on_a_phone_a_button_plays_and_stops_a_recording_and_no_two_play_at_once(browser, made):
    with opened(browser, made, **PHONE) as tab:
        first, second = (tab.locator("#errors button.play").nth(k) for k in (0, 1))
        assert first.is_visible()
        assert not tab.locator("#errors audio").first.is_visible()
        tab.evaluate("document.querySelectorAll('audio').forEach(a => { a.loop = true; })")  # they last a second
        playing = "[...document.querySelectorAll('audio')].map((a, i) => a.paused ? -1 : i).filter(i => i >= 0).join()"
        signs = "[...document.querySelectorAll('#errors button.play')].slice(0, 2).map(b => b.textContent).join(' ')"
        first.tap()
        until(tab, f"{playing} === '0' && {signs} === '❚❚ ▶'")
        second.tap()
        until(tab, f"{playing} === '1' && {signs} === '▶ ❚❚'")
        second.tap()
        until(tab, f"{playing} === '' && {signs} === '▶ ▶'")


def swipe(tab: Any, places: list[tuple[float, float]]) -> None:
    """A finger put down at the first place and lifted at the last."""
    devtools = tab.context.new_cdp_session(tab)
    for k, (x, y) in enumerate(places):
        points = [{"x": x, "y": y}]
        devtools.send("Input.dispatchTouchEvent", {"type": "touchMove" if k else "touchStart", "touchPoints": points})
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_every_chart_is_drawn_and_says_something_in_words(page):
    figures = page.locator("figure.chart")
    assert figures.count() >= 9
    for i in range(figures.count()):
        drawing = figures.nth(i).locator("[role=img]")
        assert len(drawing.get_attribute("aria-label")) > 40
    blank = page.evaluate(
        "[...document.querySelectorAll('canvas')].filter(c => !c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some(v => v)).length"
    )
    assert blank == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_the_tab_key_goes_through_the_page_in_its_order_and_every_stop_is_seen(browser, made, width):
    with opened(browser, made, viewport={"width": width, "height": 800}, reduced_motion="reduce") as tab:
        stops = tabbed_through(tab)
        check_stops(stops)
        names = [stop["name"] for stop in stops]
        assert names[0] == "skip"
        n_sections = tab.locator("main > section").count()
        assert names[1 : 1 + n_sections] == ["a"] * n_sections  # the links to the sections
        assert names.count("plot") == tab.locator("figure .plot").count()  # every chart
        assert sum(stop["tag"] == "AUDIO" for stop in stops) == tab.locator("audio:visible").count()


def test_the_skip_link_leads_past_the_links_to_the_first_thing_in_the_results(page):
    first = tabbed_through(page)[1 + page.locator("nav a").count()]
    to_top(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)["at"] == first["at"]


def test_the_keyboard_moves_the_cursor_zooms_and_is_heard(page, made):
    plot = page.locator("#det .plot")
    plot.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    spec = embedded(made / "r.html", "charts")["det"]
    at = 11 * round(len(spec["x"]["text"]) / 150)
    assert values_of(page, "det")[:2] == [spec["x"]["text"][at], spec["series"][0]["text"][at]]
    said = page.locator("#det .said").text_content()
    assert spec["x"]["text"][at] in said
    assert f"one: {spec['series'][0]['text'][at]}" in said
    ticks_of = "document.querySelector('#det canvas').toDataURL().length"
    before = page.evaluate(ticks_of)
    page.keyboard.press("+")
    zoomed = page.evaluate(ticks_of)
    page.keyboard.press("0")
    assert zoomed != before


def test_the_buttons_and_the_mouse_zoom_and_a_double_click_shows_all_again(page):
    def width() -> float:
        """How far one goes along the false alarm axis across the chart."""
        ends = []
        for across in (0.02, 0.98):
            hover(page, "det", across)
            ends.append(float(values_of(page, "det")[0].split()[0]))
        return ends[1] - ends[0]

    whole = width()
    page.locator("#det [data-do=in]").click()
    nearer = width()
    assert nearer < 0.8 * whole
    page.locator("#det [data-do=reset]").click()
    assert width() == pytest.approx(whole, rel=0.05)
    box = page.locator("#det .u-over").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    assert width() < 0.5 * whole
    page.locator("#det .u-over").dblclick()
    assert width() == pytest.approx(whole, rel=0.05)


def test_what_is_folded_on_the_screen_is_open_on_paper_and_what_a_reader_opened_stays_open(browser, tmp_path):
    table = Table("t", "Settings", [Column("key"), Column("value")], [["a", "1"]], folded=True)
    sections = [Section("s", "S", "", [table, replace(table, id="u")])]
    (tmp_path / "r.html").write_text(document("T", "", sections, {}))
    with opened(browser, tmp_path) as tab:
        assert not tab.locator("#t").is_visible()
        tab.locator("summary").nth(1).click()
        assert tab.locator("#u").is_visible()
        tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert tab.locator("#t").is_visible()
        tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert not tab.locator("#t").is_visible()
        assert tab.locator("#u").is_visible()


def test_a_heading_sorts_its_table_numbers_as_numbers(page):
    heads = page.locator("#by-speaker thead tr:last-child th")
    heads.nth(3).locator("button").click()
    assert heads.nth(3).get_attribute("aria-sort") == "ascending"
    shown = page.eval_on_selector_all(
        "#by-speaker tbody td:nth-child(4)", "all => all.map(e => parseFloat(e.textContent))"
    )
    assert shown == sorted(shown)
    heads.nth(3).locator("button").click()
    shown = page.eval_on_selector_all(
        "#by-speaker tbody td:nth-child(4)", "all => all.map(e => parseFloat(e.textContent))"
    )
    assert shown == sorted(shown, reverse=True)


def test_a_recording_plays_from_inside_the_page(page):
    seconds = page.evaluate(
        """() => new Promise((done, fail) => {
             const player = document.querySelector("audio[data-clip]");
             player.onloadedmetadata = () => done(player.duration);
             player.onerror = () => fail(new Error("cannot play"));
             player.preload = "auto"; player.load();
           })"""
    )
    assert seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_the_page_fits_the_screen_and_its_text_can_be_read_in_both_schemes(browser, made, width, scheme):
    with opened(browser, made, viewport={"width": width, "height": 844}, color_scheme=scheme) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        for name in ("--ink", "--soft", "--accent", "--bonafide", "--spoof", "--s0", "--s1", "--s2", "--s3", "--s4"):
            for ground in ("--paper", "--card"):
                assert contrast(tab, name, ground) >= (3.0 if name.startswith("--s") and name != "--soft" else 4.5)


def contrast(tab: Any, first: str, second: str) -> float:
    """Contrast ratio of two colours of the page. Source: WCAG 2.2, relative luminance."""

    def luminance(name: str) -> float:
        text = tab.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
        parts = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_charts_follow_the_scheme_of_the_reader_and_are_light_on_paper(page):
    drawing = "document.querySelector('#det canvas').toDataURL()"
    light = page.evaluate(drawing)
    page.emulate_media(color_scheme="dark")
    until(page, f"{drawing} !== {light!r}")
    dark = page.evaluate(drawing)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate(drawing) not in (light, dark)  # light, and as narrow as the paper
    assert len(page.pdf()) > 20_000
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    until(page, f"{drawing} === {dark!r}")


def test_tables_have_captions_and_scopes_and_ids_are_unique(page):
    assert page.evaluate("[...document.querySelectorAll('table:not(.u-legend)')].every(t => t.caption.innerText)")
    assert page.evaluate("[...document.querySelectorAll('table:not(.u-legend) th')].every(th => th.scope)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
    assert set(links) <= set(ids)
    assert page.evaluate("[...document.querySelectorAll('button')].every(b => b.innerText || b.ariaLabel)")


def test_a_legend_shows_which_lines_are_dashed(page):
    marks = page.evaluate(
        "[...document.querySelectorAll('figure.chart')].flatMap(f => [...f.querySelectorAll('.u-legend .u-marker')]"
        ".map(m => m.style.background))"
    )
    dashed = {mark for mark in marks if "repeating-linear-gradient" in mark}
    assert any(" 8px, transparent 8px, transparent 12px" in mark for mark in dashed)  # [8, 4], as on the canvas
    assert any(mark.startswith("rgb") for mark in marks)
