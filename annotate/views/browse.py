"""The data browser: prompts, responses, comparisons and judgments, for reviewers and admins."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate import browsing, correcting
from annotate.access import project_view
from annotate.browsing import detail, people
from annotate.browsing.filters import Filter
from annotate.errors import TouchstoneError
from annotate.models import Answer, Judgment, Lease, Project, Role
from annotate.views.administration import person


@require_safe
@project_view(Role.REVIEWER)
def listing(request: HttpRequest, project: Project, name: str) -> HttpResponseBase:
    """A page of a listing; with HX-Request its results alone. A wrong filter is said, and nothing is listed."""
    kind = browsing.LISTINGS[name]
    known = people.names(project, is_admin(request))
    form = kind.filter(request.GET, project, known)
    context = {
        "project": project,
        "listing": kind,
        "form": form,
        "names": known,
        "is_admin": is_admin(request),
    }
    is_valid = form.is_valid()
    if is_valid:
        context |= results(project, kind, form, request)
    template = "data/results.html" if request.headers.get("HX-Request") else "data/list.html"
    response = render(request, template, context, status=200 if is_valid else 400)
    response["Vary"] = "HX-Request, Cookie"
    return response


def results(
    project: Project, kind: browsing.Listing, form: Filter, request: HttpRequest
) -> dict[str, object]:
    is_whole = kind.counter and not form.chosen and not form.cleaned_data["sort"]
    known = getattr(project, kind.counter) if is_whole else None
    page = browsing.page_of(form.rows(), form.order, form.cleaned_data["after"], known, shown=form.shown)
    address = request.GET.copy()
    address.pop("after", None)
    first = address.urlencode()
    address["after"] = page.following
    return {"page": page, "next": address.urlencode() if page.following else "", "first": first}


def is_admin(request: HttpRequest) -> bool:
    return bool(request.role == Role.ADMIN)  # type: ignore[attr-defined]


@require_safe
@project_view(Role.REVIEWER)
def prompt(request: HttpRequest, project: Project, prompt_id: int) -> HttpResponseBase:
    """A prompt, its responses by reward, and its comparisons."""
    one = get_object_or_404(project.prompts, pk=prompt_id)
    comparisons = project.comparisons.filter(prompt=one).order_by("-id")
    current = Prefetch("judgments", Judgment.objects.filter(replaced_at=None), to_attr="current")
    context = {
        "project": project,
        "prompt": one,
        "responses": detail.ranked(one),
        "most": detail.MOST_RESPONSES,
        "comparisons": comparisons.prefetch_related(current)[: detail.MOST_COMPARISONS],
        "step": detail.rewards_step(project),
    }
    return render(request, "data/prompt.html", context)


@require_safe
@project_view(Role.REVIEWER)
def comparison(request: HttpRequest, project: Project, comparison_id: int) -> HttpResponseBase:
    """A comparison, why it was chosen, and its judgments with their history."""
    rows = project.comparisons.select_related("prompt", "first__reward", "second__reward", "settled_by")
    one = get_object_or_404(rows, pk=comparison_id)
    context = {
        "project": project,
        "comparison": one,
        "lease": Lease(project=project, comparison=one, swapped=False),
        "why": browsing.why(one),
        "judgments": detail.histories(one, people.names(project, is_admin(request)), is_admin(request)),
    }
    return render(request, "data/comparison.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@project_view(Role.REVIEWER)
def judgment(request: HttpRequest, project: Project, judgment_id: int) -> HttpResponseBase:
    """Correct a judgment or withdraw it, with a reason; the pair is before the reviewer's eyes."""
    one = get_object_or_404(
        project.judgments.select_related("comparison__prompt", "comparison__first", "comparison__second"),
        pk=judgment_id,
    )
    if request.method == "POST":
        return judgment_changed(request, project, one)
    who = people.who(one, people.names(project, is_admin(request)), is_admin(request))
    context = {
        "project": project,
        "judgment": one,
        "comparison": one.comparison,
        "who": who,
        "answers": Answer.choices,
    }
    context["lease"] = Lease(project=project, comparison=one.comparison, swapped=False)
    return render(request, "data/judgment.html", context)


def judgment_changed(request: HttpRequest, project: Project, one: Judgment) -> HttpResponseBase:
    given, reason = request.POST, request.POST.get("reason", "")
    strength = (
        int(given["strength"])
        if given.get("strength", "").isdecimal() and len(given["strength"]) < 4
        else None
    )
    try:
        if given.get("action") == "withdraw":
            correcting.withdraw(person(request), project, one.pk, reason)
            messages.success(request, _("The judgment was withdrawn. The reward model forgets it."))
        else:
            correcting.correct(person(request), project, one.pk, given.get("answer", ""), strength, reason)
            messages.success(
                request, _("The judgment was corrected. The reward model learns the new answer.")
            )
    except TouchstoneError as error:
        messages.error(request, str(error))
        return redirect("browse_judgment", project.slug, one.pk)
    return redirect("browse_comparison", project.slug, one.comparison_id)
