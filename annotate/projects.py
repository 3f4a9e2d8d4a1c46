"""The write path of a project: create, copy, archive, delete. Each leaves a line in the audit log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from annotate import auditing, draws, jobs
from annotate.celery import ring
from annotate.configuring import check_fields, refuse_problems, values_of
from annotate.errors import TouchstoneError
from annotate.models import (
    Comparison,
    DeploymentRequest,
    Generation,
    Judgment,
    Lease,
    Membership,
    Project,
    Prompt,
    Response,
    ResponseReward,
    Role,
    TrainingAnswer,
    User,
)

RESERVED_SLUGS = {"new", "import", "export", "archive", "all", "api", "admin"}
LONGEST_SLUG = 60
MOST_COPIED = 20_000
BATCH = 5_000


def may_create(user: User) -> bool:
    """Staff and superusers start projects; everyone else comes in by an invitation."""
    return user.is_active and (user.is_staff or user.is_superuser)


def create_project(actor: User, name: str, **values: Any) -> Project:
    """A project with its creator as admin. The same name again within a minute is a double click: one project."""
    if not may_create(actor):
        raise TouchstoneError(_("Only staff may create projects."), code="forbidden")
    name = name.strip()
    project = Project(name=name, created_by=actor)
    refuse_problems(project, values | {"name": name})
    for field, value in values.items():
        setattr(project, field, value)
    check_fields(project)
    while True:
        if made := made_just_now(actor, name):
            return made
        project.pk, project.slug = None, free_slug(name)
        try:
            return store_new(project, actor)
        except IntegrityError:  # Somebody took the slug at this moment: look again.
            continue


@transaction.atomic
def store_new(project: Project, actor: User) -> Project:
    project.save(force_insert=True)
    Membership.objects.create(project=project, user=actor, role=Role.ADMIN)
    auditing.record(project, actor, "created", project.name)
    return project


def made_just_now(actor: User, name: str) -> Project | None:
    since = timezone.now() - timedelta(minutes=1)
    return Project.objects.filter(created_by=actor, name=name, created_at__gte=since).first()


def free_slug(name: str) -> str:
    """An address that no project has and no page needs; a name without Latin letters gives "project"."""
    stem = slugify(name)[:LONGEST_SLUG].strip("-_") or "project"
    taken = set(Project.objects.filter(slug__startswith=stem).values_list("slug", flat=True)) | RESERVED_SLUGS
    number = 1
    while (slug := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return slug


def archive(project: Project, actor: User) -> None:
    """Hand out no more pairs. What is on a screen may still be answered, and everything can be read."""
    if Project.objects.filter(pk=project.pk, archived_at=None).update(archived_at=timezone.now()):
        auditing.record(project, actor, "archived", project.name)


def unarchive(project: Project, actor: User) -> None:
    if Project.objects.filter(pk=project.pk, archived_at__isnull=False).update(archived_at=None):
        auditing.record(project, actor, "unarchived", project.name)


def duplicate(project: Project, actor: User, name: str, *, people: bool, content: bool) -> Project:
    """A new project with the same settings and a new seed; with its people and its pool, if wanted."""
    if content and project.response_count > MOST_COPIED:
        raise TouchstoneError(
            _("Only up to {most} responses are copied; import the file into the copy instead.").format(
                most=f"{MOST_COPIED:,}"
            )
        )
    if made := made_just_now(actor, name.strip()):
        return made
    values = {key: value for key, value in values_of(project).items() if key != "name"}
    with transaction.atomic():
        copy = create_project(actor, name, **values)
        if people:
            copy_people(project, copy, actor)
        if content:
            copy_pool(project, copy)
        auditing.record(project, actor, "duplicated", copy.name, people=people, content=content)
        transaction.on_commit(lambda: ring("embed", copy.pk))
    return copy


def copy_people(project: Project, copy: Project, actor: User) -> None:
    others = project.memberships.filter(user__is_active=True, user__is_synthetic=False).exclude(user=actor)
    Membership.objects.bulk_create(Membership(project=copy, user_id=m.user_id, role=m.role) for m in others)


def copy_pool(project: Project, copy: Project) -> None:
    """Copy prompts and responses; which prompts evaluate is drawn anew, by the copy's own seed."""
    copies: dict[int, int] = {}
    for old in by_position(project.prompts.all()):
        new = Prompt.objects.bulk_create(copied_prompt(prompt, copy) for prompt in old)
        copies |= {before.pk: after.pk for before, after in zip(old, new, strict=True)}
    for rows in by_position(project.responses.all()):
        Response.objects.bulk_create(copied_response(row, copy, copies[row.prompt_id]) for row in rows)
    counters = ("prompt_count", "response_count", "largest_prompt")
    for name in counters:
        setattr(copy, name, getattr(project, name))
    copy.save(update_fields=counters)


def by_position(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    last = -1
    while batch := list(rows.filter(position__gt=last).order_by("position")[:BATCH]):
        yield batch
        last = batch[-1].position


def copied_prompt(prompt: Prompt, copy: Project) -> Prompt:
    prompt_copy = Prompt(project=copy, is_evaluation=draws.is_evaluation_prompt(copy, prompt.digest))
    for name in ("position", "external_id", "text", "messages", "digest", "tags", "response_count"):
        setattr(prompt_copy, name, getattr(prompt, name))
    return prompt_copy


def copied_response(response: Response, copy: Project, prompt_id: int) -> Response:
    response_copy = Response(project=copy, prompt_id=prompt_id)
    for name in ("position", "external_id", "text", "source", "digest", "utility", "metadata"):
        setattr(response_copy, name, getattr(response, name))
    return response_copy


def delete_project(project: Project, actor: User, typed: str) -> None:
    """Delete everything of it, after its address was typed. In small transactions: other projects never wait long.

    It is archived first, so nobody is given a pair of a project that is going; if this is interrupted, what is
    left is an archived project that can be deleted again.
    """
    if typed.strip() != project.slug:
        raise TouchstoneError(_("To delete the project, type {slug} exactly.").format(slug=project.slug))
    archive(project, actor)
    delete_collected(project)
    folder = Path(settings.DATA) / "projects" / str(project.pk)
    jobs.forget_project(project.pk)
    with transaction.atomic():
        auditing.record(
            None, actor, "deleted", f"{project.name} ({project.slug})", prompts=project.prompt_count
        )
        project.delete()
    shutil.rmtree(folder, ignore_errors=True)


def delete_collected(project: Project) -> None:
    """The many rows: whatever refers to others of them comes first."""
    Judgment.objects.filter(project=project, replaces__isnull=False).update(replaces=None)
    DeploymentRequest.objects.filter(project=project, parent__isnull=False).update(parent=None)
    delete_rows(Generation.objects.filter(request__project=project))
    for rows in (
        DeploymentRequest, TrainingAnswer, Judgment, Lease, Comparison, ResponseReward, Response, Prompt,
    ):  # fmt: skip
        delete_rows(rows.objects.filter(project=project))


def delete_rows(rows: QuerySet[Any]) -> None:
    """A batch at a time, straight in SQL: whatever refers to these rows was deleted before them."""
    keys = rows.order_by("pk").values_list("pk", flat=True)
    while batch := list(keys[:BATCH]):
        rows.filter(pk__gte=batch[0], pk__lte=batch[-1])._raw_delete(rows.db)
