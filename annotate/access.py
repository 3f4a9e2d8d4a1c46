"""Who may do what. A project that someone may not see does not exist for them (404), so its name never leaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render, resolve_url
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotate import statements
from annotate.errors import TouchstoneError
from annotate.models import Membership, Project, Role, User

P = ParamSpec("P")
REACH = {Role.ANNOTATOR: 1, Role.REVIEWER: 2, Role.ADMIN: 3}


def role_in(project: Project, user: User) -> str | None:
    """The user's role in the project; an installation's superuser is admin of every project."""
    if user.is_superuser:
        return Role.ADMIN
    return project.memberships.filter(user=user).values_list("role", flat=True).first()


def visible_projects(user: User) -> QuerySet[Project]:
    """The projects a user is in; for a superuser, all of them."""
    projects = Project.objects.all()
    return projects if user.is_superuser else projects.filter(Q(memberships__user=user))


def for_a_page(slug: str, user: User) -> Project | None:
    """The project with the user's role in it, and what the navigation asks for."""
    own = Membership.objects.filter(project=OuterRef("pk"), user=user).values("role")
    projects = Project.objects.select_related("deployment").annotate(held=Subquery(own))
    return projects.filter(slug=slug).first()


def project_view(
    role: str,
) -> Callable[
    [Callable[Concatenate[HttpRequest, Project, P], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, str, P], HttpResponseBase],
]:
    """Give a view its project by slug, if the signed-in user has at least this role; else 404."""

    def decorate(
        view: Callable[Concatenate[HttpRequest, Project, P], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, str, P], HttpResponseBase]:
        @wraps(view)
        def guarded(request: HttpRequest, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            user = cast(User, request.user)
            is_script = request.headers.get("HX-Request")
            project = statements.project_of(slug, user.pk) if is_script else for_a_page(slug, user)
            held = Role.ADMIN if project and user.is_superuser else getattr(project, "held", None)
            if project is None or held is None or REACH[Role(held)] < REACH[Role(role)]:
                raise Http404("There is no such project, or you are not in it.")
            request.role = held  # type: ignore[attr-defined]
            return view(request, project, *args, **kwargs)

        return login_required(guarded)  # type: ignore[return-value]

    return decorate


def form_view(
    role: str, page: str, *named: str
) -> Callable[
    [Callable[Concatenate[HttpRequest, Project, P], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, str, P], HttpResponseBase],
]:
    """A ``project_view`` that takes what a form sends. Its address, opened otherwise, leads to the form's page.

    People get there after a sign-in or by the choice of a language. ``named``: the page's parts beside the slug.
    """

    def decorate(
        view: Callable[Concatenate[HttpRequest, Project, P], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, str, P], HttpResponseBase]:
        @wraps(view)
        def sent(
            request: HttpRequest, project: Project, *args: P.args, **kwargs: P.kwargs
        ) -> HttpResponseBase:
            if request.method != "POST":
                return redirect(page, project.slug, *(kwargs[name] for name in named))
            return view(request, project, *args, **kwargs)

        return require_http_methods(["GET", "HEAD", "POST"])(project_view(role)(sent))  # type: ignore[arg-type]

    return decorate


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Sign-up is closed unless the installation opens it; invitations are the way in."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.ALLOW_SIGNUP)


STATUS = {"gone": 404, "forbidden": 403, "expired": 409, "skipped": 409, "invalid": 400, "limit": 429}
STATUS |= {"nothing": 409, "unready": 409, "unavailable": 503, "failed": 503}


class SayTouchstoneErrors:
    """Turn a TouchstoneError into a message: a small page, or the bare sentence for a script.

    Who sends a form and is asked to sign in is told that nothing came of it; a script keeps what it sent.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.method == "POST" and not request.headers.get("HX-Request") and asks_to_sign_in(response):
            messages.warning(request, _("You were signed out: what you just sent was not saved."))
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, TouchstoneError):
            return None
        status = STATUS.get(error.code, 400)
        if request.headers.get("HX-Request") or "application/json" in request.headers.get("Accept", ""):
            return HttpResponse(str(error), status=status, content_type="text/plain; charset=utf-8")
        return render(request, "error.html", {"message": str(error), "status": status}, status=status)


def asks_to_sign_in(response: HttpResponse) -> bool:
    return response.status_code == 302 and response["Location"].startswith(
        f"{resolve_url(settings.LOGIN_URL)}?"
    )
