"""Deleting a project that has everything a project can have."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import models
from django.utils import timezone

from annotate import projects
from annotate.models import Comparison, Membership, Project, Prompt, Response, User

VALUES: dict[type[models.Field[Any, Any]], Any] = {
    models.CharField: "x",
    models.TextField: "x",
    models.JSONField: {},
    models.BooleanField: False,
    models.FloatField: 0.5,
    models.DateTimeField: timezone.now,
}


def belonging() -> list[type[models.Model]]:
    """Every model whose rows go with a project, found by its references; the next one is found, too."""
    everything = list(apps.get_app_config("annotate").get_models(include_auto_created=True))
    found: list[type[models.Model]] = [Project]
    while more := [one for one in everything if one not in found and goes_with(one, found)]:
        found += more
    return found[1:]


def goes_with(model: type[models.Model], found: list[type[models.Model]]) -> bool:
    return any(
        field.related_model in found and field.remote_field.on_delete is models.CASCADE
        for field in references(model)
    )


def references(model: type[models.Model]) -> list[Any]:
    return [field for field in model._meta.concrete_fields if field.is_relation]


class Rows:
    """One row of each model, with every reference filled, also those that may be empty."""

    def __init__(self, project: Project, user: User) -> None:
        first, second = Response.objects.filter(project=project).order_by("pk")[:2]
        self.made: dict[Any, models.Model] = {
            User: user,
            Project: project,
            Membership: Membership.objects.get(project=project, user=user),
            Prompt: first.prompt,
            Response: first,
        }
        self.special = {(Comparison, "second"): second, (Comparison, "arm"): "control"}

    def of(self, model: Any) -> models.Model:
        if model not in self.made:
            row = self.made[model] = model.objects.create(**self.values(model))
            own = {field.name: row for field in references(model) if field.related_model is model}
            if own:
                model.objects.filter(pk=row.pk).update(**own)
        return self.made[model]

    def values(self, model: Any) -> dict[str, Any]:
        fields = [field for field in model._meta.concrete_fields if field.related_model is not model]
        needed = [one for one in fields if one.is_relation or self.is_needed(one)]
        return {field.name: self.value(model, field) for field in needed}

    def is_needed(self, field: Any) -> bool:
        return not (field.has_default() or field.null or field.primary_key or field.blank)

    def value(self, model: Any, field: Any) -> Any:
        if (model, field.name) in self.special:
            return self.special[model, field.name]
        if field.is_relation:
            return self.of(field.related_model)
        if field.choices:
            return field.choices[0][0]
        given = VALUES.get(type(field), 1)
        return given() if callable(given) else given


@pytest.mark.django_db(transaction=True)
def test_a_project_with_a_row_of_every_model_is_deleted_whole(project: Project, ada: User) -> None:
    rows, expected = Rows(project, ada), belonging()
    for model in expected:
        rows.of(model)
    assert all(model._default_manager.exists() for model in expected)
    projects.delete_project(project, ada, project.slug)
    assert [model.__name__ for model in expected if model._default_manager.exists()] == []
    assert not Project.objects.exists()
    assert User.objects.filter(pk=ada.pk).exists()
