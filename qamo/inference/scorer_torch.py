"""Score with PyTorch, and tell what a detector's weights are: their digest, their window, their calibration."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from model import Detector, load_detector
from qamo import InputError
from qamo.audio import WINDOW_SAMPLES
from qamo.evaluation import calibration
from qamo.evaluation.calibration import Calibration
from qamo.files import read_json
from qamo.networks.feature_cache import fingerprint
from qamo.networks.weights import read_torch
from qamo.published import published_epochs
from qamo.training.folder import MODEL, scoring_digest


class TorchScorer:
    """A run, a checkpoint or an exported folder as a `qamo.inference.scorer.Scorer`."""

    name = ""

    def __init__(self, path: Path, *, device: str, n_threads: int):
        detector = load_detector(path)
        if n_threads:
            torch.set_num_threads(n_threads)
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: PyTorch sees no CUDA device here; leave it out")
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        self.weights_digest = digest_of(detector)
        self.head = detector.config["head"]
        self.window_samples = window_of(path)
        self.calibration, self.why_uncalibrated = calibration_beside(path, self.weights_digest)
        self.detector = detector.to(self.device).eval()
        self.lock = threading.Lock()  # the parts need not stand being called by two threads at a time

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        with self.lock, torch.inference_mode():
            return self.detector(torch.from_numpy(waves).to(self.device)).score.float().cpu().numpy()


def digest_of(detector: Detector) -> str:
    """Which detector this is: a digest of its weights, and one of the settings that its scores depend on."""
    return calibration.joined_digest(fingerprint(detector), scoring_digest(detector.config))


class _About(TypedDict, total=False):
    window_samples: int


def window_of(path: Path) -> int:
    """The window that the detector at `path` was trained on, in samples; that of the paper where it is not said."""
    about = path / "qamo.json"
    if about.is_file():
        return read_json(about, _About).get("window_samples", WINDOW_SAMPLES)
    if published_epochs(path):
        return WINDOW_SAMPLES
    content = read_torch(path / MODEL if path.is_dir() else path, verify=False)
    kept = content.get("window_samples") if isinstance(content, dict) else None
    return kept if isinstance(kept, int) else WINDOW_SAMPLES


def calibration_beside(path: Path, weights_digest: str) -> tuple[Calibration | None, str]:
    """The calibration in the folder of the weights if it is theirs; else why there is none."""
    file = (path if path.is_dir() else path.parent) / calibration.FILE
    if not file.is_file():
        return None, f"there is no {file.name} beside the weights"
    found = calibration.read(file)
    if found.weights != weights_digest:
        return None, f"the {file.name} beside the weights belongs to other weights"
    return found, ""
