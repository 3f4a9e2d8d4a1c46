"""A pool too large for one machine: the shards' round, and that its comparisons are those of one machine."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Comparison, FeatureVersion, Project, User
from learner.tasks import distributing, states
from learner.tasks.absorbing import absorb_waiting
from tests.learn import embed_and_absorb

pytestmark = pytest.mark.django_db(transaction=True)
Rounds = list[tuple[int, ...]]


@pytest.fixture
def rounds(project: Project, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Every pool is too large; chords are noted instead of rung. All draws are of the active arm."""
    found: Rounds = []

    def chord(header: list[Any]) -> Any:
        return lambda callback: found.append(tuple(callback.args))

    monkeypatch.setattr(distributing, "chord", chord)
    states._cache.clear()
    Project.objects.filter(pk=project.pk).update(control_share=0.0, evaluation_share=0.0)
    project.refresh_from_db()
    settings.SCORES_MEMORY_MB = 0.001
    embed_and_absorb(project)
    return found


def drawn(project: Project) -> list[tuple[int, int]]:
    rows = Comparison.objects.filter(project=project, arm="active").order_by("draw")
    return [(min(pair), max(pair)) for pair in rows.values_list("first__position", "second__position")]


def run(one: tuple[int, ...]) -> int:
    version, step, count = one
    for shard in range(count):
        distributing.score(version, step, shard, count)
    return distributing.draw(version, step, count)


def test_the_comparisons_are_those_of_one_machine(project: Project, rounds: Rounds, ben: User) -> None:
    assert drawn(project) == []
    ((version, step, count),) = rounds
    assert count >= 2
    state = states.load_state(project.pk)
    assert state is not None
    expected = [(pick.first, pick.second) for pick in states.scores_of(state).pick(8)]
    state.scores = None
    assert run((version, step, count)) == 8
    assert drawn(project) == expected
    assert not distributing.ask_shards(state) or len(rounds) == 2


def test_a_round_takes_in_what_was_asked_and_answered_meanwhile(
    project: Project, rounds: Rounds, ben: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]  # random: nothing was drawn yet
    judging.record(ben, lease.pk, Submission("left"))
    absorb_waiting(project.pk)
    assert len(rounds) == 1  # one round at a time
    assert run(rounds[0]) == 8
    pair = sorted((lease.comparison.first.position, lease.comparison.second.position))
    assert tuple(pair) not in drawn(project)
    assert set(Comparison.objects.filter(arm="active").values_list("estimator_step", flat=True)) == {1}


def test_a_lost_round_is_asked_for_again_and_an_old_one_changes_nothing(
    project: Project, rounds: Rounds
) -> None:
    absorb_waiting(project.pk)
    assert len(rounds) == 1
    state = states.load_state(project.pk)
    assert state is not None
    state.asked_at -= distributing.ASKED_AGAIN_SECONDS + 1
    absorb_waiting(project.pk)
    assert len(rounds) == 2
    version = FeatureVersion.objects.get()
    assert distributing.score(version.pk, 99, 0, 2) == 0
    assert (django_settings.DATA / version.folder / "scoring").is_dir()


def test_a_pool_that_fits_is_scored_where_it_is(project: Project, rounds: Rounds, settings: Any) -> None:
    settings.SCORES_MEMORY_MB = 100.0
    states._cache.clear()
    absorb_waiting(project.pk)
    assert len(rounds) == 1
    assert len(drawn(project)) == 8
