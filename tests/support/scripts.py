"""Scripts of the project as a shell would run them, in this process."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import urllib.request
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


def serve_a_while(words: list[str], folder: Path) -> tuple[int, str, str]:
    """Start the page, ask it what it is, end it with Ctrl-C."""
    server = subprocess.Popen(
        [sys.executable, *words[1:]], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().partition(" ")[0]
        with (
            urllib.request.urlopen(url, timeout=30) as page,
            urllib.request.urlopen(f"{url}about", timeout=30) as about,
        ):
            said = page.read().decode() + about.read().decode()
    finally:
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
    return server.returncode, said, err
