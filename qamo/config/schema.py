"""Every knob of the program: typed, frozen, checked on the way in. Defaults live here and nowhere else.

`config.yaml` mirrors this file key for key (a test compares them). Precedence: the defaults below, then a
YAML file, then flags and `section.key=value`. An unknown key is an error that names its nearest neighbour.
Parts of the program take plain keyword arguments, so nothing but the commands reads these classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from qamo import InputError

Range = tuple[float, float]
# YAML reads 32 as a number.
Precision = Annotated[Literal["32", "bf16-mixed", "16-mixed"], BeforeValidator(lambda v: "32" if v == 32 else v)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError(f"expected a number, found {value}")
        return value


# ---- data


class QualityConfig(Section):
    """How a MOS becomes a quality class, and what augmentation does to it."""

    thresholds: list[float] | None = [2.5]  # MOS; class = number of thresholds at or below the MOS
    quantiles: list[float] | None = None  # instead of thresholds: quantiles of the bona fide training MOS
    augmented: Literal["lower", "lowest", "none", "predict"] = "lower"  # class of RawBoosted speech; lower = one less
    cache: Path | None = None  # predict: file that keeps what was predicted

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
    """RawBoost (arXiv 2111.04433): which algorithm, on what share of the recordings, and its ranges."""

    algorithm: int = Field(4, ge=0, le=8)
    share: float = Field(0.4, ge=0, le=1)
    n_bands: int = Field(5, ge=1)
    center_hz: Range = (20.0, 8000.0)
    width_hz: Range = (100.0, 1000.0)
    n_taps: tuple[int, int] = (10, 100)
    gain_db: Range = (0.0, 0.0)
    bias_db: Range = (5.0, 20.0)
    n_orders: int = Field(5, ge=1)
    impulse_percent: float = Field(10.0, ge=0, le=100)
    impulse_gain: float = Field(2.0, ge=0)
    snr_db: Range = (10.0, 40.0)


class DataConfig(Section):
    database_path: Path = Path("database")
    protocols_path: Path = Path("database")
    train_audio: str = "LA/ASVspoof2019_LA_train/flac"
    train_protocol: str = "LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.score.txt"
    dev_audio: str = "LA/ASVspoof2019_LA_dev/flac"
    dev_protocol: str = "LA/ASVspoof_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.score.txt"
    window_samples: int = Field(66_800, ge=400)
    n_workers: int = Field(4, ge=0)
    quality: QualityConfig = QualityConfig()
    rawboost: RawBoostConfig = RawBoostConfig()


# ---- model: a section a part; its kind decides which choice of ModelConfig it may be named in


class FrontEnd(Section):
    pass


class BackEnd(Section):
    pass


class Head(Section):
    pass


class XLSRConfig(FrontEnd):
    weights: str | None = "pretrained/xlsr2_300m.pt"  # .pt, .safetensors, folder, hub name, or null: random
    freeze: bool = False
    normalize_input: Literal["none", "utterance"] = "none"
    attention: Literal["sdpa", "eager"] = "sdpa"
    gradient_checkpointing: bool = False
    hidden_size: int = 1024
    n_layers: int = 24
    n_heads: int = 16
    ffn_size: int = 4096
    conv_size: int = 512
    position_kernel: int = 128
    position_groups: int = 16


class LFCCConfig(FrontEnd):
    n_coefficients: int = 20  # static ones; deltas and double deltas triple them
    n_filters: int = 20
    n_fft: int = 512
    window_ms: float = 20.0
    hop_ms: float = 10.0


class DistillMOSConfig(FrontEnd):
    freeze: bool = True
    n_layers: int = Field(7, ge=1, le=7)  # transformer layers of the encoder that are used


class ConformerTCMConfig(BackEnd):
    embedding_size: int = Field(144, ge=1)
    n_heads: int = Field(4, ge=1)
    kernel_size: int = Field(31, ge=1)
    n_blocks: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _divides(self) -> ConformerTCMConfig:
        if self.embedding_size % self.n_heads:
            raise ValueError(f"embedding_size {self.embedding_size} is not divisible by n_heads {self.n_heads}")
        return self


class Nes2NetConfig(BackEnd):
    n_groups: int = 8  # parts that the features are split in (the outer nest)
    scale: int = 8  # parts of the inner Res2Net block
    dilation: int = 2
    se_ratio: int = 1  # squeeze-excitation bottleneck


class QAMOConfig(Head):
    n_centroids: int = Field(2, ge=1)  # one for each quality class, lowest first
    radius_bonafide: float = 0.9
    radius_spoof: float = 0.2
    alpha: float = Field(20.0, gt=0)
    scale: float = Field(32.0, gt=0)
    margin: float = 0.4
    quality_weight: float = Field(0.1, ge=0)
    score: Literal["mean", "softmax", "max"] = "mean"

    @model_validator(mode="after")
    def _radii(self) -> QAMOConfig:
        return _ordered_radii(self)


class OCSoftmaxConfig(Head):
    radius_bonafide: float = 0.9
    radius_spoof: float = 0.2
    alpha: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _radii(self) -> OCSoftmaxConfig:
        return _ordered_radii(self)


class WCEConfig(Head):
    weight_spoof: float = Field(0.1, ge=0)
    weight_bonafide: float = Field(0.9, ge=0)
    quality_weight: float = Field(0.0, ge=0)  # above 0: WCE plus the quality term of QAMO (an ablation)
    n_centroids: int = Field(2, ge=1)
    scale: float = Field(32.0, gt=0)
    margin: float = 0.4


def _ordered_radii(section: Any) -> Any:
    if not -1 <= section.radius_spoof < section.radius_bonafide <= 1:
        raise ValueError(
            "need -1 <= radius_spoof < radius_bonafide <= 1, "
            f"found radius_spoof {section.radius_spoof}, radius_bonafide {section.radius_bonafide}"
        )
    return section


class ModelConfig(Section):
    frontend: str = "xlsr"
    backend: str = "conformer_tcm"
    head: str = "qamo"
    xlsr: XLSRConfig = XLSRConfig()
    lfcc: LFCCConfig = LFCCConfig()
    distillmos: DistillMOSConfig = DistillMOSConfig()
    conformer_tcm: ConformerTCMConfig = ConformerTCMConfig()
    nes2net: Nes2NetConfig = Nes2NetConfig()
    qamo: QAMOConfig = QAMOConfig()
    oc_softmax: OCSoftmaxConfig = OCSoftmaxConfig()
    wce: WCEConfig = WCEConfig()

    @field_validator("frontend", "backend", "head")
    @classmethod
    def _has_a_section(cls, value: str, info: Any) -> str:
        kind = {"frontend": FrontEnd, "backend": BackEnd, "head": Head}[info.field_name]
        known = [
            n for n, f in cls.model_fields.items() if isinstance(f.annotation, type) and issubclass(f.annotation, kind)
        ]
        if value not in known:
            raise ValueError(f"expected {' or '.join(known)}, found {value!r}")
        return value

    @property
    def reads_quality(self) -> bool:
        """Whether the head's loss looks at quality classes; one of a kind unknown here is taken to."""
        return self.head != "oc_softmax" and not (self.head == "wce" and self.wce.quality_weight == 0)


