"""Score with onnxruntime, without PyTorch: an ONNX file of export.py says itself what it is."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import onnxruntime

from qamo import InputError
from qamo.command import first_line
from qamo.evaluation import calibration
from qamo.files import open_regular

ONNX_METADATA = "qamo"  # key of the JSON text in an ONNX file that says what the network is
ONNX_FORMAT = "qamo onnx 1"
CONVENTION = "bonafide=1, higher=bona fide"
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


# The file's last field, its documentation, in protobuf: tag, length, and the CRC-32 of all bytes before it.
SEAL = b"\x32\x13qamo crc32 "


def seal(path: Path) -> None:
    """Append to an ONNX file the checksum of its bytes, which stays a part of the file for every reader."""
    content = path.read_bytes()
    with open(path, "ab") as file:
        file.write(SEAL + b"%08x" % zlib.crc32(content))


def check_seal(path: Path) -> None:
    """See that an ONNX file holds what was written, if its checksum was; InputError where it does not."""
    with open_regular(path) as file:
        content = memoryview(file.read())
    length = len(content) - len(SEAL) - 8
    if content[length:-8] == SEAL and bytes(content[-8:]) != b"%08x" % zlib.crc32(content[:length]):
        raise InputError(f"{path}: damaged: it does not hold the bytes that were written; copy it again")


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
        check_seal(path)
        wanted = [p for p in PROVIDERS if p in available and (device != "cpu" or p.startswith("CPU"))]
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # onnxruntime's errors share no class that it exports
            reason = first_line(error, 160)
            raise InputError(f"{path}: not an ONNX file that onnxruntime reads ({reason}); copy it again") from None
        try:
            about = json.loads(session.get_modelmeta().custom_metadata_map[ONNX_METADATA])
            is_ours = about["format"] == ONNX_FORMAT and about["convention"] == CONVENTION
            self.window_samples, self.weights_digest = int(about["window_samples"]), str(about["weights"])
            self.head = str(about["head"])
        except (KeyError, ValueError, TypeError):
            is_ours = False
        if not is_ours:
            raise InputError(f"{path}: not an ONNX file that export.py of this program wrote; export the run with it")
        self.session = session
        kept = about.get("calibration")
        self.calibration = None if kept is None else calibration.from_dict(kept, path)
        self.why_uncalibrated = "" if kept else "the run it was exported from has no calibration"

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        return self.session.run(["score"], {"wave": waves})[0]
