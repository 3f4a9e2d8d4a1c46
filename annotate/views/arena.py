"""The arena's pages, for members at the project's address and, where it is open, for anyone at its public one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any, cast
from uuid import UUID

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from annotate import arena, deploying
from annotate.access import project_view
from annotate.arena import Guest
from annotate.errors import TouchstoneError
from annotate.models import Deployment, Project, Role, User
from annotate.views.administration import get_or_post

View = Callable[..., HttpResponseBase]


def arena_view(view: View) -> View:
    """Give a view its guest: a member of the project by its slug, or a session by the public link; else 404."""

    @wraps(view)
    def entered(request: HttpRequest, *, slug: str = "", link: str = "", **more: Any) -> HttpResponseBase:
        if link:
            return view(request, visitor_of(request, link), **more)

        @project_view(Role.ANNOTATOR)
        def as_member(request: HttpRequest, project: Project) -> HttpResponseBase:
            return view(
                request, Guest(project, reverse("arena", args=[slug]), cast(User, request.user)), **more
            )

        return as_member(request, slug)

    return entered


def visitor_of(request: HttpRequest, link: str) -> Guest:
    found = Deployment.objects.select_related("project").filter(link=link, is_public=True, is_on=True).first()
    if found is None or found.project.archived_at:
        raise Http404("There is nothing at this address.")
    if "arena" not in request.session:
        request.session["arena"] = secrets.token_urlsafe(24)
    visitor = hashlib.sha256(f"{found.project.seed}{request.session['arena']}".encode()).hexdigest()
    address = get_adapter(request).get_client_ip(request)  # behind as many proxies as the sign-in believes
    return Guest(found.project, reverse("public_arena", args=[link]), visitor=visitor, address=address)


@require_safe
@arena_view
def start(request: HttpRequest, guest: Guest) -> HttpResponseBase:
    context = {
        "project": guest.project,
        "guest": guest,
        "is_on": deploying.settings_of(guest.project).is_on,
        "has_generators": guest.project.generators.filter(is_on=True).exists(),
        "conversations": arena.newest(guest),
    }
    return private(render(request, "arena/start.html", context))


@get_or_post
@arena_view
def ask(request: HttpRequest, guest: Guest) -> HttpResponseBase:
    if request.method != "POST":  # after a sign-in
        return redirect(guest.base)
    parent = request.POST.get("parent", "")
    try:
        asked = arena.ask(guest, request.POST.get("prompt", ""), UUID(parent) if parent else None)
        return redirect(f"{guest.base}{asked.pk}/")
    except ValueError:
        raise Http404("There is no such conversation.") from None
    except TouchstoneError as error:
        if error.code == "gone":
            raise
        messages.warning(request, str(error))
        return redirect(f"{guest.base}{parent}/" if parent else guest.base)


@require_safe
@arena_view
def turn(request: HttpRequest, guest: Guest, request_id: UUID) -> HttpResponseBase:
    found = arena.turn_of(arena.request_of(guest, request_id))
    deployment = deploying.settings_of(guest.project)
    context = {"project": guest.project, "guest": guest, "turn": found, "deployment": deployment}
    template = "arena/answers.html" if request.headers.get("HX-Request") else "arena/turn.html"
    return private(render(request, template, context))


@get_or_post
@arena_view
def choose(request: HttpRequest, guest: Guest, request_id: UUID) -> HttpResponseBase:
    try:
        if request.method == "POST":
            arena.choose(guest, request_id, request.POST.get("side", ""))
    except TouchstoneError as error:
        if error.code == "gone":
            raise
        messages.warning(request, str(error))
    return redirect(f"{guest.base}{request_id}/")


def private(response: HttpResponseBase) -> HttpResponseBase:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "HX-Request, Cookie"
    response.headers["X-Robots-Tag"] = "noindex"
    return response
