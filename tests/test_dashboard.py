"""What the dashboard says, number by number: counts, sides, agreement, verdicts, worker, waiting, jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone, translation

from annotate import progress
from annotate.models import (
    Comparison,
    Estimator,
    Evaluation,
    FeatureVersion,
    Heartbeat,
    Job,
    Judgment,
    Lease,
    Membership,
    Project,
    Response,
    Role,
    SourceReward,
    User,
)
from annotate.progress import learned, paying, tally
from annotate.progress.intervals import ceiling, quantile
from annotate.progress.learned import Point
from learner import efficiency
from learner.efficiency.sequence import MINIMUM_JUDGMENTS, MINIMUM_PROMPTS
from learner.log import CHECKPOINTS
from tests.conftest import person

pytestmark = pytest.mark.django_db

VERDICT = "Not yet distinguishable on 40 evaluation judgments of 30 prompts: ..."


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def free_pairs(project: Project) -> Iterator[tuple[Response, Response]]:
    """Pairs of one prompt's responses that nobody was asked about."""
    asked = set(Comparison.objects.filter(project=project).values_list("first", "second"))
    responses = list(Response.objects.filter(project=project).order_by("pk"))
    for first, second in combinations(responses, 2):
        if first.prompt_id == second.prompt_id and (first.pk, second.pk) not in asked:
            yield first, second


def compared(project: Project, arm: str = "active", wanted: int = 1) -> Comparison:
    first, second = next(free_pairs(project))
    return Comparison.objects.create(
        project=project, prompt=first.prompt, first=first, second=second, arm=arm,
        wanted=wanted, taken=wanted, judged=wanted,
    )  # fmt: skip


def leased(comparison: Comparison, who: User, swapped: bool = False, outcome: str = "judged") -> Lease:
    return Lease.objects.create(
        project=comparison.project, comparison=comparison, annotator=who, swapped=swapped,
        outcome=outcome, expires_at=timezone.now(),
    )  # fmt: skip


def judged(comparison: Comparison, who: User, answer: str = "first", **fields: Any) -> Judgment:
    lease = leased(comparison, who, fields.pop("swapped", False))
    return Judgment.objects.create(
        project=comparison.project, comparison=comparison, lease=lease, annotator=who, answer=answer, **fields
    )


def measured(project: Project, role: str, n: int, **metrics: Any) -> Evaluation:
    version, _ = FeatureVersion.objects.get_or_create(
        project=project, state="live", defaults={"encoder": "hashing"}
    )
    estimator, _ = Estimator.objects.get_or_create(project=project, feature_version=version, role=role)
    metrics.setdefault("log_loss", [0.6, 0.5, 0.7])
    metrics.setdefault("accuracy", [0.7, 0.6, 0.8])
    return Evaluation.objects.create(estimator=estimator, judgments=n, held_out=40, metrics=metrics)


# --- Counts -------------------------------------------------------------------------------------------------


def test_judgments_are_counted_by_day_and_arm(project: Project, ben: User) -> None:
    late = datetime.fromisoformat("2026-03-01T23:59:59+00:00")
    judged(compared(project, "active"), ben, created_at=late)
    judged(compared(project, "control"), ben, created_at=late + timedelta(seconds=2))
    judged(compared(project, "control"), ben, created_at=late + timedelta(days=2))
    figure = progress.figure(project, "days")
    assert [column.name for column in figure.columns] == ["start", "active", "control", "evaluation", "total"]
    assert list(figure.rows) == [
        ("2026-03-01", 1, 0, 0, 1), ("2026-03-02", 0, 1, 0, 1), ("2026-03-03", 0, 1, 0, 1),
    ]  # fmt: skip


def test_a_replaced_judgment_counts_no_more_also_when_it_was_counted_before(
    project: Project, ben: User
) -> None:
    first = judged(compared(project), ben)
    judged(compared(project), ben, answer="tie")
    assert tally.current(project).arms["active"] == 2
    Judgment.objects.filter(pk=first.pk).update(replaced_at=timezone.now())
    counts = tally.current(project)
    assert counts.arms["active"] == 1
    assert (counts.side("left"), counts.side("tie")) == (0, 1)


