"""The command that adds MOS to protocols of every kind, and compares them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import predict_mos
from qamo.quality.cache import predict_files
from qamo.trials.keys import read_keys
from qamo.trials.protocol import read_protocol

pytest.importorskip("xls_r_sqa", reason="pip install --no-deps distillmos xls-r-sqa")
SHARED = Path(__file__).parents[2].parent / "shared" / "reference_data"
NAMES = ["LA_T_0", "LA_T_1", "LA_T_2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        soundfile.write(folder / f"{name}.flac", 0.1 * rng.standard_normal(8_000 + 100 * index), 16_000)
    return folder


@pytest.fixture(scope="module")
def expected(folder) -> list[str]:
    scores = predict_files([folder / f"{name}.flac" for name in NAMES], "distillmos")
    return [f"{score:.4f}" for score in scores]


def run(*words: object) -> int:
    return predict_mos.main([str(word) for word in words])


PROTOCOLS = {
    "la2019": "S1 {} - - bonafide\nS2 {} - A01 spoof\n\nS3 {} - A02 spoof\n",
    "with_mos": "S1 {} - - bonafide 1.0\nS2 {} - A01 spoof 2.0\nS3 {} - A02 spoof 3.0\n",
    "windows": "S1 {} - - bonafide\r\nS2 {} - A01 spoof\r\nS3 {} - A02 spoof\r\n",
    "la2021": (
        "S1 {} alaw ita_tx - bonafide notrim eval\nS2 {} none - A01 spoof notrim eval\n"
        "S3 {} none - A02 spoof notrim eval\n"
    ),
    "asvspoof5": ("S1 {} F - - - - - bonafide -\nS2 {} M - - - AC3 A01 spoof -\nS3 {} F - - - AC1 A02 spoof -\n"),
}


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_protocol_of_any_year_becomes_one_that_training_reads(kind, folder, expected, tmp_path):
    protocol, out = tmp_path / "protocol.txt", tmp_path / "out.txt"
    protocol.write_bytes(PROTOCOLS[kind].format(*NAMES).encode())
    assert run(protocol, folder, "-o", out, "--jobs", 1) == 0
    speakers, attacks, labels = ("S1", "S2", "S3"), ("-", "A01", "A02"), ("bonafide", "spoof", "spoof")
    rows = zip(speakers, NAMES, attacks, labels, expected)
    assert out.read_text() == "".join(f"{s} {n} - {a} {label} {text}\n" for s, n, a, label, text in rows)
    trials = read_protocol(out)
    assert trials.names == NAMES
    assert trials.bonafide.tolist() == [True, False, False]


def test_lists_and_folders_give_name_and_mos(folder, expected, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{name}\n" for name in reversed(NAMES)))
    assert run(listed, folder, "-o", tmp_path / "a.txt") == 0
    lines = [f"{name} {text}\n" for name, text in zip(NAMES, expected)]
    assert (tmp_path / "a.txt").read_text() == "".join(reversed(lines))
    assert run(folder, "-o", tmp_path / "b.txt") == 0
    assert (tmp_path / "b.txt").read_text() == "".join(line.replace(" ", ".flac ") for line in lines)


def test_a_meta_csv_is_written_like_the_published_mos_file(folder, expected, tmp_path):
    meta = tmp_path / "meta.csv"
    rows = [f'{NAMES[0]}.flac,"Guinness, Alec",spoof', f"{NAMES[1]}.flac,B,bona-fide", f"{NAMES[2]}.flac,C,spoof"]
    meta.write_text("file,speaker,label\n" + "\n".join(rows) + "\n")
    out = tmp_path / "meta.score.txt"
    assert run(meta, folder, "-o", out) == 0
    assert out.read_text() == "".join(f"{row},{text}\n" for row, text in zip(rows, expected))
    assert list(read_keys(out).columns["mos"]) == expected

    meta.write_text("file,label\n" + "".join(f"{name},spoof\n" for name in NAMES))
    assert run(meta, folder, "-o", out) == 0
    assert list(read_keys(out).columns["mos"]) == expected


def test_the_sidecar_says_who_wrote_it_and_a_second_run_takes_the_cache(folder, tmp_path, capsys):
    protocol, out = tmp_path / "protocol.txt", tmp_path / "out.txt"
    protocol.write_text(PROTOCOLS["la2019"].format(*NAMES))
    assert run(protocol, folder, "-o", out) == 0
    sidecar = json.loads((tmp_path / "out.txt.json").read_text())
    assert sidecar["predictor"].startswith("distillmos 0.9.1 weights ")
    assert sidecar["n"] == 3
    cache = tmp_path / "out.txt.cache"
    # scores from the cache are not computed anew: a changed one shows in the output
    lines = cache.read_text().splitlines()
    digest, _, identity = lines[0].split(" ", 2)
    cache.write_text("\n".join([f"{digest} 4.5 {identity}", *lines[1:]]) + "\n")
    assert run(protocol, folder, "-o", out) == 0
    assert "4.5000" in out.read_text()
    assert "MOS of 3 recordings" in capsys.readouterr().out


def test_bad_input_is_one_sentence_and_writes_nothing(folder, tmp_path, capsys):
    def refused(*words: object, match: str) -> None:
        before = sorted(tmp_path.iterdir())
        assert run(*words) == 2
        error = capsys.readouterr().err
        assert match in error
        assert error.count("\n") == 1
        assert "Traceback" not in error
        assert sorted(tmp_path.iterdir()) == before

    protocol, out = tmp_path / "protocol.txt", tmp_path / "out.txt"
    protocol.write_text("S1 LA_T_0 - - bonafide\nS2 absent - A01 spoof\n")
    refused(protocol, folder, "-o", out, match="absent.flac: no such file")
    protocol.write_text("S1 ../LA_T_0 - - bonafide\n")
    refused(protocol, folder, "-o", out, match="would leave the audio folder")
    protocol.write_text("S1 LA_T_0 - - perhaps\n")
    refused(protocol, folder, "-o", out, match="protocol.txt:1: expected the label")
    protocol.write_text("S1 LA_T_0 - - bonafide\n")
    refused(protocol, folder, "-o", protocol, match="protocol names this file too, which would be lost")
    out.write_text("notes")
    refused(protocol, folder, "-o", out, match="was not written by this command")
    out.unlink()
    refused(protocol, "-o", out, match="expected the folder of its recordings")
    refused(protocol, folder, "-o", tmp_path / "no" / "out.txt", match="no such folder")
    refused(protocol, folder, "-o", out, "--predictor", "magic", match="no such MOS predictor")
    refused(protocol, folder, "-o", out, "--extension", "wav", match="LA_T_0.wav: no such file")
    refused("compare", protocol, protocol, match="expected a MOS column")


def test_compare_counts_agreement_by_class_and_attack(tmp_path, capsys):
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text(
        "".join(
            f"S n{i} - {'-' if i < 4 else 'A07'} {'bonafide' if i < 4 else 'spoof'} {1 + i / 2}\n" for i in range(8)
        )
    )
    b.write_text("".join(f"n{i} {(1 + i / 2) if i < 4 else (5 - i / 2)}\n" for i in range(9)))
    plot = tmp_path / "scatter.png"
    assert run("compare", a, b, "--thresholds", 2.2, "--plot", plot) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line[:9].strip(): line[9:].split() for line in lines if "%" in line}
    assert table["bona fide"][:3] == ["4", "1.000", "1.000"]
    assert table["spoof A07"][:3] == ["4", "-1.000", "-1.000"]
    assert table["bona fide"][-2:] == ["100.0", "%"]
    # spoof: A has 3 to 4.5, B 3 to 1.5: the last two are on the other side of 2.2
    assert table["spoof A07"][-2:] == ["50.0", "%"]
    assert any("1 names stand in one file only" in line for line in lines)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not SHARED.exists(), reason="the authors' MOS files are not here")
def test_the_authors_own_mos_files_can_be_compared(capsys):
    train = SHARED / "protocols_with_mos" / "ASVspoof2019.LA.cm.train.trn.score.txt"
    assert run("compare", train, train) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = {line[:9].strip(): line[9:].split() for line in lines if "%" in line}
    assert counts["all"][:2] == ["25380", "1.000"]
    assert counts["bona fide"][0] == "2580"
    assert "spoof A06" in counts


@pytest.mark.parametrize("bad", ["nan", "99", "-1", "inf", "good"])
def test_compare_refuses_what_is_no_mos(bad, tmp_path, capsys):
    good, protocol, listed = tmp_path / "good.txt", tmp_path / "protocol.txt", tmp_path / "list.txt"
    good.write_text("n0 3\nn1 4\n")
    protocol.write_text(f"S n0 - - bonafide 3.0\nS n1 - A01 spoof {bad}\n")
    listed.write_text(f"n0 3.0\nn1 {bad}\n")
    for path in (protocol, listed):
        assert run("compare", good, path) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert path.name in said
        assert bad in said
