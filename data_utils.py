"""Data: protocols to trials, MOS to quality classes, recordings to windows, and the order they come in.

A training item is (wave (T,) float32, bonafide bool, quality int, index int, augmented bool). What happens to an
utterance in an epoch depends on (seed, epoch, index) and on nothing else: not on the number of workers or processes,
nor on what ran before.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from qamo import InputError
from qamo.audio import load as audio
from qamo.audio.rawboost import rawboost
from qamo.config.schema import DataConfig, EvalConfig
from qamo.files import sha256
from qamo.quality.cache import AugmentedMOS
from qamo.training.loop import Batch
from qamo.trials.keys import Keys, read_keys
from qamo.trials.recordings import Recordings, check_name, check_recordings, lines_of, read_trial_list

log = logging.getLogger(__name__)

N_PROBED = 16  # utterances that a start with data.quality.augmented=predict listens to, twice each
MOS_APART = 0.1  # mean distance of two predictions of one recording from which they come from different predictors
MOS_RANGE = (0.0, 6.0)  # predictors leave the scale from 1 to 5 a little: SCOREQ gives 0.95 to 5.07 on ASVspoof 2019


@dataclass(frozen=True)
class Trials:
    """The utterances of a protocol, column by column, in its order."""

    path: Path
    names: list[str]
    bonafide: np.ndarray  # (N,) bool
    mos: np.ndarray  # (N,) float, 1 to 5

    def __len__(self) -> int:
        return len(self.names)


def read_protocol(path: Path) -> Trials:
    """Read `SPEAKER NAME - ATTACK LABEL MOS` lines.

    Raises:
        InputError: naming file and line: a wrong column count, label or MOS, a repeated or unsafe name.
    """
    keys: Keys = read_keys(path)
    if "mos" not in keys.columns:
        raise InputError(
            f"{path}: expected six columns, SPEAKER NAME - ATTACK LABEL MOS, found no MOS; "
            "add it with: python predict_mos.py PROTOCOL AUDIO_FOLDER -o OUT"
        )
    if not keys.names:
        raise InputError(f"{path}: expected protocol lines, found none")
    for name in keys.names:
        check_name(name, path)
    return Trials(path, list(keys.names), keys.bonafide, _mos_column(keys))


def _mos_column(keys: Keys) -> np.ndarray:
    """The MOS of each trial, (N,), on the scale from 1 to 5."""
    texts = keys.columns["mos"]
    try:
        mos = np.array(texts, dtype=np.float64)
        fits = (mos >= MOS_RANGE[0]) & (mos <= MOS_RANGE[1])  # not so for NaN
        if fits.all():
            return mos
        place = int(np.argmin(fits))
    except ValueError:
        place = next(i for i, text in enumerate(texts) if not _is_number(text))
    number = next(n for n, line in enumerate(lines_of(keys.path), 1) if keys.names[place] in line.split())
    raise InputError(f"{keys.path}:{number}: expected a MOS between 1 and 5 in the last column, found {texts[place]!r}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- quality


@dataclass(frozen=True)
class QualityRule:
    """MOS to quality class, and what augmentation does to the class."""

    edges: np.ndarray  # (K - 1,) increasing MOS values
    augmented: str  # lower | lowest | none | predict

    @property
    def n_classes(self) -> int:
        return len(self.edges) + 1

    def classes(self, mos: np.ndarray) -> np.ndarray:
        """Number of edges at or below each MOS: (N,) -> (N,) int64 in [0, K)."""
        return np.searchsorted(self.edges, mos, side="right").astype(np.int64)

    @property
    def predicts(self) -> bool:
        """Whether the class of augmented speech takes a prediction of its MOS."""
        return self.augmented == "predict" and self.n_classes > 1

    def after_augmentation(self, quality: int) -> int:
        """The class that augmentation moves `quality` to, by the rules that do not listen."""
        if self.augmented in ("none", "predict"):
            return quality
        return max(quality - 1, 0) if self.augmented == "lower" else 0


def quality_rule(
    trials: Trials, *, thresholds: list[float] | None, quantiles: list[float] | None, augmented: str
) -> QualityRule:
    """The rule with fixed thresholds, or with quantiles of the bona fide training MOS turned into thresholds."""
    if thresholds is not None:
        return QualityRule(np.asarray(thresholds, dtype=np.float64), augmented)
    mos = trials.mos[trials.bonafide]
    if not len(mos):
        raise InputError(f"{trials.path}: data.quality.quantiles needs bona fide utterances, found none")
    edges = np.quantile(mos, quantiles or [])
    if len(np.unique(edges)) < len(edges):
        raise InputError(f"{trials.path}: the MOS quantiles {quantiles} coincide at {edges.tolist()}; use fewer")
    return QualityRule(edges, augmented)


def describe_quality(trials: Trials, rule: QualityRule, share_augmented: float) -> list[str]:
    """Sentences on how many bona fide utterances fall in each class, and whether the MOS labels say anything."""
    classes = rule.classes(trials.mos[trials.bonafide])
    before = np.bincount(classes, minlength=rule.n_classes).astype(float)
    moved = np.array([rule.after_augmentation(k) for k in range(rule.n_classes)])
    after = before * (1 - share_augmented) + np.bincount(
        moved, weights=before * share_augmented, minlength=rule.n_classes
    )
    total = max(before.sum(), 1)
    listens = rule.predicts and share_augmented > 0
    expected = [f", {m / total:.1%} expected once {share_augmented:.0%} are augmented" for m in after]
    edges = [f"{e:.3g}" for e in rule.edges]
    spans = [f"MOS {lo}-{hi}" for lo, hi in zip(["1", *edges], [*edges, "5"])]
    said = [
        f"quality class {k} ({span}): {n:.0f} bona fide utterances ({n / total:.1%}){'' if listens else then}"
        for k, (span, n, then) in enumerate(zip(spans, before, expected))
    ]
    if rule.n_classes > 1 and before.max() / total > 0.99:
        held = int(before.argmax())
        said.append(
            f"the MOS labels are nearly inert: {before.max() / total:.1%} of bona fide speech is in class {held}; "
            "the other classes come from augmentation alone"
        )
    if not listens:
        empty = np.flatnonzero(after < 0.5)
        said += [f"quality class {k} is empty: its centroid is trained by spoof alone" for k in empty]
    return said


def describe_prediction(
    trials: Trials, rule: QualityRule, given: np.ndarray, clean: np.ndarray, after: np.ndarray
) -> list[str]:
    """Sentences on what augmentation does to the classes of n probed utterances, and whether MOS are on one scale.

    Args:
        given, clean, after: (n,) MOS by the protocol, predicted, and predicted after augmentation.
    """
    n = len(given)
    shares = np.bincount(rule.classes(after), minlength=rule.n_classes) / n
    told = ", ".join(f"{share:.0%} in class {k}" for k, share in enumerate(shares))
    said = [
        f"of {n} probed bona fide utterances, augmented: {told}; their MOS goes from {clean.mean():.2f} to "
        f"{after.mean():.2f} (DistillMOS)"
    ]
    if np.abs(given - clean).mean() > MOS_APART:
        said.append(
            f"the MOS of {trials.path} are not DistillMOS's (mean {given.mean():.2f}, DistillMOS {clean.mean():.2f}), "
            "so the classes of plain and of augmented speech are cut on two scales; make the protocol's MOS with "
            "predict_mos.py, or use another data.quality.augmented"
        )
    return said


# ---- recordings


class Item(NamedTuple):
    wave: np.ndarray  # (T,) float32
    bonafide: bool
    quality: int
    place: int  # in the protocol
    augmented: bool


class TrainSet(Dataset[Item]):
    """Windows of a protocol's recordings, RawBoosted on a share of the draws.

    Args:
        rawboost_options: keyword arguments of `qamo.audio.rawboost.rawboost`; None: never augmented (the dev set).
        share: probability that an utterance is augmented in an epoch.
        mos_of: wave -> MOS; needed where the rule predicts the class of augmented speech.
    """

    def __init__(
        self,
        trials: Trials,
        folder: Path,
        *,
        window_samples: int,
        rule: QualityRule,
        seed: int = 0,
        share: float = 0.0,
        rawboost_options: dict[str, Any] | None = None,
        mos_of: Callable[[np.ndarray], float] | None = None,
    ):
        self.trials = trials
        self.paths = Recordings(folder, trials.names, ".flac")
        self.window_samples = window_samples
        self.rule = rule
        self.classes = rule.classes(trials.mos)
        self.seed = seed
        self.share = share
        self.rawboost_options = rawboost_options
        self.mos_of = mos_of

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        wave = audio.load(self.paths[index])
        quality = int(self.classes[index])
        augmented = False
        if self.rawboost_options is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            augmented = bool(rng.random() < self.share)
            if augmented:
                wave = rawboost(wave, rng, **self.rawboost_options)
                quality = self._quality_after(wave, index)
        window = audio.fit_length(wave, self.window_samples)
        return Item(window, bool(self.trials.bonafide[index]), quality, index, augmented)

    def _quality_after(self, wave: np.ndarray, index: int) -> int:
        """The class of an utterance that became `wave`; MOS are predicted for bona fide speech, whose class is read."""
        if self.rule.predicts and self.mos_of is not None and self.trials.bonafide[index]:
            return int(self.rule.classes(np.array([self.mos_of(wave)]))[0])
        return self.rule.after_augmentation(int(self.classes[index]))

    def probe(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """MOS of `n` bona fide utterances from all over the set: by the protocol, predicted, predicted as augmented."""
        assert self.mos_of is not None
        assert self.rawboost_options is not None
        places = np.flatnonzero(self.trials.bonafide)
        places = places[:: max(1, len(places) // n)][:n]
        rows = []
        for place in places.tolist():
            wave = audio.load(self.paths[place])
            rng = np.random.default_rng([self.seed, 0, place])
            rng.random()  # as in epoch 0, whether it is augmented there or not
            boosted = rawboost(wave, rng, **self.rawboost_options)
            rows.append((float(self.trials.mos[place]), self.mos_of(wave), self.mos_of(boosted)))
        given, clean, after = np.array(rows).T
        return given, clean, after


class ScoreSet(Dataset[tuple[np.ndarray, str]]):
    """Windows of recordings without labels: (wave, fault), where a recording that cannot be read gives silence."""

    def __init__(self, paths: Sequence[Path], *, window_samples: int):
        self.paths = paths
        self.window_samples = window_samples

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        fault = ""
        for _attempt in range(2):  # a network disk may fail once
            try:
                return audio.fit_length(audio.load(self.paths[index]), self.window_samples), ""
            except (InputError, OSError) as error:
                fault = str(error)
        return np.zeros(self.window_samples, dtype=np.float32), fault


# ---- order


def epoch_batches(
    n: int, batch_size: int, *, seed: int, epoch: int, first_step: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """Shuffled batches of (epoch, index) keys, the last short one dropped; of each, the share of one process.

    All processes see the same shuffle, and their shares joined in rank order are the single process's batch.
    """
    order = np.random.default_rng([seed, epoch, 0x5F]).permutation(n)
    share = batch_size // world_size
    for step in range(first_step, n // batch_size):
        start = step * batch_size + rank * share
        yield [(epoch, int(i)) for i in order[start : start + share]]


def collate(items: Sequence[Item]) -> Batch:
    return Batch(
        torch.from_numpy(np.stack([item.wave for item in items])),
        torch.tensor([item.bonafide for item in items], dtype=torch.bool),
        torch.tensor([item.quality for item in items], dtype=torch.int64),
        torch.tensor([item.place for item in items], dtype=torch.int64),
        torch.tensor([item.augmented for item in items], dtype=torch.bool),
    )


def loader(
    dataset: Dataset[Any], batches: Sequence[Any] | Iterator[Any], collate_fn: Callable[..., Any], *, n_workers: int
) -> Iterator[Any]:
    """Read given batches of keys, in order, with `n_workers` processes ahead of the reader.

    Faults of a recording come out as the InputError they went in as.
    """
    keys = list(batches)
    n_workers = min(n_workers, len(keys))
    made: DataLoader[Any] = DataLoader(
        _Caught(dataset),
        batch_sampler=keys,
        collate_fn=_CollateCaught(collate_fn),
        num_workers=n_workers,
        worker_init_fn=functools.partial(_quiet_worker, os.getpid()),
        pin_memory=torch.cuda.is_available(),
    )
    try:
        for batch in made:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that reads recordings was lost ({str(error).splitlines()[0]}), most often for want of memory; "
            "lower data.n_workers, or enlarge /dev/shm"
        ) from None


class _Caught(Dataset[Any]):
    """Hands an InputError over as a value: raised in a worker it would arrive wrapped in a traceback's text."""

    def __init__(self, dataset: Dataset[Any]):
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except InputError as error:
            return error


