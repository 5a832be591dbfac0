"""score_asvspoof5.py against the official package's printed tables, where these goldens are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import score_asvspoof5

FOLDER = Path(__file__).parents[2].parent / "shared" / "goldens" / "eval_package" / "asvspoof5"
needs_goldens = pytest.mark.skipif(not FOLDER.exists(), reason="the goldens of ASVspoof 5 are not here")


def figures(tmp_path, *args):
    out = tmp_path / "figures.json"
    assert score_asvspoof5.main([*map(str, args), "--json", str(out)]) == 0
    return json.loads(out.read_text())["figures"]


def printed(file, title):
    """A table of the official output in its text form: row -> column -> text."""
    lines = (FOLDER / file).read_text().splitlines()
    start = lines.index(title)
    start += next(i for i, line in enumerate(lines[start:]) if "end{tabular}" in line) + 2
    header = lines[start].split()
    rows = {}
    for line in lines[start + 1 :]:
        if len(line.split()) != len(header) + 1:
            break
        rows[line.split()[0]] = dict(zip(header, line.split()[1:]))
    return rows


@needs_goldens
@pytest.mark.parametrize(
    ("files", "tables", "output"),
    [
        (
            ["t1_scores.tsv", "t1_full_keys.txt"],
            {"eval_minDCF": "minDCF", "EER (%)": "EER %", "Cllr bits": "Cllr", "actDCF": "actDCF"},
            "stdout_full_t1.txt",
        ),
        (
            ["t2_scores.tsv", "t2_full_keys.txt", "--official"],
            {"a-DCF": "a-DCF", "min tDCF": "min t-DCF, own ASV", "t-EER (%)": "t-EER %"},
            "stdout_full_t2_tandem.txt",
        ),
    ],
)
def test_every_cell_is_the_official_one(tmp_path, files, tables, output):
    made = figures(tmp_path, *(FOLDER / name if "." in name else name for name in files))
    for title, name in tables.items():
        wanted = printed(output, title)
        assert len(wanted) >= 5
        for row, cells in wanted.items():
            for column, text in cells.items():
                value = made[name][row]["none" if column == "-" else column]
                assert f"{value:.{3 if name.endswith('%') else 5}f}" == text, (title, row, column)


@needs_goldens
def test_without_the_switch_the_own_asv_counts_spoofs_that_it_accepts(tmp_path):
    right = figures(tmp_path, FOLDER / "t2_scores.tsv", FOLDER / "t2_full_keys.txt")
    official = figures(tmp_path, FOLDER / "t2_scores.tsv", FOLDER / "t2_full_keys.txt", "--official")
    differing = {name for name in right if right[name] != official[name]}
    assert differing == {"min t-DCF, own ASV"}


@needs_goldens
def test_short_keys_and_a_single_score_give_the_pooled_figures(tmp_path, capsys):
    assert score_asvspoof5.main([str(FOLDER / "t1_scores.tsv"), str(FOLDER / "t1_keys.tsv")]) == 0
    out = capsys.readouterr().out
    assert "minDCF: 0.38556\nactDCF: 0.40656\nCllr: 0.51194\nEER %: 14.333" in out
    assert "by attack" not in out
    made = figures(tmp_path, FOLDER / "t2_scores_single.tsv", FOLDER / "t2_keys.tsv")
    assert made == {"a-DCF": {"pooled": {"pooled": pytest.approx(0.258327731092437)}}}


def write(tmp_path, keys, scores):
    (tmp_path / "keys.tsv").write_text("spk\tfilename\tcm-label\tasv-label\n" + keys)
    (tmp_path / "scores.tsv").write_text("spk\tfilename\tcm-score\tasv-score\tsasv-score\n" + scores)
    return [str(tmp_path / "scores.tsv"), str(tmp_path / "keys.tsv")]


@pytest.mark.parametrize(
    ("keys", "scores", "message"),
    [
        ("S\ta\tbonafide\ttarget\n", "S\tb\t1\t1\t1\n", "got 1, none for 1 (S/a)"),
        ("S\ta\tbonafide\ttarget\n", "S\ta\t-\t1\t-\n", "found asv-score alone"),
        ("S\ta\tbonafide\ttarget\n", "S\ta\t-\t-\t-\n", "expected a column cm-score, asv-score or sasv-score"),
        ("S\ta\tbonafide\tgood\n", "S\ta\t1\t1\t1\n", ":2: expected target, nontarget or spoof, got 'good'"),
        ("S\ta\tbonafide\ttarget\n", "S\ta\tnan\t1\t1\n", ":2: expected a finite score, got nan"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, capsys, keys, scores, message):
    assert score_asvspoof5.main(write(tmp_path, keys, scores)) == 2
    assert message in capsys.readouterr().err


def test_the_figures_as_json_take_the_place_of_the_tables_or_stand_beside_them_in_a_file(tmp_path, capsys):
    words = write(tmp_path, "S\ta\tbonafide\ttarget\nS\tb\tspoof\tspoof\n", "S\ta\t1\t1\t3\nS\tb\t-1\t1\t-1\n")
    out = tmp_path / "figures.json"
    assert score_asvspoof5.main([*words, "--json", str(out)]) == 0
    assert "track: 2" in capsys.readouterr().out
    assert score_asvspoof5.main([*words, "--json"]) == 0
    assert capsys.readouterr().out == out.read_text()
    assert json.loads(out.read_text())["track"] == 2


def test_a_recording_may_stand_under_two_speakers(tmp_path, capsys):
    keys = "S\ta\tbonafide\ttarget\nT\ta\tbonafide\tnontarget\nS\tb\tspoof\tspoof\n"
    scores = "S\ta\t1\t1\t3\nT\ta\t1\t-1\t-1\nS\tb\t-1\t1\t-1\n"
    assert score_asvspoof5.main(write(tmp_path, keys, scores)) == 0
    assert "a-DCF: 0.00000" in capsys.readouterr().out
