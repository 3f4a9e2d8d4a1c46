"""A file comes in by the browser: uploaded to the disk, looked at, imported by a job, its bad rows named."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings as django_settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse

from annotate import jobs
from annotate.importing import lines, readers
from annotate.importing.files import CHUNK_ROWS, Run
from annotate.models import (
    Arm,
    AuditEvent,
    Comparison,
    Job,
    Judgment,
    Membership,
    Project,
    Prompt,
    Response,
    Role,
    User,
)
from annotate.views import importing as views
from learner.tasks import jobs as running
from learner.tasks.sweeping import unembedded_projects
from tests.conftest import person, signed_in
from tests.test_importing import HOSTILE, PAIRS, POOL, as_bytes

pytestmark = pytest.mark.django_db
PAGE = reverse("import", args=["tides"])
XSS = "<script>alert(1)</script>"
previewing = importlib.import_module("annotate.importing.preview")  # the package has a function of this name
Send = Callable[..., Any]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every report is written, and no bell is rung."""
    monkeypatch.setattr(running, "BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr("annotate.importing.files.ring", lambda *what: None)


@pytest.fixture
def send(as_ada: Client, project: Project) -> Send:
    """Upload what a person would choose, and follow where it leads."""

    def send(content: Any, name: str = "file.jsonl", **how: Any) -> Any:
        return as_ada.post(PAGE, {"file": SimpleUploadedFile(name, as_bytes(content))}, follow=True, **how)

    return send


@pytest.fixture
def bring(send: Send, as_ada: Client) -> Callable[..., Job]:
    """Upload, start, and let a worker run the job."""

    def bring(content: Any, name: str = "file.jsonl", **mapping: str) -> Job:
        answer = send(content, name)
        (address, _status) = answer.redirect_chain[-1]
        as_ada.post(address, {"action": "start", "utility_scale": "raw", **mapping})
        job = Job.objects.latest("pk")
        assert running.run(job.pk)
        job.refresh_from_db()
        return job

    return bring


def named(job: Job) -> dict[int, str]:
    """The downloaded report: row number to the code of its reason."""
    (file,) = jobs.files_of(job)
    with default_storage.open(file["path"]) as stored:
        rows = list(csv.DictReader(io.TextIOWrapper(stored, encoding="utf-8", newline="")))
    assert all(row["reason"].endswith(".") for row in rows)
    return {int(row["row"]): row["code"] for row in rows}


def uploads() -> list[Path]:
    return [path for path in (django_settings.DATA / "files").rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def nothing_is_left_over() -> Iterator[None]:
    for path in uploads():
        path.unlink()
    yield


# --- The way through ----------------------------------------------------------------------------------------


def test_a_file_is_looked_at_before_anything_is_stored(send: Send, as_ada: Client) -> None:
    before = Prompt.objects.count()
    answer = send([POOL, PAIRS["arena"], {"prompt": "", "responses": ["x"]}])
    page = answer.content.decode()
    assert "The file has 3 rows" in page
    assert "prompts with responses" in page and "arena battles" in page
    assert "Why is the sky blue?" in page and "Scattering." in page
    assert "1 of these rows would be skipped" in page and "Row 3:" in page
    assert Prompt.objects.count() == before
    assert Job.objects.get().state == Job.State.DRAFT


def test_a_name_that_no_page_can_show_is_no_column_to_choose(send: Send) -> None:
    page = send([POOL | {"\ud800": 1, "a\0b": 2, "seen": 3}])
    assert page.status_code == 200
    assert 'value="seen"' in page.content.decode()


def test_one_is_said_as_one(send: Send) -> None:
    page = " ".join(send(PAIRS["explicit prompt"]).content.decode().split())
    assert "The file has 1 row: pairs with chosen and rejected (<strong>1</strong>)." in page
    assert "They bring 2 responses and 1 vote." in page


def test_a_header_without_rows_is_named_as_that(send: Send) -> None:
    page = send(b"prompt,response\n", "table.csv").content.decode()
    assert "The file has no rows." in page
    assert "None of the first rows" not in page


def test_a_started_import_is_a_job_that_brings_the_file_in_and_lets_it_go(
    bring: Callable[..., Job], project: Project, ada: User, as_ada: Client
) -> None:
    job = bring([POOL, {**PAIRS["pair"], "annotator": "w1"} if "pair" in PAIRS else POOL])
    assert (job.state, job.done, job.total) == ("done", 2, 2)
    assert Prompt.objects.filter(text=POOL["prompt"], project=project).exists()
    assert uploads() == []
    event = AuditEvent.objects.filter(verb="imported").get()
    assert (event.actor, event.subject, event.details["prompts"]) == (
        ada,
        "file.jsonl",
        job.result["prompts_added"],
    )
    page = as_ada.get(reverse("job", args=["tides", job.pk])).content.decode()
    assert "responses and" in page and "Import another file" in page
    assert "file.jsonl" in as_ada.get(PAGE).content.decode()


def test_pairs_become_imported_judgments_and_gold_pairs_wait(
    bring: Callable[..., Job], project: Project
) -> None:
    vote = {"prompt": "Q?", "chosen": "Yes.", "rejected": "No.", "annotator": "w1"}
    bring([vote, {**vote, "prompt": "Known?", "gold": True}])
    assert Judgment.objects.get(project=project).comparison.arm == Arm.IMPORTED
    assert Comparison.objects.get(arm=Arm.GOLD).gold_answer
    bring({"prompt": "Q?", "responses": ["Perhaps."]}, "more.jsonl")
    assert Prompt.objects.get(text="Q?").response_count == 3


def test_columns_are_named_on_the_page_and_looked_at_again(send: Send, as_ada: Client) -> None:
    table = "frage,antwort,guete\nWarum?,Darum.,0.9\nWarum?,So.,0.2\n"
    answer = send(table.encode(), "tabelle.csv")
    (address, _status) = answer.redirect_chain[-1]
    assert "None of the first rows can be used" in answer.content.decode()
    mapping = {
        "column_prompt": "frage",
        "column_response": "antwort",
        "utility_field": "guete",
        "utility_scale": "logit",
    }
    page = as_ada.post(address, {**mapping, "action": "look"}).content.decode()
    assert "prompts with one response a row" in page and "Darum." in page
    assert Job.objects.get().state == Job.State.DRAFT
    as_ada.post(address, {**mapping, "action": "start"})
    running.run(Job.objects.get().pk)
    assert Response.objects.get(text="Darum.").utility == pytest.approx(2.197, abs=1e-3)


@pytest.mark.parametrize(
    "mapping",
    [{"column_prompt": "nowhere"}, {"utility_scale": "pickle"}, {"utility_field": "x" * 300}],
)
def test_a_mapping_that_cannot_be_is_refused_at_its_field(
    mapping: dict[str, str], send: Send, as_ada: Client
) -> None:
    (address, _status) = send(POOL).redirect_chain[-1]
    answer = as_ada.post(address, {"utility_scale": "raw", **mapping, "action": "start"})
    assert answer.status_code == 200 and next(iter(mapping)) in answer.context["form"].errors
    assert Job.objects.get().state == Job.State.DRAFT


def test_what_else_is_sent_is_assigned_to_nothing(send: Send, as_ada: Client) -> None:
    (address, _status) = send(POOL).redirect_chain[-1]
    more = {"upload": "/etc/passwd", "project": "9", "kind": "export", "columns": "x", "arguments": "{}"}
    as_ada.post(address, {"utility_scale": "raw", "action": "start", **more})
    job = Job.objects.get()
    assert job.kind == Job.Kind.IMPORT and set(job.arguments) == {
        "name",
        "upload",
        "utility_field",
        "utility_scale",
        "columns",
    }
    assert job.arguments["upload"]["path"].startswith(f"projects/{job.project_id}/jobs/{job.pk}/")


def test_starting_twice_starts_once(send: Send, as_ada: Client) -> None:
    (address, _status) = send(POOL).redirect_chain[-1]
    for _ in range(2):
        answer = as_ada.post(address, {"utility_scale": "raw", "action": "start"})
        assert answer["Location"] == reverse("job", args=["tides", Job.objects.get().pk])
    assert AuditEvent.objects.filter(verb="started").count() == 1


def test_a_discarded_upload_leaves_the_disk(send: Send, as_ada: Client) -> None:
    send(POOL)
    assert len(uploads()) == 1
    as_ada.post(reverse("job_cancel", args=["tides", Job.objects.get().pk]))
    assert uploads() == []


def test_a_cancelled_import_keeps_what_it_stored_and_says_so(
    send: Send, as_ada: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"Q {i}", "responses": ["a", "b"] if i % 2 else []} for i in range(1600)]
    (address, _status) = send(rows).redirect_chain[-1]
    as_ada.post(address, {"utility_scale": "raw", "action": "start"})
    job = Job.objects.get()
    report = running.report
    monkeypatch.setattr(
        "learner.tasks.importing.report",
        lambda row, *what: (row.done or jobs.cancel(Job.objects.get(pk=row.pk), ada)) and report(row, *what),
    )
    running.run(job.pk)
    job.refresh_from_db()
    at_once = CHUNK_ROWS[connection.vendor]
    assert (job.state, job.result["read"]) == ("cancelled", at_once)
    assert Prompt.objects.filter(text__startswith="Q ").count() == len(named(job)) == at_once // 2
    assert f"{at_once // 2} prompts" in job.message


def test_a_killed_import_goes_on_after_its_last_chunk_and_names_every_bad_row_once(
    send: Send, as_ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"Q {i}", "responses": ["a"] if i % 100 else []} for i in range(1600)]
    (address, _status) = send(rows).redirect_chain[-1]
    as_ada.post(address, {"utility_scale": "raw", "action": "start"})
    job = Job.objects.get()
    report = running.report

    def killed(row: Job, *what: Any) -> bool:
        assert report(row, *what)
        if row.done == 1000:
            raise SystemExit
        return True

    monkeypatch.setattr("learner.tasks.importing.report", killed)
    with pytest.raises(SystemExit):
        running.run(job.pk)
    monkeypatch.setattr("learner.tasks.importing.report", report)
    Job.objects.update(heartbeat_at="2020-01-01T00:00:00Z")
    assert running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempts, job.result["read"]) == ("done", 2, 1600)
    assert (job.result["prompts_added"], job.result["duplicates"]) == (1584, 0)
    assert list(named(job)) == list(range(1, 1600, 100))


