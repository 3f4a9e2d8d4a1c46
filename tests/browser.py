"""A real chromium for tests: the system's own, driven by playwright; tests skip with a reason where there is none."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from annotate.models import User
from tests.conftest import signed_in

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ARTEFACTS = Path("test-artifacts")
expect.set_options(timeout=20_000)  # a busy machine is slow; what never comes fails all the same
Open = Callable[..., Page]


def executable() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip("no chromium on this machine: install it or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_as(chromium: Browser, live_server: LiveServer) -> Iterator[Open]:
    """Open pages as somebody: ``open_as(ben, "/", width=390)``; at the end, no page may have failed anywhere."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(
        user: User | None, path: str, *, width: int = 1280, height: int = 800, **options: Any
    ) -> Page:
        viewport = {"width": width, "height": height}
        context = chromium.new_context(base_url=live_server.url, viewport=viewport, **options)
        contexts.append(context)
        if user:
            sign_in(context, user, live_server.url)
        page = context.new_page()
        watch(page, live_server.url, faults)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def sign_in(context: BrowserContext, user: User, url: str) -> None:
    session = signed_in(user).cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": url}])


def watch(page: Page, url: str, faults: list[str]) -> None:
    """Note script errors, refusals by the content security policy, dialogs, and requests to any other host."""
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: check_host(request.url, url, faults))
    page.on(
        "console",
        lambda message: "Content Security Policy" in message.text and faults.append(message.text),
    )


def check_host(requested: str, url: str, faults: list[str]) -> None:
    if not requested.startswith((url, "data:", "blob:", "about:")):
        faults.append(f"request to another host: {requested}")


@pytest.fixture
def keep_picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Save a screenshot among the artefacts of the test run, to be looked at."""

    def keep(page: Page, name: str) -> None:
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / f"{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.png")

    return keep
