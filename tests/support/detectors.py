"""Tiny detectors with random weights, and batches for them."""

from __future__ import annotations

import numpy as np
import torch

import model
from benchmarks.tiny_corpus import tone
from model import Detector, build_detector
from qamo.config.load import load_config
from qamo.config.parts import ModelConfig
from qamo.training.loader import Batch
from tests.support.xlsr import TINY

BACKENDS = ["conformer_tcm", "nes2net"]


TINY_XLSR = {**TINY, "weights": None, "hidden_size": 64}


def config(backend, **more):
    tree = {"backend": backend, "xlsr": TINY_XLSR, "conformer_tcm": {"embedding_size": 24, "n_blocks": 2}}
    return ModelConfig.model_validate({**tree, "nes2net": {"n_groups": 4, "scale": 4}, **more})


def detector(backend, **more):
    torch.manual_seed(0)
    detect = model.build_detector(config(backend, **more)).eval()
    with torch.no_grad():
        for parameter in detect.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return detect


TINY_BACKEND = {
    "model.conformer_tcm.embedding_size": 16,
    "model.conformer_tcm.n_heads": 2,
    "model.conformer_tcm.kernel_size": 7,
    "model.conformer_tcm.n_blocks": 1,
}


LFCC = {"model.frontend": "lfcc", **TINY_BACKEND}


XLSR = {
    "model.frontend": "xlsr",
    "model.xlsr.weights": None,
    "model.xlsr.hidden_size": 64,
    "model.xlsr.n_layers": 2,
    "model.xlsr.n_heads": 4,
    "model.xlsr.ffn_size": 64,
    "model.xlsr.conv_size": 32,
    "model.xlsr.position_kernel": 16,
    "model.xlsr.position_groups": 4,
    **TINY_BACKEND,
}


def model_config(**keys) -> ModelConfig:
    return load_config(None, keys).model


def detector_of(keys: dict, **more) -> Detector:
    torch.manual_seed(0)
    return build_detector(model_config(**{**keys, **more}))


def batch_of(rng: np.random.Generator, n: int, first: int = 0) -> Batch:
    bonafide = torch.arange(n) % 3 == 0
    waves = np.stack([tone(rng, bool(b), 4000) for b in bonafide])
    quality = torch.arange(n) % 2
    return Batch(torch.from_numpy(waves), bonafide, quality, torch.arange(first, first + n), torch.zeros(n) > 0)
