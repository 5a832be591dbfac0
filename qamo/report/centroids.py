"""Unit centroids in the planes through two of them, with the cones of the one-class loss, as inline SVG.

Angles in such a plane are the true ones, which no picture of three centroids or more in one plane could have. K is the
number of centroids, `cosines` (K, K) are between them, and radii are cosines: the least of bona fide speech to its own
centroid and the greatest of spoofed speech to any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

Radii = tuple[float, float]

MAX_PLANES = 6  # all pairs of four centroids
STEP_DEG = 0.25  # between the directions that are tried for the spoofed region
LENGTH = 100  # of an arrow, in units of the SVG


def centroid_figure(cosines: np.ndarray, radii: Radii | None, when: str, id: str = "centroid-planes") -> Markup:
    """The figure of K of at least one centroids, without cones where there are no radii.

    Args:
        when: what the centroids are of, for the heading.
    """
    n = len(cosines)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    pairs.sort(key=lambda pair: -cosines[pair])
    words = _words(cosines, pairs, radii)
    if n < 3:
        body = plane(cosines, pairs[0] if pairs else (0, 0), radii, words)
    else:
        named = [(pair, f"c{pair[0]} and c{pair[1]}: {_degrees(cosines[pair]):.1f}°") for pair in pairs[:MAX_PLANES]]
        item = Markup("<div>{}<p>{}</p></div>")
        planes = (item.format(plane(cosines, pair, radii, name), name) for pair, name in named)
        body = Markup('<div class="planes">{}</div>').format(Markup("").join(planes))
    return Markup(
        '<figure class="chart geometry" id="{id}" aria-labelledby="{id}-title"><div class="bar"><h3 id="{id}-title">'
        "{when}</h3></div>{body}<figcaption>{caption}</figcaption></figure>"
    ).format(id=id, when=when, body=body, caption=words.replace("(cosine -", "(cosine −"))


def _degrees(cosine: float) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float(cosine)))))


def _words(cosines: np.ndarray, pairs: Sequence[tuple[int, int]], radii: Radii | None) -> str:
    """What the figure shows, for its caption and for those who do not see it; pairs with the closest first."""
    n = len(cosines)
    of_own, of_any = ("its own centroid", "both") if n == 2 else ("its own centroid", "every one")
    if n == 1:
        words, of_own, of_any = "There is one centroid.", "the centroid", "it"
    elif n == 2:
        cosine = cosines[0, 1]
        words = f"The two centroids stand {_degrees(cosine):.1f} degrees apart (cosine {cosine:.3f})."
    else:
        (a, b), (c, d) = pairs[0], pairs[-1]
        words = (
            f"{n} centroids: c{a} and c{b} are the closest, {_degrees(cosines[a, b]):.1f} degrees apart, c{c} and "
            f"c{d} the farthest, {_degrees(cosines[c, d]):.1f} degrees. Each circle is the plane through two of them"
            + (f" (the {MAX_PLANES} closest of {len(pairs)} pairs)." if len(pairs) > MAX_PLANES else ".")
        )
    if radii:
        inner, outer = (_degrees(radius) for radius in radii)
        words += (
            f" Bona fide speech is drawn to within {inner:.1f} degrees of {of_own} (blue), spoofed speech is pushed "
            f"beyond {outer:.1f} degrees of {of_any} (red)."
        )
    return words


def plane(cosines: np.ndarray, pair: tuple[int, int], radii: Radii | None, words: str) -> Markup:
    """The plane through two centroids, or through one (twice in the pair) and any other direction, as SVG."""
    i, j = pair
    angle = math.acos(max(-1.0, min(1.0, float(cosines[i, j])))) if i != j else 0.0
    directions = [math.pi / 2 + angle / 2, math.pi / 2 - angle / 2][: 1 + (i != j)]
    shapes = ""
    if radii:
        shapes += "".join(_wedge(*ends, "far") for ends in spoofed_directions(cosines, pair, directions, radii[1]))
        half = math.acos(radii[0])
        shapes += "".join(_wedge(d - half, d + half, "near") for d in directions)
    for side, (k, direction) in enumerate(zip(pair, directions)):
        x, y = _at(direction, LENGTH)
        shapes += f'<path class="arrow" d="M0,0 L{x},{y}"/><circle class="tip" r="3.5" cx="{x}" cy="{y}"/>'
        spread = (0.12 - 0.24 * side) * (angle < 0.5) if i != j else 0.0  # apart where the arrows nearly meet
        x, y = _at(direction + spread, 1.12 * LENGTH)
        shapes += f'<text x="{x}" y="{y}" text-anchor="{("end", "start")[side] if i != j else "middle"}">c{k}</text>'
    return Markup(
        '<svg role="img" aria-label="{}" viewBox="-145 -138 290 243"><circle class="unit" r="{}"/>{}</svg>'
    ).format(words, LENGTH, Markup(shapes))


def _at(direction: float, length: float) -> tuple[str, str]:
    return f"{length * math.cos(direction):.2f}", f"{-length * math.sin(direction):.2f}"


def _wedge(first: float, last: float, name: str) -> str:
    """From one direction to another, against the clock; less than a whole turn."""
    large = int(last - first > math.pi)
    (a, b), (c, d) = _at(last, LENGTH), _at(first, LENGTH)
    return f'<path class="{name}" d="M0,0 L{a},{b} A{LENGTH},{LENGTH} 0 {large} 1 {c},{d} Z"/>'


def spoofed_directions(
    cosines: np.ndarray, pair: tuple[int, int], directions: Sequence[float], radius_spoof: float
) -> list[tuple[float, float]]:
    """Arcs (from, to) in radians of a plane whose directions have at most `radius_spoof` as cosine to all centroids.

    Args:
        cosines: others than the pair reach into the plane as well.
        directions: of the pair's centroids in the plane.
    """
    own = np.array([[math.cos(d), math.sin(d)] for d in directions])
    # Where each centroid falls upon the plane: the point with its cosines to the two that span it.
    fallen = np.linalg.pinv(own) @ cosines[list(pair[: len(own)])]  # (2, K)
    n_steps = round(360 / STEP_DEG)
    steps = np.radians(np.arange(n_steps) * STEP_DEG)
    greatest = (np.stack([np.cos(steps), np.sin(steps)], axis=1) @ fallen).max(axis=1)
    free = greatest <= radius_spoof
    if free.all() or not free.any():
        return []
    first = int(np.flatnonzero(~free)[0])  # start where no arc is cut in two
    changes = np.flatnonzero(np.diff(np.roll(free, -first).astype(int), append=0))
    step = math.radians(STEP_DEG)
    return [((first + a + 1) * step, (first + b) * step) for a, b in zip(changes[::2], changes[1::2]) if b > a + 1]
