"""The write path of endpoints: add, change, turn on and off, a new secret, delete; test one, send a message again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models import Case, F, TextField, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing, outbound
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.models import Delivery, Endpoint, Event, Project, User
from annotate.models.webhooks import new_salt

MOST = 20
TEST = "test"
TURNED_OFF = "The webhook was turned off."
SHORTEST_REST, LONGEST_REST = timedelta(seconds=5), timedelta(minutes=5)


def add(project: Project, actor: User, url: str, events: Sequence[str]) -> Endpoint:
    check(url, events)
    with transaction.atomic():
        locked(project)
        if project.endpoints.count() >= MOST:
            raise TouchstoneError(_("A project has at most {most} webhooks.").format(most=MOST))
        endpoint = Endpoint.objects.create(project=project, url=url, events=list(events), created_by=actor)
        auditing.record(project, actor, "added a webhook", host_of(url), events=list(events))
        note_events(project)
    return endpoint


def change(endpoint: Endpoint, actor: User, url: str, events: Sequence[str], is_on: bool) -> None:
    """Turned on again, an endpoint is as good as new."""
    check(url, events)
    with transaction.atomic():
        locked(endpoint.project)
        Endpoint.objects.filter(pk=endpoint.pk).update(
            url=url, events=list(events), is_on=is_on, off_reason="", failing_since=None
        )
        if not is_on:
            give_up_waiting(endpoint)
        auditing.record(
            endpoint.project, actor, "changed a webhook", host_of(url), events=list(events), on=is_on
        )
        note_events(endpoint.project)


def remove(endpoint: Endpoint, actor: User) -> None:
    with transaction.atomic():
        locked(endpoint.project)
        auditing.record(endpoint.project, actor, "removed a webhook", host_of(endpoint.url))
        endpoint.delete()
        note_events(endpoint.project)


def renew_secret(endpoint: Endpoint, actor: User) -> Endpoint:
    """The old secret signs nothing from this moment."""
    endpoint.salt = new_salt()
    with transaction.atomic():
        endpoint.save(update_fields=["salt"])
        auditing.record(endpoint.project, actor, "renewed the secret of a webhook", host_of(endpoint.url))
    return endpoint


def turn_off(endpoint: Endpoint, reason: str) -> None:
    """By itself, after days of failure or because the receiver said that it is gone."""
    with transaction.atomic():
        locked(endpoint.project)
        if Endpoint.objects.filter(pk=endpoint.pk, is_on=True).update(is_on=False, off_reason=reason[:200]):
            give_up_waiting(endpoint)
            auditing.record(
                endpoint.project, None, "turned a webhook off", host_of(endpoint.url), reason=reason
            )
            note_events(endpoint.project)


def give_up_waiting(endpoint: Endpoint) -> None:
    """Nothing but a test is sent to an endpoint that is off; what was tried keeps its last answer."""
    waiting = Delivery.objects.filter(endpoint=endpoint, state=Delivery.State.WAITING).exclude(event=TEST)
    answer = Case(When(attempts=0, then=Value(TURNED_OFF, output_field=TextField())), default=F("answer"))
    waiting.update(state=Delivery.State.FAILED, answer=answer)


def rest_of(endpoint: Endpoint, now: datetime) -> timedelta:
    """How long an endpoint that fails is left alone: as long as it has failed, within bounds."""
    failed_for = now - (endpoint.failing_since or now)
    return min(max(failed_for, SHORTEST_REST), LONGEST_REST)


def test(endpoint: Endpoint, actor: User) -> Delivery:
    """A message like any other, of the type "test": its row in the log says how it went."""
    body = '{{"type": "test", "timestamp": "{}", "data": {{"project": "{}"}}}}'
    now = timezone.now()
    content = body.format(now.isoformat(), endpoint.project.slug)
    delivery = Delivery.objects.create(endpoint=endpoint, event=TEST, body=content, next_at=now)
    transaction.on_commit(lambda: ring("deliver"))
    return delivery


def send_again(delivery: Delivery) -> None:
    """The same message with the same id, from the first attempt on."""
    ended = Delivery.objects.filter(pk=delivery.pk, state__in=[Delivery.State.SENT, Delivery.State.FAILED])
    if ended.update(state=Delivery.State.WAITING, attempts=0, next_at=timezone.now()):
        transaction.on_commit(lambda: ring("deliver"))


def check(url: str, events: Sequence[str]) -> None:
    outbound.target(url)
    if not events or not {*events} <= {*Event.values}:
        raise TouchstoneError(_("Choose what the webhook is to be told."))


def host_of(url: str) -> str:
    """For the audit log: addresses of hooks carry secrets in their paths. It may be one that is not asked any more."""
    return urlsplit(url).hostname or ""


def locked(project: Project) -> None:
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def note_events(project: Project) -> None:
    """What any endpoint that is on wants. The caller holds the project's lock."""
    wanted: set[str] = set()
    for events in project.endpoints.filter(is_on=True).values_list("events", flat=True):
        wanted |= set(events)
    project.webhook_events = sorted(wanted)
    project.save(update_fields=["webhook_events"])
