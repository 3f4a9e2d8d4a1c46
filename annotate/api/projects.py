"""Projects: which a token reaches, and their settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Query, Router, Schema

from annotate import tokens
from annotate.access import role_in
from annotate.api.bearer import Bearer, person, project_of, token_of
from annotate.api.paging import Page, Paging, page_of
from annotate.api.tagging import TAGGED, tagged
from annotate.models import Role

router = Router(tags=["Projects"])


class ProjectOut(Schema):
    slug: str
    name: str
    question: str
    guidelines: str
    guidelines_version: int
    allow_tie: bool
    allow_both_bad: bool
    ask_strength: bool
    criteria: list[str]
    budget: int | None
    prompt_count: int
    response_count: int
    is_simulated: bool
    created_at: datetime
    archived_at: datetime | None


class ProjectDetail(ProjectOut):
    """With the token owner's role, and how pairs are chosen (for reviewers and admins)."""

    role: Literal["admin", "reviewer", "annotator"]
    collection: dict[str, Any] | None


COLLECTION = (
    "rule", "norm_cap", "control_share", "evaluation_share", "evaluation_prompt_share", "overlap", "overlap_share",
    "gold_share", "lease_seconds", "edit_minutes", "annotator_limit", "encoder", "dimensions",
)  # fmt: skip


@router.get("/projects", auth=Bearer("read"), response=Page[ProjectOut])
def list_projects(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The projects that this token reaches."""
    return page_of(tokens.projects_of(token_of(request)), paging)


@router.get("/projects/{slug:slug}", auth=Bearer("read"), response=ProjectDetail, openapi_extra=TAGGED)
def get_project(request: HttpRequest, slug: str) -> Any:
    """One project, with a tag for If-None-Match."""
    project = project_of(request, slug, Role.ANNOTATOR)
    role = role_in(project, person(request))
    shown = role in (Role.ADMIN, Role.REVIEWER)
    project.role = role  # type: ignore[attr-defined]
    project.collection = {name: getattr(project, name) for name in COLLECTION} if shown else None  # type: ignore[attr-defined]
    return tagged(request, ProjectDetail.from_orm(project))
