"""Read a file of weights without running what it holds, and load it strictly."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qamo import InputError
from qamo.files import kind_of
from qamo.networks import digests


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Copy `state` into `module`, whose names and shapes it must have exactly.

    Raises:
        InputError: names are missing, unexpected, or of another shape; the message gives the first of each.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)]
    if any(names for _, names in faults):
        listed = "; ".join(f"{len(names)} {fault}: {first_of(names)}" for fault, names in faults if names)
        raise InputError(f"{where}: the weights do not fit the network ({listed})")
    module.load_state_dict(state)


def check_finite(state: Mapping[str, Tensor], where: object) -> None:
    """Raise InputError naming the first weight that is not finite."""
    for name, tensor in state.items():
        # A finite sum has finite terms, and is five times faster to find; an infinite one may only be large.
        if not tensor.is_floating_point() or torch.isfinite(tensor.sum()):
            continue
        if n_bad := int((~torch.isfinite(tensor)).sum()):
            raise InputError(
                f"{where}: {n_bad} of the {tensor.numel()} values of {name} are not finite; "
                "the run that wrote this file had diverged, take an earlier one"
            )


def read_torch(path: Path, *, inert: Iterable[str] = (), verify: bool = True) -> Any:
    """What a `torch.save` file holds, read by torch's restricted unpickler: nothing in the file is ever executed.

    Tensors are left in the file until they are used; old files that are not zip archives are read whole. Only mapped
    is an archive safe: otherwise torch takes the length of a storage from the pickle and reads beyond its bytes.

    Args:
        inert: full names of further classes that the file may mention; their objects come back empty.
        verify: look at the checksums of the tensors, which reads the file.

    Raises:
        InputError: the file is missing, cut off, damaged, something else, or mentions a class that is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint file, found {kind_of(path)}")
    is_zip = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in inert]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols, where the file is no checkpoint anyway
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # bytes that are no checkpoint can raise anything in the unpickler
        raise InputError(f"{path}: {_why_unreadable(path, error)}") from None
    digests.check_plain(content, path)
    own = content.pop(digests.DIGESTS, None) if isinstance(content, dict) else None
    if is_zip and verify:
        digests.check_archive(path, storages=own is None)
    if own is not None and verify:
        digests.check_digests(content, own, path)
    return content


class _Inert:
    """Stands for every object of an allowed class: takes whatever it is built from and keeps none of it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _why_unreadable(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(256)
    if not size:
        return "an empty file (0 bytes); copy or download it again"
    if head.lstrip()[:1] == b"<" or b"<html" in head.lower():
        return "a web page saved under a checkpoint's name; download the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file it points to; run `git lfs pull`"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"a checkpoint that ends too early ({size} bytes); copy or download it again"
    if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
        name = str(error).split("GLOBAL ", 1)[1].split()[0].rstrip(".")
        return (
            f"mentions {name}, which no checkpoint needs and which could run code; refused "
            "(if you trust the file, load it where it was written and save its state_dict anew)"
        )
    if isinstance(error, pickle.UnpicklingError) and head.startswith(b"PK"):
        return f"holds an object that could run code; refused ({_one_line(error)})"
    if isinstance(error, pickle.UnpicklingError):  # torch's own text is advice on switching its safety off
        return f"not a checkpoint that torch reads (it starts with {head[:8]!r})"
    return f"not a checkpoint that torch reads ({_one_line(error)}; it starts with {head[:8]!r})"


def _one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120].rstrip(". ")


def first_of(names: Sequence[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
