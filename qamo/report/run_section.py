"""The section of a report on a run folder: curves of its training, its settings, the geometry of its centroids."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamo import InputError
from qamo.audio import load as audio
from qamo.report.page import COLORS, DASHES, Chart, Section, centroid_figure, rounded
from qamo.report.tables import Column, Table
from qamo.training.folder import MODEL

MOS_THRESHOLD = 2.5  # between the paper's quality classes
# Settings that say where and not what, or too much.
SILENT = ("data.database_path", "data.protocols_path", "data.rawboost.", "data.n_workers")


@dataclass(frozen=True, eq=False)
class Centroids:
    """What is known of the centroids of a run's head."""

    cosines: np.ndarray  # (K, K) between them
    radii: tuple[float, float] | None  # of bona fide and of spoofed speech; None where the loss has none
    when: str  # a heading: of which weights they are


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run folder says of its training."""

    folder: Path
    epochs: list[dict[str, float]]  # a row of metrics.jsonl each
    settings: list[list[str]]  # dotted key, value
    window_samples: int
    dev_threshold: float | None  # where the EER of the dev scores lies
    results: dict[str, dict[str, Any]]  # a row of results.json for each evaluation set
    centroids: Centroids | None = None


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
            "Of the dev set, which also has the threshold for decisions.",
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
    if run.centroids:
        section.parts.append(centroid_figure(run.centroids.cosines, run.centroids.radii, run.centroids.when))
        if len(run.centroids.cosines) > 1:
            section.parts.append(cosine_table(run.centroids.cosines))
    return section


def cosine_table(cosines: np.ndarray) -> Table:
    """Cosines (K, K) between the centroids."""
    columns = [Column("centroid"), *(Column(f"c{k}", "number") for k in range(len(cosines)))]
    rows = [[f"c{k}", *row] for k, row in enumerate(cosines.tolist())]
    return Table("centroid-cosines", "Cosines between the centroids", columns, rows)


def settings_table(run: RunRecord) -> Table:
    return Table("settings", "Settings of the run", [Column("key"), Column("value")], run.settings, folded=True)


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
        return RunRecord(folder, epochs, [], audio.WINDOW_SAMPLES, threshold, results)
    from qamo.config.load import flat, load_config

    cfg = load_config(path)
    used = {cfg.model.frontend, cfg.model.backend, cfg.model.head}
    settings = []
    for key, value in flat(cfg.model_dump(mode="json", include={"seed", "data", "model", "train"})).items():
        parts = key.split(".")
        unused = parts[0] == "model" and len(parts) > 2 and parts[1] not in used
        if not unused and not key.startswith(SILENT):
            settings.append([key, value if isinstance(value, str) else json.dumps(value)])
    centroids = read_centroids(folder, getattr(cfg.model, cfg.model.head), epochs[-1])
    return RunRecord(folder, epochs, settings, cfg.data.window_samples, threshold, results, centroids)


def read_centroids(folder: Path, head: Any, last: dict[str, float]) -> Centroids | None:
    """The centroids of a run's model, or while there is no model what its last epoch says; None without any.

    Args:
        head: the config section of the head.
        last: the last row of metrics.jsonl.
    """
    radii = (head.radius_bonafide, head.radius_spoof) if hasattr(head, "radius_bonafide") else None
    if (folder / MODEL).is_file() and importlib.util.find_spec("torch"):
        from qamo.networks.weights import read_torch

        content = read_torch(folder / MODEL)  # mapped, not read: a large front end stands beside them
        state = content.get("model") if isinstance(content, dict) else None
        if not isinstance(state, dict):
            raise InputError(f"{folder / MODEL}: expected a checkpoint with 'model', found none; train the run again")
        if "head.centroids" not in state:
            return None
        centroids = state["head.centroids"].detach().double().numpy()
        unit = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
        return Centroids(unit @ unit.T, radii, f"Centroid{'s' if len(unit) > 1 else ''} of the model")
    if getattr(head, "n_centroids", 1) == 2 and "centroid_cosine" in last:
        cosine = last["centroid_cosine"]
        return Centroids(np.array([[1, cosine], [cosine, 1]]), radii, "Centroids after the last epoch")
    return Centroids(np.ones((1, 1)), radii, "The centroid") if radii and getattr(head, "n_centroids", 1) == 1 else None


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
    ]
    more = [(Column("min t-DCF", "number"), "min_tdcf"), (Column("note"), "note")]
    more = [(column, key) for column, key in more if any(row.get(key) for row in results.values())]
    rows = []
    for name, row in results.items():
        eer, low, high = (None if row.get(key) is None else row[key] / 100 for key in ("eer", "eer_low", "eer_high"))
        counts = row.get("n_bonafide"), row.get("n_spoof")
        rows.append([name, *counts, (eer, low, high), *(row.get(key) for _, key in more)])
    return Table("results", "Results of the run", [*columns, *(column for column, _ in more)], rows)


def dev_threshold(path: Path) -> float | None:
    """The threshold that a run's calibration found on its dev scores; None where it has none."""
    if not path.is_file():
        return None
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["eer_threshold"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: expected a calibration with a number eer_threshold; score the run again") from None


def kinds_of(is_bonafide: np.ndarray, mos: np.ndarray | None) -> list[str]:
    """What each recording (N,) is: its class and, where the MOS is known, on which side of the paper's threshold."""
    classes = np.where(is_bonafide, "bona fide", "spoof").tolist()
    if mos is None:
        return classes
    sides = np.where(mos < MOS_THRESHOLD, f"MOS below {MOS_THRESHOLD}", f"MOS {MOS_THRESHOLD} or more").tolist()
    return [f"{kind}, {side}" for kind, side in zip(classes, sides)]


def scatter(names: list[str], x: np.ndarray, y: np.ndarray, kinds: list[str]) -> dict[str, Any]:
    """A chart of named points: the class by colour, low quality as a ring."""
    order = np.argsort(x, kind="stable").tolist()
    across, up = rounded(x), rounded(y)
    series = [
        {
            "label": kind,
            "color": "ink" if kind == "centroid" else "bonafide" if kind.startswith("bona") else "spoof",
            "hollow": "below" in kind,
            "values": [up[i] if kinds[i] == kind else None for i in order],
            "text": [names[i] if kinds[i] == kind else "" for i in order],
        }
        for kind in sorted(set(kinds), key=lambda kind: (kind == "centroid", kind))
    ]
    return {"kind": "scatter", "x": {"values": [across[i] for i in order], "scale": "linear"}, "series": series}


def embedding_chart(
    names: list[str], embeddings: np.ndarray, is_bonafide: np.ndarray, mos: np.ndarray | None, centers: np.ndarray
) -> Chart:
    """Embeddings (N, E) and centroids (K, E), all brought to length one, in the first two principal components.

    Why these and not t-SNE: distances stay distances, so that the centroids may be drawn among the points, and nothing
    depends on a seed. A trained head also leaves little to unfold: for three runs of the study on 200 recordings each
    two components held 65 to 83 % of the variance, and of a recording's class its ten neighbours in the plane told as
    much (72 to 80 % right) as those in all 64 dimensions (74 to 80 %) or on a map by t-SNE (69 to 79 %).
    """
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    if len(centers):
        centers = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    _, sizes, axes = np.linalg.svd(unit - mean, full_matrices=False)
    share = float((sizes[:2] ** 2).sum()) / max(float((sizes**2).sum()), 1e-12)
    plane = (np.concatenate([unit, centers]) - mean) @ axes[:2].T
    if plane.shape[1] == 1:  # embeddings of one dimension
        plane = np.pad(plane, ((0, 0), (0, 1)))
    n = len(is_bonafide)
    labels = names + [f"centroid c{k}" for k in range(len(centers))]
    spec = scatter(labels, plane[:, 0], plane[:, 1], kinds_of(is_bonafide, mos) + ["centroid"] * len(centers))
    low, high = plane.min(axis=0), plane.max(axis=0)
    middle, half = (low + high) / 2, 0.55 * max(float((high - low).max()), 1e-6)  # both axes in one measure
    spec["x"] |= {"label": "first principal component", "range": rounded([middle[0] - half, middle[0] + half])}
    spec["y"] = {
        "label": "second principal component",
        "scale": "linear",
        "range": rounded([middle[1] - half, middle[1] + half]),
    }
    spec["marks"] = [
        {"x": x, "y": y, "color": "ink", "label": f"c{k}"}
        for k, (x, y) in enumerate(zip(rounded(plane[n:, 0]), rounded(plane[n:, 1])))
    ]
    spec["square"] = True
    rest = "" if share >= 0.5 else " More than half of what tells them apart does not show here."
    return Chart(
        "embeddings",
        "Embeddings",
        f"{n} recordings drawn at random, half of each class where there are enough: the principal components of their "
        f"unit embeddings, which hold {100 * share:.0f} % of the variance.{rest} Point at one, or touch it, for its "
        "name.",
        f"Scatter of {n} embeddings in two principal components with {100 * share:.0f} % of the variance.",
        spec,
    )


def cosine_chart(
    names: list[str],
    embeddings: np.ndarray,
    is_bonafide: np.ndarray,
    mos: np.ndarray | None,
    centers: np.ndarray,
    radii: tuple[float, float] | None,
) -> Chart:
    """Embeddings (N, E) by their cosines to two centroids (2, E): all that the head sees of them."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = unit @ (centers / np.linalg.norm(centers, axis=1, keepdims=True)).T
    spec = scatter(names, cosines[:, 0], cosines[:, 1], kinds_of(is_bonafide, mos))
    spec["x"] |= {"label": "cosine to c0", "range": [-1.06, 1.06]}
    spec["y"] = {"label": "cosine to c1", "scale": "linear", "range": [-1.06, 1.06]}
    spec["square"] = True
    caption = "What the head sees of the same recordings: their cosines to the two centroids, no projection."
    if radii:
        spec["marks"] = [
            {"x": None, "y": radii[0], "color": "bonafide", "label": f"bona fide: {radii[0]:g}"},
            {"x": radii[0], "y": None, "color": "bonafide", "label": ""},
            {"x": None, "y": radii[1], "color": "spoof", "label": f"spoof: {radii[1]:g}"},
            {"x": radii[1], "y": None, "color": "spoof", "label": ""},
        ]
        near = (cosines >= radii[0]).any(axis=1) & is_bonafide
        far = (cosines <= radii[1]).all(axis=1) & ~is_bonafide
        caption += (
            f" Training draws bona fide speech above {radii[0]:g} on the axis of its quality and pushes spoofed speech "
            f"below {radii[1]:g} on both. Here {near.sum()} of {is_bonafide.sum()} bona fide recordings are above on "
            f"one, and {far.sum()} of {(~is_bonafide).sum()} spoofed ones below on both."
        )
    return Chart(
        "cosines",
        "Cosines to the centroids",
        caption,
        f"Scatter of {len(names)} recordings by their cosines to the two centroids. {caption}",
        spec,
    )
