"""What a trial may be called, so that every file that one command writes can be read by all others.

Names are paths below a folder of recordings, or all absolute, and stand in files whose columns are separated by blanks.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from qamo import InputError

# Characters that are right wherever they stand, and where the others are not.
_PLAIN = (string.ascii_letters + string.digits + "_-+=./\n").encode()
_ODD = ("\n\n", "..")
SEPARATORS = ",;|"  # of the columns of a table, beside blanks
# The byte order mark, and what turns the order in which a line is shown.
_UNSEEN = "\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def check_name(name: str, where: object) -> None:
    """Refuse a name that could not be read back, could leave the audio folder or garble a terminal.

    Raises:
        InputError: beginning with `where`, such as file:line.
    """
    if fault := fault_of_name(name):
        raise InputError(f"{where}: the name {name!r} {fault}")


def check_names(names: Sequence[str], lines: Iterable[int], path: Path) -> None:
    """Refuse the first name of a file that `check_name` would refuse, with its line; and two roots in one file."""
    text = "\n".join(["", *names, ""])
    if 0 < text.count("\n/") < len(names):
        said = [next(name for name in names if name.startswith("/") == absolute) for absolute in (True, False)]
        raise InputError(
            f"{path}: expected names that are all absolute or all below one folder, found {said[0]!r} and {said[1]!r}"
        )
    odd = any(odd in text for odd in _ODD) or text.count("\n") != len(names) + 1
    if not odd and not text.encode("utf-8", "surrogatepass").translate(None, delete=_PLAIN):
        return  # nothing to look at one by one, which takes seconds for half a million
    for name, line in zip(names, lines):
        check_name(name, f"{path}:{line}")


def fault_of_name(name: str) -> str | None:
    """What is wrong with a name, as the end of a sentence; None if nothing is."""
    if not name:
        return "is empty"
    if any("\ud800" <= c <= "\udfff" for c in name):
        return "is not UTF-8; rename the file"
    if any(unicodedata.category(c) == "Cc" or c in _UNSEEN for c in name):
        return "holds a control character; rename the file"
    if len(name.split()) != 1 or name != name.strip():
        return "holds a blank, which separates the columns of lists and score files; rename the file"
    if name[-1] in SEPARATORS:
        return f"ends in {name[-1]!r}, which separates the columns of tables; rename the file"
    if ".." in name.split("/") or "\\" in name:
        return "would leave the audio folder; names are paths with / and without '..'"
    return None
