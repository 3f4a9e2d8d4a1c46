"""Annotators in real processes: exact overlap, nothing lost, nothing doubled. The long run is a benchmark."""

from __future__ import annotations

import os

import pytest
from django.conf import settings
from django.db import connection

from annotate.models import Membership, Project, Role
from tests.conftest import person
from tests.faults.crowd import faults, run

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 6.0


def database_url() -> str:
    """The running test's database, as another process reaches it."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    user = database["USER"] + (f":{database['PASSWORD']}" if database["PASSWORD"] else "")
    return f"postgres://{user}@{database['HOST']}:{database['PORT'] or 5432}/{database['NAME']}"


def test_no_pair_gets_more_judgments_than_wanted_and_none_is_lost(project: Project) -> None:
    people = 20 if connection.vendor == "postgresql" else 4
    project.overlap, project.overlap_share, project.lease_seconds = 3, 1.0, 2
    project.save()
    names = [f"annotator-{i}" for i in range(people)]
    for name in names:
        Membership.objects.create(project=project, user=person(name), role=Role.ANNOTATOR)
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "TOUCHSTONE_DATA": str(settings.DATA),
        "DJANGO_SETTINGS_MODULE": "annotate.settings",
        "CELERY_BROKER_URL": "memory://",
    }
    said = run(environment, "tides", names, SECONDS, kill_every=1.0)
    found = faults("tides", set(said["acknowledged"]), set(said["taken_back"]))
    assert found.pop("judgments") >= 40
    assert set(found.values()) == {0}, found
    assert said["kills"] > 0
