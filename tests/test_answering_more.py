"""More than which is better: strength, criteria, problems; changing an answer; own keys."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import judging, keys, serving
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import Comparison, Estimator, Judgment, Lease, Project, User
from learner.tasks import states
from learner.tasks.absorbing import absorb_waiting
from tests.learn import embed_and_absorb
from tests.test_comparing import SCRIPT, judge_url, page_of, shown

pytestmark = pytest.mark.django_db


@pytest.fixture
def asking(project: Project) -> Project:
    """The project asks how much better, and about two criteria."""
    project.ask_strength, project.criteria = True, ["Truth", 'Tone "quoted"']
    project.save()
    return project


def sent(client: Client, project: Project, **fields: str) -> Judgment:
    client.post(judge_url(shown(client, project)[0]), fields, **SCRIPT)
    return Judgment.objects.latest("pk")


def test_strength_and_criteria_are_offered_only_where_the_project_asks(
    as_ben: Client, project: Project
) -> None:
    plain = as_ben.get(page_of(project)).content.decode()
    assert 'value="left"' in plain
    assert "left-3" not in plain
    assert "data-criterion" not in plain
    Project.objects.update(ask_strength=True, criteria=["Truth"])
    asking = as_ben.get(page_of(project)).content.decode()
    for value in ("left-3", "left-2", "left-1", "tie", "right-1", "right-2", "right-3", "both_bad"):
        assert f'value="{value}"' in asking
    assert 'value="left"' not in asking.replace('name="criterion:Truth" value="left"', "")


@pytest.mark.parametrize("swapped", [False, True])
def test_strength_and_criteria_are_stored_in_terms_of_the_comparison(
    as_ben: Client, asking: Project, swapped: bool
) -> None:
    shown(as_ben, asking)
    Lease.objects.update(swapped=swapped)
    criteria: dict[str, str] = {"criterion:Truth": "right", 'criterion:Tone "quoted"': "tie"}
    made = sent(as_ben, asking, side="left-3", **criteria)
    assert made.answer == ("second" if swapped else "first")
    assert made.strength == 3
    assert made.criteria == {"Truth": "first" if swapped else "second", 'Tone "quoted"': "tie"}


def test_criteria_stay_optional_and_a_tie_has_no_strength(as_ben: Client, asking: Project) -> None:
    made = sent(as_ben, asking, side="tie", strength="3")
    assert (made.answer, made.strength, made.criteria) == ("tie", None, {})


def test_a_page_from_before_the_settings_changed_still_answers(as_ben: Client, project: Project) -> None:
    made = sent(as_ben, project, side="right-1", **{"criterion:Gone": "left"})
    assert (made.strength, made.criteria) == (None, {})
    assert made.answer in ("first", "second")


@pytest.mark.parametrize(
    "submission",
    [
        Submission("left", criteria={"Beauty": "left"}),
        Submission("left", criteria={"Truth": "both_bad"}),
        Submission("tie", strength=2),
        Submission("left", strength=4),
        Submission("left", flags=["ugly"]),
    ],
)
def test_what_the_project_does_not_ask_is_refused(asking: Project, ben: User, submission: Submission) -> None:
    lease = serving.leases_for(asking, ben, 1)[0]
    with pytest.raises(TouchstoneError):
        judging.record(ben, lease.pk, submission)
    assert Judgment.objects.count() == 0


def test_a_problem_is_reported_with_the_answer(as_ben: Client, project: Project) -> None:
    made = sent(
        as_ben, project, side="left", **{"flag:harmful": "yes", "flag:language": "yes", "flag:x": "yes"}
    )
    assert made.flags == ["harmful", "language"]


def test_an_undone_answer_comes_back_with_what_was_written_beside_it(as_ben: Client, asking: Project) -> None:
    def bar() -> str:
        return as_ben.get(page_of(asking)).content.decode().split("</article>")[0]

    written = {"rationale": 'It "flows" <b>', "criterion:Truth": "right", "flag:broken": "yes"}
    sent(as_ben, asking, side="left-3", **written)
    returned = as_ben.post(reverse("undo", args=[asking.slug]), **SCRIPT).content.decode()
    for html in (returned.split("</article>")[0], bar()):
        assert ">It &quot;flows&quot; &lt;b&gt;</textarea>" in html
        assert 'name="criterion:Truth" value="right" checked' in html
        assert 'name="flag:broken" value="yes" checked' in html
        assert html.count(" checked") == 2
        assert "data-criteria-count>1/2" in html
    sent(as_ben, asking, side="tie")
    assert "flows" not in bar()


# --- Changing an answer ----------------------------------------------------------------------------------------


def change_url(judgment: Judgment) -> str:
    return reverse("change", args=[judgment.project.slug, judgment.pk])


def test_a_changed_answer_leaves_one_current_row_and_a_history(as_ben: Client, asking: Project) -> None:
    old = sent(as_ben, asking, side="left-2", rationale="clear")
    counters = list(Comparison.objects.values_list("pk", "taken", "judged", "state"))
    page = as_ben.get(change_url(old)).content.decode()
    assert ">clear</textarea>" in page
    answer = as_ben.post(change_url(old), {"side": "right-3", "rationale": "dull"}, follow=True)
    assert "Your answer was changed." in answer.content.decode()
    assert "before: A is better" in answer.content.decode()
    new = Judgment.objects.get(replaced_at=None)
    assert (new.replaces, new.lease, new.strength, new.rationale) == (old, old.lease, 3, "dull")
    assert new.lead_time == old.lead_time
    assert new.answer != old.answer
    assert list(Comparison.objects.values_list("pk", "taken", "judged", "state")) == counters


def test_sending_the_same_answer_again_changes_nothing(as_ben: Client, project: Project) -> None:
    old = sent(as_ben, project, side="left")
    as_ben.post(change_url(old), {"side": "left"})
    assert Judgment.objects.get() == old


def test_two_tabs_that_change_one_answer_do_not_fork_it(as_ben: Client, project: Project) -> None:
    old = sent(as_ben, project, side="left")
    as_ben.post(change_url(old), {"side": "tie"})
    late = as_ben.post(change_url(old), {"side": "right"}, follow=True)
    assert "was changed meanwhile" in late.content.decode()
    assert Judgment.objects.get(replaced_at=None).answer == "tie"


def test_after_the_window_nothing_changes_and_edits_do_not_prolong_it(
    as_ben: Client, project: Project
) -> None:
    old = sent(as_ben, project, side="left")
    as_ben.post(change_url(old), {"side": "tie"})
    new = Judgment.objects.get(replaced_at=None)
    Lease.objects.filter(pk=new.lease_id).update(closed_at=timezone.now() - timedelta(minutes=61))
    refused = as_ben.post(change_url(new), {"side": "right"}, follow=True).content.decode()
    assert "for 60 minutes" in refused
    assert change_url(new) not in refused
    assert "no longer be changed" in as_ben.get(change_url(new)).content.decode()
    assert Judgment.objects.get(replaced_at=None) == new


def test_nobody_sees_or_changes_anothers_answer(as_ben: Client, as_cho: Client, project: Project) -> None:
    old = sent(as_ben, project, side="left")
    assert as_cho.get(change_url(old)).status_code == 404
    as_cho.post(change_url(old), {"side": "right"})
    assert Judgment.objects.get() == old
    assert change_url(old) not in as_cho.get(reverse("earlier", args=[project.slug])).content.decode()


def test_the_pages_of_earlier_answers_say_nothing_of_arm_or_source(as_ben: Client, project: Project) -> None:
    old = sent(as_ben, project, side="left")
    Comparison.objects.update(arm="gold", gold_answer="first", rule="rule-secret")
    for url in (reverse("earlier", args=[project.slug]), change_url(old)):
        html = as_ben.get(url).content.decode().lower()
        assert not any(secret in html for secret in ("gold", "secret", "source-", "control"))


@pytest.mark.django_db(transaction=True)
def test_the_learner_forgets_the_answer_that_was_changed(project: Project, ben: User) -> None:
    states._cache.clear()
    made = []
    for side in ("left", "right", "left"):
        lease = serving.leases_for(project, ben, 1)[0]
        made.append(judging.record(ben, lease.pk, Submission(side)))
    embed_and_absorb(project)
    before = Estimator.objects.get(role="production").digest
    judging.edit(ben, project, made[1].pk, Submission("left"))
    absorb_waiting(project.pk)
    production = Estimator.objects.get(role="production")
    assert production.digest != before
    assert production.judgments == 3
    assert Judgment.objects.get(pk=made[1].pk).forgotten_at is not None
    states._cache.clear()


# --- Keys ------------------------------------------------------------------------------------------------------


def test_every_key_does_one_thing_in_both_layouts(project: Project, ben: User) -> None:
    for project.ask_strength in (False, True):
        project.criteria, project.guidelines = ["Truth"], "Be kind."
        found = keys.keys_of(project, ben)
        assert sum(map(len, found.values())) == len(keys.by_key(found))


def test_an_own_key_takes_the_place_of_the_default(project: Project, ben: User) -> None:
    ben.keys = {"left": "f", "right": "j"}
    found = keys.by_key(keys.keys_of(project, ben))
    assert found["f"] == "left"
    assert found["ArrowLeft"] == "left"
    assert "1" not in found


@pytest.mark.parametrize(
    "chosen", [{"left": "s"}, {"undo": "xy"}, {"undo": " "}, {"left": "x", "right": "x"}]
)
def test_a_key_that_cannot_be_is_refused_with_a_sentence(chosen: dict[str, Any]) -> None:
    with pytest.raises(TouchstoneError, match="“"):
        keys.checked(chosen)


def test_two_keys_can_change_places(project: Project) -> None:
    assert keys.checked({"differences": "r", "raw": "d"}) == {"differences": "r", "raw": "d"}


def test_the_default_keys_of_both_layouts_are_listed(as_ben: Client) -> None:
    html = as_ben.get(reverse("own_keys")).content.decode()
    cells = {name: cell for cell, name in re.findall(r"<td>(.*?)</td>\s*<td><input name=\"([\w-]+)", html)}
    for action in ("tie", "both_bad"):
        plain, graded = cells[action].split("<br>")
        assert re.findall("<kbd>(.)</kbd>", plain)[0] == keys.PLAIN[action][0]
        assert re.findall("<kbd>(.)</kbd>", graded)[0] == keys.GRADED[action][0]
        assert "where the project asks how much" in graded
    assert cells["left-2"] == "<kbd>2</kbd> <kbd>←</kbd>"
    assert cells["skip"] == "<kbd>s</kbd>"


def test_own_keys_are_saved_refused_with_a_sentence_and_given_up(as_ben: Client, ben: User) -> None:
    url = reverse("own_keys")
    assert as_ben.post(url, {"left": "F", "right": "j", "is_staff": "1"}).status_code == 302
    ben.refresh_from_db()
    assert (ben.keys, ben.is_staff) == ({"left": "f", "right": "j"}, False)
    refused = as_ben.post(url, {"left": "s"})
    assert refused.status_code == 400
    assert "two things" in refused.content.decode()
    as_ben.post(url, {"reset": "yes", "left": "x"})
    ben.refresh_from_db()
    assert ben.keys == {}
    assert Client().get(url)["Location"].startswith("/accounts/login/")
