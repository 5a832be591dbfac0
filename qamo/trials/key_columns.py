"""Which columns of a key hold names, labels and conditions: by its header, by their number, or by what they hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

import numpy as np

from qamo import InputError
from qamo.trials import tables
from qamo.trials.sniff import CLASSES, Form, class_of, is_number, plain_word, read_columns
from qamo.trials.text import converted

# Columns of a blank-separated key, told apart by their number.
_LAYOUTS = (
    "name label",
    "speaker name environment attack label",
    "speaker name environment attack label mos",
    "speaker name codec trans attack label trim subset",
    "speaker name gender codec codec_q codec_seed attack_group attack label tmp",
    "speaker name asv_room asv_mic dis_to_asv att_room att_mic att_d att_to_spk label trim subset",
    "speaker name compr source attack label trim subset vocoder task team gender-pair language",
)
LAYOUTS = {len(columns): columns for columns in map(str.split, _LAYOUTS)}
_ALWAYS = {"name", "label", "subset", "trim"}  # needed to tell trials, classes and subsets
HEADERLESS = {2: ["name", "label"], 3: ["name", "speaker", "label"], 4: ["name", "speaker", "label", "mos"]}
POLARITY = {  # headings of 0 and 1 that tell which is which: what 1 means
    **{f"is_{word}": said for word, said in CLASSES.items()},
    **CLASSES,
}
N_LOOKED_AT = 2000


def columns_of_key(form: Form, columns: Collection[str] | None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of a key by name, `name` and `label` among them, (N,) of dtype S each; and the line of each row.

    Args:
        columns: which to keep besides those that are always needed, where a layout is known; None keeps all.

    Raises:
        InputError: nothing tells the names or the labels.
    """
    layout = _layout(form)
    if layout is None:
        return _by_content(form)
    if len(set(layout) - {""}) != len([c for c in layout if c]):
        raise InputError(f"{form.path}:{form.skip}: expected each column once, got the columns {', '.join(layout)}")
    wanted = [c for c in layout if c and (columns is None or c in columns or c in _ALWAYS)]
    if form.delimiter is None and form.header is None and form.arrays is None:
        expected = f"{len(layout)} columns ({' '.join(layout)})"
        indices = list(map(layout.index, wanted))
        table = tables.read_table(form.path, indices, n_columns=len(layout), expected=expected, skip=form.skip)
        return dict(zip(wanted, table.columns)), table.lines
    read, lines = read_columns(form, [layout.index(c) for c in wanted])
    by_name = dict(zip(wanted, read))
    return by_name, lines


def labels_to_bool(labels: np.ndarray, lines: np.ndarray, form: Form) -> np.ndarray:
    """Label texts as bona fide or not: (N,) of dtype S -> (N,) bool.

    Raises:
        InputError: a label is neither bona fide nor spoof, or they are 0 and 1 and nothing tells which is which.
    """
    distinct, codes = tables.levels(labels)
    texts = tables.texts_of(distinct)
    said = [class_of(text) for text in texts]
    if all(what is not None for what in said):
        return np.array(said, bool)[codes]
    truth = ("1", "1.0", "True", "true")
    telling = [] if not form.header or "label" in form.header else [w for w in form.header if w in POLARITY]
    if set(texts) <= {"0", "0.0", "False", "false", *truth} and telling:
        return np.array([POLARITY[telling[0]] == (text in truth) for text in texts])[codes]
    if set(texts) <= {"0", "1", "0.0", "1.0", "True", "False", "true", "false"}:
        raise InputError(_which_is_which(form, texts))
    bad = np.flatnonzero(np.array([what is None for what in said])[codes])
    more = f" ({len(bad)} such lines)" if len(bad) > 1 else ""
    raise InputError(
        f"{form.path}:{lines[bad[0]]}: expected the label bonafide, bona-fide, spoof or another word for them "
        f"({', '.join(w.replace('_', '-') for w in CLASSES if w not in ('bonafide', 'bona_fide', 'spoof'))}), "
        f"got {tables.text_of(labels[bad[0]])!r}{more}"
    )


