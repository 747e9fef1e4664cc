"""Names of the streams in an OLE2 file: what tells XLS, DOC, PPT, MSG and an encrypted file apart.

Source: https://learn.microsoft.com/openspecs/windows_protocols/ms-cfb
"""

from __future__ import annotations

import struct
from functools import lru_cache

__all__ = ["MAGIC", "stream_names"]

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_ENTRY_BYTES = 128
_NAME_BYTES = 64


@lru_cache(maxsize=4)  # each reader asks it of the same head
def stream_names(head: bytes) -> frozenset[str]:
    """Return the names in the first sector of the directory; none if it lies behind the head.

    The streams that tell a format are the first ones that its programs write.
    """
    if len(head) < 512 or not head.startswith(MAGIC):  # noqa: PLR2004  the header's length
        return frozenset()
    (shift,) = struct.unpack_from("<H", head, 30)
    (sector,) = struct.unpack_from("<I", head, 48)
    if shift not in {9, 12}:
        return frozenset()
    start = (sector + 1) << shift
    names = set()
    # More than the one sector: nearly always, the directory lies in one piece.
    for entry in range(start, min(start + 4096, len(head) - _ENTRY_BYTES + 1), _ENTRY_BYTES):
        (length,) = struct.unpack_from("<H", head, entry + _NAME_BYTES)
        if not 2 <= length <= _NAME_BYTES:  # noqa: PLR2004  with the zero at the end
            break
        names.add(head[entry : entry + length - 2].decode("utf-16-le", "replace"))
    return frozenset(names)
