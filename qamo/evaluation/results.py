"""The end of a run: calibration on the dev set, results of each evaluation set, and the table of them."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval_metrics import actual_dcf, cllr_bits, equal_error_rate, min_dcf
from qamo import InputError, cores
from qamo.audio import diagnostics, load
from qamo.config.schema import Config
from qamo.evaluation import calibration
from qamo.evaluation.detection import min_cllr, pool
from qamo.evaluation.intervals import SEED, eer_interval, units_of
from qamo.evaluation.tdcf import pooled_min_tdcf
from qamo.files import write_json
from qamo.training.folder import DEV, RunFolder
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores

if TYPE_CHECKING:
    from qamo.evaluation.sets import EvaluationSet

log = logging.getLogger(__name__)

AT_ONCE = 4  # evaluation sets; each takes some 400 MB at the size of ASVspoof 2021 DF
N_DOMAIN_SAMPLES = 200  # dev recordings measured to describe the training domain


def calibrate(folder: RunFolder, dev: EvaluationSet, *, comment: str | None) -> None:
    """Fit the calibration of the run's model to its dev scores, and describe the dev recordings; log why if it fails.

    Args:
        comment: as for `RunFolder.score_file`.
    """
    from qamo.trials.protocol import read_protocol

    scores = folder.score_file(DEV, comment)
    try:
        step = max(1, len(dev.paths) // N_DOMAIN_SAMPLES)
        measured = (diagnostics.measure(load.load(path)) for path in dev.paths[::step][:N_DOMAIN_SAMPLES])
        domain = diagnostics.domain_of(measured)
        domain["mos_low"] = round(float(np.percentile(read_protocol(dev.list).mos, 1)), 2)
        fitted = calibration.fit_files(scores, dev.list, domain=domain)
    except InputError as error:
        log.warning("no calibration: %s", error)
        return
    calibration.write(folder.calibration, fitted)
    log.info("calibrated on %d dev scores, EER %.2f %%", fitted.n_bonafide + fitted.n_spoof, 100 * fitted.eer)


def write(
    cfg: Config, folder: RunFolder, sets: Mapping[str, EvaluationSet], n_failed: Mapping[str, int]
) -> dict[str, Any]:
    """Evaluate the score file of each set, and write results.json."""
    calibrated = calibration.read(folder.calibration) if folder.calibration.is_file() else None

    def row_of(name: str) -> dict[str, Any]:
        chosen = sets[name]
        return evaluate(
            folder.score_file(name, cfg.comment_eval),
            chosen.keys,
            chosen.subset,
            n_failed=n_failed[name],
            n_resamples=cfg.eval.n_resamples,
            calibrated=calibrated,
        )

    with ThreadPoolExecutor(min(AT_ONCE, cores.usable())) as threads:  # NumPy's sorts let go of Python's lock
        rows = dict(zip(sets, threads.map(row_of, sets)))
    results = {"run": str(folder), "weights": str(folder.weights(cfg)), "seed": cfg.seed, "sets": rows}
    write_json(folder.results, results)
    return results


def evaluate(
    score_file: Path,
    keys_path: Path | None,
    subset: str | None,
    *,
    n_failed: int,
    n_resamples: int,
    seed: int = SEED,
    calibrated: calibration.Calibration | None = None,
) -> dict[str, Any]:
    """One row of the table: counts, EER in per cent with threshold and interval, min t-DCF for ASVspoof 2021 LA and PA.

    Detection costs (ASVspoof 5's) and Cllr say what the log-likelihood ratios of the dev calibration are worth here:
    `min_dcf` and `min_cllr` are what the best threshold and calibration on this very set would reach.

    Without keys, or where recordings could not be read, the row says so in place of an EER.
    """
    row: dict[str, Any] = {"scores": str(score_file), "n_failed": n_failed}
    if keys_path is None:
        return row | {"note": "scored; no keys, so no EER"}
    if n_failed:
        return row | {"note": f"no EER: {n_failed} recordings could not be read"}
    keys = read_keys(keys_path, subset=subset)
    values = keys.align(read_scores(score_file))
    bonafide, spoof = values[keys.bonafide], values[~keys.bonafide]
    eer = equal_error_rate(bonafide, spoof)
    row |= {"n_bonafide": len(bonafide), "n_spoof": len(spoof)}
    row |= {"eer": round(100 * float(eer.eer), 4), "threshold": float(eer.threshold)}
    if n_resamples:
        units = units_of(keys.columns, keys.bonafide)
        groups = units.groups(keys.bonafide, ~keys.bonafide)
        interval = eer_interval(bonafide, spoof, unit=units.unit, groups=groups, n_resamples=n_resamples, seed=seed)
        if interval.low is not None and interval.high is not None:
            row |= {"eer_low": round(100 * interval.low, 4), "eer_high": round(100 * interval.high, 4)}
            row |= {"interval_unit": interval.unit, "n_units": interval.n_units}
        row["interval"] = "; ".join(text for text in (interval.basis, units.note) if text)
    row |= _costs(score_file, bonafide, spoof, calibrated)
    if keys.track in ("LA", "PA"):
        tdcf = pooled_min_tdcf(bonafide, spoof, keys_path, track=keys.track, subset=subset or "eval")
        if tdcf is not None:  # the organisers' ASV files stand beside the keys
            row["min_tdcf"] = round(tdcf, 6)
    return row


def _costs(
    score_file: Path, bonafide: np.ndarray, spoof: np.ndarray, calibrated: calibration.Calibration | None
) -> dict[str, float]:
    """Detection costs and Cllr; the actual ones where the calibration is of the detector that made the scores."""
    costs = {"min_dcf": min_dcf(bonafide, spoof).eer, "min_cllr": min_cllr(pool(bonafide, spoof))}
    identity = calibration.identity_of(score_file)
    made_by = calibration.joined_digest(identity["weights"], identity["config"]) if identity else None
    if calibrated is not None and calibrated.weights == made_by:
        llrs = calibrated.llrs(bonafide), calibrated.llrs(spoof)
        costs |= {"act_dcf": actual_dcf(*llrs), "cllr": cllr_bits(*llrs)}
    return {name: round(cost, 6) for name, cost in costs.items()}


def table(results: dict[str, Any]) -> str:
    """The summary of a run, a line an evaluation set."""
    lines = [
        f"{'set':14} {'bona fide':>9} {'spoof':>8} {'EER %':>7} {'95 % interval':>17} {'by':>16} {'min t-DCF':>10}"
        f" {'act/min DCF':>13} {'Cllr/min':>13}"
    ]
    for name, row in results["sets"].items():
        if "eer" not in row:
            lines.append(f"{name:14} {row['note']}")
            continue
        interval = f"{row['eer_low']:.2f} - {row['eer_high']:.2f}" if "eer_low" in row else "-"
        by = f"{row['n_units']:,} {row['interval_unit']}s" if "n_units" in row else "-"
        tdcf = f"{row['min_tdcf']:.4f}" if "min_tdcf" in row else "-"
        dcf, cllr = (
            f"{row[actual]:.3f}/{row[least]:.3f}" if actual in row else f"-/{row[least]:.3f}" if least in row else "-"
            for actual, least in (("act_dcf", "min_dcf"), ("cllr", "min_cllr"))
        )
        lines.append(
            f"{name:14} {row['n_bonafide']:9,} {row['n_spoof']:8,} {row['eer']:7.2f} {interval:>17} {by:>16}"
            f" {tdcf:>10} {dcf:>13} {cllr:>13}"
        )
    lines += [
        f"interval of {name}: {row['interval']}"
        for name, row in results["sets"].items()
        if "too few" in row.get("interval", "")
    ]
    return "\n".join(lines)


def seeds_table(all_results: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation of each set's EER over the runs of several seeds."""
    seeds = ", ".join(str(results["seed"]) for results in all_results)
    lines = [f"EER % over {len(all_results)} seeds ({seeds})"]
    for name in all_results[0]["sets"]:
        eers = [results["sets"][name].get("eer") for results in all_results]
        if any(eer is None for eer in eers):
            lines.append(f"{name:14} no EER in every run")
            continue
        deviation = f"{statistics.stdev(eers):.2f}" if len(eers) > 1 else "-"
        each = ", ".join(f"{eer:.2f}" for eer in eers)
        lines.append(f"{name:14} mean {statistics.mean(eers):6.2f}   standard deviation {deviation:>5}   each {each}")
    return "\n".join(lines)
