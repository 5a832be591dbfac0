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
            if self.path.startswith("/owner/private/"):
                self.refuse("", 401)
            elif self.path.startswith("/owner/gated/"):
                self.refuse("GatedRepo", 403)
            elif self.path.startswith("/owner/other/"):
                self.refuse("EntryNotFound")
            elif not place:
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

        def refuse(self, why, status=404):
            self.send_response(status)
            if why:
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


ABSENT = "the Hugging Face hub has no such repository, or it is private; check the name, or `hf auth login`"
SAID = {  # a repository -> the end of the sentence
    "owner/none": ABSENT,
    "owner/private": ABSENT,
    "owner/gated": "its owner gives access on request; ask at https://huggingface.co/owner/gated, then `hf auth login`",
    "owner/other": "https://huggingface.co/owner/other has no model.safetensors, so it is of another kind; check the "
    "name",
}
OFFLINE = (
    "the Hugging Face hub cannot be reached and its cache does not hold it; where there is a network, download "
    "https://huggingface.co/{name}, copy it here and give its path"
)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_what_cannot_be_fetched_is_a_sentence_that_says_why_and_what_to_do(endpoint, tmp_path, offline):
    code = (
        "import sys\nfrom qamo import InputError, hub\n"
        "for name in sys.argv[1:]:\n"
        "    try: hub.local(name)\n    except InputError as error: print(error)"
    )
    variables = {"HF_ENDPOINT": endpoint[0], "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline}
    command = [sys.executable, "-c", code, *SAID]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{name}: no such file, and {OFFLINE.format(name=name) if offline == '1' else said}"
        for name, said in SAID.items()
    ]


def test_the_command_says_it_in_one_line(endpoint, built_corpus, tmp_path):
    variables = {"HF_ENDPOINT": endpoint[0], "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    done = judge("owner/none", built_corpus / "wild" / "0.wav", **variables)
    assert (done.returncode, done.stderr) == (2, f"inference.py: owner/none: no such file, and {SAID['owner/none']}\n")


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
