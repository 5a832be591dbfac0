"""The corpus of tones that commands are tested on: benchmarks may not import tests, so it lives there."""

from benchmarks.tiny_corpus import CONFIG, RATE, build, tone

__all__ = ["CONFIG", "RATE", "build", "tone"]
