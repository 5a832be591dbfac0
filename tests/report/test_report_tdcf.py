"""Min t-DCF in a report: the numbers of the evaluation packages of ASVspoof 2021 and 2019."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import report
from eval_metrics import asv_errors, equal_error_rate, min_tdcf, tdcf_coefficients
from qamo.evaluation.tdcf import write_c012
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores
from tests.support.reports import table, write_set

PACKAGE = Path(__file__).parents[2] / "2021" / "eval-package" / "main.py"
GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens" / "eval_package" / "asv21_small"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the goldens of the official package are not here")
ATTACKS = [f"A{k:02d}" for k in range(7, 20)]
CODECS = ["none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus"]


def pooled(scores: Path, keys: Path, out: Path, *more: object) -> dict[str, str]:
    words = [scores, "--keys", keys, "--resamples", 2, "-o", out / "r.html", "--csv", out / "csv", *more]
    assert report.main([str(word) for word in words]) == 0
    return table(out / "csv", "pooled")[0]


# ---- 2021


def cases() -> list[dict[str, Any]]:
    """The golden cases with the keys as the organisers give them."""
    every = json.loads((GOLDENS / "index.json").read_text()) if GOLDENS.is_dir() else []
    plain = ("recompute_c012", "asv_score_file", "c012_path", "exception")
    return [case for case in every if not any(case.get(key) for key in plain)]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    with tarfile.open(GOLDENS / "data.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@needs_goldens
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_the_pooled_row_equals_the_official_package(case, official, tmp_path):
    keys = official / "keys" / case["track"]
    row = pooled(official / case["cm_score_file"], keys, tmp_path, "--subset", case["subset"])
    assert float(row["EER"]) == pytest.approx(case["pooled_eer"], abs=1e-12)
    if case["track"] == "DF":  # which has no ASV system
        assert "min t-DCF" not in row
    else:
        assert float(row["min t-DCF"]) == pytest.approx(case["pooled_min_tdcf"], abs=1e-12)
        assert f"of the subset {case['subset']}" in (tmp_path / "r.html").read_text()


@needs_goldens
def test_without_the_weights_they_come_from_the_asv_scores_and_without_these_there_is_no_column(official, tmp_path):
    keys = tmp_path / "keys" / "LA"
    shutil.copytree(official / "keys" / "LA", keys)
    (keys / "LA-C012-eval.npy").unlink()
    golden = json.loads((GOLDENS / "index.json").read_text())
    expected = next(case for case in golden if case["name"] == "LA_eval_recompute")["pooled_min_tdcf"]
    scores = official / "scores" / "LA_plain.txt"
    assert float(pooled(scores, keys, tmp_path)["min t-DCF"]) == pytest.approx(expected, abs=1e-12)
    shutil.rmtree(keys / "ASV")
    assert "min t-DCF" not in pooled(scores, keys, tmp_path)


@needs_goldens
def test_every_cell_of_attack_by_codec_equals_the_official_package(official, tmp_path):
    """Their table has EERs of each attack and codec; ours has the same trials in each cell."""
    pooled(official / "scores" / "LA_plain.txt", official / "keys" / "LA", tmp_path)
    golden = np.load(GOLDENS / "arrays.npz")["LA_eval_plain/eer"]
    ours = {row["attack \\ codec"]: row for row in table(tmp_path / "csv", "attack-by-codec")}
    assert sorted(ours) == ATTACKS
    for attack, expected in zip(ATTACKS, golden):
        got = [float(ours[attack][codec]) for codec in [*CODECS, "all"]]
        assert got == pytest.approx(expected.tolist(), abs=1e-12)


def write_la(folder: Path) -> tuple[Path, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A made-up keys/LA: scores of a detector in s.txt; the folder, bona fide scores, spoof scores, ASV scores."""
    rng = np.random.default_rng(0)
    for name in ("CM", "ASV/ASVTorch_Kaldi"):
        (folder / name).mkdir(parents=True)
    key, scores, asv_key, asv_scores = [], [], [], []
    by_class: dict[bool, list[float]] = {True: [], False: []}
    asv: dict[str, list[float]] = {"target": [], "nontarget": [], "spoof": []}
    centers = {"target": 8.0, "nontarget": -5.0, "spoof": 3.0}
    for i, (attack, codec) in enumerate((a, c) for a in ["bonafide"] * 5 + ATTACKS for c in CODECS * 2):
        bonafide = attack == "bonafide"
        trial, label = f"LA_E_{i}", "bonafide" if bonafide else "spoof"
        key.append(f"LA_{i % 9:04d} {trial} {codec} x {attack} {label} notrim eval")
        score = float(f"{rng.normal() + 1.5 * bonafide:.5f}")
        by_class[bonafide].append(score)
        scores.append(f"{trial} {score}")
        for kind in ("target", "nontarget") if bonafide else ("spoof",):
            speaker, value = f"{kind[0]}{i % 9}-{codec}", float(f"{rng.normal(centers[kind], 4):.4f}")
            asv_key.append(f"{speaker} {trial}-{codec} {codec} x {attack} {kind} notrim eval")
            asv_scores.append(f"{speaker} {trial}-{codec} {value}")
            asv[kind].append(value)
    for path, lines in (
        ("CM/trial_metadata.txt", key),
        ("s.txt", scores),
        ("ASV/trial_metadata.txt", asv_key),
        ("ASV/ASVTorch_Kaldi/score.txt", asv_scores),
    ):
        (folder / path).write_text("\n".join(lines) + "\n")
    arrays = {kind: np.array(values) for kind, values in asv.items()}
    return folder, np.array(by_class[True]), np.array(by_class[False]), arrays


