"""Draws bar charts as SVG, by hand: readable on light and on dark pages, with nothing to install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP = 760, 210, 110, 78
ROW, THICK, ROUND = 32, 18, 4

STYLE = """
  .page { fill: #ffffff } .title { fill: #1d2733 } .note, .label { fill: #52606d } .value { fill: #1d2733 }
  .bar { fill: #a9b6c4 } .ours { fill: #0f7fa8 } .strong { fill: #1d2733; font-weight: 600 }
  .value, .strong { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
  .axis { stroke: #d8dee6 } .mark { stroke: #d0662b } .marked { fill: #b4501a }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12181f } .title, .value, .strong { fill: #e8edf2 } .note, .label { fill: #9fb0c0 }
    .value, .strong { stroke: #12181f }
    .bar { fill: #4a5a6a } .ours { fill: #3fb6e0 } .axis { stroke: #2a3541 }
    .mark { stroke: #f09a5e } .marked { fill: #f09a5e }
  }
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; font-size: 13px }
  .title { font-size: 17px; font-weight: 600 } .note { font-size: 12px }
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One bar: its name, its length, the text at its end, and whether it is ours."""

    label: str
    value: float
    shown: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across all bars, as for the floor or a bar to hold."""

    value: float
    label: str


def bar_chart(title: str, note: str, rows: Sequence[Row], mark: Mark | None = None) -> str:
    """Return an SVG with a horizontal bar for each row; all lengths are to one linear scale from zero."""
    height = TOP + len(rows) * ROW + (34 if mark else 16)
    most = max([row.value for row in rows] + ([mark.value] if mark else []), default=0) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = [
        _open(height, title),
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
        _text(24, 34, "title", title),
        _text(24, 55, "note", note),
        f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP - 4}" y2="{TOP + len(rows) * ROW}"/>',
    ]
    if mark:
        parts += _mark(mark, LEFT + mark.value * scale, TOP + len(rows) * ROW)
    for index, row in enumerate(rows):
        parts += _bar(row, TOP + index * ROW, row.value * scale)
    return "\n".join([*parts, "</svg>", ""])


def _open(height: int, title: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'


def _bar(row: Row, top: float, length: float) -> list[str]:
    middle = top + ROW / 2
    end = LEFT + max(length, 1.5)
    bend = min(ROUND, max(length, 1.5) / 2)
    upper, lower = middle - THICK / 2, middle + THICK / 2
    path = (
        f"M{LEFT} {upper:.1f} H{end - bend:.1f} Q{end:.1f} {upper:.1f} {end:.1f} {upper + bend:.1f} "
        f"V{lower - bend:.1f} Q{end:.1f} {lower:.1f} {end - bend:.1f} {lower:.1f} H{LEFT} Z"
    )
    return [
        _text(LEFT - 10, middle + 4.5, "strong" if row.ours else "label", row.label, "end"),
        f'<path class="{"ours" if row.ours else "bar"}" d="{path}"/>',
        _text(end + 8, middle + 4.5, "strong" if row.ours else "value", row.shown),
    ]


def _mark(mark: Mark, x: float, bottom: float) -> list[str]:
    height = f'y1="{TOP - 4}" y2="{bottom + 4}"'
    return [
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" {height} stroke-width="1.5" stroke-dasharray="4 3"/>',
        _text(x, bottom + 20, "marked", mark.label, "middle"),
    ]


def _text(x: float, y: float, kind: str, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
