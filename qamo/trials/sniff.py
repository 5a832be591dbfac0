"""What shape a table of trials has: its separator, its header, and what each column is.

    Form              separator, header and first row, from the first lines of the file
    sniff             text or .npz -> Form
    read_columns      its columns, as bytes, with line numbers

Headers are known by the field's words in any spelling (`File Name`, `cm-score`, `CM_LABEL`). A blank-separated file
without a header has no more than its number of columns to tell; `keys.py` and `scores.py` know what they mean.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qamo import InputError
from qamo.files import naming, open_regular, read_arrays
from qamo.trials import tables, text
from qamo.trials.names import SEPARATORS

ROLES = {  # the field's words for a column: lower case, words joined by _
    "name": "file filename file_name name path filepath file_path wav audio audio_path trial trial_anon trial_id "
    "utt utt_id utterance utterance_id uttid audio_file audio_file_name fname id",
    "label": "label labels cm_label key class target truth ground_truth gt y_true",
    "speaker": "speaker spk speaker_id spk_id tar_spk_anon speaker_anon speaker_name",
    "attack": "attack attack_anon attack_id attack_type system_id",
    "score": "score scores cm_score llr cm logit prediction pred output",
    "": "sasv_score asv_score asv_label codec mos subset trim gender environment track_2_tag attack_group codec_q "
    "codec_seed duration split language",
}
ROLE_OF = {word: role for role, words in ROLES.items() for word in words.split()}
CLASSES = {  # what a label says, in the same spelling: is it bona fide?
    **dict.fromkeys(["bonafide", "bona_fide", "genuine", "real", "human", "live", "authentic"], True),
    **dict.fromkeys(["spoof", "spoofed", "fake", "deepfake", "synthetic"], False),
}
JSON = r'[\[{]\s*\{?\s*"[^"]+"\s*:'  # an object, or a list of objects
LONGEST_CELL = 1000
CONTROL = [chr(code) for code in range(32) if chr(code) not in "\t\r\n"]


@dataclass(frozen=True)
class Form:
    """The shape of a table."""

    path: Path
    delimiter: str | None  # None: blanks
    header: list[str] | None  # roles, or words in the spelling of `plain_word`
    cells: list[str]  # of the first row of data; of the header where there is no row
    skip: int = 0  # lines above the first row of data
    arrays: dict[str, np.ndarray] | None = None  # of an .npz, where there are no lines
    heading: list[str] | None = None  # the header as it is written

    @property
    def plain(self) -> bool:
        """Blank-separated rows and nothing else."""
        return self.delimiter is None and self.header is None and not self.skip and self.arrays is None


def sniff(path: Path | str, *, numbers: bool = False) -> Form:
    """The shape of a file of trials.

    Args:
        numbers: whether numbers are expected, which tell that `a,0.5` is two cells and not a name with a comma.

    Raises:
        InputError: the file is no text, or of a kind that must be converted first.
    """
    path = Path(path)
    with naming(path), open_regular(path) as file:
        if file.read(4) == text.ZIP and path.suffix.lower() != ".xlsx":
            return _archive(path)
    lines = text.head(path, 12)
    if lines and (path.suffix.lower() in (".json", ".jsonl") or re.match(JSON, "".join(line for _, line in lines))):
        _refuse_json(path, [content for _, content in lines])
    above, separator = 0, None
    for number, line in lines:
        if re.fullmatch(r"sep=.", line.lower()):
            separator = line[4]
        elif not (re.match(r"\s*#\s", line) and not is_number(line.split()[-1])):  # a trial may be called `#`
            break
        above = number
    lines = [(number, line) for number, line in lines if number > above]
    if not lines:
        return Form(path, None, None, [])
    delimiter = separator or _delimiter(lines[0][1], numbers)
    first, *rest = [_cells(line, delimiter) for _, line in lines[:2]]
    following = rest[0] if rest else []
    if not is_header(first, following):
        if delimiter is None and len(first) > len(following) == 2:
            first = following  # `name score` or `name label` lines, whose first is wrong
        return Form(path, delimiter, None, first, above)
    header = [_role(cell) for cell in first]
    return Form(path, delimiter, header, following or first, lines[0][0], heading=first)


def read_columns(form: Form, wanted: list[int] | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """The numbered columns (all where None): (N,) of dtype S each, and the line of each row.

    Raises:
        InputError: a row has another number of cells than the first.
    """
    n = len(form.header or form.cells)
    wanted = list(range(n)) if wanted is None else wanted
    if form.arrays is not None:
        columns = list(form.arrays.values())
        return [columns[i] for i in wanted], np.arange(1, len(columns[0]) + 1)
    if form.delimiter is None:
        expected = f"{n} columns" + (f" ({' '.join(form.header)})" if form.header else " as in the first row")
        table = tables.read_table(form.path, wanted, n_columns=n, expected=expected, skip=form.skip)
        return table.columns, table.lines
    rows, lines = _rows(form, n)
    texts = list(zip(*rows)) or [()] * n
    cells = [list(map(str.encode, map(str.strip, texts[i]))) for i in wanted]
    return [np.array(column, "S" if rows else "S1") for column in cells], np.array(lines, np.int64)


def plain_word(cell: str) -> str:
    """A word in one spelling: lower case, its parts joined by _."""
    return re.sub(r"[\s_-]+", "_", cell.strip(" \"'#\t").lower())


def class_of(cell: str) -> bool | None:
    """Whether a label says bona fide; None if it is no label."""
    return CLASSES.get(plain_word(cell))


def is_header(cells: list[str], following: list[str]) -> bool:
    """Whether a row names columns: two words of the field, or one above a number."""
    if any(is_number(cell) for cell in cells):
        return False
    words = [plain_word(cell) for cell in cells]
    known = sum(word in ROLE_OF for word in words)
    below = [i for i, cell in enumerate(following) if is_number(cell) and i < len(cells)]
    if any(class_of(cells[i]) is not None for i in below):
        known += 1
    return (
        known >= 2
        or (len(words) > 1 and "label" in words)
        or (known == 1 and words[0] in ROLE_OF and any(i for i in below))
    )


def _role(cell: str) -> str:
    word = plain_word(cell)
    return ROLE_OF.get(word) or word


def is_number(cell: str) -> bool:
    """Whether a cell is a number, as Python reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return re.split(r"[ \t\r]+", line.strip(" \t\r"))  # not at other blanks of Unicode, as `tables.py`
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # said with its line when the file is read
        return line[:LONGEST_CELL].split(delimiter)


