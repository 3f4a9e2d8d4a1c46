"""Full-text search: what words mean, what is refused, and that the database keeps its indexes current."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext

from annotate import searching
from annotate.errors import TouchstoneError
from annotate.models import Comparison, Judgment, Project, Prompt, Response, User
from annotate.searching import Search
from tests.conftest import fill
from tests.test_trusting import judge

pytestmark = pytest.mark.django_db


def found(words: str) -> set[str]:
    """In the first project."""
    search = Search(words, Project.objects.earliest("pk").pk)
    return set(Response.objects.filter(text__found=search).values_list("text", flat=True))


@pytest.fixture
def texts(project: Project) -> Project:
    for row, text in zip(
        project.responses.order_by("pk"),
        [
            "The Moon pulls.",
            "The sun shines: moonlight is borrowed",
            "moon, sun and “Sea”",
            "d'accord — naïve café",
        ],
        strict=False,
    ):
        Response.objects.filter(pk=row.pk).update(text=text)
    project.responses.exclude(pk__in=project.responses.order_by("pk")[:4].values("pk")).delete()
    return project


def test_words_match_in_any_case_and_all_of_them(texts: Project) -> None:
    assert found("MOON") == {"The Moon pulls.", "moon, sun and “Sea”"}
    assert found("moon sun") == {"moon, sun and “Sea”"}
    assert found("moon -sun") == {"The Moon pulls."}
    assert len(found("moon*")) == 3
    assert found('"sun and sea"') == {"moon, sun and “Sea”"}
    assert found('"sea and sun"') == set()


@pytest.mark.parametrize(
    "words",
    [
        "moon OR NOT AND",
        'text:"x',
        "a) OR (b",
        "'; DROP TABLE x;--",
        "d'accord",
        "\\",
        "NEAR(a b)",
        "x & !y:*",
    ],
)
def test_nothing_that_is_typed_is_an_operator(texts: Project, words: str) -> None:
    try:
        assert found(words) in (set(), {"d'accord — naïve café"})
    except TouchstoneError as error:
        assert "needs a word" in str(error)


@pytest.mark.parametrize("words", ["", "  ", "-moon", '""', "***", "x" * 201])
def test_a_search_without_a_word_or_too_long_says_so(words: str) -> None:
    with pytest.raises(TouchstoneError):
        searching.terms(words)


def test_added_changed_and_deleted_rows_are_in_the_index_or_not(texts: Project) -> None:
    row = texts.responses.order_by("pk").first()
    assert row is not None
    row.text = "Quicksilver"
    row.save()
    assert found("quicksilver") == {"Quicksilver"}
    assert found("pulls") == set()
    row.delete()
    assert found("quicksilver") == set()


def test_a_common_word_is_found_as_a_rare_one_is(texts: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    rare = found("moon")
    monkeypatch.setitem(searching.COMMON, connection.vendor, 0)
    assert found("moon") == rare != set()


def test_a_word_of_another_project_is_not_found_here(texts: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it make a word common: PostgreSQL lists a project's matches alone."""
    other = Project.objects.create(name="Other", slug="other", seed="11" * 16)
    fill(other, prompts=2, responses=2)
    other.responses.update(text=Concat("text", Value(" moon")))
    assert len(other.responses.filter(text__found=Search("moon", other.pk))) == 4
    monkeypatch.setitem(searching.COMMON, connection.vendor, 2)
    with CaptureQueriesContext(connection) as queries:
        assert len(texts.responses.filter(text__found=Search("moon", texts.pk))) == 2
    assert connection.vendor == "sqlite" or " = ANY(" in queries[-1]["sql"]


def test_no_search_makes_the_words_of_a_text_anew(texts: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(searching.COMMON, connection.vendor, 0)
    with CaptureQueriesContext(connection) as queries:
        assert found("moon")
    assert not any("to_tsvector" in query["sql"] for query in queries)


def test_rationales_and_prompts_through_relations_are_searched_too(project: Project, ben: User) -> None:
    judgment = judge(project, ben, "first", why="Because of the perigee")
    judge(project, ben, "second")
    assert list(Judgment.objects.filter(rationale__found=Search("perigee", project.pk))) == [judgment]
    prompt = Prompt.objects.get(pk=judgment.comparison.prompt_id)
    number = prompt.text.split()[1].rstrip(":")
    assert judgment.comparison in Comparison.objects.filter(
        prompt__text__found=Search(f"question {number}", project.pk)
    )


def test_every_text_index_is_there_after_all_migrations() -> None:
    """A migration that rebuilds a table on SQLite drops its triggers: it must make them again."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%%USING gin (%%_words)%%'")
            assert len(cursor.fetchall()) == 3
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            names = {name for (name,) in cursor.fetchall()}
            assert len({n for n in names if n.endswith(("_added", "_changed", "_removed"))}) == 9
