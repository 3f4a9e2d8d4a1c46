"""Charts of what the learn worker found: the fitted curve, widths, calibration, and two matrices."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from annotate.charts.frames import Frame
from annotate.progress.figures import Figure

LABEL = 110


def draw_forecast(alt: Any, figure: Figure, frame: Frame) -> Any:
    """The fitted curve with its band; a dot where it was measured, a dash where it is a forecast."""
    look, rows = frame.look, figure.records
    last = max((r["judgments"] for r in rows if r["measured"] is not None), default=0)
    parts = [
        {**r, "part": part}
        for r in rows
        for part, inside in (("fitted", r["judgments"] <= last), ("forecast", r["judgments"] >= last))
        if inside
    ]
    base = alt.Chart(alt.InlineData(parts))
    x = alt.X(
        "judgments:Q", title=_("judgments learned from"), scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format="~s", grid=False, tickCount=5, labelOverlap=True),
    )  # fmt: skip
    y = alt.Y("fitted:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format=".2f"))
    band = base.mark_area(opacity=0.14, color=look.series[3]).encode(
        x=x, y=alt.Y("low:Q", title=None), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2.5, color=look.series[3]).encode(
        x=x, y=y, strokeDash=alt.StrokeDash(
            "part:N", scale=alt.Scale(domain=["fitted", "forecast"], range=[[1, 0], [5, 4]]), legend=None
        ),
    )  # fmt: skip
    dots = (
        alt.Chart(alt.InlineData([r for r in rows if r["measured"] is not None]))
        .mark_point(filled=True, size=50, opacity=1, color=look.text)
        .encode(x=x, y=alt.Y("measured:Q", title=None))
    )
    return alt.layer(band, line, dots)


def draw_widths(alt: Any, figure: Figure, frame: Frame) -> Any:
    return (
        alt.Chart(alt.InlineData([{**row, "zero": 0} for row in figure.records]))
        .mark_bar(color=frame.look.series[1], stroke=frame.look.surface, strokeWidth=1)
        .encode(
            x=alt.X(
                "from:Q",
                title=_("width"),
                axis=alt.Axis(grid=False, tickCount=6),
                scale=alt.Scale(nice=False),
            ),
            x2="to:Q",
            y=alt.Y("pairs:Q", title=None, axis=alt.Axis(tickCount=4, format="~s", tickMinStep=1)),
            y2="zero:Q",
        )
    )


def draw_calibration(alt: Any, figure: Figure, frame: Frame) -> Any:
    """On the diagonal the model is right as often as it is sure."""
    look = frame.look
    base = alt.Chart(alt.InlineData(figure.records))
    least = min(0.5, *(float(row[2] or 0) for row in figure.rows))
    scale = alt.Scale(domain=[0.5, 1], nice=False)
    x = alt.X(
        "predicted:Q", title=_("how sure"), scale=scale, axis=alt.Axis(format=".0%", tickCount=5, grid=False)
    )
    up = alt.Scale(domain=[least, 1], nice=False)
    y = alt.Y("observed:Q", title=_("how often right"), scale=up, axis=alt.Axis(format=".0%", tickCount=5))
    diagonal = (
        alt.Chart(alt.InlineData([{"a": 0.5}, {"a": 1.0}]))
        .mark_line(color=look.muted, strokeDash=[4, 3])
        .encode(
            x=alt.X("a:Q", scale=scale, title=_("how sure")),
            y=alt.Y("a:Q", scale=up, title=_("how often right")),
        )
    )
    whiskers = base.mark_rule(strokeWidth=2.5, opacity=0.75, color=look.series[3]).encode(
        x=x, y=alt.Y("low:Q", scale=up, title=_("how often right")), y2="high:Q"
    )
    dots = base.mark_point(filled=True, size=70, opacity=1, color=look.series[3]).encode(x=x, y=y)
    return alt.layer(diagonal, whiskers, dots)


def draw_winners(alt: Any, figure: Figure, frame: Frame) -> Any:
    rows = [{"row": r["source"], "column": r["against"], "value": r["expected"]} for r in figure.records]
    return matrix(alt, rows, frame, middle=0.5, far=0.5, form=".0%")


def draw_tags(alt: Any, figure: Figure, frame: Frame) -> Any:
    rows = [{"row": r["tag"], "column": r["source"], "value": r["reward"]} for r in figure.records]
    far = max((abs(r["value"]) for r in rows), default=1.0) or 1.0
    return matrix(alt, rows, frame, middle=0.0, far=far, form="+.2f")


def matrix(
    alt: Any, rows: list[dict[str, Any]], frame: Frame, *, middle: float, far: float, form: str
) -> Any:
    """A cell for every row and column, shaded from one series through the surface to the other, its number in it."""
    look = frame.look
    across = list(dict.fromkeys(r["column"] for r in rows))
    down = list(dict.fromkeys(r["row"] for r in rows))
    across = [name for name in down if name in across] if set(across) == set(down) else across
    base = alt.Chart(alt.InlineData([r for r in rows if r["value"] is not None]))
    labels = {"labelLimit": LABEL, "labelColor": look.text, "grid": False}
    x = alt.X("column:N", sort=across, title=None, axis=alt.Axis(orient="top", labelAngle=-40, **labels))
    y = alt.Y("row:N", sort=down, title=None, axis=alt.Axis(**labels))
    scale = alt.Scale(
        domain=[middle - far, middle, middle + far],
        range=[look.series[0], look.surface, look.series[1]],
        interpolate="rgb",
    )
    cells = base.mark_rect(opacity=0.55, stroke=look.line).encode(
        x=x, y=y, color=alt.Color("value:Q", scale=scale, legend=None)
    )
    if len(across) > (4 if frame.is_narrow else 9):
        return cells
    text = base.mark_text(color=look.text).encode(x=x, y=y, text=alt.Text("value:Q", format=form))
    return alt.layer(cells, text)


def draw_rules(alt: Any, figure: Figure, frame: Frame) -> Any:
    """A line for every rule, random dashed; bands for all, names in the legend."""
    look, rows = frame.look, figure.records
    names = list(dict.fromkeys(r["rule"] for r in rows))
    colours = [look.muted if name == "random" else "" for name in names]
    free = iter([*look.series[:2], look.series[3], look.text, look.warn, look.series[2]])
    colours = [colour or next(free) for colour in colours]
    dashes = [[5, 4] if name == "random" else [1, 0] for name in names]
    share = figure.columns[2].form == "share"
    base = alt.Chart(alt.InlineData(rows))
    x = alt.X(
        "labels:Q", title=_("labels"), scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format=",", grid=False, tickCount=5, labelOverlap=True),
    )  # fmt: skip
    axis = alt.Axis(tickCount=5, format=".0%" if share else ".2f")
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=axis)
    columns = 2 if frame.is_narrow else 3
    colour = alt.Color(
        "rule:N",
        scale=alt.Scale(domain=names, range=colours),
        legend=alt.Legend(columns=columns, symbolOpacity=1),
    )
    dash = alt.StrokeDash("rule:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    band = base.mark_area(opacity=0.07).encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=colour)
    line = base.mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour, strokeDash=dash)
    return alt.layer(band, line)
