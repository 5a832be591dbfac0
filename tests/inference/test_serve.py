"""serve.py: what the page shows in a real browser, and what the command says. The server itself: test_api_server.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serve
from qamo.audio.load import load
from qamo.inference import guard, judging
from qamo.inference.guard import Access
from qamo.inference.judge import Rule, judge
from tests.support import reports
from tests.support.proxy import PREFIX, proxy_to
from tests.support.reports import check_stops, needs_browser, tabbed_through, to_top
from tests.support.serving import serving, stand_in

ROOT = Path(__file__).parents[2]
until = partial(reports.until, seconds=60)  # scoring takes its time


@pytest.fixture(scope="module")
def args(trained_run):
    return serve.build_parser().parse_args([str(trained_run), "--max-mb", "1", "--max-minutes", "0.5"])


@pytest.fixture(scope="module")
def server(args):
    with serving(serve.settings_of(args), serve.limits_of(args), Access()) as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds: noise, a pause, noise."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("clip") / "my clip <b>.wav"
    noise = 0.1 * rng.normal(size=(2, 24_000))
    soundfile.write(path, np.concatenate([noise[0], np.zeros(16_000), noise[1]]), 16_000)
    return path


def test_an_upload_is_judged_as_inference_judges_a_file(server, args, clip):
    status, found = server.upload(clip.read_bytes(), X_Name=urllib.parse.quote(clip.name))
    assert status == 200
    settings = serve.settings_of(args)
    scorer, predict_mos = settings.open()
    expected = judge(load(clip), scorer, settings.rule, path=clip.name, predict_mos=predict_mos).as_dict()
    low, high = found.pop("low"), found.pop("high")
    assert found == json.loads(json.dumps(expected))
    assert found["mos"] is not None
    assert len(low) == len(high) == judging.N_COLUMNS
    assert max(high) == pytest.approx(load(clip).max(), abs=1e-3)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_command_listens_on_this_computer_only_says_where_and_ends_in_silence(trained_run, number, status):
    command = [sys.executable, "serve.py", str(trained_run), "--port", "0", "--no-mos"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("http://127.0.0.1:")
        port = int(said.split(":")[2].split("/")[0])
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).status == 200
        os.killpg(process.pid, number)  # as a terminal and systemd do it: the judging process too
        assert process.wait(20) == status
    finally:
        process.kill()
        process.wait()
    assert process.stderr is not None
    assert process.stderr.read().strip() == ""


def test_a_wrong_run_is_answered_in_one_sentence(capsys, trained_run):
    assert serve.main(["/none", "--port", "0"]) == 2
    assert "serve.py: /none: no such file or folder" in capsys.readouterr().err
    for words in (["--max-mb", "0"], ["--no-mos", "--port", "99999"], ["--places", "0"]):
        with pytest.raises(SystemExit) as stopped:
            serve.main([str(trained_run), *words])
        assert stopped.value.code == 2
        assert "number from" in capsys.readouterr().err
    assert serve.main([str(trained_run), "--root-path", "detector/"]) == 2


def test_beyond_this_computer_a_token_is_needed_unless_it_is_waived(capsys, trained_run, tmp_path, monkeypatch):
    monkeypatch.delenv("QAMO_TOKEN", raising=False)
    for more in (["--host", "0.0.0.0"], ["--allow-host", "detector.example"]):
        assert serve.main([str(trained_run), *more]) == 2
        assert "clients need a token" in capsys.readouterr().err
    (tmp_path / "short").write_text("short\n")
    assert serve.main([str(trained_run), "--token-file", str(tmp_path / "short")]) == 2
    parse = serve.build_parser().parse_args
    (tmp_path / "token").write_text("a-secret-of-some-length\n")
    given = parse([str(trained_run), "--token-file", str(tmp_path / "token")])
    assert serve.token_of(given, is_needed=True) == "a-secret-of-some-length"
    assert serve.token_of(parse([str(trained_run), "--no-token"]), is_needed=True) is None
    assert serve.token_of(parse([str(trained_run)]), is_needed=False) is None
    monkeypatch.setenv("QAMO_TOKEN", "another-secret-of-some-length")
    assert serve.token_of(parse([str(trained_run)]), is_needed=True) == "another-secret-of-some-length"


def test_the_name_of_a_proxy_is_taken_as_a_host_header_has_it(capsys, trained_run):
    parse = serve.build_parser().parse_args
    words = ["--allow-host", "Speech.Example.org", "--allow-host", "other.example:8443"]
    assert serve.hosts_of(parse([str(trained_run), *words])) == ("speech.example.org", "other.example")
    for wrong in ("https://speech.example.org", "speech.example.org/detector", ""):
        assert serve.main([str(trained_run), "--no-token", "--allow-host", wrong]) == 2
        assert "--allow-host: expected a name like speech.example.org" in capsys.readouterr().err


def test_without_a_calibration_the_page_says_what_a_score_is(trained_run, tmp_path):
    (tmp_path / "model.pt").write_bytes((trained_run / "model.pt").read_bytes())
    settings = serve.settings_of(serve.build_parser().parse_args([str(tmp_path), "--no-mos"]))
    about = judging.Judging(None, settings).about()
    assert about["band"] is None
    assert "not a probability" in about["meaning"][0]
    assert str(tmp_path) not in str(about)  # clients hear no path of this computer
    assert settings.rule == Rule(skip_pauses=True, batch_size=4)


class Watched:
    """A tab, with what its console complained of and what it asked for."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.tab = self.context.new_page()
        self.complaints, self.requested = [], []
        self.tab.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requested.append(request.url))
        self.tab.goto(url)
        until(self.tab, "document.querySelector('#limits').textContent || !document.querySelector('#problem').hidden")


