"""The exported folder: a stranger can read it, run it in three lines, and push it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import export
import inference
from model import load_detector
from qamo.config.parts import ModelConfig
from qamo.evaluation import calibration
from qamo.export import model_card
from qamo.inference.judge import Judgement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(trained_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "tiny-detector"
    assert export.main([str(trained_run), "-o", str(out)]) == 0
    return out


def test_it_holds_weights_config_calibration_and_card(folder, trained_run):
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "calibration.json",
        "model.safetensors",
        "qamo.json",
    ]
    wave = 0.1 * torch.randn(3, 8000)
    with torch.inference_mode():
        assert torch.equal(load_detector(folder)(wave).score, load_detector(trained_run)(wave).score)
    assert json.loads((folder / "qamo.json").read_text())["window_samples"] == 8000


def test_inference_reads_the_folder_like_the_run(folder, trained_run, built_corpus, capsys):
    said = []
    for path in (folder, trained_run):
        assert inference.main(["--ckpt_path", str(path), "--json", str(built_corpus / "wild")]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert {row.pop("detector") for row in said[0]} == {folder.name}
    assert {row.pop("detector") for row in said[1]} == {trained_run.name}
    assert said[0] == said[1]
    assert said[0][0]["llr"] is not None


def test_the_lines_of_the_card_run_and_score(folder, built_corpus):
    card = (folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert sum(map(bool, code.splitlines())) == 3
    recording = built_corpus / "wild" / "0.wav"
    code = code.replace("THIS_FOLDER", str(folder)).replace("recording.wav", str(recording))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (command,) = re.findall(r"```sh\npython (.*?)\n```", card)
    words = command.replace("THIS_FOLDER", str(folder)).replace("recording.wav", str(recording)).split()
    shown = subprocess.run([sys.executable, *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(json.loads(shown.stdout)[0]["score"], abs=1e-6)


def test_the_card_gives_the_figures_of_the_run(folder, trained_run):
    card = (folder / "README.md").read_text()
    sets = json.loads((trained_run / "results.json").read_text())["sets"]
    for name, row in sets.items():
        assert f"| {name} | {row['n_bonafide']} | {row['n_spoof']} | {row['eer']:.2f} |" in card
        assert f"({row['interval']}) |" in card
    known = calibration.read(trained_run / "calibration.json")
    assert f"the threshold is {known.threshold():.4f}" in " ".join(card.split())
    assert "| train | train.txt | 24 | 8 |" in card
    for part in ("Limits", "Licences", "Provenance"):
        assert f"## {part}" in card


def test_nothing_in_it_names_a_folder_of_this_machine(folder, trained_run, built_corpus):
    for name in ("README.md", "qamo.json", "calibration.json"):
        text = (folder / name).read_text()
        assert str(trained_run.parent) not in text
        assert str(built_corpus) not in text


def test_the_hub_reads_the_metadata_of_the_card(folder, trained_run):
    from huggingface_hub import ModelCard

    data = ModelCard.load(folder / "README.md").data
    sets = json.loads((trained_run / "results.json").read_text())["sets"]
    assert {(r.dataset_name, r.metric_value) for r in data.eval_results} == {(n, r["eer"]) for n, r in sets.items()}
    assert {(r.metric_type, r.task_type) for r in data.eval_results} == {("eer", "audio-classification")}
    plain = data.to_dict()
    assert (plain["library_name"], plain["license"], plain["license_link"]) == ("qamo", "other", "README.md#licences")
    assert (plain["pipeline_tag"], plain["metrics"]) == ("audio-classification", ["eer"])


def test_weights_without_their_run_get_a_card_that_says_so(trained_run, tmp_path):
    bare = tmp_path / "model.pt"
    bare.write_bytes((trained_run / "model.pt").read_bytes())
    assert export.main([str(bare), "-o", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Not known: this export was made of weights without their run." in card
    assert "None: a score ranks recordings, and is not a probability." in card
    assert not (tmp_path / "out" / "calibration.json").exists()


XLSR_ON_HUB = "facebook/wav2vec2-xls-r-300m"
ANY_ENCODER = ("an encoder of Hugging Face's transformers (wavlm)", model_card.UNKNOWN_LICENCE)


def weights(name, sha256="ab12"):
    return {"frontend_weights": {"weights": name, "sha256": sha256}}


@pytest.mark.parametrize(
    ("frontend", "backend", "facts", "expected"),
    [
        ("xlsr", "conformer_tcm", weights("pretrained/xlsr2_300m.pt"), (*model_card.XLSR, XLSR_ON_HUB)),
        ("xlsr", "conformer_tcm", weights(XLSR_ON_HUB, None), (*model_card.XLSR, XLSR_ON_HUB)),
        ("xlsr", "nes2net", {}, (*model_card.XLSR, XLSR_ON_HUB)),  # the published code's
        ("xlsr", "mean", {}, ("a wav2vec 2.0 network", model_card.UNKNOWN_LICENCE, None)),  # of another program
        ("xlsr", "mean", weights("in/mms.pt"), ("a wav2vec 2.0 network (mms.pt)", model_card.UNKNOWN_LICENCE, None)),
        (
            "hf", "asp", weights("microsoft/wavlm-base", None),
            (ANY_ENCODER[0].replace("wavlm", "wavlm-base"), ANY_ENCODER[1], "microsoft/wavlm-base"),
        ),
        ("hf", "asp", weights("in/wavlm"), (*ANY_ENCODER, None)),
        ("lfcc", "asp", {"git_commit": "x"}, (*model_card.ORIGINS["lfcc"], None)),
    ],
)  # fmt: skip
def test_the_origin_of_a_front_end_is_what_its_run_knows(frontend, backend, facts, expected):
    config = ModelConfig(frontend=frontend, backend=backend).model_dump()
    config["xlsr"]["hidden_size"] = 1024
    assert model_card.origin_of(config, facts) == expected


def test_what_the_card_says_of_a_judgement_is_there():
    said = (Path(model_card.__file__).parent / "card.md.j2").read_text()
    (line,) = (line for line in said.splitlines() if line.startswith("The judgement also has"))
    for name in re.findall(r"`(\w+)`", line):
        assert name in {field.name for field in dataclasses.fields(Judgement)}
