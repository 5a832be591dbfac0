"""Open any trained detector as a scorer, a callable: waves (B, W) -> scores (B,), both NumPy.

`open_scorer` reads a run, a checkpoint or an exported folder (through PyTorch), or an ONNX file (through onnxruntime,
with no PyTorch installed), together with its calibration. B windows of W samples at 16 kHz.
"""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from typing import Protocol

import numpy as np

from qamo import InputError, hub
from qamo.evaluation import calibration
from qamo.evaluation.calibration import Calibration

DEVICES = ("auto", "cpu", "cuda")


class Scorer(Protocol):
    """See the module's contract."""

    name: str  # of its folder or file
    window_samples: int
    weights_digest: str  # which detector this is
    head: str  # "qamo", "oc_softmax" or "wce"
    calibration: Calibration | None
    why_uncalibrated: str  # empty where there is a calibration

    def __call__(self, waves: np.ndarray) -> np.ndarray: ...


def open_scorer(
    path: Path | str, *, device: str = "auto", n_threads: int = 0, calibration_file: Path | None = None
) -> Scorer:
    """Open the detector at `path`, which may be a name on the Hugging Face hub, owner/name.

    Args:
        device: auto, cpu or cuda.
        n_threads: 0: as the library chooses.
        calibration_file: in place of the calibration beside the weights.

    Raises:
        InputError: nothing usable is there, the calibration is of other weights, or a setting is none of these.
    """
    if device not in DEVICES:
        raise InputError(f"--device: expected {' or '.join(DEVICES)}, found {device!r}")
    if not (isinstance(n_threads, Integral) and n_threads >= 0):
        raise InputError(f"--threads: expected a whole number from 0 on, found {n_threads!r}")
    name = os.path.basename(os.path.realpath(path))
    path = hub.local(path)
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder; give a run, a checkpoint, an exported folder, an .onnx file, or the name "
            "of a detector on the Hugging Face hub, owner/name"
        )
    scorer: Scorer
    if path.suffix == ".onnx":
        try:
            from qamo.inference.scorer_onnx import OnnxScorer
        except ImportError:
            raise InputError(f"{path}: onnxruntime is not installed; pip install onnxruntime") from None
        scorer = OnnxScorer(path, device=device, n_threads=n_threads)
    else:
        try:
            from qamo.inference.scorer_torch import TorchScorer
        except ImportError as error:
            raise InputError(
                f"{path}: needs PyTorch and this project's model.py ({error}); run it in the checkout, or judge "
                "with an ONNX file: python export.py RUN -o model.onnx --format onnx"
            ) from None
        scorer = TorchScorer(path, device=device, n_threads=n_threads)
    scorer.name = name
    if calibration_file is not None:
        _calibrate(scorer, calibration_file, path)
    return scorer


def _calibrate(scorer: Scorer, calibration_file: Path, path: Path) -> None:
    """Take a calibration from a file, which must be of the same weights."""
    given = calibration.read(calibration_file)
    if given.weights != scorer.weights_digest:
        raise InputError(
            f"{calibration_file}: fitted on scores of the weights {given.weights}, but {path} holds "
            f"{scorer.weights_digest}; fit one on scores of these"
        )
    scorer.calibration, scorer.why_uncalibrated = given, ""
