"""The server and its API with a stand-in for the detector: what is answered, who is refused, what outlives what."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from qamo.inference import api_server, guard, judging
from qamo.inference.guard import Access
from qamo.inference.judging import Limits
from tests.support.serving import Running, in_threads, sound, stand_in, stereo, wait_until
from tests.support.stand_in import DEADLY, SLOW, opens_for_writing


@pytest.fixture(scope="module")
def server():
    with stand_in() as running:
        yield running


def raw(server: Running, text: str, *, end: bool = False) -> bytes:
    """The answer to bytes that no client library sends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(text.encode("latin-1"))
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
            if b"}" in piece:
                break
        return answer


def form(body: bytes, field: str = "file", name: str = "a.wav") -> tuple[bytes, str]:
    head = f'--XX\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + body + b"\r\n--XX--\r\n", "multipart/form-data; boundary=XX"


def test_a_raw_body_and_a_form_are_judged_alike_and_without_what_only_the_page_draws(server):
    status, found = server.upload(sound(), "/v1/judge", X_Name="a.wav")
    body, kind = form(sound())
    assert server.upload(body, "/v1/judge", Content_Type=kind) == (status, found)
    assert (status, found["path"]) == (200, "a.wav")
    assert found["score"] == pytest.approx(0.1, abs=1e-3)
    assert "low" not in found
    page = server.upload(sound(), X_Name="a.wav")[1]
    assert len(page.pop("low")) == len(page.pop("high")) == judging.N_COLUMNS
    assert page == found


def test_of_several_channels_one_their_mean_or_each_is_judged(server):
    body = stereo()
    expected = {"left": 0.1, "right": 0.3, "mix": 0.2}
    for channel, score in expected.items():
        status, found = server.upload(body, f"/v1/judge?channel={channel}")
        assert (status, found["score"]) == (200, pytest.approx(score, abs=1e-3))
    each = server.upload(body, "/v1/judge?channel=each")[1]["channels"]
    assert [found["score"] for found in each] == pytest.approx([0.1, 0.3], abs=1e-3)
    assert "low" not in each[0]
    status, answer = server.upload(body, "/v1/judge?channel=middle")
    assert status == 422
    assert answer["error"].startswith("channel: ")


def test_a_form_without_a_file_or_damaged_is_refused(server):
    body, kind = form(sound(), field="other")
    assert server.upload(body, "/v1/judge", Content_Type=kind)[0] == 400
    assert server.upload(b"--XX no form", "/v1/judge", Content_Type=kind)[0] == 400
    assert server.upload(body, "/v1/judge", Content_Type="multipart/form-data")[0] == 400
    two = form(sound())[0].replace(b"--XX--\r\n", b"") + form(sound())[0]
    status, answer = server.upload(two, "/v1/judge", Content_Type=kind)
    assert (status, "Maximum number of files is 1" in answer["error"]) == (400, True)


def test_what_the_detector_is_and_that_the_server_works(server):
    about = json.loads(server.ask(path="/v1/detector")[1])
    assert (about["detector"], about["max_bytes"], about["max_seconds"]) == ("stand-in", 1_000_000, 30.0)
    assert server.ask(path="/healthz")[:2] == (200, b'{"status":"ok"}')


def test_the_schema_names_every_path_and_loads_nothing_from_outside(server):
    schema = json.loads(server.ask(path="/openapi.json")[1])
    assert set(schema["paths"]) == {"/v1/judge", "/v1/detector", "/healthz"}
    assert "multipart/form-data" in schema["paths"]["/v1/judge"]["post"]["requestBody"]["content"]
    assert "probability_bonafide" in schema["components"]["schemas"]["Judgement"]["properties"]
    assert {"413", "422", "429"} <= set(schema["paths"]["/v1/judge"]["post"]["responses"])
    assert [server.ask(path=path)[0] for path in ("/docs", "/redoc")] == [404, 404]


def test_every_answer_carries_the_rules_of_the_page(server):
    for path in ("/", "/serve.js", "/about", "/none", "/healthz"):
        headers = {key.lower(): value for key, value in server.ask(path=path)[2].items()}
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["server"] == "qamo"


def test_nothing_is_written_and_nothing_of_this_computer_can_be_read(server):
    written, is_over = [], False

    def hook(event, args):  # nothing can take it away again
        if not is_over and opens_for_writing(event, args):
            written.append(args[0])

    sys.addaudithook(hook)
    assert server.upload(sound(), X_Name="../../etc/passwd")[1]["path"] == "passwd"
    body, kind = form(sound(n_windows=50), name="../../etc/passwd")
    assert server.upload(body, "/v1/judge", Content_Type=kind)[1]["path"] == "passwd"
    is_over = True
    assert written == []  # here; the judging process has a hook of its own
    for path in ("/../serve.py", "/serve.py", "/qamo/inference/assets/serve.js", "//etc/passwd", "/%2e%2e/serve.py"):
        status, answer, _ = server.ask(path=path)
        assert status == 404
        assert b"root:" not in answer
    assert server.ask(path="/judge")[0] == 405
    assert server.ask(path="/?a=/etc")[0] == 200


