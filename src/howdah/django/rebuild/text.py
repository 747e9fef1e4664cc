"""What people and scripts read of a rebuild: plain data -> lines, or a JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from howdah.django.rebuild.clean import Leftover
from howdah.django.rebuild.drift import REMEDY, Drift
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan
from howdah.django.rebuild.report import DatabaseReport, RebuildReport

_KIB = 1024
_SHOWN = 12


def plan_lines(plan: RebuildPlan) -> list[str]:
    """Return a plan for a person."""
    lines = []
    for one in plan.databases:
        lines += [*_plan_lines(one, plan), ""]
    return [*lines[:-1], *_drift_lines(plan.drift)]


def plan_object(plan: RebuildPlan) -> dict[str, Any]:
    """Return a plan for a script, without a secret in it."""
    return {
        "migrations": plan.options.migrations,
        "keep_old": plan.keep_old,
        "drift": [asdict(one) for one in plan.drift],
        "databases": [
            {
                "name": one.name,
                "aliases": one.database.aliases,
                "server": one.database.dsn.public(),
                "schemas": one.schemas,
                "shared": one.shared,
                "extensions": [asdict(extension) for extension in one.extensions],
                "apps": [asdict(app) for app in one.apps],
                "fixtures": one.fixtures,
                "drops": [asdict(table) for table in one.tables],
                "size_bytes": one.database.facts.size_bytes,
                "strategy": one.strategy,
                "reason": one.reason,
                "room": asdict(one.room),
                "cost": one.cost,
                "digest": one.digest,
                "kept": one.kept,
            }
            for one in plan.databases
        ],
    }


def report_lines(report: RebuildReport) -> list[str]:
    """Return a report for a person."""
    lines = []
    for one in report.databases:
        lines += _report_lines(one)
    lines += _drift_lines(report.drift)
    steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.steps.items())
    return [*lines, f"done in {report.seconds:.2f} s ({steps})"]


def report_object(report: RebuildReport) -> dict[str, Any]:
    """Return a report for a script."""
    return asdict(report)


def leftover_lines(found: Sequence[Leftover], *, removed: bool) -> list[str]:
    """Return what rebuilds have left, for a person."""
    if not found:
        return ["rebuilds have left nothing"]
    verb = "removed" if removed else "would remove"
    return [
        f"{verb} the {one.kind} {one.name} ({one.what}, {size(one.size_bytes)})" for one in found
    ]


def size(count: float) -> str:
    """Return a number of bytes for a person."""
    for unit in ("bytes", "kB", "MB"):
        if count < _KIB:
            return f"{count:,.0f} {unit}"
        count /= _KIB
    return f"{count:,.1f} GB"


def _plan_lines(one: DatabasePlan, plan: RebuildPlan) -> list[str]:
    rows = sum(max(table.rows, 0) for table in one.tables)
    total = size(sum(table.size_bytes for table in one.tables))
    pairs = [
        ("aliases", ", ".join(one.database.aliases)),
        ("schemas", ", ".join(_schema(schema, one) for schema in one.schemas)),
        ("extensions", ", ".join(f"{each.name} {each.version}" for each in one.extensions)),
        (
            "tables from",
            f"migrations {plan.options.migrations}"
            if plan.options.migrations != "from models"
            else "the models",
        ),
        ("fixtures", ", ".join(one.fixtures)),
        ("drops", f"{len(one.tables)} tables, about {rows:,} rows, {total}"),
        ("strategy", f"{one.strategy} ({one.reason})"),
        ("disk", _room(one)),
        ("costs", one.cost or "nothing that the running application would notice"),
        ("result", f"kept from before as {one.kept}" if one.kept else "to be built"),
    ]
    lines = [f"database {one.name} on {one.database.dsn.public()}"]
    lines += [f"  {name:<12} {value}" for name, value in pairs if value]
    lines.append("  apps, in order:")
    lines += [
        f"    {app.label:<20} -> {app.alias:<12} {', '.join(app.schemas)}"
        f"  ({app.migrations} migrations, {app.tables} tables)"
        for app in one.apps
    ]
    unknown = [table for table in one.tables if not table.is_known]
    if unknown:
        lines.append("  these tables are no model's, and go too:")
        lines += [
            f"    {table.schema}.{table.name}  (about {max(table.rows, 0):,} rows)"
            for table in unknown[:_SHOWN]
        ]
        if len(unknown) > _SHOWN:
            lines.append(f"    and {len(unknown) - _SHOWN} more")
    return lines


def _drift_lines(drift: Sequence[Drift]) -> list[str]:
    return [*(f"note: {one}" for one in drift), f"  run: {REMEDY}"] if drift else []


def _room(one: DatabasePlan) -> str:
    needed = one.room.aside_bytes if one.strategy == "aside" else one.room.in_place_bytes
    free = one.room.free_bytes
    return f"takes about {size(needed)}" + ("" if free is None else f"; {size(free)} are free")


def _schema(schema: str, one: DatabasePlan) -> str:
    return f"{schema} (table by table)" if schema in one.shared else schema


def _report_lines(one: DatabaseReport) -> list[str]:
    how = "as kept from before" if one.was_kept else "built"
    lines = [
        f"{one.name}: {', '.join(one.schemas)} {how}, {one.rows:,} rows in {one.tables} tables"
    ]
    lines += [f"  {note}" for note in one.notes]
    if one.left:
        lines.append(
            f"  somebody still reads {', '.join(one.left)}; the next rebuild drops them, "
            "or `howdah rebuild --clean`"
        )
    return lines
