"""A corpus of one-second tones for tests and benchmarks: 24 training, 12 dev and two evaluation sets of 10 files.

Bona fide files are harmonic, spoofed ones are not, so that a small detector learns the difference in two epochs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def tone(rng: np.random.Generator, bonafide: bool, n_samples: int = RATE) -> np.ndarray:
    """A buzz with a random pitch; harmonic when bona fide, stretched partials when not: (n_samples,) float32."""
    t = np.arange(n_samples) / RATE
    pitch_hz = rng.uniform(100, 200)
    partials = np.arange(1, 12) if bonafide else np.arange(1, 12) ** 1.2
    wave = sum(np.sin(2 * np.pi * pitch_hz * k * t + rng.uniform(0, 6)) / k for k in partials)
    return (0.1 * wave + 0.005 * rng.normal(size=n_samples)).astype(np.float32)


def build(root: Path, *, n_train: int = 24, n_dev: int = 12, n_eval: int = 10) -> Path:
    """Write corpus, protocols, lists, keys and config.yaml below `root`; returns the path of the config."""
    rng = np.random.default_rng(0)
    for part, n in (("train", n_train), ("dev", n_dev), ("seen", n_eval)):
        folder = root / "LA" / part / "flac"
        folder.mkdir(parents=True)
        lines = []
        for i in range(n):
            bonafide = i % 3 == 0
            soundfile.write(folder / f"T_{part}_{i:03d}.flac", tone(rng, bonafide), RATE)
            label, attack = ("bonafide", "-") if bonafide else ("spoof", "A01")
            lines.append(f"SPK_{i % 4} T_{part}_{i:03d} - {attack} {label} {2 + 0.2 * (i % 10):.2f}\n")
        (root / f"{part}.txt").write_text("".join(lines))
    wild = root / "wild"
    wild.mkdir()
    rows = ["file,speaker,label\n"]
    for i in range(n_eval):
        soundfile.write(wild / f"{i}.wav", tone(rng, i % 2 == 0, RATE // 2), RATE)
        rows.append(f"{i}.wav,Speaker {i % 3},{'bona-fide' if i % 2 == 0 else 'spoof'}\n")
    (root / "meta.csv").write_text("".join(rows))
    (root / "wild.txt").write_text("".join(f"{i}.wav\n" for i in range(n_eval)))
    config = root / "config.yaml"
    config.write_text(CONFIG.format(root=root))
    return config


CONFIG = """
data:
  database_path: {root}
  protocols_path: {root}
  train_audio: LA/train/flac
  train_protocol: train.txt
  dev_audio: LA/dev/flac
  dev_protocol: dev.txt
  window_samples: 8000
  n_workers: 0
model:
  frontend: lfcc
  conformer_tcm: {{embedding_size: 16, n_heads: 2, kernel_size: 7, n_blocks: 1}}
train:
  batch_size: 6
  max_epochs: 3
  patience: 3
  n_best: 2
  n_average: 2
  lr: 0.003
eval:
  sets: [seen, wild]
  n_resamples: 100
  catalogue:
    seen: {{audio: LA/seen/flac, trials: seen.txt, extension: .flac, keys: seen.txt}}
    wild: {{audio: wild, trials: wild.txt, keys: meta.csv}}
run:
  runs: {root}/exps
  n_threads: 1
"""
