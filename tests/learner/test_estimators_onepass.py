"""Algorithm 1 against the dense formulas, constrained minimisers and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from learner.errors import LearnerError
from learner.estimators import (
    BatchMLE,
    ImplicitOMD,
    OnePass,
    OnePassBank,
    Preference,
    Settings,
    state_digest,
)
from learner.estimators.arrays import one_thread, ops_for
from learner.estimators.projection import project


def sigmoid(m: np.ndarray | float) -> np.ndarray | float:
    return 1 / (1 + np.exp(-np.asarray(m)))


def stream(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=d)
    Z = rng.normal(size=(n, d)) / np.sqrt(d)
    return Z, (rng.random(n) < sigmoid(Z @ theta)).astype(float), theta


class Dense:
    """Algorithm 1 as printed: matrices, solves, a numerical projection."""

    def __init__(self, d: int, eta: float, lam: float, bound: float = math.inf) -> None:
        self.eta, self.bound = eta, bound
        self.theta, self.H = np.zeros(d), lam * np.eye(d)

    def learn(self, z: np.ndarray, y: float) -> None:
        p = sigmoid(z @ self.theta)
        local = self.H + self.eta * p * (1 - p) * np.outer(z, z)
        self.theta = self.theta - self.eta * np.linalg.solve(local, (p - y) * z)
        if np.linalg.norm(self.theta) > self.bound:
            self.theta = nearest(local, self.theta, self.bound)
        p = sigmoid(z @ self.theta)
        self.H = self.H + p * (1 - p) * np.outer(z, z)


def nearest(H: np.ndarray, point: np.ndarray, bound: float) -> np.ndarray:
    """Projection by eigenvalues and a bracketing root finder: another road than the code's."""
    values, vectors = np.linalg.eigh(H)
    along = vectors.T @ point

    def excess(nu: float) -> float:
        return float(np.linalg.norm(values / (values + nu) * along) - bound)

    high = 1.0
    while excess(high) > 0:
        high *= 2
    nu = scipy.optimize.brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-14)
    return vectors @ (values / (values + nu) * along)


@pytest.mark.parametrize(("eta", "lam", "bound"), [(1, 1, math.inf), (2.5, 7.0, math.inf), (1, 1, 0.7)])
def test_the_rank_one_update_equals_the_dense_formula(eta: float, lam: float, bound: float) -> None:
    Z, y, _ = stream(400, 12)
    dense = Dense(12, eta, lam, bound)
    model = OnePass(12, Settings.practical(lam, eta, bound))
    for z, answer in zip(Z, y, strict=True):
        dense.learn(z, answer)
        model.learn_one(z, answer)
    assert np.allclose(model.theta, dense.theta, atol=1e-11)
    assert np.allclose(model.covariance, np.linalg.inv(dense.H), atol=1e-12)
    assert model.log_det == pytest.approx(np.linalg.slogdet(dense.H)[1], abs=1e-9)


def test_the_theory_preset_equals_the_dense_formula_with_its_constants() -> None:
    constants = Settings.theory(5, norm_bound=2.0, feature_bound=3.0)
    eta = math.log(2) / 2 + 6 + 1
    assert constants.step_size == pytest.approx(eta)
    assert constants.regularization == pytest.approx(84 * math.sqrt(2) * eta * (5 * 9 + 2 * 27))
    Z, y, _ = stream(100, 5)
    dense, model = Dense(5, constants.step_size, constants.regularization, 2.0), OnePass(5, constants)
    for z, answer in zip(Z, y, strict=True):
        dense.learn(z, answer)
        model.learn_one(z, answer)
    assert np.allclose(model.theta, dense.theta, rtol=1e-10, atol=1e-16)


def test_every_update_tells_exactly_how_the_covariance_fell() -> None:
    Z, y, _ = stream(100, 8)
    model = OnePass(8, refresh_every=32)
    for z, answer in zip(Z, y, strict=True):
        before = model.covariance
        update = model.learn_one(z, answer)
        assert update is not None
        assert np.allclose(update.u, before @ z, atol=1e-13)
        assert np.allclose(model.covariance, before - update.c * np.outer(update.u, update.u), atol=1e-12)
        assert update.step == model.judgments
        assert update.refreshed == (update.step % 32 == 0)


