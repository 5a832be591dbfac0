"""Quality classes: one is OC-Softmax, quantiles stay with the run, augmented speech is listened to, starts say it."""

from __future__ import annotations

import copy
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import data_utils
import main
from data_utils import TrainSet, epoch_batches
from loss import QAMO, OCSoftmax
from model import build_detector
from qamo import InputError
from qamo.audio import load as audio
from qamo.audio.rawboost import rawboost
from qamo.config.load import load_config
from qamo.config.schema import QualityConfig, RawBoostConfig
from qamo.quality.cache import AugmentedMOS, predict_files
from qamo.quality.classes import QualityRule, describe_prediction, describe_quality
from qamo.quality.predictors import build_predictor
from qamo.training.checkpoint import read_checkpoint
from qamo.training.folder import training_identity
from qamo.training.loader import read_by_processes
from qamo.trials.protocol import read_protocol
from qamo.trials.recordings import Recordings

RADII = {"radius_bonafide": 0.9, "radius_spoof": 0.2, "alpha": 20.0}
QUALITY = {"scale": 32.0, "margin": 0.4, "quality_weight": 0.1}
BOOST = RawBoostConfig().model_dump(exclude={"probability"})


# ---- one class


@pytest.mark.parametrize("score", ["mean", "softmax", "max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_one_centroid_loss_scores_and_gradients_are_those_of_oc_softmax(score, dtype):
    torch.manual_seed(0)
    qamo = QAMO(24, n_centroids=1, score=score, **RADII, **QUALITY).to(dtype)
    plain = OCSoftmax(24, **RADII).to(dtype)
    plain.load_state_dict(qamo.state_dict())
    embedding = torch.randn(32, 24, dtype=dtype)
    bonafide = torch.arange(32) % 3 == 0
    found = []
    for head in (qamo, plain):
        x = embedding.clone().requires_grad_()
        losses = head.loss(x, bonafide, torch.zeros(32, dtype=torch.int64))
        losses["total"].backward()
        dev = head.loss(embedding, bonafide)["total"]
        assert x.grad is not None
        assert head.centroids.grad is not None
        found.append([losses["total"], losses["one_class"], dev, head(embedding), x.grad, head.centroids.grad])
    for ours, theirs in zip(*found):
        assert torch.equal(ours, theirs)
    assert qamo.loss(embedding, bonafide, torch.zeros(32, dtype=torch.int64))["quality"] == 0


def test_training_with_one_class_ends_at_the_weights_of_oc_softmax(built_corpus):
    words = {"data.quality.thresholds": [], "model.qamo.n_centroids": 1}
    cfg = load_config(built_corpus / "config.yaml", words)
    data = data_utils.read_training_data(cfg.data, batch_size=6, seed=3)
    assert data.rule.n_classes == 1
    torch.manual_seed(3)
    qamo = build_detector(cfg.model)
    plain = build_detector(cfg.model.model_copy(update={"head": "oc_softmax"}))
    plain.load_state_dict(qamo.state_dict())
    before = copy.deepcopy(qamo.state_dict())
    batches = list(data.of_process(Fabric(accelerator="cpu")).train(0, 0))
    assert any(batch.augmented.any() for batch in batches)
    for detector in (qamo, plain):
        optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3, weight_decay=1e-4)
        for batch in batches:
            optimizer.zero_grad()
            losses = detector(batch.wave, batch.bonafide, batch.quality).losses
            assert losses is not None
            losses["total"].backward()
            optimizer.step()
    for name, tensor in qamo.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name])
    assert not torch.equal(qamo.state_dict()["head.centroids"], before["head.centroids"])


def test_as_many_centroids_as_classes_are_asked_for(built_corpus):
    with pytest.raises(InputError, match=r"n_centroids is 2 but data\.quality makes 1 classes"):
        load_config(built_corpus / "config.yaml", {"data.quality.thresholds": []})


# ---- what a run remembers


def test_quantiles_are_stored_in_the_run_as_the_thresholds_they_came_to(corpus):
    words = ["data.quality.thresholds=null", "data.quality.quantiles=[0.25,0.75]", "model.qamo.n_centroids=3"]
    words += ["train.max_epochs=1", "eval.sets=[]", "--name", "r", "--config", str(corpus / "config.yaml")]
    assert main.main(words) == 0
    found = read_protocol(corpus / "train.txt")
    edges = np.quantile(found.mos[found.bonafide], [0.25, 0.75]).tolist()
    assert edges[0] > 2
    assert edges[0] < edges[1]
    assert json.loads((corpus / "exps" / "r" / "run.json").read_text())["data"]["quality_edges_mos"] == edges
    assert read_checkpoint(corpus / "exps" / "r" / "model.pt")["data"]["quality_edges_mos"] == edges


