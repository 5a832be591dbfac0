from __future__ import annotations

import json
import os
import signal
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import data_utils
from data_utils import Item, ScoreSet, TrainSet, epoch_batches
from qamo import InputError
from qamo.audio import load as audio
from qamo.audio.rawboost import rawboost
from qamo.config.schema import RawBoostConfig
from qamo.evaluation.scoring_pass import ScoringPass
from qamo.quality.classes import QualityRule, describe_quality, quality_rule
from qamo.training import loader
from qamo.training.loader import read_by_processes, read_by_threads, read_to_score
from qamo.trials.protocol import read_protocol
from qamo.trials.recordings import Recordings

SHARED = Path(__file__).parents[1].parent / "shared"
PROTOCOLS = SHARED / "reference_data" / "protocols_with_mos"
GOLDENS = SHARED / "goldens" / "reference"

needs_protocols = pytest.mark.skipif(not PROTOCOLS.exists(), reason="the authors' protocols are not here")
needs_goldens = pytest.mark.skipif(not GOLDENS.exists(), reason="the goldens are not here")


@needs_protocols
@pytest.mark.parametrize(
    ("part", "n", "n_bonafide", "n_low"), [("train.trn", 25_380, 2_580, 1), ("dev.trl", 24_844, 2_548, 0)]
)
def test_the_authors_protocols_read_with_their_counts(part, n, n_bonafide, n_low):
    found = read_protocol(PROTOCOLS / f"ASVspoof2019.LA.cm.{part}.score.txt")
    assert (len(found), found.bonafide.sum()) == (n, n_bonafide)
    assert (found.mos[found.bonafide] < 2.5).sum() == n_low


@needs_protocols
def test_the_inert_mos_labels_of_asvspoof_2019_are_said_to_be_so():
    found = read_protocol(PROTOCOLS / "ASVspoof2019.LA.cm.train.trn.score.txt")
    said = " ".join(describe_quality(found.mos[found.bonafide], QualityRule(np.array([2.5]), "lower"), 0.4))
    assert "nearly inert" in said
    assert "class 1" in said


def test_a_mos_on_the_threshold_belongs_to_the_class_above():
    rule = quality_rule(np.array([2.49, 2.5, 5.0]), thresholds=[2.5], quantiles=None, augmented="lower")
    assert rule.classes(np.array([2.49, 2.5, 5.0])).tolist() == [0, 1, 1]


def test_more_thresholds_make_more_classes_and_augmentation_lowers_by_one_or_to_the_lowest():
    rule = QualityRule(np.array([2.0, 3.0, 4.0]), "lower")
    assert rule.n_classes == 4
    assert rule.classes(np.array([1.0, 2.5, 3.5, 4.5])).tolist() == [0, 1, 2, 3]
    assert [rule.after_augmentation(k) for k in range(4)] == [0, 0, 1, 2]
    assert [QualityRule(rule.edges, "lowest").after_augmentation(k) for k in range(4)] == [0, 0, 0, 0]
    assert [QualityRule(rule.edges, "none").after_augmentation(k) for k in range(4)] == [0, 1, 2, 3]


def test_quantiles_of_the_mos_become_thresholds():
    rule = quality_rule(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), thresholds=None, quantiles=[0.5], augmented="lower")
    assert rule.edges.tolist() == [3.0]


def test_quantiles_that_coincide_are_refused():
    with pytest.raises(InputError, match="coincide"):
        quality_rule(np.full(9, 3.0), thresholds=None, quantiles=[0.3, 0.6], augmented="lower")


def test_an_epoch_holds_each_utterance_once_and_drops_the_short_batch():
    batches = list(epoch_batches(23, 5, seed=1, epoch=0))
    assert [len(b) for b in batches] == [5, 5, 5, 5]
    indices = [i for batch in batches for _, i in batch]
    assert len(set(indices)) == 20
    assert all(epoch == 0 for batch in batches for epoch, _ in batch)


def test_epochs_and_seeds_shuffle_differently_and_repeatably():
    first = list(epoch_batches(50, 5, seed=1, epoch=0))
    assert first == list(epoch_batches(50, 5, seed=1, epoch=0))
    others = [list(epoch_batches(50, 5, seed=s, epoch=e)) for s, e in [(1, 1), (2, 0)]]
    for other in others:
        assert [i for b in other for _, i in b] != [i for b in first for _, i in b]


def test_an_epoch_can_be_entered_at_any_step():
    assert list(epoch_batches(23, 5, seed=1, epoch=3))[2:] == list(epoch_batches(23, 5, seed=1, epoch=3, first_step=2))


