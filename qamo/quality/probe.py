"""What augmentation does to the MOS of some utterances: before, after, and what was drawn for each.

A sample of it is kept in the run folder as JSON, {"utterances": [a row each]}, which the report draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from qamo.audio import load as audio
from qamo.audio.augmentation import Augmentation, Plan
from qamo.audio.channel import Drawn
from qamo.files import write_json
from qamo.trials.protocol import Trials

N_PROBED = 16  # utterances that each start with data.quality.augmented=predict listens to, twice each
N_KEPT = 100  # those in a run folder's sample; 25 s of CPU, once


class Source(Protocol):
    """What is asked of a training set."""

    trials: Trials
    paths: Sequence[Path]
    augmentation: Augmentation
    mos_of: Callable[[np.ndarray], float] | None


class Probe(NamedTuple):
    """An utterance, what augmentation does to it in an epoch, and its MOS."""

    name: str
    epoch: int
    plan: Plan
    mos: float  # by the protocol
    mos_before: float  # predicted, as the next
    mos_after: float

    def row(self) -> dict[str, Any]:
        """All of it by name, on one level; None for what was not drawn."""
        values = self._asdict()
        plan: Plan = values.pop("plan")
        return {**values, "rawboost": plan.rawboost, **(plan.channel or Drawn())._asdict()}


def probe(source: Source, n: int = N_PROBED) -> list[Probe]:
    """`n` bona fide utterances from all over a set that predicts MOS, as they are and as they are first augmented."""
    trials, augmentation, mos_of = source.trials, source.augmentation, source.mos_of
    assert mos_of is not None
    indices = np.flatnonzero(trials.bonafide)
    found = []
    for index in indices[:: max(1, len(indices) // n)][:n].tolist():
        wave, epoch = audio.load(source.paths[index]), augmentation.first_epoch(index)
        before, after = mos_of(wave), mos_of(augmentation(wave, epoch, index)[0])
        plan = augmentation.plan(epoch, index)
        found.append(Probe(trials.names[index], epoch, plan, float(trials.mos[index]), before, after))
    return found


def write_sample(path: Path, source: Source, n: int = N_KEPT) -> None:
    write_json(path, {"utterances": [one.row() for one in probe(source, n)]})
