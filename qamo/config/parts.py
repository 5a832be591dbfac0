"""The parts of a detector and their settings: a section a part, whose keys are the keyword arguments of its class.

The kind of a section (FrontEnd, BackEnd, Head) decides which choice of `ModelConfig` it may be named in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from qamo.config.keys import Section, architecture, free, is_section, loss, scoring, training

Size = Annotated[int, Field(ge=1, le=65_536)]
NLayers = Annotated[int, Field(ge=1, le=1000)]


def _layers(value: Any) -> Any:
    listed = isinstance(value, list) and all(type(number) is int and 0 <= number <= 1000 for number in value)
    if value in ("last", "weighted") or (listed and value and value == sorted(set(value))):
        return value
    raise ValueError(f"expected last, weighted, or increasing numbers of layers such as [5, 9, 12], found {value}")


Layers = Annotated[Literal["last", "weighted"] | list[Annotated[int, Field(ge=0, le=1000)]], BeforeValidator(_layers)]
Features = Literal["float32", "float16"]
OF_LAYERS = (
    "last; [5, 9, 12, 18]: side by side, by number; weighted: sum of all, 0 too, with learned weights. Layers above "
    "the highest one are not computed"
)
OF_FEATURES = "float16: round the features of a frozen front end, which halves what run.feature_cache takes"


class FrontEnd(Section):
    """A front end's keyword arguments."""

    @model_validator(mode="after")
    def _rounds_frozen_features(self) -> FrontEnd:
        if getattr(self, "features", "float32") == "float16" and not getattr(self, "freeze", True):
            raise ValueError("features: float16 is for a frozen front end; set freeze to true, or features to float32")
        return self


class BackEnd(Section):
    """A back end's keyword arguments."""


class Head(Section):
    """A head's keyword arguments."""


class XLSRConfig(FrontEnd):
    """Front end XLS-R, or another wav2vec 2.0 network of its kind (XLS-R 1B and 2B, MMS, HuBERT large)."""

    weights: str | None = training(
        "pretrained/xlsr2_300m.pt", "fairseq file, .safetensors file, Hugging Face folder or name; null: random weights"
    )
    freeze: bool = training(False, "true: keep the pretrained weights; false: fine-tune them")
    normalize_input: Literal["none", "utterance"] = architecture(
        "none", "none: raw waves, as published; utterance: zero mean and unit variance"
    )
    attention: Literal["sdpa", "eager"] = scoring(
        "sdpa", "sdpa: fused, faster on a CPU, equal to 1e-5; eager: the steps of fairseq"
    )
    gradient_checkpointing: bool = free(False, "recompute layers in the backward pass: less memory, equal gradients")
    layers: Layers = architecture("last", OF_LAYERS)
    features: Features = architecture("float32", OF_FEATURES)
    hidden_size: Size | None = architecture(
        None, "width of a transformer layer; null here and below: as the weights' file has it, else as XLS-R 300M"
    )
    n_layers: NLayers | None = architecture(None, "transformer layers; fewer than the file has: the first ones")
    n_heads: Size | None = architecture(None, "attention heads")
    ffn_size: Size | None = architecture(None, "width of the feed-forward blocks")
    conv_size: Size | None = architecture(None, "channels of the convolutional encoder")
    position_kernel: Size | None = architecture(None, "kernel of the convolutional position embedding, frames")
    position_groups: Size | None = architecture(None, "groups of the convolutional position embedding")

    @model_validator(mode="after")
    def _divides(self) -> XLSRConfig:
        for key in ("n_heads", "position_groups"):
            width, n = self.hidden_size, getattr(self, key)
            if width is not None and n is not None and width % n:
                raise ValueError(f"hidden_size {width} is not divisible by {key} {n}")
        return self


# What the sizes of XLSRConfig are where neither the config nor a file tells.
XLSR_300M = {
    "hidden_size": 1024,
    "n_layers": 24,
    "n_heads": 16,
    "ffn_size": 4096,
    "conv_size": 512,
    "position_kernel": 128,
    "position_groups": 16,
}