def test_only_new_rows_are_read_again(project: Project, ben: User) -> None:
    judged(compared(project), ben)
    tally.current(project)
    kept = tally.kept(project)
    assert kept.rows == 1
    judged(compared(project), ben)
    assert tally.current(project, kept).arms["active"] == 2
    assert tally.kept(project).rows == 2


def test_deleted_rows_are_noticed_and_everything_is_counted_again(project: Project, ben: User) -> None:
    gone = judged(compared(project), ben)
    judged(compared(project), ben)
    assert tally.current(project).rows == 2
    gone.delete()
    assert tally.current(project).arms["active"] == 1
    assert progress.overview(project).working.made == 1


def test_a_row_that_is_committed_late_with_an_older_number_is_counted(project: Project, ben: User) -> None:
    judged(compared(project), ben, id=100)
    assert tally.current(project).arms["active"] == 1
    judged(compared(project), ben, id=50)
    assert tally.current(project).arms["active"] == 2


def test_imported_judgments_are_told_apart_and_drawn_on_no_day(project: Project) -> None:
    Judgment.objects.create(project=project, comparison=compared(project, "imported"), answer="first")
    found = progress.overview(project).working
    assert (found.made, found.imported) == (0, 1)
    assert not found.figure


def test_many_days_become_weeks_and_months(project: Project, ben: User) -> None:
    start = datetime.fromisoformat("2025-01-31T12:00:00+00:00")
    judged(compared(project), ben, created_at=start)
    last = judged(compared(project), ben, created_at=start + timedelta(days=100))
    weeks = progress.figure(project, "days")
    assert weeks.columns[0].title == "Week"
    assert weeks.rows[0][0] == "2025-01-27"
    assert sum(row[-1] for row in weeks.rows) == 2
    Judgment.objects.filter(pk=last.pk).update(created_at=start + timedelta(days=900))
    cache.clear()
    months = progress.figure(project, "days")
    assert [row[0] for row in months.rows[:3]] == ["2025-01-01", "2025-02-01", "2025-03-01"]


def test_the_page_takes_at_most_fourteen_queries(
    project: Project, ben: User, as_ada: Client, django_assert_max_num_queries: Any
) -> None:
    for arm in ("active", "control", "evaluation"):
        judged(compared(project, arm), ben, lead_time=4.0)
    measured(project, "production", 25)
    with django_assert_max_num_queries(14):
        as_ada.get("/projects/tides/")
    with django_assert_max_num_queries(14):
        as_ada.get("/projects/tides/")


def test_a_script_gets_the_parts_and_a_reviewer_may_look(project: Project, dan: User, as_dan: Client) -> None:
    Membership.objects.create(project=project, user=dan, role=Role.REVIEWER)
    assert b"<html" in as_dan.get("/projects/tides/").content
    parts = as_dan.get("/projects/tides/", headers={"HX-Request": "true"}).content
    assert b"<html" not in parts
    assert b"data-part" in parts


def test_the_last_day_counts_current_answers_of_people(project: Project, ben: User) -> None:
    judged(compared(project), ben)
    judged(compared(project), ben, replaced_at=timezone.now(), replaced_reason="edited")
    judged(compared(project), ben, created_at=timezone.now() - timedelta(days=2))
    Judgment.objects.create(project=project, comparison=compared(project, "imported"), answer="first")
    assert progress.overview(project).working.last_day == 1


# --- Is it working? -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "alive"), [(10, True), (45, False)])
def test_a_worker_is_alive_if_it_was_heard_within_half_a_minute(
    project: Project, age: float, alive: bool
) -> None:
    Heartbeat.objects.create(
        worker="w", queues="embed,jobs,learn", seen_at=timezone.now() - timedelta(seconds=age)
    )
    found = progress.overview(project).working
    assert found.worker.is_alive == alive
    assert found.sentence.startswith("Ready" if alive else "No.")


