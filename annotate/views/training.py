"""The training round: a pair, then the known answer beside one's own."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from annotate import judging, keys, training
from annotate.access import project_view
from annotate.errors import TouchstoneError
from annotate.models import Comparison, Project, Role, TrainingAnswer
from annotate.views.compare import person


@require_http_methods(["GET", "HEAD", "POST"])
@project_view(Role.ANNOTATOR)
def training_round(request: HttpRequest, project: Project) -> HttpResponseBase:
    """The next pair of the round, or how it went; posting takes a round that fell short once more."""
    if request.method == "POST":
        training.try_again(project, person(request))
        return redirect("training", project.slug)
    training.end_if_passed(project, person(request))
    found = training.round_of(project, person(request))
    due = training.is_due(project, person(request))
    context: dict[str, Any] = {"project": project, "round": found, "is_due": due}
    if found.next:
        context |= pair_context(request, project, found.next)
    return render(request, "compare/training.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@project_view(Role.ANNOTATOR)
def training_pair(request: HttpRequest, project: Project, comparison_id: int) -> HttpResponseBase:
    """Answering a pair, and seeing the known answer afterwards; never before."""
    if request.method == "POST":
        side = request.POST.get("side", "").partition("-")[0]
        try:
            training.answer(project, person(request), comparison_id, side)
        except TouchstoneError as error:
            messages.warning(request, str(error))
            return redirect("training", project.slug)
        return redirect("training_pair", project.slug, comparison_id)
    mine = TrainingAnswer.objects.filter(project=project, annotator=person(request))
    given = get_object_or_404(mine.select_related("comparison__prompt"), comparison=comparison_id)
    context = pair_context(request, project, given.comparison) | said(request, project, given)
    found = training.round_of(project, person(request))
    return render(request, "compare/training.html", {"project": project, "round": found, **context})


def said(request: HttpRequest, project: Project, given: TrainingAnswer) -> dict[str, Any]:
    """The two answers in terms of the screen."""
    swapped = training.shown_to(person(request), given.comparison, project).swapped
    own, known = (judging.side_of(one, swapped) for one in (given.answer, given.comparison.gold_answer))
    return {
        "own": keys.LABELS[own],
        "known": keys.LABELS[known],
        "is_right": own == known,
        "known_side": known,
    }


def pair_context(request: HttpRequest, project: Project, comparison: Comparison) -> dict[str, Any]:
    annotator = person(request)
    return {
        "comparison": comparison,
        "lease": training.shown_to(annotator, comparison, project),
        "choices": keys.choices(project, annotator),
        "keys": keys.keys_of(project, annotator),
        "keys_as_json": json.dumps(keys.by_key(keys.keys_of(project, annotator))),
    }
