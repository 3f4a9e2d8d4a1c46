"""The charts of the deployment stage and the policy report."""

from __future__ import annotations

from typing import Any

from annotate.charts.drawing import whiskers
from annotate.charts.frames import Frame
from annotate.progress.figures import Figure


def draw_intervals(alt: Any, figure: Figure, frame: Frame) -> Any:
    """A value with its interval in every row, around zero: name, count, value, low and high are the first columns."""
    name, _count, value, low, high = (column.name for column in figure.columns[:5])
    zero = (
        alt.Chart(alt.InlineData([{"zero": 0}]))
        .mark_rule(color=frame.look.muted, strokeDash=[4, 3])
        .encode(x="zero:Q")
    )
    edges = [float(edge or 0) for row in figure.rows for edge in row[3:5]]
    margin = 0.04 * (max(edges) - min(edges)) + 0.01
    fields = (name, value, low, high)
    axis = alt.Axis(format="+.2~f", tickCount=5, title=None)
    domain = [min(0.0, *edges) - margin, max(0.0, *edges) + margin]
    names = [row[0] for row in figure.rows]
    return alt.layer(zero, *whiskers(alt, figure.records, fields, names, frame, axis=axis, domain=domain))


def draw_drift(alt: Any, figure: Figure, frame: Frame) -> Any:
    """Mean width over time, in UTC."""
    look = frame.look
    base = alt.Chart(alt.InlineData([{**row, "at": f"{row['at']}Z"} for row in figure.records]))
    x = alt.X(
        "at:T",
        title=None,
        scale=alt.Scale(type="utc"),
        axis=alt.Axis(grid=False, tickCount=4 if frame.is_narrow else 7),
    )
    y = alt.Y("width:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5, format=".2~f"))
    line = base.mark_line(strokeWidth=2.5, color=look.series[1]).encode(x=x, y=y)
    dots = base.mark_point(filled=True, size=46, opacity=1, color=look.series[1]).encode(x=x, y=y)
    return alt.layer(line, dots)


DRAW_SERVING = {
    "policy-sources": draw_intervals,
    "policy-policies": draw_intervals,
    "served-regret": draw_intervals,
    "served-reward": draw_intervals,
    "drift": draw_drift,
}
