"""A worker for all queues embeds in one thread: bells that ring meanwhile return at once, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from annotate.models import FeatureVersion, Project, User
from learner import tasks
from learner.encoders import HashingEncoder
from learner.tasks import encoding, onethread, shards
from learner.tasks.onethread import OneThread
from tests.conftest import fill

PATIENCE = 30


@pytest.fixture(autouse=True)
def of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onethread, "_embedding", OneThread())


def serving(monkeypatch: pytest.MonkeyPatch, *queues: str) -> None:
    amqp = SimpleNamespace(queues=SimpleNamespace(consume_from=dict.fromkeys(queues)))
    monkeypatch.setattr(onethread, "app", SimpleNamespace(amqp=amqp))


def test_bells_that_ring_meanwhile_return_at_once_and_are_seen_to_once_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving(monkeypatch, "learn", "embed", "jobs")
    began, go_on, done, results = threading.Event(), threading.Event(), [], []

    def embed(subject: int) -> int:
        done.append(subject)
        began.set()
        assert go_on.wait(PATIENCE)
        return 1

    holder = threading.Thread(target=lambda: results.append(onethread.in_turn(embed, 1)))
    holder.start()
    assert began.wait(PATIENCE)
    assert [onethread.in_turn(embed, subject) for subject in (2, 2, 1, 2)] == [0, 0, 0, 0]
    assert done == [1]
    go_on.set()
    holder.join(PATIENCE)
    assert (done, results) == ([1, 2, 1], [3])
    assert onethread.in_turn(embed, 3) == 1


def test_a_worker_that_only_embeds_does_so_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    serving(monkeypatch, "embed")
    both = threading.Barrier(2)

    def embed(subject: int) -> int:
        both.wait(PATIENCE)
        return subject

    results: list[int] = []
    others = [
        threading.Thread(target=lambda n=n: results.append(onethread.in_turn(embed, n))) for n in (1, 2)
    ]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(PATIENCE)
    assert sorted(results) == [1, 2]


def test_what_fails_frees_the_thread_and_the_next_bell_sees_to_what_was_kept() -> None:
    turn, done = OneThread(), []

    def embed(subject: int) -> int:
        if subject == 1:
            turn.take(embed, 2)
            raise OSError("the disk is full")
        done.append(subject)
        return 1

    with pytest.raises(OSError, match="full"):
        turn.take(embed, 1)
    assert turn.take(embed, 3) == 2
    assert done == [2, 3]


class Ringing(HashingEncoder):
    """Rings while it encodes, as other threads of its worker would, and notes which project's texts it is given."""

    def __init__(self, *bells: Any) -> None:
        super().__init__(64)
        self.bells, self.given, self.returned = list(bells), [], []

    def encode(self, texts: Sequence[str], progress: Any = None) -> Any:
        self.given.append("small" if any("question 900" in text for text in texts) else "large")
        while self.bells:
            other = threading.Thread(target=self.ring, args=self.bells.pop())
            other.start()
            other.join(PATIENCE)
        return super().encode(texts, progress)

    def ring(self, task: Any, subject: int) -> None:
        self.returned.append(task(subject))


@pytest.mark.django_db(transaction=True)
def test_a_leader_and_its_helpers_in_one_process_block_nobody_and_a_small_pool_does_not_wait_for_a_large_one(
    project: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(monkeypatch, "learn", "embed", "jobs")
    other = Project.objects.create(name="Small", slug="small", created_by=ada)
    fill(other, prompts=1, responses=4, start=900)
    Project.objects.update(encoder="hashing", dimensions=8)
    monkeypatch.setattr(shards, "SMALLEST", 16)
    version = FeatureVersion.objects.create(
        project=project, encoder="hashing", config={"dimensions": 8, "columns": True}
    )
    encoder = Ringing(
        (tasks.embed, other.pk),
        (tasks.embed_shards, version.pk),
        (tasks.embed, project.pk),
        (tasks.embed, other.pk),
    )
    monkeypatch.setattr(encoding, "_encoders", {"hashing": encoder})
    assert tasks.embed(project.pk) == 48
    assert encoder.returned == [0, 0, False, 0]
    assert encoder.given == ["large", "small", "large", "large"]
    assert dict(FeatureVersion.objects.values_list("project", "embedded")) == {project.pk: 48, other.pk: 4}


@pytest.mark.django_db(transaction=True)
def test_a_large_pool_waits_for_the_end_of_another(
    project: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(monkeypatch, "learn", "embed", "jobs")
    other = Project.objects.create(name="Small", slug="small", created_by=ada)
    fill(other, prompts=1, responses=4, start=900)
    Project.objects.update(encoder="hashing", dimensions=8)
    monkeypatch.setattr(shards, "SMALLEST", 16)
    monkeypatch.setattr(shards, "LARGEST", 3)
    encoder = Ringing((tasks.embed, other.pk))
    monkeypatch.setattr(encoding, "_encoders", {"hashing": encoder})
    assert tasks.embed(project.pk) == 52
    assert encoder.given[-1] == "small"
