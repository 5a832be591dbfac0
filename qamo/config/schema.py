"""Every setting of the program: its type, its default, its sentence and its role. Defaults live here and nowhere else.

The settings of the detector's parts are in parts.py, and keys.py says what a key is. Parts of the program take plain
keyword arguments; the commands hand them on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from qamo.config.catalogue import CATALOGUE
from qamo.config.keys import Section, architecture, free, scoring, training
from qamo.config.parts import ModelConfig

MAX_SEED = 2**63 - 1
MOS = Annotated[float, Field(ge=-100, le=100)]
Hz = Annotated[float, Field(ge=0, le=8000)]
Decibel = Annotated[float, Field(ge=-200, le=200)]
Taps = Annotated[int, Field(ge=1, le=10_000)]
Ratio = Annotated[float, Field(ge=0, le=1)]
RT60 = Annotated[float, Field(ge=0.05, le=10)]
BitRate = Annotated[float, Field(ge=1, le=1000)]
Devices = Annotated[int, Field(ge=1, le=1024)]
# A part of a file's or folder's name.
NAME_RULE = re.compile(r"(?!\.+$)[^/\x00-\x1f\x7f]{1,100}")


def _name(text: str) -> str:
    if not NAME_RULE.fullmatch(text):
        raise ValueError(f"expected 1 to 100 characters without / that are not only dots, found {text!r}")
    return text


def _folder(text: str) -> str:
    for part in text.split("/"):
        _name(part)
    return text


Name = Annotated[str, AfterValidator(_name)]
Folder = Annotated[str, AfterValidator(_folder)]
HzRange: TypeAlias = tuple[Hz, Hz]  # either end may be the greater
DecibelRange: TypeAlias = tuple[Decibel, Decibel]


def _increasing(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"expected a range with the lower value first, found {list(limits)}")
    return limits


Increasing = AfterValidator(_increasing)
# YAML reads 32 as a number.
Precision = Annotated[
    Literal["auto", "32", "tf32", "bf16-mixed", "16-mixed"], BeforeValidator(lambda v: "32" if v == 32 else v)
]


class QualityConfig(Section):
    """How a mean opinion score (MOS) becomes a quality class, and what augmentation does to the class."""

    thresholds: list[MOS] | None = training([2.5], "MOS; the class is the number of thresholds at or below the MOS")
    quantiles: list[Annotated[float, Field(gt=0, lt=1)]] | None = training(
        None, "or quantiles of the bona fide training MOS, such as [0.5]"
    )
    augmented: Literal["lower", "lowest", "none", "predict"] = training(
        "lower",
        "class of augmented speech: lower (one less), lowest (0), none (unchanged), or predict: by DistillMOS, "
        "0.1 s of CPU for each augmented bona fide utterance (about 1,000 per epoch on ASVspoof 2019 LA); the "
        "protocol's MOS should then come from DistillMOS too",
    )
    cache: Path | None = free(None, "for predict: file that keeps predictions for other runs of the same seed and data")

    @model_validator(mode="after")
    def _one_rule(self) -> QualityConfig:
        if (self.thresholds is None) == (self.quantiles is None):
            raise ValueError("set exactly one of thresholds and quantiles, and the other to null")
        edges = self.thresholds if self.thresholds is not None else self.quantiles or []
        if sorted(set(edges)) != list(edges):
            raise ValueError(f"expected increasing values, found {edges}")
        if self.quantiles is not None and not all(0 < q < 1 for q in self.quantiles):
            raise ValueError(f"expected quantiles between 0 and 1, found {self.quantiles}")
        return self

    @property
    def n_classes(self) -> int:
        return 1 + len(self.thresholds if self.thresholds is not None else self.quantiles or [])


class RawBoostConfig(Section):
    """RawBoost augmentation (arXiv 2111.04433); every pair is the range that a value is drawn from."""

    algorithm: int = training(
        4, "0 none, 1 LnL, 2 ISD, 3 SSI, 4 = 1+2+3, 5 = 1+2, 6 = 1+3, 7 = 2+3, 8 = 1 and 2 in parallel", ge=0, le=8
    )
    probability: float = training(0.4, "probability that a training utterance is augmented in an epoch", ge=0, le=1)
    n_bands: int = training(5, "notches per filter", ge=1, le=100)
    center_hz: HzRange = training((20.0, 8000.0), "centre of a notch, Hz")
    width_hz: HzRange = training((100.0, 1000.0), "width of a notch, Hz")
    n_taps: tuple[Taps, Taps] = training((10, 100), "FIR coefficients per notch")
    gain_db: DecibelRange = training((0.0, 0.0), "gain of a filter, dB")
    bias_db: DecibelRange = training((5.0, 20.0), "LnL: how far the non-linear parts lie below the linear one, dB")
    n_orders: int = training(5, "LnL: highest power of the signal", ge=1, le=100)
    impulse_percent: float = training(10.0, "ISD: largest percentage of disturbed samples", ge=0, le=100)
    impulse_gain: float = training(2.0, "ISD: size of an impulse, relative to the sample", ge=0, le=1000)
    snr_db: DecibelRange = training((10.0, 40.0), "SSI: signal-to-noise ratio, dB")


class ChannelConfig(Section):
    """Transmission channel after RawBoost: reverberation, noise, a band, a codec, lost packets, in this order."""

    probability: float = training(
        0.0, "probability that a training utterance goes through it in an epoch; 0: never", ge=0, le=1
    )
    reverb_probability: float = training(
        0.3, "probability that an utterance in the channel is reverberated", ge=0, le=1
    )
    rir_folder: Path | None = training(None, "folder of room impulse responses; null: synthesised ones")
    rt60_s: Annotated[tuple[RT60, RT60], Increasing] = training(
        (0.2, 0.8), "reverberation time of synthesised responses (decay by 60 dB), s"
    )
    noise_probability: float = training(0.3, "probability that noise is added", ge=0, le=1)
    noise_folder: Path | None = training(None, "folder of noise; null: synthesised, white, pink or babble-like")
    snr_db: Annotated[DecibelRange, Increasing] = training((5.0, 30.0), "signal-to-noise ratio, dB")
    band_probability: float = training(0.2, "probability that the band is limited", ge=0, le=1)
    band_low_hz: Annotated[HzRange, Increasing] = training((50.0, 300.0), "lower end of the band, Hz")
    band_high_hz: Annotated[HzRange, Increasing] = training((3400.0, 7000.0), "upper end of the band, Hz")
    codec_probability: float = training(0.8, "probability of a codec round trip", ge=0, le=1)
    codecs: list[Literal["mp3", "aac", "opus", "vorbis", "mulaw", "alaw", "gsm", "amr_nb", "g722"]] = training(
        ["mp3", "aac", "opus", "vorbis", "mulaw", "alaw"],
        "drawn from evenly: mp3, aac, opus, vorbis, mulaw and alaw (G.711), gsm, amr_nb, g722",
    )
    bit_rate_kbps: Annotated[tuple[BitRate, BitRate], Increasing] = training(
        (8.0, 64.0), "bit rate, kbit/s; a codec with none in this range takes its nearest"
    )
    loss_probability: float = training(
        0.1, "probability that packets of 20 ms are lost; they become silence or the one before", ge=0, le=1
    )
    loss_rate: Annotated[tuple[Ratio, Ratio], Increasing] = training((0.01, 0.2), "packet loss rate")

    @model_validator(mode="after")
    def _possible(self) -> ChannelConfig:
        if self.codec_probability and not self.codecs:
            raise ValueError("codecs: expected at least one, found []; or set codec_probability to 0")
        if self.band_low_hz[1] >= self.band_high_hz[0]:
            raise ValueError(
                f"expected band_low_hz to end below band_high_hz, found {list(self.band_low_hz)} and "
                f"{list(self.band_high_hz)}"
            )
        return self


class DataConfig(Section):
    """What the detector is trained on, and how recordings are cut."""

    database_path: Path = free(Path("database"), "folder of the corpora")
    protocols_path: Path = free(Path("database"), "folder of protocols, lists and keys")
    train_audio: str = training("LA/ASVspoof2019_LA_train/flac", "training recordings: folder below database_path")
    train_protocol: str = training(
        "LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.score.txt",
        "training protocol or table (path,label,mos), below protocols_path",
    )
    dev_audio: str = training("LA/ASVspoof2019_LA_dev/flac", "dev recordings: folder below database_path")
    dev_protocol: str = training(
        "LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.score.txt",
        "dev protocol or table, below protocols_path",
    )
    extension: str | None = free(
        None, "appended to names without the ending of a recording; null: as the first one's file has it"
    )
    window_samples: int = architecture(
        66_800,
        "samples at 16 kHz that the detector sees (66800 = 4.175 s); shorter recordings are repeated",
        ge=400,
        le=100_000_000,
    )
    window: Literal["first", "random"] = training(
        "first", "which part of a longer training recording is seen: its first samples, or random ones in each epoch"
    )
    n_workers: Annotated[int, Field(ge=0, le=1024)] | Literal["auto"] = free(
        "auto", "processes that decode and augment; changes no result; auto: 4, for a GPU a core each, up to 16"
    )
    quality: QualityConfig = QualityConfig()
    rawboost: RawBoostConfig = RawBoostConfig()
    channel: ChannelConfig = ChannelConfig()


class TrainConfig(Section):
    """Optimisation, early stopping and checkpoints."""

    enabled: bool = free(True, "false: only score, with score.weights or the run's own model.pt")
    batch_size: int = training(20, "utterances per step, over all processes together", ge=2, le=1_000_000)
    max_epochs: int = training(101, "epochs at most", ge=1, le=1_000_000)
    patience: int = training(7, "epochs without a better dev loss before training stops", ge=1, le=1_000_000)
    lr: float = training(1e-6, "learning rate of everything but the head", ge=0, le=1000)
    head_lr: float = training(1e-3, "learning rate of the head", ge=0, le=1000)
    weight_decay: float = training(1e-4, "weight decay of both, coupled (Adam)", ge=0, le=1000)
    warmup_steps: int = training(0, "steps over which both learning rates rise from 0", ge=0, le=1_000_000_000)
    schedule: Literal["constant", "cosine"] = training(
        "constant", "of both learning rates after that: constant, or cosine: down to 0 at the end of max_epochs"
    )
    clip_norm: Annotated[float, Field(gt=0, le=1e9)] | None = training(
        None, "gradients of a greater norm, over all trained weights, are scaled down to it; null: never"
    )
    n_best: int = training(5, "epochs that are kept, by dev loss", ge=1, le=10_000)
    average: Literal["mean", "reference", "none"] = training(
        "mean",
        "mean of the best epochs; reference: what the published code really computes; none: the best epoch alone",
    )
    n_average: int = training(5, "epochs that are averaged", ge=1, le=10_000)
    frontend_chunks: int = free(
        1, "pieces in which a batch passes the front end: less memory, equal gradients", ge=1, le=1_000_000
    )
    precision: Precision = training(
        "auto", "32, tf32, bf16-mixed, 16-mixed, or auto: tf32 on a GPU that has it, else 32 (training/precision.py)"
    )
    save_every_s: float = free(600.0, "seconds between two saves inside an epoch", gt=0, le=1e9)

    @model_validator(mode="after")
    def _counts(self) -> TrainConfig:
        if self.n_average > self.n_best:
            raise ValueError(f"n_average {self.n_average} exceeds n_best {self.n_best}: only n_best epochs are kept")
        return self


class ScoreConfig(Section):
    """How evaluation sets are scored."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = scoring(
        "auto", "recordings at a time; auto: 20 on a CPU, 128 on a GPU, computed in pieces that its memory holds"
    )
    precision: Precision = scoring("auto", "as train.precision, and whatever that was")
    windows: Literal["first", "all"] = scoring(
        "first",
        "what of a recording is scored: its first window, or all, half overlapping: their mean; batch_size recordings "
        "are then held at a time, with all their windows",
    )
    on_bad_audio: Literal["fail", "skip"] = free(
        "skip", "an unreadable recording: skip (reported, exit status 2) or fail (stop at once)"
    )
    weights: Path | None = scoring(
        None, "with train.enabled=false: checkpoint to score with, ours or the published code's best.pth"
    )