# ---- training, scoring, evaluation


class TrainConfig(Section):
    enabled: bool = True
    batch_size: int = Field(20, ge=2)
    max_epochs: int = Field(101, ge=1)
    patience: int = Field(7, ge=1)
    lr: float = Field(1e-6, ge=0)
    head_lr: float = Field(1e-3, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    n_best: int = Field(5, ge=1)
    average: Literal["mean", "reference", "none"] = "mean"
    n_average: int = Field(5, ge=1)
    frontend_chunks: int = Field(1, ge=1)
    precision: Precision = "32"
    save_every_s: float = Field(600.0, gt=0)

    @model_validator(mode="after")
    def _counts(self) -> TrainConfig:
        if self.n_average > self.n_best:
            raise ValueError(f"n_average {self.n_average} exceeds n_best {self.n_best}: only n_best epochs are kept")
        return self


class ScoreConfig(Section):
    batch_size: int = Field(20, ge=1)
    precision: Precision = "32"
    on_bad_audio: Literal["fail", "skip"] = "skip"
    weights: Path | None = None  # score with this checkpoint in place of the run's own (train.enabled: false)


class EvalSet(Section):
    """One evaluation set: where its recordings, its list and its labels are."""

    audio: str  # folder of the recordings, under data.database_path
    trials: str  # list or protocol with the names, under data.protocols_path
    extension: str = ""  # appended to a name to find its file: ".flac" where names are file stems
    keys: str | None = None  # labels, under data.protocols_path: meta.csv, trial_metadata.txt or a protocol
    subset: str | None = None  # keys with a subset column: which one is counted


class EvalConfig(Section):
    sets: list[str] = ["LA", "DF", "ITW", "FoR"]
    n_resamples: int = Field(1000, ge=0)  # bootstrap resamples behind the interval of an EER; 0: none
    catalogue: dict[str, EvalSet] = {
        "LA": EvalSet(
            audio="LA/ASVspoof2021_LA_eval/flac",
            trials="LA/ASVspoof_LA_cm_protocols/ASVspoof2021.LA.cm.eval.trl.txt",
            extension=".flac",
            keys="keys/LA/CM/trial_metadata.txt",
            subset="eval",
        ),
        "DF": EvalSet(
            audio="DF/ASVspoof2021_DF_eval/flac",
            trials="DF/ASVspoof_DF_cm_protocols/ASVspoof2021.DF.cm.eval.trl.txt",
            extension=".flac",
            keys="keys/DF/CM/trial_metadata.txt",
            subset="eval",
        ),
        "ITW": EvalSet(
            audio="release_in_the_wild",
            trials="protocols/in_the_wild.eval.txt",
            keys="ood_ds_keys/ITW/meta.csv",
        ),
        "FoR": EvalSet(
            audio="for-norm/testing",
            trials="protocols/for_norm_test.txt",
            keys="ood_ds_keys/FoR/meta.csv",
        ),
    }

    @model_validator(mode="after")
    def _known_sets(self) -> EvalConfig:
        for name in self.sets:
            if name not in self.catalogue:
                raise ValueError(f"sets: {name!r} is not in eval.catalogue ({', '.join(self.catalogue)})")
        if len(set(self.sets)) != len(self.sets):
            raise ValueError(f"sets: a set is named twice in {self.sets}")
        return self


class RunConfig(Section):
    runs: Path = Path("exps")  # folder of all runs
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int | Literal["auto"] = 1
    n_nodes: int = Field(1, ge=1)
    n_threads: int = Field(0, ge=0)  # CPU threads of torch; 0: as torch chooses
    feature_cache: Path | None = None  # folder for the features of a frozen front end; null: compute anew
    feature_cache_gb: float = Field(4.0, gt=0)


class Config(Section):
    name: str | None = None
    comment: str | None = None
    comment_eval: str | None = None
    seed: int = Field(1234, ge=0)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    eval: EvalConfig = EvalConfig()
    run: RunConfig = RunConfig()
    _given: tuple[str, ...] = PrivateAttr(())

    def remember(self, given: Mapping[str, Any]) -> Config:
        """This config, which knows from now on what somebody gave for this call alone: `overrides` of `load_config`."""
        self._given = tuple(leaf for key, value in given.items() for leaf in _leaves(key, value))
        return self

    def given(self, section: str) -> dict[str, Any]:
        """Those dotted keys of a section with their values, without the section's name."""
        found = {}
        tree = self.model_dump()
        for key in self._given:
            if key.startswith(f"{section}."):
                value: Any = tree
                for part in key.split("."):
                    value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
                found[key.removeprefix(f"{section}.")] = value
        return found

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


# ---- reading


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Defaults, then the YAML file at `path`, then `overrides` (dotted key -> value or its text).

    Raises:
        InputError: an unknown key, a value of the wrong kind, or a file that is not YAML.
    """
    tree: dict[str, Any] = {}
    where = "command line"
    if path is not None:
        tree, where = _read_yaml(path), str(path)
    for dotted, value in (overrides or {}).items():
        *parents, leaf = dotted.split(".")
        node = tree
        for part in parents:
            child = node.setdefault(part, {})
            if isinstance(child, list):
                child = node[part] = {str(place): item for place, item in enumerate(child)}
            if not isinstance(child, dict):
                raise InputError(f"{dotted}: {part} is a value, not a section")
            node = child
        node[leaf] = _parse(dotted, value) if isinstance(value, str) else value
    try:
        return Config.model_validate(_merged(Config().model_dump(), tree))
    except ValidationError as error:
        raise InputError(_explain(error, where, overrides or {})) from None


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """`section.key=value` words -> {dotted key: text}."""
    assignments = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"{word!r}: expected section.key=value, for example train.batch_size=8")
        assignments[key] = value
    return assignments


def to_yaml(config: BaseModel) -> str:
    """A config as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected `section:` and `key: value` lines, found {type(tree).__name__}")
    return tree


def _parse(dotted: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        raise InputError(f"{dotted}: {text!r} is not a YAML value; quote it") from None


def _leaves(dotted: str, value: Any) -> list[str]:
    """The keys below `dotted` that a value sets: model.qamo={score: max} is model.qamo.score."""
    value = _parse(dotted, value) if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        return [dotted]
    return [leaf for key, item in value.items() for leaf in _leaves(f"{dotted}.{key}", item)]


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, section by section, so that a partial section keeps the other defaults.

    A list takes {"0": value}: a new value for one of its places.
    """
    result = dict(base)
    for key, value in over.items():
        under = result.get(key)
        if isinstance(value, Mapping) and isinstance(under, dict):
            result[key] = _merged(under, value)
        elif isinstance(value, Mapping) and isinstance(under, (list, tuple)) and all(k.isdigit() for k in value):
            places = {str(place): item for place, item in enumerate(under)}
            result[key] = list({**places, **value}.values())
        else:
            result[key] = value
    return result


def _explain(error: ValidationError, where: str, overrides: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in ("int", "float", "str", "literal['auto']")]
    dotted = ".".join(path) or "config"
    if any(key == dotted or key.startswith(f"{dotted}.") for key in overrides):
        where = "command line"
    if first["type"] == "extra_forbidden":
        known = _known_keys()
        close = difflib.get_close_matches(dotted, known, n=1) or [
            key for key in known if key.rsplit(".", 1)[-1] == path[-1]
        ]
        hint = f"did you mean {close[0]}?" if close else "see config.yaml for all keys"
        return f"{where}: {dotted}: no such key; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] in ("missing", "value_error") else f", found {first['input']!r}"
    return f"{where}: {dotted}: {message}{found}"


def _known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        annotation = field.annotation
        keys.append(prefix + name)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += _known_keys(annotation, f"{prefix}{name}.")
    return keys
