"""Secrets that must be used again (a generator's key): encrypted at rest, opened only by the worker that needs them."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils.translation import gettext as _

from annotate.errors import TouchstoneError


def seal(secret: str) -> str:
    return cipher().encrypt(secret.encode()).decode() if secret else ""


def unseal(sealed: str) -> str:
    try:
        return cipher().decrypt(sealed.encode()).decode() if sealed else ""
    except InvalidToken:
        raise TouchstoneError(
            _("The stored key cannot be read any more: SECRET_KEY has changed. Enter the key again."),
            code="sealed",
        ) from None


def cipher() -> Fernet:
    """Keyed by SEALING_KEY, or by SECRET_KEY where none is set; derived, so that neither is used for two things."""
    secret = (settings.SEALING_KEY or settings.SECRET_KEY).encode()
    key = HKDF(SHA256(), 32, salt=None, info=b"touchstone sealing 1").derive(secret)
    return Fernet(base64.urlsafe_b64encode(key))
