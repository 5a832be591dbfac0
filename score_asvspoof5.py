"""Official figures of ASVspoof 5, track 1 and track 2, pooled and by attack and codec.

    python score_asvspoof5.py cm_scores.tsv ASVspoof5.eval.track_1.tsv
    python score_asvspoof5.py sasv_scores.tsv ASVspoof5.eval.track_2.tsv

scores   track 1: filename, cm-score; track 2: spk, filename, cm-score, asv-score, sasv-score, `-` where there is none
keys     the protocol of the set, or a key with the columns cm-label (track 1) and asv-label (track 2)

The key tells the track. Tables by attack and codec are printed where it has these columns; `none` is uncompressed.
Cllr and actDCF are those of log-likelihood ratios: calibrate other scores first.

With ASV scores of one's own, the official package computes min t-DCF from the share of spoofs that the ASV system
rejects, where the definition has the share that it accepts. Here the definition holds; --official prints their figure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from qamo.command import Parser, output, run_command, say_saved
from qamo.evaluation.asvspoof5 import Set, read_set, table
from qamo.files import write_text


def build_parser() -> Parser:
    parser = Parser("score_asvspoof5.py", __doc__)
    parser.add_argument("scores", type=Path, help="score file")
    parser.add_argument("keys", type=Path, help="protocol or key of the set")
    parser.add_argument("--official", action="store_true", help="min t-DCF with the official package's mistake")
    parser.add_argument("--pooled", action="store_true", help="no tables by condition")
    parser.add_argument("--json", type=output, metavar="FILE", help="also write all figures with all digits")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    found = read_set(args.scores, args.keys, official=args.official)
    tables = {name: table(found, name) for name in found.metrics}
    lines = [f"track: {found.track}", f"trials: {len(found.is_spoof)}", f"spoof: {int(found.is_spoof.sum())}"]
    for name, (_, _, rows) in tables.items():
        lines.append(f"{name}: {_shown(name, rows[0][0])}")
    if args.official and found.track == 2:
        lines.append("min t-DCF, own ASV: as the official package computes it, see --help")
    if not args.pooled:
        for name, found_table in tables.items():
            lines += _table(name, *found_table)
    if args.json:
        write_text(args.json, json.dumps(_as_json(found, tables), indent=2) + "\n")
    print("\n".join(lines))
    say_saved(*[args.json] * bool(args.json))
    return 0


def _table(name: str, rows: list[str], columns: list[str], cells: list[list[float | None]]) -> list[str]:
    """A table in lines; nothing where it has one cell only."""
    if len(rows) == len(columns) == 1:
        return []
    width = max(map(len, [*rows, *columns, "0.00000"]))
    lines = ["", f"{name} by attack and codec", f"{'':<{width}}  " + "  ".join(f"{c:>{width}}" for c in columns)]
    for row, values in zip(rows, cells):
        lines.append(f"{row:<{width}}  " + "  ".join(f"{_shown(name, value):>{width}}" for value in values))
    return lines


def _shown(name: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.{3 if name.endswith('%') else 5}f}"


def _as_json(found: Set, tables: dict[str, tuple[list[str], list[str], list[list[float | None]]]]) -> dict[str, object]:
    figures = {
        name: {row: dict(zip(columns, values)) for row, values in zip(rows, cells)}
        for name, (rows, columns, cells) in tables.items()
    }
    return {"track": found.track, "figures": figures}


if __name__ == "__main__":
    sys.exit(main())
