"""Idempotency-Key: a POST that is sent again gets the answer that it got, and does nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
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
PIECE = 1 << 20
STREAMS = "streams"  # in the place of a fingerprint, until the body was read
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
        keep(before, result, request)
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
    mark = fingerprint(request) if was_read(request) else STREAMS
    try:
        with transaction.atomic():
            return KeptAnswer.objects.create(token=token, key=key, fingerprint=mark, created_at=now)
    except IntegrityError:
        return again(rows.first(), request)


def again(kept: KeptAnswer | None, request: HttpRequest) -> HttpResponse:
    known = None if kept is None or kept.fingerprint == STREAMS else kept
    if known and known.fingerprint != fingerprint(request):
        raise Problem(422, "invalid", f"{HEADER}: this key came with another request before; use a new one.")
    if known is None or known.status is None:
        raise Problem(409, "running", "The same request is still being worked on; ask again in a moment.")
    response = JsonResponse(known.body, status=known.status, safe=False)
    response["Idempotency-Replayed"] = "true"
    return response


def was_read(request: HttpRequest) -> bool:
    """Whether the body is in memory already, as of every operation that takes JSON."""
    return hasattr(request, "_body")


def pieces(request: HttpRequest) -> Iterator[bytes]:
    """A body that streams; what it was is remembered, for the fingerprint."""
    digest = hashlib.sha256()
    while piece := request.read(PIECE):
        digest.update(piece)
        yield piece
    request.received = digest.digest()  # type: ignore[attr-defined]


def fingerprint(request: HttpRequest) -> str:
    """Of what was asked, to the last byte. A body that nobody has read yet is read, and held by nobody."""
    if was_read(request):
        body = hashlib.sha256(request.body).digest()
    else:
        if not hasattr(request, "received"):
            deque(pieces(request), maxlen=0)
        body = request.received  # type: ignore[attr-defined]
    head = f"{request.method} {request.get_full_path()}\n".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + body).hexdigest()


def keep(row: KeptAnswer, result: Any, request: HttpRequest) -> None:
    """Remember an answer that is a schema; one that streams is not remembered."""
    status, value = (result.status_code, result.value) if isinstance(result, Status) else (200, result)
    if not isinstance(value, Schema):
        row.delete()
        return
    answer, mark = json.loads(value.model_dump_json()), fingerprint(request)
    KeptAnswer.objects.filter(pk=row.pk).update(status=status, body=answer, fingerprint=mark)


def forget_old() -> None:
    """For the sweep: keys hold for a day."""
    KeptAnswer.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
