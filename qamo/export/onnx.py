"""A detector as one ONNX file that onnxruntime scores with, PyTorch not installed.

The file takes `wave` (B, T) float32 at 16 kHz, B and T free, and gives `score` (B,). It also says what it is: window,
digest of the weights, and the calibration, as JSON text in its metadata (`qamo.inference.scorer_onnx.ONNX_METADATA`).

Front ends are rewritten where ONNX lacks something: the short-time transforms of DistillMOS become convolutions, and
weights that PyTorch parametrizes become plain ones. What was written is compared with PyTorch on three lengths.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qamo import InputError
from qamo.evaluation.calibration import Calibration, to_dict
from qamo.export.folder import portable_config
from qamo.files import replacing
from qamo.inference.scorer_onnx import CONVENTION, ONNX_FORMAT, ONNX_METADATA, seal
from qamo.inference.scorer_torch import digest_of
from qamo.networks import distillmos
from qamo.networks.conformer_tcm import N_POSITIONS
from qamo.networks.distillmos import FRAME_SAMPLES, N_FRAMES, DistillMOS
from qamo.networks.lfcc import LFCC

OPSET = 18
LARGEST_DIFFERENCE = 1e-4  # between the scores of the two, on noise; more is an error
MIN_SAMPLES = 1_600  # 0.1 s
MAX_SAMPLES = 1_000_000  # a minute: more than any window


class Written(NamedTuple):
    """What `export_onnx` wrote and how well it agrees."""

    path: Path
    n_bytes: int
    difference: float  # largest of the scores, to PyTorch's
    lengths: list[int]  # samples that were compared


class WaveToScore(nn.Module):
    """What is exported: (B, T) -> (B,)."""

    def __init__(self, frontend: nn.Module, backend: nn.Module, head: nn.Module):
        super().__init__()
        self.frontend, self.backend, self.head = frontend, backend, head

    def forward(self, wave: Tensor) -> Tensor:
        return self.head(self.backend(self.frontend(wave)))


class PlainDistillMOS(nn.Module):
    """The front end of `qamo.networks.distillmos` without complex numbers, loops or length tests; equal to rounding.

    Takes up to `longest` samples, a little less than DistillMOS itself.
    """

    longest = 115_000
    steady: Tensor
    tail: Tensor

    def __init__(self, frontend: DistillMOS):
        super().__init__()
        network: Any = frontend.network
        self.stem = _Stem(network.cnn)
        self.head = network.transformer_pool_attn
        self.at, self.mix = frontend.at, frontend.mix
        reach = distillmos._REACH
        with torch.no_grad():
            silence = self.stem(torch.zeros(1, 4 * reach * distillmos._SPECTRUM_HOP))
        self.register_buffer("steady", silence[:, :, reach - 1 : reach].clone())
        self.register_buffer("tail", silence[:, :, -reach:].clone())

    def forward(self, wave: Tensor) -> Tensor:
        head: Any = self.head
        hop, reach, n_samples = distillmos._SPECTRUM_HOP, distillmos._REACH, wave.shape[1]
        n_sounding = (n_samples + hop // 2 + hop - 1) // hop
        n_computed = (n_sounding + 2 * reach + 3) // 2 * 2
        n_kept = (n_sounding + reach + 1) // 2
        # The exporter drops a bare "+ 1e-8" as nothing, and digital silence would be 0 / 0.
        x = wave / ((wave.abs().amax(dim=1, keepdim=True) * 1e8 + 1) * 1e-8)
        heard = self.stem(F.pad(x, (0, n_computed * hop - n_samples)))[:, :, :n_kept]
        steady = self.steady.expand(wave.shape[0], -1, N_FRAMES - n_kept - reach)
        x = torch.cat([heard, steady, self.tail.expand(wave.shape[0], -1, -1)], dim=2)
        x = distillmos.encoded(head, x, self.at)
        return self.mix(x[:, : (n_samples + FRAME_SAMPLES - 1) // FRAME_SAMPLES + 1])


class _Stem(nn.Module):
    """Compressed complex spectrum by convolution, then the convolutions of DistillMOS: (B, T) -> (B, 1024, F)."""

    basis: Tensor

    def __init__(self, cnn: Any):
        super().__init__()
        size = cnn.win_length
        self.hop = cnn.hop_length
        self.padding = (size - self.hop) // 2
        angle = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * torch.arange(size) * (2 * math.pi / size)
        window = torch.hann_window(size, dtype=torch.float64)
        basis = torch.cat([angle.cos() * window, -angle.sin() * window]).float()[:, None]
        self.register_buffer("basis", basis)  # (2 bins, 1, size)
        self.layers = cnn.cnn

    def forward(self, wave: Tensor) -> Tensor:
        padded = F.pad(wave, (self.padding, self.padding), mode="reflect")[:, None]
        spectrum = F.conv1d(padded, self.basis, stride=self.hop)
        spectrum = spectrum.unflatten(1, (2, -1))  # (B, real and imaginary, bins, F)
        magnitude = spectrum.square().sum(dim=1, keepdim=True).sqrt().clip(1e-12)
        return self.layers(magnitude**0.3 * spectrum / magnitude).flatten(1, -2)


def exportable(detector: Any) -> WaveToScore:
    """A copy of a detector that ONNX can hold, in evaluation mode; the detector stays as it is."""
    network = copy.deepcopy(WaveToScore(detector.frontend, detector.backend, detector.head)).eval().cpu()
    for module in network.modules():
        if parametrize.is_parametrized(module):
            _make_plain(module)
    if isinstance(network.frontend, DistillMOS):
        network.frontend = PlainDistillMOS(network.frontend)
    return network.eval().requires_grad_(False)


def export_onnx(
    detector: Any, path: Path, *, window_samples: int, calibration: Calibration | None = None, source: str = ""
) -> Written:
    """Write a detector as ONNX, and compare its scores with PyTorch's on three lengths.

    Args:
        window_samples: what the detector was trained on; inference cuts recordings so.
        calibration: travels in the file.
        source: where it came from, for the record.

    Raises:
        InputError: packages are missing, or a part has no form in ONNX.
        RuntimeError: the scores differ by more than 1e-4; nothing is written.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    network = exportable(detector)
    lengths = min(MIN_SAMPLES, window_samples), _longest(network.frontend)
    if window_samples > lengths[1]:
        raise InputError(f"a window of {window_samples} samples is longer than the {lengths[1]} that can be exported")
    program = _converted(network, window_samples, *lengths)
    about = {
        "format": ONNX_FORMAT,
        "convention": CONVENTION,
        "window_samples": window_samples,
        "weights": digest_of(detector),
        "head": detector.config["head"],
        "model_config": portable_config(detector),
        "source": source,
        "calibration": None if calibration is None else to_dict(calibration.portable()),
    }
    if isinstance(network.frontend, LFCC):  # a power spectrum has no place in 8 bits
        about["float_nodes"] = _frontend_nodes(program.model)
    _forget_sources(program.model)
    program.model.metadata_props[ONNX_METADATA] = json.dumps(about)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        program.save(temporary)
        difference, compared = compare(network, temporary, window_samples, *lengths)
        if not difference <= LARGEST_DIFFERENCE:
            raise RuntimeError(f"the ONNX scores differ from PyTorch's by {difference}; nothing was written")
        seal(temporary)
    return Written(path, path.stat().st_size, difference, compared)


