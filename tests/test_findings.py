"""What the learn worker finds for the dashboard, against formulas written out here, and what the page says of it."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from django.test import Client
from scipy.special import expit
from scipy.stats import norm

from annotate import charts, progress
from annotate.models import Comparison, Finding, Judgment, Project, Response, ResponseReward, User
from annotate.progress import contests, paying, stopping
from annotate.progress.learned import Point
from learner import efficiency
from learner.efficiency import Curves
from learner.tasks import findings, rewards, states
from learner.tasks.absorbing import absorb_waiting
from tests.conftest import fill
from tests.learn import embed_and_absorb
from tests.test_trusting import judge

pytestmark = pytest.mark.django_db


@pytest.fixture
def learned(project: Project, ben: User, cho: User) -> Project:
    """Thirty judgments of everything the learner reads, by the response's known worth."""
    fill(project, prompts=12, responses=4, start=12)
    for prompt in project.prompts.all():
        prompt.tags = ["even" if prompt.position % 2 == 0 else "odd"]
        prompt.save()
    project.evaluation_share = 0.3
    embed_and_absorb(project)
    for n in range(40):
        judgment = judge(project, (ben, cho)[n % 2], "first")
        pair = judgment.comparison
        better = "first" if pair.first.utility > pair.second.utility else "second"
        Judgment.objects.filter(pk=judgment.pk).update(answer=better)
        if n % 4 == 3:
            absorb_waiting(project.pk)
    return project


def document(project: Project, name: str) -> dict[str, Any]:
    return dict(Finding.objects.get(project=project, name=name).data)


def test_the_worker_leaves_a_document_for_every_question(learned: Project) -> None:
    names = set(Finding.objects.filter(project=learned).values_list("name", flat=True))
    assert names == {"winners", "tags", "pool", "certain", "calibration", "gain", "rewards"}


def test_nothing_is_found_before_the_first_judgment(project: Project) -> None:
    embed_and_absorb(project)
    assert not Finding.objects.exists()
    assert not ResponseReward.objects.exists()


def test_widths_and_sign_flips_are_those_of_pairs_that_nobody_was_asked_about(learned: Project) -> None:
    state = states.load_state(learned.pk)
    assert state is not None
    pairs = findings.sampled_pairs(state)
    assert len({tuple(pair) for pair in pairs.tolist()} & state.asked) == 0
    assert (state.prompt[pairs[:, 0]] == state.prompt[pairs[:, 1]]).all()
    assert not state.evaluation[pairs].any()
    bank = state.reader.banks["production"]
    z = state.reader.features[pairs[:, 0]].astype(float) - state.reader.features[pairs[:, 1]]
    width = np.sqrt(np.einsum("nd,de,ne->n", z, bank.covariance, z))
    found = findings.pool(state, pairs)
    assert found["widths"][1] == pytest.approx(np.median(width), abs=1e-5)
    assert found["flips"] == pytest.approx(norm.cdf(-abs(z @ bank.theta) / width).mean(), abs=1e-5)
    assert sum(n for _a, _b, n in found["bins"]) == len(pairs)


def test_a_pool_that_was_asked_about_to_its_last_pair_says_so(learned: Project, as_ada: Client) -> None:
    before = document(learned, "pool")
    responses = list(learned.responses.filter(prompt__is_evaluation=False).order_by("pk"))
    asked = set(Comparison.objects.values_list("first", "second"))
    Comparison.objects.bulk_create(
        Comparison(project=learned, prompt_id=first.prompt_id, first=first, second=second, arm="control")
        for first, second in combinations(responses, 2)
        if first.prompt_id == second.prompt_id and (first.pk, second.pk) not in asked
    )
    state = states.load_state(learned.pk)
    assert state is not None
    findings.keep_findings(state, findings.findings(state, []))
    assert document(learned, "pool") == {"pairs": 0, "left": 0, "history": before["history"]}
    said = "No width is left: every pair of the pool was asked about, or waits in the queue."
    page = progress.overview(learned).stopping
    assert said in page.facts
    assert [figure.alt for figure in page.figures if figure.name == "widths"] == [said]
    assert said in as_ada.get("/projects/tides/").content.decode()


def test_the_history_of_the_pool_keeps_at_most_sixty_points_and_the_newest() -> None:
    rows: list[Any] = []
    for n in range(500):
        rows = findings.thinned([*rows, [n]])
        assert len(rows) <= findings.HISTORY
        assert rows[-1] == [n]
    assert rows == sorted(rows)


def test_rewards_are_centred_per_prompt_with_the_width_of_the_centred_feature(learned: Project) -> None:
    state = states.load_state(learned.pk)
    assert state is not None
    bank = state.reader.banks["production"]
    reward, half = rewards.rewards(state)
    for prompt in range(3):
        mine = state.prompt == prompt
        phi = state.reader.features[mine].astype(float)
        centred = phi - phi.mean(axis=0)
        assert reward[mine] == pytest.approx(centred @ bank.theta)
        assert half[mine] == pytest.approx(
            [1.96 * math.sqrt(max(0.0, row @ bank.covariance @ row)) for row in centred]
        )


