"""The documents say what is there: files, targets and links. Their commands are run by tests/test_readme.py."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_IN_TABLE = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "pyproject.toml"}


def listing() -> str:
    """docs/files.md as the docstrings of the parts have it."""
    rows = []
    for path in sorted(ROOT.glob("qamo/*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        rows.append(f"| `qamo/{path.name}` | {summary.replace('|', chr(92) + '|')} |\n")
    return "# The parts\n\nWritten by `python -m tests.test_docs`.\n\n| file | what it is |\n| --- | --- |\n" + "".join(
        rows
    )


def test_the_list_of_parts_is_what_their_docstrings_say():
    assert (ROOT / "docs" / "files.md").read_text() == listing()


def test_the_file_table_of_the_readme_holds_every_file_of_the_top_level():
    table = re.findall(r"^\| `([^`]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    entries = {path.name for path in ROOT.iterdir() if path.name[0] != "." and not ignored(path.name)}
    entries -= NOT_IN_TABLE | {f"requirements-{kind}.txt" for kind in ("dev", "extra", "nodeps")}
    assert {row.split("/")[0] for row in table} == entries


def ignored(name: str) -> bool:
    lines = (ROOT / ".gitignore").read_text().split()
    return f"/{name}/" in lines or f"{name}/" in lines


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert [t for t in targets if not t.startswith("http") and not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_make_target_exists(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)) <= targets


if __name__ == "__main__":
    (ROOT / "docs" / "files.md").write_text(listing())
