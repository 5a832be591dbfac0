"""What is to be done for a corpus: files to write, folders to link, what is missing; and doing it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corpora.search import Search, recordings_below, some
from qamo import InputError, files
from qamo.command import typed
from qamo.trials.keys import Keys
from qamo.trials.protocol import Row, as_protocol
from qamo.trials.ratings import read_ratings

PUBLISHED = {
    "la2019": "LA.zip at https://datashare.ed.ac.uk/handle/10283/3336",
    "la2021": "https://zenodo.org/records/4837263",
    "df2021": "https://zenodo.org/records/4835108",
    "la2021 keys": "https://www.asvspoof.org/asvspoof2021/LA-keys-full.tar.gz",
    "df2021 keys": "https://www.asvspoof.org/asvspoof2021/DF-keys-full.tar.gz",
    "itw": "https://deepfake-total.com/in_the_wild",
    "for": "for-norm.tar.gz at https://bil.eecs.yorku.ca/datasets/",
    "asvspoof5": "https://zenodo.org/records/14498691",
}
# Trials of each part, as published with the corpus.
COUNTS = {
    "la2019": {"train": 25_380, "dev": 24_844},
    "la2021": {"eval": 181_566},
    "df2021": {"eval": 611_829},
    "itw": {"eval": 31_779},
    "for": {"eval": 4_634},
    "asvspoof5": {"train": 182_357, "dev": 140_950, "eval": 680_774},
}
MOS_KEYS = "meta.score.txt"  # keys with a MOS column, beside those without


@dataclass
class Plan:
    """A corpus to prepare: what is known, and, once looked at, what to write, to link and to tell."""

    corpus: str
    to: Path
    search: Search
    authors: Search | None
    mos: Mapping[str, str]
    counts: Mapping[str, int]
    links_recordings: bool = True  # False: told as config keys
    writes: list[tuple[Path, str]] = field(default_factory=list)
    links: list[tuple[Path, Path]] = field(default_factory=list)  # (link, what it points to)
    settings: list[str] = field(default_factory=list)  # config keys in place of links
    missing: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    then: list[str] = field(default_factory=list)  # commands that go on from there
    mos_used: bool = False

    @property
    def has_recordings(self) -> bool:
        """Whether a corpus is there to search, and not the authors' lists alone."""
        return bool(self.search.roots)

    def write(self, target: str | Path, text: str) -> None:
        self.writes.append((self.to / target, text))

    def link(self, target: str | Path, source: Path) -> None:
        self.links.append((self.to / target, source))

    def lacks(self, what: str, published: str = "") -> None:
        where = PUBLISHED[published or self.corpus]
        self.missing.append(f"{what} ({self.search.lacks()}); it is published at {where}")

    def check_count(self, part: str, n: int, where: object) -> None:
        expected = self.counts.get(part, n)
        if n != expected:
            raise InputError(
                f"{where}: expected the {expected:,} trials of {self.corpus} {part}, found {n:,}; "
                "download it again, or say --any-count for a part of the corpus"
            )

    def official(self, ending: str) -> Path | None:
        """A text file of the corpus, or None, with its absence noted where the authors' files do not stand in."""
        found = self.search.text(ending)
        if found is None and self.authors is None:
            self.lacks(ending)
        return found

    def of_authors(self, ending: str) -> Path | None:
        """A text file of the authors' folder, or None.

        Raises:
            InputError: their folder was given, and the file is not in it.
        """
        found = self.authors.text(ending) if self.authors else None
        if found is None and self.authors:
            raise InputError(f"{self.authors}: expected the authors' {ending}, found nothing like it")
        return found

    def recordings(
        self, part: str, names: Sequence[str], folders: Sequence[Path], target: str, *, extension: str, key: str
    ) -> str:
        """Link at `target` the folder that holds the recordings of `names` -> what the config key is to be."""
        if not self.has_recordings:
            return target
        wanted = {f"{name}{extension}" for name in names}
        candidates = dict.fromkeys(path.resolve() for path in [self.to / target, *folders] if path.is_dir())
        lacking = {folder: wanted - recordings_below(folder, wanted) for folder in candidates}
        best = min(lacking, key=lambda folder: len(lacking[folder]), default=None)
        if best is None or len(lacking[best]) == len(wanted):
            self.lacks(f"the recordings of {self.corpus} {part}, as in {target}")
            return target
        if lacking[best]:
            self.missing.append(
                f"{len(lacking[best]):,} of the {len(wanted):,} recordings of {self.corpus} {part} in {best} "
                f"({some(lacking[best])}); if they were unpacked to several folders, move them to one; they are "
                f"published at {PUBLISHED[self.corpus]}"
            )
        if self.links_recordings or best == (self.to / target).resolve():
            self.link(target, best)
            return target
        self.settings.append(f"{key}={best}")
        return str(best)

    def mos_of(self, part: str, names: Sequence[str], known: Mapping[str, str] | None = None) -> list[str] | None:
        """The MOS of each name, or None where none of the names has one.

        Raises:
            InputError: only some have one.
        """
        known = self.mos if known is None else known
        lacking = [name for name in names if name not in known]
        if len(lacking) == len(names):
            return None
        if lacking:
            raise InputError(
                f"--mos: no MOS for {len(lacking):,} of the {len(names):,} recordings of {self.corpus} {part} "
                f"({some(lacking)}); predict them again with predict_mos.py"
            )
        self.mos_used = True
        return [known[name] for name in names]

    def protocol(self, part: str, rows: Sequence[Row], target: str, audio: str, *, given: str | None = None) -> None:
        """Write SPEAKER NAME - ATTACK LABEL MOS lines, or, where no MOS are known, five columns and how to add them.

        Args:
            audio: folder of the recordings, for the advice.
            given: a text to write in place of lines without MOS: the corpus's own.
        """
        mos = self.mos_of(part, [row.name for row in rows])
        if mos is not None:
            self.write(target, as_protocol(rows, mos))
            return
        plain = target.replace(".score.txt", ".txt")
        self.write(plain, given or as_protocol(rows))
        predicting = typed("predict_mos", self.to / plain, self.to / audio, "-o", self.to / target)
        self.advice.append(
            f"{part}: main.py trains on a protocol with MOS; add them with --mos FILE, or make them with: {predicting}"
        )
        self.then.append(predicting)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def labels_of(keys: Keys) -> dict[str, bool]:
    return dict(zip(keys.names, keys.bonafide.tolist()))


