"""Many features: checkpoints written beside learning, digests that stay cheap, and the same bits after all."""

from __future__ import annotations

import pytest
from django.conf import settings

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Checkpoint, Estimator, Project, User
from learner.tasks import saving, states
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.replaying import replay
from tests.learn import embed_and_absorb

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, project: Project) -> Project:
    """Ten features are many here."""
    for module in (states, saving):
        monkeypatch.setattr(module, "DIGESTED_DIMENSION", 4)
    monkeypatch.setattr(saving, "LARGE_STEPS", 3)
    states._cache.clear()
    embed_and_absorb(project)
    return project


def judge(project: Project, user: User, count: int) -> None:
    for i in range(count):
        judging.record(user, serving.leases_for(project, user, 1)[0].pk, Submission(("left", "right")[i % 2]))
    absorb_waiting(project.pk)


def test_a_checkpoint_is_written_beside_learning_and_replays_to_the_same_bits(
    large: Project, ben: User
) -> None:
    judge(large, ben, 5)
    saving.wait_for_writing()
    assert Checkpoint.objects.filter(step=5).count() == 3
    judge(large, ben, 1)
    states._cache.clear()
    judge(large, ben, 1)
    compared = replay(large)
    assert {one.what for one in compared} == {"checkpoint", "live"}
    assert all(one.same for one in compared)


def test_a_checkpoint_of_a_log_that_was_rewound_meanwhile_is_thrown_away(large: Project, ben: User) -> None:
    judge(large, ben, 2)
    saving.wait_for_writing()
    state = states.load_state(large.pk)
    assert state is not None
    taken = saving.snapshot(state)
    Checkpoint.objects.all().delete()
    Estimator.objects.update(generation=9)
    saving.write(taken)
    assert not Checkpoint.objects.exists()
    folder = settings.DATA / state.version.folder / "states"
    assert not list(folder.glob(f"*-{taken.step:09d}-{taken.generation}.safetensors"))


def test_a_state_that_another_worker_moved_on_is_built_anew_though_its_step_is_the_same(
    large: Project, ben: User
) -> None:
    judge(large, ben, 2)
    state = states.load_state(large.pk)
    assert states.load_state(large.pk) is state
    Estimator.objects.filter(role="active").update(digest="0" * 64)
    assert states.load_state(large.pk) is not state
