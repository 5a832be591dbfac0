"""The parts of QAMO, quality-aware multi-centroid one-class learning for speech deepfake detection.

from qamo import open_judge  # a trained detector, to judge recordings with

Its types for editors and checkers: __init__.pyi.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"


class InputError(Exception):
    """Something that the person at the keyboard must correct.

    The message is one sentence: where (file:line or dotted key), what was expected, what was found,
    and what to do. Commands print it after their name and exit with status 2.
    """


def __getattr__(name: str) -> Any:
    if name in ("open_judge", "Judge", "Judgement"):  # when they are asked for: the ground imports no room
        return getattr(importlib.import_module("qamo.inference.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
