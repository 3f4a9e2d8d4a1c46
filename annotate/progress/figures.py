"""A figure of the dashboard as data: what the chart, its alt text, the table under it and the CSV are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Column:
    """``form``: text, count, share (of 1), or the number of decimals of a number as .1f, .3f."""

    name: str
    title: str
    form: str = "text"

    def show(self, value: Cell) -> str:
        if value is None or isinstance(value, str):
            return value or "–"
        if self.form == "share":
            return f"{100 * value:.1f}%"
        return f"{value:,}" if self.form in ("count", "text") else f"{value:,{self.form}}"


@dataclass(frozen=True)
class Figure:
    """Rows in the order of the columns; without rows there is nothing to draw, and ``alt`` says why.

    ``kind``: bars (over the whole page), lines, or list and matrix (a line of the chart for every first cell).
    """

    name: str
    title: str
    alt: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: str = "lines"
    drawing: str = ""  # the name of how it is drawn, where that is not its own

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Width and height in pixels: of a phone, a column of one, and the full page."""
        lines = len({row[0] for row in self.rows})
        height = {"list": 64 + 26 * lines, "matrix": 128 + 28 * lines}.get(self.kind, 240)
        return {
            "narrow": (340, height),
            "medium": (680, height),
            "wide": (1040 if self.kind == "bars" else 500, height),
        }

    @property
    def digest(self) -> str:
        """Changes when what is shown changes, and at no other time."""
        shown = json.dumps([self.name, self.title, [c.title for c in self.columns], self.rows])
        return hashlib.sha256(shown.encode()).hexdigest()[:20]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [dict(zip((c.name for c in self.columns), row, strict=True)) for row in self.rows]

    @property
    def table(self) -> Iterator[list[tuple[Column, str]]]:
        for row in self.rows:
            yield [(column, column.show(value)) for column, value in zip(self.columns, row, strict=True)]
