"""What the user names -> files to load.

A *source* is a file, or a member of an archive. Its name is the absolute path
of the file, then `!/` and the member's path for each archive around it:
`/srv/in/2026.zip!/orders/may.csv`. The name is only a name: nothing is ever
written to a member's path. For an object in a store it is the URL, without secrets.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from howdah.errors import UsageError
from howdah.loading import remote
from howdah.loading.urls import is_url, scheme_of

__all__ = [
    "MEMBER_SEPARATOR",
    "STANDARD_INPUT",
    "SourceFile",
    "current_fingerprint",
    "find",
    "fingerprint",
    "path_of",
    "source_name",
]

MEMBER_SEPARATOR = "!/"
STANDARD_INPUT = "-"

_NAME_BYTES = 2000
"""Longest name that is kept whole: a btree entry holds about 2,700 bytes.

Source: https://www.postgresql.org/docs/current/btree.html
"""

_WRITTEN_BYTE = re.compile(r"\\x([0-9a-f]{2})")
"""What `source_name` writes for a byte that is no UTF-8."""


class SourceFile(NamedTuple):
    """A file to load: a tuple, since there are thousands, each made once and pickled twice.

    Attributes:
        path: Where to open it; `-` is standard input; a URL may hold secrets.
        name: Its name in the table and in the ledger.
        size_bytes: Its size; 0 for a stream.
        fingerprint: Changes when the file changes; "" for a stream, which has no identity.
    """

    path: str
    name: str
    size_bytes: int
    fingerprint: str

    @property
    def is_stream(self) -> bool:
        """Whether it can be read only once: standard input, a pipe, a URL without identity."""
        return not self.fingerprint

    def __repr__(self) -> str:
        """Return it without the path."""
        return f"SourceFile({self.name!r}, {self.size_bytes}, {self.fingerprint!r})"


def find(
    paths: Iterable[str | os.PathLike[str]], *, stream_name: str = "stdin", how: str = ""
) -> list[SourceFile]:
    """Return the files that paths, folders and glob patterns name, each once, in their order.

    In folders, files and folders whose name starts with a dot are left out, and there
    and by patterns what is no regular file. Links to files are followed, links to folders are not,
    and those that lead to nothing are left out.

    Args:
        paths: Files, folders, patterns with `*`, `?`, `[...]` or `**`, URLs, or `-`.
        stream_name: What standard input is called in the table.
        how: How they are to be read: part of each fingerprint, behind the file's own.

    Raises:
        UsageError: A path or pattern that leads to nothing.
        HowdahError: A store that does not answer.
    """
    found: dict[str, SourceFile] = {}
    for named in paths:
        path = os.fspath(named)
        if is_url(path) and scheme_of(path) != "file":
            for listed in remote.listing(path):
                file = _remote_file(listed, how)
                found.setdefault(file.name, file)
            continue
        for local in _expand(_local(path)):
            if local == STANDARD_INPUT:
                found[local] = SourceFile(local, stream_name, 0, "")
            elif local not in found and (there := _source_file(local, how)):
                found[local] = there
    return list(found.values())


def fingerprint(facts: os.stat_result) -> str:
    """Return what tells a file from its changed self: size and time of change, as rsync does.

    Source: https://download.samba.org/pub/rsync/rsync.1 ("quick check").
    """
    return f"{facts.st_size} bytes, {facts.st_mtime_ns} ns"


def current_fingerprint(path: str) -> str:
    """Return the fingerprint that a file or an object has now; raises OSError where it is gone."""
    return remote.current_fingerprint(path) if is_url(path) else fingerprint(os.stat(path))


def source_name(text: str, within: str = "") -> str:
    r"""Return a name that PostgreSQL can store and index for any path, and for no two the same.

    Bytes that are not UTF-8 are written as `\xNN`, and so is a backslash where it would look
    like one; what is longer than 2,000 bytes is cut and ends in a digest of the whole.

    Args:
        text: The path.
        within: The name, made so before, of the archive that it is in, and the separator.
    """
    plain = within + text
    if plain.isascii() and len(plain) <= _NAME_BYTES and "\\" not in text and "\0" not in text:
        return plain
    escaped = os.fsencode(_WRITTEN_BYTE.sub(r"\\x5cx\1", text))
    name = within + escaped.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    encoded = name.encode()
    if len(encoded) <= _NAME_BYTES:
        return name
    import hashlib  # 5 ms, and seldom needed

    digest = hashlib.sha256(encoded).hexdigest()
    return f"{encoded[: _NAME_BYTES - 70].decode('utf-8', 'ignore')}... {digest}"


def path_of(name: str) -> str:
    """Return the path or the URL of the file that a source is, or is a member of.

    Args:
        name: The source's name, not cut.
    """
    if is_url(name):
        return name.partition(MEMBER_SEPARATOR)[0]
    path = os.fsdecode(
        b"".join(
            bytes.fromhex(part) if number % 2 else part.encode()
            for number, part in enumerate(_WRITTEN_BYTE.split(name))
        )
    )
    # A folder's name may end in "!", too; below a file there is no folder.
    ends = (at.start() for at in re.finditer(re.escape(MEMBER_SEPARATOR), path))
    return next((path[:end] for end in ends if os.path.isfile(path[:end])), path)


def _local(path: str) -> str:
    return unquote(urlsplit(path).path) if is_url(path) else path


def _remote_file(found: remote.RemoteObject, how: str) -> SourceFile:
    marked = f"{found.fingerprint} {how}".rstrip() if found.fingerprint else ""
    return SourceFile(found.url, source_name(found.name), found.size_bytes, marked)


def _source_file(path: str, how: str) -> SourceFile | None:
    """Return a file to load; None: it is gone."""
    name = source_name(path)
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as exc:  # it will be a reject
        return SourceFile(path, name, 0, f"{exc.strerror} {how}".rstrip())
    if not stat.S_ISREG(facts.st_mode):
        return SourceFile(path, name, 0, "")
    mark = fingerprint(facts)
    return SourceFile(path, name, facts.st_size, f"{mark} {how}" if how else mark)


def _expand(path: str) -> Iterator[str]:
    """Yield the absolute paths of files; `-` as it is."""
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise UsageError("Standard input is closed.", next_step="Pipe something into it.")
        yield path
    elif os.path.isdir(path):
        yield from _files_below(os.path.abspath(path))
    elif os.path.exists(path):
        yield os.path.abspath(path)
    elif glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise UsageError(f"No file matches the pattern {path!r}.", next_step="Check the path.")
        for match in matches:
            # No pipe, which would be waited for; a link to nowhere is seen to later.
            if os.path.isfile(match) or not os.path.exists(match):
                yield os.path.abspath(match)
    else:
        raise UsageError(f"There is no file or folder {path!r}.", next_step="Check the path.")


def _files_below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((one for one in found if one.name[0] != "."), key=attrgetter("name"))
    except OSError as exc:
        raise UsageError(
            f"The folder {exc.filename!r} cannot be read: {exc.strerror}.",
            next_step="Make it readable, or name the files to load.",
        ) from exc
    # What an entry is, the folder says itself: no system call for each file.
    yield from (entry.path for entry in entries if _is_file(entry))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle, or to where we may not look: a reject says so
        return True