@needs_browser
def test_a_person_uploads_and_records_in_a_browser(browser, server, clip, tmp_path):
    url = f"http://127.0.0.1:{server.port}/"
    watched = Watched(browser, url, permissions=["microphone"])
    tab, run = watched.tab, watched.tab.evaluate
    assert "1 MB" in tab.text_content("#limits")
    tab.set_input_files("#file", clip)
    until(tab, "!document.querySelector('#result').hidden")
    _, expected = server.upload(clip.read_bytes())
    assert tab.text_content("#name") == clip.name  # as text, not as markup
    shown = tab.locator("#facts dd").all_text_contents()
    assert shown[0] == f"{expected['score']:.4f}"
    assert shown[4] == f"{expected['mos']:.2f}"
    title = {"bona fide": "Likely real speech", "spoof": "Likely synthetic or manipulated"}
    assert tab.text_content("#verdict") == title.get(expected["verdict"], "Uncertain: no verdict")
    windows = expected["windows"]
    assert tab.locator("#rows tr").count() == len(windows)
    assert tab.locator("#chart .span").count() == sum(w["score"] is not None for w in windows)
    assert tab.locator("#chart .pause").count() > 0
    assert tab.locator("#cautions li").count() == len(expected["warnings"])
    assert run("document.activeElement.id") == "verdict"  # where a screen reader goes on
    tab.locator("#chart").hover()
    until(tab, "!document.querySelector('#tip').hidden")
    assert " s: " in tab.text_content("#tip")
    until(tab, "document.querySelector('#player').readyState > 0")
    assert run("document.querySelector('#player').duration") == pytest.approx(4, abs=0.1)
    assert watched.complaints == []

    tab.set_viewport_size({"width": 390, "height": 844})
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert run("document.documentElement.scrollWidth") <= 390
    tab.set_viewport_size({"width": 1280, "height": 900})

    tab.click("#record")
    until(tab, "document.querySelector('#clock').textContent === '0:01'")
    tab.click("#stop")
    until(tab, "document.querySelector('#name').textContent.startsWith('recording')")
    until(tab, "!document.querySelector('#result').hidden")
    assert float(tab.locator("#facts dd").nth(5).text_content().split()[0]) >= 1
    assert watched.complaints == []

    (tmp_path / "bad.wav").write_bytes(b"not sound")
    tab.set_input_files("#file", tmp_path / "bad.wav")
    until(tab, "!document.querySelector('#problem').hidden")
    assert "not a recording" in tab.text_content("#problem")
    assert not tab.is_visible("#result")
    allowed = (url, "data:", f"blob:{url}")
    assert [asked for asked in watched.requested if not asked.startswith(allowed)] == []
    watched.context.close()


@needs_browser
def test_the_keyboard_goes_through_the_page_in_its_order_and_opens_a_file(browser, server, clip):
    watched = Watched(browser, f"http://127.0.0.1:{server.port}/")
    tab, keys = watched.tab, watched.tab.keyboard
    tab.on("filechooser", lambda chooser: chooser.set_files(clip))
    stops = tabbed_through(tab)
    check_stops(stops)
    assert [stop["name"] for stop in stops] == ["skip", "file", "record"]
    to_top(tab)
    keys.press("Tab")
    keys.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    keys.press("Tab")
    keys.press("Enter")
    until(tab, "!document.querySelector('#result').hidden")
    assert tab.evaluate("document.activeElement.id") == "verdict"
    keys.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "player"
    stops = tabbed_through(tab)
    check_stops(stops)
    assert [stop["name"] for stop in stops] == ["skip", "file", "record", "player", "summary", "save"]
    assert watched.complaints == []
    watched.context.close()


@needs_browser
def test_the_page_of_a_server_with_a_token_has_it_from_its_address(browser, clip):
    token = "a-secret-of-some-length"
    with stand_in(access=Access(token=token)) as server:
        watched = Watched(browser, f"http://127.0.0.1:{server.port}/#token={token}")
        watched.tab.set_input_files("#file", clip)
        until(watched.tab, "!document.querySelector('#result').hidden")
        assert watched.complaints == []
        assert not any(token in url.partition("#")[0] for url in watched.requested)
        watched.context.close()


@needs_browser
@pytest.mark.parametrize("end", ["", "#token=another-than-the-servers"])
def test_who_has_no_token_reads_where_to_put_it(browser, end):
    with stand_in(access=Access(token="a-secret-of-some-length")) as server:
        watched = Watched(browser, f"http://127.0.0.1:{server.port}/{end}")
        assert watched.tab.text_content("#problem") == guard.TOKEN_NEEDED
        assert watched.tab.text_content("#limits") == ""
        watched.context.close()


@needs_browser
def test_behind_a_proxy_the_page_asks_for_nothing_beyond_its_path(browser, clip):
    token = "a-secret-of-some-length"
    with stand_in(access=Access(token=token), root_path=PREFIX) as server, proxy_to(server.port) as port:
        url = f"http://127.0.0.1:{port}{PREFIX}/"
        watched = Watched(browser, f"{url}#token={token}")
        watched.tab.set_input_files("#file", clip)
        until(watched.tab, "!document.querySelector('#result').hidden")
        assert watched.complaints == []
        assert [
            asked
            for asked in watched.requested
            if not asked.startswith((url, "data:", f"blob:http://127.0.0.1:{port}/"))
        ] == []
        watched.context.close()