def check_same_labels(path: Path, ours: Mapping[str, bool], where: Path, theirs: Mapping[str, bool]) -> None:
    """Refuse `path`, whose labels are `theirs`, where `ours`, found at `where`, are others."""
    if ours != theirs:
        differing = [n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)]
        raise InputError(
            f"{path}: names or labels of {len(differing):,} trials differ from {where} ({some(differing)}); "
            "they belong to different releases"
        )


def read_mos(paths: Sequence[Path]) -> dict[str, str]:
    """The MOS of recordings from several files, by name and as they are written there.

    Raises:
        InputError: as `read_ratings`, or a name has two different MOS.
    """
    every: dict[str, str] = {}
    for path in paths:
        rated = read_ratings(path)
        for name, text in zip(rated.names, rated.texts):
            if float(every.setdefault(name, text)) != float(text):
                raise InputError(f"{path}: {name} has the MOS {text} here and {every[name]} before; keep one file")
    return every


def carry_out(plan: Plan, *, force: bool, dry: bool) -> list[str]:
    """Write and link what the plan holds; sentences on what was done.

    Raises:
        InputError: something else stands where a file or link is to go. Nothing is written then.
    """
    said: list[str] = []
    todo: list[Callable[[], None]] = []
    for path, text in plan.writes:
        n = text.count("\n")
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            said.append(f"{path}: there already, {n:,} lines")
            continue
        if path.exists() and not (force and path.is_file()):
            raise InputError(f"{path}: holds something else; move it away, or say --force to replace it")
        said.append(f"{path}: {n:,} lines{', not written yet' if dry else ''}")
        todo.append(functools.partial(files.write_text, path, text))
    for path, source in plan.links:
        if path.exists() and path.resolve() == source.resolve():
            said.append(f"{path}: there already")
            continue
        replaceable = path.is_symlink() or path.is_file()
        if path.exists() and not (force and replaceable):
            way_on = ", or say --force to replace it" if replaceable else ""
            raise InputError(f"{path}: exists and is not {source}, which was found; move it away{way_on}")
        said.append(f"{path} -> {source}{', not linked yet' if dry else ''}")
        todo.append(functools.partial(_link, path, source))
    if not dry:
        files.check_writable(plan.to)
        for path, _ in [*plan.writes, *plan.links]:
            path.parent.mkdir(parents=True, exist_ok=True)
        for act in todo:
            act()
    return [*said, *(f"main.py needs: {setting}" for setting in plan.settings)]


def _link(path: Path, source: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.symlink(source, temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot link to {source} ({error.strerror}); use --no-links") from None
