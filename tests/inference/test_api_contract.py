"""What others rely on: HEAD, the description of the API, the path of a proxy, an answer where the process is down."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import socket
from pathlib import Path

import pytest

from qamo.inference import worker
from qamo.inference.answers import Channels, Detector, Problem
from qamo.inference.guard import Access
from qamo.inference.judging import Settings
from tests.support.proxy import PREFIX, proxy_to
from tests.support.serving import sound, stand_in, stereo, wait_until
from tests.support.stand_in import SLOW

TOKEN = "a-secret-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NAME = "speech.example.org"


@pytest.fixture(scope="module")
def server():
    with stand_in() as running:
        yield running


@pytest.fixture(scope="module")
def guarded():
    with stand_in(access=Access(hosts=(NAME,), token=TOKEN), root_path=PREFIX, log=True) as running:
        yield running


def test_head_is_answered_as_get_without_the_body(server):
    for path in ("/", "/serve.js", "/about", "/v1/detector", "/healthz", "/openapi.json", "/none", "/v1/judge"):
        status, body, headers = server.ask("GET", path)
        found, nothing, same = server.ask("HEAD", path)
        headers.pop("date"), same.pop("date")
        assert (found, nothing, same) == (status, b"", headers)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:  # as it goes over the wire
            connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            answer = connection.makefile("rb").read()
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1
        assert body


def test_head_needs_the_token_and_is_logged_as_what_it_is(guarded, capfd):
    assert guarded.ask("HEAD", "/healthz")[0] == 200
    assert guarded.ask("HEAD", "/v1/detector")[0] == 401
    assert guarded.ask("HEAD", "/v1/detector", **BEARER)[0] == 200
    assert guarded.ask("HEAD", "/private", **BEARER)[0] == 404
    said = []
    wait_until(lambda: said.extend(capfd.readouterr().err.splitlines()) or len(said) == 4)
    found = [json.loads(line) for line in said]
    assert {line["method"] for line in found} == {"HEAD"}
    assert [line["route"] for line in found] == ["/healthz", "/v1/detector", "/v1/detector", None]


def test_an_unknown_address_or_method_is_a_sentence_and_no_redirect(server):
    for method, path, status, said in (
        ("GET", "/docs", 404, "/openapi.json"), ("GET", "/healthz/", 404, "/openapi.json"),
        ("POST", "/v1/judge/", 404, "/openapi.json"), ("GET", "/v1/judge", 405, "Allow"),
        ("DELETE", "/healthz", 405, "Allow"),
    ):  # fmt: skip
        found, body, _ = server.ask(method, path)
        assert found == status
        assert said in json.loads(body)["error"]


def test_the_description_says_what_is_answered(server):
    schema = json.loads(server.ask(path="/openapi.json")[1])
    answers = schema["paths"]["/v1/judge"]["post"]["responses"]
    for status, answer in answers.items():
        content = json.dumps(answer["content"]["application/json"]["schema"])
        assert ("Problem" in content) == (status != "200")
    properties = {name: set(model["properties"]) for name, model in schema["components"]["schemas"].items()}
    status, found = server.upload(sound(), "/v1/judge")
    assert (status, set(found)) == (200, properties["Judgement"])
    each = Channels.model_validate(server.upload(stereo(), "/v1/judge?channel=each")[1])
    assert len(each.channels) == 2
    about = json.loads(server.ask(path="/v1/detector")[1])
    assert set(about) == properties["Detector"]
    assert Detector.model_validate(about).window_seconds == 0.5
    for path in ("/v1/judge", "/none"):
        assert set(json.loads(server.ask(path=path)[1])) == set(Problem.model_fields)
    assert "security" not in schema["paths"]["/v1/judge"]["post"]


def test_a_client_made_from_the_description_sends_the_token_and_asks_the_proxy(guarded):
    with proxy_to(guarded.port) as port:

        def ask(method, path, body=None, **more):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, body, {"Host": f"{NAME}:8443", **more})
            answer = connection.getresponse()
            return answer.status, answer.read()

        schema = json.loads(ask("GET", f"{PREFIX}/openapi.json", **BEARER)[1])
        (scheme,) = schema["components"]["securitySchemes"].values()
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        assert "security" not in schema["paths"]["/healthz"]["get"]
        base = schema["servers"][0]["url"]
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                headers = BEARER if "security" in operation else {}
                body = sound() if "requestBody" in operation else None
                assert ask(method.upper(), base + path, body, **headers)[0] == 200

        page = ask("GET", f"{PREFIX}/")[1].decode()
        script = ask("GET", f"{PREFIX}/serve.js")[1].decode()
        named = re.findall(r'(?:src|href)="([^"#:,]+)"', page) + re.findall(r'fetch\("([^"]+)"', script)
        assert {"serve.js", "serve.css", "token.js", "about", "judge"} <= set(named)
        for name in named:  # relative, so they lead to the proxy's path
            assert not name.startswith("/")
            method, body = ("POST", sound()) if name == "judge" else ("GET", None)
            more = {"X-Qamo": "1", "Origin": f"https://{NAME}:8443"} if name == "judge" else {}
            assert ask(method, f"{PREFIX}/{name}", body, **BEARER, **more)[0] == 200
        assert ask("GET", "/v1/detector", **BEARER)[0] == 404


def test_a_process_that_does_not_start_again_is_said_to_clients_and_to_the_log(server, monkeypatch, capfd):
    monkeypatch.setattr(worker, "START_S", 0.3)
    whole = server.worker.settings
    fields = {field.name: getattr(whole, field.name) for field in dataclasses.fields(Settings)}
    server.worker.settings = Settings(**{**fields, "run": Path("/none")})
    server.worker._process.kill()
    wait_until(lambda: server.ask(path="/healthz")[0] == 503)
    status, body, headers = server.ask("POST", "/v1/judge", sound())
    assert (status, headers["retry-after"]) == (503, "60")
    assert "does not start" in json.loads(body)["error"]
    assert server.service.taken == []
    server.worker.settings = whole
    wait_until(lambda: server.ask(path="/healthz")[0] == 200)
    assert server.upload(sound())[0] == 200
    assert "serve.py: the judging process does not start: /none: no such file" in capfd.readouterr().err


def test_a_recording_that_hangs_is_given_up_and_the_next_is_judged(server, monkeypatch):
    monkeypatch.setattr(worker, "STALL_S", 0.5)
    status, answer = server.upload(sound(SLOW, 1))  # says nothing for a second
    assert (status, answer["error"]) == (422, "recording: took too long and was given up")
    monkeypatch.undo()
    assert server.upload(sound())[0] == 200
