"""One function for every chart: its numbers as marks, in Vega-Lite by Altair. ``alt`` is the module, imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _

from annotate.charts.findings import (
    draw_calibration,
    draw_forecast,
    draw_rules,
    draw_tags,
    draw_widths,
    draw_winners,
)
from annotate.charts.frames import Frame
from annotate.progress.figures import Figure

Rows = list[dict[str, Any]]
FEW_BARS, WIDEST_BAR = 4, 56


def draw_days(alt: Any, figure: Figure, frame: Frame) -> Any:
    """Stacked bars, active at the bottom; the legend's order is the stack's."""
    arms = figure.columns[1:-1]
    rows = [
        {"start": record["start"], "arm": arm.title, "order": place, "judgments": record[arm.name]}
        for record in figure.records
        for place, arm in enumerate(arms)
    ]
    labels = [figure.rows[i][0] for i in tick_places(len(figure.rows), 5 if frame.is_narrow else 12)]
    shown = (
        "%b %Y"
        if all(str(row[0]).endswith("-01") for row in figure.rows[:40]) and len(figure.rows) > 1
        else "%-d %b"
    )
    extra = (frame.look.muted, frame.look.text, frame.look.line)
    colours = [*frame.look.series, *extra][: len(arms)]
    width = {"size": WIDEST_BAR} if len(figure.rows) <= FEW_BARS else {}
    return (
        alt.Chart(alt.InlineData(rows))
        .mark_bar(stroke=frame.look.surface, strokeWidth=1, **width)
        .encode(
            x=alt.X(
                "start:O",
                title=None,
                scale=alt.Scale(paddingInner=0.15, paddingOuter=0.1),
                axis=alt.Axis(
                    values=labels,
                    labelAngle=0,
                    grid=False,
                    labelExpr=f"utcFormat(toDate(datum.value), '{shown}')",
                ),
            ),
            y=alt.Y("judgments:Q", title=None, axis=alt.Axis(tickCount=4, format="~s", tickMinStep=1)),
            color=alt.Color("arm:N", scale=alt.Scale(domain=[arm.title for arm in arms], range=colours)),
            order=alt.Order("order:Q"),
        )
    )


def tick_places(count: int, most: int) -> list[int]:
    step = max(1, -(-count // most))
    return list(range(0, count, step))


def draw_efficiency(alt: Any, figure: Figure, frame: Frame) -> Any:
    """Two lines with their bands, each named at its end; a dash and a shape besides the colour."""
    titles = {name: next(c.title for c in figure.columns if c.name == name) for name in ("active", "control")}
    rows = [
        {
            "judgments": r["judgments"],
            "arm": titles[arm],
            "value": r[arm],
            "low": r[f"{arm}_low"],
            "high": r[f"{arm}_high"],
        }
        for arm in titles
        for r in figure.records
        if r[arm] is not None
    ]
    return draw_lines(alt, rows, list(titles.values()), figure, frame)


def draw_production(alt: Any, figure: Figure, frame: Frame) -> Any:
    name = "Production"
    rows = [
        {"judgments": r["judgments"], "arm": name, "value": r["log_loss"], "low": r["low"], "high": r["high"]}
        for r in figure.records
        if r["log_loss"] is not None
    ]
    return draw_lines(alt, rows, [name], figure, frame)


def draw_lines(alt: Any, rows: Rows, names: list[str], figure: Figure, frame: Frame) -> Any:
    look = frame.look
    colours = list(look.series[:2]) if len(names) > 1 else [look.series[3]]
    counts = sorted({row["judgments"] for row in rows})
    share = figure.name == "accuracy"
    base = alt.Chart(alt.InlineData(rows))
    x = alt.X(
        "judgments:Q",
        title=_("judgments learned from"),
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(values=apart(counts, 4 if frame.is_narrow else 7), format=",", grid=False),
    )
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(zero=False, domain=domain_of(rows, share)),
        axis=alt.Axis(tickCount=5, format=".0%" if share else ".2f"),
    )
    colour = alt.Color("arm:N", scale=alt.Scale(domain=names, range=colours), legend=None)
    dash = alt.StrokeDash(
        "arm:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 3]][: len(names)]), legend=None
    )
    shape = alt.Shape(
        "arm:N", scale=alt.Scale(domain=names, range=["circle", "square"][: len(names)]), legend=None
    )
    band = base.mark_area(opacity=0.16).encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=colour)
    line = base.mark_line(strokeWidth=2.5).encode(x=x, y=y, color=colour, strokeDash=dash)
    dots = base.mark_point(filled=True, size=46, opacity=1).encode(x=x, y=y, color=colour, shape=shape)
    ends = alt.Chart(alt.InlineData(labels_at_ends(rows, names, share)))
    text = ends.mark_text(align="left", dx=9, fontWeight=600).encode(
        x=x, y=alt.Y("at:Q"), text="label:N", color=colour
    )
    return alt.layer(band, line, dots, text)


def domain_of(rows: Rows, share: bool) -> list[float]:
    """From the lowest to the highest that is drawn, with room around a single point; a share stays one."""
    drawn = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
    low, high = min(drawn, default=0.0), max(drawn, default=1.0)
    room = max(0.0, (0.2 if share else 0.1) - (high - low)) / 2
    return [max(0.0, low - room), min(1.0, high + room) if share else high + room]


def apart(counts: list[int], most: int) -> list[int]:
    """Counts to label on a logarithmic axis, none too near to its neighbour; the last is always among them."""
    chosen: list[int] = []
    ratio = (counts[-1] / counts[0]) ** (1 / most) if counts else 1.0
    for count in reversed(counts):
        if not chosen or chosen[-1] / count >= max(ratio, 1.3):
            chosen.append(count)
    return chosen


def labels_at_ends(rows: Rows, names: list[str], share: bool) -> Rows:
    """Each line's name and last value at its end, moved apart where they would touch."""
    if len(names) == 1:
        return [{**rows[-1], "at": rows[-1]["value"], "label": f"{rows[-1]['value']:.3f}"}] if rows else []
    spread = [v for row in rows for v in (row["value"], row["low"], row["high"]) if v is not None]
    least = 0.07 * (max(spread) - min(spread)) if spread else 0.0
    last = [found[-1] for name in names if (found := [row for row in rows if row["arm"] == name])]
    last.sort(key=lambda row: row["value"])
    ends = [{**row, "at": row["value"]} for row in last]
    if len(ends) == 2 and (near := least - (ends[1]["at"] - ends[0]["at"])) > 0:
        ends[0]["at"] -= near / 2
        ends[1]["at"] += near / 2
    return [{**end, "label": f"{end['arm']} {end['value']:{'.1%' if share else '.3f'}}"} for end in ends]


