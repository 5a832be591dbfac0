"""The fast paths against the yardstick: score files, steps of training, data; features and memory that are kept."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import data_utils
import model
from benchmarks import evaluation, measure, plain, speed, subjects
from benchmarks.parts import growth
from qamo import InputError
from qamo.config.parts import ModelConfig
from qamo.config.schema import RawBoostConfig, ScoreConfig
from qamo.evaluation.score_set import score_trials
from qamo.networks import feature_cache as features
from qamo.quality.classes import QualityRule
from qamo.training import precision
from qamo.training.loader import read_by_processes, read_by_threads
from qamo.training.signals import StopFlag
from qamo.trials import protocol
from qamo.trials.scores import read_scores
from tests.support import tiny_models

ROOT = Path(__file__).parents[2]
N_SAMPLES = 9_000
TINY = {
    "xlsr": tiny_models.XLSR,
    "conformer_tcm": {"embedding_size": 16, "n_heads": 2, "kernel_size": 7, "n_blocks": 1},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i, n_samples in enumerate((3_000, 9_000, 12_000, 5_001, 16_000, 8_999, 4_500)):
        soundfile.write(folder / f"clip_{i}.flac", 0.1 * rng.normal(size=n_samples), 16_000)
    return sorted(folder.iterdir())


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return model.build_detector(ModelConfig.model_validate(TINY)).eval()


def values_of(path):
    scores = read_scores(path)
    return dict(zip(scores.names, scores.values.tolist()))


def scores_of(detector, paths, out, number_format="32"):
    from lightning_fabric import Fabric

    source = data_utils.ScoreSet(paths, window_samples=N_SAMPLES)
    score_trials(
        Fabric(accelerator="cpu", devices=1),
        detector,
        [path.stem for path in paths],
        functools.partial(read_by_threads, source.__getitem__, n_workers=0),
        out,
        ScoreConfig(batch_size=3, precision=number_format, on_bad_audio="fail"),
        identity={},
        stop=StopFlag(),
    )
    return values_of(out)


def test_scores_are_those_of_the_yardstick(detector, paths, tmp_path):
    plain.score(detector, paths, tmp_path / "plain.txt", batch_size=3, n_samples=N_SAMPLES)
    slow = values_of(tmp_path / "plain.txt")
    exact = scores_of(detector, paths, tmp_path / "fast.txt")
    rough = scores_of(detector, paths, tmp_path / "bf16.txt", "bf16-mixed")
    assert list(exact) == list(slow)
    assert max(slow.values()) - min(slow.values()) > 1e-3  # so that the bounds below say something
    assert max(abs(exact[name] - slow[name]) for name in slow) < 1e-5
    assert 0 < max(abs(rough[name] - slow[name]) for name in slow) < 0.02


def test_the_yardstick_leaves_the_front_end_as_it_was(detector):
    with plain.plainly(detector):
        assert detector.frontend.plain
        assert detector.frontend.network.config._attn_implementation == "eager"
    assert not detector.frontend.plain
    assert detector.frontend.network.config._attn_implementation == "sdpa"


def test_training_goes_where_the_yardstick_goes(paths):
    """Three steps of Adam with a rate at which they count; losses before each, weights after all."""
    wave = torch.from_numpy(np.stack([plain.load(path, N_SAMPLES) for path in paths[:4]]))
    bonafide, quality = torch.tensor([True, False, True, False]), torch.zeros(4, dtype=torch.int64)
    losses = []
    weights = []
    for is_plain in (True, False):
        torch.manual_seed(0)
        detector = model.build_detector(ModelConfig.model_validate(TINY))
        optimizer = torch.optim.SGD(detector.parameters(), lr=1e-2)
        losses.append([])
        for _ in range(3):
            if is_plain:
                losses[-1].append(plain.step(detector, optimizer, wave, bonafide, quality))
                continue
            loss = detector.train()(wave, bonafide, quality).losses["total"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
        weights.append(torch.cat([p.detach().flatten() for p in detector.parameters()]))
    assert losses[0][0] != losses[0][2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)


def test_mixed_training_starts_from_nearly_the_same_loss(detector, paths):
    wave = torch.from_numpy(np.stack([plain.load(path, N_SAMPLES) for path in paths[:4]]))
    bonafide, quality = torch.tensor([True, False, True, False]), torch.zeros(4, dtype=torch.int64)
    detector.train()
    with precision.autocast("bf16-mixed", "cpu"):
        mixed = detector(wave, bonafide, quality).losses["total"]
    mixed.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in detector.parameters())
    exact = detector(wave, bonafide, quality).losses["total"]
    assert mixed.item() == pytest.approx(exact.item(), rel=0.02)


def test_augmented_windows_are_those_of_the_yardstick(paths):
    from qamo.audio import load as audio
    from qamo.audio.rawboost import rawboost

    options = RawBoostConfig().model_dump(exclude={"probability"})
    for seed, path in enumerate(paths):
        wave = rawboost(audio.load(path), np.random.default_rng(seed), **options)
        found = audio.fit_length(wave, N_SAMPLES)
        np.testing.assert_allclose(found, plain.augmented(path, N_SAMPLES, seed), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_workers", [0, 1, 3, 50])
def test_waves_to_score_come_in_order_with_their_faults_from_any_number_of_threads(paths, tmp_path, n_workers):
    missing = tmp_path / "missing.flac"
    source = data_utils.ScoreSet([*paths, missing, *paths], window_samples=N_SAMPLES)
    places = [range(start, min(start + 2, len(source))) for start in range(0, len(source), 2)]
    found = list(read_by_threads(source.__getitem__, places, n_workers=n_workers))
    waves, faults = torch.cat([wave for wave, _ in found]), [fault for _, group in found for fault in group]
    assert [bool(fault) for fault in faults] == [False] * len(paths) + [True] + [False] * len(paths)
    assert "no such file" in faults[len(paths)]
    expected = torch.stack([torch.from_numpy(source[i][0]) for i in range(len(source))])
    assert torch.equal(waves, expected)


def test_a_reader_that_stops_early_leaves_no_thread_behind(paths):
    source = data_utils.ScoreSet(paths, window_samples=N_SAMPLES)
    batches = read_by_threads(source.__getitem__, [range(1)] * 50, n_workers=2)
    next(batches)
    assert any(thread.name.startswith("decode") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("decode") for thread in threading.enumerate())


@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_batches_are_the_same_for_any_number_of_workers(paths, n_workers):
    n = len(paths)
    trials = protocol.Trials(Path("list"), [p.stem for p in paths], np.ones(n, dtype=bool), np.full(n, 4.0))
    rule = QualityRule(np.array([2.5]), "lower")

    def batches(workers):
        source = data_utils.TrainSet(
            trials, paths, window_samples=N_SAMPLES, rule=rule, boost=RawBoostConfig(probability=0.5)
        )
        keys = data_utils.epoch_batches(n, 2, seed=1, epoch=3)
        return list(read_by_processes(source, keys, data_utils.collate, n_workers=workers))

    expected, found = batches(0), batches(n_workers)
    assert any(bool(batch.augmented.any()) for batch in expected)
    for a, b in zip(expected, found, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_a_second_pass_reads_features_and_gives_the_same_bytes(detector, paths, tmp_path):
    detector.frontend.frozen = True
    kept = features.FeatureCache(tmp_path / "maps", detector.frontend, identity="", max_bytes=1e9)
    detector.feature_cache = kept
    scores_of(detector, paths, tmp_path / "first.txt")
    assert (kept.hits, kept.misses) == (0, len(paths))
    scores_of(detector, paths, tmp_path / "second.txt")
    assert (kept.hits, kept.misses) == (len(paths), len(paths))
    assert (tmp_path / "first.txt").read_bytes() == (tmp_path / "second.txt").read_bytes()


def test_freed_memory_stays_and_is_used_again():
    """On glibc the place of a tensor of 40 MB is soon one that another left, and costs no page faults."""
    code = (
        "import resource, sys, torch; from qamo.networks.cpu import malloc as memory\n"
        "if not memory.keep_freed(): print(-1); sys.exit()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(12): before = faults(); x = torch.ones(10_000_000); n = faults() - before; del x\n"
        "print(n)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    n_faults = int(done.stdout)
    if n_faults < 0:
        pytest.skip("no glibc here")
    assert n_faults < 1_000  # of 9,766 pages


@pytest.mark.parametrize(
    ("part", "says"), [("rawboost", "Ten minutes take"), ("channel", "| opus |"), ("startup", "score_ood_dataset")]
)
def test_the_benchmark_measures_and_writes_its_tables(part, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(speed, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{speed.BEGIN}\nold\n{speed.END}\nafter\n")
    assert speed.main(["--only", part, "--rounds", "1"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert says in text
    assert "cannot run" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert set(json.loads((tmp_path / "results" / "speed.json").read_text())) == {part, "machine"}


ABOUT = dict.fromkeys(("date", "processor", "cores", "threads", "python", "torch", "transformers"), "x")
MACHINE = {**ABOUT, "gflops_peak": {"fp32 MKL": 100.0}}
PLAIN = {"wall_s": 2.0, "cpu_s": 1.0, "ratios": [1.0, 1.0], "rounds": 3}
HALF = {"wall_s": 1.0, "cpu_s": 0.25, "ratios": [1.5, 2.5], "rounds": 3}


def test_the_table_tells_times_and_ratios():
    versions = {"yardstick": PLAIN, "ours": HALF, "ours, decode and window only": HALF}
    part = {"n_clips": 2, "versions": versions, "load": 0.5, "largest_difference": 0.0}
    text = speed.tables({"machine": MACHINE, "data": {**part, "loader": {"first_batch_s": 0.1}}})
    assert "| ours | 0.5 | 0.125 | 2.00 (1.50 - 2.50) | 4.00 |" in text


def test_what_a_machine_cannot_run_says_so_in_its_row():
    """A processor without bf16, a version that fails, a part whose process is lost."""
    scored = {**HALF, "gflops": 50.0, "largest_difference": 0.0}
    part = {"n_clips": 2, "batch_size": 1, "load": 0.5, "peak_mb": {}, "gflops_peak": {"peak fp32 MKL": 100.0}}
    found = {"machine": MACHINE, "scoring": {**part, "versions": {"yardstick": PLAIN, "bf16-mixed": scored}}}
    assert "this processor has no bf16 products" in speed.tables(found)

    def fails():
        raise RuntimeError("no kernel\nfor this type")

    timed = measure.in_turns({"yardstick": lambda: None, "bf16-mixed": fails}, 2)
    assert timed["yardstick"]["rounds"] == 2
    found["scoring"]["versions"] = timed
    assert "| bf16-mixed | cannot run here: for this type | | | |" in speed.tables(found)
    found["training"] = {"failed": "ended with status -9", "load": 0.0}
    assert "**training** cannot run here: ended with status -9" in speed.tables(found)


def test_a_precision_that_is_emulated_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "is_native", lambda name, device: name == "32")
    with pytest.raises(InputError, match="emulate"):
        subjects.score(None, [], tmp_path / "scores.txt", 1, "bf16-mixed")
    part = {"n_files": 9, "n_by_package": 1, "rounds": 1, "load": 0.5, "package": {"s": 2.0, "ratios": [1.0, 1.0]}}
    part["distillmos"] = {"s": 1.0, "ratios": [2.0, 2.0], "largest_difference": 0.0}
    part["distillmos:bf16"] = {"failed": "no bfloat16 products"}
    text = speed.tables({"machine": MACHINE, "mos": part})
    assert "| distillmos:bf16 | cannot run here: no bfloat16 products | | | |" in text
    versions = {"yardstick": {**PLAIN, "gflops": 1.0}, "32": {**HALF, "gflops": 2.0}, "bf16-mixed": {"failed": "no"}}
    part = {"n_clips": 2, "batch_size": 1, "load": 0.5, "peak_mb": {}, "gflops_peak": {}, "versions": versions}
    assert "core-days plainly" in speed.tables({"machine": MACHINE, "scoring": part})


def test_a_child_process_that_fails_or_is_killed_is_a_sentence():
    assert measure.in_child(measure.row, ["a", ""]) == "| a | |"
    with pytest.raises(InputError, match=r"benchmarks.measure.table: .*missing 1 required positional"):
        measure.in_child(measure.table, ["a"])
    with pytest.raises(InputError, match=r"score_ood_dataset.py .*status 2: .*no such file"):
        measure.run([ROOT / "score_ood_dataset.py", "none.txt", "none.csv"])


def test_trials_are_scored_through_main_and_looked_at():
    (row,) = growth.score_trials([30])
    assert row["n"] == 30
    assert row["peak_mb"] > 100
    looks = growth.look_ahead(50)
    assert looks["n"] == 50


def test_the_evaluation_benchmark_compares_outputs(tmp_path, capsys):
    (tmp_path / "scores.txt").write_text("a 1\nb 0\n")
    (tmp_path / "meta.csv").write_text("file,label\na,bona-fide\nb,spoof\n")
    words = [ROOT / "score_ood_dataset.py", "scores.txt", "meta.csv", "--resamples", "0"]
    evaluation.compare("tiny", words, words, tmp_path, 1, "")
    assert "same output  official:" in capsys.readouterr().out


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_for_a_gpu_are_pinned(paths):
    source = data_utils.ScoreSet(paths, window_samples=N_SAMPLES)
    wave, _ = next(iter(read_by_threads(source.__getitem__, [range(2)], n_workers=0)))
    assert wave.is_pinned()