def _delimiter(line: str, numbers: bool) -> str | None:
    """What separates the cells of a line; None for blanks."""
    if re.fullmatch(r"\s*\S+\s+[-+]?\d+,\d+\s*", line):  # a decimal comma, and no third column
        return None
    plain = re.fullmatch(r"\s*\S*[^\s,;|]\s+(\S+)\s*", line)  # no name ends in a separator
    if numbers and plain and is_number(plain[1]):
        return None
    for mark in SEPARATORS:
        cells = _cells(line, mark) if mark in line else []
        if len(cells) < 2:
            continue
        tells = any(class_of(cell) is not None or plain_word(cell) == "label" for cell in cells)
        tells = tells or is_header(cells, []) or (numbers and any(is_number(cell) for cell in cells[1:]))
        if tells or (ROLE_OF.get(plain_word(cells[0])) == "name" and not line.split(mark)[0].count(" ")):
            return mark
    cells = _cells(line, "\t") if "\t" in line else []
    return "\t" if len(cells) > 1 and any(" " in cell or not cell for cell in cells) else None


def _rows(form: Form, n: int) -> tuple[list[list[str]], list[int]]:
    """The rows of a file with another separator than blanks, and their lines."""
    content = b"".join(text.blocks(form.path, form.skip)).decode()
    if any(character in content for character in CONTROL):
        raise InputError(f"{form.path}: holds control characters, so it is not a text table; give a text file")
    rows: list[list[str]] = []
    lines: list[int] = []
    bad: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(content), delimiter=form.delimiter or ",", skipinitialspace=True)
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if len(row) == n:
                rows.append(row)
                lines.append(reader.line_num + form.skip)
            else:
                bad.append((reader.line_num + form.skip, row))
    except csv.Error as error:
        raise InputError(f"{form.path}:{reader.line_num + form.skip}: not a line of a table ({error})") from None
    if bad:
        line, row = bad[0]
        more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
        said = (form.delimiter or ",").join(row)
        raise InputError(f"{form.path}:{line}: expected {n} columns, got {len(row)}: {said[:80]!r}{more}")
    return rows, lines


def _archive(path: Path) -> Form:
    """An .npz of one-dimensional arrays of one length, their names as header."""
    try:
        columns = {_role(name): np.asarray(array) for name, array in read_arrays(path).items()}
    except (ValueError, OSError):
        raise InputError(
            f"{path}: expected an .npz of arrays of names and numbers, without Python objects; "
            f"try: np.savez(path, names=names.astype(str), scores=scores.astype(float))"
        ) from None
    columns = {name: array[:, 0] if array.shape[1:] == (1,) else array for name, array in columns.items()}
    lengths = {array.shape for array in columns.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in columns.items())
        raise InputError(f"{path}: expected one-dimensional arrays of one length, got {shapes or 'none'}{_pairs(path)}")
    if "name" not in columns:
        named = [name for name, array in columns.items() if array.dtype.kind in "US" and ROLE_OF.get(name) is None]
        named += ["names"] if "names" in columns else []
        if named:
            columns = {"name" if key == named[-1] else key: array for key, array in columns.items()}
    made = {key: _texts(array) for key, array in columns.items()}
    return Form(path, None, list(made), [tables.text_of(array[0]) for array in made.values() if len(array)], 0, made)


def _pairs(path: Path) -> str:
    """How to convert names with two logits each; empty for other arrays."""
    arrays = read_arrays(path)
    pairs = [name for name, array in arrays.items() if array.shape[1:] == (2,)]
    names = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    if len(pairs) != 1 or not names:
        return ""
    rows = f'zip(a["{names[0]}"], a["{pairs[0]}"].tolist())'
    program = f"import sys,numpy; a = numpy.load(sys.argv[1]); [print(n, y - x) for n, (x, y) in {rows}]"
    return "; two logits? if the second is that of bona fide speech (else x - y), " + text.converted(
        f"python3 -c '{program}'", path, ".scores.txt"
    )


def _texts(array: np.ndarray) -> np.ndarray:
    """An array as texts that read back to the same values."""
    if array.dtype.kind == "S":
        return array
    return np.array([str(value).encode() for value in array.tolist()], "S" if len(array) else "S1")


def _refuse_json(path: Path, lines: list[str]) -> None:
    """Refuse one object of names and scores, a list of records, or a record a line."""
    rows = "json.load(open(sys.argv[1])).items()"
    if lines[0].lstrip().startswith("["):
        rows = "map(dict.values, json.load(open(sys.argv[1])))"
    elif len(lines) > 1 and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines[:2]):
        rows = "(json.loads(line).values() for line in open(sys.argv[1]))"
    program = f"import json,sys; [print(*row) for row in {rows}]"
    raise InputError(f"{path}: JSON; " + text.converted(f"python3 -c '{program}'", path, ".from_json.txt"))
