"""URLs as names: without passwords, tokens and signatures, which never leave this process.

A name goes into the table, the ledger, rejects, errors and progress. So it keeps
of a URL what says where the object lies: `https://example.org/data/may.csv`. A
query may be a part of that (`?id=5`), or a secret that nobody can tell from it:
it is kept as a digest, which stands before the last part, so that the name still
ends in a file's suffix: `https://example.org/?3f2a9c1b0d4e5f67/export.csv`. The
parameters by which stores sign URLs are left out of it: signed anew, a URL names
the same object.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

__all__ = ["AZURE", "GOOGLE", "HTTP", "S3", "is_url", "public_name", "scheme_of"]

S3 = ("s3", "s3a")
GOOGLE = ("gs", "gcs")
AZURE = ("az", "abfs", "abfss")
HTTP = ("http", "https")

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_QUERY = re.compile(r"\?(?=[^/?]*=)")
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-oss-")
# Of Amazon's and Google's old ways to sign, CloudFront, Azure's shared access
# signatures and tokens.
_SIGNING = {
    *("awsaccesskeyid", "googleaccessid", "signature", "expires", "policy", "key-pair-id"),
    *("sv", "ss", "sr", "srt", "sp", "st", "se", "sip", "spr", "sig"),
    *("skoid", "sktid", "skt", "ske", "sks", "skv"),
    *("token", "access_token", "hdnea", "hdnts"),
}


def is_url(path: str) -> bool:
    """Return whether a path is the URL of an object in a store, not one of a file here."""
    return _URL.match(path) is not None


def scheme_of(url: str) -> str:
    """Return what stands before `://`, in lower case; "" for a path."""
    found = _URL.match(url)
    return found[1].lower() if found else ""


def public_name(url: str) -> str:
    """Return a URL without its secrets; a path as it is."""
    found = _URL.match(url)
    if found is None:
        return url
    # A password may hold "?" and "#" where nobody has encoded them, so the user first.
    rest = url[found.end() :]
    authority, slash, path = rest.partition("/")
    names_container = scheme_of(url) in AZURE and ":" not in authority  # container@account
    if "@" in authority and not names_container:
        authority = authority.rpartition("@")[2]
    elif "@" in path and ":" in authority and not authority.rpartition(":")[2].isdigit():
        authority, slash, path = rest.rpartition("@")[2].partition("/")  # a "/" in the password
    place, mark, query = _split_query(authority + slash + path, scheme_of(url))
    name = f"{scheme_of(url)}://{place}"
    if not mark or not (kept := _without_signature(query)):
        return name
    import hashlib  # 5 ms, and seldom needed

    digest = hashlib.sha256(kept.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    parent, slash, last = name.rpartition("/")
    return f"{parent}{slash}?{digest}/{last}"


def _split_query(text: str, scheme: str) -> tuple[str, str, str]:
    if scheme in HTTP:
        return text.partition("#")[0].partition("?")
    # In the key of an object "?" is a character like others, but for `?name=value`.
    found = _QUERY.search(text)
    return (text[: found.start()], "?", text[found.end() :]) if found else (text, "", "")


def _without_signature(query: str) -> str:
    kept = [
        (name, value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if name.lower() not in _SIGNING and not name.lower().startswith(_SIGNING_PREFIXES)
    ]
    return repr(sorted(kept)) if kept else ""
