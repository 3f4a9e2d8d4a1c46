"""What the templates of the data browser need."""

from __future__ import annotations

from collections.abc import Mapping

from django import template

from annotate.browsing import people
from annotate.models import Judgment

register = template.Library()


@register.filter
def signed(value: float | None) -> str:
    """A reward: +0.41, −0.20."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


@register.simple_tag
def who(judgment: Judgment, names: Mapping[int, str], is_admin: bool) -> str:
    return people.who(judgment, names, is_admin)
