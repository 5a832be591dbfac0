"""Score files and keys in the layouts of the field say the same, or are refused with the line that converts them."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import re
import subprocess
import sys

import numpy as np
import pytest

from qamo import InputError
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores

NAMES = ["LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4"]
BONAFIDE = [True, False, True, False]
SCORES = [1.5, -2.25, 0.5, -0.125]


def lines(row: str, head: str = "") -> str:
    """A line for each trial, of its name n, label l, 0 or 1 as z, attack a and score s."""
    return head + "".join(
        row.format(n=n, l="bonafide" if b else "spoof", L="Real" if b else "FAKE", z=int(b), a="-" if b else "A07", s=s,
                   m=-s) + "\n"
        for n, b, s in zip(NAMES, BONAFIDE, SCORES)
    )  # fmt: skip


SCORE_FILES = {
    "la.txt": lines("{n} {a} {l} {s}"),
    "la2019.txt": lines("{n} {a} {l} {s}").replace(" - ", " bonafide "),
    "name_score_label.txt": lines("{n} {s} {l}"),
    "name_label_score.txt": lines("{n} {l} {s}"),
    "name_digit_score.txt": lines("{n} {z} {s}"),
    "output.txt": lines("Output, {n}, {z}, {s}"),
    "header.csv": lines("{n},{s}", "File Name,Score\n"),
    "none.csv": lines("{n},{s}"),
    "blanks.csv": lines("{n}, {s}", "file, score\n"),
    "semicolon.csv": lines("{n};{s}", "utt_id;llr\n"),
    "pipe.csv": lines("{n}|{s}", "path|prediction\n"),
    "sep.csv": lines("{n},{s}", "sep=,\nfile,score\n"),
    "index.csv": ",file,score\n" + "".join(f"{i},{n},{s}\n" for i, (n, s) in enumerate(zip(NAMES, SCORES))),
    "asvspoof5.tsv": lines("{n}\t{s}", "filename\tcm-score\n"),
    "track2.tsv": lines("spk\t{n}\t{s}\t{m}\t{m}", "spk\tfilename\tcm-score\tasv-score\tsasv-score\n"),
    "comment.txt": lines("{n} {s}", "# made by us\n"),
    "path.txt": lines("/data/LA/flac/{n}.flac {s}"),
    "capital_extension.txt": lines("{n}.WAV {s}"),
    "lower.txt": lines("{n} {s}").lower(),
    "windows_path.txt": lines("C:\\data\\{n}.wav {s}"),
    "cr.txt": lines("{n} {s}").replace("\n", "\r"),
}
KEY_FILES = {
    "capitals.csv": lines("{n},{L}", "File,Label\n"),
    "genuine.txt": lines("{n} {L}").replace("Real", "genuine"),
    "label_first.txt": lines("{l} {n}"),
    "is_fake.csv": lines("{n},{z}", "file,is_fake\n").replace(",1", ",x").replace(",0", ",1").replace(",x", ",0"),
    "bonafide.csv": lines("{n},{z}", "file,bonafide\n"),
    "la.txt": lines("{n} {a} {l} {s}"),
    "trailing.csv": lines("{n},{l},", "file,label,\n"),
    "index.csv": ",file,label\n" + "".join(f"{i},{row}" for i, row in enumerate(lines("{n},{l}").splitlines(True))),
    "speaker.csv": lines('{n},"King, Jr.",{l}', "file,speaker,label\n"),
    "asvspoof5.tsv": lines("{n}\t{l}", "filename\tcm-label\n"),
    "asvspoof5_full.txt": lines("{n} {l} {a} C01", "trial_anon cm-label attack_anon codec\n"),
    "asvspoof5_protocol.tsv": lines("E_1\t{n}\tF\t-\t-\t-\tAC1\t{a}\t{l}\t-"),
    "comment.txt": lines("S {n} - {a} {l}", "# speaker name - attack label\n"),
    "flac.csv": lines("clips/{n}.flac,{l}", "path,label\n"),
    "cr.csv": lines("{n},{l}", "file,label\n").replace("\n", "\r"),
}  # fmt: skip


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text(lines("{n},{l}", "file,label\n"))
    return read_keys(path)


@pytest.mark.parametrize("name", SCORE_FILES)
@pytest.mark.parametrize("packing", ["plain", "gzip", "utf-16"])
def test_score_files_of_the_field_say_the_same(tmp_path, plain, name, packing):
    path = tmp_path / name
    content = SCORE_FILES[name].encode("utf-16" if packing == "utf-16" else "utf-8")
    path.write_bytes(gzip.compress(content) if packing == "gzip" else content)
    assert plain.align(read_scores(path)).tolist() == SCORES


@pytest.mark.parametrize("name", KEY_FILES)
@pytest.mark.parametrize("packing", ["plain", "gzip", "utf-16"])
def test_keys_of_the_field_say_the_same(tmp_path, name, packing):
    path, scores = tmp_path / name, tmp_path / "scores.txt"
    content = KEY_FILES[name].encode("utf-16" if packing == "utf-16" else "utf-8")
    path.write_bytes(gzip.compress(content) if packing == "gzip" else content)
    scores.write_text(lines("{n} {s}"))
    keys = read_keys(path)
    assert keys.bonafide.tolist() == BONAFIDE
    assert keys.align(read_scores(scores)).tolist() == SCORES


def test_arrays_are_scores_and_keys_too(tmp_path, plain):
    path = tmp_path / "both.npz"
    labels = np.where(BONAFIDE, "bonafide", "spoof")
    np.savez(path, names=np.array(NAMES), scores=np.array(SCORES), labels=labels)
    assert plain.align(read_scores(path)).tolist() == SCORES
    assert read_keys(path).bonafide.tolist() == BONAFIDE
    np.savez(path, names=np.array(NAMES, object), scores=np.array(SCORES))
    with pytest.raises(InputError, match="without Python objects"):
        read_scores(path)
    np.savez(path, names=np.array(NAMES), scores=np.array(SCORES)[:, None])  # as a network gives them
    assert plain.align(read_scores(path)).tolist() == SCORES


def test_arrays_of_two_logits_are_refused_with_the_line_that_converts_them(tmp_path, plain):
    path = tmp_path / "two.npz"
    np.savez(path, utt=np.array(NAMES), logits=np.column_stack([-np.array(SCORES), SCORES]))
    with pytest.raises(InputError, match="two logits") as error:
        read_scores(path)
    (command,) = re.findall(r"try: (.*)$", str(error.value))
    command = command.replace("python3", sys.executable)  # which has NumPy
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    assert (plain.align(read_scores(tmp_path / "two.scores.txt")) / 2).tolist() == SCORES


@pytest.mark.parametrize(
    "content",
    [
        lines("{n} {m} {s}"),
        lines("{n},{m},{s}", "file,logit_a,logit_b\n"),
        lines("{n} {s}").replace(".", ","),
        lines("{n} [{s}]"),
        lines("{n} tensor({s})"),
        lines("{n} {s}") * 2,
        lines("{n} {s}") + "LA_E_9 0.5\n",
        lines("{n},{m}", "file,spoof_score\n"),
        '{"LA_E_1": 1.5, "LA_E_2": -2.25, "LA_E_3": 0.5, "LA_E_4": -0.125}\n',
        lines('{{"file": "{n}", "score": {s}}}'),
        "[" + lines('{{"file": "{n}", "score": {s}}},').rstrip(",\n") + "]\n",
        "[\n" + lines('  {{\n    "file": "{n}",\n    "score": {s}\n  }},').rstrip(",\n") + "\n]\n",
    ],
)
def test_what_is_refused_says_the_line_that_converts_it_and_that_line_does(tmp_path, plain, content):
    path = tmp_path / "it's mine.txt"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        plain.align(read_scores(path))
    (command,) = re.findall(r"try: (.*)$", str(error.value))
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    (made,) = (p for p in tmp_path.iterdir() if p.name not in ("plain.csv", path.name))
    scale = 2 if "{n} {m} {s}".format(n="LA_E_1", m=-1.5, s=1.5) in content or "logit_a" in content else 1
    assert (plain.align(read_scores(made)) / scale).tolist() == SCORES


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (lines("{n},{z}", "file,label\n"), "utf-8"),
        (lines("{n} {z}"), "utf-8"),
        (lines("{n},{z}"), "utf-8"),
        (lines("{n},Andr\xe9,{l}", "file,speaker,label\n"), "latin-1"),
        (lines("{n},x,{a}", "file,speaker,attack\n"), "utf-8"),
    ],
)
def test_a_key_that_is_refused_says_how_to_convert_it(tmp_path, content, encoding):
    path = tmp_path / "a key.csv"
    path.write_bytes(content.encode(encoding))
    with pytest.raises(InputError) as error:
        read_keys(path)
    (command,) = re.findall(r"try: (.*)$", str(error.value))
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    (made,) = (p for p in tmp_path.iterdir() if p != path)
    assert read_keys(made).bonafide.tolist() == BONAFIDE


def test_a_file_with_other_labels_than_the_key_is_remarked_on(tmp_path, plain, caplog):
    path = tmp_path / "swapped.txt"
    path.write_text(lines("{n} - {l} {s}").replace("spoof", "x").replace("bonafide", "spoof").replace("x", "bonafide"))
    with caplog.at_level(logging.WARNING):
        assert plain.align(read_scores(path)).tolist() == SCORES
    assert "its labels differ" in caplog.text
    assert "for 4 trials" in caplog.text


def test_line_numbers_below_a_header_are_those_of_the_file(tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("filename\tcm-score\na\t1\n\nb\tx\n")
    with pytest.raises(InputError, match=r":4: expected the score to be a number, got 'x'"):
        read_scores(path)
    path.write_text("sep=,\nfile,score\na,1\nb\n")
    with pytest.raises(InputError, match=r":4: expected 2 columns, got 1"):
        read_scores(path)


def test_folders_tell_names_apart_where_their_stems_do_not(tmp_path):
    key, scores = tmp_path / "key.csv", tmp_path / "scores.txt"
    key.write_text("file,label\nreal/a.wav,real\nfake/a.wav,fake\n")
    scores.write_text("real/a.wav 1\nfake/a.wav 2\n")
    assert read_keys(key).align(read_scores(scores)).tolist() == [1, 2]
    scores.write_text("x/a.wav 1\ny/a.wav 2\n")
    with pytest.raises(InputError, match="no score for 2 of the 2 trials"):
        read_keys(key).align(read_scores(scores))


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (bz2.compress, "not a text file in UTF-8 but one packed by bzip2: unpack it"),
        (lzma.compress, "not a text file in UTF-8 but one packed by xz: unpack it"),
        (lambda text: gzip.compress(gzip.compress(text)), "not a text file in UTF-8; give a text file"),
        (lambda text: b"\x93NUMPY\x01\x00" + bytes(300), "not a text file in UTF-8; give a text file"),
    ],
)
def test_what_is_packed_otherwise_is_not_taken_for_text_of_another_alphabet(tmp_path, pack, said):
    path = tmp_path / "s.txt"
    path.write_bytes(pack(lines("{n} {s}").encode()))
    for read in (read_scores, read_keys):
        with pytest.raises(InputError, match=said):
            read(path)


def test_names_whose_accents_macos_wrote_apart_are_the_same(tmp_path):
    scores, keys = tmp_path / "s.txt", tmp_path / "k.csv"
    scores.write_text("caf\u00e9 1\nB 0\n")
    keys.write_text("file,label\ncafe\u0301.wav,bonafide\nb.wav,spoof\n")
    assert read_keys(keys).align(read_scores(scores)).tolist() == [1, 0]
    both = "caf\u00e9,bonafide\ncafe\u0301,spoof\n"  # and different, where a key has both
    keys.write_text("file,label\n" + both)
    scores.write_text("cafe\u0301 0\ncaf\u00e9 1\n")
    assert read_keys(keys).align(read_scores(scores)).tolist() == [1, 0]
