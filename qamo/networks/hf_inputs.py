"""What speech encoders of transformers are given of waves: the steps of its feature extractors, on the waves' device.

The feature extractors themselves go through NumPy. Here the same steps are PyTorch's, for waves of one length.

Shapes: B utterances, T samples at 16 kHz, F frames, M mel bands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo.audio import SAMPLE_RATE


class Inputs(nn.Module):
    """What an encoder is given of waves: (B, T) float32 -> its own shape; on the waves' device."""

    extractor: str  # transformers' class whose steps these are
    shortest: int  # samples
    longest: int | None = None

    def n_frames(self, n_samples: int) -> int | None:
        """Frames that hear the recording, where the encoder gives more; None: all do."""
        return None


class Waves(Inputs):
    """(B, T) -> (B, T), each at mean 0 and variance 1 where `do_normalize` says so."""

    extractor = "Wav2Vec2FeatureExtractor"

    def __init__(self, config: Any, extractor: Any):
        super().__init__()
        self.normalize = bool(extractor.do_normalize)
        self.shortest = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride)):
            self.shortest = (self.shortest - 1) * stride + kernel

    def forward(self, wave: Tensor) -> Tensor:
        return F.layer_norm(wave, wave.shape[1:], eps=1e-7) if self.normalize else wave


class LogMel(Inputs):
    """What both log-mel spectrograms share: windows of 25 ms each 10 ms, power, mel filters."""

    window: Tensor
    filters: Tensor
    size, hop = 400, 160

    def __init__(self, extractor: Any, window: Tensor):
        super().__init__()
        self.register_buffer("window", window, persistent=False)
        filters = torch.from_numpy(np.asarray(extractor.mel_filters)).float()
        self.register_buffer("filters", filters, persistent=False)  # (bins, M)

    def mel(self, frames: Tensor) -> Tensor:
        """(B, F, 400) -> (B, F, M)."""
        n_bins = len(self.filters)
        x, n_fft = frames * self.window, 2 * (n_bins - 1)
        if not torch.compiler.is_exporting():
            return torch.fft.rfft(x, n_fft).abs().square() @ self.filters
        # onnxruntime's transform of 400 points is too coarse for a logarithm (1e-3).
        angle = torch.arange(self.size, dtype=torch.float64)[:, None] * torch.arange(n_bins) * (2 * math.pi / n_fft)
        return ((x @ angle.cos().float()).square() + (x @ angle.sin().float()).square()) @ self.filters


class KaldiMel(LogMel):
    """(B, T) -> (B, F, 2 M), each band at mean 0 and variance 1.

    A last frame without a partner, which the extractor pads and masks, is cut off, which changes no other frame.
    """

    extractor = "SeamlessM4TFeatureExtractor"

    def __init__(self, config: Any, extractor: Any):
        super().__init__(extractor, torch.from_numpy(np.asarray(extractor.window)).float())
        self.stride = extractor.stride
        self.shortest = self.size + (max(self.stride, 2) - 1) * self.hop
        _fits(extractor.num_mel_bins * self.stride, config.feature_projection_input_dim)

    def forward(self, wave: Tensor) -> Tensor:
        x = (wave * 2**15).unfold(1, self.size, self.hop)  # the scale of 16-bit samples
        x = x - x.mean(dim=2, keepdim=True)
        x = torch.cat([x[:, :, :1] * (1 - 0.97), x[:, :, 1:] - 0.97 * x[:, :, :-1]], dim=2)
        x = self.mel(x).clamp(min=1.192092955078125e-07).log()
        x = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True) + 1e-7).sqrt()
        return torch.cat(x.unfold(1, self.stride, self.stride).unbind(3), dim=2)


class WhisperMel(LogMel):
    """(B, T) -> (B, M, 3000), of waves filled up with silence to 30 s."""

    extractor = "WhisperFeatureExtractor"
    shortest = 1

    def __init__(self, config: Any, extractor: Any):
        super().__init__(extractor, torch.hann_window(extractor.n_fft))
        self.longest = extractor.chunk_length * SAMPLE_RATE
        _fits(extractor.feature_size, config.num_mel_bins)
        _fits((extractor.n_fft, extractor.hop_length), (self.size, self.hop))
        _fits(self.longest // self.hop, 2 * config.max_source_positions)

    def n_frames(self, n_samples: int) -> int:
        return (n_samples + 2 * self.hop - 1) // (2 * self.hop)

    def forward(self, wave: Tensor) -> Tensor:
        assert self.longest is not None
        x = F.pad(wave, (0, self.longest - wave.shape[1]))
        x = F.pad(x[:, None], (self.size // 2, self.size // 2), mode="reflect")[:, 0]
        x = self.mel(x.unfold(1, self.size, self.hop)[:, :-1]).clamp(min=1e-10).log10()
        x = torch.maximum(x, x.amax(dim=(1, 2), keepdim=True) - 8)
        return (x.transpose(1, 2) + 4) / 4


KINDS: dict[str, type[Waves] | type[KaldiMel] | type[WhisperMel]] = {
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"), Waves),
    "wav2vec2-bert": KaldiMel,
    "whisper": WhisperMel,
}


def _fits(found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"preprocessor_config.json and config.json do not belong together: {found} and {expected}")
