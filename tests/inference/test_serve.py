"""serve.py: what the page shows in a real browser, and what the server refuses."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serve
from qamo.audio.load import load
from qamo.inference import web
from qamo.inference.judge import Rule, judge
from tests.support import chromium

ROOT = Path(__file__).parents[2]
BROWSER = pytest.mark.skipif(chromium.PROGRAM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def studio(trained_run):
    args = serve.build_parser().parse_args([str(trained_run), "--max-mb", "1", "--max-minutes", "0.5"])
    return serve.studio_of(args)


@pytest.fixture(scope="module")
def port(studio):
    server = web.Server(studio, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds: noise, a pause, noise."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("clip") / "my clip <b>.wav"
    noise = 0.1 * rng.normal(size=(2, 24_000))
    soundfile.write(path, np.concatenate([noise[0], np.zeros(16_000), noise[1]]), 16_000)
    return path


def ask(port, method="GET", path="/", body=None, **headers):
    """(status, answer as bytes, headers)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def upload(port, body, **headers):
    status, answer, _ = ask(port, "POST", "/judge", body, **{"X_Qamo": "1", **headers})
    return status, json.loads(answer)


def test_an_upload_is_judged_as_inference_judges_a_file(port, studio, clip):
    status, found = upload(port, clip.read_bytes(), X_Name=urllib.parse.quote(clip.name))
    assert status == 200
    expected = judge(load(clip), studio.scorer, studio.rule, path=clip.name, predict_mos=studio.predict_mos).as_dict()
    low, high = found.pop("low"), found.pop("high")
    assert found == json.loads(json.dumps(expected))
    assert found["mos"] is not None
    assert len(low) == len(high) == web.N_COLUMNS
    assert max(high) == pytest.approx(load(clip).max(), abs=1e-3)


def test_nothing_is_written_and_nothing_of_this_computer_can_be_read(port, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir(ROOT))
    upload(port, clip.read_bytes(), X_Name="../../etc/passwd")
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir(ROOT)) == before
    for path in (
        "/../serve.py",
        "/serve.py",
        "/qamo/inference/assets/serve.js",
        "//etc/passwd",
        "/%2e%2e/serve.py",
        "/judge",
        "/?a=/etc",
    ):
        status, answer, _ = ask(port, path=path)
        assert status == (200 if path.startswith("/?") else 404)
        assert b"root:" not in answer
    assert upload(port, clip.read_bytes(), X_Name="../../etc/passwd")[1]["path"] == "passwd"


def test_large_long_and_unreadable_uploads_are_refused(port, tmp_path):
    status, answer = upload(port, b"x" * 1_000_001)
    assert (status, answer["error"]) == (413, "larger than 1 MB; cut the recording")
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 31, np.int16), 16_000)
    status, answer = upload(port, (tmp_path / "long.flac").read_bytes(), X_Name="long.flac")
    assert status == 422
    assert answer["error"].startswith("long.flac: longer than 0.5 minutes")
    status, answer = upload(port, b"not sound", X_Name="a.wav")
    assert status == 422
    assert "a.wav: not a recording" in answer["error"]
    assert upload(port, b"")[0] == 422


def test_the_size_must_be_said_before_the_body(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Qamo: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 411 " in raw.recv(100)


@pytest.mark.parametrize(
    "header", ["Host: [::1", "Content-Length: -1", "Content-Length: ²", f"Content-Length: {'9' * 5000}"]
)
def test_a_header_that_is_none_is_a_bad_request(port, header):
    host = "" if header.startswith("Host") else "Host: 127.0.0.1\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(f"POST /judge HTTP/1.1\r\n{host}X-Qamo: 1\r\n{header}\r\n\r\n".encode("latin1"))
        assert b" 400 " in raw.recv(100)


def test_an_upload_that_is_cut_off_is_not_judged(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Qamo: 1\r\nContent-Length: 1000\r\n\r\nabc")
        raw.shutdown(socket.SHUT_WR)
        assert b" 400 " in raw.recv(100)


def test_other_pages_cannot_use_it(port, clip):
    body = clip.read_bytes()
    assert upload(port, body, Origin="http://evil.example")[0] == 403
    assert upload(port, body, Host="evil.example")[0] == 403  # a name that was made to point to this computer
    assert ask(port, Host="evil.example")[0] == 403
    status, _, headers = ask(port, "POST", "/judge", body)
    assert status == 403  # a form cannot send the header
    assert "Access-Control-Allow-Origin" not in headers
    assert ask(port, "OPTIONS", "/judge", Origin="http://evil.example")[0] == 501
    assert ask(port, Host=f"localhost:{port}")[0] == 200


def test_every_answer_carries_the_rules_of_the_page(port):
    for path in ("/", "/serve.js", "/about", "/none"):
        headers = ask(port, path=path)[2]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"].strip() == "qamo"


def test_more_recordings_than_places_are_turned_away(port, studio, clip):
    taken = [studio.waiting.acquire(blocking=False) for _ in range(web.N_WAITING)]
    try:
        assert all(taken)
        status, answer = upload(port, clip.read_bytes())
        assert status == 503
        assert "busy" in answer["error"]
    finally:
        for _ in taken:
            studio.waiting.release()
    assert upload(port, clip.read_bytes())[0] == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)],
)
def test_what_is_this_computer(host, loopback):
    assert web.is_loopback(host) == loopback


