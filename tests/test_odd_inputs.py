"""Odd inputs by kind: each ends in a sentence and a status, never in a traceback, a wait, or a wrong result.

A kind is what can stand where something else is expected; each is tried on every reader of its sort. Commands run in
this process, where an exception that they let through fails the test, and an alarm ends one that waits.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import export
import inference
import main
import predict_mos
import report
import score_ood_dataset
import serve
from qamo import InputError, files
from qamo.networks.xlsr_files import read_xlsr
from tests.support.alarm import LONGEST_S, alarmed

ROOT = Path(__file__).parents[1]
Command = Callable[[list[str]], int]
tried: list[Command] = []  # a command for each input


def status_of(command: Command, words: list[object]) -> int:
    """The exit status; what is no status of a command, a traceback for one, is raised."""
    tried.append(command)
    with alarmed():
        try:
            return command([str(word) for word in words])
        except SystemExit as stopped:
            return int(stopped.code or 0)


def refused(command: Command, words: list[object], capsys: pytest.CaptureFixture[str], *names: str) -> None:
    """Status 2, and a sentence in which one of the names stands."""
    assert status_of(command, words) == 2, words
    said = capsys.readouterr().err
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert any(name in last for name in names), (words, last)
    assert len(last) < 1000


# ---- files of a run, damaged

RUBBISH: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "not UTF-8": b'{"a": "\xff"}',
    "a list": b"[1, 2]",
    "null": b"null",
    "a number": b"7",
    "cut off": b'{"sets": {"seen": {"eer": 1',
    "deep": b'{"a": ' * 3000,
    "deep list": b"[" * 100_000,
    "long number": b'{"sets": ' + b"9" * 5000 + b"}",
}
WRONG: dict[str, list[Any]] = {  # JSON whose parts have other types
    "results.json": [
        {}, {"sets": 3}, {"sets": []}, {"sets": {"seen": 3}}, {"sets": {"seen": {}}}, {"sets": {"seen": {"eer": "x"}}},
        {"sets": {"seen": {"eer": 1.0}}}, {"sets": {"seen": {"eer": 1.0, "n_bonafide": "5", "n_spoof": 5}}},
        {"sets": {"seen": {"note": 5}}}, {"run": 5, "sets": {}},
    ],
    "calibration.json": [
        {}, {"format": "qamo calibration 1"}, *(
            {"format": "qamo calibration 1", "slope": 1.0, "offset": 0.0, "eer": 0.1, "eer_threshold": 0.0,
             "n_bonafide": 5, "n_spoof": 5, "weights": "x", **wrong}
            for wrong in ({"slope": "1"}, {"slope": None}, {"n_spoof": 1.5}, {"weights": 3}, {"domain": 3},
                          {"domain": {"a": "b"}}, {"fitted_on": []}, {"eer": []}, {"more": 1})
        ),
    ],
    "metrics.jsonl": [3, [], {}, {"epoch": 1}, {"epoch": 1, "dev_loss": "x", "dev_eer": 1},
                      {"epoch": True, "dev_loss": None, "dev_eer": 1}],
    "run.json": [3, [], {"data": 3}, {"git_commit": 5}],
    "qamo.json": [{}, {"format": 3}, {"format": "qamo checkpoint 1"}, {"window_samples": "x"},
                  *({"format": "qamo checkpoint 1", "convention": "bonafide=1, higher=bona fide", "model_config": wrong}
                    for wrong in (3, [], None, {"frontend": []}, {"frontend": "x"}, {"qamo": 3}))],
}  # fmt: skip


def wrong_contents(name: str) -> list[bytes]:
    return [*RUBBISH.values(), *(json.dumps(value).encode() for value in WRONG.get(name, []))]


@pytest.fixture
def run_folder(trained_run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "exps" / "tiny"
    shutil.copytree(trained_run, folder)
    return folder


def test_damaged_files_of_a_run_name_themselves_in_every_command(run_folder, built_corpus, tmp_path, capsys):
    wave = built_corpus / "wild" / "0.wav"
    scores, keys = run_folder / "scores" / "seen.txt", built_corpus / "seen.txt"
    config = ["--config", built_corpus / "config.yaml", f"run.runs={run_folder.parent}", "train.max_epochs=6"]
    page = ["-o", tmp_path / "x.html"]
    again: list[tuple[Command, list[object], bool]] = [(main.main, [*config, "--name", "tiny"], True)]
    exported = tmp_path / "exported"
    assert status_of(export.main, [run_folder, "-o", exported]) == 0
    readers: dict[str, list[tuple[Command, list[object], bool]]] = {  # with whether every content is refused
        "results.json": [*again, (report.main, ["--run", run_folder, *page], True)],
        "metrics.jsonl": [(report.main, ["--run", run_folder, *page], True)],
        "config.yaml": [(report.main, ["--run", run_folder, *page], False), (*again[0][:2], False)],
        "calibration.json": [
            (inference.main, ["--ckpt_path", run_folder, wave], True),
            (report.main, [scores, "--keys", keys, *page], False),
        ],
        "run.json": [(export.main, [run_folder, "-o", tmp_path / "new"], True)],
        "scores/seen.txt.json": again,
    }
    for name, commands in readers.items():
        path = run_folder / name
        whole = path.read_bytes()
        for content in wrong_contents(name):
            path.write_bytes(content)
            for command, words, always in commands:
                shutil.rmtree(tmp_path / "new", ignore_errors=True)
                if name.startswith("scores"):
                    (run_folder / "results.json").unlink(missing_ok=True)
                status = status_of(command, words)
                said = capsys.readouterr().err
                assert "Traceback" not in said
                assert status == 2 or not always, (name, content[:60], words)
                if status:
                    assert path.name in said or "holds a run of another config" in said, (name, content[:60], said)
        path.write_bytes(whole)
    path = exported / "qamo.json"
    for content in wrong_contents("qamo.json"):
        path.write_bytes(content)
        refused(inference.main, ["--ckpt_path", exported, wave], capsys, "qamo.json", "exported")


# ---- what is no file, where a file is expected


@pytest.fixture
def things(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A pipe, a socket, devices, links that lead nowhere, and a folder."""
    folder = tmp_path / "things"
    folder.mkdir()
    found = {name: folder / name for name in ("pipe", "socket", "dangling", "loop", "folder")}
    os.mkfifo(found["pipe"])
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(found["socket"]))
    found["dangling"].symlink_to(folder / "nothing")
    found["loop"].symlink_to(found["loop"])
    found["folder"].mkdir()
    found |= {"zero": Path("/dev/zero"), "below a file": Path(__file__) / "x", "long": folder / ("x" * 300)}
    reading, writing = os.pipe()
    os.write(writing, b"a 1\n")
    os.close(writing)
    found["once"] = Path(f"/dev/fd/{reading}")  # as of <(...)
    yield found
    os.close(reading)
    server.close()


