"""A damaged file of weights is a sentence, or loads with the very weights that were written."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from qamo import InputError
from qamo.networks.digests import digests_of, meanwhile
from qamo.networks.weights import read_torch
from qamo.networks.xlsr_files import read_fairseq
from qamo.training.checkpoint import read_checkpoint, read_exported, write_checkpoint, write_exported
from tests.support.fuzz import damaged, same

N_DAMAGED = 60  # of each kind of file; 500 were tried once, see docs/security.md


def weights() -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return {
        "head.centroids": torch.randn(2, 64, generator=drawn),
        "backend.project.weight": torch.randn(64, 48, generator=drawn),
        "backend.half": torch.randn(33, generator=drawn).to(torch.bfloat16),
        "backend.norm.num_batches_tracked": torch.tensor(7),
    }


def ours(folder: Path) -> tuple[Path, object]:
    path = folder / "model.pt"
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(48, 64)}},
        "param_groups": [{"lr": 1e-3}],
    }
    write_checkpoint(path, model_state=weights(), model_config={"scale": 32.0}, optimizer=optimizer)
    return path, read_checkpoint


def foreign(folder: Path) -> tuple[Path, object]:
    path = folder / "xlsr.pt"
    torch.save({"args": {"lr": 0.1}, "model": weights()}, path)
    return path, read_fairseq


def exported_weights(folder: Path) -> tuple[Path, object]:
    write_exported(folder, model_state=weights(), model_config={"scale": 32.0})
    return folder / "model.safetensors", lambda path: read_exported(path.parent)


def exported_config(folder: Path) -> tuple[Path, object]:
    return exported_weights(folder)[0].with_name("qamo.json"), lambda path: read_exported(path.parent)


FILES = [ours, foreign, exported_weights, exported_config]


@pytest.mark.parametrize("make", FILES)
def test_no_damaged_file_loads_with_other_numbers(make, tmp_path):
    path, read = make(tmp_path)
    whole, expected = path.read_bytes(), read(path)
    assert same(expected, read(path))
    rng = np.random.default_rng(5)
    n_refused = 0
    for number in range(N_DAMAGED):
        path.unlink()  # a mapped file must not change under its readers
        path.write_bytes(damaged(whole, rng))
        try:
            assert same(read(path), expected), f"damage {number} went unnoticed"
        except InputError:
            n_refused += 1
    assert n_refused > N_DAMAGED // 2


def test_damage_is_said_by_a_thread_that_checks_meanwhile_and_before_what_it_led_to(tmp_path):
    path, read = ours(tmp_path)
    content = torch.load(path, weights_only=True)
    content["model"]["head.centroids"][0, 0] += 1
    torch.save(content, path)
    for led_to in (lambda _: None, lambda _: 1 / 0):
        with pytest.raises(InputError, match=r"damaged: model\.head\.centroids"), meanwhile():
            led_to(read(path))
    with meanwhile():
        assert read(ours(tmp_path)[0])


def test_weights_that_were_changed_after_they_were_written_are_named(tmp_path):
    path, _ = ours(tmp_path)
    content = torch.load(path, weights_only=True)
    content["model"]["head.centroids"][0, 0] += 1
    torch.save(content, path)
    with pytest.raises(
        InputError, match=r"damaged: model\.head\.centroids does not hold the numbers that were written"
    ):
        read_checkpoint(path)


def test_files_without_digests_are_read_as_before(tmp_path):
    path, _ = ours(tmp_path)
    content = torch.load(path, weights_only=True)
    assert content.pop("digests")["model.head.centroids"] == digests_of(weights())["head.centroids"]
    torch.save(content, path)
    assert same(read_checkpoint(path)["model"], weights())
    write_exported(tmp_path, model_state=weights(), model_config={})
    about = json.loads((tmp_path / "qamo.json").read_text())
    del about["digests"], about["checksum"]
    (tmp_path / "qamo.json").write_text(json.dumps(about))
    assert same(dict(sorted(read_exported(tmp_path)[0].items())), dict(sorted(weights().items())))


def test_a_storage_longer_than_its_bytes_gives_no_foreign_memory(tmp_path):
    """Read into memory, torch takes the length from the pickle: what follows in memory would become weights."""
    path = tmp_path / "a.pt"
    torch.save({"model": {"w": torch.ones(4)}}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    (pickled,) = (name for name in entries if name.endswith("data.pkl"))
    entries[pickled] = entries[pickled].replace(b"K\x04", b"J" + (1 << 26).to_bytes(4, "little"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match="not a checkpoint that torch reads"):
        read_torch(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    ],
)
def test_tensors_of_other_kinds_are_refused(tensor, tmp_path):
    torch.save({"model": {"w": tensor}}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"no plain tensor|could run code|not a checkpoint"):
        read_torch(tmp_path / "a.pt")


def test_a_class_stands_for_nothing_even_where_its_name_is_allowed(tmp_path):
    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    for payload in (Attack(), {"model": {"w": torch.ones(2)}, "args": Attack()}):
        torch.save(payload, tmp_path / "a.pt")
        with pytest.raises(InputError, match="refused"):
            read_fairseq(tmp_path / "a.pt")
        (tmp_path / "b.pt").write_bytes(pickle.dumps(payload))
        with pytest.raises(InputError):
            read_fairseq(tmp_path / "b.pt")
    assert not (tmp_path / "owned").exists()


def test_a_few_bytes_do_not_ask_for_endless_work(tmp_path):
    wide, complex_ = tmp_path / "wide.pt", tmp_path / "complex.pt"
    torch.save({"model": {"w": torch.zeros(1).expand(10**6, 10**6)}}, wide)
    torch.save({"model": {"w": torch.zeros(3, dtype=torch.complex64)}}, complex_)
    for path in (wide, complex_):
        with pytest.raises(InputError, match=r"model\.w is no plain tensor; refused"):
            read_torch(path)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"K\x01" * 10_000_000 + b".")
    assert packed.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"its part archive/data\.pkl is compressed, which torch\.save never does"):
        read_torch(packed)


def test_views_of_one_storage_are_plain(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": whole, "b": whole.T, "c": whole[:, 1]}, tmp_path / "views.pt")
    assert torch.equal(read_torch(tmp_path / "views.pt")["b"], whole.T)
