"""/metrics for Prometheus: requests of the web processes, and what rows say of queue, lag and workers.

Web processes share files in the folder that ``manage.py serve`` makes, so that any of them answers for all. Workers
write their sums with their heartbeats, so nothing has to reach them. prometheus_client reads that folder's name when
it is first imported, hence the imports inside.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import F
from django.http import HttpRequest
from django.utils import timezone

from annotate.models import FeatureVersion, Heartbeat, Job, Judgment, Lease

BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10)
NEWEST = 500  # judgments that the lag is measured on
SILENT = timedelta(seconds=60)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
HELP = {
    "absorb_seconds": "Seconds spent absorbing judgments.",
    "absorb_count": "Times that waiting judgments were absorbed.",
    "absorbed": "Judgments absorbed.",
    "select_seconds": "Seconds spent choosing the next comparisons.",
    "select_count": "Times that the queue was refilled.",
    "selected": "Comparisons chosen.",
    "embed_seconds": "Seconds spent encoding.",
    "embed_count": "Shards encoded.",
    "embedded": "Responses encoded.",
}


_making = threading.Lock()


def instruments() -> tuple[Any, Any]:
    """Made by the first request; a process's first requests may come at once, and names are registered once."""
    with _making:
        return _instruments()


@cache
def _instruments() -> tuple[Any, Any]:
    from prometheus_client import Counter, Histogram

    requests = Counter("touchstone_requests", "Requests answered.", ["route", "method", "status"])
    seconds = Histogram("touchstone_request_seconds", "Time to answer.", ["route"], buckets=BUCKETS)
    return requests, seconds


def observe(route: str, method: str, status: int, seconds: float) -> None:
    """Count a request under the name of its address: never the address, which holds slugs and ids."""
    requests, times = instruments()
    known = method if method in METHODS else "OTHER"  # a stranger may call a method anything
    requests.labels(route, known, str(status)).inc()
    times.labels(route).observe(seconds)


def exposition() -> bytes:
    """Everything in Prometheus' text format."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    instruments()
    rows = CollectorRegistry()
    rows.register(Rows())
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry) + generate_latest(rows)


def may_read(request: HttpRequest) -> bool:
    """With METRICS_TOKEN set, whoever sends it; without, this machine only, and not through a proxy on it."""
    if settings.METRICS_TOKEN:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return secrets.compare_digest(sent.encode(), settings.METRICS_TOKEN.encode())
    forwarded = {"X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"} & set(request.headers)
    return not forwarded and is_loopback(request.META.get("REMOTE_ADDR", ""))


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Rows:
    """What the database says at the moment of asking."""

    def collect(self) -> Iterator[Any]:
        yield from depths()
        yield from lag()
        yield from workers()


def gauge(name: str, text: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"touchstone_{name}", text, value=value)


def depths() -> Iterator[Any]:
    now, waits = timezone.now(), Judgment.objects.filter(absorbed_step=None, replaced_at=None)
    oldest = waits.order_by("id").values_list("created_at", flat=True).first()
    age = (now - oldest).total_seconds() if oldest else 0.0
    live = FeatureVersion.objects.filter(state=FeatureVersion.State.LIVE)
    behind = live.filter(embedded__lt=F("project__response_count"))
    missing = sum(size - done for size, done in behind.values_list("project__response_count", "embedded"))
    jobs = Job.objects.filter(state=Job.State.WAITING).count()
    yield gauge("judgments_waiting", "Judgments that are not learned from yet.", waits.count())
    yield gauge("judgments_waiting_oldest_seconds", "Age of the oldest of them.", max(0.0, age))
    yield gauge("responses_to_embed", "Responses without features, in projects with a live version.", missing)
    yield gauge("jobs_waiting", "Jobs that nobody runs yet.", jobs)
    yield gauge("leases_open", "Pairs before annotators.", Lease.objects.filter(outcome="open").count())


def lag() -> Iterator[Any]:
    """From judgment to influence, of the newest ones that were absorbed."""
    from prometheus_client.core import GaugeMetricFamily

    newest = Judgment.objects.filter(absorbed_at__isnull=False).order_by("-id")[:NEWEST]
    rows = newest.values_list("created_at", "absorbed_at")
    seconds = sorted((done - made).total_seconds() for made, done in rows if done is not None)
    family = GaugeMetricFamily(
        "touchstone_influence_lag_seconds", "From a judgment to its step, of the newest.", labels=["quantile"]
    )
    for quantile in (0.5, 0.95) if seconds else ():
        family.add_metric([str(quantile)], seconds[min(len(seconds) - 1, int(quantile * len(seconds)))])
    yield family


def workers() -> Iterator[Any]:
    """Sums of every worker heard lately; those that end in anything else are values as they are."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    heard = list(Heartbeat.objects.filter(seen_at__gte=timezone.now() - SILENT))
    alive = GaugeMetricFamily(
        "touchstone_worker_up", "Workers heard in the last minute.", labels=["worker", "queues"]
    )
    for row in heard:
        alive.add_metric([row.worker, row.queues], 1.0)
    yield alive
    for name in sorted({name for row in heard for name in row.measures}):
        kind: Any = CounterMetricFamily if name in HELP else GaugeMetricFamily
        family = kind(f"touchstone_worker_{name}", HELP.get(name, "As the worker has it."), labels=["worker"])
        for row in heard:
            if name in row.measures:
                family.add_metric([row.worker], row.measures[name])
        yield family
