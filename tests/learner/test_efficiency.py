"""The statistics on which the claim "choosing beats drawing" rests, checked by simulation and by other libraries."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, ndtr
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import accuracy_score, brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from learner.efficiency import (
    AHEAD,
    BEHIND,
    OPEN,
    Curves,
    Interval,
    accuracy,
    area_under_curve,
    brier,
    calibration,
    confidence_sequence,
    expected_gain,
    expected_sign_flips,
    first_reach,
    gain_sentence,
    hits,
    kappa_of_pool,
    labels_needed,
    labels_saved,
    log_loss,
    non_increasing,
    paired_bootstrap,
    verdict,
    wilson,
)
from learner.errors import LearnerError

COUNTS = np.array([0.0, 25, 50, 100, 200, 400, 800])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def power_curves(
    rng: np.random.Generator, speed: float, base: np.ndarray, seeds: int = 4, noise: float = 0.005
) -> np.ndarray:
    """Losses (S, C, n) that fall as if ``speed`` labels were drawn for every one counted."""
    fall = 0.5 + 0.19 / np.sqrt(1 + speed * COUNTS / 20)
    return fall[None, :, None] + base + noise * rng.standard_normal((seeds, len(COUNTS), base.shape[-1]))


# Losses


def test_losses_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    p, y = rng.uniform(0.01, 0.99, 300), rng.integers(0, 2, 300).astype(float)
    assert log_loss(p, y) == pytest.approx(sklearn_log_loss(y, p))
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p))
    assert accuracy(p, y) == pytest.approx(accuracy_score(y, p > 0.5))


def test_a_tie_counts_half_whichever_side_it_is_on() -> None:
    assert hits([0.5, 0.9, 0.1], [1, 0.5, 0.5]).tolist() == [0.5, 0.5, 0.5]
    assert log_loss([0.5], [0.5]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("p, y", [([0.5], [0.5, 1]), ([np.nan], [1]), ([1.2], [1]), ([0.5], [2]), ([], [])])
def test_impossible_predictions_are_refused(p: list[float], y: list[float]) -> None:
    with pytest.raises(LearnerError, match=r"p|y"):
        log_loss(p, y)


def test_wilson_intervals_cover_their_share(rng: np.random.Generator) -> None:
    successes = rng.binomial(25, 0.9, size=2000)
    covered = [not wilson(int(s), 25).excludes(0.9) for s in successes]
    assert np.mean(covered) > 0.93
    assert wilson(0, 0).low == 0.0
    with pytest.raises(LearnerError):
        wilson(3, 2)


def test_a_calibrated_model_has_an_ece_near_its_floor_and_a_bold_one_above(rng: np.random.Generator) -> None:
    margin = 1.5 * rng.standard_normal(1500)
    y = (rng.random(1500) < expit(margin)).astype(float)
    fair, bold = calibration(expit(margin), y, rng=rng), calibration(expit(3 * margin), y, rng=rng)
    assert fair.ece.estimate < 2 * fair.floor
    assert fair.ece.low < fair.floor < bold.ece.low
    assert sum(b.count for b in fair.bins) == 1500
    inside = [not b.observed.excludes(b.predicted) for b in fair.bins]
    assert np.mean(inside) >= 0.8


def test_calibration_does_not_depend_on_which_response_is_called_first(rng: np.random.Generator) -> None:
    p, y = rng.uniform(0.02, 0.98, 200), rng.integers(0, 2, 200).astype(float)
    turned = np.arange(200) % 2 == 0
    one = calibration(p, y, rng=rng, draws=10)
    two = calibration(np.where(turned, 1 - p, p), np.where(turned, 1 - y, y), rng=rng, draws=10)
    assert one.ece.estimate == pytest.approx(two.ece.estimate)


# Two arms


def test_the_paired_bootstrap_covers_the_true_difference_of_clustered_judgments(
    rng: np.random.Generator,
) -> None:
    def one() -> bool:
        prompts = np.repeat(np.arange(40), 5)
        effect = 0.1 + 0.3 * rng.standard_normal(40)[prompts] + 0.3 * rng.standard_normal(200)
        base = rng.standard_normal(200)
        return not paired_bootstrap(base + effect, base, prompts, rng=rng, draws=300).excludes(0.1)

    assert 0.90 <= np.mean([one() for _ in range(250)]) <= 0.99


def test_judgments_taken_as_independent_would_be_too_sure(rng: np.random.Generator) -> None:
    prompts = np.repeat(np.arange(30), 10)
    effect = rng.standard_normal(30)[prompts]
    clustered = paired_bootstrap(effect, np.zeros(300), prompts, rng=rng)
    naive = paired_bootstrap(effect, np.zeros(300), rng=rng)
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_the_two_way_bootstrap_covers_new_prompts_and_new_seeds(rng: np.random.Generator) -> None:
    def one() -> bool:
        seeds, prompts = 0.3 * rng.standard_normal((12, 1)), 0.3 * rng.standard_normal((1, 40))
        difference = 0.1 + seeds + prompts + 0.5 * rng.standard_normal((12, 40))
        return not paired_bootstrap(difference, np.zeros_like(difference), rng=rng, draws=300).excludes(0.1)

    assert np.mean([one() for _ in range(250)]) >= 0.90


def test_one_prompt_gives_no_interval(rng: np.random.Generator) -> None:
    interval = paired_bootstrap(np.ones(9), np.zeros(9), np.zeros(9), rng=rng)
    assert interval.estimate == 1.0 and math.isinf(interval.high)


def test_the_fit_without_rises_is_scikit_learns(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20, 9))
    expected = [IsotonicRegression(increasing=False).fit_transform(np.arange(9), row) for row in rows]
    np.testing.assert_allclose(non_increasing(rows), expected, atol=1e-12)


def test_a_target_never_reached_is_infinitely_far() -> None:
    reach = first_reach(np.array([0.0, 10.0]), np.array([[0.7, 0.6], [0.7, 0.6]]), np.array([0.5, 0.7]))
    assert reach.tolist() == [math.inf, 0.0]


def test_labels_saved_finds_the_factor_between_two_curves(rng: np.random.Generator) -> None:
    base = 0.1 * rng.standard_normal(150)
    prompts = np.repeat(np.arange(50), 3)
    control = Curves(COUNTS, power_curves(rng, 1.0, base), prompts)
    active = Curves(COUNTS, power_curves(rng, 3.0, base), prompts)
    saved = labels_saved(active, control, at=100, rng=rng)
    assert saved.ratio.estimate == pytest.approx(3.0, rel=0.15)
    assert saved.ratio.low > 1.0 and not saved.ratio.excludes(3.0) and not saved.censored
    turned = labels_saved(control, active, at=400, rng=rng)
    assert turned.ratio.estimate == pytest.approx(1 / 3, rel=0.2) and turned.ratio.high < 1.0


def test_labels_saved_is_censored_at_what_the_control_arm_was_asked(rng: np.random.Generator) -> None:
    base = np.zeros(60)
    control = Curves(COUNTS, power_curves(rng, 1.0, base), None)
    active = Curves(COUNTS, power_curves(rng, 20.0, base), None)
    saved = labels_saved(active, control, at=100, rng=rng)
    assert saved.censored and saved.ratio.estimate == saved.ratio.high == 8.0
    assert saved.draws_censored > 0.9
    assert "at least 8 times" in saved.sentence and "or more" in saved.sentence


def test_a_short_control_arm_is_compared_at_its_own_last_loss(rng: np.random.Generator) -> None:
    base = np.zeros(60)
    control = Curves(COUNTS[:5], power_curves(rng, 1.0, base)[:, :5], None)
    active = Curves(COUNTS, power_curves(rng, 4.0, base), None)
    saved = labels_saved(active, control, rng=rng)
    assert saved.control_labels == 200
    assert saved.active_labels == pytest.approx(50, rel=0.15)
    assert saved.ratio.estimate == pytest.approx(4.0, rel=0.15)


def test_equal_arms_save_nothing_that_the_interval_excludes(rng: np.random.Generator) -> None:
    def one() -> bool:
        base = 0.1 * rng.standard_normal(100)
        pair = [Curves(COUNTS, power_curves(rng, 1.0, base, noise=0.1), None) for _ in range(2)]
        return not labels_saved(pair[0], pair[1], at=200, rng=rng, draws=200).ratio.excludes(1.0)

    assert np.mean([one() for _ in range(100)]) >= 0.90


@pytest.mark.parametrize("at", [None, 60, 200])
def test_an_arm_is_worth_itself_where_learning_stands_still_too(
    rng: np.random.Generator, at: int | None
) -> None:
    """Read at its last count in one arm and where it began in the other, a plateau was once worth 2.7 labels."""
    still = np.array([0.693, 0.60, 0.56, 0.55, 0.552, 0.553, 0.5535])
    drawn = 0.5 + 0.05 * rng.standard_normal((20, 7)).cumsum(axis=1)
    for level in (still, *drawn):
        arm = Curves(COUNTS[:7], level[:, None] + 0.1 * rng.standard_normal((7, 60)), np.arange(60) // 2)
        ratio = labels_saved(arm, arm, at=at, rng=rng, draws=100).ratio
        assert (ratio.low, ratio.estimate, ratio.high) == pytest.approx((1.0, 1.0, 1.0))


def test_curves_of_other_judgments_are_refused(rng: np.random.Generator) -> None:
    one, two = Curves([1, 2], np.zeros((2, 5))), Curves([1, 2], np.zeros((2, 6)))
    with pytest.raises(LearnerError, match="same judgments"):
        labels_saved(one, two, rng=rng)
    with pytest.raises(LearnerError, match="outside"):
        labels_saved(one, one, at=50, rng=rng)
    with pytest.raises(LearnerError, match="increase"):
        Curves([2, 1], np.zeros((2, 5)))


def test_the_area_is_the_mean_loss_while_collecting() -> None:
    assert float(area_under_curve([0, 10, 30], [0.7, 0.7, 0.7])) == pytest.approx(0.7)
    assert float(area_under_curve([0, 10, 30], [0.9, 0.6, 0.6])) == pytest.approx(0.65)
    for counts in ([0, 20, 10], [0, 10, 10], [0, 0, 0]):
        with pytest.raises(LearnerError, match="must increase"):
            area_under_curve(counts, [0.7, 0.6, 0.6])


# Watched all day


def misses(
    draw: Callable[[], tuple[np.ndarray, np.ndarray | None, float]], runs: int, **options: object
) -> float:
    """Share of runs whose sequence excludes the true mean at any time at all."""
    wrong = 0
    for _ in range(runs):
        values, clusters, mean = draw()
        sequence = confidence_sequence(values, clusters, **options)  # type: ignore[arg-type]
        wrong += bool(((sequence.low > mean) | (sequence.high < mean)).any())
    return wrong / runs


def test_the_mixture_sequence_holds_at_every_look(rng: np.random.Generator) -> None:
    def loss_differences() -> tuple[np.ndarray, None, float]:
        margin = rng.standard_normal(1500)
        y = rng.random(1500) < expit(margin)
        sign = np.where(y, 1.0, -1.0)
        gap = np.log1p(np.exp(-0.5 * sign * margin)) - np.log1p(np.exp(-1.5 * sign * margin))
        p = expit(margin)
        exact = p * (np.log1p(np.exp(-0.5 * margin)) - np.log1p(np.exp(-1.5 * margin)))
        exact += (1 - p) * (np.log1p(np.exp(0.5 * margin)) - np.log1p(np.exp(1.5 * margin)))
        return gap - exact, None, 0.0

    assert misses(loss_differences, 400) <= 0.06


def test_the_mixture_sequence_holds_for_judgments_that_share_prompts(rng: np.random.Generator) -> None:
    def clustered() -> tuple[np.ndarray, np.ndarray, float]:
        prompts = rng.integers(0, 100, 1000)
        return rng.standard_normal(100)[prompts] + rng.standard_normal(1000), prompts, 0.0

    assert misses(clustered, 300) <= 0.06


def test_an_ordinary_interval_would_not_hold_at_every_look(rng: np.random.Generator) -> None:
    wrong = 0
    for _ in range(200):
        x = rng.standard_normal(1000)
        n = np.arange(1, 1001)
        wrong += bool((np.abs(np.cumsum(x) / n)[30:] > 1.96 / np.sqrt(n)[30:]).any())
    assert wrong / 200 > 0.25


def test_the_bernstein_sequence_holds_from_the_first_value(rng: np.random.Generator) -> None:
    def bounded() -> tuple[np.ndarray, None, float]:
        return (rng.random(400) < 0.05).astype(float), None, 0.05

    assert misses(bounded, 300, method="bernstein", bounds=(0.0, 1.0)) <= 0.05


def test_the_sequence_is_silent_at_first_and_narrow_later(rng: np.random.Generator) -> None:
    sequence = confidence_sequence(rng.normal(0.3, 1.0, 600))
    assert np.isinf(sequence.low[:28]).all() and np.isfinite(sequence.low[40:]).all()
    width = sequence.high - sequence.low
    assert width[599] < 2 * 1.96 / math.sqrt(600) * 2
    few_prompts = confidence_sequence(rng.standard_normal(300), np.arange(300) % 5)
    assert np.isinf(few_prompts.high).all()


def test_the_running_cluster_variance_is_the_direct_one(rng: np.random.Generator) -> None:
    values, prompts = rng.standard_normal(120), rng.integers(0, 40, 120)
    full = confidence_sequence(values, prompts, tuned_for=120)
    sums = np.array([(values[prompts == g] - values.mean()).sum() for g in np.unique(prompts)])
    groups = len(sums)
    variance = max(groups / (groups - 1) * (sums**2).sum() / 120**2, values.var() / 119)
    spread = -2 * math.log(0.05)
    spread = spread + math.log(spread) + 1
    student = 1 + math.log(1 / 0.05) / (groups - 1)
    half = math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / 0.05) * variance * student)
    assert full.high[-1] - full.mean[-1] == pytest.approx(half)


@pytest.mark.parametrize("shift, name", [(0.5, AHEAD), (-0.5, BEHIND), (0.0, OPEN)])
def test_the_verdict_says_who_is_ahead(rng: np.random.Generator, shift: float, name: str) -> None:
    losses = rng.random(300)
    said = verdict(losses + shift, losses + 0.2 * rng.standard_normal(300), np.arange(300) % 60)
    assert said.name == name
    assert "300 evaluation judgments of 60 prompts" in said.sentence
    assert said.sentence.startswith({AHEAD: "Active is", BEHIND: "Random is", OPEN: "Not yet"}[name])


def test_few_judgments_never_give_a_verdict(rng: np.random.Generator) -> None:
    assert verdict(np.ones(29), np.zeros(29)).name == OPEN
    assert "Too early" in verdict(np.ones(29), np.zeros(29)).sentence
    assert verdict([], []).judgments == 0


def test_later_checkpoints_ask_for_more_evidence(rng: np.random.Generator) -> None:
    control, active = rng.standard_normal(200), rng.standard_normal(200)
    first, fourth = (verdict(control, active, checkpoint=k).interval for k in (1, 4))
    assert fourth.high - fourth.low > first.high - first.low
    assert fourth.confidence == pytest.approx(1 - 0.05 / 20)


# Planning


def test_the_power_calculation_gives_the_power_it_promises(rng: np.random.Generator) -> None:
    disagreement, delta = 0.2, 0.05
    n = labels_needed(disagreement, delta)
    assert n == math.ceil((norm.ppf(0.975) + norm.ppf(0.8)) ** 2 * disagreement / delta**2)
    wins = rng.multinomial(
        n, [(disagreement + delta) / 2, (disagreement - delta) / 2, 1 - disagreement], size=4000
    )
    z = (wins[:, 0] - wins[:, 1]) / np.sqrt(wins[:, 0] + wins[:, 1])
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.03)
    with pytest.raises(LearnerError):
        labels_needed(0.1, 0.2)


@pytest.mark.parametrize(
    "wrong", [{"power": 1.0}, {"power": 0.0}, {"alpha": np.nan}, {"design_effect": -1.0}]
)
def test_a_power_calculation_that_has_no_answer_says_why(wrong: dict[str, float]) -> None:
    with pytest.raises(LearnerError, match=next(iter(wrong))):
        labels_needed(0.2, 0.04, **wrong)


def test_kappa_is_that_of_the_worst_pair_found_by_hand(rng: np.random.Generator) -> None:
    features, prompt, theta = rng.standard_normal((12, 3)), np.repeat([2, 0, 1], 4), rng.standard_normal(3)
    pairs = [(i, j) for i in range(12) for j in range(i) if prompt[i] == prompt[j]]
    z = np.array([features[i] - features[j] for i, j in pairs])
    inverse = [1 / (expit(m) * (1 - expit(m))) for m in z @ theta]
    found = kappa_of_pool(features, prompt, radius=2.0, theta=theta)
    assert found.current == pytest.approx(max(inverse))
    worst = expit(2.0 * np.linalg.norm(z, axis=1).max())
    assert found.worst == pytest.approx(1 / (worst * (1 - worst)))
    for radius in (np.nan, np.inf, -1.0):
        with pytest.raises(LearnerError, match="radius"):
            kappa_of_pool(features, prompt, radius=radius)
    with pytest.raises(LearnerError, match=r"theta \(2,\)"):
        kappa_of_pool(features, prompt, radius=1.0, theta=theta[:2])


def test_the_expected_gain_continues_the_curve(rng: np.random.Generator) -> None:
    counts = COUNTS[1:]
    losses = (0.5 + 1.2 / np.sqrt(counts))[:, None] + 0.1 * rng.standard_normal(80)
    gain = expected_gain(Curves(counts, losses), 800, rng=rng)
    truth = 1.2 / math.sqrt(800) - 1.2 / math.sqrt(1600)
    assert gain.estimate == pytest.approx(truth, rel=0.05) and not gain.excludes(truth)
    flat = expected_gain(Curves(counts, np.full((6, 80), 0.6)), 800, rng=rng)
    assert flat.estimate == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(expected_gain(Curves(counts[:2], losses[:2]), 10, rng=rng).estimate)


def test_expected_sign_flips_are_those_of_the_posterior(rng: np.random.Generator) -> None:
    margin, width = rng.standard_normal(400), rng.uniform(0.2, 2.0, 400)
    drawn = margin + width * rng.standard_normal((4000, 400))
    assert expected_sign_flips(width, margin) == pytest.approx(
        np.mean(np.sign(drawn) != np.sign(margin)), abs=0.003
    )
    assert expected_sign_flips([0.0], [1.0]) == 0.0
    assert expected_sign_flips([2.0], [2.0], scale=2.0) == pytest.approx(ndtr(-0.5))


def test_advice_is_given_in_words() -> None:
    assert "Too early" in gain_sentence(Interval(math.nan, -math.inf, math.inf), 100)
    assert gain_sentence(Interval(0.01, 0.0, 0.02), 100, 0.05).endswith(
        "5.0 % of predicted winners may still change."
    )


def test_the_dashboards_statistics_take_no_noticeable_time(rng: np.random.Generator) -> None:
    prompts = rng.integers(0, 100, 400)
    losses = power_curves(rng, 1.0, 0.1 * rng.standard_normal(400), seeds=1)
    active, control = Curves(COUNTS, losses, prompts), Curves(COUNTS, losses + 0.01, prompts)
    spent = []
    for _ in range(5):
        start = time.process_time()
        verdict(losses[0, 3] + 0.01, losses[0, 3], prompts)
        labels_saved(active, control, rng=rng)
        paired_bootstrap(losses[0, 3], losses[0, 4], prompts, rng=rng)
        expected_gain(active, 100, rng=rng)
        calibration(rng.random(400), rng.integers(0, 2, 400), rng=rng, clusters=prompts)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.5
