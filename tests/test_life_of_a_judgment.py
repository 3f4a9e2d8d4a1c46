"""A judgment from the click to its influence, in the order in which it happens."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from annotate import judging, serving
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import Answer, Checkpoint, Comparison, Estimator, FeatureVersion, Judgment, Project, User
from learner.tasks import states
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.queueing import in_flight
from tests.learn import embed_and_absorb

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_cached_states() -> None:
    states._cache.clear()


def answer(project: Project, annotator: User, side: str = "left") -> Judgment:
    lease = serving.leases_for(project, annotator, 1)[0]
    return judging.record(annotator, lease.pk, Submission(side, lead_time=2.0))


def answer_many(project: Project, annotator: User, count: int) -> list[Judgment]:
    return [answer(project, annotator, ("left", "right", "left")[i % 3]) for i in range(count)]


def test_an_annotator_holds_two_pairs_the_one_on_the_screen_and_the_next(project: Project, ben: User) -> None:
    first, second = serving.leases_for(project, ben, 2)
    assert first.comparison_id != second.comparison_id
    assert [lease.pk for lease in serving.leases_for(project, ben, 2)] == [first.pk, second.pk]


def test_with_an_empty_queue_the_pair_is_random_and_counts_as_control(project: Project, ben: User) -> None:
    comparison = serving.leases_for(project, ben, 1)[0].comparison
    assert (comparison.arm, comparison.rule, comparison.draw) == ("control", "random", None)
    assert not comparison.prompt.is_evaluation


def test_the_answer_is_stored_in_terms_of_the_comparison_not_of_the_screen(
    project: Project, ben: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    judgment = judging.record(ben, lease.pk, Submission("left"))
    assert judgment.answer == (Answer.SECOND if lease.swapped else Answer.FIRST)


def test_a_double_click_is_one_judgment(project: Project, ben: User) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    once = judging.record(ben, lease.pk, Submission("left"))
    twice = judging.record(ben, lease.pk, Submission("right"))
    assert once.pk == twice.pk
    assert Judgment.objects.count() == 1


def test_nobody_can_answer_another_ones_lease(project: Project, ben: User, cho: User) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    with pytest.raises(TouchstoneError, match="not given to you"):
        judging.record(cho, lease.pk, Submission("left"))


def test_a_lease_that_ran_out_goes_to_others_and_comes_back_if_nobody_took_it(
    project: Project, ben: User, cho: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    serving.release_expired(project, lease.expires_at)
    assert Comparison.objects.get(pk=lease.comparison_id).taken == 0
    assert judging.record(ben, lease.pk, Submission("left")).pk
    late = serving.leases_for(project, ben, 1)[0]
    serving.release_expired(project, late.expires_at)
    taken = serving.claim(project, cho)
    assert taken is not None
    assert taken.comparison_id == late.comparison_id
    with pytest.raises(TouchstoneError, match="somebody else has it now"):
        judging.record(ben, late.pk, Submission("left"))


def test_a_pair_let_expire_over_lunch_comes_back_with_the_same_sides(project: Project, ben: User) -> None:
    before = serving.leases_for(project, ben, 1)[0]
    serving.release_expired(project, before.expires_at)
    again = serving.leases_for(project, ben, 1)[0]
    assert (again.pk, again.swapped, again.outcome) == (before.pk, before.swapped, "open")
    assert Comparison.objects.get(pk=again.comparison_id).taken == 1


def test_a_skipped_pair_returns_to_the_others_but_not_to_the_one_who_skipped(
    project: Project, ben: User, cho: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    judging.skip(ben, lease.pk, "unsure")
    assert serving.leases_for(project, cho, 1)[0].comparison_id == lease.comparison_id
    assert serving.leases_for(project, ben, 1)[0].comparison_id != lease.comparison_id


def test_rows_are_the_queue_and_one_bell_absorbs_them_all(project: Project, ben: User) -> None:
    answer_many(project, ben, 5)
    assert not Judgment.objects.exclude(absorbed_step=None).exists()
    embed_and_absorb(project)
    steps = Judgment.objects.order_by("id").values_list("absorbed_step", flat=True)
    assert list(steps) == [1, 2, 3, 4, 5]
    assert Estimator.objects.get(project=project, role="production").judgments == 5
    assert Estimator.objects.get(project=project, role="control").judgments == 5
    assert Estimator.objects.get(project=project, role="active").judgments == 0


def test_pairs_drawn_while_the_queue_was_empty_get_the_probability_that_they_had(
    project: Project, ben: User
) -> None:
    answer_many(project, ben, 5)
    made = Comparison.objects.filter(project=project).order_by("pk")
    assert {(row.arm, row.probability) for row in made} == {("control", None)}
    embed_and_absorb(project)
    offered = 6 * sum(not prompt.is_evaluation for prompt in project.prompts.all())  # of four responses each
    drawn = made.filter(draw=None).values_list("probability", flat=True)
    assert list(drawn) == pytest.approx([1 / (offered - n) for n in range(len(drawn))])


def test_where_few_pairs_are_left_each_is_as_likely(project: Project) -> None:
    kept = list(project.prompts.filter(is_evaluation=False)[:2])
    for prompt in project.prompts.all():
        pairs = list(combinations(prompt.responses.order_by("pk"), 2))
        left = {kept[0].pk: 1, kept[1].pk: 4}.get(prompt.pk, 0)
        for first, second in pairs[left:]:
            Comparison.objects.create(
                project=project, prompt=prompt, first=first, second=second, arm="active"
            )
    rng = random.Random(0)
    found = Counter(serving.remaining_pair(project, rng) for _ in range(1_000))
    assert len(found) == 5
    assert min(found.values()) > 150
    assert max(found.values()) < 250


def test_the_queue_is_refilled_with_arms_rules_and_probabilities(project: Project, ben: User) -> None:
    embed_and_absorb(project)
    rows = list(Comparison.objects.filter(project=project, draw__isnull=False))
    assert len(rows) >= 8
    for row in rows:
        assert row.rule == ("d_optimal" if row.arm == "active" else "random")
        assert row.prompt.is_evaluation == (row.arm == "evaluation")
        assert row.probability is not None
        assert row.width is not None
        assert row.predicted == pytest.approx(0.5)


def test_gold_pairs_stay_open_and_are_no_part_of_the_queue(project: Project, ben: User) -> None:
    prompts = project.prompts.filter(is_evaluation=False)
    for prompt in prompts:
        first, second = prompt.responses.order_by("pk")[:2]
        Comparison.objects.create(
            project=project,
            prompt=prompt,
            first=first,
            second=second,
            arm="gold",
            gold_answer="second",
            wanted=99,
        )
    embed_and_absorb(project)
    drawn = Comparison.objects.filter(project=project, draw__isnull=False)
    assert drawn.count() >= 8
    state = states.load_state(project.pk)
    assert state is not None
    gold = set(Comparison.objects.filter(arm="gold").values_list("first__position", "second__position"))
    assert not gold & set(in_flight(state))


def test_a_changed_rule_is_followed_at_once(project: Project, ben: User) -> None:
    embed_and_absorb(project)
    state = states.load_state(project.pk)
    assert state is not None
    before = states.scores_of(state)
    assert states.scores_of(state) is before
    Project.objects.filter(pk=project.pk).update(rule="entropy")
    again = states.load_state(project.pk)
    assert again is state
    assert states.scores_of(again) is not before


def test_evaluation_judgments_train_nobody_and_both_bad_is_no_preference(project: Project, ben: User) -> None:
    embed_and_absorb(project)
    project.evaluation_share, project.control_share = 1.0, 0.0
    project.save()
    Comparison.objects.all().delete()
    absorb_waiting(project.pk)
    answer_many(project, ben, 4)
    absorb_waiting(project.pk)
    assert set(Estimator.objects.values_list("step", "judgments")) == {(4, 0)}


def test_a_learner_that_was_killed_resumes_to_the_same_bits(project: Project, ben: User) -> None:
    answer_many(project, ben, 10)
    embed_and_absorb(project)
    states._cache.clear()
    answer_many(project, ben, 10)
    absorb_waiting(project.pk)
    rows = {row.role: row for row in Estimator.objects.all()}
    version = FeatureVersion.objects.get()
    rebuilt = states.build_state(project, version, rows, before=1)
    assert states.state_digests(rebuilt) == {role: row.digest for role, row in rows.items()}


def test_an_undone_judgment_leaves_no_trace_in_any_estimator(project: Project, ben: User) -> None:
    answer_many(project, ben, 9)
    embed_and_absorb(project)
    before = dict(Estimator.objects.values_list("role", "digest"))
    answer(project, ben)
    absorb_waiting(project.pk)
    assert dict(Estimator.objects.values_list("role", "digest")) != before
    lease = judging.undo(ben, project)
    absorb_waiting(project.pk)
    state = states.load_state(project.pk)
    assert state is not None
    assert state.reader.counts["production"] == 9
    assert Judgment.objects.filter(forgotten_at__isnull=False).count() == 1
    assert serving.leases_for(project, ben, 2)[0].pk == lease.pk
    assert judging.record(ben, lease.pk, Submission("tie")).answer == "tie"


def test_a_damaged_checkpoint_is_passed_over(project: Project, ben: User, settings: object) -> None:
    from pathlib import Path

    answer_many(project, ben, 6)
    embed_and_absorb(project)
    checkpoint = Checkpoint.objects.first()
    assert checkpoint is not None
    (Path(settings.DATA) / checkpoint.path).write_bytes(b"torn")  # type: ignore[attr-defined]
    states._cache.clear()
    state = states.load_state(project.pk)
    assert state is not None
    assert states.state_digests(state) == dict(Estimator.objects.values_list("role", "digest"))


def test_two_learners_cannot_absorb_the_same_judgment(project: Project, ben: User) -> None:
    answer_many(project, ben, 3)
    embed_and_absorb(project)
    stale = states.load_state(project.pk)
    assert stale is not None
    Estimator.objects.filter(role="active").update(step=99)
    answer(project, ben)
    with pytest.raises(Exception, match="moved by another worker"):
        from learner.tasks.absorbing import COLUMNS, absorb_batch, waiting

        absorb_batch(stale, list(waiting(project.pk, 48).values_list(*COLUMNS)))
    assert Judgment.objects.filter(absorbed_step=None).count() == 1
