"""Coming into a project by an invitation: as somebody who is signed in, or with a new account.

Opening the link changes nothing (mail scanners open links); joining is a POST. The account form works while
sign-up is closed, because the invitation is the permission.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from annotate import people
from annotate.errors import TouchstoneError
from annotate.forms import AccountForm
from annotate.models import Invitation, Project
from annotate.views.administration import get_or_post, person


@get_or_post
@never_cache
def invitation(request: HttpRequest, token: str) -> HttpResponseBase:
    """What the invitation is for; a POST by somebody who is signed in joins."""
    found = people.valid_invitation(token)
    if not request.user.is_authenticated:
        return welcome(request, found, token, AccountForm(email=found.email))
    if request.method == "POST":
        return arrive(request, people.accept(token, person(request)).project)
    return welcome(request, found, token, None)


@get_or_post
@never_cache
@sensitive_post_parameters("password")
def invitation_account(request: HttpRequest, token: str) -> HttpResponseBase:
    """Make an account and join with it."""
    found = people.valid_invitation(token)
    form = AccountForm(request.POST, email=found.email)
    if request.method != "POST" or request.user.is_authenticated:
        return redirect("invitation", token)
    if form.is_valid():
        try:
            user = people.join_as_stranger(token, **form.cleaned_data)
        except TouchstoneError as error:
            form.add_error(error.code if error.code in form.fields else None, str(error))
        else:
            login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
            return arrive(request, found.project)
    return welcome(request, found, token, form)


def arrive(request: HttpRequest, project: Project) -> HttpResponseBase:
    messages.success(request, _("You are in."))
    return redirect(
        "home" if project.archived_at else "compare", *([] if project.archived_at else [project.slug])
    )


def welcome(request: HttpRequest, found: Invitation, token: str, form: AccountForm | None) -> HttpResponse:
    context = {"invitation": found, "invited_to": found.project, "token": token, "form": form}
    return render(request, "administration/invitation.html", context)
