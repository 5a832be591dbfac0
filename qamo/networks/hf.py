"""Front end `hf`: speech encoders of Hugging Face's transformers, by folder or hub name, with input as each expects it.

    wav2vec2, hubert, wavlm, unispeech, unispeech-sat, data2vec-audio    waves, normalised where their folder says so
    wav2vec2-bert                                                       Kaldi's log-mel, two frames side by side
    whisper                                                             log-mel of 30 s; the encoder alone is kept

Settings come from the folder's config.json and preprocessor_config.json. No code of a folder is run, and weights are
read as safetensors, or as PyTorch files without what pickles can ask for.

Shapes: B utterances, T samples at 16 kHz, F frames, L layers, W width of the encoder, D features.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qamo import InputError, hub
from qamo.audio import SAMPLE_RATE
from qamo.command import first_line
from qamo.files import read_json
from qamo.networks.hf_inputs import KINDS, Inputs
from qamo.networks.layers import Layered, hidden_states
from qamo.networks.weights import check_finite, first_of
from qamo.networks.xlsr_files import FOLDER_FILES, fetched_folder

log = logging.getLogger(__name__)

PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")  # the first that is there counts
LEFT_OUT = ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "quantization_config")
MASK = "masked_spec_embed"  # a weight that only training with masks reads


class HF(Layered):
    """A speech encoder of transformers: (B, T) -> (B, F, D), its last hidden state, or others.

    Nothing in it is random: dropouts, layer drop and masking of its folder are for other trainings, and off. Layers
    above the highest that is asked for are neither read nor computed.

    Args:
        weights: a folder as transformers writes it, a hub name, or None: random weights.
        encoder: what describes the encoder: None, the folder of the weights; another folder; or `sizes["encoder"]`,
            the text that a detector keeps, so that it loads without the folder.
        freeze: train none of it.
        layers: last, weighted, or numbers of hidden states (`qamo.networks.layers`).
        features: float32, or float16, to which they are rounded.
        uninitialized: leave the weights as memory holds them; a strict load must follow.

    Raises:
        InputError: the folder is missing or incomplete, of another kind, or for another sampling rate; weights are
            missing in it or do not fit; the encoder has fewer layers.
    """

    mixed = True

    def __init__(
        self,
        *,
        weights: str | None,
        encoder: str | None,
        freeze: bool,
        layers: str | Sequence[int] = "last",
        features: str = "float32",
        uninitialized: bool = False,
    ):
        super().__init__()
        self.frozen = freeze
        folder = _local(weights) if weights else None
        text, where = _description(encoder, folder)
        self.sizes = {"encoder": text}
        config, self.inputs = _understood(text, where)
        n_layers = config.num_hidden_layers
        n_kept = self.choose(layers, n_layers, config.hidden_size, features, "model.hf")
        config.num_hidden_layers = n_kept
        if folder:
            self.transformer = _pretrained(config, folder, f"model.hf.weights {weights}")
        else:
            self.transformer = _random(config, where, filled=not uninitialized)
        if n_kept < n_layers and (config.model_type == "whisper" or getattr(config, "do_stable_layer_norm", False)):
            getattr(self.transformer, "encoder", self.transformer).layer_norm = nn.Identity()  # closes the last layer
        if hasattr(self.transformer, MASK):
            setattr(self.transformer, MASK, None)
        if freeze:
            self.transformer.requires_grad_(False)
        self.train(self.training)

    @property
    def longest(self) -> int | None:
        """Samples of the longest wave that it takes."""
        return self.inputs.longest

    def train(self, mode: bool = True) -> HF:
        return super().train(mode and not self.frozen)

    def encoded(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, F, W), or (B, F, L, W) where layers are chosen."""
        n_samples, longest = wave.shape[1], self.inputs.longest
        if n_samples < self.inputs.shortest or (longest is not None and n_samples > longest):
            span = f"{self.inputs.shortest} to {longest}" if longest else f"at least {self.inputs.shortest}"
            raise InputError(
                f"expected waves of {span} samples, which this encoder takes, found {n_samples}; "
                "change data.window_samples"
            )
        with torch.autocast(wave.device.type, enabled=False):
            x = self.inputs(wave.float())
        return hidden_states(self.transformer, x, self.at)[:, : self.inputs.n_frames(n_samples)]


# ---- what a folder says


def _local(weights: str) -> Path:
    """The folder that `weights` names, fetched where it is a hub name, with weights in it."""
    folder = Path(weights).expanduser()
    if hub.is_name(weights):
        try:
            return fetched_folder(weights, PREPROCESSORS)
        except InputError as error:
            raise InputError(f"model.hf.weights {error}") from None
    if not folder.is_dir():
        raise InputError(
            f"model.hf.weights {folder}: no such folder; expected one that transformers wrote, or a hub name"
        )
    if (folder / "config.json").is_file() and not any((folder / name).is_file() for name in FOLDER_FILES):
        raise InputError(
            f"model.hf.weights {folder}: holds no {FOLDER_FILES[0]}; copy or download it too, or, for random weights, "
            "set model.hf.weights to null and model.hf.encoder to this folder"
        )
    return folder


