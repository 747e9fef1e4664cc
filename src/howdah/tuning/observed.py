"""What a plan was made from, in sentences for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from howdah.tuning.costly import shortened
from howdah.tuning.facts import Facts, Host

__all__ = ["observed"]

_SHOWN = 70
_MB, _GB = 1 << 20, 1 << 30


def observed(facts: Facts) -> tuple[str, ...]:
    """Return what was seen of the host, the server and what runs on it."""
    return tuple(_lines(facts))


def _lines(facts: Facts) -> Iterator[str]:
    activity = facts.activity
    yield f"PostgreSQL {facts.version}" + (f" on {_host(facts.host)}" if facts.host else "")
    if facts.commit_wait_s is not None:
        yield f"a commit waits {facts.commit_wait_s * 1e3:.2f} ms for the disk"
    total = activity.checkpoints_timed + activity.checkpoints_requested
    if total:
        yield f"checkpoints: {activity.checkpoints_requested} of {total} were requested, not timed"
    if activity.wal_syncs:
        each = activity.wal_bytes / activity.wal_syncs
        yield (
            f"WAL: {activity.wal_bytes / _MB:,.0f} MB in {activity.wal_syncs:,} flushes, "
            f"{each / 1024:,.1f} kB each"
        )
    yield from _writes(facts)
    for one in activity.costly:
        each = one.total_ms / max(one.calls, 1)
        yield f"{shortened(one.query, _SHOWN)}: {one.calls:,} calls, {each:.2f} ms each"


def _host(host: Host) -> str:
    flush = f", {host.flush_s * 1e3:.2f} ms to flush 8 kB of WAL" if host.flush_s else ""
    disk = f" on {host.wal_filesystem}" if host.wal_filesystem else ""
    return f"{host.cores} cores, {host.memory_bytes / _GB:.1f} GB of memory{flush}{disk}"


def _writes(facts: Facts) -> Iterator[str]:
    writes = facts.activity.writes
    if writes is None:
        return
    total = writes.backends_bytes + writes.background_bytes
    if total:
        yield (
            f"pages: {total / _MB:,.0f} MB written, "
            f"{writes.by_backends:.0%} by backends in need of room; "
            f"files grew by {writes.extended_bytes / _MB:,.0f} MB"
        )
    if writes.backend_fsyncs:
        yield (
            f"backends flushed files {writes.backend_fsyncs:,} times themselves: "
            "the checkpointer does not keep up"
        )
