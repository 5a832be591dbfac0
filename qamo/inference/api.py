"""From Python: open a detector once, judge recordings with it.

from qamo import open_judge

judge = open_judge("exps/NAME")
judge("clip.wav").score
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from qamo import InputError
from qamo.command import sentence
from qamo.inference import recording as recordings
from qamo.inference.judge import Heard, Judgement, PredictMOS, Rule, judge, judge_all
from qamo.inference.recording import Recording
from qamo.inference.scorer import Scorer, open_scorer


class Judge:
    """An open detector: a recording -> its `Judgement`. May be called from several threads.

    A recording is a path, the bytes of a file, an open file, (samples, rate in Hz), or samples at 16 kHz; samples are
    (T,) or (T, channels).
    """

    def __init__(self, scorer: Scorer, rule: Rule, predict_mos: PredictMOS | None = None):
        self.scorer, self.rule, self.predict_mos = scorer, rule, predict_mos

    def __call__(self, recording: Recording, *, channel: Literal["mix", "left", "right"] = "mix") -> Judgement:
        """Judge one recording: the mean of its channels, or one of them.

        Raises:
            InputError: it cannot be read, or the detector gives no finite score.
        """
        if channel == "each":
            raise InputError("channel: expected mix, left or right, found 'each'; `channels` judges each by itself")
        heard = recordings.read(recording, channel=channel)
        return judge(heard, self.scorer, self.rule, path=recordings.name_of(recording), predict_mos=self.predict_mos)

    def channels(self, recording: Recording) -> list[Judgement]:
        """Judge each channel of a recording by itself.

        Raises:
            InputError: as above.
        """
        named = recordings.by_channel(recordings.read(recording, channel="each"), recordings.name_of(recording))
        return [judge(one, self.scorer, self.rule, path=name, predict_mos=self.predict_mos) for name, one in named]

    def each(self, items: Iterable[Recording]) -> Iterator[Judgement]:
        """Judge many, in order; one that cannot be judged has an `error`, and does not stop the others.

        Windows of several short recordings pass the detector together, so that a score may differ from that of the
        recording alone by rounding.

        Raises:
            InputError: it is one recording.
        """
        if isinstance(items, (str, bytes, bytearray, os.PathLike)):
            raise InputError(f"expected several recordings, such as a list of them, found one, {items!r:.60}")
        waiting: list[Judgement | tuple[str, Heard]] = []
        n_samples = 0
        for item in items:
            name = recordings.name_of(item)
            try:
                heard = recordings.read(item)
                waiting.append((name, heard))
                n_samples += len(heard.wave)
            except Exception as error:
                waiting.append(failed(name, error))
            if n_samples >= self.rule.batch_size * self.scorer.window_samples:
                yield from self._judged(waiting)
                waiting, n_samples = [], 0
        yield from self._judged(waiting)

    def _judged(self, waiting: list[Judgement | tuple[str, Heard]]) -> Iterator[Judgement]:
        named = [item for item in waiting if not isinstance(item, Judgement)]
        judged = iter(judge_all(named, self.scorer, self.rule, predict_mos=self.predict_mos) if named else [])
        for item in waiting:
            yield item if isinstance(item, Judgement) else next(judged)


def failed(name: str, error: Exception) -> Judgement:
    """The judgement of a recording that could not be judged: whatever went wrong is that recording's fault."""
    if isinstance(error, (InputError, OSError)):
        return Judgement(name, error=sentence(error))
    return Judgement(name, error=f"{name}: cannot be judged ({type(error).__name__}: {error})")


def open_judge(
    path: Path | str,
    *,
    device: str = "auto",
    threads: int = 0,
    mos: bool = False,
    calibration: Path | str | None = None,
    **settings: Any,
) -> Judge:
    """Open a detector, as inference.py does.

    Args:
        path: run, checkpoint, exported folder or .onnx file.
        device: auto, cpu or cuda.
        threads: of the CPU; 0: as the library chooses.
        mos: predict the speech quality too (DistillMOS; needs PyTorch).
        calibration: file in place of the one kept beside the weights.
        settings: of `qamo.inference.judge.Rule`, such as aggregate="min", threshold=0.3 or skip_pauses=True (--vad).

    Raises:
        InputError: the detector cannot be read, or a setting is out of range.
    """
    rule = Rule(**settings)
    scorer = open_scorer(
        path, device=device, n_threads=threads, calibration_file=None if calibration is None else Path(calibration)
    )
    return Judge(scorer, rule, quality_predictor() if mos else None)


def quality_predictor() -> PredictMOS:
    """DistillMOS.

    Raises:
        InputError: it, or PyTorch, is not installed.
    """
    from qamo.quality.predictors import build_predictor  # a third of the time to --help

    try:
        return build_predictor("distillmos")
    except ImportError as error:
        raise InputError(f"--mos: the quality predictor needs PyTorch ({error}); leave --mos out") from None