def test_the_shares_of_processes_join_to_the_single_batch():
    alone = list(epoch_batches(31, 6, seed=4, epoch=2))
    shared = [list(epoch_batches(31, 6, seed=4, epoch=2, rank=r, world_size=3)) for r in range(3)]
    assert [a + b + c for a, b, c in zip(*shared)] == alone


def augmenting_set(corpus: Path, seed: int = 0, share: float = 0.5) -> TrainSet:
    trials = read_protocol(corpus / "train.txt")
    return TrainSet(
        trials,
        Recordings(corpus / "LA" / "train" / "flac", trials.names, None),
        window_samples=8000,
        rule=QualityRule(np.array([2.5]), "lower"),
        seed=seed,
        boost=RawBoostConfig(probability=share),
    )


def test_an_item_depends_on_seed_epoch_and_index_alone(built_corpus):
    forward = [augmenting_set(built_corpus)[0, i] for i in range(12)]
    backward = [augmenting_set(built_corpus)[0, i] for i in reversed(range(12))][::-1]
    for one, two in zip(forward, backward):
        np.testing.assert_array_equal(one.wave, two.wave)
        assert one[1:] == two[1:]
    later = [augmenting_set(built_corpus)[1, i] for i in range(12)]
    assert [i.augmented for i in later] != [i.augmented for i in forward]


def test_the_share_of_augmented_draws_and_their_quality(built_corpus):
    source = augmenting_set(built_corpus, share=0.4)
    plain = augmenting_set(built_corpus, share=0.0)
    items = [source[epoch, i] for epoch in range(12) for i in range(24)]
    assert 0.3 < np.mean([item.augmented for item in items]) < 0.5
    for item in items:
        clean = plain[0, item.trial]
        expected = max(clean.quality - 1, 0) if item.augmented else clean.quality
        assert item.quality == expected
        assert item.augmented != np.array_equal(item.wave, clean.wave)


def test_two_workers_give_what_none_gives(built_corpus):
    keys = list(epoch_batches(24, 6, seed=0, epoch=1))
    alone, shared = (
        list(read_by_processes(augmenting_set(built_corpus), keys, data_utils.collate, n_workers=n)) for n in (0, 2)
    )
    for one, two in zip(alone, shared):
        assert all(np.array_equal(a, b) for a, b in zip(one, two))


def test_a_fault_in_a_worker_arrives_as_the_sentence_it_was(corpus):
    (corpus / "LA" / "train" / "flac" / "T_train_003.flac").write_text("no audio")
    keys = [[(0, 3), (0, 4)]]
    with pytest.raises(InputError, match=r"T_train_003.flac: not a recording"):
        list(read_by_processes(augmenting_set(corpus), keys, data_utils.collate, n_workers=1))


@needs_goldens
@pytest.mark.parametrize("algorithm", [4, 0])
def test_items_equal_those_of_the_published_dataset(algorithm):
    """Nine items that the original Dataset_train gave, made here by the same parts in the same order of draws."""
    golden = np.load(GOLDENS / "dataset_train.npz")
    options = RawBoostConfig(algorithm=algorithm).model_dump(exclude={"probability"})
    rule = QualityRule(np.array([2.5]), "lower")
    quality_before = {"U_half": 1, "U_eq": 0, "U_long": 1}
    np.random.seed(12)
    for i in range(9):
        item = f"algo{algorithm}/{i}"
        name = str(golden[f"{item}/id"])
        wave = audio.load(GOLDENS / "data" / "flac" / f"{name}.flac")
        quality = quality_before[name]
        if golden[f"{item}/u"] > 0.6:
            wave = rawboost(wave, np.random, **options)
            quality = rule.after_augmentation(quality)
        window = audio.fit_length(wave)
        assert window.shape == (66_800,)
        np.testing.assert_allclose(window[::16], golden[f"{item}/x_16"], atol=1e-6)
        assert np.square(window, dtype=np.float64).sum() == pytest.approx(golden[f"{item}/sumsq"], rel=1e-6)
        assert quality == golden[f"{item}/score"]
    assert np.random.random_sample() == golden[f"algo{algorithm}/next_np"]


@needs_protocols
@needs_goldens
@pytest.mark.parametrize("part", ["train.trn", "dev.trl"])
def test_quality_classes_of_the_authors_protocols_equal_theirs(part):
    counts = json.loads((GOLDENS / "metadata.json").read_text())["protocol_counts"][part]
    found = read_protocol(PROTOCOLS / f"ASVspoof2019.LA.cm.{part}.score.txt")
    classes = QualityRule(np.array([2.5]), "lower").classes(found.mos)
    ours = {
        f"{kind}_{quality}": int(((found.bonafide == (kind == "bona")) & (classes == (quality == "good"))).sum())
        for kind in ("bona", "spoof")
        for quality in ("good", "bad")
    }
    assert ours == {name: counts[name] for name in ours}


