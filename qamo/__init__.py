"""The parts of QAMO, quality-aware multi-centroid one-class learning for speech deepfake detection.

from qamo import open_judge  # a trained detector, to judge recordings with
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
    if name == "open_judge":  # by name, when it is asked for: the ground imports no room
        return importlib.import_module("qamo.inference.api").open_judge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
