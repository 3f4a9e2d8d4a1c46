"""The annotator's screen: a pair, the next one preloaded, and what can be done with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from annotate import budgets, judging, keys, own_day, serving, training
from annotate.access import form_view, project_view
from annotate.caching import counted
from annotate.errors import TouchstoneError
from annotate.models import Judgment, Lease, Project, Role, User

SKIP_REASONS = [
    ("undecided", gettext_lazy("I cannot decide")),
    ("expertise", gettext_lazy("I do not know enough about it")),
    ("unclear", gettext_lazy("The prompt is unclear")),
    ("language", gettext_lazy("Not my language")),
    ("broken", gettext_lazy("Broken or empty text")),
    ("harmful", gettext_lazy("Harmful content")),
]

FLAGS = [
    ("harmful", gettext_lazy("Harmful content")),
    ("broken", gettext_lazy("Broken or empty text")),
    ("language", gettext_lazy("Not my language")),
]


@require_safe
@project_view(Role.ANNOTATOR)
def compare(request: HttpRequest, project: Project) -> HttpResponseBase:
    return show(request, project)


@form_view(Role.ANNOTATOR, "compare")
def judge(request: HttpRequest, project: Project, lease_id: UUID) -> HttpResponseBase:
    """For a script, the answer and the next lease are one commit."""
    leases: list[Lease] = []
    annotator, more = person(request), is_script(request) and not why_not_begin(project, person(request))
    with told_on_the_page(request):
        refuse_haste(annotator)
        given = submission(request.POST, project)
        then = Claiming(leases, project, annotator, lease_id) if more else None
        judgment = judging.record(annotator, lease_id, given, project, then)
        if stands_from_before(judgment, request.POST):
            messages.info(request, _("You had answered this pair already; that answer stands."))
    return show(request, project, leases=leases if more else None)


def refuse_haste(annotator: User) -> None:
    """More answers a minute than anybody can read for are a script's; the page would keep them and send them later."""
    if not settings.ANSWERS_A_MINUTE:
        return
    if counted(f"answers:{annotator.pk}") > settings.ANSWERS_A_MINUTE:
        raise TouchstoneError(_("That was a lot at once; wait a minute."), code="limit")


class Claiming:
    """Lease what comes after an answer, into a list. What the annotator holds is read before anything is locked."""

    def __init__(self, leases: list[Lease], project: Project, annotator: User, answered: UUID) -> None:
        self.leases, self.project, self.annotator = leases, project, annotator
        held = serving.open_leases(project, annotator, timezone.now())
        self.held = [lease for lease in held if lease.pk != answered]

    def __call__(self, is_new: bool) -> None:
        """An answer that came a second time had claimed already: look again."""
        held = self.held if is_new else None
        self.leases[:] = serving.leases_for(self.project, self.annotator, held=held)


@form_view(Role.ANNOTATOR, "compare")
def skip(request: HttpRequest, project: Project, lease_id: UUID) -> HttpResponseBase:
    with told_on_the_page(request):
        check_lease(request, project, lease_id)
        judging.skip(person(request), lease_id, request.POST.get("reason", ""), request.POST.get("note", ""))
    return show(request, project)


@form_view(Role.ANNOTATOR, "compare")
def undo(request: HttpRequest, project: Project) -> HttpResponseBase:
    returned = None
    with told_on_the_page(request):
        returned = judging.undo(person(request), project)
    return show(request, project, returned)


@require_POST
@project_view(Role.ANNOTATOR)
def renew(request: HttpRequest, project: Project) -> HttpResponseBase:
    return JsonResponse({"leases": serving.renew(project, person(request))})


@form_view(Role.ANNOTATOR, "compare")
def acknowledge(request: HttpRequest, project: Project) -> HttpResponseBase:
    """By version: what changed while somebody read is shown again."""
    version = request.POST.get("version", "")
    read = int(version) if version.isdecimal() and len(version) < 10 else 0
    serving.acknowledge(project, person(request), read)
    return redirect("compare", project.slug)


def person(request: HttpRequest) -> User:
    return cast(User, request.user)


@contextmanager
def told_on_the_page(request: HttpRequest) -> Iterator[None]:
    """Without scripts, an error becomes a message above the next pair; a script gets the bare sentence."""
    try:
        yield
    except TouchstoneError as error:
        if is_script(request):
            raise
        messages.warning(request, str(error))


