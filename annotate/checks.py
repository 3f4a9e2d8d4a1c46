"""A production start refuses what must not be: Django runs these before every command."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

DEFAULTS = ("changeme", "change-me", "secret", "django-insecure")
LEAST_KEY = 40


@register()
def production(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """What PRODUCTION=1 demands of the environment."""
    if not settings.PRODUCTION:
        return []
    key = settings.SECRET_KEY
    found: list[CheckMessage] = []
    if settings.DEBUG:
        found.append(Error("DEBUG is on: it shows settings to strangers. Unset DEBUG.", id="touchstone.E001"))
    if len(key) < LEAST_KEY or key.lower().startswith(DEFAULTS):
        found.append(
            Error("SECRET_KEY is short or a default. Set 50 random characters.", id="touchstone.E002")
        )
    if "*" in settings.ALLOWED_HOSTS:
        found.append(Error("ALLOWED_HOSTS allows every name. Name the site's own.", id="touchstone.E003"))
    return found
