"""Who gets which pair: guidelines first, limits, pairs that come back, gold that nobody can tell apart."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import draws, judging, serving
from annotate.judging import Submission
from annotate.models import Arm, Comparison, Judgment, Lease, Membership, Project, Role, User
from tests.conftest import fill
from tests.test_comparing import SCRIPT, judge_url, leases_on, nothing_on, page_of, shown

pytestmark = pytest.mark.django_db


def acknowledge(client: Client, project: Project, version: object) -> None:
    client.post(reverse("acknowledge", args=[project.slug]), {"version": version})


def test_guidelines_are_read_before_the_first_pair_and_again_when_they_change(
    as_ben: Client, project: Project
) -> None:
    Project.objects.update(guidelines="Be **kind**.")
    assert nothing_on(as_ben, project) == "guidelines"
    assert Lease.objects.count() == 0
    acknowledge(as_ben, project, 1)
    assert len(shown(as_ben, project)) == 2
    Project.objects.update(guidelines="Be **kinder**.", guidelines_version=2)
    html = as_ben.get(page_of(project)).content.decode()
    assert "The guidelines have changed" in html
    assert "<strong>kinder</strong>" in html
    assert leases_on(html) == []
    acknowledge(as_ben, project, 2)
    assert len(shown(as_ben, project)) == 2


@pytest.mark.parametrize("version", ["1", "3", "-2", "x", "", "9" * 40, "9" * 5_000])
def test_only_the_version_that_is_shown_can_be_acknowledged(
    as_ben: Client, project: Project, version: str
) -> None:
    Project.objects.update(guidelines="Be kind.", guidelines_version=2)
    acknowledge(as_ben, project, version)
    assert nothing_on(as_ben, project).startswith("guidelines")


def test_an_answer_in_flight_is_taken_while_the_guidelines_change(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    Project.objects.update(guidelines="Be kind.", guidelines_version=2)
    html = as_ben.post(judge_url(lease), {"side": "left"}, **SCRIPT).content.decode()
    assert Judgment.objects.count() == 1
    assert 'data-nothing="guidelines"' in html
    assert leases_on(html) == []


def test_a_limit_per_annotator_ends_their_work_and_nobody_elses(
    as_ben: Client, as_cho: Client, project: Project
) -> None:
    Project.objects.update(annotator_limit=3)
    for _ in range(3):
        as_ben.post(judge_url(shown(as_ben, project)[0]), {"side": "left"})
    assert nothing_on(as_ben, project) == "limit"
    assert Judgment.objects.count() == 3
    assert nothing_on(as_cho, project) == ""


def test_a_pair_that_was_left_to_expire_comes_back_to_the_same_annotator(ben: User) -> None:
    small = Project.objects.create(name="Small", slug="small", overlap_share=0.0)
    fill(small, prompts=1, responses=2)
    lease = serving.leases_for(small, ben, 1)[0]
    serving.release_expired(small, lease.expires_at)
    again = serving.leases_for(small, ben, 1)[0]
    assert (again.pk, again.swapped, again.outcome) == (lease.pk, lease.swapped, "open")
    assert again.expires_at > timezone.now()
    assert judging.record(ben, again.pk, Submission("left")).pk
    assert Comparison.objects.get().taken == 1


def test_a_pair_that_was_skipped_or_judged_never_comes_back(ben: User) -> None:
    small = Project.objects.create(name="Small", slug="small", overlap=2, overlap_share=1.0)
    fill(small, prompts=1, responses=3)
    for end in range(3):
        lease = serving.leases_for(small, ben, 1)[0]
        if end:
            judging.skip(ben, lease.pk, "unclear")
        else:
            judging.record(ben, lease.pk, Submission("left"))
    assert serving.leases_for(small, ben, 1) == []


@pytest.fixture
def golden(project: Project) -> Project:
    """A project of which every second pair is gold, with ten gold pairs."""
    project.gold_share = 0.5
    project.save()
    for prompt in list(project.prompts.filter(is_evaluation=False))[:10]:
        first, second = prompt.responses.order_by("pk")[:2]
        Comparison.objects.create(
            project=project, prompt=prompt, first=first, second=second, arm=Arm.GOLD,
            gold_answer="second", wanted=serving.EVERYBODY,
        )  # fmt: skip
    return project


def arms_of(project: Project, annotator: User, count: int) -> list[str]:
    arms = []
    for _ in range(count):
        lease = serving.leases_for(project, annotator, 1)[0]
        arms.append(lease.comparison.arm)
        judging.record(annotator, lease.pk, Submission("left"))
    return arms


def test_gold_is_mixed_in_at_its_share_to_everyone_and_never_twice(
    golden: Project, ben: User, cho: User
) -> None:
    for annotator in (ben, cho):
        arms = arms_of(golden, annotator, 18)
        lots = [draws.is_gold(golden, annotator.pk, number) for number in range(18)]
        assert arms.count("gold") == min(sum(lots), 10)
        assert set(arms) == {"gold", "control"}
        had = Lease.objects.filter(annotator=annotator, comparison__arm="gold")
        assert had.count() == arms.count("gold")
    assert Comparison.objects.filter(arm="gold", judged=2).exists()


def test_gold_falls_to_everyone_at_its_share(golden: Project) -> None:
    golden.gold_share = 0.3
    for annotator in (1, 2, 3):
        lots = [draws.is_gold(golden, annotator, number) for number in range(1000)]
        assert sum(lots) / 1000 == pytest.approx(0.3, abs=0.05)


def test_without_a_share_no_gold_pair_is_ever_served(golden: Project, ben: User) -> None:
    Project.objects.update(gold_share=0)
    golden.refresh_from_db()
    assert "gold" not in arms_of(golden, ben, 10)


def bare(html: str) -> str:
    """The page's pairs without what differs between any two pairs: texts, numbers, names of leases, tokens."""
    html = re.sub(r">[^<]*<", "><", html[html.index("<article") : html.rindex("</article>")])
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|value=\"\w{64}\"", "", html)


def test_a_gold_pair_looks_like_any_other(as_ben: Client, ben: User, golden: Project) -> None:
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for _ in range(12):
        lease = shown(as_ben, golden)[0]
        html = as_ben.get(page_of(golden)).content.decode()
        seen[lease.comparison.arm == "gold"].add(bare(html[: html.index("</article>") + 10]))
        as_ben.post(judge_url(lease), {"side": "tie"})
    assert seen[True] == seen[False]
    assert len(seen[True]) == 1


def test_a_budget_that_is_reached_serves_no_gold(as_ben: Client, golden: Project) -> None:
    Project.objects.update(budget=0)
    assert nothing_on(as_ben, golden) == "budget"


def test_an_admin_of_the_installation_reads_no_guidelines_first(project: Project) -> None:
    Project.objects.update(guidelines="Be kind.")
    project.refresh_from_db()
    root = User.objects.create_superuser("root", "root@example.org", "x" * 12)
    assert serving.unread_guidelines(project, root) is None
    Membership.objects.create(project=project, user=root, role=Role.ADMIN)
    assert serving.unread_guidelines(project, root) == 0


def test_a_lease_that_expires_while_it_is_renewed_elsewhere_stays_one_row(
    project: Project, ben: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for _ in range(3):
        serving.leases_for(project, ben, 2)
    assert Lease.objects.filter(comparison=lease.comparison_id, annotator=ben).count() == 1
    assert Comparison.objects.get(pk=lease.comparison_id).taken == 1
