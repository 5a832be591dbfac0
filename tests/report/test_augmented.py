"""MOS before and after augmentation: what a training run keeps, and how the report of the run shows it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import data_utils
import main
import report
from qamo import InputError
from qamo.audio import codecs
from qamo.audio import load as audio
from qamo.config.load import load_config
from qamo.quality.cache import AugmentedMOS
from qamo.report.run_record import read_augmented
from tests.support import tiny_corpus
from tests.support.reports import embedded, table

WORDS = ["data.quality.augmented=predict", "data.rawboost.probability=0.3", "data.channel.probability=0.9"]
WORDS += ["data.channel.codecs=[opus,mulaw]", "train.max_epochs=1", "eval.sets=[]"]


@pytest.fixture(scope="module")
def trained(built_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with a run, exps/r, whose classes of augmented speech were predicted."""
    root = tmp_path_factory.mktemp("augmented") / "corpus"
    shutil.copytree(built_corpus, root)
    (root / "config.yaml").write_text(tiny_corpus.CONFIG.format(root=root))
    assert main.main(["--config", str(root / "config.yaml"), "--name", "r", *WORDS]) == 0
    return root


def test_a_run_keeps_what_augmentation_does_to_the_mos_of_its_bona_fide_speech(trained):
    rows = json.loads((trained / "exps/r/augmented.json").read_text())["utterances"]
    cfg = load_config(trained / "exps/r/config.yaml", {})
    data = data_utils.read_training_data(cfg.data, batch_size=6, seed=cfg.seed)
    trials, heard = data.train.trials, AugmentedMOS()
    assert [row["name"] for row in rows] == [name for name, is_real in zip(trials.names, trials.bonafide) if is_real]
    for row in rows[:3]:
        index = trials.names.index(row["name"])
        item = data.train[row["epoch"], index]
        assert item.augmented
        wave = audio.load(data.train.paths[index])
        assert row["mos_before"] == heard(wave)
        assert row["mos_after"] == heard(data.train.augmentation(wave, row["epoch"], index)[0])
        assert item.quality == int(row["mos_after"] >= cfg.data.quality.thresholds[0])
        plan = data.train.augmentation.plan(row["epoch"], index)
        assert row["rawboost"] == plan.rawboost
        assert row["codec"] == (plan.channel.codec if plan.channel else None)
    assert {row["codec"] for row in rows} >= {"opus", "mulaw"}
    assert all(row["kbps"] in codecs.CODECS[row["codec"]].kbps for row in rows if row["codec"])


def test_the_report_of_the_run_draws_both_distributions_and_tells_codecs_apart(trained, tmp_path):
    folder, out = trained / "exps/r", tmp_path / "r.html"
    assert report.main(["--run", str(folder), "-o", str(out), "--csv", str(tmp_path / "csv")]) == 0
    rows = json.loads((folder / "augmented.json").read_text())["utterances"]
    chart = embedded(out, "charts")["mos-augmented"]
    edges = np.array(chart["x"]["values"])
    assert [line["label"] for line in chart["series"]] == ["before", "after"]
    for line, key in zip(chart["series"], ("mos_before", "mos_after")):
        counts = [sum(a <= row[key] < b for row in rows) for a, b in itertools.pairwise(edges)]
        np.testing.assert_allclose(line["values"][:-1], 100 * np.array(counts) / len(rows), atol=1e-3)
        assert sum(counts) == len(rows)
    text = out.read_text()
    assert "MOS before and after augmentation" in text
    medians = [np.median([row[key] for row in rows]) for key in ("mos_before", "mos_after")]
    assert "the median goes from {:.2f} to {:.2f}".format(*medians) in text
    found = {row["codec"]: row for row in table(tmp_path / "csv", "mos-by-codec")}
    for codec in {row["codec"] for row in rows}:
        chosen = [row for row in rows if row["codec"] == codec]
        line = found.pop(codec or "none")
        assert int(line["utterances"]) == len(chosen)
        assert float(line["MOS after"]) == pytest.approx(np.mean([row["mos_after"] for row in chosen]))
        change = np.mean([row["mos_after"] - row["mos_before"] for row in chosen])
        assert float(line["change"]) == pytest.approx(change)
    assert found == {}
    assert "data.channel.codecs" in {row["key"] for row in table(tmp_path / "csv", "settings")}


def test_a_run_that_predicts_nothing_keeps_and_shows_nothing(trained_run, tmp_path):
    assert not (trained_run / "augmented.json").exists()
    words = ["--run", str(trained_run), "-o", str(tmp_path / "r.html"), "--csv", str(tmp_path / "csv")]
    assert report.main(words) == 0
    assert "mos-augmented" not in embedded(tmp_path / "r.html", "charts")
    keys = {row["key"] for row in table(tmp_path / "csv", "settings")}
    assert "data.quality.thresholds" in keys
    assert not any(key.startswith("data.channel.") for key in keys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"utterances": []}', "found none"),
        ('{"utterances": [{"codec": null, "mos_before": NaN, "mos_after": 2.0}]}', "no numbers"),
        ('{"utterances": [{"codec": null, "mos_before": 3.0}]}', r"utterances\.0.*mos_after missing"),
        ('{"utterances": [{"codec": 3, "mos_before": 3.0, "mos_after": 2.0}]}', r"utterances\.0\.codec: expected"),
        ("{", "not JSON"),
    ],
)
def test_a_damaged_sample_is_named(tmp_path, content, said):
    (tmp_path / "augmented.json").write_text(content)
    with pytest.raises(InputError, match=rf"augmented\.json.*{said}"):
        read_augmented(tmp_path / "augmented.json")
