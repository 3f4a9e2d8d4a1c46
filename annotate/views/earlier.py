"""An annotator's own last answers, and changing one of them within the project's window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate import judging, keys, own_day
from annotate.access import project_view
from annotate.errors import TouchstoneError
from annotate.models import Judgment, Lease, Project, Role, User
from annotate.views.compare import FLAGS, person, submission

SHOWN = 30


@dataclass(frozen=True)
class Earlier:
    """A current answer in terms of the screen, with the answers that it replaced, newest first."""

    judgment: Judgment
    lease: Lease
    is_open: bool
    before: list[str]

    @property
    def value(self) -> str:
        return value_of(self.judgment, self.lease)

    @property
    def said(self) -> str:
        return str(keys.LABELS[self.value])


def value_of(judgment: Judgment, lease: Lease) -> str:
    """The value of the button that gives this answer."""
    side = judging.side_of(judgment.answer, lease.swapped)
    return f"{side}-{judgment.strength}" if judgment.strength else side


@require_safe
@project_view(Role.ANNOTATOR)
def earlier(request: HttpRequest, project: Project) -> HttpResponseBase:
    now, annotator = timezone.now(), person(request)
    context = {
        "project": project,
        "answers": own_answers(project, annotator, now),
        "day": own_day.own_day(project, annotator, now),
    }
    return unkept(render(request, "compare/earlier.html", context))


def own_answers(project: Project, annotator: User, now: datetime) -> list[Earlier]:
    mine = Judgment.objects.filter(
        project=project, annotator=annotator, replaced_at=None, lease__isnull=False
    ).select_related("lease", "comparison__prompt", "comparison__first", "comparison__second")
    return [described(judgment, project, now) for judgment in mine.order_by("-id")[:SHOWN]]


def described(judgment: Judgment, project: Project, now: datetime) -> Earlier:
    lease = cast(Lease, judgment.lease)
    lease.comparison = judgment.comparison
    replaced = (
        lease.judgments.filter(replaced_reason=judging.EDITED).order_by("-id") if judgment.replaces_id else []
    )
    return Earlier(
        judgment,
        lease,
        judging.is_open_to_edits(lease, project, now),
        [str(keys.LABELS[value_of(old, lease)]) for old in replaced],
    )


@require_http_methods(["GET", "HEAD", "POST"])
@project_view(Role.ANNOTATOR)
def change(request: HttpRequest, project: Project, judgment_id: int) -> HttpResponseBase:
    """The pair as it was seen, with the answer as it stands; sending another replaces it."""
    if request.method != "POST":
        return change_page(request, project, judgment_id)
    try:
        judging.edit(person(request), project, judgment_id, submission(request.POST, project))
    except TouchstoneError as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, _("Your answer was changed."))
    return redirect("earlier", project.slug)


def change_page(request: HttpRequest, project: Project, judgment_id: int) -> HttpResponseBase:
    mine = Judgment.objects.filter(project=project, annotator=person(request), lease__isnull=False)
    found = (
        mine.filter(pk=judgment_id, replaced_at=None).select_related("lease", "comparison__prompt").first()
    )
    if found is None:
        raise TouchstoneError(_("This answer is not yours, or does not exist."), code="gone")
    one = described(found, project, timezone.now())
    return unkept(render(request, "compare/change.html", change_context(project, one, person(request))))


def change_context(project: Project, one: Earlier, annotator: User) -> dict[str, object]:
    return {
        "project": project,
        "one": one,
        "lease": one.lease,
        "judgment": one.judgment,
        "given": one.value,
        "given_criteria": judging.criteria_of(one.judgment, one.lease.swapped),
        "choices": [replace(choice, key="", keys=()) for choice in keys.choices(project, annotator)],
        "flags": FLAGS,
    }


def unkept(response: HttpResponseBase) -> HttpResponseBase:
    """The back button asks again, and so never shows an answer that was changed."""
    response["Cache-Control"] = "no-store"
    return response
