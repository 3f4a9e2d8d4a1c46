"""Filters for texts that others wrote."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from annotate import rendering

register = template.Library()


@register.filter
def markdown(text: object) -> SafeString:
    return rendering.markdown(str(text))
