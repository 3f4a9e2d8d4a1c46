"""What monitors are told."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.test import Client
from django.utils import timezone

from annotate import health, judging, serving
from annotate.judging import Submission
from annotate.models import Heartbeat, Project, User

pytestmark = pytest.mark.django_db


def test_the_process_says_that_it_is_alive(client: Client) -> None:
    assert client.get("/health/").content == b"ok"


def test_readiness_tells_database_broker_workers_and_what_waits(
    client: Client, project: Project, ben: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    judging.record(ben, lease.pk, Submission("left"))
    Heartbeat.objects.create(worker="w", queues="learn", seen_at=timezone.now())
    answer = client.get("/health/ready/")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["database"], told["broker"], told["workers"], told["waiting_judgments"]) == (
        True,
        True,
        1,
        1,
    )
    assert told["oldest_waiting_seconds"] >= 0


def test_a_broker_that_is_away_makes_it_unready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "broker_answers", lambda: False)
    assert client.get("/health/ready/").status_code == 503


def test_a_judgment_is_recorded_though_the_bell_cannot_be_rung(
    project: Project, ben: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    from annotate.celery import app

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(app, "send_task", unreachable)
    lease = serving.leases_for(project, ben, 1)[0]
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        assert judging.record(ben, lease.pk, Submission("left")).pk
    assert callbacks


def test_the_version_is_told(client: Client) -> None:
    assert client.get("/version/").json()["name"] == "touchstone"


def test_a_browser_that_asks_for_an_icon_finds_one(client: Client) -> None:
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer["Location"]) == (302, static("icon.svg"))
    assert finders.find("icon.svg")
