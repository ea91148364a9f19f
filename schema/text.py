"""YAML text -> plain data, with a parallel tree of nodes that knows the place of every value.

libyaml's composer creates the nodes, through ruamel.yaml. This module then converts scalars, by the core schema of YAML
1.2 (yaml.org/spec/1.2.2, 10.3.2). The library's own constructor takes four times as long as the parser and does not
keep places (`bench/` has the measurement).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.cyaml import CParser
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import MappingEndEvent, MappingStartEvent, SequenceEndEvent, SequenceStartEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from schema.problem import Place, Problem

MAX_FILE = 16 << 20
MAX_LINE = 64 << 10
MAX_DEPTH = 100
MAX_EXPANSION = 200_000
"""The maximum number of values that aliases may add to a file. An alias bomb needs billions."""

_PLAIN = re.compile(
    r"(?P<null>~|null|Null|NULL|)"
    r"|(?P<true>true|True|TRUE)|(?P<false>false|False|FALSE)"
    r"|(?P<int>[-+]?[0-9]+)|(?P<octal>0o[0-7]+)|(?P<hex>0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)"
)
_VALUES: dict[str, Any] = {"null": None, "true": True, "false": False}
_RADIX = {"int": 10, "octal": 8, "hex": 16}
_FIRST = frozenset("~nNtTfF0123456789+-.")
_NO_TAG = "?"


_SHALLOW = "no document of gitwan needs more than ten levels"


class _Untagged:
    """Leaves scalars without a type, so that this module converts them."""

    def resolve(self, kind: type, value: object, implicit: object) -> str:
        return _NO_TAG

    def descend_resolver(self, node: object, index: object) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


class _Composer(_Untagged, CParser):  # type: ignore[misc]
    """libyaml's composer, in C. It leaves scalars without a type."""


class _PlainResolver(_Untagged, VersionedResolver):  # type: ignore[misc]
    """The same resolver for ruamel.yaml's composer in Python."""

    def resolve(self, kind: type, value: object, implicit: object) -> Tag:
        return Tag(suffix=_NO_TAG)


@dataclass(frozen=True, slots=True)
class Text:
    """A file as data, with the tree of nodes that knows the place of each value."""

    path: str
    data: Any
    node: Any

    def place(self, loc: Sequence[str | int] = (), key: bool = False) -> Place:
        """The place of the value at `loc`, or of its key. If the file has no such value, the place of the nearest
        parent."""
        node, where = self.node, self.node
        for step in loc:
            found = _child(node, step)
            if found is None:
                if isinstance(step, str) and isinstance(node, SequenceNode):
                    continue  # a short form: the list is written in place of the mapping with this key
                break
            where, node = found
        mark = (where if key else node).start_mark if node is not None else None
        return Place(self.path, mark.line + 1, mark.column + 1) if mark else Place(self.path)


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(step)), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


class _Finding(Exception):  # noqa: N818 - carries a finding out of the recursion
    def __init__(self, code: str, node: Any, message: str, hint: str, other: Any = None) -> None:
        super().__init__(message)
        self.code, self.node, self.message, self.hint, self.other = code, node, message, hint, other


def parse(path: str, content: bytes) -> Text | Problem:
    """Parse one file. Returns a problem if it is not valid YAML for a repository."""
    decoded = _decode(path, content)
    if isinstance(decoded, Problem):
        return decoded
    try:
        if _may_be_deep(decoded) and (place := _too_deep(path, decoded)):
            return Problem("GW004", place, "nested too deeply", _SHALLOW)
        node = _compose(decoded)
        return Text(path, None if node is None else _Builder().build(node), node)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
        words = " ".join(str(part) for part in (error.context, error.problem) if part)
        if "found another document" in words:
            return Problem("GW001", place, "a second document in one file", "give each document a file of its own")
        hint = "look at the indentation and the quotes at and above this line"
        return Problem("GW001", place, f"not YAML: {words}", hint)
    except YAMLError as error:
        return Problem("GW001", Place(path), f"not YAML: {_one_line(error)}", "remove what YAML does not allow")
    except RecursionError:
        return Problem("GW004", Place(path), "nested too deeply", _SHALLOW)
    except _Finding as found:
        places = tuple((_place(path, n), "the first one") for n in (found.other,) if n is not None)
        return Problem(found.code, _place(path, found.node), found.message, found.hint, places)


