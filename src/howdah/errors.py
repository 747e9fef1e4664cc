"""What can go wrong, as exceptions that say what to do next.

Every error that Howdah raises on purpose is a `HowdahError`: one clear
sentence, the value and the limit in it, and a next step. Errors of psycopg
are translated where a part talks to PostgreSQL, by SQLSTATE; what nobody
expected passes through untouched.

```
HowdahError                exit code 1: failed, and nothing is half-done
 ├── UsageError                      2: the call itself is wrong
 ├── Refused                         2: understood, and not done for a reason
 ├── NeedsPerson                     4: only a person may do the next step
 ├── MissingExtra                    2: an optional dependency is not installed
 ├── NoDatabase                      1: no server, or it does not let us in
 └── ServerFailed                    1: our own server cannot start, stop or initialise
```
"""

from __future__ import annotations

__all__ = [
    "HowdahError",
    "MissingExtra",
    "NeedsPerson",
    "NoDatabase",
    "Refused",
    "ServerFailed",
    "UsageError",
]


class HowdahError(Exception):
    """Say what failed and what to do next.

    Args:
        message: One sentence: what failed, with the value and the limit.
        next_step: What to type or to change; None where nothing helps.

    Attributes:
        exit_code: What the `howdah` command exits with: 1 failed, 2 wrong
            usage or refused, 4 needs a person.
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message if self.next_step is None else f"{self.message} {self.next_step}"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the pipes of a process pool; the default would call
        # the class without its keyword.
        return _rebuild, (type(self), self.message, self.next_step)


def _rebuild(cls: type[HowdahError], message: str, next_step: str | None) -> HowdahError:
    return cls(message, next_step=next_step)


class UsageError(HowdahError):
    """Raised when the call itself is wrong: a missing path, two options that exclude each other."""

    exit_code = 2


class Refused(HowdahError):
    """Raised when the request is understood and not carried out, for the reason in the message."""

    exit_code = 2


class NeedsPerson(HowdahError):
    """Raised when the next step is one that only a person may take."""

    exit_code = 4


class MissingExtra(HowdahError):
    """Raised when a part is used whose optional dependency is not installed.

    Args:
        part: What needs it ("reading PDF files").
        extra: The extra of the distribution that brings it ("documents").
    """

    exit_code = 2

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(
            f"{part} needs the extra {extra!r}, which is not installed.",
            next_step=f"Run: pip install 'howdah[{extra}]'",
        )
        self.part = part
        self.extra = extra

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.part, self.extra)


class NoDatabase(HowdahError):
    """Raised when no database can be reached with what was given."""


class ServerFailed(HowdahError):
    """Raised when a server of our own cannot be made, started or stopped."""
