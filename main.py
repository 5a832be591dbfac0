"""Train a detector, average its best epochs, score the evaluation sets, and print their EERs.

    python main.py --model conformer_tcm
    python main.py --config database/mini.yaml train.max_epochs=5
    python main.py --train false --ckpt-path exps/NAME/model.pt eval.sets=[ITW]

Every key of config.yaml can be set as section.key=value; the flags below are short for some of them, with the key and
its default in brackets. If a run is interrupted, the same command resumes it; once it is finished, it does nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamo.command import DONE, INPUT_ERROR, STOPPED, Parser, run_command, say_saved, typed
from qamo.config import flags
from qamo.config.effect import check_effect
from qamo.config.load import asked_of_weights, to_yaml
from qamo.config.schema import Config
from qamo.files import sha256
from qamo.progress import start_log
from qamo.training.folder import DEV, RunFolder, scoring_digest

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from qamo.evaluation.sets import EvaluationSet

log = logging.getLogger("main")

CONFIG = Path(__file__).parent / "config.yaml"
Results = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), command, flags.with_check_level(sys.argv[1:] if argv is None else argv))


def build_parser() -> Parser:
    parser = Parser("main.py", __doc__)
    flags.add_to(parser)
    return parser


def command(args: argparse.Namespace) -> int:
    start_log()
    if args.print_schema:
        print(json.dumps(Config.model_json_schema(), indent=2))
        return DONE
    cfg = flags.config_from(args, default=CONFIG)
    if args.print_config:
        print(to_yaml(cfg), end="")
        return DONE
    overrides = flags.overrides_of(args)
    check_effect(cfg, overrides, flags.PRESETS.get(args.preset, {}))
    asked = asked_of_weights(cfg, overrides)
    # PyTorch and Lightning Fabric are imported from here on (7 s of CPU): --help and a wrong key do not wait for them.
    if args.check:
        from qamo.evaluation.check import check

        return check(cfg, asked, args.check)
    return run_seeds(cfg, asked, args.seeds) if args.seeds else run(cfg, asked)[0]


def run(cfg: Config, asked: Mapping[str, Any]) -> tuple[int, Results]:
    """Train unless it was done, score what was not scored, print the table: (exit status, results).

    Args:
        asked: model settings from the command line that the weights must have or can follow, {"qamo.score": "max"}.
    """
    from qamo.evaluation import results
    from qamo.evaluation.check import check_writable_scores
    from qamo.evaluation.sets import dev_set, evaluation_sets
    from qamo.training import device, launch, loggers
    from qamo.training.signals import Interrupted

    started = time.monotonic()
    cfg = device.resolved(cfg)
    loggers.check_installed(cfg.run.loggers if cfg.train.enabled else ())
    fabric = launch.processes(cfg)
    folder = RunFolder.of(cfg)
    with launch.together(fabric, cfg), folder.held(fabric):
        if done := folder.finished(cfg):
            log.info("%s is finished already; nothing to do (another --name or --seed makes a new run)", folder)
            show(folder, done)
            return DONE, done
        # A recording that ends the run is looked into now, one that would only be reported is left to its turn.
        sets = evaluation_sets(cfg.data, cfg.eval, "header" if cfg.score.on_bad_audio == "fail" else "exist")
        check_writable_scores(cfg, folder)
        try:
            if cfg.train.enabled and folder.model.exists():
                log.info("%s is trained already; scoring what is missing", folder)
            elif cfg.train.enabled:
                train(cfg, fabric, folder)
            dev = {DEV: dev_set(cfg.data)} if cfg.train.enabled and DEV not in sets else {}
            n_failed = score(cfg, asked, fabric, folder, dev | sets)
        except Interrupted:
            log.warning("stopped and saved; the same command goes on from here: %s", launch.this_command())
            return STOPPED, {}
        if not fabric.is_global_zero:
            return DONE, {}
        if dev:
            results.calibrate(folder, dev[DEV], comment=cfg.comment_eval)
        done = results.write(cfg, folder, sets, n_failed)
        log.info("done in %.0f s", time.monotonic() - started)
        show(folder, done)
        if n_lost := sum(n_failed.values()):
            log.error("%d recordings could not be read; see %s", n_lost, folder.scores / "*.failed.txt")
        return INPUT_ERROR if n_lost else DONE, done


def show(folder: RunFolder, results: Results) -> None:
    """Print the table, where everything is, and how to look at it: a report, or the page where no set has an EER."""
    from qamo.evaluation.results import table

    print(table(results))
    judging = folder.path if folder.model.exists() else results["weights"]
    has_eer = any("eer" in row for row in results["sets"].values())
    then = typed("report", "--runs", folder.path) if has_eer else typed("serve", judging)
    say_saved(folder.path, then=then)


def train(cfg: Config, fabric: Fabric, folder: RunFolder) -> None:
    """Fit, then average the best epochs into the run's model."""
    import torch

    from data_utils import read_training_data
    from model import build_detector
    from qamo.networks import feature_cache
    from qamo.quality.probe import write_sample
    from qamo.training import checkpoint, epoch_log, loop
    from qamo.training.compiling import compile_for_training

    data = read_training_data(
        cfg.data, batch_size=cfg.train.batch_size, seed=cfg.seed, reads_quality=cfg.model.reads_quality
    )
    torch.manual_seed(cfg.seed)  # initial weights
    detector = build_detector(cfg.model)
    detector.frontend_chunks = cfg.train.frontend_chunks
    n_waves = len(data.train) + len(data.dev)
    feature_cache.attach(detector, cfg.run, cfg.train.precision, n_waves=n_waves, window=cfg.data.window_samples)
    folder.begin(cfg, fabric, data.facts, detector)
    if data.train.mos_of and fabric.is_global_zero and not folder.augmented.exists():
        write_sample(folder.augmented, data.train)
    n_trained = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    log.info("%s: %s weights to train, %s", folder, f"{n_trained:,}", data.summary)
    on_epoch = epoch_log.writer(cfg, folder, fabric, data)
    batches = data.of_process(fabric)
    compile_for_training(cfg, fabric, detector, n_steps=cfg.train.max_epochs * batches.steps_per_epoch)
    keep_metrics, record = "jsonl" in cfg.run.loggers, cfg.run.compile == "auto"
    state = loop.fit(fabric, detector, batches, cfg.train, folder.path, on_epoch, keep_metrics, record)
    if fabric.is_global_zero:
        best = [folder.path / name for _, name in state.best[: cfg.train.n_average]]
        checkpoint.write_average(folder.model, best, cfg.train.average, model_config=detector.config, **data.provenance)
    fabric.barrier()


