"""What the API answers, as its description has it (OpenAPI). A judgement: `qamo.inference.judge`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from qamo.inference.judge import Judgement

NOT_HERE = {404: "nothing is at this address; /openapi.json names what is", 405: "expects another method: see Allow"}


class Problem(BaseModel):
    """Any answer but 200."""

    error: str  # one sentence


class Channels(BaseModel):
    """The answer for `channel=each`."""

    channels: list[Judgement]


class Detector(BaseModel):
    """What is known before the first recording."""

    detector: str
    weights: str  # digest
    meaning: list[str]  # of a score, in sentences
    window_seconds: float
    threshold: float | None
    band: tuple[float | None, float | None] | None  # of scores without a verdict
    prior: float
    max_seconds: float
    max_bytes: int
    version: str


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": when}
    for status, when in {
        400: "malformed, or the upload was cut off",
        401: "the token is missing or wrong",
        403: "another page, or a name that is not this server's",
        408: "the upload took too long",
        411: "no Content-Length",
        413: "larger than the server takes",
        422: "no recording, too long, or it cannot be judged",
        429: "all places are taken; try again after Retry-After seconds",
        503: "the judging process does not start, or there are too many connections",
    }.items()
}
