"""Other programs are told what happens: signed, once, again when it failed, and never inside private networks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from annotate import jobs as job_paths
from annotate import judging, serving, webhooks
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import AuditEvent, Delivery, Endpoint, Event, Job, Judgment, Project, User
from annotate.webhooks import endpoints, sending
from annotate.webhooks.signing import secret_of
from tests.learn import embed_and_absorb
from tests.receiver import Receiver, receiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def hook(settings: Any) -> Iterator[Receiver]:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with receiver() as found:
        yield found


@pytest.fixture
def endpoint(project: Project, ada: User, hook: Receiver) -> Endpoint:
    return endpoints.add(project, ada, hook.url, Event.values)


def answer(project: Project, user: User, side: str = "left") -> Judgment:
    project.refresh_from_db()
    lease = serving.leases_for(project, user, 1)[0]
    return judging.record(user, lease.pk, Submission(side, lead_time=1.0))


def test_a_judgment_is_told_signed_and_in_the_shape_of_standard_webhooks(
    project: Project, ben: User, endpoint: Endpoint, hook: Receiver
) -> None:
    judgment = answer(project, ben)
    assert sending.deliver_due() == 1
    [request] = hook.requests
    told = Webhook(secret_of(endpoint)).verify(request.body, request.headers)
    assert told["type"] == "judgment.recorded"
    assert told["data"]["judgment"] == judgment.pk
    assert told["data"]["annotator"] == "ben"
    assert request.headers["content-type"] == "application/json"
    row = Delivery.objects.get()
    assert (row.state, row.status, row.answer, row.attempts) == ("sent", 200, "thank you", 1)
    assert sending.deliver_due() == 0


def test_another_secret_does_not_verify_and_a_renewed_one_replaces_the_old(
    project: Project, ada: User, ben: User, endpoint: Endpoint, hook: Receiver
) -> None:
    old = secret_of(endpoint)
    endpoints.renew_secret(endpoint, ada)
    answer(project, ben)
    sending.deliver_due()
    [request] = hook.requests
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(request.body, request.headers)
    assert Webhook(secret_of(Endpoint.objects.get())).verify(request.body, request.headers)
    assert old not in json.dumps([str(value) for value in vars(Endpoint.objects.get()).values()])


def test_without_a_webhook_a_judgment_costs_no_query_more(
    project: Project, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    for lease in serving.leases_for(project, ben, 2):
        with CaptureQueriesContext(connection) as queries:
            judging.record(ben, lease.pk, Submission("left"))
        counted.append(len(queries))
        monkeypatch.setattr(webhooks, "tell_judgment", lambda *_: None)
    assert counted[0] == counted[1]


def test_a_judgment_that_is_not_stored_is_not_told(project: Project, ben: User, endpoint: Endpoint) -> None:
    project.refresh_from_db()
    lease = serving.leases_for(project, ben, 1)[0]
    with pytest.raises(TouchstoneError):
        judging.record(ben, lease.pk, Submission("neither"))
    judging.record(ben, lease.pk, Submission("left"))
    judging.record(ben, lease.pk, Submission("right"))
    assert Delivery.objects.count() == 1


def test_a_changed_answer_is_told_with_what_it_replaces(
    project: Project, ben: User, endpoint: Endpoint
) -> None:
    first = answer(project, ben)
    second = judging.edit(ben, project, first.pk, Submission("right"))
    bodies = [json.loads(row.body)["data"] for row in Delivery.objects.order_by("id")]
    assert [one["replaces"] for one in bodies] == [None, first.pk]
    assert bodies[1]["judgment"] == second.pk


def test_only_what_was_asked_for_is_told(project: Project, ada: User, ben: User, hook: Receiver) -> None:
    endpoints.add(project, ada, hook.url, ["job.finished"])
    answer(project, ben)
    assert not Delivery.objects.exists()
    Project.objects.filter(pk=project.pk).update(webhook_events=[])


def test_a_failure_is_tried_again_later_and_longer_and_given_up_at_last(
    project: Project, ben: User, endpoint: Endpoint, hook: Receiver
) -> None:
    hook.status = 500
    answer(project, ben)
    waits = []
    for _ in range(len(sending.WAITS) + 1):
        before = timezone.now()
        sending.deliver_due()
        row = Delivery.objects.get()
        waits.append((row.next_at - before).total_seconds())
        Delivery.objects.update(next_at=before)
    assert row.state == "failed"
    assert len(hook.requests) == len(sending.WAITS) + 1
    assert waits[:-1] == sorted(waits[:-1])
    assert len({request.headers["webhook-id"] for request in hook.requests}) == 1
    assert sum(waits) > 2 * 24 * 3600


def test_an_endpoint_that_is_gone_or_failed_for_days_is_turned_off(
    project: Project, ada: User, ben: User, endpoint: Endpoint, hook: Receiver
) -> None:
    hook.status = 410
    answer(project, ben)
    sending.deliver_due()
    endpoint.refresh_from_db()
    project.refresh_from_db()
    assert (endpoint.is_on, project.webhook_events) == (False, [])
    assert "410" in endpoint.off_reason
    assert AuditEvent.objects.filter(project=project, verb="turned a webhook off", actor=None).exists()
    endpoints.change(endpoint, ada, endpoint.url, ["judgment.recorded"], True)
    hook.status = 500
    Endpoint.objects.update(failing_since=timezone.now() - timedelta(days=5))
    answer(project, ben)
    Delivery.objects.update(next_at=timezone.now())
    sending.deliver_due()
    assert not Endpoint.objects.get().is_on


def test_a_receiver_inside_the_network_is_not_asked(
    project: Project, ben: User, endpoint: Endpoint, hook: Receiver, settings: Any
) -> None:
    settings.OUTBOUND_NETWORKS = []
    answer(project, ben)
    sending.deliver_due()
    assert not hook.requests
    row = Delivery.objects.get()
    assert (row.state, row.status) == ("waiting", None)
    assert "private or local network" in row.answer
    endpoints.turn_off(endpoint, "It is not asked any more.")
    endpoints.remove(endpoint, ben)
    assert not Endpoint.objects.exists()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://user:x@example.org/", "file:///etc/passwd", "x" * 2500]
)
def test_a_bad_address_is_refused_when_it_is_typed(project: Project, as_ada: Client, url: str) -> None:
    page = as_ada.post("/projects/tides/webhooks/", {"url": url, "events": ["job.finished"]})
    assert page.status_code == 200
    assert not Endpoint.objects.exists()


def test_an_answer_is_kept_in_part_and_shown_escaped(
    project: Project, ben: User, as_ada: Client, endpoint: Endpoint, hook: Receiver
) -> None:
    hook.answer = b"<script>alert(1)</script>\x00\xff" + b"x" * 10_000
    answer(project, ben)
    sending.deliver_due()
    row = Delivery.objects.get()
    assert len(row.answer) <= sending.LONGEST_ANSWER
    page = as_ada.get(f"/projects/tides/webhooks/sent/{row.pk}/").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_what_the_learner_does_is_told_once(project: Project, ben: User, endpoint: Endpoint) -> None:
    embed_and_absorb(project)
    for _ in range(3):
        answer(project, ben)
    embed_and_absorb(project)
    told = [json.loads(row.body)["data"] for row in Delivery.objects.filter(event="estimator.advanced")]
    assert sum(one["absorbed"] for one in told) == 3
    assert told[-1]["step"] == 3


def test_a_verdict_is_told_when_it_changes_and_only_then(project: Project, endpoint: Endpoint) -> None:
    from annotate.models import Estimator, Evaluation, FeatureVersion

    project.refresh_from_db()
    version = FeatureVersion.objects.create(project=project, state="live", encoder="hashing")
    estimator = Estimator.objects.create(project=project, feature_version=version, role="active")

    def measure(count: int, verdict: str) -> None:
        before = webhooks.verdict_of(project)
        Evaluation.objects.create(
            estimator=estimator,
            judgments=count,
            held_out=40,
            metrics={"verdict": verdict, "sentence": f"{verdict}."},
        )
        webhooks.tell_verdict(project, before)

    for count, verdict in ((25, "not yet"), (50, "not yet"), (100, "active is ahead")):
        measure(count, verdict)
    told = [json.loads(row.body)["data"] for row in Delivery.objects.order_by("id")]
    assert [(one["before"], one["verdict"]) for one in told] == [
        (None, "not yet"), ("not yet", "active is ahead"),
    ]  # fmt: skip


def test_a_job_that_ends_is_told_once(project: Project, ada: User, endpoint: Endpoint) -> None:
    from learner.tasks import jobs

    done = Job.objects.create(project=project, kind="simulate", state="running", started_at=timezone.now())
    jobs.finish(done, "done", "All done.")
    jobs.finish(done, "done", "All done.")
    waiting = Job.objects.create(project=project, kind="export")
    job_paths.cancel(waiting, ada)
    job_paths.cancel(waiting, ada)
    told = [json.loads(row.body)["data"] for row in Delivery.objects.order_by("id")]
    assert [(one["job"], one["state"]) for one in told] == [(done.pk, "done"), (waiting.pk, "cancelled")]


@pytest.mark.django_db(transaction=True)
def test_a_budget_is_told_once_by_judgments_that_race_to_it(
    project: Project, ben: User, cho: User, endpoint: Endpoint
) -> None:
    Project.objects.filter(pk=project.pk).update(budget=6)

    def work(user: User) -> None:
        found = Project.objects.get(pk=project.pk)
        for _ in range(5):
            for lease in serving.leases_for(found, user, 1):
                judging.record(user, lease.pk, Submission("left"))
        connections.close_all()

    threads = [threading.Thread(target=work, args=(user,)) for user in (ben, cho)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Judgment.objects.count() == 6
    sending.sweep()
    assert Delivery.objects.filter(event="budget.reached").count() == 1


def test_a_missed_budget_is_noticed_by_the_sweep(project: Project, ben: User, endpoint: Endpoint) -> None:
    answer(project, ben)
    Project.objects.filter(pk=project.pk).update(budget=1)
    for _ in range(2):
        sending.sweep()
    assert Delivery.objects.filter(event="budget.reached").count() == 1


def test_a_claim_that_was_never_finished_is_taken_up_again(
    project: Project, ben: User, endpoint: Endpoint, hook: Receiver
) -> None:
    answer(project, ben)
    Delivery.objects.update(state="sending", next_at=timezone.now())
    assert sending.deliver_due() == 0
    Delivery.objects.update(next_at=timezone.now() - timedelta(minutes=3))
    assert sending.deliver_due() == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_a_message_once(
    project: Project, ben: User, endpoint: Endpoint, hook: Receiver
) -> None:
    for _ in range(4):
        answer(project, ben)

    def work() -> None:
        sending.deliver_due()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [request.headers["webhook-id"] for request in hook.requests]
    assert len(ids) == len(set(ids)) == 4


def test_a_message_is_sent_again_by_hand_with_the_same_id(
    project: Project, ben: User, as_ada: Client, endpoint: Endpoint, hook: Receiver
) -> None:
    answer(project, ben)
    sending.deliver_due()
    row = Delivery.objects.get()
    as_ada.post(f"/projects/tides/webhooks/sent/{row.pk}/again/")
    assert sending.deliver_due() == 1
    assert hook.requests[0].headers["webhook-id"] == hook.requests[1].headers["webhook-id"]


def test_old_messages_are_let_go_but_not_the_memory_of_what_is_told_once(
    project: Project, ben: User, endpoint: Endpoint
) -> None:
    old = timezone.now() - timedelta(days=31)
    for once in (None, "budget 1"):
        Delivery.objects.create(
            endpoint=endpoint, event="x", body="{}", state="sent", created_at=old, once=once
        )
    sending.sweep()
    assert [row.once for row in Delivery.objects.all()] == ["budget 1"]


# --- The pages ----------------------------------------------------------------------------------------------


def test_a_webhook_is_added_tested_changed_and_removed_on_its_pages(
    project: Project, as_ada: Client, hook: Receiver
) -> None:
    page = as_ada.post("/projects/tides/webhooks/", {"url": hook.url, "events": ["job.finished"]})
    endpoint = Endpoint.objects.get()
    assert secret_of(endpoint) in page.content.decode()
    assert page.headers["Cache-Control"] == "no-store"
    address = f"/projects/tides/webhooks/{endpoint.pk}/"
    assert secret_of(endpoint) not in as_ada.get(address).content.decode()
    as_ada.post(f"{address}test/")
    sending.deliver_due()
    assert json.loads(hook.requests[0].body)["type"] == "test"
    as_ada.post(address, {"url": hook.url, "events": ["budget.reached"]})
    endpoint.refresh_from_db()
    assert (endpoint.events, endpoint.is_on) == (["budget.reached"], False)
    page = as_ada.post(f"{address}secret/")
    assert secret_of(Endpoint.objects.get()) in page.content.decode()
    assert as_ada.get(f"{address}remove/").status_code == 200
    as_ada.post(f"{address}remove/")
    assert not Endpoint.objects.exists()
    verbs = set(AuditEvent.objects.values_list("verb", flat=True))
    assert {
        "added a webhook",
        "changed a webhook",
        "renewed the secret of a webhook",
        "removed a webhook",
    } <= verbs


@pytest.mark.parametrize("who", ["ben", "dan"])
def test_only_admins_see_webhooks(
    project: Project, ben: User, endpoint: Endpoint, who: str, request: pytest.FixtureRequest
) -> None:
    client: Client = request.getfixturevalue(f"as_{who}")
    answer(project, ben)
    row = Delivery.objects.get()
    one = f"/projects/tides/webhooks/{endpoint.pk}/"
    reads = ["/projects/tides/webhooks/", one, f"{one}remove/", f"/projects/tides/webhooks/sent/{row.pk}/"]
    writes = [*reads[:3], f"{one}test/", f"{one}secret/", f"/projects/tides/webhooks/sent/{row.pk}/again/"]
    assert {client.get(path).status_code for path in reads} == {404}
    assert {client.post(path).status_code for path in writes} == {404}


def test_anothers_project_does_not_reach_these_endpoints(
    project: Project, ben: User, endpoint: Endpoint, as_dan: Client, dan: User
) -> None:
    other = Project.objects.create(name="Other", slug="other")
    other.memberships.create(user=dan, role="admin")
    answer(project, ben)
    row = Delivery.objects.get()
    for path in (f"{endpoint.pk}/", f"{endpoint.pk}/remove/", f"sent/{row.pk}/"):
        assert as_dan.get(f"/projects/other/webhooks/{path}").status_code == 404
    assert as_dan.post(f"/projects/other/webhooks/sent/{row.pk}/again/").status_code == 404
