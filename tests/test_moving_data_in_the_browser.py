"""Importing, exporting and watching jobs in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Job, Project, Prompt, User
from learner.tasks import jobs as running
from tests.screen import assert_accessible

if TYPE_CHECKING:
    from tests.browser import Open

pytest_plugins = ["tests.browser"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
PAGE = reverse("import", args=["tides"])
SIZES = [(1280, "light"), (390, "dark")]
Keep = Callable[[Page, str], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows: list[object] = [
        {
            "prompt": f"Why {i}?",
            "responses": [{"text": f"Because of {i}.", "source": "model-a"}, "No reason at all."],
        }
        for i in range(40)
    ]
    rows += [
        {"prompt": "Which?", "chosen": "This.", "rejected": "That.", "annotator": "w1"},
        {"prompt": ""},
        5,
    ]
    path = tmp_path / "a file of mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def fits(page: Page) -> None:
    page.wait_for_load_state()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_file_is_uploaded_looked_at_imported_and_its_bad_rows_taken_away(
    width: int, scheme: str, project: Project, ada: User, open_as: Open, file: Path, keep_picture: Keep
) -> None:
    page = open_as(ada, PAGE, width=width, color_scheme=scheme)
    assert_accessible(page)
    keep_picture(page, f"import-{width}")
    fits(page)
    page.get_by_label("Drop a file here, or choose one").set_input_files(file)
    page.get_by_role("button", name="Upload and look at it").click()
    expect(page.get_by_role("heading", name="Look at the file")).to_be_visible()
    expect(page.get_by_text("2 of these rows would be skipped:")).to_be_visible()
    assert_accessible(page)
    keep_picture(page, f"import-check-{width}")
    fits(page)
    page.get_by_role("button", name="Import the file").click()
    expect(page.get_by_text("It begins as soon as a worker is free.")).to_be_visible()
    running.run(Job.objects.get().pk)
    expect(page.get_by_text("2 bad rows skipped.")).to_be_visible()  # the page found out by itself
    assert_accessible(page)
    keep_picture(page, f"import-done-{width}")
    fits(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Bad rows").click()
    assert Path(download.value.path()).read_text().splitlines()[0] == "row,code,reason"
    assert Prompt.objects.filter(project=project, text__startswith="Why ").count() >= 40


def test_without_scripts_a_file_comes_in_as_well(
    project: Project, ada: User, open_as: Open, file: Path
) -> None:
    page = open_as(ada, PAGE, java_script_enabled=False)
    page.get_by_label("Drop a file here, or choose one").set_input_files(file)
    page.get_by_role("button", name="Upload and look at it").click()
    page.get_by_role("button", name="Import the file").click()
    expect(page.get_by_role("link", name="Look again")).to_be_visible()
    running.run(Job.objects.get().pk)
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_text("2 bad rows skipped.")).to_be_visible()


def test_a_dropped_file_is_taken_and_one_that_is_too_large_is_refused_before_it_is_sent(
    project: Project, ada: User, open_as: Open, file: Path, settings: Any
) -> None:
    page = open_as(ada, PAGE)
    field = page.get_by_label("Drop a file here, or choose one")
    field.evaluate(
        """(field) => {
          const held = new DataTransfer();
          held.items.add(new File(['{"prompt": "Dropped?", "responses": ["a", "b"]}'], "dropped.jsonl"));
          field.dispatchEvent(new DragEvent("dragenter", {bubbles: true, dataTransfer: held}));
          field.files = held.files;
          field.dispatchEvent(new Event("change", {bubbles: true}));
        }"""
    )
    assert "over" in (page.locator(".drop").get_attribute("class") or "")
    page.locator("#upload").evaluate("form => { form.dataset.most = '10' }")
    field.evaluate("field => field.dispatchEvent(new Event('change', {bubbles: true}))")
    expect(page.get_by_text("This file is larger than")).to_be_visible()
    page.get_by_role("button", name="Upload and look at it").click()
    assert page.url.endswith(PAGE) and not Job.objects.exists()
    page.locator("#upload").evaluate("form => { form.dataset.most = '1000' }")
    field.evaluate("field => field.dispatchEvent(new Event('change', {bubbles: true}))")
    page.get_by_role("button", name="Upload and look at it").click()
    expect(page.get_by_text("Dropped?")).to_be_visible()


def test_what_is_no_data_is_said_at_the_field_without_leaving_the_page(
    project: Project, ada: User, open_as: Open, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and more")
    page = open_as(ada, PAGE)
    page.get_by_label("Drop a file here, or choose one").set_input_files(tmp_path / "a.zip")
    page.get_by_role("button", name="Upload and look at it").click()
    expect(page.get_by_text("a.zip is a zip archive; unpack it first.")).to_be_visible()
    expect(page.get_by_role("button", name="Upload and look at it")).to_be_enabled()
    assert_accessible(page)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_running_job_is_watched_and_cancelled_after_a_question(
    width: int, scheme: str, project: Project, ada: User, open_as: Open, keep_picture: Keep
) -> None:
    now = timezone.now()
    job = Job.objects.create(
        project=project, kind=Job.Kind.EXPORT, state=Job.State.RUNNING, started_at=now, heartbeat_at=now,
        done=5_000, total=50_000, rate=1_000.0, created_by=ada,
    )  # fmt: skip
    page = open_as(ada, reverse("job", args=["tides", job.pk]), width=width, color_scheme=scheme)
    expect(page.get_by_text("5,000 of 50,000 · 1,000 a second · 45 s left")).to_be_visible()
    assert_accessible(page)
    keep_picture(page, f"job-{width}")
    Job.objects.filter(pk=job.pk).update(done=20_000)
    expect(page.get_by_text("20,000 of 50,000")).to_be_visible()
    page.get_by_role("link", name="Cancel the job").click()
    assert_accessible(page)
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text("The job was cancelled.")).to_be_visible()
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_role("cell", name="Cancelled")).to_be_visible()
    assert_accessible(page)
    fits(page)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_an_export_is_asked_for_made_and_taken_away_and_then_made_every_week(
    width: int, scheme: str, project: Project, ada: User, ben: User, open_as: Open, keep_picture: Keep
) -> None:
    for _ in range(8):
        (lease,) = serving.leases_for(project, ben, 1)
        judging.record(ben, lease.pk, Submission("left", lead_time=2.0))
    page = open_as(ada, reverse("export_page", args=["tides"]), width=width, color_scheme=scheme)
    page.get_by_text("Only a part").click()
    page.get_by_label("Control").check()
    assert_accessible(page)
    fits(page)
    keep_picture(page, f"export-{width}")
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.get_by_text("It begins as soon as a worker is free.")).to_be_visible()
    running.run(Job.objects.get(kind=Job.Kind.EXPORT).pk)
    with page.expect_download() as download:
        page.get_by_role("link", name="The data").click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert rows and {row["arm"] for row in rows} == {"control"}
    assert_accessible(page)
    keep_picture(page, f"export-done-{width}")
    page.goto(reverse("export_schedule", args=["tides"]))
    assert_accessible(page)
    fits(page)
    keep_picture(page, f"export-schedule-{width}")
    page.get_by_label("How often").select_option("weekly")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Every week; the last 7 are kept.")).to_be_visible()
    assert_accessible(page)
    fits(page)
    keep_picture(page, f"export-list-{width}")
