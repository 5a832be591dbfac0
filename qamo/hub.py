"""Detectors and front ends by their name on the Hugging Face hub, `owner/name`, through its library and cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qamo import InputError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors", ".onnx")


def is_name(text: str | os.PathLike[str]) -> bool:
    """Whether a text is a name on the hub and no path: nothing is there, and no folder of its first part."""
    path = Path(text)
    named = NAME.fullmatch(os.fspath(text)) and path.suffix not in WEIGHT_FILES
    return bool(named) and not path.exists() and not path.parent.is_dir()


def fetch(name: str, *choices: tuple[str, ...], optional: tuple[str, ...] = ()) -> Path:
    """Files of a repository, from the cache or over the network with a progress bar; the folder that holds them.

    Args:
        choices: of each, the first file that is there is fetched; one must be.
        optional: fetched where they are there.

    Raises:
        InputError: the hub cannot be reached, or has no such repository or file.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HTTPError
    except ImportError:
        raise InputError(
            f"{name}: no such file, and huggingface_hub is not installed; pip install 'qamo[train]'"
        ) from None

    def first_of(files: tuple[str, ...]) -> str:
        for file in files[:-1]:
            try:
                return hf_hub_download(name, file)
            except EntryNotFoundError:  # there, or offline in the cache
                continue
        return hf_hub_download(name, files[-1])

    try:
        found = [first_of(files) for files in choices]
        for file in optional:
            try:
                hf_hub_download(name, file)
            except EntryNotFoundError:
                continue
    except (OSError, ValueError, HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(
            f"{name}: no such file, and it cannot be fetched from the Hugging Face hub ({reason}); where there is a "
            f"network, download https://huggingface.co/{name}, copy it here and give its path"
        ) from None
    return Path(found[0]).parent


def local(path: str | os.PathLike[str]) -> Path:
    """A detector's path: as it is, or where it is a name on the hub, the folder of an export or another's weights.

    Raises:
        InputError: it is a name, and cannot be fetched.
    """
    if not is_name(path):
        return Path(path)
    own, weights = "qamo.json", "model.safetensors"
    folder = fetch(os.fspath(path), (own, weights), (weights,), optional=("calibration.json",))
    return folder if (folder / own).is_file() else folder / weights
