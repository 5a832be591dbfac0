"""Draw the method as one picture: from a wave to an embedding, and what the loss does with it.

    python docs/method.py            writes docs/method.svg
    python docs/method.py --check    exit status 1 where it is out of date

The angles are those of the defaults: bona fide speech within a cosine of `radius_bonafide` of its own centroid, spoofed
speech beyond a cosine of `radius_spoof` of every centroid.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qamo.command import Parser, run_command  # noqa: E402
from qamo.config.parts import QAMOConfig  # noqa: E402

PICTURE = ROOT / "docs" / "method.svg"
CENTER, RADIUS = (690, 172), 118  # of the circle that stands for the sphere, px
DIRECTIONS = (62, 118)  # of the two centroids, degrees
STYLE = (
    "text{font:13px sans-serif;fill:#1f2a37}.small{font-size:11.5px;fill:#55606e}.box{fill:#f5f7fa;stroke:#5b6b7f}"
    ".arrow{stroke:#5b6b7f;stroke-width:1.5;fill:none;marker-end:url(#a)}.real{fill:#2a7f62}.fake{fill:#b5403a}"
    ".cap{fill:#2a7f62;fill-opacity:.18;stroke:none}.out{fill:#b5403a;fill-opacity:.13;stroke:none}.name{font-weight:bold}"
)


def point(degrees: float, scale: float = 1.0) -> tuple[float, float]:
    angle = math.radians(degrees)
    return CENTER[0] + scale * RADIUS * math.cos(angle), CENTER[1] - scale * RADIUS * math.sin(angle)


def sector(first: float, last: float, kind: str) -> str:
    (x1, y1), (x2, y2) = point(first), point(last)
    large = 1 if last - first > 180 else 0
    path = f"M{CENTER[0]} {CENTER[1]}L{x1:.1f} {y1:.1f}A{RADIUS} {RADIUS} 0 {large} 0 {x2:.1f} {y2:.1f}Z"
    return f'<path class="{kind}" d="{path}"/>'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def pipeline() -> list[str]:
    wave = " ".join(
        f"{20 + i * 1.6:.1f},{172 - 34 * math.sin(i * 0.9) * math.sin(i / 50 * math.pi) * math.cos(i * 0.23):.1f}"
        for i in range(51)
    )
    parts = [
        f'<polyline points="{wave}" fill="none" stroke="#3b5b8c" stroke-width="1.4"/>',
        text(60, 232, "wave, 4.2 s, 16 kHz", "small"),
    ]
    boxes = [
        (138, "XLS-R 300M", "front end", "208 x 1024 features"),
        (318, "Conformer-TCM", "back end", "embedding of 144"),
    ]
    for x, name, role, out in boxes:
        parts += [
            f'<path class="arrow" d="M{x - 32} 172H{x - 4}"/>',
            f'<rect class="box" x="{x}" y="138" width="132" height="68" rx="6"/>',
            text(x + 66, 168, name, "name"),
            text(x + 66, 188, role, "small"),
            text(x + 66, 232, out, "small"),
        ]
    return [*parts, '<path class="arrow" d="M454 172H542"/>', text(498, 160, "direction only", "small")]


def sphere(cfg: QAMOConfig) -> list[str]:
    near, far = (math.degrees(math.acos(cosine)) for cosine in (cfg.radius_bonafide, cfg.radius_spoof))
    low, high = DIRECTIONS[1], DIRECTIONS[0]
    parts = [
        f'<circle cx="{CENTER[0]}" cy="{CENTER[1]}" r="{RADIUS}" fill="#fff" stroke="#5b6b7f"/>',
        sector(low + far, high - far + 360, "out"),
        *(sector(direction - near, direction + near, "cap") for direction in DIRECTIONS),
    ]
    for direction, words, side in ((low, "low quality", "end"), (high, "high quality", "start")):
        x, y = point(direction)
        tip = point(direction, 0.97)
        parts += [
            f'<path class="arrow" d="M{CENTER[0]} {CENTER[1]}L{tip[0]:.1f} {tip[1]:.1f}"/>',
            text(x, y - 24, f"centroid: {words}", "name", side),
            text(x, y - 9, "bona fide speech of its MOS class", "small", side),
        ]
        parts += [f'<circle class="real" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in _spread(direction, near)]
    parts += [f'<circle class="fake" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in _spread(270, 55)]
    below = CENTER[1] + RADIUS + 22
    return [
        *parts,
        text(CENTER[0], below, "spoofed speech: pushed away from every centroid", "small"),
        text(CENTER[0], below + 20, "score = mean cosine to the centroids; higher = bona fide", ""),
    ]


def _spread(direction: float, half_width: float) -> list[tuple[float, float]]:
    return [
        point(direction + half_width * step, 0.9 + 0.06 * (-1) ** n) for n, step in enumerate((-0.8, -0.35, 0.3, 0.75))
    ]


def picture() -> str:
    marker = (
        '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#5b6b7f"/></marker>'
    )
    label = "A wave passes XLS-R and Conformer-TCM; its embedding is compared with one centroid for each quality class"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 346" role="img" aria-label="{label}">'
        f"<style>{STYLE}</style><defs>{marker}</defs>"
        '<rect width="960" height="346" fill="#fff"/>'
    )
    return "\n".join([head, *pipeline(), *sphere(QAMOConfig()), "</svg>", ""])


def main(argv: list[str] | None = None) -> int:
    parser = Parser("method.py", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if it is out of date")
    return run_command(parser, command, argv)


def command(args: argparse.Namespace) -> int:
    if args.check:
        return 0 if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == picture() else 1
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