def test_large_long_and_unreadable_uploads_are_refused(server, tmp_path):
    status, answer = server.upload(b"x" * 1_000_001)
    assert (status, answer["error"]) == (413, "larger than 1 MB; cut the recording")
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 31, np.int16), 16_000)
    status, answer = server.upload((tmp_path / "long.flac").read_bytes(), X_Name="long.flac")
    assert status == 422
    assert answer["error"].startswith("long.flac: longer than 0.5 minutes")
    status, answer = server.upload(b"not sound", X_Name="a.wav")
    assert status == 422
    assert "a.wav: not a recording" in answer["error"]
    assert server.upload(b"")[0] == 422


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Host: 127.0.0.1\r\nX-Qamo: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("Host: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("Host: 127.0.0.1\r\nContent-Length: 1x\r\n\r\n", 400),
        (f"Host: 127.0.0.1\r\nContent-Length: {'9' * 5_000}\r\n\r\n", 400),
        ("Host: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("Host: 127.0.0.1\r\nX-Qamo: 1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("Content-Length: 0\r\n\r\n", 400),
        ("Host: [::1\r\nContent-Length: 0\r\n\r\n", 400),
        ("Host: 127.0.0.1:port\r\nContent-Length: 0\r\n\r\n", 400),
        ("Host: 127.0.0.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", 400),
        ("Host: a b\r\nContent-Length: 0\r\n\r\n", 400),
        ("Host:\r\nContent-Length: 0\r\n\r\n", 400),
        ("Host: evil.example@127.0.0.1\r\nContent-Length: 0\r\n\r\n", 400),
    ],
)
def test_malformed_hosts_and_lengths_are_answered(server, head, status):
    assert f" {status} ".encode() in raw(server, f"POST /judge HTTP/1.1\r\n{head}")[:20]
    assert server.upload(sound())[0] == 200


def test_an_upload_that_is_cut_off_is_not_judged(server):
    head = "POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Qamo: 1\r\nContent-Length: 1000\r\n\r\nabc"
    assert b" 400 " in raw(server, head, end=True)


def test_other_pages_cannot_use_it(server):
    assert server.upload(sound(), Origin="http://evil.example")[0] == 403
    assert server.upload(sound(), "/v1/judge", Origin="http://evil.example")[0] == 403
    assert server.upload(sound(), Origin="null")[0] == 403
    assert server.upload(sound(), Host="evil.example")[0] == 403  # a name that was made to point to this computer
    assert server.ask(Host="evil.example")[0] == 403
    status, _, headers = server.ask("POST", "/judge", sound())
    assert status == 403  # a form cannot send the header
    assert "Access-Control-Allow-Origin" not in headers
    assert server.ask("OPTIONS", "/judge", Origin="http://evil.example")[0] in (403, 405)
    assert server.ask(Host=f"localhost:{server.port}")[0] == 200
    assert server.upload(sound(), Origin=f"http://127.0.0.1:{server.port}")[0] == 200


def test_who_asks_for_lines_hears_of_progress(server):
    status, body, headers = server.ask("POST", "/judge", sound(), X_Qamo="1", Accept=api_server.NDJSON)
    *steps, last = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["content-type"]) == (200, api_server.NDJSON)
    assert steps == [{"work": "scoring", "done": k, "of": 2} for k in (0, 1)]
    assert last["score"] == server.upload(sound())[1]["score"]
    status, body, _ = server.ask("POST", "/judge", b"no sound", X_Qamo="1", Accept=api_server.NDJSON)
    assert status == 422
    assert "not a recording" in json.loads(body)["error"]


def test_more_recordings_than_places_are_turned_away_and_none_is_reset(server):
    found = list(in_threads([lambda: server.ask("POST", "/v1/judge", sound(SLOW, 1)) for _ in range(40)]))
    assert {status for status, _, _ in found} <= {200, 429}
    assert {200, 429} <= {status for status, _, _ in found}
    assert all(int(headers["retry-after"]) >= 1 for status, _, headers in found if status == 429)
    assert server.service.taken == []
    assert server.service.n_uploading == 0


def test_slow_uploads_hold_no_place(server):
    head = b"POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Qamo: 1\r\nContent-Length: 1000\r\n\r\nabc"
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(head)
        assert server.upload(sound())[0] == 200
    finally:
        for connection in slow:
            connection.close()
    wait_until(lambda: server.service.n_uploading == 0)


