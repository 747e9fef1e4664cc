"""A panic inside of a library written in Rust costs the source that caused it, no more."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from howdah.loading.readers import UnreadableSource

__all__ = ["panics_as_unreadable"]


@contextmanager
def panics_as_unreadable() -> Generator[None]:
    """Turn a panic of a PyO3 library into `UnreadableSource`."""
    try:
        yield
    except BaseException as exc:
        # PyO3 derives it from BaseException, and each library has a class of its own.
        # Source: https://pyo3.rs/v0.23.0/doc/pyo3/panic/struct.PanicException
        if type(exc).__name__ != "PanicException":
            raise
        raise UnreadableSource("The file is broken: its reader gave up inside of it.") from exc
