"""The model page in a real browser: followed while a version is built, switched to, on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotate import versions
from annotate.models import FeatureVersion, Project, User
from learner.tasks import states
from tests.learn import judge_forty, run_all
from tests.screen import assert_accessible

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CONFIG = {"dimensions": 6, "columns": False, "encoder_options": {"dimension": 64}}


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    states._cache.clear()
    yield
    states._cache.clear()


@pytest.fixture
def judged(project: Project, ben: User, ada: User) -> Project:
    judge_forty(project, ben)
    versions.make(project, ada, "hashing", CONFIG, "Smaller, without text columns")
    versions.refit(project, ada)
    run_all(project)
    return project


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_pages_fit_and_axe_finds_nothing(
    open_as: Open,
    ada: User,
    judged: Project,
    width: int,
    scheme: str,
    keep_picture: Callable[[Page, str], None],
) -> None:
    version = FeatureVersion.objects.get(state="ready")
    page = open_as(ada, reverse("model", args=["tides"]), width=width, color_scheme=scheme)
    for name, arguments in (
        ("model", []),
        ("version_new", []),
        ("fine_tune", []),
        ("version_switch", [version.pk]),
        ("version_drop", [version.pk]),
    ):
        page.goto(reverse(name, args=["tides", *arguments]))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_accessible(page)
        page.set_viewport_size(
            {"width": width, "height": page.evaluate("document.documentElement.scrollHeight")}
        )
        keep_picture(page, f"model {name} {width} {scheme}")
        page.set_viewport_size({"width": width, "height": 800})


def test_the_page_follows_a_switch_until_it_is_done(open_as: Open, ada: User, judged: Project) -> None:
    page = open_as(ada, reverse("model", args=["tides"]))
    page.get_by_role("link", name="Switch to it").click()
    page.get_by_role("button", name="Switch to it").click()
    expect(page.get_by_text("A job is working on it.")).to_be_visible()
    run_all(judged)
    card = page.get_by_role("article", name="Smaller, without text columns")
    expect(card.get_by_text("Live", exact=True)).to_be_visible(timeout=15_000)
    expect(page.get_by_text("This version is live now")).to_be_visible()
