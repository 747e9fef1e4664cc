"""Text in columns of fixed widths: one record a line, only where the user asks for it.

Widths are counted in characters. Spaces around a value are taken off, and a
value of spaces alone is left out, since nothing tells it from a missing one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from typing import Any

from howdah.loading.readers import Head, Match, ReaderOptions, UnreadableSource
from howdah.loading.readers.characters import looks_like_text
from howdah.loading.readers.eachline import LineReader
from howdah.loading.readers.layout import column_names

__all__ = ["FixedWidth", "guess_widths"]

_SAMPLE_LINES = 200


class FixedWidth(LineReader):
    """Reads lines by the widths that the options give, or by those that the head suggests.

    Args:
        options: `widths`, without which nothing is recognised; `header`, `encoding`, `null`.
    """

    name = "fixedwidth"
    text = True
    untyped = True
    takes = frozenset({"widths", "header", "encoding", "null"})

    def __init__(self, options: ReaderOptions | None = None) -> None:
        self._options = options or ReaderOptions()
        super().__init__(self._options.encoding)

    def with_options(self, options: ReaderOptions) -> FixedWidth:
        """See `Reader.with_options`."""
        return FixedWidth(options)

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: any text, if the options have widths; else none."""
        asked = self._options.widths is not None
        return Match.CERTAIN if asked and looks_like_text(head.data) else Match.NO

    def parser(self, head: str) -> tuple[Callable[[str], Mapping[str, Any]], int]:
        """See `LineReader.parser`."""
        lines = head.splitlines()
        widths = self._options.widths or "auto"
        if widths == "auto":
            widths = guess_widths(lines[:_SAMPLE_LINES])
        cuts = [slice(*ends) for ends in pairwise(accumulate(widths, initial=0))]
        header, first = self._options.header, lines[0] if lines else ""
        if isinstance(header, tuple):
            names = column_names(header, ())
        else:
            names = column_names(("" if header is False else first[cut] for cut in cuts), ())
        if len(names) != len(cuts):
            raise UnreadableSource(
                f"The header names {len(names)} columns, and the widths are those of {len(cuts)}."
            )
        skipped = 0 if header is False or isinstance(header, tuple) else 1
        return _parser(names, cuts, self._options.null), skipped


def guess_widths(lines: list[str]) -> tuple[int, ...]:
    """Return the widths of columns that a column of spaces parts in all lines that are not blank.

    Raises:
        UnreadableSource: There is none.
    """
    lines = [line for line in lines if line.strip()]
    longest = max(map(len, lines), default=0)
    inked = [any(not line[place : place + 1].isspace() for line in lines if place < len(line))
             for place in range(longest)]  # fmt: skip
    starts = [
        place for place, ink in enumerate(inked) if ink and (not place or not inked[place - 1])
    ]
    if len(starts) < 2:  # noqa: PLR2004  one column is no table
        raise UnreadableSource(
            "No column of spaces parts the first lines; give the widths as in --widths 10,5,20."
        )
    # The last column is as wide as its longest value, which may come later.
    ends = [0, *starts[1:], max(longest, 1 << 20)]
    return tuple(end - start for start, end in pairwise(ends))


def _parser(
    names: list[str], cuts: list[slice], null: str | None
) -> Callable[[str], Mapping[str, Any]]:
    width = cuts[-1].stop

    def parse(line: str) -> dict[str, Any]:
        if line[width:].strip():
            raise ValueError(f"The line is longer than the {width} characters of its columns.")
        cells = [(name, line[cut].strip()) for name, cut in zip(names, cuts, strict=True)]
        return {name: None if cell == null else cell for name, cell in cells if cell}

    return parse
