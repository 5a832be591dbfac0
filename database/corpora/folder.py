"""One's own data: a folder of real and a folder of fake recordings, to lists, a split, MOS and a config."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from corpora.plan import Plan
from corpora.search import some
from qamo import InputError
from qamo.command import typed
from qamo.files import from_here, sha256
from qamo.trials.names import fault_of_name
from qamo.trials.protocol import as_csv
from qamo.trials.ratings import format_mos
from qamo.trials.recordings import check_recordings, recordings_in

SHARES = {"train": 0.6, "dev": 0.2, "eval": 0.2}
LEAST = 20  # training recordings: one batch
LEAST_SPEAKERS = 5  # real ones, below which recordings are split and not speakers
RECIPE = Path(__file__).parents[1] / "mini.yaml"  # a detector that a laptop trains
KEPT = {"data": ("quality", "rawboost", "n_workers"), "model": (), "train": (), "run": ()}  # (): a whole section
SPEAKERS = ("auto", "folders", "prefix", "none")


@dataclass(frozen=True)
class Clip:
    """A recording, as a line of the lists."""

    name: str
    path: Path
    real: bool
    speaker: str  # "-" where nothing tells
    attack: str


def prepare_folder(plan: Plan, real: Path, fake: Path, name: str, *, speakers: str, predicts: bool, jobs: int) -> None:
    """Lists, links and a config of one's own data, below `plan.to / name`.

    Args:
        speakers: what tells a speaker: folders, prefix (of a file's name), none, or auto.
        predicts: whether MOS are predicted where `plan.mos` has none.

    Raises:
        InputError: recordings that are unreadable, have unsafe names or both labels; or too few.
    """
    home = plan.to / name
    clips, how = _clips(real, fake, speakers, linked=plan.links_recordings)
    paths = [clip.path for clip in clips]
    check_recordings(paths, what="own data", where="--real and --fake", how="full" if predicts else "header")
    clips, copies = _without_copies(clips)
    parts, warning = split(clips)
    plan.advice += [how, *copies, *warning]
    mos = _mos(plan, clips, home, predicts=predicts, jobs=jobs)
    for part, indices in parts.items():
        chosen = [clips[i] for i in indices]
        plan.write(f"{name}/{part}.csv", _table(chosen, [mos[i] for i in indices] if mos else None))
        n_real = sum(clip.real for clip in chosen)
        known = len({clip.speaker for clip in chosen} - {"-"})
        plan.advice.append(f"{part}: {n_real} real and {len(chosen) - n_real} fake recordings, {known} speakers")
    if plan.links_recordings:
        plan.link(f"{name}/real", real.resolve())
        plan.link(f"{name}/fake", fake.resolve())
    plan.write(f"{name}/config.yaml", _config(home, name, has_mos=mos is not None))
    plan.then.append(typed("main", "--config", from_here(home / "config.yaml")))


def split(clips: Sequence[Clip], seed: int = 0) -> tuple[dict[str, list[int]], list[str]]:
    """Indices of the recordings for training, dev and evaluation; no speaker is in two of them.

    Largest groups first, each to the part that lacks most of what it holds. A recording whose speaker is not known is
    a group of its own. With fewer than 5 real speakers, all are.

    Returns:
        The parts, and what a person should know of them.

    Raises:
        InputError: a part would lack one of the classes, or training one batch.
    """
    known = {clip.speaker for clip in clips if clip.real} - {"-"}
    by_speaker = len(known) >= LEAST_SPEAKERS
    groups: dict[object, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips):
        groups[clip.speaker if by_speaker and clip.speaker != "-" else i].append(i)
    order = np.random.default_rng(seed).permutation(len(groups))
    shuffled = sorted((list(groups.values())[k] for k in order), key=len, reverse=True)
    total = np.array([sum(clip.real for clip in clips), sum(not clip.real for clip in clips)])
    lacking = {part: share * np.maximum(total, 1) for part, share in SHARES.items()}
    goal = {part: lacks.copy() for part, lacks in lacking.items()}
    parts: dict[str, list[int]] = {part: [] for part in SHARES}
    for group in shuffled:
        n_real = sum(clips[i].real for i in group)
        holds = np.array([n_real, len(group) - n_real])
        part = max(SHARES, key=lambda p: float((holds * lacking[p] / goal[p]).sum()))
        lacking[part] -= holds
        parts[part] += group
    for part, indices in parts.items():
        if len({clips[i].real for i in indices}) < 2 or len(parts["train"]) < LEAST:
            raise InputError(
                f"--real, --fake: {total[0]} real recordings of {len(known) or 'unknown'} speakers and {total[1]} fake "
                f"ones are too few: {part} would hold {len(indices)}; expected at least {LEAST} for training and both "
                "classes in each part"
            )
    return {part: sorted(indices) for part, indices in parts.items()}, _warning(clips, known, by_speaker)


def _warning(clips: Sequence[Clip], known: set[str], by_speaker: bool) -> list[str]:
    alone = [clip for clip in clips if not by_speaker or clip.speaker == "-"]
    if not alone:
        return []
    what = f"all {len(clips)} recordings" if len(alone) == len(clips) else f"{len(alone)} of {len(clips)} recordings"
    why = f"names tell {len(known)} real speakers" if not by_speaker else "names tell no speaker"
    return [
        f"warning: {what} are split one by one ({why}), so a speaker may be in training and evaluation, whose error "
        "would be too low; one folder for each speaker, or --speakers prefix, tells them apart"
    ]


# ---- what is there


def _clips(real: Path, fake: Path, speakers: str, *, linked: bool) -> tuple[list[Clip], str]:
    """All recordings, and how their speakers were found out."""
    found = {label: _found(folder, label, linked=linked) for label, folder in (("real", real), ("fake", fake))}
    inner = [path.relative_to(real.resolve()) for _, path in found["real"]]
    how, of_real = _speakers(inner, speakers)
    known = set(of_real) - {"-"}
    clips = [Clip(name, path, True, who, "-") for (name, path), who in zip(found["real"], of_real)]
    fake_inner = [path.relative_to(fake.resolve()) for _, path in found["fake"]]
    depth = _shared_depth(fake_inner)
    for (name, path), below in zip(found["fake"], fake_inner):
        said = [*below.parts[:-1], _prefix(below)]
        who = next((word for word in said if word in known), "-")
        folders = [part for part in below.parts[depth:-1] if part not in known]
        clips.append(Clip(name, path, False, who, folders[0] if folders else "-"))
    n_fake = sum(not clip.real and clip.speaker != "-" for clip in clips)
    told = f"speakers: {how}; {n_fake} of {len(fake_inner)} fake recordings are named after one of them"
    return clips, told if known else f"speakers: {how}"


def _found(folder: Path, label: str, *, linked: bool) -> list[tuple[str, Path]]:
    """Name and path of each recording below a folder."""
    if not folder.is_dir():
        raise InputError(f"--{label}: {folder}: no such folder; give the one that holds your {label} recordings")
    root = folder.resolve()
    paths = [p for p in recordings_in(root) if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    if not paths:
        raise InputError(f"--{label}: {folder}: expected recordings, found none")
    names = [f"{label}/{path.relative_to(root).as_posix()}" if linked else path.as_posix() for path in paths]
    bad = [(name, fault) for name in names if (fault := fault_of_name(name))]
    if bad:
        raise InputError(
            f"--{label}: the names of {len(bad)} recordings cannot stand in lists, such as {bad[0][0]!r}, which "
            f"{bad[0][1].partition('; ')[0]}; rename them, blanks for example with: find {folder} -depth -name '* *' "
            """-execdir bash -c 'mv "$0" "${0// /_}"' {} \\;"""
        )
    return list(zip(names, paths))


def _speakers(inner: Sequence[Path], told_by: str) -> tuple[str, list[str]]:
    """How the speakers of real recordings are told, and the speaker of each."""
    depth = _shared_depth(inner)
    folders = [path.parts[depth] if len(path.parts) > depth + 1 else "-" for path in inner]
    prefixes = [_prefix(path) for path in inner]
    if told_by == "folders" or (told_by == "auto" and "-" not in folders and len(set(folders)) > 1):
        return f"{len(set(folders) - {'-'})}, by the folders of the real recordings", folders
    counts = Counter(prefixes)
    if told_by == "prefix" or (
        told_by == "auto" and 3 <= len(counts) <= len(inner) / 2 and counts.most_common()[-1][1] > 1
    ):
        return f"{len(counts)}, by the beginnings of the real recordings' names, such as {prefixes[0]}", prefixes
    return "not known", ["-"] * len(inner)


def _shared_depth(paths: Sequence[Path]) -> int:
    """How many leading folders all paths share."""
    return len(Path(os.path.commonpath([path.parent for path in paths])).parts) if paths else 0


def _prefix(path: Path) -> str:
    return path.stem.replace("-", "_").partition("_")[0]


def _without_copies(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """Each content once.

    Raises:
        InputError: one content is real and fake.
    """
    sizes = Counter(clip.path.stat().st_size for clip in clips)
    first: dict[str, Clip] = {}
    kept, copies = [], []
    for clip in clips:
        if sizes[clip.path.stat().st_size] > 1:
            other = first.setdefault(sha256(clip.path), clip)
            if other.real != clip.real:
                raise InputError(f"{other.path} and {clip.path} are one recording, real and fake; remove one of them")
            if other is not clip:
                copies.append(clip.name)
                continue
        kept.append(clip)
    return kept, [f"{len(copies)} recordings are copies of others and left out ({some(copies)})"] if copies else []


# ---- what is written


def _mos(plan: Plan, clips: Sequence[Clip], home: Path, *, predicts: bool, jobs: int) -> list[str] | None:
    """The MOS of each recording: as given, by its name or its path in the folder; else predicted."""
    if plan.mos:
        names = [clip.name for clip in clips]
        return plan.mos_of("data", names, {n: plan.mos[k] for n in names for k in (_inner(n), n) if k in plan.mos})
    if not predicts:
        return None
    from qamo.quality.cache import predict_files

    predicted = predict_files([clip.path for clip in clips], "distillmos", jobs=jobs, cache=home / "mos.cache")
    return [format_mos(clip.name, value) for clip, value in zip(clips, predicted.tolist())]


def _inner(name: str) -> str:
    return name.partition("/")[2]


def _table(clips: Sequence[Clip], mos: Sequence[str] | None) -> str:
    rows = [[c.name, "bonafide" if c.real else "spoof", c.speaker, c.attack] for c in clips]
    heading = ["path", "label", "speaker", "attack", *["mos"] * (mos is not None)]
    return as_csv([heading, *(rows if mos is None else ([*row, text] for row, text in zip(rows, mos)))])


def _config(home: Path, name: str, *, has_mos: bool) -> str:
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    tree: dict[str, Any] = {
        section: {key: value for key, value in recipe[section].items() if not keys or key in keys}
        for section, keys in KEPT.items()
    }
    lists = {
        f"{part}_{key}": value
        for part in ("train", "dev")
        for key, value in (("audio", ""), ("protocol", f"{part}.csv"))
    }
    tree["data"] = {"database_path": str(home), "protocols_path": str(home), **lists, **tree["data"]}
    del tree["model"]["conformer_tcm"]
    tree["model"]["backend"] = "asp"  # had the lower dev EER in benchmarks/results/channel
    if not has_mos:
        tree["model"]["head"] = "oc_softmax"
    tree["eval"] = {"sets": [name], "catalogue": {name: {"trials": "eval.csv", "keys": "eval.csv"}}}
    said = [
        "# One's own data (database/prepare.py folder): only what differs from config.yaml.",
        f"#   python main.py --config {from_here(home / 'config.yaml')}",
        "# The detector is a small one that a laptop trains. For the paper's, which wants a GPU and XLS-R's weights,",
        "# delete the sections model, train and run, and data.quality and data.rawboost.",
        *["# There are no MOS, so the head is one that does not look at quality."] * (not has_mos),
    ]
    return "\n".join([*said, yaml.safe_dump(tree, sort_keys=False)])
