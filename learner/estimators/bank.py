"""A bank of one-pass estimators over a grid of lambda, chosen among by progressive log-loss."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np

from learner.errors import LearnerError
from learner.estimators.contract import (
    Array,
    Update,
    check_answer,
    check_answers,
    check_rows,
    check_squares,
)
from learner.estimators.likelihood import Preference
from learner.estimators.onepass import OnePass
from learner.estimators.settings import Settings
from learner.estimators.state import Saved, State, check_header, entry, header

GRID = (0.3, 1.0, 3.0, 10.0, 30.0)


class OnePassBank:
    """One-pass estimators that differ in lambda alone, and the one that predicted best so far in use.

    lambda decides as much as the selection rule does, so it is never fixed by hand: `observe` scores every
    member on a judgment before it is learned (progressive validation; call it on control judgments only,
    which are drawn uniformly), `learn_one` teaches all members, and `selected` is the member with the
    lowest sum of losses, ties to the larger lambda. All else is delegated to that member.

    Parameters
    ----------
    dimension : int
        d.
    regularizations : sequence of float
        Grid of lambda, increasing. Cost and memory of `OnePass` times its length.
    prior : float
        Weight of a normal prior on ln lambda around lambda = 1, in nats of total loss per ln(lambda)^2. 0 has none,
        and then the largest lambda is in use until something is observed.
    base : Settings, optional
        Constants shared by the members; only lambda is replaced.
    dtype, device, ledger, refresh_every
        As for `OnePass`.

    Examples
    --------
    >>> bank = OnePassBank(2, regularizations=(1.0, 10.0))
    >>> bank.regularization
    10.0
    >>> for _ in range(20):
    ...     bank.observe(np.array([1.0, 0.0]), 1.0)
    ...     update = bank.learn_one(np.array([1.0, 0.0]), 1.0)
    >>> bank.regularization, bank.judgments
    (1.0, 20)
    """

    def __init__(
        self,
        dimension: int,
        regularizations: Sequence[float] = GRID,
        base: Settings | None = None,
        *,
        prior: float = 0.0,
        dtype: str = "float64",
        device: str = "cpu",
        ledger: bool = True,
        refresh_every: int | None = None,
    ) -> None:
        grid = tuple(float(value) for value in regularizations)
        if not grid or list(grid) != sorted(set(grid)):
            raise LearnerError(f"regularizations is {grid}, expected one or more increasing numbers")
        shared = base if base is not None else Settings.practical()
        self.members = [
            OnePass(
                dimension,
                replace_regularization(shared, lam),
                dtype=dtype,
                device=device,
                ledger=ledger,
                refresh_every=refresh_every,
            )
            for lam in grid
        ]
        self.prior = prior * np.log(np.asarray(grid)) ** 2
        self.losses = np.zeros(len(grid))
        self.observed = 0

    @property
    def selected(self) -> int:
        """Index of the member in use: lowest progressive loss and prior together, ties to the larger lambda."""
        return int(len(self.losses) - 1 - np.argmin((self.losses + self.prior)[::-1]))

    @property
    def member(self) -> OnePass:
        """The member in use."""
        return self.members[self.selected]

    @property
    def regularization(self) -> float:
        """lambda of the member in use."""
        return self.member.settings.regularization

    @property
    def regularizations(self) -> tuple[float, ...]:
        """The grid of lambda."""
        return tuple(member.settings.regularization for member in self.members)

    @property
    def progressive_loss(self) -> Array:
        """Mean log-loss of each member on the observed judgments, in nats; zeros before the first."""
        return np.asarray(self.losses / max(1, self.observed))

    def observe(self, z: Array, y: float, weight: float = 1.0) -> None:
        """Score every member on a judgment it has not learned, without learning it; O(members d)."""
        label, rho = check_answer(y, weight)
        row = check_rows(z, self.dimension, "z")
        if len(row) != 1:
            raise LearnerError(f"z has shape {np.shape(z)}, expected ({self.dimension},)")
        check_squares(row, np.array([rho]), min(member.largest for member in self.members))
        model = Preference(self.member.settings.tie)
        margins = [float(rho * member.reward(row)[0]) for member in self.members]
        self.losses += [model.loss(margin, label) for margin in margins]
        self.observed += 1

    def learn_one(self, z: Array, y: float, weight: float = 1.0) -> Update | None:
        """Teach all members; the update is that of the member in use. O(members d^2)."""
        updates = [member.learn_one(z, y, weight) for member in self.members]
        return updates[self.selected]

    def learn_many(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """Teach all members the rows in their order."""
        rows = check_rows(Z, self.dimension, "Z")
        labels, weights = check_answers(y, weight, rows)
        for member in self.members:
            member.learn_many(rows, labels, weights)

    @property
    def dimension(self) -> int:
        """d."""
        return self.members[0].dimension

    @property
    def judgments(self) -> int:
        """Judgments learned."""
        return self.members[0].judgments

    @property
    def theta(self) -> Array:
        """theta of the member in use."""
        return self.member.theta

    @property
    def theta_mean(self) -> Array:
        """Averaged theta of the member in use."""
        return self.member.theta_mean

    @property
    def covariance(self) -> Array:
        """P of the member in use; moves as a whole when another member is selected."""
        return self.member.covariance

    @property
    def log_det(self) -> float:
        """ln det H of the member in use."""
        return self.member.log_det

    def predict(self, Z: Array) -> Array:
        """P(first preferred) by the member in use."""
        return self.member.predict(Z)

    def reward(self, features: Array) -> Array:
        """Rewards by the member in use."""
        return self.member.reward(features)

    def width(self, Z: Array) -> Array:
        """Widths by the member in use."""
        return self.member.width(Z)

    def radius(self, confidence: float = 0.95) -> float:
        """beta of the member in use."""
        return self.member.radius(confidence)

    def in_use(self) -> Self:
        """A bank of the member in use alone, a copy that learning leaves as it is. O(d^2)."""
        one, at = copy(self), [self.selected]
        one.members = [OnePass.from_state(self.member.state(), self.member.device)]
        one.losses, one.prior = self.losses[at], self.prior[at]
        return one

    def state(self, *, quick: bool = False) -> State:
        """Losses, and every member's state under ``0.`` to ``n.``; O(members d^2). ``quick`` as in OnePass."""
        state = header("OnePassBank", self.dimension)
        state["losses"], state["prior"] = self.losses.copy(), self.prior.copy()
        state["observed"] = np.array(self.observed, dtype=np.int64)
        for index, member in enumerate(self.members):
            state |= {f"{index}.{name}": array for name, array in member.state(quick=quick).items()}
        return state

    @classmethod
    def from_state(cls, state: Saved, device: str = "cpu") -> Self:
        """Bank that continues where `state` was taken."""
        dimension = check_header(state, "OnePassBank")
        bank = cls(dimension, (1.0,), ledger=False)
        count = len(np.atleast_1d(state.get("losses", np.zeros(0))))
        bank.losses = np.array(entry(state, "losses", (count,)), dtype=np.float64)
        bank.prior = np.array(entry(state, "prior", (count,)), dtype=np.float64)
        bank.observed = int(entry(state, "observed", ()))
        bank.members = [OnePass.from_state(_part(state, index), device) for index in range(count)]
        if not count or any(member.dimension != dimension for member in bank.members):
            raise LearnerError(f"state of a OnePassBank: {count} members, not all of dimension {dimension}")
        return bank


def replace_regularization(settings: Settings, regularization: float) -> Settings:
    """The same constants with another lambda."""
    values = settings.array()
    values[1] = regularization
    return Settings.from_array(values)


def _part(state: Saved, index: int) -> State:
    prefix = f"{index}."
    return {name[len(prefix) :]: np.asarray(a) for name, a in state.items() if name.startswith(prefix)}
