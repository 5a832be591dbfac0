"""examples/arena.py: our detector in speech-spoof-bench, by the interface that its documents give."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from qamo.inference.api import open_judge

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def adapter(monkeypatch):
    """The module, with the benchmark's base class where it is installed, and one of its shape elsewhere."""
    if importlib.util.find_spec("speech_spoof_bench") is None:
        package, module = types.ModuleType("speech_spoof_bench"), types.ModuleType("speech_spoof_bench.model")
        module.SimpleAntiSpoofingModel = type("SimpleAntiSpoofingModel", (), {})
        monkeypatch.setitem(sys.modules, "speech_spoof_bench", package)
        monkeypatch.setitem(sys.modules, "speech_spoof_bench.model", module)
    spec = importlib.util.spec_from_file_location("arena", EXAMPLES / "arena.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_a_model_of_the_benchmark_scores_as_the_judge_does(adapter, trained_run, built_corpus, monkeypatch):
    monkeypatch.setenv("QAMO_DETECTOR", str(trained_run))
    clip = next((built_corpus / "wild").glob("*.wav"))
    audio, rate = soundfile.read(clip, dtype="float32")
    model = adapter.QAMO()
    assert model.expected_sample_rate == rate
    model.load()
    score = model.score(np.tile(audio, 5), rate)
    expected = open_judge(trained_run)((np.tile(audio, 5), rate)).score
    model.unload()
    assert isinstance(score, float)
    assert score == expected


def test_what_is_said_of_the_system_has_the_fields_that_a_submission_needs():
    """Required by submission.schema.json of lab260ru/speech_spoof_bench @26fdf9e."""
    said = yaml.safe_load((EXAMPLES / "meta.yaml").read_text())["system"]
    assert {"name", "slug", "description", "code", "checkpoint", "paper"} <= said.keys()
    assert said["paper"].keys() == {"arxiv_id", "url", "bibtex"}
    assert said["paper"]["arxiv_id"] == "2509.20679"
    assert said["slug"] == said["slug"].lower().replace(" ", "-")


def test_the_benchmarks_own_validator_takes_the_class(adapter):
    model = pytest.importorskip("speech_spoof_bench.model", reason="the benchmark is not on PyPI")
    assert issubclass(adapter.QAMO, model.SimpleAntiSpoofingModel)
    assert not getattr(adapter.QAMO, "__abstractmethods__", None)
