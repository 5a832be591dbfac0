"""`prepare.py authors` against a server of this machine: checked bytes, resuming, and sentences where it fails."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import prepare
import score_ood_dataset
from corpora import authors
from qamo.trials.authors import FILES, Published

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT.parent / "shared" / "reference_data"


class Mirror(ThreadingHTTPServer):
    """Serves `files` by path; `cut` ends each answer after so many bytes, `asked` has the paths with their ranges."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.cut, self.ranges = files, 1 << 30, True
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/repository"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        path = self.path.removeprefix("/repository/")
        self.server.asked.append((path, wanted))
        if path not in self.server.files:
            self.send_error(404)
            return
        content, begun = self.server.files[path], 0
        if wanted and self.server.ranges:
            begun = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if begun else 200)
        self.send_header("Content-Length", str(len(content) - begun))
        self.end_headers()
        self.wfile.write(content[begun:][: self.server.cut])

    def log_message(self, *args: object) -> None:
        pass


CONTENT = {
    "database/a/train.txt": b"S x - - bonafide 4.1\n" * 9000,
    "database/ood_ds_keys/ITW/meta.csv": b"file,speaker,label\n0.wav,A,spoof\n1.wav,A,bona-fide\n",
}


def published(target: str, *sources: str, content: bytes) -> Published:
    return Published("itw", target, sources, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    first, second = CONTENT
    files = [
        published("LA/train.txt", "database/elsewhere/train.txt", first, content=CONTENT[first]),
        published("ood_ds_keys/ITW/meta.csv", second, content=CONTENT[second]),
    ]
    monkeypatch.setattr(authors, "FILES", files)
    server = Mirror(dict(CONTENT))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(to: Path, url: str, *words: str) -> int:
    return prepare.main(["authors", "--to", str(to), "--url", url, *words])


def test_files_come_from_wherever_they_lie_and_are_not_fetched_again(mirror, tmp_path, capsys):
    assert fetch(tmp_path, mirror.url) == 0
    assert (tmp_path / "LA" / "train.txt").read_bytes() == CONTENT["database/a/train.txt"]
    assert "2 of 2 of the authors' files are in place" in capsys.readouterr().out
    n_asked = len(mirror.asked)
    assert fetch(tmp_path, mirror.url) == 0
    assert len(mirror.asked) == n_asked
    assert "train.txt: there already" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_ended(mirror, tmp_path, capsys, ranges):
    mirror.cut, mirror.ranges = 100_000, ranges
    assert fetch(tmp_path, mirror.url) == 2
    assert "ended after 100,000 of 189,000 bytes; start the same command again" in capsys.readouterr().err
    assert not (tmp_path / "LA" / "train.txt").exists()
    assert (tmp_path / "ood_ds_keys" / "ITW" / "meta.csv").exists()  # the others are fetched
    mirror.cut = 1 << 30
    assert fetch(tmp_path, mirror.url) == 0
    assert mirror.asked[-1] == ("database/a/train.txt", "bytes=100000-")
    assert (tmp_path / "LA" / "train.txt").read_bytes() == CONTENT["database/a/train.txt"]


def test_other_bytes_are_refused_and_leave_nothing(mirror, tmp_path, capsys):
    for change in (lambda b: b[:-1] + b"X", lambda b: b + b"more"):
        mirror.files["database/a/train.txt"] = change(CONTENT["database/a/train.txt"])
        assert fetch(tmp_path, mirror.url) == 2
        assert "expected SHA-256" in capsys.readouterr().err
        assert not list((tmp_path / "LA").iterdir())


def test_a_spoilt_part_of_before_is_fetched_anew(mirror, tmp_path):
    mirror.cut = 1000
    assert fetch(tmp_path, mirror.url) == 2
    part = next((tmp_path / "LA").glob(".*.part"))
    part.write_bytes(b"x" * 1000)
    mirror.cut = 1 << 30
    assert fetch(tmp_path, mirror.url) == 0


def test_what_someone_made_there_is_kept_unless_told_otherwise(mirror, tmp_path, capsys):
    (tmp_path / "LA").mkdir()
    (tmp_path / "LA" / "train.txt").write_text("mine\n")
    assert fetch(tmp_path, mirror.url) == 2
    assert "train.txt: holds something else; move it away, or say --force" in capsys.readouterr().err
    assert (tmp_path / "LA" / "train.txt").read_text() == "mine\n"
    assert fetch(tmp_path, mirror.url, "--force") == 0
    assert (tmp_path / "LA" / "train.txt").read_bytes() == CONTENT["database/a/train.txt"]


def test_without_a_network_one_sentence_says_what_to_do(mirror, tmp_path, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv(authors.ENVIRONMENT, f"http://127.0.0.1:{free.getsockname()[1]}")
    assert prepare.main(["authors", "--to", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "cannot be reached" in lines[0]
    assert "git clone https://github.com/ductuantruong/QAMO" in lines[0]
    assert fetch(tmp_path, "ftp://x") == 2
    assert "expected an address that begins with https://" in capsys.readouterr().err
    assert prepare.main(["itw", "--from", str(tmp_path), "--url", mirror.url]) == 2
    assert "--url has no effect but with authors" in capsys.readouterr().err


def test_a_file_that_is_nowhere_is_told_and_the_others_come(mirror, tmp_path, capsys):
    del mirror.files["database/a/train.txt"]
    assert fetch(tmp_path, mirror.url) == 2
    assert "not found at" in capsys.readouterr().err
    assert (tmp_path / "ood_ds_keys" / "ITW" / "meta.csv").exists()


def test_commands_that_miss_a_list_name_the_command_that_fetches_it(tmp_path, capsys):
    (tmp_path / "s.txt").write_text("0.wav 1\n")
    for keys in ("database/ood_ds_keys/ITW/", "database/ood_ds_keys/FoR/meta.csv"):
        assert score_ood_dataset.main([str(tmp_path / "s.txt"), str(tmp_path / keys)]) == 2
        assert "no such file or folder; `python database/prepare.py authors` fetches" in capsys.readouterr().err
    assert score_ood_dataset.main([str(tmp_path / "s.txt"), str(tmp_path / "mine.csv")]) == 2
    assert "prepare.py authors" not in capsys.readouterr().err


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the authors' files are not beside this checkout")
def test_the_authors_own_files_land_where_commands_look(tmp_path, capsys):
    held = {path.name: path for path in REFERENCE.glob("protocols*/*")}
    files = {}
    for file in FILES:
        name = file.sources[0].rpartition("/")[2]
        source = held.get(name) or REFERENCE / "keys" / file.target.split("/")[1] / name
        assert source.stat().st_size == file.n_bytes
        files[file.sources[-1]] = source.read_bytes()
    server = Mirror(files)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        assert fetch(tmp_path, server.url) == 0
    finally:
        server.shutdown()
        server.server_close()
    capsys.readouterr()
    scores = REFERENCE / "scores" / "in_the_wild_sls.txt"
    words = [str(scores), f"{tmp_path}/ood_ds_keys/ITW/", "--resamples", "0"]
    assert score_ood_dataset.main(words) == 0
    assert capsys.readouterr().out.startswith("eer: 7.46\n")
    folders = authors.fetched(tmp_path, "itw")
    assert [str(folder.relative_to(tmp_path)) for folder in folders] == ["protocols", "ood_ds_keys/ITW"]
    wild = tmp_path / "got" / "release_in_the_wild"
    wild.mkdir(parents=True)
    for i in range(31_779):
        (wild / f"{i}.wav").touch()
    (wild / "meta.csv").write_bytes((REFERENCE / "keys" / "ITW" / "meta.csv").read_bytes())
    assert prepare.main(["itw", "--from", str(tmp_path / "got"), "--to", str(tmp_path)]) == 0
    assert (tmp_path / "release_in_the_wild" / "7.wav").exists()
