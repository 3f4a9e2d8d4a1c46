"""Undo and skip: what comes back, to whom, and until when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import judging
from annotate.errors import TouchstoneError
from annotate.models import Answer, Comparison, Judgment, Lease, Project
from tests.test_comparing import SCRIPT, judge_url, leases_on, page_of, shown


def test_undo_brings_the_last_pair_back_with_its_sides(as_ben: Client, project: Project) -> None:
    first, second = shown(as_ben, project)
    as_ben.post(judge_url(first), {"side": "left"})
    as_ben.post(reverse("undo", args=[project.slug]))
    again = shown(as_ben, project)
    assert again[:2] == [first, second]
    assert again[0].swapped == first.swapped
    as_ben.post(judge_url(first), {"side": "both_bad"})
    assert Judgment.objects.get(replaced_at=None).answer == Answer.BOTH_BAD


def test_undo_by_script_names_the_pair_that_returned(as_ben: Client, project: Project) -> None:
    first, second = shown(as_ben, project)
    as_ben.post(judge_url(first), {"side": "left", "held": second.pk}, **SCRIPT)
    html = as_ben.post(reverse("undo", args=[project.slug]), {"held": second.pk}, **SCRIPT).content.decode()
    assert f'data-returned="{first.pk}"' in html
    assert leases_on(html)[0] == str(first.pk)


def test_undo_with_nothing_to_undo_says_so(as_ben: Client, project: Project) -> None:
    page = as_ben.post(reverse("undo", args=[project.slug]), follow=True)
    assert "There is nothing to undo." in page.content.decode()


def refused_undo(client: Client, project: Project) -> str:
    """What is said; nothing is taken back."""
    before = Judgment.objects.filter(replaced_at=None).count()
    refused = client.post(reverse("undo", args=[project.slug]), **SCRIPT)
    assert (refused.status_code, Judgment.objects.filter(replaced_at=None).count()) == (409, before)
    return refused.content.decode()


def test_an_answer_older_than_the_window_is_not_taken_back(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    as_ben.post(judge_url(lease), {"side": "left"})
    Lease.objects.filter(pk=lease.pk).update(closed_at=timezone.now() - timedelta(minutes=61))
    assert "can be changed for 60 minutes" in refused_undo(as_ben, project)


def test_an_archived_project_offers_no_undo_and_takes_none(as_ben: Client, project: Project) -> None:
    as_ben.post(judge_url(shown(as_ben, project)[0]), {"side": "left"})
    Project.objects.update(budget=1)
    Lease.objects.filter(outcome="open").delete()
    assert "data-undo-last" in as_ben.get(page_of(project)).content.decode()
    Project.objects.update(archived_at=timezone.now())
    assert "data-undo-last" not in as_ben.get(page_of(project)).content.decode()
    assert "archived" in refused_undo(as_ben, project)


def skip(client: Client, lease: Lease) -> None:
    client.post(reverse("skip", args=[lease.project.slug, lease.pk]), {"reason": "unclear"}, **SCRIPT)


def test_undo_after_a_skip_brings_the_skipped_pair_back(as_ben: Client, project: Project) -> None:
    first, second = shown(as_ben, project)
    as_ben.post(judge_url(first), {"side": "left"})
    skip(as_ben, second)
    assert Comparison.objects.get(pk=second.comparison_id).taken == 0
    html = as_ben.post(reverse("undo", args=[project.slug]), **SCRIPT).content.decode()
    assert f'data-returned="{second.pk}"' in html
    assert Comparison.objects.get(pk=second.comparison_id).taken == 1
    assert Judgment.objects.get(replaced_at=None).lease_id == first.pk
    as_ben.post(reverse("undo", args=[project.slug]), **SCRIPT)
    assert shown(as_ben, project)[:2] == [first, second]


def test_a_skipped_pair_that_somebody_else_has_stays_with_them(
    as_ben: Client, as_cho: Client, project: Project
) -> None:
    first, second = shown(as_ben, project)
    as_ben.post(judge_url(first), {"side": "left"})
    skip(as_ben, second)
    assert second.comparison_id in {lease.comparison_id for lease in shown(as_cho, project)}
    assert "not free any more" in refused_undo(as_ben, project)


def test_of_two_undos_at_once_the_second_takes_back_nothing(as_ben: Client, project: Project) -> None:
    first = shown(as_ben, project)[0]
    as_ben.post(judge_url(first), {"side": "left"})
    judgment = Judgment.objects.get()  # as both have read it, before either has the lease
    judging.take_back(judgment, timezone.now())
    with pytest.raises(TouchstoneError, match="changed meanwhile"):
        judging.take_back(judgment, timezone.now())
    assert Comparison.objects.get(pk=first.comparison_id).judged == 0


def test_a_skipped_pair_goes_to_others_with_the_reason(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    url = reverse("skip", args=[project.slug, lease.pk])
    as_ben.post(url, {"reason": "harmful", "note": "second paragraph"})
    lease.refresh_from_db()
    assert (lease.outcome, lease.reason, lease.note) == ("skipped", "harmful", "second paragraph")
    assert lease not in shown(as_ben, project)
    assert Comparison.objects.get(pk=lease.comparison_id).taken == 0


@pytest.mark.parametrize("name", ["reason", "note"])
def test_a_reason_that_no_database_keeps_skips_nothing(as_ben: Client, project: Project, name: str) -> None:
    lease = shown(as_ben, project)[0]
    url = reverse("skip", args=[project.slug, lease.pk])
    assert as_ben.post(url, {name: "a\0b"}, **SCRIPT).status_code == 400
    lease.refresh_from_db()
    assert lease.outcome == "open"