def test_first_features_wait_for_the_end_of_an_import(project: Project) -> None:
    assert unembedded_projects() == [project.pk]
    job = Job.objects.create(project=project, kind=Job.Kind.IMPORT, state=Job.State.RUNNING)
    assert unembedded_projects() == []
    Job.objects.filter(pk=job.pk).update(state=Job.State.DONE)
    assert unembedded_projects() == [project.pk]


# --- Who may ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["eve", "ben", "rita", "dan"])
def test_to_everyone_but_its_admins_the_import_does_not_exist(
    who: str, project: Project, send: Send, ben: User, dan: User
) -> None:
    eve, rita = person("eve"), person("rita")
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=eve, role=Role.ADMIN)
    Membership.objects.create(project=project, user=rita, role=Role.REVIEWER)
    send(POOL)
    job = Job.objects.get()
    client = signed_in({"eve": eve, "ben": ben, "rita": rita, "dan": dan}[who])
    address = reverse("import_check", args=["tides", job.pk])
    for url in (PAGE, address):
        assert client.get(url).status_code == 404
        assert client.post(url, {"action": "start"}).status_code == 404
    assert client.get(reverse("import_check", args=["other", job.pk])).status_code == 404
    assert Job.objects.get().state == Job.State.DRAFT


class Unread(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readline = read


@pytest.mark.parametrize("who", [None, "ben"])
def test_not_a_byte_of_a_strangers_body_is_read(who: str | None, project: Project, ben: User) -> None:
    client = signed_in(ben) if who else Client()
    more = {
        "wsgi.input": Unread(),
        "CONTENT_LENGTH": "5000",
        "CONTENT_TYPE": "multipart/form-data; boundary=x",
    }
    assert client.generic("POST", PAGE, **more).status_code in (302, 404)


def test_without_the_token_nothing_is_kept(project: Project, ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert client.post(PAGE, {"file": SimpleUploadedFile("a.jsonl", b"{}")}).status_code == 403
    assert uploads() == [] and not Job.objects.exists()


# --- Attacks ------------------------------------------------------------------------------------------------


def test_a_thousand_bad_rows_of_every_kind_are_named_and_nothing_else_is_lost(
    bring: Callable[..., Job], as_ada: Client
) -> None:
    small = [(row, code) for row, code in HOSTILE.values() if len(row) < 10_000]
    hostile = [*HOSTILE.values(), *(small[i % len(small)] for i in range(1000 - len(HOSTILE)))]
    content, wanted = [], {}
    for i, (bad, code) in enumerate(hostile):
        content += [json.dumps({"prompt": f"Good {i}", "responses": ["a", "b"]}).encode(), bad]
        wanted[2 * i + 2] = code
    job = bring(b"\n".join(content) + b"\n")
    assert named(job) == wanted and len(wanted) == 1000
    assert (job.result["bad"], job.result["prompts_added"]) == (1000, 1000)
    assert Prompt.objects.filter(text__startswith="Good ").count() == 1000
    url = reverse("job_file", args=["tides", job.pk, "bad-rows.csv"])
    assert as_ada.get(url)["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("slip.zip", b"PK\x03\x04", "zip archive"),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl.gz", b"\x1f\x8bno", "cannot be read"),
        ("a.zst", b"\x28\xb5\x2f\xfd00", "zstandard"),
        ("a.txt", "{}".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_file_of_data_is_refused_before_it_is_kept(
    name: str, content: bytes, words: str, send: Send
) -> None:
    answer = send(content, name)
    assert words in answer.content.decode() and answer.redirect_chain == []
    assert uploads() == [] and not Job.objects.exists()


def test_an_archive_with_paths_and_links_is_not_unpacked(send: Send, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.jsonl", json.dumps(POOL))
        archive.writestr("/absolute.jsonl", json.dumps(POOL))
    assert "zip archive" in send(packed.getvalue(), "a.jsonl").content.decode()
    assert uploads() == []


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd.jsonl", "..\\..\\x.jsonl", "/abs/x.jsonl", "a\x00b.jsonl", "con.jsonl", f"{XSS}.jsonl",
     "x" * 400 + ".jsonl", "プロンプト.jsonl", "-rf *.jsonl", "a;b|c.jsonl"],
)  # fmt: skip
def test_a_file_name_leads_nowhere_but_to_the_jobs_folder(name: str, send: Send) -> None:
    answer = send(POOL, name)
    assert XSS not in answer.content.decode()
    for path in uploads():
        job = Job.objects.get()
        assert path.parent == django_settings.DATA / "files" / "projects" / str(
            job.project_id
        ) / "jobs" / str(job.pk)
        assert len(path.name) <= 90


def test_a_file_whose_name_is_a_folder_is_no_file(as_ada: Client, project: Project) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename=".."\r\n\r\n'
    body = head + as_bytes(POOL) + b"\r\n--x--\r\n"
    answer = as_ada.generic("POST", PAGE, body, content_type="multipart/form-data; boundary=x")
    assert "This field is required" in answer.content.decode() and uploads() == []


def test_texts_of_a_file_are_shown_as_text(send: Send, bring: Callable[..., Job], as_ada: Client) -> None:
    row = {"prompt": XSS, "responses": [{"text": XSS, "source": XSS}, "b"], "id": XSS}
    assert XSS not in send([row, {XSS: 1}]).content.decode()
    job = bring(
        [row, {XSS: 1}, {"prompt": "x", "response_a": "p", "response_b": "q", "winner": XSS}], f"{XSS}.jsonl"
    )
    for name, args in [("job", [job.pk]), ("import", []), ("audit", [])]:
        assert XSS not in as_ada.get(reverse(name, args=["tides", *args])).content.decode()


def test_a_reason_that_a_spreadsheet_would_run_is_only_text(bring: Callable[..., Job]) -> None:
    job = bring([{"prompt": "x", "response_a": "p", "response_b": "q", "winner": "=1+1"}, POOL])
    (file,) = jobs.files_of(job)
    cells = csv.reader(io.StringIO(default_storage.open(file["path"]).read().decode()))
    assert not any(value[:1] in ("=", "+", "-", "@") for line in cells for value in line)


def test_bombs_end_with_a_sentence_on_the_page_and_in_the_job(
    bring: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LARGEST_UNPACKED", 8 << 20)
    job = bring(gzip.compress(as_bytes(POOL) + b" " * (64 << 20)), "bomb.jsonl.gz")
    assert named(job) == {2: "bomb"} and job.state == "done"


def test_a_long_line_is_passed_over(bring: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_ROW", 1 << 16)
    long = b'{"prompt": "' + b"x" * (1 << 20) + b'", "responses": ["y"]}'
    assert named(bring(as_bytes([POOL, long, {**POOL, "prompt": "Later"}]))) == {2: "long"}


def test_a_parquet_bomb_is_not_unpacked_beside_the_pages(
    send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [{"prompt": f"Q {i}", "response": "x" * 100_000} for i in range(20)]
    pq.write_table(
        pa.Table.from_pylist(long), tmp_path / "x.parquet", compression="zstd", use_dictionary=False
    )
    monkeypatch.setattr(previewing, "LARGEST_CHUNK", 1 << 20)
    monkeypatch.setattr(readers, "parquet_rows", lambda source: pytest.fail("it was read"))
    page = send((tmp_path / "x.parquet").read_bytes(), "x.parquet").content.decode()
    assert "too large to look at here" in page


def test_a_look_takes_no_longer_than_a_page_may(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previewing, "SECONDS", 0.0)
    assert "Of the first 1 row" in send([POOL] * 50).content.decode()
    monkeypatch.setattr(previewing, "SECONDS", 60.0)
    monkeypatch.setattr(previewing, "BYTES", 300)
    assert "Of the first 3 rows" in send([POOL] * 50).content.decode()


def test_what_is_too_large_is_refused_before_it_is_read(
    as_ada: Client, project: Project, settings: Any
) -> None:
    settings.UPLOAD_LIMIT = 1000
    more = {
        "wsgi.input": Unread(),
        "CONTENT_LENGTH": str(3 << 20),
        "CONTENT_TYPE": "multipart/form-data; boundary=x",
    }
    assert "larger than" in as_ada.generic("POST", PAGE, **more).content.decode()
    big = SimpleUploadedFile("a.jsonl", b"x" * 2000)
    assert "larger than" in as_ada.post(PAGE, {"file": big}).content.decode()
    assert uploads() == []


def test_a_full_disk_is_left_alone(as_ada: Client, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "RESERVE", 1 << 62)
    answer = as_ada.post(PAGE, {"file": SimpleUploadedFile("a.jsonl", b"{}")})
    assert "not enough room" in answer.content.decode() and uploads() == []


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=" + "x" * 5000,
        "multipart/form-data; boundary=\u00e9",
    ],
)
def test_a_boundary_that_is_none_is_a_bad_request(kind: str, as_ada: Client, project: Project) -> None:
    assert as_ada.generic("POST", PAGE, b"--x\r\n\r\n--x--", content_type=kind).status_code in (400, 200)
    assert uploads() == []


def test_a_form_without_a_file_says_what_is_missing(as_ada: Client, project: Project) -> None:
    assert "This field is required" in as_ada.post(PAGE, {"file": ""}).content.decode()


def test_uploads_that_nobody_starts_are_bounded_and_go_after_a_day(send: Send, ada: User) -> None:
    for _ in range(jobs.MOST_DRAFTS):
        send(POOL)
    assert "Too many uploads" in send(POOL).content.decode()
    assert len(uploads()) == jobs.MOST_DRAFTS
    Job.objects.update(created_at="2020-01-01T00:00:00Z")
    jobs.prune()
    Job.objects.update(finished_at="2020-01-02T00:00:00Z")
    jobs.prune()
    assert uploads() == [] and set(Job.objects.values_list("state", flat=True)) == {"cancelled"}


def test_a_script_is_led_on_by_a_header(send: Send, as_ada: Client, project: Project) -> None:
    answer = as_ada.post(
        PAGE, {"file": SimpleUploadedFile("a.jsonl", as_bytes(POOL))}, headers={"HX-Request": "true"}
    )
    assert answer["HX-Redirect"] == reverse("import_check", args=["tides", Job.objects.get().pk])


def test_an_import_that_failed_is_run_again_to_its_end(
    send: Send, as_ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = CHUNK_ROWS[connection.vendor]
    rows = [{"prompt": f"Q {i}", "responses": ["a", "b"]} for i in range(2 * at_once)]
    rows[1] = {"prompt": "", "responses": ["x"]}
    as_ada.post(send(rows).redirect_chain[-1][0], {"action": "start", "utility_scale": "raw"})
    job = Job.objects.latest("pk")
    store, seen = Run.store, []

    def breaking(run: Run, portion: list[Any]) -> None:
        seen.append(len(portion))
        if len(seen) == 2:
            raise OSError("the disk is away")
        store(run, portion)

    monkeypatch.setattr(Run, "store", breaking)
    with pytest.raises(OSError, match="the disk is away"):
        running.run(job.pk)
    answer = as_ada.get(reverse("job", args=["tides", job.pk]))
    assert "the disk is away" in answer.content.decode()
    assert Prompt.objects.filter(text__startswith="Q ").count() == at_once - 1
    as_ada.post(reverse("job_again", args=["tides", job.pk]))
    assert running.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.result["bad"], named(job)) == ("done", 1, {2: "empty"})
    assert Prompt.objects.filter(text__startswith="Q ").count() == len(rows) - 1
    page = as_ada.get(reverse("job", args=["tides", job.pk])).content.decode()
    assert "something is empty: 1" in page
    assert not as_ada.post(reverse("job_again", args=["tides", job.pk]), follow=True).context["may_run_again"]
