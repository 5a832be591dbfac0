"""Whether a file of weights still holds what was written into it.

Files of ours carry a CRC-32 of each tensor, with its type and shape. Files of others have those of their zip archive
at most, which `torch.load` does not look at. Either is read once, by several threads. A CRC finds what bad luck does
to a file; it does not hold against somebody who writes a file on purpose.
"""

from __future__ import annotations

import functools
import mmap
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qamo import InputError, cores

DIGESTS = "digests"  # the key of {name of a tensor: its digest} in our files
Item = TypeVar("Item")
_later: ContextVar[tuple[ThreadPoolExecutor, list[Future[None]]] | None] = ContextVar("later", default=None)


def digests_of(content: Any) -> dict[str, int]:
    """The digest of each tensor in nested dictionaries and lists, by its dotted name, in their order."""
    tensors = dict(tensors_in(content))
    return dict(zip(tensors, _by_threads(_digest, tensors.values())))


def tensors_in(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dictionaries and lists, with its dotted name."""
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from tensors_in(value, f"{prefix}{key}.")
    elif isinstance(content, (list, tuple)):
        for number, value in enumerate(content):
            yield from tensors_in(value, f"{prefix}{number}.")


@contextmanager
def meanwhile() -> Iterator[None]:
    """Within it files are checked by another thread, while this one builds what they are for; the end waits.

    Raises:
        InputError: a file is damaged, whatever else its damage led to meanwhile.
    """
    with ThreadPoolExecutor(1) as pool:
        checks: list[Future[None]] = []
        token = _later.set((pool, checks))
        try:
            yield
        finally:
            _later.reset(token)
            for check in checks:
                check.result()


def _may_wait(check: Callable[..., None]) -> Callable[..., None]:
    """`check` as it is, or where somebody said `meanwhile`, by another thread."""

    @functools.wraps(check)
    def run(*args: Any, **options: Any) -> None:
        if later := _later.get():
            pool, checks = later
            checks.append(pool.submit(check, *args, **options))
        else:
            check(*args, **options)

    return run


@_may_wait
def check_digests(content: Any, digests: Any, where: object) -> None:
    """See that the tensors in `content` are those whose digests were written down.

    Raises:
        InputError: a tensor is missing, is not the one that was written, or was added.
    """
    found = digests_of(content)
    if not isinstance(digests, Mapping) or found != digests:
        names = [
            name for name, digest in found.items() if not isinstance(digests, Mapping) or digests.get(name) != digest
        ]
        raise InputError(
            f"{where}: damaged: {', '.join(names[:1]) or 'a tensor'} does not hold the numbers that were written; "
            "copy the file again, or make it anew"
        )


def check_plain(content: Any, where: object) -> None:
    """See that every tensor in a foreign file is an ordinary one, in memory and dense; InputError otherwise."""
    for name, tensor in tensors_in(content):
        plain = (
            type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        )
        if not plain or tensor.is_quantized or tensor.is_complex() or _is_expanded(tensor):
            raise InputError(f"{where}: {name or 'its content'} is no plain tensor; refused")


def _is_expanded(tensor: Tensor) -> bool:
    """Whether a tensor has more elements than are stored: a file of a few bytes could ask for any work and memory."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, or a damaged one."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True


def check_stored(path: Path) -> None:
    """See that an archive is as `torch.save` writes it, not compressed: else its pickle may unpack to any size.

    Raises:
        InputError: it is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # whatever zipfile makes of a damaged table of contents; torch refuses it too
        return
    if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise InputError(
            f"{path}: its part {packed[0]} is compressed, which torch.save never does; refused (if you trust the file, "
            "load it where it was written and save it anew)"
        )


@_may_wait
def check_archive(path: Path, *, storages: bool = True) -> None:
    """See that the entries of a zip archive have the CRCs that are written in it.

    Args:
        storages: False leaves out the bytes of tensors (`data/0`, `data/1`, ...).

    Raises:
        InputError: they do not, or the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # whatever zipfile makes of a damaged table of contents
        raise InputError(f"{path}: damaged: not a whole archive ({error}); copy the file again") from None
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise InputError(f"{path}: damaged: two parts of the archive have one name; copy the file again")
    chosen = [e for e in entries if storages or "/data/" not in e.filename]
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        wrong = [e.filename for e, good in zip(chosen, _by_threads(lambda e: _is_whole(e, view), chosen)) if not good]
    if wrong:
        raise InputError(
            f"{path}: damaged: its part {wrong[0]} has another checksum (CRC) than is written in the file; copy or "
            "download it again (if it was saved without checksums, load and save it with torch's defaults)"
        )


def _is_whole(entry: zipfile.ZipInfo, archive: memoryview) -> bool:
    header = archive[entry.header_offset : entry.header_offset + 30]
    if entry.compress_type != zipfile.ZIP_STORED or len(header) < 30 or header[:4] != b"PK\x03\x04":
        return False
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    data = archive[start : start + entry.file_size]
    return len(data) == entry.file_size and zlib.crc32(data) == entry.CRC


def _digest(tensor: Tensor) -> int:
    tensor = tensor.detach().cpu()
    about = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return zlib.crc32(content.data, about)  # lets other threads run


def _by_threads(function: Callable[[Item], Any], items: Iterable[Item]) -> list[Any]:
    with ThreadPoolExecutor(min(8, cores.usable())) as pool:
        return list(pool.map(function, items))


# ---- safetensors, whose header has an order of its own in each process: their digests stand in a file beside them


@contextmanager
def saving_safetensors(path: Path) -> Iterator[None]:
    """Around the writing of a safetensors file: a full disk is an error of the system, as with any other file."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_safetensors(path: Path, digests: Any = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped.

    Args:
        digests: what `digests_of` gave when the file was written; None where nobody wrote it down.

    Raises:
        InputError: it is no such file, ends too early, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: not a safetensors file, or one that ends too early or is damaged ({error}); copy it again"
        ) from None
    if digests is not None:
        check_digests(tensors, digests, path)
    return tensors
