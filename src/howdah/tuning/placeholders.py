"""What each `$1`, `$2` of a statement stands for, read from its text. Pure.

pg_stat_statements keeps statements with placeholders instead of values. Where
the text says plainly which column a placeholder is for, that is found here:
rows of VALUES, `column = $1`, `column IN ($1, $2)`, `= ANY ($1)`, Django's
bulk statements (`SELECT * FROM UNNEST($1, $2)`, `CASE WHEN id = $1 THEN $2`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Place", "named", "places", "with_arrays"]

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")+"|\$\d+|[^\W\d][\w$]*|::|\d[\w.]*|\S""",
    re.DOTALL,
)
_PLACEHOLDER = re.compile(r"\$(\d+)")
_WORD = re.compile(r'"(?:[^"]|"")+"|[^\W\d][\w$]*')
# A constant after the name of its type, which no placeholder may stand after.
_TYPED = re.compile(
    r"\b(interval|date|time(?:stamp)?(?:tz|\s+with(?:out)?\s+time\s+zone)?|jsonb?|numeric|inet)"
    r"\s+(\$\d+)",
    re.IGNORECASE,
)
# From 18 on, of the constants of an IN only the first is kept.
_SQUASHED = re.compile(r"(?<!NOT )\bIN\s*\(\s*(\$\d+)\s*/\*, \.\.\. \*/\s*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """What a placeholder is for.

    Attributes:
        column: Of the statement's table.
        row: Which of the statement's rows, from 0.
        sought: Whether rows are looked for by it, so that they should exist.
        many: Whether it is an array, with an element for each row.
    """

    column: str
    row: int = 0
    sought: bool = False
    many: bool = False


def with_arrays(query: str) -> str:
    """Return a statement with `= ANY ($1)` for an IN whose list pg_stat_statements cut short."""
    return _SQUASHED.sub(r"= ANY (\1)", query)


def named(query: str) -> str:
    """Return a statement with psycopg's `%(p1)s` for `$1`."""
    query = _TYPED.sub(r"CAST(\2 AS \1)", query).replace("%", "%%")
    return _outside_quotes(query)


def _outside_quotes(query: str) -> str:
    parts, end = [], 0
    for match in _TOKEN.finditer(query):
        parts.append(query[end : match.start()])
        parts.append(_PLACEHOLDER.sub(r"%(p\1)s", match[0]) if match[0][0] == "$" else match[0])
        end = match.end()
    return "".join([*parts, query[end:]])


def places(query: str, columns: Sequence[str]) -> Mapping[int, Place]:
    """Return what the placeholders are for, by number; those that are unclear are left out.

    Args:
        query: An INSERT or UPDATE.
        columns: Of its table, in order, for an INSERT that does not list them.
    """
    tokens = [token for token in _TOKEN.findall(query) if not token.startswith(("--", "/*"))]
    found = _Found(tokens)
    found.compared()
    if tokens and tokens[0].lower() == "insert":
        found.inserted(columns)
    return found.places


@dataclass
class _Found:
    tokens: list[str]
    places: dict[int, Place] = field(default_factory=dict)

    def compared(self) -> None:
        """Find `column = $1` and its kin, and the values of SET."""
        seeking, column, whens = False, "", -1
        for at, one in enumerate(self.tokens):
            word = one.lower()
            if word in ("where", "set"):
                seeking = word == "where"
            elif word == "when":
                whens += 1
            elif word == "then" and column and (number := _number(self._after(at + 1))):
                self.places[number] = Place(column, max(whens, 0))
            elif one == "=" and (name := self._name_before(at)):
                in_when = self._clause_of(at) == "when"
                if not seeking and not in_when:
                    column, whens = name, -1
                self._equals(at + 1, name, whens if in_when else 0, seeking or in_when)
            elif word == "in" and (name := self._name_before(at)):
                for row, part in enumerate(self._list(at + 1)[0]):
                    self._note(part, Place(name, row, sought=True))

    def _equals(self, at: int, column: str, row: int, sought: bool) -> None:
        if self._token(at).lower() == "any":
            if number := _number(self._after(at + 1)):
                self.places[number] = Place(column, 0, sought, many=True)
        elif number := _number(self._after(at)):
            self.places[number] = Place(column, row, sought)

    def inserted(self, columns: Sequence[str]) -> None:
        """Find the rows of VALUES, or the arrays of UNNEST."""
        lowered = [token.lower() for token in self.tokens]
        start = next((at for at, word in enumerate(lowered) if word in ("values", "select")), None)
        if start is None:
            return
        listed = lowered.index("(") if "(" in lowered[:start] else None
        if listed is not None:
            columns = [_unquoted(part[0]) for part in self._list(listed)[0] if part]
        if lowered[start : start + 5] == ["select", "*", "from", "unnest", "("]:
            for name, part in zip(columns, self._list(start + 4)[0], strict=False):
                self._note(part, Place(name, many=True))
            return
        at, row = start + 1, 0
        while lowered[start] == "values" and self._token(at) == "(":
            parts, at = self._list(at)
            for name, part in zip(columns, parts, strict=False):
                self._note(part, Place(name, row))
            row += 1
            at += self._token(at) == ","

    def _note(self, part: Sequence[str], place: Place) -> None:
        """Note a placeholder that stands by itself, perhaps with brackets and a cast."""
        inner = [token for token in part if token not in ("(", ")")]
        if inner and (number := _number(inner[0])) and inner[1:2] in ([], ["::"]):
            self.places[number] = place

    def _token(self, at: int) -> str:
        return self.tokens[at] if at < len(self.tokens) else ""

    def _after(self, at: int) -> str:
        """Return the next token that is no bracket."""
        while self._token(at) == "(":
            at += 1
        return self._token(at)

    def _name_before(self, at: int) -> str | None:
        token = self.tokens[at - 1] if at else ""
        return _unquoted(token) if _WORD.fullmatch(token) else None

    def _clause_of(self, at: int) -> str:
        for token in reversed(self.tokens[:at]):
            if token.lower() in ("when", "then", "else", "set", "where"):
                return token.lower()
        return ""

    def _list(self, at: int) -> tuple[list[list[str]], int]:
        """Return the parts of a list in brackets, each as its tokens, and where it ends."""
        parts: list[list[str]] = [[]]
        depth = 0
        for place, one in enumerate(self.tokens[at:], at):
            depth += {"(": 1, ")": -1}.get(one, 0)
            if depth == 0:
                return parts, place + 1
            if one == "," and depth == 1:
                parts.append([])
            elif place > at:
                parts[-1].append(one)
        return parts, len(self.tokens)


def _number(token: str) -> int | None:
    match = _PLACEHOLDER.fullmatch(token)
    return int(match[1]) if match else None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
