"""The first accounts of an installation, with passwords that are shown once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from annotate.models import User
from annotate.settings import env


@dataclass(frozen=True)
class Account:
    """What is printed for a new account."""

    role: str
    username: str
    password: str


def first_accounts(demo: bool) -> list[Account]:
    """Make the admin (and for a demo an annotator) if nobody is there yet; what was made, to be printed."""
    if User.objects.filter(is_synthetic=False).exists():
        return []
    email = env("ADMIN_EMAIL", default="")
    admin = User(username="admin", email=email, is_staff=True, is_superuser=True)
    given = env("ADMIN_PASSWORD", default="")
    made = [account("admin", admin, given)]
    return [*made, account("annotator", User(username="annotator"))] if demo else made


def account(role: str, user: User, password: str = "") -> Account:
    """Store a user with the given password, or with one made up here."""
    shown = "(the ADMIN_PASSWORD you set)" if password else secrets.token_urlsafe(9)
    if password:
        try:
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(f"ADMIN_PASSWORD is too weak: {' '.join(error.messages)}") from error
    user.set_password(password or shown)
    user.save()
    return Account(role, user.username if not user.email else user.email, shown)