class LFCCConfig(FrontEnd):
    """Front end LFCC: linear frequency cepstral coefficients."""

    n_coefficients: int = architecture(20, "static coefficients; deltas and double deltas triple them", ge=1, le=65_536)
    n_filters: int = architecture(20, "linear filters", ge=1, le=65_536)
    n_fft: int = architecture(512, "points of the Fourier transform", ge=2, le=65_536)
    window_ms: float = architecture(20.0, "analysis window, ms", ge=0.1, le=4096)
    hop_ms: float = architecture(10.0, "hop between windows, ms", ge=0.1, le=4096)


class DistillMOSConfig(FrontEnd):
    """Front end DistillMOS: the encoder of a small MOS predictor."""

    freeze: bool = training(True, "true: keep the pretrained weights; false: fine-tune them")
    n_layers: int = architecture(7, "transformer layers of the encoder that are used, 1 to 7", ge=1, le=7)
    layers: Layers = architecture("last", OF_LAYERS)
    features: Features = architecture("float32", OF_FEATURES)


class HFConfig(FrontEnd):
    """Front end hf: WavLM, HuBERT, w2v-BERT 2.0, Whisper's encoder and other speech encoders of transformers."""

    weights: str | None = training(None, "folder as transformers writes it, or hub name: microsoft/wavlm-base-plus")
    freeze: bool = training(True, "true: keep the pretrained weights; false: fine-tune them")
    layers: Layers = architecture("last", OF_LAYERS)
    features: Features = architecture("float32", OF_FEATURES)
    encoder: str | None = architecture(
        None,
        "null: the encoder that the weights' folder describes; with weights null, a folder whose encoder gets random "
        "weights. A trained detector keeps the description itself here",
    )


class ConformerTCMConfig(BackEnd):
    """Back end Conformer-TCM."""

    embedding_size: int = architecture(144, "size of the embedding", ge=1, le=65_536)
    n_heads: int = architecture(4, "attention heads", ge=1, le=65_536)
    kernel_size: int = architecture(31, "kernel of the depthwise convolution, frames", ge=1, le=65_536)
    n_blocks: int = architecture(4, "conformer blocks", ge=1, le=1000)
    init: Literal["copies", "independent"] = training(
        "copies", "blocks begin as copies of one, as published, or are drawn independently"
    )

    @model_validator(mode="after")
    def _divides(self) -> ConformerTCMConfig:
        if self.embedding_size % self.n_heads:
            raise ValueError(f"embedding_size {self.embedding_size} is not divisible by n_heads {self.n_heads}")
        return self


class Nes2NetConfig(BackEnd):
    """Back end Nes2Net."""

    n_groups: int = architecture(8, "parts that the features are split into (the outer nest)", ge=1, le=65_536)
    scale: int = architecture(8, "parts of the inner Res2Net block", ge=1, le=65_536)
    dilation: int = architecture(2, "dilation of the convolutions, frames", ge=1, le=65_536)
    se_ratio: int = architecture(1, "bottleneck ratio of squeeze-excitation", ge=1, le=65_536)


class ASPConfig(BackEnd):
    """Back end ASP: attentive statistics pooling."""

    projection_size: int = architecture(256, "features after the linear projection", ge=1, le=65_536)
    attention_size: int = architecture(128, "hidden units of the attention", ge=1, le=65_536)
    embedding_size: int = architecture(144, "size of the embedding", ge=1, le=65_536)


class MeanConfig(BackEnd):
    """Back end mean: the average over time, with no weights and no settings."""


class QAMOConfig(Head):
    """Head QAMO: one centroid per quality class."""

    n_centroids: int = architecture(2, "one per quality class, lowest first; must match data.quality", ge=1, le=1001)
    radius_bonafide: float = loss(0.9, "least cosine of bona fide speech to its own centroid", ge=-1, le=1)
    radius_spoof: float = loss(0.2, "greatest cosine of spoofed speech to any centroid", ge=-1, le=1)
    alpha: float = loss(20.0, "sharpness of the softplus on both radii", gt=0, le=1e6)
    scale: float = loss(32.0, "logit scale of the quality term (the paper prints 20: --preset paper)", gt=0, le=1e6)
    margin: float = loss(0.4, "cosine margin of the quality term", ge=-2, le=2)
    quality_weight: float = loss(0.1, "weight of the quality term in the total; 0: without it", ge=0, le=1e6)
    score: Literal["mean", "softmax", "max"] = scoring(
        "mean", "score from the cosines: mean (the code), softmax (the paper, equations 7 and 8), max (equation 6)"
    )

    @model_validator(mode="after")
    def _radii(self) -> QAMOConfig:
        return _ordered_radii(self)