class EvalSet(Section):
    """One evaluation set: where its recordings, its list and its labels are."""

    audio: str = free("", "folder of the recordings, below data.database_path; not looked at where names are absolute")
    trials: str = free(..., "list or protocol with the names, below data.protocols_path")
    extension: str | None = free(None, "as data.extension")
    keys: str | None = free(None, "labels, below data.protocols_path: meta.csv or a protocol; null: no EER")
    subset: str | None = free(None, "for keys with a subset column: the one that is counted")


class EvalConfig(Section):
    """Which sets are scored and evaluated."""

    sets: list[Name] = free(["LA", "DF", "ITW", "FoR"], "names of the catalogue, in this order; [] for none")
    n_resamples: int = free(1000, "bootstrap resamples for the interval of an EER; 0: no interval", ge=0, le=1_000_000)
    catalogue: dict[Name, EvalSet] = free(
        {name: EvalSet(**entry) for name, entry in CATALOGUE.items()}, "the sets that can be named"
    )

    @model_validator(mode="after")
    def _known_sets(self) -> EvalConfig:
        for name in self.sets:
            if name not in self.catalogue:
                raise ValueError(f"sets: {name!r} is not in eval.catalogue ({', '.join(self.catalogue)})")
        if len(set(self.sets)) != len(self.sets):
            raise ValueError(f"sets: a set is named twice in {self.sets}")
        return self


