"""The list of a person's projects."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.decorators import login_required
from django.db.models import Count, F, IntegerField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotate.access import visible_projects
from annotate.models import Judgment, Membership, Project, Role, User


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponseBase:
    user = cast(User, request.user)
    projects = with_progress(visible_projects(user), user).order_by(
        F("archived_at").asc(nulls_first=True), "name", "id"
    )
    return render(request, "home.html", {"projects": projects})


def with_progress(projects: QuerySet[Project], user: User) -> QuerySet[Project]:
    """Each project with the user's role in it, its judgments, and the user's own."""
    current = Judgment.objects.filter(project=OuterRef("pk"), replaced_at=None, lease__isnull=False)
    role = Membership.objects.filter(project=OuterRef("pk"), user=user).values("role")
    return projects.annotate(
        role=Coalesce(Subquery(role), Value(Role.ADMIN)),
        made=counted(current),
        mine=counted(current.filter(annotator=user)),
    )


def counted(judgments: QuerySet[Judgment]) -> Coalesce:
    numbers = judgments.order_by().values("project").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(numbers, output_field=IntegerField()), 0)
