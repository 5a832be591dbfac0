"""YAML of a person, read with care: keys once, no tags, no bombs, and every plain word kept as it was written.

What a word means depends on the key: `name: 2024` and `comment: on` are texts, `seed: 2024` is a number. So a plain
word becomes a `Word`, which has both, and the type of the key chooses (`qamo.config.keys`).
"""

from __future__ import annotations

from typing import Any

import yaml

from qamo import InputError

MAX_CHARACTERS, MAX_VALUES, MAX_DEPTH = 1_000_000, 100_000, 20

# Those in C, where PyYAML has them, read and write 15 times as fast.
_Loader, Dumper = (getattr(yaml, f"C{kind}", getattr(yaml, kind)) for kind in ("SafeLoader", "SafeDumper"))
_MEANT = {"tag:yaml.org,2002:" + name for name in ("null", "bool", "int", "float")}
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class Text(str):
    """A value that is not YAML but the text itself, as of a flag."""


class Word(str):
    """A plain word of YAML as it was written; `value` is the number, truth or null that YAML takes it for."""

    value: Any


def parse(text: str, where: object) -> Any:
    """The value of a YAML text: dictionaries with texts as keys, lists, texts and words; None where it is empty.

    Raises:
        InputError: not YAML, a key that stands twice, a tag, or more and deeper values than settings have.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{where}: {len(text)} characters are more than settings have")
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):  # unlike what follows, not recursive
            depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
            if depth > MAX_DEPTH:
                raise InputError(f"{_place(where, event)}: more than {MAX_DEPTH} levels, deeper than settings are")
        node = yaml.compose(text, _Loader)
        return None if node is None else _Tree(where).value(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError of a number that Python does not read
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


class _Tree:
    """Nodes to values; counts them, since an alias repeats what it names."""

    def __init__(self, where: object) -> None:
        self.where = where
        self.constructor = yaml.constructor.SafeConstructor()
        self.resolver = yaml.resolver.Resolver()
        self.n_values = 0

    def value(self, node: yaml.Node, depth: int = 0) -> Any:
        self.n_values += 1
        if self.n_values > MAX_VALUES or depth > MAX_DEPTH:  # the depth of an alias within itself
            raise InputError(f"{_place(self.where, node)}: aliases (*) make more values than settings have")
        if isinstance(node, yaml.ScalarNode):
            return self._word(node)
        self._refuse_tag(node, node.tag.endswith((":map", ":seq")))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        tree: dict[str, Any] = {}
        for key, item in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or name == "<<":
                raise InputError(f"{_place(self.where, key)}: expected a plain text as a key")
            if name in tree:
                raise InputError(f"{_place(self.where, key)}: the key {name!r} stands twice; leave one out")
            tree[str(name)] = self.value(item, depth + 1)
        return tree

    def _word(self, node: yaml.ScalarNode) -> str:
        plain = not node.style  # in C an empty text, in Python None
        implied = self.resolver.resolve(yaml.ScalarNode, node.value, (plain, not plain))
        self._refuse_tag(node, node.tag == implied)
        # Quoted, a text, a date, or 12:30 which YAML takes for a number to the base of 60: no key asks for these.
        if not plain or node.tag not in _MEANT or ":" in node.value:
            return str(node.value)
        word = Word(node.value)
        word.value = self.constructor.construct_object(node)
        return word

    def _refuse_tag(self, node: yaml.Node, good: bool) -> None:
        if not good:
            raise InputError(f"{_place(self.where, node)}: the tag {node.tag!r} is not read; write the value alone")


def _place(where: object, at: Any) -> str:
    return f"{where}:{at.start_mark.line + 1}"