# ---- predicted classes


def predicting_set(corpus: Path, cache: Path | None = None, edge: float = 2.0) -> TrainSet:
    trials = read_protocol(corpus / "train.txt")
    return TrainSet(
        trials,
        Recordings(corpus / "LA" / "train" / "flac", trials.names, None),
        window_samples=8000,
        rule=QualityRule(np.array([edge]), "predict"),
        seed=5,
        boost=RawBoostConfig(probability=0.6),
        mos_of=AugmentedMOS(cache),
    )


@pytest.fixture(scope="module")
def edge(built_corpus: Path) -> float:
    """A MOS that parts the augmented bona fide speech of epoch 2, away from any of it."""
    source = predicting_set(built_corpus)
    heard = build_predictor("distillmos")
    values = np.sort(heard([boosted(source, 2, i) for i in augmented_bonafide(source, 2)]))
    assert len(values) >= 3
    widest = int(np.argmax(np.diff(values)))
    return float(values[widest : widest + 2].mean())


def boosted(source: TrainSet, epoch: int, index: int) -> np.ndarray:
    rng = np.random.default_rng([source.seed, epoch, index])
    assert rng.random() < source.augmentation.probability
    return rawboost(audio.load(source.paths[index]), rng, **BOOST)


def augmented_bonafide(source: TrainSet, epoch: int) -> list[int]:
    drawn = [
        np.random.default_rng([source.seed, epoch, i]).random() < source.augmentation.probability
        for i in range(len(source))
    ]
    return [i for i in range(len(source)) if drawn[i] and source.trials.bonafide[i]]


def test_only_the_class_of_augmented_bona_fide_speech_is_that_of_its_mos(built_corpus, edge):
    source = predicting_set(built_corpus, edge=edge)
    heard = build_predictor("distillmos")
    items = [source[2, i] for i in range(24)]
    for item in items:
        value = source.trials.mos[item.trial]
        if item.augmented and item.bonafide:
            value = heard([boosted(source, 2, item.trial)])[0]
        assert item.quality == int(value >= edge)
    assert {item.quality for item in items if item.augmented and item.bonafide} == {0, 1}


def test_a_predicted_class_depends_on_seed_epoch_and_index_alone(built_corpus):
    backward = predicting_set(built_corpus)
    keys = [(2, i) for i in (21, 3, 12, 0)]
    again = {key[1]: backward[key] for key in keys}
    forward = {key[1]: predicting_set(built_corpus)[key] for key in sorted(keys)}
    for index, item in forward.items():
        np.testing.assert_array_equal(item.wave, again[index].wave)
        assert item[1:] == again[index][1:]


def test_loading_processes_predict_what_the_main_process_does_and_share_a_file(built_corpus, tmp_path, edge):
    """After torch has used several threads, which a forked process must survive; the MOS are the same bits."""
    torch.randn(400, 400) @ torch.randn(400, 400)
    keys = list(epoch_batches(24, 6, seed=5, epoch=2))
    files = [tmp_path / "new" / f"{n}.txt" for n in (0, 2)]
    alone, shared = (
        list(read_by_processes(predicting_set(built_corpus, file, edge), keys, data_utils.collate, n_workers=n))
        for n, file in zip((0, 2), files)
    )
    for one, two in zip(alone, shared):
        assert all(np.array_equal(a, b) for a, b in zip(one, two))
    assert sorted(files[0].read_text().splitlines()) == sorted(files[1].read_text().splitlines())

    again = predicting_set(built_corpus, files[1], edge)
    assert all(again[key].quality == q for batch, row in zip(keys, shared) for key, q in zip(batch, row.quality))
    assert isinstance(again.mos_of, AugmentedMOS)
    assert again.mos_of.n_predicted == 0


def test_a_torn_line_of_kept_predictions_is_passed_over(tmp_path):
    cache = tmp_path / "mos.txt"
    predict = AugmentedMOS(cache)
    for i in range(4):
        predict(np.random.default_rng(i).normal(size=3200).astype(np.float32))
    assert len(AugmentedMOS(cache).known) == 4
    text = cache.read_text()
    cache.write_text(text[: text.index("\n") - 5] + text[text.index("\n") + 1 :])  # the first runs into the second
    assert len(AugmentedMOS(cache).known) == 2


def test_where_predictions_are_kept_does_not_make_another_training(built_corpus, tmp_path):
    plain = load_config(built_corpus / "config.yaml", {"data.quality.augmented": "predict"})
    kept = load_config(
        built_corpus / "config.yaml", {"data.quality.augmented": "predict", "data.quality.cache": str(tmp_path / "m")}
    )
    assert training_identity(plain) == training_identity(kept)


