"""The section of a report on a run folder: curves of its training, its settings, the geometry of its centroids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamo import InputError, audio
from qamo.report_page import COLORS, DASHES, Chart, Section, centroid_figure, rounded
from qamo.report_tables import Column, Table

MOS_THRESHOLD = 2.5  # between the paper's quality classes
# Settings that say where and not what, or too much.
SILENT = ("data.database_path", "data.protocols_path", "data.rawboost.", "data.n_workers")


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says of its training."""

    folder: Path
    epochs: list[dict[str, float]]  # a row of metrics.jsonl each
    settings: list[list[str]]  # dotted key, value
    qamo: tuple[int, float, float] | None  # centroids, radius of bona fide, radius of spoof; where the head is QAMO's
    window_samples: int
    dev_threshold: float | None  # where the EER of the dev scores lies
    results: dict[str, dict[str, Any]]  # a row of results.json for each evaluation set


def training(run: RunRecord) -> Section:
    """Curves of a run's training, its settings, and the geometry of its centroids."""
    rows = run.epochs
    section = Section("training", "Training")
    epochs = [int(row["epoch"]) for row in rows]
    best = min(rows, key=lambda row: row["dev_loss"])
    section.lead = (
        f"{run.folder.name}: {len(rows)} epochs, the least dev loss {best['dev_loss']:.4f} at epoch "
        f"{int(best['epoch'])} (dev EER {best['dev_eer']:.2f} % there)."
    )
    names = [name for name in rows[0] if name.startswith("loss_")]
    losses = {name.removeprefix("loss_").replace("_", " "): name for name in names}
    mark = [{"x": int(best["epoch"]), "y": None, "color": "soft", "label": f"best: {int(best['epoch'])}"}]
    charts = [
        ("losses", "Losses", "loss", {**losses, "dev": "dev_loss"}, "Means over the epoch; 'dev' selects the model."),
        (
            "dev-eer",
            "Dev EER",
            "EER, %",
            {"dev EER": "dev_eer"},
            "On the dev set.",
        ),
    ]
    if "centroid_cosine" in rows[0]:
        cosine = {"greatest cosine": "centroid_cosine"}
        caption = "Near 1 the centroids are one, and quality no longer separates them."
        charts.append(("centroids", "Cosine between centroids", "cosine", cosine, caption))
    classes = {f"class {name.rsplit('_', 1)[1]}": name for name in rows[0] if name.startswith("n_bonafide_class_")}
    if classes:
        caption = "Bona fide training utterances in each quality class; augmentation moves some down."
        charts.append(("classes", "Quality classes", "utterances", classes, caption))
    for id, title, unit, lines, caption in charts:
        series = [
            {
                "label": label,
                "color": COLORS[k % len(COLORS)],
                "dash": DASHES[k % len(DASHES)],
                "values": rounded([row.get(name, float("nan")) for row in rows]),
                "points": len(rows) < 40,
            }
            for k, (label, name) in enumerate(lines.items())
        ]
        ends = "; ".join(f"{label} from {rows[0][n]:.4g} to {rows[-1][n]:.4g}" for label, n in lines.items())
        spec = {
            "kind": "lines",
            "x": {"label": "epoch", "values": epochs, "scale": "epoch", "range": epoch_range(epochs)},
            "y": {"label": unit, "scale": "linear"},
            "series": series,
            "marks": mark if id in ("losses", "dev-eer") else [],
        }
        section.parts.append(Chart(f"training-{id}", title, caption, f"{title} by epoch: {ends}.", spec))
    if run.results:
        section.parts.append(results_table(run.results))
    if run.qamo and run.qamo[0] == 2 and "centroid_cosine" in rows[-1]:
        section.parts.append(centroid_figure(float(rows[-1]["centroid_cosine"]), *run.qamo[1:]))
    return section


def settings_table(run: RunRecord) -> Table:
    return Table("settings", "Settings of the run", [Column("key"), Column("value")], run.settings)


