"""A trained detector, wherever it came from, as one callable: waves (B, W) -> scores (B,), both NumPy.

`open_scorer` reads a run, a checkpoint, an exported folder (through PyTorch) or an ONNX file (through onnxruntime,
with no PyTorch installed), together with its calibration. B windows of W samples at 16 kHz.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qamo import InputError
from qamo.audio.load import WINDOW_SAMPLES
from qamo.evaluation import calibration
from qamo.evaluation.calibration import Calibration

ONNX_METADATA = "qamo"  # key of the JSON text in an ONNX file that says what the network is
ONNX_FORMAT = "qamo onnx 1"
CONVENTION = "bonafide=1, higher=bona fide"

DEVICES = ("auto", "cpu", "cuda")


class Scorer(Protocol):
    """See the module's contract."""

    window_samples: int
    weights: str  # digest: which detector this is
    head: str  # "qamo", "oc_softmax" or "wce"
    calibration: Calibration | None
    remark: str  # why there is no calibration, or empty

    def __call__(self, waves: np.ndarray) -> np.ndarray: ...


def open_scorer(
    path: Path,
    load_detector: Callable[[Path], Any],
    *,
    device: str = "auto",
    n_threads: int = 0,
    calibration_file: Path | None = None,
) -> Scorer:
    """Open what `path` names.

    Args:
        load_detector: reads everything but ONNX; `model.load_detector`.
        device: auto, cpu or cuda.
        n_threads: 0: as the library chooses.
        calibration_file: in place of the calibration beside the weights.

    Raises:
        InputError: nothing usable is there, the calibration is of other weights, or the device is none of these.
    """
    if device not in DEVICES:
        raise InputError(f"--device: expected {' or '.join(DEVICES)}, found {device!r}")
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder; give a run, a checkpoint, an exported folder or an .onnx file"
        )
    scorer: Scorer
    if path.suffix == ".onnx":
        scorer = OnnxScorer(path, device=device, n_threads=n_threads)
    else:
        scorer = TorchScorer(path, load_detector(path), device=device, n_threads=n_threads)
    if calibration_file is not None:
        given = calibration.read(calibration_file)
        if given.weights != scorer.weights:
            raise InputError(
                f"{calibration_file}: fitted on scores of the weights {given.weights}, but {path} holds "
                f"{scorer.weights}; fit one on scores of these"
            )
        scorer.calibration, scorer.remark = given, ""
    return scorer


class TorchScorer:
    """Scores with PyTorch."""

    def __init__(self, path: Path, detector: Any, *, device: str, n_threads: int):
        import torch

        if n_threads:
            torch.set_num_threads(n_threads)
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: PyTorch sees no CUDA device here; leave it out")
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        self.weights = digest_of(detector)
        self.head = detector.config["head"]
        self.window_samples = window_of(path)
        self.calibration, self.remark = calibration_beside(path, self.weights)
        self.detector = detector.to(self.device).eval()

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.detector(torch.from_numpy(waves).to(self.device)).score.float().cpu().numpy()


class OnnxScorer:
    """Scores with onnxruntime; the file says itself what it is."""

    def __init__(self, path: Path, *, device: str, n_threads: int):
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path}: onnxruntime is not installed; pip install -r requirements.txt") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        if device == "cuda" and "CUDAExecutionProvider" not in available:
            raise InputError("--device cuda: this onnxruntime has no CUDA; install onnxruntime-gpu, or leave it out")
        wanted = [
            p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if device != "cpu" or p.startswith("CPU")
        ]
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=[p for p in wanted if p in available])
        except Exception as error:  # onnxruntime's errors share no class that it exports
            reason = str(error).strip().splitlines()[0][:160]
            raise InputError(f"{path}: not an ONNX file that onnxruntime reads ({reason}); copy it again") from None
        try:
            about = json.loads(session.get_modelmeta().custom_metadata_map[ONNX_METADATA])
            known = about["format"] == ONNX_FORMAT and about["convention"] == CONVENTION
        except (KeyError, ValueError, TypeError):
            known = False
        if not known:
            raise InputError(f"{path}: not an ONNX file that export.py of this program wrote; export the run with it")
        self.session = session
        self.window_samples = int(about["window_samples"])
        self.weights = about["weights"]
        self.head = about["head"]
        kept = about.get("calibration")
        self.calibration = None if kept is None else calibration.from_dict(kept, path)
        self.remark = "" if kept else "the run it was exported from has no calibration"

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        return self.session.run(["score"], {"wave": waves})[0]


def digest_of(detector: Any) -> str:
    """Which detector this is: a digest of its weights, and one of the settings that its scores depend on."""
    from qamo.networks.feature_cache import fingerprint
    from qamo.training.folder import scoring_digest

    return calibration.joined_digest(fingerprint(detector), scoring_digest(detector.config))


def window_of(path: Path) -> int:
    """The window that the detector at `path` was trained on, in samples; that of the paper where it is not said."""
    about = path / "qamo.json"
    if about.is_file():
        return int(json.loads(about.read_text(encoding="utf-8")).get("window_samples", WINDOW_SAMPLES))
    from qamo.networks.weights import read_torch

    content = read_torch(path / "model.pt" if path.is_dir() else path)
    kept = content.get("window_samples") if isinstance(content, dict) else None
    return kept if isinstance(kept, int) else WINDOW_SAMPLES


def calibration_beside(path: Path, weights: str) -> tuple[Calibration | None, str]:
    """The calibration in the folder of the weights if it is theirs; else why there is none."""
    file = (path if path.is_dir() else path.parent) / calibration.FILE
    if not file.is_file():
        return None, f"{file} does not exist"
    found = calibration.read(file)
    if found.weights != weights:
        return None, f"{file} belongs to other weights"
    return found, ""
