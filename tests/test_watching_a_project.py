"""The dashboard: who may see it, what it says before and after there is something to say, and its charts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Heartbeat, Project, SourceReward, User
from learner.tasks import states
from tests.learn import embed_and_absorb

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def judged(project: Project, ben: User) -> Project:
    """Twenty judgments, absorbed."""
    states._cache.clear()
    embed_and_absorb(project)
    for i in range(20):
        lease = serving.leases_for(project, ben, 1)[0]
        judging.record(ben, lease.pk, Submission(("left", "right", "tie")[i % 3], lead_time=3.0))
    from learner.tasks.absorbing import absorb_waiting

    absorb_waiting(project.pk)
    return project


@pytest.mark.parametrize("client_name", ["as_ben", "as_dan"])
def test_only_those_who_run_a_project_see_its_dashboard(
    project: Project, client_name: str, request: pytest.FixtureRequest
) -> None:
    client = request.getfixturevalue(client_name)
    assert client.get("/projects/tides/").status_code == 404
    assert client.get("/projects/tides/charts/log-loss.svg").status_code == 404


def test_an_empty_project_says_in_words_what_is_missing(project: Project, as_ada: Client) -> None:
    page = as_ada.get("/projects/tides/")
    assert page.status_code == 200
    text = page.content.decode()
    for question in ("Is it working?", "Is active collection paying?", "Can I stop?", "Can I trust it?"):
        assert question in text
    assert "Nothing yet." in text


def test_a_silent_worker_is_told_with_what_to_do(judged: Project, as_ada: Client) -> None:
    text = as_ada.get("/projects/tides/").content.decode()
    assert "No worker is running." in text
    Heartbeat.objects.create(worker="w", queues="embed,jobs,learn")
    assert "Alive" in as_ada.get("/projects/tides/").content.decode()


def test_the_page_costs_few_queries_and_shows_rewards_by_source(
    judged: Project, as_ada: Client, django_assert_max_num_queries: Any
) -> None:
    as_ada.get("/projects/tides/")
    with django_assert_max_num_queries(16):
        text = as_ada.get("/projects/tides/").content.decode()
    assert SourceReward.objects.filter(project=judged).count() == 4
    assert "source-3" in text


def chart_addresses(page: str) -> list[str]:
    """Every chart that the page links to."""
    return sorted(set(re.findall(r"/projects/tides/charts/[a-z_-]+\.(?:svg|png|csv|json)", page)))


def test_every_chart_on_the_page_is_served_in_every_format(judged: Project, as_ada: Client) -> None:
    addresses = chart_addresses(as_ada.get("/projects/tides/").content.decode())
    assert addresses
    starts = {"svg": b"<svg", "png": b"\x89PNG", "json": b"{"}
    for address in addresses:
        answer = as_ada.get(address)
        assert answer.status_code == 200, address
        kind = address.rsplit(".", 1)[1]
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert body.startswith(starts.get(kind, b"")), address
        if kind == "json":
            assert "vega-lite" in json.loads(body)["$schema"]


def test_a_chart_that_did_not_change_is_not_sent_again(judged: Project, as_ada: Client) -> None:
    address = chart_addresses(as_ada.get("/projects/tides/").content.decode())[0]
    tag = as_ada.get(address)["ETag"]
    assert as_ada.get(address, headers={"If-None-Match": tag}).status_code == 304


def test_an_unknown_chart_or_format_does_not_exist(project: Project, as_ada: Client) -> None:
    assert as_ada.get("/projects/tides/charts/nonsense.svg").status_code == 404
    assert as_ada.get("/projects/tides/charts/log-loss.exe").status_code == 404


def test_a_hostile_project_name_and_source_are_only_text(judged: Project, as_ada: Client) -> None:
    Project.objects.update(name="<script>alert(1)</script>")
    SourceReward.objects.filter(source="source-0").update(source="<img src=x onerror=alert(1)>")
    text = as_ada.get("/projects/tides/").content.decode()
    assert "<script>alert(1)" not in text
    assert "<img src=x" not in text


def test_a_simulated_project_says_so_on_its_dashboard(project: Project, as_ada: Client) -> None:
    Project.objects.update(is_simulated=True)
    assert "Simulated" in as_ada.get("/projects/tides/").content.decode()


def test_the_data_leaves_by_a_link_on_the_page(judged: Project, as_ada: Client, as_ben: Client) -> None:
    text = as_ada.get("/projects/tides/").content.decode()
    address = "/projects/tides/export/votes.jsonl"
    assert f'href="{address}"' in text
    answer = as_ada.get(address)
    lines = b"".join(answer).decode().strip().splitlines()  # type: ignore[arg-type]
    assert len(lines) == 20
    assert {json.loads(line)["answer"] for line in lines} == {"first", "second", "tie"}
    assert as_ben.get(address).status_code == 404


def test_every_page_of_running_a_project_is_a_click_away(
    judged: Project, ada: User, as_ada: Client, as_ben: Client
) -> None:
    User.objects.filter(pk=ada.pk).update(is_staff=True)
    assert 'href="/projects/new/"' in as_ada.get("/").content.decode()
    page = as_ada.get("/projects/tides/").content.decode()
    for address in ("compare", "disagreements", "settings"):
        assert f'href="/projects/tides/{address}/"' in page
        assert as_ada.get(f"/projects/tides/{address}/").status_code == 200
    settings_page = as_ada.get("/projects/tides/settings/").content.decode()
    for address in ("setup", "people", "audit", "manage"):
        assert f'href="/projects/tides/{address}/"' in settings_page
    assert (
        'href="/projects/tides/disagreements/"' not in as_ben.get("/projects/tides/compare/").content.decode()
    )