def test_of_made_up_keys_the_cost_is_that_of_eval_metrics_and_of_the_2021_command(tmp_path, capsys):
    folder, bonafide, spoof, asv = write_la(tmp_path / "keys" / "LA")
    weights = tdcf_coefficients(
        asv_errors(**asv, threshold=equal_error_rate(asv["target"], asv["nontarget"]).threshold)
    )
    row = pooled(folder / "s.txt", folder, tmp_path)
    assert 0.05 < float(row["min t-DCF"]) < 1
    assert float(row["min t-DCF"]) == min_tdcf(bonafide, spoof, weights)

    write_c012(folder / "LA-C012-eval.npy", {"Pooled": {"Pooled": weights._replace(c0=0.3)}})
    other = min_tdcf(bonafide, spoof, weights._replace(c0=0.3))
    assert float(pooled(folder / "s.txt", folder, tmp_path)["min t-DCF"]) == other  # the organisers' weights come first

    spec = importlib.util.spec_from_file_location("asv21_of_report", PACKAGE)
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)
    words = ["--cm-score-file", folder / "s.txt", "--track", "LA", "--subset", "eval", "--metadata", tmp_path / "keys"]
    words += ["--recompute-c012", "--c012-path", tmp_path / "own.npy", "--json", tmp_path / "tables.json"]
    assert package.main([str(word) for word in words]) == 0, capsys.readouterr().err
    printed = json.loads((tmp_path / "tables.json").read_text())
    assert printed["min_tdcf"][-1][-1] == float(row["min t-DCF"])


def test_decisions_have_no_cost_of_both_systems_and_the_page_says_why(tmp_path):
    folder, *_ = write_la(tmp_path / "LA")
    names = read_keys(folder / "CM" / "trial_metadata.txt", "eval").names
    (folder / "hard.txt").write_text("".join(f"{name} {i % 2}\n" for i, name in enumerate(names)))
    words = ["hard.txt", "s.txt", "--keys", ".", "--resamples", "2", "-o", "r.html", "--csv", "csv"]
    assert report.main([str(folder / w) if (folder / w).exists() or w[0] in "rc" else w for w in words]) == 0
    first, second = table(folder / "csv", "pooled")
    assert first["min t-DCF"] == ""
    assert float(second["min t-DCF"]) > 0
    assert "at least 3 distinct scores" in (folder / "r.html").read_text()


