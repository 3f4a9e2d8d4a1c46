"""Annotators in real processes: exact overlap, nothing lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Q

from annotate.models import Comparison, Judgment, Lease, Membership, Project, Role
from tests.conftest import person

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parent.parent


def database_url() -> str:
    """The running test's database, as another process reaches it."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    user = database["USER"] + (f":{database['PASSWORD']}" if database["PASSWORD"] else "")
    return f"postgres://{user}@{database['HOST']}:{database['PORT'] or 5432}/{database['NAME']}"


def start(project: Project, username: str, count: int, seed: int) -> subprocess.Popen[str]:
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "TOUCHSTONE_DATA": str(settings.DATA),
        "DJANGO_SETTINGS_MODULE": "annotate.settings",
        "CELERY_BROKER_URL": "memory://",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.annotator", project.slug, username, str(count), str(seed)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_no_pair_gets_more_judgments_than_wanted_and_none_is_lost(project: Project) -> None:
    people = 20 if connection.vendor == "postgresql" else 4
    project.overlap, project.overlap_share = 3, 1.0
    project.save()
    names = [f"annotator-{i}" for i in range(people)]
    for name in names:
        Membership.objects.create(project=project, user=person(name), role=Role.ANNOTATOR)
    running = [start(project, name, 40, seed) for seed, name in enumerate(names)]
    outputs = [process.communicate(timeout=240) for process in running]
    assert {process.returncode for process in running} <= {0, 9}, [error for _, error in outputs]
    acknowledged = {int(line) for output, _ in outputs for line in output.split()}
    current = set(Judgment.objects.filter(replaced_at=None).values_list("pk", flat=True))
    assert acknowledged <= current
    assert len(current) >= 60
    check_counters()


def check_counters() -> None:
    """The comparison's counters say exactly what its leases and judgments say."""
    open_leases = Count("leases", filter=Q(leases__outcome=Lease.Outcome.OPEN), distinct=True)
    current = Count("judgments", filter=Q(judgments__replaced_at=None), distinct=True)
    rows = Comparison.objects.annotate(open_leases=open_leases, current=current)
    assert not rows.filter(current__gt=F("wanted")).exists()
    wrong: list[Any] = [
        (row.pk, row.taken, row.judged, row.open_leases, row.current)
        for row in rows
        if row.judged != row.current or row.taken != row.current + row.open_leases
    ]
    assert wrong == []
    pairs = Counter(Judgment.objects.filter(replaced_at=None).values_list("comparison", "annotator"))
    assert max(pairs.values()) == 1
