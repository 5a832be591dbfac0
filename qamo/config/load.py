"""YAML files and `section.key=value` words to a `Config`, and a config to YAML whose comments say what each key is."""

from __future__ import annotations

import difflib
import logging
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from qamo import InputError
from qamo.config.keys import Role, Section, keys_of
from qamo.config.parts import ModelConfig
from qamo.config.schema import Config
from qamo.config.yaml_text import Dumper, Text, parse
from qamo.files import read_text

log = logging.getLogger(__name__)

ALTERNATIVE = re.compile(r"(constrained-)?(int|float|str)|literal\[.*")  # of a key, as pydantic calls it in an error
EXPECTED = {  # what it says of types, by the beginning of the kind of its error; of values it says it well
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_type": "a text",
    "path_type": "a path",
    "list_type": "a list",
    "dict_type": "a section of `key: value` lines",
    "model_type": "a section of `key: value` lines",
}
# Old names of keys, which are still accepted, and their names of today, in the same section.
RENAMED = {"data.rawboost.share": "data.rawboost.probability"}
# Keys that came later, and what runs and checkpoints that were made before them did.
ADDED = {
    "data.channel.probability": 0.0,
    "model.conformer_tcm.init": "independent",
    "data.window": "first",
    "train.warmup_steps": 0,
    "train.schedule": "constant",
    "train.clip_norm": None,
    **{f"model.{part}.layers": "last" for part in ("xlsr", "distillmos")},
    **{f"model.{part}.features": "float32" for part in ("xlsr", "distillmos")},
}
WIDTH, LONGEST_LEFT = 120, 40  # columns of the YAML that is written, and of a line whose comment stands beside it
HEADER = """\
Every setting, with what it means. A YAML file for --config needs only the keys that differ from the defaults.
Precedence: defaults < YAML file < --preset < flags < section.key=value. `python main.py --print-config` shows what
a command resolves to, and `python main.py --config /dev/null --print-config > config.yaml` writes the defaults.

A run that is resumed must have the settings that it was started with, but for these and all of score, eval and run:
"""


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Defaults, then the YAML file at `path`, then `overrides` (dotted key -> value or its text).

    Raises:
        InputError: an unknown key, a value of the wrong kind, or a file that is not YAML.
    """
    overrides = overrides or {}
    file = {} if path is None else _current(_read_yaml(path), str(path))
    tree = reduce(_merged, [file, _laid(overrides)], Config().model_dump())
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error, "command line" if path is None else str(path), overrides)) from None


def read_run_config(path: Path) -> Config:
    """The config.yaml of a run folder; a key that came after the run was made has the value that the run had.

    Raises:
        InputError: as for `load_config`.
    """
    written = flat(_read_yaml(path))
    return load_config(path, {key: value for key, value in ADDED.items() if key not in written})


def with_added(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """The model config of a checkpoint, with the keys that came after it was written."""
    added = {key.removeprefix("model."): value for key, value in ADDED.items() if key.startswith("model.")}
    return _merged(_laid(added), model_config)


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """`section.key=value` words -> {dotted key: text}."""
    assignments = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"{word!r}: expected section.key=value, for example train.batch_size=8")
        assignments[key] = value
    return assignments


def given_keys(overrides: Mapping[str, Any]) -> list[str]:
    """The dotted keys that overrides set, under their names of today."""
    return list(flat(_laid(overrides)))


def asked_of_weights(cfg: Config, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Model settings in `overrides` that trained weights must have or can follow: {"qamo.score": "max"}.

    Those that only decide how weights are trained are left out; so are all where there is a training to do.
    """
    if cfg.train.enabled:
        return {}
    values, about = flat(cfg.model.model_dump()), keys_of(ModelConfig)
    given = flat(_laid(overrides).get("model", {}))
    return {key: values[key] for key in given if about[key].role in (Role.ARCHITECTURE, Role.SCORING)}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        rows.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return rows


