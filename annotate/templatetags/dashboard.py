"""Filters for the numbers of the dashboard."""

from __future__ import annotations

from django import template
from django.utils.translation import get_language_bidi

from annotate import outcomes
from annotate.models import Job

register = template.Library()


@register.filter
def percent(share: float | None, decimals: int = 0) -> str:
    return "–" if share is None else f"{share:.{decimals}%}"


@register.filter
def seconds(value: float | None) -> str:
    """0.41 s, 12 s, 3 min, 2.5 h."""
    if value is None:
        return "–"
    text = duration(value)
    return f"\u2066{text}\u2069" if get_language_bidi() else text  # an isolate: it would read "s 0.41"


def duration(value: float) -> str:
    if value < 10:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


@register.filter
def in_words(job: Job) -> str:
    """What a job says about how it went, in the reader's language."""
    return outcomes.message(job)


@register.filter
def bad_row(code: str) -> str:
    """What is wrong with a row, in the reader's language."""
    return str(outcomes.BAD_ROWS.get(code, code))


@register.filter
def unlocal(value: float) -> str:
    """A number as an attribute wants it, in every language."""
    return f"{value:g}"