class _CollateCaught:
    def __init__(self, collate_fn: Callable[..., Any]):
        self.collate_fn = collate_fn

    def __call__(self, items: Sequence[Any]) -> Any:
        return next((item for item in items if isinstance(item, InputError)), None) or self.collate_fn(items)


def _quiet_worker(parent: int, worker: int) -> None:
    """Leave Ctrl-C to the main process, which saves first, and die with SIGTERM as processes do.

    torch's workers end with their parent, unless it is killed before they have looked who it is.
    """
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def wave_batches(
    source: ScoreSet, places: Sequence[range], *, n_workers: int
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """The waves at given places, batch by batch, with what is wrong with each; `n_workers` threads read ahead.

    Threads, since decoding is C code outside Python's lock. A forked process would share its memory with this one,
    which then copies every page that the network writes to: seconds of XLS-R's first batches.
    """

    def read(batch: range) -> tuple[torch.Tensor, list[str]]:
        waves, faults = zip(*(source[i] for i in batch))
        wave = torch.from_numpy(np.stack(waves))  # NumPy's: in a thread torch would start a team of its own
        return wave.pin_memory() if torch.cuda.is_available() else wave, list(faults)

    if not n_workers:
        yield from map(read, places)
        return
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="decode")
    try:
        waiting = iter(places)
        ahead = deque(pool.submit(read, batch) for batch in islice(waiting, 2 * n_workers))
        while ahead:
            first = ahead.popleft().result()
            ahead.extend(pool.submit(read, batch) for batch in islice(waiting, 1))
            yield first
    finally:
        pool.shutdown(cancel_futures=True)


