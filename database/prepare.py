"""Make a downloaded corpus ready for main.py: protocols, lists and keys where it looks, checked against the recordings.

    python database/prepare.py la2019 --from ~/corpora/LA --mos train_mos.txt dev_mos.txt
    python database/prepare.py la2021 --from ~/corpora/ASVspoof2021_LA_eval ~/corpora/keys
    python database/prepare.py itw --from ~/corpora/release_in_the_wild
    python database/prepare.py authors
    python database/prepare.py folder --real DIR --fake DIR --name mine

la2019     ASVspoof 2019 LA (train, dev)       la2021, df2021   ASVspoof 2021 LA, DF (eval)
itw        In-the-Wild                         for              Fake-or-Real, for-norm, testing
asvspoof5  ASVspoof 5, track 1 (train, dev, eval), with a config to run it by
authors    the authors' MOS protocols, evaluation lists and keys (4 MB), fetched from their repository and checked
folder     your own recordings: lists, a split by speakers where names tell them, MOS, and a config to run it by

--from is searched for what the archives of the corpus unpack to, however deep (to six folders) it lies; links that lead
out of it are not followed. Recordings are linked, not copied. Nothing is written unless everything is there; what is
missing is named, with where it is published. Whether the recordings can be decoded is not looked at: `python main.py
--check` does.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "database")]

from corpora.asvspoof import prepare_2021, prepare_asvspoof5, prepare_la2019  # noqa: E402
from corpora.authors import ENVIRONMENT, fetch_authors, fetched, report  # noqa: E402
from corpora.folder import SPEAKERS, prepare_folder  # noqa: E402
from corpora.plan import COUNTS, Plan, carry_out, read_mos  # noqa: E402
from corpora.search import Search  # noqa: E402
from corpora.wild import prepare_for, prepare_itw  # noqa: E402
from qamo import InputError, cores  # noqa: E402
from qamo.command import DONE, INPUT_ERROR, Parser, note, number, run_command, say_saved, typed  # noqa: E402
from qamo.config.schema import NAME_RULE, DataConfig  # noqa: E402
from qamo.files import from_here  # noqa: E402
from qamo.trials.names import fault_of_name  # noqa: E402

CORPORA: dict[str, Callable[[Plan], None]] = {
    "la2019": prepare_la2019,
    "la2021": functools.partial(prepare_2021, track="LA"),
    "df2021": functools.partial(prepare_2021, track="DF"),
    "itw": prepare_itw,
    "for": prepare_for,
    "asvspoof5": prepare_asvspoof5,
}


def build_parser() -> Parser:
    parser = Parser("prepare.py", __doc__)
    add = parser.add_argument
    add("corpus", choices=(*CORPORA, "authors", "folder"))
    add("--from", dest="sources", type=Path, nargs="+", default=[], metavar="DIR", help="what to search")
    add("--to", type=Path, default=ROOT / "database", help="data.database_path (database)")
    add("--authors", type=Path, metavar="DIR", help="the authors' database/: link its lists and keys")
    add("--mos", type=Path, nargs="+", default=[], metavar="FILE", help="MOS to put into the protocols")
    add("--partial", action="store_true", help="prepare what is there, although something is missing")
    add("--any-count", action="store_true", help="a part of a corpus: do not compare its counts")
    add("--no-links", action="store_true", help="print the config keys of the recordings, link nothing")
    add("--force", action="store_true", help="replace files that hold something else")
    add("--url", default="", help=f"with authors: a mirror of their repository at its commit (or {ENVIRONMENT})")
    add("--dry-run", action="store_true", help="say what would be done, and stop")
    own = parser.add_argument_group("folder")
    own.add_argument("--real", type=Path, metavar="DIR", help="real recordings, in folders or not")
    own.add_argument("--fake", type=Path, metavar="DIR", help="fake ones")
    own.add_argument("--name", help="what the data are called (the name of their common folder)")
    own.add_argument(
        "--speakers", choices=SPEAKERS, default="auto", help="what tells them: folders, a prefix of the file's name"
    )
    own.add_argument("--no-mos", action="store_true", help="predict none: heads that look at quality cannot be trained")
    own.add_argument("--jobs", type=number(int, 1, 1024), default=cores.usable(), help="threads that predict MOS")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    if args.corpus == "authors":
        done, failed = fetch_authors(args.to.absolute(), url=args.url, force=args.force)
        print(report(done, failed))
        for sentence in failed:
            note("prepare.py", sentence)
        if not failed:
            say_saved(from_here(args.to.absolute()), then=dry_run(args.to.absolute(), ()))
        return INPUT_ERROR if failed else DONE
    if args.corpus == "folder":
        return own_data(args)
    if args.real or args.fake or args.name:
        raise InputError("--real, --fake, --name have no effect but with folder; leave them out")
    if args.url:
        raise InputError("--url has no effect but with authors; leave it out")
    if not args.sources and not args.authors:
        raise InputError("expected --from DIR with the corpus, or --authors DIR, found neither")
    if args.mos and (args.authors or args.corpus in ("la2021", "df2021")):
        raise InputError(
            "--mos: the files of the authors and the keys of ASVspoof 2021 take no MOS; give it to report.py --mos"
        )
    theirs = [args.authors] if args.authors else [] if args.mos else fetched(args.to.absolute(), args.corpus)
    plan = Plan(
        args.corpus,
        to=args.to.absolute(),
        search=Search(args.sources),
        authors=Search(theirs) if theirs else None,
        mos=read_mos(args.mos),
        counts={} if args.any_count else COUNTS[args.corpus],
        links_recordings=not args.no_links,
    )
    CORPORA[args.corpus](plan)
    return finish(plan, args)


def own_data(args: argparse.Namespace) -> int:
    """Prepare a folder of real and one of fake recordings."""
    if not args.real or not args.fake:
        raise InputError("folder: expected --real DIR and --fake DIR with your recordings")
    if args.sources or args.authors or args.partial:
        raise InputError("folder: --from, --authors and --partial have no effect; leave them out")
    common = Path(os.path.commonpath([args.real.resolve(), args.fake.resolve()]))
    name = args.name or common.name
    if not NAME_RULE.fullmatch(name) or fault_of_name(name):
        raise InputError(f"--name: expected a name without / and blanks for the data, found {name!r}")
    to, links = args.to.absolute(), not args.no_links
    plan = Plan(
        "folder", to=to, search=Search([]), authors=None, mos=read_mos(args.mos), counts={}, links_recordings=links
    )
    predicts = not (args.no_mos or args.dry_run)
    prepare_folder(plan, args.real, args.fake, name, speakers=args.speakers, predicts=predicts, jobs=args.jobs)
    return finish(plan, args)


def finish(plan: Plan, args: argparse.Namespace) -> int:
    """Say what is missing, else write what is planned."""
    if plan.mos and not plan.mos_used and not plan.missing:
        raise InputError(f"--mos: none of its {len(plan.mos):,} names is a recording of {args.corpus}")
    for sentence in plan.missing:
        note("prepare.py", f"missing: {sentence}")
    if plan.missing and not (args.partial and (plan.writes or plan.links or plan.settings)):
        more = "none of it is there" if args.partial else "--partial prepares what is there"
        note("prepare.py", f"nothing was written; {more}")
        return INPUT_ERROR
    print("\n".join([*carry_out(plan, force=args.force, dry=args.dry_run), *plan.advice]))
    if not args.dry_run:
        made = [path for path, _ in [*plan.writes, *plan.links]]
        saved = Path(os.path.commonpath(made)) if len(made) > 1 else plan.to
        say_saved(from_here(saved), then=" && ".join(plan.then) or dry_run(plan.to, plan.settings))
    return DONE


def dry_run(to: Path, settings: Sequence[str]) -> str:
    """The command that looks whether main.py finds all that it needs."""
    is_default = to.resolve() == DataConfig().database_path.resolve()
    places = [] if is_default else [f"data.database_path={to}", f"data.protocols_path={to}"]
    return typed("main", "--check", *places, *settings)


if __name__ == "__main__":
    sys.exit(main())
