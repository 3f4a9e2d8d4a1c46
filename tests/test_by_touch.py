"""Everything that an annotator does, on a phone and by touch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Judgment, Lease, Membership, Project, User
from tests.screen import HERE, PAIR, assert_accessible, ready, until, until_sent
from tests.test_training import gold

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
Keep = Callable[[Page, str], None]


@pytest.fixture
def phone(open_as: Open, ben: User, project: Project) -> Page:
    Project.objects.update(
        criteria=["Truth", "Tone"], guidelines="**Right** before nice.", guidelines_version=1
    )
    Membership.objects.update(guidelines_seen=1)
    page = open_as(ben, HERE, width=390, height=844, has_touch=True, is_mobile=True)
    ready(page)
    return page


def test_an_answer_with_reason_criteria_and_a_report(phone: Page, keep_picture: Keep) -> None:
    phone.locator(f"{PAIR} .rationale summary").tap()
    phone.get_by_role("button", name="clearer").tap()
    phone.get_by_role("checkbox", name="Broken or empty text").tap()
    keep_picture(phone, "touch why")
    phone.locator(f"{PAIR} .rationale summary").tap()
    phone.locator(f"{PAIR} .criteria summary").tap()
    phone.locator(f"{PAIR} .criterion").nth(0).get_by_text("A", exact=True).tap()
    phone.locator(f"{PAIR} .criterion").nth(1).get_by_text("No difference").tap()
    keep_picture(phone, "touch criteria")
    phone.locator(f"{PAIR} .criteria summary").tap()
    phone.locator(f"{PAIR} .answer.right").tap()
    until_sent(phone)
    judgment = Judgment.objects.get()
    assert (judgment.rationale, judgment.flags) == ("clearer", ["broken"])
    assert set(judgment.criteria) == {"Truth", "Tone"}


def test_skipping_undoing_and_the_guidelines(phone: Page, keep_picture: Keep) -> None:
    phone.locator(f"{PAIR} .skip summary").tap()
    keep_picture(phone, "touch skip")
    phone.get_by_role("button", name="The prompt is unclear").tap()
    until_sent(phone)
    assert Lease.objects.get(outcome="skipped").reason == "unclear"
    ready(phone)
    phone.locator(f"{PAIR} .answer.tie").tap()
    until_sent(phone)
    phone.get_by_role("button", name="Undo").tap()
    until(phone, lambda: not Judgment.objects.filter(replaced_at=None).exists())
    phone.locator("[data-guidelines] summary").tap()
    expect(phone.get_by_text("before nice.")).to_be_visible()
    assert_accessible(phone)
    keep_picture(phone, "touch guidelines")
    phone.locator("[data-guidelines] summary").tap()
    expect(phone.get_by_text("before nice.")).to_be_hidden()


def test_earlier_answers_are_changed(phone: Page) -> None:
    phone.locator(f"{PAIR} .answer.left").tap()
    until_sent(phone)
    phone.locator(".own-progress a").tap()
    phone.get_by_role("link", name="Change").tap()
    phone.get_by_role("button", name="Both bad").tap()
    expect(phone.get_by_text("Your answer was changed.")).to_be_visible()
    assert Judgment.objects.get(replaced_at=None).answer == "both_bad"


def test_differences_and_raw_text(phone: Page) -> None:
    phone.get_by_role("button", name="Differences").tap()
    until(phone, lambda: phone.evaluate("CSS.highlights.get('differs')?.size > 0"))
    phone.get_by_role("button", name="Raw").tap()
    expect(phone.locator(f"{PAIR} pre.raw").first).to_be_visible()


def test_the_training_round(open_as: Open, ben: User, project: Project) -> None:
    gold(project, 2)
    Project.objects.update(training_pairs=1)
    page = open_as(ben, HERE, width=390, height=844, has_touch=True, is_mobile=True)
    page.get_by_role("link", name="Begin").tap()
    page.get_by_role("button", name="A is better").tap()
    page.get_by_role("link", name="How it went").tap()
    page.get_by_role("link", name="Start comparing").tap()
    ready(page)


def test_what_is_touched_is_large_enough(phone: Page) -> None:
    small = []
    for control in phone.locator(f"{PAIR} .answer-bar :is(button, summary):visible").all():
        box = control.bounding_box()
        if box and (box["height"] < 36 or box["width"] < 44):
            small.append((control.inner_text(), box))
    assert small == []
