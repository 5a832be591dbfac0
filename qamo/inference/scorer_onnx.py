"""Score with onnxruntime, without PyTorch: an ONNX file of export.py says itself what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from qamo import InputError
from qamo.evaluation import calibration

ONNX_METADATA = "qamo"  # key of the JSON text in an ONNX file that says what the network is
ONNX_FORMAT = "qamo onnx 1"
CONVENTION = "bonafide=1, higher=bona fide"
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxScorer:
    """An ONNX file as a `qamo.inference.scorer.Scorer`."""

    name = ""

    def __init__(self, path: Path, *, device: str, n_threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        if device == "cuda" and PROVIDERS[0] not in available:
            raise InputError("--device cuda: this onnxruntime has no CUDA; install onnxruntime-gpu, or leave it out")
        wanted = [p for p in PROVIDERS if p in available and (device != "cpu" or p.startswith("CPU"))]
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # onnxruntime's errors share no class that it exports
            reason = str(error).strip().splitlines()[0][:160]
            raise InputError(f"{path}: not an ONNX file that onnxruntime reads ({reason}); copy it again") from None
        try:
            about = json.loads(session.get_modelmeta().custom_metadata_map[ONNX_METADATA])
            is_ours = about["format"] == ONNX_FORMAT and about["convention"] == CONVENTION
        except (KeyError, ValueError, TypeError):
            is_ours = False
        if not is_ours:
            raise InputError(f"{path}: not an ONNX file that export.py of this program wrote; export the run with it")
        self.session = session
        self.window_samples = int(about["window_samples"])
        self.weights_digest = about["weights"]
        self.head = about["head"]
        kept = about.get("calibration")
        self.calibration = None if kept is None else calibration.from_dict(kept, path)
        self.why_uncalibrated = "" if kept else "the run it was exported from has no calibration"

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        return self.session.run(["score"], {"wave": waves})[0]
