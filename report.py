"""Score files -> one HTML page with tables, DET curves and the worst errors; the tables also as CSV, Markdown, LaTeX.

    python report.py exps/NAME/scores/ITW.txt --keys database/ood_ds_keys/ITW/
    python report.py ours=a.txt theirs=b.txt --keys meta.csv --mos meta.score.txt --audio release_in_the_wild/ -o r.html
    python report.py itw.txt --keys ITW/meta.csv for.txt --keys FoR/meta.csv --latex sets.tex -o sets.html
    python report.py --run exps/NAME -o run.html

scores       `name score` files of one set, a higher score means more likely bona fide; LABEL=FILE names a system
--keys       meta.csv, a protocol, or trial_metadata.txt of ASVspoof 2021, or a folder that holds one of them
--mos        results by quality: a protocol with MOS, a meta.csv with a MOS column, or `name mos` lines
--audio      plays the worst errors
--asv        min t-DCF of ASVspoof 2019 from its ASV scores; those of 2021 are found beside its key
--calibrate-on  Cllr and detection costs of log-likelihood ratios fitted on dev scores; writes `name llr` files
--figures    DET, scores, Tippett, reliability and conditions, for a paper
--set        further sets: a table of systems and sets; SCORES --keys KEYS, repeated, says the same
--runs       the same from run folders, with mean and deviation over seeds
--run        training curves and centroids; with --audio and --embeddings also where the recordings lie
--arena      the submission of one score file to the Speech Anti-Spoofing Arena, from what META says of the system
             (examples/meta.yaml); folders results/DATASET/ of its benchmark are read as score files

Misses and false alarms of score files that lie in the folder of a run are counted at that run's dev threshold.

The page is one file, opens from the disk and needs no network. The same input gives the same bytes. Without -o it is
called by what it shows, report_NAME_on_ITW.html, in the current folder.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qamo import InputError, __version__, files
from qamo.command import Parser, number, opening, output, run_command, say_saved
from qamo.evaluation.intervals import N_RESAMPLES, SEED, UNITS
from qamo.report import calibrated, over_sets
from qamo.report.arena import submission, write_submission
from qamo.report.calibrated import Calibrated, calibrate
from qamo.report.conditions import conditions, speakers
from qamo.report.embeddings import embedding_charts
from qamo.report.errors import Clips, errors
from qamo.report.page import Section, page
from qamo.report.quality import quality
from qamo.report.rates import rates, verdict
from qamo.report.run_record import RunRecord, read_run
from qamo.report.scores import scores
from qamo.report.subject import Subject, key_file, listed, read_subject
from qamo.report.tables import Column, Table, to_csv, to_latex, to_markdown
from qamo.report.training import settings_table, training

MAX_EMBEDDINGS = 2000
LONGEST_NAME = 100  # letters of a file that is called by its title
MOS_EDGES = [2.0, 2.5, 3.0, 3.5, 4.0]  # the paper's threshold, 2.5, is one


def build_parser() -> Parser:
    parser = Parser("report.py", __doc__)
    add = parser.add_argument
    add("scores", nargs="*", metavar="[LABEL=]FILE", help="score files of one set")
    add("--keys", type=Path, action=Once, help="the key of the set, or its folder")
    add("--subset", help="of an ASVspoof 2021 key (default: eval)")
    add("--mos", type=Path, help="MOS of each trial")
    add("--mos-edges", type=number(float, -100, 100), nargs="+", default=MOS_EDGES, metavar="MOS", help="between bands")
    add("--by", nargs="+", metavar="COLUMN", help="columns of the key, A*B for a table of both")
    add(
        "--threshold",
        type=number(float, -1e300, 1e300),
        nargs="+",
        metavar="T",
        help="decision thresholds, one per system, from other data",
    )
    add("--asv", type=Path, metavar="FILE", help="ASV scores of ASVspoof 2019: source, key, score a line")
    add("--audio", type=Path, help="folder of the recordings")
    add("--worst", type=number(int, 0, 100_000), default=20, metavar="N", help="errors listed per system (default 20)")
    add_dev_options(parser)
    add("--run", type=Path, help="run folder")
    add_sets(parser)
    add(
        "--embeddings",
        type=number(int, 0, MAX_EMBEDDINGS),
        default=0,
        metavar="N",
        help="recordings to embed with the run's model",
    )
    add("--show-paths", action="store_true", help="absolute paths in the page as they are, and not their ends alone")
    add("--unit", choices=UNITS, help="what the intervals resample (default: speakers, or trials)")
    add(
        "--resamples", type=number(int, 2, 1_000_000), default=N_RESAMPLES, metavar="N",
        help="of the intervals (default %(default)s)",
    )  # fmt: skip
    add(
        "--seed",
        type=number(int, 0, 2**63 - 1),
        default=SEED,
        help="of the intervals and of the recordings that are embedded (default %(default)s)",
    )
    add_outputs(parser)
    return parser


def add_sets(parser: Parser) -> None:
    """Several sets, and several seeds."""
    parser.add_argument(
        "--set", nargs="+", action="append", default=[], metavar="FILE",
        help="a further set: a score file for each system, in their order, and then the keys",
    )  # fmt: skip
    parser.add_argument("--runs", nargs="+", default=[], metavar="[LABEL=]FOLDER", help="table of these run folders")


def add_dev_options(parser: Parser) -> None:
    """What is fitted on dev scores, and the figures that show it."""
    add = parser.add_argument
    add("--calibrate-on", type=Path, nargs=2, action="append", default=[], metavar=("DEV_SCORES", "DEV_KEYS"),
        help="log-likelihood ratios from these, once for each system")  # fmt: skip
    add("--fuse", action="store_true", help="also fuse the systems, on the dev scores of --calibrate-on")
    add("--llr", type=Path, metavar="DIR", help="where score files of the ratios go (default: beside the page)")
    add("--figures", type=Path, metavar="DIR", help="figures for papers as PDF, SVG and PNG")


def add_outputs(parser: Parser) -> None:
    """The page, and the other forms of its tables."""
    add = parser.add_argument
    add("--title", help="of the page")
    add("-o", "--output", type=output, help="the page (report_SYSTEMS_on_SET.html)")
    add("--tables", nargs="+", metavar="ID", help="of these files, by the names of the CSV files (default: all)")
    add("--csv", type=Path, metavar="DIR", help="a CSV file for each table, with all digits")
    add("--md", type=output, metavar="FILE", help="the tables in Markdown")
    add("--latex", type=output, metavar="FILE", help="the tables in LaTeX (booktabs)")
    add("--arena", type=output, nargs=2, metavar=("META", "OUT"), help="submission to the Anti-Spoofing Arena")


class Once(argparse.Action):
    """An option that `repeated_sets` leaves once, where it understands the order of words."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, _: Any = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error("--keys twice: give the sets in a row, SCORES --keys KEYS each, and other options after them")
        setattr(namespace, self.dest, value)


