"""What a command reads is never what it writes: an output that names an input is refused, however it is spelt."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import export
import inference
import predict_mos
import report
import score_asvspoof5
from qamo import InputError, files

NAMES = [f"E_{i}" for i in range(40)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scores, keys of two kinds, a link and another spelling of the scores; the commands run in here."""
    monkeypatch.chdir(tmp_path)
    label = ["bonafide", "spoof"]
    (tmp_path / "s.txt").write_text("".join(f"{n} {-(i % 2) + i / 100}\n" for i, n in enumerate(NAMES)))
    (tmp_path / "k.csv").write_text("file,label\n" + "".join(f"{n},{label[i % 2]}\n" for i, n in enumerate(NAMES)))
    rows = [f"S {n} F - - - - A07 {label[i % 2]} -\n" for i, n in enumerate(NAMES)]
    (tmp_path / "five.tsv").write_text("".join(rows))
    (tmp_path / "link").symlink_to("s.txt")
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words", "flag"),
    [
        (report.main, ["s.txt", "--keys", "k.csv", "-o", "s.txt"], "-o"),
        (report.main, ["ours=s.txt", "--keys", "k.csv", "-o", "s.txt"], "-o"),
        (report.main, ["s.txt", "--keys", "k.csv", "-o", "sub/../k.csv"], "-o"),
        (report.main, ["s.txt", "--keys", "k.csv", "-o", "link"], "-o"),
        (report.main, ["s.txt", "--keys", "k.csv", "--md", "k.csv"], "--md"),
        (report.main, ["s.txt", "--keys", "k.csv", "-o", "new", "--latex", "new"], "-o"),
        (report.main, ["s.txt", "--keys", "k.csv", "--arena", "k.csv", "s.txt"], "--arena"),
        (report.main, ["s.txt", "--keys", "k.csv", "--arena", "five.tsv", "five.tsv"], "--arena"),
        (score_asvspoof5.main, ["s.txt", "five.tsv", "--json", "five.tsv"], "--json"),
        (inference.main, ["--calibrate", "s.txt", "k.csv", "-o", "k.csv"], "-o"),
        (inference.main, ["model.onnx", "a.wav", "--plot", "five.tsv", "-o", "five.tsv"], "-o"),
        (predict_mos.main, ["s.txt", "sub", "-o", "s.txt"], "-o"),
        (export.main, ["s.txt", "-o", "s.txt"], "-o"),
    ],
)
def test_an_output_that_names_an_input_is_refused_and_the_input_stays(
    folder: Path, capsys: pytest.CaptureFixture[str], command: Callable[..., int], words: list[str], flag: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert command(words) == 2
    said = capsys.readouterr().err
    assert f"{flag} " in said
    assert "names this file too, which would be lost" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_the_tables_of_2021_do_not_replace_their_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path(report.__file__).parent / "2021" / "eval-package" / "main.py"
    spec = importlib.util.spec_from_file_location("eval_package_main", place)
    assert spec
    assert spec.loader
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    assert package.main(["--cm-score-file", "s.txt", "--track", "DF", "--csv", "s.txt"]) == 2
    assert "--csv s.txt: --cm-score-file names this file too" in capsys.readouterr().err


def test_a_recording_in_a_folder_is_not_replaced_by_what_is_said_of_it(trained_run, built_corpus, tmp_path, capsys):
    shutil.copytree(built_corpus / "wild", tmp_path / "wild")
    wave = tmp_path / "wild" / "0.wav"
    before = wave.read_bytes()
    assert inference.main([str(trained_run), str(tmp_path / "wild"), "-o", str(wave)]) == 2
    assert "is one of the recordings, and would be lost" in capsys.readouterr().err
    assert wave.read_bytes() == before
    for _ in range(2):  # a table beside the recordings is, also the second time
        assert inference.main([str(trained_run), str(tmp_path / "wild"), "-o", str(tmp_path / "wild" / "t.csv")]) == 0


@pytest.mark.parametrize("name", ["sub", ""])
def test_a_folder_in_place_of_an_output_is_said_by_its_name(folder: Path, capsys, name: str) -> None:
    assert report.main(["s.txt", "--keys", "k.csv", "-o", name]) == 2
    assert f"report.py: {name or '.'}: is a folder, expected a file" in capsys.readouterr().err
    assert not list(folder.rglob("*.tmp"))


def test_an_error_while_reading_has_the_files_name(tmp_path: Path) -> None:
    if not os.access("/proc/self/mem", os.R_OK):
        pytest.skip("no file here whose reading fails")
    with pytest.raises(OSError, match="/proc/self/mem"):
        files.read_text("/proc/self/mem")
    with pytest.raises(InputError):
        files.read_text("/dev/zero")


def test_where_nothing_can_be_made_the_file_is_said_and_not_its_temporary_name(folder: Path, capsys) -> None:
    assert report.main(["s.txt", "--keys", "k.csv", "-o", "/proc/x.html"]) == 2
    assert capsys.readouterr().err == "report.py: /proc/x.html: no such file or folder\n"
    with pytest.raises(FileNotFoundError) as error:
        files.write_text(folder / "absent" / "x.txt", "")
    assert error.value.filename == str(folder / "absent" / "x.txt")


@pytest.mark.parametrize("name", ["model.pt", "calibration.json", "config.yaml"])
def test_a_table_does_not_replace_a_file_of_the_run(trained_run, built_corpus, tmp_path, capsys, name):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = (run / name).read_bytes()
    wave = str(built_corpus / "wild" / "0.wav")
    assert inference.main([str(run), wave, "--csv", "-o", str(run / name)]) == 2
    assert f"{run / name}: is a file of a detector, which would be lost" in capsys.readouterr().err
    assert (run / name).read_bytes() == before
    for _ in range(2):  # a table that stands there may be written again
        assert inference.main([str(run), wave, "--csv", "-o", str(run / "table.csv")]) == 0
