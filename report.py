"""Score files -> one HTML page with tables, DET curves and the worst errors; the tables also as CSV, Markdown, LaTeX.

    python report.py exps/NAME/scores/ITW.txt --keys database/ood_ds_keys/ITW/ -o report.html
    python report.py ours=a.txt theirs=b.txt --keys meta.csv --mos meta.score.txt --audio release_in_the_wild/ -o r.html
    python report.py --run exps/NAME -o run.html

scores       `name score` files of one set, a higher score means more likely bona fide; LABEL=FILE names a system
--keys       meta.csv, a protocol, or trial_metadata.txt of ASVspoof 2021, or a folder that holds one of them
--mos        results by quality: a protocol with MOS, a meta.csv with a MOS column, or `name mos` lines
--audio      plays the worst errors
--asv        min t-DCF of ASVspoof 2019 from its ASV scores; those of 2021 are found beside its key
--run        training curves and centroids; with --audio and --embeddings also where the recordings lie

Misses and false alarms of score files that lie in the folder of a run are counted at that run's dev threshold.

The page is one file, opens from the disk and needs no network. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import eval_metrics
from qamo import InputError, __version__, files
from qamo.audio import load as audio
from qamo.evaluation.breakdown import System
from qamo.report.page import Chart, Markup, Section, page
from qamo.report.run_section import (
    RunRecord,
    cosine_chart,
    dev_threshold,
    embedding_chart,
    read_run,
    settings_table,
    training,
)
from qamo.report.sections import Set, conditions, mistakes, quality, rates, score_section, speakers, summarize, title_of
from qamo.report.tables import Column, Table, to_csv, to_latex, to_markdown
from qamo.trials import tables
from qamo.trials.keys import TRACKS, read_keys
from qamo.trials.ratings import mos_column, read_ratings
from qamo.trials.recordings import find_recording
from qamo.trials.scores import read_scores

MOST_EMBEDDED = 2000
MOS_EDGES = [2.0, 2.5, 3.0, 3.5, 4.0]  # the paper's threshold, 2.5, is one


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", nargs="*", metavar="[LABEL=]FILE", help="score files of one set")
    parser.add_argument("--keys", type=Path, help="the key of the set, or its folder")
    parser.add_argument("--subset", help="of an ASVspoof 2021 key (default: eval)")
    parser.add_argument("--mos", type=Path, help="MOS of each trial")
    parser.add_argument("--mos-edges", type=float, nargs="+", default=MOS_EDGES, metavar="MOS", help="between bands")
    parser.add_argument("--by", nargs="+", metavar="COLUMN", help="columns of the key, A*B for a table of both")
    parser.add_argument("--threshold", type=float, nargs="+", metavar="T", help="for each system, one from a dev set")
    parser.add_argument(
        "--asv", type=Path, metavar="FILE", help="ASV scores of ASVspoof 2019: source, key, score a line"
    )
    parser.add_argument("--audio", type=Path, help="folder of the recordings")
    parser.add_argument("--worst", type=int, default=20, metavar="N", help="errors listed for each system (default 20)")
    parser.add_argument("--run", type=Path, help="run folder")
    parser.add_argument(
        "--embeddings", type=int, default=0, metavar="N", help="recordings to embed with the run's model"
    )
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--title", help="of the page")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the page")
    parser.add_argument("--csv", type=Path, metavar="DIR", help="a CSV file for each table, with all digits")
    parser.add_argument("--md", type=Path, metavar="FILE", help="the tables in Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="the tables in LaTeX (booktabs)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    try:
        written = report(args)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path)
    return 0


def report(args: argparse.Namespace) -> list[Path]:
    """Read, measure, write; the files that were written."""
    check(args)
    sections: list[Section] = []
    clips: dict[str, str] = {}
    summary, subtitle = Markup(""), ""
    run = read_run(args.run) if args.run else None
    found = read_set(args) if args.scores else None
    if found:
        summary, subtitle = summarize(found)
        sections += [rates(found), score_section(found)]
        sections += [s for s in (conditions(found, args.by), speakers(found)) if s.parts]
        if found.mos is not None:
            sections.append(quality(found, args.mos_edges))
        sections.append(mistakes(found, args.worst, args.audio, args.output.parent, clips))
    if run:
        sections.append(training(run))
        if args.embeddings and found:
            sections[-1].parts += embedding_parts(found, run, args.audio, args.embeddings)
        if run.settings:
            sections[-1].parts.append(settings_table(run))
    sections.append(sources(args, found))
    title = args.title or (title_of(found) if found else f"Training of {args.run.name}")
    subtitle = subtitle or f"Run folder {args.run}"
    every = [table for section in sections for table in section.tables]
    written = [args.output]
    for path in (args.output, args.md, args.latex):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(args.output, page(title, subtitle, summary, sections, clips))
    if args.csv:
        args.csv.mkdir(parents=True, exist_ok=True)
        for table in every:
            files.write_text(args.csv / f"{table.id}.csv", to_csv(table))
        written.append(args.csv)
    if args.md:
        texts = [f"# {title}\n\n{subtitle}\n"]
        for section in sections:
            if section.tables:
                texts += [f"## {section.title}\n", *(to_markdown(table) for table in section.tables)]
        files.write_text(args.md, "\n".join(texts))
        written.append(args.md)
    if args.latex:
        files.write_text(args.latex, "\n".join(map(to_latex, every)))
        written.append(args.latex)
    return written


# ---- reading


def check(args: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together, before anything is read."""
    if not args.scores and not args.run:
        raise InputError("expected score files, or --run with a run folder, got neither")
    if args.asv and not args.scores:
        raise InputError("--asv needs score files with --keys: a t-DCF is of both systems")
    if args.scores and not args.keys:
        raise InputError("score files need --keys: a meta.csv, a protocol or a trial_metadata.txt")
    if args.resamples < 2:
        raise InputError(f"--resamples: expected 2 or more, got {args.resamples}")
    if args.worst < 0 or args.embeddings < 0:
        raise InputError("--worst and --embeddings: expected 0 or more")
    if args.embeddings > MOST_EMBEDDED:
        raise InputError(
            f"--embeddings: expected at most {MOST_EMBEDDED}, which a chart can show, got {args.embeddings}"
        )
    if args.threshold and len(args.threshold) != len(args.scores):
        raise InputError(f"--threshold: expected one for each of {len(args.scores)} systems, got {len(args.threshold)}")
    if args.audio and not args.audio.is_dir():
        raise InputError(f"--audio: {args.audio} is not a folder; give the folder of the recordings")
    if args.embeddings and not (args.run and args.audio and args.scores):
        raise InputError("--embeddings needs --run (the model), --audio (the recordings) and scores with --keys")


