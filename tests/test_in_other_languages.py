"""German and Arabic: whole catalogues, compiled as they stand, and pages that are set from the right."""

from __future__ import annotations

import gettext
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import translation
from playwright.sync_api import Page

from annotate.models import Project, User
from annotate.templatetags.dashboard import seconds
from tests.browser import Open
from tests.screen import assert_accessible

pytest_plugins = ["tests.browser"]
LOCALE = Path(settings.BASE_DIR) / "annotate" / "locale"
LANGUAGES = ["de", "ar"]
PLACE = re.compile(r"%\(\w+\)[sd]|\{\w*\}")


def catalogue(language: str) -> polib.POFile:
    return polib.pofile(str(LOCALE / language / "LC_MESSAGES" / "django.po"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_with_its_places_for_values(language: str) -> None:
    for entry in catalogue(language):
        texts = list(entry.msgstr_plural.values()) or [entry.msgstr]
        assert all(text.strip() for text in texts), entry.msgid
        assert not entry.fuzzy, entry.msgid
        there = set(PLACE.findall(entry.msgid + entry.msgid_plural))
        assert all(set(PLACE.findall(text)) <= there for text in texts), entry.msgid
        if not entry.msgid_plural:
            assert sorted(PLACE.findall(entry.msgstr)) == sorted(PLACE.findall(entry.msgid)), entry.msgid


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_file_is_that_of_the_texts(language: str) -> None:
    with (LOCALE / language / "LC_MESSAGES" / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for entry in catalogue(language):
        if not entry.msgid_plural and not entry.msgctxt:
            assert compiled.gettext(entry.msgid) == entry.msgstr


def test_a_prompt_has_one_name_in_arabic() -> None:
    assert not [
        entry.msgid for entry in catalogue("ar") if "مطالب" in str([entry.msgstr, entry.msgstr_plural])
    ]


@pytest.mark.skipif(not shutil.which("xgettext"), reason="GNU gettext is not installed")
def test_no_text_of_the_code_is_missing_from_the_catalogue(tmp_path: Path) -> None:
    root = Path(settings.BASE_DIR)
    for name in ("annotate", "templates", "manage.py"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, tmp_path / name)
    before = {(entry.msgctxt, entry.msgid) for entry in catalogue("de")}
    options = ["--locale", "de", "--no-wrap", "--no-location"]
    subprocess.run([sys.executable, "manage.py", "makemessages", *options], cwd=tmp_path, check=True)
    made = polib.pofile(str(tmp_path / "annotate" / "locale" / "de" / "LC_MESSAGES" / "django.po"))
    found = {(entry.msgctxt, entry.msgid) for entry in made if not entry.obsolete}
    assert found == before, "run `make messages` and translate what is new"


def test_the_language_is_chosen_in_the_menu_and_kept(as_ben: Client, project: Project) -> None:
    page = as_ben.get(reverse("home")).content.decode()
    assert 'value="de"' in page
    assert 'lang="en"' in page
    as_ben.post(reverse("set_language"), {"language": "de", "next": "/"})
    assert "Ihre Projekte" in as_ben.get(reverse("home")).content.decode()


def test_the_language_form_sends_nobody_to_another_host(client: Client) -> None:
    answer = client.post(reverse("set_language"), {"language": "de", "next": "https://example.org/"})
    assert answer["Location"] == "/"


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_annotator_compares_in_their_own_language(as_ben: Client, project: Project, language: str) -> None:
    as_ben.post(reverse("set_language"), {"language": language})
    page = as_ben.get(reverse("compare", args=[project.slug])).content.decode()
    said = {entry.msgid: entry.msgstr for entry in catalogue(language)}
    assert said["A is better"] in page
    assert f'lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}"' in page


def test_times_and_questions_are_not_turned_around_in_arabic(as_ada: Client, project: Project) -> None:
    with translation.override("en"):
        assert seconds(0.41) == "0.41 s"
    with translation.override("ar"):
        assert seconds(0.41) == "\u20660.41 s\u2069"
    as_ada.post(reverse("set_language"), {"language": "ar"})
    page = as_ada.get(reverse("dashboard", args=[project.slug])).content.decode()
    assert f"<bdi>{project.question}</bdi>" in page


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("language", "side"), [("de", "left"), ("ar", "right")])
def test_pages_fit_and_begin_at_their_languages_side(
    open_as: Open,
    ada: User,
    project: Project,
    keep_picture: Callable[[Page, str], None],
    width: int,
    language: str,
    side: str,
) -> None:
    for name in ("compare", "dashboard", "project_settings", "members"):
        page = open_as(ada, reverse(name, args=[project.slug]), width=width, locale=language)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        brand, tools = page.locator(".brand").bounding_box(), page.locator(".site-tools").bounding_box()
        assert brand and tools
        assert (brand["x"] < tools["x"]) == (side == "left")
        assert_accessible(page)
        keep_picture(page, f"{language} {name} {width}")
