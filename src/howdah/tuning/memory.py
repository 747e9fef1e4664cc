"""Whether the host has the memory for settings that are proposed. Pure.

The sum is that of `howdah connections limit`: shared memory, work, maintenance of
each autovacuum worker, and what each connection takes, against the RAM or the
control group's limit, less a padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from howdah.connections.limit import Facts as LimitFacts
from howdah.connections.limit import plan_limit
from howdah.server.settings import Setting, in_bytes

__all__ = ["MEMORY_SETTINGS", "affords"]

MEMORY_SETTINGS = (
    "shared_buffers",
    "wal_buffers",
    "maintenance_work_mem",
    "autovacuum_work_mem",
    "autovacuum_max_workers",
)
"""Of the catalogue: what the sum depends on."""


def affords(limit: LimitFacts, settings: Mapping[str, Setting], values: Mapping[str, str]) -> bool:
    """Say whether the host affords values; where it is over already, whether they add nothing.

    Args:
        limit: The sum's facts as the server runs now.
        settings: By name, as the server runs now.
        values: What is proposed.
    """
    left = plan_limit(_with(limit, settings, values)).left_bytes
    return left >= min(plan_limit(limit).left_bytes, 0)


def _with(
    limit: LimitFacts, settings: Mapping[str, Setting], values: Mapping[str, str]
) -> LimitFacts:
    def size(name: str) -> int:
        return in_bytes(settings[name], values.get(name))

    def grown(name: str) -> int:
        # -1 of wal_buffers is a part of shared_buffers, which it hardly changes.
        return max(size(name), 0) - max(in_bytes(settings[name]), 0)

    maintenance = size("autovacuum_work_mem")
    if maintenance < 0:
        maintenance = size("maintenance_work_mem")
    workers = values.get("autovacuum_max_workers", settings["autovacuum_max_workers"].value)
    # One CREATE INDEX may take maintenance_work_mem beside the workers of autovacuum.
    index = size("maintenance_work_mem") - in_bytes(settings["maintenance_work_mem"])
    return replace(
        limit,
        shared_bytes=limit.shared_bytes + grown("shared_buffers") + grown("wal_buffers") + index,
        shared_buffers_bytes=size("shared_buffers"),
        maintenance_bytes=maintenance,
        autovacuum_workers=int(workers),
    )
