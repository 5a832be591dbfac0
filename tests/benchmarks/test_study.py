"""benchmarks/study.py on the tiny corpus: real runs, rescored, compared, and not done twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study
from eval_metrics import equal_error_rate
from qamo.config.load import load_config
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores


def run(corpus: Path, *words: str) -> int:
    out = ["--config", str(corpus / "config.yaml"), "-o", str(corpus / "results")]
    cache = f"run.feature_cache={corpus / 'features'}"
    return study.main(["train.max_epochs=1", cache, *words, *out, "--systems", "qamo_max", "--seeds", "4"])


def test_the_table_is_that_of_real_runs_and_a_second_start_runs_nothing(corpus, capfd):
    assert run(corpus) == 0
    runs = corpus / "exps" / "study"
    assert sorted(p.name for p in runs.iterdir()) == ["qamo_seed4"]
    assert list((corpus / "features").iterdir())  # one cache for all
    trained, rescored = runs / "qamo_seed4", runs / "qamo_seed4" / "max"

    # The same weights, scored by the nearest centroid.
    weights = [
        json.loads((folder / "scores" / "wild.txt.json").read_text())["identity"]["weights"]
        for folder in (trained, rescored)
    ]
    assert weights[0] == weights[1]
    mean, nearest = (read_scores(folder / "scores" / "wild.txt") for folder in (trained, rescored))
    assert (nearest.values >= mean.values - 1e-6).all()
    assert (nearest.values > mean.values + 1e-6).any()

    # Every figure again, by hand.
    found = json.loads((corpus / "results" / "study.json").read_text())
    keys = read_keys(corpus / "meta.csv")
    rows = found["sets"]["wild"]["systems"]
    assert list(rows) == ["qamo", "qamo_max"]
    eers = {}
    for name, folder in (("qamo", trained), ("qamo_max", rescored)):
        values = keys.align(read_scores(folder / "scores" / "wild.txt"))
        eers[name] = 100 * equal_error_rate(values[keys.bonafide], values[~keys.bonafide]).eer
        assert rows[name]["mean"] == pytest.approx(eers[name], abs=1e-3)
    difference = rows["qamo_max"]["to_reference"]
    assert difference["value"] == pytest.approx(eers["qamo_max"] - eers["qamo"], abs=1e-3)
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert "to_reference" not in rows["qamo"]
    assert f"(MOS 2.5) | {eers['qamo']:.2f} | - |" in (corpus / "results" / "study.md").read_text()

    times = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    capfd.readouterr()
    assert run(corpus) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == times

    assert run(corpus, "train.lr=0.1") == 2  # other cells must not be mixed in
    assert "holds a run of another config: train.lr" in capfd.readouterr().err


def test_every_cell_is_what_its_name_says(corpus):
    config = corpus / "config.yaml"
    cfgs = {name: study.cell(name, 2, config, {}).cfg for name in study.SYSTEMS}
    assert len(cfgs) == 15
    assert cfgs["qamo_measured"].data.quality.augmented == "predict"
    assert cfgs["asp_weighted"].model.distillmos.layers == "weighted"
    assert cfgs["asp_layers"].model.distillmos.layers == [3, 4]
    assert {cfg.seed for cfg in cfgs.values()} == {2}
    assert len({cfg.run.feature_cache for cfg in cfgs.values()}) == 1
    assert cfgs["wce"].model.head == "wce"
    assert cfgs["oc_softmax"].model.head == "oc_softmax"
    assert cfgs["qamo"].data.quality.thresholds == [2.5]
    assert cfgs["qamo_quantiles"].data.quality.quantiles == [0.5]
    assert cfgs["qamo_no_term"].model.qamo.quality_weight == 0
    default = load_config(config)
    assert cfgs["qamo"].model.qamo == default.model.qamo
    for name, cfg in cfgs.items():
        assert cfg.train.enabled == (not name.endswith(("_softmax", "_max")) or name == "oc_softmax")


def test_systems_that_are_equal_over_the_seeds_do_not_differ(corpus):
    """WCE has the scores of QAMO with the seeds exchanged."""
    keys = read_keys(corpus / "meta.csv")
    scores = {seed: np.random.default_rng(seed).normal(size=len(keys)) + keys.bonafide for seed in (1, 2)}
    words = {"eval.sets": ["wild"]}
    cells = {(n, s): study.cell(n, s, corpus / "config.yaml", words) for n in ("wce", "qamo") for s in (1, 2)}
    for (name, seed), each in cells.items():
        values = scores[seed if name == "qamo" else 3 - seed]
        each.folder.mkdir(parents=True)
        file = each.folder / "wild.txt"
        file.write_text("".join(f"{n} {v}\n" for n, v in zip(keys.names, values.tolist())))
        eer = 100 * equal_error_rate(values[keys.bonafide], values[~keys.bonafide]).eer
        row = {"sets": {"wild": {"scores": str(file), "eer": float(eer)}}}
        (each.folder / "results.json").write_text(json.dumps(row))
    found = study.compare(["wce", "qamo"], [1, 2], cells)["sets"]["wild"]["systems"]
    against = found["wce"]["to_reference"]
    assert (against["value"], against["p"], against["p_holm"]) == (0, 1, 1)
    assert -against["low"] == against["high"] > 0
    assert found["qamo"]["deviation"] == found["wce"]["deviation"] > 0
    turned = study.compare(["wce", "qamo"], [1, 2], cells, "wce")
    assert turned["reference"] == "wce"
    assert turned["sets"]["wild"]["systems"].keys() == {"wce", "qamo"}
    assert "to_reference" not in turned["sets"]["wild"]["systems"]["wce"]
    assert turned["sets"]["wild"]["systems"]["qamo"]["to_reference"]["p"] == 1


def test_a_config_that_is_not_there_is_a_sentence(tmp_path, capsys):
    assert study.main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "no such config file" in capsys.readouterr().err
