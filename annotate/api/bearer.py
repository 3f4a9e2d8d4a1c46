"""Who calls: a token in the Authorization header, what it may do, and which projects it reaches."""

from __future__ import annotations

import time
from typing import cast

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja.errors import Throttled
from ninja.security.http import HttpAuthBase

from annotate import statements, tokens
from annotate.access import REACH
from annotate.api.problems import Problem
from annotate.caching import WINDOW, counted, in_window
from annotate.models import Project, Role, Token, User


class Bearer(HttpAuthBase):
    """``auth=Bearer("annotate")``: a living token that has this verb. A session is never looked at."""

    openapi_scheme = "bearer"

    def __init__(self, verb: str) -> None:
        self.verb = verb
        super().__init__()

    def __call__(self, request: HttpRequest) -> Token | None:
        scheme, _space, text = request.headers.get("Authorization", "").partition(" ")
        given = text.strip() if scheme.lower() in ("bearer", "token") else ""
        refuse_who_failed(request, given)
        token = tokens.found(given) if given else None
        if token is None:
            counted(f"api-failed:{address_of(request)}")
            return None
        count(token)
        if self.verb not in token.verbs:
            raise Problem(
                403, "forbidden", f"This token may not “{self.verb}”; it may {', '.join(token.verbs)}."
            )
        return token


def refuse_who_failed(request: HttpRequest, text: str) -> None:
    """An address that failed often within this minute is not looked up any more; a token at work there still is."""
    failed = cache.get(in_window(f"api-failed:{address_of(request)}"), 0)
    if failed < settings.API_FAILURES_A_MINUTE:
        return
    key = of_token(tokens.digest_of(text))
    if not any(cache.get(in_window(key, back)) for back in (0, 1)):
        raise Throttled(until_next())


def address_of(request: HttpRequest) -> str:
    """Where the caller is, behind as many proxies as are trusted; callers of whom nothing is known are one."""
    try:
        return str(get_adapter().get_client_ip(request))
    except PermissionDenied:
        return ""


def count(token: Token) -> None:
    """So many requests a minute and token; counted in the cache, so by each process where that is its own."""
    if counted(of_token(token.digest)) > settings.API_REQUESTS_A_MINUTE:
        raise Throttled(until_next())


def of_token(digest: str) -> str:
    return f"api:{digest[:32]}"


def until_next() -> int:
    return int(WINDOW - time.time() % WINDOW) + 1


def token_of(request: HttpRequest) -> Token:
    return cast(Token, request.auth)  # type: ignore[attr-defined]


def person(request: HttpRequest) -> User:
    """The token's owner: what a program does, its owner does."""
    return token_of(request).user


def project_of(request: HttpRequest, slug: str, role: str) -> Project:
    """The project, if the token reaches it and its owner has at least this role there now.

    One that the token does not reach does not exist (404); one where the owner's role is too low says so (403).
    """
    token = token_of(request)
    project = statements.project_of(slug, token.user_id)
    held = Role.ADMIN if token.user.is_superuser else getattr(project, "held", None)
    if project is None or held is None or not tokens.reaches(token, project):
        raise Problem(404, "gone", "There is no such project, or this token does not reach it.")
    if REACH[Role(held)] < REACH[Role(role)]:
        raise Problem(403, "forbidden", f"This takes the role “{role}” in the project; you are “{held}”.")
    return project