def score(
    cfg: Config, asked: Mapping[str, Any], fabric: Fabric, folder: RunFolder, sets: Mapping[str, EvaluationSet]
) -> dict[str, int]:
    """Score each set that is not scored yet; how many recordings could not be read, by set."""
    from data_utils import ScoreSet
    from model import load_detector
    from qamo.evaluation.score_set import score_trials
    from qamo.evaluation.scoring_pass import ScoringPass
    from qamo.networks import feature_cache
    from qamo.training import device
    from qamo.training.loader import read_to_score
    from qamo.training.peers import Peers
    from qamo.training.signals import stopping_on_signals

    detector = load_detector(folder.weights(cfg), asked=asked, average=cfg.train.average, n_average=cfg.train.n_average)
    Peers.check_same_weights(digest := feature_cache.fingerprint(detector))
    feature_cache.attach(detector, cfg.run, cfg.score.precision)
    window, size = cfg.data.window_samples, device.score_batch(cfg.score.batch_size, fabric.device.type)
    ready = ScoringPass(detector.to(fabric.device), fabric.device, cfg.score.precision, batch_size=size, window=window)
    if cfg.run.compile == "auto":
        ready.prepare(window, folder.n_unscored(sets, cfg.comment_eval) // fabric.world_size)
    identity = {
        "weights": digest,
        "config": scoring_digest(detector.config),
        "window_samples": window,
        "windows": cfg.score.windows,
        "batch_size": cfg.score.batch_size,
        "precision": cfg.score.precision,
        "device": fabric.device.type,
    }
    n_failed = {}
    with stopping_on_signals() as stop:
        for name, chosen in sets.items():
            recordings = ScoreSet(chosen.paths, window_samples=window, windows=cfg.score.windows)
            n_failed[name] = score_trials(
                fabric,
                ready,
                chosen.names,
                partial(read_to_score, recordings, n_workers=cfg.data.n_workers, fabric=fabric),
                folder.score_file(name, cfg.comment_eval),
                cfg.score,
                identity={"list": sha256(chosen.list), **identity},
                stop=stop,
            )
    return n_failed


def run_seeds(cfg: Config, asked: Mapping[str, Any], seeds: Sequence[int]) -> int:
    """A run for each seed, then mean and standard deviation."""
    from qamo.evaluation.results import seeds_table

    every = []
    for seed in seeds:
        name = f"{cfg.name}_seed{seed}" if cfg.name else None
        status, results = run(cfg.model_copy(update={"seed": seed, "name": name}), asked)
        if status:
            return status
        every.append(results)
    if every[0]:  # the first process
        print(seeds_table(every))
        say_saved(then=typed("report", "--runs", *(results["run"] for results in every)))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
