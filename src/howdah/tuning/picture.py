"""A measurement as a picture: SVG, two bars for each workload."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from howdah.tuning.measure import Measured

__all__ = ["as_svg"]

_WIDTH, _LEFT, _RIGHT = 760, 190, 220
_BAR, _ROW, _TOP = 16, 52, 44
_COLOURS = {"before": "#9aa5b1", "after": "#b5651d"}


def as_svg(measured: Sequence[Measured], title: str) -> str:
    """Return the chart of a measurement: rows a second, each workload on its own scale."""
    height = _TOP + _ROW * len(measured) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}">',
        "<style>text { font-family: sans-serif; font-size: 12px }</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number, one in enumerate(measured):
        parts += _bars(one, _TOP + _ROW * number)
    parts.append(
        f'<text x="12" y="{height - 8}" fill="#555">rows/s, medians of '
        f"{len(measured[0].before.rows_per_second) if measured else 0} rounds in turn; "
        "in brackets the 95% interval of the ratio</text></svg>"
    )
    return "\n".join(parts)


def _bars(one: Measured, top: int) -> list[str]:
    comparison = one.comparison
    longest = max(comparison.before, comparison.after)
    labels = {
        "before": f"{comparison.before:,.0f} before",
        "after": f"{comparison.after:,.0f} after, {comparison.ratio:.2f} times "
        f"[{comparison.low:.2f}, {comparison.high:.2f}]",
    }
    parts = [f'<text x="12" y="{top + _BAR + 4}">{escape(one.workload[:26])}</text>']
    for place, (side, label) in enumerate(labels.items()):
        rate = getattr(comparison, side)
        width = max((_WIDTH - _LEFT - _RIGHT) * rate / longest, 1)
        y = top + place * (_BAR + 2)
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" '
            f'fill="{_COLOURS[side]}"/>'
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 12}" font-size="11">{label}</text>'
        )
    return parts
