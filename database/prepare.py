"""Make a downloaded corpus ready for main.py: protocols, lists and keys where it looks, checked against the recordings.

    python database/prepare.py la2019 --from ~/corpora/LA --mos train_mos.txt dev_mos.txt
    python database/prepare.py la2021 --from ~/corpora/ASVspoof2021_LA_eval ~/corpora/keys
    python database/prepare.py itw --from ~/corpora/release_in_the_wild

la2019     ASVspoof 2019 LA (train, dev)       la2021, df2021   ASVspoof 2021 LA, DF (eval)
itw        In-the-Wild                         for              Fake-or-Real, for-norm, testing
asvspoof5  ASVspoof 5, track 1 (train, dev, eval), with a config to run it by

--from is searched for what the archives of the corpus unpack to, however deep (to six folders) it lies. Recordings are
linked, not copied. Nothing is written unless everything is there; what is missing is named, with where it is published.
Whether the recordings can be decoded is not looked at: `python main.py --check` does.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qamo import InputError, files  # noqa: E402
from qamo.config.schema import DataConfig, EvalConfig, EvalSet  # noqa: E402
from qamo.trials import tables  # noqa: E402
from qamo.trials.keys import Keys, labels_to_bool, read_keys  # noqa: E402

DEPTH = 6  # folders below --from that are searched
TEXTS = (".txt", ".tsv", ".csv")
N_SHOWN = 3  # names of missing recordings in a message
MOS_KEYS = "meta.score.txt"  # keys with a MOS column, beside those without
ASVSPOOF5_COLUMNS = 10  # SPEAKER NAME GENDER CODEC CODEC_Q CODEC_SEED ATTACK_GROUP ATTACK LABEL -

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
DATA, CATALOGUE = DataConfig(), EvalConfig().catalogue

Row = tuple[str, str, str, str]  # speaker, name, attack, label


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="prepare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument(
        "--from", dest="sources", type=Path, nargs="+", default=[], metavar="DIR", help="what to search"
    )
    parser.add_argument("--to", type=Path, default=ROOT / "database", help="data.database_path (database)")
    parser.add_argument("--authors", type=Path, metavar="DIR", help="the authors' database/: link its lists and keys")
    parser.add_argument("--mos", type=Path, nargs="+", default=[], metavar="FILE", help="MOS to put into the protocols")
    parser.add_argument("--partial", action="store_true", help="prepare what is there, although something is missing")
    parser.add_argument("--any-count", action="store_true", help="a part of a corpus: do not compare its counts")
    parser.add_argument("--no-links", action="store_true", help="print the config keys of the recordings, link nothing")
    parser.add_argument("--force", action="store_true", help="replace files that hold something else")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    args = parser.parse_args(argv)
    try:
        if not args.sources and not args.authors:
            raise InputError("expected --from DIR with the corpus, or --authors DIR, found neither")
        if args.mos and (args.authors or args.corpus in ("la2021", "df2021")):
            raise InputError(
                "--mos: the files of the authors and the keys of ASVspoof 2021 take no MOS; give it to report.py --mos"
            )
        job = Job(
            args.corpus,
            to=args.to.absolute(),
            searched=Searched(args.sources),
            authors=Searched([args.authors]) if args.authors else None,
            mos=read_mos(args.mos),
            counts={} if args.any_count else COUNTS[args.corpus],
            links_recordings=not args.no_links,
        )
        CORPORA[args.corpus](job)
        if job.mos and not job.mos_used and not job.missing:
            raise InputError(f"--mos: none of its {len(job.mos):,} names is a recording of {args.corpus}")
        for sentence in job.missing:
            print(f"{parser.prog}: missing: {sentence}", file=sys.stderr)
        if job.missing and not args.partial:
            print(f"{parser.prog}: nothing was written; --partial prepares what is there", file=sys.stderr)
            return 2
        said = carry_out(job, force=args.force, dry=args.dry_run)
        print("\n".join([*said, *job.advice]))
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


# ---- searching


class Searched:
    """The folders and text files below some roots, seen once; recordings are left for later."""

    def __init__(self, roots: Sequence[Path]):
        self.roots = [root.resolve() for root in roots]
        self.folders: list[Path] = []
        self.texts: list[Path] = []
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
        below = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(TEXTS):
                    self.texts.append(Path(entry.path))
                elif entry.is_dir():
                    below.append(Path(entry.path))
        if depth:
            for inner in sorted(below):
                self._walk(inner, depth - 1, seen)

    def folder(self, *endings: str) -> list[Path]:
        """Folders whose path ends in one of these, the earlier endings first."""
        return [folder for ending in endings for folder in self.folders if _ends(folder, ending)]

    def text(self, *endings: str) -> Path | None:
        """The text file whose path ends in one of these, or None.

        Raises:
            InputError: there are several, and they differ.
        """
        for ending in endings:
            found = sorted((path for path in self.texts if _ends(path, ending)), key=lambda p: (len(p.parts), p))
            if len({path.read_bytes() for path in found}) > 1:
                others = " and ".join(map(str, found[:N_SHOWN]))
                raise InputError(f"{others} differ; name one of their folders with --from")
            if found:
                return found[0]
        return None

    def __str__(self) -> str:
        return " or ".join(map(str, self.roots))


def _ends(path: Path, ending: str) -> bool:
    parts = Path(ending).parts
    return path.parts[-len(parts) :] == parts


# ---- what is to be done


@dataclass
class Job:
    """A corpus to prepare: what is known, and, once looked at, what to write, to link and to tell."""

    corpus: str
    to: Path
    searched: Searched
    authors: Searched | None
    mos: dict[str, str]
    counts: Mapping[str, int]
    links_recordings: bool = True  # False: told as config keys
    writes: list[tuple[Path, str]] = field(default_factory=list)
    links: list[tuple[Path, Path]] = field(default_factory=list)  # (link, what it points to)
    settings: list[str] = field(default_factory=list)  # config keys in place of links
    missing: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    mos_used: bool = False

    @property
    def has_recordings(self) -> bool:
        """Whether a corpus is there to search, and not the authors' lists alone."""
        return bool(self.searched.roots)

    def lacks(self, what: str, published: str = "") -> None:
        place = f"nothing like it is below {self.searched}" if self.searched.roots else "--from was not given"
        self.missing.append(f"{what} ({place}); it is published at {PUBLISHED[published or self.corpus]}")

    def check_count(self, part: str, n: int, where: object) -> None:
        expected = self.counts.get(part, n)
        if n != expected:
            raise InputError(
                f"{where}: expected the {expected:,} trials of {self.corpus} {part}, found {n:,}; "
                "download it again, or say --any-count for a part of the corpus"
            )

    def official(self, *endings: str) -> Path | None:
        """A text file of the corpus, or None, with its absence noted where the authors' files do not stand in."""
        found = self.searched.text(*endings) if self.has_recordings else None
        if found is None and self.authors is None:
            self.lacks(endings[0])
        return found

    def of_authors(self, *endings: str) -> Path | None:
        """A text file of the authors' folder, or None.

        Raises:
            InputError: their folder was given, and the file is not in it.
        """
        if self.authors is None:
            return None
        found = self.authors.text(*endings)
        if found is None:
            raise InputError(f"{self.authors}: expected the authors' {endings[0]}, found nothing like it")
        return found

    def write(self, target: str, text: str) -> None:
        self.writes.append((self.to / target, text))

    def link(self, target: str, source: Path) -> None:
        self.links.append((self.to / target, source))

    def recordings(
        self, part: str, names: Sequence[str], folders: Sequence[Path], target: str, *, extension: str, key: str
    ) -> str:
        """Link at `target` the folder that holds the recordings of `names` -> what the config key is to be."""
        if not self.has_recordings:
            return target
        wanted = {f"{name}{extension}" for name in names}
        candidates = dict.fromkeys(path.resolve() for path in [self.to / target, *folders] if path.is_dir())
        lacking = {folder: wanted - _files_below(folder, wanted) for folder in candidates}
        best = min(lacking, key=lambda folder: len(lacking[folder]), default=None)
        if best is None or len(lacking[best]) == len(wanted):
            self.lacks(f"the recordings of {self.corpus} {part}, as in {target}")
            return target
        if lacking[best]:
            shown = ", ".join(sorted(lacking[best])[:N_SHOWN])
            self.missing.append(
                f"{len(lacking[best]):,} of the {len(wanted):,} recordings of {self.corpus} {part} in {best} "
                f"({shown}, ...); if they were unpacked to several folders, move them to one; they are published at "
                f"{PUBLISHED[self.corpus]}"
            )
        if self.links_recordings or best == (self.to / target).resolve():
            self.link(target, best)
            return target
        self.settings.append(f"{key}={best}")
        return str(best)

    def with_mos(self, part: str, names: Sequence[str], known: Mapping[str, str]) -> list[str] | None:
        """The MOS of each name, or None where none of the names has one.

        Raises:
            InputError: only some have one.
        """
        lacking = [name for name in names if name not in known]
        if len(lacking) == len(names):
            return None
        if lacking:
            shown = ", ".join(lacking[:N_SHOWN])
            raise InputError(
                f"--mos: no MOS for {len(lacking):,} of the {len(names):,} recordings of {self.corpus} {part} "
                f"({shown}, ...); predict them again with predict_mos.py"
            )
        self.mos_used = True
        return [known[name] for name in names]

    def protocol(self, part: str, rows: Sequence[Row], target: str, audio: str, *, given: str | None = None) -> None:
        """Write SPEAKER NAME - ATTACK LABEL MOS lines, or, where no MOS are known, five columns and how to add them.

        Args:
            audio: folder of the recordings, for the advice.
            given: a text to write in place of lines without MOS: the corpus's own.
        """
        mos = self.with_mos(part, [row[1] for row in rows], self.mos)
        if mos is not None:
            lines = (f"{s} {n} - {a} {label} {m}\n" for (s, n, a, label), m in zip(rows, mos))
            self.write(target, "".join(lines))
            return
        plain = target.replace(".score.txt", ".txt")
        self.write(plain, given or _five_columns(rows))
        self.advice.append(
            f"{part}: main.py trains on a protocol with MOS; add them with --mos FILE, or make them with: python "
            f"predict_mos.py {self.to / plain} {self.to / audio} -o {self.to / target}"
        )


