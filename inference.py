"""Score recordings with a trained detector: bona fide or spoof, how sure, and what to doubt.

    python inference.py --ckpt_path exps/NAME --wav_path clip.wav
    python inference.py --ckpt_path model.onnx --json recordings/ more.m4a > scores.json
    python inference.py --ckpt_path exps/NAME --vad --plot plots/ interview.mp3

--ckpt_path is a run's folder, a checkpoint (the authors' too), an exported folder or an .onnx file (which needs no
PyTorch). Folders are searched for recordings. Any rate and number of channels; windows as long as those of training,
half overlapping, with a score each. Exit status: 0, or 2 if a recording or an argument could not be read.

The trained run keeps what turns its scores into probabilities. For other weights, fit it once on a score file of
main.py and its keys:

    python inference.py --calibrate exps/NAME/scores/dev.txt PROTOCOL -o calibration.json

In a program of one's own: `open_judge`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamo import InputError
from qamo.evaluation import calibration

if TYPE_CHECKING:
    from qamo.inference.judge import Judgement, Rule
    from qamo.inference.scorer import Scorer

STOPPED = 130  # the exit status after Ctrl-C, as shells have it
COLUMNS = [
    "path", "score", "verdict", "llr", "probability_bonafide", "score_min", "share_below_threshold", "n_windows",
    "duration_s", "level_dbfs", "bandwidth_hz", "clipped_share", "speech_share", "mos", "warnings", "error",
]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inference.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("paths", nargs="*", type=Path, metavar="PATH", help="recordings, and folders of them")
    add("--wav_path", nargs="+", type=Path, default=[], metavar="PATH", help="the same")
    add("--ckpt_path", type=Path, help="run, checkpoint, exported folder or .onnx file")
    add(
        "--threshold", type=float, metavar="T", help="bona fide from this score on; default: from calibration and prior"
    )
    add("--prior", type=float, default=calibration.PRIOR, help="share of bona fide speech to expect [%(default)s]")
    add(
        "--confidence",
        type=float,
        default=calibration.CONFIDENCE,
        metavar="P",
        help="least probability of a verdict; below it the verdict is `uncertain` [%(default)s]",
    )
    add("--aggregate", choices=("mean", "min", "first"), default="mean", help="of the windows' scores [%(default)s]")
    add("--overlap", type=float, default=0.5, help="share of a window that the next covers too [%(default)s]")
    add("--vad", action="store_true", help="pass over windows that are mostly pauses")
    add("--mos", action="store_true", help="predict the speech quality too (DistillMOS), and warn where it is low")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects in place of a table")
    form.add_argument("--csv", action="store_true", help="comma-separated values in place of a table")
    add("-o", "--output", type=Path, help="write there, and not to standard output")
    add("--plot", type=Path, metavar="FILE_OR_FOLDER", help="picture of waveform and score over time, .png, .svg, .pdf")
    add("--calibration", type=Path, metavar="FILE", help="in place of the one kept beside the weights")
    add(
        "--calibrate",
        type=Path,
        nargs=2,
        metavar=("SCORES", "KEYS"),
        help="fit a calibration, write it to -o, and stop",
    )
    add("--subset", help="with --calibrate: subset of the keys")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="[%(default)s]")
    add("--threads", type=int, default=0, help="CPU threads; 0: as the library chooses")
    add("--batch-size", type=int, default=16, help="windows scored at a time [%(default)s]")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    try:
        if args.calibrate:
            return calibrate(args)
        return score(args)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return STOPPED


def calibrate(args: argparse.Namespace) -> int:
    if args.output is None:
        raise InputError(f"--calibrate: say with -o where to write it, for example -o {calibration.FILE}")
    found = calibration.fit_files(*args.calibrate, subset=args.subset)
    calibration.write(args.output, found)
    print(f"{args.output}: log-likelihood ratio {found.slope:.4g} * score {found.offset:+.4g}, {found.n_bonafide} bona")
    print(f"fide and {found.n_spoof} spoofed scores, EER {100 * found.eer:.2f} %, weights {found.weights}")
    return 0


def score(args: argparse.Namespace) -> int:
    from qamo.inference.judge import Rule, judge_file, meaning
    from qamo.inference.scorer import open_scorer
    from qamo.networks.cpu import malloc as memory
    from qamo.quality.predictors import build_predictor

    given = [*args.paths, *args.wav_path]
    if args.ckpt_path is None:
        raise InputError("--ckpt_path: expected a run, a checkpoint, an exported folder or an .onnx file")
    if not given:
        raise InputError("expected recordings or folders of them; give their paths")
    rule = Rule(
        aggregate=args.aggregate,
        overlap=args.overlap,
        skip_pauses=args.vad,
        threshold=args.threshold,
        prior=args.prior,
        confidence=args.confidence,
        batch_size=args.batch_size,
    )
    single = len(given) == 1 and not given[0].is_dir()
    if args.plot and is_picture(args.plot) and not single:
        raise InputError(f"--plot {args.plot}: one picture cannot hold several recordings; name a folder")
    recordings = list(expand(given))
    memory.keep_freed()
    scorer = open_scorer(
        args.ckpt_path,
        load_detector,
        device=args.device,
        n_threads=args.threads,
        calibration_file=args.calibration,
    )
    try:
        predict_mos = build_predictor("distillmos") if args.mos else None
    except ImportError as error:
        raise InputError(f"--mos: the quality predictor needs PyTorch ({error}); leave --mos out") from None
    as_table = not (args.json or args.csv)
    if as_table and args.output is None:
        print("\n".join(meaning(scorer, rule)), heading(), sep="\n\n")
    elif scorer.calibration is None:
        print("\n".join(meaning(scorer, rule)), file=sys.stderr)
    judgements: list[Judgement] = []
    for path, fault in recordings:
        judgement, wave = (
            (failed(path, fault), None) if fault else judge_file(path, scorer, rule, predict_mos=predict_mos)
        )
        judgements.append(judgement)
        if judgement.error:
            print(f"inference.py: {judgement.error}", file=sys.stderr)
        elif as_table and args.output is None:
            print(row(judgement), flush=True)
        if args.plot and wave is not None:
            plot(args.plot, wave, judgement, scorer, rule, number=len(judgements))
    if args.output is not None or not as_table:
        text = (
            to_json(judgements) if args.json else to_csv(judgements) if args.csv else to_table(judgements, scorer, rule)
        )
        if args.output is None:
            sys.stdout.write(text)
        else:
            from qamo.files import write_text

            write_text(args.output, text)
    n_failed = sum(judgement.error is not None for judgement in judgements)
    if n_failed:
        print(f"inference.py: {n_failed} of {len(judgements)} recordings could not be read", file=sys.stderr)
    return 2 if n_failed else 0


def open_judge(path: Path | str, *, device: str = "auto", **settings: Any) -> Callable[[Path | str], Judgement]:
    """This command as a function: the path of a recording -> its judgement, with what the command writes as JSON.

        judge = open_judge("detector")
        judge("clip.wav").score

    Args:
        path: run, checkpoint, exported folder or .onnx file.
        device: auto, cpu or cuda.
        settings: of `qamo.inference.judge.Rule`, such as aggregate="min", threshold=0.3 or skip_pauses=True (--vad).

    Raises:
        InputError: the detector cannot be read; from the function it returns: the recording cannot be.
    """
    from qamo.audio.load import read
    from qamo.inference.judge import Rule, judge
    from qamo.inference.scorer import open_scorer

    rule = Rule(**settings)
    scorer = open_scorer(Path(path), load_detector, device=device)
    return lambda recording: judge(read(Path(recording)), scorer, rule, path=str(recording))


def load_detector(path: Path) -> Any:
    """PyTorch and the networks are imported here and only here: an ONNX file needs neither."""
    from model import load_detector

    return load_detector(path)


def expand(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Recordings in the order of the arguments, folders searched in the order of names; with what is wrong, or ""."""
    from qamo.trials.recordings import recordings_in

    for path in paths:
        if not path.is_dir():
            yield path, ""
            continue
        inside = recordings_in(path)
        if not inside:
            yield path, f"{path}: found no recordings in this folder, by their endings"
        for found in inside:
            yield found, ""


