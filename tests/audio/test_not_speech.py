"""What is told from speech, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from qamo.audio.not_speech import not_speech


def noise(seconds, level=0.1):
    return (level * np.random.default_rng(0).normal(size=int(16_000 * seconds))).astype(np.float32)


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