def test_every_response_has_a_row_and_a_second_writing_replaces_it(learned: Project) -> None:
    assert ResponseReward.objects.filter(project=learned).count() == learned.responses.count()
    state = states.load_state(learned.pk)
    assert state is not None
    state.rewards_due = 0.0
    rewards.write_rewards(state)
    state.rewards_due = 0.0
    assert not rewards.is_due(state)  # nothing was learned since
    ResponseReward.objects.update(reward=99.0)
    Finding.objects.filter(name="rewards").delete()
    state.rewards_due = 0.0
    assert not rewards.write_rewards(state)  # nothing is left
    assert not ResponseReward.objects.filter(reward=99.0).exists()
    by_prompt = [r.reward.reward for r in learned.prompts.first().responses.select_related("reward")]  # type: ignore[union-attr]
    assert sum(by_prompt) == pytest.approx(0.0, abs=1e-6)


def test_in_turn_rewards_are_written_a_batch_at_a_time_and_belong_to_one_step(
    learned: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewards, "BATCH", 10)
    state = states.load_state(learned.pk)
    assert state is not None
    Finding.objects.filter(name="rewards").delete()
    ResponseReward.objects.update(reward=99.0)
    state.rewards_due = 0.0
    left = [rewards.write_rewards(state, at_once=False)]
    assert ResponseReward.objects.exclude(reward=99.0).count() == 10
    while left[-1]:
        assert not Finding.objects.filter(name="rewards").exists()
        left.append(rewards.write_rewards(state, at_once=False))
    assert len(left) == -(-learned.responses.count() // 10) + 1
    assert not ResponseReward.objects.filter(reward=99.0).exists()
    assert Finding.objects.get(name="rewards").step == state.step


def test_chunks_tear_no_prompt_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "CHUNK", 3)
    prompt = np.array([4, 1, 4, 2, 1, 4, 9, 2, 2, 2])
    chunks = list(rewards.whole_prompts(prompt))
    assert sorted(np.concatenate(chunks).tolist()) == list(range(10))
    seen = [set(prompt[rows].tolist()) for rows in chunks]
    assert sum(len(one) for one in seen) == len(set(prompt.tolist()))


def test_wins_are_counted_from_both_sides_and_expected_over_prompts(learned: Project) -> None:
    found = document(learned, "winners")
    at = {name: i for i, name in enumerate(found["sources"])}
    for a in at.values():
        for b in at.values():
            won, tied, judged = found["won"][a][b]
            assert judged == found["won"][b][a][2]
            assert won + found["won"][b][a][0] + tied == judged
    state = states.load_state(learned.pk)
    assert state is not None
    reward = state.reader.features @ state.reader.banks["production"].theta
    sources = list(
        Response.objects.filter(project=learned).order_by("position").values_list("source", flat=True)
    )
    row = {(int(p), s): i for i, (p, s) in enumerate(zip(state.prompt, sources, strict=True))}
    gaps = [reward[row[p, "source-3"]] - reward[row[p, "source-0"]] for p in range(24)]
    expected = found["expected"][at["source-3"]][at["source-0"]]
    assert expected == pytest.approx(expit(np.array(gaps)).mean(), abs=1e-3)


def test_rewards_by_tag_cover_every_source_of_every_tag(learned: Project) -> None:
    rows = document(learned, "tags")["rows"]
    assert {(tag, source) for tag, source, *_ in rows} == {
        (tag, f"source-{k}") for tag in ("even", "odd") for k in range(4)
    }
    for tag in ("even", "odd"):
        mine = [(n, reward) for name, _s, n, reward, _l, _h in rows if name == tag]
        assert sum(n * reward for n, reward in mine) == pytest.approx(0.0, abs=1e-3)


def test_the_surest_pair_is_surer_than_the_most_open_one(learned: Project) -> None:
    found = document(learned, "certain")
    assert min(one["sure"] for one in found["most"]) >= max(one["sure"] for one in found["least"])
    assert len({one["prompt_id"] for one in found["most"]}) == len(found["most"])
    one = contests.example({**found["most"][0], "predicted": 0.2})
    assert (one.winner, one.winner_id) == (found["most"][0]["second"], found["most"][0]["ids"][1])


def test_the_fitted_curve_goes_through_points_that_are_a_power_law() -> None:
    counts = np.array([25.0, 50, 100, 200, 400])
    losses = 0.4 + 2.0 * counts[:, None] ** -0.7 + np.zeros((5, 40))
    fitted = efficiency.fitted_curve(Curves(counts, losses), [*counts, 800], rng=np.random.default_rng(0))
    assert [one.estimate for one in fitted] == pytest.approx([*losses[:, 0], 0.4 + 2.0 * 800**-0.7])
    gain = efficiency.expected_gain(Curves(counts, losses), 400, rng=np.random.default_rng(0))
    assert gain.estimate == pytest.approx(fitted[4].estimate - fitted[5].estimate)
    assert efficiency.fitted_curve(Curves(counts[:2], losses[:2]), [1.0], rng=np.random.default_rng(0)) == []