def failed(path: Path, fault: str) -> Judgement:
    from qamo.inference.judge import Judgement

    return Judgement(path=str(path), error=fault)


def heading() -> str:
    return f"{'score':>8}  {'min':>8}  {'LLR':>7}  {'bona fide':>9}  {'verdict':9}  {'seconds':>8}  recording"


def row(judgement: Judgement) -> str:
    """One line of the table, and one more for each warning."""

    def number(value: float | None, text: str) -> str:
        return "-" if value is None else format(value, text)

    probability = "-" if judgement.probability_bonafide is None else f"{100 * judgement.probability_bonafide:.1f} %"
    seconds = judgement.facts.duration_s if judgement.facts else None
    line = (
        f"{number(judgement.score, '.4f'):>8}  {number(judgement.score_min, '.4f'):>8}  "
        f"{number(judgement.llr, '.2f'):>7}  {probability:>9}  {judgement.verdict or '-':9}  "
        f"{number(seconds, '.2f'):>8}  {judgement.path}"
    )
    extra = [] if judgement.mos is None else [f"predicted quality {judgement.mos:.2f} MOS"]
    return "\n".join(
        [line, *(f"{'':10}{text}" for text in extra), *(f"{'':10}! {text}" for text in judgement.cautions)]
    )


def to_table(judgements: Sequence[Judgement], scorer: Scorer, rule: Rule) -> str:
    from qamo.inference.judge import meaning

    lines = [row(j) if j.error is None else f"{'-':>8}  {j.error}" for j in judgements]
    return "\n".join([*meaning(scorer, rule), "", heading(), *lines]) + "\n"


def to_json(judgements: Sequence[Judgement]) -> str:
    return json.dumps([judgement.as_dict() for judgement in judgements], indent=1, ensure_ascii=False) + "\n"


def to_csv(judgements: Sequence[Judgement]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for judgement in judgements:
        content = judgement.as_dict()
        scored = sum(window["score"] is not None for window in content["windows"])
        writer.writerow({**content, "n_windows": scored, "warnings": "; ".join(content["warnings"])})
    return text.getvalue()


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".svg", ".pdf")


def plot(target: Path, wave: Any, judgement: Judgement, scorer: Scorer, rule: Rule, *, number: int) -> None:
    """Draw into the file `target`, or into the folder `target`, numbered so that equal names cannot clash."""
    from qamo.inference import timeline

    path = target if is_picture(target) else target / f"{number:04d}_{Path(judgement.path).stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = scorer.calibration
    timeline.draw(path, wave, judgement, threshold=rule.centre(known), band=rule.band(known))


if __name__ == "__main__":
    sys.exit(main())
