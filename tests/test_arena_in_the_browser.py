"""The arena and the pages about it in a real browser: desk and phone, light and dark, with and without scripts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from annotate import generating
from annotate.models import Deployment, Generator, Heartbeat, Judgment, Project, User
from tests.browser import Open
from tests.endpoint import Endpoint, fake_endpoint
from tests.learn import teach

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
WIDTHS = [(1280, 800), (390, 844)]
MOON = [
    "The moon ",
    "pulls the sea towards it, ",
    "**twice a day**, and ",
    "the turning earth does the rest.",
]
WIND = [
    "1. Wind pushes water.\n",
    "2. The *moon* pulls it.\n",
    "3. `tide = moon + sun`\n",
    "\n> That is all.",
]


@pytest.fixture
def endpoint(settings: Any) -> Iterator[Endpoint]:
    with fake_endpoint(settings) as found:
        found.by_model = {"moon": MOON, "wind": WIND}
        yield found


@pytest.fixture
def opened(project: Project, ada: User, endpoint: Endpoint) -> Iterator[Project]:
    """An arena with two sources and its worker's threads at work."""
    from learner.tasks import generating as writing
    from learner.tasks import scoring

    teach(project, 12)
    far = timezone.now() + timedelta(days=1)
    Heartbeat.objects.create(worker="w", queues="embed,jobs,learn,score", seen_at=far)
    Deployment.objects.create(project=project, is_on=True, baseline_share=0.0, optimism=50.0)
    for source in ("moon", "wind"):
        generating.save(Generator(project=project, source=source, model=source, url=endpoint.url), ada)
    ended = threading.Event()
    threads = [
        threading.Thread(target=module.serve, args=(ended,), daemon=True) for module in (writing, scoring)
    ]
    for thread in threads:
        thread.start()
    yield project
    ended.set()
    for thread in threads:
        thread.join(10)


def fine(page: Page, keep: Callable[[Page, str], None], name: str) -> None:
    """Nothing for axe to say, nothing wider than the screen; a picture to look at."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    wide += ".filter(e => !e.closest('.table-scroll')).map(e => e.tagName + '.' + e.className)"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.evaluate(wide)
    keep(page, f"{name}-{page.viewport_size['width'] if page.viewport_size else ''}")


@pytest.mark.parametrize(("width", "height"), WIDTHS)
def test_a_person_asks_sees_two_answers_grow_and_chooses(
    opened: Project, ben: User, open_as: Open, endpoint: Endpoint, keep_picture: Any, width: int, height: int
) -> None:
    endpoint.hold = threading.Event()
    scheme = {"color_scheme": "dark"} if width == 390 else {}
    page = open_as(ben, "/projects/tides/arena/", width=width, height=height, **scheme)
    fine(page, keep_picture, "arena-start")
    page.get_by_label("Your prompt").fill("Why does the tide turn, and how often?")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("Two answers are being written")).to_be_visible()
    expect(page.get_by_text("The moon")).to_be_visible()
    fine(page, keep_picture, "arena-growing")
    endpoint.hold.set()
    expect(page.get_by_role("button", name="A is better")).to_be_visible(timeout=15_000)
    fine(page, keep_picture, "arena-choose")
    page.get_by_role("button", name="B is better").click()
    expect(page.get_by_text("your choice")).to_be_visible()
    expect(page.locator(".source")).to_have_count(2)
    fine(page, keep_picture, "arena-chosen")
    page.get_by_label("Go on").fill("And the sun?")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible(timeout=15_000)
    fine(page, keep_picture, "arena-second-turn")
    assert Judgment.objects.filter(comparison__arm="deployment").count() == 1


def test_without_scripts_the_page_asks_again_by_itself(opened: Project, ben: User, open_as: Open) -> None:
    page = open_as(ben, "/projects/tides/arena/", java_script_enabled=False)
    page.get_by_label("Your prompt").fill("Why does the tide turn?")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("button", name="Tie")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Tie").click()
    expect(page.get_by_text("You said: a tie")).to_be_visible()


@pytest.mark.parametrize(("width", "height"), WIDTHS)
def test_the_pages_of_deployment_and_policies_can_be_read(
    opened: Project, ada: User, ben: User, open_as: Open, keep_picture: Any, width: int, height: int
) -> None:
    from annotate import deploying, scoring
    from annotate.deploying import Candidate
    from annotate.judging import Submission
    from learner.tasks.reporting import report_policies

    Deployment.objects.update(baseline_share=0.6, optimism=1.0, is_public=True)
    for n in range(45):
        answers = [
            Candidate(f"Because {word} {n}. " * size, word)
            for size, word in ((1, "moon"), (4, "wind"), (9, "sun"))
        ]
        request = scoring.wait_for(deploying.ask(opened, f"Why does it {n}?", answers, ben), 10)
        if request.is_pair:
            deploying.judge(request.pk, opened, Submission("left"), ben)
    assert report_policies(opened.pk)
    scheme = {"color_scheme": "dark"} if width == 390 else {}
    for path, name in (
        ("model/policies/", "policies"),
        ("deployment/", "deployment"),
        ("deployment/settings/", "deployment-settings"),
        ("deployment/generators/new/", "generator"),
    ):
        page = open_as(ada, f"/projects/tides/{path}", width=width, height=1600, **scheme)
        page.wait_for_load_state("networkidle")
        fine(page, keep_picture, name)
