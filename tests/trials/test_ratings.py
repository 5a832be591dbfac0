"""MOS of trials: one rule for every command, and what the four readers before it accepted."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qamo import InputError
from qamo.trials.keys import read_keys
from qamo.trials.ratings import format_mos, mos_column, read_ratings

SHARED = Path(__file__).parents[2].parent / "shared" / "reference_data" / "protocols_with_mos"

# How a text of the MOS column was taken before there was one rule: by training, by `--mos` of report.py and
# score_ood_dataset.py, by `predict_mos.py compare` and by `prepare.py --mos`.
BEFORE = {
    #          training, --mos,  compare, prepare
    "3.5": (True, True, True, True),
    "0": (True, True, True, True),
    "6.0": (True, True, True, True),
    "+3e0": (True, True, True, True),
    "99": (False, True, True, True),
    "-1": (False, True, True, True),
    "6.01": (False, True, True, True),
    "nan": (False, False, True, True),
    "inf": (False, False, True, True),
    "1_0": (False, True, True, True),  # ten, in Python's eyes
    "high": (False, False, False, False),
    "3,5": (False, False, False, False),
}
FORMS = {
    "protocol": "S a - - bonafide 3.5\n\nS b - A01 spoof {}\n",
    "lines": "a 3.5\n\nb {}\n",
    "wild": "0.wav,Alec Guinness,bona-fide,3.5\n\n1.wav,Alec Guinness,spoof,{}\n",
    "header": 'mos,file,label\n3.5,a,bonafide\n"{}",b,spoof\n',
}


@pytest.fixture
def written(tmp_path):
    def write(content, name="mos.txt"):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", BEFORE)
def test_every_form_takes_what_training_took(written, form, text):
    path = written(FORMS[form].format(text))
    if BEFORE[text][0]:
        assert read_ratings(path).values.tolist() == [3.5, float(text)]
        return
    with pytest.raises(InputError) as error:
        read_ratings(path)
    assert str(error.value).startswith(f"{path}:3: ")


def test_all_forms_say_the_same_and_keep_the_texts(written):
    for form, names in {"protocol": ["a", "b"], "lines": ["a", "b"], "wild": ["0.wav", "1.wav"]}.items():
        found = read_ratings(written(FORMS[form].format("2.50")))
        assert [name.decode() for name in found.name_bytes.tolist()] == names
        assert found.text_bytes.tolist() == [b"3.5", b"2.50"]
        assert (found.keys is None) == (form == "lines")
        assert found.mos == dict(zip(names, [3.5, 2.5]))
        spoof = {"protocol": ["spoof", "spoof A01"], "wild": ["spoof"]}.get(form)
        assert found.groups == ({} if spoof is None else dict(zip(names, [["bona fide"], spoof])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected MOS lines, but the file is empty"),
        ("a 3\nb nan\nc 99\n", ":2: expected the MOS to be a number from 0 to 6, got 'nan' for b (2 such lines)"),
        ("a 3\na 3\n", ":2: a has a MOS already"),
        ("a 3\nb\n", ":2: expected 'name MOS', got 'b'"),
        ("S a - - bonafide\n", "expected a MOS column, found none; add it with predict_mos.py"),
        ("file,label\na,spoof\n", "expected a MOS column, found none"),
        ("take 1.wav 3\n", ":1: expected a key with"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_place(written, content, message):
    path = written(content)
    with pytest.raises(InputError) as error:
        read_ratings(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_mos_come_out_in_the_order_of_the_keys(written):
    keys = read_keys(written("file,label\na,spoof\nb,bona-fide\n", "meta.csv"))
    assert read_ratings(written("b.wav 1\nc 5\na 2\n")).of(keys).tolist() == [2, 1]
    assert read_ratings(written("S b - - bonafide 1\nS a - - spoof 2\n")).of(keys).tolist() == [2, 1]


def test_mos_of_another_set_are_refused(written):
    keys = read_keys(written("file,label\na,spoof\nb,bona-fide\n", "meta.csv"))
    with pytest.raises(InputError, match=r"no MOS for 1 of the 2 trials of .*meta.csv \(b\)"):
        read_ratings(written("a 1\n")).of(keys)
    with pytest.raises(InputError, match=r"its labels differ from those of .*meta.csv for 1 trials \(b\)"):
        read_ratings(written("S a - - spoof 2\nS b - - spoof 2\n")).of(keys)


def test_a_subset_of_keys_keeps_the_lines_of_its_trials(written):
    keys = read_keys(written("S a - - bonafide 3\n\nS b - - spoof 4\n"))
    assert keys.lines.tolist() == [1, 3]
    la = "".join(f"S {n} alaw ita_tx - bonafide notrim {part}\n" for n, part in zip("abc", ("eval", "hidden", "eval")))
    assert read_keys(written(la), "eval").lines.tolist() == [1, 3]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_mos_is_written_that_could_not_be_read(value):
    try:
        text = format_mos("a", value)
    except InputError:
        assert not 0.00005 < value < 5.9999
    else:
        assert 0 <= float(text) <= 6
        assert abs(float(text) - value) <= 0.00005001


@pytest.mark.skipif(not SHARED.exists(), reason="the authors' MOS files are not here")
@pytest.mark.parametrize("name", ["ASVspoof2019.LA.cm.train.trn.score.txt", "in_the_wild.meta.score.txt"])
def test_the_authors_mos_are_read_to_the_last_bit(name):
    lines = (SHARED / name).read_text().splitlines()
    expected = [float(line.replace(",", " ").split()[-1]) for line in lines]
    assert np.array_equal(read_ratings(SHARED / name).values, expected)
    assert np.array_equal(mos_column(read_keys(SHARED / name)), expected)