class OCSoftmaxConfig(Head):
    """Head OC-Softmax: one centroid for all bona fide speech."""

    radius_bonafide: float = loss(0.9, "least cosine of bona fide speech to the centroid", ge=-1, le=1)
    radius_spoof: float = loss(0.2, "greatest cosine of spoofed speech to the centroid", ge=-1, le=1)
    alpha: float = loss(20.0, "sharpness of the softplus on both radii", gt=0, le=1e6)

    @model_validator(mode="after")
    def _radii(self) -> OCSoftmaxConfig:
        return _ordered_radii(self)


class WCEConfig(Head):
    """Head WCE: weighted cross-entropy over two classes."""

    weight_spoof: float = loss(0.1, "weight of a spoofed utterance", ge=0, le=1e6)
    weight_bonafide: float = loss(0.9, "weight of a bona fide utterance", ge=0, le=1e6)
    quality_weight: float = loss(
        0.0, "above 0: WCE plus the quality term of QAMO, with centroids of its own (an ablation)", ge=0, le=1e6
    )
    n_centroids: int = architecture(2, "one per quality class; read where quality_weight is above 0", ge=1, le=1001)
    scale: float = loss(32.0, "logit scale of the quality term", gt=0, le=1e6)
    margin: float = loss(0.4, "cosine margin of the quality term", ge=-2, le=2)


def _ordered_radii(section: Any) -> Any:
    if not -1 <= section.radius_spoof < section.radius_bonafide <= 1:
        raise ValueError(
            "need -1 <= radius_spoof < radius_bonafide <= 1, "
            f"found radius_spoof {section.radius_spoof}, radius_bonafide {section.radius_bonafide}"
        )
    return section


KINDS: dict[str, type[Section]] = {"frontend": FrontEnd, "backend": BackEnd, "head": Head}


class ModelConfig(Section):
    """The detector: which front end, back end and head, and the settings of each."""

    frontend: str = architecture("xlsr", "recording to features")
    backend: str = architecture("conformer_tcm", "features to embedding")
    head: str = architecture("qamo", "embedding to score, and the loss")
    xlsr: XLSRConfig = XLSRConfig()
    lfcc: LFCCConfig = LFCCConfig()
    distillmos: DistillMOSConfig = DistillMOSConfig()
    hf: HFConfig = HFConfig()
    conformer_tcm: ConformerTCMConfig = ConformerTCMConfig()
    nes2net: Nes2NetConfig = Nes2NetConfig()
    asp: ASPConfig = ASPConfig()
    mean: MeanConfig = MeanConfig()
    qamo: QAMOConfig = QAMOConfig()
    oc_softmax: OCSoftmaxConfig = OCSoftmaxConfig()
    wce: WCEConfig = WCEConfig()

    @classmethod
    def choices(cls, part: str) -> list[str]:
        """The names that "frontend", "backend" or "head" may take: those of the sections of its kind."""
        sections = {name: f.annotation for name, f in cls.model_fields.items() if is_section(f.annotation)}
        return [name for name, section in sections.items() if issubclass(section, KINDS[part])]

    @classmethod
    def sentence(cls, name: str) -> str:
        sentence = super().sentence(name)
        return f"{', '.join(cls.choices(name))}: {sentence}" if name in KINDS else sentence

    @field_validator("frontend", "backend", "head")
    @classmethod
    def _has_a_section(cls, value: str, info: Any) -> str:
        known = cls.choices(info.field_name)
        if value not in known:
            raise ValueError(f"expected {' or '.join(known)}, found {value!r}")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        schema = handler(core_schema)  # for editors: the names that fit
        for part in KINDS:
            handler.resolve_ref_schema(schema)["properties"][part]["enum"] = cls.choices(part)
        return schema

    @property
    def reads_quality(self) -> bool:
        """Whether the head's loss looks at quality classes; one of a kind unknown here is taken to."""
        return self.head != "oc_softmax" and not (self.head == "wce" and self.wce.quality_weight == 0)
