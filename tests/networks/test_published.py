"""Names of other programs: one to one, complete, there and back; published checkpoints of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import model
from qamo import InputError
from qamo.config.parts import ModelConfig
from qamo.networks.published import from_published, published_names, to_published
from qamo.networks.xlsr_files import attention_heads, read_fairseq
from tests.support.detectors import BACKENDS, config, detector
from tests.support.xlsr import with_two_logits, xlsr

GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens" / "reference"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the golden figures are not beside this checkout")


def full_size(backend):
    with torch.device("meta"):  # names and shapes only: nothing is allocated
        return model.build_detector(ModelConfig.model_validate({"backend": backend}), pretrained=False)


@needs_goldens
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_published_weight_has_one_name_of_ours_and_the_reverse(backend):
    theirs = {}
    for line in (GOLDENS / f"keys_{backend}_full.txt").read_text().splitlines():
        name, shape, dtype, _ = line.split("\t")
        theirs[name] = (shape, dtype)
    state = full_size(backend).state_dict()
    names = published_names(state, backend)
    for name, ours in names.items():
        print(f"{name:70} {ours}")
    assert len(names) == len(state)  # no two of ours share a published name
    assert set(names.values()) == set(state)
    written = to_published(state, backend)
    found = {name: (str(tuple(t.shape)), str(t.dtype).removeprefix("torch.")) for name, t in written.items()}
    assert found == theirs


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_names_are_a_bijection_without_the_goldens_too(backend):
    state = full_size(backend).state_dict()
    names = published_names(state, backend)
    assert len(names) == len(state)
    assert not any(name.startswith(("backend.", "frontend.", "head.")) for name in names)


@needs_goldens
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_published_file_goes_in_and_out_unchanged(backend):
    original = torch.load(GOLDENS / f"tiny_{backend}.pth", weights_only=True)
    state, found = from_published(original, Path("x"), n_heads=4)
    pretraining = read_fairseq(GOLDENS / "tiny_xlsr.pt")
    written = to_published(state, backend, pretraining=pretraining)
    assert {n: (t.shape, t.dtype) for n, t in written.items()} == {n: (t.shape, t.dtype) for n, t in original.items()}
    assert all(torch.equal(written[name], tensor) for name, tensor in original.items())
    assert found["head"] == "qamo"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_detector_written_in_published_names_loads_equal(tmp_path, backend, prefix):
    detect = detector(backend)
    state = to_published(detect.state_dict(), backend)
    torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "best.pth")
    loaded = model.load_detector(tmp_path / "best.pth", config(backend))
    wave = torch.randn(2, 4000)
    with torch.inference_mode():
        assert torch.equal(loaded(wave).score, detect(wave).score)
    assert loaded.config["xlsr"]["weights"] is None
    assert loaded.config[backend] == detect.config[backend]
    assert loaded.config["xlsr"] == detect.config["xlsr"]


def test_centroids_kept_apart_in_a_numpy_file_are_found(tmp_path):
    detect = detector("nes2net")
    state = to_published(detect.state_dict(), "nes2net")
    center = state.pop("ocsoftmax.center")
    torch.save(state, tmp_path / "best.pth")
    with pytest.raises(InputError, match=r"expected centroids \(ocsoftmax.center, or oc_center.npy beside the file\)"):
        model.load_detector(tmp_path / "best.pth", config("nes2net"))
    np.save(tmp_path / "oc_center.npy", center.numpy())
    loaded = model.load_detector(tmp_path / "best.pth", config("nes2net"))
    assert torch.equal(loaded.head.centroids, detect.head.centroids)


@pytest.mark.parametrize("content", [b"<html>", b"", b"\x93NUMPY"])
def test_a_damaged_centroid_file_is_named(tmp_path, content):
    state = to_published(detector("nes2net").state_dict(), "nes2net")
    torch.save(state, tmp_path / "best.pth")
    (tmp_path / "oc_center.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"oc_center\.npy: not an array"):
        model.load_detector(tmp_path / "best.pth", config("nes2net"))


@pytest.mark.parametrize("layer", ["conformer.fc5", "fc", "conformer.classifier.out"])
def test_the_parent_projects_detector_scores_by_its_bona_fide_logit(tmp_path, layer):
    """Same body, a linear layer of two logits (spoof, bona fide) in place of the centroids, whatever its name."""
    detect = detector("conformer_tcm", head="wce")
    body = detector("conformer_tcm")
    state = to_published(body.state_dict(), "conformer_tcm")
    del state["ocsoftmax.center"]
    weight, bias = torch.randn(2, 24), torch.randn(2)
    state |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    torch.save(state, tmp_path / "tcm.pth")
    loaded = model.load_detector(tmp_path / "tcm.pth", config("conformer_tcm", head="wce"))
    wave = torch.randn(2, 4000)
    with torch.inference_mode():
        expected = body(wave).embedding @ weight.T + bias
        torch.testing.assert_close(loaded(wave).score, expected[:, 1])
    assert type(loaded.head) is type(detect.head)


def test_one_centroid_is_the_head_of_oc_softmax(tmp_path):
    detect = detector("nes2net", head="oc_softmax")
    torch.save(to_published(detect.state_dict(), "nes2net"), tmp_path / "best.pth")
    loaded = model.load_detector(tmp_path / "best.pth", config("nes2net", head="oc_softmax"))
    assert loaded.config["head"] == "oc_softmax"


def published(backend="nes2net"):
    return to_published(detector(backend).state_dict(), backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("Nested_Res2Net_TDNN.bn.weight"), "expected a back end of Conformer-TCM"),
        (lambda s: s.pop("Nested_Res2Net_TDNN.bn.bias"), "1 missing: backend.norm.bias"),
        (lambda s: s.pop("ssl_model.model.encoder.layers.1.fc1.bias"), "1 missing: frontend.network.encoder.layers.1"),
        (lambda s: s.update({"extra.weight": torch.ones(3)}), "found ocsoftmax.center, extra.weight"),
        (lambda s: s["ocsoftmax.center"].fill_(float("nan")), "of ocsoftmax.center are not finite"),
    ],
)
def test_published_files_that_do_not_fit_are_told(tmp_path, change, message):
    state = {name: tensor.clone() for name, tensor in published().items()}
    change(state)
    torch.save(state, tmp_path / "best.pth")
    with pytest.raises(InputError, match=message) as caught:
        model.load_detector(tmp_path / "best.pth", config("nes2net"))
    assert "best.pth" in str(caught.value)


def test_a_checkpoint_of_another_back_end_is_told(tmp_path):
    torch.save(published(), tmp_path / "best.pth")
    with pytest.raises(InputError, match=r"model\.backend: .*best\.pth was trained with nes2net, conformer_tcm"):
        model.load_detector(tmp_path / "best.pth", config("conformer_tcm"))


def test_attention_heads_that_no_weight_tells_are_asked_for(tmp_path):
    torch.save(published(), tmp_path / "best.pth")
    with pytest.raises(InputError, match=r"width 64, which is not a published one; give them: --n-heads"):
        model.load_detector(tmp_path / "best.pth")


def test_heads_of_the_published_width_are_known():
    state = {"feature_projection.projection.weight": torch.empty(1024, 512, device="meta")}
    assert attention_heads(state, None, "x") == 16


def test_a_head_without_centroids_has_no_place_in_a_published_file():
    with pytest.raises(InputError, match="a head of centroids; this detector differs"):
        to_published(detector("nes2net", head="wce").state_dict(), "nes2net")


def epochs_of(folder: Path, n: int) -> list[dict]:
    """Epochs of the published code in `folder`, each with weights of its own."""
    folder.mkdir()
    states = []
    for i in range(n):
        state = {name: tensor.clone() for name, tensor in published("nes2net").items()}
        for name, tensor in state.items():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(i)))
            state[name] = tensor + i if name.endswith("num_batches_tracked") else tensor
        torch.save(state, folder / f"best_{i}.pth")
        states.append(state)
    return states


WEIGHTS = {  # of b0 (best) to b4 in the average, in fifths
    ("mean", 5): [1, 1, 1, 1, 1],
    ("reference", 5): [0, 2, 1, 1, 1],
    ("none", 5): [5, 0, 0, 0, 0],
    ("mean", 2): [2.5, 2.5, 0, 0, 0],
}


@pytest.mark.parametrize(("how", "n"), WEIGHTS)
def test_the_authors_epochs_are_averaged_as_asked(tmp_path, how, n):
    states = epochs_of(tmp_path / "best", 5)
    expected = {
        name: sum(weight / 5 * state[name].double() for weight, state in zip(WEIGHTS[how, n], states)).float()
        for name, tensor in states[0].items()
        if tensor.is_floating_point()
    }
    for given in (tmp_path / "best", tmp_path):
        loaded = model.load_detector(given, config("nes2net"), average=how, n_average=n)
        found = to_published(loaded.state_dict(), "nes2net")
        for name, tensor in expected.items():
            if name in found and not name.startswith(PRETRAINING_ONLY):
                torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-6)
    with torch.inference_mode():
        assert torch.isfinite(loaded(torch.randn(2, 4000)).score).all()


PRETRAINING_ONLY = tuple(f"ssl_model.model.{name}" for name in ("mask_emb", "quantizer", "project_q", "final_proj"))


def test_centroids_a_folder_up_belong_to_the_authors_epochs(tmp_path):
    states = epochs_of(tmp_path / "best", 2)
    for i, state in enumerate(states):
        del state["ocsoftmax.center"]
        torch.save(state, tmp_path / "best" / f"best_{i}.pth")
    center = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    np.save(tmp_path / "oc_center.npy", center)
    loaded = model.load_detector(tmp_path / "best", config("nes2net"))
    assert np.array_equal(loaded.head.centroids.detach().numpy(), center)


def test_a_folder_of_epochs_with_a_foreign_or_a_differing_file_is_told(tmp_path):
    states = epochs_of(tmp_path / "best", 3)
    del states[2]["ocsoftmax.center"]
    torch.save(states[2], tmp_path / "best" / "best_2.pth")
    with pytest.raises(InputError, match=r"best_2\.pth: holds another network than .*best_0\.pth"):
        model.load_detector(tmp_path / "best", config("nes2net"))
    torch.save({"a": torch.ones(2)}, tmp_path / "best" / "best_2.pth")
    with pytest.raises(InputError, match=r"best_2\.pth: expected a checkpoint of the published code"):
        model.load_detector(tmp_path / "best", config("nes2net"))


MEAN_NAMES = [("front.network.", "classify"), ("m.0.ssl.", "m.1.linear"), ("module.encoder.", "module.out")]


@pytest.mark.parametrize(("prefix", "layer"), MEAN_NAMES)
@pytest.mark.parametrize("name", ["x.ckpt", "model.safetensors"])
def test_a_network_with_two_logits_over_its_mean_is_read_by_its_form(tmp_path, prefix, layer, name):
    frontend = xlsr(normalize_input="utterance").eval()
    linear = torch.nn.Linear(frontend.dim, 2)
    state = with_two_logits(frontend.network, linear, prefix, layer)
    if name == "x.ckpt":
        torch.save({"state_dict": state}, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    loaded = model.load_detector(tmp_path / name, ModelConfig(backend="mean", head="wce", xlsr={"n_heads": 4}))
    wave = 0.1 * torch.randn(2, 4000) + 0.05
    with torch.inference_mode():
        torch.testing.assert_close(loaded(wave).score, linear(frontend(wave).mean(dim=1))[:, 1])


@pytest.mark.parametrize(
    "more",
    [{"classify.weight": torch.ones(3, 32), "classify.bias": torch.ones(3)}, {"other.weight": torch.ones(2, 32)}],
)
def test_a_network_with_more_or_other_than_two_logits_is_refused(tmp_path, more):
    state = with_two_logits(xlsr().network, torch.nn.Linear(32, 2), "front.", "classify")
    torch.save(state | more, tmp_path / "x.ckpt")
    with pytest.raises(
        InputError, match=r"a wav2vec 2\.0 network with a linear layer of two logits, found a dict with"
    ):
        model.load_detector(tmp_path / "x.ckpt")


@pytest.mark.parametrize("backend", ["mean", "asp"])
def test_a_back_end_that_the_published_code_lacks_is_not_written_in_its_form(backend):
    with pytest.raises(InputError, match="a back end conformer_tcm or nes2net and a head of centroids"):
        to_published(detector(backend).state_dict(), backend)