# ---- reading


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = parse(read_text(path), path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected `section:` and `key: value` lines, found {type(tree).__name__}")
    return tree


def _parsed(dotted: str, value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, Text):
        return value
    return parse(value, f"command line: {dotted}") if value else ""


def _laid(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys with values or their texts as nested sections, under the names of today; later ones win."""
    tree: dict[str, Any] = {}
    for dotted, value in overrides.items():
        branch = _parsed(dotted, value)
        for key in reversed(dotted.split(".")):
            branch = {key: branch}
        tree = _merged(tree, _current(branch, "command line"))
    return tree


def _current(tree: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """`tree` with renamed keys under their names of today."""
    result = {}
    for key, value in tree.items():
        new = RENAMED.get(f"{prefix}{key}")
        name = new.rpartition(".")[2] if new else key
        if new:
            log.info("%s: %s%s is now called %s", where, prefix, key, new)
        if new and name in tree:
            raise InputError(f"{where}: {prefix}{key} is the old name of {new}, and both are given; leave one out")
        result[name] = _current(value, where, f"{prefix}{name}.") if isinstance(value, Mapping) else value
    return result


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, section by section, so that a partial section keeps the other defaults.

    A list takes {"0": value}: a new value at one of its indices.
    """
    result = dict(base)
    for key, value in over.items():
        under = result.get(key)
        if isinstance(value, Mapping) and isinstance(under, dict):
            result[key] = _merged(under, value)
        elif isinstance(value, Mapping) and isinstance(under, (list, tuple)) and all(k.isdigit() for k in value):
            result[key] = list({**{str(index): item for index, item in enumerate(under)}, **value}.values())
        else:
            result[key] = value
    return result


def _explain(error: ValidationError, where: str, overrides: Mapping[str, Any]) -> str:
    first, *others = error.errors()
    path = _key(first)
    dotted = ".".join(path) or "config"
    if any(f"{key}.".startswith(f"{dotted}.") or dotted.startswith(f"{key}.") for key in overrides):
        where = "command line"
    if first["type"] == "extra_forbidden":
        known = _names()
        close = difflib.get_close_matches(dotted, known, n=1) or [
            key for key in known if key.rsplit(".", 1)[-1] == path[-1]
        ]
        hint = f"did you mean {close[0]}?" if close else "see config.yaml for all keys"
        return f"{where}: {dotted}: no such key; {hint}"
    if first["type"] in ("missing", "value_error"):
        return f"{where}: {dotted}: {first['msg'].removeprefix('Value error, ')}"
    expected = " or ".join(_expected(each) for each in (first, *others) if _key(each) == path)
    return f"{where}: {dotted}: expected {expected}, found {first['input']!r}"


def _expected(error: Mapping[str, Any]) -> str:
    known = (words for kind, words in EXPECTED.items() if error["type"].startswith(kind))
    said = str(error["msg"]).removeprefix("Input should be ")
    return next(known, f"a value {said}" if said.startswith(("greater", "less")) else said)


def _key(error: Mapping[str, Any]) -> list[str]:
    """The parts of the key that an error is of, without the alternative that was tried: `int | "auto"` has two."""
    path = [str(part) for part in error["loc"]]
    return path[:-1] if path and ALTERNATIVE.fullmatch(path[-1]) else path


def _names() -> list[str]:
    """All keys and sections."""
    names: dict[str, None] = {}
    for key in keys_of(Config):
        parts = key.split(".")
        names.update(dict.fromkeys(".".join(parts[: n + 1]) for n in range(len(parts))))
    return list(names)


# ---- writing


def to_yaml(cfg: Config) -> str:
    """A config as YAML that `load_config` reads back to an equal one, with a comment for each key."""
    free = [key for key, about in keys_of(Config).items() if about.role is Role.FREE]
    listed = ", ".join(key for key in free if key.split(".")[0] not in ("score", "eval", "run"))
    header = HEADER.splitlines() + textwrap.wrap(listed, WIDTH - 2)
    lines = [f"# {line}".rstrip() for line in header] + ["", *_lines(cfg, cfg.model_dump(mode="json"))]
    return "\n".join(lines) + "\n"


def _lines(section: Section, values: Mapping[str, Any], indent: str = "", *, said: bool = True) -> Iterator[str]:
    """A section's keys with their comments, aligned. Of a dict of sections the first has comments, the others none."""
    lines = {
        name: f"{indent}{name}: {yaml_text(value)}" for name, value in values.items() if not isinstance(value, dict)
    }
    column = max((len(line) for line in lines.values() if len(line) <= LONGEST_LEFT), default=0) + 2
    for name, value in values.items():
        sentence, item = type(section).sentence(name), getattr(section, name)
        if name in lines:
            yield from _commented(lines[name], sentence if said else "", column)
            continue
        yield from [""] * (not indent)
        yield f"{indent}{name}:{'' if value else ' {}'}  # {sentence}"
        if isinstance(item, Section):
            yield from _lines(item, value, indent + "  ")
            continue
        for number, entry in enumerate(value):
            yield f"{indent}  {entry}:"
            yield from _lines(item[entry], value[entry], indent + "    ", said=not number)


def _commented(line: str, sentence: str, column: int) -> list[str]:
    """A line with its comment beside it, or above it where the line is long."""
    if len(line) > column - 2:
        indent = line[: -len(line.lstrip())]
        return [f"{indent}# {words}" for words in textwrap.wrap(sentence, WIDTH - len(indent) - 2)] + [line]
    comments = textwrap.wrap(sentence, WIDTH - column - 2)
    lefts = [line] + [""] * len(comments)
    return [f"{left:{column}}# {words}" for left, words in zip(lefts, comments)] or [line]


def yaml_text(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").rstrip()
