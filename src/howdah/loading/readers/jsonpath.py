"""Paths into JSON: the part of JSONPath (RFC 9535) that can be followed in one pass.

`$` is the whole value, `.name` or `['name']` a member of an object, `[3]` an
element of an array from 0, `[*]` or `.*` all elements or members. What leads
backwards, filters or descends (`[-1]`, `[?...]`, `..`) is not among them.
Source: https://www.rfc-editor.org/rfc/rfc9535#section-2
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from howdah.errors import UsageError

__all__ = ["ALL", "Step", "matches", "parse_path"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path.

    Attributes:
        to: The member's name, the element's place, or None for all of them.
    """

    to: str | int | None


ALL = Step(None)

# Compiled where there is a path: few loads have one.
_STEP = r"""\s*(?:
    \.(?P<name>[^\W\d]\w*)               # RFC 9535's member-name-shorthand
  | (?P<all>\.\*|\[\s*\*\s*\])
  | \[\s*(?P<place>0|[1-9][0-9]*)\s*\]
  | \[\s*(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]
)"""


def parse_path(text: str) -> tuple[Step, ...]:
    """Return the steps of a path; none for `$`.

    Raises:
        UsageError: It is none, or one that goes beyond what is described above.
    """
    if not text.startswith("$"):
        raise _wrong(text, 0)
    step = re.compile(_STEP, re.VERBOSE)
    steps: list[Step] = []
    at = 1
    while at < len(text):
        if (found := step.match(text, at)) is None:
            raise _wrong(text, at)
        at = found.end()
        if found["name"] is not None:
            steps.append(Step(found["name"]))
        elif found["place"] is not None:
            steps.append(Step(int(found["place"])))
        elif found["quoted"] is not None:
            steps.append(Step(_unquoted(found["quoted"], text, found.start("quoted"))))
        else:
            steps.append(ALL)
    return tuple(steps)


def matches(step: Step, key: str | int) -> bool:
    """Say whether a step leads to a member or an element."""
    return step.to is None or (type(step.to) is type(key) and step.to == key)


def _unquoted(quoted: str, text: str, at: int) -> str:
    inner = quoted[1:-1]
    if quoted[0] == "'":  # as a JSON string, where only the other quote is escaped
        inner = re.sub(r"\\'|\"", lambda found: "'" if found[0] == "\\'" else r"\"", inner)
    try:
        name: str = json.loads(f'"{inner}"', strict=False)
    except ValueError as exc:
        raise _wrong(text, at) from exc
    return name


def _wrong(text: str, at: int) -> UsageError:
    return UsageError(
        f"The path {text!r} of --at cannot be understood from character {at + 1} on.",
        next_step="Write it with $, .name, ['name'], [3] and [*] only, as in '$.data.items[*]'.",
    )
