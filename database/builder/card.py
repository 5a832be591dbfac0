"""What is written beside the clips: protocols, lists, keys and the data card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from builder import engines
from builder.recipe import Clip, SetPlan
from builder.sources import Fetched
from qamo.files import write_text

OOD_KEYS = "keys/mini_ood"


def write_lists(out: Path, sets: list[SetPlan], clips: list[Clip], mos: dict[str, float]) -> None:
    """Protocols with a MOS column; for the In-the-Wild layout a list, meta.csv, and the MOS of its files."""
    for plan in sets:
        mine = [clip for clip in clips if clip.set_name == plan.name]
        path = out / plan.protocol
        path.parent.mkdir(parents=True, exist_ok=True)
        if not plan.wild:
            lines = [f"{clip.speaker} {clip.name} - {clip.attack} {_label(clip)} {mos[clip.path]:.4f}" for clip in mine]
            write_text(path, "\n".join(lines) + "\n")
            continue
        write_text(path, "\n".join(clip.name for clip in mine) + "\n")
        keys = out / OOD_KEYS
        keys.mkdir(parents=True, exist_ok=True)
        rows = [(clip.name, clip.speaker, "bona-fide" if clip.bonafide else "spoof", clip) for clip in mine]
        write_text(keys / "meta.csv", "file,speaker,label\n" + "".join(f"{a},{b},{c}\n" for a, b, c, _ in rows))
        write_text(keys / "meta.score.txt", "".join(f"{a},{b},{c},{mos[clip.path]:.4f}\n" for a, b, c, clip in rows))
        write_text(keys / "engines.csv", "file,attack\n" + "".join(f"{a},{clip.attack}\n" for a, _, _, clip in rows))


def write_readme(
    out: Path,
    identity: dict[str, object],
    sets: list[SetPlan],
    clips: list[Clip],
    mos: dict[str, float],
    got: dict[str, Fetched],
    missing: dict[str, str],
) -> None:
    """The data card."""
    n_bonafide = sum(clip.bonafide for clip in clips)
    hours = sum(clip.n_samples for clip in clips) / 16_000 / 3600
    by_set = {plan.name: [clip for clip in clips if clip.set_name == plan.name] for plan in sets}
    parts = [
        "# The mini corpus\n",
        f"{n_bonafide} human and {len(clips) - n_bonafide} synthetic clips of 3 to 6 s ({hours:.2f} h, 16 kHz), built "
        f"on this machine by `database/build_mini.py --size {identity['size']} --seed {identity['seed']}` "
        f"(recipe {identity['recipe']}, variant `{identity['kind']}`) from packages of Debian and PyPI.\n",
        "**What it is for:** running the whole program on real speech without a download of many gigabytes, and "
        "comparing methods with each other on small data. **What it is not for:** saying how well a detector works. "
        "Few speakers, one or two recording conditions each, old synthesisers beside one small neural one, a single "
        "speaker carrying much of each evaluation set. Its figures say nothing about ASVspoof or In-the-Wild, and "
        "an interval over clips leaves out the spread over speakers.\n",
    ]
    if identity["kind"] == "pypi":
        parts.append(
            "**This is the small variant, built without Debian's packages: too small for a meaningful EER.**\n"
        )
    parts += [
        "## Sets\n",
        _table(
            ["set", "folder", "protocol or list", "bona fide", "spoof", "minutes"],
            [
                [
                    *(plan.name, f"`{plan.audio}`", f"`{plan.protocol}`"),
                    *(sum(c.bonafide for c in by_set[plan.name]), sum(not c.bonafide for c in by_set[plan.name])),
                    f"{sum(c.n_samples for c in by_set[plan.name]) / 16_000 / 60:.1f}",
                ]
                for plan in sets
            ],
        ),
        "Nobody who speaks in `train` or `dev` is heard in another set. The evaluation sets share people, never a "
        f"recording; `ood` sends each clip through another channel. Labels of `ood`: `{OOD_KEYS}/meta.csv`.\n",
        "## Speakers (bona fide, spoof standing against them)\n",
        _table(
            ["speaker", "language", *(plan.name for plan in sets)],
            [
                [name, language, *(_pair([c for c in by_set[plan.name] if c.speaker == name]) for plan in sets)]
                for name, language in dict.fromkeys((clip.speaker, clip.language) for clip in clips)
            ],
        ),
        "## Engines\n",
        _table(
            ["attack", "engine", "kind", "from", "licence", *(plan.name for plan in sets)],
            [
                [
                    *(engine.attack, name, engine.kind, engine.package, engine.licence),
                    *(sum(c.engine == name for c in by_set[plan.name]) for plan in sets),
                ]
                for name, engine in engines.ENGINES.items()
            ],
        ),
        "## MOS (DistillMOS 0.9.1), clips in each half point\n",
        _mos_table(sets, by_set, mos),
        "## How a clip is made\n",
        "Of either class alike: recordings of one voice joined until a length drawn from 3 to 6 s; DC removed; silence "
        "at the ends and inner pauses above 0.3 s cut (38 dB below the loudest frame); a random spectral tilt; the "
        "codec of the human source (G.722, Vorbis); a channel, the same for a bona fide clip and the spoofs beside "
        "it (three in five clean, one 8 kHz telephone, one pink noise at 5 to 15 dB; in `ood` low-rate codecs "
        "instead of clean); a level drawn from -32 to -20 dBFS; pink noise at -60 dBFS; 16 bit. A synthetic voice "
        "passes that codec once more, where the human one was recorded through it. Voices speak the texts of the set's "
        "own language; vocoders work on the set's own human clips. Two spoofs to one bona fide clip in every language."
        "\n",
        "## Sources\n",
        "Nothing here is redistributed by the project. If you pass these clips on, the licences below bind you: "
        "share-alike for the Asterisk prompts, GPL for the game's dialogue.\n",
        _table(
            ["package", "holds", "licence", "credit", "sha256"],
            [
                [f"{i.package.name} ({i.archive.name})", i.package.holds, i.package.licence, i.package.credit]
                + [f"`{i.sha256[:16]}`"]
                for i in got.values()
            ],
        ),
    ]
    if missing:
        parts.append("Not to be had when this was built: " + "; ".join(f"{k} ({v})" for k, v in missing.items()) + "\n")
    write_text(out / "README.md", "\n".join(parts))


def _label(clip: Clip) -> str:
    return "bonafide" if clip.bonafide else "spoof"


def _pair(clips: list[Clip]) -> str:
    n = sum(clip.bonafide for clip in clips)
    return f"{n} + {len(clips) - n}" if clips else ""


def _mos_table(sets: list[SetPlan], by_set: dict[str, list[Clip]], mos: dict[str, float]) -> str:
    edges = np.arange(1, 5.01, 0.5)
    rows = []
    for plan in sets:
        for bonafide in (True, False):
            values = np.array([mos[clip.path] for clip in by_set[plan.name] if clip.bonafide == bonafide])
            counts = Counter(np.clip(np.digitize(values, edges) - 1, 0, len(edges) - 2).tolist())
            share = f"{100 * np.mean(values < 2.5):.0f} %"
            row = [plan.name, "bona fide" if bonafide else "spoof", *(counts[i] for i in range(len(edges) - 1))]
            rows.append([*row, f"{np.median(values):.2f}", share])
    header = ["set", "class", *(f"{a:.1f}-{a + 0.5:.1f}" for a in edges[:-1]), "median", "below 2.5"]
    return _table(header, rows)


def _table(header: list[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"
