"""A person's own keys on the annotator's screen."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
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


def rows(chosen: dict[str, str]) -> list[tuple[str, str, str, list[str]]]:
    """Action, what it does, the person's key, the default keys."""
    return [
        (action, str(keys.EXPLAINED.get(action) or label(action)), chosen.get(action, ""), signs(defaults))
        for action, defaults in ALL.items()
    ]


def label(action: str) -> str:
    said = str(keys.LABELS[action])
    return _("{answer} (where the project asks how much)").format(answer=said) if "-" in action else said


def signs(defaults: tuple[str, ...]) -> list[str]:
    return [keys.SIGNS.get(key, key) for key in defaults]