def test_a_worker_that_does_not_learn_is_not_the_worker_that_is_missed(project: Project) -> None:
    Heartbeat.objects.create(worker="gpu", queues="embed")
    assert not progress.overview(project).working.worker.is_alive


def test_waiting_judgments_and_the_time_to_influence_are_told(project: Project, ben: User) -> None:
    made = timezone.now() - timedelta(minutes=5)
    for step, seconds in enumerate((1, 2, 3), start=1):
        at = made + timedelta(seconds=seconds)
        judged(compared(project), ben, created_at=made, absorbed_step=step, absorbed_at=at)
    judged(compared(project), ben)
    found = progress.overview(project).working
    assert found.waiting == 1
    assert found.lag_of == 3
    assert found.lag == (pytest.approx(2.0), pytest.approx(2.9))


def test_a_running_job_shows_its_progress_and_a_failed_one_stays_for_a_day(
    project: Project, as_ada: Client
) -> None:
    Job.objects.create(project=project, kind="embed", state="running", done=30, total=120, rate=3.0)
    failed = Job.objects.create(
        project=project, kind="export", state="failed", message="<b>disk full</b>", finished_at=timezone.now()
    )
    newest, running = progress.overview(project).working.jobs
    assert (running.percent, running.seconds_left) == (25.0, 30.0)
    assert newest.has_failed
    assert b"&lt;b&gt;disk full" in as_ada.get("/projects/tides/").content
    Job.objects.filter(pk=failed.pk).update(finished_at=timezone.now() - timedelta(days=2))
    assert len(progress.overview(project).working.jobs) == 1


# --- Is active collection paying? ---------------------------------------------------------------------------


def test_the_limits_of_a_first_verdict_are_those_of_the_learner() -> None:
    assert CHECKPOINTS[0] == learned.FIRST_CHECKPOINT
    assert (learned.FIRST_VERDICT, learned.FIRST_VERDICT_PROMPTS) == (MINIMUM_JUDGMENTS, MINIMUM_PROMPTS)
    assert {efficiency.AHEAD, efficiency.OPEN, efficiency.BEHIND} == {*paying.TONES}


def test_before_a_verdict_the_page_says_how_many_judgments_are_missing(project: Project, ben: User) -> None:
    for _ in range(4):
        judged(compared(project, "evaluation"), ben)
    judged(compared(project, "control"), ben)
    found = progress.overview(project).paying
    assert found.missing == ["26 evaluation judgments", "25 active judgments", "24 control judgments"]
    assert found.sentence == "There is no verdict yet."


@pytest.mark.parametrize(
    ("gain", "name"), [(0.3, "active is ahead"), (0.0, "not yet"), (-0.3, "random is ahead")]
)
def test_the_verdict_is_the_learners_in_the_readers_language(gain: float, name: str) -> None:
    losses, more = np.random.default_rng(1).normal([0.6, gain], [0.05, 0.1], size=(400, 2)).T
    found = efficiency.verdict(losses + more, losses, np.arange(400))
    sequence = [found.interval.estimate, found.interval.low, found.interval.high]
    metrics = {
        "verdict": found.name,
        "sentence": found.sentence,
        "sequence": sequence,
        "prompts": found.prompts,
    }
    point = Point(100, found.judgments, metrics)
    assert name in found.name
    assert paying.verdict_sentence(point) == found.sentence
    with translation.override("de"):
        assert "400" in paying.verdict_sentence(point) != found.sentence


