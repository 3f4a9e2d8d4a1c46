"""The Python client: it sends again what may be sent again, says what went wrong, and its example runs."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_django.live_server_helper import LiveServer
from touchstone_client import (
    Added,
    ApiError,
    AsyncClient,
    Client,
    Failed,
    Retries,
    RewardFunction,
    Unreachable,
    best_of_n,
)

from annotate.models import Job, Judgment, Project, User
from tests.conftest import fill
from tests.programs import token_of
from tests.serving_worker import scoring_worker as scoring_worker

CLIENT = Path(__file__).resolve().parent.parent / "clients" / "python"
Handler = Callable[[httpx.Request], httpx.Response]
PROJECT = {
    "slug": "tides", "name": "Tides", "question": "?", "guidelines": "", "guidelines_version": 1, "allow_tie": True,
    "allow_both_bad": True, "ask_strength": False, "criteria": [], "budget": None, "prompt_count": 0,
    "response_count": 0, "a_field_of_a_newer_server": 1,
}  # fmt: skip


def client_of(handler: Handler, attempts: int = 4) -> Client:
    return Client(
        "http://x", "t", retries=Retries(attempts, first=0.001), transport=httpx.MockTransport(handler)
    )


def answering(*answers: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    left, seen = list(answers), []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler, seen


def test_what_failed_for_a_moment_is_sent_again_with_the_same_key() -> None:
    handler, seen = answering(
        httpx.Response(503), httpx.ConnectError("no"), httpx.Response(429),
        httpx.Response(200, json={"leases": [], "nothing": "x"}),
    )  # fmt: skip
    assert client_of(handler).next("tides").nothing == "x"
    keys = {request.headers["Idempotency-Key"] for request in seen}
    assert (len(seen), len(keys)) == (4, 1)
    assert seen[0].headers["Authorization"] == "Bearer t"


def test_it_waits_as_long_as_the_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    handler, _seen = answering(
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503),
        httpx.Response(200, json=PROJECT),
    )
    client_of(handler).project("tides")
    assert slept[0] == 7
    assert slept[1] < 1


def test_pauses_grow_and_are_bounded() -> None:
    retries = Retries(first=1.0, longest=8.0)
    waits = [retries.wait(attempt, None) for attempt in range(10)]
    assert waits[0] < 1.3
    assert waits[1] < waits[3]
    assert max(waits) <= 10


def test_what_the_server_refuses_is_said_and_not_sent_again() -> None:
    problem = {"code": "invalid", "detail": "body.x: no", "errors": [{"where": "body.x", "what": "no"}]}
    handler, seen = answering(httpx.Response(422, json=problem))
    with pytest.raises(ApiError) as error:
        client_of(handler).project("tides")
    assert (error.value.status, error.value.code, error.value.errors[0]["where"]) == (
        422,
        "invalid",
        "body.x",
    )
    assert len(seen) == 1


@pytest.mark.parametrize("status", [404, 409, 503])
def test_a_refused_download_says_why_and_leaves_no_file(tmp_path: Path, status: int) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        problem = b'{"code": "gone", "detail": "There is no such project."}'
        return httpx.Response(status, stream=httpx.ByteStream(problem))

    async def by_async() -> None:
        options: dict[str, Any] = {"retries": Retries(2, first=0.001), "transport": transport}
        async with AsyncClient("http://x", "t", **options) as client:
            await client.download("tides", tmp_path / "file")

    transport = httpx.MockTransport(handler)
    with ThreadPoolExecutor(1) as thread:  # a browser's event loop may run in this one
        for download in (
            lambda: client_of(handler, 2).download("tides", tmp_path / "file"),
            lambda: thread.submit(asyncio.run, by_async()).result(),
        ):
            with pytest.raises(ApiError, match="no such project") as error:
                download()
            assert (error.value.status, error.value.code) == (status, "gone")
    assert list(tmp_path.iterdir()) == []


def test_no_answer_after_all_tries_is_an_exception_of_its_own() -> None:
    handler, seen = answering(httpx.ConnectError("no"))
    with pytest.raises(Unreachable):
        client_of(handler).project("tides")
    assert len(seen) == 4
    handler, seen = answering(httpx.Response(503, text="<html>away</html>"))
    with pytest.raises(ApiError, match="503"):
        client_of(handler).project("tides")


def test_an_upload_goes_in_parts_and_sums_what_they_brought(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": str(n), "responses": ["a", "b"]}) for n in range(2_500)))
    handler, seen = answering(httpx.Response(200, json={"read": 10, "prompts_added": 7, "bad": 1}))
    told: list[int] = []
    added = client_of(handler).upload("tides", file, progress=told.append)
    assert (len(seen), added.prompts_added, added.bad) == (3, 21, 3)
    assert told == [1_000, 2_000, 2_500]
    assert sum(request.content.count(b"\n") for request in seen) == 2_500


def test_lists_are_read_page_by_page() -> None:
    handler, seen = answering(
        httpx.Response(200, json={"items": [PROJECT], "next": "azE"}),
        httpx.Response(200, json={"items": [PROJECT]}),
    )
    assert len(list(client_of(handler).projects())) == 2
    assert seen[1].url.params["cursor"] == "azE"


def test_a_job_that_fails_is_an_exception_and_progress_is_told() -> None:
    def job(state: str) -> httpx.Response:
        found = {
            "id": 1,
            "kind": "export",
            "state": state,
            "done": 1,
            "total": 2,
            "message": "no room",
            "files": [],
        }
        return httpx.Response(200, json=found)

    handler, _seen = answering(job("waiting"), job("running"), job("failed"))
    states: list[str] = []
    client = client_of(handler)
    with pytest.raises(Failed, match="no room"):
        client.wait_for("tides", client.job("tides", 1), lambda found: states.append(found.state))
    assert states == ["waiting", "running", "failed"]


def test_a_whole_file_is_sent_again_from_its_beginning_and_followed(tmp_path: Path) -> None:
    file = tmp_path / "pool.parquet"
    file.write_bytes(b"PAR1" * 600_000)
    job = {"id": 1, "kind": "import", "done": 0, "total": None, "message": "", "files": []}
    waiting, ended = ({**job, "state": state, "imported": {"read": 9, "prompts_added": 8, "bad": 1}}
                      for state in ("waiting", "done"))  # fmt: skip

    async def imported(handler: Handler) -> Added:
        options: dict[str, Any] = {"retries": Retries(first=0.001), "transport": httpx.MockTransport(handler)}
        async with AsyncClient("http://x", "t", **options) as client:
            return await client.import_file("tides", file)

    for is_async in (False, True):
        answers = httpx.Response(503), httpx.Response(202, json=waiting), httpx.Response(200, json=ended)
        handler, seen = answering(*answers)
        if is_async:
            with ThreadPoolExecutor(1) as thread:
                added = thread.submit(asyncio.run, imported(handler)).result()
        else:
            added = client_of(handler).import_file("tides", file, utility_scale="logit")
        assert (added.prompts_added, added.bad) == (8, 1)
        assert [len(request.content) for request in seen] == [2_400_000, 2_400_000, 0]
        assert seen[0].headers["Content-Length"] == "2400000"
        assert seen[0].headers["Idempotency-Key"] == seen[1].headers["Idempotency-Key"]
        assert seen[0].url.params["name"] == "pool.parquet"


def rewards(*values: float) -> httpx.Response:
    found = [
        {"reward": value, "low": value - 1, "high": value + 1, "width": 0.5, "pessimistic": 0}
        for value in values
    ]
    body = {"id": "00000000-0000-0000-0000-000000000001", "state": "done", "rewards": found}
    return httpx.Response(200, json=body | {"chosen": {"greedy": {"index": 1, **found[1]}}})


def test_a_reward_function_takes_texts_and_conversations_and_what_trainers_add() -> None:
    handler, seen = answering(rewards(0.5, 2.0))
    reward_func = RewardFunction(client_of(handler), "my-project")
    found = reward_func(
        prompts=["p", "q"], completions=["a", "b"], completion_ids=[[1], [2]], trainer_state=object()
    )
    assert found == [0.5, 2.0]
    assert reward_func.__name__ == "touchstone_my_project"
    chats = [[{"role": "user", "content": "p", "tool_calls": None}]] * 2
    said = [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]]
    assert RewardFunction(client_of(handler), "p", by="low")(chats, said) == [-0.5, 1.0]
    sent = json.loads(seen[1].content)["items"][0]
    assert sent == {"prompt": [{"role": "user", "content": "p"}], "response": "a"}


def test_best_of_n_keeps_the_best() -> None:
    handler, _seen = answering(rewards(0.5, 2.0))
    drafts = iter(["worse", "better"])
    assert best_of_n(client_of(handler), "p", "prompt", lambda: next(drafts), n=2)[0] == "better"


def test_the_async_client_has_every_method_of_the_sync_one_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            mirrored = getattr(AsyncClient, name)
            assert list(inspect.signature(mirrored).parameters) == list(
                inspect.signature(method).parameters
            ), name


def test_the_async_client_sends_again_and_pages() -> None:
    async def listed(handler: Handler) -> int:
        options: dict[str, Any] = {"retries": Retries(first=0.001), "transport": httpx.MockTransport(handler)}
        async with AsyncClient("http://x", "t", **options) as client:
            assert (await client.project("tides")).slug == "tides"
            return len([one async for one in client.projects()])

    handler, _seen = answering(
        httpx.Response(503), httpx.Response(200, json=PROJECT),
        httpx.Response(200, json={"items": [PROJECT], "next": "azE"}),
        httpx.Response(200, json={"items": [PROJECT]}),
    )  # fmt: skip
    with ThreadPoolExecutor(1) as thread:  # playwright leaves a loop running in the thread of the tests
        assert thread.submit(asyncio.run, listed(handler)).result() == 2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_example_labels_scores_exports_and_loads_as_trl_wants_it(
    ada: User, live_server: LiveServer, scoring_worker: None
) -> None:
    from learner.tasks import jobs
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.embedding import embed_missing

    project = Project.objects.create(
        name="Sea", slug="sea", encoder="hashing", dimensions=8, overlap_share=0.0, evaluation_share=0.0
    )
    project.memberships.create(user=ada, role="admin")
    fill(project, prompts=4, responses=3)
    environment = os.environ | {
        "TOUCHSTONE_URL": live_server.url, "TOUCHSTONE_TOKEN": token_of(ada), "PYTHONPATH": str(CLIENT),
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    script = subprocess.Popen(
        [sys.executable, str(CLIENT / "examples" / "label_score_export.py"), "sea"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while script.poll() is None:
        embed_missing(project.pk)
        absorb_waiting(project.pk)
        for job in Job.objects.filter(state="waiting"):
            jobs.run(job.pk)
        time.sleep(0.1)
    said = script.stdout.read() if script.stdout else ""
    assert script.returncode == 0, said
    assert "preferences, as TRL reads them." in said
    assert "Best of 4" in said
    assert Judgment.objects.filter(annotator=ada, lead_time__isnull=False).count() == 30
