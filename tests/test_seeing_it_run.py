"""/metrics, request ids and the log: what an operator sees, and who may see it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotate import logs, measures, metrics
from annotate.bells import Bell, Bells
from annotate.models import Heartbeat, Project
from tests.learn import embed_and_absorb

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent


def test_metrics_are_for_this_machine_unless_there_is_a_token(client: Client, settings: Any) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.9").status_code == 403
    assert client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.5"}).status_code == 403
    settings.METRICS_TOKEN = "a-long-token"
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer a-longer-token"}).status_code == 403
    right = client.get("/metrics", REMOTE_ADDR="10.0.0.9", headers={"Authorization": "Bearer a-long-token"})
    assert right.status_code == 200


FIRST_REQUESTS = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
import django, prometheus_client
django.setup()
from annotate import metrics

class Slow(prometheus_client.Counter):
    def __init__(self, *arguments, **options):
        time.sleep(0.05)  # every thread is inside before the first is done
        super().__init__(*arguments, **options)

prometheus_client.Counter = Slow
together = threading.Barrier(8)

def first_request(_):
    together.wait()
    metrics.observe("home", "GET", 200, 0.01)

with ThreadPoolExecutor(8) as threads:
    list(threads.map(first_request, range(8)))
counted = [s.value for m in metrics.instruments()[0].collect() for s in m.samples if s.name.endswith("_total")]
print(counted)
"""


def test_the_first_requests_of_a_process_may_come_at_once() -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "annotate.settings"}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    command = [sys.executable, "-c", FIRST_REQUESTS]
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.strip() == "[8.0]", told.stderr


def test_signing_in_gives_no_right_to_the_metrics(as_ada: Client) -> None:
    assert as_ada.get("/metrics", REMOTE_ADDR="10.0.0.9").status_code == 403


def test_requests_are_counted_by_the_name_of_their_address(as_ben: Client, project: Project) -> None:
    as_ben.get(f"/projects/{project.slug}/compare/")
    told = as_ben.get("/metrics").content.decode()
    assert 'touchstone_requests_total{method="GET",route="compare",status="200"}' in told
    assert 'touchstone_request_seconds_bucket{le="0.08",route="compare"}' in told
    assert project.slug not in told


def test_a_stranger_makes_no_new_series_by_a_method_of_their_own(client: Client) -> None:
    for method in ("BREW", "X1", "X2"):
        client.generic(method, "/health/")
    told = client.get("/metrics").content.decode()
    assert 'method="OTHER"' in told
    assert not any(f'method="{method}"' in told for method in ("BREW", "X1", "X2"))


def test_queue_lag_and_workers_are_in_the_metrics(as_ben: Client, project: Project) -> None:
    page = as_ben.get(f"/projects/{project.slug}/compare/").content.decode()
    lease = page.split('data-lease="')[1][:36]
    as_ben.post(f"/projects/{project.slug}/leases/{lease}/judgment/", {"side": "left"})
    assert "touchstone_judgments_waiting 1.0" in as_ben.get("/metrics").content.decode()
    embed_and_absorb(project)
    sums = {"absorbed": 7, "drift": 0.5}
    Heartbeat.objects.create(worker="w1", queues="learn", seen_at=timezone.now(), measures=sums)
    told = as_ben.get("/metrics").content.decode()
    assert "touchstone_judgments_waiting 0.0" in told
    assert 'touchstone_influence_lag_seconds{quantile="0.5"}' in told
    assert 'touchstone_worker_absorbed_total{worker="w1"} 7.0' in told
    assert 'touchstone_worker_drift{worker="w1"} 0.5' in told
    assert measures.snapshot()["absorbed"] >= 1


def test_every_answer_carries_its_request_id_and_a_strange_one_is_replaced(client: Client) -> None:
    assert client.get("/health/", headers={"X-Request-ID": "abc-123"})["X-Request-ID"] == "abc-123"
    for strange in ("two words", "line\nbreak", "x" * 65, "<b>"):
        made = client.get("/health/", headers={"X-Request-ID": strange})["X-Request-ID"]
        assert made != strange
        assert metrics.is_loopback("127.0.0.1")
        assert len(made) == 32


def test_a_bell_carries_the_request_that_rang_it_and_rings_once_for_many() -> None:
    sent: list[Bell] = []
    bells = Bells(sent.append)
    assert not bells.take(Bell("absorb", (1,)))  # nobody rings for it: the caller does
    bells.started = True
    for request_id in ("first", "second"):
        bells.take(Bell("absorb", (1,), None, request_id))
    bells.take(Bell("absorb", (2,)))
    assert [(bell.ids, bell.request_id) for bell in bells.waiting] == [((1,), "second"), ((2,), "")]


def test_production_logs_are_json_with_ids_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    formatter = logs.configuration("INFO", as_json=True)["formatters"]["line"]
    line = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=formatter["foreign_pre_chain"], processors=formatter["processors"]
    )
    record = logging.LogRecord(
        "learner.tasks", logging.WARNING, __file__, 1, "no checkpoint at %s", (7,), None
    )
    with structlog.contextvars.bound_contextvars(request_id="abc", job=3):
        found = json.loads(line.format(record))
    assert found["event"] == "no checkpoint at 7"
    assert (found["request_id"], found["job"], found["level"]) == ("abc", 3, "warning")


def test_the_grafana_dashboard_asks_for_metrics_that_there_are(as_ben: Client, project: Project) -> None:
    as_ben.get(f"/projects/{project.slug}/compare/")
    every = dict.fromkeys([*metrics.HELP, "covariance_drift"], 1.0)
    Heartbeat.objects.create(worker="w1", queues="learn", seen_at=timezone.now(), measures=every)
    told = as_ben.get("/metrics").content.decode()
    board = json.loads((settings_root() / "deploy" / "grafana-dashboard.json").read_text())
    asked = re.findall(r"touchstone_\w+", " ".join(t["expr"] for p in board["panels"] for t in p["targets"]))
    assert asked
    assert [name for name in asked if name not in told] == []


def settings_root() -> Path:
    return Path(__file__).resolve().parent.parent
