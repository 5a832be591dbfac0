"""One command for what works without a training: `qamo judge RECORDING`, `qamo serve`, `qamo report`, ...

In a checkout the commands are the files of its top level; an installed package holds the same files as qamo.commands.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence

from qamo import __version__
from qamo.command import COMMANDS, INPUT_ERROR, is_installed


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print("usage: qamo COMMAND ...    (qamo COMMAND --help says more)\n")
        print("\n".join(f"  {command:<12} {what}" for command, (_, what) in COMMANDS.items()))
        return 0
    if name == "--version":
        print(f"qamo {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        print(
            f"qamo: {name!r} is no command{f'; did you mean {near[0]}?' if near else '; see qamo --help'}",
            file=sys.stderr,
        )
        return INPUT_ERROR
    words = words[1:]
    if name == "calibrate" and not {"-h", "--help"} & set(words):
        words = ["--calibrate", *words]
    return command_of(COMMANDS[name][0])(words)


def command_of(module: str) -> Callable[[Sequence[str]], int]:
    """`main` of a command's file: of the installed package, or of the checkout that this file is in."""
    return importlib.import_module(f"qamo.commands.{module}" if is_installed() else module).main


if __name__ == "__main__":
    sys.exit(main())
