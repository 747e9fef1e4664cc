"""YAML: each document is a record, or each item of a document that is a list.

Values are resolved by the core schema of YAML 1.2, so that `no` and `22:22`
stay text and every digit of a number is kept; a date stays the text that it is.
Of PyYAML only the parser is used, no constructor: a tag cannot make it run
anything. What an alias stands for counts each time, and a record of more than
64 MiB of such copies is refused ("billion laughs").
Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, BinaryIO

from howdah.errors import MissingExtra
from howdah.loading.readers import HEAD_BYTES, Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.characters import encoding_of, looks_like_text
from howdah.loading.readers.encode import encode

__all__ = ["YAML"]

_ALIASED_LIMIT_BYTES = 64 << 20
_NODE_BYTES = 8  # what a value costs besides its text, about
_SUFFIXES = {".yaml", ".yml"}
_START = re.compile(r"\ufeff?(?:\s*#[^\n]*\n)*(?:%YAML |---(?:\s|$))")
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"


class YAML(Reader):
    """Reads YAML streams, document by document and item by item."""

    name = "yaml"
    text = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by name, or by the mark that a document starts with."""
        if not looks_like_text(head.data):
            return Match.NO
        if head.suffix in _SUFFIXES:
            return Match.LIKELY
        if head.suffix not in {"", ".txt", ".conf", ".cfg"}:
            return Match.NO
        text = head.data.decode(encoding_of(head.data), "replace")
        if not _START.match(text):
            return Match.NO
        return Match.LIKELY if _holds_values(text, whole=len(head.data) < HEAD_BYTES) else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`."""
        try:
            import yaml
        except ModuleNotFoundError as exc:
            raise MissingExtra("reading YAML files", "tables") from exc
        try:
            yield from _records(_events(file))
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            reason = getattr(exc, "problem", None) or getattr(exc, "reason", None) or exc
            raise UnreadableSource(f"The YAML cannot be read: {reason}{where}.") from exc


def _events(source: Any) -> Iterator[Any]:
    import yaml

    # libyaml's parser where PyYAML was built with it: ten times as fast.
    events: Iterator[Any] = yaml.parse(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return events


def _holds_values(text: str, *, whole: bool) -> bool:
    """Say whether each document of a text is a mapping or a list, as far as the text goes."""
    try:
        import yaml
    except ModuleNotFoundError:
        return True  # so that its reader says what is missing
    found, depth = False, 0
    try:
        for event in _events(text):
            if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) and not depth:
                return False  # front matter, and the text behind it
            if isinstance(event, yaml.CollectionStartEvent):
                found, depth = True, depth + 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return found and not whole
    return found


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read.

    Attributes:
        value: What it holds so far.
        anchor: Its own, if it has one.
        key: The key whose value comes next, in a list of one; [] where a key comes next.
        size: About how many bytes of text it stands for.
    """

    value: list[Any] | dict[Any, Any]
    anchor: str | None
    key: list[Any] = field(default_factory=list)
    size: int = _NODE_BYTES


def _records(events: Iterator[Any]) -> Iterator[Any]:
    """Yield each document, or each item of one that is a list."""
    import yaml

    builder = _Builder()
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            builder = _Builder()
        elif isinstance(event, yaml.SequenceStartEvent) and builder.at_top:
            builder.in_list = True
        elif isinstance(event, yaml.SequenceEndEvent) and builder.is_idle:
            builder.in_list = False
        elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            yield from builder.take(event)


class _Builder:
    """Builds the values of one document out of events; holds one record, and what has an anchor."""

    def __init__(self) -> None:
        self.in_list = False
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0

    @property
    def at_top(self) -> bool:
        return not self._open and not self.in_list

    @property
    def is_idle(self) -> bool:
        return not self._open

    def take(self, event: Any) -> Iterator[Any]:
        """Take an event; yield a record if that ends one."""
        import yaml

        if isinstance(event, yaml.CollectionStartEvent):
            value: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            self._open.append(_Open(value, event.anchor))
            return
        if isinstance(event, yaml.AliasEvent):
            value, size = self._aliased_value(event.anchor or "")
        elif isinstance(event, yaml.ScalarEvent):
            value, size = _scalar(event), len(event.value) + _NODE_BYTES
            self._keep(event.anchor, value, size)
        else:
            closed = self._open.pop()
            value, size = closed.value, closed.size
            self._keep(closed.anchor, value, size)
        if self._open:
            _add(self._open[-1], value, size)
        else:
            self._aliased = 0
            yield value

    def _keep(self, anchor: str | None, value: Any, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = value, size

    def _aliased_value(self, anchor: str) -> tuple[Any, int]:
        if anchor not in self._anchors:
            raise UnreadableSource(f"The alias *{anchor} stands for itself, or for nothing.")
        value, size = self._anchors[anchor]
        self._aliased += size
        if self._aliased > _ALIASED_LIMIT_BYTES:
            raise UnreadableSource(
                f"The aliases of one record stand for more than {_ALIASED_LIMIT_BYTES} bytes."
            )
        return value, size


def _add(parent: _Open, value: Any, size: int) -> None:
    parent.size += size
    if isinstance(parent.value, list):
        parent.value.append(value)
    elif not parent.key:
        parent.key = [value if isinstance(value, _Merge) else _as_key(value)]
    else:
        (key,) = parent.key
        parent.key = []
        if not isinstance(key, _Merge):
            parent.value[key] = value
        else:
            for merged in value if isinstance(value, list) else [value]:
                # What the mapping itself says wins; so it does when it comes later.
                if isinstance(merged, dict):
                    parent.value.update({k: v for k, v in merged.items() if k not in parent.value})


def _as_key(value: Any) -> str:
    """Return a key as text: that of Python would hold `1` and `true` for one."""
    return value if isinstance(value, str) else encode(value)[0].decode()


class _Merge(str):
    """The key `<<`, whose value is merged into the mapping."""

    __slots__ = ()


def _scalar(event: Any) -> Any:
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        if not event.implicit[0]:  # in quotes, or a block of text
            return text
        return _Merge(text) if text == "<<" else _resolved(text)
    if tag in {_TAG + name for name in ("null", "bool", "int", "float")}:
        return _resolved(text)
    if tag == _TAG + "binary":
        return re.sub(r"\s+", "", text)
    return text


def _number(text: str) -> Any:
    try:
        return Decimal(text)  # int() refuses more than 4300 digits, and float() loses some
    except InvalidOperation:  # an exponent of twenty digits
        return text


def _resolved(text: str) -> Any:
    if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
        return _number(text)
    if _NULL.fullmatch(text):
        return None
    if found := _BOOL.fullmatch(text):
        return found[1] is not None
    if found := _BASED.fullmatch(text):
        return int(found[1], 8) if found[1] else int(found[2], 16)
    if found := _SPECIAL.fullmatch(text):
        return float(f"{found[1] or ''}inf") if found[1] is not None else float("nan")
    return text
