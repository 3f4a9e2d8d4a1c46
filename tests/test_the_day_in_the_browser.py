"""An annotator's day in a real browser: training, own figures, breaks, coming back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from annotate.models import Judgment, Lease, Membership, Project, Response, User
from tests.screen import (
    HERE,
    PAIR,
    assert_accessible,
    lease_on,
    press,
    ready,
    until,
    until_sent,
)
from tests.test_training import gold

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
Keep = Callable[[Page, str], None]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_training_round_by_keyboard(
    open_as: Open, ben: User, project: Project, width: int, scheme: str, keep_picture: Keep
) -> None:
    gold(project, 3)
    Project.objects.update(training_pairs=2)
    page = open_as(ben, HERE, width=width, color_scheme=scheme, reduced_motion="reduce")
    assert_accessible(page)
    keep_picture(page, f"training before {width} {scheme}")
    page.get_by_role("link", name="Begin").press("Enter")
    for _ in range(2):
        page.wait_for_url("**/training/")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_accessible(page)
        keep_picture(page, f"training pair {width} {scheme}")
        page.keyboard.press("1")
        page.wait_for_url("**/training/*/")
        assert_accessible(page)
        keep_picture(page, f"training known {width} {scheme}")
        page.keyboard.press("Enter")
    expect(page.get_by_text("of 2 pairs")).to_be_visible()
    assert_accessible(page)
    keep_picture(page, f"training done {width} {scheme}")
    page.keyboard.press("Enter")
    ready(page)
    assert Membership.objects.get(user=ben).trained_at is not None


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_a_break_hides_the_pair_and_stops_the_clock(
    open_as: Open, ben: User, project: Project, width: int, scheme: str, keep_picture: Keep
) -> None:
    page = open_as(ben, HERE, width=width, color_scheme=scheme, reduced_motion="reduce")
    lease = ready(page)
    page.keyboard.press("b")
    expect(page.get_by_role("heading", name="A break")).to_be_visible()
    began = seconds_open(page)
    assert_accessible(page)
    keep_picture(page, f"break {width} {scheme}")
    page.keyboard.press("1")
    page.wait_for_timeout(1200)
    ended = seconds_open(page)
    page.keyboard.press("Enter")
    expect(page.locator("#pause")).to_be_hidden()
    assert press(page, "1") == lease
    working = seconds_open(page) - (ended - began)
    until_sent(page)
    seconds = Judgment.objects.get().lead_time
    assert seconds is not None
    assert seconds < working


def seconds_open(page: Page) -> float:
    return float(page.evaluate("performance.now() / 1000"))


def test_after_a_long_break_another_pair_is_there_and_explained(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    page.keyboard.press("b")
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1), outcome="skipped")
    page.keyboard.press("Enter")
    until(page, lambda: lease_on(page) not in ("", lease))
    expect(page.get_by_text("Your time for that pair ran out")).to_be_visible()
    press(page, "2")
    until_sent(page)
    assert Judgment.objects.count() == 1


def test_a_pair_that_is_still_held_stays_through_a_break(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    page.keyboard.press("b")
    with page.expect_response("**/renew/"):
        page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    assert lease_on(page) == lease
    expect(page.locator(".pair")).to_have_count(2)


def test_a_long_stretch_is_mentioned_once_and_a_break_begins_anew(
    open_as: Open, ben: User, project: Project, keep_picture: Keep
) -> None:
    page = open_as(ben, HERE)
    stretch = json.dumps({"begun": "BEGUN", "last": "LAST"})
    page.evaluate(
        f"localStorage['touchstone-session:{ben.pk}'] = '{stretch}'"
        ".replace('\"BEGUN\"', Date.now() - 52 * 60000).replace('\"LAST\"', Date.now() - 60000)"
    )
    press(page, "1")
    hint = page.get_by_text("You have been comparing for 52 minutes")
    expect(hint).to_be_visible()
    keep_picture(page, "a long stretch")
    page.evaluate("document.querySelector('[data-toast]').textContent = ''")
    press(page, "1")
    expect(hint).to_have_count(0)
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    press(page, "1")
    expect(hint).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_ones_own_day_is_shown(
    open_as: Open, ben: User, project: Project, width: int, scheme: str, keep_picture: Keep
) -> None:
    page = open_as(ben, HERE, width=width, color_scheme=scheme, reduced_motion="reduce")
    for key in "123":
        press(page, key)
    until_sent(page)
    page.goto("/projects/tides/earlier/")
    expect(page.locator(".stat").first).to_contain_text("3")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)
    keep_picture(page, f"own day {width} {scheme}")


def test_the_break_is_reached_by_touch(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE, width=390, has_touch=True)
    ready(page)
    page.get_by_role("button", name="Break").tap()
    page.get_by_role("button", name="Go on").tap()
    page.locator(f"{PAIR} .answer.left").tap()
    until_sent(page)
    assert Judgment.objects.count() == 1


LONG = "The tide turns because the moon pulls the sea. " * 60
CODE = "```\n" + "x = " + "1 + " * 200 + "1\n```"


def test_on_a_phone_long_responses_fold_and_unfold(
    open_as: Open, ben: User, project: Project, keep_picture: Keep
) -> None:
    Response.objects.update(text=LONG)
    page = open_as(ben, HERE, width=390, height=844, has_touch=True)
    ready(page)
    box = page.locator(f"{PAIR} .response").nth(1).bounding_box()
    assert box is not None
    assert box["y"] < 844 * 1.2
    assert_accessible(page)
    keep_picture(page, "folded on a phone")
    button = page.get_by_role("button", name="Show all of A")
    button.tap()
    expect(button).to_be_hidden()
    taller = page.locator(f"{PAIR} .response").nth(0).bounding_box()
    assert taller is not None
    assert taller["height"] > 1000
    expect(page.get_by_role("button", name="Show all of B")).to_be_visible()


def test_side_by_side_long_responses_scroll_together_and_are_not_folded(
    open_as: Open, ben: User, project: Project
) -> None:
    Response.objects.update(text=LONG + "\n\n" + LONG)
    page = open_as(ben, HERE)
    ready(page)
    expect(page.locator(".folded")).to_have_count(0)
    before = [page.locator(f"{PAIR} .response .text").nth(i).bounding_box() for i in (0, 1)]
    page.mouse.move(300, 400)
    page.mouse.wheel(0, 300)

    def moved() -> list[float]:
        after = [page.locator(f"{PAIR} .response .text").nth(i).bounding_box() for i in (0, 1)]
        return [then["y"] - now["y"] for then, now in zip(before, after, strict=True) if then and now]

    until(page, lambda: moved() == [300, 300])


def test_wide_code_of_both_sides_scrolls_sideways_together(
    open_as: Open, ben: User, project: Project
) -> None:
    Response.objects.update(text=CODE)
    page = open_as(ben, HERE)
    ready(page)
    page.locator(f"{PAIR} pre.code").nth(0).hover()
    page.mouse.wheel(200, 0)
    places = f"[...document.querySelectorAll('{PAIR} pre.code')].map(e => e.scrollLeft)"
    until(page, lambda: page.evaluate(places) == [200, 200])


def test_an_arrow_scrolls_wide_mathematics_and_answers_nothing(
    open_as: Open, ben: User, project: Project
) -> None:
    Response.objects.update(text="$$\n" + " + ".join("abcdefghijklmnopqrstuvwxyz" * 4) + "\n$$")
    page = open_as(ben, HERE)
    lease = ready(page)
    formula = page.locator(f"{PAIR} div.math").first
    formula.focus()
    page.keyboard.press("ArrowRight")
    until(page, lambda: formula.evaluate("e => e.scrollLeft > 0"))
    assert lease_on(page) == lease


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_200_percent_everything_is_reachable(
    open_as: Open, ben: User, project: Project, scheme: str, keep_picture: Keep
) -> None:
    """A window of 1280 by 800 at 200 % has 640 by 400 pixels of CSS."""
    page = open_as(ben, HERE, width=640, height=400, device_scale_factor=2, color_scheme=scheme)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
    bar = page.locator(f"{PAIR} .answer-bar").bounding_box()
    assert bar is not None
    assert bar["height"] < 170
    keep_picture(page, f"zoomed {scheme}")
    for key in "sw":
        page.keyboard.press(key)
        panel = page.locator(f"{PAIR} details[open] .bar-panel").bounding_box()
        assert panel is not None
        assert panel["y"] >= 0
        keep_picture(page, f"zoomed {key} {scheme}")
        page.keyboard.press("Escape")


def test_a_screen_reader_meets_prompt_a_b_answer_and_the_news(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    ready(page)
    order = page.evaluate(
        f"[...document.querySelectorAll('{PAIR} :is(.prompt, .response, .answer-bar)')].map(e => e.classList[0])"
    )
    assert order == ["prompt", "response", "response", "answer-bar"]
    for landmark in ("banner", "navigation", "main"):
        expect(page.get_by_role(landmark).first).to_be_visible()
    expect(page.get_by_role("region", name="Prompt")).to_have_count(1)
    expect(page.get_by_role("region", name="Response A")).to_have_count(1)
    expect(page.get_by_role("group", name=project.question)).to_have_count(1)
    status = page.get_by_role("status")
    expect(status).to_have_attribute("aria-live", "polite")
    press(page, "1")
    expect(status).to_have_text("Saved. Next pair.")
    assert page.evaluate("document.activeElement.textContent") == "Prompt"


def test_tab_goes_through_the_pair_in_the_order_of_reading(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    ready(page)
    met = []
    for _ in range(9):
        page.keyboard.press("Tab")
        met.append(page.evaluate("(document.activeElement.innerText || '').trim().split('\\n').pop()"))
    assert met[0].startswith("Question")
    assert met[1:8] == ["Say why", "A is better", "Tie", "Both bad", "B is better", "Skip", "Undo"]


def test_nothing_moves_by_itself_where_motion_is_not_wanted(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE, reduced_motion="reduce")
    ready(page)
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e);"
        " return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0 || s.scrollBehavior === 'smooth'"
        " }).length"
    )
    assert moving == 0
