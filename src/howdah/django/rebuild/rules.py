"""What the project allows and wishes: HOWDAH["REBUILD"], read and checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from howdah.errors import UsageError
from howdah.pg import TableName

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Rules:
    """HOWDAH["REBUILD"] of the settings.

    Attributes:
        allow: Names of the databases (not aliases) that may be rebuilt.
        fixtures: Labels as `loaddata` takes them, by alias; "*" for every alias.
        before_sql: Statements to run in the new database before its tables are made, by alias.
        after_sql: Statements to run in it after the fixtures, by alias.
        after: Dotted path of a function, called as f(aliases) once all is built.
        schemas: Further schemas that are the project's, as those that RunSQL makes.
        keep_schemas: Schemas that are never touched.
        keep_tables: Tables whose rows are carried over.
        keep_old: How many replaced generations stay for `--undo`.
        max_size_bytes: A larger database is refused unless it is named by `--allow`.
        lock_timeout_s: How long to try to lock tables that cannot be swapped without.
        kept_results: How many built results are kept for each database.
        direct: Where the server behind a pooler is, as a connection string, by alias.
    """

    allow: tuple[str, ...] = ()
    fixtures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    before_sql: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after_sql: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after: str = ""
    schemas: tuple[str, ...] = ()
    keep_schemas: tuple[str, ...] = ()
    keep_tables: tuple[TableName, ...] = ()
    keep_old: int = 0
    max_size_bytes: int = 10 * _GIB
    lock_timeout_s: float = 30.0
    kept_results: int = 3
    direct: Mapping[str, str] = field(default_factory=dict)

    def for_alias(self, rule: Mapping[str, tuple[str, ...]], alias: str) -> tuple[str, ...]:
        """Return what a rule says for an alias: the entry "*", then its own."""
        return (*rule.get("*", ()), *rule.get(alias, ()))


def rules_of(howdah: Mapping[str, Any]) -> Rules:
    """Read the settings' HOWDAH.

    Raises:
        UsageError: A key is unknown, or its value has the wrong type.
    """
    given = dict(howdah.get("REBUILD", {}))
    known = {one.name for one in fields(Rules)}
    if unknown := sorted(set(given) - known):
        raise UsageError(
            f'HOWDAH["REBUILD"] has the unknown key {unknown[0]!r}.',
            next_step=f"Known are: {', '.join(sorted(known))}.",
        )
    for key in ("fixtures", "before_sql", "after_sql"):
        given[key] = _by_alias(key, given.get(key, ()))
    for key in ("allow", "schemas", "keep_schemas"):
        given[key] = _texts(key, given.get(key, ()))
    given["keep_tables"] = tuple(
        TableName.parse(text) for text in _texts("keep_tables", given.get("keep_tables", ()))
    )
    given["direct"] = {
        alias: texts[0]
        for alias, texts in _by_alias("direct", _listed(given.get("direct"))).items()
    }
    return Rules(**given)


def _listed(value: object) -> object:
    """Return each connection string as a list of one."""
    if isinstance(value, Mapping):
        return {alias: [text] for alias, text in value.items()}
    return {} if value is None else {"*": [value]}


def _by_alias(key: str, value: object) -> dict[str, tuple[str, ...]]:
    if isinstance(value, Mapping):
        return {alias: _texts(key, texts) for alias, texts in value.items()}
    return {"*": _texts(key, value)}


def _texts(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(
            f'HOWDAH["REBUILD"]["{key}"] should be a list of strings, not {value!r}.',
            next_step=f'Write: "{key}": ["..."]',
        )
    return tuple(map(str, value))