def test_a_thing_that_is_no_file_is_a_sentence_for_every_reader(things, trained_run, built_corpus, tmp_path, capsys):
    scores, keys = trained_run / "scores" / "seen.txt", built_corpus / "seen.txt"
    wave, page = built_corpus / "wild" / "0.wav", ["-o", tmp_path / "x.html"]
    runs = f"run.runs={tmp_path / 'runs'}"
    readers: dict[str, Callable[[Path], tuple[Command, list[object]]]] = {
        "scores": lambda p: (score_ood_dataset.main, [p, built_corpus]),
        "keys": lambda p: (report.main, [scores, "--keys", p, *page]),
        "scores of a report": lambda p: (report.main, [p, "--keys", keys, *page]),
        "mos": lambda p: (report.main, [scores, "--keys", keys, "--mos", p, *page]),
        "asv": lambda p: (report.main, [scores, "--keys", keys, "--asv", p, *page]),
        "config": lambda p: (main.main, ["--config", p, "--print-config"]),
        "weights": lambda p: (inference.main, ["--ckpt_path", p, wave]),
        "calibration": lambda p: (inference.main, ["--ckpt_path", trained_run, wave, "--calibration", p]),
        "recording": lambda p: (inference.main, ["--ckpt_path", trained_run, p]),
        "protocol": lambda p: (predict_mos.main, [p, built_corpus, "-o", tmp_path / "out.txt"]),
        "run": lambda p: (report.main, ["--run", p, *page]),
        "front end": lambda p: (export.main, ["--convert-xlsr", p, "-o", tmp_path / "converted"]),
        "list of training": lambda p: (
            main.main, ["--config", built_corpus / "config.yaml", f"data.train_protocol={p}", runs, "name=r"],
        ),
        "scored weights": lambda p: (
            main.main, ["--config", built_corpus / "config.yaml", "--train", "false", "--ckpt_path", p, runs, "name=s"],
        ),
    }  # fmt: skip
    for reader, words_of in readers.items():
        for kind, path in things.items():
            if kind == "folder" and reader in ("recording", "keys"):  # which may be folders
                continue
            command, words = words_of(path)
            refused(command, words, capsys, path.name, str(path), "expected", "no recordings", "could not be read")
    assert not (tmp_path / "x.html").exists()


