"""The data browser, the dashboard's newer parts and dry runs in a real browser: width, axe, and without a flicker."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from annotate import dryruns
from annotate.models import Finding, Judgment, Project, Prompt, Response, User
from learner.tasks.jobs import run
from tests.conftest import fill
from tests.learn import embed_and_absorb
from tests.screen import assert_accessible
from tests.test_browsing import rewarded
from tests.test_browsing import url as browse
from tests.test_dry_runs import GIVEN
from tests.test_findings import DOCUMENTS
from tests.test_trusting import judge, url

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LOOKS = [(1280, "light"), (390, "dark")]


def settled(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_accessible(page)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_page_of_the_data_browser_fits_and_is_accessible(
    open_as: Open, ada: User, ben: User, project: Project, width: int, scheme: str,
    keep_picture: Callable[[Page, str], None],
) -> None:  # fmt: skip
    for n in range(6):
        judgment = judge(
            project, ben, ("first", "second", "tie")[n % 3], why="The second one drifts off." * (n % 2)
        )
    Prompt.objects.update(tags=["physics", "tides"])
    rewarded(project)
    comparison = judgment.comparison
    page = open_as(ada, browse("prompts"), width=width, color_scheme=scheme)
    paths = {name: browse(name) for name in ("prompts", "responses", "comparisons", "judgments")} | {
        "prompt": browse("prompt", comparison.prompt_id),
        "comparison": browse("comparison", comparison.pk),
        "judgment": browse("judgment", judgment.pk),
        "wrong": browse("prompts") + "?nonsense=1",
    }
    for name, path in paths.items():
        page.goto(path)
        settled(page, width)
        keep_picture(page, f"data {name} {width} {scheme}")


def test_filters_change_the_list_and_the_address_without_a_reload(
    open_as: Open, ada: User, project: Project
) -> None:
    Response.objects.filter(pk=project.responses.order_by("pk")[:1].get().pk).update(text="A quokka smiles.")
    page = open_as(ada, browse("responses"))
    page.evaluate("window.stayed = true")
    page.get_by_label("Search").fill("quokka")
    page.get_by_label("Search").press("Enter")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=quokka"))
    assert page.evaluate("window.stayed")
    page.reload()
    expect(page.locator("#results tbody tr")).to_have_count(1)


def test_a_reviewer_withdraws_a_judgment_with_the_keyboard(
    open_as: Open, ada: User, ben: User, project: Project
) -> None:
    judgment = judge(project, ben, "first")
    page = open_as(ada, browse("judgment", judgment.pk))
    page.locator("#reason-withdraw").fill("a robot")
    page.locator("#reason-withdraw").press("Enter")
    expect(page.get_by_text("The judgment was withdrawn")).to_be_visible()
    expect(page.get_by_text("withdrawn: a robot")).to_be_visible()
    assert Judgment.objects.get().replaced_at is not None


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_dry_runs_and_the_dashboard_fit_and_are_accessible(
    open_as: Open,
    ada: User,
    project: Project,
    width: int,
    scheme: str,
    keep_picture: Callable[[Page, str], None],
) -> None:
    fill(project, prompts=28, responses=4, start=12)
    embed_and_absorb(project)
    job = dryruns.start(project, ada, GIVEN | {"rules": ["d_optimal", "bald"]})
    page = open_as(ada, url("dry_run", job.pk), width=width, color_scheme=scheme)
    settled(page, width)
    assert run(job.pk)
    for name, path in (("dry run", url("dry_run", job.pk)), ("dry runs", url("dry_runs"))):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        settled(page, width)
        page.screenshot(path=f"test-artifacts/{name.replace(' ', '-')}-{width}-{scheme}.png", full_page=True)
    Finding.objects.bulk_create(
        Finding(project=project, name=n, step=9, data=d) for n, d in DOCUMENTS.items()
    )
    page.goto(url("dashboard"))
    page.wait_for_load_state("networkidle")
    settled(page, width)
    keep_picture(page, f"dashboard found {width} {scheme}")


def test_the_printed_dashboard_has_every_chart_and_no_buttons(
    open_as: Open, ada: User, project: Project
) -> None:
    Finding.objects.bulk_create(
        Finding(project=project, name=n, step=9, data=d) for n, d in DOCUMENTS.items()
    )
    page = open_as(ada, url("dashboard"), color_scheme="dark")
    page.emulate_media(media="print")
    pictures = page.locator("figure.chart picture.on-light img")
    assert pictures.count() >= 5
    for index in range(pictures.count()):
        expect(pictures.nth(index)).to_be_visible()
    expect(page.get_by_text("Download:").first).to_be_hidden()
    expect(page.locator("#export-title")).to_be_hidden()
    assert len(page.pdf(format="A4")) > 20_000
