"""Comparing in a real browser: by keyboard, by touch, without scripts, without network, in two tabs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, Route, expect

from annotate.models import (
    Judgment,
    Lease,
    Membership,
    Project,
    Prompt,
    Response,
    User,
)
from tests.screen import (
    HERE,
    PAIR,
    SENDING,
    WATCH_SHIFTS,
    answer_to,
    assert_accessible,
    assert_nothing_moved,
    lease_on,
    press,
    ready,
    until,
    until_sent,
)

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


KEYS = {"1": "left", "ArrowLeft": "left", "2": "right", "ArrowRight": "right", "3": "tie", "0": "tie"}
KEYS |= {"ArrowDown": "tie", "4": "both_bad"}


def test_each_key_gives_its_answer(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    given = {key: press(page, key) for key in KEYS}
    until_sent(page)
    assert {key: answer_to(lease) for key, lease in given.items()} == KEYS


def test_the_next_pair_is_there_before_the_answer_arrives(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    waiting: list[Route] = []
    page.route(SENDING, lambda route: waiting.append(route))
    first = press(page, "1")
    second = ready(page)
    assert second != first
    assert Judgment.objects.count() == 0
    for route in waiting:
        route.continue_()
    page.unroute(SENDING)
    until_sent(page)
    assert lease_on(page) == second
    expect(page.locator(".pair")).to_have_count(2)


def test_ten_answers_in_a_row_take_no_noticeable_time_and_nothing_moves(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    page.evaluate(WATCH_SHIFTS)
    for key in "1234123412":
        press(page, key)
    until_sent(page)
    assert Judgment.objects.count() == 10
    swaps = page.evaluate("performance.getEntriesByName('touchstone-swap').map(e => e.duration)")
    assert len(swaps) == 10
    assert_nothing_moved(page)


def test_nothing_is_painted_before_the_answers_are_read_whole(
    open_as: Open, ben: User, project: Project
) -> None:
    """On a slow machine half a row of answers was seen, and moved when the rest came."""
    page = open_as(ben, "/")
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 15})
    for _ in range(4):
        page.goto(HERE)
        page.evaluate(WATCH_SHIFTS)
        assert_nothing_moved(page)
    waits_for = page.locator("link[rel=expect]").get_attribute("href")
    assert page.evaluate(
        """id => [...document.querySelectorAll('.pair')].every(
        pair => pair.compareDocumentPosition(document.querySelector(id)) & Node.DOCUMENT_POSITION_FOLLOWING)""",
        waits_for,
    )


def test_a_held_key_and_a_double_click_answer_one_pair(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    ready(page)
    for _ in range(5):
        page.keyboard.down("2")
    page.wait_for_timeout(500)
    page.keyboard.down("2")
    page.keyboard.up("2")
    ready(page)
    page.locator(f"{PAIR} .answer.left").dblclick()
    page.wait_for_timeout(300)
    until_sent(page)
    assert Judgment.objects.count() == 2


def test_a_second_click_that_a_busy_page_hears_of_late_answers_nothing(
    open_as: Open, ben: User, project: Project
) -> None:
    page = open_as(ben, HERE)
    first = ready(page)
    second = page.locator(".pair").nth(1).get_attribute("data-lease")
    page.evaluate(
        """(button) => {
          document.querySelector(button).click();
          const made = new MouseEvent("click", {bubbles: true, cancelable: true});
          const end = performance.now() + 600;
          while (performance.now() < end);
          document.querySelector(button).dispatchEvent(made);
        }""",
        f"{PAIR} .answer.left",
    )
    page.wait_for_timeout(300)
    until_sent(page)
    assert (answer_to(first), lease_on(page)) == ("left", second)


def test_a_long_prompt_folds_and_unfolds(open_as: Open, ben: User, project: Project) -> None:
    Prompt.objects.update(text="Why does the tide turn?\n\n" * 60)
    page = open_as(ben, HERE)
    ready(page)
    body = page.locator(f"{PAIR} .prompt-body")
    folded = body.bounding_box()
    page.keyboard.press("p")
    unfolded = body.bounding_box()
    assert folded is not None
    assert unfolded is not None
    assert folded["height"] < 800 * 0.4 < unfolded["height"]
    expect(page.locator(f"{PAIR} [data-unfold]")).to_have_text("Fold the prompt")


def test_the_time_counts_only_while_the_pair_is_in_view(open_as: Open, ben: User, project: Project) -> None:
    began = time.monotonic()
    page = open_as(ben, HERE)
    lease = ready(page)
    page.wait_for_timeout(700)
    press(page, "1")
    ended = time.monotonic()
    until_sent(page)
    lead_time = Judgment.objects.get(lease=lease).lead_time
    assert lead_time is not None
    assert 1.0 < lead_time < ended - began


def test_a_pair_appears_by_itself_when_there_is_work_again(
    open_as: Open, ben: User, project: Project
) -> None:
    Project.objects.update(budget=0)
    page = open_as(ben, HERE)
    expect(page.locator("[data-nothing=budget]")).to_be_visible()
    Project.objects.update(budget=None)
    expect(page.locator(PAIR)).to_have_count(1)


def test_keys_rest_while_typing_and_the_sheet_lists_them(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).not_to_be_visible()
    assert lease_on(page) == lease


def test_the_arrow_down_scrolls_a_long_pair_and_never_answers_it(
    open_as: Open, ben: User, project: Project
) -> None:
    Response.objects.update(text="The tide turns.\n\n" * 80)
    page = open_as(ben, HERE)
    lease = ready(page)
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    until(page, lambda: page.evaluate("scrollY > 0"))
    assert lease_on(page) == lease


def test_raw_text_and_differences_are_shown_on_demand(open_as: Open, ben: User, project: Project) -> None:
    for i, response in enumerate(Response.objects.all()):
        Response.objects.filter(pk=response.pk).update(text=f"The **moon** pulls the sea {i} times a day.")
    page = open_as(ben, HERE)
    ready(page)
    page.keyboard.press("d")
    until(page, lambda: page.evaluate("CSS.highlights.get('differs')?.size") == 2)
    page.keyboard.press("r")
    expect(page.locator(f"{PAIR} .response .raw").first).to_contain_text("**moon**")
    page.keyboard.press("d")
    until(page, lambda: page.evaluate("CSS.highlights.has('differs')") is False)


def test_everything_works_without_scripts(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, HERE, java_script_enabled=False)
    first = lease_on(page)
    shown = page.locator(f'{PAIR}[data-lease="{first}"]')
    page.locator(f"{PAIR} .answer.left").click()
    expect(shown).to_have_count(0)
    assert answer_to(first) == "left"
    page.locator(f"{PAIR} .undo button").click()
    expect(shown).to_have_count(1)
    page.locator(f"{PAIR} .skip summary").click()
    page.locator(f"{PAIR} .skip button[value=unclear]").click()
    expect(shown).to_have_count(0)
    expect(page.locator(PAIR)).to_have_count(1)
    assert Lease.objects.get(pk=first).reason == "unclear"


def test_on_a_phone_the_bar_is_under_the_thumb_and_nothing_overflows(
    open_as: Open, ben: User, project: Project, keep_picture: Callable[[Page, str], None]
) -> None:
    page = open_as(ben, HERE, width=390, height=844, is_mobile=True, has_touch=True)
    lease = ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for button in page.locator(f"{PAIR} .answer").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["width"] >= 44
        assert box["y"] > 844 / 2
    keep_picture(page, "compare on a phone")
    page.locator(f"{PAIR} .answer.right").tap()
    until_sent(page)
    assert answer_to(lease) == "right"


def test_hostile_texts_stay_texts_in_the_browser(open_as: Open, ben: User, project: Project) -> None:
    attack = (
        "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)> ![x](https://evil.example/p.png)"
        " [x](javascript:alert(1)) $\\text{<img src=x onerror=alert(1)>}$ \"'><svg onload=alert(1)>"
    )
    Response.objects.update(text=attack)
    Prompt.objects.update(text=attack)
    Project.objects.update(name=attack[:100], question=attack[:200], guidelines=attack)
    Membership.objects.update(guidelines_seen=1)
    page = open_as(ben, HERE)
    ready(page)
    for key in "grdp1":
        page.keyboard.press(key)
    until_sent(page)
    assert page.locator("img, main script, iframe").count() == 0


@pytest.fixture
def everything(project: Project) -> Iterator[Project]:
    """A project whose texts have all that texts can have."""
    wide = " + ".join("abcdefghijklmnopqrstuvwxyz" * 2)
    text = (
        f"$$\n{wide}\n$$\n\nIn a line: \\[ {wide} \\]\n\n"
        "# Tides\n\nThe *moon* pulls: $F = G\\frac{m}{r^2}$.\n\n| day | height |\n|---|--:|\n| 1 | 2.5 |\n\n"
        "```python\n# a comment\ndef tide(h):\n    return f'{h} m' + str(1)\n```\n\n> quoted\n\n[link](https://sea.example)"
    )
    Response.objects.update(text=text)
    turns = [("user", text), ("assistant", text), ("user", "And now?")]
    Prompt.objects.update(messages=[{"role": role, "content": content} for role, content in turns])
    Project.objects.update(guidelines=text, is_simulated=True)
    Membership.objects.update(guidelines_seen=1)
    yield project


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_on_any_page(
    open_as: Open,
    ben: User,
    everything: Project,
    scheme: str,
    width: int,
    keep_picture: Callable[[Page, str], None],
) -> None:
    page = open_as(ben, HERE, width=width, color_scheme=scheme, reduced_motion="reduce")
    ready(page)
    assert_accessible(page)
    keep_picture(page, f"compare {width} {scheme}")
    for key in "gs":
        page.keyboard.press(key)
        assert_accessible(page)
        keep_picture(page, f"compare {key} {width} {scheme}")
        page.keyboard.press("Escape")
    for path in ("/", "/accounts/password/change/", "/accounts/2fa/", "/accounts/logout/", "/nowhere/"):
        page.goto(path)
        assert_accessible(page)
    visitor = open_as(None, "/accounts/login/", width=width, color_scheme=scheme, reduced_motion="reduce")
    assert_accessible(visitor)
    keep_picture(visitor, f"sign-in {width} {scheme}")


def test_the_chosen_theme_is_kept(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, "/", color_scheme="light")
    page.locator(".menu summary").click()
    toggle = page.locator("[data-theme-toggle]")
    toggle.click()
    toggle.click()
    expect(toggle).to_have_text("Theme: dark")
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_the_page_weighs_little(open_as: Open, ben: User, project: Project) -> None:
    page = open_as(ben, "/")
    weights: list[int] = []
    page.on("response", lambda response: weights.append(len(response.body())))
    page.goto(HERE)
    ready(page)
    assert sum(weights) < 150_000


@pytest.mark.parametrize("language", ["en", "de", "ar"])
def test_the_tools_share_one_line_of_a_narrow_window(
    open_as: Open, ben: User, project: Project, keep_picture: Callable[[Page, str], None], language: str
) -> None:
    """A window with a mouse, so that the button of the keys is there, and guidelines, so that all five are."""
    Project.objects.update(guidelines="Be fair.")
    page = open_as(ben, HERE, width=390, locale=language)
    tools = page.locator(".compare-tools > :not(.own-progress)")
    boxes = [box for one in tools.all() if (box := one.bounding_box())]
    assert len(boxes) == 5
    assert len({round(box["y"]) for box in boxes}) == 1
    keep_picture(page, f"compare tools {language} 390")
