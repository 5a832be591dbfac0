"""Every script says its version, and does nothing else then."""

from __future__ import annotations

from pathlib import Path

import pytest

from qamo import __version__
from tests.support.scripts import python

ROOT = Path(__file__).parents[1]

# All that is started as a file; parity_original.py runs beside the published code, without this package.
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in (".", "database", "2021/eval-package", "benchmarks", "docs")
    for path in (ROOT / folder).glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8") and path.name != "parity_original.py"
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_says_its_version_and_does_nothing_else(script):
    assert {"serve.py", "database/prepare.py", "database/build_mini.py", "docs/walkthroughs.py"} <= set(SCRIPTS)
    assert python([script, "--version"], ROOT) == (0, f"{Path(script).name} of qamo {__version__}\n", "")
