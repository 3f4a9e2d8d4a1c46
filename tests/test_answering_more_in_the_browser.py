"""Strength, criteria, problems and changed answers in a real browser, by keyboard and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Judgment, Project, User
from tests.screen import (
    HERE,
    PAIR,
    WATCH_SHIFTS,
    answer_to,
    assert_accessible,
    assert_nothing_moved,
    press,
    ready,
    until_sent,
)

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
STEPS = {"1": ("left", 3), "2": ("left", 2), "3": ("left", 1), "4": ("tie", None), "5": ("right", 1)}
STEPS |= {"6": ("right", 2), "7": ("right", 3), "8": ("both_bad", None), "ArrowLeft": ("left", 2)}


@pytest.fixture
def asking(project: Project) -> Project:
    project.ask_strength, project.criteria = True, ["Truth", "Tone"]
    project.save()
    return project


def test_each_key_gives_its_step(open_as: Open, ben: User, asking: Project) -> None:
    page = open_as(ben, HERE)
    given = {key: press(page, key) for key in STEPS}
    until_sent(page)
    found = {
        key: (answer_to(lease), Judgment.objects.get(lease=lease).strength) for key, lease in given.items()
    }
    assert found == STEPS


def test_criteria_and_problems_travel_with_the_answer(open_as: Open, ben: User, asking: Project) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    for key in ("c", "1", "2"):
        page.keyboard.press(key)
    expect(page.locator(f"{PAIR} [data-criteria-count]")).to_have_text("2/2")
    assert lease == page.locator(PAIR).get_attribute("data-lease")
    page.keyboard.press("w")
    page.locator(f"{PAIR} [name='flag:broken']").check()
    page.keyboard.press("Escape")
    press(page, "6")
    until_sent(page)
    judgment = Judgment.objects.get(lease=lease)
    assert judgment.lease is not None
    assert judgment.criteria == {"Truth": "second" if judgment.lease.swapped else "first", "Tone": "tie"}
    assert judgment.flags == ["broken"]


@pytest.mark.parametrize("online", [True, False])
def test_undo_brings_back_what_was_written_beside_the_answer(
    open_as: Open, ben: User, asking: Project, online: bool
) -> None:
    page = open_as(ben, HERE)
    lease = ready(page)
    for key in "c13w":
        page.keyboard.press(key)
    page.keyboard.type("it flows")
    page.locator(f"{PAIR} [name='flag:broken']").check()
    page.keyboard.press("Escape")
    page.context.set_offline(not online)
    press(page, "6")
    if online:
        until_sent(page)
    else:
        expect(page.locator("[data-toast]")).to_contain_text("kept in this browser")
    page.keyboard.press("u")
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(1)
    expect(page.locator(f"{PAIR} [data-criteria-count]")).to_have_text("2/2")
    expect(page.locator(f"{PAIR} [name='flag:broken']")).to_be_checked()
    expect(page.locator(f"{PAIR} [name=rationale]")).to_have_value("it flows")
    page.context.set_offline(False)
    page.reload()
    expect(page.locator(f"{PAIR} [name=rationale]")).to_have_value("it flows")
    press(page, "2")
    until_sent(page)
    judgment = Judgment.objects.get(lease=lease, replaced_at=None)
    assert (judgment.strength, judgment.rationale) == (2, "it flows")
    assert (len(judgment.criteria), judgment.flags) == ((2, ["broken"]) if online else (0, []))


@pytest.mark.parametrize("width", [1280, 390])
def test_one_panel_is_open_at_a_time(open_as: Open, ben: User, asking: Project, width: int) -> None:
    page = open_as(ben, HERE, width=width)
    ready(page)
    for panel in ("rationale", "criteria", "skip", "rationale", "skip", "criteria"):
        page.locator(f"{PAIR} .{panel} > summary").click()
        expect(page.locator(f"{PAIR} .answer-bar details[open]")).to_have_count(1)
        expect(page.locator(f"{PAIR} .{panel}[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    for key, panel in (("s", "skip"), ("c", "criteria"), ("w", "rationale"), ("s", "skip")):
        page.locator(f"{PAIR} .undo button").focus()  # keys rest while one is in a field
        page.keyboard.press(key)
        expect(page.locator(f"{PAIR} .answer-bar details[open]")).to_have_count(1)
        expect(page.locator(f"{PAIR} .{panel}[open]")).to_have_count(1)


def test_own_keys_answer_and_are_shown(open_as: Open, ben: User, project: Project) -> None:
    User.objects.filter(pk=ben.pk).update(keys={"left": "f"})
    page = open_as(ben, HERE)
    ready(page)
    expect(page.locator(f"{PAIR} .answer.left kbd")).to_have_text("f")
    lease = press(page, "f")
    until_sent(page)
    assert answer_to(lease) == "left"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_steps_and_criteria_fit_and_axe_finds_nothing(
    open_as: Open,
    ben: User,
    asking: Project,
    width: int,
    scheme: str,
    keep_picture: Callable[[Page, str], None],
) -> None:
    page = open_as(
        ben, HERE, width=width, color_scheme=scheme, reduced_motion="reduce", has_touch=width < 500
    )
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.locator(f"{PAIR} .answer").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["width"] >= 40
    assert_accessible(page)
    keep_picture(page, f"strength {width} {scheme}")
    for key in "cw":
        page.keyboard.press(key)
        assert_accessible(page)
        keep_picture(page, f"strength {key} {width} {scheme}")
        page.keyboard.press("Escape")
    press(page, "2")
    until_sent(page)
    page.keyboard.press("e")
    page.wait_for_url("**/earlier/")
    assert_accessible(page)
    keep_picture(page, f"earlier {width} {scheme}")
    page.locator(".earlier a").first.click()
    assert_accessible(page)
    keep_picture(page, f"change {width} {scheme}")
    page.locator(".answer[value=right-3]").click()
    expect(page.get_by_text("Your answer was changed.")).to_be_visible()
    assert Judgment.objects.get(replaced_at=None).strength == 3


@pytest.mark.parametrize("language", ["en", "de", "ar"])
@pytest.mark.parametrize("width", [320, 360, 375, 390])
def test_seven_steps_share_one_line_of_a_phone(
    open_as: Open,
    ben: User,
    asking: Project,
    width: int,
    language: str,
    keep_picture: Callable[[Page, str], None],
) -> None:
    page = open_as(ben, HERE, width=width, height=700, locale=language, has_touch=True, is_mobile=True)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = [button.bounding_box() for button in page.locator(f"{PAIR} .answer:not(.both-bad)").all()]
    found = [(box["x"], box["y"], box["width"], box["height"]) for box in boxes if box]
    assert len(found) == 7
    assert len({round(y) for _x, y, _width, _height in found}) == 1
    assert max(width for *_, width, _height in found) < 1.1 * min(width for *_, width, _height in found)
    assert min(height for *_, height in found) >= 44
    assert found == sorted(found)  # A on the left, also where pages are set from the right
    keep_picture(page, f"strength {language} {width}")


def test_nothing_moves_with_steps_and_criteria(open_as: Open, ben: User, asking: Project) -> None:
    page = open_as(ben, HERE)
    page.evaluate(WATCH_SHIFTS)
    for key in "15824":
        press(page, key)
    until_sent(page)
    assert_nothing_moved(page)


@pytest.mark.parametrize("scripts", [True, False])
def test_new_guidelines_come_before_the_next_pair(
    open_as: Open, ben: User, project: Project, scripts: bool, keep_picture: Callable[[Page, str], None]
) -> None:
    Project.objects.update(guidelines="# Kindness\n\nPrefer the *kinder* response.")
    page = open_as(ben, HERE, java_script_enabled=scripts)
    expect(page.get_by_role("heading", name="Before you begin")).to_be_visible()
    keep_picture(page, f"guidelines first {scripts}")
    if scripts:
        assert_accessible(page)
    page.get_by_role("button", name="I have read them").click()
    expect(page.locator(PAIR)).to_have_count(1)
    Project.objects.update(guidelines_version=2)
    if scripts:
        press(page, "1")
        press(page, "1")
    else:
        page.locator(f"{PAIR} .answer.left").click()
    expect(page.get_by_role("heading", name="The guidelines have changed")).to_be_visible()
    page.get_by_role("button", name="I have read them").click()
    expect(page.locator(PAIR)).to_have_count(1)
