"""Runs the commands of walkthroughs.md in this checkout and writes beside each what it printed.

    python docs/walkthroughs.py

A block of `console` has lines that begin with `$ `, the commands, and below each its standard output, of which lines
beyond the first 14 become one line `...`. Some minutes; `make demo DEMO=quick` is one of the commands.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qamo.command import Parser, run_command  # noqa: E402

PAGE = ROOT / "docs" / "walkthroughs.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MOST_LINES, MOST_LETTERS = 14, 150


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that stands below it."""
    pieces = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(piece.partition("\n")[0], piece.partition("\n")[2]) for piece in pieces]


def rewritten(page: str, run: Callable[[str], str]) -> str:
    """The page with new outputs."""

    def block(found: re.Match[str]) -> str:
        told = "".join(f"$ {command}\n{shortened(run(command))}" for command, _ in commands(found[1]))
        return f"```console\n{told}```"

    return BLOCK.sub(block, page)


def shortened(output: str) -> str:
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    kept = lines[:MOST_LINES] + ["..."] * (len(lines) > MOST_LINES)
    return "".join(f"{line[:MOST_LETTERS]}{'...' * (len(line) > MOST_LETTERS)}\n" for line in kept)


def in_shell(command: str) -> str:
    """Standard output of a command that is given in this checkout, with the environment's programs first."""
    print(f"$ {command}", file=sys.stderr, flush=True)
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command}: exit status {done.returncode}")
    return done.stdout.replace(f"{ROOT}/", "")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(Parser("walkthroughs.py", __doc__), command, argv)


def command(args: argparse.Namespace) -> int:
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), in_shell), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
