"""Annotators in real processes: exact overlap, nothing lost, nothing doubled. The long run is a benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections

from annotate import auditing, configuring, judging, people, serving
from annotate.judging import Submission
from annotate.models import Judgment, Lease, Membership, Project, Role, User
from tests.conftest import person
from tests.faults.crowd import faults, run

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 6.0
only_where_rows_are_locked = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has one writer at a time"
)


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


def is_waited_for() -> bool:
    """Whether another connection waits for a lock that this one holds."""
    with connection.cursor() as cursor:
        waiting = (
            "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        )
        cursor.execute(f"SELECT EXISTS ({waiting})")
        return bool(cursor.fetchone()[0])


def elsewhere(work: Callable[[], object]) -> None:
    """On a connection of its own, which a lock that is waited for without end cannot hold up."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '10s'")
        work()
    finally:
        connections.close_all()


@only_where_rows_are_locked
def test_somebody_who_is_removed_while_they_answer_has_answered(
    project: Project, ada: User, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, left = serving.leases_for(project, ben)
    member, judgment_of = Membership.objects.get(user=ben), judging.judgment_of

    removing: Future[None] = Future()
    with ThreadPoolExecutor() as others:

        def while_removing(*given: Any) -> Judgment:
            """The lease is held, the judgment is not stored yet."""
            nonlocal removing
            removing = others.submit(elsewhere, lambda: people.remove(member, ada))
            while not (removing.done() or is_waited_for()):
                time.sleep(0.01)
            return judgment_of(*given)

        monkeypatch.setattr(judging, "judgment_of", while_removing)
        judging.record(ben, answered.pk, Submission("left"))
    removing.result()
    outcomes = dict(Lease.objects.values_list("pk", "outcome"))
    assert outcomes == {answered.pk: Lease.Outcome.JUDGED, left.pk: Lease.Outcome.EXPIRED}
    assert not Membership.objects.filter(user=ben).exists()


@only_where_rows_are_locked
@pytest.mark.parametrize("what", ["settings", "role"])
def test_nobody_who_answers_waits_for_an_admin(
    what: str, project: Project, ada: User, ben: User, cho: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, member = serving.leases_for(project, ben)[0], Membership.objects.get(user=cho)

    def answering(*_given: Any, **_more: Any) -> None:
        """The project's row is held by whoever changes it."""
        with ThreadPoolExecutor() as others:
            others.submit(elsewhere, lambda: judging.record(ben, lease.pk, Submission("left"))).result()

    monkeypatch.setattr(auditing, "record", answering)
    if what == "settings":
        configuring.change_settings(project, ada, {"question": "Which?"})
    else:
        people.change_role(member, ada, Role.REVIEWER)
    assert Judgment.objects.get().lease_id == lease.pk
