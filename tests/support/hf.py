"""Tiny speech encoders of each kind, as transformers makes and writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

WIDTH, N_LAYERS = 32, 3

_SIZES = {"hidden_size": WIDTH, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
_CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
_LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
_WHISPER = {
    "d_model": WIDTH,
    "encoder_layers": N_LAYERS,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "vocab_size": 100,
    "max_source_positions": 100,
    "pad_token_id": 1,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "decoder_start_token_id": 1,
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
}
_BERT = {**_SIZES, "position_embeddings_type": "relative_key", "feature_projection_input_dim": 160}

# Name in the tests -> (class of the network that is saved, settings beside its defaults, its feature extractor's).
ENCODERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2ForPreTraining", {**_SIZES, **_CONVOLUTIONS}, {"do_normalize": True}),
    "wav2vec2 large": ("Wav2Vec2Model", {**_SIZES, **_CONVOLUTIONS, **_LARGE}, {"do_normalize": True}),
    "hubert": ("HubertModel", {**_SIZES, **_CONVOLUTIONS}, {"do_normalize": True}),
    "hubert large": ("HubertForCTC", {**_SIZES, **_CONVOLUTIONS, **_LARGE}, {"do_normalize": True}),
    "wavlm": ("WavLMModel", {**_SIZES, **_CONVOLUTIONS}, {"do_normalize": False}),
    "wavlm large": ("WavLMModel", {**_SIZES, **_CONVOLUTIONS, **_LARGE}, {"do_normalize": True}),
    "unispeech": ("UniSpeechModel", {**_SIZES, **_CONVOLUTIONS}, {"do_normalize": False}),
    "unispeech-sat": ("UniSpeechSatModel", {**_SIZES, **_CONVOLUTIONS}, {"do_normalize": False}),
    "unispeech-sat large": ("UniSpeechSatModel", {**_SIZES, **_CONVOLUTIONS, **_LARGE}, {"do_normalize": True}),
    "data2vec-audio": ("Data2VecAudioModel", {**_SIZES, **_CONVOLUTIONS}, {"do_normalize": True}),
    "wav2vec2-bert": ("Wav2Vec2BertModel", _BERT, {}),
    "wav2vec2-bert relative": ("Wav2Vec2BertModel", {**_BERT, "position_embeddings_type": "relative"}, {}),
    "wav2vec2-bert rotary": ("Wav2Vec2BertModel", {**_BERT, "position_embeddings_type": "rotary"}, {}),
    "whisper": ("WhisperForConditionalGeneration", _WHISPER, {"chunk_length": 2}),
    "whisper model": ("WhisperModel", _WHISPER, {"chunk_length": 2}),
}


def network_of(name: str) -> Any:
    """The network of a kind with random weights, in evaluation mode."""
    cls, settings, _ = ENCODERS[name]
    made: Any = getattr(transformers, cls)
    torch.manual_seed(0)
    network = made(made.config_class(**settings)).eval()
    with torch.no_grad():  # fresh biases and norms are 0 and 1, which would hide a swap
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def extractor_of(name: str) -> Any:
    kind = name.partition(" ")[0]
    cls = {"whisper": "WhisperFeatureExtractor", "wav2vec2-bert": "SeamlessM4TFeatureExtractor"}
    return getattr(transformers, cls.get(kind, "Wav2Vec2FeatureExtractor"))(**ENCODERS[name][2])


def encoder_of(network: Any) -> Any:
    """Of a network that was saved, the part that is an encoder of speech."""
    base = network.base_model
    return base.encoder if isinstance(base, transformers.WhisperModel) else base


def saved(name: str, folder: Path) -> Path:
    """A folder of a kind, as transformers writes it."""
    network_of(name).save_pretrained(folder)
    extractor_of(name).save_pretrained(folder)
    return folder


def description(name: str) -> str:
    """What a detector keeps of the encoder of a kind: model.hf.encoder."""
    cls, settings, _ = ENCODERS[name]
    config = getattr(transformers, cls).config_class(**settings).to_dict()
    return json.dumps({"config": config, "preprocessor": json.loads(extractor_of(name).to_json_string())})