def test_a_verdict_is_shown_in_the_words_of_the_learner(project: Project) -> None:
    measured(project, "control", 25)
    gap = {"gap": [0.05, -0.1, 0.2], "verdict": "not yet distinguishable", "sentence": VERDICT}
    measured(project, "active", 25, **gap)
    measured(project, "active", 50)
    found = progress.overview(project).paying
    assert (found.sentence, found.tone, found.missing) == (VERDICT, "open", [])
    # half-width 0.15 must shrink to 0.05: nine times the 40 evaluation judgments, 320 more
    assert "at least some 320 more evaluation judgments" in found.forecast


@pytest.mark.parametrize(("name", "tone"), [("active is ahead", "good"), ("random is ahead", "warn")])
def test_a_settled_verdict_has_its_own_mark_and_no_forecast(project: Project, name: str, tone: str) -> None:
    measured(project, "control", 25)
    measured(project, "active", 25, gap=[0.1, 0.02, 0.2], verdict=name, sentence="It is settled.")
    found = progress.overview(project).paying
    assert (found.tone, found.forecast) == (tone, "")


def test_the_arms_are_compared_at_equal_counts_only(project: Project) -> None:
    for n in (25, 50, 75):
        measured(project, "active", n)
    measured(project, "control", 25)
    measured(project, "control", 50)
    figure = progress.figure(project, "log-loss")
    assert [row[0] for row in figure.rows] == [25, 50]


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (None, ""),
        ({"ratio": [None, None, None], "at": 200, "censored": False}, ""),
        (
            {"ratio": [2.5, 1.5, 4.0], "at": 200, "censored": False},
            "80 active labels did the work of 200 random ones: one was worth 2.5 (1.5 to 4).",
        ),
        (
            {"ratio": [2.5, 1.5, None], "at": 200, "censored": True},
            "80 active labels did the work of 200 random ones: one was worth at least 2.5 (1.5 to unbounded).",
        ),
        (
            {"ratio": [0.0, 0.0, 0.9], "at": 200, "censored": True},
            "The active arm has not yet reached the log-loss that 200 random labels gave.",
        ),
    ],
)
def test_labels_saved_are_told_as_far_as_they_were_measured(saved: dict[str, Any] | None, words: str) -> None:
    assert paying.saved_sentence(saved) == words


# --- Can I stop? --------------------------------------------------------------------------------------------


def test_the_last_doubling_is_judged_by_its_interval(project: Project) -> None:
    measured(project, "production", 100, log_loss=[0.65, 0.6, 0.7])
    assert "Too early" in progress.overview(project).stopping.sentence
    measured(project, "production", 200, log_loss=[0.55, 0.5, 0.6])
    assert "The last doubling paid." in progress.overview(project).stopping.sentence
    measured(project, "production", 400, log_loss=[0.54, 0.5, 0.6])
    assert "nothing that can be measured" in progress.overview(project).stopping.sentence


def test_what_is_left_of_the_budget_is_told_in_days_at_the_present_pace(project: Project, ben: User) -> None:
    project.budget = 10
    project.save()
    for _ in range(2):
        judged(compared(project), ben)
    words = progress.overview(project).stopping.budget
    assert words == (
        "2 of 10 judgments of the budget are made, 8 are left, about 4 days at this week’s pace."
    )


# --- Can I trust it? ----------------------------------------------------------------------------------------


def test_left_means_left_on_the_screen(project: Project, ben: User) -> None:
    for answer, swapped in (("first", False), ("second", True), ("second", False), ("tie", True)):
        judged(compared(project), ben, answer=answer, swapped=swapped)
    found = progress.overview(project).trust
    assert (found.left.count, found.left.total) == (2, 3)
    assert (found.ties.count, found.ties.total) == (1, 4)


def test_imported_ties_are_no_answers_of_people_here(project: Project, ben: User) -> None:
    judged(compared(project), ben, answer="tie")
    judged(compared(project), ben)
    leased(compared(project), ben, outcome="skipped")
    for answer in ("tie", "both_bad", "first"):
        Judgment.objects.create(project=project, comparison=compared(project, "imported"), answer=answer)
    found = progress.overview(project).trust
    shares = [(one.count, one.total) for one in (found.ties, found.both_bad, found.skipped, found.left)]
    assert shares == [(1, 2), (0, 2), (1, 3), (1, 1)]


