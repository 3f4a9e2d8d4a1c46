"""Signatures as Standard Webhooks has them: HMAC-SHA256 over id, time and body, with a secret of the endpoint's."""

from __future__ import annotations

import base64
import hashlib
import hmac

from django.utils.crypto import salted_hmac

from annotate.models import Delivery, Endpoint


def key_of(endpoint: Endpoint) -> bytes:
    """Made of the installation's SECRET_KEY and the endpoint's salt: what a stolen database does not hold."""
    return salted_hmac("annotate.webhooks", f"{endpoint.pk}:{endpoint.salt}", algorithm="sha256").digest()


def secret_of(endpoint: Endpoint) -> str:
    """The secret as its receiver configures it."""
    return "whsec_" + base64.b64encode(key_of(endpoint)).decode()


def headers_of(delivery: Delivery, timestamp: int) -> dict[str, str]:
    signed = f"{delivery.message}.{timestamp}.{delivery.body}".encode()
    digest = hmac.new(key_of(delivery.endpoint), signed, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": delivery.message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
