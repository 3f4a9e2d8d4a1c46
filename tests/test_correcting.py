"""A reviewer corrects a judgment or withdraws it: one current answer, history kept, counters right, learner told."""

from __future__ import annotations

import pytest

from annotate import correcting, judging, serving
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import AuditEvent, Comparison, Judgment, Lease, Project, User
from tests.learn import embed_and_absorb
from tests.test_trusting import judge

pytestmark = pytest.mark.django_db


def imported(project: Project, *answers: str) -> list[Judgment]:
    """Votes of other people on one pair, as an import leaves them."""
    first, second = project.responses.order_by("pk")[:2]
    comparison = Comparison.objects.create(
        project=project, prompt=first.prompt, first=first, second=second, arm="imported", rule="imported",
        state="done", wanted=len(answers), taken=len(answers), judged=len(answers),
    )  # fmt: skip
    return [
        Judgment.objects.create(
            project=project, comparison=comparison, imported_annotator=f"voter {n}", answer=answer
        )
        for n, answer in enumerate(answers)
    ]


def test_a_correction_replaces_the_answer_and_keeps_the_rest(project: Project, ada: User, ben: User) -> None:
    old = judge(project, ben, "first", why="the moon")
    new = correcting.correct(ada, project, old.pk, "second", None, "misread  the prompt")
    old.refresh_from_db()
    assert (new.answer, new.annotator, new.rationale, new.replaces) == ("second", ben, "the moon", old)
    assert old.replaced_reason == "corrected: misread the prompt"
    assert new.lease is not None
    assert new.lease.judgments.filter(replaced_at=None).count() == 1
    event = AuditEvent.objects.get(verb="corrected")
    assert event.details == {"answer": ["first", "second"], "reason": "misread the prompt"}


def test_the_learner_forgets_what_was_corrected_and_learns_the_correction(
    project: Project, ada: User, ben: User
) -> None:
    embed_and_absorb(project)
    old = judge(project, ben, "first")
    Comparison.objects.filter(pk=old.comparison_id).update(arm="control")
    embed_and_absorb(project)
    old.refresh_from_db()
    assert old.absorbed_step is not None
    new = correcting.correct(ada, project, old.pk, "second", None, "wrong")
    assert (new.absorbed_step, new.absorbed_at) == (None, None)
    embed_and_absorb(project)
    old.refresh_from_db()
    new.refresh_from_db()
    assert old.forgotten_at is not None
    assert new.absorbed_step is not None
    estimator = project.estimators.get(role="production")
    assert estimator.judgments == 1


def test_a_withdrawn_answer_leaves_its_place_to_somebody_else(
    project: Project, ada: User, ben: User, cho: User
) -> None:
    old = judge(project, ben, "first")
    correcting.withdraw(ada, project, old.pk, "answered at random")
    comparison = Comparison.objects.get(pk=old.comparison_id)
    assert (comparison.judged, comparison.taken, comparison.state) == (0, 0, "open")
    assert not comparison.judgments.filter(replaced_at=None).exists()
    assert AuditEvent.objects.get(verb="withdrew").details["reason"] == "answered at random"
    with pytest.raises(TouchstoneError):  # a late retry of the browser does not bring it back
        judging.record(ben, str(old.lease_id), Submission("left"))
    assert comparison.pk not in {lease.comparison_id for lease in serving.leases_for(project, ben, 2)}
    Comparison.objects.exclude(pk=comparison.pk).update(state="done")
    assert serving.leases_for(project, cho, 1)[0].comparison_id == comparison.pk


def test_an_imported_vote_is_withdrawn_and_its_pair_is_put_to_nobody(project: Project, ada: User) -> None:
    one, two = imported(project, "first", "second")
    correcting.withdraw(ada, project, one.pk, "a bot")
    comparison = Comparison.objects.get(pk=one.comparison_id)
    assert (comparison.judged, comparison.wanted, comparison.state) == (1, 1, "done")
    correcting.withdraw(ada, project, two.pk, "a bot")
    comparison.refresh_from_db()
    assert (comparison.judged, comparison.wanted, comparison.state) == (0, 0, "withdrawn")


def test_the_annotator_cannot_undo_or_edit_a_correction(project: Project, ada: User, ben: User) -> None:
    old = judge(project, ben, "first")
    new = correcting.correct(ada, project, old.pk, "tie", None, "equal")
    with pytest.raises(TouchstoneError, match="corrected"):
        judging.undo(ben, project)
    with pytest.raises(TouchstoneError, match="corrected"):
        judging.edit(ben, project, new.pk, Submission("left"))
    assert Judgment.objects.get(replaced_at=None).answer == "tie"


@pytest.mark.parametrize(
    ("answer", "strength", "reason"),
    [
        ("second", None, "  "),
        ("second", None, "x" * 181),
        ("second", None, "a\0b"),
        ("best", None, "why"),
        ("tie", 2, "why"),
        ("second", 4, "why"),
        ("first", None, "it is that already"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    project: Project, ada: User, ben: User, answer: str, strength: int | None, reason: str
) -> None:
    old = judge(project, ben, "first")
    with pytest.raises(TouchstoneError):
        correcting.correct(ada, project, old.pk, answer, strength, reason)
    assert Judgment.objects.get().replaced_at is None
    assert not AuditEvent.objects.filter(verb="corrected").exists()


def test_an_answer_that_is_gone_is_not_changed_again(project: Project, ada: User, ben: User) -> None:
    old = judge(project, ben, "first")
    correcting.withdraw(ada, project, old.pk, "once")
    for again in (
        lambda: correcting.withdraw(ada, project, old.pk, "twice"),
        lambda: correcting.correct(ada, project, old.pk, "tie", None, "twice"),
        lambda: correcting.withdraw(ada, project, 10**6, "never"),
    ):
        with pytest.raises(TouchstoneError):
            again()
    assert Lease.objects.get(pk=old.lease_id).outcome == "withdrawn"
    assert Comparison.objects.get(pk=old.comparison_id).taken == 0
