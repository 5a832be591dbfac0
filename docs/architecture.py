"""Draw the rooms of the source tree from its import lines, and write what each room's docstring says.

    python docs/architecture.py            writes docs/architecture.svg and the rooms of docs/architecture.md
    python docs/architecture.py --check    exit status 1 where one of them is out of date

An arrow stands for "imports"; one that a chain of others implies is not drawn. Each room lists all that it imports.
"""

from __future__ import annotations

import argparse
import ast
import sys
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qamo.command import Parser, run_command  # noqa: E402

PICTURE, PAGE = ROOT / "docs" / "architecture.svg", ROOT / "docs" / "architecture.md"
MARKS = ("<!-- rooms: written by docs/architecture.py -->", "<!-- end of rooms -->")

# Lowest first. A room imports rooms of lower floors and its own files, nothing else.
FLOORS = [
    ["qamo"],  # the ground: qamo/*.py
    ["qamo.config", "qamo.audio", "eval_metrics", "loss"],
    ["qamo.trials", "qamo.networks"],
    ["qamo.quality", "qamo.training"],
    ["model", "data_utils"],
    ["qamo.evaluation"],
    ["qamo.inference", "qamo.report"],
    ["qamo.export"],
    ["commands"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
COMMANDS = [
    *("main", "score_ood_dataset", "score_asvspoof5", "inference", "predict_mos", "report", "export", "serve"),
    *("database", "benchmarks", "2021", "docs"),
]
WIDTH, LINE, GAP = 980, 17, 34


@cache
def modules() -> dict[str, Path]:
    """Every module of the project, tests included: dotted name -> file."""
    patterns = ("*.py", "qamo/**/*.py", "tests/**/*.py", "database/**/*.py", "benchmarks/**/*.py", "2021/*/*.py")
    files = [file for pattern in patterns for file in ROOT.glob(pattern)]
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in sorted(files)}


def room_of(module: str) -> str:
    """The room that a module is in: of qamo/, a file at the top level, "commands" or "tests"."""
    parts = module.split(".")
    if parts[0] == "tests":
        return "tests"
    if parts[0] in COMMANDS:
        return "commands"
    if parts[0] == "qamo":
        return ".".join(parts[:2]) if ".".join(parts[:2]) in FLOOR else "qamo"
    return parts[0]


@cache
def imports_of(module: str) -> frozenset[str]:
    """The modules of the project that one imports, anywhere in its file."""
    names = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names & modules().keys() - {module})


def uses() -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    found: dict[str, set[str]] = {room: set() for room in FLOOR}
    for module in modules():
        room = room_of(module)
        if room in found:
            found[room] |= {room_of(name) for name in imports_of(module)} & FLOOR.keys() - {room}
    return found


