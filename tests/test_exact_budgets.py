"""Budgets and limits hold to the last judgment, also when everybody asks at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from annotate import budgets, judging, serving
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import Judgment, Lease, Membership, Project, Role, User
from annotate.webhooks import telling
from tests.conftest import person

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    budgets._far_until.clear()
    yield
    budgets._far_until.clear()


def all_at_once(works: list[Callable[[], object]]) -> None:
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        gate.wait()
        try:
            work()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_many_who_ask_at_once_never_hold_more_than_the_budget(project: Project) -> None:
    project.budget = 7
    project.save()
    people = [person(f"p{i}") for i in range(8)]
    for user in people:
        Membership.objects.create(project=project, user=user, role=Role.ANNOTATOR)
    for _round in range(2):
        all_at_once([lambda user=user: serving.leases_for(project, user, 2) for user in people])  # type: ignore[misc]
        assert Lease.objects.filter(outcome="open").count() <= 7
    assert Lease.objects.filter(outcome="open").count() == 7


def test_two_tabs_never_hold_more_than_the_limit(project: Project, ben: User) -> None:
    project.annotator_limit = 1
    project.save()
    all_at_once([lambda: serving.claim(project, ben)] * 6)
    assert Lease.objects.filter(outcome="open").count() == 1


def test_a_late_answer_does_not_exceed_the_budget(project: Project, ben: User, cho: User) -> None:
    project.budget = 1
    project.save()
    late = serving.leases_for(project, ben, 1)[0]
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    taken = serving.leases_for(project, cho, 1)[0]
    with pytest.raises(TouchstoneError, match="takes no more"):
        judging.record(ben, late.pk, Submission("left"))
    judging.record(cho, taken.pk, Submission("left"))
    assert Judgment.objects.count() == 1


def test_what_ran_out_is_room_for_others_at_once(project: Project, ben: User, cho: User) -> None:
    project.budget = 2
    project.save()
    assert len(serving.leases_for(project, ben, 2)) == 2
    assert serving.leases_for(project, cho, 2) == []
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert len(serving.leases_for(project, cho, 2)) == 2


def test_a_budget_that_is_far_away_is_not_counted_at_every_click(project: Project, ben: User) -> None:
    project.budget = 100_000
    project.save()
    assert budgets.has_room(project, ben)
    with connection.execute_wrapper(refuse):
        budgets.hold(project, ben)
        assert budgets.has_room(project, ben)
    project.budget = 1  # Somebody lowered it: counted anew.
    serving.leases_for(project, ben, 1)
    assert not budgets.has_room(project, ben)


def test_a_budget_that_is_far_away_is_not_counted_for_who_listens(
    project: Project, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int | None] = []
    monkeypatch.setattr(telling, "notice_budget", lambda project: looked.append(project.budget))
    for budget in (100_000, 900):  # far away, and within reach of those who claim at this moment
        Project.objects.update(budget=budget, webhook_events=["budget.reached"])
        project.refresh_from_db()
        lease = serving.leases_for(project, ben, 1)[0]
        judging.record(ben, lease.pk, Submission("left"), project)
    assert looked == [900]


def refuse(*_arguments: object) -> None:
    raise AssertionError("a query was made")
