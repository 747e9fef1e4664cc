"""Fortune files: sayings with a line of "%" between them."""

from dataclasses import replace

from howdah.loading import BadRecord, Match, Reader, ReaderOptions


class Fortune(Reader):
    name = "fortune"
    takes = frozenset({"encoding"})
    options = ReaderOptions(encoding="utf-8")

    def with_options(self, options):
        reader = Fortune()
        reader.options = replace(options, encoding=options.encoding or "utf-8")
        return reader

    def recognise(self, head):
        return Match.CERTAIN if b"\n%\n" in head.data else Match.NO

    def read(self, file, name):
        saying = b""
        for line in [*file, b"%\n"]:
            if line == b"%\n":
                try:
                    yield {"saying": saying.decode(self.options.encoding).strip()}
                except UnicodeDecodeError as exc:
                    yield BadRecord("a saying", f"It is no {exc.encoding}.", saying)
                saying = b""
            else:
                saying += line