def repeated_sets(words: Sequence[str]) -> list[str]:
    """`A --keys K B --keys L` as `A --keys K --set B L`."""
    made: list[str] = []
    rest = list(words)
    while "--keys" in rest:
        place = rest.index("--keys")
        scores, keys = rest[:place], rest[place + 1 : place + 2]
        further = made and scores and not any(word.startswith("-") for word in scores)
        made += ["--set", *scores, *keys] if further else [*scores, "--keys", *keys]
        rest = rest[place + 2 :]
    return [*made, *rest]


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, repeated_sets(sys.argv[1:] if argv is None else argv))


def command(args: argparse.Namespace) -> int:
    """Read, measure, write, and print what was written."""
    check(args)
    run = read_run(args.run) if args.run else None
    options = {"n_resamples": args.resamples, "seed": args.seed}
    clips = Clips(args.audio, args.output.parent if args.output else Path()) if args.audio else None
    subject = None
    grid = None
    made: list[Calibrated] = []
    sections: list[Section] = []
    if args.scores:
        subject = read_subject(
            args.scores, args.keys, subset=args.subset, thresholds=args.threshold, mos=args.mos, asv=args.asv,
            unit=args.unit, **options,
        )  # fmt: skip
        sections += of_scores(args, subject, clips)
        if args.set:
            grid = over_sets.of_files(subject.systems, args.keys, args.set, args.unit)
            sections.insert(1, over_sets.section(grid, options))
        if args.calibrate_on:
            made = calibrate(subject, args.calibrate_on, fuse=args.fuse)
            sections.append(calibrated.section(subject, made))
    if args.runs:
        grid = over_sets.of_runs(args.runs, args.unit)
        sections.append(over_sets.section(grid, options))
    if run:
        sections.append(of_run(args, run, subject))
    sections.append(sources(args, subject, run))
    entry = submission(args.arena[0], subject.systems[0]) if subject and args.arena else None
    title, subtitle = titles(args, subject, grid)
    args.output = args.output or file_of(title)
    title = args.title or title
    compared = verdict(subject) if subject and len(subject.systems) > 1 else ""
    html = page(title, subtitle, sections, clips.by_id if clips else {}, subject=subject, verdict=compared)
    page_path, *others = [*write(args, title, subtitle, html, sections), *write_further(args, subject, made, entry)]
    for path in others:
        print(path)
    say_saved(page_path, then=opening(page_path))
    return 0