def _converted(network: nn.Module, window_samples: int, shortest: int, longest: int) -> Any:
    """The network as onnxscript's program, for any batch and lengths from the shortest to the longest."""
    example = torch.zeros(2, window_samples)  # B = 2: a size of 1 would be taken for a constant
    free = {0: torch.export.Dim("batch", min=1, max=65_535), 1: torch.export.Dim("samples", min=shortest, max=longest)}
    try:
        with _quietly():
            return torch.onnx.export(
                network, (example,), dynamo=True, verbose=False, opset_version=OPSET, input_names=["wave"],
                output_names=["score"], dynamic_shapes={"wave": free},
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise InputError(f"this detector has no form in ONNX ({reason.strip()[:200]})") from None


def compare(
    network: nn.Module, path: Path, window_samples: int, shortest: int, longest: int
) -> tuple[float, list[int]]:
    """Largest difference between the scores of the two on noise and silence, and the lengths compared."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    lengths = sorted({max(shortest, window_samples // 3), window_samples, min(longest, window_samples * 3 // 2)})
    largest = 0.0
    for batch_size, n_samples in zip((3, 1, 2), lengths):
        level = 10 ** rng.uniform(-2, -0.5, size=(batch_size, 1))
        wave = (level * rng.normal(size=(batch_size, n_samples))).astype(np.float32)
        wave[1:2] = 0  # digital silence among them
        with torch.inference_mode():
            expected = network(torch.from_numpy(wave)).numpy()
        largest = max(largest, float(np.abs(session.run(["score"], {"wave": wave})[0] - expected).max()))
    return largest, lengths


def quantize(path: Path, out: Path) -> int:
    """Write the file at `path` with its matrix products in int8, activations scaled as they come; its size in bytes.

    Convolutions stay as they are: on a CPU their int8 form is slower. What the file says of itself is kept.
    """
    _need("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kept = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    if ONNX_METADATA not in kept:
        raise InputError(f"{path}: not an ONNX file that this program wrote")
    with replacing(out) as temporary, _quietly():
        quantize_dynamic(
            path,
            temporary,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # 7 bits: two products of 8 overflow 16 bits on a processor without VNNI
            nodes_to_exclude=json.loads(kept[ONNX_METADATA]).get("float_nodes", []),
        )
        seal(temporary)
    return out.stat().st_size


def _make_plain(module: Any) -> None:
    """Replace parametrized weights by what they come to.

    torch's own remove_parametrizations changes the class, which the copied module shares with the original.
    """
    values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}
    module.__class__ = type(module).__mro__[1]
    del module._modules["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def _frontend_nodes(model: Any) -> list[str]:
    scope = "pkg.torch.onnx.name_scopes"
    return [node.name for node in model.graph.all_nodes() if "frontend" in node.metadata_props.get(scope, "")]


def _forget_sources(model: Any) -> None:
    """Take out the stack traces, which name the folders of this machine, and triple the size of a small file."""
    graph = model.graph
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    model.metadata_props.clear()


def _longest(frontend: Any) -> int:
    if longest := getattr(frontend, "longest", None):
        return longest
    # The back end's table of positions ends there.
    return min(MAX_SAMPLES, (N_POSITIONS - 1) * frontend.hop_samples) if isinstance(frontend, LFCC) else MAX_SAMPLES


def _need(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {', '.join(missing)}; pip install {' '.join(missing)}")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's progress lines and its advice to programmers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