def test_null_counts_as_an_empty_file(capsys):
    assert status_of(main.main, ["--config", "/dev/null", "--print-config"]) == 0
    assert capsys.readouterr().out == (ROOT / "config.yaml").read_text()


# ---- outputs onto what is no file


def test_outputs_go_into_devices_and_pipes_and_through_links(trained_run, built_corpus, tmp_path, capsys):
    wave = built_corpus / "wild" / "0.wav"
    words = ["--ckpt_path", trained_run, wave, "--json", "-o"]
    assert status_of(inference.main, [*words, tmp_path / "plain"]) == 0
    expected = (tmp_path / "plain").read_bytes()

    target, link, chain, dangling = (tmp_path / name for name in ("target", "link", "chain", "dangling"))
    target.write_text("old")
    link.symlink_to("target")
    chain.symlink_to(link)
    dangling.symlink_to("made")
    for path, ends in ((link, target), (chain, target), (dangling, tmp_path / "made")):
        target.write_text("old")
        assert status_of(inference.main, [*words, path]) == 0
        assert path.is_symlink()
        assert ends.read_bytes() == expected
        assert not ends.is_symlink()

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(inference.main, [*words, pipe], capsys, "nobody reads from it")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    while not read and reader.is_alive():
        if status_of(inference.main, [*words, pipe]) == 0:  # else the reader has not opened it yet
            break
    reader.join(LONGEST_S)
    assert read == [expected]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    refused(inference.main, [*words, "/dev/full"], capsys, "/dev/full: cannot be written")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    refused(inference.main, [*words, loop], capsys, "loop")
    refused(inference.main, [*words, tmp_path], capsys, tmp_path.name, "folder")
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices, and replace them")
def test_a_null_device_stays_one(trained_run, built_corpus, tmp_path):
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.write_text("x")
    except OSError:
        pytest.skip("no devices on this file system")
    scores, keys = trained_run / "scores" / "seen.txt", built_corpus / "seen.txt"
    for command, words in (
        (report.main, [scores, "--keys", keys, "-o", null]),
        (inference.main, ["--ckpt_path", trained_run, built_corpus / "wild" / "0.wav", "-o", null]),
        (predict_mos.main, [built_corpus / "train.txt", "--compare", built_corpus / "train.txt", "-o", null]),
    ):
        status_of(command, list(words))
        assert stat.S_ISCHR(null.stat().st_mode), command
    files.write_json(null, {})
    assert stat.S_ISCHR(null.stat().st_mode)


# ---- numbers of the commands' flags

SIGNED = ("--threshold", "--mos-edges", "--thresholds", "--SNRmax")  # may be below 0


