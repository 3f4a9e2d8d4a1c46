"""Filters for the numbers of the dashboard."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def percent(share: float | None, decimals: int = 0) -> str:
    return "–" if share is None else f"{share:.{decimals}%}"


@register.filter
def seconds(value: float | None) -> str:
    """0.41 s, 12 s, 3 min, 2.5 h."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


@register.filter
def unlocal(value: float) -> str:
    """A number as an attribute wants it, in every language."""
    return f"{value:g}"
