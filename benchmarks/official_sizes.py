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
ASV_TRIALS = {
    "eval": (14_816, 333_360, 286_000),
    "progress": (1_676, 37_040, 31_760),
    "hidden": (1_960, 43_325, 35_344),
}


def make_files(folder: Path) -> None:
    """Write keys and scores below a folder."""
    rng = np.random.default_rng(0)

    def write(path: Path, lines: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    for track, subsets in SUBSETS.items():
        rows = []
        for subset, counts in subsets.items():
            for label, count in zip(("bonafide", "spoof"), counts):
                for i, speaker in zip(range(count), rng.integers(0, 67, count).tolist()):
                    rows.append((label, subset, i, f"LA_{speaker:04d}"))
        order = rng.permutation(len(rows)).tolist()
        scores = rng.normal(size=len(rows)).tolist()
        key, score_lines = [], []
        for number, at in enumerate(order):
            label, subset, i, speaker = rows[at]
            name = f"{track}_E_{1_000_000 + 13 * number}"
            if track == "LA":
                attack = "bonafide" if label == "bonafide" else ATTACKS[i % 13]
                key.append(f"{speaker} {name} {CODECS[i % 7]} ita_tx {attack} {label} notrim {subset}")
            else:
                vocoder = "bonafide" if label == "bonafide" else VOCODERS[i % 5]
                middle = f"{COMPRESSIONS[i % 9]} asvspoof A14 {label} notrim {subset}"
                key.append(f"{speaker} {name} {middle} {vocoder} - - - -")
            shift = 2.0 if label == "bonafide" else -1.0
            score_lines.append(f"{name} {float(np.float32(scores[number] + shift))!r}")
        write(folder / "keys" / track / "CM" / "trial_metadata.txt", key)
        write(folder / f"{track}.txt", [score_lines[i] for i in rng.permutation(len(score_lines)).tolist()])

    key, score_lines = [], []
    for subset, asv_counts in ASV_TRIALS.items():
        for (label, mean), count in zip((("target", 9), ("nontarget", -9), ("spoof", 2)), asv_counts):
            draws = rng.normal(mean, 5, count).tolist()
            for i, (draw, trial) in enumerate(zip(draws, rng.integers(1_000_000, 10_000_000, count).tolist())):
                codec, attack = CODECS[i % 7], "bonafide" if label != "spoof" else ATTACKS[i % 13]
                pair = f"LA_{i % 67:04d}-{codec}-ita_tx LA_E_{trial}-{codec}-ita_tx"
                key.append(f"{pair} {codec} ita_tx {attack} {label} notrim {subset}")
                score_lines.append(f"{pair} {draw:.6f}")
    write(folder / "keys" / "LA" / "ASV" / "trial_metadata.txt", key)
    write(folder / "keys" / "LA" / "ASV" / "ASVTorch_Kaldi" / "score.txt", score_lines)
    (folder / "keys" / "PA").mkdir()  # the official package wants all three folders

    labels = ["bona-fide" if i < 19_963 else "spoof" for i in rng.permutation(31_779).tolist()]
    draws = rng.normal(size=31_779).tolist()
    write(
        folder / "itw" / "meta.csv",
        ["file,speaker,label"] + [f"{i}.wav,Speaker {i % 54},{x}" for i, x in enumerate(labels)],
    )
    write(folder / "itw.txt", [f"{i}.wav {x + 2 * (y != 'spoof')!r}" for i, (x, y) in enumerate(zip(draws, labels))])
