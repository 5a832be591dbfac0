"""The lists, protocols and keys that the authors publish: where each belongs, and which bytes it has.

`database/prepare.py authors` fetches them; commands that miss one name that command.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

COMMIT = "47d77cc9080b5cfb5fe5a73f12b22c64d581f3f7"
URL = f"https://raw.githubusercontent.com/ductuantruong/QAMO/{COMMIT}"
COMMAND = "python database/prepare.py authors"


class Published(NamedTuple):
    """A file of the authors."""

    corpus: str  # as prepare.py calls it
    target: str  # below data.protocols_path, where commands look
    sources: tuple[str, ...]  # where in their repository it may lie; the digest says whether it is the one
    sha256: str
    n_bytes: int


def _mos(name: str, *folders: str) -> tuple[str, ...]:
    return tuple(f"database/{folder}/{name}" for folder in folders)


_LA = "ASVspoof_LA_cm_protocols"
FILES = [
    Published(
        "la2019",
        f"LA/{_LA}/ASVspoof2019.LA.cm.train.trn.score.txt",
        _mos("ASVspoof2019.LA.cm.train.trn.score.txt", f"protocols_w_mos/{_LA}", "protocols_w_mos", _LA),
        "9bafd5c7d4aaea2bbd5c0700638e66b694aa37981270e11cf05631d8fb6915c9",
        1_014_999,
    ),
    Published(
        "la2019",
        f"LA/{_LA}/ASVspoof2019.LA.cm.dev.trl.score.txt",
        _mos("ASVspoof2019.LA.cm.dev.trl.score.txt", f"protocols_w_mos/{_LA}", "protocols_w_mos", _LA),
        "4246e20c6ed2e6ae559a285118f5a0e68887bdc4b22183b5526265d29370bb29",
        993_549,
    ),
    Published(
        "itw",
        "protocols/in_the_wild.eval.txt",
        ("database/protocols/in_the_wild.eval.txt",),
        "b7b6359493f32ed857e4a8c1c4a74ba3ca9e25759dd42c7364e551e6be130885",
        306_679,
    ),
    Published(
        "itw",
        "ood_ds_keys/ITW/meta.csv",
        ("database/ood_ds_keys/ITW/meta.csv",),
        "2e404150eff3cf171b766da81013a93248cbb219682fff420bbadb6b86a18795",
        1021512,
    ),
    Published(
        "itw",
        "ood_ds_keys/ITW/meta.score.txt",
        _mos("in_the_wild.meta.score.txt", "protocols_w_mos", "protocols_w_mos/in_the_wild", "protocols"),
        "4bf0476488b82a1030fa1e49ff4d6ddf36e1cffc46e16e6c3231d216678b0a40",
        1_240_385,
    ),
    Published(
        "for",
        "protocols/for_norm_test.txt",
        ("database/protocols/for_norm_test.txt",),
        "20de34930ccdd635c6616b55b7ef04ef98d2aadf1aed44589ab065d11dfc2639",
        257_291,
    ),
    Published(
        "for",
        "ood_ds_keys/FoR/meta.csv",
        ("database/ood_ds_keys/FoR/meta.csv",),
        "1cddbba36ec66aa086c0a829ba7af414add99a90118f17d0244e2162a242b89c",
        275626,
    ),
]


def how_to_get(path: Path) -> str:
    """An ending for the sentence that `path` is missing: how to fetch it, where the authors publish it."""
    tail = path.as_posix().rstrip("/")
    if any(tail.endswith((file.target, file.target.rpartition("/")[0])) for file in FILES):
        return f"; `{COMMAND}` fetches what the authors publish"
    return ""
