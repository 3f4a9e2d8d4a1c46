"""Every request gets an id, a line in the log and a place in the metrics."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from annotate import metrics

SOUND = re.compile(r"[A-Za-z0-9_.-]{1,64}")
logger = structlog.stdlib.get_logger("annotate.request")


class Observe:
    """Outermost, so that it sees what every other part takes and answers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began, request_id = time.perf_counter(), request_id_of(request)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            self.tell(request, response.status_code, time.perf_counter() - began)
        return response

    def tell(self, request: HttpRequest, status: int, seconds: float) -> None:
        match = request.resolver_match
        route = (match.view_name if match else "") or "unnamed"
        metrics.observe(route, request.method or "", status, seconds)
        if settings.LOG_REQUESTS or status >= 500:
            logger.info(
                "request", route=route, method=request.method, status=status, ms=round(1e3 * seconds, 1)
            )


def request_id_of(request: HttpRequest) -> str:
    """The proxy's id if it is a plain word, so that nobody writes lines into the log; else a new one."""
    given = request.headers.get("X-Request-ID", "")
    return given if SOUND.fullmatch(given) else uuid.uuid4().hex
