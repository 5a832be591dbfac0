"""Every number of a report, computed again from the raw files by other code: NumPy, SciPy and scikit-learn alone.

    python tests/support/recompute.py FOLDER    a folder that `write_raw_files` and the report of `WORDS` made

All is done the plain way: an EER by walking along the sorted scores, a bootstrap by drawing trials, a jackknife by
leaving each speaker out. Bounds that a bootstrap decides differ by its chance; all others must agree to 1e-9 (those of
fits: 1e-4).
"""

from __future__ import annotations

import csv
import math
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

THRESHOLDS = {"a": 2.0, "b": 12.0}
EDGES = (2.0, 2.5, 3.0, 3.5, 4.0)
N_WORST = 3  # of each class
WORDS = [
    *(
        "a=ev_a.txt",
        "b=ev_b.txt",
        "--keys",
        "ev.csv",
        "--threshold",
        "2",
        "12",
        "--by",
        "attack",
        "codec",
        "attack*codec",
    ),
    *("--calibrate-on", "dev_a.txt", "dev.csv", "--calibrate-on", "dev_b.txt", "dev.csv", "--fuse", "--worst", "6"),
    *("--set", "dev_a.txt", "dev_b.txt", "dev.csv", "-o", "r.html", "--csv", "csv"),
]
LEVEL, N_RESAMPLES = 0.95, 400
Row = dict[str, object]


def write_raw_files(folder: Path) -> None:
    """A dev and an evaluation set of two systems: 15 speakers who differ, three attacks, three codecs, MOS."""
    rng = np.random.default_rng(5)
    for part, n in (("dev", 400), ("ev", 900)):
        rows = ["file,speaker,attack,codec,label,mos"]
        scores: dict[str, list[str]] = {"a": [], "b": []}
        offset = rng.normal(size=15)
        for i in range(n):
            k, real, codec = int(rng.integers(15)), rng.random() < 0.35, ("none", "mp3", "ogg")[int(rng.integers(3))]
            attack = "-" if real else f"A{int(rng.integers(1, 4))}"
            mos = float(np.clip(rng.normal(3.2 if real else 2.8, 0.7), 1, 5))
            rows.append(f"{part}{i},s{k:02d},{attack},{codec},{'bonafide' if real else 'spoof'},{mos:.2f}")
            common = rng.normal() + 0.8 * offset[k] + 0.2 * mos
            scores["a"].append(f"{part}{i} {common + 0.7 * rng.normal() + 2.5 * real:.9f}")
            scores["b"].append(f"{part}{i} {3 * (common + 0.7 * rng.normal() + 2.2 * real) + 7:.9f}")
        (folder / f"{part}.csv").write_text("\n".join(rows) + "\n")
        for name, lines in scores.items():
            (folder / f"{part}_{name}.txt").write_text("\n".join(lines) + "\n")


class Trials(NamedTuple):
    score: dict[str, np.ndarray]
    real: np.ndarray
    key: dict[str, np.ndarray]  # columns of the key


def read(folder: Path, part: str) -> Trials:
    rows = list(csv.DictReader((folder / f"{part}.csv").open()))
    key = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    score = {}
    for name in "ab":
        lines = dict(line.split() for line in (folder / f"{part}_{name}.txt").read_text().splitlines())
        score[name] = np.array([float(lines[file]) for file in key["file"]])
    return Trials(score, key["label"] == "bonafide", key)


# Points