def _files_below(folder: Path, wanted: Iterable[str]) -> set[str]:
    """Files of a folder, and of its subfolders that wanted names begin with, by their path in it."""
    inner = sorted({name.rpartition("/")[0] for name in wanted})
    held = set()
    for sub in inner:
        place = folder / sub
        if place.is_dir():
            prefix = f"{sub}/" if sub else ""
            held |= {f"{prefix}{entry}" for entry in os.listdir(place)}
    return held


def carry_out(job: Job, *, force: bool, dry: bool) -> list[str]:
    """Write and link what the job holds; sentences on what was done.

    Raises:
        InputError: something else stands where a file or link is to go. Nothing is written then.
    """
    said: list[str] = []
    todo: list[Callable[[], None]] = []
    for path, text in job.writes:
        n = text.count("\n")
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            said.append(f"{path}: there already, {n:,} lines")
            continue
        if path.exists() and not (force and path.is_file()):
            raise InputError(f"{path}: holds something else; move it away, or say --force to replace it")
        said.append(f"{path}: {n:,} lines{', not written yet' if dry else ''}")
        todo.append(functools.partial(_write, path, text))
    for path, source in job.links:
        if path.exists() and path.resolve() == source.resolve():
            said.append(f"{path}: there already")
            continue
        if path.exists() and not (force and (path.is_symlink() or path.is_file())):
            raise InputError(
                f"{path}: exists and is not {source}, which was found; move it away"
                + (", or say --force to replace it" if path.is_symlink() or path.is_file() else "")
            )
        said.append(f"{path} -> {source}{', not linked yet' if dry else ''}")
        todo.append(functools.partial(_link, path, source))
    if not dry:
        files.check_writable(job.to)
        for act in todo:
            act()
    return [*said, *(f"main.py needs: {setting}" for setting in job.settings)]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)


