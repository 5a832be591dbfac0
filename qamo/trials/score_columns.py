"""Which columns of a table hold the names and the scores: headers tell, or what stands in the columns.

    name attack label score             ASVspoof 2019, AASIST
    name score label                    and other orders
    Output, name, label, score          the log lines of NII's baselines
    filename <TAB> cm-score             ASVspoof 5; track 2: spk, filename, cm-score, asv-score, sasv-score
    file,score                          CSV with or without header, also ; and | and .npz

Two columns that may both be the score are not guessed at: the error asks which, with the line that converts the file.
"""

from __future__ import annotations

import re
import shlex

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.sniff import CLASSES, ROLE_OF, Form, class_of, is_number, plain_word, read_columns
from qamo.trials.tables import Table
from qamo.trials.text import converted

N_LOOKED_AT = 2000  # rows that tell what a column holds


def columns_of_scores(form: Form, column: str | None) -> tuple[Table, np.ndarray | None]:
    """Names and scores as a table of two columns, and which are labelled bona fide where the file says: (N,) bool.

    Args:
        column: the column of the scores, by its header.

    Raises:
        InputError: nothing tells which columns are meant.
    """
    if not form.cells:
        raise InputError(f"{form.path}: expected 'name score' lines, but the file is empty")
    width = len(form.header or form.cells)
    if width < 2:
        raise InputError(
            f"{form.path}:{form.skip + 1}: expected 'name score', got {form.cells[0][:80]!r}; scores without names? "
            + converted("paste -d' ' NAMES.txt", form.path, ".named.txt")
        )
    columns, lines = read_columns(form)
    if form.header is None and form.cells[0] == "Output":  # log lines
        columns, form = columns[1:], Form(form.path, form.delimiter, None, form.cells[1:], form.skip)
    name = _name(form, columns)
    score = _score(form, columns, name, column)
    return Table([columns[name], columns[score]], lines), _bonafide(columns, {name, score})


def _name(form: Form, columns: list[np.ndarray]) -> int:
    """The column of the names: the one that its header calls so, else the first whose texts are all different."""
    if form.header is not None:
        named = [i for i, role in enumerate(form.header) if role == "name"]
        if len(named) == 1:
            return named[0]
        if len(named) > 1:
            return _distinct(columns, named)
        raise InputError(
            f"{form.path}:{form.skip}: no column of names among {', '.join(form.header)}; call it 'file', "
            + converted(f"sed '{form.skip or 1}s/HEADING/file/'", form.path, ".named.txt")
        )
    texts = [i for i, column in enumerate(columns) if not (_numbers(column) or _labels(column))]
    return _distinct(columns, texts or [0])


def _distinct(columns: list[np.ndarray], among: list[int]) -> int:
    """The first of some columns with the most different texts."""
    counts = [len(np.unique(columns[i][:N_LOOKED_AT])) for i in among]
    return among[int(np.argmax(counts))]


def _score(form: Form, columns: list[np.ndarray], name: int, column: str | None) -> int:
    """The column of the scores."""
    header = form.header
    if column is not None:
        words = [plain_word(word) for word in header or []]
        wanted = {plain_word(column), ROLE_OF.get(plain_word(column), "") or plain_word(column)}
        if found := [i for i, word in enumerate(words) if word in wanted]:
            return found[0]
        raise InputError(f"{form.path}: no column {column}; it has {', '.join(words) or 'no header'}")
    if len(found := [i for i, role in enumerate(header or []) if role == "score"]) == 1:
        return found[0]
    numeric = [i for i, texts in enumerate(columns) if i != name and _numbers(texts)]
    if header is not None:
        numeric = [i for i in numeric if header[i] not in ("label", "")]
    if len(numeric) > 1:  # 0 and 1 beside a score are labels
        numeric = [i for i in numeric if not _zeros_and_ones(columns[i])] or numeric
    if len(numeric) == 1:
        word = plain_word(header[numeric[0]]) if header else ""
        if re.search("spoof|fake|synthetic", word):
            raise InputError(
                f"{form.path}: the column {word} seems to be higher for spoofed speech, and a score must be higher for "
                f"bona fide speech; {_awk(form, f'{{print ${name + 1}, -${numeric[0] + 1}}}')}"
            )
        return numeric[0]
    if not numeric:
        if header is None and len(columns) == 2:
            return 1 - name  # `to_float` says which line is wrong
        raise InputError(
            f"{form.path}:{form.skip + 1}: expected 'name score', got {' '.join(form.cells)[:80]!r}; which column is "
            f"the score? {_awk(form, '{print $NAME, $SCORE}')} with the numbers of the columns"
        )
    raise InputError(_which(form, name, numeric))


def _which(form: Form, name: int, numeric: list[int]) -> str:
    """The question which of some columns of numbers is the score, with the line that answers it."""
    said = [form.header[i] if form.header else str(i + 1) for i in numeric]
    start = f"{form.path}:{form.skip + 1}: expected 'name score', got {' '.join(form.cells)[:80]!r}: columns "
    start += f"{', '.join(said)} are numbers; which is the score? "
    a, b = numeric[:2]
    if len(numeric) == 2:
        if form.header and CLASSES.get(re.sub(r"_?(score|logit|prob|probability)s?_?", "", said[0])) is True:
            a, b = b, a
        line = _awk(form, f'{{printf "%s %.9g\\n", ${name + 1}, ${b + 1} - ${a + 1}}}')
        return f"{start}Two logits? if {said[numeric.index(b)]} is that of bona fide speech (else swap the two), {line}"
    return f"{start}{_awk(form, f'{{print ${name + 1}, ${b + 1}}}')}"


def _awk(form: Form, program: str) -> str:
    """A line for the shell that makes `name score` lines of this file."""
    mark = (form.delimiter or "").replace("\t", "\\t")
    separator = f"-F{shlex.quote(mark)} " if mark else ""
    skipped = f"NR>{form.skip} " if form.skip else ""
    return converted(f"awk {separator}'{skipped}{program}'", form.path, ".scores.txt")


def _numbers(column: np.ndarray) -> bool:
    return all(is_number(text.decode("utf-8", "replace")) for text in column[:N_LOOKED_AT].tolist())


def _labels(column: np.ndarray) -> bool:
    return all(class_of(tables.text_of(text)) is not None for text in np.unique(column[:N_LOOKED_AT])[:20])


def _zeros_and_ones(column: np.ndarray) -> bool:
    return bool(np.isin(column[:N_LOOKED_AT], [b"0", b"1"]).all())


def _bonafide(columns: list[np.ndarray], taken: set[int]) -> np.ndarray | None:
    """What the last column of labels says, if there is one."""
    for i in reversed(range(len(columns))):
        if i not in taken and _labels(columns[i]):
            distinct, codes = tables.levels(columns[i])
            classes = [class_of(text) for text in tables.texts_of(distinct)]
            if all(said is not None for said in classes):
                return np.array(classes, bool)[codes]
    return None
