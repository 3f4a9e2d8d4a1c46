"""A receiver that fails rests, with all that waits for it, and nobody else's messages wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Delivery, Endpoint, Project, User
from annotate.webhooks import endpoints, sending
from tests.receiver import Receiver, receiver
from tests.test_webhooks import answer, endpoint, hook

__all__ = ["endpoint", "hook"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def dead(hook: Receiver) -> Iterator[Receiver]:
    with receiver() as found:
        found.status = 503
        yield found


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rest ends during a test, however slow the machine is."""
    hour = timedelta(hours=1)
    monkeypatch.setattr(endpoints, "SHORTEST_REST", hour)
    monkeypatch.setattr(endpoints, "LONGEST_REST", hour)
    monkeypatch.setattr(sending, "WAITS", [hour] * 10)


def owed(endpoint: Endpoint, messages: int) -> None:
    """Messages that are due."""
    now = timezone.now()
    Delivery.objects.bulk_create(
        Delivery(endpoint=endpoint, event="job.finished", body=f'"{n} to {endpoint.pk}"', next_at=now)
        for n in range(messages)
    )


def due() -> int:
    return sending.due(timezone.now()).count()


def test_a_dead_endpoint_holds_up_no_other(
    project: Project, ada: User, dead: Receiver, hook: Receiver, long_rests: None
) -> None:
    owed(endpoints.add(project, ada, dead.url, ["job.finished"]), 300)
    other = Project.objects.create(name="Other", slug="other")
    endpoints.add(other, ada, hook.url, ["job.finished"])
    owed(other.endpoints.get(), 2)
    assert sending.deliver_due() == 2
    assert (len(dead.requests), len(hook.requests), due()) == (1, 2, 0)


def test_what_waits_for_an_endpoint_that_failed_waits_until_it_had_some_rest(
    project: Project, ben: User, endpoint: Endpoint, hook: Receiver, long_rests: None
) -> None:
    hook.status = 503
    for _ in range(3):
        answer(project, ben)
    for _ in range(2):
        assert sending.deliver_due() == 0
        answer(project, ben)  # what is new waits too
    assert len(hook.requests) == 1
    hook.status = 200
    Delivery.objects.update(next_at=timezone.now())
    assert sending.deliver_due() == 5
    answer(project, ben)
    assert sending.deliver_due() == 1, "it is as good as new"


def test_a_rest_is_as_long_as_it_has_failed_within_bounds(endpoint: Endpoint) -> None:
    now, rests = timezone.now(), []
    for seconds in (0, 1, 20, 3600):
        endpoint.failing_since = now - timedelta(seconds=seconds)
        rests.append(endpoints.rest_of(endpoint, now).total_seconds())
    assert rests == [5, 5, 20, 300]


def test_a_test_is_sent_to_an_endpoint_that_rests(
    project: Project, ada: User, ben: User, endpoint: Endpoint, hook: Receiver, long_rests: None
) -> None:
    hook.status = 503
    answer(project, ben)
    sending.deliver_due()
    hook.status = 200
    endpoints.test(Endpoint.objects.get(), ada)
    assert sending.deliver_due() == 1


def test_of_many_dead_endpoints_a_round_tries_one(
    project: Project, ada: User, dead: Receiver, hook: Receiver
) -> None:
    for _ in range(5):
        owed(endpoints.add(project, ada, dead.url, ["job.finished"]), 1)
    Endpoint.objects.update(failing_since=timezone.now() - timedelta(hours=1))
    owed(endpoints.add(project, ada, hook.url, ["job.finished"]), 1)
    hook.before = lambda: dead.requests.clear()
    assert sending.deliver_due() == 1
    assert len(dead.requests) == 2  # after the one that is well, and in a round of its own


def test_a_slow_endpoint_takes_turns_with_the_others(
    project: Project, ada: User, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TURN", -1.0)  # any message takes longer
    pair = [endpoints.add(project, ada, hook.url, ["job.finished"]) for _ in range(2)]
    for one in pair:
        owed(one, 2)
    assert sending.deliver_due() == 4
    bodies = [request.body.decode().strip('"') for request in hook.requests]
    assert bodies == [f"{n} to {one.pk}" for n in range(2) for one in pair]


def test_what_waits_for_an_endpoint_that_is_turned_off_is_given_up_at_once(
    project: Project, ada: User, endpoint: Endpoint, hook: Receiver
) -> None:
    owed(endpoint, 3)
    endpoints.change(endpoint, ada, endpoint.url, ["job.finished"], is_on=False)
    given_up = Delivery.objects.filter(state="failed", answer=endpoints.TURNED_OFF)
    assert given_up.count() == 3
    owed(endpoint, 3)  # of transactions that had seen it turned on
    sending.deliver_due()
    assert given_up.count() == 6
    assert not hook.requests


def test_an_endpoint_that_is_gone_is_asked_once_and_its_answer_stays_to_be_read(
    project: Project, endpoint: Endpoint, hook: Receiver
) -> None:
    hook.status, hook.answer = 410, b"moved away"
    owed(endpoint, 3)
    sending.deliver_due()
    assert len(hook.requests) == 1
    rows = Delivery.objects.order_by("id").values_list("state", "status", "answer")
    assert list(rows) == [("failed", 410, "moved away"), *[("failed", None, endpoints.TURNED_OFF)] * 2]