def rates(score: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds below and at each score, and both error rates there; of equal scores, bona fide ones go first."""
    order = np.lexsort((~real, score))
    rejected = np.concatenate([[0], np.cumsum(real[order])])
    let_in = (~real).sum() - (np.arange(len(score) + 1) - rejected)
    return np.append(score.min() - 0.001, score[order]), rejected / real.sum(), let_in / (~real).sum()


def eer(score: np.ndarray, real: np.ndarray) -> float:
    _, miss, false_alarm = rates(score, real)
    i = np.argmin(abs(miss - false_alarm))
    return float(miss[i] + false_alarm[i]) / 2


def costs(score: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Of log-likelihood ratios, natural."""
    _, miss, false_alarm = rates(score, real)
    bayes = math.log(0.5 / 0.95)
    actual = 0.95 * (score[real] < bayes).mean() + 0.5 * (score[~real] >= bayes).mean()
    weight = np.where(real, 0.5 / real.sum(), 0.5 / (~real).sum())
    p = IsotonicRegression(out_of_bounds="clip").fit(score, real, weight).predict(score)
    with np.errstate(divide="ignore"):
        best = np.log(p / (1 - p))
    return {
        "Cllr": cllr(score, real), "min Cllr": cllr(best, real), "act DCF": actual / 0.5,
        "min DCF": float((0.95 * miss + 0.5 * false_alarm).min()) / 0.5,
    }  # fmt: skip


def cllr(llr: np.ndarray, real: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.log2(1 + np.exp(-llr[real])).mean() + np.log2(1 + np.exp(llr[~real])).mean()) / 2


# Intervals


class Ends(NamedTuple):
    low: float
    high: float
    by_chance: bool  # whether a bootstrap has a say in them


def exact(rate: float, n: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds."""
    return (
        float(stats.beta.ppf((1 - LEVEL) / 2, rate * n, (1 - rate) * n + 1)) if rate else 0.0,
        float(stats.beta.ppf((1 + LEVEL) / 2, rate * n + 1, (1 - rate) * n)),
    )


def drawn(real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.choice(np.flatnonzero(part), part.sum()) for part in (real, ~real)])


def n_trials(score: np.ndarray, real: np.ndarray) -> float:
    rng = np.random.default_rng(1)
    resampled = [eer(score[i], real[i]) for i in (drawn(real, rng) for _ in range(N_RESAMPLES))]
    e, smaller = eer(score, real), min(real.sum(), (~real).sum())
    variance = float(np.var(resampled))
    n = min(max(e * (1 - e) / variance, smaller), len(real)) if variance else smaller
    return float((e * smaller * n + smaller) / (e * smaller + 1))


def kish(*speakers: np.ndarray) -> float:
    """Speakers of equal size who would vary as much, in the class with fewer."""
    sizes = [np.unique(speaker, return_counts=True)[1].astype(float) for speaker in speakers]
    return min(float(n.sum() ** 2 / (n**2).sum()) for n in sizes)


def interval(score: np.ndarray, real: np.ndarray, speaker: np.ndarray | None) -> Ends:
    """As docs/statistics.md has it."""
    e, most = eer(score, real), n_trials(score, real)
    if speaker is None:
        return Ends(*exact(e, most), True)
    groups, n_effective = np.unique(speaker), kish(speaker[real], speaker[~real])
    left = np.array([eer(score[speaker != g], real[speaker != g]) for g in groups])
    variance = (len(groups) - 1) / len(groups) * float(((left - e) ** 2).sum())
    n = min(e * (1 - e) / variance, most) if variance else most
    t = float(stats.t.ppf((1 + LEVEL) / 2, max(0.75 * (n_effective - 1), 1)))
    wide = n * (1.959963985 / t) ** 2
    few = (e * n * wide + math.sqrt(n_effective * min(real.sum(), (~real).sum()))) / (e * n + 1)
    final = min(wide, few, most)
    share = left.mean() - left
    skew = float((share**3).sum()) / 6 / (float((share**2).sum()) ** 1.5 or 1)

    def stretch(s: float) -> float:
        return 1.0 if s <= 0 else (s + (s + t) / max(1 - s * (s + t), 0.2)) / t

    low, high = (exact(e, final / stretch(side * skew) ** 2)[k] for k, side in enumerate((-1, 1)))
    return Ends(low, high, n >= 0.8 * most or final >= 0.8 * most)


def difference(a: np.ndarray, b: np.ndarray, real: np.ndarray, speaker: np.ndarray) -> tuple[float, Ends, float]:
    """EER of a less that of b, its ends, p."""
    value, rng = eer(a, real) - eer(b, real), np.random.default_rng(2)
    both = [eer(a[i], real[i]) - eer(b[i], real[i]) for i in (drawn(real, rng) for _ in range(N_RESAMPLES))]
    by_trial = max(float(np.var(both)), 2 / (min(real.sum(), (~real).sum()) + 2) ** 2)
    groups = np.unique(speaker)
    left = np.array([eer(a[k], real[k]) - eer(b[k], real[k]) for k in (speaker != g for g in groups)])
    between = (len(groups) - 1) / len(groups) * float(((left - value) ** 2).sum())
    df, error = kish(speaker[real], speaker[~real]) - 1, math.sqrt(max(by_trial, between))
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return (
        value,
        Ends(value - half, value + half, by_trial > 0.8 * between),
        float(2 * stats.t.sf(abs(value) / error, df)),
    )


def spearman(x: np.ndarray, y: np.ndarray, speaker: np.ndarray) -> tuple[float, Ends]:
    r, groups = float(stats.spearmanr(x, y).statistic), np.unique(speaker)
    left = np.arctanh([stats.spearmanr(x[speaker != g], y[speaker != g]).statistic for g in groups])
    between = (len(groups) - 1) / len(groups) * float(((left - math.atanh(r)) ** 2).sum())
    error = math.sqrt(max((1 + r * r / 2) / (len(x) - 3), between))
    df = max(0.75 * (kish(speaker) - 1), 1)
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return r, Ends(math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), False)


# Calibration


def llr_of(dev: Trials, names: str) -> tuple[list[float], float]:
    """Weights and offset by scikit-learn, classes weighing one half each."""
    x = np.column_stack([dev.score[name] for name in names])
    weight = np.where(dev.real, 0.5 / dev.real.sum(), 0.5 / (~dev.real).sum())
    centre = weight @ x
    scale = np.sqrt(weight @ (x - centre) ** 2)
    ridge = 0.01 / min(dev.real.sum(), (~dev.real).sum())
    fit = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=10_000).fit((x - centre) / scale, dev.real, weight)
    slopes = fit.coef_[0] / scale
    return slopes.tolist(), float(fit.intercept_[0] - slopes @ centre)


# Tables


def level_rows(ev: Trials, name: str, parts: list[tuple[str, np.ndarray, np.ndarray]], by_speaker: bool) -> list[Row]:
    """(level, bona fide, spoof) of each row."""
    rows = []
    for level, bonafide, spoof in parts:
        here = bonafide | spoof
        row: Row = {name: level, "bona fide": bonafide.sum(), "spoof": spoof.sum()}
        for system, score in ev.score.items():
            speaker = ev.key["speaker"][here] if by_speaker else None
            row |= {
                f"{system} EER": eer(score[here], ev.real[here]),
                f"{system} EER ends": interval(score[here], ev.real[here], speaker),
                f"{system} miss rate": (score[bonafide] <= THRESHOLDS[system]).mean(),
                f"{system} false alarm rate": (score[spoof] > THRESHOLDS[system]).mean(),
            }
        n_speakers = len(set(ev.key["speaker"][here]))
        row["interval"] = f"by speaker, {n_speakers} speakers" if by_speaker else f"by trial, {here.sum()} trials"
        rows.append(row)
    return rows


def conditions(ev: Trials) -> dict[str, list[Row]]:
    real, key, mos = ev.real, ev.key, ev.key["mos"].astype(float)
    attacks = [(a, real, key["attack"] == a) for a in ("A1", "A2", "A3")]
    codecs = [(c, real & (key["codec"] == c), ~real & (key["codec"] == c)) for c in ("mp3", "none", "ogg")]
    speakers = [(s, real & (key["speaker"] == s), ~real & (key["speaker"] == s)) for s in sorted(set(key["speaker"]))]
    names = ["below 2", "2 to 2.5", "2.5 to 3", "3 to 3.5", "3.5 to 4", "4 and above"]
    band = np.digitize(mos, EDGES)
    bands = [(name, real & (band == k), ~real & (band == k)) for k, name in enumerate(names)]
    found = {
        "by-attack": level_rows(ev, "attack", attacks, True),
        "by-codec": level_rows(ev, "codec", codecs, True),
        "by-speaker": level_rows(ev, "speaker", speakers, False),
        "by-mos": level_rows(ev, "MOS", bands, True),
    }
    for k, score in enumerate(ev.score.values()):
        found[f"attack-by-codec-{k}"] = [
            {"attack \\ codec": a, "all": eer(score[real | spoof], real[real | spoof])}
            | {c: eer(score[b | (spoof & s)], real[b | (spoof & s)]) for c, b, s in codecs}
            for a, _, spoof in attacks
        ]
    return found


def whole(ev: Trials, dev: Trials) -> dict[str, list[Row]]:
    real, speaker, mos = ev.real, ev.key["speaker"], ev.key["mos"].astype(float)
    basis = "by speaker, 15 speakers"
    value, ends, p = difference(ev.score["a"], ev.score["b"], real, speaker)
    dev_value, dev_ends, dev_p = difference(dev.score["a"], dev.score["b"], dev.real, dev.key["speaker"])
    column = "EER of a − EER of b"
    found: dict[str, list[Row]] = {"pooled": [], "systems-by-sets": [], "mos-correlation": []}
    found["pairs"] = [
        {"a": "a", "b": "b", column: value, f"{column} ends": ends, "p": p, "p, Holm": p, "interval": basis}
    ]
    least = min(p, dev_p)
    holm = {q: 2 * q if q == least else max(2 * least, q) for q in (p, dev_p)}
    found["differences-by-sets"] = [
        {
            "set": name,
            "a": "a",
            "b": "b",
            "seeds of a, of b": "1, 1",
            column: v,
            f"{column} ends": e,
            "p": q,
            "p, Holm": min(1.0, holm[q]),
            "interval": basis,
        }
        for name, v, e, q in (("ev", value, ends, p), ("dev", dev_value, dev_ends, dev_p))
    ]
    found["mos-alone"] = [
        {"score": name, "EER": eer(score, real), "EER ends": interval(score, real, speaker), "interval": basis}
        for name, score in (("MOS alone", mos), *ev.score.items())
    ]
    for system, score in ev.score.items():
        at, miss, false_alarm = rates(score, real)
        given = THRESHOLDS[system]
        found["pooled"].append({
            "system": system, "EER": eer(score, real), "EER ends": interval(score, real, speaker), "interval": basis,
            "threshold": at[np.argmin(abs(miss - false_alarm))], "min DCF": costs(score, real)["min DCF"],
            "given threshold": given, "miss rate": (score[real] <= given).mean(),
            "false alarm rate": (score[~real] > given).mean(),
        })  # fmt: skip
        each = eer(score, real), eer(dev.score[system], dev.real)
        both = np.concatenate([score, dev.score[system]]), np.concatenate([real, dev.real])
        found["systems-by-sets"].append({
            "system": system, "seeds": 1, "ev EER": each[0], "ev ±": "", "dev EER": each[1], "dev ±": "",
            "average of sets EER": sum(each) / 2, "average of sets ±": "", "pooled trials EER": eer(*both),
        })  # fmt: skip
        for name, part in (("bona fide", real), ("spoof", ~real)):
            r, r_ends = spearman(mos[part], score[part], speaker[part])
            pearson = stats.pearsonr(mos[part], score[part]).statistic
            found["mos-correlation"].append({
                "score of": system, "class": name, "trials": part.sum(), "Spearman": r, "Spearman ends": r_ends,
                "interval": basis, "Pearson": pearson,
            })  # fmt: skip
    return found


def calibration(ev: Trials, dev: Trials) -> list[Row]:
    rows, bounds = [], (-math.log(dev.real.sum() + 1), math.log((~dev.real).sum() + 1))
    for label, names in (("a", "a"), ("b", "b"), ("fusion", "ab")):
        weights, offset = llr_of(dev, names)
        llr = np.clip(sum(w * ev.score[name] for w, name in zip(weights, names)) + offset, *bounds)
        row: Row = {
            "system": label,
            "EER": eer(llr, ev.real),
            **costs(llr, ev.real),
            "log-likelihood ratio": (*weights, offset),
        }
        rows.append(row | {"dev bona fide": dev.real.sum(), "dev spoof": (~dev.real).sum()})
    return rows


def worst(ev: Trials, system: str) -> list[Row]:
    score, at = ev.score[system], THRESHOLDS[system]
    order = np.argsort(score)
    missed = [i for i in order if ev.real[i] and score[i] <= at][:N_WORST]
    accepted = [i for i in order[::-1] if not ev.real[i] and score[i] > at][:N_WORST]
    return [
        {
            "trial": ev.key["file"][i], "is": "bona fide" if ev.real[i] else "spoof", "score": score[i],
            "beyond threshold by": abs(score[i] - at) / score.std(), "MOS": float(ev.key["mos"][i]),
            **{name: ev.key[name][i] for name in ("speaker", "attack", "codec")},
        }
        for i in (*missed, *accepted)
    ]  # fmt: skip


def recompute(folder: Path) -> dict[str, list[Row]]:
    """Every table of the report but that of its sources; both ends of `X` are called `X ends`."""
    ev, dev = read(folder, "ev"), read(folder, "dev")
    found = whole(ev, dev) | conditions(ev) | {"calibration": calibration(ev, dev)}
    return found | {f"worst-{k}": worst(ev, system) for k, system in enumerate(ev.score)}


def differing(folder: Path) -> list[str]:
    """A line for each number and word of the report that is not what it should be, and for what was not looked at."""
    said = {path.stem: list(csv.DictReader(path.open())) for path in sorted((folder / "csv").glob("*.csv"))}
    said.pop("sources-table")
    faults, found = [], recompute(folder)
    faults += [f"{name}: in one of both only" for name in said.keys() ^ found.keys()]
    for name in said.keys() & found.keys():
        if len(said[name]) != len(found[name]):
            faults.append(f"{name}: {len(said[name])} rows, expected {len(found[name])}")
        for k, (row, wanted) in enumerate(zip(said[name], found[name])):
            columns = {c for c in wanted if not c.endswith(" ends")}
            columns |= {f"{c[:-5]} {end}" for c in wanted if c.endswith(" ends") for end in ("low", "high")}
            faults += [f"{name}, row {k}: {c}: in one of both only" for c in columns ^ row.keys()]
            room = 1e-4 if name == "calibration" else 0.0
            wrong = [(c, v) for c, v in cells(wanted) if c in row and not agrees(row[c], v, room)]
            faults += [f"{name}, row {k}: {c}: {row[c]} is not {v}" for c, v in wrong]
    return faults


class Rough(NamedTuple):
    """A number that a bootstrap has a say in."""

    value: float
    room: float


def cells(wanted: Row) -> list[tuple[str, object]]:
    made: list[tuple[str, object]] = []
    for column, value in wanted.items():
        if isinstance(value, Ends):
            room = 0.12 * (value.high - value.low) + 1e-3 if value.by_chance else 0.0
            made += [(f"{column[:-5]} {end}", Rough(getattr(value, end), room)) for end in ("low", "high")]
        elif column in ("p", "p, Holm"):
            made.append((column, Rough(float(value), 0.2 * float(value) + 0.01)))  # type: ignore[arg-type]
        else:
            made.append((column, value))
    return made


def agrees(text: str, value: object, room: float) -> bool:
    if isinstance(value, str):
        return text == value
    if isinstance(value, tuple) and not isinstance(value, Rough):  # a formula, of rounded numbers
        numbers = [float(number.replace(" ", "")) for number in re.findall(r"[+-]?\d+\.?\d*(?:e-?\d+)?", text)]
        return len(numbers) == len(value) and np.allclose(numbers, value, rtol=2e-3)
    rough = value if isinstance(value, Rough) else Rough(float(value), room)  # type: ignore[arg-type]
    return abs(float(text) - rough.value) <= rough.room + 1e-9


if __name__ == "__main__":
    lines = differing(Path(sys.argv[1]))
    print("\n".join(lines) or "every number is the same")
    sys.exit(bool(lines))