def read_set(args: argparse.Namespace) -> Set:
    """The systems, aligned with the keys; those that a run scored have its dev threshold unless one is given."""
    path = key_file(args.keys)
    subset = args.subset
    if subset is None and len(tables.first_fields(path)) in TRACKS:
        subset = "eval"
    keys = read_keys(path, subset)
    systems: list[System] = []
    for k, (label, file) in enumerate(labelled(args.scores)):
        values = keys.align(read_scores(file))
        threshold = args.threshold[k] if args.threshold else threshold_beside(file)
        systems.append(System(label, file, values, keys.bonafide, threshold))
        eval_metrics.checked(systems[-1].bonafide, systems[-1].spoof)
    mos = read_ratings(args.mos).of(keys) if args.mos else None
    if mos is None and "mos" in keys.columns:
        mos = mos_column(keys)
    asv = None
    if args.asv:
        if keys.track:
            raise InputError(
                "--asv: those are ASV scores of ASVspoof 2019, and the key is of 2021, whose own lie beside it"
            )
        from qamo.trials.asv import read_legacy_coefficients

        asv = read_legacy_coefficients(args.asv)
    return Set(systems, keys, subset, mos, args.resamples, args.seed, asv)


def threshold_beside(file: Path) -> float | None:
    """The dev threshold of the run in whose scores/ a score file lies; None where it lies in no run."""
    folder = file.resolve().parent
    return dev_threshold(folder.parent / "calibration.json") if folder.name == "scores" else None


