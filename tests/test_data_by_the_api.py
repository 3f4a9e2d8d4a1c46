"""Prompts, responses, exports, jobs and what was learned, by the API."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from annotate.api import repeating
from annotate.models import AuditEvent, Job, KeptAnswer, Project, Prompt, Response, Token, User
from tests.learn import embed_and_absorb, run_all
from tests.programs import Program

pytestmark = pytest.mark.django_db
POOL = {
    "prompts": [
        {"prompt": "Why is the sea salt?", "responses": ["Rivers.", {"text": "Rocks.", "source": "b"}]}
    ]
}


def test_prompts_are_added_once_and_again_change_nothing(project: Project, ada: User) -> None:
    program = Program(ada)
    first, second = (program.post("/projects/tides/prompts", POOL).json() for _ in range(2))
    assert (first["prompts_added"], first["responses_added"], first["duplicates"]) == (1, 2, 0)
    assert (second["prompts_added"], second["responses_added"], second["duplicates"]) == (0, 0, 1)
    assert AuditEvent.objects.filter(project=project, verb="imported", actor=ada).count() == 2


def test_conversations_tags_and_ids_come_along(project: Project, ada: User) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why is the sea salt?"},
    ]
    sent = {"prompts": [{"prompt": messages, "responses": ["a", "b"], "id": "p-1", "tags": ["sea"]}]}
    program = Program(ada)
    assert program.post("/projects/tides/prompts", sent).status_code == 200
    [found] = program.get("/projects/tides/prompts", external_id="p-1").json()["items"]
    assert (found["messages"], found["tags"]) == (messages, ["sea"])
    responses = program.get("/projects/tides/responses", prompt=found["id"]).json()["items"]
    assert [one["text"] for one in responses] == ["a", "b"]


BAD: list[tuple[Any, str]] = [
    ({"prompts": [{"prompt": "p", "responses": ["a"], "project": 1}]}, "body.sent.prompts.0.project"),
    ({"prompts": [{"prompt": "p", "responses": []}]}, "responses"),
    ({"prompts": [{"prompt": "p\0", "responses": ["a"]}]}, "NUL"),
    ({"prompts": [{"prompt": "p", "responses": ["  "]}]}, "empty"),
    ({"prompts": []}, "prompts"),
    ({"prompts": [{"prompt": "p", "responses": ["a"], "is_evaluation": True}]}, "is_evaluation"),
    ({"prompts": [{"prompt": 1, "responses": ["a"]}]}, "prompt"),
    ([], "sent"),
]


@pytest.mark.parametrize(("body", "named"), BAD)
def test_a_bad_body_is_refused_whole_and_its_fault_named(
    project: Project, ada: User, body: Any, named: str
) -> None:
    answer = Program(ada).post("/projects/tides/prompts", body)
    assert answer.status_code == 422
    assert named in json.dumps(answer.json())
    assert Prompt.objects.filter(project=project).count() == 12


RAW = [
    b'{"prompts": [{"prompt": "p\\ud800", "responses": ["a"]}]}', b"{", b'{"prompts": NaN}', b'{"a": 1, "a": 2}',
    b"[" * 100_000, b"\xff\xfe", b'{"prompts": [{"prompt": "p", "responses": ["a"], "id": "\\ud800"}]}', b"", b"null",
    b'{"prompts": [{"\\ud800": "p"}]}', b'{"prompts": [{"prompt": "p", "responses": ["a"], "tags": ["\\u0000"]}]}',
    b'{"prompts": [{"prompt": [{"role": "root", "content": "x"}], "responses": ["a"]}]}', b"1" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("raw", RAW)
def test_no_bytes_make_it_fail(project: Project, ada: User, raw: bytes) -> None:
    program = Program(ada)
    answer = program.client.post("/api/v1/projects/tides/prompts", raw, content_type="application/json")
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused_with_413(project: Project, ada: User) -> None:
    text = json.dumps({"prompts": [{"prompt": "x" * 3_000_000, "responses": ["a"]}]})
    answer = Program(ada).client.post("/api/v1/projects/tides/prompts", text, content_type="application/json")
    assert answer.status_code == 413


def test_a_repeated_request_with_its_key_gets_the_first_answer(project: Project, ada: User) -> None:
    program = Program(ada)
    first = program.post("/projects/tides/prompts", POOL, Idempotency_Key="one")
    again = program.post("/projects/tides/prompts", POOL, Idempotency_Key="one")
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = {"prompts": [{"prompt": "Another?", "responses": ["a"]}]}
    assert program.post("/projects/tides/prompts", other, Idempotency_Key="one").status_code == 422
    assert Program(ada).post("/projects/tides/prompts", other, Idempotency_Key="one").status_code == 200
    KeptAnswer.objects.update(status=None)
    assert program.post("/projects/tides/prompts", POOL, Idempotency_Key="one").status_code == 409


@pytest.mark.parametrize("media", ["application/jsonl", "application/json"])
@pytest.mark.parametrize("route", ["files", "imports"])
def test_another_file_with_the_same_key_is_refused_not_passed_over(
    project: Project, ada: User, route: str, media: str
) -> None:
    client = Program(ada).client
    first, other = (json.dumps({"prompt": f"{n}?", "responses": ["a", "b"]}).encode() for n in "12")
    sent = [
        client.post(
            f"/api/v1/projects/tides/{route}", body, content_type=media, headers={"Idempotency-Key": "k"}
        )
        for body in (first, other, first)
    ]
    assert len(first) == len(other)
    assert [answer.status_code for answer in sent] == [sent[0].status_code, 422, sent[0].status_code]
    assert sent[0].status_code in (200, 202)
    assert sent[2].headers["Idempotency-Replayed"] == "true"


def test_a_file_is_as_large_as_files_may_be_also_with_a_key_and_called_json(
    project: Project, ada: User, settings: Any
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 50
    body = json.dumps({"prompt": "Why?", "responses": ["a" * 100, "b"]})
    for _ in range(2):
        answer = Program(ada).client.post(
            "/api/v1/projects/tides/files", body, content_type="application/json",
            headers={"Idempotency-Key": "k"},
        )  # fmt: skip
        assert answer.status_code == 200, answer.content


def test_while_a_file_is_taken_its_key_waits(project: Project, ada: User) -> None:
    program, path = Program(ada), "/api/v1/projects/tides/files"
    token = Token.objects.get(user=ada)
    KeptAnswer.objects.create(token=token, key="k", fingerprint=repeating.STREAMS)
    body = json.dumps({"prompt": "Why?", "responses": ["a", "b"]})
    answer = program.client.post(
        path, body, content_type="application/jsonl", headers={"Idempotency-Key": "k"}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "running")


def test_a_failed_request_may_be_sent_again_with_its_key(project: Project, ada: User) -> None:
    program = Program(ada)
    program.post("/projects/nowhere/prompts", POOL, Idempotency_Key="k")
    assert not KeptAnswer.objects.exists()
    assert program.post("/projects/tides/prompts", POOL, Idempotency_Key="k" * 201).status_code == 422


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_streams_in_and_its_bad_rows_are_named(project: Project, ada: User, packed: bool) -> None:
    rows = [json.dumps({"prompt": f"Question {i}?", "responses": ["a", "b"]}) for i in range(50)]
    rows[7] = '{"prompt": "no responses"}'
    body = "\n".join(rows).encode()
    answer = Program(ada).client.post(
        "/api/v1/projects/tides/files",
        gzip.compress(body) if packed else body,
        content_type="application/jsonl",
    )
    found = answer.json()
    assert (found["prompts_added"], found["bad"], found["errors"][0]["where"]) == (49, 1, "row 8")


def test_a_large_file_is_imported_by_a_job(project: Project, ada: User) -> None:
    program = Program(ada)
    body = b"prompt,chosen,rejected\nWhy?,Because,No\nHow?,,No\n"
    path = "/api/v1/projects/tides/imports?name=pairs.csv"
    sent = {"Idempotency-Key": "k"}
    answers = [program.client.post(path, body, content_type="text/csv", headers=sent) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert Prompt.objects.filter(text="Why?").count() == 0
    run_all(project)
    job = program.get(f"/projects/tides/jobs/{answers[0].json()['id']}").json()
    assert (job["state"], job["imported"]["judgments_added"], job["imported"]["bad"]) == ("done", 1, 1)
    assert [file["name"] for file in job["files"]] == ["bad-rows.csv"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [("/", "sent"), ("..", "sent"), ("a/../..", "sent"), ("C:\\\\x\\\\p.jsonl", "p.jsonl"),
     ("../../etc/p.jsonl", "p.jsonl"), ("", "sent"), (".jsonl", ".jsonl"),
     ("p" * 200, "p" * 200), ("%", "%"), ("p.jsonl ", "p.jsonl ")],
)  # fmt: skip
def test_a_files_name_is_no_path(project: Project, ada: User, name: str, kept: str) -> None:
    program = Program(ada)
    path = f"/api/v1/projects/tides/imports?{urlencode({'name': name})}"
    body = b'{"prompt": "Why?", "responses": ["a", "b"]}\n'
    answer = program.client.post(path, body, content_type="application/jsonl")
    assert answer.status_code == 202, answer.content
    job = Job.objects.get(pk=answer.json()["id"])
    assert job.arguments["name"] == kept
    assert job.arguments["upload"]["path"].startswith(f"projects/{project.pk}/jobs/{job.pk}/")
    run_all(project)
    assert Prompt.objects.filter(text="Why?").count() == 1


def test_what_is_no_file_of_data_starts_no_job(project: Project, ada: User, settings: Any) -> None:
    client = Program(ada).client
    settings.API_LARGEST_FILE = 100
    for body, status in ((b"", 422), (b"x" * 101, 413), (b"BZh....", 422)):
        answer = client.post("/api/v1/projects/tides/imports", body, content_type="application/jsonl")
        assert answer.status_code == status, body
    assert not Job.objects.filter(kind=Job.Kind.IMPORT).exists()


ODD = [b"\x89PNG\r\n\x1a\n\x00\x00", b'"\\ud800"', b"a,b\n\x00,\xff\n", b"PAR1", b"\x1f\x8b"]


@pytest.mark.parametrize("body", ODD)
def test_no_file_makes_it_fail_and_its_answer_can_be_kept(project: Project, ada: User, body: bytes) -> None:
    answer = Program(ada).client.post(
        "/api/v1/projects/tides/files",
        body,
        content_type="application/jsonl",
        headers={"Idempotency-Key": "k"},
    )
    assert answer.status_code in (200, 422)


def test_a_file_that_is_nothing_or_too_large_is_refused(project: Project, ada: User, settings: Any) -> None:
    settings.API_LARGEST_FILE = 100
    client = Program(ada).client
    for body, status in ((b"", 422), (b"x" * 101, 413), (b" \n", 422), (b"BZh....", 422)):
        answer = client.post("/api/v1/projects/tides/files", body, content_type="application/jsonl")
        assert answer.status_code == status, body


def test_only_admins_write_and_only_reviewers_read_the_pool(project: Project, ben: User) -> None:
    program = Program(ben)
    assert program.post("/projects/tides/prompts", POOL).status_code == 403
    assert program.post("/projects/tides/files").status_code == 403
    for path in (
        "prompts",
        "responses",
        "jobs",
        "estimator",
        "label-efficiency",
        "sources",
        "exports/trl.jsonl",
    ):
        assert program.get(f"/projects/tides/{path}").status_code == 403, path


READS = ("", "/prompts", "/responses", "/jobs", "/jobs/1", "/estimator", "/label-efficiency", "/sources",
         "/exports/pool.jsonl", "/jobs/1/files/x.jsonl")  # fmt: skip
WRITES = ("/prompts", "/files", "/imports", "/next", "/undo", "/renew", "/exports", "/jobs/1/cancel")


def test_a_stranger_finds_no_project_at_any_address(project: Project, dan: User) -> None:
    program = Program(dan)
    assert {program.get(f"/projects/tides{path}").status_code for path in READS} == {404}
    bodies = {"/prompts": POOL, "/next": {}, "/exports": {}}
    assert {program.post(f"/projects/tides{path}", bodies.get(path)).status_code for path in WRITES} == {404}


def test_a_job_of_another_project_is_not_there(project: Project, ada: User) -> None:
    other = Project.objects.create(name="Other", slug="other")
    job = Job.objects.create(project=other, kind="export")
    program = Program(ada)
    for path in (f"/jobs/{job.pk}", f"/jobs/{job.pk}/files/x"):
        assert program.get(f"/projects/tides{path}").status_code == 404
    assert program.post(f"/projects/tides/jobs/{job.pk}/cancel").status_code == 404
    assert program.get(f"/projects/tides/jobs/{2**70}").status_code == 404


def test_a_job_is_seen_and_cancelled(project: Project, ada: User) -> None:
    job = Job.objects.create(project=project, kind="export")
    program = Program(ada)
    assert program.get(f"/projects/tides/jobs/{job.pk}").json()["state"] == "waiting"
    assert program.post(f"/projects/tides/jobs/{job.pk}/cancel").json()["state"] == "cancelled"
    assert program.get("/projects/tides/jobs", state="cancelled").json()["items"][0]["id"] == job.pk


def test_an_export_streams_and_is_not_sent_again_while_nothing_changed(project: Project, ada: User) -> None:
    program = Program(ada)
    answer = program.get("/projects/tides/exports/pool.jsonl")
    assert len(b"".join(answer.streaming_content).splitlines()) == 12
    again = program.client.get(
        "/api/v1/projects/tides/exports/pool.jsonl", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304
    program.post("/projects/tides/prompts", POOL)
    assert program.get("/projects/tides/exports/pool.jsonl").headers["ETag"] != answer.headers["ETag"]


def test_an_export_takes_known_filters_only(project: Project, ada: User) -> None:
    program = Program(ada)
    assert program.get("/projects/tides/exports/trl.jsonl", arm="control", split="test").status_code == 200
    for query in ({"arm": "nothing"}, {"min_votes": "0"}, {"project": "1"}, {"min_agreement": "nan"}):
        assert program.get("/projects/tides/exports/trl.jsonl", **query).status_code == 422, query
    for name in ("trl.exe", "password.jsonl", "pool.parquet?gzip=true"):
        assert program.get(f"/projects/tides/exports/{name}").status_code in (404, 422), name


def test_an_export_job_is_started_once_however_often_it_is_asked_for(project: Project, ada: User) -> None:
    program = Program(ada)
    jobs = [program.post("/projects/tides/exports", {"kind": "votes"}).json()["id"] for _ in range(2)]
    assert jobs[0] == jobs[1]
    assert Job.objects.get().created_by == ada


def test_what_was_learned_has_step_lambda_digest_and_a_tag(project: Project, ada: User, ben: User) -> None:
    embed_and_absorb(project)
    annotator = Program(ben)
    for _ in range(6):
        [lease] = annotator.post("/projects/tides/next", {}).json()["leases"]
        annotator.post(f"/projects/tides/leases/{lease['id']}/judgment", {"answer": "left"})
    embed_and_absorb(project)
    answer = Program(ada).get("/projects/tides/estimator")
    found = {one["role"]: one for one in answer.json()["estimators"]}
    assert found["production"]["step"] == 6
    assert len(found["production"]["digest"]) == 64
    assert found["production"]["regularization"] > 0
    again = Program(ada).client.get(
        "/api/v1/projects/tides/estimator", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304
    efficiency = Program(ada).get("/projects/tides/label-efficiency").json()
    assert set(efficiency["curves"]) == {"active", "control", "production"}
    assert Program(ada).get("/projects/tides/sources").status_code == 200


def test_the_text_of_a_response_comes_back_as_it_was(project: Project, ada: User) -> None:
    text = "<script>alert(1)</script> \u202e ‮ 🌊 \r\n"
    Program(ada).post("/projects/tides/prompts", {"prompts": [{"prompt": "Tags?", "responses": [text, "b"]}]})
    assert Response.objects.filter(text=text).exists()
    answer = Program(ada).get("/projects/tides/responses", limit=200)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert text in [one["text"] for one in answer.json()["items"]]