def test_a_judgment_without_difference_moves_nothing_but_counts() -> None:
    model = OnePass(3)
    model.learn_one(np.ones(3), 1.0)
    theta, covariance = model.theta, model.covariance
    assert model.learn_one(np.zeros(3), 1.0) is None
    assert model.learn_one(np.ones(3), 1.0, weight=0.0) is None
    assert model.judgments == 3
    assert np.array_equal(model.theta, theta) and np.array_equal(model.covariance, covariance)


def test_the_averaged_parameter_is_the_mean_of_the_iterates() -> None:
    Z, y, _ = stream(50, 4)
    model, iterates = OnePass(4), []
    for z, answer in zip(Z, y, strict=True):
        model.learn_one(z, answer)
        iterates.append(model.theta)
    assert np.allclose(model.theta_mean, np.mean(iterates, axis=0))


@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_the_mean_of_float32_iterates_is_summed_in_float64(device: str) -> None:
    model = OnePass(1, dtype="float32", device=device)
    model.learn_one(np.ones(1), 0.7)
    model._judgments = 1 << 25  # a float32 sum no longer moves for a theta of this size
    model._theta_sum *= 1 << 25
    before = float(model._theta_sum[0])
    for _ in range(100):
        model.learn_one(np.zeros(1), 1.0)
    assert float(model._theta_sum[0]) - before == pytest.approx(100 * float(model.theta[0]), rel=1e-6)
    assert model.theta_mean.dtype == np.float32


def test_a_float32_state_with_a_float32_sum_is_still_read() -> None:
    Z, y, _ = stream(40, 4)
    model = OnePass(4, dtype="float32")
    model.learn_many(Z, y)
    old = model.state()
    old["theta_sum"] = old["theta_sum"].astype(np.float32)
    resumed = OnePass.from_state(old)
    resumed.learn_many(Z, y)
    model.learn_many(Z, y)
    assert np.array_equal(resumed.theta, model.theta)
    assert np.allclose(resumed.theta_mean, model.theta_mean, rtol=1e-6)
    assert resumed.state()["theta_sum"].dtype == np.float64


def test_reliability_scales_the_difference() -> None:
    Z, y, _ = stream(60, 4)
    weighted, scaled = OnePass(4), OnePass(4)
    weighted.learn_many(Z, y, np.full(60, 0.6))
    scaled.learn_many(0.6 * Z, y)
    assert state_digest(weighted.state()) == state_digest(scaled.state())


def test_a_tie_counts_half() -> None:
    tied = OnePass(2)
    tied.learn_one(np.array([1.0, 2.0]), 0.5)
    assert not tied.theta.any()
    assert tied.log_det > 0
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(500, 2))
    ties, both = BatchMLE(2), BatchMLE(2)
    ties.learn_many(Z, np.r_[np.ones(250), np.full(250, 0.5)])
    both.learn_many(np.r_[Z[:250], Z[250:], Z[250:]] * 1.0, np.r_[np.ones(250), np.ones(250), np.zeros(250)])
    gradient_tie = 2 * (sigmoid(Z[250:] @ ties.theta) - 0.5)
    gradient_two = (sigmoid(Z[250:] @ ties.theta) - 1) + sigmoid(Z[250:] @ ties.theta)
    assert np.allclose(gradient_tie, gradient_two)


@settings(max_examples=60, deadline=None)
@given(st.floats(-30, 30), st.floats(0, 5), st.floats(0, 1))
def test_gradient_and_curvature_are_finite_differences_of_the_loss(m: float, tie: float, y: float) -> None:
    model, h = Preference(tie), 1e-4
    mean, variance = model.moments(m)
    low, middle, high = (model.loss(m + step, y) for step in (-h, 0, h))
    assert mean - y == pytest.approx((high - low) / (2 * h), abs=1e-6)
    assert variance == pytest.approx((high - 2 * middle + low) / h**2, abs=1e-5)
    assert 0 <= variance <= 0.25 + 1e-12 and 0 <= mean <= 1


def test_vectorised_likelihood_equals_the_scalar_one_even_far_out() -> None:
    margins = np.array([-1e4, -40.0, -1.0, 0.0, 0.3, 50.0, 1e4])
    for tie in (0.0, 1.3):
        model = Preference(tie)
        moments = np.array([model.moments(m) for m in margins.tolist()])
        assert np.allclose(model.means(margins), moments[:, 0])
        assert np.allclose(model.curvatures(margins), moments[:, 1])
        assert np.allclose(model.losses(margins, 0.3), [model.loss(m, 0.3) for m in margins.tolist()])
        assert np.isfinite(model.losses(margins, 0.3)).all()


