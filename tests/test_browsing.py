"""Browsing a project's data: who may, what filters find, pages that never skip a row, and changing an answer there."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate import browsing
from annotate.browsing import keyset
from annotate.models import (
    Comparison,
    Finding,
    Judgment,
    Membership,
    Project,
    Prompt,
    Response,
    ResponseReward,
    Role,
    User,
)
from tests.conftest import fill, person, signed_in
from tests.learn import embed_and_absorb
from tests.test_correcting import imported
from tests.test_trusting import judge

pytestmark = pytest.mark.django_db
NAMES = ("prompts", "responses", "comparisons", "judgments")


@pytest.fixture
def as_rae(project: Project) -> Client:
    """Rae reviews."""
    rae = person("rae")
    Membership.objects.create(project=project, user=rae, role=Role.REVIEWER)
    return signed_in(rae)


def url(name: str, *arguments: object) -> str:
    return reverse(f"browse_{name}", args=["tides", *arguments])


def rewarded(project: Project) -> None:
    """Rewards as the worker writes them: the k-th response of every prompt has the reward k."""
    ResponseReward.objects.bulk_create(
        ResponseReward(
            response=r, project=project, reward=r.utility, low=r.utility - 0.5, high=r.utility + 0.5
        )
        for r in project.responses.all()
    )
    Finding.objects.create(project=project, name="rewards", step=7)


def ids(client: Client, name: str, query: str = "") -> list[int]:
    answer = client.get(url(name) + query)
    assert answer.status_code == 200
    return [row.pk for row in answer.context["page"].rows]


# --- Who may ------------------------------------------------------------------------------------------------


def test_only_reviewers_and_admins_of_the_project_browse_it(
    project: Project, ben: User, as_ben: Client, as_dan: Client, as_ada: Client, as_rae: Client
) -> None:
    judgment = judge(project, ben, "first")
    other = Project.objects.create(name="Other", slug="other")
    eve = person("eve")
    Membership.objects.create(project=other, user=eve, role=Role.ADMIN)
    comparison = judgment.comparison
    paths = [url(name) for name in NAMES] + [
        url("prompt", comparison.prompt_id), url("comparison", comparison.pk), url("judgment", judgment.pk)
    ]  # fmt: skip
    for path in paths:
        assert as_ada.get(path).status_code == 200, path
        assert as_rae.get(path).status_code == 200, path
        for stranger in (as_ben, as_dan, signed_in(eve)):
            assert stranger.get(path).status_code == 404, path
        assert Client().get(path).status_code == 302, path
    for stranger in (as_ben, as_dan, signed_in(eve)):
        sent = {"action": "withdraw", "reason": "mine"}
        assert stranger.post(url("judgment", judgment.pk), sent).status_code == 404
    assert Judgment.objects.get().replaced_at is None


def test_rows_of_another_project_are_not_there(project: Project, as_ada: Client, ada: User) -> None:
    other = Project.objects.create(name="Other", slug="other", seed="11" * 16)
    fill(other, prompts=2, responses=2)
    theirs = other.prompts.first()
    assert theirs is not None
    for path in (
        url("prompt", theirs.pk),
        url("prompt", 10**40),
        url("comparison", 0),
        url("judgment", 10**30),
    ):
        assert as_ada.get(path).status_code == 404
    assert theirs.pk not in ids(as_ada, "prompts")
    assert ids(as_ada, "responses", f"?prompt={theirs.pk}") == []


# --- Names ----------------------------------------------------------------------------------------------------


def test_real_names_are_for_admins(project: Project, ben: User, as_ada: Client, as_rae: Client) -> None:
    User.objects.filter(pk=ben.pk).update(first_name="Benjamin", last_name="Oduya")
    judgment = judge(project, ben, "first")
    vote = imported(project, "second")[0]
    for path in (url("judgments"), url("comparison", judgment.comparison_id), url("judgment", judgment.pk)):
        assert "Benjamin Oduya" in as_ada.get(path).content.decode()
        text = as_rae.get(path).content.decode()
        assert "Benjamin" not in text
        assert f"Annotator {ben.pk}" in text
    assert "voter 0" in as_ada.get(url("comparison", vote.comparison_id)).content.decode()
    assert "voter 0" not in as_rae.get(url("comparison", vote.comparison_id)).content.decode()


# --- Filters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "query", "words"),
    [
        ("prompts", "?password=x", "no filter called"),
        ("prompts", "?project__name=x", "no filter called"),
        ("prompts", "?split=secret", "not one of the available choices"),
        ("prompts", "?sort=text", "not one of the available choices"),
        ("prompts", "?after=1~2", "Begin at the first page"),
        ("prompts", "?after='; DROP TABLE", "Begin at the first page"),
        ("prompts", "?after=" + "9" * 30, "Begin at the first page"),
        ("responses", "?sort=best&after=nan~1", "Begin at the first page"),
        ("responses", "?sort=best&after=inf~1", "Begin at the first page"),
        ("responses", "?prompt=abc", "whole number"),
        ("responses", "?prompt=" + "9" * 40, "less than or equal"),
        ("responses", "?q=-only", "needs a word"),
        ("responses", "?q=" + "x" * 300, "at most 200"),
        ("comparisons", "?arm=other", "not one of the available choices"),
        ("comparisons", "?rule=os.system", "not one of the available choices"),
        ("judgments", "?annotator=999999", "Nobody with this number"),
        ("judgments", "?annotator=ben", "Nobody with this number"),
        ("judgments", "?since=yesterday", "valid date"),
        ("judgments", "?q=%00", "Null characters"),
    ],
)
def test_a_wrong_filter_is_said_and_nothing_is_listed(
    project: Project, as_ada: Client, name: str, query: str, words: str
) -> None:
    answer = as_ada.get(url(name) + query)
    assert answer.status_code == 400
    text = answer.content.decode()
    assert words in text
    assert "<tbody>" not in text


def test_prompts_are_found_by_words_tags_part_and_whether_they_were_judged(
    project: Project, as_ada: Client, ben: User
) -> None:
    first, second = project.prompts.order_by("position")[:2]
    Prompt.objects.filter(pk=first.pk).update(tags=["code", 'with "quotes"'])
    Prompt.objects.filter(pk=second.pk).update(tags=["codex"], text="Where do eels spawn?")
    assert ids(as_ada, "prompts", "?tag=code") == [first.pk]
    assert ids(as_ada, "prompts", "?tag=with+%22quotes%22") == [first.pk]
    assert ids(as_ada, "prompts", "?q=EELS") == [second.pk]
    assert len(ids(as_ada, "prompts", "?split=evaluation")) == 2
    judgment = judge(project, ben, "first")
    assert ids(as_ada, "prompts", "?judged=yes") == [judgment.comparison.prompt_id]
    assert len(ids(as_ada, "prompts", "?judged=no")) == 11


def test_responses_are_found_by_source_and_ordered_by_reward(project: Project, as_ada: Client) -> None:
    assert ids(as_ada, "responses", "?sort=best") == []
    rewarded(project)
    by_reward = [r.utility for r in Response.objects.in_bulk(ids(as_ada, "responses", "?sort=best")).values()]
    assert sorted(by_reward, reverse=True)[:1] == [3.0]
    best = ids(as_ada, "responses", "?sort=best&source=source-2")
    assert len(best) == 12
    worst = ids(as_ada, "responses", "?sort=worst")
    assert Response.objects.get(pk=worst[0]).utility == 0.0


def test_comparisons_are_found_by_arm_and_by_disagreement(
    project: Project, as_ada: Client, ben: User, cho: User
) -> None:
    project.overlap, project.overlap_share = 2, 1.0
    project.save()
    apart = judge(project, ben, "first").comparison
    judge(project, cho, "second")
    alike = judge(project, ben, "tie").comparison
    judge(project, cho, "tie")
    assert ids(as_ada, "comparisons", "?judged=twice") == [alike.pk, apart.pk]
    assert ids(as_ada, "comparisons", "?judged=differently") == [apart.pk]
    assert ids(as_ada, "comparisons", "?arm=active") == []
    assert alike.pk in ids(as_ada, "comparisons", f"?q=question&prompt={alike.prompt_id}")


def test_judgments_are_found_by_who_what_when_and_why(
    project: Project, as_ada: Client, ada: User, ben: User, cho: User
) -> None:
    one = judge(project, ben, "first", why="Because of the perigee")
    two = judge(project, cho, "tie")
    vote = imported(project, "second")[0]
    assert ids(as_ada, "judgments") == [vote.pk, two.pk, one.pk]
    assert ids(as_ada, "judgments", "?sort=oldest") == [one.pk, two.pk, vote.pk]
    assert ids(as_ada, "judgments", f"?annotator={ben.pk}") == [one.pk]
    assert ids(as_ada, "judgments", "?annotator=imported") == [vote.pk]
    assert ids(as_ada, "judgments", "?q=perigee") == [one.pk]
    assert ids(as_ada, "judgments", "?answer=tie&arm=control") == [two.pk]
    today = one.created_at.date().isoformat()
    assert ids(as_ada, "judgments", f"?since={today}&until={today}") == [vote.pk, two.pk, one.pk]
    assert ids(as_ada, "judgments", "?until=2001-01-01") == []
    Judgment.objects.filter(pk=two.pk).update(flags=["harmful"])
    assert ids(as_ada, "judgments", "?flagged=on") == [two.pk]


def test_a_script_in_a_text_is_text(project: Project, as_ada: Client, ben: User) -> None:
    judgment = judge(project, ben, "first", why="<script>alert(1)</script>")
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    comparison = judgment.comparison
    Prompt.objects.filter(pk=comparison.prompt_id).update(text=attack, tags=[attack], external_id=attack)
    Response.objects.filter(pk=comparison.first_id).update(text=attack, source=attack)
    paths = [url(name) for name in NAMES] + [
        url("prompt", comparison.prompt_id), url("comparison", comparison.pk), url("judgment", judgment.pk),
        url("prompts") + "?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ]  # fmt: skip
    for path in paths:
        text = as_ada.get(path).content.decode()
        assert "<script>alert" not in text
        assert "<img src=x" not in text


# --- Pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sort"),
    [
        ("prompts", ""),
        ("responses", ""),
        ("responses", "best"),
        ("responses", "worst"),
        ("comparisons", "widest"),
    ],
)
def test_pages_hold_every_row_once_in_order(
    project: Project, as_ada: Client, monkeypatch: pytest.MonkeyPatch, name: str, sort: str
) -> None:
    rewarded(project)
    if name == "comparisons":
        for prompt in project.prompts.all():
            first, second = prompt.responses.order_by("pk")[:2]
            Comparison.objects.create(
                project=project,
                prompt=prompt,
                first=first,
                second=second,
                arm="active",
                width=prompt.position % 3,
            )
    monkeypatch.setattr(keyset.page_of, "__defaults__", (None, 5))
    query, seen = f"sort={sort}" if sort else "", []
    while True:
        page = as_ada.get(f"{url(name)}?{query}").context
        seen += [row.pk for row in page["page"].rows]
        query = page["next"]
        if not query:
            break
    expected = {"prompts": 12, "responses": 48, "comparisons": 12}[name]
    assert len(seen) == len(set(seen)) == expected


def test_a_row_that_comes_in_meanwhile_moves_no_page(
    project: Project, as_ada: Client, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyset.page_of, "__defaults__", (None, 2))
    made = [judge(project, ben, "first").pk for _ in range(4)]
    page = as_ada.get(url("judgments"))
    assert [row.pk for row in page.context["page"].rows] == made[:1:-1]
    judge(project, ben, "second")
    rest = as_ada.get(f"{url('judgments')}?{page.context['next']}")
    assert [row.pk for row in rest.context["page"].rows] == made[1::-1]


def test_counting_stops_at_a_thousand(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyset, "COUNTED", 10)
    order = browsing.LISTINGS["prompts"].filter.orders["position"]
    assert browsing.page_of(project.prompts.all(), order, "", size=2).total is None
    assert browsing.page_of(project.prompts.filter(is_evaluation=True), order, "", size=2).total == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_page_costs_at_most_twelve_queries(
    project: Project, as_ada: Client, ben: User, cho: User, name: str, django_assert_max_num_queries: Any
) -> None:
    for _ in range(8):
        judge(project, ben, "first")
        judge(project, cho, "second")
    rewarded(project)
    judgment = Judgment.objects.filter(replaced_at=None).first()
    assert judgment is not None
    paths = [url(name), url(name) + "?q=moon", url("comparison", judgment.comparison_id)]
    paths += [url("prompt", judgment.comparison.prompt_id), url("judgment", judgment.pk)]
    for path in paths:
        with django_assert_max_num_queries(12):
            assert as_ada.get(path).status_code == 200


def test_an_empty_project_says_what_comes_next(project: Project, as_ada: Client) -> None:
    Project.objects.filter(pk=project.pk).update(prompt_count=0, response_count=0)
    project.responses.all().delete()
    project.prompts.all().delete()
    for name in NAMES:
        assert "There is nothing here yet" in as_ada.get(url(name)).content.decode()
    assert "Nothing fits" in as_ada.get(url("prompts") + "?q=x").content.decode()


# --- Details ----------------------------------------------------------------------------------------------------


def test_a_prompt_shows_its_responses_best_reward_first(project: Project, as_ada: Client) -> None:
    prompt = project.prompts.first()
    assert prompt is not None
    assert "measured for the first time" in as_ada.get(url("prompt", prompt.pk)).content.decode()
    rewarded(project)
    context = as_ada.get(url("prompt", prompt.pk)).context
    assert [one.response.utility for one in context["responses"]] == [3.0, 2.0, 1.0, 0.0]
    assert context["responses"][0].at == pytest.approx((75.0, 87.5, 100.0))
    assert "as of step 7" in as_ada.get(url("prompt", prompt.pk)).content.decode()


def test_a_drawn_comparison_says_why_it_was_chosen(project: Project, ben: User, as_ada: Client) -> None:
    embed_and_absorb(project)
    one = project.comparisons.filter(arm="active").first()
    assert one is not None
    assert one.draw is not None
    text = as_ada.get(url("comparison", one.pk)).content.decode()
    for words in (
        f"Draw {one.draw + 1} of the project fell to the active arm, which gets 70%",
        "The rule d_optimal scored it",
        f"{one.width:.3g}",
        "The estimator had read the log up to step 0",
        "certain to be chosen",
    ):
        assert words in text
    control = project.comparisons.filter(arm="control").first()
    assert control is not None
    assert "its chance of being chosen was" in " ".join(browsing.why(control))
    assert control.probability is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arm": "imported", "rule": "imported"}, "came with an import"),
        ({"arm": "gold"}, "its answer is known"),
        ({"arm": "control"}, "drawn at random on the spot"),
        ({"arm": "evaluation", "draw": 3, "arm_probability": 0.1}, "no estimator learns from it"),
        ({"arm": "active", "draw": 3, "rule": "best_worst", "score": 1.5}, "Within a prompt drawn at random"),
        ({"arm": "active", "draw": 3, "rule": "random"}, "like a control pair"),
        ({"arm": "control", "draw": 3, "predicted": 0.2}, "second response to be preferred, with 80%"),
        ({"arm": "control", "draw": 3, "probability": 0.25}, "25.0%"),
        ({"arm": "control", "draw": 3, "probability": 0.0004}, "1 in 2,500"),
    ],
)
def test_every_way_a_pair_can_come_has_its_sentence(fields: dict[str, Any], words: str) -> None:
    assert words in " ".join(browsing.why(Comparison(**fields)))


def test_a_comparison_shows_each_judgment_with_what_stood_there_before(
    project: Project, ben: User, as_ada: Client
) -> None:
    old = judge(project, ben, "first")
    as_ada.post(url("judgment", old.pk), {"action": "correct", "answer": "tie", "reason": "both fine"})
    new = Judgment.objects.get(replaced_at=None)
    as_ada.post(url("judgment", new.pk), {"action": "withdraw", "reason": "a robot"})
    context = as_ada.get(url("comparison", old.comparison_id)).context
    (history,) = context["judgments"]
    assert (history.judgment.answer, [one.answer for one in history.before]) == ("tie", ["first"])
    text = as_ada.get(url("comparison", old.comparison_id)).content.decode()
    assert "corrected: both fine" in text
    assert "withdrawn: a robot" in text
    assert ids(as_ada, "judgments") == []
    assert ids(as_ada, "judgments", "?status=withdrawn") == [new.pk]
    assert ids(as_ada, "judgments", "?status=corrected") == [old.pk]
    assert len(ids(as_ada, "judgments", "?status=all")) == 2


def test_what_is_missing_is_said_on_the_page_again(project: Project, ben: User, as_ada: Client) -> None:
    old = judge(project, ben, "first")
    answer = as_ada.post(url("judgment", old.pk), {"action": "withdraw", "reason": " "}, follow=True)
    assert "Say why" in answer.content.decode()
    assert answer.redirect_chain[0][0] == url("judgment", old.pk)
    as_ada.post(
        url("judgment", old.pk), {"action": "correct", "answer": "x" * 99, "reason": "y", "strength": "²"}
    )
    assert Judgment.objects.get().replaced_at is None
