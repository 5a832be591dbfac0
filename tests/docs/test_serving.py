"""docs/serving.md: its curl lines are answered, its commands and units are taken."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import serve
from qamo.inference.guard import Access
from tests.support.serving import sound, stand_in

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
TOKEN = "a-secret-of-some-length"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def lines(program: str) -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith(program)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_every_curl_line_of_the_page_is_answered(tmp_path):
    (tmp_path / "clip.wav").write_bytes(sound())
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert len(lines("curl")) >= 6
    with stand_in() as here, stand_in(access=Access(token=TOKEN)) as beyond:
        for line in lines("curl"):
            server = beyond if "Bearer" in line else here
            command = line.replace("curl", "curl -sS --fail", 1).replace(":7860", f":{server.port}")
            done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stderr)
            answer = json.loads(done.stdout)
            if "judge" in line:
                assert answer["score"] == pytest.approx(0.1, abs=1e-3)
            if "file=" in line:
                assert answer["path"] == "clip.wav"


def test_every_start_of_the_server_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maker = lines("python -c")[0]
    subprocess.run(["bash", "-c", maker], check=True)
    starts = [shlex.split(line)[2:] for line in lines("python serve.py")]
    unit = re.search(r"^ExecStart=\S+ serve (.*)$", PAGE, re.MULTILINE)
    docker = re.search(r"^CMD (\[.*\])$", PAGE, re.MULTILINE)
    starts += [shlex.split(unit[1].replace("${CREDENTIALS_DIRECTORY}/", "")), json.loads(docker[1])[2:]]
    assert len(starts) == 5
    for words in starts:
        args = serve.build_parser().parse_args(words)
        serve.limits_of(args)
        serve.settings_of(args)
        monkeypatch.setenv("QAMO_TOKEN", TOKEN) if words is starts[-1] else None
        assert (
            serve.token_of(args, is_needed=args.host != "127.0.0.1" or bool(args.allow_host)) or "--host" not in words
        )


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint here")
def test_the_dockerfile_has_nothing_that_hadolint_names():
    words = ["hadolint", "--no-color", "-"]
    done = subprocess.run(words, input=blocks("dockerfile")[0], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    worse = blocks("dockerfile")[0].replace("USER 10001", "USER root")
    assert subprocess.run(words, input=worse, capture_output=True, text=True).returncode == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_has_no_unknown_settings(tmp_path):
    (tmp_path / "qamo.service").write_text(blocks("ini")[0].replace("/opt/qamo/bin/qamo", shutil.which("true")))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "qamo.service")], capture_output=True, text=True, timeout=60
    )
    assert "Unknown" not in done.stderr, done.stderr
    assert "Failed to parse" not in done.stderr, done.stderr
