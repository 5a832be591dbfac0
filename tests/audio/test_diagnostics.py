"""What is measured of a recording, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from qamo.audio import diagnostics
from qamo.audio.diagnostics import cautions, domain_of, measure, not_speech


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


SECONDS = np.arange(80_000) / 16_000


def sine(hz):
    return np.sin(2 * np.pi * hz * SECONDS)


def notes(seed, decay=2.0):
    """Two notes a second out of a scale, with six harmonics, over a chord."""
    rng = np.random.default_rng(seed)
    wave = np.zeros(80_000)
    for start in range(0, 80_000, 8_000):
        t = np.arange(8_000) / 16_000
        for hz in (440 * 2 ** (rng.choice([0, 2, 4, 7, 9]) / 12), 220, 277, 330):
            tone = sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 7))
            wave[start : start + 8_000] += tone * np.exp(-decay * t) * np.minimum(1, t / 0.01)
    return wave


@pytest.mark.parametrize(
    "wave",
    [
        sine(440),
        sine(1_000) * (SECONDS % 1 < 0.3),
        (sine(697) + sine(1_209)) * (SECONDS % 0.2 < 0.1),
        sine(261) + sine(329) + sine(392),
        np.sign(sine(300)),
        np.sin(2 * np.pi * (200 * SECONDS + 300 * SECONDS**2)),
        noise(5),
        noise(5) * (SECONDS % 0.5 < 0.2),
        notes(0),
        notes(1, decay=5.0),
        np.tile(notes(2), 12),
    ],
    ids=["tone", "beeps", "dialling", "chord", "buzzer", "sweep", "noise", "bursts", "notes", "plucked", "a minute"],
)
def test_tones_noise_and_music_are_no_speech(wave):
    sign = not_speech((0.1 * wave).astype(np.float32))
    assert sign is not None
    assert sign.code == "not speech"


def syllables(seed, glide=0.3):
    """A buzz whose pitch glides, through a formant that moves, four times a second, and hiss between."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(20):
        t = np.arange(2_400) / 16_000
        hz, end = rng.uniform(90, 220), rng.uniform(1 - glide, 1 + glide)
        phase = 2 * np.pi * hz * (t + (end - 1) * t**2 / 0.3)
        formant = rng.uniform(400, 2_500)
        buzz = sum(
            np.sin(k * phase) * np.exp(-(((k * hz - formant) / 600) ** 2)) for k in range(1, 30) if k * hz < 7_500
        )
        parts += [buzz * np.hanning(2_400), 0.2 * np.diff(rng.normal(size=801)), np.zeros(800)]
    return (0.1 * np.concatenate(parts)).astype(np.float32)


def test_what_moves_as_speech_does_is_left_alone():
    for seed in range(5):
        assert not_speech(syllables(seed)) is None
        assert not_speech(syllables(seed) + 0.003 * noise(5, level=1.0)[:80_000]) is None
    assert not_speech(noise(0.5)) is None  # too short to tell
    assert not_speech(np.zeros(80_000, np.float32)) is None  # silence has its own words


def test_speech_after_a_little_music_is_speech():
    music = (0.1 * notes(0)).astype(np.float32)
    assert not_speech(np.concatenate([music, *(syllables(i) for i in range(5))])) is None