def test_no_mos_is_predicted_for_a_head_that_does_not_look_at_quality(built_corpus):
    words = {"data.quality.augmented": "predict"}
    for head, weight, reads in (
        ("oc_softmax", 0.5, False),
        ("wce", 0.0, False),
        ("wce", 0.5, True),
        ("qamo", 0.5, True),
    ):
        cfg = load_config(
            built_corpus / "config.yaml", {**words, "model.head": head, "model.wce.quality_weight": weight}
        )
        assert cfg.model.reads_quality is reads
        data = data_utils.read_training_data(cfg.data, batch_size=6, seed=1, reads_quality=reads)
        assert (data.train.mos_of is not None) is reads


def test_a_start_with_predicted_classes_says_that_the_protocol_has_other_mos(corpus, caplog):
    cfg = load_config(corpus / "config.yaml", {"data.quality.augmented": "predict"})
    with caplog.at_level(logging.INFO):
        data = data_utils.read_training_data(cfg.data, batch_size=6, seed=1)
    said = caplog.text
    assert "of 8 probed bona fide utterances, augmented:" in said
    assert "are not DistillMOS's" in said

    found = data.train.trials
    indices = np.flatnonzero(found.bonafide).tolist()
    lines = (corpus / "train.txt").read_text().splitlines()
    for index, score in zip(indices, predict_files([data.train.paths[i] for i in indices], "distillmos")):
        lines[index] = f"{lines[index].rpartition(' ')[0]} {score:.4f}"
    (corpus / "train.txt").write_text("\n".join(lines))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        data_utils.read_training_data(cfg.data, batch_size=6, seed=1)
    assert "of 8 probed" in caplog.text
    assert "are not DistillMOS's" not in caplog.text


# ---- what a start says


def test_classes_are_counted_before_and_expected_after_augmentation():
    mos_of = [1.0] * 10 + [3.0] * 30 + [4.5] * 60
    rule = QualityRule(np.array([2.0, 4.0]), "lower")
    said = describe_quality(np.array(mos_of), rule, 0.4)
    assert len(said) == 3
    # class 0 keeps its 10 and gets 40 % of 30; class 1 keeps 60 % of 30 and gets 40 % of 60
    assert "class 0 (MOS 1-2): 10 bona fide utterances (10.0%), 22.0% expected" in said[0]
    assert "class 1 (MOS 2-4): 30 bona fide utterances (30.0%), 42.0% expected" in said[1]
    assert "class 2 (MOS 4-5): 60 bona fide utterances (60.0%), 36.0% expected" in said[2]


def test_spoofed_speech_is_not_counted(built_corpus, caplog):
    cfg = load_config(built_corpus / "config.yaml", {})
    with caplog.at_level(logging.INFO):
        data = data_utils.read_training_data(cfg.data, batch_size=6, seed=1)
    counts = re.findall(r"quality class . \(MOS .*\): (\d+) bona fide", caplog.text)
    assert sum(map(int, counts)) == data.train.trials.bonafide.sum() < len(data.train.trials)


@pytest.mark.parametrize(("rule", "empty"), [("none", True), ("lower", False), ("lowest", False)])
def test_an_empty_class_is_said_unless_augmentation_fills_it(rule, empty):
    said = " ".join(describe_quality(np.full(200, 3.0), QualityRule(np.array([2.0]), rule), 0.4))
    assert ("class 0 is empty" in said) == empty
    assert "nearly inert" in said


def test_mos_that_tell_speech_apart_are_not_called_inert():
    said = " ".join(describe_quality(np.array([1.0] * 10 + [3.0] * 190), QualityRule(np.array([2.0]), "lower"), 0.4))
    assert "inert" not in said


def test_a_single_class_is_neither_inert_nor_empty():
    said = describe_quality(np.full(9, 3.0), QualityRule(np.array([]), "lower"), 0.4)
    assert said == [
        "quality class 0 (MOS 1-5): 9 bona fide utterances (100.0%), 100.0% expected once 40% are augmented"
    ]


def test_with_prediction_the_start_leaves_the_ratios_to_the_probe():
    rule = QualityRule(np.array([2.0]), "predict")
    assert "expected" not in " ".join(describe_quality(np.array([1.0, 3.0]), rule, 0.4))
    given = np.array([3.0, 3.0, 3.0, 1.0])
    said = describe_prediction(rule, given, given + 0.01, np.array([1.5, 1.5, 1.5, 2.5]), "p.txt")
    assert "75% in class 0, 25% in class 1" in said[0]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"augmented": "worst"}, "augmented"),
        ({"thresholds": [3.0, 2.0]}, "increasing"),
        ({"thresholds": None}, "exactly one"),
        ({"thresholds": None, "quantiles": [1.0]}, "less than 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        QualityConfig(**words)