def test_davidson_recovers_parameters_from_answers_with_ties() -> None:
    rng = np.random.default_rng(1)
    theta, tie, n = np.array([1.0, -0.5]), 1.2, 20_000
    m = (Z := rng.normal(size=(n, 2))) @ theta
    weights = np.stack([np.exp(m / 2), np.exp(-m / 2), np.full(n, tie)])
    draws = (rng.random(n) > np.cumsum(weights / weights.sum(0), axis=0)).sum(0)
    y = np.choose(draws, [1.0, 0.0, 0.5])
    davidson, plain = OnePass(2, Settings.practical(tie=tie)), OnePass(2)
    davidson.learn_many(Z, y)
    plain.learn_many(Z, y)
    assert np.allclose(davidson.theta, theta, atol=0.06)
    assert np.linalg.norm(plain.theta) < 0.9 * np.linalg.norm(theta)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.floats(0.05, 0.95), st.integers(0, 10_000))
def test_projection_is_the_constrained_minimiser(d: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(d, d))
    H = A @ A.T + np.diag(10.0 ** rng.uniform(-2, 3, d))
    point = rng.normal(size=d)
    bound = share * float(np.linalg.norm(point))
    found = project(ops_for("float64", "cpu"), np.asfortranarray(np.linalg.inv(H)), point, bound)
    assert np.linalg.norm(found) == pytest.approx(bound, rel=1e-12)
    gradient = H @ (found - point)
    multiplier = -(gradient @ found) / bound**2
    assert multiplier >= 0
    assert np.allclose(gradient, -multiplier * found, atol=1e-8 * np.abs(gradient).max())