def arrows(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The edges that no chain of other edges implies."""

    def reachable(start: str) -> set[str]:
        return graph[start].union(*(reachable(room) for room in graph[start]))

    return [
        (room, below)
        for room in graph
        for below in sorted(graph[room])
        if not any(below in reachable(other) for other in graph[room] - {below})
    ]


def subject(room: str) -> str:
    """The first sentence of a room's docstring."""
    if room == "commands":
        return "What a person types; no command imports a command."
    text = ast.get_docstring(ast.parse(modules()[room].read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def title(room: str) -> str:
    if room == "commands":
        return "commands"
    if room == "qamo":
        return "ground: qamo/*.py"
    return f"{room.replace('.', '/')}/" if room.startswith("qamo.") else f"{room}.py"


def wrapped(text: str, n_characters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= n_characters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def picture() -> str:
    """The rooms as boxes on their floors, as SVG."""
    graph = uses()
    boxes: dict[str, tuple[float, float, float, float]] = {}
    texts, y = [], 10.0
    for rooms in reversed(FLOORS):
        width = (WIDTH - 20 - 14 * (len(rooms) - 1)) / len(rooms)
        contents = [
            wrapped(subject(room), int(width / 6.4)) + wrapped("imports " + listed(graph[room]), int(width / 6.4))
            for room in rooms
        ]
        height = LINE * (1 + max(map(len, contents))) + 14
        for column, (room, lines) in enumerate(zip(rooms, contents)):
            x = 10 + column * (width + 14)
            boxes[room] = (x, y, width, height)
            n_subject = len(wrapped(subject(room), int(width / 6.4)))
            texts.append(f'<text x="{x + 10:.0f}" y="{y + 19:.0f}" class="name">{escape(title(room))}</text>')
            for row, line in enumerate(lines):
                kind = "what" if row < n_subject else "uses"
                texts.append(
                    f'<text x="{x + 10:.0f}" y="{y + 19 + LINE * (row + 1):.0f}" class="{kind}">{escape(line)}</text>'
                )
        y += height + GAP
    shapes = [
        f'<rect x="{x:.0f}" y="{top:.0f}" width="{w:.0f}" height="{h:.0f}" rx="6"/>' for x, top, w, h in boxes.values()
    ]
    lines = [_arrow(boxes, room, below) for room, below in arrows(graph)]
    style = (
        "rect{fill:#f5f7fa;stroke:#5b6b7f}text{font:12px sans-serif;fill:#1f2a37}.name{font-weight:bold;font-size:13px}"
        ".uses{fill:#667}path{fill:none;stroke:#8a99ad;stroke-width:1.2;marker-end:url(#a)}"
    )
    marker = (
        '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#8a99ad;stroke:none;marker-end:none"/></marker>'
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - GAP + 10:.0f}" role="img" '
        f'aria-label="Rooms of the source tree and what each imports"><style>{style}</style><defs>{marker}</defs>'
        f'<rect width="{WIDTH}" height="{y - GAP + 10:.0f}" style="fill:#fff;stroke:none"/>'
    )
    return "\n".join([head, *lines, *shapes, *texts, "</svg>", ""])


def listed(rooms: set[str]) -> str:
    names = sorted(rooms, key=lambda room: (-FLOOR[room], room))
    return ", ".join("ground" if room == "qamo" else room.removeprefix("qamo.") for room in names) or "nothing of ours"


def _arrow(boxes: dict[str, tuple[float, float, float, float]], room: str, below: str) -> str:
    x1, y1, w1, h1 = boxes[room]
    x2, y2, w2, _ = boxes[below]
    # Ends are spread over the width of a box by where the other box is, so that arrows do not lie on one another.
    start = x1 + w1 * (0.15 + 0.7 * min(max((x2 + w2 / 2 - 10) / (WIDTH - 20), 0), 1))
    end = x2 + w2 * (0.15 + 0.7 * min(max((x1 + w1 / 2 - 10) / (WIDTH - 20), 0), 1))
    top, bottom = y1 + h1, y2
    bend = (bottom - top) / 2
    curve = f"C{start:.0f} {top + bend:.0f} {end:.0f} {bottom - bend:.0f} {end:.0f} {bottom:.0f}"
    return f'<path d="M{start:.0f} {top:.0f}{curve}"/>'


def rooms_text() -> str:
    """The rooms from the ground up: what each is for, its contract and its files, from its own docstring."""
    parts = []
    for floor, rooms in enumerate(FLOORS[:-1]):
        for room in rooms:
            text = ast.get_docstring(ast.parse(modules()[room].read_text(encoding="utf-8"))) or ""
            parts.append(f"### {title(room)} (floor {floor})\n\n{text}\n")
    return "\n".join(parts)


def page() -> str:
    """docs/architecture.md with the rooms between its two marks written anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    return f"{before}{MARKS[0]}\n\n{rooms_text()}\n{MARKS[1]}{after}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser("architecture.py", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something is out of date")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    wanted = {PICTURE: picture(), PAGE: page()}
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    if args.check:
        for file in stale:
            print(f"{file.relative_to(ROOT)}: out of date; run python docs/architecture.py", file=sys.stderr)
        return 1 if stale else 0
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
