"""Read a file of weights without running what it holds, and load it strictly."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qamo import InputError
from qamo.command import first_line
from qamo.files import kind_of
from qamo.networks import digests

NESTED = ("model_state_dict", "state_dict", "model", "net")  # where programs put the weights of a file
MOST_NESTED, MOST_CLASSES = 5, 200

# Classes that files may mention besides tensors and plain types: settings of a training in several guises, and what
# Lightning keeps of its parts. None is imported; read_torch makes shells of their objects.
SETTINGS_CLASSES = (
    "argparse.",
    "collections.defaultdict",
    "omegaconf.",
    "fairseq.",
    "typing.",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    "lightning.",
    "lightning_fabric.",
    "pytorch_lightning.",
    "pathlib.",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "str", "float")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("bool", "bytes", "object", "tuple")),
)


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
        inert: further classes that the file may mention, by full name, or all of a package by its name and a dot;
            none is imported, and their objects come back as a `Shell` of what was written of them.
        verify: look at the checksums of the tensors, which reads the file.

    Raises:
        InputError: the file is missing, cut off, damaged, something else, or mentions a class that is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint file, found {kind_of(path)}")
    is_zip = digests.is_archive(path)
    if is_zip:
        digests.check_stored(path)
    content = _unpickled(path, inert, mmap=is_zip)
    digests.check_plain(content, path)
    own = content.pop(digests.DIGESTS, None) if isinstance(content, dict) else None
    if is_zip and verify:
        digests.check_archive(path, storages=own is None)
    if own is not None and verify:
        digests.check_digests(content, own, path)
    return content


def _unpickled(path: Path, inert: Iterable[str], *, mmap: bool) -> Any:
    names = {name for name in inert if not name.endswith(".")}
    packages = tuple(name for name in inert if name.endswith("."))
    while True:  # once more for each class of the packages that the file mentions
        try:
            with (
                torch.serialization.safe_globals([(_stand_in(name), name) for name in names]),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # of other pickle protocols, where the file is no checkpoint anyway
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:  # bytes that are no checkpoint can raise anything in the unpickler
            name = _mentioned(error)
            if name.startswith(packages) and name not in names and len(names) < MOST_CLASSES and packages:
                names.add(name)
                continue
            raise InputError(f"{path}: {_why_unreadable(path, error)}") from None


class Shell:
    """An object of a class that a file may mention: what it was built from, as it was written. No code of it runs."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.args = args
        self.state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Shell:
        made = super().__new__(cls)
        made.args, made.state = args, None  # a pickle makes objects without calling __init__
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dict:
    """Stands for classes that are dicts by another name: what is made is a dict."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return {}


def _stand_in(name: str) -> type:
    return _Dict if name.rpartition(".")[2] in ("defaultdict", "AttributeDict") else Shell


def plain(value: Any, depth: int = 20) -> Any:
    """Settings of argparse or OmegaConf as dicts, lists, numbers and texts; what is neither, or too deep, is None."""
    if depth == 0:
        return None
    if isinstance(value, Shell):
        state = value.state if isinstance(value.state, Mapping) else {}
        for key in ("_content", "_val"):  # of OmegaConf's containers and of its nodes
            if key in state:
                return plain(state[key], depth - 1)
        if state:
            return plain({k: v for k, v in state.items() if not str(k).startswith("_")}, depth - 1)
        return plain(value.args[0], depth - 1) if len(value.args) == 1 else None  # a member of an enumeration
    if isinstance(value, Mapping):
        return {str(plain(key, depth - 1)): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value]
    return value if isinstance(value, (bool, int, float, str)) else None


def weights_in(content: Any) -> Mapping[str, Tensor] | None:
    """The weights of a file: it itself, or what is under a usual name in it; None where there are none."""
    for _ in range(MOST_NESTED):
        if not isinstance(content, Mapping):
            return None
        inner = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return content if content and all(isinstance(tensor, Tensor) for tensor in content.values()) else None
        content = inner
    return None


def without_wrappers(state: Mapping[str, Tensor], marks: Iterable[str]) -> dict[str, Tensor]:
    """Weights without what wrappers put before their names: DataParallel, Lightning, torch.compile, a model's head.

    Args:
        marks: beginnings of names that tell where the own names begin; names outside that prefix stay as they are.
    """
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    for mark in marks:
        prefixes = {name[: name.index(mark)] for name in state if name.startswith(mark) or f".{mark}" in name}
        if prefixes:
            prefix = min(prefixes, key=len)
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


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
    if head.startswith(b"PK") and not digests.is_archive(path):
        return f"a checkpoint that ends too early ({size} bytes); copy or download it again"
    if name := _mentioned(error):
        return (
            f"mentions {name}, which no checkpoint needs and which could run code; refused "
            "(if you trust the file, load it where it was written and save its state_dict anew)"
        )
    if isinstance(error, pickle.UnpicklingError) and head.startswith(b"PK"):
        return f"holds an object that could run code; refused ({_one_line(error)})"
    if isinstance(error, pickle.UnpicklingError):  # torch's own text is advice on switching its safety off
        return f"not a checkpoint that torch reads (it starts with {head[:8]!r})"
    return f"not a checkpoint that torch reads ({_one_line(error)}; it starts with {head[:8]!r})"


def _mentioned(error: Exception) -> str:
    """The class that torch refused a file for, or nothing."""
    if not isinstance(error, pickle.UnpicklingError) or "GLOBAL " not in str(error):
        return ""
    return str(error).split("GLOBAL ", 1)[1].split()[0].rstrip(".")


def _one_line(error: Exception) -> str:
    return first_line(error, 120).rstrip(". ")


def first_of(names: Sequence[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
