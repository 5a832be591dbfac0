"""The sections of conditions and of speakers: results by the columns of the key, and by two of them at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from qamo import InputError
from qamo.evaluation import breakdown
from qamo.evaluation.breakdown import Factor, Measured
from qamo.report.page import Section
from qamo.report.subject import Subject
from qamo.report.tables import Column, Table, in_prose

MAX_LEVELS = 40  # a column with more is broken down only if asked for
MAX_SPEAKERS = 200  # rows of the table by speaker
NOT_FACTORS = {"speaker", "mos", "subset"}  # they have sections of their own, or are chosen
CROSSES = [("attack", "codec"), ("vocoder", "compr")]  # as the evaluation packages of ASVspoof 2021 have it


def conditions(subject: Subject, asked: Sequence[str] | None) -> Section:
    """Results by the columns of the key that were asked for, or by all that say something of the trials.

    Raises:
        InputError: the key has no such column.
    """
    lead = (
        "Equal error rates by what the key says of the trials. A codec's spoofed trials are held against bona fide "
        "speech of the same codec; an attack's against all bona fide speech, as there is none of an attack."
    )
    section = Section("conditions", "Conditions", lead)
    singles, crosses, skipped = _found(subject) if asked is None else _asked(subject, asked)
    for factor in map(subject.factor, singles):
        if asked or len(factor.masks(subject.keys.bonafide)) > 1:
            section.parts.append(factor_table(subject, factor))
    for a, b in crosses:
        section.parts += cross_tables(subject, subject.factor(a), subject.factor(b))
    if skipped:
        note = f"Left out for their many levels: {', '.join(skipped)}. Ask for one with --by."
        section.parts.append(Markup('<p class="note">{}</p>').format(note))
    return section


Choice = tuple[list[str], list[tuple[str, str]], list[str]]  # columns, pairs of columns, what was left out


def _found(subject: Subject) -> Choice:
    columns = [column for column in subject.keys.columns if column not in NOT_FACTORS]
    n_levels = {column: len(subject.factor(column).levels) for column in columns}
    singles = [column for column, n in n_levels.items() if 2 <= n <= MAX_LEVELS]
    skipped = [f"{column} ({n} levels)" for column, n in n_levels.items() if n > MAX_LEVELS]
    return singles, [pair for pair in CROSSES if all(column in n_levels for column in pair)], skipped


def _asked(subject: Subject, asked: Sequence[str]) -> Choice:
    columns = [column for column in subject.keys.columns if column != "mos"]
    split = [tuple(text.split("*")) for text in asked]
    for text, names in zip(asked, split):
        if len(names) > 2 or not set(names) <= set(columns):
            there = ", ".join(columns) or "it has none"
            raise InputError(f"--by {text}: expected A or A*B with columns of {subject.keys.path}: {there}")
    return [names[0] for names in split if len(names) == 1], [(n[0], n[1]) for n in split if len(n) == 2], []


def chosen_factors(subject: Subject, asked: Sequence[str] | None) -> list[Factor]:
    """The columns that are broken down, as factors with two levels or more.

    Raises:
        InputError: the key has no such column.
    """
    singles = (_found(subject) if asked is None else _asked(subject, asked))[0]
    factors = [subject.factor(column) for column in singles]
    return [factor for factor in factors if len(factor.masks(subject.keys.bonafide)) > 1]


def factor_table(subject: Subject, factor: Factor) -> Table:
    """A row for each level of a column."""
    results = [breakdown.by_factor(system, factor, **subject.resampling) for system in subject.systems]
    id, caption = slug(f"by-{factor.name}"), f"By {factor.name}"
    return level_table(subject, id, caption, factor.name, results, sortable=True)


def slug(text: str) -> str:
    """Text as an id or a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def level_table(
    subject: Subject,
    id: str,
    caption: str,
    name: str,
    results: list[list[tuple[str, Measured]]],
    **options: Any,
) -> Table:
    """A row for each level: counts, for each system its EER, miss rate and false alarm rate, and what is resampled."""
    columns = [Column(name), Column("bona fide", "count"), Column("spoof", "count")]
    for system in subject.systems:
        kinds = [("EER % [95 %]", "interval"), ("miss rate %", "rate"), ("false alarm rate %", "rate")]
        columns += [Column(title, kind, system.label) for title, kind in kinds]
    columns.append(Column("interval"))
    rows = []
    for of_level in zip(*results):
        level, first = of_level[0]
        row: list[Any] = [level, first.n_bonafide, first.n_spoof]
        for _, measured in of_level:
            row += [(measured.eer, *measured.interval[:2]), measured.miss, measured.false_alarm]
        rows.append([*row, first.interval.basis])
    origins = ["of the EER of all trials" if s.given_threshold is None else "given" for s in subject.systems]
    at = [f"{in_prose(s.threshold)} for {s.label} ({origin})" for s, origin in zip(subject.systems, origins)]
    note = f"Miss rate and false alarm rate: at one threshold for all rows: {', '.join(at)}."
    return Table(id, caption, columns, rows, note, **options)


def cross_tables(subject: Subject, a: Factor, b: Factor) -> list[Table]:
    """For each system a table of EERs, levels of `a` by levels of `b`."""
    made = []
    for k, system in enumerate(subject.systems):
        row_levels, column_levels, cells = breakdown.by_two_factors(system, a, b)
        pooled = dict(breakdown.by_factor(system, a))
        columns = [Column(f"{a.name} \\ {b.name}"), *(Column(level, "rate") for level in [*column_levels, "all"])]
        rows = [[level, *(cell.eer for cell in row), pooled[level].eer] for level, row in zip(row_levels, cells)]
        id = slug(f"{a.name}-by-{b.name}") + subject.suffix(k)
        caption = f"EER % of {system.label} by {a.name} and {b.name}"
        note = "The stronger the colour, the worse; a dash where a class is missing."
        made.append(Table(id, caption, columns, rows, note, shade=True))
    return made


def speakers(subject: Subject) -> Section:
    """Results of each speaker; no parts where the key does not tell speakers apart."""
    section = Section("speakers", "Speakers")
    if not subject.has_speakers:
        return section
    factor = subject.factor("speaker")
    if len(factor.levels) > MAX_SPEAKERS:
        counts = np.bincount(factor.codes, minlength=len(factor.levels))
        largest = np.sort(np.argsort(-counts, kind="stable")[:MAX_SPEAKERS])
        section.lead = f"The {MAX_SPEAKERS} speakers with most trials of {len(factor.levels)}."
        codes = np.full(len(factor.levels), MAX_SPEAKERS)
        codes[largest] = np.arange(MAX_SPEAKERS)
        factor = Factor("speaker", [*(factor.levels[i] for i in largest), "all others"], codes[factor.codes])
    section.parts.append(factor_table(subject, factor))
    return section
