"""What is measured of a recording, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from qamo.audio import diagnostics
from qamo.audio.diagnostics import cautions, domain_of, measure


def noise(seconds=2.0, level=0.1, seed=0):
    return (level * np.random.default_rng(seed).normal(size=int(16_000 * seconds))).astype(np.float32)


def codes(wave, domain=None, **more):
    return [caution.code for caution in cautions(measure(wave), domain, **more)]


def test_a_sine_has_its_level_and_its_band():
    wave = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(32_000) / 16_000).astype(np.float32)
    facts = measure(wave)
    assert facts.level_dbfs == pytest.approx(-9.03, abs=0.05)
    assert 1_000 <= facts.bandwidth_hz <= 1_500
    assert facts.duration_s == 2.0
    assert facts.speech_share == 1.0


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000])
def test_the_band_ends_where_an_earlier_rate_cut_it(rate):
    narrow = soxr.resample(soxr.resample(noise(), 16_000, rate), rate, 16_000)
    assert measure(narrow).bandwidth_hz == pytest.approx(rate / 2, abs=300)
    assert measure(noise()).bandwidth_hz == 8_000


def test_telephone_speech_is_named_where_the_model_knows_wider_speech():
    domain = domain_of(measure(noise(seed=i)) for i in range(10))
    narrow = soxr.resample(soxr.resample(noise(), 16_000, 8_000), 8_000, 16_000)
    assert codes(narrow, domain) == ["bandwidth"]
    assert codes(noise(seed=99), domain) == []
    assert codes(narrow, domain_of([measure(narrow)])) == []  # a model of telephone speech is at home there


def test_clipping_silence_shortness_and_pauses_are_named():
    assert codes(np.clip(20 * noise(), -1, 1)) == ["clipping"]
    assert codes(np.zeros(16_000, np.float32)) == ["silence"]
    assert codes(1e-5 * noise()) == ["silence"]
    assert codes(noise(0.4)) == ["short"]
    assert codes(np.concatenate([noise(0.5), np.zeros(80_000, np.float32)])) == ["speech"]
    assert "1 s" not in cautions(measure(np.zeros(16_000, np.float32)))[0].text


def test_a_low_mos_is_named_only_where_it_is_known_what_is_usual():
    assert codes(noise(), {"mos_low": 2.5}, mos=1.9) == ["mos"]
    assert codes(noise(), {"mos_low": 2.5}, mos=2.6) == []
    assert codes(noise(), None, mos=1.0) == []


@pytest.mark.parametrize("n_samples", [2, 5, 319, 320, 321, 511, 513])
def test_a_few_samples_are_measured_too(n_samples):
    facts = measure(noise()[:n_samples])
    assert np.isfinite(facts.level_dbfs)
    assert 0 < facts.bandwidth_hz <= 8_000


def test_frames_of_a_pause_are_not_speech():
    wave = np.concatenate([noise(1.0), np.zeros(16_000, np.float32), noise(1.0)])
    speech = diagnostics.speech_frames(wave)
    assert len(speech) == 150
    assert speech[:50].all()
    assert not speech[60:90].any()
    assert speech[100:].all()