# --- What the page says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ([0.001, -0.0001, 0.0015], "brings little"),
        ([0.02, 0.01, 0.03], "still pay"),
        ([0.01, -0.01, 0.03], "cannot be told"),
        ([None, None, None], "Too early"),
    ],
)
def test_stopping_goes_by_the_interval_of_the_expected_gain(gain: list[float | None], words: str) -> None:
    assert words in stopping.in_a_word({"gain": {"gain": gain, "more": 100}})[1]


@pytest.mark.parametrize("share", [0.2, 0.31])
def test_what_a_claim_needs_is_what_the_learner_computes(project: Project, share: float) -> None:
    for need in paying.needs(project, share, 50.0):
        assert need.evaluation == efficiency.labels_needed(share, need.difference)
        assert need.made == math.ceil(need.evaluation / project.evaluation_share)
    assert paying.disagreement(None) == paying.USUAL_DISAGREEMENT
    assert paying.disagreement(Point(25, 40, {"disagreement": share})) == share


def test_a_claim_that_no_evaluation_arm_can_give_has_no_number_of_judgments(project: Project) -> None:
    project.evaluation_share = 0.0
    assert {need.made for need in paying.needs(project, 0.2, 50.0)} == {None}


DOCUMENTS: dict[str, dict[str, Any]] = {
    "gain": {
        "more": 100, "last": 100, "gain": [0.01, 0.0, 0.02], "measured": [[25, 0.69], [50, 0.6], [100, 0.55]],
        "fitted": [[25, 0.69, 0.6, 0.7], [50, 0.6, 0.5, 0.7], [100, 0.55, 0.5, 0.6], [200, 0.5, 0.4, 0.6]],
    },
    "pool": {
        "pairs": 40, "flips": 0.2, "widths": [0.1, 0.4, 0.9], "bins": [[0.0, 0.5, 30], [0.5, 1.0, 10]],
        "history": [[25, 0.2, 0.8, 1.4, 0.3], [100, 0.1, 0.4, 0.9, 0.2]],
    },
    "calibration": {
        "bins": [[0.55, 0.5, 0.3, 0.7, 20], [0.9, 0.95, 0.8, 1.0, 20]], "ece": [0.05, 0.0, 0.1], "floor": 0.04,
        "held_out": 40,
    },
    "winners": {
        "sources": ["<b>", "two"], "expected": [[None, 0.7], [0.3, None]],
        "won": [[[0, 0, 0], [7, 1, 10]], [[2, 1, 10], [0, 0, 0]]],
    },
    "tags": {"rows": [["code", "<b>", 12, 0.4, 0.1, 0.7], ["code", "two", 12, -0.4, -0.7, -0.1]]},
}  # fmt: skip


def test_every_new_chart_comes_in_four_kinds_of_file(
    project: Project, as_ada: Client, as_ben: Client
) -> None:
    for name in ("forecast", "widths", "calibration", "winners", "tags"):
        assert as_ada.get(f"/projects/tides/charts/{name}.svg").status_code == 404  # nothing to draw yet
    Finding.objects.bulk_create(
        Finding(project=project, name=n, step=9, data=d) for n, d in DOCUMENTS.items()
    )
    for name in ("forecast", "widths", "calibration", "winners", "tags"):
        for ext, theme, size in (("svg", "dark", "narrow"), ("png", "light", "wide"), ("csv", "light", "wide"),
                                 ("json", "light", "medium")):  # fmt: skip
            path = f"/projects/tides/charts/{name}.{ext}?theme={theme}&size={size}"
            answer = as_ada.get(path)
            assert (answer.status_code, answer["Content-Type"]) == (200, charts.MEDIA[ext])
            assert b"<b>" not in answer.content or ext in ("csv", "json")
            assert as_ben.get(path).status_code == 404


def test_what_was_found_is_said(project: Project) -> None:
    Finding.objects.bulk_create(
        Finding(project=project, name=n, step=9, data=d) for n, d in DOCUMENTS.items()
    )
    page = progress.overview(project)
    assert "0.4 in the middle, 0.1 to 0.9 for nine in ten; it was 0.8 after 25" in page.stopping.facts[0]
    assert "20.0% of predicted winners" in page.stopping.facts[1]
    assert "Expected calibration error 0.050 (0.000 to 0.100)" in page.trust.figures[1].alt
    assert page.contests.figures[0].rows[0] == ("<b>", "two", 0.7, 7, 1, 10)


def test_the_page_shows_what_was_found_in_twelve_queries_and_that_of_the_session(
    learned: Project, as_ada: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(12 + 1):
        text = as_ada.get("/projects/tides/").content.decode()
    for words in (
        "What a claim needs",
        "Pairs whose winner is surest",
        "of predicted winners would be expected to change",
        "Source against source",
        "Gold answers right",
    ):
        assert words in text
    first = document(learned, "certain")["most"][0]
    assert f"/data/prompts/{first['prompt_id']}/#response-" in text
    found = progress.overview(learned)
    assert all(one.others.total == 0 for one in found.trust.annotators)
