from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import tiny_corpus


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
