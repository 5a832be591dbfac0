"""Keys and scores at the official numbers of trials of ASVspoof 2021 and In-the-Wild, made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ATTACKS = [f"A{i:02d}" for i in range(7, 20)]
CODECS = ["none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus"]
VOCODERS = ["traditional_vocoder", "waveform_concatenation", "neural_vocoder_autoregressive"]
VOCODERS += ["neural_vocoder_nonautoregressive", "unknown"]
COMPRESSIONS = ["nocodec", "low_mp3", "high_mp3", "low_m4a", "high_m4a", "low_ogg", "high_ogg", "mp3m4a", "oggm4a"]
SUBSETS = {  # bona fide and spoofed trials
    "LA": {"eval": (14_816, 133_360), "progress": (1_676, 14_788), "hidden": (1_960, 14_966)},
    "DF": {"eval": (14_869, 519_059), "progress": (5_768, 53_557), "hidden": (1_980, 16_596)},
}
ASV_MEANS = {"target": 9, "nontarget": -9, "spoof": 2}  # of made-up ASV scores, and how many of each there are:
ASV_TRIALS = {
    "eval": (14_816, 333_360, 286_000),
    "progress": (1_676, 37_040, 31_760),
    "hidden": (1_960, 43_325, 35_344),
}


def make_files(folder: Path) -> None:
    """Write LA.txt, DF.txt, itw.txt, their keys, and the ASV scores and key of LA, below a folder."""
    rng = np.random.default_rng(0)
    for track in SUBSETS:
        _write_track(folder, track, rng)
    _write_asv(folder / "keys" / "LA" / "ASV", rng)
    (folder / "keys" / "PA").mkdir()  # the official package wants all three folders
    labels = ["bona-fide" if i < 19_963 else "spoof" for i in rng.permutation(31_779).tolist()]
    values = rng.normal(size=len(labels)).tolist()
    rows = [f"{i}.wav,Speaker {i % 54},{label}" for i, label in enumerate(labels)]
    _write(folder / "itw" / "meta.csv", ["file,speaker,label", *rows])
    pairs = zip(values, labels)
    _write(folder / "itw.txt", [f"{i}.wav {x + 2 * (label != 'spoof')!r}" for i, (x, label) in enumerate(pairs)])


def _write_track(folder: Path, track: str, rng: np.random.Generator) -> None:
    trials = [
        (label, subset, i)
        for subset, counts in SUBSETS[track].items()
        for label, count in zip(("bonafide", "spoof"), counts)
        for i in range(count)
    ]
    key, scores = [], []
    speakers, values = rng.integers(0, 67, len(trials)).tolist(), rng.normal(size=len(trials)).tolist()
    for number, at in enumerate(rng.permutation(len(trials)).tolist()):
        label, subset, i = trials[at]
        is_bonafide = label == "bonafide"
        if track == "LA":
            middle, rest = f"{CODECS[i % 7]} ita_tx {'bonafide' if is_bonafide else ATTACKS[i % 13]}", ""
        else:
            middle = f"{COMPRESSIONS[i % 9]} asvspoof A14"
            rest = f" {'bonafide' if is_bonafide else VOCODERS[i % 5]} - - - -"
        name = f"{track}_E_{1_000_000 + 13 * number}"
        key.append(f"LA_{speakers[at]:04d} {name} {middle} {label} notrim {subset}{rest}")
        scores.append(f"{name} {float(np.float32(values[number] + (2 if is_bonafide else -1)))!r}")
    _write(folder / "keys" / track / "CM" / "trial_metadata.txt", key)
    _write(folder / f"{track}.txt", [scores[i] for i in rng.permutation(len(scores)).tolist()])


def _write_asv(folder: Path, rng: np.random.Generator) -> None:
    key, scores = [], []
    for subset, counts in ASV_TRIALS.items():
        for (label, mean), count in zip(ASV_MEANS.items(), counts):
            values, trials = rng.normal(mean, 5, count).tolist(), rng.integers(1_000_000, 10_000_000, count).tolist()
            for i, (value, trial) in enumerate(zip(values, trials)):
                codec, attack = CODECS[i % 7], ATTACKS[i % 13] if label == "spoof" else "bonafide"
                pair = f"LA_{i % 67:04d}-{codec}-ita_tx LA_E_{trial}-{codec}-ita_tx"
                key.append(f"{pair} {codec} ita_tx {attack} {label} notrim {subset}")
                scores.append(f"{pair} {value:.6f}")
    _write(folder / "trial_metadata.txt", key)
    _write(folder / "ASVTorch_Kaldi" / "score.txt", scores)


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
