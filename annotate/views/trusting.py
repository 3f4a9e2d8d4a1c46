"""For reviewers and admins: one annotator's record, disagreements to settle, gold pairs to add."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate import draws, keys, training, trust
from annotate.access import form_view, project_view
from annotate.browsing import people
from annotate.errors import TouchstoneError
from annotate.judging import answer_of
from annotate.models import Arm, Comparison, Lease, Project, Role, User
from annotate.views.browse import is_admin
from annotate.views.compare import SKIP_REASONS, person

ANSWERS = [(value, keys.LABELS[value]) for value in keys.PLAIN]


@require_safe
@project_view(Role.REVIEWER)
def annotator(request: HttpRequest, project: Project, user_id: int) -> HttpResponseBase:
    """Anyone who is in the project or has judged in it; everyone else is unknown here."""
    judged = project.judgments.filter(annotator=OuterRef("pk"))
    known = User.objects.filter(Exists(project.memberships.filter(user=OuterRef("pk"))) | Exists(judged))
    one = get_object_or_404(known, pk=user_id)
    record = trust.record_of(project, one)
    labels = dict(SKIP_REASONS)
    reasons = [
        (labels.get(reason, reason or _("no reason given")), number) for reason, number in record.reasons
    ]
    called = people.called(one, is_admin(request))
    context = {"project": project, "called": called, "record": record, "reasons": reasons}
    if measured := project.reliabilities.filter(annotator=one).first():
        tone, sentence = trust.in_a_word(measured)
        context |= {"measured": measured, "tone": tone, "sentence": sentence}
    context["trained"] = training.result_of(project, one)
    return render(request, "trusting/annotator.html", context)


@require_safe
@project_view(Role.REVIEWER)
def disagreements(request: HttpRequest, project: Project) -> HttpResponseBase:
    """The next disagreement; ``after`` passes over those that a reviewer leaves for later."""
    imported = "imported" in request.GET
    waiting = trust.disagreements(project, imported)
    after = request.GET.get("after", "")
    rest = waiting.filter(pk__gt=int(after)) if after.isdecimal() and len(after) < 19 else waiting
    comparison = rest.select_related("prompt", "first", "second").first()
    context = {"project": project, "left": waiting.count(), "comparison": comparison, "answers": ANSWERS}
    context |= {"imported": imported, "has_imported": has_imported(project)}
    if comparison:
        swapped = swapped_for(project, comparison, person(request))
        context["lease"] = Lease(project=project, comparison=comparison, swapped=swapped)
        votes = trust.votes(comparison, swapped, imported)
        context["votes"] = [(keys.LABELS[side], n, why) for side, n, why in votes]
    return render(request, "trusting/disagreements.html", context)


def has_imported(project: Project) -> bool:
    without_lease = project.judgments.filter(lease=None, replaced_at=None)
    return without_lease.exclude(comparison__arm=Arm.DEPLOYMENT).exists()


def swapped_for(project: Project, comparison: Comparison, reviewer: User) -> bool:
    return draws.is_swapped(project, comparison.pk, reviewer.pk)


@form_view(Role.REVIEWER, "disagreements")
def settle(request: HttpRequest, project: Project, comparison_id: int) -> HttpResponseBase:
    comparison = get_object_or_404(project.comparisons, pk=comparison_id)
    side = request.POST.get("side", "")
    answer = answer_of(side, swapped_for(project, comparison, person(request))) if side in keys.PLAIN else ""
    try:
        note = request.POST.get("note", "").strip()
        trust.settle(project, person(request), comparison_id, answer, note)
        messages.success(request, _("Settled."))
    except TouchstoneError as error:
        messages.warning(request, str(error))
    address = reverse("disagreements", args=[project.slug])
    return redirect(f"{address}?imported" if "imported" in request.GET else address)


@require_http_methods(["GET", "HEAD", "POST"])
@project_view(Role.REVIEWER)
def gold(request: HttpRequest, project: Project) -> HttpResponseBase:
    """A random pair that nobody was asked about, to be answered by somebody who is sure."""
    if request.method == "POST":
        return gold_made(request, project)
    pair = trust.unasked_pair(project)
    context = {"project": project, "answers": ANSWERS, "made": trust.gold_pairs(project).count()}
    if pair:
        comparison = Comparison(project=project, prompt=pair[0].prompt, first=pair[0], second=pair[1])
        context |= {"comparison": comparison, "lease": Lease(comparison=comparison, swapped=False)}
    return render(request, "trusting/gold.html", context)


def gold_made(request: HttpRequest, project: Project) -> HttpResponseBase:
    ids = [request.POST.get(name, "") for name in ("first", "second")]
    first, second = (int(text) if text.isdecimal() and len(text) < 19 else 0 for text in ids)
    try:
        note = request.POST.get("note", "").strip()
        trust.make_gold(project, person(request), first, second, request.POST.get("side", ""), note)
        messages.success(request, _("The gold pair was added."))
    except TouchstoneError as error:
        messages.warning(request, str(error))
    return redirect("gold", project.slug)
