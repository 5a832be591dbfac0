"""Detectors by their hub name, against a stand-in of the hub's HTTP interface on this computer."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import nn

import export
from qamo import hub
from tests.support.xlsr import with_two_logits, xlsr

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(trained_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "detector"
    assert export.main([str(trained_run), "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A repository of another program: the weights of a network and of two logits, and nothing else."""
    folder = tmp_path_factory.mktemp("weights")
    network = xlsr(hidden_size=768, n_heads=12, n_layers=1).network  # a published width, which tells the heads
    save_file(with_two_logits(network, nn.Linear(768, 2), "ssl.", "out"), folder / "model.safetensors")
    return folder


@pytest.fixture
def endpoint(folder, weights):
    """The address of a hub with two repositories, owner/detector and owner/weights, and a list of what was asked."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            if "/resolve/" in self.path:
                asked.append(self.path)
            self.answer()

        def answer(self):
            place = re.fullmatch(rf"/owner/(detector|weights)/resolve/(?:main|{COMMIT})/([\w.]+)", self.path)
            file = {"detector": folder, "weights": weights}[place[1]] / place[2] if place else folder
            if not place:
                self.refuse("RepoNotFound")
            elif not file.is_file():
                self.refuse("EntryNotFound")
            else:
                body = file.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        def refuse(self, why):
            self.send_response(404)
            self.send_header("X-Error-Code", why)
            self.send_header("X-Error-Message", why)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def judge(name: str, recording: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """inference.py in a process of its own, for the hub's address is read when its package is imported."""
    words = [sys.executable, "inference.py", "--ckpt_path", name, "--csv", str(recording)]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)


def test_a_detector_is_fetched_once_and_judges_offline_afterwards(endpoint, folder, built_corpus, tmp_path):
    address, asked = endpoint
    recording = built_corpus / "wild" / "0.wav"
    variables = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    first = judge("owner/detector", recording, **variables)
    assert first.returncode == 0, first.stderr
    fetched = {path.rsplit("/", 1)[1] for path in asked}
    assert fetched == {"calibration.json", "model.safetensors", "qamo.json"}
    n_asked = len(asked)
    offline = judge("owner/detector", recording, **{**variables, "HF_HUB_OFFLINE": "1"})
    assert (offline.returncode, offline.stdout) == (0, first.stdout)
    assert len(asked) == n_asked
    here = judge(str(folder), recording)
    assert here.stdout == first.stdout


def test_the_weights_of_another_program_judge_by_their_hub_name(endpoint, weights, built_corpus, tmp_path):
    variables = {"HF_ENDPOINT": endpoint[0], "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    recording = built_corpus / "wild" / "0.wav"
    fetched = judge("owner/weights", recording, **variables)
    assert fetched.returncode == 0, fetched.stderr
    here = judge(str(weights / "model.safetensors"), recording)
    assert fetched.stdout.replace("weights,", "model.safetensors,") == here.stdout


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["absent", "offline"])
def test_what_cannot_be_fetched_is_a_sentence(endpoint, built_corpus, tmp_path, more):
    variables = {"HF_ENDPOINT": endpoint[0], "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", **more}
    done = judge("owner/none", built_corpus / "wild" / "0.wav", **variables)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("inference.py: owner/none: no such file, and it cannot be")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("owner/detector", True), ("owner/detector-1.0", True), ("docs/absent", False),
        ("owner/model.pt", False), ("owner/model.onnx", False), ("./owner/x", False), ("a/b/c", False),
        ("owner", False), ("/owner/x", False), ("../owner", False),
    ],
)  # fmt: skip
def test_what_is_a_name_and_what_is_a_path(text, is_name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert hub.is_name(text) == is_name


def test_the_command_that_uploads_takes_a_folder():
    program = Path(sys.executable).parent / "hf"
    said = subprocess.run(
        [program, "upload", "--help"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert said.returncode == 0, said.stderr
    assert "REPO_ID" in said.stdout
    assert "LOCAL_PATH" in said.stdout
