"""LFCC against a version with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from qamo import InputError
from qamo.config.schema import LFCCConfig
from qamo.networks.lfcc import LFCC
from tests.support.xlsr import wave


def lfcc(**changes):
    return LFCC(**LFCCConfig.model_validate(changes).model_dump())


def test_lfcc_equals_a_version_with_scipy():
    x = wave(5000, 1)[0].double().numpy()
    emphasised = np.append(x[0], x[1:] - 0.97 * x[:-1])
    cepstra = []
    for start in range(0, len(x) - 320 + 1, 160):
        power = np.abs(np.fft.fft(emphasised[start : start + 320] * np.hamming(320), 512)[:257]) ** 2
        energies = []
        for i in range(20):
            low, center, high = (8000 * (i + j) / 21 for j in range(3))
            hz = np.arange(257) * 16_000 / 512
            triangle = np.interp(hz, [low, center, high], [0, 1, 0], left=0, right=0)
            energies.append(triangle @ power)
        floored = np.array(energies) + np.finfo(np.float32).eps
        cepstra.append(scipy.fft.dct(np.log10(floored), norm="ortho"))
    static = np.array(cepstra)

    def delta(v):
        padded = np.concatenate([v[:1], v, v[-1:]])
        return padded[2:] - padded[:-2]

    expected = np.concatenate([static, delta(static), delta(delta(static))], axis=1)
    found = lfcc()(torch.from_numpy(x).float()[None])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)
    assert found.shape == (30, 60)


def test_lfcc_has_no_weights_and_keeps_silence_finite():
    frontend = lfcc()
    assert frontend.frozen
    assert frontend.dim == 60
    assert list(frontend.parameters()) == []
    assert not frontend.state_dict()
    assert torch.isfinite(frontend(torch.zeros(1, 1000))).all()


def test_lfcc_settings_that_cannot_be():
    with pytest.raises(InputError, match="n_coefficients 21"):
        lfcc(n_coefficients=21)
    with pytest.raises(InputError, match="window of 640 samples"):
        lfcc(window_ms=40.0)
    with pytest.raises(InputError, match="found 319"):
        lfcc()(torch.zeros(1, 319))
