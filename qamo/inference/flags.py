"""The flags that inference.py and serve.py share: how a score becomes a verdict, and what computes it."""

from __future__ import annotations

import argparse
from typing import Any

from qamo.audio.windows import OVERLAP
from qamo.command import number
from qamo.evaluation import calibration
from qamo.inference.judge import Rule
from qamo.inference.scorer import DEVICES


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--threshold", type=float, metavar="T", help="bona fide from this score on; default: from calibration and prior"
    )
    add("--prior", type=float, default=calibration.PRIOR, help="share of bona fide speech to expect [%(default)s]")
    add(
        "--confidence",
        type=float,
        default=calibration.CONFIDENCE,
        metavar="P",
        help="minimum probability for a verdict; otherwise `uncertain` [%(default)s]",
    )
    add("--overlap", type=float, default=OVERLAP, help="share of a window that the next covers too [%(default)s]")
    add("--device", choices=DEVICES, default="auto", help="[%(default)s]")
    add("--threads", type=number(int, 0, 4096), default=0, help="CPU threads; 0: as the library chooses")


def rule_of(args: argparse.Namespace, **more: Any) -> Rule:
    """The rule that the flags say, with settings that only one of the commands has."""
    return Rule(threshold=args.threshold, prior=args.prior, confidence=args.confidence, overlap=args.overlap, **more)
