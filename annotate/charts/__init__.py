"""Figures drawn on the server: Vega-Lite by Altair, to SVG and PNG by vl-convert, and the same numbers as CSV.

Altair and the renderer are imported by the first request for a chart, not by the start of the web process.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from django.core.cache import cache

from annotate.charts.drawing import DRAW
from annotate.charts.frames import LOOKS, MEDIA, Frame
from annotate.charts.serving import DRAW_SERVING
from annotate.progress.figures import Figure

__all__ = ["DRAWING", "LOOKS", "MEDIA", "Frame", "as_csv", "drawn", "render", "spec"]

HOUR = 3600
DRAWING = 5
"""Raised when charts look different for the same numbers: it is a part of every cache key."""
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif'
PNG_FONT = "Noto Sans, Liberation Sans, DejaVu Sans, sans-serif"


def drawn(figure: Figure, frame: Frame) -> bytes:
    """The figure as a file, kept for an hour: the same numbers are drawn once."""
    key = "-".join(("chart", str(DRAWING), figure.name, figure.digest, frame.theme, frame.size, frame.ext))
    made: bytes | None = cache.get(key)
    if made is None:
        made = render(figure, frame)
        cache.set(key, made, HOUR)
    return made


def render(figure: Figure, frame: Frame) -> bytes:
    if frame.ext == "csv":
        return as_csv(figure).encode()
    if frame.ext == "json":
        return json.dumps(spec(figure, frame), indent=1).encode()
    import vl_convert

    if frame.ext == "png":
        png: bytes = vl_convert.vegalite_to_png(spec(figure, frame), scale=2, allowed_base_urls=[])
        return png
    svg: str = vl_convert.vegalite_to_svg(spec(figure, frame), allowed_base_urls=[])
    return svg.encode()


def as_csv(figure: Figure) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([column.name for column in figure.columns])
    writer.writerows([[plain(value) for value in row] for row in figure.rows])
    return file.getvalue()


def plain(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def spec(figure: Figure, frame: Frame) -> dict[str, Any]:
    """The figure in Vega-Lite, numbers included."""
    import altair as alt

    width, height = figure.sizes[frame.size]
    left, right = (10 if figure.kind == "list" else 2), (14 if figure.kind == "lines" else 8)
    chart = (DRAW | DRAW_SERVING)[figure.drawing or figure.name](alt, figure, frame).properties(
        width=width,
        height=height,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        background=frame.look.surface,
        padding={"left": left, "right": right, "top": 6, "bottom": 2},
    )
    if frame.ext != "svg":
        chart = chart.properties(
            title=alt.Title(figure.title, anchor="start", offset=12), description=figure.alt
        )
    made: dict[str, Any] = chart.configure(**config(frame)).to_dict()
    return made


def config(frame: Frame) -> dict[str, Any]:
    look, font = frame.look, FONT if frame.ext == "svg" else PNG_FONT
    size = 13 if frame.is_narrow else 12
    return {
        "font": font,
        "view": {"stroke": None},
        "title": {"color": look.text, "fontSize": 14, "fontWeight": 600},
        "axis": {
            "labelColor": look.muted,
            "titleColor": look.muted,
            "labelFontSize": size,
            "titleFontSize": size,
            "titleFontWeight": "normal",
            "gridColor": look.line,
            "domain": False,
            "ticks": False,
            "labelPadding": 6,
        },
        "legend": {
            "labelColor": look.text,
            "labelFontSize": size,
            "symbolType": "square",
            "title": None,
            "orient": "top",
            "offset": 6,
            "padding": 0,
        },
        "text": {"color": look.text, "fontSize": size, "font": font},
    }