# ---- what a run reads


@dataclass(frozen=True)
class TrainingData:
    """Training and dev set, ready to be drawn from."""

    train: TrainSet
    dev: TrainSet
    rule: QualityRule
    facts: dict[str, Any]  # what a run should remember of its data
    batch_size: int
    n_workers: int

    @property
    def summary(self) -> str:
        return f"{len(self.train)} training and {len(self.dev)} dev utterances, batches of {self.batch_size}"

    @property
    def n_dev_batches(self) -> int:
        return -(-len(self.dev) // self.batch_size)

    def train_batches(
        self, epoch: int, first_step: int, *, rank: int, world_size: int, move: Callable[[Any], Any]
    ) -> Iterator[Batch]:
        """One process's share of an epoch's batches from `first_step` on."""
        keys = epoch_batches(
            len(self.train),
            self.batch_size,
            seed=self.train.seed,
            epoch=epoch,
            first_step=first_step,
            rank=rank,
            world_size=world_size,
        )
        for batch in loader(self.train, keys, collate, n_workers=self.n_workers):
            yield move(batch)

    def dev_batches(self, *, rank: int, world_size: int, move: Callable[[Any], Any]) -> Iterator[Batch]:
        """Of the dev set's batches, in protocol order, every `world_size`-th from `rank` on."""
        starts = range(0, len(self.dev), self.batch_size)[rank::world_size]
        keys = [[(0, i) for i in range(start, min(start + self.batch_size, len(self.dev)))] for start in starts]
        for batch in loader(self.dev, keys, collate, n_workers=self.n_workers):
            yield move(batch)


def read_training_data(data: DataConfig, *, batch_size: int, seed: int, reads_quality: bool = True) -> TrainingData:
    """Read the protocols, see that the recordings are there, and fix the quality rule; says what the classes hold.

    Args:
        reads_quality: whether the head looks at quality classes; if not, no MOS is predicted while training.

    Raises:
        InputError: anything that would stop training later.
    """
    (trials, folder), (dev_trials, dev_folder) = (_labelled(data, part) for part in ("train", "dev"))
    if len(trials) < batch_size:
        raise InputError(
            f"train.batch_size: {batch_size} exceeds the {len(trials)} utterances of {trials.path}, and short batches "
            "are dropped; choose a smaller one"
        )
    quality, boost = data.quality, data.rawboost
    augmented = quality.augmented
    if augmented == "predict" and not reads_quality:
        log.info("the head does not look at quality: no MOS of augmented speech is predicted")
        augmented = "none"
    rule = quality_rule(trials, thresholds=quality.thresholds, quantiles=quality.quantiles, augmented=augmented)
    share = boost.share if boost.algorithm else 0.0
    for sentence in describe_quality(trials, rule, share):
        log.info("%s", sentence)
    train = TrainSet(
        trials,
        folder,
        window_samples=data.window_samples,
        rule=rule,
        seed=seed,
        share=share,
        rawboost_options=boost.model_dump(exclude={"share"}) if share else None,
        mos_of=AugmentedMOS(quality.cache) if rule.predicts and share else None,
    )
    if train.mos_of is not None:
        for sentence in describe_prediction(trials, rule, *train.probe(N_PROBED)):
            log.info("%s", sentence)
    dev = TrainSet(dev_trials, dev_folder, window_samples=data.window_samples, rule=rule)
    facts = {
        part: {"protocol": str(t.path), "sha256": sha256(t.path), "n": len(t), "n_bonafide": int(t.bonafide.sum())}
        for part, t in (("train", trials), ("dev", dev_trials))
    }
    facts["quality_edges_mos"] = rule.edges.tolist()
    return TrainingData(train, dev, rule, facts, batch_size, data.n_workers)


def check_training(data: DataConfig, part: str, how: str) -> str:
    """Look at protocol and recordings of "train" or "dev" as `check_recordings` does; says what is there."""
    trials, _ = _labelled(data, part, how)
    return f"{part}: {len(trials)} utterances, {trials.bonafide.sum()} bona fide"


def _labelled(data: DataConfig, part: str, how: str = "header") -> tuple[Trials, Path]:
    """Trials and audio folder of "train" or "dev"."""
    path = data.protocols_path / getattr(data, f"{part}_protocol")
    if not path.exists():
        raise InputError(f"{path}: no such protocol; set data.protocols_path or data.{part}_protocol")
    trials = read_protocol(path)
    folder = data.database_path / getattr(data, f"{part}_audio")
    check_recordings(Recordings(folder, trials.names, ".flac"), what=part, how=how)
    if not 0 < trials.bonafide.sum() < len(trials):
        raise InputError(f"{path}: expected bona fide and spoofed utterances, found one kind only")
    return trials, folder


class EvaluationSet(NamedTuple):
    names: list[str]
    paths: Recordings
    list: Path
    keys: Path | None
    subset: str | None


def evaluation_sets(data: DataConfig, evaluation: EvalConfig, how: str = "exist") -> dict[str, EvaluationSet]:
    """Lists, recordings and keys of the chosen sets, all looked at before anything is computed.

    Raises:
        InputError: a set cannot be scored; the message says which key to set, or how to leave the set out.
    """
    return {name: _evaluation_set(data, evaluation, name, how) for name in evaluation.sets}


def dev_set(data: DataConfig) -> EvaluationSet:
    """The dev set as a set to score, with its protocol as list and keys."""
    trials, folder = _labelled(data, "dev", "exist")
    path = data.protocols_path / data.dev_protocol
    return EvaluationSet(trials.names, Recordings(folder, trials.names, ".flac"), path, path, None)


def check_evaluation(data: DataConfig, evaluation: EvalConfig, name: str, how: str) -> str:
    """Look at list, keys and recordings of one set as `check_recordings` does; says what is there."""
    chosen = _evaluation_set(data, evaluation, name, how)
    return f"{name}: {len(chosen.names)} trials, {'keys ' + str(chosen.keys) if chosen.keys else 'no keys'}"


def _evaluation_set(data: DataConfig, evaluation: EvalConfig, name: str, how: str) -> EvaluationSet:
    entry = evaluation.catalogue[name]
    where, otherwise = f"eval.catalogue.{name}", f"or leave {name} out of eval.sets"
    listed = data.protocols_path / entry.trials
    folder = data.database_path / entry.audio
    if not listed.exists():
        raise InputError(f"{listed}: no such list; set {where}.trials, {otherwise}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of recordings; set {where}.audio, {otherwise}")
    names = read_trial_list(listed)
    paths = Recordings(folder, names, entry.extension)
    check_recordings(paths, what=name, how=how)
    keys = data.protocols_path / entry.keys if entry.keys else None
    if keys is not None and keys.exists():
        read_keys(keys, subset=entry.subset)  # a fault in the keys should not wait until all is scored
    elif keys is not None:
        log.warning("%s: no such keys; %s is scored, but its EER is not computed", keys, name)
        keys = None
    return EvaluationSet(names, paths, listed, keys, entry.subset)