def _decode(path: str, content: bytes) -> str | Problem:
    if len(content) > MAX_FILE:
        return Problem("GW005", Place(path), f"larger than {MAX_FILE >> 20} MiB", "divide it into several files")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"not UTF-8: byte 0x{content[error.start]:02x}"
        return Problem("GW003", Place(path, line, column), message, "save the file in UTF-8")
    if len(text) > MAX_LINE:
        for number, line_text in enumerate(text.split("\n"), 1):
            if len(line_text) > MAX_LINE:
                message = f"a line of {len(line_text)} characters"
                hint = f"a line may have {MAX_LINE}: write one item a line"
                return Problem("GW005", Place(path, number, 1), message, hint)
    return text


def _compose(text: str) -> Any:
    """The tree of nodes. libyaml before 0.2.1 rejects `[fd00::/64]` without quotes, although YAML 1.2 allows it. What
    libyaml rejects is therefore parsed again by ruamel.yaml's slower composer."""
    try:
        return _Composer(text).get_single_node()
    except YAMLError:
        yaml = YAML(typ="safe", pure=True)
        yaml.Resolver = _PlainResolver
        return yaml.compose(text)


def _may_be_deep(text: str) -> bool:
    """Whether a text could be nested too deeply. Each level needs a bracket, or a column of indentation."""
    return text.count("[") + text.count("{") > MAX_DEPTH or max(map(len, text.split("\n"))) > MAX_DEPTH


def _too_deep(path: str, text: str) -> Place | None:
    """The place where the nesting exceeds MAX_DEPTH. The composer recurses in C and would crash the process there."""
    parser, depth = CParser(text), 0
    with suppress(YAMLError):
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, SequenceStartEvent | MappingStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    return Place(path, event.start_mark.line + 1, event.start_mark.column + 1)
            elif isinstance(event, SequenceEndEvent | MappingEndEvent):
                depth -= 1
    return None


def _place(path: str, node: Any) -> Place:
    return Place(path, node.start_mark.line + 1, node.start_mark.column + 1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Builder:
    """Nodes -> data. Shared nodes (aliases) are built again each time and counted, so that no two places share a
    value."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.seen: set[int] = set()
        self.repeated = 0

    def build(self, node: Any) -> Any:
        if node.ctag.suffix != _NO_TAG:  # `node.tag` would create the tag's text again for each node
            hint = "write the plain value; text that looks like a number goes into quotes"
            raise _Finding("GW008", node, f"the tag {node.tag} is not known here", hint)
        if type(node) is ScalarNode:
            return self._scalar(node)
        return self._collection(node)

    def _collection(self, node: Any) -> Any:
        identity = id(node)
        if identity in self.open:
            raise _Finding("GW004", node, "an alias stands inside what it names", "write the value out")
        if identity in self.seen:
            self.repeated += 1 + len(node.value)
        self.seen.add(identity)
        if self.repeated > MAX_EXPANSION:
            raise _Finding("GW004", node, "its aliases expand to too many values", "write the values out")
        self.open.add(identity)
        result = self._mapping(node) if type(node) is MappingNode else [self.build(item) for item in node.value]
        self.open.discard(identity)
        return result

    def _mapping(self, node: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if type(key_node) is not ScalarNode:
                raise _Finding("GW008", key_node, "a key that is not text", "keys are plain words")
            key = key_node.value
            if key in result:
                first = next(k for k, _ in node.value if k.value == key)
                raise _Finding("GW002", key_node, f"the key {key!r} stands here twice", "remove one of them", first)
            result[key] = self.build(value_node)
        return result

    @staticmethod
    def _scalar(node: Any) -> Any:
        value: str = node.value
        if node.style or (value and value[0] not in _FIRST):
            return value
        found = _PLAIN.fullmatch(value)
        if found is None:
            return value
        kind = found.lastgroup if found.lastgroup in _VALUES or found.lastgroup in _RADIX else "float"
        if kind in _VALUES:
            return _VALUES[kind]
        if len(value) > 100:
            raise _Finding("GW013", node, "a number of more than 100 digits", "put text into quotes")
        return int(value, _RADIX[kind]) if kind in _RADIX else float(value)
