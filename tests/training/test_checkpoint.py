"""Checkpoints survive a round trip, average right, and never run what a file asks to run."""

from __future__ import annotations

import os
import pickle
import random
import stat
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from qamo import InputError
from qamo.networks.weights import SETTINGS_CLASSES, Shell, check_finite, load_strictly, plain, read_torch
from qamo.training.checkpoint import average, read_checkpoint, read_exported, write_checkpoint, write_exported


def state(value=1.0, count=3):
    return {
        "layer.weight": torch.full((2, 3), value),
        "norm.num_batches_tracked": torch.tensor(count),
        "half": torch.full((2,), value, dtype=torch.bfloat16),
    }


def write(path, weights=None, **more):
    write_checkpoint(path, model_state=state() if weights is None else weights, model_config={"backend": "x"}, **more)
    return path


def test_a_checkpoint_reads_back_equal_with_what_its_writer_added(tmp_path):
    content = read_checkpoint(write(tmp_path / "a.pt", epoch=4, train_state={"best": [(0.5, "e.pt")]}))
    assert content["epoch"] == 4
    assert content["train_state"] == {"best": [(0.5, "e.pt")]}
    assert content["convention"] == "bonafide=1, higher=bona fide"
    for name, tensor in state().items():
        assert torch.equal(content["model"][name], tensor)
        assert content["model"][name].dtype == tensor.dtype


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = write(tmp_path / "a.pt", epoch=1)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        write(path, epoch=lambda: 2)
    assert read_checkpoint(path)["epoch"] == 1
    assert os.listdir(tmp_path) == ["a.pt"]


def test_provenance_cannot_replace_the_weights(tmp_path):
    with pytest.raises(ValueError, match="format"):
        write_checkpoint(tmp_path / "a.pt", model_state={}, model_config={}, format=1)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.5, 0.9, 0.99])
def test_a_cut_off_file_is_named_as_one(tmp_path, kept):
    path = write(tmp_path / "a.pt", {"w": torch.randn(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"a\.pt: a checkpoint that ends too early \(\d+ bytes\)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"hello there, this is text", "not a checkpoint that torch reads"),
        *((random.Random(seed).randbytes(4000), "not a checkpoint that torch reads") for seed in range(40)),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, message):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="found a folder"):
        read_checkpoint(tmp_path)


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy_format", [False, True])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, legacy_format):
    marker = tmp_path / "ran"
    path = tmp_path / "a.pt"
    torch.save({"model": Malicious(f"touch {marker}")}, path, _use_new_zipfile_serialization=not legacy_format)
    for inert in ((), SETTINGS_CLASSES):
        with pytest.raises(InputError, match=r"mentions (posix|nt)\.system, which no checkpoint needs"):
            read_torch(path, inert=inert)
    assert not marker.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Malicious(f"touch {marker}")))
    with pytest.raises(InputError):
        read_torch(path)
    assert not marker.exists()


def test_allowed_classes_come_back_as_what_was_written_of_them_and_their_code_does_not_run(tmp_path, monkeypatch):
    """A file as omegaconf would write it, by classes of its names that would leave a mark if they were built."""
    built = []

    def make(module_name, name):
        def setstate(self, values):
            built.append(name)

        module = sys.modules.get(module_name) or types.ModuleType(module_name)
        monkeypatch.setitem(sys.modules, module_name, module)
        cls = type(name, (), {"__module__": module_name, "__qualname__": name, "__setstate__": setstate})
        setattr(module, name, cls)
        return cls

    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    config, node = make("omegaconf.dictconfig", "DictConfig")(), make("omegaconf.nodes", "AnyNode")()
    config.__dict__.update(_content={"lr": node}, _metadata=(dict, int, None))
    path = tmp_path / "a.pt"
    import argparse

    content = {"args": argparse.Namespace(a=1, b=[2]), "cfg": config, "loss": np.float64(0.5), "model": state()}
    torch.save(content, path)
    for module_name in ("omegaconf", "omegaconf.dictconfig", "omegaconf.nodes"):
        monkeypatch.delitem(sys.modules, module_name)
    found = read_torch(path, inert=SETTINGS_CLASSES)
    assert torch.equal(found["model"]["layer.weight"], state()["layer.weight"])
    assert type(found["cfg"]) is type(found["args"]) is Shell
    assert plain(found["args"]) == {"a": 1, "b": [2]}
    assert plain(found["cfg"]) == {"lr": None}  # the node of this file holds nothing
    assert built == []
    with pytest.raises(InputError, match="mentions argparse"):
        read_torch(path)


