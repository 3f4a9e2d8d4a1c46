"""Candidates written by generators: endpoints that are listed, models on a worker, and what goes wrong with them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone

from annotate import deploying, generating, scoring, sealing
from annotate.errors import TouchstoneError
from annotate.models import AuditEvent, Deployment, DeploymentRequest, Generation, Generator, Project, User
from tests.endpoint import Endpoint, fake_endpoint
from tests.faults.workers import until
from tests.learn import teach
from tests.programs import Program
from tests.serving_worker import scoring_worker

__all__ = ["scoring_worker"]

pytestmark = pytest.mark.django_db
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def endpoint(settings: Any) -> Iterator[Endpoint]:
    with fake_endpoint(settings) as found:
        yield found


@pytest.fixture
def deployed(project: Project, scoring_worker: None) -> Project:
    teach(project, 12)
    Deployment.objects.create(project=project, is_on=True, baseline_share=0.0, optimism=2.0)
    return project


def generator(
    project: Project, endpoint: Endpoint, actor: User, source: str = "moon", **more: Any
) -> Generator:
    fields = {"kind": "endpoint", "model": source, "url": endpoint.url, **more}
    return generating.save(Generator(project=project, source=source, **fields), actor, KEY)


def written(request: DeploymentRequest) -> DeploymentRequest:
    from learner.tasks.generating import write_waiting
    from learner.tasks.scoring import answer_waiting

    write_waiting()
    answer_waiting()
    request.refresh_from_db()
    return request


def test_several_sources_write_and_two_are_shown(deployed: Project, ada: User, endpoint: Endpoint) -> None:
    generator(
        deployed, endpoint, ada, "moon", samples=2, temperature=0.5, longest=77, instructions="Be brief."
    )
    generator(deployed, endpoint, ada, "sun")
    endpoint.by_model["sun"] = ["The sun, ", "and wind. " * 20]
    request = written(generating.ask(deployed, "Why the tide?", ada))
    assert request.state == "answered"
    assert {row.source for row in request.generations.all()} == {"moon", "sun"}
    assert len(request.candidates) == 3
    assert request.is_pair
    assert {one.source for one in request.shown} <= {"moon", "sun"}
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (77, 0.5, True)
    assert [one["role"] for one in body["messages"]] == ["system", "user"]


def test_a_program_asks_with_a_prompt_alone(
    deployed: Project, ada: User, endpoint: Endpoint, monkeypatch: Any
) -> None:
    from learner.tasks.generating import write_waiting
    from learner.tasks.scoring import answer_waiting

    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: (write_waiting(), answer_waiting()))
    program = Program(ada)
    nobody = program.post("/projects/tides/deployment", {"prompt": "Why?"})
    assert (nobody.status_code, nobody.json()["code"]) == (409, "unready")
    generator(deployed, endpoint, ada, "moon")
    told = program.post("/projects/tides/deployment", {"prompt": "Why?"}).json()
    assert (told["kind"], told["responses"][0]["text"]) == ("single", "The moon pulls the sea.")


@pytest.mark.parametrize(
    ("status", "raw", "says"),
    [
        (500, b"secret inside", "status 500"),
        (302, b"", "status 302"),
        (200, b"data: {\n\n", "not JSON"),
        (200, b'data: {"error": {"message": "sk-leak"}}\n\n', "ended with an error"),
        (200, b"", "Nothing was written"),
        (
            200,
            b'data: {"choices": "x"}\n\ndata: [1]\n\ndata: {"choices": [{"delta": {"content": 7}}]}\n\n',
            "Nothing was written",
        ),
        (200, b"data: " + b"[" * 200_000, "not JSON"),
    ],
)
def test_a_source_that_fails_does_not_fail_the_request(
    deployed: Project, ada: User, endpoint: Endpoint, settings: Any, status: int, raw: bytes, says: str
) -> None:
    with fake_endpoint(settings) as broken:
        broken.status, broken.raw = status, raw
        settings.GENERATOR_HOSTS = [endpoint.host, broken.host]
        generator(deployed, broken, ada, "broken")
        generator(deployed, endpoint, ada, "moon")
        request = written(generating.ask(deployed, "Why?", ada))
    failed = Generation.objects.get(source="broken")
    assert failed.state == "failed"
    assert says in failed.message
    assert "sk-" not in failed.message + failed.text
    assert request.state == "answered"
    assert [one.source for one in request.shown] == ["moon"]


def test_when_nobody_writes_the_request_says_so(deployed: Project, ada: User, endpoint: Endpoint) -> None:
    endpoint.status = 503
    generator(deployed, endpoint, ada)
    request = written(generating.ask(deployed, "Why?", ada))
    assert (request.state, request.message) == ("failed", "No generator wrote an answer.")
    with pytest.raises(TouchstoneError):
        scoring.wait_for(deploying.request_of(deployed, request.pk, ada), 0)


def test_an_endpoint_that_does_not_stream_is_read_whole(
    deployed: Project, ada: User, endpoint: Endpoint
) -> None:
    endpoint.media = "application/json"
    endpoint.raw = json.dumps({"choices": [{"message": {"content": "All at once."}}]}).encode()
    generator(deployed, endpoint, ada)
    assert written(generating.ask(deployed, "Why?", ada)).shown[0].text == "All at once."


def test_hostile_text_is_stored_as_text(deployed: Project, ada: User, endpoint: Endpoint) -> None:
    endpoint.pieces = ["<script>alert(1)</script>", "\0", "\ud800", "x" * 200_000]
    generator(deployed, endpoint, ada)
    text = written(generating.ask(deployed, "Why?", ada)).shown[0].text
    assert text.startswith("<script>")
    assert "\0" not in text
    assert len(text) <= 100_000


def test_an_endpoint_that_is_too_slow_is_given_up(
    deployed: Project, ada: User, endpoint: Endpoint, settings: Any
) -> None:
    settings.GENERATOR_SECONDS = 0.3
    endpoint.hold = threading.Event()
    generator(deployed, endpoint, ada)
    written(generating.ask(deployed, "Why?", ada))
    endpoint.hold.set()
    assert "too long" in Generation.objects.get().message


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/v1", "http://127.0.0.1/v1", "http://[::1]/v1", "http://[::ffff:127.0.0.1]/v1",
        "http://2130706433/v1", "file:///etc/passwd", "gopher://example.org/v1", "http://user:pw@listed.example.org/v1",
        "http://listed.example.org:22/v1", "http://evil.example.org/v1",
        "http://listed.example.org@evil.example.org/v1", "",
    ],
)  # fmt: skip
def test_only_listed_hosts_are_asked(deployed: Project, ada: User, settings: Any, url: str) -> None:
    settings.GENERATOR_HOSTS = ["listed.example.org"]
    with pytest.raises(TouchstoneError):
        generating.save(Generator(project=deployed, source="a", model="m", url=url), ada)
    settings.GENERATOR_HOSTS = []
    with pytest.raises(TouchstoneError, match="lists no host"):
        generating.save(
            Generator(project=deployed, source="a", model="m", url="https://listed.example.org"), ada
        )


def test_a_host_that_is_listed_no_more_is_asked_no_more(
    deployed: Project, ada: User, endpoint: Endpoint, settings: Any
) -> None:
    generator(deployed, endpoint, ada)
    settings.GENERATOR_HOSTS = ["other.example.org"]
    written(generating.ask(deployed, "Why?", ada))
    assert "not among the hosts" in Generation.objects.get().message
    settings.GENERATOR_HOSTS, settings.OUTBOUND_NETWORKS = [endpoint.host], []
    written(generating.ask(deployed, "Why again?", ada))
    assert "private or local" in Generation.objects.latest("pk").message
    assert endpoint.requests == []


def test_the_key_is_stored_encrypted_and_shown_nowhere(
    deployed: Project,
    ada: User,
    as_ada: Client,
    endpoint: Endpoint,
    caplog: pytest.LogCaptureFixture,
    settings: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    row = generator(deployed, endpoint, ada)
    assert KEY not in row.sealed_key
    assert sealing.unseal(row.sealed_key) == KEY
    written(generating.ask(deployed, "Why?", ada))
    for path in ("deployment/", f"deployment/generators/{row.pk}/", "audit/"):
        assert KEY not in as_ada.get(f"/projects/tides/{path}").content.decode()
    assert KEY not in json.dumps(list(AuditEvent.objects.values_list("details", flat=True)))
    assert KEY not in caplog.text
    settings.SECRET_KEY = "another-secret-key-of-fifty-characters-for-this-test"
    written(generating.ask(deployed, "Why?", ada))
    assert "SECRET_KEY has changed" in Generation.objects.latest("pk").message


def test_a_model_on_a_worker_writes(deployed: Project, ada: User, settings: Any, tmp_path: Path) -> None:
    from learner.tasks.generating import _models
    from tests.learner.test_encoders import small_llama

    settings.MODELS = tmp_path
    small_llama(tmp_path / "small")
    _models.clear()
    fields = {"kind": "local", "model": "small", "samples": 6, "longest": 24, "temperature": 1.0}
    generating.save(Generator(project=deployed, source="small llama", **fields), ada)
    request = written(generating.ask(deployed, "why is the sky blue", ada))
    rows = list(Generation.objects.all())
    # It may end at once.
    assert {row.message for row in rows if row.state != "done"} <= {"Nothing was written."}
    assert len({row.text for row in rows if row.state == "done"}) > 1
    assert request.state == "answered"


@pytest.mark.parametrize("model", ["../etc", "/etc", "a/../../b", "", "owner/model/a/b", "a b"])
def test_a_models_name_leads_nowhere_else(deployed: Project, ada: User, model: str) -> None:
    with pytest.raises(TouchstoneError):
        generating.save(Generator(project=deployed, source="a", kind="local", model=model), ada)


def test_the_same_seed_writes_the_same_and_pieces_make_the_whole(tmp_path: Path) -> None:
    from learner.generators import CausalGenerator
    from tests.learner.test_encoders import small_llama

    model = CausalGenerator(small_llama(tmp_path / "small"))
    messages = [{"role": "user", "content": "why is the sky blue"}]
    one, two, other = (list(model.stream(messages, 30, 1.0, seed)) for seed in (1, 1, 2))
    assert one == two != other
    assert len(one) > 1
    greedy = ["".join(model.stream(messages, 12, 0.0, seed)) for seed in (1, 2)]
    assert greedy[0] == greedy[1]


def test_what_a_dead_worker_was_writing_is_given_up(deployed: Project, ada: User, endpoint: Endpoint) -> None:
    from learner.tasks.generating import claim, close_silent

    generator(deployed, endpoint, ada)
    request = generating.ask(deployed, "Why?", ada)
    assert claim() is not None
    Generation.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=2))
    close_silent()
    request.refresh_from_db()
    assert request.state == "failed"


def test_what_a_worker_wrote_before_it_died_is_handed_on(
    deployed: Project, ada: User, endpoint: Endpoint
) -> None:
    from learner.tasks.generating import close_silent

    generator(deployed, endpoint, ada)
    request = generating.ask(deployed, "Why?", ada)
    Generation.objects.update(state="done", text="The moon.", finished_at=timezone.now())
    close_silent()
    request.refresh_from_db()
    assert (request.state, len(request.candidates)) == ("waiting", 1)


@contextmanager
def generating_thread() -> Iterator[None]:
    from learner.tasks.generating import serve

    ended = threading.Event()

    def run() -> None:
        serve(ended)
        connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_fails_takes_no_slot(
    deployed: Project, ada: User, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks import generating as worker

    claim, failed = worker.claim, threading.Event()

    def fails_once() -> Generation | None:
        if not failed.is_set():
            failed.set()
            raise OperationalError("the connection is closed")
        return claim()

    monkeypatch.setattr(worker, "AT_ONCE", 1)
    monkeypatch.setattr(worker, "claim", fails_once)
    generator(deployed, endpoint, ada)
    generating.ask(deployed, "Why?", ada)
    with generating_thread():
        until(lambda: Generation.objects.filter(state="done").exists(), 60, "nothing was written")


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_its_model_or_a_slow_endpoint_is_kept_alive(
    deployed: Project, ada: User, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks import generating as worker

    go_on = threading.Event()

    def stream(*_: object) -> Iterator[str]:
        go_on.wait(120)
        yield "The moon."

    monkeypatch.setattr(worker, "model_named", lambda _: SimpleNamespace(stream=stream))
    monkeypatch.setattr(worker.endpoint, "stream", stream)
    monkeypatch.setattr(worker, "BETWEEN_SILENT", 0.0)
    monkeypatch.setattr(worker, "close_silent", lambda: None)
    generator(deployed, endpoint, ada)
    generating.save(Generator(project=deployed, source="a", kind="local", model="a", samples=2), ada)
    generating.ask(deployed, "Why?", ada)
    with generating_thread():
        try:
            until(lambda: Generation.objects.filter(state="running").count() == 3, 60, "not all were begun")
            old = timezone.now() - timedelta(hours=1)
            Generation.objects.update(heartbeat_at=old)
            young = Generation.objects.filter(heartbeat_at__gt=old)
            until(lambda: young.count() == 3, 30, "no heartbeat while something is waited for")
        finally:
            go_on.set()
        until(lambda: Generation.objects.filter(state="done").count() == 3, 60, "not all were written")


def test_a_flood_of_prompts_is_refused(deployed: Project, ada: User, endpoint: Endpoint) -> None:
    generator(deployed, endpoint, ada)
    for n in range(generating.MOST_OPEN):
        generating.ask(deployed, f"Why {n}?", ada)
    with pytest.raises(TouchstoneError, match="ask again in a moment") as refused:
        generating.ask(deployed, "Why?", ada)
    assert refused.value.code == "limit"
