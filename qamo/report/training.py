"""The section of a run: curves of its training, MOS under augmentation, its results, its centroids."""

from __future__ import annotations

from typing import Any

import numpy as np

from qamo.report.augmented import augmented_mos
from qamo.report.centroids import centroid_figure
from qamo.report.charts import Axis, Chart, Line, Mark, rounded, style
from qamo.report.page import Section
from qamo.report.run_record import RunRecord
from qamo.report.tables import Column, Table


def training(run: RunRecord) -> Section:
    """Curves of a run's training, its results, and the geometry of its centroids."""
    best = min(run.epochs, key=lambda row: row["dev_loss"])
    lead = (
        f"{run.folder.name}: {len(run.epochs)} epochs, the least dev loss {best['dev_loss']:.4f} at epoch "
        f"{int(best['epoch'])} (dev EER {best['dev_eer']:.2f} % there)."
    )
    section = Section("training", "Training", lead, [*curves(run.epochs, int(best["epoch"]))])
    if run.augmented:
        section.parts += augmented_mos(run.augmented)
    if run.results:
        section.parts.append(results_table(run.results))
    if run.centroids:
        section.parts.append(centroid_figure(run.centroids.cosines, run.centroids.radii, run.centroids.when))
        if len(run.centroids.cosines) > 1:
            section.parts.append(cosine_table(run.centroids.cosines))
    return section


def curves(rows: list[dict[str, float]], best: int) -> list[Chart]:
    """The charts by epoch that the metrics have numbers for."""
    losses = {key.removeprefix("loss_").replace("_", " "): key for key in rows[0] if key.startswith("loss_")}
    losses["dev"] = "dev_loss"
    classes = {f"class {key.rsplit('_', 1)[1]}": key for key in rows[0] if key.startswith("n_bonafide_class_")}
    cosine = {"greatest cosine": "centroid_cosine"} if "centroid_cosine" in rows[0] else {}
    eer = "Of the dev set, which also has the threshold for decisions."
    near = "Near 1 the centroids are one, and quality no longer separates them."
    counts = "Bona fide training utterances in each quality class; augmentation moves some down."
    mark = [Mark(best, None, "soft", f"best: {best}")]
    charts = [
        ("losses", "Losses", "loss", losses, "Means over the epoch; 'dev' selects the model.", mark),
        ("dev-eer", "Dev EER", "EER, %", {"dev EER": "dev_eer"}, eer, mark),
        ("centroids", "Cosine between centroids", "cosine", cosine, near, []),
        ("classes", "Quality classes", "utterances", classes, counts, []),
    ]
    return [chart(rows, *options) for options in charts if options[3]]


def chart(
    rows: list[dict[str, float]], id: str, title: str, unit: str, keys: dict[str, str], caption: str, marks: list[Mark]
) -> Chart:
    """Values by epoch; `keys` of the metrics by their labels."""
    epochs = [int(row["epoch"]) for row in rows]
    lines = [
        Line(label, rounded([row.get(key, float("nan")) for row in rows]), points=len(rows) < 40, **style(k))
        for k, (label, key) in enumerate(keys.items())
    ]
    ends = "; ".join(f"{label} from {rows[0][key]:.4g} to {rows[-1][key]:.4g}" for label, key in keys.items())
    words = f"{title} by epoch: {ends}."
    x = Axis("epoch", epochs, scale="epoch", range=[epochs[0] - 0.3, epochs[-1] + 0.3])
    return Chart(f"training-{id}", title, caption, words, x, Axis(unit), lines, marks)


def cosine_table(cosines: np.ndarray) -> Table:
    """Cosines (K, K) between the centroids."""
    columns = [Column("centroid"), *(Column(f"c{k}", "number") for k in range(len(cosines)))]
    rows = [[f"c{k}", *row] for k, row in enumerate(cosines.tolist())]
    return Table("centroid-cosines", "Cosines between the centroids", columns, rows)


def settings_table(run: RunRecord) -> Table:
    return Table("settings", "Settings of the run", [Column("key"), Column("value")], run.settings, folded=True)


def results_table(results: dict[str, dict[str, Any]]) -> Table:
    """What the run itself found on its evaluation sets; its file has rates in per cent."""

    def values(key: str) -> list[Any]:
        return [row.get(key) for row in results.values()]

    percents = zip(*(values(key) for key in ("eer", "eer_low", "eer_high")))
    eers = [tuple(None if value is None else value / 100 for value in row) for row in percents]
    columns = [
        (Column("set"), list(results)),
        (Column("bona fide", "count"), values("n_bonafide")),
        (Column("spoof", "count"), values("n_spoof")),
        (Column("EER % [95 %]", "interval"), eers),
    ]
    optional = [
        (Column("interval"), values("interval")),
        (Column("min t-DCF", "number"), values("min_tdcf")),
        (Column("act DCF", "number"), values("act_dcf")),
        (Column("min DCF", "number"), values("min_dcf")),
        (Column("Cllr", "number"), values("cllr")),
        (Column("min Cllr", "number"), values("min_cllr")),
        (Column("note"), values("note")),
    ]
    columns += [(column, cells) for column, cells in optional if any(cell is not None for cell in cells)]
    note = "Act DCF and Cllr: of log-likelihood ratios that were fitted on the dev set. Cllr in bits."
    return Table.of_columns("results", "Results of the run", columns, note if any(values("act_dcf")) else "")
