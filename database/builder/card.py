"""What is written beside the clips: protocols, lists, keys and the data card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np

from builder import engines
from builder.fetch import Fetched
from builder.recipe import Clip, SetPlan
from qamo.audio import SAMPLE_RATE
from qamo.files import write_text
from qamo.trials.protocol import Row, as_csv, as_list, as_meta, as_protocol
from qamo.trials.ratings import format_mos

OOD_KEYS = "keys/mini_ood"
TEMPLATE = "card.md.j2"


def write_lists(out: Path, sets: list[SetPlan], clips: list[Clip], mos: dict[str, float]) -> None:
    """Protocols with a MOS column; for the In-the-Wild layout a list, meta.csv, and the MOS of its files."""
    for plan in sets:
        mine = [clip for clip in clips if clip.set_name == plan.name]
        rows = [Row(clip.speaker, clip.name, clip.attack, clip.bonafide) for clip in mine]
        rated = [format_mos(clip.name, mos[clip.path]) for clip in mine]
        path, keys = out / plan.protocol, out / OOD_KEYS
        path.parent.mkdir(parents=True, exist_ok=True)
        if not plan.wild:
            write_text(path, as_protocol(rows, rated))
            continue
        keys.mkdir(parents=True, exist_ok=True)
        write_text(path, as_list(row.name for row in rows))
        write_text(keys / "meta.csv", as_meta(rows, speakers=True))
        write_text(keys / "meta.score.txt", as_meta(rows, rated, speakers=True))
        write_text(keys / "engines.csv", as_csv([("file", "attack"), *((row.name, row.attack) for row in rows)]))


def write_readme(
    out: Path,
    identity: dict[str, object],
    sets: list[SetPlan],
    clips: list[Clip],
    mos: dict[str, float],
    packages: Mapping[str, Fetched],
    missing: Mapping[str, str],
) -> None:
    """The data card: its tables are made here, its text stands in the template."""
    by_set = {plan.name: [clip for clip in clips if clip.set_name == plan.name] for plan in sets}
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template(TEMPLATE).render(
        identity=identity,
        clips=clips,
        n_bonafide=sum(clip.bonafide for clip in clips),
        hours=_minutes(clips) / 60,
        ood_keys=OOD_KEYS,
        sets=_sets_table(sets, by_set),
        speakers=_speakers_table(clips, by_set),
        engines=_engines_table(by_set),
        mos=_mos_table(by_set, mos),
        sources=_sources_table(packages),
        missing=missing,
    )
    write_text(out / "README.md", text)


def _minutes(clips: Sequence[Clip]) -> float:
    return sum(clip.n_samples for clip in clips) / SAMPLE_RATE / 60


def _sets_table(sets: list[SetPlan], by_set: dict[str, list[Clip]]) -> str:
    rows = []
    for plan in sets:
        mine = by_set[plan.name]
        n_bonafide = sum(clip.bonafide for clip in mine)
        counts = [n_bonafide, len(mine) - n_bonafide, f"{_minutes(mine):.1f}"]
        rows.append([plan.name, f"`{plan.audio}`", f"`{plan.protocol}`", *counts])
    return _table(["set", "folder", "protocol or list", "bona fide", "spoof", "minutes"], rows)


def _speakers_table(clips: list[Clip], by_set: dict[str, list[Clip]]) -> str:
    def pair(mine: list[Clip]) -> str:
        n = sum(clip.bonafide for clip in mine)
        return f"{n} + {len(mine) - n}" if mine else ""

    rows = [
        [name, language, *(pair([c for c in mine if c.speaker == name]) for mine in by_set.values())]
        for name, language in dict.fromkeys((clip.speaker, clip.language) for clip in clips)
    ]
    return _table(["speaker", "language", *by_set], rows)


def _engines_table(by_set: dict[str, list[Clip]]) -> str:
    rows = []
    for name, engine in engines.ENGINES.items():
        counts = [sum(clip.engine == name for clip in mine) for mine in by_set.values()]
        rows.append([engine.attack, name, engine.kind, engine.package, engine.licence, *counts])
    return _table(["attack", "engine", "kind", "from", "licence", *by_set], rows)


def _mos_table(by_set: dict[str, list[Clip]], mos: dict[str, float]) -> str:
    edges = np.arange(1, 5.01, 0.5)
    rows = []
    for name, mine in by_set.items():
        for bonafide in (True, False):
            values = np.array([mos[clip.path] for clip in mine if clip.bonafide == bonafide])
            counts = Counter(np.clip(np.digitize(values, edges) - 1, 0, len(edges) - 2).tolist())
            low = f"{100 * np.mean(values < 2.5):.0f} %"
            row = [name, "bona fide" if bonafide else "spoof", *(counts[i] for i in range(len(edges) - 1))]
            rows.append([*row, f"{np.median(values):.2f}", low])
    return _table(["set", "class", *(f"{a:.1f}-{a + 0.5:.1f}" for a in edges[:-1]), "median", "below 2.5"], rows)


def _sources_table(packages: Mapping[str, Fetched]) -> str:
    rows = []
    for fetched in packages.values():
        about = fetched.package
        name = f"{about.name} ({fetched.archive.name})"
        rows.append([name, about.holds, about.licence, about.credit, f"`{fetched.sha256[:16]}`"])
    return _table(["package", "holds", "licence", "credit", "sha256"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"