# ---- 2019


def write_asv19(folder: Path) -> dict[str, np.ndarray]:
    """asv.txt as ASVspoof 2019 has it; the scores by kind."""
    rng = np.random.default_rng(1)
    scores = {kind: rng.normal(c, 4, n).round(4) for kind, c, n in [("target", 8, 50), ("nontarget", -5, 70)]}
    scores["spoof"] = rng.normal(3, 4, 90).round(4)
    lines = [f"{'A07' if kind == 'spoof' else 'bonafide'} {kind} {v}" for kind, of in scores.items() for v in of]
    (folder / "asv.txt").write_text("\n".join(lines) + "\n")
    return scores


def test_the_asv_scores_of_2019_give_the_cost_in_the_form_of_2019(tmp_path):
    """Held against the formula of Kinnunen et al. 2018, written out."""
    folder = write_set(tmp_path)
    asv = write_asv19(folder)
    row = pooled(folder / "a.txt", folder, tmp_path, "--asv", folder / "asv.txt")
    # The threshold of the EER: where as many targets are missed as nontargets accepted, as nearly as can be.
    threshold = equal_error_rate(asv["target"], asv["nontarget"]).threshold
    p_miss, p_fa = (asv["target"] < threshold).mean(), (asv["nontarget"] >= threshold).mean()
    assert abs(p_miss - p_fa) < 0.03
    c1 = 0.9405 * (1 - p_miss) - 0.0095 * 10 * p_fa
    c2 = 10 * 0.05 * (asv["spoof"] >= threshold).mean()
    keys = read_keys(folder / "meta.csv")
    values = keys.align(read_scores(folder / "a.txt"))
    costs = [
        c1 * (values[keys.bonafide] <= t).mean() + c2 * (values[~keys.bonafide] > t).mean()
        for t in [-np.inf, *values.tolist()]
    ]
    assert float(row["min t-DCF"]) == pytest.approx(min(costs) / min(c1, c2), abs=1e-12)
    page = (tmp_path / "r.html").read_text()
    assert "2019, in its form" in page
    assert "ASV scores" in page


FAULTS = {
    "bonafide target 1.5\nbonafide host 2\n": "asv.txt:2: expected 'source key score'",
    "bonafide target 1.5\n- nontarget nan\n": "asv.txt:2: expected 'source key score'",
    "bonafide target good\n": "asv.txt:1: expected the ASV score to be a number",
    "target 1.5\n": "asv.txt:1: expected 'source key score'",
    "x target 1\nx nontarget 0\n": "found no spoof",
    "": "found no target",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_in_the_asv_scores_is_named_with_its_line(text, tmp_path, capsys):
    folder = write_set(tmp_path)
    (folder / "asv.txt").write_text(text)
    words = [folder / "a.txt", "--keys", folder, "--asv", folder / "asv.txt", "-o", folder / "r.html"]
    assert report.main([str(word) for word in words]) == 2
    assert FAULTS[text] in capsys.readouterr().err
    assert not (folder / "r.html").exists()


def test_asv_scores_of_2019_are_not_mixed_with_a_key_of_2021_nor_used_without_scores(tmp_path, capsys):
    folder, *_ = write_la(tmp_path / "LA")
    write_asv19(folder)
    words = [folder / "s.txt", "--keys", folder, "--asv", folder / "asv.txt", "-o", folder / "r.html"]
    assert report.main([str(word) for word in words]) == 2
    assert "the key is of 2021" in capsys.readouterr().err
    assert report.main(["--run", str(folder), "--asv", str(folder / "asv.txt"), "-o", str(folder / "r.html")]) == 2
    assert "--asv needs score files" in capsys.readouterr().err
