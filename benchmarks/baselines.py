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
import json
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import data_utils  # noqa: E402
from eval_metrics import equal_error_rate  # noqa: E402
from qamo import InputError  # noqa: E402
from qamo.audio import load as audio  # noqa: E402
from qamo.config.load import load_config  # noqa: E402
from qamo.config.schema import Config  # noqa: E402
from qamo.networks.distillmos import DistillMOS  # noqa: E402
from qamo.networks.lfcc import LFCC  # noqa: E402
from qamo.trials import recordings  # noqa: E402
from qamo.trials.keys import read_keys  # noqa: E402

Split = tuple[list[np.ndarray], np.ndarray]  # waves and bona fide labels


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


def read_split(folder: Path, names: list[str], extension: str, bonafide: np.ndarray) -> Split:
    with ThreadPoolExecutor(2) as pool:
        waves = list(pool.map(audio.load, recordings.Recordings(folder, names, extension)))
    return waves, bonafide


def splits(cfg: Config) -> dict[str, Split]:
    """The training set and each evaluation set that has keys."""
    trials = data_utils.read_protocol(cfg.data.protocols_path / cfg.data.train_protocol)
    found = {"train": read_split(cfg.data.database_path / cfg.data.train_audio, trials.names, ".flac", trials.bonafide)}
    for name, chosen in data_utils.evaluation_sets(cfg.data, cfg.eval).items():
        if chosen.keys:
            keys = read_keys(chosen.keys, subset=chosen.subset)
            label_of = {name.removesuffix(".wav"): label for name, label in zip(keys.names, keys.bonafide.tolist())}
            names = [name for name in chosen.names if name.removesuffix(".wav") in label_of]
            entry = cfg.eval.catalogue[name]
            labels = np.array([label_of[name.removesuffix(".wav")] for name in names])
            found[name] = read_split(cfg.data.database_path / entry.audio, names, entry.extension, labels)
    return found


def extractor(frontend: torch.nn.Module, window_samples: int) -> Callable[[np.ndarray], np.ndarray]:
    def extract(wave: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return frontend(torch.from_numpy(audio.fit_length(wave, window_samples))[None])[0].numpy()

    return extract


def logistic(train: np.ndarray, bonafide: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

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
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=0, class_weight="balanced").fit(train, bonafide)
    return lambda rows: model.predict_proba(rows)[:, 1]


def mixtures(train: list[np.ndarray], bonafide: np.ndarray, n_components: int = 64) -> Callable[..., np.ndarray]:
    """Log-likelihood ratio of two diagonal Gaussian mixtures over frames, averaged over each recording."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore", ConvergenceWarning)  # 30 rounds are as many as GMM baselines of the field take
    rng = np.random.default_rng(0)
    models = []
    for kind in (True, False):
        frames = np.concatenate([f for f, label in zip(train, bonafide) if label == kind])
        frames = frames[rng.permutation(len(frames))[:60_000]]  # enough for 64 components, in seconds
        models.append(GaussianMixture(n_components, covariance_type="diag", max_iter=30, random_state=0).fit(frames))
    return lambda items: np.array([models[0].score(f) - models[1].score(f) for f in items])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "database" / "mini.yaml")
    parser.add_argument("--json", type=Path, help="write the EERs here")
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args.config)
        data = splits(cfg)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    lfcc = extractor(LFCC(**cfg.model.lfcc.model_dump()), cfg.data.window_samples)
    hidden = extractor(DistillMOS(freeze=True), cfg.data.window_samples)
    evaluation = [name for name in data if name != "train"]
    table: dict[str, dict[str, float]] = {}

    def report(
        system: str, fit: Callable[..., Callable[..., np.ndarray]], features: dict[str, list[np.ndarray]]
    ) -> None:
        stack = (lambda rows: rows) if features["train"][0].ndim == 2 else np.stack
        scorer = fit(stack(features["train"]), data["train"][1])
        table[system] = {}
        for name in evaluation:
            scores, bonafide = scorer(stack(features[name])), data[name][1]
            table[system][name] = 100 * float(equal_error_rate(scores[bonafide], scores[~bonafide]).eer)
        print(f"{system:52}" + "".join(f"{table[system][name]:16.1f}" for name in evaluation), flush=True)

    print(f"{'EER %':52}" + "".join(f"{name:>16}" for name in evaluation))
    report("trivial features, boosted trees", trees, {k: [trivial(w) for w in v[0]] for k, v in data.items()})
    cepstra = {k: [lfcc(w) for w in v[0]] for k, v in data.items()}
    statistics = {k: [mean_and_deviation(f) for f in v] for k, v in cepstra.items()}
    report("LFCC mean and deviation, logistic regression", logistic, statistics)
    report("LFCC, two 64-component Gaussian mixtures", mixtures, cepstra)
    states = {k: [mean_and_deviation(hidden(w)) for w in v[0]] for k, v in data.items()}
    report("DistillMOS mean and deviation, logistic regression", logistic, states)
    if args.json:
        args.json.write_text(json.dumps(table, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