class Deadly(torch.utils.data.Dataset):
    """Ends the process that reads from it, as a system without memory does."""

    def __getitem__(self, key: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_the_system_killed_is_told_in_a_sentence():
    with pytest.raises(InputError, match=r"a process that reads recordings was lost .*lower data.n_workers"):
        list(read_by_processes(Deadly(), [[0], [1]], list, n_workers=1))


# ---- windows


def test_random_windows_are_drawn_by_seed_epoch_and_index_and_leave_augmentation_as_it_is(built_corpus):
    trials = read_protocol(built_corpus / "train.txt")
    paths = Recordings(built_corpus / "LA" / "train" / "flac", trials.names, None)
    rule = QualityRule(np.array([2.5]), "lower")

    def items(window: str, length: int, epoch: int) -> list[Item]:
        boost = RawBoostConfig(probability=0.5)
        source = TrainSet(trials, paths, window_samples=length, window=window, rule=rule, seed=3, boost=boost)
        return [source[epoch, i] for i in range(12)]

    whole = items("first", 40_000, 1)  # longer than the recordings are
    for one, two, all_of_it in zip(items("random", 2000, 1), items("random", 2000, 1), whole):
        np.testing.assert_array_equal(one.wave, two.wave)
        places = np.flatnonzero(all_of_it.wave == one.wave[0])
        assert any(np.array_equal(all_of_it.wave[i : i + 2000], one.wave) for i in places)
    starts = [[float(item.wave[0]) for item in items("random", 2000, epoch)] for epoch in (1, 2)]
    assert starts[0] != starts[1]
    for item, plain in zip(items("random", 40_000, 1), whole):  # shorter recordings are repeated
        np.testing.assert_array_equal(item.wave, plain.wave)


def test_all_windows_of_a_recording_are_scored_to_their_mean(tmp_path):
    lengths = [3000, 8000, 8001, 20_000]
    for i, length in enumerate(lengths):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, length), 16_000)
    (tmp_path / "4.wav").write_text("no sound")
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    source = ScoreSet(paths, window_samples=8000, windows="all")
    (waves, faults), *_ = read_by_threads(source.__getitem__, [range(5)], n_workers=0)
    assert [len(wave) for wave in waves] == [1, 1, 2, 4, 1]
    assert [bool(fault) for fault in faults] == [False] * 4 + [True]

    class Loudest(torch.nn.Module):
        def forward(self, wave):
            return types.SimpleNamespace(score=wave.amax(dim=1))

    scored = ScoringPass(Loudest(), torch.device("cpu"), "32", batch_size=3, window=8000)
    expected = [np.mean([window.max() for window in wave.numpy()]) for wave in waves]
    np.testing.assert_allclose(scored(waves).numpy(), expected, rtol=1e-6)
    first, _ = next(iter(read_by_threads(ScoreSet(paths, window_samples=8000).__getitem__, [range(4)], n_workers=0)))
    np.testing.assert_array_equal(first.numpy(), [wave[0].numpy() for wave in waves[:4]])


@pytest.mark.parametrize("windows", ["first", "all"])
@pytest.mark.parametrize("n_bytes", [10**12, 1000], ids=["enough shared memory", "too little"])
def test_a_gpu_is_read_to_by_processes_where_shared_memory_holds_it(tmp_path, monkeypatch, windows, n_bytes):
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 9000), 16_000)
    (tmp_path / "3.wav").write_text("no sound")
    source = ScoreSet([tmp_path / f"{i}.wav" for i in range(5)], window_samples=8000, windows=windows)
    batches = [range(2), range(2, 4), range(4, 5)]
    used = []
    by_processes = loader.read_by_processes
    monkeypatch.setattr(loader, "_free_shared", lambda: n_bytes)
    monkeypatch.setattr(loader, "read_by_processes", lambda *of, **how: used.append(how) or by_processes(*of, **how))
    fabrics = [types.SimpleNamespace(device=torch.device(kind), world_size=1) for kind in ("cpu", "cuda")]
    expected, found = (list(read_to_score(source, batches, n_workers=2, fabric=fabric)) for fabric in fabrics)
    assert used == [{"n_workers": 2}] * (windows == "first" and n_bytes > 1000)
    for (waves, faults), (as_threads, faults_of_threads) in zip(found, expected, strict=True):
        assert faults == faults_of_threads
        torch.testing.assert_close(waves, as_threads)
