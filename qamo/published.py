"""What the published code leaves behind: its folder of best epochs."""

from __future__ import annotations

from pathlib import Path

from qamo import InputError

EPOCHS = "best_*.pth"  # the best epochs as the published code keeps them, best_0.pth the best
OURS = ("model.pt", "qamo.json")  # one of which is in a run of ours, and in an export


def published_epochs(path: Path | None) -> list[Path]:
    """The best epochs in a folder of the published code, or in its folder `best`, best first; [] of anything else.

    Raises:
        InputError: one of them is missing.
    """
    if path is None or not path.is_dir() or any((path / name).is_file() for name in OURS):
        return []
    found = {p.stem.removeprefix("best_"): p for p in [*path.glob(EPOCHS)] or path.glob(f"best/{EPOCHS}")}
    numbered = sorted((int(number), p) for number, p in found.items() if number.isdigit())
    for expected, (number, _) in enumerate(numbered):
        if number != expected:
            raise InputError(f"{path}: expected best_{expected}.pth beside {numbered[-1][1].name}; copy it there too")
    return [p for _, p in numbered]
