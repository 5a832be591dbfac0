"""Scripts of the project as a shell would run them, in this process."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

import torch


def python(words: list[str], folder: Path) -> tuple[int, str, str]:
    """A script in this process, for PyTorch takes longer to load than any of them to run."""
    out, err = io.StringIO(), io.StringIO()
    arguments, path, place = sys.argv, list(sys.path), Path.cwd()
    n_threads = torch.get_num_threads()
    try:
        os.chdir(folder)
        sys.argv = words
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(words[0], run_name="__main__")
                status = 0
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        os.chdir(place)
        sys.argv, sys.path[:] = arguments, path
        torch.set_num_threads(n_threads)
    return status, out.getvalue(), err.getvalue()
