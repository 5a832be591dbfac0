"""The export command: what it writes is read back equal, by this program and by transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import export
import model
from qamo.export.folder import convert_xlsr
from qamo.networks.xlsr_files import read_xlsr
from qamo.training.checkpoint import write_checkpoint
from tests.support.detectors import config, detector
from tests.support.xlsr import as_fairseq, fairseq_state, wave, xlsr


@pytest.fixture
def run(tmp_path):
    detect = detector("conformer_tcm")
    folder = tmp_path / "exps" / "a"
    folder.mkdir(parents=True)
    write_checkpoint(folder / "model.pt", model_state=detect.state_dict(), model_config=detect.config)
    return folder


def test_a_converted_front_end_computes_the_same(tmp_path, capsys):
    frontend = xlsr().eval()
    path = as_fairseq(frontend.network, tmp_path)
    assert export.main(["--convert-xlsr", str(path), "-o", str(tmp_path / "out"), "--n-heads", "4"]) == 0
    assert "set model.xlsr.weights=" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "digests.json", "model.safetensors"]
    again = xlsr(weights=str(tmp_path / "out")).eval()
    with torch.inference_mode():
        assert torch.equal(again(wave()), frontend(wave()))


def test_transformers_itself_reads_a_converted_front_end(tmp_path):
    from transformers import Wav2Vec2Model

    frontend = xlsr().eval()
    path = as_fairseq(frontend.network, tmp_path)
    convert_xlsr(str(path), tmp_path / "out", 4)
    theirs = Wav2Vec2Model.from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        torch.testing.assert_close(theirs(wave()).last_hidden_state, frontend(wave()), atol=1e-5, rtol=1e-5)


def test_a_run_becomes_a_folder_that_scores_alike(run, tmp_path, capsys):
    assert export.main([str(run), "-o", str(tmp_path / "out")]) == 0
    about = json.loads((tmp_path / "out" / "qamo.json").read_text())
    assert about["convention"] == "bonafide=1, higher=bona fide"
    with torch.inference_mode():
        expected = model.load_detector(run)(wave()).score
        assert torch.equal(model.load_detector(tmp_path / "out")(wave()).score, expected)


def test_a_run_becomes_a_file_of_the_published_code(run, tmp_path):
    source = tmp_path / "xlsr.pt"
    unused = {name: t for name, t in fairseq_state(xlsr().network).items() if "q" in name.split(".")[0]}
    torch.save({"model": {"post_extract_proj.weight": torch.ones(1), **unused}}, source)
    out = tmp_path / "best.pth"
    assert export.main([str(run), "-o", str(out), "--format", "reference", "--xlsr", str(source)]) == 0
    written = torch.load(out, weights_only=True)
    original = model.load_detector(run).state_dict()
    assert torch.equal(written["ocsoftmax.center"], original["head.centroids"])
    assert torch.equal(written["LL.weight"], original["backend.project.weight"])
    assert torch.equal(written["ssl_model.model.quantizer.vars"], unused["quantizer.vars"])
    loaded = model.load_detector(out, config("conformer_tcm"))
    assert all(torch.equal(original[name], tensor) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--convert-xlsr", "none.pt", "-o", "out"], "none.pt: no such file"),
        (["none", "-o", "out"], "none: expected a checkpoint file, found no such file"),
        (["RUN", "-o", "full"], "full: expected a new or an empty folder"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    assert export.main([str(run) if a == "RUN" else a for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_head_of_logits_is_not_exported_as_published(tmp_path, capsys):
    detect = detector("nes2net", head="wce")
    write_checkpoint(tmp_path / "a.pt", model_state=detect.state_dict(), model_config=detect.config)
    arguments = [str(tmp_path / "a.pt"), "-o", str(tmp_path / "b.pth"), "--format", "reference"]
    assert export.main(arguments) == 2
    assert "a head of centroids; this detector differs" in capsys.readouterr().err
    assert not (tmp_path / "b.pth").exists()


def test_read_back_names_are_those_of_the_network(tmp_path):
    frontend = xlsr()
    convert_xlsr(str(as_fairseq(frontend.network, tmp_path)), tmp_path / "out", 4)
    assert read_xlsr(str(tmp_path / "out")).state.keys() == frontend.network.state_dict().keys()
    assert read_xlsr(str(tmp_path / "out")).sizes["hidden_size"] == 32
    assert Path(tmp_path / "out" / "config.json").stat().st_size > 0


def test_a_full_disk_is_a_sentence_for_safetensors_too(trained_run, tmp_path):
    line = f'ulimit -f 20; "{sys.executable}" export.py "{trained_run}" -o "{tmp_path / "out"}"'
    done = subprocess.run(["bash", "-c", line], cwd=Path(export.__file__).parent, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "model.safetensors: cannot be written (File too large)" in done.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
