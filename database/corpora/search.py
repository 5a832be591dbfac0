"""The folders and text files below some roots, seen once; recordings are looked at later, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from qamo import InputError

DEPTH = 6  # folders below a root that are searched
TEXTS = (".txt", ".tsv", ".csv")
N_SHOWN = 3  # names in a message


class Search:
    """What lies below `roots`; hidden files, dangling links and links that lead out of all roots are stepped over."""

    def __init__(self, roots: Sequence[Path]):
        self.roots = [root.resolve() for root in roots]
        self.folders: list[Path] = []
        self.texts: list[Path] = []
        self.links_out: list[Path] = []
        seen: set[Path] = set()
        for root, given in zip(self.roots, roots):
            if not root.is_dir():
                raise InputError(f"{given}: no such folder; name one that holds the unpacked corpus")
            self._walk(root, DEPTH, seen)

    def _walk(self, folder: Path, depth: int, seen: set[Path]) -> None:
        if folder.resolve() in seen:
            return
        seen.add(folder.resolve())
        self.folders.append(folder)
        below: list[Path] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder, is_text = entry.is_dir(), entry.name.lower().endswith(TEXTS) and entry.is_file()
                if entry.name.startswith(".") or not (is_folder or is_text):
                    continue
                if entry.is_symlink() and not self._holds(Path(entry.path).resolve()):
                    self.links_out.append(Path(entry.path))
                else:
                    (below if is_folder else self.texts).append(Path(entry.path))
        if depth:
            for inner in sorted(below):
                self._walk(inner, depth - 1, seen)

    def _holds(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self.roots)

    def folder(self, *endings: str) -> list[Path]:
        """Folders whose path ends in one of these, the earlier endings first."""
        return [folder for ending in endings for folder in self.folders if ends_in(folder, ending)]

    def text(self, ending: str) -> Path | None:
        """The text file whose path ends in this, or None.

        Raises:
            InputError: there are several, and they differ.
        """
        found = sorted((path for path in self.texts if ends_in(path, ending)), key=lambda p: (len(p.parts), p))
        if len({path.read_bytes() for path in found}) > 1:
            raise InputError(f"{' and '.join(map(str, found[:N_SHOWN]))} differ; name one of their folders with --from")
        return found[0] if found else None

    def lacks(self) -> str:
        """That something is not here, for a message."""
        if not self.roots:
            return "--from was not given"
        links = f"; links that lead out of it were not followed: {some(map(str, self.links_out))}"
        return f"nothing like it is below {self}{links if self.links_out else ''}"

    def __str__(self) -> str:
        return " or ".join(map(str, self.roots))


def ends_in(path: Path, ending: str) -> bool:
    """Whether the last parts of a path are those of `ending`."""
    parts = Path(ending).parts
    return path.parts[-len(parts) :] == parts


def recordings_below(folder: Path, wanted: Iterable[str]) -> set[str]:
    """Files of a folder, and of its subfolders that wanted names begin with, by their path in it; no dangling links."""
    held = set()
    for sub in {name.rpartition("/")[0] for name in wanted}:
        if not (folder / sub).is_dir():
            continue
        prefix = f"{sub}/" if sub else ""
        with os.scandir(folder / sub) as entries:
            # Only links are asked whether they lead anywhere: half a million files take minutes on a network disk.
            held |= {f"{prefix}{entry.name}" for entry in entries if not entry.is_symlink() or os.path.exists(entry)}
    return held


def some(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    listed = sorted(names)
    return ", ".join(listed[:N_SHOWN]) + (", ..." if len(listed) > N_SHOWN else "")
