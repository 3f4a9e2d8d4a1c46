"""Jobs: asked for by people, run by workers, watched, cancelled, and their files taken away."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.html import escape
from pytest_django.asserts import assertRedirects

from annotate import jobs, outcomes, projects
from annotate.errors import TouchstoneError
from annotate.models import AuditEvent, Job, Membership, Project, Role, User
from learner.tasks import jobs as running
from learner.tasks import sweep
from tests.conftest import person, signed_in

pytestmark = pytest.mark.django_db
Runner = Callable[[Job], str]


@pytest.fixture
def eve(db: None) -> User:
    """Admin of another project."""
    user = person("eve")
    other = Project.objects.create(name="Other", slug="other", created_by=user)
    Membership.objects.create(project=other, user=user, role=Role.ADMIN)
    return user


@pytest.fixture
def rita(project: Project) -> User:
    user = person("rita")
    Membership.objects.create(project=project, user=user, role=Role.REVIEWER)
    return user


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Runner], None]]:
    """Let a kind of job run this function."""
    monkeypatch.setattr(running, "BETWEEN_REPORTS", 0.0)
    yield lambda runner: monkeypatch.setitem(running.RUNNERS, Job.Kind.GENERATE, runner)


@pytest.fixture
def job(project: Project, ada: User) -> Job:
    return jobs.start(project, Job.Kind.GENERATE, {"n": 1}, ada)


def address(name: str, job: Job, *more: object) -> str:
    assert job.project
    return reverse(name, args=[job.project.slug, job.pk, *more])


def with_file(job: Job, content: bytes = b"a,b\n", name: str = "table.csv") -> Job:
    with jobs.new_file(job, name, "A table") as file:
        file.write(content)
    job.state, job.finished_at = Job.State.DONE, timezone.now()
    job.save()
    return job


# --- Running ------------------------------------------------------------------------------------------------


def test_a_worker_that_is_asked_to_end_hands_a_job_back_and_another_goes_on(
    job: Job, runs: Callable[[Runner], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(row: Job) -> str:
        row.total = 4
        for done in range(row.result.get("at", 0) + 1, 5):
            row.result = {"at": done, "begun": [*row.result.get("begun", []), done]}
            assert running.report(row, done)
            if done == 2:
                monkeypatch.setattr(running, "is_stopping", lambda: True)
        return "Counted."

    runs(count)
    assert running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempts, job.done, job.result["at"]) == ("waiting", 0, 3, 3)
    assert running.run(job.pk)  # the last step of all is not handed back: the job is done
    job.refresh_from_db()
    assert (job.state, job.message, job.result["begun"]) == ("done", "Counted.", [1, 2, 3, 4])


def test_a_job_runs_once_and_says_how_it_went(job: Job, runs: Callable[[Runner], None]) -> None:
    def count(row: Job) -> str:
        row.total = 4
        for done in range(1, 5):
            assert running.report(row, done, f"{done} so far")
        return "Counted."

    runs(count)
    assert running.run(job.pk)
    assert not running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.done, job.total, job.message) == ("done", 4, 4, "Counted.")
    assert job.attempts == 1 and job.finished_at


def test_what_a_runner_may_say_is_shown_and_what_it_did_not_foresee_is_raised(
    job: Job, runs: Callable[[Runner], None], project: Project, ada: User
) -> None:
    def refuse(row: Job) -> str:
        raise TouchstoneError("The file is gone.")

    runs(refuse)
    assert running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.message) == ("failed", "The file is gone.")

    def break_down(row: Job) -> str:
        raise ZeroDivisionError("oh")

    runs(break_down)
    other = jobs.start(project, Job.Kind.GENERATE, {"n": 2}, ada)
    with pytest.raises(ZeroDivisionError):
        running.run(other.pk)
    other.refresh_from_db()
    assert (other.state, other.message) == ("failed", "ZeroDivisionError: oh")


def test_a_cancelled_job_ends_at_its_next_report_and_keeps_what_it_did(
    job: Job, runs: Callable[[Runner], None], ada: User
) -> None:
    def endless(row: Job) -> str:
        done = 0
        while running.report(row, done := done + 1):
            if done == 3:
                assert jobs.cancel(Job.objects.get(pk=row.pk), ada)
        row.result = {"rows": done}
        return f"{done} rows were stored."

    runs(endless)
    running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.result, job.message) == ("cancelled", {"rows": 4}, "4 rows were stored.")


def test_a_waiting_job_that_was_cancelled_is_never_run(
    job: Job, ada: User, runs: Callable[[Runner], None]
) -> None:
    runs(lambda row: pytest.fail("it ran"))
    assert jobs.cancel(job, ada)
    assert not running.run(job.pk)
    assert not jobs.cancel(Job.objects.get(pk=job.pk), ada)


def test_a_killed_workers_job_is_rung_for_again_and_goes_on(
    job: Job, runs: Callable[[Runner], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    monkeypatch.setattr("annotate.jobs.ring", lambda task, *ids, queue: rung.extend(ids))
    runs(lambda row: f"went on at {row.result['at']}")
    long_ago = timezone.now() - timedelta(minutes=5)
    killed = {"state": "running", "started_at": long_ago, "heartbeat_at": long_ago, "result": {"at": 7}}
    Job.objects.filter(pk=job.pk).update(**killed)
    sweep()
    assert rung == [job.pk]
    assert running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.message) == ("done", "went on at 7")


def test_a_job_whose_worker_lives_is_left_to_it(job: Job, runs: Callable[[Runner], None]) -> None:
    runs(lambda row: pytest.fail("it ran twice"))
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(state="running", started_at=now, heartbeat_at=now)
    assert not running.run(job.pk)


def test_a_stalled_worker_that_wakes_up_finds_that_another_has_its_job(
    job: Job, runs: Callable[[Runner], None]
) -> None:
    def stall(row: Job) -> str:
        Job.objects.filter(pk=row.pk).update(started_at=timezone.now())  # claimed again meanwhile
        assert not running.report(row, 5)
        return "late"

    runs(stall)
    running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.message, job.done) == ("running", "", 0)


def test_a_job_that_kills_its_workers_is_given_up(job: Job, runs: Callable[[Runner], None]) -> None:
    runs(lambda row: pytest.fail("it ran a sixth time"))
    long_ago = timezone.now() - timedelta(minutes=5)
    Job.objects.filter(pk=job.pk).update(state="running", heartbeat_at=long_ago, attempts=5)
    assert not running.run(job.pk)
    job.refresh_from_db()
    assert job.state == "failed" and "5 times" in job.message


def test_a_process_runs_two_jobs_at_once_and_leaves_the_third_waiting(
    job: Job, runs: Callable[[Runner], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_room", threading.BoundedSemaphore(1))
    runs(lambda row: str(running.run(row.pk + 1)))
    running.run(job.pk)
    job.refresh_from_db()
    assert job.message == "False"
    assert running.run(job.pk + 1) is False  # there was no such job: room was given back all the same


def test_asking_twice_is_asking_once(project: Project, ada: User, job: Job) -> None:
    assert jobs.start(project, Job.Kind.GENERATE, {"n": 1}, ada) == job
    assert jobs.start(project, Job.Kind.GENERATE, {"n": 2}, ada) != job
    event = AuditEvent.objects.filter(project=project).last()
    assert event and (event.verb, event.subject, event.actor) == ("started", "generate", ada)


def test_a_project_cannot_fill_the_queue(project: Project, ada: User) -> None:
    for n in range(jobs.MOST_OPEN):
        jobs.start(project, Job.Kind.GENERATE, {"n": n}, ada)
    with pytest.raises(TouchstoneError, match="wait or run"):
        jobs.start(project, Job.Kind.GENERATE, {"n": -1}, ada)


# --- Files --------------------------------------------------------------------------------------------------


def test_a_file_is_a_download_whatever_is_in_it(job: Job, as_ada: Client) -> None:
    with_file(job, b"<script>alert(1)</script>", "page.html")
    answer: Any = as_ada.get(address("job_file", job, "page.html"))
    assert b"".join(answer.streaming_content) == b"<script>alert(1)</script>"
    assert answer["Content-Disposition"] == 'attachment; filename="tides-page.html"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("name", ["other.csv", "..%2f..%2fsecret_key", "table.csv%00"])
def test_only_names_on_the_jobs_list_are_served(name: str, job: Job, as_ada: Client) -> None:
    with_file(job)
    url = address("job_file", job, "table.csv").replace("table.csv", name)
    assert as_ada.get(url).status_code == 404


def test_a_file_written_again_replaces_the_first(job: Job) -> None:
    with_file(job, b"half")
    with_file(job, b"whole")
    (file,) = jobs.files_of(job)
    assert file["size"] == 5
    assert default_storage.open(file["path"]).read() == b"whole"


def test_a_failed_export_runs_again_as_it_was_asked_for(project: Project, ada: User, as_ada: Client) -> None:
    job = failed(jobs.start(project, Job.Kind.EXPORT, {"kind": "pool", "format": "jsonl"}, ada))
    assert "Run it again" in as_ada.get(address("job", job)).content.decode()
    as_ada.post(address("job_again", job))
    job.refresh_from_db()
    assert (job.state, job.message, job.attempts, job.finished_at) == ("waiting", "", 0, None)
    assert AuditEvent.objects.filter(verb="started", actor=ada, details__again=True).count() == 1
    assert running.run(job.pk)
    job.refresh_from_db()
    assert job.state == "done"
    assert len(jobs.files_of(job)) == 2


def test_only_a_failed_import_or_export_runs_again_and_only_for_an_admin(
    project: Project, job: Job, ada: User, as_ada: Client, rita: User
) -> None:
    export = jobs.start(project, Job.Kind.EXPORT, {"kind": "pool", "format": "jsonl"}, ada)
    assert "cannot be run again" in as_ada.post(address("job_again", export), follow=True).content.decode()
    assert not jobs.run_again(failed(job), ada)
    failed(export)
    as_rita = signed_in(rita)
    assert "Run it again" not in as_rita.get(address("job", export)).content.decode()
    assert as_rita.post(address("job_again", export)).status_code == 404
    assertRedirects(as_ada.get(address("job_again", export)), address("job", export))
    export.refresh_from_db()
    assert export.state == "failed"


def test_what_a_job_says_is_said_in_the_readers_language(project: Project, ada: User, as_ada: Client) -> None:
    result = dict.fromkeys(("judgments_added", "gold_added", "duplicates", "bad"), 0)
    result |= {"prompts_added": 1, "responses_added": 1200, "repeats": 2}
    job = jobs.start(project, Job.Kind.IMPORT, {"name": "a.jsonl"}, ada)
    job.state, job.message, job.result, job.finished_at = "done", "1 prompt", result, timezone.now()
    job.save()
    said = outcomes.message(job)
    assert said == (
        "1 prompt, 1,200 responses and 0 judgments added; "
        "2 responses that their prompts had already, kept once."
    )
    with translation.override("de"):
        german = outcomes.message(job)
        left_out = outcomes.exported(2, {"tie": 3, "even": 0})
    assert "1.200" in german or "1,200" in german
    assert german != said and left_out != outcomes.exported(2, {"tie": 3, "even": 0})
    as_ada.post(reverse("set_language"), {"language": "de"})
    assert escape(german) in as_ada.get(address("job", job)).content.decode()


def test_what_a_failed_job_says_stays_as_it_was_written(project: Project, ada: User) -> None:
    job = jobs.start(project, Job.Kind.IMPORT, {"name": "a.jsonl"}, ada)
    job.state, job.message, job.result = "failed", "The disk was full.", {"prompts_added": 1}
    assert outcomes.message(job) == "The disk was full."
    job.state, job.message = "waiting", outcomes.HANDED_BACK
    with translation.override("de"):
        assert outcomes.message(job) not in ("", outcomes.HANDED_BACK)


def failed(job: Job) -> Job:
    job.state, job.message, job.attempts, job.finished_at = "failed", "The disk was full.", 5, timezone.now()
    job.save()
    return job


def test_a_file_that_failed_half_way_is_not_kept(job: Job) -> None:
    with pytest.raises(ZeroDivisionError), jobs.new_file(job, "x.csv") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert jobs.files_of(job) == []
    assert not default_storage.exists(f"{jobs.folder_of(job)}/x.csv")


def test_files_go_after_their_time_and_the_page_says_so(job: Job, as_ada: Client) -> None:
    path = jobs.files_of(with_file(job))[0]["path"]
    assert jobs.prune() == 0
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=31))
    assert jobs.prune() == 1
    assert not default_storage.exists(path)
    assert as_ada.get(address("job_file", job, "table.csv")).status_code == 404
    assert "removed" in as_ada.get(address("job", job)).content.decode()
    assert jobs.prune() == 0


def test_a_deleted_project_leaves_no_file(job: Job, project: Project, ada: User) -> None:
    path = jobs.files_of(with_file(job))[0]["path"]
    projects.delete_project(project, ada, "tides")
    assert not default_storage.exists(path)


# --- Pages --------------------------------------------------------------------------------------------------


def test_the_page_of_a_job_follows_it_until_it_has_ended(job: Job, as_ada: Client) -> None:
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(state="running", done=500, total=2000, rate=100.0, heartbeat_at=now)
    page = as_ada.get(address("job", job)).content.decode()
    assert "500 of 2,000" in page and "100 a second" in page and "15 s left" in page
    assert f'hx-get="{address("job_progress", job)}"' in page
    with_file(job)
    fragment = as_ada.get(address("job_progress", job))
    assert fragment["Cache-Control"] == "no-store"
    text = fragment.content.decode()
    assert "hx-get" not in text and address("job_file", job, "table.csv") in text and "<html" not in text


def test_cancelling_asks_first(job: Job, as_ada: Client, ada: User) -> None:
    url = address("job_cancel", job)
    assert as_ada.get(url).status_code == 200
    assert Job.objects.get(pk=job.pk).state == "waiting"
    assert as_ada.post(url).status_code == 302
    assert Job.objects.get(pk=job.pk).state == "cancelled"
    assert AuditEvent.objects.filter(verb="cancelled", actor=ada).count() == 1
    assert "has ended already" in as_ada.post(url, follow=True).content.decode()


def test_embedding_is_not_cancelled(project: Project, as_ada: Client) -> None:
    row = Job.objects.create(project=project, kind=Job.Kind.EMBED, state=Job.State.RUNNING)
    as_ada.post(address("job_cancel", row))
    row.refresh_from_db()
    assert row.state == "running"


def test_the_list_has_pages(project: Project, as_ada: Client) -> None:
    assert "Nothing has run here yet" in as_ada.get(reverse("jobs", args=["tides"])).content.decode()
    for n in range(30):
        Job.objects.create(project=project, kind=Job.Kind.EXPORT, arguments={"n": n})
    first = as_ada.get(reverse("jobs", args=["tides"])).content.decode()
    assert first.count("<tr>") == 26 and "Older" in first
    assert as_ada.get(reverse("jobs", args=["tides"]) + "?page=2").content.decode().count("<tr>") == 6


def test_a_message_is_text(job: Job, as_ada: Client) -> None:
    Job.objects.filter(pk=job.pk).update(message="<script>alert(1)</script>", state="failed")
    assert "<script>alert" not in as_ada.get(address("job", job)).content.decode()


@pytest.mark.parametrize("who", ["eve", "ben", "dan"])
def test_to_strangers_and_annotators_jobs_do_not_exist(
    who: str, job: Job, eve: User, ben: User, dan: User
) -> None:
    with_file(job)
    client = signed_in({"eve": eve, "ben": ben, "dan": dan}[who])
    for name, more in [("job", ()), ("job_progress", ()), ("job_cancel", ()), ("job_file", ("table.csv",))]:
        assert client.get(address(name, job, *more)).status_code == 404
    assert client.post(address("job_cancel", job)).status_code == 404
    assert client.get(reverse("jobs", args=["tides"])).status_code == 404
    assert client.get(reverse("data", args=["tides"])).status_code == 404


def test_a_job_is_not_found_under_another_project(job: Job, eve: User) -> None:
    with_file(job)
    client = signed_in(eve)
    for name, more in [("job", ()), ("job_progress", ()), ("job_cancel", ()), ("job_file", ("table.csv",))]:
        assert client.get(reverse(name, args=["other", job.pk, *more])).status_code == 404


def test_a_reviewer_watches_and_takes_nothing_away(job: Job, rita: User) -> None:
    client = signed_in(rita)
    assert client.get(reverse("jobs", args=["tides"])).status_code == 200
    assert "Cancel the job" not in client.get(address("job", job)).content.decode()
    assert client.post(address("job_cancel", job)).status_code == 404
    with_file(job)
    assert "table.csv" not in client.get(address("job", job)).content.decode()
    assert client.get(address("job_file", job, "table.csv")).status_code == 404


def test_without_an_account_one_is_asked_to_sign_in(job: Job, client: Client) -> None:
    for name, more in [("job", ()), ("job_progress", ()), ("job_cancel", ()), ("job_file", ("table.csv",))]:
        assert client.get(address(name, job, *more))["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("language", ["de", "ar"])
def test_every_sentence_is_found_again_with_its_values_and_said_in_the_readers_language(
    language: str,
) -> None:
    names = ("n", "total", "judged", "start", "best", "rule", "rules", "seeds", "people")
    values = {name: f"{1_000 + at:,}" for at, name in enumerate(names)}
    with translation.override(language):
        for sentence in outcomes.SENTENCES:
            said = outcomes.says(sentence, **values)
            shown = outcomes.sentence_of(said)
            assert shown is not None and shown != said, sentence
            assert all(value in shown for value in values.values() if value in said), sentence
        assert outcomes.sentence_of("What nobody foresaw.") is None


def test_every_reason_to_skip_a_row_has_a_name() -> None:
    importing = Path(outcomes.__file__).parent / "importing"
    used = {code for file in importing.glob("*.py") for code in re.findall(r'code="(\w+)"', file.read_text())}
    assert used - {"file"} == set(outcomes.BAD_ROWS)  # a file that cannot be read is no row
