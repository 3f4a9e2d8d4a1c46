"""Idempotency-Key: a POST that is sent again gets the answer that it got, and does nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from ninja import Schema, Status

from annotate.api.bearer import token_of
from annotate.api.problems import Problem
from annotate.models import KeptAnswer

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(days=1)
GIVEN_UP_AFTER = timedelta(minutes=10)
View = Callable[..., Any]


def once(view: View) -> View:
    """Around every operation: only a POST with the header is remembered, and only if it succeeded.

    The row is written before the work, so a second request that comes meanwhile is told to wait (409).
    """

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER, "")
        if request.method != "POST" or not key:
            return view(request, *args, **kwargs)
        before = begin(request, key)
        if isinstance(before, HttpResponse):
            return before
        try:
            result = view(request, *args, **kwargs)
        except BaseException:
            before.delete()
            raise
        keep(before, result)
        return result

    return answered


def begin(request: HttpRequest, key: str) -> KeptAnswer | HttpResponse:
    """A row of our own, or the answer that was given before."""
    if len(key) > 200 or not (key.isascii() and key.isprintable()):
        raise Problem(422, "invalid", f"{HEADER}: at most 200 printable ASCII characters.")
    token, now = token_of(request), timezone.now()
    rows = KeptAnswer.objects.filter(token=token, key=key)
    rows.filter(created_at__lt=now - KEPT_FOR).delete()
    rows.filter(status=None, created_at__lt=now - GIVEN_UP_AFTER).delete()
    mark = fingerprint(request)
    try:
        with transaction.atomic():
            return KeptAnswer.objects.create(token=token, key=key, fingerprint=mark, created_at=now)
    except IntegrityError:
        return again(rows.filter(fingerprint=mark).first())


def again(kept: KeptAnswer | None) -> HttpResponse:
    if kept is None:
        raise Problem(422, "invalid", f"{HEADER}: this key came with another request before; use a new one.")
    if kept.status is None:
        raise Problem(409, "running", "The same request is still being worked on; ask again in a moment.")
    response = JsonResponse(kept.body, status=kept.status, safe=False)
    response["Idempotency-Replayed"] = "true"
    return response


def fingerprint(request: HttpRequest) -> str:
    """Of what was asked; of an upload that is read as it comes, its length stands for the body."""
    is_json = request.content_type == "application/json"
    body = request.body if is_json else request.headers.get("Content-Length", "").encode()
    head = f"{request.method} {request.get_full_path()}\n".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + body).hexdigest()


def keep(row: KeptAnswer, result: Any) -> None:
    """Remember an answer that is a schema; one that streams is not remembered."""
    status, value = (result.status_code, result.value) if isinstance(result, Status) else (200, result)
    if not isinstance(value, Schema):
        row.delete()
        return
    KeptAnswer.objects.filter(pk=row.pk).update(status=status, body=json.loads(value.model_dump_json()))


def forget_old() -> None:
    """For the sweep: keys hold for a day."""
    KeptAnswer.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
