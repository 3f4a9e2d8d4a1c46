"""What the dashboard says about workers: queues without one, what is done, and what is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import alive, progress
from annotate.models import EmbeddingShard, FeatureVersion, Heartbeat, Project, Setback, User
from learner.errors import LearnerError
from learner.tasks import sweeping
from learner.tasks.setbacks import trying

pytestmark = pytest.mark.django_db


def worker(name: str, queues: str, seconds: float = 1.0, **more: object) -> Heartbeat:
    at = timezone.now() - timedelta(seconds=seconds)
    return Heartbeat.objects.create(worker=name, queues=queues, seen_at=at, **more)


def page(client: Client, project: Project) -> str:
    return client.get(reverse("dashboard", args=[project.slug])).content.decode()


def test_a_queue_that_lost_its_worker_is_named_with_what_follows_from_it(
    project: Project, as_ada: Client
) -> None:
    worker("one", "learn,jobs")
    worker("gpu", "embed", seconds=300)
    text = page(as_ada, project)
    assert "The queue “embed” has no worker." in text
    assert "work --queues embed" in text
    assert "“learn”" not in text
    assert "“jobs”" not in text


def test_no_worker_at_all_is_said_once(project: Project, as_ada: Client) -> None:
    worker("one", "learn,jobs,embed", seconds=300)
    text = page(as_ada, project)
    assert "No worker is running." in text
    assert "has no worker" not in text


def test_what_a_worker_does_is_shown_and_its_names_are_escaped(project: Project, as_ada: Client) -> None:
    since = timezone.now().isoformat()
    worker("<b>one</b>", "learn,jobs,embed", doing=[{"task": "absorb", "of": [1], "since": since}], done=3)
    text = page(as_ada, project)
    assert "&lt;b&gt;one&lt;/b&gt;" in text
    assert "learning" in text
    assert "3 tasks" in text


def test_what_fails_is_tried_later_and_later_and_the_page_says_so(project: Project, as_ada: Client) -> None:
    worker("one", "learn,jobs,embed")
    for _ in range(3):
        Setback.objects.update(next_at=timezone.now())
        with trying("embed", 7, project) as attempt:
            assert attempt.is_due
            raise LearnerError("no hub can be reached")
    row = Setback.objects.get()
    assert row.failures == 3
    assert timedelta(seconds=35) < row.next_at - timezone.now() < timedelta(seconds=41)
    with trying("embed", 7, project) as attempt:
        assert not attempt.is_due
    text = page(as_ada, project)
    assert "no hub can be reached" in text
    assert "Tried 3 times" in text
    Setback.objects.update(next_at=timezone.now())
    with trying("embed", 7, project):
        pass
    assert not Setback.objects.exists()


def test_a_bell_that_failed_is_not_rung_again_before_its_time(
    project: Project, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotate import judging, serving

    judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, judging.Submission("left"))
    rung: list[tuple[object, ...]] = []
    monkeypatch.setattr(sweeping, "ring", lambda *bell: rung.append(bell))
    sweeping.ring_for_rows()
    assert ("absorb", project.pk) in rung
    later = timezone.now() + timedelta(minutes=1)
    Setback.objects.create(task="absorb", subject=project.pk, project=project, message="no", next_at=later)
    rung.clear()
    sweeping.ring_for_rows()
    assert ("absorb", project.pk) not in rung


def test_a_version_with_many_free_shards_is_rung_for_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = FeatureVersion.objects.create(project=project, encoder="hashing")
    for start in range(0, 30, 10):
        EmbeddingShard.objects.create(feature_version=version, start=start, stop=start + 10)
    rung: list[tuple[object, ...]] = []
    monkeypatch.setattr(sweeping, "ring", lambda *bell: rung.append(bell))
    sweeping.ring_for_rows()
    assert rung.count(("embed_shards", version.pk)) == 1


def test_sessions_that_ran_out_are_swept_and_not_looked_for_at_every_sweep(ada: User) -> None:
    def left_after_a_sweep() -> set[str]:
        sweeping.ring_for_rows()
        return set(Session.objects.values_list("pk", flat=True))

    def session(name: str, days: int) -> None:
        Session.objects.create(pk=name, session_data="", expire_date=timezone.now() + timedelta(days=days))

    cache.clear()
    session("over", -1)
    session("holds", 1)
    assert left_after_a_sweep() == {"holds"}
    session("over again", -1)
    assert left_after_a_sweep() == {"holds", "over again"}


def test_one_worker_sweeps_at_a_time_and_each_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    monkeypatch.setattr(sweeping, "ring_for_rows", lambda: swept.append(1))
    one, two = alive.Worker("one", "learn"), alive.Worker("two", "embed")
    for me in (one, two, one, two, one):
        alive.beat(me)
    assert len(swept) == 2
    assert Heartbeat.objects.count() == 2
    Heartbeat.objects.update(swept_at=timezone.now() - timedelta(seconds=9))
    alive.beat(two)
    assert len(swept) == 3


def test_rows_of_dead_workers_go_after_a_day_but_the_last_of_a_queue_stays() -> None:
    day = 100_000.0
    worker("old-1", "learn", seconds=day)
    worker("old-2", "learn", seconds=day + 1)
    worker("gpu", "embed", seconds=day)
    worker("new", "embed")
    alive.forget_the_dead()
    assert set(Heartbeat.objects.values_list("worker", flat=True)) == {"old-1", "new"}


def test_the_crew_is_read_with_the_page(project: Project) -> None:
    worker("one", "learn,jobs,embed")
    crew = progress.overview(project).working.crew
    assert [member.name for member in crew.members] == ["one"]
    assert not crew.lost
    assert not crew.retries
