"""The parts of QAMO, quality-aware multi-centroid one-class learning for speech deepfake detection."""

from __future__ import annotations

__version__ = "0.1.0"


class InputError(Exception):
    """Something that the person at the keyboard must correct.

    The message is one sentence: where (file:line or dotted key), what was expected, what was found,
    and what to do. Commands print it after their name and exit with status 2.
    """
