"""ONNX: equal to PyTorch at any length, and usable where PyTorch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import export
import inference
from model import build_detector, load_detector
from qamo import InputError
from qamo.config.parts import ModelConfig

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
from qamo.export import onnx as onnx_export  # noqa: E402
from qamo.inference import scorer as scorers  # noqa: E402
from tests.support.hf import description  # noqa: E402

ROOT = Path(__file__).parents[2]
SMALL = {"conformer_tcm": {"embedding_size": 16, "n_heads": 2, "kernel_size": 7, "n_blocks": 1}}
XLSR = {
    "weights": None, "hidden_size": 32, "n_layers": 2, "n_heads": 2, "ffn_size": 64, "conv_size": 32,
    "position_kernel": 16, "position_groups": 4,
}  # fmt: skip


@pytest.fixture(scope="session")
def exported(trained_run, tmp_path_factory):
    """The tiny run as ONNX, and what the command said."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    said = export.export_onnx(trained_run, path, int8=False)
    return path, said


def scores_of(path, wave):
    return onnxruntime.InferenceSession(str(path)).run(["score"], {"wave": wave})[0]


def waves(batch_size, n_samples, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.01, 0.3, (batch_size, 1)) * rng.normal(size=(batch_size, n_samples))).astype(np.float32)


def test_a_damaged_file_is_a_sentence_or_scores_the_same(exported, tmp_path):
    wave, rng = waves(2, 8000), np.random.default_rng(3)
    whole = exported[0].read_bytes()
    expected = scorers.open_scorer(exported[0])(wave)
    n_refused = 0
    for number in range(40):
        data = bytearray(whole)
        start = int(rng.integers(len(data)))
        if number % 3:
            data[start] ^= 1 << int(rng.integers(8))
        else:
            data[start : start + 50] = bytes(len(data[start : start + 50]))
        (tmp_path / "d.onnx").write_bytes(data)
        try:
            assert np.array_equal(scorers.open_scorer(tmp_path / "d.onnx")(wave), expected), number
        except InputError:
            n_refused += 1
    assert n_refused > 30


def test_the_command_says_how_well_they_agree(exported):
    _, said = exported
    assert "at 2666, 8000, 12000 samples" in said
    assert float(said.split("within ")[1].split()[0]) <= 1e-4


@pytest.mark.parametrize(("batch_size", "n_samples"), [(1, 8000), (5, 8000), (2, 1600), (1, 66_800), (3, 12_345)])
def test_batch_and_length_are_free(exported, trained_run, batch_size, n_samples):
    wave = waves(batch_size, n_samples)
    with torch.inference_mode():
        expected = load_detector(trained_run)(torch.from_numpy(wave)).score.numpy()
    assert expected.std() > 1e-3 or batch_size == 1  # the network does tell these waves apart
    np.testing.assert_allclose(scores_of(exported[0], wave), expected, atol=1e-5)


def test_the_file_names_no_folder_of_this_machine(exported, trained_run):
    content = exported[0].read_bytes()
    for folder in (str(ROOT), str(trained_run.parent), "site-packages"):
        assert folder.encode() not in content


