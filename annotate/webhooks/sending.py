"""Deliveries go out: rows that are due are claimed one by one, sent through the guard, and tried again if it failed.

Endpoints take turns, and one that fails rests with all that waits for it, so a dead receiver holds up nobody else's.

A worker's own thread does it, so a receiver that is slow keeps no task waiting. A claim that was never finished (its
worker was killed) is taken up again; the receiver knows a message that it had already by its webhook-id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import defaultdict
from datetime import datetime, timedelta

from django.db import close_old_connections, connections
from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from annotate import outbound
from annotate.errors import TouchstoneError
from annotate.models import Delivery, Endpoint, Project
from annotate.webhooks.endpoints import TEST, TURNED_OFF, give_up_waiting, rest_of, turn_off
from annotate.webhooks.signing import headers_of
from annotate.webhooks.telling import notice_budget

logger = logging.getLogger(__name__)

SECONDS = 10.0
WAITS = [timedelta(seconds=n) for n in (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)]
TAKEN_UP_AFTER = timedelta(minutes=2)
OFF_AFTER = timedelta(days=4)
KEPT_FOR = timedelta(days=30)
LONGEST_ANSWER = 2_000
AT_ONCE = 50  # messages to one endpoint
TURN = 1.0  # second, after which an endpoint that is slow lets the others go on
_bell = threading.Event()


def ring_here() -> None:
    """Wake this process's thread, if it has one; others look at the rows every few seconds."""
    _bell.set()


def start_thread() -> None:
    threading.Thread(target=_deliver_forever, daemon=True, name="webhooks").start()


def _deliver_forever() -> None:
    while True:
        _bell.wait(SECONDS)
        _bell.clear()
        try:
            close_old_connections()
            deliver_due()
        except Exception as error:
            logger.warning("webhooks wait: %s", error)
        finally:
            connections.close_all()


def deliver_due() -> int:
    """Send what is due, in rounds of one turn for each endpoint, as long as something gets through."""
    sent = 0
    while passed := one_round(timezone.now()):
        sent += passed
    return sent


def one_round(now: datetime) -> int:
    return sum(deliver(pks, now) for pks in turns(now))


def turns(now: datetime) -> list[list[int]]:
    """The oldest due messages of each endpoint. Of those that fail one is tried, last: others wait for it alone."""
    place = Window(RowNumber(), partition_by=F("endpoint_id"), order_by="id")
    oldest = due(now).annotate(place=place).filter(place__lte=AT_ONCE).order_by("id")
    well, ailing = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for pk, endpoint, since in oldest.values_list("pk", "endpoint_id", "endpoint__failing_since"):
        (well if since is None else ailing)[endpoint].append(pk)
    one = random.sample(sorted(ailing), min(1, len(ailing)))
    return [*well.values(), *(ailing[endpoint] for endpoint in one)]


def deliver(pks: list[int], now: datetime) -> int:
    """One endpoint's turn, over with the first failure; how many messages arrived."""
    began, sent = time.monotonic(), 0
    for pk in pks:
        if claim(pk, now):
            if not send(Delivery.objects.select_related("endpoint__project").get(pk=pk)):
                break
            sent += 1
        if time.monotonic() - began > TURN:
            break
    return sent


def due(now: datetime) -> QuerySet[Delivery]:
    waiting = Q(state=Delivery.State.WAITING, next_at__lte=now)
    forsaken = Q(state=Delivery.State.SENDING, next_at__lte=now - TAKEN_UP_AFTER)
    return Delivery.objects.filter(waiting | forsaken)


def claim(pk: int, now: datetime) -> bool:
    """Ours, if no other thread was quicker. ``next_at`` is when it was claimed."""
    claimed_at = timezone.now()
    return bool(due(now).filter(pk=pk).update(state=Delivery.State.SENDING, next_at=claimed_at))


def send(delivery: Delivery) -> bool:
    """One attempt. An endpoint that was turned off meanwhile is sent nothing but a test."""
    endpoint = delivery.endpoint
    if not endpoint.is_on and delivery.event != TEST:
        finish(delivery, Delivery.State.FAILED, None, TURNED_OFF, 0.0)
        give_up_waiting(endpoint)  # what was written while it was turned off
        return False
    began = time.monotonic()
    try:
        answer = outbound.request(
            "POST",
            endpoint.url,
            delivery.body.encode(),
            headers_of(delivery, int(time.time())),
            seconds=SECONDS,
            most=64 << 10,
        )
        status, words = answer.status, shown(answer.body)
    except TouchstoneError as error:
        status, words = None, str(error)
    seconds = time.monotonic() - began
    if status is not None and 200 <= status < 300:
        return delivered(delivery, status, words, seconds)
    return missed(delivery, status, words, seconds)


def shown(body: bytes) -> str:
    """The beginning of an answer as a text that both databases keep."""
    return body[:LONGEST_ANSWER].decode("utf-8", "replace").replace("\0", "")


def delivered(delivery: Delivery, status: int, words: str, seconds: float) -> bool:
    finish(delivery, Delivery.State.SENT, status, words, seconds)
    Endpoint.objects.filter(pk=delivery.endpoint_id).exclude(failing_since=None).update(failing_since=None)
    return True


def missed(delivery: Delivery, status: int | None, words: str, seconds: float) -> bool:
    """Again later, each time after a longer while; after days it is given up, and the endpoint turned off."""
    endpoint, now = delivery.endpoint, timezone.now()
    over = delivery.attempts >= len(WAITS) or delivery.event == TEST
    state = Delivery.State.FAILED if over else Delivery.State.WAITING
    finish(delivery, state, status, words, seconds)
    Endpoint.objects.filter(pk=endpoint.pk, failing_since=None).update(failing_since=now)
    if status == 410:
        turn_off(endpoint, "The receiver answered 410 Gone.")
    elif endpoint.failing_since and endpoint.failing_since < now - OFF_AFTER:
        turn_off(endpoint, f"It failed for {OFF_AFTER.days} days.")
    else:
        postpone(endpoint, now)
    return False


def postpone(endpoint: Endpoint, now: datetime) -> None:
    """What else waits for an endpoint that failed is not due either before it had some rest."""
    until = now + rest_of(endpoint, now)
    others = Delivery.objects.filter(endpoint=endpoint, state=Delivery.State.WAITING, next_at__lt=until)
    others.exclude(event=TEST).update(next_at=until)


def finish(delivery: Delivery, state: str, status: int | None, words: str, seconds: float) -> None:
    wait = WAITS[min(delivery.attempts, len(WAITS) - 1)] * random.uniform(1.0, 1.2)  # noqa: S311
    now = timezone.now()
    Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.SENDING).update(
        state=state,
        attempts=delivery.attempts + 1,
        status=status,
        answer=words[:LONGEST_ANSWER],
        seconds=seconds,
        tried_at=now,
        next_at=now + wait,
    )


def sweep() -> None:
    """Ring for what is due, notice budgets whose moment was missed, and let old rows go."""
    now = timezone.now()
    for project in Project.objects.exclude(webhook_events=[]).exclude(budget=None):
        notice_budget(project)
    if due(now).exists():
        ring_here()
    ended = Delivery.objects.filter(state__in=[Delivery.State.SENT, Delivery.State.FAILED])
    ended.filter(created_at__lt=now - KEPT_FOR, once=None).delete()