class RunConfig(Section):
    """Where and on what a run is computed."""

    runs: Path = free(Path("exps"), "folder of all runs")
    accelerator: Literal["auto", "cpu", "cuda"] = free("auto", "auto, cpu or cuda")
    devices: Devices | Literal["auto"] = free(
        "auto",
        "GPUs or processes of this machine; auto: all GPUs when it only scores, else one; torchrun's come first",
    )
    n_nodes: int = free(1, "machines that the processes run on", ge=1, le=100_000)
    deterministic: bool = free(
        True, "on a GPU: deterministic algorithms where PyTorch has them, as the published code asks of cuDNN"
    )
    n_threads: int = free(0, "CPU threads of PyTorch; 0: as it chooses", ge=0, le=4096)
    compile: Literal["auto", "off"] = free(
        "auto",
        "auto: on a GPU, record XLS-R's steps as a CUDA graph, and compile them where there is much to compute; off",
    )
    emulate: bool = free(False, "compute in a 16-bit precision that the device has not, many times slower")
    loggers: list[Literal["tensorboard", "jsonl", "wandb"]] = free(
        ["tensorboard", "jsonl"], "where the numbers of each epoch go: tensorboard, jsonl (metrics.jsonl), wandb"
    )
    feature_cache: Path | None = free(None, "folder that keeps the features of a frozen front end; null: none")
    feature_cache_gb: float = free(
        4.0, "size limit of that folder, GB; least recently used features go first", gt=0, le=1e9
    )


class Config(Section):
    """Every setting of the program."""

    name: Folder | None = free(None, "folder of the run, below run.runs; null: made of the settings")
    comment: Name | None = free(None, "added to that name")
    comment_eval: Name | None = free(None, "added to the names of score files, never to the names inside them")
    seed: int = training(1234, "of every random draw: initial weights, shuffling, augmentation", ge=0, le=MAX_SEED)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    eval: EvalConfig = EvalConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _classes_match(self) -> Config:
        head: Any = getattr(self.model, self.model.head)
        n_centroids = getattr(head, "n_centroids", None)
        if n_centroids is not None and n_centroids != self.data.quality.n_classes:
            raise ValueError(
                f"model.{self.model.head}.n_centroids is {n_centroids} but data.quality makes "
                f"{self.data.quality.n_classes} classes; give both the same number"
            )
        return self