def test_files_that_are_no_checkpoint_of_ours(tmp_path):
    torch.save({"state_dict": 1, "epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="found a dict with state_dict, epoch"):
        read_checkpoint(tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(InputError, match="found list"):
        read_checkpoint(tmp_path / "b.pt")


def test_scores_of_the_other_direction_are_refused(tmp_path):
    path = write(tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "convention": "spoof=1, higher=spoof"}, path)
    with pytest.raises(InputError, match="its scores mean 'spoof=1, higher=spoof'"):
        read_checkpoint(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, bad):
    weights = state()
    weights["layer.weight"][1, 2] = bad
    with pytest.raises(InputError, match=r"1 of the 6 values of layer\.weight are not finite"):
        read_checkpoint(write(tmp_path / "a.pt", weights))


def test_a_mean_of_epochs(tmp_path):
    paths = [write(tmp_path / f"{i}.pt", state(float(v), count=10 + i)) for i, v in enumerate([1, 2, 6])]
    found = average(paths)
    assert found["layer.weight"].unique().tolist() == [3.0]
    assert found["half"].dtype == torch.bfloat16
    assert found["norm.num_batches_tracked"].item() == 10
    assert found["norm.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7], 7), ([7, 2], 2), ([7, 2, 5], (2 * 2 + 5) / 3), ([7, 2, 4, 6, 11], (2 * 2 + 4 + 6 + 11) / 5)],
)
def test_an_average_as_the_published_code_does_it_leaves_out_the_best_epoch(tmp_path, values, expected):
    paths = [write(tmp_path / f"{i}.pt", state(float(v))) for i, v in enumerate(values)]
    assert average(paths, "reference")["layer.weight"][0, 0].item() == pytest.approx(expected)


def test_networks_that_differ_are_not_averaged(tmp_path):
    one, other = write(tmp_path / "a.pt"), write(tmp_path / "b.pt", {"layer.weight": torch.ones(3, 3)})
    with pytest.raises(InputError, match=r"b\.pt: holds another network than"):
        average([one, other])
    with pytest.raises(InputError, match="no checkpoint"):
        average([])


def test_a_strict_load_names_what_does_not_fit():
    module = torch.nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"x\.pt: .*1 missing: bias; 1 unexpected: extra; 1 misshapen: weight"):
        load_strictly(module, {"weight": torch.ones(2, 4), "extra": torch.ones(1)}, "x.pt")


def test_an_exported_folder_reads_back(tmp_path):
    folder = tmp_path / "out"
    write_exported(folder, model_state=state(), model_config={"backend": "x"}, source="run")
    weights, config = read_exported(folder)
    assert config == {"backend": "x"}
    assert all(torch.equal(weights[name], tensor) for name, tensor in state().items())
    mode = stat.S_IMODE((folder / "model.safetensors").stat().st_mode)
    assert mode == stat.S_IMODE((folder / "qamo.json").stat().st_mode)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("qamo.json", "{", "not JSON"),
        ("qamo.json", "[]", "expected an object"),
        ("model.safetensors", "xx", "ends too early"),
    ],
)
def test_a_damaged_exported_folder(tmp_path, name, content, message):
    write_exported(tmp_path, model_state=state(), model_config={})
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_exported(tmp_path)


def test_equal_checkpoints_are_equal_files(tmp_path):
    (tmp_path / "sub").mkdir()
    one, other = write(tmp_path / "a.pt"), write(tmp_path / "sub" / "another_name.pt")
    assert one.read_bytes() == other.read_bytes()
    assert zipfile.is_zipfile(one)


@pytest.mark.parametrize(
    ("values", "n_bad"),
    [([1.0, float("nan")], 1), ([float("inf"), -float("inf"), 2.0], 2), ([3e38, 3e38], 0), ([1, 2], 0), ([], 0)],
)
def test_weights_are_refused_for_what_is_not_finite_and_not_for_being_large(values, n_bad):
    state = {"fine": torch.ones(3), "weight": torch.tensor(values)}
    if not n_bad:
        check_finite(state, "file.pt")
        return
    with pytest.raises(InputError, match=f"file.pt: {n_bad} of the {len(values)} values of weight are not finite"):
        check_finite(state, "file.pt")
