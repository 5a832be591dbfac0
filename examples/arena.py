"""A detector of ours as a model of speech-spoof-bench, the benchmark of the Speech Anti-Spoofing Arena.

    QAMO_DETECTOR=detector.onnx speech-spoof-bench run --model-module examples.arena:QAMO --datasets all

The benchmark resamples to 16 kHz and writes results/DATASET/scores.txt, which score_ood_dataset.py reads; report.py
takes the folder. Its interface: lab260ru/speech_spoof_bench @159331d, docs/developing/new-model.md. `meta.yaml` beside
this file is what its command `submit` asks for. Of scores that are there already, `report.py --arena` writes the
submission.
"""

from __future__ import annotations

import os

import numpy as np
from speech_spoof_bench.model import SimpleAntiSpoofingModel

from qamo import open_judge


class QAMO(SimpleAntiSpoofingModel):  # type: ignore[misc, unused-ignore]
    """Scores as inference.py gives them: the mean over half-overlapping windows, higher for bona fide speech."""

    name = "qamo"
    expected_sample_rate = 16_000

    def load(self) -> None:
        self.judge = open_judge(os.environ["QAMO_DETECTOR"])  # a run, a checkpoint, an exported folder, an .onnx file

    def score(self, audio: np.ndarray, sr: int) -> float:
        score = self.judge((audio, sr)).score
        assert score is not None  # what has none raises
        return score

    def unload(self) -> None:
        del self.judge