def is_script(request: HttpRequest) -> bool:
    return bool(request.headers.get("HX-Request"))


def show(
    request: HttpRequest, project: Project, returned: Lease | None = None, leases: list[Lease] | None = None
) -> HttpResponseBase:
    """The pairs that the browser does not hold yet for a script, the page for a person."""
    if request.method == "POST" and not is_script(request):
        return redirect("compare", project.slug)
    template = "compare/fragment.html" if is_script(request) else "compare/page.html"
    undone = {}  # What was just leased has no answer yet that could have been taken back.
    if leases is None:
        leases = may_have(project, person(request))
        undone = judging.undone(leases)
    more = {"returned": returned, "undone": undone}
    response = render(request, template, screen(request, project, leases) | more)
    response["Cache-Control"] = "no-store"  # The back button asks again, and so never shows an answered pair.
    response["Vary"] = "HX-Request, Cookie"
    return response


def may_have(project: Project, annotator: User) -> list[Lease]:
    """The pairs of this annotator, if nothing comes before them."""
    return [] if why_not_begin(project, annotator) else serving.leases_for(project, annotator)


def screen(request: HttpRequest, project: Project, leases: list[Lease]) -> dict[str, Any]:
    annotator, held = person(request), request.POST.get("held", request.GET.get("held", "")).split(",")
    nothing = None if leases else why_not_begin(project, annotator) or why_nothing(project, annotator)
    return {
        "project": project,
        "pairs": serving.with_texts([lease for lease in leases if str(lease.pk) not in held]),
        "nothing": nothing,
        "skip_reasons": SKIP_REASONS,
        **answering(project, annotator),
        "done": own_day.progress(project, annotator, timezone.now()),
    }


def answering(project: Project, annotator: User) -> dict[str, Any]:
    """What can be answered here, and by which keys."""
    found = keys.keys_of(project, annotator)
    return {
        "choices": keys.choices(project, annotator),
        "keys": found,
        "keys_as_json": partial(json.dumps, keys.by_key(found)),  # of the whole page alone
        "sheet": partial(keys.sheet, found),
        "flags": FLAGS,
    }


def why_not_begin(project: Project, annotator: User) -> str:
    """What comes before any pair: an archived project, guidelines that are new, a training round."""
    if project.archived_at:
        return "archived"
    unread = serving.unread_guidelines(project, annotator)
    if unread is not None:
        return "guidelines_changed" if unread else "guidelines"
    return "training" if training.is_due(project, annotator) else ""


def why_nothing(project: Project, annotator: User) -> str:
    """Why there is no pair right now. Only "limit" and "budget" are an end; the rest may change any moment."""
    if project.response_count < 2:
        return "empty"
    if budgets.limit_left(project, annotator) <= 0:
        return "limit"
    if budgets.budget_left(project) <= 0:
        waiting = Lease.objects.filter(project=project, outcome=Lease.Outcome.OPEN).exists()
        return "others" if waiting else "budget"
    return "all_judged"


def check_lease(request: HttpRequest, project: Project, lease_id: UUID) -> None:
    """A lease answers at its own project's address only: there the membership was checked."""
    if not Lease.objects.filter(pk=lease_id, project=project, annotator=person(request)).exists():
        raise TouchstoneError(_("This pair was not given to you."), code="gone")


def submission(sent: QueryDict, project: Project) -> judging.Submission:
    """What the forms of the screen send: "left-3" is left by much; what the project asks no more is left out."""
    side, _dash, steps = sent.get("side", "").partition("-")
    strength = (steps or sent.get("strength", "")) if side in ("left", "right") else ""
    criteria = {name: sent.get(f"criterion:{name}", "") for name in project.criteria}
    return judging.Submission(
        side=side,
        strength=int(strength) if project.ask_strength and strength in ("1", "2", "3") else None,
        criteria={name: answer for name, answer in criteria.items() if answer},
        rationale=sent.get("rationale", "").strip(),
        flags=[flag for flag in judging.FLAGS if f"flag:{flag}" in sent],
        lead_time=seconds(sent.get("lead_time", "")),
    )


def seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def stands_from_before(judgment: Judgment, sent: QueryDict) -> bool:
    """Whether another tab had answered differently before this one."""
    swapped = judgment.lease is not None and judgment.lease.swapped
    return judgment.answer != judging.answer_of(sent.get("side", "").partition("-")[0], swapped)