def _description(encoder: str | None, folder: Path | None) -> tuple[str, object]:
    """The description of the encoder, and where it is from."""
    if encoder and encoder.startswith("{"):
        return encoder, "model.hf.encoder"
    described = Path(encoder).expanduser() if encoder else folder
    if described is None:
        raise InputError(
            "model.hf.weights: expected a folder or hub name of a speech encoder, such as microsoft/wavlm-base-plus"
        )
    return _described(described), described


def _described(folder: Path) -> str:
    """What a folder says of its encoder and of the input that it expects, as JSON."""
    where = folder / "config.json"
    if not where.is_file():
        raise InputError(f"model.hf: {folder}: expected a folder that transformers wrote, found no config.json in it")
    settings = read_json(where, dict)
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where}: model_type {kind}: expected a speech encoder: {', '.join(KINDS)}")
    for key in ("add_adapter", "use_intermediate_ffn_before_adapter"):
        if settings.get(key):
            raise InputError(f"{where}: {key}: an adapter after the last layer is not read; take an encoder without")
    if kind == "wav2vec2" and settings.get("do_stable_layer_norm"):
        log.info("%s: wav2vec 2.0 of the XLS-R kind, which the front end xlsr computes faster on a CPU", folder)
    about = {key: value for key, value in settings.items() if key not in LEFT_OUT}
    return json.dumps({"config": about, "preprocessor": _preprocessor(folder, kind)}, sort_keys=True)


def _preprocessor(folder: Path, kind: str) -> dict[str, Any]:
    from transformers import AutoFeatureExtractor

    where, expected = folder / PREPROCESSORS[0], KINDS[kind].extractor
    if not any((folder / name).is_file() for name in PREPROCESSORS):
        raise InputError(f"{where}: no such file; it says what input the encoder expects: copy or download it too")
    try:
        extractor = AutoFeatureExtractor.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # a file of others can be wrong in any way
        _refuse(where, error)
    if type(extractor).__name__ != expected:
        raise InputError(f"{where}: expected {expected}, which {kind} takes, found {type(extractor).__name__}")
    if extractor.sampling_rate != SAMPLE_RATE:
        raise InputError(
            f"{where}: sampling_rate {extractor.sampling_rate}: recordings are read at {SAMPLE_RATE} Hz; take an "
            "encoder for that rate"
        )
    return json.loads(extractor.to_json_string())


def _understood(text: str, where: object) -> tuple[Any, Inputs]:
    """Of a description: transformers' config, with all that is random off, and what makes the encoder's input."""
    import transformers

    try:
        about = json.loads(text)
        inputs = KINDS[about["config"]["model_type"]]
        config = transformers.AutoConfig.for_model(**about["config"])
        for key, value in config.to_dict().items():
            if isinstance(value, float) and "drop" in key:
                setattr(config, key, 0.0)
        config.apply_spec_augment, config.mask_time_prob, config.mask_feature_prob = False, 0.0, 0.0
        extractor = getattr(transformers, inputs.extractor).from_dict(about["preprocessor"])
        return config, inputs(config, extractor)
    except Exception as error:  # as above
        _refuse(where, error)


# ---- the network


def _random(config: Any, where: object, *, filled: bool) -> Any:
    """The encoder with random weights, or with what memory holds."""
    from transformers import AutoModel
    from transformers.initialization import no_init_weights
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    try:
        with contextlib.nullcontext() if filled else no_init_weights():
            return WhisperEncoder(config) if config.model_type == "whisper" else AutoModel.from_config(config)
    except Exception as error:  # as above
        _refuse(where, error)


def _pretrained(config: Any, folder: Path, where: str) -> Any:
    """The encoder with its weights out of a folder, which may hold more: a decoder, heads, layers above."""
    from transformers import AutoModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    make: Any = AutoModel
    more: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, "trust_remote_code": False}
    if config.model_type == "whisper":
        make, more["key_mapping"] = WhisperEncoder, {r"^(model\.)?encoder\.": ""}
    try:
        with _quiet():
            network, found = make.from_pretrained(str(folder), config=config, **more)
    except Exception as error:  # as above
        _refuse(where, error)
    if missing := sorted(found["missing_keys"] - {MASK}):
        raise InputError(f"{where}: the weights do not fit the encoder ({len(missing)} missing: {first_of(missing)})")
    check_finite(network.state_dict(), where)
    return network


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bar, and without its list of weights that are not read."""
    from transformers.utils import logging as of_transformers

    level, bar = of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        of_transformers.set_verbosity(level)
        if bar:
            of_transformers.enable_progress_bar()


def _refuse(where: object, error: Exception) -> NoReturn:
    raise InputError(f"{where}: transformers cannot make an encoder of it ({first_line(error)})") from None