def test_inference_runs_without_torch(exported, trained_run, built_corpus):
    blocked = [
        "torch",
        "transformers",
        "scipy",
        "lightning_fabric",
        "pydantic",
        "yaml",
        "pandas",
        "safetensors",
        "tqdm",
    ]
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import inference\nsys.exit(inference.main(sys.argv[1:]))"
    )
    arguments = ["--ckpt_path", str(exported[0]), "--json", str(built_corpus / "wild")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    with_torch = subprocess.run(
        [sys.executable, "inference.py", "--ckpt_path", str(trained_run), "--json", str(built_corpus / "wild")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for row, expected in zip(rows, json.loads(with_torch.stdout), strict=True):
        for key in ("score", "llr", "probability_bonafide"):  # the calibration travels in the file
            assert row[key] == pytest.approx(expected[key], abs=1e-4)
        assert row["verdict"] == expected["verdict"]
        assert row["warnings"] == expected["warnings"]


def test_int8_is_a_file_like_the_other(exported, trained_run, built_corpus, tmp_path, capsys):
    out = tmp_path / "model8.onnx"
    n_bytes = onnx_export.quantize(exported[0], out)
    assert n_bytes == out.stat().st_size < exported[0].stat().st_size
    wave = waves(4, 8000)
    difference = np.abs(scores_of(out, wave) - scores_of(exported[0], wave)).max()
    assert 0 < difference < 0.05
    scorer = scorers.open_scorer(out)
    assert scorer.window_samples == 8000
    assert scorer.calibration is not None
    assert inference.main(["--ckpt_path", str(out), str(built_corpus / "wild" / "0.wav")]) == 0


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"frontend": "distillmos", **SMALL}, id="distillmos", marks=pytest.mark.slow),
        pytest.param({"frontend": "xlsr", "xlsr": XLSR, **SMALL}, id="xlsr", marks=pytest.mark.slow),
        pytest.param(
            {
                "frontend": "xlsr",
                "xlsr": XLSR,
                "backend": "nes2net",
                "nes2net": {"n_groups": 2, "scale": 4},
                "head": "wce",
            },
            id="xlsr-nes2net-wce",
            marks=pytest.mark.slow,
        ),
        pytest.param({"frontend": "xlsr", "xlsr": {**XLSR, "layers": [0, 1]}, "backend": "asp"}, id="xlsr-layers-asp"),
        *(
            pytest.param(
                {"frontend": "hf", "hf": {"encoder": description(name), "layers": [1, 2]}, "backend": "asp"},
                id=f"hf-{name}",
                marks=pytest.mark.slow,
            )
            for name in ("wavlm", "wav2vec2-bert", "whisper")
        ),
        pytest.param(
            {"frontend": "distillmos", "distillmos": {"layers": "weighted", "n_layers": 2}, "backend": "asp"},
            id="distillmos-weighted-asp",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_each_front_end_has_a_form_in_onnx(parts, tmp_path):
    torch.manual_seed(0)
    detector = build_detector(ModelConfig.model_validate(parts)).eval()
    for module in [*detector.backend.modules(), *detector.head.modules()]:
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_var.uniform_(0.05, 0.2)  # as after training, so that signals differ in the embedding
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    written = onnx_export.export_onnx(detector, tmp_path / "m.onnx", window_samples=16_000)
    assert written.difference <= 1e-4
    wave = np.concatenate([waves(2, 20_000), np.zeros((1, 20_000), np.float32)])
    with torch.inference_mode():
        expected = detector(torch.from_numpy(wave)).score.numpy()
    np.testing.assert_allclose(scores_of(tmp_path / "m.onnx", wave), expected, atol=1e-4)
    after = detector.state_dict()
    assert before.keys() == after.keys()  # the detector itself is left as it was
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_file_that_disagrees_is_not_written(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(RuntimeError, match="nothing was written"):
        onnx_export.export_onnx(load_detector(trained_run), tmp_path / "m.onnx", window_samples=8000)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_or_damaged_onnx_file_is_refused(exported, tmp_path, capsys):
    import onnx

    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(exported[0].read_bytes()[:5000])
    foreign = tmp_path / "foreign.onnx"
    model = onnx.load(exported[0])
    del model.metadata_props[:]
    onnx.save(model, foreign)
    for path, said in ((damaged, "not an ONNX file that onnxruntime reads"), (foreign, "export the run with it")):
        assert inference.main(["--ckpt_path", str(path), "a.wav"]) == 2
        assert said in capsys.readouterr().err


def test_the_name_must_tell_the_format(trained_run, tmp_path, capsys):
    assert export.main([str(trained_run), "-o", str(tmp_path / "model"), "--format", "onnx"]) == 2
    assert "ends in .onnx" in capsys.readouterr().err
