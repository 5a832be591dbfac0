"""report.py --calibrate-on, --fuse and --figures; tables in LaTeX."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import inference
import report
from eval_metrics import cllr_bits, equal_error_rate
from qamo.evaluation.breakdown import System
from qamo.report import figures
from qamo.report.rates import det_limits
from qamo.report.tables import Column, Table, to_latex
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """dev and evaluation scores of two systems that err independently, on other scales."""
    rng = np.random.default_rng(0)
    for part, n in (("dev", 400), ("ev", 600)):
        rows, a, b = [], [], []
        for i in range(n):
            bonafide = i % 4 == 0
            attack = "-" if bonafide else f"A0{i % 3}"
            rows.append(f"S {part}{i} - {attack} {'bonafide' if bonafide else 'spoof'}\n")
            a.append(f"{part}{i} {rng.normal() + 2 * bonafide:.6f}\n")
            b.append(f"{part}{i} {5 * (rng.normal() + 2 * bonafide) + 40:.6f}\n")
        for name, lines in ((f"{part}.txt", rows), (f"{part}_a.txt", a), (f"{part}_b.txt", b)):
            (tmp_path / name).write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


ARGS = ["a=ev_a.txt", "b=ev_b.txt", "--keys", "ev.txt", "--resamples", "20", "-o", "r.html"]
DEV = ["--calibrate-on", "dev_a.txt", "dev.txt", "--calibrate-on", "dev_b.txt", "dev.txt"]


def test_ratios_are_written_and_their_costs_shown_and_fusion_beats_both(sets):
    assert report.main([*ARGS, *DEV, "--fuse", "--llr", "llr", "--csv", "csv"]) == 0
    keys = read_keys(sets / "ev.txt")
    rows = {row["system"]: row for row in csv.DictReader((sets / "csv" / "calibration.csv").open())}
    eers = {}
    for name in ("a", "b", "fusion"):
        llrs = keys.align(read_scores(sets / "llr" / f"{name}.llr.txt"))
        parts = llrs[keys.bonafide], llrs[~keys.bonafide]
        assert float(rows[name]["Cllr"]) == pytest.approx(cllr_bits(*parts), abs=1e-5)
        assert float(rows[name]["min Cllr"]) <= float(rows[name]["Cllr"]) < float(rows[name]["min Cllr"]) + 0.08
        eers[name] = equal_error_rate(*parts).eer
    assert eers["fusion"] < min(eers["a"], eers["b"])
    assert rows["fusion"]["dev bona fide"] == "100"


def test_dev_scores_that_are_the_judged_ones_rescaled_are_refused(sets, capsys):
    rows = [line.split() for line in (sets / "ev_a.txt").read_text().splitlines()]
    (sets / "scaled.txt").write_text("".join(f"{name} {1 / (1 + np.exp(-float(score))):.4f}\n" for name, score in rows))
    assert report.main([*ARGS, "--calibrate-on", "scaled.txt", "ev.txt", *DEV[3:]]) == 2
    assert "the calibration of a was fitted to 600 of the trials of ev_a.txt" in capsys.readouterr().err


def test_the_lines_of_a_det_figure_differ_without_colour_and_its_legend_covers_no_eer():
    rng = np.random.default_rng(0)
    bonafide = np.arange(600) < 200
    systems = [
        System(f"system {k}", Path("s.txt"), rng.normal(size=600) + gain * bonafide, bonafide)
        for k, gain in enumerate((4, 3, 2, 1))
    ]
    figure = figures.det(systems)
    figure.canvas.draw()
    (axes,) = figure.axes
    curves = [line for line in axes.lines if line.get_label().startswith("system")]
    assert len({str(line._unscaled_dash_pattern) for line in curves}) == len(systems)
    box = axes.get_legend().get_window_extent()
    for line in axes.lines:
        if line.get_marker() == "o":
            assert not box.contains(*axes.transData.transform(line.get_xydata()[0]))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--calibrate-on", "ev_a.txt", "ev.txt", *DEV[3:]], "the calibration of a was fitted to 600 of the trials of"),
        (DEV[:3], "expected DEV_SCORES DEV_KEYS for each of 2 systems"),
        (["--fuse"], "--fuse needs --calibrate-on"),
        (
            ["--calibrate-on", "dev_a.txt", "dev.txt", "--calibrate-on", "o.txt", "o.csv", "--fuse"],
            "are not those of a",
        ),
    ],
)
def test_leakage_and_what_is_missing_are_refused(sets, capsys, args, said):
    (sets / "o.txt").write_text("x 1\ny -1\n")
    (sets / "o.csv").write_text("file,label\nx,real\ny,fake\n")
    assert report.main([*ARGS, *args]) == 2
    assert said in capsys.readouterr().err
    assert not (sets / "r.html").exists()


def test_a_key_of_asvspoof_2021_calibrates_on_its_subset_progress(sets, capsys):
    rng = np.random.default_rng(0)
    rows, scores = [], []
    for i in range(400):
        label, subset = "spoof" if i % 2 else "bonafide", ("eval", "progress", "hidden")[i % 3]
        rows.append(f"LA_{i % 9:04} LA_E_{i} alaw x {'A07' if i % 2 else 'bonafide'} {label} notrim {subset}\n")
        scores.append(f"LA_E_{i} {rng.normal() - i % 2}\n")
    (sets / "trial_metadata.txt").write_text("".join(rows))
    (sets / "s.txt").write_text("".join(scores))
    words = ["s.txt", "--keys", "trial_metadata.txt", "--calibrate-on", "s.txt", "trial_metadata.txt"]
    assert report.main([*words, "-o", "r.html", "--csv", "csv"]) == 0
    (row,) = csv.DictReader((sets / "csv" / "calibration.csv").open())
    assert int(row["dev bona fide"]) + int(row["dev spoof"]) == 133
    assert inference.main(["--calibrate", "s.txt", "trial_metadata.txt", "-o", "c.json"]) == 2
    assert "name one: --subset progress" in capsys.readouterr().err
    assert inference.main(["--calibrate", "s.txt", "trial_metadata.txt", "--subset", "progress", "-o", "c.json"]) == 0


def test_figures_are_drawn_in_three_formats_and_the_same_input_gives_the_same_bytes(sets):
    for folder in ("one", "two"):
        assert report.main([*ARGS, *DEV, "--figures", folder]) == 0
    names = {path.stem for path in (sets / "one").iterdir()}
    assert names == {"det", "scores-0", "scores-1", "tippett", "reliability", "by-attack"}
    for path in (sets / "one").iterdir():
        content = path.read_bytes()
        assert content.startswith({".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}[path.suffix])
        assert content == (sets / "two" / path.name).read_bytes(), path.name
    assert "miss rate" in (sets / "one" / "det.svg").read_text()


def test_the_lowest_rate_is_bold_and_long_tables_break_over_pages():
    columns = [Column("system"), Column("EER % [95 %]", "interval"), Column("threshold", "number")]
    table = Table("t", "T", columns, [["a", (0.2, 0.1, 0.3), 0.5], ["b", (0.1, 0.05, 0.2), 0.1]])
    text = to_latex(table)
    assert r"b & \textbf{10.00 [5.00, 20.00]} & 0.1000 \\" in text
    assert text.count("textbf") == 1
    groups = [Column("attack"), Column("EER %", "rate", "a"), Column("EER %", "rate", "b")]
    rows = [[f"A{i}", 0.1, 0.2] for i in range(60)]
    text = to_latex(Table("t", "T", groups, rows))
    assert text.startswith("\\begin{longtable}")
    assert text.count(r"\textbf{10.00}") == 60
    assert "\\endfirsthead" in text
    sets = [Column("system"), Column("EER %", "rate", "one"), Column("EER %", "rate", "two")]
    text = to_latex(Table("t", "T", sets, [["a", 0.1, 0.4], ["b", 0.2, 0.3]]))  # the best system of each set
    assert r"a & \textbf{10.00} & 40.00 \\" in text
    assert r"b & 20.00 & \textbf{30.00} \\" in text


def test_a_choice_of_tables_goes_into_the_files_and_an_unknown_one_is_refused(sets, capsys):
    assert report.main([*ARGS, "--tables", "pairs", "--csv", "csv", "--latex", "r.tex", "--md", "r.md"]) == 0
    assert [path.name for path in (sets / "csv").iterdir()] == ["pairs.csv"]
    assert (sets / "r.tex").read_text().count(r"\label{") == (sets / "r.md").read_text().count("**") // 2 == 1
    (sets / "r.html").unlink()
    assert report.main([*ARGS, *DEV, "--tables", "pears"]) == 2
    assert "--tables: no table pears; there are pooled, pairs" in capsys.readouterr().err
    assert not list(sets.glob("r.html")) + list(sets.glob("*.llr.txt"))


def test_a_det_curve_reaches_its_ends(sets):
    """One trial of each class at the wrong end: the axes must hold miss and false alarm rates of nearly all."""
    good = np.append(np.linspace(1, 2, 199), -9.0)
    bad = np.append(np.linspace(-2, -1, 99), 9.0)
    low, high = det_limits([System("s", Path("s"), np.concatenate([good, bad]), np.arange(300) < 200)])
    assert low < 1 / 200
    assert high == pytest.approx(1 - 1e-4) or high >= 0.99


def test_sets_that_are_not_in_a_row_are_refused_and_not_taken_for_systems_of_one(sets, capsys):
    with pytest.raises(SystemExit):
        report.main(["ev_a.txt", "--keys", "ev.txt", "--worst", "3", "dev_a.txt", "--keys", "dev.txt", "-o", "r.html"])
    assert "--keys twice" in capsys.readouterr().err
