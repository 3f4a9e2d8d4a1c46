"""Answers kept, sent once, taken back: in a real browser, without network, in two tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Route, expect

from annotate.models import (
    Comparison,
    Judgment,
    Lease,
    Membership,
    Project,
    Role,
    User,
)
from tests.screen import HERE, PAIR, SENDING, answer_to, kept, lease_on, press, ready, until, until_sent

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_answers_given_without_network_are_sent_once_when_it_returns(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    ready(page)
    page.context.set_offline(True)
    first, second = press(page, "1"), press(page, "2")
    expect(page.locator("[data-toast]")).to_contain_text("kept in this browser")
    assert [entry["lease"] for entry in kept(page)] == [first, second]
    assert Judgment.objects.count() == 0
    page.context.set_offline(False)
    until_sent(page)
    assert (answer_to(first), answer_to(second)) == ("left", "right")
    ready(page)


def test_what_comes_too_fast_is_kept_and_sent_later(
    open_as: Open, ben: User, project: Project, settings: Any
) -> None:
    settings.ANSWERS_A_MINUTE = -1  # no answer is taken
    page = open_as(ben, HERE)
    ready(page)
    first = press(page, "1")
    expect(page.locator("[data-toast]")).to_contain_text("wait a minute")
    assert [entry["lease"] for entry in kept(page)] == [first]
    assert Judgment.objects.count() == 0
    settings.ANSWERS_A_MINUTE = 0
    until_sent(page)
    assert answer_to(first) == "left"


def test_an_answer_survives_the_tab_being_closed_before_it_was_sent(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    page.route(SENDING, lambda route: route.abort())
    lease = press(page, "2")
    page.wait_for_timeout(100)
    again = page.context.new_page()
    page.close()
    again.goto(HERE)
    until_sent(again)
    assert answer_to(lease) == "right"
    assert ready(again) != lease


def test_an_answer_whose_reply_was_lost_is_counted_once(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    lost: list[int] = []

    def lose_the_first_reply(route: Route) -> None:
        if lost:
            return route.continue_()
        lost.append(route.fetch().status)
        return route.abort()

    page.route(SENDING, lose_the_first_reply)
    lease = press(page, "1")
    until_sent(page)
    assert lost == [200]
    assert Judgment.objects.count() == 1
    assert answer_to(lease) == "left"


def test_an_answer_waits_while_the_server_fails(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    failures = iter([500, 503])
    page.route(
        SENDING,
        lambda route: route.fulfill(status=status) if (status := next(failures, None)) else route.continue_(),
    )
    lease = press(page, "1")
    expect(page.locator("[data-toast]")).to_contain_text("cannot be reached")
    until_sent(page)
    assert answer_to(lease) == "left"


def test_an_answer_waits_while_one_is_signed_out(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    cookies = page.context.cookies()
    ready(page)
    page.context.clear_cookies(name="sessionid")
    lease = press(page, "1")
    expect(page.locator("[data-toast]")).to_contain_text("signed out")
    page.context.add_cookies(cookies)  # type: ignore[arg-type]
    page.reload()
    until_sent(page)
    assert answer_to(lease) == "left"


def test_an_answer_kept_from_one_project_is_sent_from_another_and_mixes_nothing(
    open_as: Open, ben: User, project: Project
) -> None:
    other = Project.objects.create(name="Other", slug="other", overlap_share=0.0)
    Membership.objects.create(project=other, user=ben, role=Role.ANNOTATOR)
    page = open_as(ben, HERE)
    page.route(SENDING, lambda route: route.abort())
    lease = press(page, "2")
    page.wait_for_timeout(100)
    page.unroute(SENDING)
    page.goto("/projects/other/compare/")
    until_sent(page)
    assert answer_to(lease) == "right"
    expect(page.locator("[data-nothing=empty]")).to_have_count(1)
    page.wait_for_timeout(200)
    expect(page.locator(".pair")).to_have_count(0)


def test_a_refused_answer_is_explained_and_the_next_pair_comes(
    open_as: Open, ben: User, cho: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    Lease.objects.filter(pk=lease).update(outcome=Lease.Outcome.EXPIRED)
    Comparison.objects.filter(leases=lease).update(state=Comparison.State.WITHDRAWN)
    press(page, "1")
    expect(page.locator("[data-toast]")).to_contain_text("somebody else has it now")
    until_sent(page)
    ready(page)
    assert Judgment.objects.count() == 0


def test_undo_brings_the_pair_back_and_the_new_answer_counts(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    lease = press(page, "1")
    after = ready(page)
    page.keyboard.press("u")
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(1)
    press(page, "2")
    until_sent(page)
    assert answer_to(lease) == "right"
    assert Judgment.objects.filter(replaced_at=None).count() == 1
    assert lease_on(page) == after


def test_undo_without_network_takes_back_what_was_not_sent(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    ready(page)
    page.context.set_offline(True)
    lease = press(page, "1")
    expect(page.locator("[data-toast]")).to_contain_text("kept in this browser")
    page.keyboard.press("u")
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(1)
    assert kept(page) == []
    page.context.set_offline(False)
    press(page, "3")
    until_sent(page)
    assert answer_to(lease) == "tie"


def test_skipping_by_key_sends_the_reason(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    page.keyboard.press("s")
    page.keyboard.press("5")
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(0)
    until_sent(page)
    skipped = Lease.objects.get(pk=lease)
    assert (skipped.outcome, skipped.reason) == ("skipped", "broken")
    assert Judgment.objects.count() == 0


@pytest.mark.parametrize("online", [True, False])
def test_undo_after_a_skip_brings_the_skipped_pair_back_as_it_was_left(
    open_as: Open, ben: User, project: Project, online: bool
) -> None:
    page = open_as(ben, HERE)
    answered = press(page, "1")
    lease = ready(page)
    until_sent(page)
    page.keyboard.press("w")
    page.keyboard.type("hard to say")
    page.keyboard.press("Escape")
    page.context.set_offline(not online)
    page.keyboard.press("s")
    page.keyboard.press("5")
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(0)
    if online:
        until_sent(page)
    else:
        expect(page.locator("[data-toast]")).to_contain_text("kept in this browser")
    page.keyboard.press("u")
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(1)
    expect(page.locator("[data-toast]")).to_contain_text("Taken back")
    expect(page.locator(f"{PAIR} [name=rationale]")).to_have_value("hard to say")
    page.context.set_offline(False)
    press(page, "2")
    until_sent(page)
    assert (answer_to(answered), answer_to(lease)) == ("left", "right")


def test_a_second_click_of_the_same_hand_takes_back_no_other_answer(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    first, second = press(page, "1"), press(page, "2")
    until_sent(page)
    asked: list[str] = []
    page.on("request", lambda request: "/undo/" in request.url and asked.append(request.url))
    page.evaluate(
        "window.second = new KeyboardEvent('keydown', {key: 'u', bubbles: true})"
    )  # its time is now
    page.keyboard.press("u")
    expect(page.locator(f'{PAIR}[data-lease="{second}"]')).to_have_count(1)
    page.evaluate("document.body.dispatchEvent(window.second)")
    press(page, "3")
    until_sent(page)
    assert len(asked) == 1
    assert (answer_to(first), answer_to(second)) == ("left", "tie")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_note_is_written_before_the_reason_and_enter_in_it_sends_nothing(
    open_as: Open, ben: User, project: Project, scripts: bool
) -> None:
    page = open_as(ben, HERE, java_script_enabled=scripts)
    lease = ready(page)
    page.locator(f"{PAIR} .skip summary").click()
    note = page.locator(f"{PAIR} [name=note]")
    note.fill("the second is cut off")
    note.press("Enter")
    reason = page.get_by_role("button", name="Broken or empty text")
    above, below = note.bounding_box(), reason.bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] + above["height"] <= below["y"]
    reason.click()
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(0)
    until(page, lambda: Lease.objects.get(pk=lease).outcome == "skipped")
    skipped = Lease.objects.get(pk=lease)
    assert (skipped.reason, skipped.note) == ("broken", "the second is cut off")


def test_a_reason_begun_survives_a_reload_and_travels_with_the_answer(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    page.keyboard.press("w")
    page.keyboard.type("it is 1 of 2")
    page.reload()
    ready(page)
    page.keyboard.press("w")
    expect(page.locator(f"{PAIR} [name=rationale]")).to_have_value("it is 1 of 2")
    page.locator(f"{PAIR} [data-suggestions] button").first.click()
    page.keyboard.press("Escape")
    press(page, "1")
    until_sent(page)
    assert Judgment.objects.get(lease=lease).rationale == "it is 1 of 2; more correct"


def test_two_tabs_agree_on_one_answer(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    other = page.context.new_page()
    other.goto(HERE)
    lease = ready(other)
    assert ready(page) == lease
    press(page, "1")
    expect(other.locator(f'[data-lease="{lease}"]')).to_have_count(0)
    until_sent(page)
    assert answer_to(lease) == "left"
    assert ready(other) == ready(page)