def of_run(args: argparse.Namespace, run: RunRecord, subject: Subject | None) -> Section:
    section = training(run)
    if args.embeddings and subject:
        section.parts += embedding_charts(subject, run, args.audio, args.embeddings)
    if run.settings:
        section.parts.append(settings_table(run))
    return section


def titles(args: argparse.Namespace, subject: Subject | None, grid: over_sets.Grid | None) -> tuple[str, str]:
    """Title and subtitle: whose scores, on which sets."""
    sets = listed(list(grid.counts), "sets") if grid else ""
    if subject:
        return (f"{subject.names} on {sets}" if args.set else subject.title), subject.subtitle
    if grid:
        names = [Path(text.rpartition("=")[2]).resolve().name for text in args.runs]
        return f"{listed(names, 'runs')} on {sets}", f"{len(names)} run{'s'[: len(names) > 1]}"
    return f"Training of {args.run.resolve().name}", f"Run folder {args.run if args.show_paths else nearby(args.run)}"


def file_of(title: str) -> Path:
    """What a page is called where no name is given: by its title, in this folder."""
    return Path("report_" + re.sub(r"[^\w.-]+", "_", title)[:LONGEST_NAME] + ".html")


def write_further(
    args: argparse.Namespace, subject: Subject | None, made: Sequence[Calibrated], entry: dict[str, Any] | None
) -> list[Path]:
    """Write files of log-likelihood ratios, figures and a submission; their paths."""
    written: list[Path] = []
    if subject and made:
        written += calibrated.write_llrs(args.llr or args.output.parent, subject, made)
    if subject and args.figures:
        from qamo.report.figures import draw_all  # matplotlib

        written += draw_all(args.figures, subject, args.by, {system.label: system.llrs for system in made})
    if entry:
        written.append(write_submission(args.arena[1], entry))
    return written


def of_scores(args: argparse.Namespace, subject: Subject, clips: Clips | None) -> list[Section]:
    """The sections on score files; those that have nothing to show are left out."""
    sections = [rates(subject), scores(subject), conditions(subject, args.by), speakers(subject)]
    if subject.mos is not None:
        sections.append(quality(subject, subject.mos, args.mos_edges))
    sections.append(errors(subject, args.worst, clips))
    return [section for section in sections if section.parts]


