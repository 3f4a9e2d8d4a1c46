"""How far to trust an annotator, what reviewers settle, and where gold comes from."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import judging, serving, trust
from annotate.judging import Submission
from annotate.models import (
    Arm,
    AuditEvent,
    Comparison,
    Judgment,
    Lease,
    Membership,
    Project,
    Response,
    Role,
    User,
)
from tests.conftest import person, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_rae(project: Project) -> Client:
    """Rae reviews."""
    rae = person("rae")
    Membership.objects.create(project=project, user=rae, role=Role.REVIEWER)
    return signed_in(rae)


def test_reviewers_know_annotators_by_a_number_and_admins_by_name(
    as_rae: Client, as_ada: Client, project: Project, ben: User
) -> None:
    """Reviews are blind: on the dashboard, in its chart's files and on the annotator's page as in the data browser."""
    User.objects.filter(pk=ben.pk).update(first_name="Benjamin", last_name="Brook")
    for _ in range(20):
        judge(project, ben, "first")
    pages = ("/projects/tides/", "/projects/tides/charts/sides.csv", url("annotator", ben.pk))
    for page in pages:
        reviewer, admin = (as_.get(page).content.decode() for as_ in (as_rae, as_ada))
        assert f"Annotator {ben.pk}" in reviewer, page
        assert "Brook" not in reviewer, page
        assert "Benjamin Brook" in admin, page


def judge(project: Project, annotator: User, answer: str, seconds: float = 3.0, why: str = "") -> Judgment:
    """Answer the next pair in terms of the comparison."""
    lease = serving.leases_for(project, annotator, 1)[0]
    side = judging.side_of(answer, lease.swapped)
    judgment = judging.record(annotator, lease.pk, Submission(side, rationale=why))
    Judgment.objects.filter(pk=judgment.pk).update(lead_time=seconds)
    return judgment


@pytest.fixture
def overlapping(project: Project) -> Project:
    project.overlap, project.overlap_share = 2, 1.0
    project.save()
    return project


def url(name: str, *arguments: object) -> str:
    return reverse(name, args=["tides", *arguments])


def test_only_reviewers_and_admins_see_who_is_how_reliable(
    as_ben: Client, as_dan: Client, as_ada: Client, as_rae: Client, ben: User, dan: User, project: Project
) -> None:
    for path in (url("annotator", ben.pk), url("disagreements"), url("gold")):
        assert as_ben.get(path).status_code == 404
        assert as_dan.get(path).status_code == 404
        assert as_ada.get(path).status_code == 200
        assert as_rae.get(path).status_code == 200
    for stranger in (dan.pk, 10**6, 10**40):
        assert as_ada.get(url("annotator", stranger)).status_code == 404


def test_a_record_counts_what_was_done(overlapping: Project, ben: User, cho: User) -> None:
    for answer, seconds in (("first", 0.5), ("second", 2.0), ("tie", 4.0), ("first", 8.0)):
        judge(overlapping, ben, answer, seconds)
    for answer in ("first", "first", "tie"):
        judge(overlapping, cho, answer)
    last = Judgment.objects.filter(annotator=ben).latest("pk")
    judging.edit(ben, overlapping, last.pk, Submission("tie"))
    lease = serving.leases_for(overlapping, ben, 1)[0]
    judging.skip(ben, lease.pk, "unclear")
    record = trust.record_of(overlapping, ben)
    assert (record.judgments, record.edited, record.undone) == (4, 1, 0)
    assert (record.ties.count, record.left.total) == (2, 2)
    assert (record.others.count, record.others.total) == (2, 3)
    assert (record.hasty.count, record.hasty.total) == (1, 4)
    assert record.lead_time == pytest.approx(3.0)
    assert record.reasons == [("unclear", 1)]
    assert (record.skipped.count, record.skipped.total) == (1, 5)


def test_left_is_left_on_the_screen(project: Project, ben: User) -> None:
    for _ in range(6):
        lease = serving.leases_for(project, ben, 1)[0]
        judging.record(ben, lease.pk, Submission("left"))
    left = trust.record_of(project, ben).left
    assert (left.count, left.total) == (6, 6)


def test_pace_leaves_out_the_breaks() -> None:
    start = timezone.now()
    minutes = [0, 1, 2, 60, 61, 62]
    found = trust.pace([start + timedelta(minutes=at) for at in reversed(minutes)])
    assert found == pytest.approx(60.0)
    assert trust.pace([start]) is None


def gold(project: Project, count: int, answer: str = "second") -> None:
    for prompt in list(project.prompts.filter(is_evaluation=False))[:count]:
        first, second = prompt.responses.order_by("pk")[:2]
        Comparison.objects.create(
            project=project, prompt=prompt, first=first, second=second, arm=Arm.GOLD,
            gold_answer=answer, wanted=serving.EVERYBODY,
        )  # fmt: skip


def test_agreement_with_gold_is_told_to_admins_at_once_and_to_the_annotator_tomorrow(
    as_ben: Client, as_ada: Client, project: Project, ben: User
) -> None:
    gold(project, 10)
    Project.objects.update(gold_share=1.0)
    project.refresh_from_db()
    for _ in range(8):
        judge(project, ben, "second")
    for _ in range(2):
        judge(project, ben, "first")
    record = trust.record_of(project, ben)
    assert (record.gold.count, record.gold.total) == (8, 10)
    page = as_ada.get(url("annotator", ben.pk)).content.decode()
    assert "80%" in page
    assert "49% to 94%" in page
    assert "80%" not in as_ben.get(url("earlier")).content.decode()
    Judgment.objects.update(created_at=timezone.now() - timedelta(days=1))
    assert "80%" in as_ben.get(url("earlier")).content.decode()


def test_a_disagreement_is_settled_once_beside_the_judgments(
    as_rae: Client, overlapping: Project, ben: User, cho: User
) -> None:
    judge(overlapping, ben, "first", why="Clearer <b>")
    judge(overlapping, cho, "second")
    comparison = Comparison.objects.get(judged=2)
    html = as_rae.get(url("disagreements")).content.decode()
    assert "Clearer &lt;b&gt;" in html
    assert "1 to settle" in html
    rae = User.objects.get(username="rae")
    swapped = trust_side(overlapping, comparison, rae)
    as_rae.post(url("settle", comparison.pk), {"side": "left", "note": "see B"})
    comparison.refresh_from_db()
    assert comparison.settled_answer == ("second" if swapped else "first")
    assert (comparison.settled_by, comparison.settled_note) == (rae, "see B")
    assert Judgment.objects.filter(replaced_at=None).count() == 2
    assert AuditEvent.objects.filter(verb="settled", actor=rae).exists()
    again = as_rae.post(url("settle", comparison.pk), {"side": "right"}, follow=True).content.decode()
    assert "settled meanwhile" in again
    comparison.refresh_from_db()
    assert comparison.settled_answer == ("second" if swapped else "first")


def trust_side(project: Project, comparison: Comparison, reviewer: User) -> bool:
    from annotate import draws

    return draws.is_swapped(project, comparison.pk, reviewer.pk)


def test_agreement_is_no_disagreement_and_an_edit_can_end_one(
    overlapping: Project, ben: User, cho: User
) -> None:
    judge(overlapping, ben, "first")
    second = judge(overlapping, cho, "second")
    assert trust.disagreements(overlapping).count() == 1
    lease = Lease.objects.get(pk=second.lease_id)
    judging.edit(cho, overlapping, second.pk, Submission(judging.side_of("first", lease.swapped)))
    assert trust.disagreements(overlapping).count() == 0


def test_a_disagreement_can_wait(as_rae: Client, overlapping: Project, ben: User, cho: User) -> None:
    for _ in range(2):
        judge(overlapping, ben, "first")
        judge(overlapping, cho, "second")
    first, second = trust.disagreements(overlapping).values_list("pk", flat=True)
    assert url("settle", first) in as_rae.get(url("disagreements")).content.decode()
    assert url("settle", second) in as_rae.get(url("disagreements"), {"after": first}).content.decode()
    assert "left the rest" in as_rae.get(url("disagreements"), {"after": second}).content.decode()
    assert as_rae.get(url("disagreements"), {"after": "9" * 30}).status_code == 200


def test_imported_judgments_wait_for_a_reviewer_only_when_asked_for(
    as_rae: Client, overlapping: Project, ben: User, cho: User
) -> None:
    judge(overlapping, ben, "first")
    judge(overlapping, cho, "second")
    own = Comparison.objects.get(judged=2)
    other = imported_votes(overlapping, "first", "second")
    assert list(trust.disagreements(overlapping)) == [own]
    assert list(trust.disagreements(overlapping, imported=True)) == [own, other]
    html = as_rae.get(url("disagreements")).content.decode()
    assert "1 to settle" in html
    assert "Only judgments made here are counted" in html
    html = as_rae.get(url("disagreements") + "?imported").content.decode()
    assert "2 to settle" in html
    assert f"?after={own.pk}&amp;imported" in html
    answer = as_rae.post(url("settle", other.pk) + "?imported", {"side": "left"})
    assert answer.headers["Location"].endswith("disagreements/?imported")
    assert "1 to settle" in as_rae.get(url("disagreements") + "?imported").content.decode()


def test_an_imported_vote_against_one_made_here_is_no_disagreement_of_annotators(
    overlapping: Project, ben: User, cho: User
) -> None:
    judge(overlapping, ben, "first")
    judge(overlapping, cho, "first")
    comparison = Comparison.objects.get(judged=2)
    Judgment.objects.create(project=overlapping, comparison=comparison, answer="second")
    assert not trust.disagreements(overlapping)
    assert list(trust.disagreements(overlapping, imported=True)) == [comparison]
    assert [number for _side, number, _why in trust.votes(comparison, False, imported=False)] == [2]


def imported_votes(project: Project, *answers: str) -> Comparison:
    """A pair with votes that came with a file."""
    pair = trust.unasked_pair(project)
    assert pair is not None
    comparison = Comparison.objects.create(
        project=project, prompt=pair[0].prompt, first=pair[0], second=pair[1], arm=Arm.IMPORTED,
        wanted=len(answers), taken=len(answers), judged=len(answers),
    )  # fmt: skip
    for answer in answers:
        Judgment.objects.create(project=project, comparison=comparison, answer=answer)
    return comparison


@pytest.mark.parametrize("sent", [{}, {"side": "up"}, {"side": "left", "note": "a\0b"}])
def test_a_settlement_without_an_answer_is_refused(
    as_rae: Client, overlapping: Project, ben: User, cho: User, sent: dict[str, str]
) -> None:
    judge(overlapping, ben, "first")
    judge(overlapping, cho, "second")
    comparison = Comparison.objects.get(judged=2)
    as_rae.post(url("settle", comparison.pk), sent)
    comparison.refresh_from_db()
    assert comparison.settled_answer == ""


def test_annotators_and_other_projects_settle_nothing(
    as_ben: Client, overlapping: Project, ben: User, cho: User
) -> None:
    judge(overlapping, ben, "first")
    judge(overlapping, cho, "second")
    comparison = Comparison.objects.get(judged=2)
    assert as_ben.post(url("settle", comparison.pk), {"side": "left"}).status_code == 404
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=ben, role=Role.ADMIN)
    assert as_ben.post(reverse("settle", args=["other", comparison.pk]), {"side": "left"}).status_code == 404
    comparison.refresh_from_db()
    assert comparison.settled_answer == ""


def test_a_reviewer_makes_gold_of_a_pair_nobody_was_asked(
    as_rae: Client, project: Project, ben: User
) -> None:
    page = as_rae.get(url("gold"))
    comparison = page.context["comparison"]
    sent = {"first": comparison.first_id, "second": comparison.second_id, "side": "left"}
    as_rae.post(url("gold"), sent)
    made = Comparison.objects.get(arm="gold")
    assert (made.first_id, made.second_id, made.gold_answer) == (
        comparison.first_id,
        comparison.second_id,
        "first",
    )
    again = as_rae.post(url("gold"), sent, follow=True).content.decode()
    assert "asked about this pair already" in again
    Project.objects.update(gold_share=1.0)
    project.refresh_from_db()
    assert serving.leases_for(project, ben, 1)[0].comparison_id == made.pk


def test_gold_is_only_made_of_two_responses_to_one_training_prompt(as_rae: Client, project: Project) -> None:
    held_out = Response.objects.filter(prompt__is_evaluation=True).order_by("pk")[:2]
    one, other = (
        Response.objects.filter(prompt__is_evaluation=False).order_by("pk").values_list("pk", flat=True)[3:5]
    )
    as_rae.post(url("gold"), {"first": one - 1, "second": one, "side": "left", "note": "a\0b"})
    for pair in ((held_out[0].pk, held_out[1].pk), (one, other), (one, one), ("x", 10**30)):
        as_rae.post(url("gold"), {"first": pair[0], "second": pair[1], "side": "left"})
    assert not Comparison.objects.filter(arm="gold").exists()


def test_swapped_ids_keep_their_answer(project: Project, ada: User) -> None:
    first, second = project.prompts.filter(is_evaluation=False)[0].responses.order_by("pk")[:2]
    made = trust.make_gold(project, ada, second.pk, first.pk, "left")
    assert (made.first, made.gold_answer) == (first, "second")


ATTACK = "<script>alert(1)</script>"


def test_what_annotators_wrote_is_text_on_the_reviewers_pages(
    as_rae: Client, overlapping: Project, ben: User, cho: User
) -> None:
    judge(overlapping, ben, "first", why=ATTACK)
    judge(overlapping, cho, "second")
    lease = serving.leases_for(overlapping, ben, 1)[0]
    judging.skip(ben, lease.pk, ATTACK)
    User.objects.filter(pk=ben.pk).update(first_name=ATTACK)
    Response.objects.update(text=ATTACK)
    for path in (url("annotator", ben.pk), url("disagreements"), url("gold")):
        html = as_rae.get(path).content.decode()
        assert "alert(1)" in html
        assert "<script>" not in html
