"""DistillMOS (PyPI distillmos 0.9.1, MIT, Microsoft): a quality predictor of 4.1 M parameters, and a front end.

A convolution stem over the compressed complex spectrogram, then a transformer whose position table wants exactly
384 frames of 20 ms: every wave is scaled to a peak of 1 and zero-padded to 7.68 s. The weights are inside the wheel.
What the stem makes of the padding does not depend on the wave, so here it is computed once on a short silence and
filled in; the result equals the package's own forward to rounding.

Shapes: B utterances, T samples at 16 kHz, F frames, L layers, D features.
Source: Stahl and Gamper, Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment, 2025.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo import InputError
from qamo.networks.layers import Layered, cut

WIDTH = 200  # of the transformer
MAX_SAMPLES = 122_880  # 7.68 s: the padded length
N_FRAMES = 384  # frames of the padded length
FRAME_SAMPLES = 320  # 20 ms between frames
MAX_HOP_SAMPLES = 16_000  # longer recordings are judged in overlapping segments at most this far apart

_SPECTRUM_HOP = 160  # samples between spectrogram frames; the last convolution halves their number
_REACH = 6  # spectrogram frames that an output frame sees on either side of its own
_SILENCE: WeakKeyDictionary[nn.Module, tuple[Any, Tensor]] = WeakKeyDictionary()


def load_network() -> nn.Module:
    """The DistillMOS network of the installed wheel with its weights, in evaluation mode.

    Raises:
        InputError: the package is not installed.
    """
    try:
        with _without_torchaudio():
            from distillmos.sqa import DEFAULT_WEIGHTS_CHKPT, ConvTransformerSQAModel
    except ImportError as error:
        raise InputError(
            f"DistillMOS cannot be imported ({error}); pip install --no-deps distillmos xls-r-sqa"
        ) from None
    network = ConvTransformerSQAModel(load_weights=False)
    weights = torch.load(DEFAULT_WEIGHTS_CHKPT, map_location="cpu", weights_only=True)
    network.load_state_dict(weights["model"])
    return network.eval()


def weights_path() -> str:
    """Where the installed wheel keeps its weights."""
    with _without_torchaudio():
        from distillmos.sqa import DEFAULT_WEIGHTS_CHKPT
    return DEFAULT_WEIGHTS_CHKPT


def hidden_states(network: nn.Module, wave: Tensor, at: Sequence[int] | None = None) -> Tensor:
    """States after the last transformer layer: (B, T) -> (B, 384, 200).

    With `at` those of these numbers, (B, 384, len(at), 200): 0 enters the layers, k is what the k-th gives.

    Raises:
        InputError: the wave is longer than 7.68 s or shorter than 5 ms.
    """
    n_samples = wave.shape[1]
    if not _SPECTRUM_HOP // 2 < n_samples <= MAX_SAMPLES:
        raise InputError(
            f"DistillMOS takes {_SPECTRUM_HOP // 2 + 1} to {MAX_SAMPLES} samples at a time, found {n_samples}; "
            "change data.window_samples"
        )
    net: Any = network
    head = net.transformer_pool_attn
    features = _stem(net.cnn, wave / (wave.abs().amax(dim=1, keepdim=True) + 1e-8))  # (B, 1024, 384)
    return encoded(head, features, at)


def encoded(head: Any, features: Tensor, at: Sequence[int] | None) -> Tensor:
    """What the transformer makes of the stem's features (B, 1024, 384), as `hidden_states` returns it."""
    x = head.transformer.norm(head.norm_input(features)).transpose(1, 2)
    every = [head.transformer.position_encoding(head.transformer.linear_proj(x))]
    for layer in head.transformer.transformer_encoder.layers:
        every.append(layer(every[-1]))
    return every[-1] if at is None else torch.stack([every[n] for n in at], dim=2)


def opinions(network: nn.Module, wave: Tensor) -> Tensor:
    """Mean opinion score of each wave of at most 7.68 s: (B, T) -> (B,) in [1, 5]."""
    net: Any = network
    head = net.transformer_pool_attn
    states = hidden_states(network, wave)
    pooled = head.pool(head.norm_trans(states.transpose(1, 2)).transpose(1, 2))
    return 1 + 4 * torch.sigmoid(pooled[:, 0])


