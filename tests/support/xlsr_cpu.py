"""A tiny XLS-R computed in two ways."""

from __future__ import annotations

import copy

import torch

from qamo.config.parts import XLSRConfig
from qamo.networks import gpu_pass
from qamo.networks.cpu import xlsr_pass
from qamo.networks.xlsr import XLSR
from tests.support import tiny_models


def xlsr(**changes):
    torch.manual_seed(0)
    frontend = XLSR(**XLSRConfig.model_validate(tiny_models.XLSR | changes).model_dump())
    for parameter in frontend.parameters():  # biases and norms too, which start as 0 and 1
        parameter.data += 0.05 * torch.randn_like(parameter)
    return frontend.eval()


def both(**changes):
    """A front end that takes the faster way, and one with the same weights that does not."""
    fast = xlsr(**changes)
    plain = copy.deepcopy(fast)
    plain.plain = True
    return fast, plain


def waves(n_waves, n_samples, seed=0):
    return 0.1 * torch.randn(n_waves, n_samples, generator=torch.Generator().manual_seed(seed))


def taken(monkeypatch, kind):
    """The shapes of the waves that a pass of this kind, CPUPass or GPUPass, is from now on taken for."""
    shapes = []
    original = kind.__call__

    def counting(self, network, wave, at=None):
        shapes.append(wave.shape)
        return original(self, network, wave, at)

    monkeypatch.setattr(kind, "__call__", counting)
    return shapes


def go_as_on_a_gpu(monkeypatch):
    """XLS-R takes a GPU's way on the CPU."""
    monkeypatch.setattr(xlsr_pass, "usable", lambda network, wave: False)
    monkeypatch.setattr(gpu_pass, "usable", lambda wave: True)
