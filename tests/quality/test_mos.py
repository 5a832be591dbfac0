"""MOS predictors behind their contract, and the cached walk over files."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from qamo import InputError
from qamo.networks.cpu import onednn
from qamo.quality.cache import AugmentedMOS, predict_files
from qamo.quality.predictors import build_predictor

pytest.importorskip("xls_r_sqa", reason="pip install --no-deps distillmos xls-r-sqa")
RATE = 16_000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    paths = []
    for index in range(10):
        t = np.arange(RATE + 400 * index) / RATE
        wave = 0.1 * np.sin(2 * np.pi * 150 * t) * np.sin(2 * np.pi * 3 * t) + 0.005 * index * rng.standard_normal(
            len(t)
        )
        paths.append(folder / f"{index}.flac")
        soundfile.write(paths[-1], wave, RATE)
    return paths


@pytest.fixture(scope="module")
def scores(recordings) -> np.ndarray:
    return predict_files(recordings, "distillmos")


def test_sixteen_bits_that_are_emulated_are_refused(recordings, monkeypatch):
    build_predictor.cache_clear()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")  # read by is_native, too late for oneDNN itself
    monkeypatch.setattr(onednn, "is_native", onednn.is_native.__wrapped__)
    with pytest.raises(InputError, match=r"distillmos:bf16: this processor has no bfloat16 .* take distillmos$"):
        predict_files(recordings, "distillmos:bf16")


@pytest.mark.skipif(not onednn.is_native(torch.bfloat16), reason="this processor has no bfloat16 products")
def test_sixteen_bits_move_a_score_a_little_and_are_told_apart(recordings, scores):
    coarse = predict_files(recordings, "distillmos:bf16")
    assert 0 < np.abs(coarse - scores).max() < 0.06
    assert build_predictor("distillmos:bf16").identity != build_predictor("distillmos").identity


def test_scores_equal_those_of_the_package_called_file_by_file(recordings, scores):
    from qamo.networks import distillmos

    network = distillmos.load_network()

    with torch.no_grad():
        waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in recordings]
        expected = [float(network(wave[None])) for wave in waves]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.ptp(scores) > 0.05


def test_the_number_of_threads_and_the_order_change_nothing(recordings, scores):
    several = predict_files(recordings[::-1], "distillmos", jobs=2)
    # each of them computes on one thread, this one on as many as torch likes
    np.testing.assert_allclose(several[::-1], scores, atol=1e-5)


def test_a_cut_off_walk_goes_on_and_gives_the_same(recordings, scores, tmp_path):
    cache = tmp_path / "cache"
    predict_files(recordings[:4], "distillmos", cache=cache)
    lines = cache.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    cache.write_text("".join(lines)[:-30])  # killed while writing the fourth line
    np.testing.assert_array_equal(predict_files(recordings, "distillmos", cache=cache), scores)
    assert len(cache.read_text().splitlines()) == 10


def test_the_cache_follows_content_and_predictor_not_names(recordings, scores, tmp_path):
    cache = tmp_path / "cache"
    predict_files(recordings[:2], "distillmos", cache=cache)
    swapped = tmp_path / recordings[0].name
    swapped.write_bytes(recordings[1].read_bytes())
    assert predict_files([swapped], "distillmos", cache=cache)[0] == scores[1]
    assert len(cache.read_text().splitlines()) == 2  # nothing new

    # a score that another version of the predictor gave is not taken over
    identity = build_predictor("distillmos").identity
    cache.write_text(
        cache.read_text().replace(identity, "distillmos 0.0.0").replace(" 1.", " 9.").replace(" 2.", " 9.")
    )
    assert predict_files([swapped], "distillmos", cache=cache)[0] == scores[1]


def test_caches_written_before_files_and_waves_shared_a_form_are_still_read(recordings, scores, tmp_path):
    cache = tmp_path / "cache"
    predict_files(recordings[:1], "distillmos", cache=cache)
    digest, _, identity = cache.read_text().strip().split(" ", 2)
    cache.write_text(f"{digest} 4.25 {identity}\n")
    assert predict_files(recordings[:1], "distillmos", cache=cache)[0] == 4.25

    wave = soundfile.read(recordings[0], dtype="float32")[0]
    predict = AugmentedMOS(cache)
    assert predict(wave) == pytest.approx(scores[0], abs=1e-5)
    digest = cache.read_text().splitlines()[-1].split()[0]
    cache.write_text(f"{digest} 1.75 distillmos-{metadata.version('distillmos')}\n")  # as training wrote it
    again = AugmentedMOS(cache)
    assert again(wave) == 1.75
    assert again.n_predicted == 0


def test_a_recording_listed_twice_is_scored_once(recordings, scores, tmp_path):
    cache = tmp_path / "cache"
    twice = predict_files([recordings[3], recordings[3], recordings[5]], "distillmos", cache=cache)
    np.testing.assert_array_equal(twice, scores[[3, 3, 5]])
    assert len(cache.read_text().splitlines()) == 2


def test_an_unreadable_recording_is_named(recordings, tmp_path):
    bad = tmp_path / "text.flac"
    bad.write_text("not audio at all")
    with pytest.raises(InputError, match=r"text\.flac"):
        predict_files([recordings[0], bad], "distillmos")
    with pytest.raises(InputError, match=r"gone\.flac: no such file"):
        predict_files([tmp_path / "gone.flac"], "distillmos", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("utmos", "no such MOS predictor"),
        ("onnx:model.onnx", "expected onnx:PATH@RATE"),
        ("onnx:nowhere.onnx@16000", r"nowhere\.onnx: no such ONNX file"),
        ("scoreq:nowhere.onnx", r"nowhere\.onnx: no such ONNX file"),
    ],
)
def test_a_wrong_spec_is_answered_with_a_sentence(spec, message):
    with pytest.raises(InputError, match=message):
        build_predictor(spec)


@pytest.fixture
def onnx_model(tmp_path) -> Path:
    """A model file with known scores: 1 + 100 times the mean of the squares."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Mul", ["wave", "wave"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "hundred"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["score"]),
    ]
    constants = [helper.make_tensor(name, kind, [1], [value]) for name, value in (("hundred", 100.0), ("one", 1.0))]
    graph = helper.make_graph(
        nodes,
        "loudness",
        [helper.make_tensor_value_info("wave", kind, [None, None])],
        [helper.make_tensor_value_info("score", kind, [None, 1])],
        constants,
    )
    path = tmp_path / "loudness.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def test_any_onnx_model_by_path_at_its_own_rate(onnx_model, recordings):
    waves = [soundfile.read(path, dtype="float32")[0] for path in recordings[:3]]
    expected = [1 + 100 * np.mean(wave**2) for wave in waves]
    np.testing.assert_allclose(predict_files(recordings[:3], f"onnx:{onnx_model}@16000"), expected, rtol=1e-5)
    np.testing.assert_allclose(predict_files(recordings[:3], f"scoreq:{onnx_model}"), expected, rtol=1e-5)
    predictor = build_predictor(f"onnx:{onnx_model}@8000")
    np.testing.assert_allclose(predictor(waves[:1]), expected[:1], rtol=0.02)  # resampled
    assert "8000 Hz" in predictor.identity


def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(InputError, match=r"text\.onnx: not a model"):
        build_predictor(f"scoreq:{path}")
