"""Train a detector, average its best epochs, score the evaluation sets, and print their EERs.

    python main.py --model conformer_tcm
    python main.py --config database/mini.yaml train.max_epochs=5
    python main.py --train false --ckpt_path exps/NAME/model.pt eval.sets=[ITW]

Every key of config.yaml can be set as section.key=value; the flags below are short for some of them.
The same command again goes on where it was interrupted, and does nothing once the run is finished.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qamo import InputError
from qamo.config.schema import Config, load_config, parse_assignments, to_yaml

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from qamo.training.signals import StopFlag

log = logging.getLogger("main")

ROOT = Path(__file__).parent
RESULTS = "results.json"
DEV = "dev"  # name of the dev set among the score files
N_MEASURED = 200  # dev recordings that are looked at for what a run's recordings are like
INTERRUPTED = 130  # the exit status of a run that was stopped and saved, as shells have it for Ctrl-C

# ---- the command line


def _switch(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")


HEAD_NAMES = {"weighted_CCE": "wce", "ocsoftmax": "oc_softmax"}  # other spellings of the field


class Flag(NamedTuple):
    flag: str
    key: str
    kind: Callable[[str], Any] = str
    convert: Callable[[Any], Any] = lambda value: value
    help: str = ""


# The flags of the published code, with their meaning, and where they live in the config.
FLAGS = [
    Flag("--database_path", "data.database_path", help="folder of the corpora"),
    Flag("--protocols_path", "data.protocols_path", help="folder of the protocols and keys"),
    Flag("--model", "model.backend", help="back end: conformer_tcm or nes2net"),
    Flag("--loss", "model.head", convert=lambda v: HEAD_NAMES.get(v, v), help="head: qamo, oc_softmax or wce"),
    Flag("--batch_size", "train.batch_size", int),
    Flag("--num_epochs", "train.patience", int, help="PATIENCE: epochs without a better dev loss (a historic name)"),
    Flag("--lr", "train.lr", float, help="learning rate of everything but the head"),
    Flag("--oc_lr", "train.head_lr", float, help="learning rate of the head"),
    Flag("--weight_decay", "train.weight_decay", float),
    Flag("--emb-size", "model.conformer_tcm.embedding_size", int),
    Flag("--heads", "model.conformer_tcm.n_heads", int),
    Flag("--kernel_size", "model.conformer_tcm.kernel_size", int),
    Flag("--num_encoders", "model.conformer_tcm.n_blocks", int),
    Flag("--FT_W2V", "model.xlsr.freeze", _switch, lambda fine_tune: not fine_tune, help="fine-tune XLS-R"),
    Flag("--seed", "seed", int),
    Flag("--comment", "comment", help="added to the name of the run"),
    Flag("--comment_eval", "comment_eval", help="added to the names of the score files"),
    Flag("--train", "train.enabled", _switch, help="false: only score, from saved weights"),
    Flag("--n_mejores_loss", "train.n_best", int, help="how many of the best epochs are kept"),
    Flag("--average_model", "train.average", _switch, lambda on: "mean" if on else "none"),
    Flag("--n_average_model", "train.n_average", int, help="how many of the best epochs are averaged"),
    Flag("--algo", "data.rawboost.algorithm", int, help="RawBoost algorithm, 0 (none) to 8"),
    Flag("--nBands", "data.rawboost.n_bands", int),
    Flag("--minF", "data.rawboost.center_hz.0", float),
    Flag("--maxF", "data.rawboost.center_hz.1", float),
    Flag("--minBW", "data.rawboost.width_hz.0", float),
    Flag("--maxBW", "data.rawboost.width_hz.1", float),
    Flag("--minCoeff", "data.rawboost.n_taps.0", int),
    Flag("--maxCoeff", "data.rawboost.n_taps.1", int),
    Flag("--minG", "data.rawboost.gain_db.0", float),
    Flag("--maxG", "data.rawboost.gain_db.1", float),
    Flag("--minBiasLinNonLin", "data.rawboost.bias_db.0", float),
    Flag("--maxBiasLinNonLin", "data.rawboost.bias_db.1", float),
    Flag("--N_f", "data.rawboost.n_orders", int),
    Flag("--P", "data.rawboost.impulse_percent", float),
    Flag("--g_sd", "data.rawboost.impulse_gain", float),
    Flag("--SNRmin", "data.rawboost.snr_db.0", float),
    Flag("--SNRmax", "data.rawboost.snr_db.1", float),
    # not in the published code
    Flag("--name", "name", help="folder of the run below run.runs; made from the config when left out"),
    Flag("--ckpt_path", "score.weights", help="score with these weights: ours, or the authors' best.pth"),
    Flag("--on-bad-audio", "score.on_bad_audio", help="fail: stop scoring at an unreadable recording; skip: report it"),
]
CHECKS = ("header", "full")
PRESETS = {"code": {}, "paper": {"model.qamo.scale": 20.0, "model.qamo.score": "softmax"}}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, help="YAML file with the keys that differ from the defaults")
    parser.add_argument("--preset", choices=PRESETS, help="QAMO's constants as in the published code, or as printed")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="a run for each seed")
    parser.add_argument(
        "--check", nargs="?", const="header", choices=CHECKS, help="look at all input and stop; full: decode it too"
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run (the default)")
    for flag in FLAGS:
        where = f"[{flag.key}]"
        parser.add_argument(
            flag.flag, type=flag.kind, dest=f"flag:{flag.flag}", metavar="X", help=f"{flag.help} {where}".strip()
        )
    parser.add_argument("assignments", nargs="*", metavar="section.key=value", help="any key of config.yaml")
    return parser


def _with_check_level(words: Sequence[str]) -> list[str]:
    """`--check section.key=value` as `--check=header section.key=value`: argparse would take the key for the level."""
    pairs = zip(words, [*words[1:], ""])
    return ["--check=header" if word == "--check" and after not in CHECKS else word for word, after in pairs]


def config_from(args: argparse.Namespace) -> Config:
    """The config that the arguments ask for: defaults < YAML < preset < flags < assignments."""
    overrides: dict[str, Any] = dict(PRESETS[args.preset]) if args.preset else {}
    for flag in FLAGS:
        value = getattr(args, f"flag:{flag.flag}")
        if value is not None:
            overrides[flag.key] = flag.convert(value)
    overrides.update(parse_assignments(args.assignments))
    path = args.config
    if path is None and (ROOT / "config.yaml").exists():
        path = ROOT / "config.yaml"
    return load_config(path, overrides).remember(overrides)


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_intermixed_args(_with_check_level(sys.argv[1:] if argv is None else argv))
    try:
        cfg = config_from(args)
        if args.print_config:
            print(to_yaml(cfg), end="")
            return 0
        from qamo.progress import start_log

        start_log()
        if args.check:
            return check(cfg, args.check)
        if args.seeds:
            return series(cfg, args.seeds)
        return run(cfg)[0]
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return INTERRUPTED


# ---- a run


def run(cfg: Config) -> tuple[int, dict[str, Any]]:
    """Train unless it was done, score what was not scored, print the table: (exit status, results)."""
    import torch

    from qamo.training.folder import run_folder

    if cfg.run.n_threads:
        torch.set_num_threads(cfg.run.n_threads)
    fabric = launch(cfg)
    folder = run_folder(cfg)
    if fabric.world_size > 1:
        return _with_others(cfg, folder, fabric)
    return _holding(cfg, folder, fabric)


def _with_others(cfg: Config, folder: Path, fabric: Fabric) -> tuple[int, dict[str, Any]]:
    """One of several processes: the first holds the folder, and all say in a sentence that another was lost."""
    try:
        return _holding(cfg, folder, fabric) if fabric.is_global_zero else work(cfg, folder, fabric)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "Connection closed by peer")):
            raise
        raise InputError(
            "lost touch with another process of this job, whose own message says why; what was saved last is kept, "
            f"and the same command goes on from there: {this_command()}"
        ) from error


def _holding(cfg: Config, folder: Path, fabric: Fabric) -> tuple[int, dict[str, Any]]:
    from qamo.files import holding, remove_temporaries
    from qamo.progress import start_log

    with holding(folder, doing="training or scoring"):
        for part in (folder, folder / "scores"):
            remove_temporaries(part)
        start_log(folder / "run.log")
        return work(cfg, folder, fabric)


def launch(cfg: Config) -> Fabric:
    """Join the processes that torchrun started, or start as the config says."""
    from datetime import timedelta

    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    from qamo.networks.cpu import malloc as memory
    from qamo.training import precision

    n_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    devices: Any = n_local if under_torchrun else cfg.run.devices
    n_nodes = int(os.environ["WORLD_SIZE"]) // n_local if under_torchrun else cfg.run.n_nodes
    accelerator = cfg.run.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if devices == "auto":
        devices = torch.cuda.device_count() if accelerator == "cuda" else 1
    if accelerator == "cpu":
        memory.keep_freed()
    several = under_torchrun or n_nodes > 1 or devices != 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=n_nodes,
        # Processes that score wait for the slowest. A process that dies ends the others whatever the timeout.
        strategy=DDPStrategy(timeout=timedelta(hours=2)) if several else "auto",
        plugins=[precision.plugin(cfg.train.precision, accelerator)],
    )
    fabric.launch()
    if cfg.train.enabled and cfg.train.batch_size % fabric.world_size:
        raise InputError(
            f"train.batch_size: {cfg.train.batch_size} is the batch of all processes together and cannot be shared "
            f"by {fabric.world_size}; choose a multiple"
        )
    return fabric


def this_command() -> str:
    """The command line that started this process, for a person to type again."""
    words = shlex.join(sys.argv)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        n_local, n_nodes = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"])
        return f"torchrun --nproc_per_node {n_local}{f' --nnodes {n_nodes}' if n_nodes > 1 else ''} {words}"
    return f"python {words}"


def work(cfg: Config, folder: Path, fabric: Fabric) -> tuple[int, dict[str, Any]]:
    """What one process does of a run."""
    import data_utils
    from qamo.evaluation import results
    from qamo.evaluation.score_set import check_free
    from qamo.files import check_writable, write_json
    from qamo.training.folder import MODEL, same_training
    from qamo.training.signals import Interrupted, stopping_on_signals

    started = time.monotonic()
    known = same_training(cfg, folder) if cfg.train.enabled else False
    finished = finished_results(cfg, folder) if cfg.train.enabled else None
    if finished:
        log.info("%s is finished already; nothing to do (another --name or --seed makes a new run)", folder)
        print(results.table(finished))
        return 0, finished
    try:
        # A recording that ends the run is looked into now, one that would only be reported is left to its turn.
        how = "header" if cfg.score.on_bad_audio == "fail" else "exist"
        sets = data_utils.evaluation_sets(cfg.data, cfg.eval, how)
        check_writable(folder / "scores")
        if cfg.train.enabled and not (folder / MODEL).exists():
            for name in sets:
                check_free(score_path(cfg, folder, name))
            train(cfg, folder, fabric, resumes=known)
        elif cfg.train.enabled:
            log.info("%s is trained already; scoring what is missing", folder)
        weights = cfg.score.weights if cfg.score.weights and not cfg.train.enabled else folder / MODEL
        if not weights.exists():
            raise InputError(f"{weights}: no trained weights there; train first, or name some with --ckpt_path")
        with stopping_on_signals() as stop:
            dev = {DEV: data_utils.dev_set(cfg.data)} if cfg.train.enabled and DEV not in sets else {}
            failed = score(cfg, folder, fabric, weights, dev | sets, stop)
    except Interrupted:
        log.warning("stopped and saved; the same command goes on from here: %s", this_command())
        return INTERRUPTED, {}
    if not fabric.is_global_zero:
        return 0, {}
    if dev:
        calibrate(score_path(cfg, folder, DEV), dev[DEV], folder)
    rows = {
        name: results.evaluate(
            score_path(cfg, folder, name),
            chosen.keys,
            chosen.subset,
            n_failed=failed[name],
            n_resamples=cfg.eval.n_resamples,
            seed=cfg.seed,
        )
        for name, chosen in sets.items()
    }
    found = {"run": str(folder), "weights": str(weights), "seed": cfg.seed, "sets": rows}
    write_json(folder / RESULTS, found)
    log.info("done in %.0f s", time.monotonic() - started)
    print(results.table(found))
    if any(failed.values()):
        log.error("%d recordings could not be read; see %s", sum(failed.values()), folder / "scores" / "*.failed.txt")
        return 2, found
    return 0, found


def series(cfg: Config, seeds: Sequence[int]) -> int:
    """A run for each seed, then mean and deviation."""
    from qamo.evaluation.results import series_table

    every = []
    for seed in seeds:
        name = f"{cfg.name}_seed{seed}" if cfg.name else None
        status, found = run(cfg.model_copy(update={"seed": seed, "name": name}))
        if status:
            return status
        every.append(found)
    if every[0]:  # the first process
        print(series_table(every))
    return 0


def finished_results(cfg: Config, folder: Path) -> dict[str, Any] | None:
    """The results of a run that has nothing left to do for this config, or None."""
    path = folder / RESULTS
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    for name in cfg.eval.sets:
        row = found["sets"].get(name)
        if row is None or row["n_failed"] or row["scores"] != str(score_path(cfg, folder, name)):
            return None
        if not Path(row["scores"]).exists():
            return None
        keys = cfg.eval.catalogue[name].keys
        if "eer" not in row and keys and (cfg.data.protocols_path / keys).exists():  # they came later
            return None
    return found


# ---- training


def train(cfg: Config, folder: Path, fabric: Fabric, *, resumes: bool) -> None:
    """Fit, then average the best epochs into the run's model."""
    import torch

    import data_utils
    from model import build_detector
    from qamo.files import check_space, write_json, write_text
    from qamo.training import folder as runs
    from qamo.training import loop as trainer
    from qamo.training.checkpoint import average, write_checkpoint
    from qamo.training.epoch_log import EpochLog
    from qamo.training.provenance import provenance

    data = data_utils.read_training_data(
        cfg.data, batch_size=cfg.train.batch_size, seed=cfg.seed, reads_quality=cfg.model.reads_quality
    )
    torch.manual_seed(cfg.seed)
    detector = build_detector(cfg.model)
    detector.frontend_chunks = cfg.train.frontend_chunks
    attach_cache(cfg, detector, cfg.train.precision)
    model_config = cfg.model.model_dump(mode="json")
    known = {"seed": cfg.seed, "window_samples": cfg.data.window_samples, "data": data.facts}
    check_space(
        folder, disk_bytes(cfg, detector, folder), what=f"{cfg.train.n_best} epochs and the state of a training"
    )
    if fabric.is_global_zero:
        made = provenance(ROOT, device=fabric.device, n_processes=fabric.world_size)
        if resumes:
            with open(folder / "resumed.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(made) + "\n")
        else:
            made |= {"data": data.facts, "frontend_weights": fact_of_weights(cfg)}
            write_json(folder / "run.json", made)
        write_text(folder / runs.CONFIG, to_yaml(cfg))
    n_trained = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    log.info("%s: %s weights to train, %s", folder, f"{n_trained:,}", data.summary)
    batches = trainer.Batches(
        train=lambda epoch, step: data.train_batches(
            epoch, step, rank=fabric.global_rank, world_size=fabric.world_size, move=fabric.to_device
        ),
        dev=lambda: data.dev_batches(rank=fabric.global_rank, world_size=fabric.world_size, move=fabric.to_device),
        steps_per_epoch=len(data.train) // cfg.train.batch_size,
        n_dev_batches=data.n_dev_batches,
        names=data.train.trials.names,
    )
    epochs = EpochLog(
        folder / "tensorboard" if fabric.is_global_zero else None,
        samples_per_epoch=batches.steps_per_epoch * cfg.train.batch_size,
        n_classes=data.rule.n_classes if cfg.model.head == "qamo" else 0,
        constants={"lr_body": cfg.train.lr, "lr_head": cfg.train.head_lr},
    )
    state = trainer.fit(
        fabric,
        detector,
        batches,
        run_dir=folder,
        seed=cfg.seed,
        max_epochs=cfg.train.max_epochs,
        patience=cfg.train.patience,
        lr=cfg.train.lr,
        head_lr=cfg.train.head_lr,
        weight_decay=cfg.train.weight_decay,
        n_best=cfg.train.n_best,
        save_every_s=cfg.train.save_every_s,
        model_config=model_config,
        provenance=known,
        on_epoch=epochs.write,
    )
    if fabric.is_global_zero:
        n_average = 1 if cfg.train.average == "none" else cfg.train.n_average
        chosen = [name for _, name in state.best[:n_average]]
        how = "mean" if cfg.train.average == "none" else cfg.train.average
        weights = average([folder / name for name in chosen], how)
        write_checkpoint(folder / runs.MODEL, model_state=weights, model_config=model_config, epochs=chosen, **known)
        log.info("averaged (%s) the best epochs: %s", how, ", ".join(chosen))
    fabric.barrier()


def disk_bytes(cfg: Config, detector: Any, folder: Path) -> int:
    """What the checkpoints of a training take beyond those that `folder` holds already."""
    weights = sum(tensor.nbytes for tensor in detector.state_dict().values())
    moments = 2 * sum(p.nbytes for p in detector.parameters() if p.requires_grad)
    # The best epochs, one that is about to push out another, their average, and last.pt twice while it is replaced.
    full = (cfg.train.n_best + 2) * weights + 2 * (weights + moments)
    return max(0, full - sum(path.stat().st_size for path in folder.glob("*.pt")))


def fact_of_weights(cfg: Config) -> dict[str, Any] | None:
    """Where the front end's public weights came from, and the SHA-256 of their file."""
    from qamo.files import sha256

    named = getattr(getattr(cfg.model, cfg.model.frontend), "weights", None)
    if named is None:
        return None
    path = Path(named).expanduser()
    files = [path, path / "model.safetensors", path / "pytorch_model.bin"]
    file = next((file for file in files if file.is_file()), None)
    return {"weights": named, "sha256": file and sha256(file)}


def attach_cache(cfg: Config, detector: Any, precision: str) -> None:
    """Keep the features of a frozen front end, where the config names a folder for them."""
    if cfg.run.feature_cache is None or not detector.frontend.frozen:
        return
    from qamo.networks.feature_cache import FeatureCache

    section = detector.config[detector.config["frontend"]]
    precision = precision if detector.frontend.mixed else "32"
    identity = json.dumps({"precision": precision, **section}, sort_keys=True)
    detector.feature_cache = FeatureCache(
        cfg.run.feature_cache, detector.frontend, identity=identity, max_bytes=cfg.run.feature_cache_gb * 1e9
    )


# ---- scoring


def score_path(cfg: Config, folder: Path, name: str) -> Path:
    return folder / "scores" / (f"{name}_{cfg.comment_eval}.txt" if cfg.comment_eval else f"{name}.txt")


def score(
    cfg: Config, folder: Path, fabric: Fabric, weights: Path, sets: dict[str, Any], stop: StopFlag
) -> dict[str, int]:
    """Score each set that is not scored yet; how many recordings could not be read, by set."""
    import data_utils
    from model import load_detector
    from qamo.evaluation.score_set import score_trials
    from qamo.files import sha256
    from qamo.networks.feature_cache import fingerprint
    from qamo.training.folder import asked_of_weights, scoring_digest

    detector = load_detector(weights, asked=asked_of_weights(cfg))
    digest = fingerprint(detector)
    attach_cache(cfg, detector, cfg.score.precision)
    detector.to(fabric.device)
    n_failed = {}
    for name, chosen in sets.items():
        source = data_utils.ScoreSet(chosen.paths, window_samples=cfg.data.window_samples)
        n_failed[name] = score_trials(
            fabric,
            detector,
            chosen.names,
            functools.partial(data_utils.wave_batches, source, n_workers=cfg.data.n_workers),
            score_path(cfg, folder, name),
            batch_size=cfg.score.batch_size,
            number_format=cfg.score.precision,
            identity={
                "weights": digest,
                "config": scoring_digest(detector.config or {}),
                "list": sha256(chosen.list),
                "window_samples": cfg.data.window_samples,
                "batch_size": cfg.score.batch_size,
                "precision": cfg.score.precision,
            },
            on_bad_audio=cfg.score.on_bad_audio,
            label=f"scoring {name}",
            stop=stop,
        )
    return n_failed


def calibrate(scores: Path, dev: Any, folder: Path) -> None:
    """Keep what makes a score of the run's model a log-likelihood ratio, and what the dev recordings are like."""
    import numpy as np

    from qamo.audio import diagnostics
    from qamo.audio import load as audio
    from qamo.evaluation import calibration
    from qamo.trials.protocol import read_protocol

    try:
        spread = dev.paths[:: max(1, len(dev.paths) // N_MEASURED)][:N_MEASURED]
        domain = diagnostics.domain_of(diagnostics.measure(audio.load(path)) for path in spread)
        domain["mos_low"] = round(float(np.percentile(read_protocol(dev.keys).mos, 1)), 2)
        found = calibration.fit_files(scores, dev.keys, domain=domain)
    except InputError as error:
        log.warning("no calibration: %s", error)
        return
    calibration.write(folder / calibration.FILE, found)
    log.info("calibrated on %d dev scores, EER %.2f %%", found.n_bonafide + found.n_spoof, 100 * found.eer)


# ---- looking before leaping


def check(cfg: Config, how: str) -> int:
    """Look at everything that a run would read or need, and say all that is wrong with it; nothing is written."""
    import data_utils

    looks: list[Callable[[], str]] = []
    if cfg.train.enabled:
        looks += [functools.partial(data_utils.check_training, cfg.data, part, how) for part in ("train", "dev")]
    looks += [functools.partial(data_utils.check_evaluation, cfg.data, cfg.eval, name, how) for name in cfg.eval.sets]
    looks += [functools.partial(check_model, cfg), functools.partial(check_folder, cfg)]
    n_faults = 0
    for look in looks:
        try:
            print(look(), flush=True)
        except (InputError, OSError) as error:
            n_faults += 1
            print(f"main.py: {error}", file=sys.stderr)
    print(f"{n_faults} of {len(looks)} checks failed" if n_faults else "all that the run needs is there")
    return 2 if n_faults else 0


def check_model(cfg: Config) -> str:
    """See that the weights load, and that the disk holds what training with them writes."""
    from model import build_detector, load_detector
    from qamo.files import check_space, size_text
    from qamo.training.folder import MODEL, asked_of_weights, run_folder

    folder = run_folder(cfg)
    if not cfg.train.enabled:
        weights = cfg.score.weights or folder / MODEL
        load_detector(weights, asked=asked_of_weights(cfg))
        return f"model: {weights} loads"
    detector = build_detector(cfg.model)
    needed = disk_bytes(cfg, detector, folder)
    check_space(folder, needed, what=f"{cfg.train.n_best} epochs and the state of a training")
    parts = f"{cfg.model.frontend}, {cfg.model.backend}, {cfg.model.head}"
    return f"model: {parts} built and loaded; checkpoints take {size_text(needed)}, and there is room"


def check_folder(cfg: Config) -> str:
    """See that the run's folder can be written and holds no other run or foreign score file."""
    from qamo.evaluation.score_set import check_free
    from qamo.files import check_writable
    from qamo.training.folder import run_folder, same_training

    folder = run_folder(cfg)
    check_writable(folder / "scores")
    if cfg.train.enabled:
        same_training(cfg, folder)
    for name in cfg.eval.sets:
        check_free(score_path(cfg, folder, name))
    return f"folder: {folder} can be written"


if __name__ == "__main__":
    sys.exit(main())