def _layout(form: Form) -> list[str] | None:
    """The names of the columns, unnamed ones as ""; None where only their content can tell."""
    if form.header is None:
        layout = (LAYOUTS if form.delimiter is None else HEADERLESS).get(len(form.cells))
        if layout and class_of(form.cells[layout.index("label")]) is not None:
            return layout
        if layout and form.cells[layout.index("label")] in ("0", "1"):
            return layout  # the question which is which
        if layout and form.delimiter is None and not any(class_of(cell) is not None for cell in form.cells):
            return layout  # its label is refused with its line
        return None
    header = list(form.header)
    if header[:1] == [""] and "name" in header:  # an index that pandas wrote
        header[0] = ""
    if header.count("name") > 1 and "id" in [plain_word(c) for c in header]:
        header = ["" if plain_word(c) == "id" else c for c in header]
    if "label" not in header:
        telling = [i for i, word in enumerate(header) if word in POLARITY]
        if len(telling) == 1:
            header[telling[0]] = "label"
    if "name" not in header or "label" not in header:
        raise InputError(f"{form.path}:{form.skip}: {_no_columns(form, header)}")
    return header


def _no_columns(form: Form, header: list[str]) -> str:
    """What is missing in a header, and how to add it."""
    said = f"expected columns of names and labels, such as file and label, got {', '.join(map(repr, header))}"
    ending = f".labelled{form.path.suffix}"
    if "name" in header and "attack" in header:
        column = header.index("attack")
        value = form.cells[column] if re.fullmatch(r"[\w.-]+", form.cells[column]) else "VALUE"
        program = f'NR=={form.skip} {{print $0, "label"; next}} '
        program += f'{{print $0, (${column + 1} == "{value}" ? "bonafide" : "spoof")}}'
        return f"{said}; if one attack stands for bona fide speech, say which, {_awk(form, program, ending)}"
    return f"{said}; " + converted(f"sed '{form.skip}s/HEADING/label/'", form.path, ending)


def _by_content(form: Form) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Names and labels of a table without a known layout: labels are words for the classes, names all different.

    Between blanks the name stands first and besides there are numbers, `-` and codes such as A07 only: a name that
    holds a blank counts as several columns, and must not be taken for one of them.
    """
    columns, lines = read_columns(form)
    texts = [tables.texts_of(np.unique(column[:N_LOOKED_AT])) for column in columns]
    labels = [i for i, some in enumerate(texts) if all(class_of(text) is not None for text in some)]
    others = [i for i in range(len(columns)) if i not in labels] or [0]
    name = others[int(np.argmax([len(texts[i]) for i in others]))]
    rest = [text for i in others if i != name for text in texts[i]]
    sure = form.delimiter or (
        name == 0 and all(is_number(text) or re.fullmatch(r"-|[A-Za-z]+\d+", text) for text in rest)
    )
    if not labels or len(columns) < 2 or not (sure or len(columns) == 2):
        raise InputError(
            f"{form.path}:{form.skip + 1}: expected a key with {', '.join(map(str, LAYOUTS))} columns or a meta.csv, "
            f"got {len(form.cells)} columns: {' '.join(form.cells)[:80]!r}; a name that holds a blank counts as "
            f"several columns; a header tells any other order, "
            + converted("sed '1i file label'", form.path, ".named.txt")
        )
    return {"name": columns[name], "label": columns[labels[-1]]}, lines


def _which_is_which(form: Form, texts: list[str]) -> str:
    """The question what 0 and 1 mean, with the line that answers it."""
    has_label = form.header is not None and "label" in form.header
    column = form.header.index("label") + 1 if form.header and has_label else len(form.header or form.cells)
    rows = f"NR>{form.skip} " if form.skip else ""
    program = f'{rows}{{${column} = (${column} ~ /^ *(1|1.0|[Tt]rue) *$/ ? "bonafide" : "spoof")}} 1'
    return (
        f"{form.path}: the labels are {' and '.join(texts)}: which is bona fide? if it is {texts[-1]} (else swap the "
        f"two words), {_awk(form, program, f'.labelled{form.path.suffix}')}"
    )


def _awk(form: Form, program: str, ending: str) -> str:
    """A line for the shell that rewrites this file."""
    mark = shlex.quote((form.delimiter or " ").replace("\t", "\\t"))
    separators = f"-F{mark} -v OFS={mark} " if form.delimiter else ""
    return converted(f"awk {separators}'{program}'", form.path, ending)