def epoch_range(epochs: list[int]) -> list[float]:
    return [epochs[0] - 0.3, epochs[-1] + 0.3]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The epochs of a run.

    Raises:
        InputError: no epoch is there, or a line is not one.
    """
    if not path.is_file():
        raise InputError(f"--run: {path} is not there; give the folder of a run that was trained (exps/NAME)")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            missing = {"epoch", "dev_loss", "dev_eer"} - row.keys()
        except (json.JSONDecodeError, AttributeError):
            raise InputError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}") from None
        if missing:
            raise InputError(f"{path}:{number}: expected the keys of an epoch, {', '.join(sorted(missing))} missing")
        rows.append({key: value for key, value in row.items() if isinstance(value, int | float)})
    if not rows:
        raise InputError(f"{path}: no epoch has finished yet")
    return rows


def read_run(folder: Path) -> RunRecord:
    """The record of a run.

    Raises:
        InputError: no epoch has finished, or a file of the run is damaged.
    """
    epochs = read_metrics(folder / "metrics.jsonl")
    threshold = dev_threshold(folder / "calibration.json")
    results = read_results(folder / "results.json")
    path = folder / "config.yaml"
    if not path.is_file():
        return RunRecord(folder, epochs, [], None, audio.WINDOW_SAMPLES, threshold, results)
    from qamo.config import load_config
    from qamo.runs import flat

    cfg = load_config(path)
    used = {cfg.model.frontend, cfg.model.backend, cfg.model.head}
    settings = []
    for key, value in flat(cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})).items():
        parts = key.split(".")
        unused = parts[0] == "model" and len(parts) > 2 and parts[1] not in used
        if not unused and not key.startswith(SILENT):
            settings.append([key, str(value)])
    head = cfg.model.qamo
    qamo = (head.n_centroids, head.radius_bonafide, head.radius_spoof) if cfg.model.head == "qamo" else None
    return RunRecord(folder, epochs, settings, qamo, cfg.data.window_samples, threshold, results)


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a run's results by evaluation set; none while the run has not been scored."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["sets"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: expected the results of a run, with 'sets'; score the run again") from None


def results_table(results: dict[str, dict[str, Any]]) -> Table:
    """What the run itself found on its evaluation sets; its file has rates in per cent."""
    columns = [
        Column("set"),
        Column("bona fide", "count"),
        Column("spoof", "count"),
        Column("EER % [95 %]", "interval"),
        Column("min t-DCF", "number"),
        Column("note"),
    ]
    rows = []
    for name, row in results.items():
        eer, low, high = (None if row.get(key) is None else row[key] / 100 for key in ("eer", "eer_low", "eer_high"))
        counts = row.get("n_bonafide"), row.get("n_spoof")
        rows.append([name, *counts, (eer, low, high), row.get("min_tdcf"), row.get("note", "")])
    return Table("results", "Results of the run", columns, rows)


def dev_threshold(path: Path) -> float | None:
    """The threshold that a run's calibration found on its dev scores; None where it has none."""
    if not path.is_file():
        return None
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["eer_threshold"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: expected a calibration with a number eer_threshold; score the run again") from None


def color_of(kind: str) -> str:
    """The colour of a kind of point: one for each class, another where the quality is low."""
    if kind == "centroid":
        return "ink"
    return {(True, False): "s0", (True, True): "s2", (False, False): "s1", (False, True): "s3"}[
        kind.startswith("bona"), "below" in kind
    ]


def embedding_chart(
    names: list[str], embeddings: np.ndarray, is_bonafide: np.ndarray, mos: np.ndarray | None, centers: np.ndarray
) -> Chart:
    """Embeddings (N, E) and centroids (K, E), all of length one, in the first two principal components.

    Points are told apart by class and, where MOS (N,) is known, by the paper's quality classes.
    """
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    if len(centers):
        centers = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    _, sizes, axes = np.linalg.svd(unit - mean, full_matrices=False)
    share = f"{100 * float((sizes[:2] ** 2).sum()) / max(float((sizes**2).sum()), 1e-12):.0f} %"
    plane = (np.concatenate([unit, centers]) - mean) @ axes[:2].T
    kinds = []
    for i, bonafide in enumerate(is_bonafide.tolist()):
        kind = "bona fide" if bonafide else "spoof"
        if mos is not None:
            kind += f", MOS below {MOS_THRESHOLD}" if mos[i] < MOS_THRESHOLD else f", MOS {MOS_THRESHOLD} or more"
        kinds.append(kind)
    kinds += ["centroid"] * len(centers)
    names = names + [f"centroid c{k}" for k in range(len(centers))]
    order = np.argsort(plane[:, 0], kind="stable").tolist()
    x, y = rounded(plane[:, 0]), rounded(plane[:, 1])
    series = [
        {
            "label": kind,
            "color": color_of(kind),
            "values": [y[i] if kinds[i] == kind else None for i in order],
            "text": [names[i] if kinds[i] == kind else "" for i in order],
        }
        for kind in sorted(set(kinds), key=lambda kind: (kind == "centroid", kind))
    ]
    n = len(is_bonafide)
    spec = {
        "kind": "scatter",
        "x": {"label": "first principal component", "values": [x[i] for i in order], "scale": "linear"},
        "y": {"label": "second principal component", "scale": "linear"},
        "series": series,
        "marks": [{"x": x[n + k], "y": y[n + k], "color": "ink", "label": f"c{k}"} for k in range(len(centers))],
    }
    return Chart(
        "embeddings",
        "Embeddings",
        f"{n} recordings drawn at random, half of each class: the principal components of their unit embeddings, "
        f"which hold {share} of the variance. Point at one for its name.",
        f"Scatter of {n} embeddings in two principal components with {share} of the variance.",
        spec,
        wide=True,
    )
