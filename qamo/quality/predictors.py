"""Predictors of mean opinion scores (MOS) behind one contract.

A predictor is a callable: waves at 16 kHz, [(T,), ...] -> (n,) float64, about 1 (bad) to 5 (excellent). It has a
`name`, and an `identity` that changes whenever its scores might (version, hash of the weights). Specs name them:

    distillmos          PyPI distillmos, MIT, weights inside the wheel; works offline (the default)
    distillmos:bf16     the same in 16 bits, about twice as fast on a CPU that has them; scores move by some 0.02
    scoreq:PATH         an ONNX export of SCOREQ (no-reference mode, natural or synthetic domain), taken at 16 kHz
    onnx:PATH@RATE      any ONNX model with one wave input (B, T) and one score output, at a sampling rate in Hz
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr

from qamo import InputError, files
from qamo.audio import SAMPLE_RATE


class Predictor(Protocol):
    """See the module's contract."""

    name: str
    identity: str

    def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray: ...


@functools.lru_cache(1)
def build_predictor(spec: str) -> Predictor:
    """The predictor that `spec` names; the last one is kept, so that tasks need not load it anew.

    Raises:
        InputError: an unknown spec, a missing model file, or a package that is not installed.
    """
    kind, _, rest = spec.partition(":")
    if kind == "distillmos" and rest in ("", "bf16"):
        try:
            return DistillMOSPredictor(bf16=bool(rest))
        except ImportError as error:
            raise InputError(
                f"distillmos: needs PyTorch and the package distillmos ({error}); pip install 'qamo[train,mos]', or "
                "name an ONNX file with --predictor onnx:PATH@RATE"
            ) from None
    if kind == "scoreq" and rest:
        return ONNXPredictor(Path(rest), SAMPLE_RATE, name="scoreq")
    if kind == "onnx" and rest:
        path, _, rate = rest.rpartition("@")
        if not path or not rate.isdigit() or int(rate) < 1:
            raise InputError(f"{spec!r}: expected onnx:PATH@RATE, for example onnx:model.onnx@16000")
        return ONNXPredictor(Path(path), int(rate), name="onnx")
    raise InputError(
        f"{spec!r}: no such MOS predictor; expected distillmos, distillmos:bf16, scoreq:PATH or onnx:PATH@RATE"
    )


class DistillMOSPredictor:
    """DistillMOS without paying for its padding; one wave at a time, so a score does not depend on its neighbours.

    Args:
        bf16: compute in 16 bits.
        device: where it computes; None: on a GPU where there is one.
    """

    name = "distillmos"

    def __init__(self, *, bf16: bool = False, device: str | None = None) -> None:
        # Heavy, and of no use to the other predictors.
        import torch

        from qamo.networks import distillmos
        from qamo.networks.cpu import onednn

        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if bf16 and self._device == "cpu" and not onednn.is_native(torch.bfloat16):
            raise InputError(
                "distillmos:bf16: this processor has no bfloat16 products and would emulate each, many times slower "
                "than float32; take distillmos"
            )
        self._bf16 = bf16
        self._network = distillmos.load_network().to(self._device)
        digest = files.sha256(Path(distillmos.weights_path()))
        self.identity = f"distillmos {metadata.version('distillmos')} weights {digest[:16]}{' bf16' * bf16}"

    def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        from qamo.networks import distillmos

        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._bf16):
            return distillmos.predict(self._network, waves)


class ONNXPredictor:
    """A model file: float32 wave (1, T) in; its first output, averaged, is the score.

    Args:
        path: the ONNX file.
        rate: sampling rate that the model expects, in Hz.
    """

    def __init__(self, path: Path, rate: int, *, name: str) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such ONNX file; give the path of the downloaded model")
        try:
            import onnxruntime
        except ImportError:
            raise InputError("reading an ONNX predictor needs onnxruntime; pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common exception of its own
            raise InputError(f"{path}: not a model that onnxruntime reads ({str(error).splitlines()[0]})") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 2:
            found = ", ".join(f"{i.name} {i.shape}" for i in inputs)
            raise InputError(f"{path}: expected one input (batch, samples), found {found}")
        self._input, self._rate, self.name = inputs[0].name, rate, name
        self.identity = f"{name} {path.name} sha256 {files.sha256(path)[:16]} at {rate} Hz"

    def __call__(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([self._predict(wave) for wave in waves], dtype=np.float64)

    def _predict(self, wave: np.ndarray) -> float:
        if self._rate != SAMPLE_RATE:
            wave = soxr.resample(wave, SAMPLE_RATE, self._rate)
        return float(np.mean(self._session.run(None, {self._input: np.asarray(wave, dtype=np.float32)[None]})[0]))
