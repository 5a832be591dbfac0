from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import tiny_corpus
from tests.support.reports import CHROMIUM

# The same examples in every run; `--hypothesis-profile=search` looks for others.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("same")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background by a shell that keeps Ctrl-C from it: commands under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# As where the environment is activated: `python` is this one, here and in the processes that tests start.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@pytest.fixture(scope="session")
def built_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    tiny_corpus.build(root)
    return root


@pytest.fixture
def corpus(built_corpus: Path, tmp_path: Path) -> Path:
    """A tiny corpus of one's own, which a test may damage; config.yaml stands in it."""
    root = tmp_path / "corpus"
    shutil.copytree(built_corpus, root)
    (root / "config.yaml").write_text(tiny_corpus.CONFIG.format(root=root))
    return root


@pytest.fixture(scope="session")
def trained_run(built_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the tiny corpus (2 s); to be read only."""
    import main

    runs = tmp_path_factory.mktemp("trained")
    config = str(built_corpus / "config.yaml")
    assert main.main(["--config", config, "--name", "tiny", f"run.runs={runs}", "train.max_epochs=6"]) == 0
    return runs / "tiny"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium with a made-up microphone."""
    from playwright import sync_api

    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--mute-audio"]
    with sync_api.sync_playwright() as p:
        made = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield made
        made.close()
