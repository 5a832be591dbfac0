"""The product where Python lacks the modules and functions that only Unix has, as on Windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_is_imported_and_commands_run_without_what_only_unix_has(tmp_path):
    names = [f"n{i}" for i in range(40)]
    scores, keys = tmp_path / "scores.txt", tmp_path / "keys.csv"
    scores.write_text("".join(f"{name} {(7 * i) % 11 + i % 2}\n" for i, name in enumerate(names)))
    rows = "".join(f"{name},{'bona-fide' if i % 2 else 'spoof'}\n" for i, name in enumerate(names))
    keys.write_text(f"file,label\n{rows}")
    words = ["-m", "tests.support.without_unix", str(scores), str(keys), str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "statuses: [0, 0, 0]" in done.stdout
    assert "memory: {} None" in done.stdout
    assert int(done.stdout.partition("modules: ")[2].split()[0]) > 100
    assert (tmp_path / "page.html").is_file()
