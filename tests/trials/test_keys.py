"""Keys: their layouts, subsets, and the joining with scores."""

from pathlib import Path

import numpy as np
import pytest

from qamo import InputError
from qamo.trials import tables
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores

SHARED = Path(__file__).parents[2].parent / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "reference_data").is_dir(), reason="the authors' keys are not here")

LA = """\
LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval
LA_0020 LA_E_6866159 none - bonafide bonafide notrim eval
LA_0021 LA_E_7310647 none - bonafide bonafide only_speech hidden
LA_0022 LA_E_1000001 opus loc_tx A19 spoof notrim progress
"""
DF = """\
LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -
TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder_nonautoregressive Task1 team20 FF E
VCC2TF2 DF_E_2000024 mp3m4a vcc2018 - bonafide notrim eval bonafide - - - -
"""
PA = """\
PA_0010 PA_E_1000001 R3 M3 d4 r1 m1 s4 c4 spoof notrim hidden
PA_0013 PA_E_1000002 R1 M2 D3 - - - - bonafide trim hidden
PA_0013 PA_E_1000003 R1 M2 D3 - - - - bonafide notrim eval
"""


@pytest.fixture
def written(tmp_path):
    def write(content, name="keys.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return write


def test_a_meta_csv_with_speakers_is_read(written):
    keys = read_keys(written("file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Barack Obama,bona-fide\n"))
    assert keys.names == ["0.wav", "1.wav"]
    assert keys.bonafide.tolist() == [False, True]
    assert dict(keys.columns) == {"speaker": ["Alec Guinness", "Barack Obama"]}
    assert len(keys) == 2


@pytest.mark.parametrize(
    "content",
    [
        "file,label\nfake/a,spoof\nreal/b,bonafide\n",
        "label,file\r\nspoof,fake/a\r\nbona-fide,real/b\r\n",
        "\ufefffile,label\n\nfake/a,spoof\n\nreal/b,bona-fide",
        'file,label\n"fake/a",spoof\n"real/b","bonafide"\n',
        "fake/a,spoof\nreal/b,bonafide\n",  # no header
    ],
)
def test_the_forms_of_a_meta_csv_say_the_same(written, content):
    keys = read_keys(written(content, "meta.csv"))
    assert keys.names == ["fake/a", "real/b"]
    assert keys.bonafide.tolist() == [False, True]


def test_a_meta_csv_without_header_may_have_speakers_and_mos(written):
    keys = read_keys(written("0.wav,Alec Guinness,spoof,1.9514\n1.wav,Bill Burr,bona-fide,4\n"))
    assert dict(keys.columns) == {"speaker": ["Alec Guinness", "Bill Burr"], "mos": ["1.9514", "4"]}


@pytest.mark.parametrize(("mos", "columns"), [("", {}), (" 4.5853", {"mos": ["4.5853", "4.5853"]})])
def test_a_protocol_is_read_with_or_without_mos(written, mos, columns):
    content = f"LA_0069 LA_D_1 - - bonafide{mos}\r\n\r\nLA_0069 LA_D_2 - A01 spoof{mos}\r\n"
    keys = read_keys(written(content))
    assert keys.names == ["LA_D_1", "LA_D_2"]
    assert keys.bonafide.tolist() == [True, False]
    expected = {"speaker": ["LA_0069", "LA_0069"], "environment": ["-", "-"], "attack": ["-", "A01"], **columns}
    assert dict(keys.columns) == expected


def test_the_three_tracks_of_2021_are_told_by_their_columns(written):
    la, df, pa = (read_keys(written(content)) for content in (LA, DF, PA))
    assert (la.track, df.track, pa.track) == ("LA", "DF", "PA")
    assert la.columns["codec"] == ["alaw", "none", "none", "opus"]
    assert df.columns["vocoder"] == ["traditional_vocoder", "neural_vocoder_nonautoregressive", "bonafide"]
    assert pa.columns["att_to_spk"] == ["c4", "-", "-"]
    assert la.bonafide.tolist() == [False, True, True, False]


def test_a_protocol_of_asvspoof_5_and_a_list_with_labels_are_keys_too(written):
    rows = "S1\tE_1\tF\tC05\t3\t-\tAC2\tA05\tspoof\t-\nS2\tE_2\tM\t-\t-\t-\t-\tbonafide\tbonafide\t-\n"
    keys = read_keys(written(rows))
    assert keys.names == ["E_1", "E_2"]
    assert keys.bonafide.tolist() == [False, True]
    assert (keys.columns["codec"], keys.columns["attack"]) == (["C05", "none"], ["A05", "bonafide"])
    assert keys.track is None
    keys = read_keys(written("a.wav bonafide\nb.wav spoof\n"))
    assert keys.names == ["a.wav", "b.wav"]
    assert keys.bonafide.tolist() == [True, False]


def test_commas_in_names_do_not_make_a_meta_csv(written):
    assert read_keys(written("S a,b - - bonafide\n")).names == ["a,b"]
    assert read_keys(written("a,b.wav bonafide\n")).names == ["a,b.wav"]


def test_levels_are_the_distinct_texts_and_the_place_of_each(written):
    levels, codes = read_keys(written(LA)).columns.levels("codec")
    assert levels == ["alaw", "none", "opus"]
    assert codes.tolist() == [0, 1, 1, 2]


def test_a_subset_is_chosen_and_the_hidden_sets_of_pa_by_their_trim(written):
    assert read_keys(written(LA), "eval").names == ["LA_E_9332881", "LA_E_6866159"]
    assert read_keys(written(PA), "hidden").names == ["PA_E_1000001", "PA_E_1000002"]
    assert read_keys(written(PA), "hidden1_PA").names == ["PA_E_1000001"]
    assert read_keys(written(PA), "hidden2_PA").names == ["PA_E_1000002"]


def test_only_the_columns_asked_for_are_kept_besides_the_needed_ones(written):
    assert set(read_keys(written(DF), columns=["compr"]).columns) == {"compr", "trim", "subset"}


@pytest.mark.parametrize(
    ("content", "subset", "message"),
    [
        ("", None, "expected a key, but the file is empty"),
        (
            "a b c\n",
            None,
            ":1: expected a key with 2, 5, 6, 8, 10, 12, 13 columns or a meta.csv, got 3 columns: 'a b c'",
        ),
        (
            "s a - - bonafide\ns b - - genuin\n",
            None,
            ":2: expected the label bonafide, bona-fide, spoof or another word",
        ),
        (
            "s a - - bonafide\ns b - spoof\n",
            None,
            ":2: expected 5 columns (speaker name environment attack label), got",
        ),
        ("s a - - bonafide\ns b - - spoof\ns a - - spoof\n", None, ":3: a stands in the key before"),
        ("file,label\na,spoof\na,bonafide\n", None, ":3: a stands in the key before"),
        ("file,label\na,spoof\nb,A07\n", None, ":3: expected the label bonafide, bona-fide, spoof or another word"),
        ("file,label\na,spoof\nb,x,spoof\nc\n", None, ":3: expected 2 columns, got 3: 'b,x,spoof' (2 such lines)"),
        ("clip,label\na,spoof\n", None, ":1: expected columns of names and labels, such as file and label, got 'clip'"),
        ("file,kind\na,x\n", None, ":1: expected a key with"),
        ("file,label\ntake 1.wav,spoof\n", None, ":2: the name 'take 1.wav' holds a blank"),
        ("file,speaker,label\na,\x1b[31m,spoof\n", None, "holds control characters, so it is not a text table"),
        (
            "file,label,label\na,spoof,bonafide\n",
            None,
            ":1: expected each column once, got the columns name, label, label",
        ),
        ("file,label\n,spoof\n", None, ":2: the name '' is empty"),
        ("file,label\n" + "x" * 200_000 + ",spoof\n", None, ":2: not a line of a table (field larger than"),
        ("S take 1.wav - - bonafide\n", None, ":1: expected a key with"),
        ("take 1.wav bonafide\n", None, ":1: expected a key with"),
        ("file,label\n", None, "expected trials below the header, found none"),
        ("s a - - bonafide\n", "eval", "has no subset column, so the subset eval cannot be chosen"),
        (LA, "dev", "no trial is in the subset dev; it has eval, hidden, progress"),
        (LA, "hidden1_PA", "no trial is in the subset hidden1_PA"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_place(written, content, subset, message):
    with pytest.raises(InputError) as error:
        read_keys(written(content), subset)
    assert message in str(error.value)


def test_a_key_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_bytes(b"file,label\n\xff\xfe,spoof\n")
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        read_keys(path)


# Joining with scores


def test_scores_in_any_order_come_out_in_the_order_of_the_key(written):
    keys = read_keys(written(LA))
    scores = read_scores(written("".join(f"{name} {i}\n" for i, name in enumerate(reversed(keys.names))), "s.txt"))
    assert keys.align(scores).tolist() == [3.0, 2.0, 1.0, 0.0]


def test_scores_outside_the_subset_may_be_there_or_not(written):
    keys = read_keys(written(LA), "eval")
    everything = read_scores(written("".join(f"{name} 1\n" for name in read_keys(written(LA)).names), "s.txt"))
    only_these = read_scores(written("LA_E_6866159 2\nLA_E_9332881 1\n", "t.txt"))
    assert keys.align(everything).tolist() == [1.0, 1.0]
    assert keys.align(only_these).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("key_end", "score_end"), [("", ".wav"), (".wav", ""), ("", ""), (".wav", ".wav")])
def test_names_match_with_or_without_extension(written, key_end, score_end):
    keys = read_keys(written(f"file,label\nfake/a.wav_16k{key_end},spoof\nreal/b{key_end},bona-fide\n"))
    scores = read_scores(written(f"real/b{score_end} 2\nfake/a.wav_16k{score_end} 1\n", "s.txt"))
    assert keys.align(scores).tolist() == [1.0, 2.0]


def test_a_name_scored_with_and_without_extension_was_scored_twice(written):
    keys = read_keys(written("file,label\na,spoof\nb,bona-fide\n"))
    scores = read_scores(written("a 1\n\na.wav 2\nb.wav 3\n", "s.txt"))
    with pytest.raises(InputError, match=":3: a was scored before"):
        keys.align(scores)


def test_only_a_wav_at_the_end_is_taken_off():
    names = [b"a.wav", b".wav", b"wav", b"x.wav.wav", b"", b"y.wav_16k", b"quite.a.long.name.wav", b"abcd"]
    wanted = [b"a", b".wav", b"wav", b"x.wav", b"", b"y.wav_16k", b"quite.a.long.name", b"abcd"]
    assert tables.without_extension(np.array(names)).tolist() == wanted
    assert tables.without_extension(np.array([b"a", b"b"])).tolist() == [b"a", b"b"]
    assert tables.without_extension(np.zeros(0, "S1")).tolist() == []


def test_missing_and_unknown_names_are_counted_and_the_first_five_named(written):
    keys = read_keys(written("file,label\n" + "".join(f"k{i},spoof\n" for i in range(10)) + "x,bonafide\n"))
    scores = read_scores(written("x 1\n" + "".join(f"z{i} 1\n" for i in range(7)), "s.txt"))
    with pytest.raises(InputError) as error:
        keys.align(scores)
    assert "no score for 10 of the 11 trials of" in str(error.value)
    assert "(k0, k1, k2, k3, k4, ...)" in str(error.value)
    assert "7 of its 8 names are not in that key (z0, z1, z2, z3, z4, ...)" in str(error.value)


def test_the_scores_of_another_set_are_called_that(written):
    keys = read_keys(written("file,label\na,spoof\nb,bonafide\n"))
    with pytest.raises(InputError, match="is this the score file of that set"):
        keys.align(read_scores(written("c 1\nd 1\n", "s.txt")))


def test_matching_survives_names_of_one_hash(monkeypatch):
    monkeypatch.setattr(tables, "hash_names", lambda names, width=0: np.zeros(len(names), np.uint64))
    names = np.array([f"u{i}".encode() for i in range(50)])
    wanted = np.concatenate([names[::-1][:20], np.array([b"absent"])])
    assert tables.match(wanted, names).tolist() == [*range(49, 29, -1), -1]
    distinct, codes = tables.levels(np.concatenate([names, names]))
    assert np.array_equal(distinct[codes], np.concatenate([names, names]))
    tables.refuse_repeats(names, np.arange(50), path="x", what="was there")
    with pytest.raises(InputError, match="x:50: u7 was there"):
        tables.refuse_repeats(np.append(names, b"u7"), np.arange(51), path="x", what="was there")


# On the authors' files


@needs_shared
@pytest.mark.parametrize(
    ("path", "n_bonafide", "n_spoof", "columns"),
    [
        ("keys/ITW/meta.csv", 19_963, 11_816, {"speaker"}),
        ("keys/FoR/meta.csv", 2_264, 2_370, set()),
        ("protocols_with_mos/in_the_wild.meta.score.txt", 19_963, 11_816, {"speaker", "mos"}),
        ("protocols_with_mos/ASVspoof2019.LA.cm.train.trn.score.txt", 2_580, 22_800, {"speaker", "attack", "mos"}),
        ("protocols_with_mos/ASVspoof2019.LA.cm.dev.trl.score.txt", 2_548, 22_296, {"speaker", "attack", "mos"}),
    ],
)
def test_the_authors_keys_and_protocols_are_read_as_they_are(path, n_bonafide, n_spoof, columns):
    keys = read_keys(SHARED / "reference_data" / path)
    assert int(keys.bonafide.sum()) == n_bonafide
    assert len(keys) - n_bonafide == n_spoof
    assert columns <= set(keys.columns)


@needs_shared
def test_the_authors_list_of_for_joins_their_key(tmp_path):
    names = (SHARED / "reference_data" / "protocols" / "for_norm_test.txt").read_text().split()
    path = tmp_path / "scores.txt"
    path.write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
    keys = read_keys(SHARED / "reference_data" / "keys" / "FoR" / "meta.csv")
    place = {name: i for i, name in enumerate(names)}
    assert keys.align(read_scores(path)).tolist() == [place[f"{name}.wav"] for name in keys.names]
