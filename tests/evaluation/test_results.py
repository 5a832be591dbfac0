from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from qamo.evaluation import calibration
from qamo.evaluation.results import evaluate, seeds_table, table

GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens" / "eval_package" / "asv21_small"


@pytest.mark.skipif(not GOLDENS.exists(), reason="the goldens are not here")
def test_the_row_of_asvspoof_2021_la_equals_the_official_package(tmp_path):
    with tarfile.open(GOLDENS / "data.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    keys = tmp_path / "keys" / "LA" / "CM" / "trial_metadata.txt"
    row = evaluate(tmp_path / "scores" / "LA_plain.txt", keys, "eval", n_failed=0, n_resamples=200, seed=0)
    assert row["eer"] == pytest.approx(16.781135531135533, abs=5e-5)
    assert row["min_tdcf"] == pytest.approx(0.5630890554664428, abs=1e-6)
    assert row["eer_low"] < row["eer"] < row["eer_high"]
    assert row["interval"] == "by speaker, 67 speakers"
    for name in ("LA-C012-eval.npy", "ASV"):  # without the organisers' files there is an EER and no t-DCF
        (tmp_path / "keys" / "LA" / name).rename(tmp_path / name)
    alone = evaluate(tmp_path / "scores" / "LA_plain.txt", keys, "eval", n_failed=0, n_resamples=0, seed=0)
    assert "min_tdcf" not in alone
    assert alone["eer"] == row["eer"]


def test_a_set_without_keys_or_with_lost_recordings_has_a_note_in_place_of_an_eer(tmp_path):
    row = evaluate(tmp_path / "s.txt", None, None, n_failed=0, n_resamples=0, seed=0)
    lost = evaluate(tmp_path / "s.txt", tmp_path / "k", None, n_failed=2, n_resamples=0, seed=0)
    said = table({"run": "exps/r", "sets": {"a": row, "b": lost}})
    assert "scored; no keys, so no EER" in said
    assert "no EER: 2 recordings could not be read" in said


def test_a_series_gives_mean_and_sample_deviation():
    runs = [{"seed": s, "sets": {"x": {"eer": eer}}} for s, eer in [(1, 4.0), (2, 6.0), (3, 8.0)]]
    said = seeds_table(runs)
    assert "mean   6.00" in said
    assert "deviation  2.00" in said
    assert "each 4.00, 6.00, 8.00" in said


def test_a_row_says_what_the_dev_calibration_is_worth_on_the_set(tmp_path):
    rng = np.random.default_rng(0)
    for part, shift in (("dev", 0.0), ("set", 1.0)):  # the set's scores are shifted, so that the calibration misleads
        scores = rng.normal(size=400) + np.where(np.arange(400) < 100, 1, -1) + shift
        names = [f"{part}{i}" for i in range(400)]
        (tmp_path / f"{part}.csv").write_text(
            "file,label\n" + "".join(f"{n},{'real' if i < 100 else 'fake'}\n" for i, n in enumerate(names))
        )
        (tmp_path / f"{part}.txt").write_text("".join(f"{n} {s}\n" for n, s in zip(names, scores)))
        identity = {"identity": {"weights": "w", "config": "c"}}
        (tmp_path / f"{part}.txt.json").write_text(json.dumps(identity))
    calibrated = calibration.fit_files(tmp_path / "dev.txt", tmp_path / "dev.csv")
    options = {"n_failed": 0, "n_resamples": 0, "seed": 0, "calibrated": calibrated}
    dev = evaluate(tmp_path / "dev.txt", tmp_path / "dev.csv", None, **options)
    row = evaluate(tmp_path / "set.txt", tmp_path / "set.csv", None, **options)
    assert dev["min_cllr"] < dev["cllr"] < dev["min_cllr"] + 0.1
    assert row["cllr"] > row["min_cllr"] + 0.05
    assert row["act_dcf"] > row["min_dcf"]
    said = table({"run": "r", "sets": {"dev": dev, "set": row}})
    assert f"{row['cllr']:.3f}/{row['min_cllr']:.3f}" in said
    (tmp_path / "set.txt.json").write_text(json.dumps({"identity": {"weights": "other", "config": "c"}}))
    other = evaluate(tmp_path / "set.txt", tmp_path / "set.csv", None, **options)
    assert "cllr" not in other  # a calibration of another detector says nothing of these scores
    assert other["min_cllr"] == row["min_cllr"]


def test_an_interval_that_could_not_be_had_or_not_by_speaker_has_its_reason_below_the_table(tmp_path):
    for name, n, n_speakers in (("small", 8, 4), ("few", 60, 3)):
        rows = [f"{name}{i},s{i // 2 % n_speakers},{'real' if i % 2 else 'fake'}\n" for i in range(n)]
        (tmp_path / f"{name}.csv").write_text("file,speaker,label\n" + "".join(rows))
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{i} {i % 2 + i / 90}\n" for i in range(n)))
    rows = {
        name: evaluate(tmp_path / f"{name}.txt", tmp_path / f"{name}.csv", None, n_failed=0, n_resamples=50)
        for name in ("small", "few")
    }
    said = table({"run": "r", "sets": rows})
    assert "interval of small: too few trials (4) for an interval" in said
    assert "interval of few: by trial, 60 trials; too few speakers (3) for an interval by speaker" in said
