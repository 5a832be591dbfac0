"""The recordings that trials name: are they there, and can they be read?

Nothing here imports torch: a list of 600,000 names is read and looked at in seconds.
"""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import overload

from qamo import InputError, cores
from qamo.audio import load as audio
from qamo.files import shown
from qamo.progress import progress

# By which recordings are found in folders, and tried in this order where a name has none. What a file is, its content
# tells: see `qamo.audio.containers`.
ENDINGS = (
    *(".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".oga", ".aac", ".webm", ".mp4", ".mka", ".mkv", ".mov"),
    *(".3gp", ".wma", ".amr", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist"),
    *(".voc", ".wv", ".g722", ".ac3", ".mp2", ".mpga", ".avi", ".ape", ".tta"),
)
N_SHOWN = 5  # offenders named in a message
CHECK_CHUNK = 64  # recordings looked at in one go


def is_recording(path: Path) -> bool:
    """Whether a path has the ending of a recording and is not hidden, as macOS's `._x.wav` are."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def recordings_in(folder: Path) -> list[Path]:
    """The recordings in a folder and those below it, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if is_recording(path) and path.is_file())


def recordings_named(folder: Path | None, key: str) -> list[Path]:
    """The recordings in the folder that a key of the config names; none where it is null.

    Raises:
        InputError: the folder is missing, or holds none.
    """
    found = recordings_in(folder) if folder else []
    if folder and not found:
        what = "a folder without recordings" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{key}: expected a folder of recordings, found {what} at {shown(folder)}; correct it, or null"
        )
    return found


def find_recording(folder: Path, name: str) -> Path | None:
    """The file of a name that may lack its ending; None if there is none, or the name would leave the folder."""
    if name.startswith("/") or ".." in Path(name).parts:
        return None
    return next((path for ending in ("", *ENDINGS) if (path := folder / f"{name}{ending}").is_file()), None)


def find_extension(folder: Path, names: Sequence[str]) -> str | None:
    """What is appended to names to find their files: an ending, or nothing; None where no file of some is there."""
    some = names[:: max(1, len(names) // 20)]
    tries = ((name, ending) for name in some for ending in ("", *ENDINGS))
    return next((ending for name, ending in tries if (folder / f"{name}{ending}").is_file()), None)


class Recordings(Sequence[Path]):
    """The paths of named recordings, each made when it is asked for: 600,000 of them would take 200 MB.

    Args:
        folder: where relative names begin; an absolute name is its file's path.
        extension: appended to names that have not the ending of a recording; None: as the first one's file has it.
    """

    def __init__(self, folder: Path, names: Sequence[str], extension: str | None):
        self.folder = folder
        self.names = names
        self.extension = (find_extension(folder, names) or "") if extension is None else extension

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Recordings: ...
    def __getitem__(self, place: int | slice) -> Path | Recordings:
        if isinstance(place, slice):
            return Recordings(self.folder, self.names[place], self.extension)
        name = self.names[place]
        ending = "" if not self.extension or name.lower().endswith(ENDINGS) else self.extension
        return self.folder / f"{name}{ending}"


def check_recordings(paths: Sequence[Path], *, what: str, where: str, how: str = "exist") -> None:
    """See that recordings are there before hours are spent on them.

    Args:
        what: named in the message, such as "train".
        where: what told the folder, a config key or a flag, to be checked where recordings are missing.
        how: exist: listed in their folders and not empty; header: opened too; full: decoded too.

    Raises:
        InputError: the count and the first few that are missing or unreadable.
    """
    listed: dict[str, dict[str, int]] = {}
    bad: list[str] = []
    for path in map(str, paths):
        folder, file = os.path.split(path)
        sizes = listed.get(folder)
        if sizes is None:
            sizes = listed[folder] = _sizes(folder or ".")
        size = sizes.get(file)
        if size is None:
            bad.append(f"{shown(path)}: no such file" + (_perhaps(file, sizes) if len(bad) < N_SHOWN else ""))
        elif not size:
            bad.append(f"{shown(path)}: 0 bytes")
    listed.clear()
    _refuse(bad, len(paths), what, "missing or empty", f"check {where}")
    if how == "exist":
        return

    # In chunks: a future for every file would cost more than the look at it.
    chunks = [paths[start : start + CHECK_CHUNK] for start in range(0, len(paths), CHECK_CHUNK)]
    with ThreadPoolExecutor(min(8, 2 * cores.usable())) as pool:
        looks = zip(chunks, pool.map(functools.partial(_faults_of, how=how), chunks))
        watched = progress(looks, f"checking {what}", total=len(paths), unit="file", count=lambda look: len(look[0]))
        bad = [fault for _, faults in watched for fault in faults]
    _refuse(bad, len(paths), what, "unreadable", "mend or replace them, or leave them out")


def _perhaps(file: str, sizes: dict[str, int]) -> str:
    """Why a file is not among those of a folder, as the end of a sentence."""
    if not sizes:
        return ", and its folder is missing or empty"
    composed = unicodedata.normalize("NFC", file)
    if not file.isascii() and any(unicodedata.normalize("NFC", other) == composed for other in sizes):
        return ", but one that looks the same: its accents are written otherwise (NFC or NFD); rename it"
    return ""


def _faults_of(chunk: Sequence[Path], how: str) -> list[str]:
    faults = []
    for path in chunk:
        if how == "header":
            reason = audio.check_header(path)
            faults += [f"{shown(path)}: {reason}"] if reason else []
            continue
        try:
            audio.load(path)
        except (InputError, OSError) as error:
            faults.append(str(error))
    return faults


def _sizes(folder: str) -> dict[str, int]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: size for entry in entries if (size := _size(entry)) is not None}
    except OSError:
        return {}


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nothing is not there, and no reason to doubt its neighbours
        return None


def _refuse(bad: list[str], total: int, what: str, how: str, advice: str) -> None:
    if bad:
        more = f", and {len(bad) - N_SHOWN} more" if len(bad) > N_SHOWN else ""
        shown = "; ".join(bad[:N_SHOWN])
        raise InputError(f"{what}: {len(bad)} of {total} recordings {how}: {shown}{more}; {advice}")