def test_an_annotator_who_always_takes_the_left_is_named_and_an_even_one_is_not(
    project: Project, ben: User, cho: User, as_ada: Client
) -> None:
    for i in range(30):
        judged(compared(project), ben, answer="first")
        judged(compared(project), cho, answer="first" if i % 2 else "second")
    found = progress.overview(project).trust
    assert {one.name: one.is_one_sided for one in found.annotators} == {"ben": True, "cho": False}
    assert found.sentence.startswith("Look at ben:")
    assert "one side" in as_ada.get("/projects/tides/").content.decode()


def test_few_answers_accuse_nobody(project: Project, ben: User) -> None:
    for _ in range(10):
        judged(compared(project), ben, answer="first")
    found = progress.overview(project).trust
    assert not found.annotators[0].is_one_sided
    assert not found.figures[0]


def test_skips_are_counted_for_each_annotator_and_for_all(project: Project, ben: User, cho: User) -> None:
    judged(compared(project), ben, lead_time=4.0)
    judged(compared(project), ben, lead_time=8.0)
    leased(compared(project), cho, outcome="skipped")
    leased(compared(project), cho, outcome="expired")
    found = progress.overview(project).trust
    assert (found.skipped.count, found.skipped.total) == (1, 3)
    rows = [(one.name, one.judgments, one.skipped, one.lead_time) for one in found.annotators]
    assert rows == [("ben", 2, 0, 6.0), ("cho", 0, 1, None)]


def test_agreement_is_over_pairs_of_judgments_of_one_comparison(
    project: Project, ben: User, cho: User
) -> None:
    eve = person("eve")
    three = compared(project, wanted=3)
    for who, answer in ((ben, "first"), (cho, "first"), (eve, "second")):
        judged(three, who, answer=answer, swapped=who == cho)
    two = compared(project, wanted=2)
    for who in (ben, cho):
        judged(two, who, answer="tie")
    judged(compared(project), ben)
    found = progress.overview(project).trust.agreement
    assert (found.alike.count, found.alike.total) == (2, 4)
    assert (found.decided.count, found.decided.total) == (1, 3)


def test_the_ceiling_lies_above_what_any_mixture_of_easy_and_hard_pairs_allows() -> None:
    assert (ceiling(1.0), ceiling(0.5), ceiling(0.3)) == (1.0, 0.5, 0.5)
    chances = [0.5, 0.6, 0.9, 1.0]
    agreement = sum(p * p + (1 - p) ** 2 for p in chances) / len(chances)
    best = sum(chances) / len(chances)
    assert agreement < best < ceiling(agreement)


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 7), (50, 100), (100, 100)])
def test_wilson_limits_are_those_of_the_learner(count: int, total: int) -> None:
    expected = efficiency.wilson(count, total)
    share = progress.Share(count, total)
    assert share.limits == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_quantiles_are_linear_between_neighbours() -> None:
    assert quantile([], 0.5) is None
    assert quantile([4.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([0.0, 10.0], 0.95) == pytest.approx(9.5)


# --- What did we learn? -------------------------------------------------------------------------------------


def test_sources_stand_in_the_order_of_their_lower_limits(project: Project) -> None:
    for source, reward, half in (("bold", 0.9, 0.8), ("safe", 0.7, 0.1), ("poor", -0.5, 0.2)):
        SourceReward.objects.create(
            project=project, source=source, responses=9, reward=reward,
            low=reward - half, high=reward + half, step=1,
        )  # fmt: skip
    found = progress.overview(project).rewards
    assert [row[0] for row in found.figure.rows] == ["safe", "bold", "poor"]
    assert found.sentence == (
        "safe: its mean reward is at least +0.60, +0.70 by the best estimate. "
        "The intervals of these reach into its own: bold."
    )
