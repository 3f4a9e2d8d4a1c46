"""ETags: an answer that is the one the caller has already is not sent again."""

from __future__ import annotations

import hashlib

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from ninja import Schema

TAGGED = {"responses": {304: {"description": "What the caller has, by If-None-Match, is still the answer."}}}


def tagged(request: HttpRequest, value: Schema) -> HttpResponseBase:
    """The answer with the digest of its text as its tag, or 304."""
    body = value.model_dump_json().encode()
    etag = etag_of(body)
    return unchanged(request, etag) or marked(HttpResponse(body, content_type="application/json"), etag)


def etag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def unchanged(request: HttpRequest, etag: str) -> HttpResponseBase | None:
    """304 (or 412, where the caller insists on another tag), if there is nothing to send."""
    found = get_conditional_response(request, etag)
    return None if found is None else marked(found, etag)


def marked(response: HttpResponseBase, etag: str) -> HttpResponseBase:
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    return response
