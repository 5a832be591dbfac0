"""Front ends: a wave (B, T) in, features (B, F, D) out.

A front end is an nn.Module with three attributes: `dim`, the feature size D; `frozen`: it computes without gradients
and stays in evaluation mode whatever mode its detector is in, so its features may be kept; and `mixed`: it computes in
16 bits where a number format says so, as XLS-R does, and not always in float32.

Shapes: B utterances, T samples at 16 kHz, F frames, D feature size.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo import InputError
from qamo.audio.load import SAMPLE_RATE
from qamo.networks import published as legacy
from qamo.networks.cpu import xlsr_pass as xlsr_cpu
from qamo.networks.weights import check_finite, load_strictly, read_torch

log = logging.getLogger(__name__)

XLSR_MIN_SAMPLES = 400  # the receptive field of one frame, 25 ms
XLSR_URL = "https://dl.fbaipublicfiles.com/fairseq/wav2vec/xlsr2_300m.pt"
_WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class XLSR(nn.Module):
    """wav2vec 2.0 of the XLS-R kind: (B, T) -> (B, F, D), the last hidden state after the final layer norm.

    Nothing in it is random: no masking, no dropout, no layer drop, as the published configuration trains it.

    On a CPU `qamo.networks.cpu.xlsr_pass` takes the network's steps in a faster way, equal up to rounding, in float32
    twice as fast on an AMD processor. With attention="eager", or `plain` set, the steps are transformers' own.

    Args:
        weights: a fairseq file, a transformers folder, a .safetensors file, a hub name, or None: random weights.
        freeze: train none of it.
        attention: sdpa or eager; eager is bit for bit fairseq's, and slower.
        normalize_input: "utterance" brings each wave to mean 0 and variance 1, as in XLS-R's own pre-training.
        uninitialized: leave the weights as memory holds them; a strict load must follow.

    Raises:
        InputError: the weights cannot be found or read, or belong to another network.

    Source: arXiv:2111.09296; equal to fairseq @a540213 (tests hold it against the goldens).
    """

    mixed = True

    def __init__(
        self,
        *,
        weights: str | None,
        freeze: bool,
        normalize_input: str,
        attention: str,
        gradient_checkpointing: bool,
        hidden_size: int,
        n_layers: int,
        n_heads: int,
        ffn_size: int,
        conv_size: int,
        position_kernel: int,
        position_groups: int,
        uninitialized: bool = False,
    ):
        super().__init__()
        from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
        from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model

        self.dim = hidden_size
        self.frozen = freeze
        self.normalize_input = normalize_input
        self.plain = attention == "eager"
        self.cpu_pass = xlsr_cpu.CPUPass()
        sizes = {
            "hidden_size": hidden_size,
            "n_layers": n_layers,
            "ffn_size": ffn_size,
            "conv_size": conv_size,
            "position_kernel": position_kernel,
            "position_groups": position_groups,
        }
        if hidden_size % n_heads:
            raise InputError(f"model.xlsr: hidden_size {hidden_size} is not divisible by n_heads {n_heads}")
        state = None if weights is None else read_xlsr(weights, sizes)
        make_config: Any = Wav2Vec2Config  # takes arguments of its base class that its signature does not show
        config = make_config(
            hidden_size=hidden_size,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            intermediate_size=ffn_size,
            conv_dim=(conv_size,) * 7,
            num_conv_pos_embeddings=position_kernel,
            num_conv_pos_embedding_groups=position_groups,
            conv_bias=True,
            do_stable_layer_norm=True,
            feat_extract_norm="layer",
            # transformers' defaults would drop and mask in training.
            layerdrop=0.0,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            apply_spec_augment=False,
            mask_time_prob=0.0,
            attn_implementation=attention,
        )
        if state is None and not uninitialized:
            self.network = Wav2Vec2Model(config)
        else:  # drawing 317 million weights only to overwrite them takes seconds
            with torch.device("meta"):
                self.network = Wav2Vec2Model(config)
            self.network.to_empty(device="cpu")
        if state is not None:
            load_strictly(self.network, state, f"model.xlsr.weights {weights}")
            check_finite(self.network.state_dict(), f"model.xlsr.weights {weights}")
        if gradient_checkpointing and not freeze:
            network: Any = self.network
            newer = getattr(network, "activation_checkpointing_enable", None)  # the last transformers for Python 3.10
            (newer or network.gradient_checkpointing_enable)({"use_reentrant": False})  # knows the older name only
        if freeze:
            self.network.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> XLSR:
        self.cpu_pass.forget()
        return super().train(mode and not self.frozen)

    def _apply(self, *args: Any, **kwargs: Any) -> XLSR:
        self.cpu_pass.forget()  # what to() and float() do to weights, autograd does not see
        return super()._apply(*args, **kwargs)

    def forward(self, wave: Tensor) -> Tensor:
        if wave.shape[1] < XLSR_MIN_SAMPLES:
            raise InputError(
                f"expected waves of at least {XLSR_MIN_SAMPLES} samples (25 ms), the length of one XLS-R frame, "
                f"found {wave.shape[1]} samples"
            )
        if self.normalize_input == "utterance":
            wave = F.layer_norm(wave, wave.shape[1:])
        if self.frozen:
            with torch.no_grad():
                return self._last_hidden_state(wave)
        return self._last_hidden_state(wave)

    def _last_hidden_state(self, wave: Tensor) -> Tensor:
        if self.plain or not xlsr_cpu.usable(self.network, wave):
            return self.network(wave).last_hidden_state
        return self.cpu_pass(self.network, wave)


def read_xlsr(weights: str, sizes: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Weights of a wav2vec 2.0 network in transformers' names, from wherever `weights` points to.

    Args:
        sizes: of the network that is to hold them, by config key; checked so that a message can say what differs.

    Raises:
        InputError: nothing is there, it cannot be read, or it holds another network.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        raw = _read_folder(path)
    elif path.suffix == ".safetensors" and path.is_file():
        raw = _read_safetensors(path)
    elif path.is_file():
        raw = legacy.read_fairseq(path)
        if legacy.is_published(raw):
            raise InputError(
                f"model.xlsr.weights {path}: holds a whole detector, not a front end; score with it "
                "(--train false with its path), or set model.xlsr.weights to xlsr2_300m.pt"
            )
    elif _HUB_NAME.fullmatch(weights) and path.suffix not in _WEIGHT_FILES and not path.parent.is_dir():
        raw = _download(weights)
    else:
        raise InputError(
            f"model.xlsr.weights {path}: no such file; download {XLSR_URL} (3.8 GB) to that place, "
            "or set it to facebook/wav2vec2-xls-r-300m, a local copy, or null for random weights"
        )
    state, dropped = legacy.xlsr_to_transformers(raw)
    if dropped:
        log.info("%s: %d weights that only pre-training reads are left out: %s", weights, len(dropped), dropped)
    found = legacy.xlsr_sizes(state)
    differing = [f"{key} {found[key]} (expected {sizes[key]})" for key in found if sizes and found[key] != sizes[key]]
    if differing:
        raise InputError(
            f"model.xlsr.weights {weights}: holds another network than model.xlsr describes: {', '.join(differing)}; "
            "take XLS-R 300M, or set these keys of model.xlsr to what was found"
        )
    return state


def _read_folder(folder: Path) -> dict[str, Tensor]:
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise InputError(f"model.xlsr.weights {folder}: expected a transformers folder, found no config.json in it")
    try:
        config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config_path}: not JSON ({error})") from None
    wanted = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
    # Of the same shapes but another function, as wav2vec 2.0 large is: no shape check would tell.
    wrong = [f"{key} {config[key]!r}" for key, value in wanted.items() if config.get(key, value) != value]
    if wrong:
        raise InputError(f"{config_path}: {' and '.join(wrong)}: not a network of the XLS-R kind; take XLS-R 300M")
    if (folder / "model.safetensors").is_file():
        return _read_safetensors(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").is_file():
        return read_torch(folder / "pytorch_model.bin")
    raise InputError(f"{folder}: expected model.safetensors or pytorch_model.bin beside config.json, found neither")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)  # maps the file
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file, or one that ends too early ({error})") from None


def _download(name: str) -> dict[str, Tensor]:
    """A hub repository's weights, from its cache or over the network with a progress bar."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

    try:
        config = hf_hub_download(name, "config.json")
        try:
            hf_hub_download(name, "model.safetensors")
        except LocalEntryNotFoundError:  # offline, where the cache may hold the older format
            hf_hub_download(name, "pytorch_model.bin")
        except EntryNotFoundError:
            hf_hub_download(name, "pytorch_model.bin")
    except (OSError, ValueError, HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(
            f"model.xlsr.weights {name}: no such file, and it cannot be fetched from the Hugging Face hub ({reason}); "
            f"where there is a network, download {XLSR_URL} or https://huggingface.co/{name}, copy it here and "
            "give its path"
        ) from None
    return _read_folder(Path(config).parent)


class LFCC(nn.Module):
    """Linear-frequency cepstra with deltas, the classic of the field: (B, T) -> (B, F, 3 n_coefficients).

    Pre-emphasis 0.97, Hamming windows without padding, power spectrum, triangular filters evenly spaced from 0 to
    8 kHz, log10, orthonormal DCT-II from coefficient 0 on, then differences x[t + 1] - x[t - 1] (ends repeated)
    and differences of those.

    Raises:
        InputError: more coefficients than filters, or a window longer than the transform.

    Source: Sahidullah et al. 2015 and the LFCC baselines of the ASVspoof challenges (20 ms, 10 ms, 20 filters).
    """

    window: Tensor
    filters: Tensor
    dct: Tensor
    mixed = False

    def __init__(self, *, n_coefficients: int, n_filters: int, n_fft: int, window_ms: float, hop_ms: float):
        super().__init__()
        window_samples = round(window_ms * SAMPLE_RATE / 1000)
        if not 0 < n_coefficients <= n_filters:
            raise InputError(f"model.lfcc: n_coefficients {n_coefficients} is not between 1 and n_filters {n_filters}")
        if window_samples > n_fft:
            raise InputError(f"model.lfcc: a window of {window_samples} samples does not fit n_fft {n_fft}")
        self.dim = 3 * n_coefficients
        self.frozen = True  # it has no weights
        self.n_fft = n_fft
        self.hop_samples = round(hop_ms * SAMPLE_RATE / 1000)
        for name, value in (
            ("window", np.hamming(window_samples)),
            ("filters", _triangles(n_filters, n_fft)),
            ("dct", _dct(n_coefficients, n_filters)),
        ):
            self.register_buffer(name, torch.from_numpy(value).float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        n_window = len(self.window)
        if wave.shape[1] < n_window:
            raise InputError(f"expected waves of at least {n_window} samples, one LFCC window, found {wave.shape[1]}")
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
            x = wave.to(self.window.dtype)
            x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], dim=1)
            frames = x.unfold(1, n_window, self.hop_samples) * self.window  # (B, F, n_window)
            power = torch.fft.rfft(frames, self.n_fft).abs().square()
            energies = power @ self.filters.T  # (B, F, n_filters)
            cepstra = torch.log10(energies + torch.finfo(energies.dtype).eps) @ self.dct.T
            deltas = _differences(cepstra)
            return torch.cat([cepstra, deltas, _differences(deltas)], dim=2)


def _differences(x: Tensor) -> Tensor:
    padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
    return padded[:, 2:] - padded[:, :-2]


def _triangles(n_filters: int, n_fft: int) -> np.ndarray:
    """Triangular filters (n_filters, n_fft // 2 + 1) that overlap by half."""
    bins_hz = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    edges_hz = np.linspace(0, SAMPLE_RATE / 2, n_filters + 2)
    low, center, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    return np.clip(np.minimum((bins_hz - low) / (center - low), (high - bins_hz) / (high - center)), 0, None)


def _dct(n_coefficients: int, n: int) -> np.ndarray:
    """Orthonormal DCT-II as a matrix (n_coefficients, n)."""
    k = np.arange(n_coefficients)[:, None]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n))
    matrix[0] /= np.sqrt(2)
    return matrix
