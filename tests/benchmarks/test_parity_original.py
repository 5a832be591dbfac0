"""The record that runs beside the published code, and its comparison: by the goldens, and by a stand-in for fairseq."""

from __future__ import annotations

import ast
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks import parity_file, parity_original
from qamo.files import sha256
from qamo.networks.xlsr_files import TO_FAIRSEQ, renamed
from tests.support.xlsr import fairseq_state, xlsr

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT.parent / "shared" / "goldens" / "reference"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the golden figures are not beside this checkout")


def test_the_record_is_python_3_7_and_imports_nothing_of_this_project():
    source = (ROOT / "benchmarks" / "parity_original.py").read_text()
    tree = ast.parse(source, feature_version=(3, 7))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {path.stem for path in ROOT.glob("*.py")} | {"qamo", "benchmarks", "tests"}
    assert imported - {"__future__", "fairseq", "numpy", "soundfile", "torch"} <= sys.stdlib_module_names
    assert not imported & own


class StandIn(torch.nn.Module):
    """Takes fairseq's place where it is not installed: our own network under its names. Proves nothing of parity."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def named_parameters(self, *args, **more):
        return ((renamed(name, TO_FAIRSEQ), p) for name, p in self.network.named_parameters())

    def forward(self, wave, mask, features_only):
        assert not mask
        assert features_only
        return {"x": self.network(wave).last_hidden_state}


class Published(torch.nn.Module):
    """Stands for a class of the published code."""

    def __init__(self, args, device):
        super().__init__()
        assert (args.emb_size, device.type) == (144, "cpu")
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, waves):
        return waves[:, :2] * self.weight, {"more": waves[:, 0]}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A record made with the stand-ins, and the weights that it was made with."""
    frontend = xlsr(attention="eager")
    settings = {"encoder_attention_heads": 4, "layer_norm_first": True, "extractor_mode": "layer_norm"}
    torch.save({"cfg": {"model": settings}, "model": fairseq_state(frontend.network)}, tmp_path / "x.pt")
    utils = types.ModuleType("fairseq.checkpoint_utils")
    utils.load_model_ensemble_and_task = lambda paths: ([StandIn(frontend.network)], None, None)
    fairseq = types.ModuleType("fairseq")
    fairseq.checkpoint_utils = utils
    monkeypatch.setitem(sys.modules, "fairseq", fairseq)
    monkeypatch.setitem(sys.modules, "fairseq.checkpoint_utils", utils)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", rng.uniform(-0.1, 0.1, 9_000), 16_000)
    soundfile.write(tmp_path / "b.flac", rng.uniform(-0.1, 0.1, 70_000), 16_000)
    return [str(tmp_path / name) for name in ("a.wav", "b.flac")], tmp_path / "x.pt", tmp_path / "o.npz"


def test_what_a_stand_in_records_is_computed_again(recorded, capsys):
    waves, weights, out = recorded
    assert parity_original.main([*waves, "--xlsr", str(weights), "-o", str(out)]) == 0
    with np.load(out) as arrays:
        assert arrays["waves"].shape == (2, 66_800)
        assert arrays["hidden"].shape == (2, 208, 32)
        assert len(arrays["step/names"]) == len(arrays["step/change_dots"]) > 40
    assert parity_file.main([str(out), "--xlsr", str(weights)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("| one step: ") == 5
    assert "| one step: trained weights (missing or more) | 0.0e+00 | 0e+00 |" in shown


@pytest.mark.parametrize("kind", ["hidden", "step/loss", "step/gradient_dots", "step/change_dots"])
def test_a_difference_is_found(recorded, capsys, kind):
    waves, weights, out = recorded
    parity_original.main([*waves, "--xlsr", str(weights), "-o", str(out)])
    with np.load(out) as stored:
        arrays = dict(stored)
    arrays[kind] = np.asarray(arrays[kind]) * 1.01 if kind != "step/change_dots" else arrays[kind] * 2
    np.savez(out, **arrays)
    assert parity_file.main([str(out), "--xlsr", str(weights)]) == 1


def test_other_weights_and_other_files_are_refused(recorded, capsys, tmp_path):
    waves, weights, out = recorded
    parity_original.main([*waves, "--xlsr", str(weights), "--no-step", "-o", str(out)])
    assert parity_file.main([str(out)]) == 2
    assert "has figures of one; give the same" in capsys.readouterr().err
    other = tmp_path / "other.pt"
    torch.save({"model": fairseq_state(xlsr().network), "more": 1}, other)
    assert parity_file.main([str(out), "--xlsr", str(other)]) == 2
    assert "not the weights that" in capsys.readouterr().err
    np.savez(out, waves=np.zeros(3))
    assert parity_file.main([str(out)]) == 2
    assert "no file of parity_original.py" in capsys.readouterr().err


def test_a_class_of_the_published_code_is_built_and_recorded_as_asked(recorded, tmp_path, monkeypatch):
    waves, _, out = recorded
    module = types.ModuleType("theirs")
    module.Model = Published
    monkeypatch.setitem(sys.modules, "theirs", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.save({"module.weight": torch.ones(1)}, tmp_path / "best.pth")
    init = json.dumps([{"@namespace": {"emb_size": 144}}, "@device"])
    words = ["--detector", str(tmp_path / "best.pth"), "--checkout", str(tmp_path), "--class", "theirs:Model"]
    assert parity_original.main([*waves, *words, "--init", init, "-o", str(out)]) == 0
    with np.load(out) as arrays:
        assert np.array_equal(arrays["detector/0"], arrays["waves"][:, :2])
        assert np.array_equal(arrays["detector/1/more"], arrays["waves"][:, 0])


@needs_goldens
def test_the_originals_own_figures_are_met(tmp_path, capsys):
    """Not by the stand-in: hidden states, embeddings and cosines that the published code computed."""
    with np.load(GOLDENS / "inputs.npz") as arrays:
        waves = arrays["wave_eval_i16"].astype(np.float32) / 32768
    with np.load(GOLDENS / "frontend_tiny.npz") as arrays:
        hidden = arrays["eval_feats"]
    with np.load(GOLDENS / "eval_conformer_tcm.npz") as arrays:
        emb, cosines = arrays["emb"], arrays["scores"]
    weights = {"xlsr": GOLDENS / "tiny_xlsr.pt", "detector": GOLDENS / "tiny_conformer_tcm.pth"}
    about = json.dumps({f"{name}_sha256": sha256(path) for name, path in weights.items()})
    out = tmp_path / "o.npz"
    np.savez(out, waves=waves, hidden=hidden, about=np.array(about), **{"detector/0": emb, "detector/1": cosines})
    words = [word for name, path in weights.items() for word in (f"--{name}", str(path))]
    assert parity_file.main([str(out), *words, "--n-heads", "4"]) == 0
    shown = capsys.readouterr().out
    for what in ("XLS-R hidden states", "detector/0: embeddings", "detector/1: cosines"):
        assert f"| {what} | " in shown