def key_file(path: Path) -> Path:
    """The key in a folder, or the file itself."""
    if not path.is_dir():
        return path
    names = ["meta.csv", "trial_metadata.txt", "CM/trial_metadata.txt"]
    for name in names:
        if (path / name).is_file():
            return path / name
    raise InputError(f"--keys: {path} holds none of {', '.join(names)}; give the key itself")


def labelled(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """(label, file) of each argument; a file without a label is called by its stem, with its folders if need be."""
    given = []
    for text in texts:
        label, separator, rest = text.partition("=")
        given.append((label, Path(rest)) if separator and label and not Path(text).exists() else ("", Path(text)))
    stems = [path.stem for _, path in given]
    labels = [
        label or (path.stem if stems.count(path.stem) == 1 else str(path.with_suffix(""))) for label, path in given
    ]
    repeated = sorted(label for label in set(labels) if labels.count(label) > 1)
    if repeated:
        raise InputError(f"two systems are called {repeated[0]!r}: name them apart with LABEL=FILE")
    return list(zip(labels, (path for _, path in given)))


def embedding_parts(found: Set, run: RunRecord, folder: Path, n_wanted: int) -> list[Chart]:
    """Where recordings lie: in the plane of greatest variance, and by their cosines to two centroids."""
    import torch

    from model import load_detector

    detector = load_detector(run.folder)
    rng = np.random.default_rng(found.seed)
    indices: list[int] = []
    for mask in (found.keys.bonafide, ~found.keys.bonafide):
        indices += rng.permutation(np.flatnonzero(mask))[: -(-n_wanted // 2)].tolist()
    embeddings = []
    for i in indices:
        path = find_recording(folder, found.keys.names[i])
        if path is None:
            raise InputError(f"--audio: {folder} holds no recording of {found.keys.names[i]}")
        wave = audio.fit_length(audio.load(path), run.window_samples)
        with torch.inference_mode():
            embeddings.append(detector(torch.from_numpy(wave)[None]).embedding[0].float().numpy())
    centroids = getattr(detector.head, "centroids", None)
    centers = np.zeros((0, len(embeddings[0]))) if centroids is None else centroids.detach().float().numpy()
    names = [found.keys.names[i] for i in indices]
    mos = None if found.mos is None else found.mos[indices]
    points = names, np.stack(embeddings), found.keys.bonafide[indices], mos, centers
    charts = [embedding_chart(*points)]
    if len(centers) == 2:
        charts.append(cosine_chart(*points, run.centroids.radii if run.centroids else None))
    return charts


def sources(args: argparse.Namespace, found: Set | None) -> Section:
    """Files with their hashes, and the settings of this report."""
    section = Section("sources", "Sources")
    rows: list[list[Any]] = []
    if found:
        for system in found.systems:
            rows.append([f"scores of {system.label}", str(system.path), files.sha256(system.path)[:16]])
        rows.append(["keys", str(found.keys.path), files.sha256(found.keys.path)[:16]])
    if args.mos:
        rows.append(["MOS", str(args.mos), files.sha256(args.mos)[:16]])
    if args.asv:
        rows.append(["ASV scores", str(args.asv), files.sha256(args.asv)[:16]])
    if args.run:
        rows.append(["run", str(args.run), files.sha256(args.run / "metrics.jsonl")[:16]])
    rows.append(["resamples, seed", f"{args.resamples}, {args.seed}", ""])
    rows.append(["program", f"QAMO {__version__}, NumPy {np.__version__}", ""])
    columns = [Column("what"), Column("value"), Column("SHA-256, first 16")]
    section.parts.append(Table("sources-table", "Files and settings", columns, rows))
    return section


if __name__ == "__main__":
    sys.exit(main())
