"""The reviewers' pages in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Comparison, Project, User
from tests.screen import assert_accessible
from tests.test_trusting import gold, judge, url
from tests.test_weighing import measured_row

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_on_the_reviewers_pages(
    open_as: Open,
    ada: User,
    ben: User,
    cho: User,
    project: Project,
    width: int,
    scheme: str,
    keep_picture: Callable[[Page, str], None],
) -> None:
    gold(project, 3)
    project.overlap, project.overlap_share, project.gold_share = 2, 1.0, 0.3
    project.save()
    for _ in range(6):
        judge(project, ben, "first", why="more complete")
        judge(project, cho, "second")
    measured_row(project, ben, estimate=0.2, low=-0.1, high=0.45, side_bias=1.2, side_low=0.7, side_high=1.7)
    page = open_as(ada, url("annotator", ben.pk), width=width, color_scheme=scheme)
    for name in ("annotator", "disagreements", "gold"):
        page.goto(url(name, *([ben.pk] if name == "annotator" else [])))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_accessible(page)
        keep_picture(page, f"{name} {width} {scheme}")
    before = Comparison.objects.filter(settled_answer="").count()
    page.goto(url("disagreements"))
    page.get_by_role("button", name="Tie").click()
    expect(page.get_by_text("Settled.")).to_be_visible()
    assert Comparison.objects.filter(settled_answer="").count() == before - 1
