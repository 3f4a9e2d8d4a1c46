"""What templates ask about the installation."""

from __future__ import annotations

from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def signup_is_open() -> bool:
    return bool(settings.ALLOW_SIGNUP)
