"""From Python: `open_judge(detector)` gives a function, the path of a recording -> its judgement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qamo.inference import recording
from qamo.inference.judge import Judgement, Rule, judge
from qamo.inference.scorer import open_scorer


def open_judge(path: Path | str, *, device: str = "auto", **settings: Any) -> Callable[[Path | str], Judgement]:
    """inference.py as a function: the path of a recording -> its judgement, with what the command writes as JSON.

        judge = open_judge("detector")
        judge("clip.wav").score

    Args:
        path: run, checkpoint, exported folder or .onnx file.
        device: auto, cpu or cuda.
        settings: of `qamo.inference.judge.Rule`, such as aggregate="min", threshold=0.3 or skip_pauses=True (--vad).

    Raises:
        InputError: the detector cannot be read; from the function it returns: the recording cannot be.
    """
    rule = Rule(**settings)
    scorer = open_scorer(path, device=device)
    return lambda file: judge(recording.read(Path(file)), scorer, rule, path=str(file))