def draw_sides(alt: Any, figure: Figure, frame: Frame) -> Any:
    """Intervals around one half; an annotator beyond chance is a filled diamond in another colour."""
    look = frame.look
    names = [row[0] for row in figure.rows]
    half = (
        alt.Chart(alt.InlineData([{"half": 0.5}]))
        .mark_rule(color=look.muted, strokeDash=[4, 3])
        .encode(x="half:Q")
    )
    far = max(0.1, *(abs(float(v) - 0.5) for row in figure.rows for v in row[3:5])) + 0.02  # type: ignore[arg-type]
    return alt.layer(
        half,
        *whiskers(
            alt,
            figure.records,
            ("annotator", "left", "low", "high"),
            names,
            frame,
            axis=alt.Axis(format=".0%", tickCount=5),
            domain=[max(0, 0.5 - far), min(1, 0.5 + far)],
            marked="one_sided",
        ),
    )


def draw_rewards(alt: Any, figure: Figure, frame: Frame) -> Any:
    look = frame.look
    names = [row[0] for row in figure.rows]
    zero = (
        alt.Chart(alt.InlineData([{"zero": 0}]))
        .mark_rule(color=look.muted, strokeDash=[4, 3])
        .encode(x="zero:Q")
    )
    edges = [float(v or 0) for row in figure.rows for v in row[3:5]]
    margin = 0.04 * (max(edges) - min(edges)) + 0.01
    return alt.layer(
        zero,
        *whiskers(
            alt,
            figure.records,
            ("source", "reward", "low", "high"),
            names,
            frame,
            axis=alt.Axis(format="+.2~f", tickCount=5, title=_("mean reward, centred per prompt")),
            domain=[min(0.0, *edges) - margin, max(0.0, *edges) + margin],
        ),
    )


def whiskers(
    alt: Any,
    rows: Rows,
    fields: tuple[str, str, str, str],
    names: list[Any],
    frame: Frame,
    *,
    axis: Any,
    domain: list[float],
    marked: str = "",
) -> list[Any]:
    """A point and its interval in every row, names as they come."""
    name, value, low, high = fields
    look = frame.look
    base = alt.Chart(alt.InlineData(rows))
    y = alt.Y(
        f"{name}:N", sort=names, title=None, axis=alt.Axis(labelLimit=110, labelColor=look.text, grid=False)
    )
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    beyond = f"datum.{marked} == 1" if marked else "false"
    colour = alt.condition(beyond, alt.value(look.series[0]), alt.value(look.series[1]))
    shape = alt.condition(beyond, alt.value("diamond"), alt.value("circle"))
    x = alt.X(
        f"{value}:Q", scale=scale, axis=axis, title=axis.title if axis.title is not alt.Undefined else None
    )
    lines = base.mark_rule(strokeWidth=2.5, opacity=0.75).encode(
        y=y, x=alt.X(f"{low}:Q", scale=scale, axis=axis), x2=f"{high}:Q", color=colour
    )
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(y=y, x=x, color=colour, shape=shape)
    return [lines, dots]


DRAW: dict[str, Callable[[Any, Figure, Frame], Any]] = {
    "days": draw_days,
    "log-loss": draw_efficiency,
    "accuracy": draw_efficiency,
    "production": draw_production,
    "sides": draw_sides,
    "rewards": draw_rewards,
    "forecast": draw_forecast,
    "widths": draw_widths,
    "calibration": draw_calibration,
    "winners": draw_winners,
    "tags": draw_tags,
    "rules": draw_rules,
}