def test_a_short_recording_does_not_wait_for_the_end_of_a_long_one(server):
    long = threading.Thread(target=server.upload, args=(sound(SLOW, 6),))
    long.start()
    wait_until(lambda: server.service.taken)
    began = time.monotonic()
    assert server.upload(sound())[0] == 200
    assert time.monotonic() - began < 8  # the long one takes eleven seconds
    assert long.is_alive()
    long.join()


@pytest.mark.parametrize("accept", ["application/json", api_server.NDJSON])
def test_what_nobody_waits_for_is_given_up(server, accept, monkeypatch):
    heard, hear = [], server.worker._heard
    monkeypatch.setattr(server.worker, "_heard", lambda said: (heard.append(dict(said)), hear(said)))
    body = sound(SLOW, 15)  # half a minute, in batches of two seconds
    head = f"POST /judge HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Qamo: 1\r\nAccept: {accept}\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        wait_until(lambda: heard)
    wait_until(lambda: not server.service.taken, seconds=5)
    assert server.upload(sound())[0] == 200
    time.sleep(2.5)  # the batch in work
    n_heard = len(heard)
    time.sleep(2.5)
    assert heard[n_heard:] == []  # the process has stopped: it tells of each batch


def test_a_file_that_ends_the_process_is_refused_and_others_are_answered(server):
    deaths = server.worker.n_deaths
    found = list(in_threads([lambda first=first: server.upload(sound(first)) for first in (0.1, DEADLY, 0.2)]))
    assert [status for status, _ in found] == [200, 422, 200]
    assert "the process that tried ended" in found[1][1]["error"]
    assert server.worker.n_deaths >= deaths + 3
    assert server.upload(sound())[0] == 200


def test_late_heads_are_cut_off(server, monkeypatch):
    monkeypatch.setattr(api_server, "HEAD_S", 0.3)
    for begun in (b"", b"GET / HTTP/1.1\r\nHost:"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(begun)
            began = time.monotonic()
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
            assert time.monotonic() - began < 5


def test_late_bodies_are_answered(server, monkeypatch):
    monkeypatch.setattr(api_server, "UPLOAD_S", 0.3)
    monkeypatch.setattr(guard, "DRAIN_S", 0.3)
    head = "POST /v1/judge HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc"
    assert b" 408 " in raw(server, head)


def test_with_a_token_only_its_bearer_is_served(capfd):
    token = "a-secret-of-some-length"
    access = Access(is_local=True, hosts=("detector.example",), token=token)
    with stand_in(access=access, root_path="/detector", log=True) as server:
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            status, _, headers = server.ask("POST", "/v1/judge", sound(), **wrong)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert server.ask(path="/about", **wrong)[0] == 401
            assert server.ask(path="/openapi.json", **wrong)[0] == 401
        assert server.ask()[0] == server.ask(path="/healthz")[0] == 200
        right = {"Authorization": f"Bearer {token}"}
        status, _ = server.upload(sound(), "/v1/judge", X_Name="private.wav", Host="detector.example", **right)
        assert status == 200
        assert server.ask(path="/about", Host="detector.example", **right)[0] == 200
        assert server.ask(path="/about", Host="other.example", **right)[0] == 403
        schema = json.loads(server.ask(path="/openapi.json", **right)[1])
        assert schema["servers"] == [{"url": "/detector"}]
    said = capfd.readouterr().err
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert {"method": "POST", "route": "/v1/judge", "status": 200}.items() <= lines[-4].items()
    assert "private" not in said
    assert token not in said


def test_one_client_beyond_this_computer_takes_half_of_the_places(server):
    server.service.taken[:] = ["10.0.0.1"] * 2
    try:
        with pytest.raises(api_server.HTTPException):
            server.service.check_place("10.0.0.1")
        server.service.check_place("10.0.0.2")
    finally:
        server.service.taken.clear()


def test_uploads_together_take_no_more_memory_than_twice_the_places(server, monkeypatch):
    service = server.service
    most = 2 * service.limits.n_places * service.limits.n_bytes
    monkeypatch.setattr(service, "n_uploading", most + 1)
    assert server.upload(sound())[0] == 429  # before it is read
    service.n_uploading = most - 200_000
    assert server.upload(sound(n_windows=50))[0] == 429  # 0.8 MB, while it is read
    assert service.n_uploading == most - 200_000


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)],
)
def test_what_is_this_computer(host, loopback):
    assert guard.is_loopback(host) == loopback


def test_places_and_memory_are_freed(server):
    wait_until(lambda: server.service.taken == [])
    assert server.service.n_uploading == 0
    assert server.service.limits == Limits(1_000_000, 4)
