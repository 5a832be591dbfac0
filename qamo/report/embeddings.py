"""Where recordings lie: in the plane of greatest variance, and by their cosines to two centroids.

N recordings, E dimensions of an embedding, K centroids.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qamo import InputError
from qamo.audio.load import fit_length, load
from qamo.report.charts import Axis, Chart, Line, Mark, Numbers, rounded
from qamo.report.run_record import RunRecord
from qamo.report.subject import Subject
from qamo.trials.recordings import find_recording

MOS_THRESHOLD = 2.5  # between the paper's quality classes


class Points(NamedTuple):
    """Recordings and centroids as a detector has them."""

    names: list[str]
    embeddings: np.ndarray  # (N, E), of length one
    is_bonafide: np.ndarray  # (N,) bool
    mos: np.ndarray | None  # (N,)
    centroids: np.ndarray  # (K, E), of length one; K may be 0

    def kinds(self) -> list[str]:
        """What each recording is: its class and, where the MOS is known, on which side of the paper's threshold."""
        classes = np.where(self.is_bonafide, "bona fide", "spoof").tolist()
        if self.mos is None:
            return classes
        sides = np.where(self.mos < MOS_THRESHOLD, f"MOS below {MOS_THRESHOLD}", f"MOS {MOS_THRESHOLD} or more")
        return [f"{kind}, {side}" for kind, side in zip(classes, sides.tolist())]


def embedding_charts(subject: Subject, run: RunRecord, folder: Path, n_wanted: int) -> list[Chart]:
    """The charts of recordings drawn at random, half of each class where there are enough.

    Raises:
        InputError: a recording is missing or cannot be read.
    """
    points = embed(subject, run, folder, n_wanted)
    charts = [embedding_chart(points)]
    if len(points.centroids) == 2:
        charts.append(cosine_chart(points, run.centroids.radii if run.centroids else None))
    return charts


def embed(subject: Subject, run: RunRecord, folder: Path, n_wanted: int) -> Points:
    """Recordings through the run's model."""
    import torch

    from model import load_detector

    detector = load_detector(run.folder)
    rng = np.random.default_rng(subject.seed)
    indices: list[int] = []
    for mask in (subject.keys.bonafide, ~subject.keys.bonafide):
        indices += rng.permutation(np.flatnonzero(mask))[: -(-n_wanted // 2)].tolist()
    names = [subject.keys.names[i] for i in indices]
    embeddings = []
    for name in names:
        path = find_recording(folder, name)
        if path is None:
            raise InputError(f"--audio: {folder} holds no recording of {name}")
        wave = fit_length(load(path), run.window_samples)
        with torch.inference_mode():
            embeddings.append(detector(torch.from_numpy(wave)[None]).embedding[0].float().numpy())
    centroids = getattr(detector.head, "centroids", None)
    centers = np.zeros((0, len(embeddings[0]))) if centroids is None else centroids.detach().float().numpy()
    mos = None if subject.mos is None else subject.mos[indices]
    return Points(names, unit(np.stack(embeddings)), subject.keys.bonafide[indices], mos, unit(centers))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, E) brought to length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scatter(names: list[str], x: np.ndarray, y: np.ndarray, kinds: list[str]) -> tuple[Numbers, list[Line]]:
    """Named points: their x, rising, and the points of each kind: the class by colour, low quality as a ring."""
    order = np.argsort(x, kind="stable").tolist()
    across, up = rounded(x), rounded(y)
    lines = [
        Line(
            kind,
            [up[i] if kinds[i] == kind else None for i in order],
            "ink" if kind == "centroid" else "bonafide" if kind.startswith("bona") else "spoof",
            [names[i] if kinds[i] == kind else "" for i in order],
            hollow="below" in kind,
        )
        for kind in sorted(set(kinds), key=lambda kind: (kind == "centroid", kind))
    ]
    return [across[i] for i in order], lines


def embedding_chart(points: Points) -> Chart:
    """Embeddings and centroids in the first two principal components of the embeddings.

    Why these and not t-SNE: distances stay distances, so that the centroids may be drawn among the points, and nothing
    depends on a seed. A trained head also leaves little to unfold: for three runs of the study on 200 recordings each
    two components held 65 to 83 % of the variance, and of a recording's class its ten neighbours in the plane told as
    much (72 to 80 % right) as those in all 64 dimensions (74 to 80 %) or on a map by t-SNE (69 to 79 %).
    """
    n, n_centroids = len(points.names), len(points.centroids)
    mean = points.embeddings.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points.embeddings - mean, full_matrices=False)
    share = float((sizes[:2] ** 2).sum()) / max(float((sizes**2).sum()), 1e-12)
    plane = (np.concatenate([points.embeddings, points.centroids]) - mean) @ axes[:2].T
    if plane.shape[1] == 1:  # embeddings of one dimension
        plane = np.pad(plane, ((0, 0), (0, 1)))
    labels = [f"c{k}" for k in range(n_centroids)]
    names = points.names + [f"centroid {label}" for label in labels]
    across, lines = scatter(names, plane[:, 0], plane[:, 1], points.kinds() + ["centroid"] * n_centroids)
    low, high = plane.min(axis=0), plane.max(axis=0)
    half = 0.55 * max(float((high - low).max()), 1e-6)  # both axes in one measure
    ranges = [rounded([middle - half, middle + half]) for middle in (low + high) / 2]
    rest = "" if share >= 0.5 else " More than half of what tells them apart does not show here."
    return Chart(
        "embeddings",
        "Embeddings",
        f"{n} recordings drawn at random, half of each class where there are enough: the principal components of their "
        f"unit embeddings, which hold {100 * share:.0f} % of the variance.{rest} Point at one, or touch it, for its "
        "name.",
        f"Scatter of {n} embeddings in two principal components with {100 * share:.0f} % of the variance.",
        Axis("first principal component", across, range=ranges[0]),
        Axis("second principal component", range=ranges[1]),
        lines,
        [Mark(x, y, "ink", label) for (x, y), label in zip(map(rounded, plane[n:]), labels)],
        kind="scatter",
        square=True,
    )


def cosine_chart(points: Points, radii: tuple[float, float] | None) -> Chart:
    """Embeddings by their cosines to two centroids: all that the head sees of them."""
    cosines = points.embeddings @ points.centroids.T
    x, lines = scatter(points.names, cosines[:, 0], cosines[:, 1], points.kinds())
    marks: list[Mark] = []
    caption = "What the head sees of the same recordings: their cosines to the two centroids, no projection."
    if radii:
        for radius, color, label in ((radii[0], "bonafide", "bona fide"), (radii[1], "spoof", "spoof")):
            marks += [Mark(None, radius, color, f"{label}: {radius:g}"), Mark(radius, None, color)]
        near = (cosines >= radii[0]).any(axis=1) & points.is_bonafide
        far = (cosines <= radii[1]).all(axis=1) & ~points.is_bonafide
        caption += (
            f" Training draws bona fide speech above {radii[0]:g} on the axis of its quality and pushes spoofed speech "
            f"below {radii[1]:g} on both. Here {near.sum()} of {points.is_bonafide.sum()} bona fide recordings are "
            f"above on one, and {far.sum()} of {(~points.is_bonafide).sum()} spoofed ones below on both."
        )
    return Chart(
        "cosines",
        "Cosines to the centroids",
        caption,
        f"Scatter of {len(points.names)} recordings by their cosines to the two centroids. {caption}",
        Axis("cosine to c0", x, range=[-1.06, 1.06]),
        Axis("cosine to c1", range=[-1.06, 1.06]),
        lines,
        marks,
        kind="scatter",
        square=True,
    )
