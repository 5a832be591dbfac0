"""Files that one can take in, functions that fit on a screen; what is larger stands here with its reason."""

from __future__ import annotations

import ast

from docs.architecture import ROOT, modules, room_of

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 350, 45
LARGER_FILES: dict[str, str] = {}
LARGER_FUNCTIONS = {
    "qamo.audio.rawboost.rawboost": "its docstring gives the source and unit of each of fourteen arguments",
    "qamo.audio.diagnostics.cautions": "one warning after the other, each a test and a sentence",
}


def test_files_are_short():
    large = {}
    for name, path in modules().items():
        n = len(path.read_text(encoding="utf-8").splitlines())
        if room_of(name) != "tests" and n > MOST_LINES:
            large[str(path.relative_to(ROOT))] = n
    assert {f: n for f, n in large.items() if f not in LARGER_FILES} == {}
    assert LARGER_FILES.keys() - large.keys() == set(), "no longer large: take the line out"


def test_functions_are_short():
    large = {}
    for name, path in modules().items():
        if room_of(name) == "tests":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                n = (node.end_lineno or 0) - node.lineno + 1
                if n > MOST_LINES_OF_A_FUNCTION:
                    large[f"{name}.{node.name}"] = n
    assert {f: n for f, n in large.items() if f not in LARGER_FUNCTIONS} == {}
    assert LARGER_FUNCTIONS.keys() - large.keys() == set(), "no longer large: take the line out"
