"""The detector: its parts meet, it trains, and a checkpoint alone brings it back."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import model
from qamo import InputError
from qamo.config.parts import ModelConfig
from qamo.training.checkpoint import read_checkpoint, write_checkpoint, write_exported
from tests.support.detectors import TINY_XLSR, config


def tree(frontend="lfcc", backend="conformer_tcm", head="qamo", **more):
    sizes = {"conformer_tcm": {"embedding_size": 24, "n_blocks": 1}, "nes2net": {"n_groups": 5, "scale": 4}}
    return {"frontend": frontend, "backend": backend, "head": head, "xlsr": TINY_XLSR, **sizes, **more}


def build(**choice):
    torch.manual_seed(0)
    return model.build_detector(ModelConfig.model_validate(tree(**choice)))


WAVE = torch.randn(4, 6000, generator=torch.Generator().manual_seed(0)) / 10
BONAFIDE = torch.tensor([True, True, False, False])
QUALITY = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("head", model.HEADS)
@pytest.mark.parametrize(
    ("frontend", "backend"),
    [
        pair for pair in product(["xlsr", "lfcc"], model.BACKENDS) if pair != ("lfcc", "mean")
    ],  # no weights but the head's
)
def test_every_combination_of_parts_learns_a_batch(frontend, backend, head):
    nes2net = {"n_groups": 4 if frontend == "xlsr" else 5, "scale": 4}
    detect = build(frontend=frontend, backend=backend, head=head, nes2net=nes2net).train()
    optimizer = torch.optim.Adam(detect.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = detect(WAVE, BONAFIDE, QUALITY)
        losses.append(output.losses["total"].item())
        optimizer.zero_grad()
        output.losses["total"].backward()
        assert [n for n, p in detect.named_parameters() if p.requires_grad and p.grad is None] == []
        optimizer.step()
    assert output.score.shape == (4,)
    assert losses[-1] < 0.7 * losses[0]
    assert output.score[BONAFIDE].mean() > output.score[~BONAFIDE].mean()  # higher is bona fide


def test_a_scored_batch_has_no_losses_and_a_dev_batch_no_quality_term():
    detect = build().eval()
    assert detect(WAVE).losses is None
    assert set(detect(WAVE, BONAFIDE).losses) == {"total", "one_class"}
    assert set(detect(WAVE, BONAFIDE, QUALITY).losses) == {"total", "one_class", "quality"}


def test_a_feature_cache_stands_in_for_the_front_end():
    detect = build().eval()
    calls = []

    def cache(frontend, wave):
        calls.append(len(wave))
        return 2 * frontend(wave)

    before = detect(WAVE).score
    detect.feature_cache = cache
    assert not torch.equal(detect(WAVE).score, before)
    assert calls == [4]


def test_batches_of_all_processes_are_gathered_in_training_only():
    detect = build()
    calls = []

    def gather(features, bonafide, quality):
        calls.append(len(features))
        return torch.cat([features, features]), torch.cat([bonafide] * 2), torch.cat([quality] * 2)

    detect.gather = gather
    assert detect.train()(WAVE, BONAFIDE, QUALITY).embedding.shape[0] == 8
    detect.train()(WAVE)
    detect.eval()(WAVE, BONAFIDE, QUALITY)
    assert calls == [4]


@pytest.mark.parametrize("form", ["file", "run", "exported"])
@pytest.mark.parametrize("frontend", ["xlsr", "lfcc"])
def test_a_detector_comes_back_from_its_checkpoint_alone(tmp_path, frontend, form):
    detect = build(frontend=frontend).train()
    detect(WAVE)  # moves the batch norms off their start
    detect.eval()
    cfg = detect.config
    if frontend == "xlsr":  # a file that is long gone must not be looked for
        cfg = {**cfg, "xlsr": {**cfg["xlsr"], "weights": "gone/xlsr2_300m.pt"}}
    path = tmp_path / "model.pt"
    if form == "exported":
        path = tmp_path
        write_exported(path, model_state=detect.state_dict(), model_config=cfg)
    else:
        write_checkpoint(path, model_state=detect.state_dict(), model_config=cfg, epoch=3)
    loaded = model.load_detector(tmp_path if form == "run" else path)
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(WAVE).score, detect(WAVE).score)


def test_no_weight_of_a_loaded_detector_is_left_as_memory_held_it(tmp_path):
    """Loading skips the drawing of weights, so a tensor outside the state dict would be garbage."""
    detect = build(frontend="xlsr")
    write_checkpoint(tmp_path / "a.pt", model_state=detect.state_dict(), model_config=detect.config)
    loaded = model.load_detector(tmp_path / "a.pt")
    for name, buffer in detect.named_buffers():
        assert torch.equal(buffer, loaded.get_buffer(name)), name


def test_without_pretraining_the_front_ends_file_need_not_exist():
    cfg = ModelConfig.model_validate(tree("xlsr") | {"xlsr": {**TINY_XLSR, "weights": "gone.pt"}})
    with pytest.raises(InputError, match=r"gone\.pt: no such file"):
        model.build_detector(cfg)
    assert model.build_detector(cfg, pretrained=False)(WAVE).score.shape == (4,)


def test_paths_without_a_detector(tmp_path):
    with pytest.raises(InputError, match=r"expected a run with model\.pt, or an exported folder"):
        model.load_detector(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        model.load_detector(tmp_path / "none.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="expected a checkpoint of this program"):
        model.load_detector(tmp_path / "a.pt")


def test_a_checkpoint_whose_settings_this_version_does_not_know(tmp_path):
    detect = build()
    write_checkpoint(tmp_path / "a.pt", model_state=detect.state_dict(), model_config={**detect.config, "colour": 1})
    with pytest.raises(InputError, match=r"a\.pt: its model_config\.colour is not known"):
        model.load_detector(tmp_path / "a.pt")


def test_a_checkpoint_whose_weights_and_settings_disagree(tmp_path):
    detect = build()
    other = tree() | {"conformer_tcm": {"embedding_size": 48, "n_blocks": 1}}
    write_checkpoint(tmp_path / "a.pt", model_state=detect.state_dict(), model_config=other)
    with pytest.raises(InputError, match=r"a\.pt: the weights do not fit the network .*misshapen"):
        model.load_detector(tmp_path / "a.pt")


def test_a_checkpoint_with_another_head_than_asked_for_is_told(tmp_path):
    detect = build()
    write_checkpoint(tmp_path / "a.pt", model_state=detect.state_dict(), model_config=detect.config)
    with pytest.raises(InputError, match=r"model.head: .*a.pt was trained with qamo, wce was asked for"):
        model.load_detector(tmp_path / "a.pt", ModelConfig.model_validate(tree(head="wce")))


def test_a_new_part_takes_one_line_in_a_dict(monkeypatch):
    class Mean(torch.nn.Module):
        def __init__(self, input_dim, **settings):
            super().__init__()
            self.dim = input_dim

        def forward(self, features):
            return features.mean(dim=1)

    monkeypatch.setitem(model.BACKENDS, "nes2net", Mean)
    assert build(backend="nes2net")(WAVE).embedding.shape == (4, 60)


def test_every_config_section_names_the_arguments_of_its_part():
    cfg = config("nes2net")
    for parts in (model.FRONTENDS, model.BACKENDS, model.HEADS):
        for name in parts:
            assert hasattr(cfg, name), f"qamo/config/schema.py has no section model.{name}"


def test_the_schema_for_editors_has_the_names_of_the_parts():
    parts = {"frontend": model.FRONTENDS, "backend": model.BACKENDS, "head": model.HEADS}
    described = ModelConfig.model_json_schema()["properties"]
    assert {part: described[part]["enum"] for part in parts} == {part: list(known) for part, known in parts.items()}


def test_the_checkpoint_says_what_a_score_means(tmp_path):
    detect = build()
    write_checkpoint(tmp_path / "a.pt", model_state=detect.state_dict(), model_config=detect.config)
    assert read_checkpoint(tmp_path / "a.pt")["convention"] == "bonafide=1, higher=bona fide"
