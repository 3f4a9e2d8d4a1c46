"""The pages that let programs in, in a real browser: on a desk and on a phone, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page

from annotate import tokens
from annotate.models import Delivery, Event, Project, User
from annotate.webhooks import endpoints
from tests.screen import assert_accessible

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_tokens_webhooks_and_the_apis_page_fit_and_axe_finds_nothing(
    open_as: Open,
    ada: User,
    project: Project,
    width: int,
    scheme: str,
    keep_picture: Callable[[Page, str], None],
) -> None:
    tokens.make(ada, "Training pipeline", ["read", "export"], [project], 90)
    revoked, _text = tokens.make(ada, "Old notebook", ["deploy"], None, 7)
    tokens.revoke(ada, revoked.pk)
    endpoint = endpoints.add(project, ada, "https://hooks.example.org/touchstone/4f1c", Event.values)
    for state, status in (("sent", 204), ("failed", 500), ("waiting", None)):
        body = '{"type": "judgment.recorded", "data": {"judgment": 1}}'
        delivery = Delivery.objects.create(
            endpoint=endpoint, event="judgment.recorded", body=body, state=state, status=status, attempts=1,
            answer="Internal error", seconds=0.2, tried_at=endpoint.created_at,
        )  # fmt: skip
    pages = {
        "tokens": "/accounts/tokens/",
        "webhooks": "/projects/tides/webhooks/",
        "webhook": f"/projects/tides/webhooks/{endpoint.pk}/",
        "delivery": f"/projects/tides/webhooks/sent/{delivery.pk - 1}/",
        "api": "/api/docs/",
    }
    page = open_as(ada, "/", width=width, color_scheme=scheme)
    for name, address in pages.items():
        page.goto(address)
        if name == "api":
            page.locator("summary").filter(has_text="POST /api/v1/projects/{slug}/prompts").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_accessible(page)
        keep_picture(page, f"programs {name} {width} {scheme}")
    page.goto(pages["tokens"])
    page.get_by_label("Name").fill("Notebook")
    page.get_by_role("button", name="Make the token").click()
    assert page.locator("#secret").input_value().startswith("tst_")
    keep_picture(page, f"programs made {width} {scheme}")
