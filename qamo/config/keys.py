"""What a key of the config is made of: its type, its default, its sentence, its role, and the checks of its value.

A key is declared by what it decides, for instance `alpha: float = loss(20.0, "sharpness of ...", gt=0)`. Sentences
become the comments of config.yaml and the help of the flags; roles say what may change when (see `Role`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache, partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator

from qamo.config.yaml_text import Word


class Role(Enum):
    """What a key decides."""

    ARCHITECTURE = "the network: weights fit one value only, and scores depend on it"
    SCORING = "scores; may change after training"
    TRAINING = "the trained weights, and scores through them alone"
    LOSS = "the loss, and weights and scores through it alone"
    FREE = "neither weights nor scores (paths, speed, memory, what is reported); may change when a run is resumed"


def _key(role: Role, default: Any, sentence: str, **checks: Any) -> Any:
    return Field(default, description=sentence, json_schema_extra={"role": role.name}, **checks)


architecture = partial(_key, Role.ARCHITECTURE)
scoring = partial(_key, Role.SCORING)
training = partial(_key, Role.TRAINING)
loss = partial(_key, Role.LOSS)
free = partial(_key, Role.FREE)


class Section(BaseModel):
    """Keys that belong together; frozen, and strict about unknown ones. Its docstring is its heading in config.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name, field in cls.model_fields.items():
            if is_section(field.annotation):
                continue
            if not (field.description and field.json_schema_extra):
                raise TypeError(
                    f"{cls.__name__}.{name}: declare it as {' or '.join(role.name.lower() for role in Role)}"
                )
            if not _has_ranges(field.annotation, field.metadata):
                raise TypeError(f"{cls.__name__}.{name}: give its numbers a lowest and a highest value")

    @field_validator("*", mode="before")
    @classmethod
    def _typed(cls, value: Any, info: Any) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        value = _meant(value, _takes(annotation))
        if isinstance(value, str) and "\0" in value:
            raise ValueError("expected a text without NUL, which no file's name holds")
        if isinstance(value, str) and value.startswith("~/"):
            value = os.path.expanduser(value)  # which a shell does at the beginning of a word only
        if isinstance(value, bool) and bool not in _takes(annotation) and {int, float} & _takes(annotation):
            raise ValueError(f"expected a number, found {value}")
        return value

    @classmethod
    def sentence(cls, name: str) -> str:
        """The sentence of a key, or the heading of a section in this one."""
        field = cls.model_fields[name]
        if is_section(field.annotation):
            return (field.annotation.__doc__ or "").partition("\n")[0].removesuffix(".")
        return field.description or ""


class Key(NamedTuple):
    """What is known of a key besides its value."""

    sentence: str
    role: Role
    default: Any


@cache
def keys_of(section: type[Section]) -> Mapping[str, Key]:
    """Every key of a section by its dotted name; in `Config`: `model.qamo.score`, `eval.catalogue.SET.audio`."""
    return dict(_keys_of(section, ""))


def _keys_of(section: type[Section], prefix: str) -> Iterator[tuple[str, Key]]:
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            yield from _keys_of(field.annotation, f"{prefix}{name}.")
            continue
        extra: Any = field.json_schema_extra
        yield f"{prefix}{name}", Key(section.sentence(name), Role[extra["role"]], field.default)
        for entry in filter(is_section, get_args(field.annotation)):
            yield from _keys_of(entry, f"{prefix}{name}.SET.")


def is_section(annotation: Any) -> TypeGuard[type[Section]]:
    """Whether a field is annotated as a section of keys."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _takes(annotation: Any) -> set[Any]:
    """The plain types that a field holds, itself or as items: {str, NoneType} of `list[str] | None`."""
    if get_origin(annotation) is Literal:
        return {type(choice) for choice in get_args(annotation)}
    if get_origin(annotation) is Annotated:
        return _takes(get_args(annotation)[0])
    if get_args(annotation):
        return set().union(*map(_takes, get_args(annotation)))
    return {annotation}


def _meant(value: Any, takes: set[Any]) -> Any:
    """A word of YAML as what a field of these types means by it."""
    if isinstance(value, list):
        return [_meant(item, takes) for item in value]
    if not isinstance(value, Word):
        return value
    is_text = bool({str, Path} & takes) and not {int, float, bool} & takes
    return value.value if not is_text or (value.value is None and NoneType in takes) else str(value)


def _has_ranges(annotation: Any, metadata: Sequence[Any] = ()) -> bool:
    """Whether every number that a field can hold has a lowest and a highest value."""
    if get_origin(annotation) is Annotated:
        return _has_ranges(get_args(annotation)[0], get_args(annotation)[1:])
    if annotation in (int, float):
        checks = [check for one in metadata for check in (getattr(one, "metadata", None) or [one])]
        low, high = (
            any(hasattr(check, a) or hasattr(check, b) for check in checks) for a, b in (("ge", "gt"), ("le", "lt"))
        )
        return low and high
    if get_origin(annotation) is Literal:
        return True
    return all(_has_ranges(part, metadata) for part in get_args(annotation) if part is not ...)
