"""What augmentation does to the MOS of training speech: distributions before and after it, and means by codec."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qamo.report.charts import COLORS, Axis, Chart, histogram_lines, rounded
from qamo.report.quality import mos_edges
from qamo.report.run_record import AugmentedRow
from qamo.report.tables import Column, Table


def augmented_mos(rows: Sequence[AugmentedRow]) -> tuple[Chart, Table]:
    """Chart and table of a run's sample."""
    before, after = np.array([(row["mos_before"], row["mos_after"]) for row in rows]).T
    edges = mos_edges(np.concatenate([before, after]), 0.2)
    shares = [np.histogram(part, edges)[0] / len(rows) for part in (before, after)]
    chart = Chart(
        "mos-augmented",
        "MOS before and after augmentation",
        f"Predicted by DistillMOS for {len(rows)} bona fide training utterances, each in the first epoch that augments "
        "it: the speech whose quality class is predicted.",
        f"Histogram of MOS: the median goes from {np.median(before):.2f} to {np.median(after):.2f}, and "
        f"{100 * float((after < before).mean()):.0f} % of the utterances have a lower MOS after augmentation.",
        Axis("MOS", rounded(edges, 6)),
        Axis("share of the utterances in a bin, %", min=0),
        histogram_lines(*shares, kinds=[(COLORS[0], "before"), (COLORS[1], "after")]),
    )
    return chart, by_codec(rows)


def by_codec(rows: Sequence[AugmentedRow]) -> Table:
    """Mean MOS before and after augmentation for each codec that was drawn, and for none."""
    columns = [Column("codec"), Column("utterances", "count")]
    columns += [Column(f"MOS {when}", "number") for when in ("before", "after")]
    columns.append(Column("change", "number"))
    cells = []
    for codec in sorted({row["codec"] or "" for row in rows}):
        chosen = [row for row in rows if (row["codec"] or "") == codec]
        before, after = np.mean([(row["mos_before"], row["mos_after"]) for row in chosen], axis=0).tolist()
        cells.append([codec or "none", len(chosen), before, after, after - before])
    note = "Means over the same utterances as in the chart; RawBoost, noise and rooms may have come before the codec."
    return Table("mos-by-codec", "MOS before and after augmentation, by codec", columns, cells, note)
