"""The compare page in a real browser, as tests use it: wait for a pair, answer it, see what was kept and stored."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from annotate.models import Answer, Judgment

HERE = "/projects/tides/compare/"
PAIR = ".pair:not([hidden])"
SENDING = "**/projects/tides/leases/**"

WATCH_SHIFTS = """
window.shifts = [];
const box = rect => [rect.x, rect.y, rect.width, rect.height];
const source = s => [s.node?.outerHTML ?? s.node?.textContent, box(s.previousRect), box(s.currentRect)];
new PerformanceObserver(list => list.getEntries().forEach(e => window.shifts.push([e.value, e.sources.map(source)])))
  .observe({type: 'layout-shift', buffered: true});
"""


def assert_nothing_moved(page: Page) -> None:
    page.wait_for_timeout(300)  # until a last frame was painted and looked at
    assert page.evaluate("window.shifts") == []


def lease_on(page: Page) -> str:
    return page.locator(PAIR).get_attribute("data-lease") or ""


def ready(page: Page) -> str:
    """Wait until the pair takes answers: for a moment after it appears a double click must not answer it."""
    expect(page.locator(PAIR)).to_have_count(1)
    page.wait_for_timeout(400)
    return lease_on(page)


def press(page: Page, key: str) -> str:
    """Answer the pair in view; returns its lease."""
    lease = ready(page)
    page.keyboard.press(key)
    expect(page.locator(f'{PAIR}[data-lease="{lease}"]')).to_have_count(0)
    return lease


def kept(page: Page) -> list[dict[str, str]]:
    """What the browser has not sent yet."""
    found = page.evaluate(
        "Object.keys(localStorage).filter(k => k.startsWith('touchstone-outbox')).map(k => localStorage[k])"
    )
    return [entry for text in found for entry in json.loads(text)]


def until_sent(page: Page) -> None:
    until(page, lambda: kept(page) == [])


def until(page: Page, true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait by asking: the page's policy forbids playwright's own waiting expressions, as it should."""
    for _ in range(int(seconds * 20)):
        if true():
            return
        page.wait_for_timeout(50)
    pytest.fail("it did not happen in time")


def answer_to(lease: str) -> str:
    """The current answer to the lease in terms of the screen."""
    judgment = Judgment.objects.select_related("lease").get(lease=lease, replaced_at=None)
    if judgment.answer in (Answer.TIE, Answer.BOTH_BAD):
        return judgment.answer
    assert judgment.lease is not None
    return "right" if (judgment.answer == Answer.FIRST) == judgment.lease.swapped else "left"


def assert_accessible(page: Page) -> None:
    page.wait_for_load_state()
    results = Axe().run(page)
    assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"