@torch.inference_mode()
def predict(network: nn.Module, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Mean opinion score of recordings of any length at 16 kHz: n waves (T,) -> (n,) float64 in [1, 5].

    A recording above 7.68 s gets the mean over segments of that length. Each is judged alone, so its score does not
    depend on the others; batches would gain nothing on a CPU.
    """
    device = next(network.parameters()).device
    scores = np.empty(len(waves))
    for index, wave in enumerate(waves):
        segments = torch.from_numpy(np.stack(segments_of(np.asarray(wave, dtype=np.float32)))).to(device)
        scores[index] = float(opinions(network, segments).double().mean())
    return scores


def segments_of(wave: np.ndarray) -> list[np.ndarray]:
    """The stretches of at most 7.68 s that a recording is judged by; a too short one is zero-padded to 10 ms."""
    excess = len(wave) - MAX_SAMPLES
    if excess <= 0:
        return [np.pad(wave, (0, max(0, _SPECTRUM_HOP - len(wave))))]
    n_segments = -(-excess // MAX_HOP_SAMPLES) + 1
    starts = [int(share * excess) for share in np.linspace(0, 1, n_segments)]
    return [wave[start : start + MAX_SAMPLES] for start in starts]


class DistillMOS(Layered):
    """Front end: the encoder of DistillMOS, (B, T) -> (B, F, D), F = ceil(T / 320) + 1 and at most 384; D is 200, or
    200 for each layer that is asked for.

    66,800 samples give 210 frames. The parts that only the opinion score needs are left out. Batch norms keep their
    statistics in training too: about half of the frames are padding. No dropout anywhere. It computes in float32
    whatever the precision setting: its spectra and its batch norms lose more in 16 bits than its size would gain.

    Args:
        freeze: keep the weights as they are and compute no gradient.
        n_layers: transformer layers to keep, of 7.
        layers: last, weighted, or numbers of hidden states (`qamo.networks.layers`).
        features: float32, or float16, to which they are rounded.
    """

    mixed = False

    def __init__(
        self,
        *,
        freeze: bool = True,
        n_layers: int = 7,
        layers: str | Sequence[int] = "last",
        features: str = "float32",
    ):
        super().__init__()
        self.frozen = freeze
        self.network = load_network()
        head: Any = self.network.transformer_pool_attn
        n_kept = self.choose(layers, n_layers, WIDTH, features, "model.distillmos")
        cut(head.transformer.transformer_encoder, n_kept, closing_norm=False)
        del head.pool, head.norm_trans
        self.network.requires_grad_(not freeze)

    def train(self, mode: bool = True) -> DistillMOS:
        """Only the flag changes: the network stays in evaluation mode."""
        self.training = mode
        self.network.eval()
        return self

    def encoded(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, F, 200), or (B, F, L, 200) where layers are chosen; T up to 122,880 samples."""
        n_frames = min(-(-wave.shape[1] // FRAME_SAMPLES) + 1, N_FRAMES)
        with torch.autocast(wave.device.type, enabled=False):
            return hidden_states(self.network, wave, self.at)[:, :n_frames]


def _stem(cnn: nn.Module, wave: Tensor) -> Tensor:
    """What `cnn` makes of `wave` padded to 7.68 s: (B, T) -> (B, 1024, 384)."""
    n_sounding = -(-(wave.shape[1] + _SPECTRUM_HOP // 2) // _SPECTRUM_HOP)  # spectrogram frames with a sample in them
    n_computed = n_sounding + 2 * _REACH + 2
    n_computed += n_computed % 2
    if n_computed + 4 * _REACH >= 2 * N_FRAMES:
        return _batched(cnn, F.pad(wave, (0, MAX_SAMPLES - wave.shape[1])))

    computed = _batched(cnn, F.pad(wave, (0, n_computed * _SPECTRUM_HOP - wave.shape[1])))
    silence = _silence(cnn, wave)  # (1, 1024, 12): 3 frames feel either border
    n_kept = -(-(n_sounding + _REACH) // 2)  # the frames that hear the wave
    tail = silence[:, :, -_REACH:]
    steady = silence[:, :, _REACH - 1 : _REACH].expand(-1, -1, N_FRAMES - n_kept - _REACH)
    rest = torch.cat([steady, tail], dim=2).expand(len(wave), -1, -1)
    return torch.cat([computed[:, :, :n_kept], rest], dim=2)


def _silence(cnn: nn.Module, like: Tensor) -> Tensor:
    """What `cnn` makes of a short silence: (1, 1024, 12); kept, where no gradient is asked for, while its weights are.

    It would be a twentieth of the work for each wave.
    """
    if like.is_meta or torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return cnn(like.new_zeros(1, 4 * _REACH * _SPECTRUM_HOP))
    autocast = torch.is_autocast_enabled(like.device.type) and torch.get_autocast_dtype(like.device.type)
    weights = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in cnn.parameters()]
    state = like.device, like.dtype, autocast, torch.is_inference_mode_enabled(), weights
    kept = _SILENCE.get(cnn)
    if kept is None or kept[0] != state:
        kept = _SILENCE[cnn] = state, cnn(like.new_zeros(1, 4 * _REACH * _SPECTRUM_HOP))
    return kept[1]


def _batched(cnn: nn.Module, wave: Tensor) -> Tensor:
    """One wave at a time on a CPU, where the planes of a batch fall out of the cache (1.4 times slower)."""
    if wave.device.type != "cpu":
        return cnn(wave)
    return torch.cat([cnn(one) for one in wave.split(1)])


@contextlib.contextmanager
def _without_torchaudio() -> Iterator[None]:
    """Let `import torchaudio` succeed without it: the package imports it for its own command line only."""
    if "torchaudio" in sys.modules:
        yield
        return
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]
