"""XLS-R front end: wav2vec 2.0 of the XLS-R kind.

transformers takes 3 s of CPU to import, so it is imported when a network is built: other front ends do without.

Shapes: B utterances, T samples at 16 kHz, F frames, L layers, W width of the network, D features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qamo import InputError
from qamo.config.parts import XLSR_300M
from qamo.networks import gpu_pass
from qamo.networks.cpu import xlsr_pass
from qamo.networks.layers import Layered, cut, hidden_states
from qamo.networks.weights import check_finite, load_strictly
from qamo.networks.xlsr_files import Pretrained, read_xlsr
from qamo.networks.xlsr_recipe import DRAWS, LAYER_NORM_EPS, Recipe

CONV_BIAS = re.compile(r"feature_extractor\.conv_layers\.\d+\.conv\.bias")
MIN_SAMPLES = 400  # the receptive field of one frame, 25 ms


class XLSR(Layered):
    """wav2vec 2.0 of the XLS-R kind: (B, T) -> (B, F, D), the last hidden state after the final layer norm, or others.

    Features have the wave's number format, whatever autocast or the weights compute in and on every processor.

    Nothing in it is random unless the file of its weights says so: no masking ever, and dropouts, layer drop and the
    scale of the convolutions' gradient as in the pre-training of that file. XLS-R 300M has none of them.

    `qamo.networks.cpu.xlsr_pass` and `qamo.networks.gpu_pass` take the network's steps in a faster way, equal up to
    rounding. With attention="eager", or `plain` set, the steps are transformers' own.

    Args:
        weights: a fairseq file, a transformers folder, a .safetensors file, a hub name, or None: random weights.
        freeze: train none of it.
        attention: sdpa or eager; eager takes fairseq's steps (to the same bits, on one CPU that was tried), and is
            slower.
        normalize_input: "utterance" brings each wave to mean 0 and variance 1, as in XLS-R's own pre-training.
        layers: last, weighted, or numbers of hidden states (`qamo.networks.layers`).
        features: float32, or float16, to which they are rounded.
        uninitialized: leave the weights as memory holds them; a strict load must follow.
        asked: sizes by config key; None: as in the file, else as XLS-R 300M. `sizes` has those that it came to.

    Raises:
        InputError: the weights cannot be found or read, or belong to another network, or it has fewer layers.

    Source: arXiv:2111.09296; equal to fairseq @a540213 (tests hold it against the goldens).
    """

    mixed = True
    network: Any  # transformers' Wav2Vec2Model

    def __init__(
        self,
        *,
        weights: str | None,
        freeze: bool,
        normalize_input: str,
        attention: str,
        gradient_checkpointing: bool,
        layers: str | Sequence[int] = "last",
        features: str = "float32",
        uninitialized: bool = False,
        **asked: int | None,
    ):
        super().__init__()
        found = None if weights is None else read_xlsr(weights, asked)
        sizes = XLSR_300M | {key: size for key, size in asked.items() if size} | (found.sizes if found else {})
        if sizes["hidden_size"] % sizes["n_heads"]:
            raise InputError(
                "model.xlsr: hidden_size {hidden_size} is not divisible by n_heads {n_heads}".format(**sizes)
            )
        self.sizes = sizes
        self.recipe = found.recipe if found else Recipe()
        self.frozen = freeze
        n_kept = self.choose(layers, sizes["n_layers"], sizes["hidden_size"], features, "model.xlsr")
        self.normalize_input = normalize_input
        self.plain = attention == "eager"
        self.cpu_pass = xlsr_pass.CPUPass()
        self.gpu_pass = gpu_pass.GPUPass()
        config = _config(sizes, attention=attention, draws=self.recipe.draws)
        self.network = _network(config, found, weights, uninitialized=uninitialized)
        cut(self.network.encoder, n_kept, closing_norm=True)
        self._scale_gradients(self.recipe.feature_grad_mult)
        self.checkpointing = gradient_checkpointing and not freeze
        if self.checkpointing:
            newer = getattr(self.network, "activation_checkpointing_enable", None)
            # The last transformers for Python 3.10 knows the older name only.
            (newer or self.network.gradient_checkpointing_enable)({"use_reentrant": False})
        if freeze:
            self.network.requires_grad_(False)
        self.train(self.training)

    def _scale_gradients(self, factor: float) -> None:
        """Scale the gradient that reaches the convolutions; 0: they are not trained."""
        if factor == 0:
            self.network.freeze_feature_encoder()
        elif factor != 1:

            def scaled(module: nn.Module, args: Any, output: Tensor) -> None:
                if output.requires_grad:
                    output.register_hook(lambda gradient: gradient * factor)

            self.network.feature_extractor.register_forward_hook(scaled)

    @property
    def draws(self) -> bool:
        """Whether training takes steps of transformers' own: the faster ones know no dropout and no scaled gradient."""
        return self.training and (bool(self.recipe.draws) or self.recipe.feature_grad_mult not in (0, 1))

    def train(self, mode: bool = True) -> XLSR:
        self.cpu_pass.forget()
        return super().train(mode and not self.frozen)

    def _apply(self, *args: Any, **kwargs: Any) -> XLSR:
        self.cpu_pass.forget()  # what to() and float() do to weights, autograd does not see
        return super()._apply(*args, **kwargs)

    def encoded(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, F, W), or (B, F, L, W) where layers are chosen."""
        if wave.shape[1] < MIN_SAMPLES:
            raise InputError(
                f"expected waves of at least {MIN_SAMPLES} samples (25 ms), the length of one XLS-R frame, "
                f"found {wave.shape[1]} samples"
            )
        if self.normalize_input == "utterance":
            wave = F.layer_norm(wave, wave.shape[1:])
        if not (self.plain or self.draws):
            if xlsr_pass.usable(self.network, wave):
                return self.cpu_pass(self.network, wave, self.at)
            if gpu_pass.usable(wave):
                return self.gpu_pass(self.network, wave, self.at)
        return hidden_states(self.network, wave, self.at)


def _config(sizes: dict[str, int], *, attention: str, draws: Mapping[str, float]) -> Any:
    """transformers' config of the network."""
    from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config

    make: Any = Wav2Vec2Config  # takes arguments of its base class that its signature does not show
    return make(
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["n_layers"],
        num_attention_heads=sizes["n_heads"],
        intermediate_size=sizes["ffn_size"],
        conv_dim=(sizes["conv_size"],) * 7,
        num_conv_pos_embeddings=sizes["position_kernel"],
        num_conv_pos_embedding_groups=sizes["position_groups"],
        conv_bias=True,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        # transformers' defaults would drop and mask in training.
        **dict.fromkeys(DRAWS.values(), 0.0) | dict(draws),
        layer_norm_eps=LAYER_NORM_EPS,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        attn_implementation=attention,
    )


def _network(config: Any, found: Pretrained | None, weights: str | None, *, uninitialized: bool) -> nn.Module:
    """The network with the weights that were found, with random ones, or with what memory holds."""
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Model

    if found is None and not uninitialized:
        return Wav2Vec2Model(config)
    with torch.device("meta"):  # drawing 317 million weights only to overwrite them takes seconds
        network = Wav2Vec2Model(config)
    network.to_empty(device="cpu")
    if found is not None:
        biases = {
            name: torch.zeros_like(tensor)
            for name, tensor in network.state_dict().items()
            if CONV_BIAS.fullmatch(name) and name not in found.state
        }
        whole = len(biases) == len(network.feature_extractor.conv_layers)
        load_strictly(network, found.state | (biases if whole else {}), f"model.xlsr.weights {weights}")
        check_finite(network.state_dict(), f"model.xlsr.weights {weights}")
        for name in biases if whole else ():  # a network without them, as HuBERT large: zeros that stay zeros
            network.get_parameter(name).requires_grad_(False)
    return network