def test_the_command_listens_on_this_computer_only_and_says_where(trained_run):
    command = [sys.executable, "serve.py", str(trained_run), "--port", "0", "--no-mos"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("http://127.0.0.1:")
        port = int(said.split(":")[2].split("/")[0])
        assert ask(port)[0] == 200
        process.send_signal(2)  # Ctrl-C
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_wrong_run_is_answered_in_one_sentence(capsys, trained_run):
    assert serve.main(["/none"]) == 2
    assert "serve.py: /none: no such file or folder" in capsys.readouterr().err
    for words in (["--max-mb", "0"], ["--no-mos", "--port", "99999"]):
        with pytest.raises(SystemExit) as stopped:
            serve.main([str(trained_run), *words])
        assert stopped.value.code == 2
        assert "number from" in capsys.readouterr().err


def test_without_a_calibration_the_page_says_what_a_score_is(trained_run, tmp_path):
    (tmp_path / "model.pt").write_bytes((trained_run / "model.pt").read_bytes())
    bare = serve.studio_of(serve.build_parser().parse_args([str(tmp_path), "--no-mos"]))
    about = bare.about()
    assert about["band"] is None
    assert "not a probability" in about["meaning"][0]
    assert bare.rule == Rule(skip_pauses=True)


@BROWSER
def test_a_person_uploads_and_records_in_a_browser(port, clip, tmp_path):
    with chromium.Browser(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{port}/")
        page.wait_for("document.querySelector('#limits').textContent")
        assert "1 MB" in page.run("document.querySelector('#limits').textContent")
        page.choose_file("#file", clip)
        page.wait_for("!document.querySelector('#result').hidden")
        _, expected = upload(port, clip.read_bytes())
        assert page.run("document.querySelector('#name').textContent") == clip.name  # as text, not as markup
        shown = page.run("[...document.querySelectorAll('#facts dd')].map((d) => d.textContent)")
        assert shown[0] == f"{expected['score']:.4f}"
        assert shown[4] == f"{expected['mos']:.2f}"
        title = {"bona fide": "Likely real speech", "spoof": "Likely synthetic or manipulated"}
        verdict = page.run("document.querySelector('#verdict').textContent")
        assert verdict == title.get(expected["verdict"], "Uncertain: no verdict")
        assert page.run("document.querySelectorAll('#rows tr').length") == len(expected["windows"])
        assert page.run("document.querySelectorAll('#chart .span').length") == sum(
            w["score"] is not None for w in expected["windows"]
        )
        assert page.run("document.querySelectorAll('#chart .pause').length") > 0
        assert page.run("document.querySelectorAll('#cautions li').length") == len(expected["warnings"])
        assert page.run("document.activeElement.id") == "verdict"  # where a screen reader goes on
        left, top, width, height = page.run(
            "(() => { const r = document.querySelector('#chart').getBoundingClientRect();"
            " return [r.x, r.y, r.width, r.height]; })()"
        )
        page.move_to(left + 0.9 * width, top + height / 2)
        page.wait_for("!document.querySelector('#tip').hidden")
        assert " s: " in page.run("document.querySelector('#tip').textContent")
        page.wait_for("document.querySelector('#player').readyState > 0")
        assert page.run("document.querySelector('#player').duration") == pytest.approx(4, abs=0.1)
        assert page.complaints == []

        for dark in (False, True):
            page.resize(390, 844, dark=dark)
            assert page.run("document.documentElement.scrollWidth") <= 390
        page.resize(1280, 900)

        page.run("document.querySelector('#record').click()")
        page.wait_for("document.querySelector('#clock').textContent === '0:01'")
        page.run("document.querySelector('#stop').click()")
        page.wait_for("document.querySelector('#name').textContent.startsWith('recording')")
        page.wait_for("!document.querySelector('#result').hidden")
        assert float(page.run("document.querySelectorAll('#facts dd')[5].textContent").split()[0]) >= 1
        assert page.complaints == []

        (tmp_path / "bad.wav").write_bytes(b"not sound")
        page.choose_file("#file", tmp_path / "bad.wav")
        page.wait_for("!document.querySelector('#problem').hidden")
        assert "not a recording" in page.run("document.querySelector('#problem').textContent")
        assert page.run("document.querySelector('#result').hidden")
        allowed = (f"http://127.0.0.1:{port}/", "data:", f"blob:http://127.0.0.1:{port}/")
        assert [url for url in page.requested if not url.startswith(allowed)] == []
