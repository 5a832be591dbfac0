"""Score recordings with a trained detector: bona fide or spoof, how sure, and what to doubt.

    python inference.py exps/NAME clip.wav
    python inference.py model.onnx --json recordings/ more.m4a > scores.json
    python inference.py exps/NAME --vad --plot plots/ interview.mp3

The detector (--ckpt-path, or else the first path) is a run's folder, a checkpoint (the authors' too), an exported
folder or an .onnx file (which needs no PyTorch). Folders are searched for recordings. Any rate and number of channels;
windows as long as those of training, half overlapping, with a score each. Exit status: 0, 2 if a recording or an
argument could not be read, or 130 after Ctrl-C; what was judged until then is written.

The trained run keeps what turns its scores into probabilities. For other weights, fit it once on a score file of
main.py and its keys:

    python inference.py --calibrate exps/NAME/scores/dev.txt PROTOCOL -o calibration.json

From Python: `open_judge`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from qamo import InputError
from qamo.audio.mixing import CHANNELS
from qamo.command import INPUT_ERROR, STOPPED, Parser, name_of, note, number, output, run_command, say_saved, typed
from qamo.evaluation import calibration
from qamo.files import write_text
from qamo.hub import WEIGHT_FILES
from qamo.inference import show
from qamo.inference.api import failed, quality_predictor
from qamo.inference.api import open_judge as open_judge  # model cards written so far import it from here
from qamo.inference.flags import add_flags, rule_of
from qamo.inference.judge import Judgement, PredictMOS, Rule, judge, meaning
from qamo.inference.recording import by_channel, expand, read
from qamo.inference.scorer import Scorer, open_scorer
from qamo.networks.cpu import malloc
from qamo.progress import progress, say, start_log

T = TypeVar("T")
LONG_STEPS = 8  # batches of windows; with more, some minutes of sound, a recording has a bar of its own


def build_parser() -> Parser:
    parser = Parser("inference.py", __doc__)
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="the detector, unless --ckpt-path names it; recordings, and folders",
    )
    add("--wav-path", nargs="+", type=Path, default=[], metavar="PATH", help="recordings and folders")
    add("--ckpt-path", type=Path, help="the detector: run, checkpoint, exported folder or .onnx file")
    add("--aggregate", choices=("mean", "min", "first"), default="mean", help="of the windows' scores [%(default)s]")
    add("--vad", action="store_true", help="pass over windows that are mostly pauses")
    add(
        "--channel",
        choices=CHANNELS,
        default="mix",
        help="their mean, one, or a row for each [%(default)s]",
    )
    add("--mos", action="store_true", help="predict the speech quality too (DistillMOS), and warn where it is low")
    add_flags(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects in place of a table")
    form.add_argument("--csv", action="store_true", help="comma-separated values in place of a table")
    add("-o", "--output", type=output, help="write there, and not to standard output")
    add("--plot", type=output, metavar="FILE_OR_FOLDER", help="waveform and score over time, as .png, .svg or .pdf")
    add("--calibration", type=Path, metavar="FILE", help="in place of the one kept beside the weights")
    add(
        "--calibrate",
        type=Path,
        nargs=2,
        metavar=("SCORES", "KEYS"),
        help="fit a calibration, write it to -o, and stop",
    )
    add("--subset", help="with --calibrate: subset of the keys")
    add(
        "--batch-size",
        type=number(int, 1, 100_000),
        default=16,
        help="windows scored at a time [%(default)s]",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, argv)


def command(args: argparse.Namespace) -> int:
    if args.calibrate:
        return calibrate(args)
    paths = [*args.paths, *args.wav_path]
    detector = args.ckpt_path or (args.paths and paths.pop(0))
    if not detector:
        raise InputError("--ckpt-path: expected a run, a checkpoint, an exported folder or an .onnx file")
    if not paths:
        raise InputError(f"expected recordings or folders of them after the detector, {detector}; give their paths")
    rule = rule_of(args, aggregate=args.aggregate, skip_pauses=args.vad, batch_size=args.batch_size)
    if args.plot and is_picture(args.plot) and (len(paths) > 1 or paths[0].is_dir() or args.channel == "each"):
        raise InputError(f"--plot {args.plot}: one picture cannot hold several recordings; name a folder")
    recordings = list(expand(paths))
    for path in {args.output, args.plot} - {None}:
        if path.is_file() and any(path.samefile(recording) for recording, fault in recordings if not fault):
            raise InputError(f"{path}: is one of the recordings, and would be lost; choose another name")
    if args.output and args.output.is_file() and _is_of_detector(args.output, Path(detector)):
        raise InputError(f"{args.output}: is a file of a detector, which would be lost; choose another name")
    malloc.keep_freed()
    start_log()
    scorer = open_scorer(detector, device=args.device, n_threads=args.threads, calibration_file=args.calibration)
    predict_mos = quality_predictor() if args.mos else None
    judgements, n_done = judge_all(recordings, scorer, rule, predict_mos, args)
    as_table = partial(show.to_table, show.head(scorer, rule))
    as_text = show.to_json if args.json else show.to_csv if args.csv else as_table
    if args.output:
        write_text(args.output, as_text(judgements))
    elif args.json or args.csv:
        sys.stdout.write(as_text(judgements))
    if written := [path for path in (args.output, args.plot) if path and path.exists()]:
        say_saved(*written, then=typed("serve", detector), stream=sys.stderr)
    n_failed = sum(judgement.error is not None for judgement in judgements)
    if n_failed:
        note("inference.py", f"{n_failed} of {len(judgements)} recordings could not be read")
    if n_done < len(recordings):
        note("inference.py", f"stopped; {n_done} of {len(recordings)} recordings were judged")
        return STOPPED
    return INPUT_ERROR if n_failed else 0


def _is_of_detector(path: Path, detector: Path) -> bool:
    """Whether a file is one of weights, or what a run keeps in its folder."""
    from qamo.training.folder import RunFolder

    kept = {str(place.absolute()) for place in vars(RunFolder(detector)).values()}
    return path.suffix in WEIGHT_FILES or str(path.absolute()) in kept


def calibrate(args: argparse.Namespace) -> int:
    if args.output is None:
        raise InputError(f"--calibrate: say with -o where to write it, for example -o {calibration.FILE}")
    fitted = calibration.fit_files(*args.calibrate, subset=args.subset)
    calibration.write(args.output, fitted)
    print(
        f"{args.output}: log-likelihood ratio {fitted.slope:.4g} * score {fitted.offset:+.4g}, {fitted.n_bonafide} bona"
    )
    print(f"fide and {fitted.n_spoof} spoofed scores, EER {100 * fitted.eer:.2f} %, weights {fitted.weights}")
    if fitted.weights.startswith("scores "):
        print(f"nothing beside {args.calibrate[0].name} tells which detector made it: check that yourself")
    scores, keys = args.calibrate
    subset = ["--subset", args.subset] if args.subset else []
    say_saved(args.output, then=typed("report", scores, "--keys", keys, *subset))
    return 0


def judge_all(
    recordings: list[tuple[Path, str]],
    scorer: Scorer,
    rule: Rule,
    predict_mos: PredictMOS | None,
    args: argparse.Namespace,
) -> tuple[list[Judgement], int]:
    """Judge one recording after the other, to the last or to Ctrl-C; a table on the screen grows by lines.

    Returns the judgements, several of a recording where each channel is asked for, and how many recordings they are of.
    """
    live = not (args.json or args.csv or args.output)
    if live:
        print(show.head(scorer, rule))
    elif scorer.calibration is None:
        print("\n".join(meaning(scorer, rule)), file=sys.stderr)
    judgements: list[Judgement] = []
    n_done = 0
    shown = progress(recordings, "recordings", total=len(recordings), unit="recording")
    try:
        for path, fault in shown if len(recordings) > 1 else recordings:
            for judgement in judged(path, fault, scorer, rule, predict_mos, args, number=len(judgements) + 1):
                judgements.append(judgement)
                if judgement.error:
                    say(show.printable(f"{name_of('inference.py')}: {judgement.error}"), sys.stderr)
                elif live:
                    say(show.printable(show.row(judgement)), sys.stdout)
            n_done += 1
    except KeyboardInterrupt:
        pass
    return judgements, n_done


def judged(
    path: Path,
    fault: str,
    scorer: Scorer,
    rule: Rule,
    predict_mos: PredictMOS | None,
    args: argparse.Namespace,
    *,
    number: int,
) -> Iterator[Judgement]:
    """A recording's judgement, or one of each channel; whatever goes wrong is that recording's fault.

    Args:
        fault: what is wrong with it already, or "".
        number: of the first judgement, for the names of pictures.
    """
    name = str(path)
    try:
        if fault:
            raise InputError(fault)
        for k, (called, heard) in enumerate(by_channel(read(path, channel=args.channel), name)):
            name = called
            watch = partial(watched, Path(name).name)
            judgement = judge(heard, scorer, rule, path=name, predict_mos=predict_mos, watch=watch)
            if args.plot:
                plot(args.plot, heard.wave, judgement, scorer, rule, number=number + k)
            yield judgement
    except Exception as error:
        yield failed(name, error)


def watched(name: str, steps: Iterable[T], n_steps: int, work: str) -> Iterable[T]:
    """A bar of its own for a long recording."""
    if n_steps <= LONG_STEPS:
        return steps
    return progress(steps, f"{name}: {work}", total=n_steps, unit="step")


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".svg", ".pdf")


def plot(target: Path, wave: np.ndarray, judgement: Judgement, scorer: Scorer, rule: Rule, *, number: int) -> None:
    """Draw into the file `target`, or into the folder `target`, numbered so that equal names cannot clash."""
    from qamo.inference import timeline  # matplotlib

    path = target if is_picture(target) else target / f"{number:04d}_{Path(judgement.path).stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = scorer.calibration
    timeline.draw(path, wave, judgement, threshold=rule.threshold_with(known), band=rule.band(known))


if __name__ == "__main__":
    sys.exit(main())
