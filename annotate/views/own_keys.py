"""A person's own keys on the annotator's screen."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotate import keys
from annotate.errors import TouchstoneError
from annotate.models import User
from annotate.views.compare import person

ALL: keys.Keys = keys.PLAIN | keys.GRADED | keys.OTHERS


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def own_keys(request: HttpRequest) -> HttpResponseBase:
    """Every action with its key; an empty field is the default."""
    if request.method != "POST":
        return render(request, "own_keys.html", {"rows": rows(person(request).keys)})
    sent = {action: request.POST.get(action, "").strip() for action in ALL}
    chosen = {} if "reset" in request.POST else {action: key for action, key in sent.items() if key}
    try:
        kept = keys.checked(chosen)
    except TouchstoneError as error:
        messages.warning(request, str(error))
        return render(request, "own_keys.html", {"rows": rows(chosen)}, status=400)
    User.objects.filter(pk=person(request).pk).update(keys=kept)
    messages.success(request, _("Your keys were saved."))
    return redirect("own_keys")


def rows(chosen: dict[str, str]) -> list[tuple[str, str, str, SafeString]]:
    """Action, what it does, the person's key, the default keys."""
    return [
        (action, str(keys.EXPLAINED.get(action) or label(action)), chosen.get(action, ""), default(action))
        for action in ALL
    ]


def label(action: str) -> str:
    said = str(keys.LABELS[action])
    return where_graded(said) if "-" in action else said


def where_graded(said: str) -> SafeString:
    return format_html(_("{answer} (where the project asks how much)"), answer=said)


def default(action: str) -> SafeString:
    """Its default keys, and those of the other layout where they differ."""
    plain, graded = (layout.get(action) for layout in (keys.PLAIN, keys.GRADED))
    if plain and graded and plain != graded:
        return format_html("{}<br>{}", signs(plain), where_graded(signs(graded)))
    return signs(ALL[action])


def signs(defaults: tuple[str, ...]) -> SafeString:
    return format_html_join(" ", "<kbd>{}</kbd>", ([keys.SIGNS.get(key, key)] for key in defaults))
