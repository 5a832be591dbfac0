"""Data: protocols to trials, recordings to windows, the order they come in, and what a training reads.

A training item is (wave (T,) float32, bonafide bool, quality int, index int, augmented bool). What happens to an
utterance in an epoch depends on (seed, epoch, index) and on nothing else: not on the number of workers or processes,
nor on what ran before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from qamo import InputError
from qamo.audio import load as audio
from qamo.audio.augmentation import Augmentation
from qamo.audio.channel import Channel
from qamo.audio.codecs import check_codecs
from qamo.audio.windows import OVERLAP, window_starts
from qamo.config.schema import ChannelConfig, DataConfig, QualityConfig, RawBoostConfig
from qamo.files import sha256
from qamo.quality.cache import AugmentedMOS
from qamo.quality.classes import QualityRule, describe_prediction, describe_quality, quality_rule
from qamo.quality.probe import probe
from qamo.training.gather import share_of
from qamo.training.loader import Batch, Batches, n_readers, read_by_processes
from qamo.trials.authors import how_to_get
from qamo.trials.protocol import Trials, read_protocol
from qamo.trials.recordings import Recordings, check_recordings, recordings_named

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)
CORPORA_PAGE = (
    "; docs/reproduce.md says where the corpora come from, and `make demo` builds one that needs none of them"
)


# ---- recordings


class Item(NamedTuple):
    wave: np.ndarray  # (T,) float32
    bonafide: bool
    quality: int
    trial: int  # index in the protocol
    augmented: bool


class TrainSet(Dataset[Item]):
    """Windows of a protocol's recordings, some of them augmented; keys are (epoch, index).

    Args:
        window: which part of a longer recording: its first samples, or random ones in each epoch.
        boost: ranges of RawBoost and its probability an utterance and epoch; None: never (the dev set).
        channel: what comes after it; None: nothing.
        mos_of: wave -> MOS; needed where the rule predicts the class of augmented speech.
    """

    def __init__(
        self,
        trials: Trials,
        paths: Sequence[Path],
        *,
        window_samples: int,
        window: str = "first",
        rule: QualityRule,
        seed: int = 0,
        boost: RawBoostConfig | None = None,
        channel: Channel | None = None,
        mos_of: Callable[[np.ndarray], float] | None = None,
    ):
        self.trials = trials
        self.paths = paths
        self.window_samples = window_samples
        self.window = window
        self.rule = rule
        self.classes = rule.classes(trials.mos)
        self.seed = seed
        options = boost.model_dump() if boost else {"probability": 0.0}
        self.augmentation = Augmentation(seed, probability=options.pop("probability"), options=options, channel=channel)
        self.mos_of = mos_of

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        bonafide, quality = bool(self.trials.bonafide[index]), int(self.classes[index])
        wave, augmented = self.augmentation(audio.load(self.paths[index]), epoch, index)
        if augmented:
            if bonafide and self.mos_of and self.rule.predicts:
                quality = int(self.rule.classes(np.array([self.mos_of(wave)]))[0])
            else:  # the class of spoofed speech is not read
                quality = self.rule.after_augmentation(quality)
        if self.window == "random":  # drawn apart, so that augmentation is the same for either
            last = max(0, len(wave) - self.window_samples)
            wave = wave[np.random.default_rng([self.seed, epoch, index, 0xC2]).integers(last + 1) :]
        return Item(audio.fit_length(wave, self.window_samples), bonafide, quality, index, augmented)


class ScoreSet:
    """Windows of recordings without labels: (wave (T,), fault), where a recording that cannot be read gives silence.

    Args:
        windows: first; or all, half overlapping: (n, T) in place of (T,).
    """

    def __init__(self, paths: Sequence[Path], *, window_samples: int, windows: str = "first"):
        self.paths = paths
        self.window_samples = window_samples
        self.windows = windows

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        fault = ""
        for _attempt in range(2):  # a network disk may fail once
            try:
                wave = audio.load(self.paths[index])
                if self.windows == "first":
                    return audio.fit_length(wave, self.window_samples), ""
                starts = window_starts(len(wave), self.window_samples, OVERLAP)
                return np.stack([audio.fit_length(wave[start:], self.window_samples) for start in starts]), ""
            except (InputError, OSError) as error:
                fault = str(error)
        silence = np.zeros(self.window_samples, dtype=np.float32)
        return silence if self.windows == "first" else silence[None], fault


# ---- order


def epoch_batches(
    n: int, batch_size: int, *, seed: int, epoch: int, first_step: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """Shuffled batches of (epoch, index) keys, the last short one dropped; of each, the share of one process.

    All processes see the same shuffle, and their shares joined in rank order are the single process's batch.
    """
    order = np.random.default_rng([seed, epoch, 0x5F]).permutation(n)
    rows = share_of(batch_size, rank, world_size)
    for step in range(first_step, n // batch_size):
        batch = order[step * batch_size : (step + 1) * batch_size]
        yield [(epoch, int(i)) for i in batch[rows]]


def collate(items: Sequence[Item]) -> Batch:
    return Batch(
        torch.from_numpy(np.stack([item.wave for item in items])),
        torch.tensor([item.bonafide for item in items], dtype=torch.bool),
        torch.tensor([item.quality for item in items], dtype=torch.int64),
        torch.tensor([item.trial for item in items], dtype=torch.int64),
        torch.tensor([item.augmented for item in items], dtype=torch.bool),
    )


# ---- what a run reads


@dataclass(frozen=True)
class TrainingData:
    """Training and dev set, ready to be drawn from."""

    train: TrainSet
    dev: TrainSet
    rule: QualityRule
    facts: dict[str, Any]  # what a run should remember of its data
    batch_size: int
    n_workers: int | str

    @property
    def summary(self) -> str:
        return f"{len(self.train)} training and {len(self.dev)} dev utterances, batches of {self.batch_size}"

    def of_process(self, fabric: Fabric) -> Batches:
        """What one process of a training reads: its share of each training batch, every n-th batch of the dev set."""
        rank, world_size = fabric.global_rank, fabric.world_size
        size, n_dev, seed = self.batch_size, len(self.dev), self.train.seed
        n_workers = n_readers(self.n_workers, fabric, 4 * self.train.window_samples * size)
        dev_keys = [[(0, i) for i in range(start, min(start + size, n_dev))] for start in range(0, n_dev, size)]

        def read(source: TrainSet, keys: Iterable[list[tuple[int, int]]]) -> Iterator[Batch]:
            return map(fabric.to_device, read_by_processes(source, keys, collate, n_workers=n_workers))

        def train(epoch: int, step: int) -> Iterator[Batch]:
            order = {"seed": seed, "epoch": epoch, "first_step": step, "rank": rank, "world_size": world_size}
            return read(self.train, epoch_batches(len(self.train), size, **order))

        return Batches(
            train=train,
            dev=lambda: read(self.dev, dev_keys[rank::world_size]),
            steps_per_epoch=len(self.train) // size,
            n_dev_batches=len(dev_keys),
            names=self.train.trials.names,
            seed=seed,
            provenance=self.provenance,
            n_classes=max(2, 1 + len(self.rule.edges)),
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """What a checkpoint tells of its data."""
        return {"seed": self.train.seed, "window_samples": self.train.window_samples, "data": self.facts}


def read_training_data(data: DataConfig, *, batch_size: int, seed: int, reads_quality: bool = True) -> TrainingData:
    """Read the protocols, see that the recordings are there, and fix the quality rule; says what the classes hold.

    Args:
        reads_quality: whether the head looks at quality classes; if not, no MOS is predicted while training.

    Raises:
        InputError: anything that would stop training later.
    """
    trials, paths = labelled(data, "train", needs_mos=reads_quality)
    dev_trials, dev_paths = labelled(data, "dev", needs_mos=reads_quality)
    if len(trials) < batch_size:
        raise InputError(
            f"train.batch_size: {batch_size} exceeds the {len(trials)} utterances of {trials.path}, and short batches "
            "are dropped; choose a smaller one"
        )
    quality, augmented = data.quality, data.quality.augmented
    if augmented == "predict" and not reads_quality:
        log.info("the head does not look at quality: no MOS of augmented speech is predicted")
        augmented = "none"
    if not trials.has_mos:
        log.info("%s has no MOS, and the head does not look at quality: one class for all", trials.path)
        quality = QualityConfig(thresholds=[], quantiles=None)
    mos = trials.mos[trials.bonafide]
    rule = quality_rule(mos, thresholds=quality.thresholds, quantiles=quality.quantiles, augmented=augmented)
    boost = data.rawboost if data.rawboost.algorithm and data.rawboost.probability else None
    channel = training_channel(data.channel)
    length = data.window_samples
    train = TrainSet(
        trials, paths, window_samples=length, window=data.window, rule=rule, seed=seed, boost=boost, channel=channel
    )
    for sentence in describe_quality(mos, rule, train.augmentation.share):
        log.info("%s", sentence)
    if rule.predicts and train.augmentation.share:
        train.mos_of = AugmentedMOS(quality.cache)
        given, before, after = np.array([(p.mos, p.mos_before, p.mos_after) for p in probe(train)]).T
        for sentence in describe_prediction(rule, given, before, after, trials.path):
            log.info("%s", sentence)
    dev = TrainSet(dev_trials, dev_paths, window_samples=length, rule=rule)
    facts = {
        part: {"protocol": str(t.path), "sha256": sha256(t.path), "n": len(t), "n_bonafide": int(t.bonafide.sum())}
        for part, t in (("train", trials), ("dev", dev_trials))
    }
    facts["quality_edges_mos"] = rule.edges.tolist()
    return TrainingData(train, dev, rule, facts, batch_size, data.n_workers)


def training_channel(channel: ChannelConfig) -> Channel | None:
    """The channel of a config; None where it is off.

    Raises:
        InputError: a codec cannot be had, or a folder of noise or of impulse responses has none.
    """
    if not channel.probability:
        return None
    if channel.codec_probability:
        check_codecs(channel.codecs, where="data.channel.codecs")
    ranges = channel.model_dump(exclude={"noise_folder", "rir_folder"})
    noises = recordings_named(channel.noise_folder, "data.channel.noise_folder")
    return Channel(**ranges, noises=noises, rooms=recordings_named(channel.rir_folder, "data.channel.rir_folder"))


def check_training(data: DataConfig, part: str, how: str, *, needs_mos: bool = True) -> str:
    """Look at protocol and recordings of "train" or "dev" as `check_recordings` does; says what is there."""
    trials, _ = labelled(data, part, how, needs_mos=needs_mos)
    if part == "train":
        training_channel(data.channel)
    return f"{part}: {len(trials)} utterances, {trials.bonafide.sum()} bona fide"


def labelled(data: DataConfig, part: str, how: str = "header", *, needs_mos: bool = True) -> tuple[Trials, Recordings]:
    """Trials and recordings of "train" or "dev"."""
    path = data.protocols_path / getattr(data, f"{part}_protocol")
    if not path.exists():
        raise InputError(
            f"{path}: no such protocol; set data.protocols_path or data.{part}_protocol{how_to_get(path)}{CORPORA_PAGE}"
        )
    trials = read_protocol(path, needs_mos=needs_mos)
    paths = Recordings(data.database_path / getattr(data, f"{part}_audio"), trials.names, data.extension)
    check_recordings(paths, what=part, where=f"data.database_path and data.{part}_audio", how=how)
    if not 0 < trials.bonafide.sum() < len(trials):
        raise InputError(f"{path}: expected bona fide and spoofed utterances, found one kind only")
    return trials, paths
