"""The section of the worst errors: for each system the trials that it gets most wrong, with their recordings."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import soundfile
from markupsafe import Markup

from qamo import InputError
from qamo.audio import SAMPLE_RATE
from qamo.audio.load import read
from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import System
from qamo.report.page import Section
from qamo.report.subject import Subject
from qamo.report.tables import Column, Table, in_prose
from qamo.trials.recordings import find_recording

N_DETAILS = 4  # columns of the key that are shown of each trial
CLIP_S = 6  # of a recording that the page holds
CLIPS_BYTES = 3_000_000  # of all recordings in the page; the rest are links to files


class Clips:
    """The recordings of a page: the first seconds of each once, or links to the files where the page is full.

    Attributes:
        by_id: data URIs by the ids that the players name.
    """

    def __init__(self, folder: Path, page_folder: Path):
        self.folder = folder
        self.page_folder = page_folder
        self.by_id: dict[str, str] = {}

    def player(self, name: str, id: str) -> Markup | str:
        """A player for the trial of that name.

        On narrow screens a button takes the place of the browser's own controls, which drop theirs when squeezed.
        """
        path = find_recording(self.folder, name)
        if path is None:
            return "no such file"
        source = Markup('data-clip="{}"').format(id)
        if id not in self.by_id and sum(map(len, self.by_id.values())) >= CLIPS_BYTES:
            source = Markup('src="{}"').format(quote(os.path.relpath(path, self.page_folder)))
        elif id not in self.by_id:
            try:
                self.by_id[id] = as_clip(read(path).wave)
            except InputError:
                return "unreadable"
        return Markup(
            '<button type="button" class="play" aria-label="{label}">▶</button>'
            '<audio controls preload="none" aria-label="{label}" {source}></audio>'
        ).format(label=f"Play {name}", source=source)


def errors(subject: Subject, n_worst: int, clips: Clips | None) -> Section:
    """Of each system the bona fide trials that it scores lowest and the spoofed ones that it scores highest."""
    lead = (
        "Half bona fide speech that was rejected with the lowest scores, half spoofed speech that was accepted with "
        "the highest. Names that stand here for several systems are worth a look at their labels."
    )
    tables = [worst_table(subject, system, k, n_worst, clips) for k, system in enumerate(subject.systems)]
    return Section("errors", "Worst errors", lead, [*tables])


def worst_table(subject: Subject, system: System, k: int, n_worst: int, clips: Clips | None) -> Table:
    names, of_key = subject.keys.names, subject.keys.columns
    bonafide, spoof = breakdown.worst(system, -(-n_worst // 2))
    mistakes = [*bonafide, *spoof]
    indices = [mistake.place for mistake in mistakes]
    columns: list[tuple[Column, list[Any]]] = [
        (Column("trial"), [names[i] for i in indices]),
        (Column("is"), ["bona fide"] * len(bonafide) + ["spoof"] * len(spoof)),
    ]
    if clips:
        columns.append((Column("listen", "raw_html"), [clips.player(names[i], f"trial-{i}") for i in indices]))
    columns += [
        (Column("score", "number"), [mistake.score for mistake in mistakes]),
        (Column("beyond threshold by", "number"), [mistake.excess for mistake in mistakes]),
    ]
    details = [name for name in of_key if name not in ("mos", "subset") and len(subject.factor(name).levels) > 1]
    columns += [(Column(name), [of_key[name][i] for i in indices]) for name in details[:N_DETAILS]]
    if subject.mos is not None:
        columns.append((Column("MOS", "number"), subject.mos[indices].tolist()))
    note = f"Decisions at the threshold {in_prose(system.threshold)}; distances in standard deviations of all scores."
    return Table.of_columns(f"worst{subject.suffix(k)}", f"Worst errors of {system.label}", columns, note)


def as_clip(wave: np.ndarray) -> str:
    """The start of a wave as a data URI of FLAC, which loses nothing that an ear could be asked to judge."""
    out = io.BytesIO()
    soundfile.write(out, wave[: CLIP_S * SAMPLE_RATE], SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(out.getvalue()).decode("ascii")