def test_projection_equals_a_general_constrained_optimiser() -> None:
    rng = np.random.default_rng(3)
    A = rng.normal(size=(6, 6))
    H, point, bound = A @ A.T + np.diag([1.0, 2, 5, 10, 50, 100]), rng.normal(size=6), 0.8
    found = project(ops_for("float64", "cpu"), np.asfortranarray(np.linalg.inv(H)), point, bound)
    result = scipy.optimize.minimize(
        lambda x: (x - point) @ H @ (x - point),
        bound * point / np.linalg.norm(point),
        jac=lambda x: 2 * H @ (x - point),
        constraints={"type": "ineq", "fun": lambda x: bound**2 - x @ x, "jac": lambda x: -2 * x},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert np.allclose(found, result.x, atol=1e-5)


def test_rescaling_is_not_the_projection() -> None:
    H, point = np.diag([100.0, 1.0]), np.array([1.0, 2.0])
    found = project(ops_for("float64", "cpu"), np.diag([0.01, 1.0]), point, 1.0)
    rescaled = point / np.linalg.norm(point)

    def distance(x: np.ndarray) -> float:
        return float((x - point) @ H @ (x - point))

    assert distance(rescaled) > 5 * distance(found)
    inside = np.array([0.1, 0.2])
    assert project(ops_for("float64", "cpu"), np.diag([0.01, 1.0]), inside, 1.0) is inside


def test_theta_never_leaves_the_ball() -> None:
    Z, y, _ = stream(300, 6)
    model = OnePass(6, Settings.practical(norm_bound=0.4))
    for z, answer in zip(3 * Z, y, strict=True):
        model.learn_one(z, answer)
        assert np.linalg.norm(model.theta) <= 0.4 * (1 + 1e-12)


def test_beta_is_positive_for_binary_answers_and_grows_with_confidence_and_time() -> None:
    theory = OnePass(4, Settings.theory(4, norm_bound=2.0, feature_bound=1.5))
    eta, lam = theory.settings.step_size, theory.settings.regularization
    start = theory.radius(0.9)
    expected = 22 * eta * (2 + 3) * math.log(2 / 0.1) + 4 * eta + 4 * lam * 4
    assert start == pytest.approx(math.sqrt(expected))
    theory.learn_many(np.eye(4), np.ones(4))
    spread, grown = 3 * math.log(9) + 2 + 3, 7 * eta / 6
    expected = 22 * eta * spread * math.log(2 * 3 / 0.1) + 4 * eta + 16 * lam
    expected += 2 * eta * math.sqrt(6) * grown * 4 * math.log(1 + 2 * 4 * 2.25 / (4 * lam))
    assert theory.radius(0.9) == pytest.approx(math.sqrt(expected))
    assert theory.radius(0.99) > theory.radius(0.9) > start > 0
    practical = OnePass(4, Settings.practical(multiplier=1.5))
    assert practical.radius(0.95) == pytest.approx(1.5 * 1.959964, rel=1e-6)


def test_practical_intervals_cover_about_as_often_as_they_say() -> None:
    d, hits = 8, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        theta = rng.normal(size=d)
        Z = rng.normal(size=(400, d)) / np.sqrt(d)
        y = (rng.random(400) < sigmoid(Z @ theta)).astype(float)
        model = OnePass(d)
        model.learn_many(Z, y)
        probes = rng.normal(size=(50, d))
        hits.append(np.abs(probes @ (model.theta - theta)) <= model.radius(0.9) * model.width(probes))
    assert 0.8 <= np.mean(hits) <= 0.97


def test_the_practical_preset_tracks_the_batch_fit() -> None:
    Z, y, _ = stream(4000, 16)
    held, answers = Z[3000:], y[3000:]
    online, batch = OnePass(16), BatchMLE(16)
    online.learn_many(Z[:3000], y[:3000])
    batch.learn_many(Z[:3000], y[:3000])
    losses = [Preference().losses(held @ model.theta, answers).mean() for model in (online, batch)]
    assert abs(losses[0] - losses[1]) < 0.002


def test_drift_is_seen_and_repaired() -> None:
    Z, y, _ = stream(256, 6)
    model = OnePass(6)
    model.learn_many(Z[:255], y[:255])
    model._covariance.replace(model._covariance._base * 1.01)
    update = model.learn_one(Z[255], y[255])
    assert update is not None and update.refreshed
    assert model.drift > 1e-3
    exact = np.linalg.inv(np.tril(model._precision.lower()) + np.tril(model._precision.lower(), -1).T)
    assert np.allclose(model.covariance, exact, rtol=1e-12)


def test_float32_stays_near_float64_over_many_judgments() -> None:
    Z, y, _ = stream(5000, 24)
    single, double = OnePass(24, regularization=0.1, dtype="float32"), OnePass(24, regularization=0.1)
    single.learn_many(Z, y)
    double.learn_many(Z, y)
    assert single.refreshes == 4 and double.refreshes == 0
    assert double.drift < 1e-11
    assert math.isnan(OnePass(2, ledger=False).drift)
    assert np.allclose(single.theta, double.theta, atol=2e-3)
    assert np.allclose(single.covariance, double.covariance, atol=1e-3 * np.abs(double.covariance).max())


def test_torch_computes_what_blas_computes() -> None:
    Z, y, _ = stream(200, 10)
    settings_ = Settings.practical(norm_bound=1.0)
    blas, torch = (
        OnePass(10, settings_, refresh_every=64),
        OnePass(10, settings_, device="cpu:torch", refresh_every=64),
    )
    for model in (blas, torch):
        model.learn_many(Z, y)
    assert np.allclose(blas.theta, torch.theta, atol=1e-11)
    assert np.allclose(blas.covariance, torch.covariance, atol=1e-12)


def test_bits_do_not_depend_on_the_number_of_blas_threads() -> None:
    Z, y, _ = stream(70, 300)
    digests = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            model = OnePass(300, refresh_every=64)
            for z, answer in zip(Z, y, strict=True):
                model.learn_one(z, answer)
            digests.append(state_digest(model.state()))
    assert digests[0] == digests[1]


def test_pinning_to_one_thread_is_undone_even_after_an_error() -> None:
    before = [lib["num_threads"] for lib in threadpool_info()]
    with pytest.raises(LearnerError), one_thread:
        OnePass(3).learn_one(np.ones(4), 1.0)
    assert [lib["num_threads"] for lib in threadpool_info()] == before


def test_implicit_descent_solves_its_own_equation() -> None:
    Z, y, _ = stream(100, 7)
    model = ImplicitOMD(7, Settings.practical(step_size=1.5))
    for z, answer in zip(4 * Z, y, strict=True):
        before, H = model.theta, np.linalg.inv(model.covariance)
        model.learn_one(z, answer)

        def objective(x: np.ndarray, z=z, answer=answer, before=before, H=H) -> float:
            return Preference().loss(float(z @ x), answer) + (x - before) @ H @ (x - before) / 3.0

        gradient = scipy.optimize.approx_fprime(model.theta, objective, 1e-6)
        assert np.abs(gradient).max() < 1e-4


def test_implicit_descent_in_a_ball_projects_in_its_local_norm() -> None:
    Z, y, _ = stream(60, 5)
    model = ImplicitOMD(5, Settings.practical(norm_bound=0.5))
    free = ImplicitOMD(5)
    for z, answer in zip(4 * Z, y, strict=True):
        H = np.linalg.inv(model.covariance)
        state = model.state()
        state["settings"] = free.settings.array()
        step = ImplicitOMD.from_state(state)
        step.learn_one(z, answer)
        p = sigmoid(z @ step.theta)
        expected = step.theta
        if np.linalg.norm(expected) > 0.5:
            expected = nearest(H + p * (1 - p) * np.outer(z, z), expected, 0.5)
        model.learn_one(z, answer)
        assert np.allclose(model.theta, expected, atol=1e-9)


def test_the_bank_uses_the_member_with_the_lowest_progressive_loss() -> None:
    Z, y, _ = stream(600, 40, seed=2)
    bank = OnePassBank(40, (0.01, 1.0, 100.0))
    alone = OnePass(40, regularization=1.0)
    total = np.zeros(3)
    for z, answer in zip(Z, y, strict=True):
        total += [Preference().loss(float(z @ member.theta), answer) for member in bank.members]
        digest = state_digest(bank.members[1].state())
        bank.observe(z, answer)
        assert digest == state_digest(bank.members[1].state())
        bank.learn_one(z, answer)
        alone.learn_one(z, answer)
    assert np.allclose(bank.losses, total)
    assert bank.selected == int(np.argmin(total))
    assert bank.progressive_loss[bank.selected] < math.log(2)
    assert state_digest(bank.members[1].state()) == state_digest(alone.state())
    assert np.array_equal(bank.theta, bank.members[bank.selected].theta)


def test_a_prior_starts_the_bank_at_lambda_one_and_gives_way_to_what_is_observed() -> None:
    bank = OnePassBank(2, (0.1, 1.0, 10.0), prior=0.3)
    assert bank.regularization == 1.0
    assert OnePassBank.from_state(bank.state()).regularization == 1.0
    bank.losses += [5.0, 5.0, 0.0]
    assert bank.regularization == 10.0
    assert np.allclose(bank.prior, 0.3 * np.log([0.1, 1.0, 10.0]) ** 2)


def test_a_bank_before_any_judgment_uses_the_largest_lambda() -> None:
    assert OnePassBank(2, (1.0, 5.0, 20.0)).regularization == 20.0


@pytest.mark.parametrize("grid", [(), (2.0, 1.0), (1.0, 1.0), (0.0, 1.0), (1.0, math.inf)])
def test_a_bank_refuses_a_grid_that_is_empty_unordered_or_not_positive(grid: tuple[float, ...]) -> None:
    with pytest.raises(LearnerError):
        OnePassBank(2, grid)


@pytest.mark.parametrize("dimension", [0, -1, 2.5, True])
def test_a_dimension_is_a_positive_whole_number(dimension: float) -> None:
    with pytest.raises(LearnerError, match="dimension"):
        OnePass(dimension)  # type: ignore[arg-type]


def test_unknown_precision_and_constants_out_of_range_are_refused() -> None:
    with pytest.raises(LearnerError, match="float16"):
        OnePass(2, dtype="float16")
    for wrong in ({"regularization": 0.0}, {"step_size": -1.0}, {"norm_bound": 0.0}, {"tie": -0.1}):
        with pytest.raises(LearnerError, match=next(iter(wrong))):
            Settings.practical(**wrong)


@pytest.mark.parametrize("dimension", [3, 64, 65, 130])
def test_a_triangle_is_packed_and_unpacked_the_same_way_however_large(dimension):
    from learner.estimators.arrays import packed, unpacked
    from learner.estimators.blocked import columns_of, from_columns

    full = np.asfortranarray(np.random.default_rng(0).normal(size=(dimension, dimension)))
    np.testing.assert_array_equal(packed(full), full[np.tril_indices(dimension)])
    np.testing.assert_array_equal(unpacked(packed(full), dimension), np.tril(full))
    np.testing.assert_array_equal(from_columns(columns_of(full)), np.tril(full))
