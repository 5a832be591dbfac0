"""Lists and protocols: which lines are names, and that what is written can be read by every other reader."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qamo import InputError
from qamo.files import shown
from qamo.trials import protocol
from qamo.trials.keys import read_keys
from qamo.trials.names import fault_of_name
from qamo.trials.protocol import Row, list_folder, read_listing, read_protocol, read_trial_list
from qamo.trials.ratings import read_ratings
from qamo.trials.scores import format_score, read_scores

SHARED = Path(__file__).parents[2].parent / "shared"
GOLDENS = SHARED / "goldens" / "reference"


@pytest.fixture
def written(tmp_path):
    def write(content, name="list.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return write


# Reading


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("fake/a.wav\n\nreal/b.wav", ["fake/a.wav", "real/b.wav"]),
        ("\ufeffa\r\nb\r\n", ["a", "b"]),
        ("S LA_E_1 alaw ita_tx A07 spoof notrim eval\nS LA_E_2 - - A08 spoof notrim eval\n", ["LA_E_1", "LA_E_2"]),
        ("S a - - bonafide\nS b - A01 spoof\n", ["a", "b"]),
        ("file,speaker,label\n0.wav,Alec Guinness,spoof\n", ["0.wav"]),
        ("-dash.wav\n=cmd.wav\ntwo..dots.wav\n%20.wav\nquote\"'`$HOME.wav\nümläut_東京_😀.wav\na,b.wav\n", None),
    ],
)  # fmt: skip
def test_lists_and_every_kind_of_key_give_names(written, content, names):
    assert read_trial_list(written(content)) == (names or content.split())


def test_a_list_of_names_and_labels_is_recognised_and_said_so(written, caplog):
    with caplog.at_level(logging.INFO):
        assert read_trial_list(written("a.wav bonafide\nb.wav spoof\n")) == ["a.wav", "b.wav"]
    assert "list.txt: names and labels" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\nb\na\n", ":3: a stands in the list before"),
        ("a\ntake 1.wav\n", ":2: expected one name a line (a name that holds a blank cannot be read: rename the file)"),
        ("take 1.wav\n", ":1: expected the label"),
        ("my take 1.wav\n", ":1: expected a key with 2, 5, 6, 8, 10, 12, 13 columns or a meta.csv, got 3 columns"),
        ("this is my take 1.wav\n", ":1: expected the label"),
        ("a\tb.wav\n", ":1: expected the label"),
        ("S take 1 - - bonafide\n", ":1: expected a key with"),
        ("a\nS b - - bonafide\n", ":2: expected one name a line"),  # of two kinds
        ("a.wav 3.5\n", ":1: expected the label"),  # MOS or scores
        ("a.wav good\n", ":1: expected the label bonafide, bona-fide, spoof or another word"),
        ("a\nno\u00a0break.wav\n", ":2: the name 'no\\xa0break.wav' holds a blank"),
        ("a\nline\u2028break.wav\n", ":2: the name 'line\\u2028break.wav' holds a blank"),
        ("\u202ertl.wav\n", ":1: the name '\\u202ertl.wav' holds a control character"),
        ("a\u009b31m.wav\n", ":1: the name 'a\\x9b31m.wav' holds a control character"),
        ("a\x1b[31m.wav\n", "control character"),
        ("../a\n", ":1: the name '../a' would leave the audio folder"),
        ("S ../a - - bonafide\n", ":1: the name '../a' would leave"),
        ("/data/../etc/x\n", "would leave the audio folder"),
        ("/data/x\nb\n", "all absolute or all below one folder, found '/data/x' and 'b'"),
        ("C:\\a.wav\n", "would leave the audio folder"),
        ("", "expected a list of recordings, found no names"),
        ("\n \n", "expected a list of recordings, found no names"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused_with_its_line(written, content, said):
    path = written(content)
    with pytest.raises(InputError) as error:
        read_trial_list(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)


@pytest.mark.skipif(not GOLDENS.exists(), reason="the goldens are not here")
def test_lists_of_either_kind_read_as_the_published_code_reads_them(written):
    golden = json.loads((GOLDENS / "metadata.json").read_text())
    lines = [line for line in golden["eval_text"].splitlines() if len(line.split()) != 2]
    # Of two columns without a label it takes the second: so it would score `1.wav` for `take 1.wav`.
    assert [read_trial_list(written(line))[0] for line in lines] == golden["eval_files"][: len(lines)]


def test_names_in_protocols_are_as_safe_as_in_lists(written):
    with pytest.raises(InputError, match=r"list.txt:2: the name '\.\./a' would leave"):
        read_protocol(written("S b - - bonafide 3\nS ../a - - bonafide 3\n"))
    with pytest.raises(InputError, match=r"found no MOS; add it with: python predict_mos.py"):
        read_protocol(written("S b - - bonafide\n"))


def test_a_folder_is_listed_without_hidden_files(tmp_path):
    for name in ("b/2.WAV", "a.flac", "._a.flac", ".hidden.wav", ".git/x.wav", "b/._2.WAV", "note.txt", "no_ending"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list_folder(tmp_path, [p for p in tmp_path.rglob("*") if p.suffix in (".flac", ".wav", ".WAV")])
    assert found.names == ["a.flac", "b/2.WAV"]
    assert found.with_mos(np.array([3.5, 4])) == "a.flac 3.5000\nb/2.WAV 4.0000\n"
    with pytest.raises(InputError, match=r"the MOS of b/2\.WAV is nan: expected the MOS to be a number from 0 to 6"):
        found.with_mos(np.array([3.5, np.nan]))
    with pytest.raises(InputError, match="expected recordings, found none"):
        list_folder(tmp_path, [tmp_path / "._a.flac"])


@pytest.mark.parametrize(
    "name", [b"take 1.wav", b"latin1_caf\xe9.wav", b"new\nline.wav", b"esc\x1b[31m.wav", b"tab\t.wav"]
)
def test_a_folder_with_a_name_that_no_list_can_hold_is_refused_at_the_start(tmp_path, name):
    with open(bytes(tmp_path) + b"/" + name, "wb"):
        pass
    with pytest.raises(InputError, match=r"rename the file") as error:
        list_folder(tmp_path, tmp_path.iterdir())
    str(error.value).encode()
    assert str(error.value).isprintable()


# Writing

ROWS = [Row("S1", "fake/a.wav", "A01", False), Row("S2", "b.wav", "-", True)]
LISTINGS = {
    "S1 fake/a.wav - A01 spoof\nS2 b.wav - - bonafide\n": "S1 fake/a.wav - A01 spoof 1\nS2 b.wav - - bonafide 2.5\n",
    "fake/a.wav spoof\nb.wav bonafide\n": "- fake/a.wav - - spoof 1\n- b.wav - - bonafide 2.5\n",
    "file,speaker,label\nfake/a.wav,\"King, Jr.\",spoof\nb.wav,B,bonafide\n": (
        'fake/a.wav,"King, Jr.",spoof,1\nb.wav,B,bona-fide,2.5\n'
    ),
    "label,file\nspoof,fake/a.wav\nbonafide,b.wav\n": "file,label,mos\nfake/a.wav,spoof,1\nb.wav,bona-fide,2.5\n",
    "fake/a.wav\nb.wav\n": "fake/a.wav 1\nb.wav 2.5\n",
    "S1 fake/a.wav F C05 3 - AC2 A05 spoof -\nS2 b.wav M - - - - bonafide bonafide -\n": (
        "S1 fake/a.wav - A05 spoof 1\nS2 b.wav - bonafide bonafide 2.5\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", LISTINGS)
def test_a_listing_with_mos_is_written_in_its_own_form_and_read_by_the_others(written, content):
    text = read_listing(written(content)).write(["1", "2.5"])
    assert text == LISTINGS[content]
    path = written(text, "mos.txt")
    found = read_ratings(path)
    assert found.values.tolist() == [1, 2.5]
    if found.keys is not None:
        assert read_protocol(path).names == read_trial_list(path) == ["fake/a.wav", "b.wav"]
        assert read_protocol(path).bonafide.tolist() == [False, True]


def test_the_four_writers_are_read_by_every_reader_of_names(written):
    texts = [
        protocol.as_protocol(ROWS), protocol.as_protocol(ROWS, ["1", "2"]), protocol.as_list(row.name for row in ROWS),
        protocol.as_meta(ROWS, speakers=True), protocol.as_meta(ROWS, speakers=False),
        protocol.as_meta(ROWS, ["1", "2"], speakers=True), protocol.as_meta(ROWS, ["1", "2"], speakers=False),
    ]  # fmt: skip
    for text in texts:
        path = written(text)
        assert read_trial_list(path) == read_listing(path).names == ["fake/a.wav", "b.wav"]
        if len(text.split()) > 2:
            assert read_keys(path).bonafide.tolist() == [False, True]


@given(st.text(min_size=1), st.sampled_from(["spoof", "bonafide", "label", "file"]))
def test_a_name_is_written_by_all_or_by_none_and_what_is_written_is_read(tmp_path_factory, name, other):
    """Any text as a name: every writer refuses it, or every reader gives it back."""
    assume(name != other)
    folder = tmp_path_factory.mktemp("names")
    rows = [Row("S", name, "-", True), Row("S", other, "-", False)]
    makers = {
        "protocol": lambda: protocol.as_protocol(rows, ["1", "2"]),
        "list": lambda: protocol.as_list([name, other]),
        "ratings": lambda: protocol.as_ratings([name, other], ["1", "2"]),
        "wild": lambda: protocol.as_meta(rows, ["1", "2"], speakers=True),
        "csv": lambda: protocol.as_meta(rows, speakers=False),
        "scores": lambda: "".join(f"{format_score(n, 1.0)}\n" for n in (name, other)),
    }
    readers = {"ratings": lambda p: read_ratings(p).name_bytes, "scores": lambda p: read_scores(p).name_bytes}
    for kind, make in makers.items():
        try:
            text = make()
        except InputError:
            assert fault_of_name(name)
            continue
        assert not fault_of_name(name)
        path = folder / kind
        path.write_text(text, encoding="utf-8")
        found = readers.get(kind, lambda p: [n.encode() for n in read_trial_list(p)])(path)
        assert [bytes(n) for n in found] == [name.encode(), other.encode()]


def test_a_name_in_a_message_cannot_act_on_a_terminal():
    assert shown("a\x1b[31m\u202eb é") == r"a\x1b[31m\u202eb é"


# ---- tables with a header

TABLE = "path,label,speaker,device,mos\na/1.wav,bonafide,s1,phone,3.25\na/2.mp3,spoof,-,mic,2.5\n"


def test_a_table_is_a_protocol_and_keeps_its_columns_with_mos(written):
    path = written(TABLE)
    trials = read_protocol(path)
    assert trials.names == ["a/1.wav", "a/2.mp3"]
    assert trials.mos.tolist() == [3.25, 2.5]
    assert read_trial_list(path) == trials.names
    assert read_listing(path).with_mos(trials.mos) == TABLE.replace("3.25", "3.2500").replace("2.5\n", "2.5000\n")
    bare = written(TABLE.replace(",mos", "").replace(",3.25", "").replace(",2.5", ""))
    assert read_listing(bare).with_mos(trials.mos) == TABLE.replace("3.25", "3.2500").replace("2.5\n", "2.5000\n")
    tabs = written(TABLE.replace(",", "\t"))
    assert read_listing(tabs).with_mos(trials.mos).splitlines()[1] == "a/1.wav\tbonafide\ts1\tphone\t3.2500"


def test_a_table_without_mos_is_enough_where_quality_is_not_read(written):
    path = written("path,label\n/data/1.wav,bonafide\n/data/2.mp3,spoof\n")
    trials = read_protocol(path, needs_mos=False)
    assert not trials.has_mos
    assert trials.names == ["/data/1.wav", "/data/2.mp3"]
    with pytest.raises(InputError, match="such as path,label,mos, found no MOS"):
        read_protocol(path)
    with pytest.raises(InputError, match="expected columns of names and labels"):
        read_protocol(written("path,speaker\na,b\nc,d\n"), needs_mos=False)
