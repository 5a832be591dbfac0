"""Score files: what is read, what is refused and how it is said, and how fast."""

import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qamo import InputError
from qamo.trials.scores import format_score, read_scores


@pytest.fixture
def score_file(tmp_path):
    def write(content):
        path = tmp_path / "scores.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        "a 1\nb -2.5\n",
        "a 1\nb -2.5",  # no newline at the end
        "a 1\r\nb -2.5\r\n",
        "\ufeffa 1\nb -2.5\n",  # byte order mark
        "a\t1\nb\t-2.5\n",
        "  a   1  \n\n\n\t b -2.5 \n \n",
        "a +1e0\nb -25E-1\n",
    ],
)
def test_all_these_files_say_the_same(score_file, content):
    scores = read_scores(score_file(content))
    assert scores.names == ["a", "b"]
    assert scores.values.tolist() == [1.0, -2.5]
    assert len(scores) == 2


def test_names_may_be_any_text_without_blanks(score_file):
    scores = read_scores(score_file("été/ω.wav 0.5\nfake/x.wav_16k.wav 1\n"))
    assert scores.names == ["été/ω.wav", "fake/x.wav_16k.wav"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected 'name score' lines, but the file is empty"),
        ("\n \n", "expected 'name score' lines, but the file is empty"),
        ("a 1\nb\n", ":2: expected 'name score', got 'b'"),
        ("a 1 2\nb 3\n", ":1: expected 'name score', got 'a 1 2'"),
        ("a 1,5\nb 2,25\n", ":1: expected the score to be a number, got '1,5' (2 such lines: 1, 2); a decimal comma?"),
        ("a 1\n\nb x\n", ":3: expected the score to be a number, got 'x'"),
        ("a 1_000\nb 2\n", ":1: expected the score to be a number, got '1_000'"),
        ("a 1\nb nan\n", ":2: the score of b is nan"),
        ("a -inf\nb nan\nc 1\n", ":1: the score of a is -inf (2 scores are not finite: a, b)"),
        ("a 1\nb 2\na 3\n", ":3: a was scored before"),
        ("a 1\nb 2\na 3\nb 4\na 5\n", ":3: a was scored before; 3 names in all: also b (line 4), a (line 5)"),
        (b"a 1\nb \x00\n", "holds control characters, so it is not a text table"),
        (b"\x89PNG\r\n\x1a\n\xff\xd8\n", "not a text file in UTF-8"),
        (b"\xff\xfea\x00 \x001", "not a text file in UTF-8 or UTF-16"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_place(score_file, content, message):
    path = score_file(content)
    with pytest.raises(InputError) as error:
        read_scores(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_of_many_bad_lines_the_count_and_the_first_five_are_named(score_file):
    lines = [f"u{i} 0.5" if i % 100 else f"u{i} 0.5 extra" for i in range(100_000)]  # several blocks
    with pytest.raises(InputError, match=r":1: expected 'name score', got 'u0 0.5 extra' \(1000 such lines: 1, 101,"):
        read_scores(score_file("\n".join(lines)))


def test_a_bad_line_after_the_first_block_has_its_own_number(score_file):
    lines = [f"utterance_{i} 0.5" for i in range(100_000)]
    lines[90_000] = "utterance_90000"
    with pytest.raises(InputError, match=r":90001: expected 'name score', got 'utterance_90000'$"):
        read_scores(score_file("\n".join(lines)))


def test_with_finite_off_the_caller_sees_nan(score_file):
    scores = read_scores(score_file("a nan\nb -inf\n"), finite=False)
    assert np.isnan(scores.values[0])
    assert scores.values[1] == -np.inf


def test_without_tabs_a_tab_belongs_to_the_name(score_file):
    with pytest.raises(InputError, match=r"got 'a\\t1'"):
        read_scores(score_file("a\t1\n"), tabs=False)


def test_a_folder_and_an_absent_file_are_left_to_the_system(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_scores(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_scores(tmp_path / "absent.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_left_to_the_system(score_file):
    path = score_file("a 1\n")
    path.chmod(0)
    with pytest.raises(PermissionError):
        read_scores(path)


def test_two_gigabytes_that_are_no_text_are_refused_at_once(tmp_path):
    path = tmp_path / "weights.bin"
    with open(path, "wb") as file:
        file.truncate(2 << 30)  # sparse: no bytes on the disk
    start = time.process_time()  # not the clock: other processes may keep this one waiting
    with pytest.raises(InputError, match="a line of more than 1048576 bytes"):
        read_scores(path)
    assert time.process_time() - start < 2


def test_six_hundred_thousand_scores_take_about_a_second_at_most(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=611_829).astype(np.float32)
    path = tmp_path / "df.txt"
    path.write_text("".join(f"DF_E_{2_000_000 + i} {float(v)!r}\n" for i, v in enumerate(values)))
    start = time.process_time()  # not the clock: other processes may keep this one waiting
    scores = read_scores(path)
    assert time.process_time() - start < 3  # 0.2 s on an idle machine
    assert np.array_equal(scores.values, values.astype(np.float64))
    assert scores.names[-1] == f"DF_E_{2_000_000 + 611_828}"


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_written_score_reads_back_to_the_same_float32(value):
    name, text = format_score("fake/x.wav", value).split()
    assert name == "fake/x.wav"
    assert np.float32(text) == np.float32(value)
    assert np.signbit(np.float32(text)) == np.signbit(np.float32(value))


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_decimal_is_read_as_python_reads_it(value):
    from qamo.trials.tables import Table, to_float

    table = Table([np.array([repr(value).encode()])], np.array([1]))
    assert to_float(table, 0, path="x", what="it")[0] == value


def test_a_score_that_could_not_be_read_back_is_not_written():
    with pytest.raises(InputError, match="the score of a is nan"):
        format_score("a", float("nan"))
    with pytest.raises(InputError, match=r"the name 'my file\.wav' holds a blank"):
        format_score("my file.wav", 1.0)
    with pytest.raises(InputError, match="is empty"):
        format_score("", 1.0)
