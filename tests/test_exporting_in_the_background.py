"""An export as a job: asked for on a page, streamed to the storage, taken away, repeated on a schedule."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import importing, jobs, judging, projects, scheduling, serving
from annotate.exporting import KINDS
from annotate.judging import Submission
from annotate.models import (
    AuditEvent,
    Comparison,
    Job,
    Judgment,
    Lease,
    Membership,
    Project,
    Prompt,
    Reliability,
    Response,
    Role,
    User,
)
from learner.tasks import jobs as running
from tests.conftest import person, signed_in

pytestmark = pytest.mark.django_db
PAGE, SCHEDULE = reverse("export_page", args=["tides"]), reverse("export_schedule", args=["tides"])
USUAL = {"kind": "trl", "format": "jsonl", "weigh": "majority", "min_votes": "1", "min_agreement": "0"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr("annotate.importing.files.ring", lambda *what: None)


@pytest.fixture
def judged(project: Project, ben: User, cho: User) -> Project:
    """Twelve judgments by Ben, six of them with another answer by Cho."""
    project.overlap, project.overlap_share = 2, 1.0
    project.save()
    for n in range(12):
        (lease,) = serving.leases_for(project, ben, 1)
        judging.record(ben, lease.pk, Submission("tie" if n == 11 else side(lease, "first"), lead_time=3.0))
    for _ in range(6):
        (lease,) = serving.leases_for(project, cho, 1)
        judging.record(cho, lease.pk, Submission(side(lease, "second"), lead_time=3.0))
    return project


def side(lease: Lease, answer: str) -> str:
    return "left" if (answer == "first") != lease.swapped else "right"


def run(job: Job) -> Job:
    assert running.run(job.pk)
    job.refresh_from_db()
    assert job.state == "done", job.message
    return job


def read(job: Job, name: str) -> bytes:
    (file,) = [file for file in jobs.files_of(job) if file["name"] == name]
    with default_storage.open(file["path"]) as stored:
        return bytes(stored.read())


def exported(project: Project, actor: User, **arguments: Any) -> Job:
    return run(jobs.start(project, Job.Kind.EXPORT, {"kind": "trl", "format": "jsonl", **arguments}, actor))


# --- Jobs ---------------------------------------------------------------------------------------------------


def test_the_form_asks_for_a_job_whose_files_are_the_data_and_its_card(
    judged: Project, as_ada: Client, ada: User
) -> None:
    Comparison.objects.update(probability=0.02, arm_probability=0.5)
    answer = as_ada.post(PAGE, {**USUAL, "arms": ["control"], "action": "job"})
    job = Job.objects.get(kind=Job.Kind.EXPORT)
    assert answer["Location"] == reverse("job", args=["tides", job.pk])
    run(job)
    rows = [json.loads(line) for line in read(job, "trl.jsonl").splitlines()]
    assert rows and {row["arm"] for row in rows} == {"control"}
    assert {row["probability"] for row in rows} == {0.02 * 0.5}
    assert f"{len(rows):,} rows" in job.message and job.done == job.total == len(rows)
    assert f"{len(rows):,} rows: " in read(job, "README.md").decode()
    event = AuditEvent.objects.get(verb="exported")
    assert (event.actor, event.details["rows"]) == (ada, len(rows))
    assert "trl.jsonl" in as_ada.get(PAGE).content.decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("form", "packed"), [("jsonl", True), ("csv", False), ("parquet", False)])
def test_every_kind_is_written_in_every_format(
    kind: str, form: str, packed: bool, judged: Project, ada: User, as_ada: Client
) -> None:
    job = exported(judged, ada, kind=kind, format=form, gzip=packed)
    name = f"{kind}.{form}" + (".gz" if packed else "")
    assert {file["name"] for file in jobs.files_of(job)} == {name, "README.md"}
    assert as_ada.get(reverse("job_file", args=["tides", job.pk, name])).status_code == 200


def test_what_a_job_writes_is_what_the_stream_gives(judged: Project, ada: User, as_ada: Client) -> None:
    job = exported(judged, ada, kind="votes", splits=["train"])
    streamed: Any = as_ada.get(reverse("export", args=["tides", "votes.jsonl"]) + "?split=train")
    assert b"".join(streamed.streaming_content) == read(job, "votes.jsonl")


def test_downloading_at_once_leads_to_the_stream_of_the_same_rows(judged: Project, as_ada: Client) -> None:
    more = {
        "arms": ["control", "active"],
        "splits": ["train"],
        "tags": "a, b",
        "min_votes": "2",
        "min_agreement": "60",
    }
    answer = as_ada.post(
        PAGE, {**USUAL, **more, "since": "2024-02-03", "weigh": "reliability", "action": "now"}
    )
    address = answer["Location"]
    assert address.startswith(reverse("export", args=["tides", "trl.jsonl"]) + "?arm=control&arm=active")
    for part in (
        "split=train",
        "tag=a&tag=b",
        "min_votes=2",
        "min_agreement=0.6",
        "since=2024-02-03",
        "weigh=reli",
    ):
        assert part in address
    assert as_ada.get(address).status_code == 200


def test_only_what_was_judged_since_a_day(judged: Project, ada: User) -> None:
    Judgment.objects.filter(annotator__username="ben").update(created_at="2020-01-01T12:00:00Z")
    job = exported(judged, ada, kind="votes", since="2021-01-01T00:00:00+00:00")
    rows = [json.loads(line) for line in read(job, "votes.jsonl").splitlines()]
    assert len(rows) == 6 and {row["annotator"] for row in rows} != {""}


def test_a_label_by_reliability_follows_the_annotator_who_is_known_to_be_right(
    judged: Project, ada: User, ben: User, cho: User
) -> None:
    even = exported(judged, ada, min_votes=2)
    assert even.done == 0 and "undecided" in even.message
    for user, estimate in ((ben, 1.6), (cho, 0.2)):
        Reliability.objects.create(
            project=judged, annotator=user, judgments=20, estimate=estimate, low=0, high=2,
            side_bias=0, side_low=0, side_high=0, step=1,
        )  # fmt: skip
    job = exported(judged, ada, min_votes=2, weigh="reliability")
    rows = [json.loads(line) for line in read(job, "trl.jsonl").splitlines()]
    assert len(rows) == 6
    for row in rows:
        assert row["p_chosen"] == pytest.approx(1.6 / 1.8) and row["votes"] == 2
    assert "reliability that was measured" in read(job, "README.md").decode()


def test_a_cancelled_export_leaves_no_half_a_file(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs.start(judged, Job.Kind.EXPORT, {"kind": "trl", "format": "jsonl"}, ada)
    report = running.report
    monkeypatch.setattr(
        "learner.tasks.exporting.report",
        lambda row, *what: jobs.cancel(Job.objects.get(pk=row.pk), ada) and report(row, *what),
    )
    running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, jobs.files_of(job)) == ("cancelled", [])
    assert not default_storage.exists(f"{jobs.folder_of(job)}/trl.jsonl")


def test_what_a_job_exported_an_import_job_reads_back(judged: Project, ada: User, tmp_path: Path) -> None:
    """Prompts, responses and current votes are the same in another project."""
    other = Project.objects.create(name="Copy", slug="copy")
    for kind, form in (("pool", "parquet"), ("votes", "csv")):
        job = exported(judged, ada, kind=kind, format=form)
        path = tmp_path / f"{kind}.{form}"
        path.write_bytes(read(job, f"{kind}.{form}"))
        assert importing.import_file(other, path).bad == 0
    assert texts(other) == texts(judged)
    assert votes(other) == votes(judged)


def texts(project: Project) -> list[tuple[Any, ...]]:
    columns = ("prompt__text", "prompt__messages", "text", "source", "utility", "external_id", "metadata")
    return list(Response.objects.filter(project=project).order_by("position").values_list(*columns))


def votes(project: Project) -> list[tuple[str, ...]]:
    rows = Judgment.objects.filter(project=project, replaced_at=None)
    found = []
    for row in rows.select_related("comparison__prompt", "comparison__first", "comparison__second"):
        pair = (row.comparison.first.text, row.comparison.second.text)
        chosen = {"first": pair[0], "second": pair[1]}.get(row.answer, row.answer)
        found.append((row.comparison.prompt.text, *sorted(pair), chosen))
    return sorted(found)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"kind": "pickle"}, "kind"),
        ({"format": "yaml"}, "format"),
        ({"format": "parquet", "gzip": "on"}, "gzip"),
        ({"arms": ["root"]}, "arms"),
        ({"splits": ["all"]}, "splits"),
        ({"min_votes": "0"}, "min_votes"),
        ({"min_agreement": "101"}, "min_agreement"),
        ({"min_agreement": "nan"}, "min_agreement"),
        ({"weigh": "by hand"}, "weigh"),
        ({"since": "yesterday"}, "since"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(
    sent: dict[str, Any], field: str, project: Project, as_ada: Client
) -> None:
    for page in (PAGE, SCHEDULE):
        answer = as_ada.post(page, {**USUAL, "every": "daily", "keep": "3", **sent})
        assert answer.status_code == 200 and field in answer.context["form"].errors, page
    assert not Job.objects.exists()
    project.refresh_from_db()
    assert project.export_schedule == {}


# --- On a schedule ------------------------------------------------------------------------------------------


def scheduled(as_ada: Client, **more: str) -> None:
    answer = as_ada.post(SCHEDULE, {**USUAL, "every": "daily", "keep": "2", **more})
    assert answer.status_code == 302


def test_a_schedule_writes_dated_files_and_keeps_the_last(judged: Project, as_ada: Client) -> None:
    scheduled(as_ada, format="csv")
    judged.refresh_from_db()
    now = timezone.now()
    for day in range(3):
        then = now + timedelta(days=day)
        assert scheduling.start_due(then) == 1
        job = Job.objects.latest("pk")
        run(job)
        Job.objects.filter(pk=job.pk).update(created_at=then)
        assert scheduling.start_due(then + timedelta(hours=3)) == 0
    (_, files) = default_storage.listdir("exports/tides")
    days = [f"{now + timedelta(days=day):%Y-%m-%d}" for day in (1, 2)]
    assert sorted(files) == sorted(f"{day}-{name}" for day in days for name in ("trl.csv", "README.md"))
    first = Job.objects.earliest("pk")
    assert jobs.files_of(first) == [] and first.result["files_removed"]
    Job.objects.update(finished_at="2020-01-01T00:00:00Z")
    jobs.prune()
    assert len(default_storage.listdir("exports/tides")[1]) == 4, "the schedule says how many are kept"


def test_the_sweep_of_any_worker_starts_what_is_due(judged: Project, as_ada: Client) -> None:
    from learner.tasks import sweep

    scheduled(as_ada)
    sweep()
    sweep()
    job = Job.objects.get()
    assert (job.kind, job.created_by, job.arguments["scheduled"]) == (
        "export",
        None,
        f"{timezone.now():%Y-%m-%d}",
    )


def test_a_weekly_schedule_waits_a_week_and_an_archived_project_rests(
    judged: Project, as_ada: Client
) -> None:
    scheduled(as_ada, every="weekly")
    now = timezone.now()
    assert scheduling.start_due(now) == 1
    assert scheduling.start_due(now + timedelta(days=6)) == 0
    Job.objects.update(state="done")
    Project.objects.update(archived_at=now)
    assert scheduling.start_due(now + timedelta(days=8)) == 0
    Project.objects.update(archived_at=None)
    assert scheduling.start_due(now + timedelta(days=8)) == 1


def test_a_schedule_is_shown_changed_logged_and_ended(judged: Project, as_ada: Client) -> None:
    scheduled(as_ada, tags="a, b", min_agreement="60", since="2024-02-03")
    page = as_ada.get(SCHEDULE).content.decode()
    assert 'value="a, b"' in page and 'value="60' in page and 'value="2024-02-03"' in page
    assert "Every day; the last 2 are kept." in as_ada.get(PAGE).content.decode()
    scheduled(as_ada, tags="a, b", min_agreement="60", since="2024-02-03")  # nothing was changed
    scheduled(as_ada, every="off")
    judged.refresh_from_db()
    assert judged.export_schedule == {}
    events = list(AuditEvent.objects.filter(verb="changed").order_by("pk"))
    assert [event.details for event in events] == [
        {"export_schedule": ["off", "daily"]},
        {"export_schedule": ["daily", "off"]},
    ]
    assert "Export schedule" in as_ada.get(reverse("audit", args=["tides"])).content.decode()


def test_a_deleted_project_takes_its_exports_along(judged: Project, as_ada: Client, ada: User) -> None:
    scheduled(as_ada)
    scheduling.start_due(timezone.now())
    run(Job.objects.get())
    projects.delete_project(judged, ada, "tides")
    assert not default_storage.exists("exports/tides") or default_storage.listdir("exports/tides")[1] == []


# --- Who may ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["eve", "ben", "rita", "dan"])
def test_to_everyone_but_its_admins_exports_do_not_exist(
    who: str, judged: Project, ben: User, dan: User
) -> None:
    eve, rita = person("eve"), person("rita")
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=eve, role=Role.ADMIN)
    Membership.objects.create(project=judged, user=rita, role=Role.REVIEWER)
    client = signed_in({"eve": eve, "ben": ben, "rita": rita, "dan": dan}[who])
    for url in (PAGE, SCHEDULE):
        assert client.get(url).status_code == 404
        assert client.post(url, {**USUAL, "every": "daily", "keep": "1"}).status_code == 404
    assert not Job.objects.exists()


def test_a_form_without_its_token_starts_nothing(project: Project, ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert client.post(PAGE, USUAL).status_code == client.post(SCHEDULE, USUAL).status_code == 403


def test_an_empty_project_exports_nothing_and_says_so(ada: User, project: Project) -> None:
    assert exported(project, ada).message == "0 rows."
    assert Comparison.objects.count() == 0 and Prompt.objects.count() == 12