@pytest.mark.parametrize(
    ("command", "words", "flags"),
    [
        (report.main, ["a.txt", "--keys", "k", "-o", "x.html"],
         ["--mos-edges", "--threshold", "--worst", "--embeddings", "--resamples", "--seed"]),
        (score_ood_dataset.main, ["a.txt", "k"], ["--resamples", "--seed"]),
        (inference.main, ["--ckpt_path", "absent.pt", "a.wav"],
         ["--threshold", "--prior", "--confidence", "--overlap", "--threads", "--batch-size"]),
        (serve.main, ["absent"],
         ["--threshold", "--prior", "--confidence", "--overlap", "--threads", "--port", "--max-mb", "--max-minutes"]),
        (predict_mos.main, ["p.txt", "audio", "-o", "x"], ["--jobs", "--thresholds"]),
        (export.main, ["--convert-xlsr", "absent", "-o", "x"], ["--n-heads"]),
        (main.main, ["--print-config"], ["--seeds", "--seed", "--lr", "--batch_size", "--SNRmax", "--maxCoeff"]),
    ],
)  # fmt: skip
def test_an_odd_number_is_refused_before_anything_is_done(command, words, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for flag in flags:
        for odd in (
            "nan",
            "inf",
            "-inf",
            "1e999",
            "x" if flag in SIGNED else "-1",
            str(2**64) + "0" * 300,
            "x",
        ):
            refused(command, [*words, f"{flag}={odd}"], capsys, flag, odd, "number", "ckpt_path", "expected")
    assert os.listdir(tmp_path) == []


# ---- standard streams, alphabets


@pytest.mark.parametrize(
    ("shell", "env", "status"),
    [
        (">&-", {}, 1),
        ("2>&-", {}, 0),
        (">&- 2>&- <&-", {}, 1),
        (">/dev/full", {}, 2),
        ("2>/dev/full", {}, 0),
        ("| true", {}, None),
        (">/dev/null", {"LC_ALL": "C"}, 0),
        (">/dev/null", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0),
        (">/dev/null", {"PYTHONIOENCODING": "ascii"}, 0),
    ],
)
def test_no_state_of_the_standard_streams_is_a_traceback(shell, env, status, tmp_path):
    config = tmp_path / "ä\udcff.yaml"
    config.write_bytes("comment: Grüße\nname: 発話\n".encode())
    line = f'exec 3>&2; "{sys.executable}" main.py --config "$FILE" --print-config {shell}'
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "FILE": str(config), **env}
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert status is None or done.returncode == status, done.stderr


# ---- texts that others run


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"), ("-2+3", "'-2+3"),
        ("\tx", "'\tx"), ("\r=1", "'\r=1"), ("-1.5", "-1.5"), ("+3e-2", "+3e-2"), ("-inf", "-inf"), ("-", "-"),
        ("a=b", "a=b"), (-3.5, -3.5), (None, None), ("", ""),
    ],
)  # fmt: skip
def test_a_cell_is_no_formula(cell, written):
    assert files.as_cell(cell) == written


def test_names_in_the_tables_of_a_report_and_of_inference_are_no_formulas(trained_run, built_corpus, tmp_path, capsys):
    scores, keys = tmp_path / "scores.txt", tmp_path / "meta.csv"
    names = ["=1+1", "+x", "@y", "-z", "a", "b"]
    scores.write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
    keys.write_text(
        "file,speaker,label\n"
        + "".join(f"{n},=S{i % 2},{'spoof' if i % 2 else 'bona-fide'}\n" for i, n in enumerate(names))
    )
    words = [f"A={scores}", "--keys", keys, "-o", tmp_path / "x.html", "--csv", tmp_path / "csv", "--worst", "6"]
    assert status_of(report.main, words) == 0, capsys.readouterr().err
    tables = "".join(path.read_text() for path in (tmp_path / "csv").glob("*.csv"))
    assert "'=1+1" in tables
    for row in tables.splitlines():
        assert not any(cell.startswith(("=", "+", "@")) for cell in row.split(",")), row


def test_a_hub_name_is_not_looked_for_where_a_thing_stands(things):
    for kind in ("pipe", "socket", "dangling", "loop"):
        with pytest.raises(InputError), alarmed():
            read_xlsr(str(things[kind]))


def test_they_are_as_many_as_were_promised(request):
    """Counted where all tests of this file ran before, in this process."""
    others = {item.name for item in request.session.items if item.path == request.path} - {request.node.name}
    if len(others) < 37:
        pytest.skip("only some of this file were asked for")
    assert len(tried) >= 482
    assert len(set(tried)) >= 7
