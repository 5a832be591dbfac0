"""What a key of the config is made of: its type, its default, its sentence, its role, and the checks of its value.

A key is declared by what it decides, for instance `alpha: float = loss(20.0, "sharpness of ...", gt=0)`. Sentences
become the comments of config.yaml and the help of the flags; roles say what may change when (see `Role`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache, partial
from typing import Any, NamedTuple, TypeGuard, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator


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

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name, field in cls.model_fields.items():
            if not is_section(field.annotation) and not (field.description and field.json_schema_extra):
                raise TypeError(
                    f"{cls.__name__}.{name}: declare it as {' or '.join(role.name.lower() for role in Role)}"
                )

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation in (int, float):
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