def _link(path: Path, source: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.symlink(source, temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot link to {source} ({error.strerror}); use --no-links") from None


# ---- MOS


def read_mos(paths: Sequence[Path]) -> dict[str, str]:
    """MOS of recordings, as written in protocols with a sixth column, `file,...,mos` tables, or `NAME MOS` lines.

    Raises:
        InputError: naming file and line; a name with two different MOS.
    """
    every: dict[str, str] = {}
    for path in paths:
        fields = tables.first_fields(path)
        if len(fields) == 2 and "," not in "".join(fields):
            names, texts = (
                tables.texts_of(column)
                for column in tables.read_table(path, [0, 1], n_columns=2, expected="'name MOS'").columns
            )
        else:
            keys = read_keys(path)
            if "mos" not in keys.columns:
                raise InputError(f"{path}: expected a MOS column, found none; make one with predict_mos.py")
            names, texts = keys.names, keys.columns["mos"]
        for name, text in zip(names, texts):
            try:
                float(text)
            except ValueError:
                raise InputError(f"{path}: expected a number as the MOS of {name}, found {text!r}") from None
            if every.setdefault(name, text) != text:
                raise InputError(f"{path}: {name} has the MOS {text} here and {every[name]} before; keep one file")
    return every


def _same_labels(ours: Mapping[str, bool], theirs: Mapping[str, bool], path: Path, where: object) -> None:
    if ours != theirs:
        differing = [n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n)]
        raise InputError(
            f"{path}: names or labels of {len(differing):,} trials differ from {where} "
            f"({', '.join(differing[:N_SHOWN])}); they belong to different releases"
        )


def _labels(keys: Keys) -> dict[str, bool]:
    return dict(zip(keys.names, keys.bonafide.tolist()))


# ---- the corpora


def prepare_la2019(job: Job) -> None:
    for part, ending, to, audio in (
        ("train", "train.trn", DATA.train_protocol, DATA.train_audio),
        ("dev", "dev.trl", DATA.dev_protocol, DATA.dev_audio),
    ):
        ours = job.official(f"ASVspoof2019.LA.cm.{ending}.txt")
        theirs = job.of_authors(f"ASVspoof2019.LA.cm.{ending}.score.txt")
        chosen = theirs or ours
        if chosen is None:
            continue
        keys = read_keys(chosen)
        job.check_count(part, len(keys), chosen)
        folders = job.searched.folder(audio.removeprefix("LA/"))
        held = job.recordings(part, keys.names, folders, audio, extension=".flac", key=f"data.{part}_audio")
        if theirs is not None:
            if ours is not None:
                _same_labels(_labels(read_keys(ours)), _labels(keys), theirs, ours)
            job.link(to, theirs)
        else:
            labels = ["bonafide" if label else "spoof" for label in keys.bonafide]
            rows = list(zip(keys.columns["speaker"], keys.names, keys.columns["attack"], labels))
            job.protocol(part, rows, to, held, given=_text(chosen))


def prepare_2021(job: Job, track: str) -> None:
    entry = CATALOGUE[track]
    name = Path(entry.trials).name
    ours, theirs = job.official(name), job.of_authors(name)
    chosen = theirs or ours
    names: list[str] = []
    if chosen is not None:
        names = tables.texts_of(tables.read_table(chosen, [0], n_columns=1, expected="one name a line").columns[0])
        job.check_count("eval", len(names), chosen)
        if theirs is not None:
            job.link(entry.trials, theirs)
        else:
            job.write(entry.trials, _text(chosen))
        folders = job.searched.folder(entry.audio.removeprefix(f"{track}/"))
        key = f"eval.catalogue.{track}.audio"
        job.recordings("eval", names, folders, entry.audio, extension=".flac", key=key)

    if not job.has_recordings:
        return
    in_place = job.to / (entry.keys or "")
    keys_file = in_place if in_place.is_file() else job.searched.text(f"{track}/CM/trial_metadata.txt")
    if keys_file is None:
        job.lacks(f"{track}/CM/trial_metadata.txt, the keys", f"{job.corpus} keys")
        return
    keys = read_keys(keys_file, columns=())
    job.check_count("eval", len(keys), keys_file)
    if names:
        _same_labels(dict.fromkeys(names, True), dict.fromkeys(keys.names, True), keys_file, chosen)
    # The folder of the track, for 2021/eval-package wants the files of ASV too.
    job.link(str(Path(entry.keys or "").parents[1]), keys_file.parents[1])


def prepare_itw(job: Job) -> None:
    entry = CATALOGUE["ITW"]
    key = Path(entry.keys or "")
    theirs_list, theirs = job.of_authors("in_the_wild.eval.txt"), job.of_authors("ITW/meta.csv")
    held = [path for path in job.searched.texts if path.name == "meta.csv"]
    ours = next((path for path in held if (path.parent / "0.wav").exists() or _ends(path.parent, entry.audio)), None)
    chosen = theirs or ours
    if chosen is None:
        job.lacks(f"{entry.audio}/meta.csv")
        return
    keys = read_keys(chosen)
    job.check_count("eval", len(keys), chosen)
    if theirs is not None and theirs_list is not None and job.authors is not None:
        if ours is not None:
            _same_labels(_labels(read_keys(ours)), _labels(keys), theirs, ours)
        job.link(entry.trials, theirs_list)
        job.link(str(key), theirs)
        theirs_mos = job.authors.text("in_the_wild.meta.score.txt")
        if theirs_mos is not None:
            job.link(str(key.with_name(MOS_KEYS)), theirs_mos)
    else:
        job.write(entry.trials, "".join(f"{name}\n" for name in keys.names))
        job.write(str(key), _text(chosen))
    mos = job.with_mos("eval", keys.names, job.mos)
    if mos is not None:
        labels = ["bona-fide" if label else "spoof" for label in keys.bonafide]
        speakers = keys.columns.get("speaker", ["-"] * len(keys))
        job.write(str(key.with_name(MOS_KEYS)), _csv(zip(keys.names, speakers, labels, mos)))
    folders = [*([ours.parent] if ours else []), *job.searched.folder(entry.audio)]
    job.recordings("eval", keys.names, folders, entry.audio, extension="", key="eval.catalogue.ITW.audio")


def prepare_for(job: Job) -> None:
    entry = CATALOGUE["FoR"]
    key = Path(entry.keys or "")
    theirs_list, theirs = job.of_authors("for_norm_test.txt"), job.of_authors("FoR/meta.csv")
    folders = [f for f in job.searched.folder(entry.audio) if (f / "fake").is_dir() and (f / "real").is_dir()]
    ours: dict[str, bool] = {}  # by the path from fake/ or real/
    if folders:
        for kind in ("fake", "real"):
            held = sorted(name for name in os.listdir(folders[0] / kind) if name.endswith(".wav") and name[0] != ".")
            ours |= {f"{kind}/{name}": kind == "real" for name in held}
    elif job.has_recordings:
        job.lacks(f"{entry.audio}, with the folders fake and real")
    if theirs is not None and theirs_list is not None:
        labels = {f"{name}.wav": label for name, label in _labels(read_keys(theirs)).items()}
        job.check_count("eval", len(labels), theirs)
        if ours:
            _same_labels(ours, labels, theirs, folders[0])
        job.link(entry.trials, theirs_list)
        job.link(str(key), theirs)
    elif ours:
        labels = ours
        job.check_count("eval", len(labels), folders[0])
        # As published, the keys leave the ending out; our readers take `x` and `x.wav` for one name.
        rows = [(name.removesuffix(".wav"), "bona-fide" if label else "spoof") for name, label in labels.items()]
        job.write(entry.trials, "".join(f"{name}\n" for name in labels))
        job.write(str(key), _csv([("file", "label"), *rows]))
        known = {f"{name.removesuffix('.wav')}.wav": text for name, text in job.mos.items()}
        mos = job.with_mos("eval", list(labels), known)
        if mos is not None:
            rated = [(*row, value) for row, value in zip(rows, mos)]
            job.write(str(key.with_name(MOS_KEYS)), _csv([("file", "label", "mos"), *rated]))
    if folders:
        job.recordings("eval", list(labels), folders, entry.audio, extension="", key="eval.catalogue.FoR.audio")


def prepare_asvspoof5(job: Job) -> None:
    if job.authors is not None:
        raise InputError("--authors: the authors have no files for asvspoof5; use --from alone")
    data: dict[str, object] = {"database_path": str(job.to), "protocols_path": str(job.to)}
    evaluation: dict[str, object] = {"sets": []}
    for part, file, names_of_folder in (
        ("train", "ASVspoof5.train.tsv", ["flac_T"]),
        ("dev", "ASVspoof5.dev.track_1.tsv", ["flac_D"]),
        ("eval", "ASVspoof5.eval.track_1.tsv", ["flac_E_eval", "flac_E"]),
    ):
        found = job.official(file)
        if found is None:
            continue
        rows = read_asvspoof5(found)
        job.check_count(part, len(rows), found)
        key = "eval.catalogue.ASVspoof5.audio" if part == "eval" else f"data.{part}_audio"
        target = f"ASVspoof5/{names_of_folder[0]}"
        folders = job.searched.folder(*names_of_folder)
        audio = job.recordings(part, [row[1] for row in rows], folders, target, extension=".flac", key=key)
        protocol = f"ASVspoof5/protocols/{Path(file).stem}.score.txt"
        if part == "eval":
            listed = protocol.replace(".score.txt", ".txt")
            job.write(listed, _five_columns(rows))
            entry = EvalSet(audio=audio, trials=listed, extension=".flac", keys=listed)
            evaluation = {"sets": ["ASVspoof5"], "catalogue": {"ASVspoof5": entry.model_dump()}}
        else:
            job.protocol(part, rows, protocol, audio)
            data |= {f"{part}_audio": audio, f"{part}_protocol": protocol}
    if job.writes:
        tree = yaml.safe_dump({"data": data, "eval": evaluation}, sort_keys=False)
        job.write("ASVspoof5/config.yaml", f"# ASVspoof 5, track 1: only what differs from config.yaml.\n{tree}")
        job.advice.append(f"run it with: python main.py --config {job.to / 'ASVspoof5' / 'config.yaml'}")


def read_asvspoof5(path: Path) -> list[Row]:
    """Each line of an ASVspoof 5 protocol of track 1.

    Raises:
        InputError: naming file and line.
    """
    table = tables.read_table(
        path,
        [0, 1, 7, 8],
        n_columns=ASVSPOOF5_COLUMNS,
        expected="the ten columns of an ASVspoof 5 protocol, the name second and the label ninth",
    )
    speakers, names, attacks, labels = table.columns
    bonafide = labels_to_bool(labels, table.lines, path)
    tables.refuse_repeats(names, table.lines, path=path, what="stands in the protocol before")
    texts = ["bonafide" if label else "spoof" for label in bonafide.tolist()]
    return list(zip(tables.texts_of(speakers), tables.texts_of(names), tables.texts_of(attacks), texts))


def _five_columns(rows: Iterable[Row]) -> str:
    return "".join(f"{speaker} {name} - {attack} {label}\n" for speaker, name, attack, label in rows)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _csv(rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


CORPORA: dict[str, Callable[[Job], None]] = {
    "la2019": prepare_la2019,
    "la2021": functools.partial(prepare_2021, track="LA"),
    "df2021": functools.partial(prepare_2021, track="DF"),
    "itw": prepare_itw,
    "for": prepare_for,
    "asvspoof5": prepare_asvspoof5,
}

if __name__ == "__main__":
    sys.exit(main())
