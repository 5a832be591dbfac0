"""From score files to the table that ends a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval_metrics import equal_error_rate
from qamo.evaluation.intervals import SEED, eer_interval, units_of
from qamo.evaluation.tdcf import pooled_min_tdcf
from qamo.trials.keys import read_keys
from qamo.trials.scores import read_scores


def evaluate(
    score_file: Path, keys_path: Path | None, subset: str | None, *, n_failed: int, n_resamples: int, seed: int = SEED
) -> dict[str, Any]:
    """One row of the table: counts, EER in per cent with threshold and interval, min t-DCF for ASVspoof 2021 LA and PA.

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
    if keys.track in ("LA", "PA"):
        tdcf = pooled_min_tdcf(bonafide, spoof, keys_path, track=keys.track, subset=subset or "eval")
        if tdcf is not None:  # the organisers' ASV files stand beside the keys
            row["min_tdcf"] = round(tdcf, 6)
    return row


def table(results: dict[str, Any]) -> str:
    """The summary of a run, a line an evaluation set."""
    lines = [
        f"{'set':14} {'bona fide':>9} {'spoof':>8} {'EER %':>7} {'95 % interval':>17} {'by':>16} {'min t-DCF':>10}"
    ]
    for name, row in results["sets"].items():
        if "eer" not in row:
            lines.append(f"{name:14} {row['note']}")
            continue
        interval = f"{row['eer_low']:.2f} - {row['eer_high']:.2f}" if "eer_low" in row else "-"
        by = f"{row['n_units']:,} {row['interval_unit']}s" if "n_units" in row else "-"
        tdcf = f"{row['min_tdcf']:.4f}" if "min_tdcf" in row else "-"
        lines.append(
            f"{name:14} {row['n_bonafide']:9,} {row['n_spoof']:8,} {row['eer']:7.2f} {interval:>17} {by:>16} {tdcf:>10}"
        )
    return "\n".join([*lines, f"scores, weights and results: {results['run']}"])


def series_table(all_results: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation of each set's EER over runs that differ in their seeds."""
    seeds = ", ".join(str(results["seed"]) for results in all_results)
    lines = [f"EER % over {len(all_results)} seeds ({seeds})"]
    for name in all_results[0]["sets"]:
        eers = [results["sets"][name].get("eer") for results in all_results]
        if any(eer is None for eer in eers):
            lines.append(f"{name:14} no EER in every run")
            continue
        deviation = f"{statistics.stdev(eers):.2f}" if len(eers) > 1 else "-"
        each = ", ".join(f"{eer:.2f}" for eer in eers)
        lines.append(f"{name:14} mean {statistics.mean(eers):6.2f}   deviation {deviation:>5}   each {each}")
    return "\n".join(lines)
