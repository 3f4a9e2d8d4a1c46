"""Filters for texts that others wrote."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.utils.safestring import SafeString

from annotate import rendering

register = template.Library()


@register.filter
def markdown(text: object) -> SafeString:
    return rendering.markdown(str(text))


@register.filter
def entry(found: Mapping[str, str] | str, name: str) -> str:
    """The value of a name that may hold anything, as no template syntax can ask."""
    return found.get(name, "") if isinstance(found, Mapping) else ""
