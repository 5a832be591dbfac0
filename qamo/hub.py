"""Detectors and front ends by their name on the Hugging Face hub, `owner/name`, through its library and cache."""

from __future__ import annotations

import contextlib
import os
import re
import textwrap
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
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise InputError(
            f"{name}: no such file, and huggingface_hub is not installed; pip install 'qamo[train]'"
        ) from None

    def first_of(files: tuple[str, ...]) -> str:
        for file in files[:-1]:
            with contextlib.suppress(errors.EntryNotFoundError):  # there, or offline in the cache
                return hf_hub_download(name, file)
        return hf_hub_download(name, files[-1])

    try:
        found = [first_of(files) for files in choices]
        for file in optional:
            with contextlib.suppress(errors.EntryNotFoundError):
                hf_hub_download(name, file)
    except (OSError, ValueError, errors.HTTPError) as error:
        raise InputError(f"{name}: no such file, and {_why(name, error)}") from None
    return Path(found[0]).parent


def _why(name: str, error: Exception) -> str:
    """Why a repository's files cannot be had, and what to do."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{name}"
    if isinstance(error, errors.GatedRepoError):
        return f"its owner gives access on request; ask at {page}, then `hf auth login`"
    refused = isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401
    if refused or isinstance(error, errors.RepositoryNotFoundError):
        return "the Hugging Face hub has no such repository, or it is private; check the name, or `hf auth login`"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            "the Hugging Face hub cannot be reached and its cache does not hold it; where there is a network, download "
            f"{page}, copy it here and give its path"
        )
    if isinstance(error, errors.EntryNotFoundError):
        url = str(getattr(getattr(error, "response", None), "url", ""))
        return f"{page} has no {url.rpartition('/')[2]}, so it is of another kind; check the name"
    reason = textwrap.shorten(str(error) or type(error).__name__, 160)
    return f"it cannot be fetched from the Hugging Face hub ({reason}); download {page} and give its path"


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