def check(args: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together, before anything is read."""
    if not (args.scores or args.run or args.runs):
        raise InputError("expected score files, or --run with a run folder, or --runs with several, got none")
    if args.set and not args.scores:
        raise InputError("--set adds a set to that of the score files and --keys: give these first")
    if (args.calibrate_on or args.figures) and not args.scores:
        raise InputError("--calibrate-on and --figures need score files with --keys")
    if args.arena and len(args.scores) != 1:
        raise InputError("--arena needs the score file of one system, and --keys: a submission is of one on one set")
    if args.fuse and not args.calibrate_on:
        raise InputError("--fuse needs --calibrate-on DEV_SCORES DEV_KEYS for each system: what it is trained on")
    if args.asv and not args.scores:
        raise InputError("--asv needs score files with --keys: a t-DCF is of both systems")
    if args.scores and not args.keys:
        raise InputError("score files need --keys: a meta.csv, a protocol or a trial_metadata.txt")
    if args.threshold and len(args.threshold) != len(args.scores):
        raise InputError(f"--threshold: expected one for each of {len(args.scores)} systems, got {len(args.threshold)}")
    if args.audio and not args.audio.is_dir():
        raise InputError(f"--audio: {args.audio} is not a folder; give the folder of the recordings")
    if args.embeddings and not (args.run and args.audio and args.scores):
        raise InputError("--embeddings needs --run (the model), --audio (the recordings) and scores with --keys")


def nearby(path: Path) -> str:
    """A path as seen from here, and of one that lies elsewhere its end: a page is passed on, and folders have names."""
    path = files.from_here(path)
    return f".../{path.parent.name}/{path.name}" if path.is_absolute() else str(path)


def sources(args: argparse.Namespace, subject: Subject | None, run: RunRecord | None) -> Section:
    """Files with their hashes, and the settings of this report."""
    read: list[tuple[str, Path, Path]] = []  # what, what is shown of it, what is hashed
    for of_dev, keys in args.calibrate_on:
        read += [("dev scores", of_dev, of_dev), ("dev keys", keys, key_file(keys))]
    if subject:
        read += [(f"scores of {system.label}", system.path, system.path) for system in subject.systems]
        read.append(("keys", subject.keys.path, subject.keys.path))
    read += [(name, path, path) for name, path in (("MOS", args.mos), ("ASV scores", args.asv)) if path]
    if run:
        read.append(("run", run.folder, run.metrics))
    rows = [
        [name, str(path) if args.show_paths else nearby(path), files.sha256(file)[:16]] for name, path, file in read
    ]
    rows.append(["resamples, seed", f"{args.resamples}, {args.seed}", ""])
    rows.append(["program", f"QAMO {__version__}, NumPy {np.__version__}", ""])
    columns = [Column("what"), Column("value"), Column("SHA-256, first 16")]
    return Section("sources", "Sources", parts=[Table("sources-table", "Files and settings", columns, rows)])


def write(args: argparse.Namespace, title: str, subtitle: str, html: str, sections: Sequence[Section]) -> list[Path]:
    """Write the page, and the tables in the formats that were asked for; files and folders that hold them.

    Raises:
        InputError: a table that was asked for is not there.
    """
    there = [table.id for section in sections for table in section.tables]
    if unknown := sorted(set(args.tables or []) - set(there)):
        raise InputError(f"--tables: no table {', '.join(unknown)}; there are {', '.join(there)}")
    chosen = {section.title: [t for t in section.tables if t.id in (args.tables or there)] for section in sections}
    tables = [table for of_section in chosen.values() for table in of_section]
    texts = [(args.output, html)]
    if args.csv:
        texts += [(args.csv / f"{table.id}.csv", to_csv(table)) for table in tables]
    if args.md:
        parts = [f"# {title}\n\n{subtitle}\n"]
        for name, of_section in chosen.items():
            parts += [f"## {name}\n"] * bool(of_section) + [to_markdown(t) for t in of_section]
        texts.append((args.md, "\n".join(parts)))
    if args.latex:
        texts.append((args.latex, "\n".join(map(to_latex, tables))))
    for path, text in texts:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
    return [path for path in (args.output, args.csv, args.md, args.latex) if path]


if __name__ == "__main__":
    sys.exit(main())
