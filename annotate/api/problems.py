"""Errors as RFC 9457 problems: what is wrong, and where, for every answer below /api/ that is not a success."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, Throttled, ValidationError

from annotate.access import STATUS
from annotate.errors import TouchstoneError

logger = logging.getLogger(__name__)
MEDIA = "application/problem+json"
MOST_ERRORS = 100
PREFIX = "/api/"


class Problem(Exception):
    """An error of the API that is no matter of the site: its status, a code to branch on, a sentence."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.more = status, code, detail, more


def problem(status: int, code: str, detail: str, **more: Any) -> HttpResponse:
    """``errors``, where given, is a list of {"where", "what"}."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type=MEDIA)


def install(api: NinjaAPI) -> None:
    """Say every exception of the API as a problem."""
    handlers: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
        Problem: lambda _request, error: problem(error.status, error.code, error.detail, **error.more),
        TouchstoneError: of_touchstone,
        ValidationError: of_validation,
        Throttled: throttled,
        AuthenticationError: unauthorized,
        HttpError: unreadable,
        Http404: lambda _request, _error: problem(404, "gone", "There is nothing at this address."),
        RequestDataTooBig: lambda _request, _error: problem(
            413, "long", "The body is too large; send less at once."
        ),
        Exception: unforeseen,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def of_touchstone(request: HttpRequest, error: TouchstoneError) -> HttpResponse:
    status = 422 if error.code == "invalid" else STATUS.get(error.code, 422)
    return problem(status, error.code, str(error))


def of_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    found = [
        {"where": ".".join(map(str, one["loc"])), "what": str(one["msg"])}
        for one in error.errors[:MOST_ERRORS]
    ]
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in found[:3])
    return problem(422, "invalid", detail, errors=found)


def throttled(request: HttpRequest, error: Throttled) -> HttpResponse:
    response = problem(
        429, "limit", "Too many requests with this token, or too many without a living one; wait a little."
    )
    response["Retry-After"] = str(error.wait or 1)
    return response


def unauthorized(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    words = (
        "Send a living token: “Authorization: Bearer tst_…”. Tokens are made on the site, under API tokens."
    )
    response = problem(401, "unauthorized", words)
    response["WWW-Authenticate"] = 'Bearer realm="Touchstone"'
    return response


def unreadable(request: HttpRequest, error: HttpError) -> HttpResponse:
    """A body that is not JSON; the strict reader's own words say where."""
    return problem(error.status_code, "json", str(error.__cause__ or error))


def unforeseen(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.exception("the API failed at %s %s", request.method, request.path)
    return problem(500, "error", "Something went wrong here; it was logged.")


class SayProblems:
    """The answers that Django itself gives below /api/ (no such address, another method) as problems too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not request.path_info.startswith(PREFIX):
            return response
        if response.status_code >= 400 and response.headers.get("Content-Type") != MEDIA:
            response = said(response)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def said(response: HttpResponseBase) -> HttpResponse:
    words = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    status = response.status_code
    found = problem(
        status, "gone" if status == 404 else "error", words.get(status, "This cannot be answered.")
    )
    if "Allow" in response.headers:
        found["Allow"] = response.headers["Allow"]
    return found
