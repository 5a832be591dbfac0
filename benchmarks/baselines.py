"""How hard a corpus is: EER of classic and trivial detectors trained on its training set.

    python benchmarks/baselines.py --config database/mini.yaml

Trivial features (duration, level, spectral centroid, roll-off, share of silence) with boosted trees show what a
detector could win without listening; LFCC statistics with logistic regression, two LFCC Gaussian mixtures and
DistillMOS hidden states with logistic regression are the bars that a trained detector must clear. None is augmented.
Recordings are taken whole by the trivial features and cut or repeated to the detector's window by the others.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import ROOT, table
from benchmarks.subjects import labelled_sets
from eval_metrics import equal_error_rate
from qamo.audio import load as audio
from qamo.command import Parser, run_command
from qamo.config.load import load_config
from qamo.config.schema import Config
from qamo.files import write_json
from qamo.networks.distillmos import DistillMOS
from qamo.networks.lfcc import LFCC
from qamo.trials.protocol import read_protocol
from qamo.trials.recordings import Recordings

Fit = Callable[..., Callable[..., np.ndarray]]  # features and labels of training -> features -> scores


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("baselines.py", __doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "database" / "mini.yaml")
    parser.add_argument("-o", "--output", "--json", type=Path, metavar="FILE", help="write the EERs there, as JSON")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    cfg = load_config(args.config)
    waves, bonafide = read_waves(cfg)
    lfcc = extractor(LFCC(**cfg.model.lfcc.model_dump()), cfg.data.window_samples)
    hidden = extractor(DistillMOS(freeze=True), cfg.data.window_samples)
    cepstra = {name: [lfcc(wave) for wave in part] for name, part in waves.items()}
    systems: dict[str, tuple[Fit, dict[str, Any]]] = {
        "trivial features, boosted trees": (trees, _stacked(waves, trivial)),
        "LFCC mean and deviation, logistic regression": (logistic, _stacked(cepstra, mean_and_deviation)),
        "LFCC, two 64-component Gaussian mixtures": (mixtures, cepstra),
        "DistillMOS mean and deviation, logistic regression": (
            logistic,
            _stacked(waves, lambda wave: mean_and_deviation(hidden(wave))),
        ),
    }
    eers: dict[str, dict[str, float]] = {}
    for system, (fit, features) in systems.items():
        scorer = fit(features["train"], bonafide["train"])
        eers[system] = {}
        for name in list(waves)[1:]:
            scores, labels = scorer(features[name]), bonafide[name]
            eers[system][name] = 100 * float(equal_error_rate(scores[labels], scores[~labels]).eer)
    rows = [[system, *(f"{eer:.1f}" for eer in row.values())] for system, row in eers.items()]
    print("\n".join(table(["EER %", *list(waves)[1:]], rows, rule="---:")))
    if args.output:
        write_json(args.output, eers)
    return 0


def read_waves(cfg: Config) -> tuple[dict[str, list[np.ndarray]], dict[str, np.ndarray]]:
    """Waves and labels (N,) of the training set, "train", and of each evaluation set."""
    trials = read_protocol(cfg.data.protocols_path / cfg.data.train_protocol)
    paths = Recordings(cfg.data.database_path / cfg.data.train_audio, trials.names, ".flac")
    sets = {"train": (list(paths), trials.bonafide), **labelled_sets(cfg)}
    with ThreadPoolExecutor(2) as pool:
        waves = {name: list(pool.map(audio.load, paths)) for name, (paths, _) in sets.items()}
    return waves, {name: labels for name, (_, labels) in sets.items()}


def _stacked(items: dict[str, list[np.ndarray]], extract: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.stack([extract(item) for item in part]) for name, part in items.items()}


def trivial(wave: np.ndarray) -> np.ndarray:
    """Duration in s, level in dBFS, centroid and 85 % roll-off in Hz, share of 20 ms frames 40 dB below the loudest."""
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / audio.SAMPLE_RATE)
    rolloff_hz = hz[np.searchsorted(np.cumsum(spectrum), 0.85 * spectrum.sum())]
    frames = wave[: len(wave) // 320 * 320].reshape(-1, 320)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    overall = 10 * np.log10((wave.astype(np.float64) ** 2).mean() + 1e-12)
    centroid_hz = (hz * spectrum).sum() / spectrum.sum()
    return np.array(
        [len(wave) / audio.SAMPLE_RATE, overall, centroid_hz, rolloff_hz, (level < level.max() - 40).mean()]
    )


def mean_and_deviation(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features.mean(axis=0), features.std(axis=0)])


def extractor(frontend: torch.nn.Module, window_samples: int) -> Callable[[np.ndarray], np.ndarray]:
    def extract(wave: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return frontend(torch.from_numpy(audio.fit_length(wave, window_samples))[None])[0].numpy()

    return extract


def logistic(train: np.ndarray, bonafide: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    # What scikit-learn 1.8 asks to be told; the last one for Python 3.10 does the same without.
    told = "use_legacy_attributes" in inspect.signature(LogisticRegressionCV).parameters
    newer: dict[str, Any] = {"l1_ratios": (0.0,), "use_legacy_attributes": False} if told else {}
    model = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=np.logspace(-4, 1, 6),
            cv=5,
            scoring="neg_log_loss",
            **newer,
            max_iter=2000,
            class_weight="balanced",
        ),
    ).fit(train, bonafide)
    return model.decision_function


def trees(train: np.ndarray, bonafide: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    model = HistGradientBoostingClassifier(random_state=0, class_weight="balanced").fit(train, bonafide)
    return lambda rows: model.predict_proba(rows)[:, 1]


def mixtures(train: list[np.ndarray], bonafide: np.ndarray, n_components: int = 64) -> Callable[..., np.ndarray]:
    """Log-likelihood ratio of two diagonal Gaussian mixtures over frames, averaged over each recording."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # 30 rounds are as many as GMM baselines of the field take
    rng = np.random.default_rng(0)
    models = []
    for kind in (True, False):
        frames = np.concatenate([f for f, label in zip(train, bonafide) if label == kind])
        frames = frames[rng.permutation(len(frames))[:60_000]]  # enough for 64 components, in seconds
        models.append(GaussianMixture(n_components, covariance_type="diag", max_iter=30, random_state=0).fit(frames))
    return lambda items: np.array([models[0].score(f) - models[1].score(f) for f in items])


if __name__ == "__main__":
    sys.exit(main())
