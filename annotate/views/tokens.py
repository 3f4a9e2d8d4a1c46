"""A person's API tokens: make one (its text is shown this once), see what uses it, revoke it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import tokens
from annotate.access import visible_projects
from annotate.errors import TouchstoneError
from annotate.programforms import TokenForm
from annotate.views.administration import get_or_post, person


@get_or_post
@login_required
def own_tokens(request: HttpRequest) -> HttpResponseBase:
    """The new token's text is in this one answer and nowhere else, so it does not redirect."""
    projects = visible_projects(person(request)).order_by("name", "id")
    form, made = TokenForm(request.POST or None, projects=projects), ""
    if request.method == "POST" and form.is_valid():
        sent = form.cleaned_data
        try:
            chosen = list(sent["projects"]) or None
            _token, made = tokens.make(person(request), sent["name"], sent["verbs"], chosen, sent["days"])
            form = TokenForm(projects=projects)
        except TouchstoneError as error:
            form.add_error(None, str(error))
    rows = person(request).tokens.prefetch_related("projects")
    context = {"form": form, "made": made, "tokens": rows[: 2 * tokens.MOST_TOKENS], "now": timezone.now()}
    response = render(request, "programs/tokens.html", context)
    response["Cache-Control"] = "no-store"
    return response


@get_or_post
@login_required
def token_revoke(request: HttpRequest, token_id: int) -> HttpResponseBase:
    if request.method != "POST":  # after a sign-in
        return redirect("own_tokens")
    token = tokens.revoke(person(request), token_id)
    messages.success(request, _("“{name}” was revoked: it opens nothing any more.").format(name=token.name))
    return redirect("own_tokens")
