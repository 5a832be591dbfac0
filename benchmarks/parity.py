"""What is held against the published code, and the largest difference: the table of docs/parity.md.

    python benchmarks/parity.py [--full] [-o docs/parity.md]

The golden figures were made by running the published code, unmodified, on its own stack. Each check (parity_checks/)
recomputes one group of them with this program; tests/benchmarks/test_parity.py asserts every tolerance. --full adds
the 317-million-weight network (minutes, 4 GB of memory).
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import row, table
from benchmarks.parity_checks import frontend, heads, initial, other, scores, training
from benchmarks.parity_checks.goldens import CHECKS, GOLDENS, VERSIONS
from benchmarks.parity_file import FIRST_STEP
from qamo import InputError
from qamo.command import Parser, run_command
from qamo.files import write_text

SUBJECTS = [
    module.__name__ for module in (frontend, scores, initial, training, heads, other)
]  # in the order of the table


def lines(*, full: bool) -> Iterator[str]:
    """A Markdown table, one row a check."""
    yield "<!-- Written by benchmarks/parity.py; `make parity` writes it anew. -->"
    yield FIRST_STEP
    yield f"Original: {VERSIONS}, CPU.  "
    yield (
        f"This program: Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, transformers {transformers.__version__}, CPU, {torch.get_num_threads()} thread(s)."
    )
    yield ""
    yield from table(["what was held against the original", "largest difference", "allowed"], [])
    for what, check in sorted(CHECKS.items(), key=lambda item: (item[1].full, SUBJECTS.index(item[1].subject))):
        if full or not check.full:
            yield row([what, f"{check.largest():.1e}", f"{check.tolerance:.0e}"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("parity.py", __doc__)
    parser.add_argument("--full", action="store_true", help="also the network at its full size")
    parser.add_argument("-o", "--output", type=Path, help="write the table there as well")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    if not GOLDENS.is_dir():
        raise InputError(f"{GOLDENS}: the golden figures are not there")
    torch.set_num_threads(1)
    written = []
    for line in lines(full=args.full):
        print(line, flush=True)
        written.append(line)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.output, "\n".join(written) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
